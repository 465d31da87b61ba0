"""Values fit the types of the arguments that they are given for, or are refused in a sentence."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pytest
from seqzoo.inference import fit
from seqzoo.zoo.part import Part, part
from seqzoo.zoo.recipes import find, parse_overrides
from seqzoo.zoo.registry import parse
from seqzoo.zoo.signature import accepted, fitting

from seqzoo import zoo


class Inner:
    """A class of a part."""

    def __init__(self, dim: int) -> None:
        self.dim = dim


class Base:
    """Its arguments are reached through ``**``."""

    def __init__(self, deep: bool = True) -> None:
        self.deep = deep


class Taker(Base):
    """One argument of each kind."""

    def __init__(
        self,
        flag: bool = False,
        number: int = 1,
        real: float = 1.0,
        text: str = "",
        mode: Literal["fast", "slow", 3] = "fast",
        sizes: Sequence[int] = (),
        pair: tuple[float, float] = (0.0, 1.0),
        rates: float | Mapping[str, float] = 1.0,
        maybe: int | None = None,
        either: bool | str = False,
        inner: Inner | None = None,
        call: Callable[[int], int] | None = None,
        free: Any = None,
        bare=None,
        **rest: Any,
    ) -> None:
        super().__init__(**rest)


FITS = [
    *[("flag", word, True) for word in (True, "true", "True", "TRUE", "yes", "on")],
    *[("flag", word, False) for word in (False, "false", "no", "No", "off")],
    ("deep", "off", False),
    ("number", -3, -3),
    ("number", np.int64(4), 4),
    ("real", 3, 3),
    ("real", -2.5, -2.5),
    ("text", "no", "no"),
    ("mode", "slow", "slow"),
    ("mode", 3, 3),
    ("sizes", (1, 2), [1, 2]),
    ("sizes", [], []),
    ("pair", (1, 2.5), [1, 2.5]),
    ("rates", 0.1, 0.1),
    ("rates", {"": 0.1, "back.": 1}, {"": 0.1, "back.": 1}),
    *[("maybe", word, None) for word in (None, "none", "None", "null")],
    ("maybe", 5, 5),
    ("either", "false", "false"),
    ("inner", part(Inner, dim=3), part(Inner, dim=3)),
    ("call", abs, abs),
    ("free", "false", "false"),
    ("bare", 5, 5),
]


@pytest.mark.parametrize(("name", "value", "taken"), FITS)
def test_what_fits_is_taken(name, value, taken):
    found = fitting(Taker, name, value)
    assert found == taken
    assert type(found) is type(taken)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        *[("flag", value, "true or false") for value in ("nope", "", 0, 1, 2.0, None, [], "t")],
        ("deep", "never", "true or false"),
        *[("number", v, "a whole number") for v in (True, 2.0, "5", "no", None, [1], float("nan"))],
        *[("real", v, "a number") for v in (True, "fast", None, float("inf"), float("nan"), 1j)],
        *[("text", value, "text") for value in (5, True, None, [])],
        *[("mode", value, "'fast' or 'slow' or 3") for value in ("medium", 4, True, 3.0, None)],
        *[("sizes", value, "a list") for value in (5, "12", [1.5], [True], {1}, {"a": 1})],
        *[("pair", value, "a list of 2 values") for value in ([1], [1, 2, 3], ["a", 2], 1.0)],
        *[("rates", value, "a number or a dict") for value in ("fast", {1: 2}, {"": "a"}, [1])],
        ("maybe", "nothing", "a whole number or None"),
        *[("inner", value, "a part of class Inner") for value in (5, "Inner", [], {})],
        ("call", "abs", "a function"),
    ],
)
def test_what_does_not_fit_is_refused_with_name_type_and_value(name, value, wanted):
    with pytest.raises(ValueError, match=rf"Taker\.{name} takes ") as refused:
        fitting(Taker, name, value)
    assert wanted in str(refused.value)
    assert repr(value) in str(refused.value)


def test_a_partial_function_has_the_types_of_the_function():
    few = functools.partial(fit, epochs=3)
    assert fitting(few, "progress", "off") is False
    with pytest.raises(ValueError, match=r"fit\.epochs takes a whole number"):
        fitting(fit, "epochs", True)


def test_every_annotation_of_the_zoo_is_one_that_values_are_checked_against():
    """An argument whose type cannot be read takes anything, which nobody would notice."""
    every = [*zoo.recipes.registry.PARTS.values(), *zoo.recipes.registry.RULES_AND_DATA.values()]
    taken = [
        (cls.__name__, name)
        for cls in every
        for name in accepted(cls)
        if _takes(cls, name, "a word that is none")
        and _takes(cls, name, 5)
        and _takes(cls, name, {})
    ]
    assert not taken


def _takes(cls, name, value):
    try:
        fitting(cls, name, value)
    except ValueError:
        return False
    return True


# Fields of recipes --------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["false", "no", "off", "False"])
@pytest.mark.parametrize(
    ("recipe", "path"),
    [
        ("ppc/trbm", "rule.sample_past"),
        ("ppc/tvae", "model.transition"),
        ("jsb/vrae", "model.decoder.drift"),
        ("jsb/vrae", "data.recut"),
        ("jsb/vrae", "validate"),
        ("ppc/rvae", "warmup.rule.captured"),
    ],
)
def test_a_word_for_false_is_false_in_every_field(recipe, path, word):
    changed = find(recipe).override(parse_overrides([f"{path}={word}"]))
    home, *rest = path.split(".")
    value = getattr(changed, home)
    for key in rest:
        value = value.arguments[key] if isinstance(value, Part) else value[key]
    assert value is False


@pytest.mark.parametrize(
    ("recipe", "pair", "word"),
    [
        ("ppc/trbm", "rule.sample_past=maybe", "true or false"),
        ("ppc/trbm", "rule.window=true", "whole number"),
        ("ppc/trbm", "rule.window=2.0", "whole number"),
        ("ppc/trbm", "rule.window=", "whole number"),
        ("ppc/trbm", "fit.lr=1e999", "number"),
        ("ppc/trbm", "fit.lr={'': 'x'}", "dict"),
        ("ppc/trbm", "fit.optimizer=5", "quotes"),
        ("ppc/trbm", "fit.shards=true", "whole number"),
        ("ppc/trbm", "fit={}", "cannot set"),
        ("ppc/trbm", "data.steps=many", "whole number"),
        ("ppc/trbm", "model.likelihood=None", "ExponentialFamily"),
        ("ppc/trbm", "model.likelihood=5", "is a part"),
        ("ppc/trbm", "model.likelihood=Poisson(dim=true)", "whole number"),
        ("ppc/trbm", "model.likelihood=Poisson(15, dim=15)", "twice"),
        ("ppc/trbm", "validate=perhaps", "true or false"),
        ("ppc/rvae", "warmup=5", "warmup"),
        ("ppc/rvae", "warmup={'restarts': 2}", "restarts, rule and fit"),
        ("ppc/rvae", "warmup={'restarts': 2, 'rule': 5, 'fit': {}}", "cannot set"),
        ("ppc/rvae", "warmup.restarts=1.5", "whole number"),
        ("ppc/rvae", "warmup.restarts=0", "at least 1"),
        ("ppc/rvae", "warmup.fit.epoch=5", "epochs"),
        ("ppc/rvae", "warmup.fit.epochs=few", "whole number"),
        ("ppc/rvae", "warmup.fit.seed=5", "a run sets it"),
        ("ppc/rvae", "warmup.rule.net=5", "a run sets it"),
        ("ppc/rvae", "warmup.rule.minibatch=yes", "whole number"),
        ("ppc/trbm", "rule.window=" + "-" * 100_000 + "1", "brackets"),
        ("ppc/trbm", "rule.window=" + "(" * 10_000, "whole number"),
        ("ppc/trbm", "rule.window=" + "9" * 10_000, "whole number"),
        ("ppc/trbm", "=5", "FIELD=VALUE"),
    ],
)
def test_a_value_that_does_not_fit_its_field_is_refused(recipe, pair, word):
    with pytest.raises(ValueError, match=word) as refused:
        find(recipe).override(parse_overrides([pair]))
    assert len(str(refused.value)) < 300


def test_a_whole_warm_up_is_checked_like_its_fields():
    warm = "{'restarts': 2, 'rule': {'captured': 'off'}, 'fit': {'epochs': 3}}"
    changed = find("ppc/rvae").override(parse_overrides([f"warmup={warm}"]))
    assert changed.warmup == {"restarts": 2, "rule": {"captured": False}, "fit": {"epochs": 3}}
    assert find("ppc/rvae").override({"warmup": {}}).warmup == {}


@pytest.mark.parametrize("split", ["test", "validation"])
def test_no_recipe_learns_from_data_that_are_held_out(split):
    with pytest.raises(ValueError, match=f"learn from {split} data"):
        find("ppc/trbm").override({"data.split": split})
    assert find("ppc/trbm").override({"data.split": "train"}).data.arguments["split"] == "train"


@pytest.mark.parametrize("text", ["1j", "b'x'", "{1, 2}", "...", "{1: 2}", "[b'x']", "a b", "x=1"])
def test_a_literal_that_no_card_holds_is_text(text):
    assert parse(text) == text


# The protocol of a score --------------------------------------------------------------------------

TASKS = ["balls/rtrbm", "onetomany-class-t2/stptt", "jsb/rnn", "ppc/trbm", "pianomidi-t50/ste"]


REFUSED = (
    *("model=1", "seed=3", "split=train", "film=1", "data=jsb", "figures=x", "kind=class"),
    *("past=1", "previous=1", "num_samples=1.5", "num_samples=true", "num_samples=many"),
    *("sequences=1.5", "sequences=yes", "sequences=None", "sequences=[1]", "sequences=nan"),
    *("sequences=Gaussian(3)", "sequences=1e999", "start=5", "midi=5", "means=x", "steps=1.5"),
    *("self=1", "protocol=1", "args=1", "__class__=1", "sequence=3", "é=1"),
)


@pytest.mark.parametrize("name", TASKS)
def test_a_protocol_of_names_or_values_that_no_score_takes_is_refused(name):
    recipe = find(name)
    net = recipe.model.build() if name.startswith("balls") else zoo.models.Order0()
    for how in REFUSED:
        with pytest.raises(ValueError, match=r"is not scored with|takes "):
            recipe.task.measure(net, 0, "test", parse_overrides([how]))
