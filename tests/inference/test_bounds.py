"""Bounds on the evidence, of linear-Gaussian models whose evidence is known; and their rule."""

import itertools
import math

import numpy as np
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from scipy import stats
from seqzoo.data import PPC, Batch, collate
from seqzoo.inference import (
    LinearChain,
    SequenceELBO,
    elbo,
    frame_bound,
    importance_bound,
    kalman_filter,
    particle_bound,
)
from seqzoo.inference.evaluate import elbo_terms, log_weights
from seqzoo.inference.particles import run_particles
from seqzoo.inference.paths import kl_steps, marginal_increments
from seqzoo.zoo import RNN, VOSP, VRAE, decoders, likelihoods, path_guides, priors
from seqzoo.zoo.parts.memory import Memory
from torch import nn
from torch.nn import functional

from seqzoo import zoo

B, T, M, K, H = 3, 4, 5, 2, 6
LENGTHS = (2, 4, 3)  # in no order
MASK = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
NOISE = 1.6

# A linear-Gaussian model: x_t = W z_t + V z_{t-1} + c + noise ------------------------------------


class Before(nn.Module):
    """Remembers the last two steps of a path: its state is (z_{t-1}, z_t)."""

    def __init__(self, inputs):
        super().__init__()
        self.inputs, self.hidden = inputs, 2 * inputs

    def initial(self, *rows):
        return torch.zeros(*rows, self.hidden)

    def step(self, inputs, state):
        return torch.cat((state[..., self.inputs :], inputs), -1)

    def output(self, state):
        return state


class Linear(nn.Module):
    """A user's own causal decoder."""

    causal = True

    def __init__(self, dim):
        super().__init__()
        weights = torch.randn(2, M, dim, generator=torch.Generator().manual_seed(3))
        self.now, self.then = nn.Parameter(weights[0] / 3), nn.Parameter(weights[1] / 8)
        self.shift = nn.Parameter(torch.linspace(-0.5, 1.0, M))
        self.memory = Before(dim)

    def forward(self, inputs, mask=None):
        before = torch.cat((torch.zeros_like(inputs[..., :1, :]), inputs[..., :-1, :]), -2)
        return self.emit(torch.cat((before, inputs), -1), inputs)

    def take(self, inputs, remembered):
        return inputs

    def emit(self, remembered, taken):
        before = remembered[..., : taken.shape[-1]]
        return (taken @ self.now.T + before @ self.then.T + self.shift) / NOISE

    def design(self, steps):
        """The matrix from a path to the means of its frames, and what is added."""
        now, then = (part.detach().double().numpy() for part in (self.now, self.then))
        matrix = np.kron(np.eye(steps), now) + np.kron(np.eye(steps, k=-1), then)
        return matrix, np.tile(self.shift.detach().double().numpy(), steps)


class Projected(nn.Module):
    """An encoder without memory."""

    features_dim = 6

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(M, self.features_dim)

    def forward(self, obs, mask):
        return self.net(obs / 3)


class Smoother(nn.Module):
    """An encoder that puts out the exact posterior as a chain (a_t, b_t, ln s_t); K = 1."""

    features_dim = 3

    def __init__(self, covariance, decoder):
        super().__init__()
        self.covariance, self.design = covariance, decoder.design

    def forward(self, obs, mask):
        features = torch.zeros(*mask.shape, 3)
        frames, seen = obs[..., :M], obs[..., M:] if obs.shape[-1] > M else None
        for row, steps in enumerate(mask.sum(1).tolist()):
            known = None if seen is None else seen[row, :steps].bool().numpy()
            data = frames[row, :steps].numpy()
            mean, cov, _ = condition(self.covariance, self.design, data, known)
            for t in range(steps):
                a = cov[t, t - 1] / cov[t - 1, t - 1] if t else 0.0
                b = mean[t] - (a * mean[t - 1] if t else 0.0)
                variance = cov[t, t] - (a * cov[t, t - 1] if t else 0.0)
                features[row, t] = torch.tensor([a, b, math.log(variance) / 2])
        return features


class Given(nn.Module):
    """A guide whose chain is what the features say."""

    features_dim, dim = 3, 1

    def forward(self, features, mask, prior, decoder):
        a, b, log_scale = features.chunk(3, -1)
        return LinearChain(mask, a, b, log_scale.exp())


def condition(covariance, design, frames, seen=None):
    """Posterior mean and covariance of the path, and the log-evidence, of ``frames [T, M]``.

    Where ``seen`` is given, of its values alone.
    """
    frames = frames.astype(float).ravel()
    steps = len(frames) // M
    matrix, shift = design(steps)
    dim = matrix.shape[1] // steps
    prior = np.kron(covariance[:steps, :steps], np.eye(dim))
    if seen is not None:
        frames, matrix, shift = (part[seen.ravel()] for part in (frames, matrix, shift))
    total = matrix @ prior @ matrix.T + NOISE**2 * np.eye(len(frames))
    gain = np.linalg.solve(total, matrix @ prior).T
    residual = frames - shift
    log_evidence = stats.multivariate_normal(shift, total).logpdf(frames)
    return gain @ residual, prior - gain @ matrix @ prior, log_evidence


def evidence(net, covariance, batch):
    """log p(x) of the values seen of each sequence, ``[B]``."""
    observed = [None] * len(batch) if batch.observed is None else batch.observed
    found = []
    for obs, seen, steps in zip(batch.obs, observed, batch.mask.sum(1).tolist()):
        known = None if seen is None else seen[:steps].numpy()
        found.append(condition(covariance, net.decoder.design, obs[:steps].numpy(), known)[2])
    return np.array(found)


