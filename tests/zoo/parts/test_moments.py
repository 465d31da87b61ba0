"""Transfer functions of means and variances, against integrals."""

import pytest
import torch
from seqzoo.zoo.parts.moments import TRANSFERS, Moments, bernoulli_logits, transfer

FUNCTIONS = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "linear": lambda value: value,
}


def integrated(function, mean, variance):
    """Mean and variance of a function of a Gaussian, by a sum over a fine grid."""
    grid = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    weight = torch.exp(-(grid**2) / 2)
    weight = weight / weight.sum()
    values = function(mean[..., None] + variance.sqrt()[..., None] * grid)
    first = values @ weight
    return first, (values - first[..., None]).square() @ weight


@pytest.fixture
def plane():
    """Means from -8 to 8 against variances, ``[33, 20]`` each: a function of the largest."""

    def build(largest):
        mean = torch.linspace(-8, 8, 33, dtype=torch.float64)[:, None]
        return torch.broadcast_tensors(mean, torch.logspace(-5, 0, 20).double() * largest)

    return build


# The table of tanh's docstring; a sigmoid at four times the variance is half a tanh.
@pytest.mark.parametrize(
    ("name", "largest", "mean_error", "variance_error"),
    [
        ("tanh", 0.01, 0.0006, 0.0001),
        ("tanh", 0.1, 0.0045, 0.003),
        ("tanh", 1.0, 0.021, 0.029),
        ("tanh", 25.0, 0.034, 0.033),
        ("sigmoid", 4.0, 0.0105, 0.0073),
        ("sigmoid", 100.0, 0.017, 0.0083),
        ("relu", 25.0, 1e-5, 1e-4),
        ("linear", 25.0, 1e-9, 1e-9),
    ],
)
def test_transfers_are_near_the_integrals(plane, name, largest, mean_error, variance_error):
    mean, variance = plane(largest)
    first, second = integrated(FUNCTIONS[name], mean, variance)
    out = TRANSFERS[name](mean, variance)
    assert (out.mean - first).abs().max() < mean_error
    assert (out.variance - second).abs().max() < variance_error
    assert (out.variance >= 0).all()


@pytest.mark.parametrize("name", TRANSFERS)
def test_transfers_of_a_certain_value(name):
    """No variance in, none out, and finite gradients: a silent first frame is just that."""
    mean = torch.linspace(-3, 3, 13).requires_grad_()
    variance = torch.zeros(13).requires_grad_()
    out = TRANSFERS[name](mean, variance)
    torch.testing.assert_close(out.mean, FUNCTIONS[name](mean), atol=1e-6, rtol=0)
    assert out.variance.abs().max() < 1e-11 or name == "relu"
    assert out.variance.abs().max() < 1e-5
    (out.mean.sum() + out.variance.sum()).backward()
    assert mean.grad.isfinite().all()
    assert variance.grad.isfinite().all()


def test_logits_are_those_of_the_mean_probability(plane):
    mean, variance = plane(25.0)
    exact, _ = integrated(torch.sigmoid, mean, variance)
    logits = bernoulli_logits(Moments(mean, variance))
    assert (torch.sigmoid(logits) - exact).abs().max() < 0.017
    far = bernoulli_logits(Moments(torch.tensor([-500.0]), torch.zeros(1)))
    assert torch.equal(far, torch.tensor([-500.0]))


def test_a_transfer_by_its_name():
    assert all(transfer(name) is function for name, function in TRANSFERS.items())
    with pytest.raises(ValueError, match="one of tanh, sigmoid, relu, linear, got 'cosine'"):
        transfer("cosine")


def test_a_tensor_is_known_exactly():
    value = torch.randn(3, 2)
    known = Moments.of(value)
    assert known.mean is value
    assert not known.variance.any()
    assert Moments.of(known) is known
