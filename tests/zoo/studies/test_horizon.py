"""Target propagation and BPTT as the horizon grows, and their commands."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from seqzoo.data import OneToMany
from seqzoo.zoo import catalogue, plain_json, store
from seqzoo.zoo.recipes import (
    find,
    one_to_many,
)
from seqzoo.zoo.runs import reproduce
from seqzoo.zoo.runs import search as searching
from seqzoo.zoo.runs.run import run
from seqzoo.zoo.studies import horizon, settings

from seqzoo import inference, zoo

TABLE = "onetomany-class-t2"
WORST, ROW_CONTROL = f"{TABLE}/stptt", f"{TABLE}/readout"


def shorten(monkeypatch, change):
    """Changes every recipe that a maker makes."""

    def changed(make):
        return lambda *args, **how: change(make(*args, **how))

    makers = tuple(changed(make) for make in one_to_many.MAKERS)
    monkeypatch.setattr(one_to_many, "MAKERS", makers)
    others = tuple(changed(make) for make in one_to_many.AS_PUBLISHED)
    monkeypatch.setattr(one_to_many, "AS_PUBLISHED", others)
    for name in ("targets", "through_time", "readout", "published"):
        monkeypatch.setattr(one_to_many, name, changed(getattr(one_to_many, name)))


@pytest.fixture
def short(monkeypatch, in_process, tiny):
    """Rows of the horizons that train in no time."""
    shorten(monkeypatch, tiny)
    monkeypatch.setattr(horizon, "BATCH", 20)


def test_a_horizon_is_the_recipe_with_another_number_of_steps():
    for kind, lengths in one_to_many.STEPS.items():
        for make in one_to_many.MAKERS:
            for steps in lengths:
                here = make(kind, steps)
                assert here.configuration() == find(here.name).configuration()
            here, there = make(kind, 6), make(kind, lengths[0])
            assert here.name.startswith(f"onetomany-{kind}-t6/")
            assert here.published is None
            assert here.limit == there.limit
            assert here.data.arguments["steps"] == 6
            if kind == "class" or lengths[0] == 5:  # for numbers each horizon has a setting
                assert (here.model, here.rule, here.fit) == (there.model, there.rule, there.fit)


def test_a_horizon_has_the_setting_that_was_chosen_for_the_nearest_one(monkeypatch):
    settings = {"a": {"fit.clip": 2.0}, "b": {"rule.alpha_i": 0.7}, "latch": {}}
    monkeypatch.setitem(one_to_many.SETTINGS, "tptt", settings)
    monkeypatch.setitem(one_to_many.CHOSEN, "tptt", {2: "a", 50: "b"})
    found = [one_to_many.targets("regression", steps) for steps in (1, 9, 11, 70)]
    assert [recipe.fit.get("clip") for recipe in found] == [2.0, 2.0, None, None]
    assert [recipe.rule.arguments["alpha_i"] for recipe in found] == [0.1, 0.1, 0.7, 0.7]
    plain = one_to_many.targets("regression", 1, "latch")
    assert plain.override({"fit.clip": 2.0}).configuration() == found[0].configuration()


def test_every_setting_fits_its_row_and_no_two_are_alike():
    for rule, make in settings.MAKERS.items():
        chosen = one_to_many.CHOSEN[rule]
        assert set(chosen.values()) <= set(one_to_many.SETTINGS[rule])
        made = [make("regression", 5, name).configuration() for name in one_to_many.SETTINGS[rule]]
        assert all(a != b for a, b in itertools.combinations(made, 2))


def test_settings_are_kept_and_the_best_comes_first(tiny, monkeypatch, tmp_path):
    """Every one is trained once, and the score is that of validation data."""
    shorten(monkeypatch, tiny)
    choices = {"slow": {"fit.lr": 1e-5}, "quick": {"fit.lr": 0.1}, "mad": {"fit.lr": 1e30}}
    monkeypatch.setitem(one_to_many.SETTINGS, "bptt", {"latch": {}, **choices})
    monkeypatch.setitem(settings.MAKERS, "bptt", one_to_many.through_time)
    monkeypatch.setattr(settings, "LOOKS", 1)
    said = []
    found = settings.choose("bptt", 3, tmp_path, say=said.append)
    assert list(found.values()) == sorted(found.values())
    assert set(found) == {"latch", *choices}
    recipe = one_to_many.through_time("regression", 3, "latch")
    card = run(recipe.override(choices["quick"]), searching.SEED, tmp_path / "run", progress=False)
    assert found["quick"] == pytest.approx(card["validation"], rel=1e-6)
    assert list(found)[-1] == "mad"
    monkeypatch.setattr(searching, "train", lambda *_: pytest.fail("it trains again"))
    assert settings.choose("bptt", 3, tmp_path, say=said.append) == found
    some = settings.choose("bptt", 3, tmp_path, ["mad", "quick"])
    assert some == {"quick": found["quick"], "mad": found["mad"]}
    with pytest.raises(ValueError, match="bptt has no setting 'fast': it has latch, slow, quick"):
        settings.choose("bptt", 3, tmp_path, ["fast"])
    with pytest.raises(ValueError, match="rule must be bptt or tptt, got ste"):
        settings.choose("ste", 3, tmp_path)
    recipe = tiny(find(WORST))
    with pytest.raises(ValueError, match="holds a search of other settings"):
        searching.grid(recipe, [{}], next(tmp_path.glob("*.json")))


def test_trials_that_are_not_asked_for_stay_and_every_seed_has_its_own(
    tiny, monkeypatch, tmp_path, seqzoo
):
    shorten(monkeypatch, tiny)
    monkeypatch.setitem(settings.MAKERS, "bptt", one_to_many.through_time)
    monkeypatch.setattr(settings, "LOOKS", 1)
    monkeypatch.setattr(searching, "_validation", lambda recipe, seed, _: seed + recipe.fit["lr"])
    monkeypatch.setitem(
        one_to_many.SETTINGS, "bptt", {"a": {"fit.lr": 0.1}, "b": {"fit.lr": 0.2}, "latch": {}}
    )
    settings.choose("bptt", 3, tmp_path, ["b"])
    settings.choose("bptt", 3, tmp_path, ["a"])
    kept = (tmp_path / "onetomany-regression-t3-bptt.json").read_text()
    assert kept.count('"score"') == 2
    words = ["study", "settings", "--out", tmp_path, "--rule", "bptt", "--steps", 3]
    code, out, _ = seqzoo(*words, "--only", "a", "--only", "b", "--seed", 0, "--seed", 3)
    assert code == 0
    assert out.splitlines()[-1].split() == ["bptt", "3", "a", "1.6000"]
    assert len(list(tmp_path.iterdir())) == 3


def test_the_control_differs_from_the_row_beside_it_in_its_rates_alone():
    for kind in one_to_many.STEPS:
        row = one_to_many.through_time(kind, 9, "latch")
        control = one_to_many.readout(kind, 9)
        assert (row.model, row.rule, row.data) == (control.model, control.rule, control.data)
        assert {k: v for k, v in row.fit.items() if k != "lr"} == {
            k: v for k, v in control.fit.items() if k != "lr"
        }
        assert control.fit["lr"] == row.fit["lr"] | {"": 0.0}
        assert not control.ships
        targets = one_to_many.targets(kind, 9, "latch")
        assert targets.model == row.model
        assert targets.fit["lr"]["readout."] == row.fit["lr"]["readout."]
        assert {k: v for k, v in row.fit.items() if k != "lr"} == {
            k: v for k, v in targets.fit.items() if k != "lr"
        }


def test_chance_is_what_is_known_without_the_question():
    shares = [1 / 18, *[1 / 9] * 8, 1 / 18]
    entropy = -sum(p * math.log(p) for p in shares)
    assert horizon.CHANCE["class"] == pytest.approx(entropy, abs=5e-4)
    assert horizon.CHANCE["regression"] == 0  # the density of U(0, 1) is one


def test_horizon_trains_both_rules_draws_and_keeps_what_is_finished(short, seqzoo, tmp_path, seen):
    words = ["study", "horizon", "--kind", "class", "--steps", 2, "--steps", 3, "--seeds", 2]
    words += ["--jobs", 1, "--runs", tmp_path / "runs", "--out", tmp_path / "x.png"]
    code, out, error = seqzoo(*words)
    assert (code, error) == (0, "")
    assert "kept from" not in out
    seen(tmp_path / "x.png")
    folders = sorted(path.parent for path in tmp_path.glob("runs/*/*/*/card.json"))
    rows = ["stptt", "ste", "readout"]
    assert len(folders) == 2 * 2 * len(rows)
    lines = [line for line in out.splitlines() if line.startswith("class ")]
    for line, (steps, row) in zip(lines, itertools.product("23", rows), strict=True):
        folder = tmp_path / "runs" / f"onetomany-class-t{steps}" / row
        cards = [store.load_card(folder / f"seed{seed}/card.json") for seed in (0, 1)]
        values = [card["value"] for card in cards]
        figures = [f"{np.mean(values):.3f}", f"{np.std(values, ddof=1):.3f}", "2"]
        found = line.removeprefix("class").strip()
        assert found.startswith(find(f"onetomany-class-t2/{row}").title)
        assert found.split()[-4:] == [steps, *figures]
    before = {folder: (folder / store.WEIGHTS).stat().st_mtime_ns for folder in folders}

    code, again, _ = seqzoo(*words, "--steps", 4)
    between = [line for line in lines if f"{find(ROW_CONTROL).title} 3" in " ".join(line.split())]
    assert len(between) == 1  # of the control, which is trained at the ends alone
    assert again.count("kept from") == len(folders) - 2
    assert {f: (f / store.WEIGHTS).stat().st_mtime_ns for f in folders} == before
    assert len(list(tmp_path.glob("runs/*/*/*/card.json"))) == 3 * 2 * len(rows)
    assert {*lines} - {*again.splitlines()} == {*between}


def test_a_row_that_ships_with_the_same_settings_and_seeds_is_not_trained_again(
    short, monkeypatch, tmp_path
):
    rows = [name.split("/")[1] for name in catalogue.carded() if name.startswith(f"{TABLE}/")]
    made = {make("class", 2).name: make("class", 2) for make in one_to_many.MAKERS}
    assert {name.split("/")[1] for name in made} <= {*rows}
    monkeypatch.setattr(
        catalogue,
        "card",
        lambda name: {
            **{"name": name, "title": "of the card", "value": 9.0, "sd": 0.1, "n": 2},
            **{"seeds": [0, 1], "configuration": plain_json.plain(made[name].configuration())},
        },
    )
    found = horizon.curves(["class"], [2], 2, tmp_path, 1)
    assert [(point.value, point.title) for point in found] == [(9.0, "of the card")] * 3
    assert not list(tmp_path.iterdir())
    made[f"{TABLE}/ste"] = made[f"{TABLE}/ste"].override({"fit.epochs": 7})
    found = horizon.curves(["class"], [2], 2, tmp_path, 1)
    assert [point.value == 9.0 for point in found] == [True, False, True]
    assert all(point.value != 9.0 for point in horizon.curves(["class"], [2], 1, tmp_path, 1))


def test_horizon_quick_is_kept_apart(short, seqzoo, monkeypatch, tmp_path):
    shorten(monkeypatch, lambda recipe: recipe.override({"fit.epochs": 3}))
    monkeypatch.setattr(one_to_many, "MAKERS", one_to_many.MAKERS[1:2])
    words = ["study", "horizon", "--kind", "regression", "--steps", 2, "--jobs", 1, "--seeds", 1]
    words += ["--runs", tmp_path, "--out", tmp_path / "x.png"]
    name = "onetomany-regression-t2/bptt/seed0/card.json"
    for options, folder, epochs in ((["--quick"], "quick", 1), ([], ".", 3)):
        code, out, _ = seqzoo(*words, *options)
        assert code == 0
        assert "kept from" not in out
        assert store.load_card(tmp_path / folder / name)["epochs_run"] == epochs
        assert " - " in out.splitlines()[-2]  # one seed has no sd


def test_both_tasks_are_drawn_side_by_side(tmp_path, seen):
    rows = [("class", "stptt"), ("class", "ste"), ("regression", "tptt"), ("regression", "bptt")]
    points = [
        horizon.Point(kind, row, row.upper(), steps, 1.5 + steps / 50, sd, 2)
        for kind, row in rows
        for steps, sd in ((2, 0.1), (30, None))
    ]
    horizon.plot_curves(points, tmp_path / "both.png")
    horizon.plot_curves(points[:4], tmp_path / "one.png")
    both, one = seen(tmp_path / "both.png"), seen(tmp_path / "one.png")
    assert both.shape[1] == pytest.approx(2 * one.shape[1], rel=0.01)


def test_horizons_are_drawn_beside_limit_and_published_figures(drawn, tmp_path, lines):
    rows = [("class", "stptt"), ("class", "ste"), ("regression", "tptt")]
    points = [horizon.Point(k, r, r, t, t / 10, 0.1, 2) for k, r in rows for t in (2, 30)]
    horizon.plot_curves(points, tmp_path / "x.png")
    left, right, below, _ = ({name: p.tolist() for p, name in lines(a)} for a in drawn[0].axes)
    assert left["stptt, published"] == [[2, 1.44], [20, 1.54]]
    assert left["ste, published"] == [[2, 1.44], [20, 2.27]]
    assert right["tptt, published"] == [[5, -0.98], [30, -0.94]]
    assert "bptt, published" not in right
    assert {y for _, y in left["limit 1.322"]} == {1.322}
    assert {y for _, y in right["limit -1.282"]} == {-1.282}
    assert left["stptt"] == [[2, 0.2], [30, 3.0]]
    assert below == {"stptt": left["stptt"], "ste": left["ste"]}
    bands = [band.get_paths()[0].vertices for band in drawn[0].axes[0].collections]
    assert len(bands) == 2
    edges = {tuple(point) for point in bands[0].round(6).tolist()}
    assert edges == {(2, 0.1), (2, 0.3), (30, 2.9), (30, 3.1)}  # mean and sd


def test_every_row_of_the_horizons_can_be_drawn(drawn, tmp_path, lines):
    """The control has no published figure."""
    for kind in one_to_many.STEPS:
        recipes = [make(kind, 2) for make in one_to_many.MAKERS]
        rows = [(recipe.name.split("/")[1], recipe.title) for recipe in recipes]
        points = [horizon.Point(kind, *row, 2, 1.0, None, 1) for row in rows]
        horizon.plot_curves(points, tmp_path / "x.png")
        axis = drawn[-1].axes[0]
        names = [name for _, name in lines(axis)]
        figures = [f"{title}, published" for _, title in rows]
        assert [name for name in names if name in dict(rows).values()] == [t for _, t in rows]
        assert [name for name in names if name in figures] == figures[:2]
        alone = [name for _, name in lines(drawn[-1].axes[1])]
        assert alone == [recipe.title for recipe in recipes[:2]]  # without the control


def test_alignment_is_drawn_over_training_and_back_from_the_answer(drawn, tmp_path, lines):
    states = torch.tensor([[0.1, 0.2, 1.0], [0.3, 0.4, 1.0]])
    one = horizon.Alignment(find(WORST), 3, [0, 5], [0.9, 0.7], states)
    horizon.plot_alignments([one], tmp_path / "x.png")
    training, back = map(lines, drawn[0].axes)
    assert drawn[0].axes[0].get_title() == one.recipe.title
    assert training[0][0].tolist() == [[0, 0.9], [5, 0.7]]
    for (points, label), row, when in zip(back, states, ("at first", "trained")):
        assert label == f"T=3, {when}"
        assert points[:, 0].tolist() == [0, 1, 2]  # the answer's own step comes first
        assert points[:, 1].tolist() == pytest.approx(row.flip(0).tolist())


def test_alignment_of_several_rows_is_drawn_row_by_row(drawn, tmp_path, lines):
    """Panels of one row hold its horizons alone."""
    states = torch.tensor([[0.1, 0.2, 1.0], [0.3, 0.4, 1.0]])
    recipes = find(WORST), find(f"{WORST}-published")
    found = [
        horizon.Alignment(recipe, steps, [0, 5], [0.9, level], states)
        for recipe, level in zip(recipes, (0.7, 0.6))
        for steps in (3, 4)
    ]
    horizon.plot_alignments(found, tmp_path / "x.png")
    panels = drawn[0].axes
    assert len(panels) == 4
    for axis, recipe, level in zip(panels[::2], recipes, (0.7, 0.6)):
        assert axis.get_title() == recipe.title
        shown = [(points[-1].tolist(), name) for points, name in lines(axis)[:2]]
        assert shown == [([5, level], "T=3"), ([5, level], "T=4")]
    for axis in panels[1::2]:
        names = [name for _, name in lines(axis)[:4]]
        assert names == [f"T={t}, {when}" for t in (3, 4) for when in ("at first", "trained")]


def test_following_starts_at_the_first_gradient_and_ends_with_the_last(short, monkeypatch):
    kept, fit = [], horizon.fit
    shorten(monkeypatch, lambda recipe: recipe.override({"fit.epochs": 3, "fit.lr": 0.01}))
    monkeypatch.setattr(horizon, "fit", lambda *a, **how: kept.append(fit(*a, **how)) or kept[-1])
    found = list(horizon.alignments("class", [2, 5], 3, False, "cpu"))
    rows = ["t2/stptt-published", "t5/stptt-published", "t2/stptt", "t5/stptt"]
    titles = ["STPTT, as published"] * 2 + ["STPTT"] * 2
    assert [one.recipe.title for one in found] == titles
    assert [one.recipe.name for one in found] == [f"onetomany-class-{row}" for row in rows]
    assert [one.steps for one in found] == [2, 5, 2, 5]
    for one, last in zip(found, kept, strict=True):
        assert one.epochs == [0, 1, 2, 3]
        assert len(set(one.gradients)) == 4
        assert one.states.shape == (2, one.steps)
        assert one.states.abs().max() <= 1 + 1e-6
        torch.testing.assert_close(one.states[:, -1], torch.ones(2))  # where the answer is
        torch.manual_seed(3)
        net = one.recipe.model.build()
        rules = one.recipe.rule.build(net), inference.StraightThrough(net)
        batch = OneToMany("class", 20, one.steps, 3, "validation").batch()
        assert one.gradients[0] == inference.alignment(*rules, batch)["from_state.weight"]
        before = inference.target_alignment(rules[0], batch)
        torch.testing.assert_close(one.states[0], before)
        net = last.net.cpu()
        rules = one.recipe.rule.build(net), inference.StraightThrough(net)
        assert one.gradients[-1] == inference.alignment(*rules, batch)["from_state.weight"]
        torch.testing.assert_close(one.states[1], inference.target_alignment(rules[0], batch))


def test_following_leaves_training_as_it_is(short, tmp_path, monkeypatch):
    """Gradients that are compared on the way change nothing of what is learned."""
    kept, fit = [], horizon.fit
    monkeypatch.setattr(horizon, "fit", lambda *a, **how: kept.append(fit(*a, **how)) or kept[-1])
    list(horizon.alignments("regression", [3], 0, False, "cpu"))
    recipe = one_to_many.published("regression", 3, target=True)
    run(recipe, 0, tmp_path, device="cpu", progress=False)
    expected = zoo.load(tmp_path).state_dict()
    for name, value in kept[0].net.state_dict().items():
        torch.testing.assert_close(value.cpu(), expected[name], msg=name)


@pytest.mark.parametrize("kind", ["class", "regression"])
def test_alignment_prints_and_draws(kind, short, seqzoo, tmp_path, seen):
    words = ["--kind", kind, "--steps", 2, "--steps", 4, "--quick", "--out", tmp_path / "x.png"]
    code, out, error = seqzoo("study", "alignment", *words)
    assert (code, error) == (0, "")
    _, *rows, last = out.splitlines()
    assert last == f"wrote {tmp_path / 'x.png'}"
    row = {"class": "stptt", "regression": "tptt"}[kind]
    assert [line.split()[0] for line in rows] == [
        f"onetomany-{kind}-t{steps}/{row}{ending}"
        for ending in ("-published", "")
        for steps in "24"
    ]
    for row in rows:
        before, after = map(float, re.findall(r"-?\d\.\d\d", row))
        assert -1 <= before <= 1
        assert -1 <= after <= 1
    seen(tmp_path / "x.png")


@pytest.fixture
def untrained(monkeypatch):
    """Anything that would train fails."""

    def stop(*_, **__):
        raise AssertionError("it trains")

    monkeypatch.setattr(horizon, "fit", stop)
    monkeypatch.setattr(reproduce, "reproduce", stop)


@pytest.mark.parametrize("verb", ["horizon", "alignment"])
def test_horizon_names_the_mistake_before_it_trains(verb, untrained, refused, tmp_path):
    words = ["study", verb, "--out", tmp_path / "x.png", "--kind", "ppc"]
    assert "kind must be class or regression, got ppc" in refused(*words)


@pytest.mark.parametrize("verb", ["horizon", "alignment"])
@pytest.mark.parametrize("file", ["x.gif", "x", "x.npz"])
def test_horizon_refuses_another_ending_before_it_trains(verb, file, untrained, refused, tmp_path):
    words = ["study", verb, "--steps", 2, "--kind", "class", "--out", tmp_path / file]
    assert f"cannot write '{file}'" in refused(*words)
    assert not list(tmp_path.iterdir())
