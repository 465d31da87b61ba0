"""Laws of latent paths: priors and guides."""

from __future__ import annotations

import contextlib
import unittest

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from ..paths import LinearChain, Path, kl_steps
from ..rng import RandomStream
from .checks import ERRORS, check_reached, lengths_mask, shaped
from .suite import Conformance


class PathConformance(Conformance):
    """What a law of paths must do, see ``paths.Path``. Inherit one of the two kinds below."""

    rows, steps = 3, 5
    needs = (("dim", "size K of the latent state"),)

    def law(self, part: nn.Module, mask: Tensor) -> Path:
        """The law that a part gives for paths as long as ``mask [B, T]``."""
        raise NotImplementedError

    def pair(self, law: Path, mask: Tensor) -> tuple[Path, Path]:
        """The law and another one, in the order (q, p) of their divergence."""
        raise NotImplementedError

    def _laws(self) -> tuple[nn.Module, Path, Tensor]:
        """The part, its law of paths of unequal lengths, and their mask."""
        part, mask = self._built(), lengths_mask(self.rows, self.steps)
        return part, self.law(part, mask), mask

    def test_the_law_has_the_shapes_promised(self):
        part, law, mask = self._laws()
        assert isinstance(law, Path), f"a law of paths is a Path, got {type(law).__name__}"
        assert law.batch_shape == mask.shape[:1], f"batch shape {law.batch_shape}"
        assert law.event_shape == (self.steps, part.dim), f"event shape {law.event_shape}"
        path = law.rsample((4,))
        shaped(path, (4, *mask.shape, part.dim), "rsample")
        shaped(law.mode, (*mask.shape, part.dim), "mode")
        shaped(law.log_prob(path), (4, self.rows), "log_prob")
        found = {"rsample": path, "mode": law.mode, "log_prob": law.log_prob(path)}
        for name, value in found.items():
            assert value.isfinite().all(), f"{name} is not finite"

    def test_the_density_is_the_sum_of_its_steps(self):
        _, law, mask = self._laws()
        path = law.rsample((4,)).detach()
        steps = law.step_log_probs(path)
        shaped(steps, (4, *mask.shape), "step_log_probs")
        assert (steps[:, ~mask] == 0).all(), "padding has a density"
        self.close(law.log_prob(path), steps.sum(-1), "log_prob")

    def test_the_density_is_that_of_what_is_drawn(self):
        """By the change of variables, and innovations of draws must be white."""
        law = self.law(self._built(), torch.ones(1, self.steps, dtype=torch.bool))
        noise = torch.randn(1, *law.event_shape)
        size = noise.numel()
        slope = torch.autograd.functional.jacobian(law.from_innovations, noise).reshape(size, size)
        expected = Normal(0.0, 1.0).log_prob(noise).sum() - torch.linalg.slogdet(slope).logabsdet
        with torch.no_grad():
            path = law.from_innovations(noise)
            found, (again, _) = law.log_prob(path)[0], law.to_innovations(path)
            white, _ = law.to_innovations(law.rsample((4000,)))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(again, noise, rtol=1e-3, atol=1e-3)
        assert (white.mean(0).abs() < ERRORS * 4000**-0.5).all(), "draws are off centre"
        assert ((white.var(0) - 1).abs() < ERRORS * (2 / 4000) ** 0.5).all(), "draws' spread is off"

    def test_padding_counts_for_nothing(self):
        part, law, mask = self._laws()
        path = law.rsample().detach()
        changed = torch.where(mask[..., None], path, path + 7)
        self.close(law.log_prob(changed), law.log_prob(path), "with other values in padding")
        short = self.steps - 1
        alone = self.law(part, mask[:, :short]).step_log_probs(path[:, :short])
        self.close(alone, law.step_log_probs(path)[:, :short], "of shorter paths")

    def test_an_expanded_law_is_the_same(self):
        _, law, _ = self._laws()
        path = law.rsample((2,)).detach()
        wide = law.expand((2, self.rows))
        shaped(wide.rsample(), path.shape, "rsample, expanded")
        self.close(wide.log_prob(path), law.log_prob(path), "expanded")

    @torch.no_grad()
    def test_the_divergence_agrees_with_sampling(self):
        _, law, mask = self._laws()
        q, p = self.pair(law, mask)
        path = q.rsample((2000,))
        sampled = q.log_prob(path) - p.log_prob(path)
        found = {"kl_steps": kl_steps(q, p, path).sum(-1).expand_as(sampled)}
        with contextlib.suppress(NotImplementedError):  # where there is none in closed form
            found["kl_divergence"] = kl_divergence(q, p).expand_as(sampled)
        for name, value in found.items():
            difference = value - sampled
            error = ERRORS * difference.std(0) * 2000**-0.5 + 1e-3
            assert (difference.mean(0).abs() < error).all(), f"{name} is not the divergence"

    def test_gradients_reach_every_parameter(self):
        part, law, mask = self._laws()
        if not any(parameter.requires_grad for parameter in part.parameters()):
            raise unittest.SkipTest("it learns nothing")
        q, p = self.pair(law, mask)
        path = q.rsample()
        (q.log_prob(path) - p.log_prob(path)).sum().backward()
        check_reached(part)


class PriorConformance(PathConformance):
    """A prior over paths: a module with ``dim``, called with a mask."""

    def law(self, part, mask):
        return part(mask)

    def pair(self, law, mask):
        offset = torch.linspace(-1, 1, law.event_shape[1])[None]
        return LinearChain(mask, 0.5, offset, torch.full_like(offset, 0.7)), law


class GuideConformance(PathConformance):
    """A guide over paths: a module with ``features_dim`` and ``dim``.

    It is called as ``guide(features [B, T, F], mask [B, T], prior, decoder)``.
    """

    needs = (*PathConformance.needs, ("features_dim", "size F of the features that it reads"))

    def prior(self, mask: Tensor, dim: int) -> Path:
        """The prior that the guide is shown; a Wiener process unless overridden."""
        return LinearChain(mask, 1.0, torch.zeros(1, dim), torch.ones(1, dim))

    def decoder(self) -> nn.Module | None:
        """A new decoder that the guide is shown; None unless overridden."""

    def features(self, part: nn.Module, mask: Tensor) -> Tensor:
        """What is read in the data, ``[B, T, F]``: the same whenever asked."""
        with RandomStream(mask.device, "features"):
            return torch.randn(self.rows, self.steps, part.features_dim)[: len(mask), : len(mask.T)]

    def law(self, part, mask):
        return self._read(part, self.features(part, mask), mask)

    def _read(self, part: nn.Module, features: Tensor, mask: Tensor) -> Path:
        with RandomStream(mask.device, "decoder"):  # the same whenever asked
            decoder = self.decoder()
        return part(features, mask, self.prior(mask, part.dim), decoder)

    def pair(self, law, mask):
        return law, self.prior(mask, law.event_shape[1])

    def test_beliefs_do_not_mix_and_padding_says_nothing(self):
        part, law, mask = self._laws()
        path = law.rsample().detach()
        features = self.features(part, mask) + torch.where(mask[..., None], 0.0, 3.0)
        features[0] += 1
        found = self._read(part, features, mask).step_log_probs(path)
        expected = law.step_log_probs(path)
        self.close(found[1:], expected[1:], "features of padding or of other sequences matter")
        assert not torch.allclose(found[0], expected[0]), "the guide does not see the features"
