"""Filter, smoother and EM against the joint Gaussian of a whole trajectory."""

import math
import os
from types import SimpleNamespace

import numpy as np
import pyro
import pytest
import torch
from scipy import stats
from seqzoo.data import PPC, Batch, ppc
from seqzoo.inference import EM, LinearGaussian, kalman_filter, kalman_smoother
from seqzoo.inference.linear import fast
from seqzoo.inference.linear.kalman import predictions
from seqzoo.inference.linear.m_step import fit_states, symmetric
from seqzoo.inference.linear.system import Readings
from seqzoo.inference.rules import em
from seqzoo.zoo import LGDS
from seqzoo.zoo.parts.readouts import Readout
from seqzoo.zoo.recipes.population import PopulationReadout, SpringFilter

from seqzoo import zoo

K, D, T, B, INPUTS = 3, 2, 5, 4, 2


def random_system(seed=0, states=K, values=D, general=False):
    """A stable system with full matrices everywhere; ``general`` has the optional parts, too."""
    random = np.random.default_rng(seed)
    dynamics = 0.5 * np.eye(states) + 0.3 * random.normal(size=(states, states))
    process, start = (random.normal(size=(states, states + 1)) for _ in range(2))
    parts = (
        dynamics,
        process @ process.T / 4,
        random.normal(size=(values, states)),
        random.normal(size=states),
        start @ start.T,
    )
    if general:
        noise = random.normal(size=(values, values + 1))
        parts += random.normal(size=values), noise @ noise.T
        parts += tuple(random.normal(size=(size, INPUTS)) for size in (states, values))
    return LinearGaussian(*map(torch.tensor, parts))


def random_data(seed=0, steps=T, rows=B, values=D):
    """Observations and variances that differ from value to value and step to step."""
    random = np.random.default_rng(seed + 100)
    obs = 2 * random.normal(size=(rows, steps, values))
    return torch.tensor(obs), torch.tensor(random.uniform(0.2, 3.0, size=obs.shape))


MASKS = {
    "none": None,
    "padding": torch.arange(T) < torch.tensor([5, 3, 1, 4])[:, None],
    "gaps": torch.tensor([[1, 0, 0, 1, 1], [1, 1, 0, 1, 0], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]) > 0,
    "before": torch.tensor([[0, 0, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 1, 0]])
    > 0,
}
#: A mask, and the fraction of values that are missing one by one.
CASES = {name: (mask, 0.0) for name, mask in MASKS.items()} | {
    "values": (None, 0.3),
    "values and gaps": (MASKS["gaps"], 0.3),
    "values and padding": (MASKS["before"], 0.3),
    "few values": (MASKS["padding"], 0.8),
}
every_case = pytest.mark.parametrize(("mask", "holes"), CASES.values(), ids=CASES.keys())
every_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())


def with_holes(variance, holes):
    """Variances of which some are infinite."""
    away = np.random.default_rng(7).random(variance.shape) < holes
    return variance.masked_fill(torch.tensor(away), math.inf)


def random_inputs(steps=T, rows=B):
    return torch.tensor(np.random.default_rng(5).normal(size=(rows, steps, INPUTS)))


def joint(model, steps, start=0, inputs=None):
    """Mean and covariance of (x_1 .. x_T), stacked; x_1 stays as it is up to step ``start``."""
    moves = model[:2]
    m, P = (part.numpy() for part in model[3:5])
    size = len(m)
    mean, cov = np.zeros((steps, size)), np.zeros((steps, size, steps, size))
    mean[0], cov[0, :, 0] = m, P
    for t in range(1, steps):
        A, Q = (np.eye(size), 0.0) if t <= start else (part.numpy() for part in moves)
        mean[t] = A @ mean[t - 1]
        if model.input_dynamics is not None and t > start:
            mean[t] += model.input_dynamics.numpy() @ inputs[t]
        for s in range(t):
            cov[t, :, s] = A @ cov[t - 1, :, s]
            cov[s, :, t] = cov[t, :, s].T
        cov[t, :, t] = A @ cov[t - 1, :, t - 1] @ A.T + Q
    return mean.ravel(), cov.reshape(steps * size, steps * size)


def condition(model, obs, variance, seen, start=0, inputs=None):
    """Posterior over the whole path given the values in ``seen``, and their log-density."""
    mean, cov = joint(model, len(obs), start, inputs)
    keep = seen.ravel()
    C = np.kron(np.eye(len(obs)), model.emission.numpy())[keep]
    R = np.diag(variance.ravel()[keep])
    if model.noise is not None:
        R = R + np.kron(np.eye(len(obs)), model.noise.numpy())[np.ix_(keep, keep)]
    if model.offset is not None:
        obs = obs - model.offset.numpy()
    if model.input_emission is not None:
        obs = obs - inputs @ model.input_emission.numpy().T
    y = obs.ravel()[keep]
    if len(y) == 0:
        return mean, cov, 0.0
    S = C @ cov @ C.T + R
    gain = np.linalg.solve(S, C @ cov).T
    log_prob = stats.multivariate_normal(C @ mean, S).logpdf(y)
    return mean + gain @ (y - C @ mean), cov - gain @ C @ cov, log_prob


def as_arrays(obs, variance, mask):
    """Values, variances, which values were seen, and the first real step, of each sequence."""
    real = np.ones(obs.shape[:2], bool) if mask is None else mask.numpy()
    seen = real[..., None] & np.isfinite(variance.numpy())
    return zip(obs.numpy(), variance.numpy(), seen, real.argmax(1))


