"""k-hat, smoothed bounds and leave-one-out densities, where the exact ones are known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from seqzoo.data import Batch
from seqzoo.inference import LinearChain, elbo, frame_bound, importance_bound
from seqzoo.inference.diagnostics.loo import loo
from seqzoo.inference.diagnostics.psis import (
    FEWEST,
    good_khat,
    importance_weights,
    khat,
    smooth_weights,
    smoothed_bound,
)
from seqzoo.inference.samples import prepare_plate, sample_sites
from seqzoo.zoo import VRAE, likelihoods, priors
from seqzoo.zoo.models.baselines import Order0
from seqzoo.zoo.models.srn import SRN
from seqzoo.zoo.recipes.population import PopulationReadout
from torch import nn

from seqzoo import zoo

B, T, M, NOISE = 3, 4, 5, 1.6
MASK = torch.arange(T) < torch.tensor([2, 4, 3])[:, None]
STEPS = np.arange(T)
PRIOR = 1.44 * 0.7 ** np.abs(STEPS - STEPS[:, None])  # covariance of an AR1 path
WEIGHT = np.linspace(-0.6, 1.0, M)

# A linear-Gaussian model, x_t = w z_t + noise, whose guide is its posterior -----------------------


class Linear(nn.Module):
    """A decoder."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(WEIGHT, dtype=torch.float32))

    def forward(self, path, mask=None):
        return path * self.weight / NOISE


class Smoother(nn.Module):
    """Puts out the posterior as a chain (a_t, b_t, s_t)."""

    features_dim = 3

    def forward(self, obs, mask):
        features = torch.ones(*mask.shape, 3)
        for row, steps in enumerate(mask.sum(1).tolist()):
            mean, cov = posterior(obs[row, :steps].double().numpy())
            for t in range(steps):
                a = cov[t, t - 1] / cov[t - 1, t - 1] if t else 0.0
                b = mean[t] - (a * mean[t - 1] if t else 0.0)
                spread = math.sqrt(cov[t, t] - (a * cov[t, t - 1] if t else 0.0))
                features[row, t] = torch.tensor([a, b, spread])
        return features


class Scaled(nn.Module):
    """A guide with the chain's own spread, times a factor."""

    features_dim, dim = 3, 1

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def forward(self, features, mask, prior, decoder):
        a, b, spread = features.chunk(3, -1)
        return LinearChain(mask, a, b, self.factor * spread)


def joint(steps):
    """The matrix from a path to its frames, and the covariance of all frames."""
    matrix = np.kron(np.eye(steps), WEIGHT[:, None])
    return matrix, matrix @ PRIOR[:steps, :steps] @ matrix.T + NOISE**2 * np.eye(steps * M)


def posterior(frames):
    matrix, total = joint(len(frames))
    prior = PRIOR[: len(frames), : len(frames)]
    gain = np.linalg.solve(total, matrix @ prior).T
    return gain @ frames.ravel(), prior - gain @ matrix @ prior


def known(batch):
    """log p(x) of each sequence, and log p(x_t | the other frames)."""
    evidence, left_out = np.zeros(B), np.full((B, T), np.nan)
    for row, steps in enumerate(batch.mask.sum(1).tolist()):
        total, x = joint(steps)[1], batch.obs[row, :steps].double().numpy().ravel()
        evidence[row] = stats.multivariate_normal(np.zeros(len(x)), total).logpdf(x)
        inverse = np.linalg.inv(total)
        for t in range(steps):
            now = slice(t * M, (t + 1) * M)
            spread = np.linalg.inv(inverse[now, now])
            mean = x[now] - spread @ (inverse @ x)[now]
            left_out[row, t] = stats.multivariate_normal(mean, spread).logpdf(x[now])
    return evidence, left_out


def solved(factor=1.0):
    """The model with its posterior as guide, or with one as wide as some times that."""
    parts = {
        "encoder": Smoother(),
        "guide": Scaled(factor),
        "decoder": Linear(),
        "decoder_input": "path",
    }
    return VRAE(M, 1, likelihoods.Gaussian(M, NOISE), prior=priors.AR1(1, 0.7, 1.2), **parts)


@pytest.fixture
def batch():
    return Batch(solved().sample(B, T, seed=2), MASK)


