"""The search for learning rates, and its command."""

import dataclasses
import functools
import json
import math
import shlex
import sys

import pytest
import torch
from seqzoo.data import OneToMany
from seqzoo.inference.training.state import Fit
from seqzoo.zoo.part import part
from seqzoo.zoo.parts.initialisers import Orthogonal
from seqzoo.zoo.recipes import (
    RECIPES,
    Scores,
    find,
    parse_overrides,
)
from seqzoo.zoo.runs import search as searching
from seqzoo.zoo.runs.run import run

ASKED = [n for n in RECIPES if n.startswith("onetomany-")]
PLAYED = [n for n in RECIPES if n.startswith("pianomidi-")]
WORST = "onetomany-class-t2/stptt"


@pytest.fixture
def ranged(tiny):
    """A tiny recipe with ranges for a setting of the rule and for two learning rates."""
    pytest.importorskip("optuna")
    recipe = tiny(find(WORST)).override({"rule.alpha_i": 0.2, "fit.lr": {"": 0.05, "back.": 2e-3}})
    ranges = {"rule.alpha_i": (0.01, 1.0), "fit.lr": {"": (1e-2, 0.3), "back.": (1e-3, 0.1)}}
    return dataclasses.replace(recipe, search=ranges)


@pytest.fixture
def scored(monkeypatch):
    """Trials are scored by a function of their recipe in place of training."""

    def choose(score):
        monkeypatch.setattr(
            searching, "train", lambda recipe, *_: Fit(None, best={"validation": score(recipe)})
        )

    return choose


def test_a_search_starts_from_the_recipe_s_own_setting(ranged, scored):
    scored(lambda recipe: recipe.fit["lr"]["back."])
    said = []
    found = searching.search(ranged, 3, say=said.append)
    assert said[0].changes == {"rule.alpha_i": 0.2, "fit.lr": {"": 0.05, "back.": 2e-3}}
    assert ranged.override(said[0].changes).configuration() == ranged.configuration()
    assert all(trial in found for trial in said)
    assert len(said) == len(found) == 3
    assert [trial.score for trial in found] == sorted(trial.score for trial in said)


def test_a_search_stays_within_its_ranges_and_tries_different_settings(ranged, scored):
    scored(lambda recipe: recipe.rule.arguments["alpha_i"])
    found = searching.search(ranged, 12)
    assert len(found) == 12
    for chosen, (low, high) in (
        (lambda t: t.changes["rule.alpha_i"], (0.01, 1.0)),
        (lambda t: t.changes["fit.lr"][""], (1e-2, 0.3)),
        (lambda t: t.changes["fit.lr"]["back."], (1e-3, 0.1)),
    ):
        values = [chosen(trial) for trial in found]
        assert low <= min(values) < max(values) <= high
        assert len(set(values)) > 8
    assert found[0].score < 0.2  # that of the recipe's own
    assert searching.search(ranged, 12) == found
    assert searching.search(ranged, 12, seed=7) != found


def test_a_rate_without_prefixes_is_searched_too(ranged, scored):
    plain = dataclasses.replace(ranged.override({"fit.lr": 0.02}), search={"fit.lr": (1e-2, 1e-1)})
    scored(lambda recipe: -recipe.fit["lr"])
    found = searching.search(plain, 5)
    rates = [trial.changes["fit.lr"] for trial in found]
    assert 0.02 in rates
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(("rate", "tried"), [(0.05, {0.05, 0.1}), (0.03, {0.03, 0.05, 0.1})])
def test_a_search_among_choices_tries_them_and_the_recipe_s_own(rate, tried, ranged, scored):
    """Of a part within the model, too; None is a choice."""
    changes = {"fit.lr": rate, "fit.average": None, "model.initialiser": part(Orthogonal, gain=1.0)}
    choices = {
        "fit.lr": [0.05, 0.1],
        "fit.average": [None, 0.9],
        "model.initialiser.gain": [1.0, 2.0],
    }
    scored(lambda recipe: recipe.fit["lr"])
    recipe = dataclasses.replace(ranged.override(changes), search=choices)
    found = searching.search(recipe, 16)
    assert {trial.changes["fit.lr"] for trial in found} == tried
    assert {trial.changes["fit.average"] for trial in found} == {None, 0.9}
    assert {trial.changes["model.initialiser.gain"] for trial in found} == {1.0, 2.0}
    assert found[0].score == min(tried)


