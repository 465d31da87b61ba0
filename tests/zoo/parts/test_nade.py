"""NADE against its definition: a loop over units, and sums over all frames."""

import itertools
import math

import pytest
import torch
from seqzoo.zoo.parts.likelihoods import NADE
from seqzoo.zoo.parts.likelihoods.nade import NADEDistribution

M, H = 5, 3
FRAMES = torch.tensor(list(itertools.product([0.0, 1.0], repeat=M)), dtype=torch.float64)


def parameters(*batch, dim=M, hidden=H):
    """b, c, W and V in float64, far from 0, that take gradients."""
    shapes = (*batch, dim), (*batch, hidden), (dim, hidden), (dim, hidden)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def by_the_book(value, visible, hidden, below, above):
    """log p(x) as it is written: unit after unit, hidden layer from scratch each time."""
    total = 0
    for i in range(value.shape[-1]):
        layer = torch.sigmoid(hidden + value[..., :i] @ below[:i])
        chance = torch.sigmoid(visible[..., i] + layer @ above[i])
        total = total + torch.where(value[..., i] == 1, chance, 1 - chance).log()
    return total


def test_probabilities_sum_to_one():
    law = NADEDistribution(*parameters(4, 1))
    total = law.log_prob(FRAMES).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
def test_log_prob_is_the_definition(density):
    """Values and gradients, for frames from silent to full."""
    params = parameters(7, dim=11, hidden=4)
    value = (torch.rand(7, 11) < density).double()
    weights = torch.randn(7, dtype=torch.float64)
    results = []
    for function in (by_the_book, lambda x, *p: NADEDistribution(*p).log_prob(x)):
        out = function(value, *params)
        results.append([out, *torch.autograd.grad(out @ weights, params)])
    for expected, obtained in zip(*results):
        torch.testing.assert_close(obtained, expected)


@pytest.mark.parametrize(
    ("values", "batch"),
    [((), ()), ((6,), (6,)), ((6,), (2, 6)), ((2, 6), (6,)), ((2, 6), (2, 1)), ((1, 6), (2, 6)),
     ((2, 1, 6), (4, 1)), ((3, 1), (2, 1, 6)), ((), (2, 3))],
)  # fmt: skip
def test_log_prob_broadcasts(values, batch):
    params = parameters(*batch)
    value = (torch.rand(*values, M) < 0.4).double()
    out = NADEDistribution(*params).log_prob(value)
    shape = torch.broadcast_shapes(values, batch)
    assert out.shape == shape
    torch.testing.assert_close(out, by_the_book(value, *params).expand(shape))
    torch.testing.assert_close(NADEDistribution(*params).log_prob(value.float()), out)


def test_no_frames_have_no_log_prob():
    law = NADEDistribution(*parameters(0), validate_args=False)
    assert law.log_prob(torch.zeros(0, M, dtype=torch.float64)).shape == (0,)


def test_gradients_are_right():
    value = FRAMES[torch.tensor([0, 9, 31])]
    arguments = parameters(2, 3)
    assert torch.autograd.gradcheck(lambda *p: NADEDistribution(*p).log_prob(value), arguments)


def test_samples_have_the_law():
    """Frequencies of all 32 frames, within 4.5 standard errors."""
    law = NADEDistribution(*parameters(2), validate_args=True)
    draws = law.sample((20_000,))
    assert draws.shape == (20_000, 2, M)
    assert law.support.check(draws).all()
    code = (draws @ (2.0 ** torch.arange(M - 1, -1, -1, dtype=torch.float64))).long()
    for member in range(2):
        expected = law.expand((len(FRAMES), 2)).log_prob(FRAMES[:, None])[:, member].exp()
        frequency = code[:, member].bincount(minlength=len(FRAMES)) / len(draws)
        error = (frequency - expected) / (expected * (1 - expected) / len(draws)).sqrt()
        assert error.abs().max() < 4.5


def test_mode_is_greedy():
    params = parameters(50)
    greedy = NADEDistribution(*params).mode
    visible, hidden, below, above = params
    for i in range(M):
        layer = torch.sigmoid(hidden + greedy[:, :i] @ below[:i])
        logit = visible[:, i] + layer @ above[i]
        assert torch.equal(greedy[:, i], (logit > 0).double())


