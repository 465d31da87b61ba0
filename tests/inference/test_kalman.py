"""Filter, smoother and EM against the joint Gaussian of a whole trajectory."""

import math

import numpy as np
import pyro
import pytest
import torch
from scipy import stats
from seqzoo.data import PPC, Batch, ppc
from seqzoo.inference import EM, LinearGaussian, kalman_filter, kalman_smoother
from seqzoo.inference.rules.em import maximise
from seqzoo.zoo import LGDS
from seqzoo.zoo.parts.readouts import Readout
from seqzoo.zoo.recipes.population import PopulationReadout, SpringFilter

K, D, T, B = 3, 2, 5, 4


def random_system(seed=0, states=K, values=D):
    """A stable system with full matrices everywhere."""
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
    return LinearGaussian(*map(torch.tensor, parts))


def random_data(seed=0, steps=T, rows=B, values=D):
    """Observations and variances that differ from value to value and step to step."""
    random = np.random.default_rng(seed + 100)
    obs = 2 * random.normal(size=(rows, steps, values))
    return torch.tensor(obs), torch.tensor(random.uniform(0.2, 3.0, size=obs.shape))


MASKS = {
    "none": None,
    "padding": torch.arange(T) < torch.tensor([5, 3, 1, 4])[:, None],
    "gaps": torch.tensor([[1, 0, 0, 1, 1], [0, 1, 1, 0, 1], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]]) > 0,
}
every_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())


def joint(model, steps):
    """Mean and covariance of (x_1 .. x_T), stacked."""
    A, Q, _, m, P = (part.numpy() for part in model)
    size = len(m)
    mean, cov = np.zeros((steps, size)), np.zeros((steps, size, steps, size))
    mean[0], cov[0, :, 0] = m, P
    for t in range(1, steps):
        mean[t] = A @ mean[t - 1]
        for s in range(t):
            cov[t, :, s] = A @ cov[t - 1, :, s]
            cov[s, :, t] = cov[t, :, s].T
        cov[t, :, t] = A @ cov[t - 1, :, t - 1] @ A.T + Q
    return mean.ravel(), cov.reshape(steps * size, steps * size)


def condition(model, obs, variance, seen):
    """Posterior over the whole path given the frames in ``seen``, and their log-density."""
    steps, values = obs.shape
    mean, cov = joint(model, steps)
    C = np.kron(np.eye(steps), model.emission.numpy())
    keep = np.repeat(seen, values)
    C, y, R = C[keep], obs.ravel()[keep], np.diag(variance.ravel()[keep])
    if len(y) == 0:
        return mean, cov, 0.0
    S = C @ cov @ C.T + R
    gain = np.linalg.solve(S, C @ cov).T
    log_prob = stats.multivariate_normal(C @ mean, S).logpdf(y)
    return mean + gain @ (y - C @ mean), cov - gain @ C @ cov, log_prob


def as_arrays(obs, variance, mask):
    seen = np.ones(obs.shape[:2], bool) if mask is None else mask.numpy()
    return zip(obs.numpy(), variance.numpy(), seen)


@every_mask
def test_filter_against_the_joint_gaussian(mask):
    model, (obs, variance) = random_system(), random_data()
    beliefs = kalman_filter(model, obs, variance, mask)
    assert beliefs.mean.shape == (B, T, K)
    for row, (y, r, seen) in enumerate(as_arrays(obs, variance, mask)):
        for t in range(T):
            mean, cov, log_prob = condition(model, y, r, seen & (np.arange(T) <= t))
            part = slice(t * K, (t + 1) * K)
            np.testing.assert_allclose(beliefs.mean[row, t], mean[part], atol=1e-9)
            np.testing.assert_allclose(beliefs.covariance[row, t], cov[part, part], atol=1e-9)
            np.testing.assert_allclose(
                beliefs.variance[row, t], cov[part, part].diagonal(), atol=1e-9
            )
        assert beliefs.log_likelihood[row].item() == pytest.approx(log_prob, abs=1e-9)


