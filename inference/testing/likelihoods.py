"""Laws of a frame or an output."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .checks import ERRORS, refuses, shaped
from .suite import Conformance


class LikelihoodConformance(Conformance):
    """The law of a frame or an output: a module that turns natural parameters into it.

    It has ``natural_dim``, ``event_dim``, ``distribution``, ``mean``, ``mode``, ``sample`` and
    ``check``. Build one of few values (1 to 3), so that its normalisation can be tested; of a
    single value where it counts with heavy tails, as a negative binomial does.
    """

    needs = (
        ("natural_dim", "how many natural parameters it has"),
        ("event_dim", "axes of a value, 0 or 1"),
        ("distribution", "natural parameters -> a distribution of Pyro's"),
        ("mean", "natural parameters -> the mean"),
        ("mode", "natural parameters -> the most likely value"),
        ("sample", "natural parameters -> a draw"),
        ("check", "values -> a ValueError where they are impossible"),
    )
    rows, many = 4, 10_000

    def natural(self, part: nn.Module) -> Tensor:
        """Natural parameters, ``[B, N]``."""
        return torch.randn(self.rows, part.natural_dim)

    def statistic(self, value: Tensor) -> Tensor:
        """What ``mean`` is the mean of: the value itself, unless overridden."""
        return value

    def bad_values(self, value: Tensor, part: nn.Module) -> dict[str, Tensor]:
        """Values that ``check`` must refuse, made of some that it takes."""
        found = {"another kind of number": value.long()}
        if not value.is_floating_point():
            found = {"another kind of number": value.float()}
        elif part.event_dim:
            found["a value too many"] = torch.cat((value, value[..., :1]), -1)
        if value.is_floating_point():
            found["NaN"] = torch.full_like(value, torch.nan)
        return found

    def _parts(self) -> tuple[nn.Module, Tensor]:
        part = self._built()
        return part, self.natural(part)

    def test_the_law_has_the_shapes_promised(self):
        part, natural = self._parts()
        for eta in (natural, natural.expand(5, *natural.shape), natural[0]):
            law, value = part.distribution(eta), part.sample(eta)
            assert law.batch_shape == eta.shape[:-1], f"batch shape {law.batch_shape}"
            assert len(law.event_shape) == part.event_dim, f"event shape {law.event_shape}"
            shaped(value, law.batch_shape + law.event_shape, "sample")
            shaped(law.log_prob(value), law.batch_shape, "log_prob")
            shaped(part.mode(eta), value.shape, "mode")
            mean = part.mean(eta)
            shaped(mean, (*eta.shape[:-1], mean.shape[-1]), "mean")
            hidden = torch.zeros(law.batch_shape, dtype=torch.bool)
            assert (law.mask(hidden).log_prob(value) == 0).all(), "it cannot be masked"

    def test_what_is_drawn_is_possible(self):
        part, natural = self._parts()
        for value in (part.sample(natural.expand(50, *natural.shape)), part.mode(natural)):
            part.check(value)
            scores = part.distribution(natural).log_prob(value)
            assert scores.isfinite().all(), "what is drawn has no density"

    def test_check_says_what_is_wrong(self):
        part, natural = self._parts()
        for what, bad in self.bad_values(part.sample(natural), part).items():
            refuses(lambda: part.check(bad), ".", f"check, {what}")  # noqa: B023

    @torch.no_grad()
    def test_the_mean_is_that_of_what_is_drawn(self):
        part, natural = self._parts()
        drawn = self.statistic(part.sample(natural.expand(self.many, *natural.shape)))
        error = ERRORS * drawn.std(0) * self.many**-0.5 + 1e-4
        off = (drawn.mean(0) - part.mean(natural)).abs()
        assert (off < error).all(), f"mean is off by {off.max():.4g}: see also statistic()"

    @torch.no_grad()
    def test_probabilities_sum_to_one(self):
        """Over all values that are drawn; of a density, by its integral around its peak."""
        part, natural = self._parts()
        for eta in natural:
            law, drawn = part.distribution(eta), part.sample(eta.expand(self.many, -1))
            values, counts = drawn.unique(dim=0, return_counts=True)
            if len(values) < self.many / 2:
                unseen = float((counts == 1).sum()) / self.many  # the mass of those never drawn
                assert unseen < 0.1, (
                    "too many values to enumerate: build one of fewer values a frame, and of a "
                    "single one where it counts with heavy tails"
                )
                off, slack = law.log_prob(values).exp().sum() - 1, 0.005 + 2 * unseen
            else:
                share = _share_of_a_box(law, drawn)
                off, slack = share.mean() - 1, ERRORS * share.std() * len(share) ** -0.5
            assert off.abs() < slack, f"the law of {eta.tolist()} sums to {1 + off:.4g}"

    def test_the_density_has_a_slope(self):
        part, natural = self._parts()
        natural.requires_grad_()
        part.distribution(natural).log_prob(part.sample(natural).detach()).sum().backward()
        assert natural.grad.isfinite().all(), "a slope is not finite"
        assert natural.grad.any(), "the density does not depend on the natural parameters"


def _share_of_a_box(law: Distribution, drawn: Tensor) -> Tensor:
    """Weights of draws whose mean is 1 where the density of a law is that of its draws.

    They are 1 / (volume * density) in a box around the peak, and 0 outside of it.
    """
    first, second = drawn.chunk(2)
    scaled = first / first.std(0)
    near = (scaled - scaled[law.log_prob(first).argmax()]).abs().amax(-1).argsort()
    box = first[near[: len(first) // 5]]
    low, high = box.amin(0), box.amax(0)
    inside = ((second >= low) & (second <= high)).all(-1)
    weights = (-law.log_prob(second)).exp() / (high - low).prod()
    return torch.where(inside, weights, 0.0)