steps = np.arange(1.0, T + 1)
gap = np.abs(steps - steps[:, None])
PRIORS = {
    "Wiener": (
        lambda dim: priors.WienerProcess(dim, 0.8),
        0.64 * np.minimum(steps, steps[:, None]),
    ),
    "AR1": (lambda dim: priors.AR1(dim, 0.7, 1.2), 1.44 * 0.7**gap),
    "WhiteNoise": (lambda dim: priors.WhiteNoise(dim, 1.1), 1.21 * np.eye(T)),
    "exponential": (
        lambda dim: priors.GaussianProcess(dim, "exponential", 3.0, 1.44),
        1.44 * np.exp(-gap / 3),
    ),
    "rbf": (
        lambda dim: priors.GaussianProcess(dim, "rbf", 1.5, 1.44),
        1.44 * np.exp(-((gap / 1.5) ** 2) / 2),
    ),
}
MARKOV = ("Wiener", "AR1", "WhiteNoise")
GUIDES = {
    "Diagonal": path_guides.Diagonal,
    "Increments": path_guides.Increments,
    "MarkovChain": path_guides.MarkovChain,
}


def linear_model(prior="Wiener", guide="MarkovChain", dim=K, decoder_input="path"):
    """A model with a guide that is wrong, but wider than the posterior: weights have a variance."""
    law, encoder = PRIORS[prior][0](dim), Projected()
    belief = GUIDES[guide](encoder.features_dim, dim)
    belief.heads.weight.data *= 0.3
    belief.heads.bias.data[-dim:] = 1.2
    return VRAE(
        *(M, dim, likelihoods.Gaussian(M, NOISE)),
        prior=law,
        encoder=encoder,
        guide=belief,
        decoder=Linear(dim),
        decoder_input=decoder_input,
    )


def solved_model(prior, sees_missing=False):
    """A model whose guide is its posterior; one latent dimension."""
    decoder = Linear(1)
    encoder = Smoother(PRIORS[prior][1], decoder)
    law = PRIORS[prior][0](1)
    family = likelihoods.Gaussian(M, NOISE)
    return VRAE(
        M,
        1,
        family,
        prior=law,
        encoder=encoder,
        guide=Given(),
        decoder=decoder,
        decoder_input="path",
        sees_missing=sees_missing,
    )


def frames_of(net, mask=MASK, seed=2):
    """Sequences that the model made."""
    return Batch(net.sample(*mask.shape, seed=seed), mask)


def copies(batch, number):
    """Every sequence ``number`` times, side by side."""
    return batch.rows(torch.arange(len(batch)).repeat_interleave(number))


def moments(law, row, length):
    """Mean and covariance of a chain's first steps, over (step, dimension)."""
    a, b, s = (
        torch.as_tensor(part, dtype=torch.float64).expand(len(law.real), T, law.event_shape[1])
        for part in (law.coefficient, law.offset.double(), law.scale.double())
    )
    a, b, s = (part[row, :length].numpy() for part in (a, b, s))
    dim = a.shape[1]
    impulse = np.eye(length * dim)
    for t in range(1, length):
        impulse[t * dim : (t + 1) * dim] += a[t][:, None] * impulse[(t - 1) * dim : t * dim]
    return impulse @ b.ravel(), impulse @ np.diag(s.ravel() ** 2) @ impulse.T


def exact_elbo(net, covariance, batch):
    """E_q[log p(x | z)] and KL(q || p) of each sequence, from dense Gaussians."""
    law, seen, cost = net.posterior(batch), [], []
    for row, length in enumerate(batch.mask.sum(1).tolist()):
        mean, cov = moments(law, row, length)
        matrix, shift = net.decoder.design(length)
        residual = batch.obs[row, :length].double().numpy().ravel() - shift - matrix @ mean
        square = residual @ residual + np.trace(matrix @ cov @ matrix.T)
        constant = length * M * math.log(2 * math.pi * NOISE**2)
        seen.append(-(square / NOISE**2 + constant) / 2)
        prior = np.kron(covariance[:length, :length], np.eye(net.latent_dim))
        inverse = np.linalg.inv(prior)
        logdets = np.linalg.slogdet(prior)[1] - np.linalg.slogdet(cov)[1]
        cost.append((np.trace(inverse @ cov) + mean @ inverse @ mean - len(mean) + logdets) / 2)
    return np.array(seen), np.array(cost)


every_prior = pytest.mark.parametrize("prior", PRIORS)
every_markov = pytest.mark.parametrize("prior", MARKOV)
every_guide = pytest.mark.parametrize("guide", GUIDES)


# The evidence lower bound -----------------------------------------------------------------------


@every_guide
@every_prior
def test_elbo_equals_dense_gaussians_and_is_below_the_evidence(prior, guide):
    net, covariance, number = linear_model(prior, guide), PRIORS[prior][1], 1000
    batch = frames_of(net)
    seen, cost = exact_elbo(net, covariance, batch)
    with torch.no_grad():
        terms = elbo_terms(net, net.prepare(batch), number)
    assert terms.divergence.shape == (number, B, T)
    assert terms.likelihood.shape == (number, B)
    assert not terms.divergence[:, ~MASK].any()
    np.testing.assert_allclose(terms.divergence.sum(-1)[0], cost, rtol=2e-4)
    error = 5 * terms.likelihood.std(0).numpy() / math.sqrt(number)
    assert (np.abs(terms.likelihood.mean(0).numpy() - seen) < error).all()
    bound = elbo(net, batch, number).numpy()
    assert (np.abs(bound - (seen - cost)) < error).all()
    assert (bound + error < evidence(net, covariance, batch)).all()