@every_mask
def test_smoother_against_the_joint_gaussian(mask):
    model, (obs, variance) = random_system(), random_data()
    beliefs = kalman_smoother(model, obs, variance, mask)
    assert beliefs.lagged.shape == (B, T - 1, K, K)
    for row, (y, r, seen) in enumerate(as_arrays(obs, variance, mask)):
        mean, cov, log_prob = condition(model, y, r, seen)
        cov = cov.reshape(T, K, T, K)
        np.testing.assert_allclose(beliefs.mean[row], mean.reshape(T, K), atol=1e-9)
        for t in range(T):
            np.testing.assert_allclose(beliefs.covariance[row, t], cov[t, :, t], atol=1e-9)
        for t in range(T - 1):
            np.testing.assert_allclose(beliefs.lagged[row, t], cov[t + 1, :, t], atol=1e-9)
        assert beliefs.log_likelihood[row].item() == pytest.approx(log_prob, abs=1e-9)


@pytest.mark.parametrize("run", [kalman_filter, kalman_smoother])
def test_padding_changes_nothing(run):
    model, (obs, variance) = random_system(), random_data()
    plain = run(model, obs, variance)
    extra = torch.full((B, 2, D), math.nan)
    mask = (torch.arange(T + 2) < T).expand(B, T + 2)
    padded = run(model, torch.cat((obs, extra), 1), torch.cat((variance, extra), 1), mask)
    torch.testing.assert_close(padded.mean[:, :T], plain.mean)
    torch.testing.assert_close(padded.covariance[:, :T], plain.covariance)
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


@every_mask
def test_leading_axes_are_separate_models(mask):
    models, (obs, variance) = [random_system(seed) for seed in range(3)], random_data()
    stacked = LinearGaussian(*(torch.stack(parts) for parts in zip(*models)))
    together = kalman_smoother(stacked, obs, variance, mask)
    real = torch.ones(B, T, dtype=torch.bool) if mask is None else mask
    step = maximise(together, stacked.emission, real)
    for index, model in enumerate(models):
        alone = kalman_smoother(model, obs, variance, mask)
        for first, second in zip(together, alone):
            torch.testing.assert_close(first[index], second)
        for first, second in zip(step, maximise(alone, model.emission, real)):
            torch.testing.assert_close(first[index], second)


# The network ----------------------------------------------------------------------------------


class Ragged(Readout):
    """The values themselves, each with a variance of its own."""

    def measure(self, obs, mask):
        return obs, 0.3 + torch.linspace(0, 1, obs.numel()).reshape(obs.shape)


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


def test_pyro_model_refuses_padding():
    mask = torch.arange(T).expand(B, T) < 3
    with pytest.raises(ValueError, match="without padding"):
        LGDS(3, 2).model(Batch(random_data()[0], mask))


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
        ({"state_dim": 1, "obs_dim": 2}, "obs_dim must be from 1 to 1"),
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


