"""Fast dropout against drawn masks and a plain recurrent network."""

import math

import pytest
import torch
from seqzoo.zoo.parts.fast_dropout import FastDropoutLinear, FastDropoutMLP, FastDropoutRNN, Keep
from seqzoo.zoo.parts.moments import TRANSFERS, Moments, bernoulli_logits

B, T, M, H = 3, 6, 4, 5


def drawn(value, keep, draws):
    """Inputs under masks, ``[draws, ..., M]``."""
    return value * (torch.rand(draws, *value.shape) < keep)


def test_linear_has_the_moments_of_dropped_inputs():
    """Exact, the inputs' own variance included: within 4.5 standard errors of 200 000 draws."""
    layer, draws = FastDropoutLinear(M, 2, keep=0.7), 200_000
    mean, variance = torch.randn(M), torch.rand(M)
    noisy = mean + variance.sqrt() * torch.randn(draws, M)
    sums = (noisy * (torch.rand(draws, M) < 0.7)) @ layer.weight.T + layer.bias
    out = layer(Moments(mean, variance))
    assert ((sums.mean(0) - out.mean) / (out.variance / draws).sqrt()).abs().max() < 4.5
    torch.testing.assert_close(sums.var(0), out.variance, rtol=0.02, atol=0)


@torch.no_grad()
def test_a_layer_is_near_drawn_masks():
    """Many inputs make the sum Gaussian: what is left is the error of tanh's moments, 0.03."""
    layer = FastDropoutLinear(60, 10, keep=0.8)
    value = torch.randn(60)
    units = torch.tanh(drawn(value, 0.8, 50_000) @ layer.weight.T + layer.bias)
    out = TRANSFERS["tanh"](*layer(value))
    assert (units.mean(0) - out.mean).abs().max() < 0.02
    assert (units.var(0) - out.variance).abs().max() < 0.03


@torch.no_grad()
def test_a_recurrent_net_is_near_drawn_masks():
    """Twelve steps of real masks, drawn anew at each step.

    Units that share a dropped input are correlated, which the moments ignore. Root mean square
    errors, where a unit's variance is 0.1: 0.008 of the mean, 0.015 of the variance.
    """
    net = FastDropoutRNN(20, 40, keep_input=0.8, keep_hidden=0.8, spectral_radius=0.9, incoming=15)
    value, draws = torch.randn(1, 12, 20), 10_000
    state, out, errors = torch.zeros(draws, 40), net(value), []
    for t in range(12):
        pushed = drawn(value[0, t], 0.8, draws) @ net.input_weight[0].T
        kept = state * (torch.rand(draws, 40) < 0.8)
        state = torch.tanh(pushed + kept @ net.hidden_weight[0].T)
        error = state.mean(0) - out.mean[0, t], state.var(0) - out.variance[0, t]
        errors.append(torch.stack(error))
    assert (torch.stack(errors).square().mean((0, 2)).sqrt() < torch.tensor([0.01, 0.02])).all()
    # The trap: a recurrent mean that is not scaled by keep would be far off.
    wrong = FastDropoutRNN(20, 40, keep_input=0.8, keep_hidden=1.0)
    wrong.load_state_dict(net.state_dict())
    assert (state.mean(0) - wrong(value).mean[0, -1]).square().mean().sqrt() > 0.04


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_without_dropout_it_is_a_plain_rnn(nonlinearity):
    net = FastDropoutRNN(M, H, 1.0, 1.0, nonlinearity=nonlinearity).double()
    plain = torch.nn.RNN(M, H, nonlinearity=nonlinearity, batch_first=True).double()
    with torch.no_grad():
        plain.weight_ih_l0.copy_(net.input_weight[0])
        plain.weight_hh_l0.copy_(net.hidden_weight[0])
        plain.bias_ih_l0.copy_(net.bias.normal_()[0])
        plain.bias_hh_l0.zero_()
    value = torch.randn(B, T, M, dtype=torch.float64)
    out, expected = net(value), plain(value)[0]
    tolerance = 1e-12 if nonlinearity == "tanh" else 1e-5
    torch.testing.assert_close(out.mean, expected, atol=tolerance, rtol=0)
    assert out.variance.abs().max() <= tolerance
    (ours,) = torch.autograd.grad(out.mean.square().sum(), net.hidden_weight)
    (theirs,) = torch.autograd.grad(expected.square().sum(), plain.weight_hh_l0)
    torch.testing.assert_close(ours[0], theirs, atol=10 * tolerance, rtol=10 * tolerance)


@pytest.fixture
def net():
    return FastDropoutRNN(M, H, 0.9, 0.7, bidirectional=True, learn_rates=True).double()


@pytest.fixture
def value():
    return torch.randn(B, T, M, dtype=torch.float64)


def one_way(net, way):
    """One direction of a bidirectional net as a net of its own."""
    single = FastDropoutRNN(M, H, 0.9, 0.7, learn_rates=True).double()
    state = net.state_dict()
    rows = {name: part if "keep" in name else part[way : way + 1] for name, part in state.items()}
    single.load_state_dict(rows)
    return single


def test_two_directions_are_two_nets(net, value):
    noise = torch.rand_like(value)
    out = net(value, variance=noise)
    assert out.mean.shape == out.variance.shape == (B, T, net.outputs)
    forward = one_way(net, 0)(value, variance=noise)
    backward = one_way(net, 1)(value.flip(1), variance=noise.flip(1))
    for both, ahead, back in zip(out, forward, backward):
        torch.testing.assert_close(both, torch.cat([ahead, back.flip(1)], -1))