def compare(model, obs, variance, mask=None, inputs=None, compiled=None, atol=1e-9):
    """Filter and smoother with the posterior given every past, and given all."""
    forward = kalman_filter(model, obs, variance, mask, inputs, compiled)
    beliefs = kalman_smoother(model, obs, variance, mask, inputs, compiled)
    rows, steps, size = beliefs.mean.shape
    assert beliefs.covariance.shape == (rows, steps, size, size)
    assert beliefs.lagged.shape == (rows, steps - 1, size, size)
    if inputs is not None:  # those of frames that are not real count as zero
        inputs = (inputs if mask is None else inputs * mask[..., None]).numpy()
    for row, (y, r, seen, start) in enumerate(as_arrays(obs, variance, mask)):
        given = start, None if inputs is None else inputs[row]
        for t in range(steps):
            past = seen & (np.arange(steps) <= t)[:, None]
            mean, cov, log_prob = condition(model, y, r, past, *given)
            part = slice(t * size, (t + 1) * size)
            np.testing.assert_allclose(forward.mean[row, t], mean[part], atol=atol)
            np.testing.assert_allclose(forward.covariance[row, t], cov[part, part], atol=atol)
            np.testing.assert_allclose(
                forward.variance[row, t], cov[part, part].diagonal(), atol=atol
            )
        cov = cov.reshape(steps, size, steps, size)
        np.testing.assert_allclose(beliefs.mean[row], mean.reshape(steps, size), atol=atol)
        for t in range(steps):
            np.testing.assert_allclose(beliefs.covariance[row, t], cov[t, :, t], atol=atol)
        for t in range(steps - 1):
            np.testing.assert_allclose(beliefs.lagged[row, t], cov[t + 1, :, t], atol=atol)
        for found in (forward, beliefs):
            assert found.log_likelihood[row].item() == pytest.approx(log_prob, abs=atol, rel=1e-9)


def own_noise(model, kind):
    """The system with none, diagonal or full noise of its own."""
    if kind == "none":
        return model._replace(noise=None)
    return model if kind == "full" else model._replace(noise=torch.diag(model.noise.diagonal()))


both_forms = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])


@both_forms
@pytest.mark.parametrize("general", [False, True], ids=["plain", "general"])
@every_case
def test_beliefs_against_the_joint_gaussian(mask, holes, general, compiled):
    model, (obs, variance) = random_system(general=general), random_data()
    inputs = random_inputs() if general else None
    if general and compiled:
        model = own_noise(model, "diagonal")  # full noise has one transformation of all frames
    compare(model, obs, with_holes(variance, holes), mask, inputs, compiled)


@both_forms
@pytest.mark.parametrize("kind", ["none", "diagonal", "full"])
@pytest.mark.parametrize(("states", "values"), [(1, 4), (2, 6), (4, 1)])
@pytest.mark.parametrize("missing", ["frames", "channel", "values"])
def test_systems_of_any_size_against_the_joint_gaussian(states, values, kind, missing, compiled):
    """Fewer states than values, and more; variances of values that do not change in time."""
    model = own_noise(random_system(1, states, values, general=True), kind)
    obs, variance = random_data(values=values)
    variance = variance[:1, :1].expand_as(obs).clone()
    if missing == "channel":
        variance[..., 0] = math.inf
    if missing == "values":
        variance = with_holes(variance, 0.2)
    mask = MASKS["before"] if missing == "frames" else None
    if (missing, kind, compiled) == ("values", "full", True) and values > 1:
        with pytest.raises(ValueError, match="compiled form does not apply: full noise"):
            kalman_filter(model, obs, variance, mask, random_inputs(), compiled)
        return
    compare(model, obs, variance, mask, random_inputs(), compiled)


@both_forms
@pytest.mark.parametrize("part", ["offset", "noise", "input_dynamics", "input_emission"])
def test_each_optional_part_counts_by_itself(part, compiled):
    whole, (obs, variance) = random_system(general=True), random_data()
    model = random_system()._replace(**{part: getattr(whole, part)})
    inputs = random_inputs() if "input" in part else None
    compare(model, obs, torch.ones_like(variance), None, inputs, compiled)


@both_forms
@pytest.mark.parametrize(
    ("process", "root"), [(1e-14, 0.999999), (0.0, 1.0), (1e8, 0.0)], ids=["near", "none", "vast"]
)
def test_extreme_systems_against_the_joint_gaussian(process, root, compiled):
    """Roots at one, and process noise of (nearly) rank one."""
    model, (obs, variance) = random_system(general=True), random_data()
    turn = torch.linalg.qr(model.dynamics).Q
    first = torch.diag(torch.tensor([1.0, process, process], dtype=torch.float64))
    model = model._replace(dynamics=root * turn, process=turn @ first @ turn.mT)
    model = model._replace(noise=torch.diag(model.noise.diagonal()))
    compare(model, obs, variance, None, random_inputs(), compiled, 1e-8 * max(process, 1.0))


