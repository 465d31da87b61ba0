"""The simple recurrent network against sums over all of its bits, and what it refuses."""

import itertools
import math

import pyro
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyro.infer import Predictive
from seqzoo.data import Batch, PianoRolls
from seqzoo.zoo.models.mdrnn import MDRNN
from seqzoo.zoo.models.srn import SRN
from seqzoo.zoo.models.stochastic_units import StochasticUnits
from seqzoo.zoo.parts.likelihoods import Bernoulli, Categorical, GaussianMixture
from seqzoo.zoo.parts.units import HybridUnits
from torch import nn

from seqzoo import inference

I, H, S, C, B, T = 2, 4, 2, 5, 3, 3  # noqa: E741
LENGTHS = (3, 1, 2)
MASK = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
OUTPUTS = {
    "classes": lambda: Categorical(C),
    "bits": lambda: Bernoulli(C),
    "mixture": lambda: GaussianMixture(2, components=3),
}
both_masks = pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
quickly = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def srn(output="classes", stochastic=S / H, loud=1.5, seed=0, **how):
    """A network in float64, by default of two bits and two tanh units, whose weights matter.

    They, and what a test draws next, do not depend on how many numbers a constructor draws.
    """
    how = {"hidden": H, "nonlinearity": "tanh"} | how
    net = SRN(I, OUTPUTS[output](), stochastic=stochastic, **how).double()
    torch.manual_seed(seed)
    for part in net.parameters():
        nn.init.normal_(part, std=loud)
    return net


def frames(*shape, mask=None):
    """Frames, with NaN where they are padding."""
    obs = torch.randn(*(shape or (B, T)), I, dtype=torch.float64)
    return obs if mask is None else obs.masked_fill(~mask[..., None], math.nan)


def targets(output, *shape):
    shape = shape or (B,)
    if output == "classes":
        return torch.randint(C, shape)
    if output == "bits":
        return (torch.rand(*shape, C) < 0.4).double()
    return torch.randn(*shape, 2, dtype=torch.float64)


# All paths of the bits --------------------------------------------------------------------------


def every_path(net, x):
    """All paths of the bits over frames ``x [T, I]``: their chances, and states ``[T, H]`` each."""
    parts = net.from_input.weight, net.from_state.weight, net.from_state.bias
    w, v, b = (part.detach() for part in parts)
    start = torch.zeros(len(b), dtype=torch.float64)  # tanh(0)
    start[: net.num_stochastic] = 0.5  # without any drive they fire half the time
    for bits in itertools.product([0.0, 1.0], repeat=net.num_stochastic * len(x)):
        path = torch.tensor(bits, dtype=torch.float64).view(len(x), net.num_stochastic)
        h, chance, states = start, 1.0, []
        for frame, fired in zip(x, path):
            a = w @ frame + v @ h + b
            for unit, bit in enumerate(fired):
                p = 1 / (1 + math.exp(-a[unit]))
                chance *= p if bit == 1 else 1 - p
            h = torch.cat((fired, torch.tanh(a[net.num_stochastic :])))
            states.append(h)
        yield chance, path, torch.stack(states)


def chance_of(net, h, y):
    """p(y | h), written out."""
    natural = net.readout.weight @ h + net.readout.bias
    if isinstance(net.output, Categorical):
        return natural.softmax(-1)[int(y)]
    if isinstance(net.output, Bernoulli):
        chance = torch.sigmoid(natural)
        return torch.where(y == 1, chance, 1 - chance).prod()
    return net.output.distribution(natural).log_prob(y).exp()


def mean_of(net, h):
    return net.output.mean(net.readout.weight @ h + net.readout.bias)


def real(obs, mask):
    """Each sequence's own frames."""
    lengths = (T,) * len(obs) if mask is None else mask.sum(1).tolist()
    return [x[:length] for x, length in zip(obs, lengths)]


@torch.no_grad()
def moments(net, obs, target, mask=None):
    """Mean and sd of p(y | h) at the last step over all paths, by enumeration; ``[B]`` each."""
    found = []
    for x, y in zip(real(obs, mask), target):
        pairs = [(p, chance_of(net, h[-1], y)) for p, _, h in every_path(net, x)]
        mean = sum(p * value for p, value in pairs)
        found.append((mean, sum(p * (value - mean) ** 2 for p, value in pairs) ** 0.5))
    return tuple(map(torch.stack, zip(*found)))