@pytest.mark.parametrize("where", ["after", "before", "inside"])
def test_padding_is_as_if_absent(net, value, where):
    """The mask's frames are skipped, whatever they hold, in values and in gradients."""
    mask = torch.ones(B, T, dtype=torch.bool)
    mask[1, {"after": slice(4, 6), "before": slice(0, 2), "inside": slice(2, 4)}[where]] = False
    dirty = value.masked_fill(~mask[..., None], math.nan)
    out, short = net(dirty, mask), net(value[1:2, mask[1]])
    for padded, alone, full in zip(out, short, net(value[[0, 2]])):
        torch.testing.assert_close(padded[1, mask[1]], alone[0])
        torch.testing.assert_close(padded[[0, 2]], full)
    expected = torch.autograd.grad(
        short.mean.square().sum() + short.variance.sum(), [*net.parameters()]
    )
    row = mask[1, :, None]
    loss = torch.where(row, out.mean[1].square() + out.variance[1], 0.0).sum()
    for ours, theirs in zip(torch.autograd.grad(loss, [*net.parameters()]), expected):
        torch.testing.assert_close(ours, theirs)


def test_a_padded_frame_keeps_the_state(value):
    net = FastDropoutRNN(M, H).double()
    mask = torch.arange(T) < torch.tensor([[T], [3], [0]])
    out = net(value, mask)
    assert torch.equal(out.mean[1, 3:], out.mean[1, 2:3].expand(T - 3, H))
    assert torch.equal(out.variance[1, -1], out.variance[1, 2])
    assert not out.mean[2].any()


def test_it_goes_on_from_a_state(value):
    net = FastDropoutRNN(M, H).double()
    whole, first = net(value), net(value[:, :2])
    rest = net(value[:, 2:], initial=Moments(first.mean[:, -1], first.variance[:, -1]))
    for long, short in zip(whole, rest):
        torch.testing.assert_close(long[:, 2:], short)


def test_every_parameter_learns_and_gradients_are_right(net, value):
    """Learned rates among them; training and evaluation give the same numbers."""
    out = net(value)
    assert all(torch.equal(*pair) for pair in zip(out, net.eval()(value)))
    (out.mean.sum() + out.variance.sum()).backward()
    assert {name for name, _ in net.named_parameters()} > {"keep_input.logit", "keep_hidden.logit"}
    assert all(part.grad.abs().sum() > 0 for part in net.parameters())
    torch.testing.assert_close(net.keep_hidden().item(), 0.7)
    short = value[:1, :3].requires_grad_()
    torch.autograd.gradcheck(lambda x, *_: tuple(net(x)), (short, *net.parameters()))


def test_mlp_is_its_layers():
    net = FastDropoutMLP([M, 7, 6, 2], keep=0.8, nonlinearity="sigmoid", learn=True)
    value = torch.randn(3, M)
    out = Moments.of(value)
    for number, layer in enumerate(net.layers):
        out = layer(out if number == 0 else TRANSFERS["sigmoid"](*out))
    assert all(torch.equal(*pair) for pair in zip(net(value), out))
    bernoulli_logits(net(value)).sum().backward()
    assert all(part.grad.abs().sum() > 0 for part in net.parameters())
    assert "sigmoid" in repr(net)
    assert "learn=True" in repr(net)


def test_a_net_starts_as_it_is_told():
    net = FastDropoutRNN(
        400, 40, bidirectional=True, spectral_radius=1.1, incoming=15, input_scale=0.3
    )
    for weight in net.hidden_weight:
        assert torch.linalg.eigvals(weight).abs().max().item() == pytest.approx(1.1, rel=1e-4)
        assert (weight != 0).sum(1).eq(15).all()
    assert net.input_weight.std().item() == pytest.approx(0.3, rel=0.02)
    assert repr(net).startswith("FastDropoutRNN(\n  400, 40, tanh, bidirectional")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Keep(0.0), r"above 0 and at most 1"),
        (lambda: Keep(1.1), r"above 0 and at most 1"),
        (lambda: Keep(1.0, learn=True), "begin below 1"),
        (lambda: FastDropoutLinear(2, 2, keep=-0.5), r"above 0 and at most 1"),
        (lambda: FastDropoutRNN(0, 2), "at least 1"),
        (lambda: FastDropoutRNN(2, 2, keep_hidden=2.0), r"above 0 and at most 1"),
        (lambda: FastDropoutRNN(2, 2, nonlinearity="cosine"), "one of tanh"),
        (lambda: FastDropoutRNN(2, 2, incoming=1), "needs spectral_radius"),
        (lambda: FastDropoutRNN(2, 2, input_scale=0.0), "input_scale"),
        (lambda: FastDropoutMLP([2, 2], nonlinearity="step"), "one of tanh"),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(B, M),), "inputs must be"),
        ((torch.zeros(B, T, M + 1),), "inputs must be"),
        ((torch.zeros(B, 0, M),), "at least one frame"),
        ((torch.zeros(B, T, M), torch.ones(B, T)), "mask must be boolean"),
        ((torch.zeros(B, T, M), torch.ones(B, 1, dtype=torch.bool)), "mask must be boolean"),
        ((torch.zeros(B, T, M), None, torch.zeros(M)), "variance must have"),
        ((torch.zeros(B, T, M), None, None, Moments.of(torch.zeros(1, H))), "initial must be"),
    ],
)
def test_bad_inputs(arguments, message):
    with pytest.raises(ValueError, match=message):
        FastDropoutRNN(M, H)(*arguments)


def test_two_directions_have_no_one_state():
    net = FastDropoutRNN(M, H, bidirectional=True)
    with pytest.raises(ValueError, match="leave it out"):
        net(torch.zeros(B, T, M), initial=Moments.of(torch.zeros(B, H)))
