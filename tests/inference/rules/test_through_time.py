"""Straight-through estimation against the paper's appendix A, and backpropagation through time."""

import math

import pytest
import torch
from seqzoo.data import Batch
from seqzoo.inference import OutputBPTT, StraightThrough
from seqzoo.zoo.models.srn import SRN
from seqzoo.zoo.parts.likelihoods import Bernoulli, Categorical, GaussianMixture

from seqzoo import inference
from tests.inference.rules.helpers import asked, scattered

I, H, C, B, T = 2, 4, 5, 3, 6  # noqa: E741
LENGTHS = (4, 6, 1)
MASK = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
NETS = {
    "sigmoid": {},
    "tanh": {"nonlinearity": "tanh"},
    "hybrid": {"stochastic": 0.5, "nonlinearity": "tanh"},
    "stochastic": {"stochastic": 1.0},
}
every_rule = pytest.mark.parametrize(
    "rule_of", [OutputBPTT, StraightThrough, inference.TargetPropagation]
)
every_net = pytest.mark.parametrize("kind", NETS)
both_masks = pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
both_places = pytest.mark.parametrize("every_step", [False, True], ids=["last", "every"])


def srn(kind, output=None, **how):
    return scattered(SRN(I, output or Categorical(C), hidden=H, **NETS[kind], **how))


def batch(mask=None, every_step=False):
    return asked(B, T, I, C, mask, every_step)


def gradient(rule, data):
    rule.gradients(data)
    return {name: part.grad for name, part in rule.net.named_parameters() if part.grad is not None}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda m, n=name: f"{n}: {m}")


def appendix_a(net, data, hs):
    """Equations A1 to A5 as products of matrices, with ``hs [T, M, B, H]``: the states drawn.

    The appendix has M = 1; an average of M probabilities weighs path m by its share of them.
    Where it writes h for what another layer sees, that is hs, for which sampling takes h.
    """
    values = [part.detach() for part in net.parameters()]
    w_xh, w_hh, b_h, _, _, w_hy, b_y = values
    names = ("from_input.weight", "from_state.weight", "from_state.bias", "readout.weight")
    names = (*names, "readout.bias")
    out = {name: torch.zeros_like(net.get_parameter(name)) for name in names}
    paths, bits = hs.shape[1], net.num_stochastic
    lengths = data.mask.sum(1).tolist()
    answers = sum(lengths) if net.every_step else len(lengths)
    start = torch.full_like(hs[:1], 0.0 if net.units.nonlinearity == "tanh" else 0.5)
    start[..., :bits] = 0.5
    hs = torch.cat((start, hs))  # hs_0: units without any drive
    loss = 0.0
    for b, length in enumerate(lengths):
        x = {t: data.obs[b, t - 1] for t in range(1, length + 1)}
        slope = [{} for _ in range(paths)]  # dh_t / dha_t
        for m in range(paths):
            for t, frame in x.items():
                ha = w_hh @ hs[t - 1, m, b] + w_xh @ frame + b_h
                sigma = 1 / (1 + (-ha).exp())
                if net.units.nonlinearity == "tanh":
                    tanh = torch.tanh(ha)
                    assert torch.allclose(hs[t, m, b, bits:], tanh[bits:])
                    slope[m][t] = torch.cat(((sigma * (1 - sigma))[:bits], 1 - tanh[bits:] ** 2))
                else:
                    assert torch.allclose(hs[t, m, b, bits:], sigma[bits:])
                    slope[m][t] = sigma * (1 - sigma)
        for t_max in x if net.every_step else [length]:
            hot = torch.zeros(C, dtype=torch.float64)
            hot[data.target[b, t_max - 1] if net.every_step else data.target[b]] = 1
            y = torch.stack([(w_hy @ hs[t_max, m, b] + b_y).exp() for m in range(paths)])
            y = y / y.sum(1, keepdim=True)
            chance = y @ hot
            loss -= math.log(chance.mean()) / answers
            for m, share in enumerate(chance / chance.sum()):
                a1 = share * (y[m] - hot) / answers
                out["readout.weight"] += torch.outer(a1, hs[t_max, m, b])
                out["readout.bias"] += a1
                a4 = (a1 @ w_hy) * slope[m][t_max]
                for t in range(1, t_max + 1):
                    product = torch.eye(H, dtype=torch.float64)  # A5, the latest step leftmost
                    for i in range(t_max, t, -1):
                        product = product @ w_hh @ torch.diag(slope[m][i - 1])
                    by_drive = a4 @ product
                    out["from_state.weight"] += torch.outer(by_drive, hs[t - 1, m, b])
                    out["from_state.bias"] += by_drive
                    out["from_input.weight"] += torch.outer(by_drive, x[t])
    return out, loss, answers


@every_net
@pytest.mark.parametrize("samples", [1, 3])
@both_places
@both_masks
def test_gradients_are_those_of_appendix_a(kind, samples, every_step, mask):
    net, data = srn(kind, every_step=every_step), batch(mask, every_step)
    drawn, plain = [], net.straight_through

    def straight(mean):
        drawn.append(plain(mean))
        return drawn[-1]

    net.straight_through = straight
    rule = StraightThrough(net, num_samples=samples)
    metrics = rule.gradients(data)
    hs = torch.stack(drawn).detach()
    assert hs.shape == (T, samples if net.num_stochastic else 1, B, H)
    bits = hs[..., : net.num_stochastic].round()
    torch.testing.assert_close(hs[..., : net.num_stochastic], bits, rtol=0, atol=1e-12)
    assert bits.unique().tolist() == ([0, 1] if net.num_stochastic else [])
    expected, loss, answers = appendix_a(net, data, hs)
    assert_equal({n: p.grad for n, p in net.named_parameters() if p.grad is not None}, expected)
    assert all(value.any() for value in expected.values())
    assert float(metrics["loss"]) == pytest.approx(loss)
    assert float(metrics["frames"]) == answers
    assert not metrics["loss"].requires_grad


