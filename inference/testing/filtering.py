"""Tests of networks that filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...data import BatchLike
from ..rules.local import LocalELBO
from .checks import shaped
from .models import GeneratingConformance


class FilteringConformance(GeneratingConformance):
    """A network that carries u_t from frame to frame: ``reconstruct``, ``filter``, ``sample``.

    Its ``rules`` decide the kind: ``LocalELBO`` needs a ``FrameModel``. They are ``()`` where there
    is nothing to train.
    """

    rules = (LocalELBO,)
    needs = (
        ("reconstruct", "batch -> frames at the filtered state"),
        ("filter", "batch -> mean and variance of every state, as inference.Filtered"),
        *GeneratingConformance.needs,
    )

    def methods(self, net: Any) -> dict[str, Callable[[BatchLike], Any]]:
        return {"reconstruct": net.reconstruct, "filter": net.filter}

    def test_outputs_have_the_documented_shapes(self) -> None:
        net, batch = self._built(), self._data()
        found, obs = net.reconstruct(batch), batch.obs
        shaped(found, obs.shape, "reconstruct")
        assert found.dtype == obs.dtype, f"reconstruct is {found.dtype}"
        filtered = net.filter(batch)
        shaped(filtered.mean, (*obs.shape[:2], filtered.mean.shape[-1]), "filter.mean")
        shaped(filtered.variance, filtered.mean.shape, "filter.variance")
        assert (filtered.variance >= 0).all(), "a variance is negative"

    def test_outputs_depend_on_past_and_present_only(self) -> None:
        net = self._built()
        for name in self.methods(net):
            self._only_past_matters(net, name)
