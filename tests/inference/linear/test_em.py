"""EM of systems that learn their emission, noise and inputs, and what such systems predict."""

import math

import pyro
import pytest
import torch
from seqzoo.data import Batch
from seqzoo.inference import EM
from seqzoo.inference.linear.kalman import kalman_filter, kalman_smoother
from seqzoo.inference.linear.m_step import fit_emission, fit_states
from seqzoo.inference.linear.system import LinearGaussian
from seqzoo.inference.rng import RandomStream
from seqzoo.zoo.parts.readouts import Readout

from seqzoo import zoo
from tests.inference.linear.turning import turning

B, T, K, D, INPUTS = 4, 7, 2, 3, 2


def system_of(net, seed=0):
    """A network with random parameters, stable and full."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    states, values = net.state_dim, net.obs_dim
    for name, part in net.named_buffers():
        new = normal(*part.shape) / 2
        if name == "dynamics":
            new = 0.6 * torch.eye(states).double() + new / states
        elif name in ("process", "initial_covariance"):
            new = new @ new.mT + 0.1 * torch.eye(states).double()
        elif name == "noise":
            full = new @ new.mT + 0.2 * torch.eye(values).double()
            new = full if net.noise_kind == "full" else torch.diag(full.diagonal())
        part.copy_(new)
    return net


def data_of(net, rows=B, steps=T, missing=0.0, seed=1):
    """A sample of a network, with its inputs, some values hidden under a large number."""
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, steps, net.input_dim, generator=random) if net.input_dim else None
    with RandomStream("cpu", "sample", seed):
        obs = net.forwards(rows, steps, True, inputs)
    observed = torch.rand(obs.shape, generator=random) >= missing
    observed[:, 0, 0] = True
    mask = torch.ones(rows, steps, dtype=torch.bool)
    mask[1, steps - 2 :] = False
    return Batch(obs.masked_fill(~observed, 50.0), mask, observed=observed, inputs=inputs)


def scores(net, batch, iterations=12, restarts=2):
    """log-likelihood (or bound) and log prior of every system on the way, ``[iterations, R]``."""
    data = EM(net)._read(batch)
    torch.manual_seed(0)
    guesses = [net.guess(data, restart) for restart in range(restarts)]
    system, found, beliefs = guesses[0].map(lambda *p: torch.stack(p), *guesses[1:]), [], None
    with torch.no_grad():
        for _ in range(iterations):
            beliefs = net.e_step(system, data, beliefs)
            found.append(beliefs.log_likelihood.sum(-1) + net.log_prior(system, data))
            system = net.m_step(system, beliefs, data)
    assert all(part.isfinite().all() for part in system.parts().values())
    return torch.stack(found) / batch.frames


def log_normal(error, covariance):
    terms = error @ torch.linalg.solve(covariance, error) + torch.logdet(covariance)
    return -(terms + len(error) * math.log(2 * math.pi)) / 2


def expected_log_density(system, beliefs, data):
    """E[log p(x, y)] by a loop over frames and 2 K + 1 points that have the posterior's moments."""
    total = 0.0
    for row in range(len(data.value)):
        for t in range(int(data.mask[row].sum())):
            mean, cov = beliefs.mean[row, t], beliefs.covariance[row, t]
            if t > 0:
                lagged = beliefs.lagged[row, t - 1]
                before = beliefs.covariance[row, t - 1]
                mean = torch.cat((mean, beliefs.mean[row, t - 1]))
                cov = torch.cat((torch.cat((cov, lagged), 1), torch.cat((lagged.mT, before), 1)))
            root = torch.linalg.cholesky(cov) * len(mean) ** 0.5
            for point in torch.cat((mean + root.mT, mean - root.mT)):
                x, seen = point[:K], data.variance[row, t].isfinite()
                s = data.inputs[row, t]
                if t > 0:
                    error = x - system.dynamics @ point[K:] - system.input_dynamics @ s
                    density = log_normal(error, system.process)
                else:
                    density = log_normal(x - system.initial_mean, system.initial_covariance)
                if seen.any():
                    eta = system.emission @ x + system.offset + system.input_emission @ s
                    noise = system.noise[seen][:, seen]
                    density = density + log_normal((data.value[row, t] - eta)[seen], noise)
                total = total + density / (2 * len(mean))
    return total


