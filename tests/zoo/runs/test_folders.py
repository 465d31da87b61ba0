"""Where runs and reports write: nothing finished is replaced unasked, nothing of others removed."""

import dataclasses
import functools
import json
import math
import os

import pytest
import torch
from seqzoo.zoo import folders, recipes, store
from seqzoo.zoo.recipes import find, ppc
from seqzoo.zoo.runs.finished import place

from seqzoo import zoo

KF = ["ppc/kf1", "--set", "data.sequences=2", "--set", "data.steps=20"]
FEW = [*KF, "--set", "rule.iterations=3"]
TVAE = ["train", "ppc/tvae", *KF[1:], "--set", "fit.epochs=1", "--set", "model.hidden=4"]
KEPT = "data.sequences=2,data.steps=20,rule.iterations=3/ppc/kf1/seed0"


@pytest.fixture(autouse=True)
def short(monkeypatch, tmp_path):
    monkeypatch.setattr(ppc, "STEPS", 50)
    monkeypatch.chdir(tmp_path)


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# Which folder ------------------------------------------------------------------------------------


def test_every_setting_has_a_folder_of_its_own(seqzoo, tmp_path):
    words = ["train", "ppc/order0"]
    for more in ([], ["--quick"], ["--seed", 1]):
        assert seqzoo(*words, *more)[0] == 0
    assert seqzoo("train", *FEW)[0] == 0
    found = {path.parent.relative_to(tmp_path / "runs") for path in tmp_path.rglob(store.CARD)}
    paths = {"ppc/order0/seed0", "quick/ppc/order0/seed0", "ppc/order0/seed1", KEPT}
    assert {path.as_posix() for path in found} == paths


def test_folders_of_changes_differ_as_the_changes_do(tmp_path):
    texts = ["a b", "a/b", "a_b", "../x", "A" * 200, "A" * 201, 1, 1.0, True, None, ["a"], ""]
    found = {place(tmp_path, quick, {"f.x": text}) for text in texts for quick in (False, True)}
    assert len(found) == 2 * len(texts)
    assert {path.resolve().parent for path in found} == {tmp_path, tmp_path / "quick"}
    assert place(tmp_path, False, {"b": 1, "a": 2}) == place(tmp_path, False, {"a": 2, "b": 1})


@pytest.mark.parametrize("name", ["../x", "x/..", "./x", "x/.hidden", "a\\b/c", "/x", "x/", "x"])
def test_a_recipe_whose_name_is_a_path_is_refused(name):
    recipe = dataclasses.replace(find("ppc/kf1"), name=name)
    with pytest.raises(ValueError, match="TABLE/ROW"):
        recipes.register(recipe)
    assert name not in recipes.RECIPES


# Finished runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [[], ["--seed", 1], ["--fresh"], ["--set", "rule.restarts=2"]])
def test_a_finished_run_is_replaced_only_when_asked(change, seqzoo, refused, tmp_path):
    out = tmp_path / "run"
    words = ["train", *FEW, "--out", out]
    assert seqzoo(*words)[0] == 0
    before = content(out)
    assert "--overwrite" in refused(*words, *change)
    assert content(out) == before
    assert seqzoo(*words, *change, "--overwrite")[0] == 0
    assert content(out).keys() == before.keys()


def test_a_saved_model_is_not_replaced_by_a_run(refused, tmp_path):
    zoo.save(tmp_path / "mine", zoo.LGDS(1))
    before = content(tmp_path / "mine")
    assert "--overwrite" in refused("train", *FEW, "--out", tmp_path / "mine")
    assert content(tmp_path / "mine") == before


# Folders of others -------------------------------------------------------------------------------

OTHERS = {
    "a checkpoint": ("checkpoint.pt", "warmup0.pt", "warmup7.pt"),
    "a thesis": ("thesis.tex",),
    "a card": ("card.json", "report.md"),
    "figures": ("report.md", "khat.png", "posterior.nc", "trajectory.png"),
    "hidden files": (".config",),
}


@pytest.mark.parametrize("names", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize(
    "words",
    [
        [*TVAE, "--overwrite", "--fresh", "--out", "."],
        ["train", *FEW, "--out", "."],
        ["diagnose", "ppc/kf2", "--out", "."],
        ["demo", "--shipped", "--out", "."],
    ],
    ids=["train", "closed form", "diagnose", "demo"],
)
def test_files_of_others_are_left_alone(words, names, refused, tmp_path):
    for name in names:
        (tmp_path / name).write_text(f"my {name}")
    before = content(tmp_path)
    assert "holds something else" in refused(*words)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["checkpoint.pt", "warmup3.pt"])