def exact(net, obs, target, mask=None):
    """log p(y | x) of the last step; ``[B]``."""
    return moments(net, obs, target, mask)[0].log()


def assert_near_the_sum(net, obs, mask=None, samples=20_000):
    """The probability of likely answers is within 4.5 standard errors of the sum over all paths.

    Paths must differ enough for that to mean something, and not by so much that few of them count.
    """
    target = net.sample_answers(Batch(obs, mask), num_samples=2).flatten(0, 1)
    obs, mask = obs.repeat(2, 1, 1), None if mask is None else mask.repeat(2, 1)
    found = net.log_prob(Batch(obs, mask, target), num_samples=samples).exp()
    mean, spread = moments(net, obs, target, mask)
    assert found.shape == (len(obs),)
    assert 0.2 < (spread / mean).max() < 10
    assert ((found - mean).abs() < 4.5 * spread / math.sqrt(samples) + 1e-9).all()


@torch.no_grad()
def step_moments(net, obs, target, mask=None):
    """Of answers at every step, two pairs: singly, and jointly. ``[B]`` each.

    First the sum over t of log p(y_t | x), then log p(y_1 .. y_T | x); beside each the sd of what
    one path says of it, in nats (no less than that, where errors of steps add up).
    """
    found = []
    for x, y in zip(real(obs, mask), target):
        paths = list(every_path(net, x))
        scores = torch.stack(
            [torch.stack([chance_of(net, *pair) for pair in zip(h, y)]) for _, _, h in paths]
        )
        chances = torch.tensor([p for p, _, _ in paths], dtype=torch.float64)
        row = []
        for values in (scores, scores.prod(1, keepdim=True)):
            mean = chances @ values
            spread = (chances @ (values - mean) ** 2).sqrt() / mean
            row += [mean.log().sum(), spread.sum()]
        found.append(row)
    return tuple(map(torch.stack, zip(*found)))


@pytest.mark.parametrize("output", OUTPUTS)
@both_masks
def test_many_samples_give_the_sum_over_all_paths(output, mask):
    net = srn(output, loud=0.7 if output == "mixture" else 1.5)
    assert_near_the_sum(net, frames(mask=mask), mask)


def test_many_samples_of_stochastic_units_alone():
    assert_near_the_sum(srn(stochastic=1.0, hidden=3), frames())


@both_masks
def test_answers_at_every_step_are_scored_singly_or_jointly(mask):
    """log_prob adds up the steps' own marginals, the Pyro pair has the law of all of them.

    They differ where bits tell steps of one another: here a bit is a toss that mostly stays, and
    an answer says what it is.
    """
    net, obs = srn("bits", every_step=True), frames(mask=mask)
    with torch.no_grad():
        net.readout.weight.mul_(0.2)
        for part in (net.from_state, net.readout):  # half of the way at rest, where bits are 1/2
            part.weight[:S] = 6 * torch.eye(H)[:S]
            part.bias[:S] = -3.0
        net.from_input.weight[:S] = 0.0
    target = net.sample_answers(Batch(obs, mask))[0]  # a likely one: paths differ less
    samples = 20_000
    singly, single, jointly, joint = step_moments(net, obs, target, mask)
    share = 4.5 / math.sqrt(samples)
    assert ((singly - jointly).abs() > 5 * share * (single + joint)).any()
    found = net.log_prob(Batch(obs, mask, target), num_samples=samples)
    assert ((found - singly).abs() < share * single).all()
    bound = inference.importance_bound(net, Batch(obs, mask, target), samples, at_once=samples)
    assert ((bound - jointly).abs() < share * joint).all()


def test_probabilities_are_averaged_and_the_bound_rises_to_the_sum():
    """M = 1 < 5 < exact on average; a mean of logs would stay where M = 1 is."""
    net, obs, target = srn(loud=2.5), frames(), targets("classes")
    best, repeats = exact(net, obs, target), 150
    means, errors = [], []
    for samples in (1, 5, 50):
        data = Batch(obs, target=target)
        draws = torch.stack([net.log_prob(data, samples, seed) for seed in range(repeats)])
        means.append(draws.mean(0))
        errors.append(draws.std(0) / math.sqrt(repeats))
    assert (means[0] + 4 * errors[0] < means[1] - 4 * errors[1]).any()
    for below, above, error in ((0, 1, errors[1]), (1, 2, errors[2])):
        assert (means[below] < means[above] + 4 * (error + errors[below])).all()
    assert (means[2] < best + 4 * errors[2]).all()
    assert (means[0] + 4 * errors[0] < best).any()


