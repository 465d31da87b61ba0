"""Tests of models of whole sequences."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from typing import Any

import torch

from ...data import BatchLike
from ..contracts import SequenceModel
from ..evaluate import elbo, importance_bound, prepare_whole
from ..rules.sequence import SequenceELBO
from ..samples import main_site, same, sample_sites
from .checks import check_gradients, lacking, refuses, shaped
from .models import GeneratingConformance


class SequenceConformance(GeneratingConformance):
    """A ``SequenceModel``, with those methods that make sense for it.

    They are ``log_prob`` (exact), ``posterior``, ``reconstruct``, ``filter`` and ``sample``. It
    must have ``sample``, and one of the first two. A posterior is a distribution of latent paths,
    ``[B, T, K]``, or of one latent vector per sequence, ``[B, K]``.
    """

    rules = (SequenceELBO,)
    kinds = (SequenceModel,)

    def methods(self, net: Any) -> dict[str, Callable[[BatchLike], Any]]:
        names = ("log_prob", "posterior", "reconstruct", "filter")
        return {name: getattr(net, name) for name in names if hasattr(net, name)}

    def missing(self, subject: Any) -> list[str]:
        found = super().missing(subject)
        if not {"log_prob", "posterior"} & set(self.methods(subject)):
            found.append("log_prob or posterior (batch -> exact log p(x), or q(z | x))")
        return found

    def test_outputs_have_the_documented_shapes(self) -> None:
        net, batch = self._built(), self._data()
        shapes = {"log_prob": batch.obs.shape[:1], "reconstruct": batch.obs.shape}
        for name, value in self.outputs(net, batch).items():
            axes = 1 if name == "posterior" and value.dim() == 2 else 2  # a vector per sequence
            path = (*batch.obs.shape[:axes], value.shape[-1])
            shaped(value, shapes.get(name, path), name)
        for bound in (elbo, importance_bound):
            shaped(bound(net, batch, 2), (len(batch),), bound.__name__)

    def test_padding_changes_no_bound(self) -> None:
        """log p(x, z) - log q(z | x), averaged over samples: training must not score padding."""
        net, batch = self._built(), self._data()
        self._same_bounds(net, batch, many=300)

    def test_missing_values_count_for_nothing(self) -> None:
        """A network that takes them has a density of the values seen; any other refuses them."""
        net, batch = self._built(), self._data()
        if not net.takes_missing:
            refuses(lambda: elbo(net, lacking(batch)), "missing", "missing values")
            return
        for whole_frames in (False, True):
            data = lacking(batch, whole_frames)
            try:
                samples = sample_sites(net, prepare_whole(net, data), 3)
            except ValueError as error:
                if whole_frames or "not independent" not in str(error):
                    raise AssertionError(f"missing values are refused: {error}") from error
                continue
            site = main_site(samples, data)
            density, value = samples.distributions[site].log_prob, samples.data[site]
            if data.observed is None or not same(value, data.obs):
                raise unittest.SkipTest("the model does not observe the frames themselves")
            other, expected = batch.obs.roll(1, 0), density(value)
            hidden = torch.where(data.observed, value, other)
            self.close(density(hidden), expected, "a missing value counts")
            seen = torch.allclose(density(torch.where(data.observed, other, value)), expected)
            assert not seen, "the density does not depend on the values that were seen"
            for rule_of in self.rules:
                rule = self._rule(rule_of)
                check_gradients(rule, data, self.frames(rule.net, data), self.untrained(rule))

    def test_a_filter_depends_on_past_and_present_only(self) -> None:
        net = self._built()
        if "filter" not in self.methods(net):
            raise unittest.SkipTest("it has no filter")
        self._only_past_matters(net, "filter")
