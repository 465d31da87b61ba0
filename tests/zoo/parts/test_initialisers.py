"""What a recurrent network holds before it has learned: orthogonal starts, latches, mixtures."""

import json
import math

import pytest
import torch
from seqzoo.zoo.models.mdrnn import MDRNN
from seqzoo.zoo.models.srn import SRN
from seqzoo.zoo.parts.initialisers import Latch, Orthogonal
from seqzoo.zoo.parts.likelihoods import Bernoulli, Categorical, GaussianMixture
from seqzoo.zoo.recipes import part
from seqzoo.zoo.registry import read
from torch import nn

I, H, C = 3, 40, 5  # noqa: E741
SLOPES = {"sigmoid": 0.25, "tanh": 1.0}
MIDDLES = {"sigmoid": 0.5, "tanh": 0.0, "linear": 0.0, "relu": 0.0}
KINDS = [(f, share) for f in SLOPES for share in (0.0, 0.5, 1.0)]
every_kind = pytest.mark.parametrize(("nonlinearity", "stochastic"), KINDS)
saturating = pytest.mark.parametrize("nonlinearity", list(SLOPES))


def srn(initialiser=None, nonlinearity="sigmoid", stochastic=0.0, inputs=I, **how):
    how = {"hidden": H, "nonlinearity": nonlinearity, "stochastic": stochastic} | how
    return SRN(inputs, Categorical(C), initialiser=initialiser, **how)


def at_rest(net, nonlinearity):
    """Bits fire half of the time, the others are in the middle of their curve."""
    rest = torch.full((net.units.dim,), MIDDLES[nonlinearity])
    rest[: net.num_stochastic] = 0.5
    return rest


# Orthogonal -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [1.0, 0.3, 4.0])
@every_kind
def test_recurrent_weights_begin_orthogonal(nonlinearity, stochastic, gain):
    net = srn(Orthogonal(gain), nonlinearity, stochastic)
    for weight, scale in ((net.from_state.weight, gain), (net.back.weight, 1.0)):
        unit = weight.detach() / scale
        torch.testing.assert_close(unit @ unit.T, torch.eye(H), rtol=0, atol=1e-5)
    assert not torch.allclose(net.from_state.weight / gain, net.back.weight, atol=0.1)


def test_an_orthogonal_start_with_gain_one_is_the_default():
    torch.manual_seed(2)
    plain = srn()
    torch.manual_seed(2)
    asked = srn(Orthogonal(gain=1.0, input_gain=1.0))
    for one, other in zip(plain.parameters(), asked.parameters(), strict=True):
        assert torch.equal(one, other)
    for net in (plain, MDRNN(I, hidden=H)):
        square = net.from_state.weight @ net.from_state.weight.T
        torch.testing.assert_close(square, torch.eye(H), rtol=0, atol=1e-5)