@both_masks
@pytest.mark.parametrize("samples", [1, 4])
def test_the_pairs_bound_has_the_law_of_log_prob(samples, mask):
    """Means and spreads of both, within 4.5 standard errors of 500 draws."""
    net, obs, target, repeats = srn(), frames(mask=mask), targets("classes"), 500
    rows = torch.arange(B).repeat(repeats)
    data = Batch(obs, mask, target).rows(rows)
    ours = net.log_prob(data, num_samples=samples).view(repeats, B)
    pairs = inference.importance_bound(net, data, samples).view(repeats, B)
    assert (ours.std(0) > 1e-3).any()
    for one, other in ((ours, pairs), (ours.exp(), pairs.exp()), (ours**2, pairs**2)):
        error = (one.var(0) / repeats + other.var(0) / repeats).sqrt()
        assert ((one.mean(0) - other.mean(0)).abs() <= 4.5 * error + 1e-12).all()


@pytest.mark.parametrize("output", OUTPUTS)
@both_masks
def test_a_prediction_is_the_mean_over_all_paths(output, mask):
    """Within 4.5 standard errors."""
    net, obs, samples = srn(output), frames(mask=mask), 20_000
    found = net.predict(Batch(obs, mask), num_samples=samples)
    assert len(found) == B
    with torch.no_grad():
        for x, mean in zip(real(obs, mask), found):
            pairs = [(p, mean_of(net, h[-1])) for p, _, h in every_path(net, x)]
            expected = sum(p * value for p, value in pairs)
            spread = sum(p * (value - expected) ** 2 for p, value in pairs).sqrt()
            assert ((mean - expected).abs() < 4.5 * spread / math.sqrt(samples) + 1e-9).all()


def test_predictions_at_every_step_are_means_over_all_paths():
    net, obs = srn("bits", every_step=True), frames(mask=MASK)
    found = net.predict(Batch(obs, MASK), num_samples=20_000)
    assert found.shape == (B, T, C)
    for b, x in enumerate(real(obs, MASK)):
        for t in range(len(x)):
            with torch.no_grad():
                expected = sum(p * mean_of(net, h[t]) for p, _, h in every_path(net, x))
            torch.testing.assert_close(found[b, t], expected, rtol=0, atol=0.03)


def test_answers_are_drawn_from_the_sum_over_all_paths():
    """Within 4.5 standard errors; every draw has a path of its own."""
    net, obs, draws = srn(), frames(mask=MASK), 8000
    drawn = net.sample_answers(Batch(obs, MASK), num_samples=draws)
    assert drawn.shape == (draws, B)
    for b in range(B):
        for y in range(C):
            chance = float(exact(net, obs, torch.full((B,), y), MASK)[b].exp())
            share = float((drawn[:, b] == y).double().mean())
            assert abs(share - chance) < 4.5 * math.sqrt(chance * (1 - chance) / draws) + 1e-9


def test_without_bits_one_path_is_exact():
    """Whatever the number of samples, and no random number is drawn."""
    net, obs, target = srn(stochastic=0.0), frames(mask=MASK), targets("classes")
    state = torch.get_rng_state()
    for samples in (1, 7):
        found = net.log_prob(Batch(obs, MASK, target), num_samples=samples)
        torch.testing.assert_close(found, exact(net, obs, target, MASK))
    assert torch.equal(torch.get_rng_state(), state)
    expected = step_moments(net, obs, later := targets("classes", B, T), MASK)[0]
    torch.testing.assert_close(net.log_prob(Batch(obs, MASK, later)), expected)


# The law of the bits ----------------------------------------------------------------------------


