"""Music restored by models, beside plain filters: the commands `study denoise` and `impute`."""

import pytest
import torch
from seqzoo.data import PianoRolls
from seqzoo.zoo import store
from seqzoo.zoo.recipes import find
from seqzoo.zoo.studies import restoration

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def chorales(monkeypatch, tmp_path):
    """Folders of untrained models of music, by row, and short rolls in place of the data."""
    rolls = [torch.zeros(12, 88) for _ in range(2)]
    for number, roll in enumerate(rolls):
        roll[:, 40 + number :: 12] = 1
    data = lambda name, split, chunk=None: PianoRolls(rolls, chunk)  # noqa: E731
    monkeypatch.setattr(restoration, "Polyphonic", data)
    folders = {}
    for row in ("vrae", "vosp", "rnn"):
        recipe = find(f"jsb/{row}")
        folders[row] = tmp_path / row
        card = {"name": recipe.name, "configuration": recipe.configuration()}
        store.save_model(folders[row], recipe.model.build(), card)
    return folders


@pytest.mark.parametrize("row", ["vrae", "vosp"])
def test_denoise_prints_a_row_for_every_method_and_draws(row, chorales, seqzoo, tmp_path):
    path = tmp_path / "notes.png"
    code, out, error = seqzoo("study", "denoise", chorales[row], "--sequences", 2, "--out", path)
    assert (code, error) == (0, "")
    heading, *lines, last = out.splitlines()
    assert heading.split() == ["method", "precision", "recall", "F1", "nats"]
    assert [line.split()[0] for line in lines] == ["left", "kept", "kept", "by", "by"]
    assert lines[0].split()[-3] == "1.000"  # no note was taken away
    assert last == f"wrote {path}"
    assert path.read_bytes().startswith(PNG)


@pytest.mark.parametrize("row", ["vrae", "vosp"])
def test_impute_prints_a_row_for_every_method_and_draws(row, chorales, seqzoo, tmp_path):
    path = tmp_path / "notes.png"
    words = [
        "--length",
        3,
        "--sequences",
        1,
        "--method",
        "mode",
        "--method",
        "gibbs",
        "--out",
        path,
    ]
    code, out, error = seqzoo("study", "impute", chorales[row], *words)
    assert (code, error) == (0, "")
    _, rates, last, mode, gibbs, wrote = out.splitlines()
    assert rates.startswith("training rate of each key")
    assert last.split()[-4:] == ["1.000", "1.000", "1.000", "-"]  # these rolls never change
    assert mode.startswith("by modes, as published")
    assert float(gibbs.split()[-1]) > 0
    assert wrote == f"wrote {path}"


def test_restoring_names_the_mistake(chorales, refused):
    assert "jsb/rnn has no latent path" in refused("study", "denoise", chorales["rnn"])
    assert "ppc/rvae is not about music" in refused("study", "impute", "ppc/rvae")
    assert "at most 1, got 1.5" in refused("study", "denoise", chorales["vosp"], "--rate", 1.5)
    words = ["study", "impute", chorales["vosp"], "--method", "magic"]
    assert "method must be one of mode, gibbs, resample" in refused(*words)
    assert "has 21 frames: hide fewer" in refused(
        "study", "impute", chorales["vosp"], "--length", 20
    )
    words = ["study", "denoise", chorales["vosp"], "--out", "notes.gif"]
    assert "cannot write 'notes.gif'" in refused(*words)