def test_elbo_of_a_decoder_that_sees_innovations_does_not_know_the_prior():
    """White noise goes in whatever the prior is: the evidence is that of a white prior."""
    nets = {name: linear_model(name, "MarkovChain", decoder_input="innovations") for name in PRIORS}
    batch = frames_of(nets["Wiener"])
    white = evidence(nets["Wiener"], np.eye(T), batch)
    for net in nets.values():
        bound = importance_bound(net, batch, 10_000, at_once=5000).numpy()
        np.testing.assert_allclose(bound, white, atol=0.25)
        assert (elbo(net, batch, 200).numpy() < white).all()


@every_guide
def test_pyro_computes_the_same_elbo_from_the_same_draws(guide):
    net = linear_model("Wiener", guide)
    encoding = net.prepare(frames_of(net))
    torch.manual_seed(5)
    loss = TraceMeanField_ELBO().loss(net.model, net.guide, encoding)
    torch.manual_seed(5)
    assert elbo_terms(net, encoding, 1).bound.sum().item() == pytest.approx(-loss, rel=1e-5)


@pytest.mark.parametrize("prior", ["Wiener", "AR1", "WhiteNoise", "exponential"])
def test_every_bound_is_the_evidence_where_the_guide_is_the_posterior(prior):
    """The weights of all draws are then p(x), so nothing is left to chance."""
    net, covariance = solved_model(prior), PRIORS[prior][1]
    batch = frames_of(net)
    known = evidence(net, covariance, batch)
    assert known.std() > 1
    with torch.no_grad():
        weights = log_weights(net.model, net.guide, net.prepare(batch), 7)
    np.testing.assert_allclose(weights, np.tile(known, (7, 1)), atol=1e-4)
    for samples, at_once in ((1, 10), (25, 10), (25, 25)):
        bound = importance_bound(net, batch, samples, at_once)
        np.testing.assert_allclose(bound, known, atol=1e-4)
    seen, cost = exact_elbo(net, covariance, batch)
    np.testing.assert_allclose(seen - cost, known, atol=1e-4)
    number = 4000
    with torch.no_grad():
        terms = elbo_terms(net, net.prepare(batch), number)
    error = 5 * terms.likelihood.std(0).numpy() / math.sqrt(number)
    assert (np.abs(terms.bound.numpy() - known) < error).all()
    if prior in MARKOV:
        for particles in (1, 6):
            bound = particle_bound(net, batch, particles, threshold=0)
            np.testing.assert_allclose(bound, known, atol=1e-4)


def with_missing(batch):
    """The sequences with values missing: some, a whole frame of the second, a channel."""
    seen = torch.rand(batch.obs.shape, generator=torch.Generator().manual_seed(6)) > 0.3
    seen[1, 2] = False
    seen[..., M - 1] = False
    return Batch(batch.obs, batch.mask, observed=seen)


@pytest.mark.parametrize("prior", ["Wiener", "AR1", "exponential"])
def test_every_bound_is_the_evidence_of_the_values_seen(prior):
    """Of a guide that is the posterior given these, the whole of a hidden frame's time included."""
    net, covariance = solved_model(prior, sees_missing=True), PRIORS[prior][1]
    whole = frames_of(net)
    batch = with_missing(whole)
    known = evidence(net, covariance, batch)
    assert np.abs(known - evidence(net, covariance, whole)).min() > 1
    np.testing.assert_allclose(importance_bound(net, batch, 25), known, atol=1e-4)
    data, number = net.prepare(batch), 4000
    with torch.no_grad():
        weights = net.frame_weights(data, 7).sum(-1)
        terms = elbo_terms(net, data, number)
    np.testing.assert_allclose(weights, np.tile(known, (7, 1)), atol=1e-4)
    error = 5 * terms.likelihood.std(0).numpy() / math.sqrt(number)
    assert (np.abs(terms.bound.numpy() - known) < error).all()
    if prior in MARKOV:
        for order in ([0, 1, 2], [1, 2, 0]):
            bound = particle_bound(net, batch.rows(order), 6, threshold=0)
            np.testing.assert_allclose(bound, known[order], atol=1e-4)
    loss = SequenceELBO(net, num_samples=number).gradients(batch)
    assert loss["frames"] == batch.frames == batch.mask.sum() - 1
    assert -loss["loss"].item() * batch.frames == pytest.approx(known.sum(), abs=float(error.sum()))


@pytest.mark.parametrize("objective", ["importance", "particles"])
def test_bounds_of_values_seen_are_below_the_evidence_and_approach_it(objective):
    """Of a guide that reads zeros, told nothing of what is missing."""
    net = linear_model("AR1")
    batch = with_missing(frames_of(net))
    known = evidence(net, PRIORS["AR1"][1], batch)
    bound = {
        "importance": lambda: importance_bound(net, batch, 20_000, at_once=5000),
        "particles": lambda: particle_bound(net, batch, 8000),
    }[objective]
    np.testing.assert_allclose(bound(), known, atol=0.35)
    assert (elbo(net, batch, 300).numpy() < known).all()