@pytest.mark.parametrize("nonlinearity", list(MIDDLES))
@pytest.mark.parametrize("stochastic", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_units_at_rest_stay_there_without_input(nonlinearity, stochastic, gain):
    """G finds the same: the units were at rest before."""
    net = srn(Orthogonal(gain, input_gain=3.0), nonlinearity, stochastic)
    rest, silence = at_rest(net, nonlinearity), net.drive(torch.zeros(I))
    torch.testing.assert_close(net.rest(), rest)
    torch.testing.assert_close(net.mean(silence, rest), rest, rtol=0, atol=1e-5)
    there = torch.zeros(H) if nonlinearity == "relu" else rest  # what it puts out has no inverse
    torch.testing.assert_close(net.invert(silence, rest), there, rtol=0, atol=1e-5)


def test_the_input_gain_scales_what_frames_say():
    """W_xh is uniform on (-g, g) / sqrt(I); nothing else depends on g."""
    nets = []
    for gain in (1.0, 7.0):
        torch.manual_seed(5)
        nets.append(srn(Orthogonal(input_gain=gain), hidden=400))
    small, large = (dict(net.named_parameters()) for net in nets)
    torch.testing.assert_close(large["from_input.weight"], 7 * small["from_input.weight"])
    for name in small.keys() - {"from_input.weight"}:
        torch.testing.assert_close(small[name], large[name])
    edge = 7 / math.sqrt(I)
    assert 0.97 * edge < large["from_input.weight"].abs().max() <= edge
    assert large["from_input.weight"].var().item() == pytest.approx(edge**2 / 3, rel=0.1)


@pytest.mark.parametrize("gain", [0.25, 1.0])
def test_gain_one_keeps_what_a_linear_network_holds(gain):
    net = srn(Orthogonal(gain), "linear")
    with torch.no_grad():
        state = torch.randn(6, H)
        silent = net.mean(net.drive(torch.zeros(6, I)), state)
    torch.testing.assert_close(silent.norm(dim=1), gain * state.norm(dim=1))


def test_a_gain_of_four_keeps_what_sigmoids_hold_around_rest():
    net = srn(Orthogonal(gain=4.0)).double()
    with torch.no_grad():
        push = 1e-4 * torch.randn(6, H, dtype=torch.float64)
        silent = net.mean(net.drive(torch.zeros(6, I, dtype=torch.float64)), net.rest() + push)
    moved = (silent - net.rest()).norm(dim=1)
    torch.testing.assert_close(moved, push.norm(dim=1), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "how", [{"gain": 0.0}, {"gain": -1.0}, {"input_gain": 0.0}, {"input_gain": -2.0}]
)
@pytest.mark.parametrize("initialiser", [Orthogonal, Latch])
def test_gains_are_positive(initialiser, how):
    with pytest.raises(ValueError, match="gain must be above 0"):
        initialiser(**how)


# Latch ------------------------------------------------------------------------------------------


def thresholds(net):
    """The place between 0 and 1 where each unit changes sides, for one input; and which is up."""
    with torch.no_grad():
        weight = net.from_input.weight[:, 0]
        offset = net.from_state(net.rest())
    return -offset / weight, weight.sign()


def sides(states, nonlinearity):
    """Whether units are up; neither where they are within a tenth of the middle."""
    far = states - MIDDLES[nonlinearity]
    return torch.where(far.abs() > 0.1 * far.abs().max(), far.sign(), 0.0)


@every_kind
@pytest.mark.parametrize(("inputs", "share"), [(1, 0.97), (3, 0.93)])
def test_a_latch_holds_what_the_first_frame_said(nonlinearity, stochastic, inputs, share):
    """After 50 frames, whatever came between; bits are noise that nobody hears.

    All but a few, whose threshold was too near; several inputs together may be too strong for it.
    """
    net = srn(Latch(gain=30.0, input_gain=12.0), nonlinearity, stochastic, inputs, hidden=100)
    obs = torch.rand(80, 50, inputs)
    with torch.no_grad():
        drive = net.drive(obs)
        states = net.path(drive)
        asked = drive[:, 0] + net.from_state(net.rest())  # of the first frame, units at rest
    held = slice(net.num_stochastic, None)
    last, first = states[:, -1, held], asked[:, held].sign()
    if last.numel() == 0:
        assert net.num_stochastic == 100
        return
    kept = (sides(last, nonlinearity) == first).double().mean()
    assert kept > share
    for side in (-1, 1):  # both are taken
        assert (first == side).double().mean() > 0.1
    other = net.path(torch.cat((drive[:, :1], net.drive(torch.rand(80, 49, inputs))), 1))
    same = sides(other[:, -1, held], nonlinearity) == sides(last, nonlinearity)
    assert same.double().mean() > share


@saturating
def test_a_weak_latch_forgets(nonlinearity):
    """The hold is what is tested above: inputs that are stronger than it turn units over."""
    net = srn(Latch(gain=1.5, input_gain=30.0), nonlinearity, inputs=1, hidden=100)
    with torch.no_grad():
        drive = net.drive(torch.rand(80, 50, 1))
        asked = drive[:, 0] + net.from_state(net.rest())
        kept = (sides(net.path(drive)[:, -1], nonlinearity) == asked.sign()).double().mean()
    assert kept < 0.9


@saturating
def test_thresholds_lie_in_the_unit_interval(nonlinearity):
    """Evenly, and units that fire above theirs are as many as those that fire below."""
    net = srn(Latch(), nonlinearity, 0.5, inputs=1, hidden=2000)
    place, side = thresholds(net)
    place, side = place[net.num_stochastic :], side[net.num_stochastic :]
    assert -1e-4 < place.min() < 0.02
    assert 0.98 < place.max() < 1 + 1e-4
    assert place.mean().item() == pytest.approx(0.5, abs=0.05)
    assert float((side > 0).double().mean()) == pytest.approx(0.5, abs=0.08)
    with torch.no_grad():  # the first step tells the sides of a threshold apart
        for shift, expected in ((-0.15, -side), (0.15, side)):
            seen = net.path(net.drive((place + shift)[:, None, None]))[:, 0, net.num_stochastic :]
            assert torch.equal(sides(seen.diagonal(), nonlinearity), expected)


@saturating
def test_inputs_are_as_strong_as_asked(nonlinearity):
    """Between half of the input gain and all of it, in terms of a unit's slope."""
    net = srn(Latch(gain=20.0, input_gain=8.0), nonlinearity, 0.5)
    strength = net.from_input.weight.abs() * SLOPES[nonlinearity]
    assert 4.0 <= strength.min() < 4.5
    assert 7.5 < strength.max() <= 8.0
    own = net.from_state.weight[net.num_stochastic :, net.num_stochastic :] * SLOPES[nonlinearity]
    torch.testing.assert_close(own, 20.0 * torch.eye(H - net.num_stochastic))


@every_kind
def test_bits_send_nothing_at_first(nonlinearity, stochastic):
    """What they do changes no other unit, nor any bit, nor what G says."""
    net = srn(Latch(), nonlinearity, stochastic)
    drive, state = net.drive(torch.rand(6, I)), net.units.mean(torch.randn(6, H))
    with torch.no_grad():
        found = []
        for value in (0.0, 1.0):
            state = torch.cat(
                (torch.full((6, net.num_stochastic), value), state[:, net.num_stochastic :]), 1
            )
            found.append((net.mean(drive, state), net.invert(drive, state)))
        for one, other in zip(*found):
            assert torch.equal(one, other)
        if 0 < net.num_stochastic < H:  # yet they listen
            moved = state.clone()
            moved[:, net.num_stochastic :] = state[:, net.num_stochastic :].flip(0)
            bits = slice(0, net.num_stochastic)
            assert not torch.allclose(net.mean(drive, moved)[:, bits], found[0][0][:, bits])


@every_kind
def test_an_untrained_inverse_is_the_identity_around_rest(nonlinearity, stochastic):
    """To first order, for units that hold; and with frames in the middle of the unit cube."""
    net = srn(Latch(), nonlinearity, stochastic).double()
    held = slice(net.num_stochastic, None)
    drive, rest = net.drive(torch.full((I,), 0.5, dtype=torch.float64)), net.rest()
    rest = rest.requires_grad_()
    found = net.invert(drive, rest)
    torch.testing.assert_close(found[held], rest[held], rtol=0, atol=1e-5)
    slope = torch.autograd.functional.jacobian(lambda h: net.invert(drive, h), rest)
    torch.testing.assert_close(slope[held, held], torch.eye(H, dtype=torch.float64)[held, held])
    assert not slope[:, : net.num_stochastic].any()


@pytest.mark.parametrize("nonlinearity", ["relu", "linear", "elu", "silu"])
def test_units_that_do_not_saturate_are_no_latch(nonlinearity):
    with pytest.raises(ValueError, match=f"sigmoid or tanh units, got {nonlinearity}"):
        srn(Latch(), nonlinearity)


@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_a_latch_amplifies(gain):
    with pytest.raises(ValueError, match="must be above 1"):
        Latch(gain=gain)


@pytest.mark.parametrize("stochastic", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("initialiser", [Orthogonal(), Latch()])
def test_starts_touch_the_recurrent_part_alone(initialiser, stochastic):
    """The readout is as it was, no gradient is left behind, and all weights are still learned."""
    net = srn(initialiser, stochastic=stochastic)
    before = {name: value.clone() for name, value in net.readout.state_dict().items()}
    initialiser(net)
    for name, value in net.readout.state_dict().items():
        assert torch.equal(value, before[name])
    for weight in net.parameters():
        assert weight.requires_grad
        assert weight.grad is None
        assert weight.is_leaf
        assert weight.isfinite().all()


@pytest.mark.parametrize("initialiser", [Orthogonal, Latch])
def test_starts_follow_the_seed(initialiser):
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(srn(initialiser(), stochastic=0.5).from_input.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    "initialiser",
    [part(Latch, gain=7.0, input_gain=3.0), part(Orthogonal, gain=7.0, input_gain=3.0)],
)
def test_starts_are_parts_of_a_recipe(initialiser):
    """Built from what a card says, and changed by ``--set model.initialiser.gain=9``."""
    ten = part(Categorical, classes=10)
    recipe = part(SRN, inputs=1, output=ten, hidden=6, initialiser=initialiser)
    again = read(json.loads(json.dumps(recipe.to_json())))
    assert again == recipe
    nets = []
    for each in (recipe, again):
        torch.manual_seed(0)
        nets.append(each.build())
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(one, other)
    assert repr(initialiser.build()) == f"{initialiser.name}(gain=7.0, input_gain=3.0)"
    changed = recipe.set(["initialiser", "gain"], 9.0).build()
    lengths = [net.from_state.weight[0].norm().item() for net in (changed, nets[0])]
    assert lengths[0] / lengths[1] == pytest.approx(9 / 7)
    with pytest.raises(ValueError, match=r"must be above"):
        recipe.set(["initialiser", "gain"], -1.0).build()


# Mixtures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 5.0)])
@pytest.mark.parametrize(("outputs", "components"), [(1, 3), (2, 4), (3, 1)])
def test_components_begin_side_by_side(outputs, components, low, high):
    """Means in the middles of equal parts of the interval, and sds of half a part."""
    net = MDRNN(1, outputs, components, hidden=30, spread=(low, high))
    with torch.no_grad():
        logits, means, scales = net.output.components_of(net.readout(torch.zeros(30)))
    torch.testing.assert_close(logits.exp(), torch.full((components,), 1 / components))
    part = (high - low) / components
    for i in range(components):
        middle = low + part * (i + 0.5)
        torch.testing.assert_close(means[i], torch.full((outputs,), middle))
        torch.testing.assert_close(scales[i], torch.full((outputs,), part / 2))
    weight = net.readout.weight  # a tenth of what a linear layer begins with
    assert 0.05 / math.sqrt(30) < weight.abs().max() <= 0.1 / math.sqrt(30) + 1e-6


def test_components_begin_between_nought_and_one_unless_told():
    bias = MDRNN(1, components=4).readout.bias
    expected = [0.0] * 4 + [0.125, 0.375, 0.625, 0.875] + [math.log(0.125)] * 4
    torch.testing.assert_close(bias, torch.tensor(expected))


def test_a_mixtures_start_hardly_depends_on_the_question():
    net = MDRNN(1, components=3)
    low, high = (net.predict(torch.full((1, 4, 1), x)) for x in (0.0, 1.0))
    assert 0 < float((low - high).abs()) < 0.2
    assert float(low) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("spread", [(1.0, 0.0), (0.5, 0.5), (math.nan, 1.0)])
def test_a_spread_goes_from_low_to_high(spread):
    with pytest.raises(ValueError, match="low must be"):
        MDRNN(1, spread=spread)
    law = GaussianMixture(1, 2)
    with pytest.raises(ValueError, match="low must be"):
        law.initialise(nn.Linear(3, law.natural_dim), *spread)


def test_a_spread_is_part_of_a_recipe():
    recipe = part(MDRNN, inputs=1, components=2, hidden=3, spread=(0.0, 4.0))
    again = read(json.loads(json.dumps(recipe.to_json()))).build()  # a list by now
    torch.testing.assert_close(again.readout.bias[2:4], torch.tensor([1.0, 3.0]))


# The mean of outputs ----------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.05, 0.5, 0.9])
def test_outputs_begin_at_their_mean(mean):
    """Of every key; states move it by the readout's small weights alone."""
    net = SRN(2, Bernoulli(88), hidden=10, output_mean=mean)
    with torch.no_grad():
        found = net.output.mean(net.readout(torch.zeros(10)))
    torch.testing.assert_close(found, torch.full((88,), mean))
    assert net.readout.weight.any()


@pytest.mark.parametrize("output", [Categorical(4), GaussianMixture(1, 2)])
def test_a_law_without_one_mean_has_none_to_begin_at(output):
    with pytest.raises(ValueError, match="output_mean is not for"):
        SRN(2, output, hidden=10, output_mean=0.5)


def test_without_a_mean_the_readout_is_a_linear_layers():
    nets = []
    for mean in (None, 0.2):
        torch.manual_seed(0)
        nets.append(SRN(2, Bernoulli(6), hidden=10, output_mean=mean))
    plain, set_to = nets
    assert plain.readout.bias.abs().max() <= 1 / math.sqrt(10)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, set_to.state_dict()[name]) == (name != "readout.bias")
