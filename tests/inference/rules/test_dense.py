"""Gradients of answering networks, written out, against those of autograd."""

import pytest
import torch
from seqzoo.inference.layers import DenseLayer
from seqzoo.zoo.models.srn import SRN
from seqzoo.zoo.parts.likelihoods import Categorical
from torch import nn
from torch.nn.utils import parametrizations

from seqzoo import inference
from tests.inference.rules.helpers import asked, scattered

I, H, C, B, T, M = 2, 5, 3, 4, 6, 3  # noqa: E741
MASK = torch.arange(T) < torch.tensor([4, 6, 1, 5])[:, None]
UNITS = {
    "sigmoid": {"stochastic": 0.4},
    "tanh": {"stochastic": 0.6, "nonlinearity": "tanh", "inverse": "linear"},
    "relu": {"nonlinearity": "relu"},
    "bits": {"stochastic": 1.0, "inverse": "tanh"},
}
RULES = {
    "straight-through": inference.StraightThrough,
    "targets": inference.TargetPropagation,
    "noise": lambda net, **how: inference.TargetPropagation(net, noise=0.2, **how),
    "plain": lambda net, **how: inference.TargetPropagation(net, difference=False, **how),
}


def srn(**how):
    return scattered(SRN(I, Categorical(C), H, **how))


def batch(mask=None, every_step=False):
    return asked(B, T, I, C, mask, every_step)


def gradient(rule, data):
    with inference.RandomStream(data.obs.device, 3):
        metrics = rule.gradients(data)
    return metrics | {name: part.grad for name, part in rule.net.named_parameters()}


def hidden(net):
    """The network, of whose functions nothing is known any more."""
    net.mean, net.invert = net.mean, net.invert
    assert not isinstance(net.mean_layer(), DenseLayer)
    assert not isinstance(net.inverse_layer(), DenseLayer)
    return net


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.parametrize("every_step", [False, True], ids=["last", "every"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
def test_they_are_equal(rule, kind, every_step, mask):
    net, data = srn(every_step=every_step, **UNITS[kind]), batch(mask, every_step)
    assert isinstance(net.mean_layer(), DenseLayer)
    assert isinstance(net.inverse_layer(), DenseLayer)
    taught = RULES[rule](net, num_samples=M)
    found = gradient(taught, data)
    hidden(net)
    expected = gradient(taught, data)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda m, n=name: f"{n}: {m}")
    assert sum(value is not None and bool(value.any()) for value in expected.values()) >= 7


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("kind", "device", "mask"),
    [
        *((kind, "cpu", (None, MASK)[number % 2]) for number, kind in enumerate(UNITS)),
        pytest.param("relu", "cuda", None, marks=pytest.mark.gpu),
        pytest.param("relu", "cuda", MASK, marks=pytest.mark.gpu),
    ],
    ids=str,
)
def test_recorded_sweeps_are_the_plain_ones(rule, kind, device, mask):
    """To the last bit on a CPU; replays see new weights, inputs and random numbers."""
    first, other = (batch(mask).to(device) for _ in range(2))
    found = []
    for captured in (False, True):
        torch.manual_seed(0)
        net = srn(**UNITS[kind]).to(device)
        taught = RULES[rule](net, num_samples=M, captured=captured)
        for data in (first, first, other):
            last = gradient(taught, data)
            with torch.no_grad():
                for part in net.parameters():
                    part.mul_(1.01)
        found.append({name: value for name, value in last.items() if value is not None})
        made = taught._recorded._recordings
        assert len(made) == 2 * captured  # forwards and back
        assert all(made.values())
    tolerance = {"rtol": 0, "atol": 0} if device == "cpu" else {}
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, **tolerance, msg=name)


def test_a_recording_knows_the_functions_of_its_layers():
    net, data = srn(), batch()
    rule = inference.TargetPropagation(net, captured=True)
    gradient(rule, data)
    net.units.function = net.back_function = nn.Tanh()
    net.units.alike = True
    found = gradient(rule, data)
    expected = gradient(inference.TargetPropagation(net), data)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


class Louder(SRN):
    def mean(self, drive, past):
        return super().mean(2 * drive, past)


def with_hook(net):
    net.from_state.register_forward_hook(lambda module, given, found: 2 * found)
    net.back.register_forward_hook(lambda module, given, found: 2 * found)


def with_gradient_hook(net):
    for layer in (net.from_state, net.back):
        layer.weight.register_hook(lambda gradient: 2 * gradient)


def with_orthogonal_weights(net):
    parametrizations.orthogonal(net.from_state)
    parametrizations.orthogonal(net.back)


def with_other_functions(net):
    net.units.function = net.back_function = nn.Softplus()
    net.units.alike = True


CHANGES = (with_hook, with_gradient_hook, with_orthogonal_weights, with_other_functions)


@pytest.mark.parametrize("change", CHANGES)
def test_a_layer_that_does_more_is_left_to_autograd(change):
    net = srn()
    change(net)
    assert not isinstance(net.mean_layer(), DenseLayer)
    assert not isinstance(net.inverse_layer(), DenseLayer)


def test_a_subclass_with_units_of_its_own_is_left_to_autograd():
    """Its gradient is the slope of its loss."""
    net, data = Louder(I, Categorical(C), H).double(), batch()
    found = gradient(inference.OutputBPTT(net), data)["from_input.weight"]
    with torch.no_grad():
        weight, step, losses = net.from_input.weight, 1e-6, []
        for change in (step, -2 * step):
            weight[1, 0] += change
            losses.append(-float(net.log_prob(data).mean()))
    assert float(found[1, 0]) == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-4)


@pytest.mark.parametrize("rule", RULES)
def test_frozen_weights_have_no_gradient(rule):
    net, data = srn(stochastic=0.4), batch()
    whole = gradient(RULES[rule](net), data)
    frozen = "from_input.weight", "from_state.weight", "back.bias"
    for name in frozen:
        net.get_parameter(name).requires_grad_(False)
    found = gradient(RULES[rule](net), data)
    for name, value in found.items():
        if name in frozen:
            assert value is None
        elif value is not None:
            torch.testing.assert_close(value, whole[name])