@both_masks
def test_the_law_of_bits_is_the_product_and_sums_to_one(mask):
    """Over the real steps; bits in padding count for nothing."""
    net, obs = srn(), frames(mask=mask)
    data = Batch(obs, mask)
    law = StochasticUnits(net, net.drive(data.obs).detach(), data.mask)
    assert (law.batch_shape, law.event_shape) == ((B,), (T, S))
    for b, x in enumerate(real(obs, mask)):
        total = 0.0
        for chance, path, states in every_path(net, x):
            value = torch.ones(B, T, S, dtype=torch.float64)
            value[b, : len(x)] = path
            with torch.no_grad():
                found = law.log_prob(value)[b]
                torch.testing.assert_close(
                    net.path(law.drive, value)[b, : len(x)], states, msg="states"
                )
            assert float(found) == pytest.approx(math.log(chance))
            value[b, len(x) :] = 0
            assert float(law.log_prob(value)[b].detach()) == float(found)
            total += float(found.exp())
        assert total == pytest.approx(1)


def test_draws_have_the_law_of_bits():
    """Frequencies of all 64 paths of a sequence, within 4.5 standard errors of 20 000 draws."""
    net, obs, draws = srn(loud=0.7), frames(1, T), 20_000
    law = StochasticUnits(net, net.drive(obs), torch.ones(1, T, dtype=torch.bool))
    drawn = law.sample((draws,))
    assert drawn.shape == (draws, 1, T, S)
    assert drawn.unique().tolist() == [0, 1]
    assert not drawn.requires_grad
    code = (drawn.flatten(1) @ (2.0 ** torch.arange(T * S - 1, -1, -1)).double()).long()
    shares = code.bincount(minlength=2 ** (T * S)) / draws
    for (chance, _, _), share in zip(every_path(net, obs[0]), shares):
        error = math.sqrt(chance * (1 - chance) / draws)
        assert abs(float(share) - float(chance)) < 4.5 * error + 1e-9


def test_the_law_of_bits_expands():
    net, obs = srn(), frames(mask=MASK)
    data = Batch(obs, MASK)
    law = StochasticUnits(net, net.drive(data.obs).detach(), data.mask)
    wide = law.expand((5, B))
    assert (wide.batch_shape, wide.event_shape) == ((5, B), (T, S))
    value = wide.sample((2,))
    assert value.shape == (2, 5, B, T, S)
    found = wide.log_prob(value)
    assert found.shape == (2, 5, B)
    for i, k in itertools.product(range(2), range(5)):
        torch.testing.assert_close(found[i, k], law.log_prob(value[i, k]))


def test_the_slope_of_the_law_of_bits():
    """REINFORCE needs it: central differences of log P(b) by a weight."""
    net, obs = srn(), frames()
    value = (torch.rand(B, T, S) < 0.5).double()

    def score():
        law = StochasticUnits(net, net.drive(obs), torch.ones(B, T, dtype=torch.bool))
        return law.log_prob(value).sum()

    weights = list(net.from_state.parameters()) + list(net.from_input.parameters())
    slopes = torch.autograd.grad(score(), weights)
    for part, slope in zip(weights, slopes):
        flat = part.data.view(-1)
        before = float(flat[1])
        flat[1] = before + 1e-5
        up = float(score().detach())
        flat[1] = before - 1e-5
        down = float(score().detach())
        flat[1] = before
        assert float(slope.flatten()[1]) == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("stochastic", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("nonlinearity", "middle"),
    [("sigmoid", 0.5), ("tanh", 0.0), ("linear", 0.0), ("relu", 0.0), ("silu", 0.0)],
)
def test_a_network_starts_from_units_at_rest(nonlinearity, middle, stochastic):
    """h_0 = f(0), whatever the weights are, and each state sees the one before alone."""
    net, obs = srn(stochastic=stochastic, nonlinearity=nonlinearity), frames()
    rest = torch.full((H,), middle, dtype=torch.float64)
    rest[: net.num_stochastic] = 0.5
    assert torch.equal(net.rest(), rest)
    assert not net.rest().requires_grad
    assert net.float().rest().dtype == torch.float32
    net.double()
    with torch.no_grad():
        states = net.path(net.drive(obs), (torch.rand(B, T, net.num_stochastic) < 0.5).double())
        before = torch.cat((rest.expand(B, 1, H), states[:, :-1]), 1)
        means = net.mean(net.drive(obs), before)
        torch.testing.assert_close(
            means[..., net.num_stochastic :], states[..., net.num_stochastic :]
        )
    assert states.shape == (B, T, H)


