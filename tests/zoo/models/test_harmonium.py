"""Recurrent harmoniums against enumeration, and contrastive divergence against exact gradients."""

import functools
import itertools
import math

import pytest
import torch
from seqzoo.data import Batch
from seqzoo.inference import ContrastiveDivergence, Fold, sweep
from seqzoo.zoo import REFH, RTRBM, TRBM
from seqzoo.zoo.parts.likelihoods import Bernoulli, Gaussian, Poisson

Visible = functools.partial(TRBM, visible_past=True)
VisibleRTRBM = functools.partial(RTRBM, visible_past=True)
KINDS = [REFH, TRBM, RTRBM, pytest.param(VisibleRTRBM, id="RTRBM-visible")]
every_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind, likelihood, hidden=2, size=0.8, seed=1):
    """A float64 harmonium with every parameter far from zero."""
    net = kind(likelihood.dim, hidden, likelihood).double()
    random = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        value = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
        parameter.data.copy_(size * value)
    return net


def corners(units):
    """All binary vectors, ``[2^units, units]``."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=units)), dtype=torch.float64)


def energy(net, hidden, obs, past):
    """E(x, y, u) of the module's docstring for one x, y and u, as plain sums of products."""
    if isinstance(net.likelihood, Gaussian):
        sd = net.likelihood.scale
        statistic, base = obs / sd, -0.5 * (obs / sd) ** 2 - math.log(sd * math.sqrt(2 * math.pi))
    else:
        poisson = isinstance(net.likelihood, Poisson)
        statistic, base = obs, -torch.lgamma(obs + 1) if poisson else torch.zeros_like(obs)
    total = -(net.obs_bias * statistic).sum() - base.sum()
    for i in range(net.hidden_dim):
        drive = net.hidden_bias[i] + (net.obs_weight[i] * statistic).sum()
        total = total - hidden[i] * (drive + (net.past_weight[i] * past).sum())
    if isinstance(net, REFH):
        total = total - (net.past_bias * past).sum()
    elif net.visible_past:
        total = total - (statistic * (net.visible_weight @ past)).sum()
    return total


def free(net, obs, past):
    """-log sum_x exp(-E) by enumeration of x, ``[N, M], [N, H] -> [N]``."""
    rows = []
    for y, u in zip(obs, past):
        terms = [-energy(net, x, y, u) for x in corners(net.hidden_dim)]
        rows.append(-torch.stack(terms).logsumexp(0))
    return torch.stack(rows)


def joint_states(net, past):
    """All (y, u) that the negative phase of binary visibles may reach from ``past [H]``."""
    obs = corners(net.obs_dim)
    if not isinstance(net, REFH):
        return obs, past.expand(len(obs), -1)
    pairs = list(itertools.product(obs, corners(net.hidden_dim)))
    return tuple(torch.stack(part) for part in zip(*pairs))


def exact_law(net, past):
    """The states of ``joint_states`` and their exact log-probabilities."""
    obs, u = joint_states(net, past)
    return obs, u, (-free(net, obs, u)).log_softmax(0)


def grads(net):
    return {name: value.grad.clone() for name, value in net.named_parameters()}


# Energies -------------------------------------------------------------------------------------

LIKELIHOODS = [Bernoulli(3), Poisson(3), Gaussian(3, scale=0.4)]


@every_kind
@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
@pytest.mark.parametrize("hidden", [2, 4])
def test_free_energy_sums_the_hidden_units_out(kind, likelihood, hidden):
    net = make(kind, likelihood, hidden)
    obs = likelihood.distribution(torch.randn(5, 3, dtype=torch.float64)).sample()
    past = torch.rand(5, hidden, dtype=torch.float64)
    torch.testing.assert_close(net.free_energy(obs, past), free(net, obs, past))


