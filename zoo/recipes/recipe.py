"""Recipes: model + rule + data + budget, with the published figure, and how one is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...inference import ClosedForm, fit
from ..names import instead
from ..part import Part, accepted
from ..registry import parse
from .task import Task

SETTABLE = ("model", "rule", "data", "fit", "warmup", "validate")
# What ``run`` passes itself, and an override must leave alone.
RESERVED = {
    "data": ("seed",),
    "rule": ("net",),
    "fit": (
        *("rule", "data", "seed", "device", "validate"),
        *("checkpoint", "resume", "changed", "identity", "progress"),
    ),
}


@dataclass(frozen=True)
class Recipe:
    """One row of a table.

    Attributes:
        name: ``table/row``, such as ``ppc/refh``.
        title: the row as the table prints it.
        task: what is measured.
        model: the network.
        rule: the learning rule, or None for a row without training.
        data: the training data, or None.
        fit: arguments of ``inference.fit``.
        quick: fields changed by ``--quick``, such as ``{"fit.epochs": 10}``.
        published: the published figure, or None, and where it stands.
        limit: a figure that nothing can beat, where one is known.
        note: why the obtained figure differs from the published one.
        warmup: ``{"restarts": n, "rule": {...}, "fit": {...}}``: fit n fresh networks briefly, with
            these arguments changed, and go on with the one whose loss is lowest.
        validate: score the network on validation data, after every epoch or as
            ``fit.validate_every`` says, and keep the best.
        ships: its weights come with the package; its card does in any case.
        search: ranges in which ``seqzoo search`` looks for numbers, ``{"rule.alpha_i": (low,
            high)}``; for rates by prefix ``{"fit.lr": {"": (low, high), "back.": (low, high)}}``.
    """

    name: str
    title: str
    task: Task
    model: Part
    rule: Part | None = None
    data: Part | None = None
    fit: dict[str, Any] = field(default_factory=dict)
    quick: dict[str, Any] = field(default_factory=dict)
    published: float | None = None
    source: str = ""
    limit: float | None = None
    note: str = ""
    warmup: dict[str, Any] = field(default_factory=dict)
    validate: bool = False
    ships: bool = True
    search: dict[str, Any] = field(default_factory=dict)

    @property
    def table(self) -> str:
        """The table this row belongs to."""
        return self.name.split("/")[0]

    @property
    def by_gradient(self) -> bool:
        """Whether ``inference.fit`` trains this row."""
        return self.rule is not None and not self.rule.builds(ClosedForm)

    def override(self, changes: Mapping[str, Any]) -> Recipe:
        """A copy with fields changed: ``{"rule.k": 5, "fit.lr": 1e-3, "warmup": {}}``.

        Raises:
            ValueError: for a field that does not exist, or that ``run`` sets itself.
        """
        recipe = self
        for path, value in changes.items():
            name, *rest = path.split(".")
            if name not in SETTABLE:
                raise ValueError(f"cannot set {path!r}: start with {', '.join(SETTABLE)}")
            if rest and rest[0] in RESERVED.get(name, ()):
                raise ValueError(f"cannot set {path!r}: a run sets it itself")
            changed = recipe._changed(name, rest, value)
            recipe = dataclasses.replace(recipe, **{name: changed})
        return recipe

    def _changed(self, name: str, rest: list[str], value: Any) -> Any:
        """What the field ``name`` becomes when ``rest`` within it is set."""
        current, path = getattr(self, name), ".".join([name, *rest])
        if isinstance(current, Part) and rest:
            return current.set(rest, value)
        if name == "fit" and len(rest) == 1:
            known = accepted(fit) if self.by_gradient else []
            if rest[0] not in known:
                near = instead(rest[0], known, f"it has {', '.join(known)}")
                raise ValueError(f"{self.name}: fit has no argument {rest[0]!r}: {near}")
            return {**self.fit, rest[0]: value}
        if name == "warmup" and rest and rest[0] in self.warmup:
            return _set_in(self.warmup, rest, value)
        if name in ("warmup", "validate") and not rest:
            return value
        raise ValueError(f"cannot set {path!r} of {self.name}")

    def quickened(self) -> Recipe:
        """The copy that ``--quick`` runs: the same, on a small budget."""
        return self.override(self.quick)

    def configuration(self) -> dict[str, Any]:
        """Everything that decides the result, as plain data."""
        parts = {key: getattr(self, key) for key in ("model", "rule", "data")}
        plain = {key: None if value is None else value.to_json() for key, value in parts.items()}
        rest = {key: getattr(self, key) for key in ("fit", "warmup", "validate")}
        return {**plain, **rest}


def override_all(recipes: list[Recipe], changes: Mapping[str, Any]) -> list[Recipe]:
    """Applies each change to the rows that have the field.

    Raises:
        ValueError: when no row has it.
    """
    for path, value in changes.items():
        changed, mistake = [], None
        for recipe in recipes:
            try:
                changed.append(recipe.override({path: value}))
            except ValueError as error:
                changed.append(recipe)
                mistake = error
        if mistake and all(new is old for new, old in zip(changed, recipes)):
            raise mistake
        recipes = changed
    return recipes


def _set_in(tree: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """A copy of nested dicts with one leaf changed."""
    key, *rest = path
    return {**tree, key: _set_in(tree.get(key, {}), rest, value) if rest else value}


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """``["rule.k=5"]`` as ``{"rule.k": 5}``.

    Raises:
        ValueError: for text without an equals sign.
    """
    changes = {}
    for pair in pairs:
        path, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set takes FIELD=VALUE, such as rule.k=5: got {pair!r}")
        changes[path.strip()] = parse(value.strip())
    return changes
