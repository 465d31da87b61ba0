"""Linear layers that read few values: their gradient is that of torch's layer."""

import pytest
import torch
from seqzoo.data import PPC
from seqzoo.zoo.parts import linear
from torch import nn

from seqzoo import inference, zoo


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (6, 3), (2, 0, 3), (4, 5, 3)])
def test_a_narrow_layer_is_torchs(shape, bias):
    own = linear.Linear(3, 7, bias).double()
    other = nn.Linear(3, 7, bias).double()
    other.load_state_dict(own.state_dict())
    value = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert type(own(value).grad_fn).__name__ == "_NarrowBackward"
    inputs, found = (value, *own.parameters()), []
    for layer in (own, other):
        inputs = value, *layer.parameters()
        total = layer(value).sin().sum()
        first = torch.autograd.grad(total, inputs, create_graph=True)
        assert all(a.stride() == b.stride() for a, b in zip(first[1:], inputs[1:]))
        second = torch.autograd.grad(sum(each.square().sum() for each in first), inputs)
        found.append([total, *first, *second])
    for mine, theirs in zip(*found):
        torch.testing.assert_close(mine, theirs)


def test_where_torchs_own_gradient_is_needed_it_runs():
    net, value = linear.Linear(3, 7), torch.randn(5, 3)
    jacobian = torch.func.vmap(torch.func.jacrev(net))(value)
    torch.testing.assert_close(jacobian, net.weight.expand(5, 7, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = net(value)
    half.sum().backward()
    assert half.dtype == torch.bfloat16
    assert net.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("rule", [inference.LocalELBO, inference.BPTT])
def test_a_rule_has_the_loss_and_the_gradient_of_plain_products(rule, monkeypatch):
    torch.manual_seed(0)
    net = zoo.RVAE(15, 4, zoo.likelihoods.Poisson(15), hidden=8)
    batch, found = PPC(8, 50, seed=0).batch(), []
    for narrow in (linear.NARROW, 0):
        monkeypatch.setattr(linear, "NARROW", narrow)
        torch.manual_seed(1)
        loss = rule(net, captured=False).gradients(batch)["loss"]
        found.append([loss, *(parameter.grad for parameter in net.parameters())])
    for mine, theirs in zip(*found):
        size = float(theirs.abs().max())
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=2e-6 * size)
