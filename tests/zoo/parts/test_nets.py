"""Feed-forward nets and how weights begin."""

import pytest
import torch
from seqzoo.zoo.parts.likelihoods import Bernoulli, Poisson
from seqzoo.zoo.parts.nets import MLP, scale_to_radius, set_output_mean


@pytest.mark.parametrize("incoming", [None, 1, 7])
def test_scale_to_radius(incoming):
    weight = torch.randn(30, 30)
    assert scale_to_radius(weight, 1.2, incoming) is weight
    assert torch.linalg.eigvals(weight.double()).abs().max().item() == pytest.approx(1.2, rel=1e-5)
    assert (weight != 0).sum(1).eq(incoming or 30).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: scale_to_radius(torch.ones(2, 3), 1.0), "square"),
        (lambda: scale_to_radius(torch.ones(2, 2), 0.0), "above 0"),
        (lambda: scale_to_radius(torch.ones(2, 2), 1.0, 3), "from 1 to 2"),
        (lambda: scale_to_radius(torch.zeros(2, 2), 1.0), "all eigenvalues"),
    ],
)
def test_weights_that_have_no_radius(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_an_mlp_by_hand():
    net = MLP([4, 7, 6, 3], "tanh", last="sigmoid", skip=True, dropout=0.5).eval()
    value = torch.randn(5, 4)
    weights = [layer for layer in net if isinstance(layer, torch.nn.Linear)][:-1]
    first, second, third = weights
    hidden = torch.tanh(second(torch.tanh(first(value))))
    expected = torch.sigmoid(third(hidden)) + value @ net.skip.weight.T
    torch.testing.assert_close(net(value), expected)
    assert not torch.equal(net.train()(value), net(value))  # units are dropped
    with pytest.raises(ValueError, match="got 'step'"):
        MLP([4, 2, 3], "step")


@pytest.mark.parametrize("family", [Bernoulli, Poisson])
def test_a_net_may_begin_at_a_mean(family):
    likelihood = family(3)
    net = MLP([4, 5, 3])
    set_output_mean(net, likelihood, 0.05)
    with torch.no_grad():
        net[2].weight.zero_()
    torch.testing.assert_close(likelihood.mean(net(torch.randn(2, 4))), torch.full((2, 3), 0.05))
