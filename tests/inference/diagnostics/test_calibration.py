"""PIT, coverage and simulation-based calibration, of posteriors that are known to be right."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from seqzoo.data import Batch
from seqzoo.inference import LinearChain
from seqzoo.inference.diagnostics.calibration import (
    LEVELS,
    calibration_error,
    coverage,
    frame_pit,
    histogram,
    pit,
    uniformity,
)
from seqzoo.inference.diagnostics.sbc import SBC, linear_gaussian_simulator, sbc, simulator
from seqzoo.inference.linear.kalman import LinearGaussian
from seqzoo.inference.samples import sample_sites
from seqzoo.zoo import VRAE, likelihoods, priors
from seqzoo.zoo.models.srn import SRN
from torch import nn

from seqzoo import zoo

T, M, K, NOISE, SPREAD = 3, 4, 2, 0.8, 1.1
WEIGHTS = torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.0, 0.0, -0.7, 0.9]]).T  # orthogonal columns
PRECISION = 1 / SPREAD**2 + WEIGHTS.square().sum(0) / NOISE**2

# A factor analyser in time: x_t = W z_t + noise, z white; its posterior factorises ---------------


class Linear(nn.Module):
    def forward(self, path, mask=None):
        return path @ WEIGHTS.T / NOISE


class Projected(nn.Module):
    features_dim = K

    def forward(self, obs, mask):
        return obs @ WEIGHTS / NOISE**2 / PRECISION


class Guide(nn.Module):
    """The posterior, its variance times a factor; or the prior."""

    features_dim, dim = K, K

    def __init__(self, factor=1.0, blind=False):
        super().__init__()
        self.factor, self.blind = factor, blind

    def forward(self, features, mask, prior, decoder):
        spread = (self.factor / PRECISION).sqrt()
        return (
            prior.expand(mask.shape[:1]) if self.blind else LinearChain(mask, 0, features, spread)
        )


def analyser(factor=1.0, blind=False):
    parts = {"encoder": Projected(), "guide": Guide(factor, blind), "decoder": Linear()}
    family, prior = likelihoods.Gaussian(M, NOISE), priors.WhiteNoise(K, SPREAD)
    return VRAE(M, K, family, prior=prior, decoder_input="path", **parts)


def blank(sequences=200):
    lengths = torch.arange(sequences) % 2 + T - 1
    return Batch(torch.zeros(sequences, T, M), torch.arange(T) < lengths[:, None])


def check(net, **how):
    return sbc(simulator(net, blank()), rounds=3, **how)


# One value among draws ----------------------------------------------------------------------------


def test_pit_of_the_right_law_is_uniform_whatever_the_number_of_draws():
    law = torch.distributions.Normal(2.0, 3.0)
    for number in (1, 7, 40):
        found = pit(law.sample((4000,)), law.sample((number, 4000)))
        assert found.dtype == torch.float64
        assert uniformity(found, 20) > 0.01
    assert uniformity(pit(law.sample((4000,)) + 1, law.sample((40, 4000)))) < 1e-6


@pytest.mark.parametrize(
    "law", [torch.distributions.Poisson(0.7), torch.distributions.Bernoulli(0.1)]
)
def test_pit_of_counts_and_bits_is_uniform(law):
    found = pit(law.sample((4000,)), law.sample((20, 4000)))
    assert uniformity(found, 20) > 0.01
    assert calibration_error(found) < 0.02


def test_pit_lies_where_its_value_does_among_the_draws():
    draws = torch.arange(9.0)[:, None].expand(9, 2)
    found = pit(torch.tensor([3.5, 20.0]), draws)
    assert 0.4 <= found[0] < 0.5
    assert found[1] >= 0.9
    assert pit(torch.tensor([torch.nan, 1.0]), draws).isnan().tolist() == [True, False]
    assert torch.equal(found, pit(torch.tensor([3.5, 20.0]), draws))


def test_coverage_is_what_gaussians_of_another_width_cover():
    value = torch.randn(20_000)
    for factor in (1.0, 0.5):
        found = coverage(pit(value, factor * torch.randn(199, 20_000)))
        known = [2 * stats.norm.cdf(factor * stats.norm.ppf((1 + p) / 2)) - 1 for p in LEVELS]
        np.testing.assert_allclose(found, known, atol=0.015)
    error = calibration_error(pit(value, 0.5 * torch.randn(199, 20_000)))
    assert error == pytest.approx(np.mean(np.array(LEVELS) - known), abs=0.01)


def test_one_sided_intervals_see_a_shift_that_central_ones_do_not():
    uniform = (torch.arange(20_000) + 0.5) / 20_000
    shifted = torch.special.ndtr(torch.special.ndtri(uniform.double()) + 0.1)
    assert calibration_error(shifted) < 0.003
    assert calibration_error(shifted, central=False) == pytest.approx(0.0295, abs=0.001)
    known = stats.norm.cdf(stats.norm.ppf(LEVELS) - 0.1)
    np.testing.assert_allclose(coverage(shifted, central=False), known, atol=1e-4)
    narrow = torch.special.ndtr(torch.special.ndtri(uniform.double()) / 0.8)
    assert calibration_error(narrow) == pytest.approx(0.0733, abs=0.001)
    assert calibration_error(narrow, central=False) == pytest.approx(0.036, abs=0.001)


@pytest.mark.parametrize("central", [True, False])
def test_what_chance_makes_of_the_calibration_error(central):
    generator = torch.Generator().manual_seed(0)
    pits = torch.rand(500, 400, generator=generator, dtype=torch.float64)
    found = torch.tensor([20 * calibration_error(one, central=central) for one in pits])
    assert found.mean() == pytest.approx(0.33, abs=0.03)
    assert (found > 0.61).double().mean() == pytest.approx(0.05, abs=0.03)


def test_histograms_count_all_but_padding():
    counts = histogram(torch.tensor([0.0, 0.05, 0.999, 1.0, torch.nan]), 10)
    assert counts.tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 0, 2]


# Simulation-based calibration ---------------------------------------------------------------------


def test_the_exact_posterior_is_calibrated():
    net = analyser()
    state = torch.get_rng_state()
    found = check(net)
    assert torch.equal(state, torch.get_rng_state())
    assert found.pits["z"].shape == (600, T, K)
    assert found.pits["log_likelihood"].shape == (600,)
    assert torch.equal(found.pits["z"].isnan().all(-1), ~blank().mask.repeat(3, 1))
    assert found.p_value() > 0.01
    p_values = found.p_values()
    assert p_values["z"].shape == (T, K)
    assert (p_values["z"] > 0.01).all()
    ranks = found.ranks["log_likelihood"]
    assert ranks.min() >= 0
    assert ranks.max() <= found.num_samples == 99
    assert torch.equal(ranks, ranks.round())
    for values in (found.pits["z"][:, 0, 0], found.pits["log_likelihood"]):
        levels = torch.tensor([0.5, 0.8, 0.95])
        error = 4 * (levels * (1 - levels) / 600).sqrt()
        assert ((coverage(values, levels.tolist()) - levels).abs() < error).all()


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_guide_with_half_or_twice_the_variance_is_not(factor):
    found = check(analyser(factor))
    assert found.p_value() < 0.01
    assert (found.p_values()["z"] < 0.01).all()
    outer = histogram(found.pits["z"])[[0, -1]].sum() / found.pits["z"].isfinite().sum()
    assert (outer > 0.25) == (factor < 1)  # a trough, or a hump


def test_a_guide_that_is_the_prior_is_found_out_by_the_likelihood_alone():
    found = check(analyser(blind=True))
    assert found.p_value("z") > 0.01
    assert found.p_value("log_likelihood") < 0.01


def test_columns_of_too_few_values_have_no_p_value():
    """Of ragged batches: the last frames are real in a few sequences alone."""
    found = SBC({"z": torch.rand(200, 3), "all": torch.rand(200), "few": torch.rand(200)}, 99)
    found.pits["z"][40:, 2] = torch.nan
    found.pits["few"][49:] = torch.nan
    tests = found.p_values()
    assert tests["z"].isnan().tolist() == [False, False, True]
    assert tests["few"].isnan()
    least = min(float(tests["z"].nan_to_num(1.0).min()), float(tests["all"]))
    assert found.p_value() == pytest.approx(min(3 * least, 1))
    assert found.p_value("all") == pytest.approx(float(tests["all"]))
    with pytest.raises(ValueError, match="at least 50 values, which no test has"):
        found.p_value("few")


def test_a_latent_vector_as_long_as_a_sequence_is_all_real(one_vector):
    found = sbc(simulator(one_vector, Batch(torch.zeros(200, T, T), blank().mask)))
    assert found.pits["z"].shape == (200, T)
    assert not found.pits["z"].isnan().any()
    assert found.p_value() > 0.01


def test_functions_of_ones_own_are_tested_too():
    functions = {"total": lambda latents: latents["z"][..., 0, :].sum(-1)}
    found = sbc(simulator(analyser(), blank(), functions), rounds=3)
    assert found.p_value("total") > 0.01


SYSTEM = LinearGaussian(
    *(
        torch.tensor(part, dtype=torch.float64)
        for part in (
            [[1.0, 0.2], [-0.3, 0.9]],
            [[0.2, 0.05], [0.05, 0.1]],
            [[1.0, 0.0]],
            [0.5, -1.0],
            [[1.0, 0.3], [0.3, 0.6]],
        )
    )
)


def test_the_kalman_smoother_is_calibrated_and_one_with_half_its_variance_is_not():
    variance = torch.rand(600, 5, 1) + 0.2
    mask = torch.arange(5) < torch.tensor([5, 3]).repeat(300)[:, None]
    exact = linear_gaussian_simulator(SYSTEM, variance, mask)
    found = sbc(exact)
    assert found.pits["x"].shape == (600, 5, 2)
    assert found.p_value() > 0.01
    assert calibration_error(found.pits["x"][:, 0, 0]) < 0.06

    def narrow(simulated, number):
        truth, draws = exact.infer(simulated, number)
        mean = draws["x"].mean(0)
        return truth, {"x": mean + math.sqrt(0.5) * (draws["x"] - mean)}

    assert sbc(exact._replace(infer=narrow)).p_value() < 0.01


@pytest.mark.parametrize("kind", [zoo.VOSP, zoo.VRAE, zoo.RVAE, zoo.TVAE])
def test_data_are_simulated_from_the_model(kind):
    """Frames among others drawn from their law, given what was simulated before them."""
    poisson = likelihoods.Poisson(M)
    net = kind(M, 2, poisson, hidden=6)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5)  # the past matters
    data, latents = simulator(net, Batch(torch.ones(300, T, M))).simulate()
    with torch.no_grad():
        given = sample_sites(net, data, 1, prior=True, latents=latents).distributions
    frames = given.get("y", given.get("x"))
    found = pit(data.obs, frames.sample((50,))[:, 0])
    last = found[:, -1] if found.dim() == 3 else found
    assert uniformity(last[:, 0]) > 0.001
    assert uniformity(found[:, 0].reshape(len(found), -1)[:, 0]) > 0.001


def test_bits_and_answers_are_simulated_too():
    net = SRN(2, likelihoods.Categorical(3), hidden=6, stochastic=0.5)
    asked = Batch(torch.rand(100, T, 2), target=torch.zeros(100, dtype=torch.long))
    found = sbc(simulator(net, asked), num_samples=49)
    assert found.pits["units"].shape == (100, T, 3)
    assert found.p_value("units") > 0.01  # its guide is the prior


# One-step predictions -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["RNN", "VOSP"])
def test_a_model_predicts_its_own_film_calibrated(kind):
    likelihood = likelihoods.Bernoulli(M)
    if kind == "RNN":
        net = zoo.RNN(M, likelihood, hidden=6)
    else:
        net = zoo.VOSP(M, 2, likelihood, hidden=6, width=5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2.0)
    mask = blank(400).mask
    found = frame_pit(net, Batch(net.sample(400, T, seed=3), mask))
    assert found.shape == (400, T, M)
    assert torch.equal(found.isnan().all(-1), ~mask)
    assert min(uniformity(found[:, t, 0]) for t in range(T)) > 0.003
    assert uniformity(frame_pit(net, Batch(torch.ones(400, T, M)))[:, 1, 0]) < 1e-6


def test_single_frames_are_foreseen():
    net = zoo.RVAE(M, 2, likelihoods.Gaussian(M), hidden=6)
    batch = Batch(torch.randn(5, T, M), blank(5).mask)
    found = frame_pit(net, batch, num_samples=9)
    assert found.shape == (5, T, M)
    assert torch.equal(found.isnan().all(-1), ~batch.mask)


# What cannot be -----------------------------------------------------------------------------------


def test_bad_requests_get_a_clear_sentence():
    batch = blank(4)
    with pytest.raises(ValueError, match="must be"):
        pit(torch.zeros(3), torch.zeros(5, 4))
    with pytest.raises(ValueError, match="at least 50 values, got 20"):
        uniformity(torch.rand(20))
    with pytest.raises(ValueError, match="bins must be at least 2"):
        histogram(torch.rand(20), 1)
    with pytest.raises(ValueError, match="every PIT is NaN"):
        coverage(torch.full((3,), torch.nan))
    for levels in ([0.5, 1.5], [90], [0.0], 0.9):
        with pytest.raises(ValueError, match=r"a list of fractions within \(0, 1\), got"):
            coverage(torch.rand(30), levels)
    for call in (coverage, calibration_error, histogram, uniformity):
        with pytest.raises(ValueError, match=r"lies within \[0, 1\], these range from -1 to 2"):
            call(torch.tensor([-1.0, 0.5, 2.0]))
    draws = torch.zeros(5, 2)
    draws[3, 0] = torch.nan
    assert pit(torch.tensor([torch.nan, 0.0]), draws)[0].isnan()
    with pytest.raises(ValueError, match="samples are NaN where the value is real"):
        pit(torch.zeros(2), draws)
    with pytest.raises(ValueError, match="at_once must be at least 1, got 0"):
        frame_pit(analyser(), batch, at_once=0)
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        sbc(simulator(analyser(), batch), rounds=0)
    with pytest.raises(ValueError, match="must be one of z, log_likelihood, got 'x'"):
        sbc(simulator(analyser(), batch)).p_value("x")
    with pytest.raises(ValueError, match="RNN has no latent site"):
        simulator(zoo.RNN(M, likelihoods.Gaussian(M), hidden=4), batch)
    with pytest.raises(ValueError, match="no Pyro pair"):
        simulator(zoo.REFH(M, 3, likelihoods.Gaussian(M)), batch)
    with pytest.raises(ValueError, match="predicts a frame from its posterior of the whole past"):
        frame_pit(analyser(), batch)
    with pytest.raises(ValueError, match="predicts a frame from its posterior of the whole past"):
        frame_pit(zoo.VOSP(M, 2, likelihoods.Gaussian(M), hidden=4, decoder_input="path"), batch)
