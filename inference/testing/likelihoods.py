"""Tests of likelihoods: distributions of a frame or an output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from .checks import ERRORS, refuses, shaped
from .suite import Conformance


class LikelihoodConformance(Conformance):
    """A likelihood: a module from natural parameters to a distribution of a frame or an output.

    It has ``natural_dim``, ``event_dim``, ``distribution``, ``mean``, ``mode``, ``sample`` and
    ``check``. Build one of 1 to 3 values, so that its normalisation can be tested, and of a single
    value for counts with heavy tails, such as a negative binomial's.
    """

    needs = (
        ("natural_dim", "the number of natural parameters"),
        ("event_dim", "axes of a value, 0 or 1"),
        ("distribution", "natural parameters -> a Pyro distribution"),
        ("mean", "natural parameters -> the mean"),
        ("mode", "natural parameters -> the most likely value"),
        ("sample", "natural parameters -> a sample"),
        ("check", "values -> a ValueError where they are outside the support"),
    )
    rows, many = 4, 10_000

    def natural(self, part: Any) -> Tensor:
        """Natural parameters, ``[B, N]``."""
        return torch.randn(self.rows, part.natural_dim)

    def statistic(self, value: Tensor) -> Tensor:
        """The function whose expectation is ``mean``: the value itself by default."""
        return value

    def bad_values(self, value: Tensor, part: Any) -> dict[str, Tensor]:
        """Values that ``check`` must refuse, made from a good one."""
        found = {"another kind of number": value.long()}
        if not value.is_floating_point():
            found = {"another kind of number": value.float()}
        elif part.event_dim:
            found["a value too many"] = torch.cat((value, value[..., :1]), -1)
        if value.is_floating_point():
            found["NaN"] = torch.full_like(value, torch.nan)
        return found

    def _parts(self) -> tuple[Any, Tensor]:
        part = self._built()
        return part, self.natural(part)

    def test_the_distribution_has_the_documented_shapes(self) -> None:
        part, natural = self._parts()
        for eta in (natural, natural.expand(5, *natural.shape), natural[0]):
            found, value = part.distribution(eta), part.sample(eta)
            assert found.batch_shape == eta.shape[:-1], f"batch shape {found.batch_shape}"
            assert len(found.event_shape) == part.event_dim, f"event shape {found.event_shape}"
            shaped(value, found.batch_shape + found.event_shape, "sample")
            shaped(found.log_prob(value), found.batch_shape, "log_prob")
            shaped(part.mode(eta), value.shape, "mode")
            mean = part.mean(eta)
            shaped(mean, (*eta.shape[:-1], mean.shape[-1]), "mean")
            hidden = torch.zeros(found.batch_shape, dtype=torch.bool)
            assert (found.mask(hidden).log_prob(value) == 0).all(), "it cannot be masked"

    def test_samples_are_in_the_support(self) -> None:
        part, natural = self._parts()
        for value in (part.sample(natural.expand(50, *natural.shape)), part.mode(natural)):
            part.check(value)
            scores = part.distribution(natural).log_prob(value)
            assert scores.isfinite().all(), "a sample has no density"

    def test_check_refuses_bad_values(self) -> None:
        part, natural = self._parts()
        for what, bad in self.bad_values(part.sample(natural), part).items():
            refuses(lambda: part.check(bad), ".", f"check, {what}")  # noqa: B023

    @torch.no_grad()
    def test_the_mean_is_that_of_the_samples(self) -> None:
        part, natural = self._parts()
        samples = self.statistic(part.sample(natural.expand(self.many, *natural.shape)))
        error = ERRORS * samples.std(0) * self.many**-0.5 + 1e-4
        off = (samples.mean(0) - part.mean(natural)).abs()
        assert (off < error).all(), f"mean differs by {off.max():.4g}: see also statistic()"

    @torch.no_grad()
    def test_probabilities_sum_to_one(self) -> None:
        """Sums over all sampled values; for a density, integrates around its peak."""
        part, natural = self._parts()
        for eta in natural:
            found, samples = part.distribution(eta), part.sample(eta.expand(self.many, -1))
            values, counts = samples.unique(dim=0, return_counts=True)
            if len(values) < self.many / 2:
                unseen = float((counts == 1).sum()) / self.many  # the mass of values never sampled
                assert unseen < 0.1, (
                    "too many values to enumerate: build one of fewer values per frame, and of a "
                    "single value for counts with heavy tails"
                )
                off, slack = found.log_prob(values).exp().sum() - 1, 0.005 + 2 * unseen
            else:
                weights = _box_weights(found, samples)
                off, slack = weights.mean() - 1, ERRORS * weights.std() * len(weights) ** -0.5
            assert off.abs() < slack, f"probabilities for {eta.tolist()} sum to {1 + off:.4g}"

    def test_the_density_has_a_gradient(self) -> None:
        part, natural = self._parts()
        natural.requires_grad_()
        part.distribution(natural).log_prob(part.sample(natural).detach()).sum().backward()
        assert natural.grad is not None, "the density does not depend on the natural parameters"
        assert natural.grad.isfinite().all(), "a gradient is not finite"
        assert natural.grad.any(), "the density does not depend on the natural parameters"


def _box_weights(distribution: Distribution, samples: Tensor) -> Tensor:
    """Weights of samples, whose mean is 1 where the density is that of the samples.

    They are 1 / (volume * density) in a box around the peak, and 0 outside of it.
    """
    first, second = samples.chunk(2)
    scaled = first / first.std(0)
    near = (scaled - scaled[distribution.log_prob(first).argmax()]).abs().amax(-1).argsort()
    box = first[near[: len(first) // 5]]
    low, high = box.amin(0), box.amax(0)
    inside = ((second >= low) & (second <= high)).all(-1)
    weights = (-distribution.log_prob(second)).exp() / (high - low).prod()
    return torch.where(inside, weights, 0.0)
