"""Classes and mixtures of Gaussians against their definitions."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seqzoo.zoo.parts.likelihoods import Categorical, GaussianMixture
from seqzoo.zoo.parts.likelihoods.mixture import LOG_SCALE
from seqzoo.zoo.parts.limits import undo_soft_limits
from torch import distributions

C, K, D = 5, 3, 2
quickly = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def number(low, high):
    return st.floats(low, high, allow_nan=False)


def parts_by_hand(law, natural):
    """pi, mu and sigma as equations 9 to 11 have them; ``[..., k]`` and ``[..., k, D]``."""
    k, inner = law.components, law.components * law.dim
    logits = natural[..., :k]
    weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
    shape = (*natural.shape[:-1], k, law.dim)
    means = natural[..., k : k + inner].reshape(shape)
    return weights, means, natural[..., k + inner :].reshape(shape).exp()


def density_by_hand(law, natural, y):
    """p(y), equation 8, the sum as it is written; one frame."""
    weights, means, scales = parts_by_hand(law, natural)
    total = 0.0
    for pi, mu, sigma in zip(weights, means, scales):
        z = (y - mu) / sigma
        total += pi * torch.prod(torch.exp(-(z**2) / 2) / (sigma * math.sqrt(2 * math.pi)))
    return total


def natural_of(law, *batch):
    return torch.randn(*batch, law.natural_dim, dtype=torch.float64)


# A mixture of Gaussians -------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "components"), [(1, 1), (1, K), (D, 1), (D, K), (4, 2)])
def test_the_density_is_the_sum_of_its_parts(dim, components):
    law = GaussianMixture(dim, components)
    assert law.natural_dim == components * (1 + 2 * dim)
    natural, y = 0.6 * natural_of(law, 3, 2), torch.randn(3, 2, dim, dtype=torch.float64)
    found = law.distribution(natural).log_prob(y)
    assert found.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            expected = density_by_hand(law, natural[i, j], y[i, j]).log()
            torch.testing.assert_close(found[i, j], expected)


def test_the_density_is_torchs():
    law = GaussianMixture(D, K)
    natural, y = natural_of(law, 6), torch.randn(6, D, dtype=torch.float64)
    weights, means, scales = parts_by_hand(law, natural)
    torchs = distributions.MixtureSameFamily(
        distributions.Categorical(weights),
        distributions.Independent(distributions.Normal(means, scales), 1),
    )
    ours = law.distribution(natural)
    torch.testing.assert_close(ours.log_prob(y), torchs.log_prob(y))
    torch.testing.assert_close(law.mean(natural), torchs.mean)
    assert ours.event_shape == (D,)
    assert ours.event_dim == law.event_dim
    assert ours.batch_shape == (6,)


def test_densities_broadcast_over_paths():
    """M paths of each of B sequences, one target: ``[M, B, N]`` and ``[B, D]``."""
    law = GaussianMixture(D, K)
    natural, y = natural_of(law, 4, 3), torch.randn(3, D, dtype=torch.float64)
    found = law.distribution(natural).log_prob(y)
    for m in range(4):
        torch.testing.assert_close(found[m], law.distribution(natural[m]).log_prob(y))


@pytest.mark.parametrize("dim", [1, D])
def test_the_density_integrates_to_one(dim):
    law = GaussianMixture(dim, K)
    natural = 0.5 * natural_of(law)
    line = torch.linspace(-12, 12, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(*[line] * dim).view(-1, dim)
    mass = law.distribution(natural).log_prob(grid).exp().sum() * (line[1] - line[0]) ** dim
    assert float(mass) == pytest.approx(1, abs=1e-6)


@quickly
@given(st.data())
def test_the_density_is_right_wherever_it_can_be_written_down(data):
    dim, components = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    law = GaussianMixture(dim, components)
    inner = dim * components
    natural = [data.draw(number(-6, 6)) for _ in range(components)]
    natural += [data.draw(number(-4, 4)) for _ in range(inner)]
    natural += [data.draw(number(-0.5, 2)) for _ in range(inner)]
    natural = torch.tensor(natural, dtype=torch.float64)
    y = torch.tensor([data.draw(number(-4, 4)) for _ in range(dim)], dtype=torch.float64)
    expected = density_by_hand(law, natural, y).log()
    torch.testing.assert_close(law.distribution(natural).log_prob(y), expected)
    shift = natural.clone()
    shift[:components] += data.draw(number(-50, 50))  # logits are known up to a constant
    torch.testing.assert_close(law.distribution(shift).log_prob(y), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("y", [0.0, 1e4, -1e4, 1e6])
@pytest.mark.parametrize("logit", [0.0, 1e3, -1e3, 1e8])
@pytest.mark.parametrize("log_scale", [0.0, -100.0, 100.0])
def test_density_and_slope_stay_finite(y, logit, log_scale):
    """In float32, far from all means, with a component that is certain or impossible."""
    law = GaussianMixture(1, K)
    natural = torch.tensor([logit, 0.0, 1.0, 0.5, -0.5, 2.0, log_scale, 0.0, 0.0])
    natural.requires_grad_()
    found = law.distribution(natural).log_prob(torch.tensor([y]))
    (slope,) = torch.autograd.grad(found, natural)
    assert found.isfinite()
    assert slope.isfinite().all()


@pytest.mark.parametrize("spread", [1e-5, 1e-3, 1.0, 1e4, 1e6])
def test_a_spread_of_any_size_is_reached_by_its_slope(spread):
    """The log-density has its peak, in log sigma, where sigma is the error."""
    law = GaussianMixture(1, 1)
    y = torch.tensor([spread], dtype=torch.float64)
    natural = torch.zeros(3, dtype=torch.float64)
    best = undo_soft_limits(y.log(), -LOG_SCALE, LOG_SCALE)[0]
    for away in (-30.0, -1.0, 0.0, 1.0, 30.0):
        natural[2] = best + away
        slope = torch.func.grad(lambda eta: law.distribution(eta).log_prob(y))(natural)[2].item()
        assert slope * away < 0 if away else abs(slope) < 1e-9


@pytest.mark.parametrize("width", [1e-4, 1.0, 1e5])
def test_components_tile_a_range_of_any_width(width):
    law, readout = GaussianMixture(2, 5), torch.nn.Linear(3, 25)
    law.initialise(readout, -width, width)
    _, means, scales = law.components_of(readout.bias)
    torch.testing.assert_close(scales, torch.full_like(scales, width / 5), rtol=1e-4, atol=0)
    torch.testing.assert_close(means.diff(dim=0), torch.full_like(means[1:], 2 * width / 5))


def test_far_away_the_density_is_that_of_the_nearest_wide_part():
    """A sum of exponentials would be log 0 there."""
    law = GaussianMixture(1, 2)
    natural = torch.tensor([0.0, 0.0, -1.0, 1.0, 0.0, 0.0])
    found = law.distribution(natural).log_prob(torch.tensor([101.0]))
    assert float(found) == pytest.approx(-(100**2) / 2 - math.log(2 * math.sqrt(2 * math.pi)))


def test_mean_mode_and_moments_of_draws():
    """Within 4.5 standard errors of 40 000 draws."""
    law, draws = GaussianMixture(D, K), 40_000
    natural = 0.7 * natural_of(law, 2)
    weights, means, scales = parts_by_hand(law, natural)
    drawn = law.sample(natural.expand(draws, 2, -1))
    assert drawn.shape == (draws, 2, D)
    assert drawn.dtype == torch.float64
    expected = (weights[..., None] * means).sum(-2)
    torch.testing.assert_close(law.mean(natural), expected)
    second = (weights[..., None] * (means**2 + scales**2)).sum(-2)
    for found, value in ((drawn, expected), (drawn**2, second)):
        error = found.std(0) / math.sqrt(draws)
        assert ((found.mean(0) - value).abs() < 4.5 * error).all()
    one = natural_of(GaussianMixture(D, 1), 4)
    torch.testing.assert_close(GaussianMixture(D, 1).mode(one), one[..., 1 : 1 + D])
    assert law.mode(natural).shape == (2, D)


def test_the_mode_is_the_mean_of_the_highest_peak():
    """Not of the heaviest part: a narrow one may stand higher. Parts are far apart."""
    law = GaussianMixture(1, K)
    natural = torch.tensor(
        [
            [1.0, 0.0, 0.0, -20.0, 0.0, 20.0, 0.0, 0.0, 0.0],
            [1.0, 0.0, 0.0, -20.0, 0.0, 20.0, 0.0, 0.0, -2.0],
            [1.0, 0.0, 0.0, -20.0, 0.0, 20.0, 3.0, -1.0, 0.0],
        ]
    )
    assert law.mode(natural).tolist() == [[-20.0], [20.0], [0.0]]
    grid = torch.linspace(-30, 30, 6001)[:, None]
    for row in natural:
        peak = grid[law.distribution(row).log_prob(grid).argmax()]
        torch.testing.assert_close(law.mode(row), peak, rtol=0, atol=1e-2)


def test_draws_have_the_density():
    """Shares of draws below five places, against the sum of normal integrals."""
    law, draws = GaussianMixture(1, K), 40_000
    natural = natural_of(law)
    weights, means, scales = parts_by_hand(law, natural)
    parts = distributions.Normal(means[:, 0], scales[:, 0])
    drawn = law.sample(natural.expand(draws, -1))[:, 0]
    for place in (-2.0, -0.5, 0.0, 0.7, 2.0):
        below = float(weights @ parts.cdf(torch.tensor(place)))
        share = float((drawn < place).double().mean())
        assert abs(share - below) < 4.5 * math.sqrt(below * (1 - below) / draws) + 1e-9


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(4, D, dtype=torch.long), "floating point"),
        (torch.zeros(4, D, dtype=torch.bool), "floating point"),
        (torch.zeros(4, D + 1), rf"\[..., {D}\]"),
        (torch.zeros(4), rf"\[..., {D}\]"),
        (torch.tensor([[0.0, math.nan]]), "NaN"),
        (torch.tensor([[math.inf, 0.0]]), "NaN or Inf"),
    ],
)
def test_a_mixture_checks_what_it_is_asked_for(value, message):
    law = GaussianMixture(D, K)
    law.check(torch.zeros(4, D))
    law.check(torch.zeros(4, 6, D))
    with pytest.raises(ValueError, match=message):
        law.check(value)


@pytest.mark.parametrize("how", [{"components": 0}, {"dim": 0}, {"components": -1}])
def test_a_mixture_of_nothing_is_refused(how):
    with pytest.raises(ValueError, match="at least 1"):
        GaussianMixture(**how)


def test_laws_show_their_sizes():
    assert repr(GaussianMixture(D, K)) == "GaussianMixture(2, components=3)"
    assert repr(Categorical(C)) == "Categorical(5)"


# Classes ----------------------------------------------------------------------------------------


def test_log_probabilities_are_a_log_softmax():
    law = Categorical(C)
    assert law.natural_dim == C
    assert law.distribution(torch.zeros(2, C)).event_dim == law.event_dim
    natural, y = natural_of(law, 7, 4), torch.randint(C, (7, 4))
    found = law.distribution(natural).log_prob(y)
    assert found.shape == (7, 4)
    total = natural.exp().sum(-1)
    for i in range(7):
        for j in range(4):
            expected = (natural[i, j, y[i, j]].exp() / total[i, j]).log()
            torch.testing.assert_close(found[i, j], expected)
    torch.testing.assert_close(law.mean(natural), natural.exp() / total[..., None])
    torch.testing.assert_close(law.mean(natural + 100), law.mean(natural))
    assert torch.equal(law.mode(natural), natural.max(-1).indices)


@quickly
@given(st.lists(number(-1e4, 1e4), min_size=2, max_size=7))
def test_probabilities_of_classes_sum_to_one(natural):
    law, natural = Categorical(len(natural)), torch.tensor(natural, dtype=torch.float64)
    found = law.distribution(natural).log_prob(torch.arange(len(natural)))
    assert found.isfinite().all()
    assert float(found.exp().sum()) == pytest.approx(1, abs=1e-9)
    assert (found <= 1e-9).all()
    torch.testing.assert_close(law.mean(natural), found.exp())


def test_classes_are_drawn_as_often_as_is_likely():
    law, draws = Categorical(C), 20_000
    natural = natural_of(law)
    drawn = law.sample(natural.expand(draws, -1))
    assert drawn.shape == (draws,)
    assert drawn.dtype == torch.long
    chances = natural.softmax(-1)
    error = (drawn.bincount(minlength=C) / draws - chances).abs()
    assert (error < 4.5 * (chances * (1 - chances) / draws).sqrt()).all()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(3), "whole numbers, got torch.float32"),
        (torch.ones(3, dtype=torch.bool), "whole numbers, got torch.bool"),
        (torch.tensor([0, C]), "from 0 to 4, got 5"),
        (torch.tensor([-1, 2]), "from 0 to 4, got -1"),
    ],
)
def test_classes_are_checked(value, message):
    law = Categorical(C)
    law.check(torch.arange(C))
    law.check(torch.arange(C, dtype=torch.int32))
    with pytest.raises(ValueError, match=message):
        law.check(value)


@pytest.mark.parametrize("classes", [-1, 0, 1])
def test_a_choice_needs_two_classes(classes):
    with pytest.raises(ValueError, match=f"at least 2, got {classes}"):
        Categorical(classes)


def test_narrow_whole_numbers_are_scored_as_wide_ones():
    """Any whole numbers that pass the check can be scored."""
    law, natural = Categorical(C), natural_of(Categorical(C), C)
    narrow = torch.arange(C, dtype=torch.int32)
    law.check(narrow)
    torch.testing.assert_close(
        law.distribution(natural).log_prob(narrow),
        law.distribution(natural).log_prob(narrow.long()),
    )