@pytest.mark.parametrize("nonlinearity", ["tanh", "sigmoid"])
def test_the_first_bits_fire_as_a_network_at_rest_has_them(nonlinearity):
    """sigma(W_xh x_1 + W_hh h_0 + b_h), by hand."""
    net, obs = srn(nonlinearity=nonlinearity), frames(1, 1)
    w, v, b = (
        part.detach() for part in (*net.from_input.parameters(), *net.from_state.parameters())
    )
    rest = [0.5, 0.5, 0.0, 0.0] if nonlinearity == "tanh" else [0.5] * 4
    law = StochasticUnits(net, net.drive(obs), torch.ones(1, 1, dtype=torch.bool))
    for bits in itertools.product([0.0, 1.0], repeat=S):
        expected = 0.0
        for s, bit in enumerate(bits):
            a = float(w[s] @ obs[0, 0]) + sum(float(v[s, j]) * rest[j] for j in range(H))
            p = 1 / (1 + math.exp(-a - float(b[s])))
            expected += math.log(p if bit else 1 - p)
        found = law.log_prob(torch.tensor([[bits]], dtype=torch.float64))
        assert float(found.detach()) == pytest.approx(expected)


# The Pyro pair ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("output", "value"), [("classes", ()), ("bits", (C,)), ("mixture", (2,))])
@pytest.mark.parametrize("every_step", [False, True], ids=["last", "every"])
def test_predictive_draws_bits_and_answers(output, value, every_step):
    net, obs = srn(output, every_step=every_step), frames(mask=MASK)
    when = (B, T) if every_step else (B,)
    found = Predictive(net.model, num_samples=6)(Batch(obs, MASK))
    assert found.keys() == {"units", "y"}
    assert found["units"].shape == (6, B, T, S)
    assert found["units"].unique().tolist() == [0, 1]
    assert found["y"].shape == (6, *when, *value)
    net.output.check(found["y"])
    given = Predictive(net.guide, num_samples=6)(Batch(obs, MASK))
    assert given.keys() == {"units"}
    assert given["units"].shape == (6, B, T, S)


def test_predictive_draws_have_the_law():
    net, obs, draws = srn(), frames(mask=MASK), 4000
    found = Predictive(net.model, num_samples=draws, parallel=True)(Batch(obs, MASK))["y"]
    found = found.view(draws, B)
    for b, y in itertools.product(range(B), range(C)):
        chance = float(exact(net, obs, torch.full((B,), y), MASK)[b].exp())
        share = float((found[:, b] == y).double().mean())
        assert abs(share - chance) < 4.5 * math.sqrt(chance * (1 - chance) / draws) + 1e-9


@pytest.mark.parametrize("every_step", [False, True], ids=["last", "every"])
def test_the_joint_law_is_that_of_bits_times_that_of_answers(every_step):
    net, obs = srn("bits", every_step=every_step), frames(mask=MASK)
    target = targets("bits", B, T) if every_step else targets("bits")
    trace = pyro.poutine.trace(net.model).get_trace(Batch(obs, MASK, target))
    trace.compute_log_prob()
    bits = trace.nodes["units"]["value"]
    with torch.no_grad():
        for b, x in enumerate(real(obs, MASK)):
            for chance, path, h in every_path(net, x):
                if torch.equal(path, bits[b, : len(x)]):
                    assert float(trace.nodes["units"]["log_prob"][b]) == pytest.approx(
                        math.log(chance)
                    )
                    pairs = zip(h, target[b]) if every_step else [(h[-1], target[b])]
                    score = sum(chance_of(net, *pair).log() for pair in pairs)
                    assert float(trace.nodes["y"]["log_prob"][b]) == pytest.approx(float(score))


def test_without_bits_the_pair_has_one_site():
    net, obs = srn(stochastic=0.0), frames(mask=MASK)
    assert Predictive(net.model, num_samples=4)(Batch(obs, MASK)).keys() == {"y"}
    target = targets("classes")
    data = Batch(obs, MASK, target)
    expected = net.log_prob(Batch(obs, MASK, target))
    torch.testing.assert_close(inference.importance_bound(net, data, 3), expected)
    torch.testing.assert_close(inference.elbo(net, data), expected)