@every_kind
@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_step_is_the_posterior_mean_of_the_hidden_units(kind, likelihood):
    net = make(kind, likelihood, hidden=4)
    obs = likelihood.distribution(torch.randn(5, 3, dtype=torch.float64)).sample()
    past = torch.rand(5, 4, dtype=torch.float64)
    states = corners(4)
    for y, u, mean in zip(obs, past, net.step(net.encode(obs), past)):
        weight = torch.stack([-energy(net, x, y, u) for x in states]).softmax(0)
        torch.testing.assert_close(mean, weight @ states)


@every_kind
@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_emission_is_the_conditional_of_the_energy(kind, likelihood):
    """-E(x, y, u) as a function of y differs from log p(y | x) by a constant of x and u alone."""
    net = make(kind, likelihood, hidden=4)
    obs = likelihood.distribution(torch.randn(6, 3, dtype=torch.float64)).sample()
    past = torch.rand(4, dtype=torch.float64)
    for x in corners(4):
        joint = torch.stack([-energy(net, x, y, past) for y in obs])
        difference = joint - likelihood.distribution(
            net.emission(x, net.visible_bias(past))
        ).log_prob(obs)
        torch.testing.assert_close(difference, difference[:1].expand(6))


def test_past_emission_of_the_refh_is_the_conditional_of_the_energy():
    net = make(REFH, Bernoulli(3), hidden=4)
    obs, states = torch.tensor([1.0, 0, 1]).double(), corners(4)
    for x in states:
        weight = torch.stack([-energy(net, x, obs, u) for u in states]).softmax(0)
        torch.testing.assert_close(torch.sigmoid(net.past_emission(x)), weight @ states)


# Gibbs sampling -------------------------------------------------------------------------------


@every_kind
@torch.no_grad()
def test_gibbs_settles_on_the_exact_law(kind):
    """Frequencies of all states against enumeration, in standard errors."""
    net, chains = make(kind, Bernoulli(3)), 20_000
    past = torch.tensor([1.0, 0.3]).double()
    states_obs, states_past, log_prob = exact_law(net, past)
    obs, u = net.gibbs(torch.zeros(chains, 3).double(), past.expand(chains, 2), 30)
    seen, known = torch.cat((obs, u), 1), torch.cat((states_obs, states_past), 1)
    matches = (seen[:, None] == known).all(-1)
    assert matches.any(1).all()
    prob, frequency = log_prob.exp(), matches.double().mean(0)
    error = (frequency - prob) / (prob * (1 - prob) / chains).sqrt()
    assert error.abs().max() < 4.5


@every_kind
@pytest.mark.parametrize(
    ("likelihood", "grid"),
    [(Poisson(2), torch.arange(60.0)), (Gaussian(2, scale=0.4), torch.linspace(-4, 4, 161))],
    ids=["poisson", "gaussian"],
)
@torch.no_grad()
def test_gibbs_with_u_clamped_has_the_moments_of_the_free_energy(kind, likelihood, grid):
    """Mean and standard deviation of y given u, against sums of exp(-F) over a grid."""
    net, chains = make(kind, likelihood, hidden=3, size=0.6), 20_000
    past = torch.tensor([1.0, 0.3, 0.0]).double()
    points = torch.cartesian_prod(grid, grid).double()
    weight = (-net.free_energy(points, past.expand(len(points), 3))).softmax(0)
    mean = weight @ points
    sd = (weight @ points**2 - mean**2).sqrt()
    obs, _ = net.gibbs(mean.round().expand(chains, 2), past.expand(chains, 3), 30, clamp_past=True)
    assert ((obs.mean(0) - mean) / (sd / chains**0.5)).abs().max() < 4.5
    torch.testing.assert_close(obs.std(0), sd, rtol=0.03, atol=0)


@pytest.mark.parametrize(("kind", "clamp"), [(TRBM, False), (RTRBM, False), (REFH, True)])
def test_gibbs_leaves_a_clamped_u_alone(kind, clamp):
    net = make(kind, Bernoulli(3))
    past = torch.rand(50, 2).double()
    copy = past.clone()
    obs, u = net.gibbs(torch.zeros(50, 3).double(), past, 3, clamp_past=clamp)
    assert u is past
    assert torch.equal(past, copy)
    assert obs.any()