# Importance-weighted bounds ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prior", "guide"), [("AR1", "MarkovChain"), ("exponential", "MarkovChain")]
)
def test_importance_bound_rises_towards_the_evidence_and_is_unbiased(prior, guide):
    net, number = linear_model(prior, guide), 500
    batch = frames_of(net)
    known = evidence(net, PRIORS[prior][1], batch)
    many = copies(batch, number)
    means, errors = [], []
    for samples in (1, 8, 100):
        bound = importance_bound(net, many, samples, at_once=50).view(B, number).double().numpy()
        means.append(bound.mean(1) - known)
        errors.append(bound.std(1) / math.sqrt(number))
        ratio = np.exp(bound - known[:, None])
        assert (np.abs(ratio.mean(1) - 1) < 5 * ratio.std(1) / math.sqrt(number)).all()
    for (lower, below), (upper, above) in itertools.pairwise(zip(means, errors)):
        assert (upper - lower > 3 * np.hypot(below, above)).all()
    assert (means[0] < -0.1).all()
    assert (means[-1] < 3 * errors[-1]).all()
    assert (means[-1] > -0.2).all()


# Particles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0, 0.5, 1])
@pytest.mark.parametrize(
    ("prior", "guide", "decoder_input"),
    [
        ("Wiener", "MarkovChain", "path"),
        ("AR1", "MarkovChain", "innovations"),
        ("WhiteNoise", "Diagonal", "path"),
    ],
)
def test_particle_estimates_are_unbiased_and_rows_may_come_in_any_order(
    prior, guide, decoder_input, threshold
):
    net, number = linear_model(prior, guide, decoder_input=decoder_input), 3000
    batch = frames_of(net)
    covariance = np.eye(T) if decoder_input == "innovations" else PRIORS[prior][1]
    known = evidence(net, covariance, batch)
    order = torch.randperm(B * number)
    found = particle_bound(net, copies(batch, number).rows(order), 16, threshold)
    found = found[order.argsort()].view(B, number).double().numpy()
    ratio = np.exp(found - known[:, None])
    error = ratio.std(1) / math.sqrt(number)
    assert (error < 0.05).all()
    assert (np.abs(ratio.mean(1) - 1) < 4.5 * error).all()
    assert (found.mean(1) < known).all()  # so its logarithm is a bound


@pytest.mark.parametrize("threshold", [0, 0.5, 1])
@pytest.mark.parametrize(
    ("prior", "guide"),
    [("Wiener", "Increments"), ("AR1", "MarkovChain"), ("WhiteNoise", "Diagonal")],
)
def test_particle_bound_approaches_the_evidence(prior, guide, threshold):
    net = linear_model(prior, guide)
    batch = frames_of(net)
    known = evidence(net, PRIORS[prior][1], batch)
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        found = particle_bound(net, batch.rows(order), 8000, threshold)
        np.testing.assert_allclose(found, known[order], atol=0.35)


def test_particles_do_better_than_whole_paths():
    """Long sequences under a guide that is the prior: resampling pays."""
    net, length = linear_model("AR1"), 30
    batch = Batch(net.sample(20, length))
    particles = particle_bound(net, batch, 50).mean()
    assert particles > particle_bound(net, batch, 50, threshold=0).mean() + 1
    assert particles > importance_bound(net, batch, 50).mean() + 1


@pytest.mark.parametrize("decoder_input", ["innovations", "path"])
@pytest.mark.parametrize("guide", [*GUIDES, "Autoregressive"])
@every_markov
def test_weights_of_particles_sum_to_those_of_whole_paths(prior, guide, decoder_input):
    """Step through the model by hand, then weigh the paths that came out as Pyro does."""
    if guide == "Autoregressive" and decoder_input == "path":
        pytest.skip("an Autoregressive guide reads a memory of innovations")
    net = nonlinear_model(prior, guide, decoder_input)
    lengths = torch.tensor([4, 3, 2])
    batch = Batch(net.sample(B, T), torch.arange(T) < lengths[:, None])
    particles = 5
    with torch.no_grad():
        encoding = net.prepare(batch)
        steps = net.particle_steps(encoding)
        state, path, total = steps.begin(particles), torch.zeros(particles, B, T, K), 0.0
        for t in range(T):
            rows = int((lengths > t).sum())
            state, weights = steps.step(t, tuple(part[:, :rows] for part in state))
            assert weights.shape == (particles, rows)
            path[:, :rows, t] = state[0]
            total = total + functional.pad(weights, (0, B - rows))
        expected = net.prior(batch.mask).log_prob(path) - encoding.belief.log_prob(path)
        expected = expected + net.emit(path, encoding).log_prob(batch.obs)
    assert expected.std() > 0.1
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-4)


class Told:
    """A steps whose weights are given; its particles are known by their number."""

    def __init__(self, weights):
        self.weights, self.seen = weights.log(), []

    def begin(self, particles):
        names = torch.arange(float(particles))[:, None]
        return (names.expand(particles, self.weights.shape[2]).clone(),)

    def step(self, t, state):
        self.seen.append(state[0])
        return state, self.weights[t, :, : state[0].shape[1]]


def test_resampling_is_of_the_rows_that_need_it_and_in_proportion():
    """Four particles; the effective sizes of the rows after the first frame are 2.9, 2 and 1."""
    first = torch.tensor([[1.6, 1.6, 0.4, 0.4], [3, 3, 0, 0], [0, 0, 8, 0]]).T
    then = torch.arange(1.0, 13).view(4, 3)
    never = (first * then).mean(0)  # what the weights come to where nothing is drawn again
    steps = Told(torch.stack((first, then)))
    found = run_particles(steps, [2, 2, 2], 4, threshold=0.7)
    assert steps.seen[1][:, 0].tolist() == [0, 1, 2, 3]
    assert steps.seen[1].sort(0).values.T[1:].tolist() == [[0, 0, 1, 1], [2, 2, 2, 2]]
    expected = torch.stack((never[0], *(first.mean(0) * then.mean(0))[1:]))
    torch.testing.assert_close(found, expected.log())
    found = run_particles(Told(steps.weights.exp()), [2, 2, 1], 4, threshold=0)
    torch.testing.assert_close(found, torch.stack((*never[:2], first.mean(0)[2])).log())