# Units ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dim", "share", "bits"), [(4, 0.0, 0), (4, 0.5, 2), (5, 1.0, 5), (10, 0.33, 3), (1, 1.0, 1)]
)
def test_a_share_of_the_units_is_stochastic(dim, share, bits):
    units = HybridUnits(dim, share, "tanh")
    assert units.num_stochastic == bits
    drive = torch.randn(7, dim)
    mean = units.mean(drive)
    torch.testing.assert_close(mean[:, :bits], 1 / (1 + torch.exp(-drive[:, :bits])))
    torch.testing.assert_close(mean[:, bits:], torch.tanh(drive[:, bits:]))
    drawn = units.sample(mean)
    assert ((drawn[:, :bits] == 0) | (drawn[:, :bits] == 1)).all()
    assert torch.equal(drawn[:, bits:], mean[:, bits:])


def test_bits_fire_as_often_as_is_likely():
    units, draws = HybridUnits(5, 0.6, "tanh"), 20_000
    mean = units.mean(torch.tensor([-40.0, 0.3, 40.0, 0.1, -0.2]))
    drawn = units.sample(mean.expand(draws, 5))
    assert not drawn[:, 0].any()
    assert drawn[:, 2].all()
    chance = float(mean[1])
    share = float(drawn[:, 1].mean())
    assert abs(share - chance) < 4.5 * math.sqrt(chance * (1 - chance) / draws)
    pairs = units.sample(torch.full((draws, 5), 0.5))[:, :3]
    assert pairs.T.cov(correction=0).fill_diagonal_(0).abs().max() < 4.5 * 0.25 / math.sqrt(draws)


def test_straight_states_are_the_draws_with_the_slope_of_the_means():
    net = srn("classes")
    mean = torch.rand(6, H, dtype=torch.float64, requires_grad=True)
    with inference.RandomStream("cpu", 1):
        drawn = net.sample_units(mean)
    with inference.RandomStream("cpu", 1):
        straight = net.straight_through(mean)
    torch.testing.assert_close(straight, drawn)
    weights = torch.randn(6, H, dtype=torch.float64)
    (slope,) = torch.autograd.grad((straight * weights).sum(), mean)
    torch.testing.assert_close(slope, weights)
    (slope,) = torch.autograd.grad((drawn * weights).sum(), mean)
    torch.testing.assert_close(slope, weights * torch.tensor([0.0, 0, 1, 1]))  # sampled: none


def test_units_show_what_they_are():
    assert repr(HybridUnits(6, 0.5, "tanh")).startswith("HybridUnits(\n  6, num_stochastic=3,")


# Padding and representation ----------------------------------------------------------------------


@quickly
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans(), st.integers(0, 99))
def test_padding_changes_nothing(lengths, every_step, seed):
    """Sequences of any lengths in one batch are as if alone."""
    net = srn("bits", stochastic=0.0, seed=seed, every_step=every_step)
    longest = max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    obs = frames(len(lengths), longest, mask=mask)
    shape = (len(lengths), longest) if every_step else (len(lengths),)
    target = targets("bits", *shape)
    together, means = net.log_prob(Batch(obs, mask, target)), net.predict(Batch(obs, mask))
    for b, length in enumerate(lengths):
        own = target[b : b + 1, :length] if every_step else target[b : b + 1]
        alone = net.log_prob(Batch(obs[b : b + 1, :length], target=own))
        torch.testing.assert_close(together[b : b + 1], alone)
        mean = net.predict(obs[b : b + 1, :length])[0]
        torch.testing.assert_close(means[b, :length] if every_step else means[b], mean)


@pytest.mark.parametrize("every_step", [False, True])
def test_the_target_says_where_answers_are(every_step):
    """A target at every step is scored at every step, whatever the network answers by itself."""
    net, obs = srn("bits", stochastic=0.0, every_step=every_step), frames(mask=MASK)
    last, each = targets("bits"), targets("bits", B, T)
    torch.testing.assert_close(net.log_prob(Batch(obs, MASK, last)), exact(net, obs, last, MASK))
    torch.testing.assert_close(
        net.log_prob(Batch(obs, MASK, each)), step_moments(net, obs, each, MASK)[0]
    )