# k-hat --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.8])
def test_khat_is_the_shape_of_pareto_weights(shape):
    """w = U^-k has a Pareto tail of shape k, and mean 1 / (1 - k)."""
    uniform = torch.rand(2000, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = smooth_weights(-shape * uniform.log())
    assert found.khat.mean() == pytest.approx(shape, abs=0.06)
    if shape < 0.7:
        assert found.bound.mean() == pytest.approx(-math.log(1 - shape), abs=0.03)
    np.testing.assert_allclose(found.weights.exp().sum(0), 1.0)
    shifted = smooth_weights(-5000 - shape * uniform.log())  # as far down as log p(x) is
    np.testing.assert_allclose(shifted.khat, found.khat, rtol=1e-6)
    np.testing.assert_allclose(shifted.bound + 5000, found.bound, atol=1e-8)


def test_even_weights_are_perfect_and_a_single_one_is_hopeless():
    even = torch.full((100, 2), -321.0) + 1e-4 * torch.randn(100, 2)
    found = smooth_weights(even)
    assert found.khat.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(found.effective, 100, rtol=1e-3)
    np.testing.assert_allclose(found.bound, -321.0, atol=1e-3)
    alone = torch.full((100,), -torch.inf)
    alone[3] = -7.0
    found = smooth_weights(alone)
    assert found.khat == torch.inf
    assert found.effective == pytest.approx(1.0)
    assert found.bound == pytest.approx(-7 - math.log(100))


def test_weights_of_bits_have_no_tail_to_smooth():
    """Two values, or a few, or such but for rounding: bounded, and shared by more than a tail."""
    weights = torch.tensor([0.0, -2.0, -3.0]).repeat_interleave(torch.tensor([60, 100, 40]))
    rounded = -300 + weights.clamp_min(-2) + 1e-5 * torch.randn(200)
    found = smooth_weights(torch.stack((weights, weights.clamp_min(-2), rounded), 1))
    assert found.khat.tolist() == [0.0] * 3
    known = math.log(0.3 + 0.5 * math.exp(-2) + 0.2 * math.exp(-3))
    assert found.bound[0] == pytest.approx(known)
    assert smooth_weights(weights).effective == pytest.approx(
        float(weights.exp().sum() ** 2 / (2 * weights).exp().sum())
    )
    few = torch.full((200,), -5.0)
    few[:3] = 0.0
    assert smooth_weights(few).khat == torch.inf


def test_khat_is_low_for_the_posterior_and_high_for_a_guide_far_too_narrow(batch):
    assert (khat(solved(), batch, 400) < 0.5).all()
    assert (khat(solved(1.3), batch, 1000) < 0.5).all()
    assert (khat(solved(0.15), batch, 2000) > 0.7).all()


def test_the_smoothed_bound_is_the_evidence(batch):
    evidence, _ = known(batch)
    np.testing.assert_allclose(smoothed_bound(solved(), batch, 50), evidence, atol=1e-4)
    np.testing.assert_allclose(smoothed_bound(solved(1.3), batch, 2000), evidence, atol=0.1)
    state = torch.get_rng_state()
    first = importance_weights(solved(1.3), batch, 60, at_once=25)
    assert torch.equal(state, torch.get_rng_state())
    again = importance_weights(solved(1.3), batch, 60, at_once=25)
    assert first.weights.shape == (60, B)
    for one, other in zip(first, again):
        assert torch.equal(one, other)


def test_single_frames_of_a_one_step_predictor(batch):
    net = zoo.VOSP(M, 2, likelihoods.Gaussian(M), hidden=6, width=5)
    found = importance_weights(net, batch, 800, unit="frame")
    assert found.khat.shape == (B, T)
    assert found.weights.shape == (800, B, T)
    assert torch.equal(found.khat.isnan(), ~MASK)
    expected = frame_bound(net, batch, 2000)
    np.testing.assert_allclose(smoothed_bound(net, batch, 2000, unit="frame"), expected, atol=0.5)


@pytest.mark.parametrize("kind", [zoo.RVAE, zoo.TVAE])
def test_models_of_single_frames_are_weighed_frame_by_frame(batch, kind):
    net = kind(M, 2, likelihoods.Gaussian(M), hidden=6)
    assert torch.equal(importance_weights(net, batch, 100).khat.isnan(), ~MASK)
    assert torch.equal(loo(net, batch, 100, unit="frame").elpd.isnan(), ~MASK)


def test_what_a_model_teaches_itself_is_no_data(batch):
    net = zoo.RVAE(M, 2, likelihoods.Gaussian(M), hidden=6, predictor_hidden=4)
    data = prepare_plate(net, batch)
    drawn = sample_sites(net, data, 3)
    assert set(drawn.data) == {"u", "y"}
    total = sum(law.log_prob(drawn.data[name]) for name, law in drawn.distributions.items())
    total = total + net.prior(data).log_prob(drawn.latents["x"])
    torch.testing.assert_close(drawn.log_p, total)


def test_models_without_latent_state_have_even_weights(batch):
    net = zoo.RNN(M, likelihoods.Gaussian(M), hidden=6)
    found = importance_weights(net, batch, 30)
    assert found.khat.tolist() == [0.0] * B
    np.testing.assert_allclose(found.bound, elbo(net, batch), rtol=1e-5)
    frames = Batch(torch.poisson(torch.full((B, T, 15), 2.0)))
    system = zoo.LGDS(2, readout=PopulationReadout())
    np.testing.assert_allclose(
        smoothed_bound(system, frames, 30), system.filter(frames.obs).log_likelihood, rtol=1e-6
    )


# Leaving one out ----------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 1.3])
def test_leaving_a_frame_out_is_the_gaussian_conditional(batch, factor):
    """And so it is of a guide that is not the posterior: weights make up for it."""
    _, left_out = known(batch)
    found = loo(solved(factor), batch, 4000, unit="frame", at_once=1000)
    np.testing.assert_allclose(found.elpd, left_out, atol=0.08)
    assert (found.khat[MASK] < 0.7).all()
    each = left_out[~np.isnan(left_out)]
    assert found.total == pytest.approx(each.sum(), abs=0.2)
    assert found.error == pytest.approx(math.sqrt(len(each) * each.var()), rel=0.03)


def test_leaving_a_sequence_out_is_its_evidence(batch):
    evidence, _ = known(batch)
    found = loo(solved(), batch, 50)
    np.testing.assert_allclose(found.elpd, evidence, atol=1e-4)
    assert found.total == pytest.approx(evidence.sum(), abs=1e-3)


def test_a_single_unit_has_no_standard_error(batch):
    assert math.isnan(loo(solved(), batch.rows(slice(1)), 50).error)


def test_answers_at_every_step_are_left_out_one_by_one(batch):
    net = SRN(M, likelihoods.Categorical(3), hidden=6, stochastic=0.5, every_step=True)
    asked = Batch(batch.obs, MASK, target=torch.randint(3, (B, T)))
    found = loo(net, asked, 200, unit="frame")
    assert torch.equal(found.elpd.isnan(), ~MASK)
    # Bits are drawn from the prior: with all answers they weigh p(y), which the parts bound.
    whole = importance_bound(net, asked, 2000)
    assert (found.elpd[MASK] < 0).all()
    assert found.total == pytest.approx(float(whole.sum()), abs=0.5)


# What cannot be -----------------------------------------------------------------------------------


def test_bad_requests_get_a_clear_sentence(batch):
    net, gaussian = solved(), likelihoods.Gaussian(M)
    for call in (khat, loo, smoothed_bound):
        with pytest.raises(ValueError, match=f"at least {FEWEST} for Pareto smoothing, got 10"):
            call(net, batch, 10)
    with pytest.raises(ValueError, match="at least 25"):
        good_khat(3)
    assert good_khat(100) == pytest.approx(0.5)
    assert good_khat(10**6) == 0.7
    with pytest.raises(ValueError, match="'sequence' or 'frame', got 'bar'"):
        khat(net, batch, unit="bar")
    with pytest.raises(ValueError, match="'sequence' or 'frame', got 'bar'"):
        loo(net, batch, unit="bar")
    with pytest.raises(ValueError, match="share latent noise"):
        khat(net, batch, unit="frame")
    with pytest.raises(ValueError, match="REFH has no Pyro pair"):
        khat(zoo.REFH(M, 3, gaussian), batch)
    with pytest.raises(ValueError, match="Order0 has no Pyro pair"):
        khat(Order0(), batch)
    with pytest.raises(ValueError, match=r"RVAE is a model of single frames.*unit='frame'"):
        loo(zoo.RVAE(M, 2, gaussian, hidden=4), batch)
    for call in (khat, smoothed_bound, loo):
        with pytest.raises(ValueError, match="at_once must be at least 1, got 0"):
            call(net, batch, 50, at_once=0)
    with pytest.raises(ValueError, match="RVAE is a model of single frames"):
        khat(zoo.RVAE(M, 2, gaussian, hidden=4), batch, unit="sequence")
    with pytest.raises(ValueError, match="depends on the frames before it"):
        loo(zoo.RNN(M, gaussian, hidden=4), batch, unit="frame")
    with pytest.raises(ValueError, match="no distribution of single frames"):
        loo(zoo.LGDS(1, readout=PopulationReadout()), Batch(torch.ones(2, 3, 15)), unit="frame")
    with pytest.raises(ValueError, match="NaN, infinite or all zero"):
        smooth_weights(torch.full((30,), torch.nan))