@pytest.mark.parametrize(("states", "values"), [(1, 1), (2, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("holes", [False, True])
def test_em_never_decreases_the_likelihood(states, values, holes):
    obs = simulate(set_system(LGDS(states, values)), 6, 9)
    mask = torch.rand(6, 9) < 0.7 if holes else torch.ones(6, 9, dtype=torch.bool)
    mask[:, 0] |= ~mask.any(1)
    net, batch = LGDS(states, values), Batch(obs, mask)
    history = EM(net, restarts=2, iterations=15, tolerance=-math.inf, seed=1).learn(batch)
    history.append(log_likelihood(net, batch))
    assert len(history) == 16
    assert np.diff(history).min() > -1e-10
    assert history[-1] > history[0] + 1e-3


def test_em_stops_where_the_gradient_of_the_likelihood_is_zero():
    """Autograd through the filter, for every parameter that EM fits; with a gap and padding."""
    truth = LGDS(1, readout=Readout(1, variance=0.05))
    truth.dynamics.fill_(0.8)
    mask = torch.ones(6, 8, dtype=torch.bool)
    mask[1, 5:], mask[2, 3] = False, False
    batch = Batch(simulate(truth, 6, 8, seed=3), mask)
    net = LGDS(1, readout=Readout(1, variance=0.05))
    EM(net, restarts=1, iterations=150, tolerance=-math.inf).learn(batch)
    system = LinearGaussian(*(part.clone().requires_grad_() for part in net.system()))
    result = kalman_filter(system, *net.measure(batch), batch.mask)
    total = result.log_likelihood.sum() / batch.frames
    slopes = torch.autograd.grad(total, [system[index] for index in (0, 1, 3, 4)])
    assert max(slope.abs().max().item() for slope in slopes) < 1e-6
    worse = system._replace(dynamics=system.dynamics.detach() + 0.05)
    moved = kalman_filter(worse, *net.measure(batch), batch.mask).log_likelihood
    assert moved.sum() / batch.frames < total - 1e-4


def test_em_recovers_known_parameters():
    truth = LGDS(2, 2, readout=Readout(2, variance=0.1))
    system = random_system(4, 2, 2)
    system = system._replace(
        dynamics=torch.tensor([[0.9, 0.3], [-0.4, 0.7]]).double(),
        emission=truth.emission.clone(),
    )
    truth.assign(system)
    batch = Batch(simulate(truth, 400, 25, seed=2))
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
    batch = Batch(simulate(set_system(LGDS(2, 1), seed=5), 5, 12))
    value, _ = LGDS(2, 1).measure(batch.obs)
    guesses = [LGDS(2, 1).guess(value, batch.mask) for _ in range(3)]
    how = {"iterations": 6, "tolerance": -math.inf}
    alone = []
    for guess in guesses:
        net = LGDS(2, 1)
        monkeypatch.setattr(net, "guess", lambda *_, guess=guess: guess)
        history = EM(net, restarts=1, **how).learn(batch)
        alone.append((log_likelihood(net, batch), history, net.system()))
    assert len({round(score, 6) for score, _, _ in alone}) == 3
    score, expected, system = max(alone, key=lambda run: run[0])
    net, queue = LGDS(2, 1), iter(guesses)
    monkeypatch.setattr(net, "guess", lambda *_: next(queue))
    history = EM(net, restarts=3, **how).learn(batch)
    assert log_likelihood(net, batch) == pytest.approx(score, abs=1e-12)
    np.testing.assert_allclose(history, expected, atol=1e-12)
    for first, second in zip(net.system(), system):
        torch.testing.assert_close(first, second)


def test_em_depends_on_its_seed_alone():
    batch = Batch(random_data(values=1)[0])
    nets = [LGDS(2, 1) for _ in range(3)]
    for noise, (net, seed) in enumerate(zip(nets, (1, 1, 2))):
        torch.manual_seed(noise)
        EM(net, restarts=2, iterations=2, seed=seed).learn(batch)
    assert torch.equal(nets[0].dynamics, nets[1].dynamics)
    assert not torch.equal(nets[0].dynamics, nets[2].dynamics)


def test_em_stops_by_tolerance():
    batch = Batch(random_data(values=1)[0])
    loose = EM(LGDS(1, 1), iterations=50, tolerance=1e-2).learn(batch)
    tight = EM(LGDS(1, 1), iterations=50, tolerance=1e-4).learn(batch)
    assert 1 < len(loose) < len(tight) <= 50


def test_em_weighs_a_padded_batch_like_its_sequences():
    """Padding must not count as transitions: NaN there, and the same parameters."""
    obs = random_data(values=1, steps=6)[0]
    mask = (torch.arange(9) < 6).expand(B, 9)
    padded = Batch(torch.cat((obs, torch.full((B, 3, 1), math.nan)), 1), mask)
    nets = [LGDS(2, 1), LGDS(2, 1)]
    for net, batch in zip(nets, (Batch(obs), padded)):
        EM(net, restarts=2, iterations=4).learn(batch)
    for first, second in zip(nets[0].system(), nets[1].system()):
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("bad", [{"restarts": 0}, {"iterations": 0}])
def test_em_rejects(bad):
    with pytest.raises(ValueError, match="at least 1"):
        EM(LGDS(1), **bad)


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
    silent[:, 5:9] = silent[1, :2] = True
    gone = obs.masked_fill(silent[..., None], 0.0)
    found, expected = net.filter(gone), net.filter(Batch(obs, ~silent))
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.covariance, expected.covariance)
    torch.testing.assert_close(found.log_likelihood, expected.log_likelihood)
    assert (net.filter(torch.zeros(1, 5, 15)).log_likelihood == 0).all()
    torch.testing.assert_close(net.smooth(gone).mean, net.smooth(Batch(obs, ~silent)).mean)


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