def test_the_representation_shows_the_factorisation():
    assert "p(y | x[1:T], h)" in repr(srn())
    assert "p(y[t] | x[1:t], h)" in repr(srn(every_step=True))
    assert "p(h[t] | h[t-1], x[t])" in repr(srn())


def test_the_mixture_network_is_deterministic_and_tanh_by_default():
    net = MDRNN(I, 2, components=3)
    assert net.num_stochastic == 0
    assert net.units.nonlinearity == "tanh"
    assert isinstance(net.back_function, nn.Tanh)
    assert repr(net.output) == "GaussianMixture(2, components=3)"
    hybrid = MDRNN(I, hidden=6, stochastic=0.5)
    assert hybrid.num_stochastic == 3


@pytest.mark.parametrize("how", [{}, {"stochastic": 0.5}])
def test_a_mixture_networks_density_is_equation_8(how):
    """Parameters from h by equations 9 to 11, a state at a time."""
    net = MDRNN(I, 2, components=3, hidden=H, **how).double()
    torch.manual_seed(0)
    for part in net.parameters():
        nn.init.normal_(part, std=0.8)
    obs, target = frames(), targets("mixture")
    w = net.readout.weight.detach().split((3, 6, 6))
    b = net.readout.bias.detach().split((3, 6, 6))
    for i in range(B):
        total = 0.0
        with torch.no_grad():
            for chance, _, h in every_path(net, obs[i]):
                pi = (w[0] @ h[-1] + b[0]).exp()
                mu = (w[1] @ h[-1] + b[1]).view(3, 2)
                sigma = (w[2] @ h[-1] + b[2]).exp().view(3, 2)
                z = (target[i] - mu) / sigma
                density = (torch.exp(-(z**2) / 2) / sigma / math.sqrt(2 * math.pi)).prod(1)
                total += chance * float(pi @ density / pi.sum())
        found = net.log_prob(Batch(obs, target=target), num_samples=40_000 if how else 1)[i]
        assert float(found) == pytest.approx(math.log(total), abs=0.1 if how else 1e-9)


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"inputs": 0}, "inputs must be at least 1, got 0"),
        ({"hidden": 0}, "hidden must be at least 1, got 0"),
        ({"stochastic": -0.1}, r"stochastic must be"),
        ({"stochastic": 1.01}, r"stochastic must be"),
        ({"stochastic": math.nan}, r"stochastic must be"),
        ({"nonlinearity": "step"}, "'step'"),
        ({"inverse": "step"}, "'step'"),
    ],
)
def test_bad_arguments(how, message):
    with pytest.raises(ValueError, match=message):
        SRN(**{"inputs": I, "output": Categorical(C), "hidden": H} | how)
    with pytest.raises(ValueError, match=message):
        MDRNN(**{"inputs": I, "hidden": H} | how)


@pytest.mark.parametrize("how", [{"components": 0}, {"outputs": 0}])
def test_a_mixture_network_of_nothing_is_refused(how):
    with pytest.raises(ValueError, match="at least 1"):
        MDRNN(I, **how)


@pytest.mark.parametrize("samples", [0, -1])
def test_a_sample_at_least(samples):
    for net in (srn(), srn(stochastic=0.0)):
        with pytest.raises(ValueError, match=f"samples must be at least 1, got {samples}"):
            net.log_prob(Batch(frames(), target=targets("classes")), num_samples=samples)
        with pytest.raises(ValueError, match=f"samples must be at least 1, got {samples}"):
            net.predict(frames(), num_samples=samples)


def test_a_draw_at_least():
    with pytest.raises(ValueError, match="num_samples"):
        srn().sample_answers(frames(), num_samples=0)


BAD_FRAMES = [
    (torch.zeros(B, I), "batch, time, features"),
    (torch.zeros(B, T, I + 1), r"\[B, T, 2\]"),
    (torch.zeros(B, T, I, 1), r"\[B, T, 2\]"),
    (torch.full((B, T, I), math.nan), "NaN"),
    (torch.full((B, T, I), math.inf), "NaN or Inf"),
    (torch.zeros(0, T, I), "empty"),
    (torch.zeros(B, 0, I), "empty"),
]