def test_gibbs_resamples_the_u_of_a_refh():
    past = torch.full((50, 2), 0.25).double()
    _, u = make(REFH, Bernoulli(3)).gibbs(torch.zeros(50, 3).double(), past, 1)
    assert ((u == 0) | (u == 1)).all()
    assert (past == 0.25).all(), "the caller's tensor was changed"


# Contrastive divergence -----------------------------------------------------------------------


@every_kind
def test_cd_with_exact_negatives_is_maximum_likelihood(kind, monkeypatch):
    """Expected over the exact model law, CD's gradient is that of the enumerated -log p."""
    net = make(kind, Bernoulli(3))
    obs = torch.tensor([[1.0, 0, 1], [0, 0, 1]]).double()
    past = torch.tensor([[0.9, 0.2], [0.0, 0.6]]).double()

    likelihood = 0.0
    for y, u in zip(obs, past):
        states_obs, states_past = joint_states(net, u)
        log_partition = (-free(net, states_obs, states_past)).logsumexp(0)
        likelihood = likelihood + free(net, y[None], u[None])[0] + log_partition
    net.zero_grad()
    likelihood.backward()
    expected = grads(net)

    rule = ContrastiveDivergence(net, through_time=False)
    total = {name: torch.zeros_like(value) for name, value in expected.items()}
    for y, u in zip(obs, past):
        for state_obs, state_past, log_prob in zip(*exact_law(net, u)):
            negative = state_obs[None], state_past[None]
            monkeypatch.setattr(net, "gibbs", lambda *_, negative=negative: negative)
            net.zero_grad()
            rule.loss(Fold(y[None], u[None])).backward()
            for name, value in grads(net).items():
                total[name] += log_prob.exp().detach() * value
    for name, value in expected.items():
        assert value.abs().max() > 1e-3
        torch.testing.assert_close(total[name], value)


def ragged(likelihood, steps=5):
    """Three sequences of 5, 3 and 4 frames."""
    obs = likelihood.distribution(torch.zeros(3, steps, likelihood.dim).double()).sample()
    mask = torch.ones(3, steps, dtype=torch.bool)
    mask[1, 3:] = False
    mask[2, 4:] = False
    return Batch(obs, mask)


def fixed_negatives(net, batch, monkeypatch):
    """Makes the negative phase return one stored draw for every frame, ``[B, T, M]`` and u."""
    random = torch.Generator().manual_seed(7)
    shape = (*batch.mask.shape, net.hidden_dim)
    obs = batch.obs.flip(0).flip(1).masked_fill(~batch.mask[..., None], 0.0)
    past = torch.bernoulli(torch.full(shape, 0.5), generator=random).double()

    def gibbs(_obs, given, _steps):
        return obs[batch.mask], given if net.clamps_past else past[batch.mask]

    monkeypatch.setattr(net, "gibbs", gibbs)
    return obs, past


def reverse_recursion(net, batch, negative):
    """Sutskever, Hinton & Taylor (2009) for sigmoid units, one frame of one sequence at a time."""
    likelihood = net.likelihood
    gradient = {name: torch.zeros_like(value) for name, value in net.named_parameters()}
    W, V, b = net.obs_weight.data, net.past_weight.data, net.hidden_bias.data
    for obs, other, mask in zip(batch.obs, negative, batch.mask):
        frames = [t for t in range(len(mask)) if mask[t]]
        past, records = torch.zeros(net.hidden_dim).double(), []
        for t in frames:
            y, n = likelihood.statistic(obs[t]), likelihood.statistic(other[t])
            u = torch.sigmoid(W @ y + V @ past + b)
            records.append((y, n, past, u, torch.sigmoid(W @ n + V @ past + b)))
            past = u
        later = torch.zeros(net.hidden_dim).double()  # derivative of later frames in u_t
        for y, n, before, u, v in reversed(records):
            through = later * u * (1 - u) if net.through_time else torch.zeros_like(u)
            gradient["obs_weight"] += torch.outer(v, n) - torch.outer(u, y)
            gradient["obs_weight"] += torch.outer(through, y)
            gradient["past_weight"] += torch.outer(v - u + through, before)
            gradient["hidden_bias"] += v - u + through
            gradient["obs_bias"] += n - y
            later = V.T @ (v - u + through)
            if net.visible_past:
                gradient["visible_weight"] += torch.outer(n - y, before)
                later = later + net.visible_weight.data.T @ (n - y)
    return {name: value / batch.frames for name, value in gradient.items()}


