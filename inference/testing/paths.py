"""Tests of distributions of latent paths: priors and guides."""

from __future__ import annotations

import contextlib
import unittest
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from ..paths import LinearChain, Path, kl_steps
from ..rng import RandomStream
from .checks import ERRORS, check_reached, lengths_mask, shaped
from .suite import Conformance


class PathConformance(Conformance):
    """A distribution of paths, see ``paths.Path``. Inherit one of the two classes below."""

    rows, steps = 3, 5
    needs = (("dim", "size K of the latent state"),)

    def distribution(self, part: Any, mask: Tensor) -> Path:
        """The distribution that a part returns for paths as long as ``mask [B, T]``."""
        raise NotImplementedError(f"{type(self).__name__} must define distribution(part, mask)")

    def pair(self, path: Path, mask: Tensor) -> tuple[Path, Path]:
        """The distribution and another one, in the order (q, p) of their divergence."""
        raise NotImplementedError(f"{type(self).__name__} must define pair(path, mask)")

    def _parts(self) -> tuple[Any, Path, Tensor]:
        """The part, its distribution of paths of unequal lengths, and their mask."""
        part, mask = self._built(), lengths_mask(self.rows, self.steps)
        return part, self.distribution(part, mask), mask

    def test_the_distribution_has_the_documented_shapes(self) -> None:
        part, found, mask = self._parts()
        assert isinstance(found, Path), f"expected an inference.Path, got {type(found).__name__}"
        assert found.batch_shape == mask.shape[:1], f"batch shape {found.batch_shape}"
        assert found.event_shape == (self.steps, part.dim), f"event shape {found.event_shape}"
        path = found.rsample((4,))
        shaped(path, (4, *mask.shape, part.dim), "rsample")
        shaped(found.mode, (*mask.shape, part.dim), "mode")
        shaped(found.log_prob(path), (4, self.rows), "log_prob")
        values = {"rsample": path, "mode": found.mode, "log_prob": found.log_prob(path)}
        for name, value in values.items():
            assert value.isfinite().all(), f"{name} is not finite"

    def test_the_density_is_the_sum_of_its_steps(self) -> None:
        _, found, mask = self._parts()
        path = found.rsample((4,)).detach()
        steps = found.step_log_probs(path)
        shaped(steps, (4, *mask.shape), "step_log_probs")
        assert (steps[:, ~mask] == 0).all(), "padding has a density"
        self.close(found.log_prob(path), steps.sum(-1), "log_prob")

    def test_the_density_is_that_of_the_samples(self) -> None:
        """By the change of variables; the innovations of samples must be white noise."""
        q = self.distribution(self._built(), torch.ones(1, self.steps, dtype=torch.bool))
        noise = torch.randn(1, *q.event_shape)
        size = noise.numel()
        jacobian = torch.autograd.functional.jacobian(q.from_innovations, noise)
        log_det = torch.linalg.slogdet(torch.as_tensor(jacobian).reshape(size, size)).logabsdet
        expected = Normal(0.0, 1.0).log_prob(noise).sum() - log_det
        with torch.no_grad():
            path = q.from_innovations(noise)
            density, (again, _) = q.log_prob(path)[0], q.to_innovations(path)
            white, _ = q.to_innovations(q.rsample((4000,)))
        torch.testing.assert_close(density, expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(again, noise, rtol=1e-3, atol=1e-3)
        mean, variance = white.mean(0), white.var(0)
        assert (mean.abs() < ERRORS * 4000**-0.5).all(), "the mean of samples is wrong"
        assert ((variance - 1).abs() < ERRORS * (2 / 4000) ** 0.5).all(), (
            "the variance of samples is wrong"
        )

    def test_padding_has_no_density(self) -> None:
        part, found, mask = self._parts()
        path = found.rsample().detach()
        changed = torch.where(mask[..., None], path, path + 7)
        self.close(found.log_prob(changed), found.log_prob(path), "with other values in padding")
        short = self.steps - 1
        shorter = self.distribution(part, mask[:, :short]).step_log_probs(path[:, :short])
        self.close(shorter, found.step_log_probs(path)[:, :short], "of shorter paths")

    def test_an_expanded_distribution_is_the_same(self) -> None:
        _, found, _ = self._parts()
        path = found.rsample((2,)).detach()
        wide = found.expand((2, self.rows))
        shaped(wide.rsample(), tuple(path.shape), "rsample, expanded")
        self.close(wide.log_prob(path), found.log_prob(path), "expanded")

    @torch.no_grad()
    def test_the_divergence_agrees_with_sampling(self) -> None:
        _, found, mask = self._parts()
        q, p = self.pair(found, mask)
        path = q.rsample((2000,))
        sampled = q.log_prob(path) - p.log_prob(path)
        divergences = {"kl_steps": kl_steps(q, p, path).sum(-1).expand_as(sampled)}
        with contextlib.suppress(NotImplementedError):  # not every pair has a closed form
            divergences["kl_divergence"] = kl_divergence(q, p).expand_as(sampled)
        for name, value in divergences.items():
            difference = value - sampled
            error = ERRORS * difference.std(0) * 2000**-0.5 + 1e-3
            assert (difference.mean(0).abs() < error).all(), f"{name} is not the divergence"

    def test_gradients_reach_every_parameter(self) -> None:
        part, found, mask = self._parts()
        if not any(parameter.requires_grad for parameter in part.parameters()):
            raise unittest.SkipTest("it has no trainable parameter")
        q, p = self.pair(found, mask)
        path = q.rsample()
        (q.log_prob(path) - p.log_prob(path)).sum().backward()
        check_reached(part)


class PriorConformance(PathConformance):
    """A prior over paths: a module with ``dim``, called with a mask."""

    def distribution(self, part: Any, mask: Tensor) -> Path:
        return part(mask)

    def pair(self, path: Path, mask: Tensor) -> tuple[Path, Path]:
        offset = torch.linspace(-1, 1, path.event_shape[1])[None]
        return LinearChain(mask, 0.5, offset, torch.full_like(offset, 0.7)), path


class GuideConformance(PathConformance):
    """A guide over paths: a module with ``features_dim`` and ``dim``.

    It is called as ``guide(features [B, T, F], mask [B, T], prior, decoder)``.
    """

    needs = (*PathConformance.needs, ("features_dim", "size F of its features"))

    def prior(self, mask: Tensor, dim: int) -> Path:
        """The prior that is passed to the guide; a Wiener process by default."""
        return LinearChain(mask, 1.0, torch.zeros(1, dim), torch.ones(1, dim))

    def decoder(self) -> nn.Module | None:
        """A new decoder that is passed to the guide; None by default."""

    def features(self, part: Any, mask: Tensor) -> Tensor:
        """Features of the data, ``[B, T, F]``: the same in every call."""
        with RandomStream(mask.device, "features"):
            return torch.randn(self.rows, self.steps, part.features_dim)[: len(mask), : len(mask.T)]

    def distribution(self, part: Any, mask: Tensor) -> Path:
        return self._guided(part, self.features(part, mask), mask)

    def _guided(self, part: Any, features: Tensor, mask: Tensor) -> Path:
        with RandomStream(mask.device, "decoder"):  # the same in every call
            decoder = self.decoder()
        return part(features, mask, self.prior(mask, part.dim), decoder)

    def pair(self, path: Path, mask: Tensor) -> tuple[Path, Path]:
        return path, self.prior(mask, path.event_shape[1])

    def test_sequences_do_not_mix_and_padding_has_no_influence(self) -> None:
        part, before, mask = self._parts()
        path = before.rsample().detach()
        features = self.features(part, mask) + torch.where(mask[..., None], 0.0, 3.0)
        features[0] += 1
        found = self._guided(part, features, mask).step_log_probs(path)
        expected = before.step_log_probs(path)
        self.close(found[1:], expected[1:], "features of padding or of other sequences matter")
        assert not torch.allclose(found[0], expected[0]), "the guide ignores the features"