def test_a_checkpoint_of_others_beside_a_finished_run_is_left_alone(
    name, seqzoo, refused, tmp_path
):
    out = tmp_path / "run"
    assert seqzoo(*TVAE, "--out", out)[0] == 0
    (out / name).write_text("mine")
    (out / "notes.txt").write_text("mine")
    assert name in refused(*TVAE, "--out", out, "--overwrite", "--fresh")
    (out / name).unlink()
    assert seqzoo(*TVAE, "--out", out, "--overwrite")[0] == 0
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["ppc/tvae", "ppc/rvae"])  # the latter has a warm-up
@pytest.mark.parametrize(
    "wrong",
    ["fit.lr=-1.0", "fit.epochs=0", "fit.schedule=no", "fit.shards=0", "rule.minibatch=0"],
)
def test_a_run_that_cannot_begin_leaves_no_folder(name, wrong, refused, tmp_path):
    words = ["train", name, "--quick", *KF[1:], "--set", "model.hidden=4"]
    refused(*words, "--set", wrong, "--out", tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("way", ["..", ".", "../../{}/here"])
def test_a_way_to_a_model_is_no_name_of_a_report(way, seqzoo, tmp_path, monkeypatch):
    here = tmp_path / "here"
    zoo.save(here if way != ".." else tmp_path, zoo.load("ppc/kf2"), name="ppc/kf2")
    here.mkdir(exist_ok=True)
    monkeypatch.chdir(here)
    (here / "report.md").write_text("mine")
    words = ["diagnose", way.format(tmp_path.name), "--sequences", 1, "--num-samples", 25]
    code, out, error = seqzoo(*words)
    assert (here / "report.md").read_text() == "mine"
    assert code == 0, (out, error)
    assert len(list((here / "reports").rglob("report.md"))) == 1


# What reproduce keeps ----------------------------------------------------------------------------


@pytest.fixture
def rows(seqzoo, in_process, tmp_path):
    """Runs the table's one row, and gives the folder of its run and a way to run it again."""
    words = ["reproduce", "ppc", "--only", *FEW, "--seeds", 1, "--out", tmp_path / "runs"]
    assert seqzoo(*words)[0] == 0
    return tmp_path / "runs" / KEPT, functools.partial(seqzoo, *words)


def edited(folder, **changes):
    path = folder / store.CARD
    card = json.loads(path.read_text())
    for key, value in changes.items():
        card.pop(key)
        card.update({} if value is None else {key: value})
    path.write_text(json.dumps(card))


@pytest.mark.parametrize("field", ["date", "hardware", "title", "versions"])
def test_a_run_is_kept_though_its_card_lacks_a_field(field, rows):
    folder, again = rows
    edited(folder, **{field: None})
    code, out, _ = again()
    assert (code, out.count("kept")) == (0, 1)


@pytest.mark.parametrize(
    "changes",
    [
        *({"value": 1e-9}, {"value": None}, {"metric": "error"}, {"unit": "m"}, {"seed": 5}),
        *({"wall_time_s": 9.5}, {"also": {"x": 1.0}}, {"result_sha256": None}, {"validation": 1}),
        {"configuration": {"model": {"part": "LGDS", "order": 2}}},
    ],
    ids=str,
)
def test_a_run_whose_card_was_edited_is_neither_kept_nor_replaced(changes, rows):
    folder, again = rows
    edited(folder, **changes)
    before = content(folder)
    code, out, error = again()
    assert (code, out) == (2, "")
    assert "--overwrite" in error
    assert content(folder) == before


def test_a_run_whose_card_was_edited_is_replaced_when_asked(rows):
    folder, again = rows
    edited(folder, value=1e-9)
    code, out, _ = again("--overwrite")
    assert (code, out.count("kept")) == (0, 0)
    assert again()[1].count("kept") == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone", "nan"])
def test_a_run_whose_weights_are_damaged_is_trained_again(damage, rows):
    folder, again = rows
    path = folder / store.WEIGHTS
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        flipped = whole[:-1] + bytes([whole[-1] ^ 1])
        path.write_bytes({"cut": whole[:-4], "flip": flipped, "empty": b""}.get(damage, b"nan"))
    code, out, _ = again()
    assert (code, out.count("kept")) == (0, 0)
    assert "trains again, since" in out
    assert path.read_bytes() == whole


# JSON --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_evaluate_prints_json_where_a_score_is_not_finite(value, seqzoo, monkeypatch):
    recipe = find("ppc/kf1")
    task = dataclasses.replace(recipe.task, score=lambda *_: torch.full((3,), value))
    monkeypatch.setitem(recipes.RECIPES, "ppc/kf1", dataclasses.replace(recipe, task=task))
    code, out, _ = seqzoo("evaluate", "ppc/kf1", "--json")
    found = json.loads(out, parse_constant=pytest.fail)
    assert (code, found["value"]) == (0, None)
    assert found["not_finite"]["/value"] == str(value)


def test_shipping_replaces_cards_alone(rows, tmp_path):
    _, again = rows
    (tmp_path / "shop" / "ppc").mkdir(parents=True)
    mine = tmp_path / "shop" / "ppc" / "kf1.json"
    mine.write_text('{"mine": 1}')
    assert again("--ship", tmp_path / "shop")[0] == 2
    assert mine.read_text() == '{"mine": 1}'
    mine.unlink()
    for _ in range(2):
        assert again("--ship", tmp_path / "shop")[0] == 0
        assert zoo.load(tmp_path / "shop/ppc/kf1").card["n"] == 1
    assert folders.MARK not in os.listdir(tmp_path / "shop" / "ppc")


def test_a_search_is_not_written_over_another_file(refused, tmp_path):
    (tmp_path / "found.json").write_text("mine")
    words = ["search", "onetomany-class-t2/stptt", "--out", tmp_path / "found.json"]
    assert "is there already" in refused(*words)
    assert (tmp_path / "found.json").read_text() == "mine"