@pytest.mark.parametrize("kind", [TRBM, RTRBM, Visible, VisibleRTRBM])
@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_gradient_is_the_reverse_recursion(kind, likelihood, monkeypatch):
    net = make(kind, likelihood, hidden=4)
    batch = ragged(likelihood)
    negative, _ = fixed_negatives(net, batch, monkeypatch)
    ContrastiveDivergence(net).gradients(batch)
    expected = reverse_recursion(net, batch, negative)
    for name, value in grads(net).items():
        torch.testing.assert_close(value, expected[name])


def difference(net, batch, negative, statistics=None):
    """Mean over real frames of F(data) - F(negative), u recomputed unless given."""
    total = 0.0
    for row, mask in enumerate(batch.mask):
        past = torch.zeros(1, net.hidden_dim).double()
        for t in range(len(mask)):
            if not mask[t]:
                continue
            if statistics is not None:
                past = statistics[row, t][None]
            y, n = batch.obs[row, t][None], negative[row, t][None]
            total += net.free_energy(y, past) - net.free_energy(n, past)
            past = net.step(net.encode(y), past)
    return total.item() / batch.frames


@pytest.mark.parametrize("kind", [TRBM, RTRBM])
def test_gradient_is_a_finite_difference(kind, monkeypatch):
    """With negatives held, the RTRBM's gradient is total; the TRBM's holds u as well."""
    net = make(kind, Bernoulli(3), hidden=2)
    batch = ragged(net.likelihood)
    negative, _ = fixed_negatives(net, batch, monkeypatch)
    ContrastiveDivergence(net).gradients(batch)
    actual, step = grads(net), 1e-5
    with torch.no_grad():
        held = None
        if not net.through_time:
            held = sweep(net, batch, net.initial(3)).statistics
        for name, parameter in net.named_parameters():
            for index in itertools.product(*map(range, parameter.shape)):
                parameter[index] += step
                above = difference(net, batch, negative, held)
                parameter[index] -= 2 * step
                below = difference(net, batch, negative, held)
                parameter[index] += step
                slope = (above - below) / (2 * step)
                assert actual[name][index].item() == pytest.approx(slope, abs=1e-8)


def test_refh_gradient_with_held_statistics(monkeypatch):
    """u is data in the positive phase and a sample in the negative one: sums of outer products."""
    net = make(REFH, Bernoulli(3), hidden=4)
    batch = ragged(net.likelihood)
    negative, sample = fixed_negatives(net, batch, monkeypatch)
    ContrastiveDivergence(net).gradients(batch)
    with torch.no_grad():
        before = sweep(net, batch, net.initial(3)).statistics[:, :-1]
        y, n = batch.obs[batch.mask], negative[batch.mask]
        u, w = before[batch.mask], sample[batch.mask]
        x = torch.sigmoid(y @ net.obs_weight.T + u @ net.past_weight.T + net.hidden_bias)
        z = torch.sigmoid(n @ net.obs_weight.T + w @ net.past_weight.T + net.hidden_bias)
    expected = {
        "obs_weight": z.T @ n - x.T @ y,
        "past_weight": z.T @ w - x.T @ u,
        "hidden_bias": (z - x).sum(0),
        "obs_bias": (n - y).sum(0),
        "past_bias": (w - u).sum(0),
    }
    for name, value in grads(net).items():
        torch.testing.assert_close(value, expected[name] / batch.frames)