def test_particle_filters_run_in_double_precision():
    net = linear_model()
    batch = frames_of(net)
    known = evidence(net, PRIORS["Wiener"][1], batch)
    found = particle_bound(net.double(), Batch(batch.obs.double(), MASK), 4000, threshold=1)
    np.testing.assert_allclose(found, known, atol=0.25)


@pytest.mark.parametrize("bad", [{"num_particles": 0}, {"num_particles": 3, "threshold": 1.5}])
def test_bad_numbers_of_particles(bad):
    net = linear_model()
    with pytest.raises(ValueError, match=r"num_particles must|threshold must"):
        particle_bound(net, frames_of(net), **bad)


def test_what_cannot_be_stepped_is_refused():
    batch = Batch(torch.bernoulli(torch.full((B, T, M), 0.5)))
    bernoulli = likelihoods.Bernoulli(M)
    process = nonlinear_model("rbf", "MarkovChain")
    both = nonlinear_model("Wiener", "MarkovChain", decoder="Bidirectional")
    for net, complaint in (
        (process, "Markov"),
        (both, "CausalDecoder"),
        (VOSP(M, K, bernoulli, hidden=H, width=7), "VOSP"),
        (RNN(M, bernoulli, hidden=H), "RNN"),
    ):
        with pytest.raises(ValueError, match=complaint):
            particle_bound(net, batch, 3)
        with pytest.raises(ValueError, match=complaint):
            SequenceELBO(net, objective="particles").gradients(batch)


def test_no_bound_of_no_samples():
    net = linear_model()
    for bound in (importance_bound, particle_bound):
        with pytest.raises(ValueError, match="must be at least 1, got 0"):
            bound(net, frames_of(net), 0)
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        frame_bound(vosp(), film(), 0)
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        elbo(net, frames_of(net), num_samples=0)
    for bound in (importance_bound, frame_bound):
        with pytest.raises(ValueError, match="at_once must be at least 1, got 0"):
            bound(vosp(), film(), 5, at_once=0)


def test_bounds_take_sequences_in_any_form():
    net = vosp()
    sequences = [torch.ones(4, M), torch.zeros(2, M)]
    batch = collate(sequences)
    for bound in (elbo, importance_bound, frame_bound):
        torch.testing.assert_close(bound(net, sequences, 3), bound(net, batch, 3))
        torch.testing.assert_close(bound(net, batch.obs, 3), bound(net, Batch(batch.obs), 3))
    with pytest.raises(ValueError, match=r"the data set PPC: use its .batch\(\)"):
        elbo(net, PPC(2, 10, seed=0))


