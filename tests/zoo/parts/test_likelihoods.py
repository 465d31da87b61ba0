"""Exponential families against PyTorch's distributions, autograd, sums and integrals."""

import math

import pytest
import torch
from scipy import stats
from seqzoo.zoo.parts.likelihoods import Bernoulli, Gaussian, Poisson
from seqzoo.zoo.parts.likelihoods.exponential_family import MAX_LOG_RATE
from torch import distributions

DIM = 3
FAMILIES = {
    "bernoulli": Bernoulli(DIM),
    "grey": Bernoulli(DIM, grey=True),
    "poisson": Poisson(DIM),
    "gaussian": Gaussian(DIM, scale=0.3),
    "wide": Gaussian(DIM, scale=2.5),
}
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())


@pytest.fixture
def natural():
    """Natural parameters ``[4, 2, 3]``, of either sign."""
    return 1.5 * torch.randn(4, 2, DIM, dtype=torch.float64)


def density(family, value, natural):
    """exp(eta T(y) - A(eta) + B(y)) unit by unit, in logarithms."""
    linear = natural * family.statistic(value) - family.log_normaliser(natural)
    return linear + family.log_base(value)


def independent(family, natural):
    """The same law from ``torch.distributions``, from the textbook's parameters."""
    if isinstance(family, Bernoulli):
        return distributions.Bernoulli(1 / (1 + (-natural).exp()))
    if isinstance(family, Poisson):
        return distributions.Poisson(natural.exp())
    return distributions.Normal(natural * family.scale, family.scale)


@every_family
def test_mean_is_the_derivative_of_the_log_normaliser(family, natural):
    """dA/d eta = E[T(y)], and T is linear: T(mean)."""
    natural.requires_grad_()
    (slope,) = torch.autograd.grad(family.log_normaliser(natural).sum(), natural)
    torch.testing.assert_close(family.statistic(family.mean(natural)), slope)


@every_family
def test_mean_is_that_of_the_law(family, natural):
    torch.testing.assert_close(family.mean(natural), independent(family, natural).mean)
    torch.testing.assert_close(family.distribution(natural).mean, family.mean(natural))


@every_family
def test_log_prob_is_the_exponential_form(family, natural):
    law = family.distribution(natural)
    value = law.sample()
    assert law.batch_shape == (4, 2)
    assert law.event_shape == (DIM,)
    exponential = density(family, value, natural)
    torch.testing.assert_close(law.log_prob(value), exponential.sum(-1))
    torch.testing.assert_close(exponential, independent(family, natural).log_prob(value))


@every_family
def test_natural_inverts_the_mean(family, natural):
    torch.testing.assert_close(family.natural(family.mean(natural)), natural)


@pytest.mark.parametrize("family", [Bernoulli(DIM), Poisson(DIM)])
def test_counts_sum_to_one(family, natural):
    support = torch.arange(2 if isinstance(family, Bernoulli) else 300, dtype=torch.float64)
    total = density(family, support[:, None, None, None], natural).exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("scale", [0.3, 2.5])
def test_gaussian_integrates_to_one_with_the_right_variance(scale, natural):
    family = Gaussian(DIM, scale)
    grid = torch.linspace(-15, 15, 4001, dtype=torch.float64) * scale
    weight = density(family, grid[:, None, None, None], natural).exp() * (grid[1] - grid[0])
    torch.testing.assert_close(weight.sum(0), torch.ones_like(natural))
    mean = (grid[:, None, None, None] * weight).sum(0)
    square = (grid[:, None, None, None] ** 2 * weight).sum(0)
    torch.testing.assert_close(square - mean**2, torch.full_like(natural, scale**2))


@every_family
def test_samples_have_the_law(family):
    """Kolmogorov-Smirnov for the Gaussians, standard errors of mean and variance for the rest."""
    natural = torch.tensor([-0.7, 0.4, 1.1])
    draws = family.distribution(natural.expand(20_000, DIM)).sample().double()
    law = independent(family, natural.double())
    if isinstance(family, Gaussian):
        for unit in range(DIM):
            cdf = stats.norm(law.mean[unit].item(), family.scale).cdf
            assert stats.kstest(draws[:, unit].numpy(), cdf).pvalue > 1e-4
        return
    error = (draws.mean(0) - law.mean) / (law.variance / len(draws)).sqrt()
    assert error.abs().max() < 4.5
    torch.testing.assert_close(draws.var(0), law.variance, rtol=0.06, atol=0)


def test_poisson_rates_are_bounded():
    family = Poisson(2)
    natural = torch.tensor([MAX_LOG_RATE + 50, MAX_LOG_RATE - 1])
    expected = torch.tensor([math.exp(MAX_LOG_RATE), math.exp(MAX_LOG_RATE - 1)])
    torch.testing.assert_close(family.mean(natural), expected)
    assert family.distribution(natural).log_prob(torch.zeros(2)).isfinite()


@pytest.mark.parametrize("family", [Bernoulli(2), Poisson(2)])
def test_natural_of_an_extreme_mean_is_finite(family):
    """Biases are set from data, where a unit may be silent throughout."""
    assert family.natural(torch.tensor([0.0, 1.0])).isfinite().all()
    assert family.natural(torch.tensor([0.0, 1.0])).diff() > 1


@pytest.mark.parametrize(
    ("family", "value"),
    [
        (Bernoulli(2), [0.0, 1.0]),
        (Bernoulli(2, grey=True), [0.3, 1.0]),
        (Poisson(2), [0.0, 41.0]),
        (Gaussian(2), [-3.5, 1e6]),
    ],
)
def test_check_accepts_the_support(family, value):
    family.check(torch.tensor([value] * 3))
    family.check(torch.tensor([value], dtype=torch.float64))


@pytest.mark.parametrize(
    ("family", "value", "message"),
    [
        (Bernoulli(2), [0.0, 0.5], "0 or 1"),
        (Bernoulli(2), [0.0, 2.0], "0 or 1"),
        (Bernoulli(2), [-1.0, 1.0], "0 or 1"),
        (Bernoulli(2, grey=True), [0.0, 1.01], r"\[0, 1\]"),
        (Bernoulli(2, grey=True), [-0.01, 0.5], r"\[0, 1\]"),
        (Poisson(2), [1.0, -1.0], "negative"),
        (Poisson(2), [1.0, 0.5], "whole"),
    ],
)
def test_check_rejects_values_outside_the_support(family, value, message):
    with pytest.raises(ValueError, match=message):
        family.check(torch.tensor([[0.0, 1.0], value]))


@every_family
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(4, DIM + 1), "values a frame"),
        (torch.tensor(1.0), "values a frame"),
        (torch.ones(4, DIM, dtype=torch.long), "floating point"),
        (torch.tensor([[0.0, 1.0, math.nan]]), "NaN"),
        (torch.tensor([[0.0, 1.0, math.inf]]), "NaN or Inf"),
    ],
)
def test_check_rejects_for_every_family(family, value, message):
    with pytest.raises(ValueError, match=message):
        family.check(value)


@pytest.mark.parametrize("kind", [Bernoulli, Poisson, Gaussian])
def test_a_family_needs_a_unit(kind):
    with pytest.raises(ValueError, match="dim must be at least 1"):
        kind(0)


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_gaussian_needs_a_positive_scale(scale):
    with pytest.raises(ValueError, match="scale must be above 0"):
        Gaussian(2, scale)
