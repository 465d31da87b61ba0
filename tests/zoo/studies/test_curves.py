"""The validation figure over training, and its command."""

import dataclasses
import functools

import pytest
from seqzoo.inference import rules
from seqzoo.zoo.recipes import RECIPES, find
from seqzoo.zoo.recipes.film_task import next_frame_task
from seqzoo.zoo.runs.run import train
from seqzoo.zoo.studies.curves import curve

ROW = "balls/rvae"
HOW = {"sequences": 1, "method": "mean"}


@pytest.fixture
def small(monkeypatch):
    """A row of film that trains and is scored in no time."""
    changes = {"data.sequences": 1, "data.steps": 6, "fit.epochs": 3, "warmup": {}}
    recipe = find(ROW).override(changes)
    film = functools.partial(recipe.task.film, steps=6)
    recipe = dataclasses.replace(recipe, task=next_frame_task("short", film))
    monkeypatch.setitem(RECIPES, ROW, recipe)
    return recipe


def test_scores_leave_the_training_as_it_is_and_are_kept(small, tmp_path, monkeypatch):
    found = curve(small, 2, tmp_path / "a", protocol=HOW)
    assert list(found) == [2, 3]
    net = train(small, 0, tmp_path, None, False, False).net
    last = small.task.measure(net, 0, "validation", HOW).figures[0]
    assert found[3] == pytest.approx(float(last), rel=1e-6)
    assert found[2] != found[3]
    monkeypatch.delattr(rules.folded.FoldedRule, "updates")  # it trains no more
    assert curve(small, 2, tmp_path / "a", protocol=HOW) == found


def test_the_table_of_curves(small, seqzoo, refused, tmp_path):
    words = ["study", "curves", ROW, "--every", 3, "--runs", tmp_path, "--device", "cpu"]
    how = [word for each in HOW.items() for word in ("--how", "{}={}".format(*each))]
    code, out, error = seqzoo(*words, *how)
    assert (code, error) == (0, "")
    first, head, row = out.splitlines()
    assert first.endswith("per pixel, on validation data (seed 0)")
    assert head.split() == ["epoch", ROW]
    assert row.split()[0] == "3"
    assert 0 < float(row.split()[1]) < 1
    assert "not scored with sequence: did you mean sequences?" in refused(
        *words, "--how", "sequence=1"
    )
    assert "name recipes of one table" in refused(*words, "ppc/rvae")
    assert "balls/order0 does not train by gradients" in refused("study", "curves", "balls/order0")