@pytest.mark.parametrize("bound", [elbo, importance_bound, frame_bound, particle_bound])
def test_a_bound_samples_from_a_private_random_stream(bound):
    net, batch = (vosp(), film()) if bound is frame_bound else (linear_model(), None)
    batch = batch or frames_of(net)
    state = torch.get_rng_state()
    one, again, other = (bound(net, batch, 3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


# The surrogate is no bound ----------------------------------------------------------------------


class Still(nn.Module):
    """A guide that stays near zero with a spread of its own, for frames that say little."""

    features_dim, dim = Projected.features_dim, K

    def forward(self, features, mask, prior, decoder):
        return LinearChain(mask, 0.0, torch.zeros(*mask.shape, K), torch.full((1, K), 0.5**0.5))


def test_the_surrogate_exceeds_the_evidence_where_the_elbo_does_not():
    """Frames that never move: a stationary guide costs nearly nothing by the surrogate."""
    length = 20
    prior = priors.WienerProcess(K)
    family = likelihoods.Gaussian(M, NOISE)
    net = VRAE(
        *(M, K, family),
        prior=prior,
        encoder=Projected(),
        guide=Still(),
        decoder=Linear(K),
        decoder_input="path",
    )
    batch = Batch(net.decoder.shift.detach().expand(B, length, M).clone())
    index = np.arange(1.0, length + 1)
    known = evidence(net, np.minimum(index, index[:, None]), batch).sum() / batch.frames
    losses = {
        objective: SequenceELBO(net, objective=objective, num_samples=500).gradients(batch)["loss"]
        for objective in ("elbo", "marginal-increments")
    }
    assert -losses["elbo"] < known
    assert -losses["marginal-increments"] > known + 0.1


# Bounds of single frames ------------------------------------------------------------------------


def vosp(dim=1, wrong=0.1, **how):
    """A VOSP with weights that matter, and a guide that is more or less wrong."""
    net = VOSP(M, dim, likelihoods.Bernoulli(M), hidden=H, width=7, **how)
    for part in net.parameters():
        if part.dim() > 1:
            nn.init.normal_(part, std=0.6)
    nn.init.normal_(net.recognition.heads.weight, std=wrong)
    net.recognition.heads.bias.data[-dim:] = 0.9
    return net


def film(rows=B, seed=4):
    draws = torch.rand(rows, T, M, generator=torch.Generator().manual_seed(seed))
    mask = MASK if rows == B else None
    return Batch((draws < 0.4).float(), mask)


@torch.no_grad()
def integrated(net, batch):
    """log p(x) of each sequence: the noise of every frame summed over a grid; K = 1."""
    grid = torch.linspace(-8, 8, 801)
    encoding, prior = net.prepare(batch), net.prior(batch.mask)
    path = prior.from_innovations(grid[:, None, None, None].expand(-1, *batch.mask.shape, 1))
    weight = stats.norm.logpdf(grid.numpy()) + math.log(16 / 800)
    logits = net.natural(path, encoding)
    obs = batch.obs.expand_as(logits)
    each = -functional.binary_cross_entropy_with_logits(logits, obs, reduction="none")
    if batch.observed is not None:
        each = each.masked_fill(~batch.observed, 0.0)
    terms = each.sum(-1) + torch.tensor(weight)[:, None, None]
    return torch.where(batch.mask, terms.logsumexp(0), 0.0).sum(-1)


FRAMEWISE = {
    "Wiener": vosp,
    "WhiteNoise": lambda: vosp(prior=priors.WhiteNoise(1, 1.3), guide=path_guides.Diagonal(7, 1)),
}


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", FRAMEWISE)
def test_frame_bound_is_the_integral_over_the_noise_of_every_frame(name, missing):
    net, batch = FRAMEWISE[name](), film()
    batch = with_missing(batch) if missing else batch
    weights = net.frame_weights(net.prepare(batch), 3)
    assert torch.equal((weights == 0).all(0), ~batch.observed_frames)  # no cost of a hidden frame
    known = integrated(net, batch)
    assert known.std() > 0.5
    for at_once in (1000, 20_000):
        torch.testing.assert_close(
            frame_bound(net, batch, 20_000, at_once), known, atol=0.1, rtol=0, check_dtype=False
        )


def test_probabilities_of_all_films_add_up():
    """Over all binary films of two frames of two keys: each frame's law is one given the past."""
    net = VOSP(2, 1, likelihoods.Bernoulli(2), hidden=H, width=7)
    films = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).view(16, 2, 2)
    assert integrated(net, Batch(films)).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_bounds_of_frames_are_tighter_than_those_of_sequences():
    length, number = 15, 600
    net = vosp(wrong=0.5)
    batch = Batch(
        (torch.rand(4, length, M) < 0.4).float(),
        torch.arange(length) < torch.tensor([[15], [13], [14], [15]]),
    )
    many, known = copies(batch, number), integrated(net, batch).numpy()
    found = {
        "elbo": elbo(net, many),
        "sequences": importance_bound(net, many, 10),
        "frames": frame_bound(net, many, 10),
    }
    found = {name: bound.view(4, number).double().numpy() for name, bound in found.items()}
    means = {name: bound.mean(1) for name, bound in found.items()}
    error = {name: bound.std(1) / math.sqrt(number) for name, bound in found.items()}
    for lower, upper in itertools.pairwise(found):
        spread = 3 * np.hypot(error[lower], error[upper])
        assert (means[upper] - means[lower] > spread).all()
    assert (means["frames"] < known).all()


def test_frame_bound_is_of_an_unbiased_estimate():
    net, batch = vosp(), film()
    known, number = integrated(net, batch).numpy(), 1000
    found = frame_bound(net, copies(batch, number), 10).view(B, number).double().numpy()
    ratio = np.exp(found - known[:, None])
    assert (np.abs(ratio.mean(1) - 1) < 5 * ratio.std(1) / math.sqrt(number)).all()
    assert (found.mean(1) < known).all()


def test_models_whose_frames_share_noise_have_no_frame_bound():
    for net in (
        linear_model(),
        nonlinear_model("Wiener", "Increments"),
        nonlinear_model("WhiteNoise", "Diagonal"),
        vosp(K, guide=path_guides.Diagonal(7, K)),
        vosp(K, guide=path_guides.MarkovChain(7, K)),
        vosp(K, decoder_input="path"),
        vosp(K, prior=priors.AR1(K)),
        vosp(K, prior=priors.WhiteNoise(K)),
        vosp(K, prior=priors.GaussianProcess(K)),
        RNN(M, likelihoods.Bernoulli(M), hidden=H),
    ):
        with pytest.raises(ValueError, match="share latent noise"):
            frame_bound(net, film(), 3)
        with pytest.raises(ValueError, match="share latent noise"):
            SequenceELBO(net, objective="frames").gradients(film())


def test_a_white_path_is_forgotten_even_where_the_decoder_sees_it():
    prior, guide = priors.WhiteNoise(1), path_guides.Diagonal(7, 1)
    assert frame_bound(vosp(prior=prior, guide=guide, decoder_input="path"), film(), 3).shape == (
        B,
    )


# The rule ---------------------------------------------------------------------------------------


def nonlinear_model(
    prior="Wiener", guide="Autoregressive", decoder_input="innovations", decoder="Causal"
):
    """A VRAE over binary frames, with weights that matter."""
    law = {
        "Wiener": lambda: priors.WienerProcess(K, 0.8, learn=True),
        "AR1": lambda: priors.AR1(K, 0.7, learn=True),
        "WhiteNoise": lambda: priors.WhiteNoise(K, learn=True),
        "rbf": lambda: priors.GaussianProcess(K, "rbf", 1.5, learn=True),
    }[prior]()
    read = path_guides.Autoregressive(H, K, H, H)
    belief = read if guide == "Autoregressive" else GUIDES[guide](H, K)
    writer = None
    if decoder == "Bidirectional":
        writer = decoders.BidirectionalDecoder(K, M, H)
    parts = {"prior": law, "guide": belief, "decoder": writer, "decoder_input": decoder_input}
    net = VRAE(M, K, likelihoods.Bernoulli(M), H, **parts)
    for name, part in net.named_parameters():
        if part.dim() > 1 and not name.startswith("prior"):
            nn.init.normal_(part, std=0.4)
    return net


def gradient(net):
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def run(net, batch, seed=8, done=0.0, **how):
    """Metrics and gradient of one update, from given draws."""
    rule = SequenceELBO(net, **how)
    rule.done = done
    torch.manual_seed(seed)
    return rule.gradients(batch), gradient(net)


@pytest.mark.parametrize("particles", [1, 4])
def test_losses_and_gradients_are_those_of_the_bounds(particles):
    batch, k = film(), particles
    direct = {
        "elbo": elbo,
        "importance": importance_bound,
        "frames": frame_bound,
        "particles": particle_bound,
    }
    for objective, bound in direct.items():
        net = vosp(K) if objective == "frames" else nonlinear_model()
        metrics, found = run(net, batch, objective=objective, num_samples=k)
        torch.manual_seed(8)
        net.zero_grad()
        expected = -bound(net, batch, k, graph=True).sum() / batch.frames
        expected.backward()
        torch.testing.assert_close(metrics["loss"], expected.detach())
        torch.testing.assert_close(gradient(net), found)
        assert not bound(net, batch, k).requires_grad
        with pytest.raises(ValueError, match="leave seed=3 out"):
            bound(net, batch, k, seed=3, graph=True)
        assert metrics["frames"] == batch.frames
        assert not metrics["loss"].requires_grad
        assert ("kl" in metrics) == (objective == "elbo")


def test_the_loss_of_the_surrogate_and_the_kl_reported():
    net, batch = nonlinear_model(guide="Diagonal"), film()
    q, p = net.posterior(batch), net.prior(batch.mask)
    found = {}
    for objective, divergence in (("elbo", kl_steps), ("marginal-increments", marginal_increments)):
        found[objective] = run(net, batch, objective=objective, num_samples=3)[0]
        expected = divergence(q, p).sum() / batch.frames
        torch.testing.assert_close(found[objective]["kl"], expected.detach())
    likelihoods_of = [metrics["loss"] - metrics["kl"] for metrics in found.values()]
    torch.testing.assert_close(*likelihoods_of)  # the same draws


def test_the_kl_weight_scales_its_gradient_and_not_the_loss():
    net, batch = nonlinear_model(), film()
    plain, whole = run(net, batch)
    blind, free = run(net, batch, kl_weight=0.0)
    for done, weight in ((0.0, 0.1), (0.25, 0.1**0.5), (0.5, 1.0), (0.9, 1.0)):
        metrics, found = run(net, batch, done=done, kl_weight=[0.1, 1.0, 0.5])
        for key in ("loss", "kl"):
            torch.testing.assert_close(metrics[key], plain[key])
            torch.testing.assert_close(metrics[key], blind[key])
        for name, value in found.items():
            expected = free[name] + weight * (whole[name] - free[name])
            torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-3)
    assert any((whole[name] - free[name]).abs().max() > 1e-3 for name in whole)