def test_only_the_rtrbm_sends_a_gradient_through_time():
    batch = ragged(Bernoulli(3))
    gradient = {}
    for kind in (TRBM, RTRBM):
        net = make(kind, Bernoulli(3), hidden=4)
        for through_time in (None, False, True):
            torch.manual_seed(5)
            ContrastiveDivergence(net, through_time=through_time).gradients(batch)
            gradient[kind, through_time] = net.past_weight.grad
    assert torch.equal(gradient[TRBM, None], gradient[TRBM, False])
    assert torch.equal(gradient[RTRBM, None], gradient[RTRBM, True])
    assert torch.equal(gradient[RTRBM, False], gradient[TRBM, None])
    assert (gradient[RTRBM, None] - gradient[TRBM, None]).abs().max() > 1e-3


def test_nothing_after_a_frame_changes_the_statistics_it_finds():
    net = make(RTRBM, Bernoulli(3), hidden=4)
    obs = torch.bernoulli(torch.full((2, 6, 3), 0.5)).double()
    other = obs.clone()
    other[:, 4] = 1 - other[:, 4]
    first, second = net.filter(obs).mean, net.filter(other).mean
    assert torch.equal(first[:, :4], second[:, :4])
    assert (first[:, 4:] - second[:, 4:]).abs().amax((0, 2)).min() > 1e-4


@every_kind
def test_padding_changes_no_gradient(kind, monkeypatch):
    net = make(kind, Bernoulli(3), hidden=4)
    obs = torch.bernoulli(torch.full((2, 4, 3), 0.5)).double()
    monkeypatch.setattr(net, "gibbs", lambda y, u, _: (1 - y, u))
    rule = ContrastiveDivergence(net)
    rule.gradients(Batch(obs))
    expected = grads(net)
    padded = torch.cat((obs, torch.full((2, 3, 3), math.nan).double()), 1)
    rule.gradients(Batch(padded, torch.arange(7).expand(2, 7) < 4))
    for name, value in grads(net).items():
        torch.testing.assert_close(value, expected[name])


@every_kind
def test_more_gibbs_steps_are_taken_with_more_k(kind, monkeypatch):
    net, asked = make(kind, Bernoulli(3)), []
    gibbs = net.gibbs
    monkeypatch.setattr(net, "gibbs", lambda y, u, steps: asked.append(steps) or gibbs(y, u, steps))
    ContrastiveDivergence(net, k=4).gradients(ragged(net.likelihood))
    assert asked == [4]


@pytest.mark.parametrize("kind", [REFH, TRBM])
def test_drawn_pasts_are_binary_with_the_means_of_the_recursion(kind, monkeypatch):
    """With ``sample_past`` frame 1 finds a draw of u_0, and frame 2 one of u_1 given that draw."""
    net, rows, seen = make(kind, Bernoulli(3), hidden=2), 20_000, []
    obs = torch.tensor([[1.0, 0, 1], [0, 1, 1], [1, 1, 0]]).double().expand(rows, 3, 3)
    monkeypatch.setattr(net, "gibbs", lambda y, u, _: seen.append(u) or (y, u))
    ContrastiveDivergence(net, sample_past=True, chunk=3 * rows).gradients(Batch(obs))
    past = seen[0].reshape(rows, 3, 2)
    assert ((past == 0) | (past == 1)).all()
    assert (past[:, 0] == 0).all()
    with torch.no_grad():
        first = net.step(net.encode(obs[:1, 0]), past[:1, 0])
        second = net.step(net.encode(obs[:, 1]), past[:, 1])
    for t, mean in ((1, first.expand(rows, 2)), (2, second)):
        error = (past[:, t] - mean).sum(0) / (mean * (1 - mean)).sum(0).sqrt()
        assert error.abs().max() < 4.5