def test_expand_and_declarations():
    law = NADEDistribution(*parameters(3), validate_args=True)
    wide = law.expand((2, 3))
    assert (wide.batch_shape, wide.event_shape) == ((2, 3), (M,))
    assert wide.sample((4,)).shape == (4, 2, 3, M)
    torch.testing.assert_close(wide.log_prob(FRAMES[:3])[1], law.log_prob(FRAMES[:3]))
    assert not law.has_rsample
    with pytest.raises(ValueError, match="support"):
        law.log_prob(torch.full((M,), 0.5))
    with pytest.raises(NotImplementedError):
        law.mean  # noqa: B018


def test_shapes_must_fit():
    visible, hidden, below, above = parameters(2)
    with pytest.raises(ValueError, match=r"must both be \(5, 3\)"):
        NADEDistribution(visible, hidden, below.T, above)
    with pytest.raises(ValueError, match=r"must both be \(5, 3\)"):
        NADEDistribution(visible, hidden, below, above[:4])


def random_nade():
    net = NADE(M, H).double()
    with torch.no_grad():
        net.below.normal_()
        net.above.normal_()
    return net


def test_the_module_is_the_law():
    """Visible biases come first in the natural parameters; gradients reach all parameters."""
    net, value = random_nade(), (torch.rand(2, 4, M) < 0.5).double()
    natural = torch.randn(2, 4, net.natural_dim, dtype=torch.float64, requires_grad=True)
    law = net.distribution(natural)
    assert (law.batch_shape, law.event_shape) == ((2, 4), (M,))
    expected = by_the_book(value, natural[..., :M], natural[..., M:], net.below, net.above)
    torch.testing.assert_close(law.log_prob(value), expected)
    law.log_prob(value).sum().backward()
    assert all(part.grad.abs().sum() > 0 for part in (natural, net.below, net.above))
    assert net.sample(natural).shape == net.mode(natural).shape == (2, 4, M)
    assert repr(net) == "NADE(5, hidden=3)"


def test_mean_is_near_the_sum_over_frames():
    """Within 4.5 of its largest standard error; the first unit's mean is exact."""
    net, draws = random_nade(), 3000
    natural = torch.randn(2, M + H, dtype=torch.float64)
    chances = net.distribution(natural).expand((32, 2)).log_prob(FRAMES[:, None]).exp()
    exact = torch.einsum("fb,fm->bm", chances, FRAMES)
    estimate = net.mean(natural, draws)
    assert (estimate - exact).abs().max() < 4.5 * 0.5 / math.sqrt(draws)
    torch.testing.assert_close(estimate[:, 0], exact[:, 0])
    assert net.mean(natural).shape == (2, M)


def test_starting_biases_give_the_means():
    """Exactly where W is 0, closely in a new NADE, and finite for a silent unit."""
    rates = torch.tensor([0.02, 0.5, 0.9, 0.3, 0.7], dtype=torch.float64)
    for net, tolerance in ((random_nade(), 1e-9), (NADE(M, 100).double(), 2e-4)):
        if net.hidden == H:
            net.below.data.zero_()
        natural = net.natural(rates)
        assert natural.shape == (net.natural_dim,)
        chances = net.distribution(natural).log_prob(FRAMES).exp()
        torch.testing.assert_close(chances @ FRAMES, rates, atol=tolerance, rtol=0)
    assert NADE(2).natural(torch.tensor([[0.0, 1.0]])).isfinite().all()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(4, M + 1), "values a frame"),
        (torch.tensor(1.0), "values a frame"),
        (torch.ones(4, M, dtype=torch.long), "floating point"),
        (torch.full((2, M), math.nan), "NaN"),
        (torch.full((2, M), 0.5), "0 or 1"),
        (torch.full((2, M), -1.0), "0 or 1"),
    ],
)
def test_check_rejects_what_is_not_binary(value, message):
    NADE(M).check(torch.eye(M))
    with pytest.raises(ValueError, match=message):
        NADE(M).check(value)


def test_bad_arguments():
    with pytest.raises(ValueError, match="at least 1"):
        NADE(0)
    with pytest.raises(ValueError, match="at least 1"):
        NADE(3, hidden=0)
    with pytest.raises(ValueError, match="needs 8 values"):
        NADE(M, H).distribution(torch.zeros(2, M))
    with pytest.raises(ValueError, match="num_samples"):
        NADE(M, H).mean(torch.zeros(2, M + H), num_samples=0)