@pytest.mark.parametrize("objective", ["elbo", "marginal-increments"])
def test_free_bits(objective):
    """Below the floor the KL term has no gradient, above it the gradient is whole."""
    net, batch = nonlinear_model(guide="Diagonal"), film()
    plain, whole = run(net, batch, objective=objective)
    _, free = run(net, batch, objective=objective, kl_weight=0.0)
    kl = plain["kl"].item()
    assert kl > 0
    for bits, expected in ((1.01 * kl, free), (0.99 * kl, whole)):
        metrics, found = run(net, batch, objective=objective, free_bits=bits)
        torch.testing.assert_close(metrics["loss"], plain["loss"])
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name])
    assert not torch.allclose(free["recognition.heads.weight"], whole["recognition.heads.weight"])


def test_gradients_of_the_elbo_are_those_of_dense_gaussians():
    """With respect to the logarithm of the prior's scale: the derivative of the exact KL term."""
    net = linear_model("Wiener", "MarkovChain")
    net.prior.log_scale.requires_grad_()
    batch, _ = frames_of(net), net.zero_grad()
    run(net, batch)
    step, costs = 1e-4, []
    for sign in (1, -1):
        covariance = PRIORS["Wiener"][1] * math.exp(2 * sign * step)
        costs.append(exact_elbo(net, covariance, batch)[1].sum() / batch.frames)
    slope = (costs[0] - costs[1]) / (2 * step)
    assert net.prior.log_scale.grad.sum().item() == pytest.approx(slope, rel=1e-3)


COMBINATIONS = [
    (prior, guide, decoder_input, decoder)
    for prior in ("Wiener", "AR1", "WhiteNoise", "rbf")
    for guide in (*GUIDES, "Autoregressive")
    for decoder_input, decoder in (
        ("innovations", "Causal"),
        ("path", "Causal"),
        ("innovations", "Bidirectional"),
    )
]


