"""Exponential families against PyTorch's distributions, autograd, sums and integrals."""

import math

import pytest
import torch
from scipy import stats
from seqzoo.data import Batch
from seqzoo.zoo.parts.likelihoods import Bernoulli, Gaussian, Poisson
from seqzoo.zoo.parts.likelihoods.exponential_family import LARGE, LINEAR_FROM, MOST, log_factorial
from torch import distributions

from seqzoo import inference, zoo

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


# Large rates ------------------------------------------------------------------------------------

BOTH_SIDES = torch.tensor([LINEAR_FROM + x for x in (-3, -1e-3, 1e-3, 0.5, 60, 700)]).double()


def test_a_rate_is_exponential_and_then_a_straight_line():
    """With one slope where they meet."""
    family, edge = Poisson(1), math.exp(LINEAR_FROM)
    below, above = (LINEAR_FROM + x for x in (torch.tensor([-5.0, -1, 0]), torch.tensor([1.0, 50])))
    assert torch.equal(family.mean(below), below.exp())
    torch.testing.assert_close(family.mean(above), edge * torch.tensor([2.0, 51.0]))
    for x in BOTH_SIDES[1:3]:
        slope = torch.func.grad(lambda x: family.mean(x[None])[0])(x.requires_grad_(False))
        assert slope.item() == pytest.approx(edge, rel=2e-3)


def test_members_agree_at_large_rates():
    """Mean, samples, the slope of the log-normaliser, and the inverse."""
    family, natural = Poisson(1), BOTH_SIDES.clone().requires_grad_()
    mean, law = family.mean(natural), family.distribution(natural[:, None]).base_dist
    torch.testing.assert_close(law.mean[:, 0], mean)
    torch.testing.assert_close(law.log_rate.exp()[:, 0], mean)
    (slope,) = torch.autograd.grad(family.log_normaliser(natural).sum(), natural)
    torch.testing.assert_close(slope, mean)
    torch.testing.assert_close(family.natural(mean), natural)
    torch.testing.assert_close(family.mode(natural), mean.floor())
    draws = family.sample(natural.detach()[:, None].expand(5000, -1, 1))[..., 0]
    error = (draws.mean(0) - mean) / (mean / len(draws)).sqrt()
    assert error.abs().max() < 4.5


def test_the_slope_of_a_large_rate_leads_to_the_count():
    """It is zero at the count alone, on either side of the limit, and has the right sign."""
    family = Poisson(1)
    for count in (1000.0, 30_000.0, 1e6):
        at = family.natural(torch.tensor([count]).double())
        for away in (-20.0, -1.0, 0.0, 1.0, 20.0):
            natural = (at + away).requires_grad_()
            family.distribution(natural).log_prob(torch.tensor([count]).double()).backward()
            assert natural.grad.item() * away < -1 if away else abs(natural.grad.item()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rate", [1.0, 900.0, 1100.0, 3e4, 1e6, 1.5e7])
def test_log_density_of_counts_of_any_size(rate, dtype):
    """In float32 the three terms of a density of 10^6 are wrong by a nat, near the rate too."""
    family, root = Poisson(1), math.sqrt(rate)
    natural = family.natural(torch.tensor([rate], dtype=dtype))
    exact = family.mean(natural.double()).item()
    for count in {round(rate + x * root) for x in (0, 1, 3, -0.9)} | {0, round(rate / 3)}:
        value = torch.tensor([float(count)], dtype=dtype)
        found = family.distribution(natural).log_prob(value).item()
        expected = stats.poisson.logpmf(count, exact)
        near = abs(count - rate) <= 3 * root + 1
        slack = 1e-6 if dtype == torch.float64 else 0.02 if near else 1e-5 * abs(expected) + 0.02
        assert found == pytest.approx(expected, abs=slack, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("odd", [0.0, LARGE, LARGE + 1, 0.5, -1.5, math.nan, math.inf])
def test_a_table_of_factorials_is_the_gamma_function(odd, dtype):
    """Whole numbers that are small are looked up; where one value is odd, none is."""
    many = torch.arange(8 * LARGE, dtype=dtype).view(4, -1) % 50
    many[2, 7] = odd
    torch.testing.assert_close(
        log_factorial(many), torch.lgamma(many + 1), rtol=1e-6, atol=1e-7, equal_nan=True
    )


def test_counts_too_large_are_refused_with_a_unit():
    Poisson(1).check(torch.tensor([[MOST]]))
    with pytest.raises(ValueError, match="larger units"):
        Poisson(1).check(torch.tensor([[2 * MOST]]))


@pytest.mark.parametrize(("kind", "count"), [("VRAE", 1e6), ("RVAE", 3e4)])
def test_large_counts_are_learned(kind, count):
    """A rate held at exp(10) would stay at 22 026."""
    batch = Batch(torch.poisson(torch.full((2, 2, 2), count)))
    if kind == "VRAE":
        net = zoo.VRAE(2, 1, likelihood=Poisson(2), hidden=16)
    else:
        net = zoo.RVAE(2, 1, Poisson(2), hidden=16)
    rule = inference.SequenceELBO(net) if kind == "VRAE" else inference.LocalELBO(net)
    inference.fit(rule, batch, epochs=100, lr=0.03, progress=False)
    assert net.reconstruct(batch).mean() == pytest.approx(count, rel=0.2)


@pytest.mark.parametrize("count", [20_000.0, 1e6])
def test_a_harmonium_begins_at_large_counts(count):
    net = zoo.REFH(2, 4, Poisson(2), obs_mean=count)
    batch = Batch(torch.poisson(torch.full((4, 5, 2), count)))
    inference.fit(inference.ContrastiveDivergence(net), batch, epochs=20, lr=1e-3, progress=False)
    assert net.reconstruct(batch).mean() == pytest.approx(count, rel=0.05)


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
