"""Recipes: model + rule + data + budget, with the published figure, and how one is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...inference import ClosedForm, fit
from ...inference.checks import check_number
from ..names import instead
from ..part import Part
from ..registry import parse
from ..signature import accepted, fitting
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
        search: where ``seqzoo search`` looks: ranges as tuples, ``{"rule.alpha_i": (low, high)}``,
            and choices as lists, ``{"model.hidden": [200, 400]}``. Rates by prefix are searched by
            ``{"fit.lr": {"": (low, high), "back.": (low, high)}}``.
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

    def __post_init__(self) -> None:
        for each in self.data.parts() if self.data else ():
            if each.arguments.get("split") in ("validation", "test"):
                raise ValueError(
                    f"{self.name} would learn from {each.arguments['split']} data, so that its "
                    "score on them said nothing: leave data.split as it is"
                )

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
        if name == "fit" and len(rest) == 1 and self.by_gradient:
            return {**self.fit, rest[0]: self._argument(path, fit, rest[0], value)}
        if name == "warmup" and self.rule is not None:
            return self._warmup(rest, value)
        if name == "validate" and not rest:
            return fitting(Recipe, "validate", value, path)
        raise ValueError(f"cannot set {path!r} of {self.name}")

    def _warmup(self, rest: list[str], value: Any) -> dict[str, Any]:
        """The warm-up with a field changed, or a whole one; without fields there is none."""
        assert self.rule is not None
        homes = {"rule": self.rule.cls, "fit": fit}
        if not rest and isinstance(value, Mapping):
            if value and value.keys() != {"restarts", *homes}:
                raise ValueError("a warm-up has the fields restarts, rule and fit, or none of them")
            bare = dataclasses.replace(self, warmup={key: {} for key in value})
            for key, fields in value.items():
                nested = key in homes and isinstance(fields, Mapping)
                leaves = {(key, name): each for name, each in fields.items()} if nested else {}
                for names, each in (leaves if nested else {(key,): fields}).items():
                    bare = dataclasses.replace(bare, warmup=bare._warmup(list(names), each))
            return bare.warmup
        key, *names = rest or [""]
        path = ".".join(["warmup", *rest])
        if key == "restarts" and key in self.warmup and not names:
            check_number(path, value)
            return {**self.warmup, key: value}
        if key in homes and key in self.warmup and len(names) == 1:
            fields = {**self.warmup[key]}
            fields[names[0]] = self._argument(path, homes[key], names[0], value, key)
            return {**self.warmup, key: fields}
        raise ValueError(f"cannot set {path!r} of {self.name}")

    def _argument(
        self, path: str, function: Callable[..., Any], name: str, value: Any, field: str = "fit"
    ) -> Any:
        """A value that fits an argument which is free to be set."""
        known = [each for each in accepted(function) if each not in RESERVED[field]]
        if name in RESERVED[field]:
            raise ValueError(f"cannot set {path!r}: a run sets it itself")
        if name not in known:
            near = instead(name, known, f"it has {', '.join(known)}")
            raise ValueError(f"{self.name}: {field} has no argument {name!r}: {near}")
        return fitting(function, name, value, path)

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


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """``["rule.k=5"]`` as ``{"rule.k": 5}``.

    Raises:
        ValueError: for text without an equals sign, or that is no value.
    """
    changes = {}
    for pair in pairs:
        path, equals, value = pair.partition("=")
        if not equals or not path.strip():
            raise ValueError(f"give FIELD=VALUE, such as rule.k=5: got {pair!r}")
        changes[path.strip()] = parse(value.strip())
    return changes
