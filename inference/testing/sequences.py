"""Pyro pairs over whole sequences."""

from __future__ import annotations

import unittest

from ..contracts import SequenceModel
from ..evaluate import elbo, importance_bound
from ..rules.sequence import SequenceELBO
from .checks import shaped
from .models import GeneratingConformance


class SequenceConformance(GeneratingConformance):
    """A Pyro pair over whole sequences; of its verbs those that it has.

    They are ``log_prob`` (exact), ``posterior``, ``reconstruct``, ``filter`` and ``sample``; it
    must have the last, and one of the first two. A posterior is a law of latent paths,
    ``[B, T, K]``, or of one latent vector a sequence, ``[B, K]``.
    """

    rules = (SequenceELBO,)
    kinds = (SequenceModel,)

    def verbs(self, net, target=None):
        names = ("log_prob", "posterior", "reconstruct", "filter")
        return {name: getattr(net, name) for name in names if hasattr(net, name)}

    def lacking(self, subject):
        found = super().lacking(subject)
        if not (hasattr(subject, "log_prob") or hasattr(subject, "posterior")):
            found.append("log_prob or posterior (batch -> exact log p(x), or q(z | x))")
        return found

    def test_verbs_have_the_shapes_promised(self):
        net, batch = self._built(), self._data()
        shapes = {"log_prob": batch.obs.shape[:1], "reconstruct": batch.obs.shape}
        for verb, value in self.findings(net, batch.obs).items():
            axes = 1 if verb == "posterior" and value.dim() == 2 else 2  # one vector a sequence
            path = (*batch.obs.shape[:axes], value.shape[-1])
            shaped(value, shapes.get(verb, path), verb)
        for bound in (elbo, importance_bound):
            shaped(bound(net, batch, 2), (len(batch),), bound.__name__)

    def test_padding_changes_no_bound(self):
        """log p(x, z) - log q(z | x), averaged over draws: what is trained must not count it."""
        net, batch = self._built(), self._data()
        self._same_bounds(net, batch, many=300)

    def test_a_filter_looks_at_past_and_present_alone(self):
        net = self._built()
        if not hasattr(net, "filter"):
            raise unittest.SkipTest("it has no filter")
        self._looks_back(net, "filter")