@pytest.mark.parametrize(("noise", "missing"), [("diagonal", 0.3), ("full", 0.0)])
def test_an_m_step_maximises_the_expected_log_density(noise, missing):
    """Where the gradient of a slow transcription is zero: diagonal noise along its diagonal."""
    net = system_of(zoo.LGDS(K, D, noise=noise, input_dim=INPUTS))
    data = net.read(data_of(net, missing=missing))
    old = system_of(net, seed=3).system()
    beliefs = kalman_smoother(old, *data)
    found = fit_states(old, beliefs, data)
    found = fit_emission(found, beliefs, data, 1e-9, noise == "full")
    found = found.map(lambda part: part.clone().requires_grad_())
    total = expected_log_density(found, beliefs, data)
    slopes = torch.autograd.grad(total, list(found.parts().values()))
    slopes = dict(zip(found.parts(), slopes))
    for name in ("process", "initial_covariance", "noise"):
        slopes[name] = slopes[name] + slopes[name].mT
    if noise == "diagonal":
        slopes["noise"] = slopes["noise"].diagonal()
    assert max(slope.abs().max() for slope in slopes.values()) < 1e-8
    with torch.no_grad():
        assert total > expected_log_density(old, beliefs, data) + 1


@pytest.mark.parametrize(
    ("states", "values", "noise", "missing", "inputs"),
    [
        (2, 5, "diagonal", 0.3, 0),
        (2, 4, "full", 0.3, 2),
        (4, 2, "full", 0.0, 0),
        (1, 1, "diagonal", 0.2, 1),
    ],
)
def test_no_step_lowers_the_likelihood(states, values, noise, missing, inputs):
    net = system_of(zoo.LGDS(states, values, noise=noise, input_dim=inputs))
    found = scores(net, data_of(net, 6, 12, missing))
    assert found.diff(dim=0).min() > -1e-10
    assert (found[-1] > found[0] + 1e-3).all()


def test_with_full_noise_missing_values_are_inferred():
    """By Fisher's identity the sums of the M step follow from the gradient of log p(y)."""
    net = system_of(zoo.LGDS(K, D, noise="full", input_dim=INPUTS))
    data, old = net.read(data_of(net, 5, 8, 0.4)), system_of(net, seed=3).system()
    beliefs = kalman_smoother(old, *data)
    found = fit_emission(old, beliefs, data, 1e-9, full=True)
    leaf = old.map(lambda part: part.clone().requires_grad_())
    kalman_filter(leaf, *data).log_likelihood.sum().backward()
    slopes = torch.cat((leaf.emission.grad, leaf.offset.grad[:, None], leaf.input_emission.grad), 1)
    seen = data.variance.isfinite().any(-1) & data.mask
    frames = torch.cat((beliefs.mean, torch.ones_like(beliefs.mean[..., :1]), data.inputs), -1)[
        seen
    ]
    gram = frames.mT @ frames
    gram[:K, :K] += beliefs.covariance[seen].sum(0)
    change = torch.linalg.solve(gram, (old.noise @ slopes).mT).mT
    rising = (leaf.noise.grad + leaf.noise.grad.mT) / 2
    square = seen.sum() * old.noise + 2 * old.noise @ rising @ old.noise
    noise = (square - change @ slopes.mT @ old.noise) / seen.sum()
    torch.testing.assert_close(found.emission, old.emission + change[:, :K])
    torch.testing.assert_close(found.offset, old.offset + change[:, K])
    torch.testing.assert_close(found.input_emission, old.input_emission + change[:, K + 1 :])
    torch.testing.assert_close(found.noise, noise)


def test_em_reaches_the_likelihood_of_the_true_system():
    truth = turning(zoo.LGDS(3, 20))
    train, test = (Batch(truth.sample(30, 60, seed=seed)) for seed in (1, 2))
    net = zoo.LGDS(3, 20)
    EM(net, restarts=1, iterations=6).learn(train)
    for batch, slack in ((train, 0.0), (test, 0.1)):  # of 140 parameters, in 1800 frames
        gap = (net.filter(batch).log_likelihood - truth.filter(batch).log_likelihood).sum()
        assert gap / batch.frames > -0.01 - slack


@pytest.mark.parametrize(
    "net",
    [lambda: zoo.LGDS(2, 4), lambda: zoo.LGDS(2, 4, noise="full"), lambda: zoo.PoissonLGDS(2, 4)],
    ids=["diagonal", "full", "counts"],
)
def test_fillers_and_silent_channels(net):
    """No filler changes anything; a constant channel trains, as does one that was never seen."""
    random = torch.Generator().manual_seed(0)
    walk = torch.randn(5, 12, 4, generator=random).cumsum(1) / 2
    obs = walk.exp().round().clamp_max(20) if isinstance(net(), zoo.PoissonLGDS) else walk
    obs[..., 1] = 0.0
    observed = torch.rand(obs.shape, generator=random) > 0.1
    observed[..., 2] = False
    found = []
    for filler in (0.0, 50.0):
        batch = Batch(obs.masked_fill(~observed, filler), observed=observed)
        model = net()
        history = EM(model, restarts=2, iterations=4).learn(batch)
        found.append([*model.buffers(), model.filter(batch).mean, torch.tensor(history)])
    assert all(torch.equal(one, other) for one, other in zip(*found))
    assert all(part.isfinite().all() for part in found[0])
    moments = model.frames(model.predict(batch), batch)
    assert moments.mean[..., 1].abs().max() < 0.1
    assert (moments.variance > 0).all()