@pytest.mark.parametrize("low", [1.0, 1e-14, 0.0], ids=["regular", "near-singular", "singular"])
@pytest.mark.parametrize("decades", [0, 12])
def test_both_forms_agree(low, decades):
    """Data of the system, a tenth missing, variances from 1e-12 to 1e12; two blocks of lanes."""
    random = np.random.default_rng(3)
    rows, steps = 33, 60
    model = random_system(values=4)
    turn = torch.linalg.qr(model.dynamics).Q
    noise = torch.tensor([0.3, low, low * 1e-2]).double()
    process = symmetric(turn @ torch.diag(noise) @ turn.mT)
    model = model._replace(dynamics=0.9999 * turn, process=process)
    variance = torch.tensor(10 ** random.uniform(-decades, decades, (rows, steps, 4)))
    states = model.initial_mean + torch.tensor(random.normal(size=(rows, 3)))
    obs = variance.sqrt() * torch.tensor(random.normal(size=variance.shape))
    for t in range(steps):
        obs[:, t] += states @ model.emission.mT
        moved = torch.tensor(random.normal(size=(rows, 3))) * noise.sqrt()
        states = states @ model.dynamics.mT + moved @ turn.mT
    variance = with_holes(variance, 0.1)
    for system in (model, model._replace(process=torch.stack((process, 2 * process)))):
        found = kalman_smoother(system, obs, variance, compiled=True)
        expected = kalman_smoother(system, obs, variance, compiled=False)
        for first, second in zip(found, expected):
            torch.testing.assert_close(first, second, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda m: m.map(lambda part: part.float()), "torch.float32"),
        (lambda m: m._replace(dynamics=m.dynamics.clone().requires_grad_()), "no gradient"),
        (None, "numba is not installed"),
    ],
)
def test_where_the_compiled_form_does_not_apply_the_other_runs(change, word, monkeypatch):
    model, (obs, variance) = random_system(), random_data()
    expected = kalman_smoother(model, obs, variance, compiled=False)
    if change is None:
        monkeypatch.setattr(fast, "kernel", lambda: None)
    else:
        model = change(model)
    with pytest.raises(ValueError, match=word):
        kalman_smoother(model, obs, variance, compiled=True)
    found = kalman_smoother(model, obs, variance)
    torch.testing.assert_close(found.mean.double(), expected.mean, atol=1e-5, rtol=1e-5)
    if "gradient" in word:
        assert found.log_likelihood.requires_grad
        with torch.no_grad():
            kalman_smoother(model, obs, variance, compiled=True)


def test_both_forms_name_the_frame_at_which_float64_does_not_suffice():
    model, (obs, variance) = random_system(), random_data()
    obs[2, 3] = 1e200
    for compiled in (True, False):
        with pytest.raises(ValueError, match="float64 does not suffice at frame 3"):
            kalman_smoother(model, obs, variance, compiled=compiled)


@pytest.mark.parametrize("run", [kalman_filter, kalman_smoother])
def test_a_missing_value_is_the_limit_of_a_large_variance(run):
    """One of two sensors: the other counts. The large variance itself costs log-likelihood."""
    model, (obs, variance) = random_system(), random_data()
    away = torch.zeros_like(variance, dtype=torch.bool)
    away[:, 1:3, 0] = away[0, 4] = True
    found = run(model, obs.masked_fill(away, math.nan), variance.masked_fill(away, math.inf))
    limit = run(model, obs, variance.masked_fill(away, 1e12))
    torch.testing.assert_close(found.mean, limit.mean, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.covariance, limit.covariance, atol=1e-9, rtol=0)
    cost = away.double().sum((1, 2)) * math.log(2 * math.pi * 1e12) / 2
    torch.testing.assert_close(found.log_likelihood, limit.log_likelihood + cost, atol=1e-7, rtol=0)


def test_a_state_without_noise_is_smoothed():
    """Where no noise enters, one-step covariances are singular: so they are in many systems."""
    model, (obs, variance) = random_system(), random_data()
    first = torch.tensor([1.0, 0.0, 0.0]).double()
    dynamics = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).double()
    still = torch.diag(first)
    model = model._replace(dynamics=dynamics, process=still, initial_covariance=still)
    beliefs = kalman_smoother(model, obs, variance)
    for row, (y, r, seen, _) in enumerate(as_arrays(obs, variance, None)):
        mean, _, _ = condition(model, y, r, seen)
        np.testing.assert_allclose(beliefs.mean[row], mean.reshape(T, K), atol=1e-9)


def driven(model):
    """The system with two inputs on its states."""
    return model._replace(input_dynamics=model.emission.mT)


NAN, INF = torch.tensor(math.nan), torch.tensor(math.inf)