# Filtering and generation ---------------------------------------------------------------------


@every_kind
def test_filter_is_the_recursion_written_out(kind):
    net = make(kind, Poisson(3), hidden=4)
    batch = ragged(net.likelihood)
    filtered = net.filter(batch)
    weight, recurrent = net.obs_weight.data, net.past_weight.data
    for obs, mask, mean in zip(batch.obs, batch.mask, filtered.mean):
        u = torch.zeros(4).double()
        for t in range(5):
            if mask[t]:
                drive = weight @ obs[t] + recurrent @ u + net.hidden_bias.data
                u = 1 / (1 + (-drive).exp())
            torch.testing.assert_close(mean[t], u)
    torch.testing.assert_close(filtered.variance, filtered.mean * (1 - filtered.mean))
    log_rates = filtered.mean @ weight + net.obs_bias.data
    if not isinstance(net, REFH) and net.visible_past:
        before = torch.cat((torch.zeros(len(batch), 1, 4), filtered.mean[:, :-1]), 1).double()
        log_rates = log_rates + before @ net.visible_weight.data.T
    rates = log_rates.exp()
    torch.testing.assert_close(net.reconstruct(batch), rates)


@every_kind
@torch.no_grad()
def test_first_generated_frame_has_the_exact_law(kind):
    """p(y_1 | u_0 = 0) by enumeration, against frequencies."""
    net, chains = make(kind, Bernoulli(3)), 10_000
    states = corners(3)
    prob = (-free(net, states, torch.zeros(8, 2).double())).softmax(0)
    frames = net.sample(chains, 1)[:, 0].double()
    frequency = (frames[:, None] == states).all(-1).double().mean(0)
    assert ((frequency - prob) / (prob * (1 - prob) / chains).sqrt()).abs().max() < 4.5


@every_kind
@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_samples_have_a_shape_a_support_and_a_seed(kind, likelihood):
    net = make(kind, likelihood, hidden=4, size=0.3)
    sample = net.sample(5, 6, seed=1, gibbs_steps=2)
    assert sample.shape == (5, 6, 3)
    net.check(sample)
    torch.manual_seed(99)
    assert torch.equal(sample, net.sample(5, 6, seed=1, gibbs_steps=2))
    assert not torch.equal(sample, net.sample(5, 6, seed=2, gibbs_steps=2))
    assert not sample.requires_grad


# Bad arguments --------------------------------------------------------------------------------


@every_kind
def test_harmonium_rejects_bad_sizes(kind):
    with pytest.raises(ValueError, match="obs_dim is 4"):
        kind(4, 2, Bernoulli(3))
    with pytest.raises(ValueError, match="hidden_dim"):
        kind(3, 0, Bernoulli(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k must be"),
        ({"window": 0}, "window must be"),
        ({"minibatch": 0}, "minibatch must be"),
        ({"minibatch": 4}, "through_time"),
        ({"sample_past": True}, "sample_past"),
    ],
)
def test_contrastive_divergence_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        ContrastiveDivergence(make(RTRBM, Bernoulli(3)), **arguments)


@every_kind
def test_data_outside_the_support_are_refused(kind):
    net = make(kind, Bernoulli(3))
    bad = torch.full((2, 4, 3), 0.5).double()
    with pytest.raises(ValueError, match="Bernoulli data"):
        net.filter(bad)
    with pytest.raises(ValueError, match="Bernoulli data"):
        ContrastiveDivergence(net).gradients(Batch(bad))


def test_visible_biases_begin_at_a_mean_that_is_given():
    net = TRBM(3, 2, Bernoulli(3), obs_mean=0.06)
    torch.testing.assert_close(torch.sigmoid(net.obs_bias), torch.full((3,), 0.06))
    assert not TRBM(3, 2, Bernoulli(3)).obs_bias.any()
