"""Networks that carry u_t along."""

from __future__ import annotations

from ..rules.local import LocalELBO
from .checks import shaped
from .models import GeneratingConformance


class FilteringConformance(GeneratingConformance):
    """A network that carries u_t along: ``reconstruct``, ``filter`` and ``sample``.

    Its ``rules`` ask for more: ``LocalELBO`` for a ``FrameModel``. Where there is nothing to train
    they are ``()``.
    """

    rules = (LocalELBO,)
    needs = (
        ("reconstruct", "batch -> frames at the filtered state"),
        ("filter", "batch -> mean and variance of every state, as inference.Filtered"),
        *GeneratingConformance.needs,
    )

    def verbs(self, net, target=None):
        return {"reconstruct": net.reconstruct, "filter": net.filter}

    def test_reconstruct_and_filter_have_the_shapes_promised(self):
        net, obs = self._built(), self._data().obs
        found = net.reconstruct(obs)
        shaped(found, obs.shape, "reconstruct")
        assert found.dtype == obs.dtype, f"reconstruct is {found.dtype}"
        belief = net.filter(obs)
        shaped(belief.mean, (*obs.shape[:2], belief.mean.shape[-1]), "filter.mean")
        shaped(belief.variance, belief.mean.shape, "filter.variance")
        assert (belief.variance >= 0).all(), "a variance is negative"

    def test_filtering_looks_at_past_and_present_alone(self):
        net = self._built()
        for verb in self.verbs(net):
            self._looks_back(net, verb)