@pytest.mark.parametrize("kind", ["sigmoid", "tanh"])
@both_places
@both_masks
def test_without_stochastic_units_it_is_plain_backpropagation(kind, every_step, mask):
    net, data = srn(kind, every_step=every_step), batch(mask, every_step)
    plain = gradient(OutputBPTT(net), data)
    for samples in (1, 20):  # there is one path, however many are asked for
        assert_equal(gradient(StraightThrough(net, num_samples=samples), data), plain)


OUTPUTS = {
    "classes": (lambda: Categorical(C), lambda *shape: torch.randint(C, shape)),
    "bits": (lambda: Bernoulli(C), lambda *shape: (torch.rand(*shape, C) < 0.4).double()),
    "mixture": (
        lambda: GaussianMixture(2, components=3),
        lambda *shape: torch.randn(*shape, 2, dtype=torch.float64),
    ),
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", ["sigmoid", "tanh"])
@both_places
def test_plain_backpropagation_is_the_slope_of_the_loss(kind, output, every_step):
    """Central differences of minus the mean log-probability, parameter by parameter."""
    make, values = OUTPUTS[output]
    net = srn(kind, make(), every_step=every_step)
    target = values(B, T) if every_step else values(B)
    data = Batch(torch.randn(B, T, I, dtype=torch.float64), MASK, target=target)
    answers = int(MASK.sum()) if every_step else B
    found = gradient(OutputBPTT(net), data)
    for name, part in net.named_parameters():
        if name.startswith("back."):
            assert name not in found
            continue
        flat, step = part.data.view(-1), 1e-5
        slopes = torch.zeros_like(flat)
        for i in range(len(flat)):
            before, losses = float(flat[i]), []
            for flat[i] in (before + step, before - step):
                losses.append(-net.log_prob(Batch(data.obs, MASK, target)).sum() / answers)
            flat[i] = before
            slopes[i] = (losses[0] - losses[1]) / (2 * step)
        torch.testing.assert_close(found[name].flatten(), slopes, rtol=1e-5, atol=1e-8, msg=name)


@pytest.mark.parametrize("kind", ["hybrid", "stochastic"])
def test_plain_backpropagation_refuses_sampled_units(kind):
    with pytest.raises(ValueError, match="no derivative: use StraightThrough"):
        OutputBPTT(srn(kind))


@pytest.mark.parametrize("samples", [0, -3])
def test_a_sample_at_least(samples):
    for kind in ("sigmoid", "hybrid"):
        with pytest.raises(ValueError, match=f"samples must be at least 1, got {samples}"):
            StraightThrough(srn(kind), num_samples=samples)


def test_more_samples_make_a_gradient_less_noisy():
    """And one seed gives one gradient."""
    net, data = srn("hybrid"), batch()
    spread = []
    for samples in (1, 30):
        rule = StraightThrough(net, num_samples=samples)
        draws = [gradient(rule, data)["from_state.weight"].clone() for _ in range(30)]
        spread.append(torch.stack(draws).var(0).sum())
    assert spread[1] < 0.3 * spread[0]
    again = []
    for _ in range(2):
        with inference.RandomStream("cpu", 3):
            again.append(gradient(rule, data))
    assert_equal(*again)


@every_rule
@pytest.mark.parametrize(("output", "filler"), [("bits", math.nan), ("classes", -100)])
def test_padded_frames_and_targets_may_hold_anything(rule_of, output, filler):
    """NaN and numbers that are no class, too."""
    make, values = OUTPUTS[output]
    net, target = srn("tanh", make(), every_step=True), values(B, T)
    obs, padded = torch.randn(B, T, I, dtype=torch.float64), ~MASK
    silent = Batch(obs, MASK, target.clone().masked_fill_(_like(padded, target), 0))
    filled = target.clone().masked_fill_(_like(padded, target), filler)
    filled = Batch(obs.masked_fill(padded[..., None], math.nan), MASK, filled)
    expected = {name: value.clone() for name, value in gradient(rule_of(net), silent).items()}
    assert_equal(gradient(rule_of(net), filled), expected)


def _like(mask, value):
    return mask.view(mask.shape + (1,) * (value.dim() - 2))


@every_rule
def test_a_gradient_is_a_mean_over_sequences(rule_of):
    """Of equal lengths: a batch's is the mean of its rows'."""
    net, data = srn("sigmoid"), batch()
    whole = {name: value.clone() for name, value in gradient(rule_of(net), data).items()}
    rows = []
    for b in range(B):
        found = gradient(rule_of(net), data.rows([b]))
        rows.append({name: value.clone() for name, value in found.items()})
    assert_equal(whole, {name: sum(row[name] for row in rows) / B for name in whole})


def test_rules_can_be_told_apart_in_print():
    assert repr(StraightThrough(srn("hybrid"))) == "StraightThrough(SRN)"
    assert repr(OutputBPTT(srn("tanh"))) == "OutputBPTT(SRN)"