def test_rates_that_are_not_searched_stay_as_they_are(ranged, scored):
    narrow = dataclasses.replace(ranged, search={"fit.lr": {"back.": (1e-3, 0.1)}})
    scored(lambda recipe: recipe.fit["lr"]["back."])
    for trial in searching.search(narrow, 4):
        assert trial.changes.keys() == {"fit.lr"}
        assert trial.changes["fit.lr"][""] == 0.05


@pytest.mark.filterwarnings("ignore:Fixed parameter")
def test_a_recipe_set_outside_the_ranges_is_still_tried_first(ranged, scored):
    scored(lambda recipe: recipe.rule.arguments["alpha_i"])
    said = []
    searching.search(ranged.override({"rule.alpha_i": 5.0}), 4, say=said.append)
    first, *rest = [trial.changes["rule.alpha_i"] for trial in said]
    assert first == 5.0
    assert all(0.01 <= value <= 1.0 for value in rest)


def test_a_search_never_touches_test_data(ranged, monkeypatch):
    opened, make = [], OneToMany.__init__

    @functools.wraps(make)
    def noted(self, *args, **how):
        make(self, *args, **how)
        opened.append((self.split, self.seed))

    monkeypatch.setattr(OneToMany, "__init__", noted)
    found = searching.search(ranged, 2)
    assert set(opened) == {("train", 1000), ("validation", 1000)}
    assert all(math.isfinite(trial.score) for trial in found)
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OneToMany, "__init__", noted)
        opened.clear()
        ranged.task.measure(ranged.model.build(), 0, "test")
        assert opened == [("test", 0)]  # the note above would have been taken


def test_a_trial_is_the_training_that_a_row_gets(ranged, tmp_path):
    """Its score is the best validation score of a run with the same settings and seed."""
    (own,) = searching.search(ranged, 1, seed=5)
    assert own.score == run(ranged, 5, tmp_path, device="cpu", progress=False)["validation"]


def test_a_diverging_trial_counts_as_infinite(ranged, scored):
    def score(recipe):
        if recipe.rule.arguments["alpha_i"] != 0.2:
            raise FloatingPointError("the loss of epoch 0 is nan: lower lr, or set clip")
        return 3.0

    scored(score)
    found = searching.search(ranged, 4)
    assert [trial.score for trial in found] == [3.0, math.inf, math.inf, math.inf]


def test_a_trial_that_blows_up_in_training_counts_as_infinite(ranged):
    wild = ranged.override({"fit.lr": 1e38, "fit.epochs": 3})
    wild = dataclasses.replace(wild, search={"fit.lr": (1e37, 3e38)})
    assert [trial.score for trial in searching.search(wild, 2)] == [math.inf] * 2


def test_a_trial_whose_validation_score_is_not_a_number_counts_as_infinite(ranged):
    """The last update of all may be the one that ruins the network."""
    task = dataclasses.replace(
        ranged.task, score=lambda *_: Scores(torch.full((2, 1), math.nan), torch.ones(2))
    )
    found = searching.search(dataclasses.replace(ranged, task=task), 2)
    assert [trial.score for trial in found] == [math.inf] * 2


def test_a_search_is_written_whole(ranged, scored, tmp_path):
    scored(lambda recipe: recipe.rule.arguments["alpha_i"])
    found = searching.search(ranged, 3)
    searching.save(ranged, found, tmp_path / "new" / "x.json")
    content = json.loads((tmp_path / "new" / "x.json").read_text())
    assert content["recipe"] == WORST
    assert content["configuration"] == ranged.configuration()
    assert sorted(content["ranges"].values()) == [[1e-3, 0.1], [1e-2, 0.3], [0.01, 1.0]]
    trials = [searching.Trial(trial, trial.pop("score")) for trial in content["trials"]]
    assert trials == found
    assert "CPU" in content["hardware"]