@pytest.mark.parametrize("run", [kalman_filter, kalman_smoother])
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda m, y, r: (m, y, r * NAN), "variance has NaN"),
        (lambda m, y, r: (m, y, -r), "negative"),
        (lambda m, y, r: (m, y, r * -INF), "negative"),
        (lambda m, y, r: (m, y, r[:2, :1, :1]), "variance must have"),
        (lambda m, y, r: (m, y, r[:1, :1]), "variance must have"),
        (lambda m, y, r: (m, y, r[0, 0, 0]), "variance must have"),
        (lambda m, y, r: (m, y, 1.0), "variance must be a tensor"),
        (lambda m, y, r: (m, y * NAN, r), "obs has NaN"),
        (lambda m, y, r: (m, y + INF, r), "obs has NaN or Inf"),
        (lambda m, y, r: (m, y[..., :1], r[..., :1]), "emission has 2 rows"),
        (lambda m, y, r: (m, y[0], r[0]), "obs must be"),
        (lambda m, y, r: (m, y[:0], r[:0]), "obs must be"),
        (lambda m, y, r: (m, y.numpy(), r), "obs must be a tensor"),
        (lambda m, y, r: (m, y, r, torch.ones(B, T)), "mask must be"),
        (lambda m, y, r: (m, y, r, torch.ones(B, 1) > 0), "mask must be"),
        (lambda m, y, r: (m._replace(dynamics=m.dynamics * NAN), y, r), "dynamics has NaN"),
        (lambda m, y, r: (m._replace(dynamics=m.dynamics[:1, :1]), y, r), "process must end"),
        (lambda m, y, r: (m._replace(initial_mean=m.initial_mean[:1]), y, r), "initial_mean"),
        (lambda m, y, r: (m._replace(emission=m.emission[0]), y, r), "emission"),
        (lambda m, y, r: (m._replace(process=-m.process), y, r), "process must be a covar"),
        (lambda m, y, r: (m._replace(process=m.process.tril()), y, r), "process must be a covar"),
        (lambda m, y, r: (m._replace(initial_mean=m.initial_mean.long()), y, r), "floating"),
        (lambda m, y, r: (m._replace(emission=m.emission.float()), y, r), "emission"),
        (lambda m, y, r: (m._replace(dynamics=m.dynamics.expand(2, 3, 3).repeat(1, 1, 1),
                                     process=m.process.repeat(3, 1, 1)), y, r), "leading"),
        (lambda m, y, r: (m._replace(offset=m.emission[:1, 0]), y, r), "offset must end"),
        (lambda m, y, r: (m._replace(noise=-torch.eye(D).double()), y, r), "noise must be a covar"),
        (lambda m, y, r: (m._replace(noise=torch.eye(D)), y, r), "noise is torch.float32"),
        (lambda m, y, r: (m._replace(input_emission=m.emission), y, r), "give inputs"),
        (lambda m, y, r: (driven(m), y, r, None, y[:, 1:]), "inputs must be"),
        (lambda m, y, r: (driven(m), y, r, None, y.tolist()), "inputs must be a tensor"),
        (lambda m, y, r: (driven(m), y, r, None, y * NAN), "no missing values"),
        (lambda m, y, r: (driven(m)._replace(input_emission=m.emission), y, r, None, y),
         "input_dynamics must end"),
        (lambda m, y, r: (m, y, r, None, y), "takes no inputs"),
        (lambda m, y, r: (m, 0 * y, 0 * r + 1e-300 * 0, None), None),
        (lambda m, y, r: (m._replace(dynamics=m.dynamics * 1e90), y, r), "suffice at frame"),
        (lambda m, y, r: (m._replace(emission=0 * m.emission), y, 0 * r), "frame 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_filtered_is_refused_in_a_sentence(run, change, word):
    arguments = change(random_system(), *random_data())
    if word is None:  # a variance of zero is an exact value
        assert run(*arguments).mean.isfinite().all()
        return
    with pytest.raises(ValueError, match=word):
        run(*arguments)


@pytest.mark.parametrize("side", ["after", "before"])
@pytest.mark.parametrize("run", [kalman_filter, kalman_smoother])
def test_padding_changes_nothing(run, side):
    model, (obs, variance) = random_system(), random_data()
    plain = run(model, obs, variance)
    extra = torch.full((B, 2, D), math.nan)
    mask, real = (torch.arange(T + 2) < T).expand(B, T + 2), slice(0, T)
    pair = [(obs, extra), (variance, extra)]
    if side == "before":
        mask, real, pair = mask.flip(1), slice(2, T + 2), [both[::-1] for both in pair]
    padded = run(model, *(torch.cat(both, 1) for both in pair), mask)
    torch.testing.assert_close(padded.mean[:, real], plain.mean)
    torch.testing.assert_close(padded.covariance[:, real], plain.covariance)
    torch.testing.assert_close(padded.log_likelihood, plain.log_likelihood)


def test_a_padded_frame_is_predicted():
    model, (obs, variance) = random_system(), random_data()
    beliefs = kalman_filter(model, obs, variance, MASKS["padding"])
    before, after = beliefs.mean[2, 0], beliefs.mean[2, 1]
    torch.testing.assert_close(after, model.dynamics @ before)


def test_filtering_keeps_covariances_positive():
    """Joseph's form: a vague start and observations a billion times as exact as the state."""
    model, (obs, _) = random_system(), random_data(steps=300, rows=1)
    model = model._replace(initial_covariance=1e6 * model.initial_covariance)
    covariance = kalman_filter(model, obs, torch.full_like(obs, 1e-9)).covariance
    scale = covariance.diagonal(dim1=-2, dim2=-1).amax(-1)
    assert ((covariance - covariance.mT).abs().amax((-2, -1)) / scale).max() < 3e-12
    assert (torch.linalg.eigvalsh(covariance)[..., 0] / scale).min() > 0


@pytest.mark.parametrize("general", [False, True], ids=["plain", "general"])
@every_mask
def test_leading_axes_are_separate_models(mask, general):
    models = [random_system(seed, general=general) for seed in range(3)]
    obs, variance = random_data()
    inputs = random_inputs() if general else None
    stacked = models[0].map(lambda *parts: torch.stack(parts), *models[1:])
    together = kalman_smoother(stacked, obs, variance, mask, inputs)
    real = torch.ones(B, T, dtype=torch.bool) if mask is None else mask
    step = fit_states(stacked, together, Readings(obs, variance, real))
    ahead = predictions(stacked, together, mask, inputs)
    for index, model in enumerate(models):
        alone = kalman_smoother(model, obs, variance, mask, inputs)
        expected = fit_states(model, alone, Readings(obs, variance, real))
        pairs = (together, alone), (ahead, predictions(model, alone, mask, inputs))
        for stack, one in (*pairs, (step[:5], expected[:5])):
            for first, second in zip(stack, one):
                torch.testing.assert_close(first[index], second)


def test_what_is_in_a_frame_that_is_not_real_does_not_matter():
    model, (obs, variance) = random_system(general=True), random_data()
    away, inputs = ~MASKS["before"][..., None], random_inputs()
    found = [
        kalman_smoother(
            model,
            *(part.masked_fill(away, fill) for part in (obs, variance)),
            MASKS["before"],
            inputs.masked_fill(away, fill),
        )
        for fill in (0.0, 50.0, math.nan)
    ]
    for other in found[1:]:
        assert all(torch.equal(first, second) for first, second in zip(found[0], other))


# The network ----------------------------------------------------------------------------------


def known(states, values=1):
    """A system of values of variance 1."""
    return LGDS(states, values, readout=Readout(values))


class Ragged(Readout):
    """The values themselves, each with a variance of its own."""

    def measure(self, batch):
        return batch.obs, 0.3 + torch.linspace(0, 1, batch.obs.numel()).reshape(batch.obs.shape)


def set_system(net, seed=0):
    """Random parameters, the emission left at [I 0]."""
    system = random_system(seed, net.state_dim, net.obs_dim)
    net.assign(system._replace(emission=net.emission.clone()))
    return net


def log_joint(net, batch):
    return pyro.poutine.trace(net.model).get_trace(batch).log_prob_sum()


@pytest.mark.parametrize(("states", "values"), [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("steps", [1, 6])
def test_pyro_model_has_the_likelihood_of_the_filter(states, values, steps):
    net = set_system(LGDS(states, values, readout=Ragged(values)))
    batch = Batch(random_data(steps=steps, values=values)[0])
    expected = kalman_filter(net.system(), *net.measure(batch.obs)).log_likelihood
    torch.testing.assert_close(log_joint(net, batch), expected.sum())
    torch.testing.assert_close(net.filter(batch.obs).log_likelihood, expected)


def test_pyro_model_of_spike_counts():
    net, batch = SpringFilter(), PPC(3, 20, seed=1).batch()
    expected = net.filter(batch.obs).log_likelihood.sum()
    torch.testing.assert_close(log_joint(net, batch), expected)


@pytest.mark.parametrize("mask", [None, MASKS["padding"], MASKS["gaps"]])
def test_pyro_model_leaves_missing_values_out(mask):
    net, obs = set_system(LGDS(K, D, readout=Readout(D, variance=0.7))), random_data()[0]
    observed = torch.ones_like(obs, dtype=torch.bool)
    observed[:, 1:3, 0] = observed[3, 4] = False
    batch = Batch(obs, mask, observed=observed)
    torch.testing.assert_close(log_joint(net, batch), net.filter(batch).log_likelihood.sum())


def test_draws_of_missing_values_are_none():
    """Their noise is not known: no number may stand there. Those of the others have their law."""
    net, obs = set_system(LGDS(K, D, readout=Readout(D, variance=0.7))), random_data()[0]
    observed = torch.ones_like(obs, dtype=torch.bool)
    observed[:, 1:3, 0] = observed[3, 4] = False
    batch = Batch(obs, observed=observed)
    draws = pyro.poutine.trace(pyro.poutine.uncondition(net.model)).get_trace(batch)
    law = draws.nodes["y"]["fn"]
    drawn = law.sample((4000,))
    assert torch.equal(drawn.isnan(), ~observed.expand_as(drawn))
    expected = net.sample(4000, T, seed=0).double()[:, None].expand_as(drawn)
    for mean in (lambda x: x, torch.square):
        off = (mean(drawn).mean(0) - mean(expected).mean(0))[observed]
        spread = (mean(expected).std(0) * math.sqrt(2 / 4000))[observed]
        assert (off / spread).abs().max() < 4.5
    torch.testing.assert_close(law.log_prob(drawn[0]), law.log_prob(drawn[0].nan_to_num(9.0)))


def test_pyro_model_refuses_padding_at_the_beginning():
    with pytest.raises(ValueError, match="begin"):
        known(3, 2).model(Batch(random_data()[0], MASKS["before"]))


def test_filter_reads_with_the_variance_of_the_readout():
    net = set_system(LGDS(K, D, readout=Readout(D, variance=0.7)))
    obs, _ = random_data()
    expected = kalman_smoother(net.system(), obs, torch.full_like(obs, 0.7), MASKS["gaps"])
    actual = net.smooth(Batch(obs, MASKS["gaps"]))
    torch.testing.assert_close(actual.mean, expected.mean)
    filtered = net.filter(Batch(obs, MASKS["gaps"]))
    reconstruction = net.reconstruct(Batch(obs, MASKS["gaps"]))
    torch.testing.assert_close(reconstruction, filtered.mean[..., :D])


def test_samples_have_the_law_of_the_model():
    """Mean and covariance of whole trajectories, in standard errors, and a private stream."""
    net, rows, steps = set_system(LGDS(2, 1, readout=Readout(1, variance=0.4))), 20_000, 4
    sample = net.sample(rows, steps, seed=1)
    assert sample.shape == (rows, steps, 1)
    torch.manual_seed(99)
    assert torch.equal(sample, net.sample(rows, steps, seed=1))
    assert not torch.equal(sample, net.sample(rows, steps, seed=2))
    mean, cov = joint(net.system(), steps)
    mean, cov = mean[::2], cov[::2, ::2] + 0.4 * np.eye(steps)
    seen = sample[..., 0].double().numpy()
    assert np.abs((seen.mean(0) - mean) / np.sqrt(cov.diagonal() / rows)).max() < 4.5
    variances = np.outer(cov.diagonal(), cov.diagonal())
    assert (np.abs(np.cov(seen.T) - cov) / np.sqrt((variances + cov**2) / rows)).max() < 4.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"state_dim": 1, "obs_dim": 2, "readout": Readout(2)}, "obs_dim must be from 1 to 1"),
        ({"state_dim": 2, "readout": Readout(2)}, "the readout reads 2 values"),
    ],
)
def test_lgds_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        LGDS(**arguments)


