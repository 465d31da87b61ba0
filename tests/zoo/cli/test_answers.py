"""The command line on networks that answer questions."""

import json

import numpy as np
import pytest
import torch
from seqzoo.data import OneToMany
from seqzoo.data.midi import read_midi
from seqzoo.zoo import store
from seqzoo.zoo.recipes import (
    find,
    one_to_many,
)
from seqzoo.zoo.recipes import music_task as piano
from seqzoo.zoo.runs.run import run

from seqzoo import zoo

WORST = "onetomany-class-t2/stptt"


@pytest.fixture(scope="module")
def answering(tmp_path_factory, tiny):
    """Folders of two tiny networks, not to be changed."""
    folders = {}
    for name in (WORST, "onetomany-regression-t5/bptt"):
        folders[name] = tmp_path_factory.mktemp("runs") / "model"
        run(tiny(find(name)), 0, folders[name], device="cpu", progress=False)
    return folders


@pytest.mark.parametrize("name", [WORST, "onetomany-regression-t5/bptt"])
def test_sample_draws_answers_beside_the_data(name, answering, seqzoo, tmp_path, seen):
    folder = answering[name]
    for file in ("x.png", "x.npz"):
        code, out, error = seqzoo("sample", folder, "--seed", 4, "--out", tmp_path / file)
        assert (code, out, error) == (0, f"wrote {tmp_path / file}\n", "")
    seen(tmp_path / "x.png")
    kind, steps = ("class", 2) if name == WORST else ("regression", 5)
    data = OneToMany(kind, 1000, steps, 4, "test")
    with np.load(tmp_path / "x.npz") as file:
        assert np.array_equal(file["inputs"], data.obs[:, 0, 0])
        assert np.array_equal(file["data"], data.target.flatten())
        expected = zoo.load(folder).sample_answers(data.obs, seed=4).flatten()
        assert np.array_equal(file["samples"], expected)


def test_sample_has_no_direction_where_there_are_answers(answering, few, refused, tmp_path):
    words = ["--out", tmp_path / "x.png", "--direction", "backwards"]
    for folder, kind in zip(answering.values(), ("SRN", "MDRNN")):
        error = refused("sample", folder, *words)
        assert f"{kind} answers questions: it has no direction of time" in error
    recipe = find("pianomidi-t50/ste").override({"model.hidden": 4})
    card = {"name": recipe.name, "configuration": recipe.configuration()}
    store.save_model(tmp_path / "model", recipe.model.build(), card)
    assert "it has no other direction" in refused("sample", tmp_path / "model", *words)
    assert not (tmp_path / "x.png").exists()


def test_sample_goes_on_with_a_roll(few, seqzoo, tmp_path, numbers):
    recipe = find("pianomidi-t50/ste").override({"model.hidden": 4})
    card = {"name": recipe.name, "configuration": recipe.configuration()}
    store.save_model(tmp_path / "model", recipe.model.build(), card)
    code, _, error = seqzoo("sample", tmp_path / "model", "--out", tmp_path / "x.mid")
    assert (code, error) == (0, "")
    played = read_midi(tmp_path / "x.mid", step=piano.STEPS["piano-midi"])
    assert torch.equal(numbers(played[:50]), 2000 + torch.arange(50))


def test_sample_refuses_another_ending_for_answers(answering, refused, tmp_path):
    for folder in answering.values():
        assert "cannot write 'x.gif'" in refused("sample", folder, "--out", tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())


def test_evaluate_scores_as_many_as_it_is_told(answering, seqzoo):
    folder = answering[WORST]
    how = ["--how", "sequences=60", "--how", "num_samples=7"]
    code, out, _ = seqzoo("evaluate", folder, "--json", "--seed", 2, *how)
    assert code == 0
    result = json.loads(out)
    net = zoo.load(folder)
    expected = one_to_many.score("class", 2, net, 2, "test", sequences=60, num_samples=7).figures
    assert [result["value"]] == expected.tolist()
    assert (result["n_sequences"], result["limit"]) == (60, 1.322)