@pytest.mark.parametrize(("obs", "message"), BAD_FRAMES)
def test_bad_frames_get_a_clear_sentence(obs, message):
    net = srn().float()
    scored = lambda x: net.log_prob(Batch(x, target=targets("classes")))  # noqa: E731
    for verb in (net.predict, net.sample_answers, scored):
        with pytest.raises(ValueError, match=message):
            verb(obs)


@pytest.mark.parametrize(
    ("output", "every_step", "target", "message"),
    [
        ("classes", False, None, "target"),
        ("classes", False, torch.zeros(B), "whole numbers, got torch.float"),
        ("classes", False, torch.tensor([0, C, 0]), "from 0 to 4, got 5"),
        ("classes", False, torch.tensor([0, -1, 0]), "from 0 to 4, got -1"),
        ("classes", False, torch.zeros(B - 1, dtype=torch.long), "target has 2 rows, obs has 3"),
        ("classes", False, torch.zeros(B, T, C, dtype=torch.long), "target must be"),
        ("classes", False, torch.zeros(B, T + 1, dtype=torch.long), "target must be"),
        ("classes", True, torch.tensor([[0, 0, 9]] * B), "from 0 to 4, got 9"),
        ("bits", False, torch.full((B, C), 0.5), "must be 0 or 1"),
        ("bits", False, torch.full((B, C), 2.0), "must be 0 or 1"),
        ("bits", False, torch.zeros(B, C, dtype=torch.long), "floating point"),
        ("bits", False, torch.zeros(B, C - 1), "5 values"),
        ("bits", True, torch.zeros(B, T + 1, C), "target must be"),
        ("bits", True, torch.full((B, T, C), math.nan), "NaN"),
        ("mixture", False, torch.full((B, 2), math.nan), "NaN"),
        ("mixture", False, torch.zeros(B, 3), r"\[..., 2\]"),
        ("mixture", False, torch.zeros(B, 2, dtype=torch.long), "floating point"),
        ("mixture", False, torch.zeros(B), "target must be"),
    ],
)
def test_bad_targets_get_a_clear_sentence(output, every_step, target, message):
    net = srn(output, every_step=every_step)
    with pytest.raises(ValueError, match=message):
        net.log_prob(Batch(frames(), target=target))


def test_a_sequence_begins_with_a_real_frame():
    net, obs = srn(), frames()
    late = torch.tensor([[True, True, True], [False, True, True], [True, True, False]])
    for verb in (
        lambda: net.log_prob(Batch(obs, late, targets("classes"))),
        lambda: net.predict(Batch(obs, late)),
        lambda: net.sample_answers(Batch(obs, late)),
    ):
        with pytest.raises(ValueError, match="sequence 1 has padding before real frames"):
            verb()
    nothing = torch.tensor([[True] * T, [False] * T, [True] * T])
    with pytest.raises(ValueError, match="sequence 1 has no real frame"):
        net.predict(Batch(obs, nothing))


@pytest.mark.parametrize(("output", "filler"), [("bits", math.nan), ("classes", -100)])
def test_padded_targets_may_hold_anything(output, filler):
    net = srn(output, stochastic=0.0, every_step=True)
    obs, target = frames(mask=MASK), targets(output, B, T)
    expected = net.log_prob(Batch(obs, MASK, target))
    target[~MASK] = filler
    torch.testing.assert_close(net.log_prob(Batch(obs, MASK, target)), expected)


def test_windows_longer_than_every_sequence_are_refused():
    """T shorter than the window."""
    rolls = [torch.zeros(4, 88), torch.zeros(3, 88)]
    with pytest.raises(ValueError, match="no sequence is longer than a window of 4 frames"):
        PianoRolls(rolls, window=4)
    assert len(PianoRolls(rolls, window=3)) == 1


def test_windows_of_piano_rolls_are_what_the_network_takes():
    """One to many frames in, the next frame out: after each, or after the last."""
    rolls = [(torch.rand(7, 88) < 0.1).float(), (torch.rand(5, 88) < 0.1).float()]
    for every_step in (False, True):
        data = PianoRolls(rolls, window=4, every_step=every_step).batch()
        net = SRN(88, Bernoulli(88), hidden=6, stochastic=0.5, every_step=every_step)
        assert net.log_prob(data, num_samples=2).shape == (len(data),)
        metrics = inference.TargetPropagation(net, num_samples=2).gradients(data)
        assert metrics["frames"] == len(data) * (4 if every_step else 1)
