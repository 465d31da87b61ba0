"""``seqzoo fit`` on a recording of one's own; evaluate, sample, diagnose and search on its runs."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from seqzoo.data import ChaoticRNN, Recording
from seqzoo.zoo.runs import search as searching

from seqzoo import inference, zoo

SMALL = ("--latents", "2", "--updates", "4", "--set", "rule.iterations=3")


@pytest.fixture(scope="module")
def spikes(tmp_path_factory):
    """A recording of 20 trials of unequal length, with missing values."""
    path = tmp_path_factory.mktemp("recording") / "spikes.npz"
    obs = ChaoticRNN(20, 30, neurons=6, bin=0.02, max_rate=60).obs.numpy()
    trials = [each[: 20 + number % 10] for number, each in enumerate(obs)]
    trials[3][4:8] = np.nan
    Recording(trials, 0.02).save(path)
    return path


@pytest.fixture(scope="module")
def trained(spikes, tmp_path_factory):
    """Two models of it."""
    from typer.testing import CliRunner

    out = tmp_path_factory.mktemp("runs") / "both"
    words = ["fit", spikes, "--model", "lgds", "--model", "refh", "--out", out, *SMALL]
    result = CliRunner().invoke(zoo.cli.app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return out, result.output


def test_models_are_trained_and_scored_on_test_trials(spikes, trained):
    out, told = trained
    recording = Recording.load(spikes)
    test = recording.split(0.7, 0.15, 0.15, seed=0)[2]
    for name in ("lgds", "refh"):
        net = zoo.load(out / name)
        value = inference.score(net, test, "next", "bits/spike")
        (row,) = (line for line in told.splitlines() if line.split()[:1] == [name])
        assert row.split()[1] == f"{value:.3g}"
    assert zoo.load(out / "lgds").state_dim == 2
    card = json.loads((out / "refh" / "card.json").read_text())
    assert card["configuration"]["data"]["path"] == str(spikes)
    assert card["configuration"]["data"]["split"] == [0.7, 0.15, 0.15]


def test_it_trains_the_network_that_fit_model_trains(spikes, trained):
    train, validation, _ = Recording.load(spikes).split(0.7, 0.15, 0.15, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # four updates teach nothing
        model = zoo.fit_model(
            "refh", train, validation, latent_dim=2, updates=4, device="cpu", progress=False
        )
    saved = zoo.load(trained[0] / "refh").state_dict()
    for name, value in model.net.state_dict().items():
        torch.testing.assert_close(saved[name], value)


def test_a_finished_run_is_kept_and_one_of_other_settings_is_not_replaced(
    spikes, trained, seqzoo, refused
):
    out, _ = trained
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    words = ("fit", spikes, "--model", "lgds", "--model", "refh", "--out", out)
    assert seqzoo(*words, *SMALL)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*")} == files
    code, _, error = seqzoo(*words, *SMALL, "--seed", 1)
    assert (code, "--overwrite" in error) == (2, True)
    assert "'fits.lr'" in refused("fit", spikes, "--set", "fits.lr=1", "--out", out)
    assert "'rave'" in refused("fit", spikes, "--model", "rave", "--out", out)


def test_evaluate_finds_the_recording_again(spikes, trained, seqzoo, refused, tmp_path):
    out, _ = trained
    code, told, _ = seqzoo("evaluate", out / "lgds", "--json")
    assert code == 0
    test = Recording.load(spikes).split(0.7, 0.15, 0.15, seed=0)[2]
    found = json.loads(told)
    net = zoo.load(out / "lgds")
    for kind in ("next", "cosmooth", "likelihood"):
        wanted = inference.score(net, test, kind, found[kind]["unit"])
        assert found[kind]["value"] == pytest.approx(wanted)
    assert "REFH has no tractable likelihood" in seqzoo("evaluate", out / "refh")[1]
    moved, content = tmp_path / "moved.npz", spikes.read_bytes()
    shutil.move(spikes, moved)
    try:
        assert "--data" in refused("evaluate", out / "lgds")
        code, again, _ = seqzoo("evaluate", out / "lgds", "--json", "--data", moved)
        assert json.loads(again)["next"] == found["next"]
        Recording([np.ones((3, 6))] * 20, 0.02).save(spikes)
        assert "has changed" in refused("evaluate", out / "lgds")
        assert "has changed" in refused("diagnose", out / "lgds", "--out", tmp_path / "report")
    finally:
        spikes.write_bytes(content)
    assert "--data" in refused("evaluate", "ppc/refh", "--data", spikes)


def test_sample_writes_a_recording(trained, seqzoo, refused, tmp_path):
    path = tmp_path / "made.npz"
    assert seqzoo("sample", trained[0] / "refh", "--out", path)[0] == 0
    made = Recording.load(path)
    assert len(made) == 3
    assert made.bin == 0.02
    assert (torch.cat(made.trials) >= 0).all()
    assert ".npz" in refused("sample", trained[0] / "refh", "--out", tmp_path / "made.txt")


def test_diagnose_reads_the_test_trials(trained, seqzoo, tmp_path):
    code, told, error = seqzoo(
        "diagnose", trained[0] / "refh", "--out", tmp_path / "report", "--sequences", 2,
        "--num-samples", 25, "--frames", 4, "--steps", 50, "--num-chains", 2,
    )  # fmt: skip
    assert code == 0, error
    assert "Clamped Gibbs chains" in told
    assert (tmp_path / "report" / "report.md").is_file()


def test_a_search_that_was_stopped_goes_on_in_its_folder(
    spikes, trained, seqzoo, monkeypatch, tmp_path
):
    pytest.importorskip("optuna")
    out, tried = tmp_path / "search", []

    def score(recipe, *_):
        tried.append(recipe.configuration())
        if len(tried) == 3:
            raise KeyboardInterrupt
        return recipe.fit["lr"]

    monkeypatch.setattr(searching, "_validation", score)
    words = ("search", trained[0] / "refh", "--trials", 5, "--out", out)
    assert seqzoo(*words)[0] == 130
    assert len(json.loads((out / "trials.json").read_text())["trials"]) == 2
    code, told, error = seqzoo(*words)
    assert code == 0, error
    assert len(tried) == 6
    assert tried[3] == tried[2]  # the one that was stopped
    assert len({json.dumps(each) for each in tried}) == 5
    card = json.loads((trained[0] / "refh" / "card.json").read_text())
    assert tried[0] == card["configuration"]
    assert told.splitlines()[-2].startswith("best of 5")
    assert seqzoo(*words, "--trials", 6)[0] == 0
    assert len(tried) == 7
    other = ("search", trained[0] / "refh", "--trials", 5, "--out", out, "--seed", 3)
    assert "other settings" in seqzoo(*other)[2]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--split", "a,b"), "--split"),
        (("--split", "0.9,0.2,0.2"), "sum"),
        (("--bin", "0.5"), "bins of 0.02"),
        (("--units", "quality"), "COLUMN=VALUE"),
        (("--units", "quality=good"), "take no units"),
        (("--trials", "blocks"), "take no trials"),
        (("--fresh", "--from-best"), "--fresh"),
        (("--set", "data.split_seed=3"), "--split"),
        (("--latents", "2", "--model", "lgds", "--set", "model.state_dims=2"), "state_dim"),
    ],
)
def test_mistakes_of_fit_are_told(spikes, refused, tmp_path, words, told):
    assert told in refused("fit", spikes, "--out", tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()