def test_a_search_with_a_diverged_trial_is_still_json(ranged, tmp_path):
    """Infinity is no JSON: only Python reads it."""
    trials = [searching.Trial({"rule.alpha_i": 0.1}, 1.0), searching.Trial({}, math.inf)]
    searching.save(ranged, trials, tmp_path / "x.json")

    def foreign(name):
        raise AssertionError(f"{name} is not JSON")

    content = json.loads((tmp_path / "x.json").read_text(), parse_constant=foreign)
    assert content["trials"] == [{"rule.alpha_i": 0.1, "score": 1.0}, {"score": None}]


@pytest.mark.parametrize("name", [n for n, recipe in RECIPES.items() if recipe.search])
def test_a_recipe_s_own_setting_lies_within_its_ranges(name):
    recipe = find(name)
    for setting, limits in searching._flat(recipe.search).items():
        current = searching._current(recipe, setting)
        if isinstance(limits, list):
            assert current in limits
        else:
            assert 0 < limits[0] <= current <= limits[1]
    own = {
        setting: searching._current(recipe, setting) for setting in searching._flat(recipe.search)
    }
    assert recipe.override(searching._nested(recipe, own)).configuration() == recipe.configuration()


def test_search_prints_every_trial_and_the_best_as_options(
    ranged, seqzoo, scored, monkeypatch, tmp_path
):
    scored(lambda recipe: recipe.fit["lr"]["back."])
    monkeypatch.setitem(RECIPES, WORST, ranged)
    path = tmp_path / "x.json"
    words = ["--trials", 4, "--seed", 3, "--out", path, "--device", "cpu"]
    code, out, error = seqzoo("search", WORST, *words)
    assert (code, error) == (0, "")
    *trials, best, wrote = out.splitlines()
    assert len(trials) == 4
    assert all("rule.alpha_i=" in line and "fit.lr={" in line for line in trials)
    assert wrote == f"wrote {path}"
    content = json.loads(path.read_text())
    assert len(content["trials"]) == 4
    first, lowest = content["trials"][0], min(float(line.split()[0]) for line in trials)
    assert lowest == round(first["score"], 4)
    assert best.startswith(f"best of 4: {lowest:.4f} by --set ")
    options = shlex.split(best.partition(" by ")[2])
    assert options[::2] == ["--set"] * 2
    assert parse_overrides(options[1::2]) | {"score": first["score"]} == first


def test_search_takes_the_quick_budget_and_other_settings(ranged, seqzoo, scored, monkeypatch):
    tried = []

    def score(recipe):
        tried.append((recipe.fit["epochs"], recipe.model.arguments["hidden"]))
        return 1.0

    scored(score)
    longer = dataclasses.replace(ranged.override({"fit.epochs": 9}), quick={"fit.epochs": 2})
    monkeypatch.setitem(RECIPES, WORST, longer)
    words = ["search", WORST, "--trials", 1, "--set", "model.hidden=6"]
    assert seqzoo(*words)[0] == 0
    assert seqzoo(*words, "--quick")[0] == 0
    assert tried == [(9, 6), (2, 6)]


def test_search_says_what_is_missing(ranged, refused, monkeypatch):
    monkeypatch.setitem(RECIPES, WORST, dataclasses.replace(ranged, search={}))
    assert f"{WORST} names no ranges to search in" in refused("search", WORST)
    assert "names no ranges" in refused("search", "ppc/kf1")
    monkeypatch.setitem(RECIPES, WORST, ranged)
    monkeypatch.setitem(sys.modules, "optuna", None)  # as if it were not installed
    assert "search needs Optuna: pip install 'seqzoo[search]'" in refused("search", WORST)


@pytest.mark.parametrize("rates", ["0.02", "{'': 0.02}"])
def test_search_says_that_ranges_do_not_fit_the_rates(rates, ranged, refused, scored, monkeypatch):
    """Ranges are by prefix: a recipe whose rates were changed to others must get a sentence."""
    scored(lambda recipe: 1.0)
    monkeypatch.setitem(RECIPES, WORST, ranged)
    refused("search", WORST, "--trials", 2, "--set", f"fit.lr={rates}")