def test_lgds_refuses_observations_of_another_size():
    with pytest.raises(ValueError, match="expected 2 values"):
        LGDS(3, 2).filter(torch.zeros(2, 4, 3))
    with pytest.raises(ValueError, match="15 neurons"):
        LGDS(2, readout=PopulationReadout()).filter(torch.zeros(2, 4, 3))


# EM -------------------------------------------------------------------------------------------


def simulate(net, rows, steps, seed=0):
    return net.sample(rows, steps, seed=seed).double()


def log_likelihood(net, batch):
    return (net.filter(batch).log_likelihood.sum() / batch.frames).item()


def holes(obs, fraction, seed=5):
    """A batch in which a fraction of the values is missing, filled with a large number."""
    random = torch.Generator().manual_seed(seed)
    observed = torch.rand(obs.shape, generator=random) >= fraction
    observed[:, 0] |= ~observed.flatten(1).any(1)[:, None]
    return Batch(obs.masked_fill(~observed, 1e3), observed=observed)


@pytest.mark.parametrize(("states", "values"), [(1, 1), (2, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("missing", ["nothing", "frames", "values"])
def test_em_never_decreases_the_likelihood(states, values, missing):
    obs = simulate(set_system(known(states, values)), 6, 9)
    mask = torch.rand(6, 9) < 0.7 if missing == "frames" else torch.ones(6, 9, dtype=torch.bool)
    mask[:, 0] |= ~mask.any(1)
    net, batch = known(states, values), Batch(obs, mask) if missing != "values" else holes(obs, 0.2)
    history = EM(net, restarts=2, iterations=15, tolerance=-math.inf, seed=1).learn(batch)
    history.append(log_likelihood(net, batch))
    assert len(history) == 16
    assert np.diff(history).min() > -1e-10
    assert history[-1] > history[0] + 1e-3


def test_an_m_step_never_decreases_the_likelihood():
    """Of every system on the way, and not of the likeliest so far alone."""
    truth = set_system(known(3, 2))
    batch = holes(simulate(truth, 6, 9), 0.2)
    model, (value, variance) = set_system(known(3, 2), 1).system(), truth.measure(batch)
    scores = []
    for _ in range(30):
        beliefs = kalman_smoother(model, value, variance, batch.mask)
        scores.append(beliefs.log_likelihood.sum().item())
        model = fit_states(model, beliefs, Readings(value, variance, batch.mask))
    assert np.diff(scores).min() > 0


@pytest.mark.parametrize(("states", "fraction"), [(1, 0.0), (2, 0.2)])
def test_em_stops_where_the_gradient_of_the_likelihood_is_zero(states, fraction):
    """Autograd through the filter, for every parameter that EM fits; with a gap and padding."""
    truth = LGDS(states, states, readout=Readout(states, variance=0.05))
    truth.dynamics.mul_(0.8)
    rows = 6 if states == 1 else 40
    mask = torch.ones(rows, 8, dtype=torch.bool)
    mask[1, 5:], mask[2, 3] = False, False
    whole = simulate(truth, rows, 8, seed=3)
    batch = Batch(whole, mask, observed=holes(whole, fraction).observed)
    net = LGDS(states, states, readout=truth.readout)
    EM(net, restarts=1, iterations=150, tolerance=-math.inf).learn(batch)
    system = net.system().map(lambda part: part.clone().requires_grad_())
    result = kalman_filter(system, *net.measure(batch), batch.mask)
    total = result.log_likelihood.sum() / batch.frames
    slopes = torch.autograd.grad(total, [system[index] for index in (0, 1, 3, 4)])
    slopes = [slopes[0], symmetric(slopes[1]), slopes[2], symmetric(slopes[3])]
    assert max(slope.abs().max().item() for slope in slopes) < 1e-6
    worse = system._replace(dynamics=system.dynamics.detach() + 0.05)
    moved = kalman_filter(worse, *net.measure(batch), batch.mask).log_likelihood
    assert moved.sum() / batch.frames < total - 1e-4


@pytest.mark.parametrize("fraction", [0.0, 0.2])
def test_em_recovers_known_parameters(fraction):
    truth = LGDS(2, 2, readout=Readout(2, variance=0.1))
    system = random_system(4, 2, 2)
    system = system._replace(
        dynamics=torch.tensor([[0.9, 0.3], [-0.4, 0.7]]).double(),
        emission=truth.emission.clone(),
    )
    truth.assign(system)
    batch = holes(simulate(truth, 400, 25, seed=2), fraction)
    net = LGDS(2, 2, readout=Readout(2, variance=0.1))
    EM(net, restarts=1, iterations=40).learn(batch)
    torch.testing.assert_close(net.dynamics, truth.dynamics, atol=0.03, rtol=0)
    torch.testing.assert_close(net.process, truth.process, atol=0.03, rtol=0.1)
    torch.testing.assert_close(net.initial_mean, truth.initial_mean, atol=0.3, rtol=0)
    torch.testing.assert_close(
        net.initial_covariance, truth.initial_covariance, atol=0.1, rtol=0.25
    )
    assert log_likelihood(net, batch) > log_likelihood(truth, batch)


def test_restarts_are_separate_runs_and_the_likeliest_wins(monkeypatch):
    batch = Batch(simulate(set_system(known(2, 1), seed=5), 5, 12))
    guesses = [known(2, 1).guess(known(2, 1).read(batch), 0) for _ in range(3)]
    how = {"iterations": 6, "tolerance": -math.inf}
    alone = []
    for guess in guesses:
        net = known(2, 1)
        monkeypatch.setattr(net, "guess", lambda *_, guess=guess: guess)
        history = EM(net, restarts=1, **how).learn(batch)
        alone.append((log_likelihood(net, batch), history, net.system()))
    assert len({round(score, 6) for score, _, _ in alone}) == 3
    score, expected, system = max(alone, key=lambda run: run[0])
    net, queue = known(2, 1), iter(guesses)
    monkeypatch.setattr(net, "guess", lambda *_: next(queue))
    history = EM(net, restarts=3, **how).learn(batch)
    assert log_likelihood(net, batch) == pytest.approx(score, abs=1e-12)
    np.testing.assert_allclose(history, expected, atol=1e-12)
    for first, second in zip(net.system(), system):
        torch.testing.assert_close(first, second)


def test_em_depends_on_its_seed_alone():
    batch = Batch(random_data(values=1)[0])
    nets = [known(2, 1) for _ in range(3)]
    for noise, (net, seed) in enumerate(zip(nets, (1, 1, 2))):
        torch.manual_seed(noise)
        EM(net, restarts=2, iterations=2, seed=seed).learn(batch)
    assert torch.equal(nets[0].dynamics, nets[1].dynamics)
    assert not torch.equal(nets[0].dynamics, nets[2].dynamics)


def test_em_stops_by_tolerance():
    batch = Batch(random_data(values=1)[0])
    loose = EM(known(1, 1), iterations=50, tolerance=1e-2).learn(batch)
    tight = EM(known(1, 1), iterations=50, tolerance=1e-4).learn(batch)
    assert 1 < len(loose) < len(tight) <= 50


def test_em_weighs_a_padded_batch_like_its_sequences():
    """Padding must not count as transitions: NaN there, and the same parameters."""
    obs = random_data(values=1, steps=6)[0]
    mask = (torch.arange(9) < 6).expand(B, 9)
    padded = Batch(torch.cat((obs, torch.full((B, 3, 1), math.nan)), 1), mask)
    nets = [known(2, 1), known(2, 1)]
    for net, batch in zip(nets, (Batch(obs), padded)):
        EM(net, restarts=2, iterations=4).learn(batch)
    for first, second in zip(nets[0].system()[:5], nets[1].system()[:5]):
        torch.testing.assert_close(first, second)


def test_em_does_not_see_fillers():
    obs = random_data(steps=6)[0]
    observed = torch.rand(obs.shape) > 0.3
    observed[:, 0], observed[0, 3:] = True, False  # and one that ends in frames not seen
    nets = [known(2, 2), known(2, 2)]
    for net, filler in zip(nets, (0.0, 50.0)):
        batch = Batch(obs.masked_fill(~observed, filler), observed=observed)
        EM(net, restarts=2, iterations=4).learn(batch)
    for first, second in zip(nets[0].system()[:5], nets[1].system()[:5]):
        assert torch.equal(first, second)


def test_em_guesses_on_the_scale_of_the_values_seen():
    """A dead channel is no evidence that the values are small."""
    value = torch.randn(3, 50, 2, dtype=torch.float64)
    seen = torch.tensor([True, False]).expand(3, 50, 2)
    batch = Batch(value, observed=seen)
    spread = known(2, 2).guess(known(2, 2).read(batch), 0).initial_covariance[0, 0]
    assert spread == pytest.approx(value[..., 0].var().item())


ONE = torch.arange(4).expand(5, 4) < 1


@pytest.mark.parametrize(
    ("batch", "word"),
    [
        (Batch(torch.randn(5, 4, 1), ONE), "have 5 such frames in 5 sequences"),
        (Batch(torch.randn(5, 4, 1), observed=ONE[..., None].roll(2, 1)), "have 5 such frames"),
        (Batch(torch.randn(1, 1, 1)), "have 1 such frames in 1 sequences"),
        (Batch(torch.ones(3, 5, 1)), "do not vary"),
        (Batch(torch.randn(3, 5, 1), observed=torch.rand(3, 5, 1) < 2), None),
        (Batch(torch.randn(1, 2, 1)), None),
        (Batch(1e16 * torch.randn(3, 20, 1)), None),
        (Batch(torch.logspace(0, 16, 30, dtype=torch.float64)[None, :, None]), None),
        (Batch(torch.logspace(0, 300, 30, dtype=torch.float64)[None, :, None]), "rescale"),
    ],
    ids=["padded", "missing", "one", "constant", "whole", "two", "large", "growing", "too far"],
)
def test_em_of_odd_data_learns_or_says_why_not(batch, word):
    net = known(4, 1)  # more latents than frames, in some
    rule = EM(net, restarts=2, iterations=20)
    if word is None:
        history = rule.learn(batch)
        assert np.isfinite(history).all()
        assert np.diff(history).min() >= 0
        assert all(part.isfinite().all() for part in net.system()[:5])
        assert log_likelihood(net, batch) == pytest.approx(history[-1], abs=0.5)
        return
    with pytest.raises(ValueError, match=word):
        rule.learn(batch)
    assert torch.equal(net.dynamics, torch.eye(4).double()), "the network is as it was"


class Unaware(Readout):
    """A readout that knows nothing of missing values."""

    def measure(self, batch):
        return batch.obs, torch.full_like(batch.obs, self.variance)


def test_a_readout_that_knows_nothing_of_missing_values_is_given_none():
    net, batch = LGDS(1, readout=Unaware()), holes(torch.randn(3, 20, 1), 0.3)
    assert not net.takes_missing
    assert net.filter(batch.obs).mean.isfinite().all()
    for verb in (net.filter, net.smooth, net.model, net.reconstruct, EM(net).learn):
        with pytest.raises(ValueError, match="takes_missing"):
            verb(batch)


@pytest.mark.parametrize("bad", [{"restarts": 0}, {"iterations": 0}])
def test_em_rejects(bad):
    with pytest.raises(ValueError, match="at least 1"):
        EM(known(1), **bad)


def test_em_says_that_it_compiles(tmp_path, monkeypatch, capsys):
    """Where the kernel was not kept, or its source is newer."""
    source, kept = tmp_path / "kernel.py", tmp_path / "kernel.backward-1.py311.1.nbc"
    source.touch()
    folder = SimpleNamespace(cache_path=str(tmp_path))
    module = SimpleNamespace(
        __file__=str(source), forward=SimpleNamespace(signatures=[], stats=folder)
    )
    with monkeypatch.context() as patch:
        patch.setattr(fast, "kernel", lambda: module)
        found = [fast.compiles()]
        for seconds in (-5, 5):
            kept.touch()
            os.utime(kept, (source.stat().st_mtime + seconds,) * 2)
            found.append(fast.compiles())
        assert found == [True, True, False]
    monkeypatch.setattr(em, "compiles", lambda: True)
    EM(known(1), iterations=1).learn(Batch(torch.randn(3, 6, 1)), progress=True)
    assert "compiling the Kalman filter, once" in capsys.readouterr().err


# Spike counts ---------------------------------------------------------------------------------


def crossing(steps=40, start=0.6, speed=0.03):
    """Noiseless rates of a straight path that leaves the torus at one side, and the path."""
    position = (start + speed * torch.arange(steps))[None].double()
    assert position.max() > ppc.PERIOD / 2
    return 8 * ppc.tuning(position), position


@pytest.mark.parametrize(("start", "speed"), [(0.6, 0.03), (-0.6, -0.03), (0.0, 0.2)])
def test_population_is_unwrapped_across_the_seam(start, speed):
    position = (start + speed * torch.arange(40))[None].double()
    assert position.abs().max() > ppc.PERIOD / 2
    value, variance = LGDS(2, readout=PopulationReadout()).measure(8 * ppc.tuning(position))
    torch.testing.assert_close(value[..., 0], position, atol=1e-3, rtol=0)
    assert (variance > 0).all()


def test_a_path_across_the_seam_is_filtered_without_a_jump():
    net = SpringFilter()
    net.dynamics.copy_(torch.tensor([[1.0, ppc.STEP], [0.0, 1.0]]))
    net.initial_covariance.copy_(torch.eye(2))
    rates, position = crossing()
    beliefs = net.filter(rates)
    torch.testing.assert_close(beliefs.mean[..., 0], position, atol=0.02, rtol=0)
    decoded = ppc.decode(net.reconstruct(rates))
    assert ppc.position_mse(decoded, position) < 1e-4


def test_unwrapping_uses_the_past_alone():
    rates, _ = crossing()
    net = LGDS(2, readout=PopulationReadout())
    torch.testing.assert_close(net.measure(rates[:, :12])[0], net.measure(rates)[0][:, :12])


@pytest.mark.parametrize("hidden", [slice(3, 18), slice(0, 2), slice(19, 21)])
@pytest.mark.parametrize("silent", [False, True])
def test_a_gap_does_not_add_a_turn(hidden, silent):
    """What is read after a gap lies within half a period of what was read before it."""
    position = torch.linspace(0.9, -0.1, 21)[None].double()
    rates, seen = 8 * ppc.tuning(position), torch.ones(1, 21, dtype=torch.bool)
    seen[:, hidden] = False
    rates[:, hidden] = 0.0
    value, _ = LGDS(2, readout=PopulationReadout()).measure(Batch(rates, None if silent else seen))
    torch.testing.assert_close(value[seen][:, 0], position[seen], atol=1e-3, rtol=0)


def test_silent_frames_are_not_observed():
    """They count for nothing, and the state is predicted through them."""
    net, obs = SpringFilter(), PPC(3, 30, seed=2).obs
    silent = torch.zeros(3, 30, dtype=torch.bool)
    silent[:, 5:9] = silent[1, 1:3] = True
    gone = obs.masked_fill(silent[..., None], 0.0)
    found, expected = net.filter(gone), net.filter(Batch(obs, ~silent))
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.covariance, expected.covariance)
    torch.testing.assert_close(found.log_likelihood, expected.log_likelihood)
    assert (net.filter(torch.zeros(1, 5, 15)).log_likelihood == 0).all()
    torch.testing.assert_close(net.smooth(gone).mean, net.smooth(Batch(obs, ~silent)).mean)


@pytest.mark.parametrize(
    "dead", [[7], [6, 7, 8], [0, 1, 2, 3, 4], None], ids=["one", "three", "a side", "any"]
)
def test_dead_neurons_cost_precision_and_no_bias(dead):
    """As zero counts, three dead neurons would make the errors 35 times what the filter states."""
    data, net = PPC(20, 200, seed=8), SpringFilter()
    observed = torch.rand(data.obs.shape) > 0.3 * (dead is None)
    observed[..., dead or []] = False
    batch = Batch(data.obs, observed=observed)
    value, variance = net.measure(batch)
    beliefs, place = net.filter(batch), data.state[..., 0]
    for mean, spread in ((value, variance), (beliefs.mean, beliefs.variance)):
        ratio = ppc.wrap(mean[..., 0] - place).square() / spread[..., 0]
        assert ratio[:, 50:].mean() == pytest.approx(1.0, abs=0.25)
    assert variance[variance.isfinite()].mean() > 1.02 * net.measure(data.obs)[1].mean()


def test_position_given_all_neurons_is_the_centre_of_mass():
    readout, obs = PopulationReadout(), PPC(5, 100, seed=8).obs.flatten(0, 1)
    place, variance = readout._moments(obs, obs > -1)
    torch.testing.assert_close(place.float(), ppc.decode(obs), atol=1e-5, rtol=0)
    torch.testing.assert_close(variance.float(), ppc.observation_variance(obs), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["ppc/kf-true", "ppc/kf2"])
def test_time_passes_in_a_gap(name):
    """The position after a gap of 20 frames; cut out, the frames would be a jump."""
    data, net = PPC(20, 60, seed=5, split="test"), zoo.load(name)
    seen = torch.ones(20, 60, dtype=torch.bool)
    seen[:, 30:50] = False
    cut = torch.cat((data.obs[:, :30], data.obs[:, 50:]), 1)
    means = (
        net.filter(data.obs).mean[:, 50],
        net.filter(Batch(data.obs, seen)).mean[:, 50],
        net.filter(cut).mean[:, 30],
    )
    place = data.state[:, 50, 0]
    whole, gap, away = (float(ppc.wrap(m[:, 0] - place).square().mean()) for m in means)
    assert whole < gap < 10 * whole
    assert gap < away / 10


def test_spring_filter_reaches_the_limit_of_the_task():
    data = PPC(40, 1000, seed=3, split="test")
    decoded = ppc.decode(SpringFilter().reconstruct(data.obs))
    error = ppc.position_mse(decoded, data.state[..., 0])
    assert error.item() == pytest.approx(1.41e-4, rel=0.08)


def test_spring_filter_knows_its_own_error():
    """Filtered errors have the variance that the filter states."""
    data = PPC(40, 200, seed=8)
    beliefs = SpringFilter().filter(data.obs)
    error = beliefs.mean[..., 0] - data.state[..., 0]
    ratio = (error.square() / beliefs.variance[..., 0])[:, 50:].mean().item()
    assert ratio == pytest.approx(1.0, rel=0.15)