def test_noise_has_a_limit_and_nothing_else_has():
    """A system without noise, of two sensors of one state: the fit is at the limit, and finite."""
    angle = 0.3 * torch.arange(40.0) + torch.rand(6, 1)
    obs = torch.stack((angle.sin(), 2 * angle.sin()), -1)
    net = zoo.LGDS(2, 2, min_noise=1e-3)
    history = EM(net, restarts=1, iterations=60).learn(Batch(obs))
    assert torch.tensor(history).diff().min() > -1e-9
    limit = 1e-3 * obs.double().flatten(0, 1).var(0, correction=0)
    torch.testing.assert_close(net.noise.diagonal(), limit, rtol=1e-6, atol=0)
    assert torch.linalg.eigvals(net.dynamics).abs().min() > 0.98


@pytest.mark.parametrize("noise", ["diagonal", "full"])
def test_the_pyro_model_has_the_likelihood_of_the_filter(noise):
    net = system_of(zoo.LGDS(K, D, noise=noise, input_dim=INPUTS))
    batch = data_of(net, missing=0.3)
    score = pyro.poutine.trace(net.model).get_trace(batch).log_prob_sum()
    torch.testing.assert_close(score, net.filter(batch).log_likelihood.sum())


def test_one_step_predictions_have_the_likelihood_of_the_filter():
    """With one value a frame, log p(y) is the sum of their log-densities."""
    net = system_of(zoo.LGDS(2, 1, input_dim=1))
    batch = data_of(net)
    mean, variance = net.frames(net.predict(batch), batch)
    each = torch.distributions.Normal(mean, variance.sqrt()).log_prob(batch.obs.double())[..., 0]
    found = (each * batch.mask).sum(1)
    torch.testing.assert_close(found, net.filter(batch).log_likelihood)


@pytest.mark.parametrize("net", [zoo.LGDS(K, D), zoo.PoissonLGDS(K, D)], ids=["LGDS", "counts"])
def test_posterior_paths_have_the_moments_of_the_smoother(net):
    net = net if isinstance(net, zoo.PoissonLGDS) else system_of(net)
    batch = Batch(torch.ones(2, 4, D).cumsum(1))
    beliefs, many = net.smooth(batch), 40_000
    torch.manual_seed(0)
    paths = net.posterior(batch).rsample((many,))
    away = paths - beliefs.mean
    scale = (beliefs.variance / many).sqrt()
    assert (away.mean(0) / scale).abs().max() < 4.5
    lagged = (away[:, :, 1:, :, None] * away[:, :, :-1, None]).mean(0)
    bound = (beliefs.variance.amax() / many**0.5) * 6
    assert (lagged - beliefs.lagged).abs().max() < bound
    same = net.posterior(batch).log_prob(paths[:2])
    assert same.isfinite().all()


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: zoo.LGDS(2, 3, noise="spherical"), "noise must be 'diagonal' or 'full'"),
        (lambda: zoo.LGDS(2, 1, readout=Readout(), noise="full"), "leave noise out"),
        (lambda: zoo.LGDS(2, 3, min_noise=0.0), "min_noise must be"),
        (lambda: EM(zoo.LGDS(2, 3)).learn(Batch(torch.ones(3, 5, 3))), "do not vary"),
        (lambda: EM(zoo.PoissonLGDS(2, 3)).learn(Batch(torch.zeros(3, 5, 3))), "are zero"),
        (lambda: zoo.PoissonLGDS(2, 3).filter(Batch(torch.rand(3, 5, 3) + 0.1)), "count|whole"),
        (lambda: zoo.LGDS(2, 3, input_dim=2).filter(torch.ones(3, 5, 3)), "input"),
        (lambda: zoo.LGDS(2, 3, input_dim=2).sample(2, 3), "input"),
    ],
)
def test_what_does_not_fit_is_refused(build, word):
    with pytest.raises(ValueError, match=word):
        build()


def test_a_system_is_assigned_whole():
    net, other = system_of(zoo.LGDS(K, D, input_dim=INPUTS)), zoo.LGDS(K, D, input_dim=INPUTS)
    other.assign(net.system())
    assert isinstance(other.system(), LinearGaussian)
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), other.buffers()))
