"""``Plan``: model, rule and budget that follow from data, and that can be changed.

A plan has neither data nor a score; a ``recipes.Recipe``, which can be run, has both.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...inference import ClosedForm, Network, fit
from ...inference.checks import check_number
from ...inference.rng import RandomStream
from ..names import instead
from ..part import Part
from ..signature import accepted, fitting

#: Arguments of ``fit`` that a plan may set; the others are set by whoever runs it.
FREE = ("lr", "optimizer", "schedule", "batch_size", "clip", "average", "patience")
VALIDATIONS = 20  # of a run, equally spaced
PATIENCE = 10  # validations without a better score end a run


def starting_network(model: Part, seed: int) -> Network:
    """The network that training on a recording starts from, on the CPU.

    Arguments:
        model: the network, as a part.
        seed: seed of its weights.
    """
    with RandomStream("cpu", "weights", seed):
        return model.build()


@dataclass(frozen=True)
class Plan:
    """What is trained, how, and for how long.

    Attributes:
        model: the network.
        rule: the learning rule.
        updates: steps of the optimizer, at least; 0 for a rule in closed form.
        fit: arguments of ``inference.fit``.
    """

    model: Part
    rule: Part
    updates: int = 0
    fit: dict[str, Any] = field(default_factory=dict)

    @property
    def by_gradient(self) -> bool:
        """Whether the rule needs gradients."""
        return not self.rule.builds(ClosedForm)

    def changed(self, changes: Mapping[str, Any]) -> Plan:
        """A copy with fields changed: ``{"model.hidden": 32, "rule.minibatch": 50, "fit.lr": 1e-3,
        "updates": 5000}``.

        Raises:
            ValueError: for a field that does not exist, or a value that does not fit.
        """
        plan = self
        for path, value in changes.items():
            name, *rest = path.split(".")
            if name in ("model", "rule") and rest:
                plan = dataclasses.replace(plan, **{name: getattr(plan, name).set(rest, value)})
            elif name == "updates" and not rest and self.by_gradient:
                plan = dataclasses.replace(plan, updates=check_number("updates", value))
            elif name == "fit" and len(rest) == 1 and rest[0] in FREE and self.by_gradient:
                checked = fitting(fit, rest[0], value, path)
                plan = dataclasses.replace(plan, fit={**plan.fit, rest[0]: checked})
            else:
                raise ValueError(
                    f"cannot change {path!r}: {instead(path, self._known(), self._all())}"
                )
        return plan

    def epochs(self, frames: int, trials: int) -> int:
        """Passes over so much data that make the plan's number of updates."""
        batches = math.ceil(trials / self.fit.get("batch_size", trials))
        each = 1.0  # updates a batch
        if minibatch := self.rule.arguments.get("minibatch"):
            each = max(1.0, frames / batches / minibatch)
        elif window := self.rule.arguments.get("window"):
            each = max(1.0, frames / trials / window)
        return max(1, math.ceil(self.updates / (batches * each)))

    def budget(self, frames: int, trials: int) -> dict[str, Any]:
        """Arguments of ``inference.fit`` for so much data; none for a rule in closed form.

        Arguments:
            frames: bins of all trials.
            trials: sequences in training.
        """
        if not self.by_gradient:
            return {}
        epochs = self.epochs(frames, trials)
        every = max(1, epochs // VALIDATIONS)
        return {"epochs": epochs, "validate_every": every, "patience": PATIENCE, **self.fit}

    def configuration(self) -> dict[str, Any]:
        """Rule and budget as plain data."""
        return {"rule": self.rule.to_json(), "updates": self.updates, "fit": dict(self.fit)}

    def _known(self) -> list[str]:
        own = [f"model.{key}" for key in accepted(self.model.cls)]
        own += [f"rule.{key}" for key in accepted(self.rule.cls)]
        return own + (["updates", *(f"fit.{key}" for key in FREE)] if self.by_gradient else [])

    def _all(self) -> str:
        return f"it has {', '.join(self._known())}"