#: Every pair of a prior, a guide and a decoder, each of them with one of the third.
PAIRS = [each for number, each in enumerate(COMBINATIONS) if (number // 12 + number) % 2 == 0]


@pytest.mark.parametrize(("prior", "guide", "decoder_input", "decoder"), PAIRS)
def test_gradients_reach_every_parameter_under_every_objective(
    prior, guide, decoder_input, decoder
):
    batch = film()
    if guide == "Autoregressive" and (decoder_input, decoder) != ("innovations", "Causal"):
        with pytest.raises(ValueError, match=r"Autoregressive.*(innovations|causal)"):
            SequenceELBO(nonlinear_model(prior, guide, decoder_input, decoder)).gradients(batch)
        return
    refused = {
        "frames": True,
        "particles": prior == "rbf" or decoder == "Bidirectional",
        "marginal-increments": prior != "Wiener" or guide == "Autoregressive",
    }
    for objective in ("elbo", "importance", "frames", "particles", "marginal-increments"):
        net = nonlinear_model(prior, guide, decoder_input, decoder)
        rule = SequenceELBO(net, objective=objective, num_samples=3)
        if refused.get(objective, False):
            with pytest.raises(ValueError, match=r"\w+ \w+"):
                rule.gradients(batch)
            continue
        metrics = rule.gradients(batch)
        assert all(value.isfinite() for value in metrics.values())
        for name, part in net.named_parameters():
            assert part.grad is not None, (objective, name)
            assert part.grad.isfinite().all(), (objective, name)
            # What the guide says of innovations, it says of any scale of the prior.
            absent = name.startswith("prior") and guide == "Autoregressive"
            assert absent or part.grad.any(), (objective, name)


@pytest.mark.parametrize("objective", ["elbo", "importance", "frames", "marginal-increments"])
@pytest.mark.parametrize("guide", [*GUIDES])
@pytest.mark.parametrize("prior", ["Wiener", "AR1", "WhiteNoise", "rbf"])
def test_gradients_reach_every_parameter_of_a_vosp(prior, guide, objective):
    law = nonlinear_model(prior, "Diagonal").prior
    net = vosp(K, prior=law, guide=GUIDES[guide](7, K))
    rule = SequenceELBO(net, objective=objective, num_samples=3)
    matched = (prior, guide) in (("Wiener", "Increments"), ("WhiteNoise", "Diagonal"))
    if (objective == "frames" and not matched) or (
        objective == "marginal-increments" and prior != "Wiener"
    ):
        with pytest.raises(ValueError, match=r"\w+ \w+"):
            rule.gradients(film())
        return
    rule.gradients(film())
    for name, part in net.named_parameters():
        assert part.grad is not None, name
        assert part.grad.isfinite().all(), name
        assert part.grad.any(), name


CELLS = {
    "tanh": (nn.RNNCell, lambda state: state),
    "gru": (nn.GRUCell, lambda state: state),
    "lstm": (nn.LSTMCell, lambda state: state[0]),
}


@pytest.mark.parametrize("cell", CELLS)
def test_the_loss_of_an_rnn_is_its_negative_log_likelihood(cell):
    """Against torch's cells in a loop, frame after frame, sequence after sequence."""
    net = RNN(M, likelihoods.Bernoulli(M), memory=Memory(M, H, cell))
    batch = film()
    build, output = CELLS[cell]
    one = build(M, H)
    weights = {name.removesuffix("_l0"): w for name, w in net.memory.net.named_parameters()}
    one.load_state_dict(weights)
    total = []
    for obs, length in zip(batch.obs, LENGTHS):
        state, loss = None, 0.0
        for frame in obs[:length]:
            hidden = torch.zeros(1, H) if state is None else output(state)
            logits = net.readout(hidden)[0]
            loss = loss + functional.binary_cross_entropy_with_logits(
                logits, frame, reduction="sum"
            )
            state = one(frame[None], state)
        total.append(loss)
    total = torch.stack(total)
    torch.testing.assert_close(-net.log_prob(batch), total.detach())
    net.zero_grad()
    (total.sum() / batch.frames).backward()
    expected = gradient(net)
    for particles in (1, 3):
        metrics, found = run(net, batch, num_samples=particles)
        torch.testing.assert_close(metrics["loss"], total.detach().sum() / batch.frames)
        assert metrics["kl"] == 0
        for name in ("readout.0.weight", "readout.0.bias"):
            torch.testing.assert_close(found[name], expected[name])
        for name, weight in one.named_parameters():
            torch.testing.assert_close(found[f"memory.net.{name}_l0"], weight.grad)
    torch.testing.assert_close(importance_bound(net, batch, 4), -total.detach())


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"objective": "evidence"}, "objective must be one of .*'evidence'"),
        ({"num_samples": 0}, "num_samples"),
        ({"free_bits": -1.0}, "free_bits"),
        ({"weight_noise": -1.0}, "weight_noise"),
        ({"kl_weight": [0.1, 1.0]}, "first, last, fraction"),
        ({"kl_weight": [0.0, 1.0, 0.5]}, "above 0"),
        ({"objective": "importance", "kl_weight": 0.5}, "no KL term"),
        ({"objective": "frames", "free_bits": 0.1}, "no KL term"),
        ({"objective": "particles", "kl_weight": [0.1, 1.0, 0.5]}, "no KL term"),
    ],
)
def test_bad_options(how, complaint):
    with pytest.raises(ValueError, match=complaint):
        SequenceELBO(nonlinear_model(), **how)


def test_the_rule_names_itself():
    assert repr(SequenceELBO(nonlinear_model())) == "SequenceELBO(VRAE, elbo)"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ppc/rvae", "RVAE is a model of single frames given the statistics of the past"),
        ("ppc/tvae", "TVAE is .* not of whole sequences: .*unit=.frame"),
        ("ppc/refh", "REFH has no Pyro pair of model and guide"),
    ],
)
@pytest.mark.parametrize("bound", [elbo, importance_bound, frame_bound, particle_bound])
def test_models_without_a_bound_on_sequences_say_so(bound, name, message):
    batch = PPC(2, 10, seed=0).batch()
    with pytest.raises(ValueError, match=message):
        bound(zoo.load(name), batch, 2)


def test_the_bound_of_a_linear_system_is_its_likelihood():
    net, batch = zoo.load("ppc/kf2"), PPC(2, 10, seed=0).batch()
    exact = kalman_filter(net.system(), *net.measure(batch.obs), batch.mask).log_likelihood
    torch.testing.assert_close(elbo(net, batch), exact)
