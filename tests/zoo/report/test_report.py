"""The numbers, files and words of the report of `seqzoo diagnose`."""

import math

import arviz as az
import numpy as np
import pytest
import torch
from seqzoo.inference.samples import prepare_plate
from seqzoo.zoo import cli, report, store
from seqzoo.zoo.recipes import one_to_many
from seqzoo.zoo.recipes.held_out import held_out
from typer.testing import CliRunner

from seqzoo import data, inference, zoo

TOO_FEW = "too few to tell"
PIT = "Calibration of one-step predictions"
TARGETS = "Alignment of targets"
EXPORT = "Posterior samples for ArviZ"

pytestmark = pytest.mark.usefixtures("blank")


def test_the_report_of_a_vrae_has_the_numbers_of_the_library(kinds, diagnosed, tmp_path):
    found = diagnosed("vrae", num_samples=40)
    net = store.load(tmp_path / "net")
    batch = held_out(net.card, 4, steps=8)
    assert batch.obs.shape == (4, 8, 15)
    assert torch.equal(batch.obs, data.PPC(4, 8, seed=0, split="test").obs)
    weights = report.log_weights(net, batch, 40, 0)
    assert weights.frames is None
    shapes = inference.diagnostics.psis.smooth_weights(weights.sequences).khat
    assert f"median {shapes.median():.2f}, largest {shapes.max():.2f}" in found.path.read_text()
    elbo = float(report.bounds(weights.sequences, [1])[0]) / batch.frames
    assert f"The ELBO is {elbo:.3f} nats a frame" in found.path.read_text()
    torch.manual_seed(0)
    other = float(inference.elbo(net, batch, 40).sum()) / batch.frames
    assert elbo == pytest.approx(other, abs=0.3)
    found = az.from_netcdf(tmp_path / "out" / "posterior.nc")
    assert found["posterior"]["z"].sizes["draw"] == 40
    assert found["posterior_predictive"]["x"].sizes["neuron"] == 15
    assert len(az.summary(found, var_names="z", kind="stats")) == 4 * 8 * 2


def test_weights_of_frames_make_up_those_of_sequences(kinds):
    mask = torch.arange(8) < torch.tensor([8, 5])[:, None]
    batch = data.Batch(data.PPC(2, 8, seed=0).obs, mask)
    net = kinds["vosp"][0].build()
    found = report.log_weights(net, batch, 30, 0)
    assert torch.equal(found.frames[0].isnan(), ~mask)
    torch.testing.assert_close(found.frames.nansum(-1), found.sequences)
    net = kinds["rvae"][0].build()
    found = report.log_weights(net, batch, 30, 0)
    assert found.sequences is None
    assert torch.equal(found.frames[3].isnan(), ~mask)
    assert isinstance(prepare_plate(net, batch), inference.Fold)


def test_bounds_of_groups_of_draws():
    weights = torch.randn(8, 3, dtype=torch.float64)
    found = report.bounds(weights, [1, 2, 4, 8])
    assert float(found[0]) == pytest.approx(float(weights.mean(0).sum()))
    assert float(found[-1]) == pytest.approx(float((weights.logsumexp(0) - math.log(8)).sum()))
    assert (found.diff() > 0).all()
    torch.testing.assert_close(
        report.bounds(torch.full((7, 2), 3.0), [1, 3, 7]), torch.full((3,), 6.0)
    )


def test_answers_know_their_limit(diagnosed):
    found = diagnosed("stptt", name="onetomany-class-t20/stptt")
    said = " ".join(s for one in found.sections for s in one.found)
    assert f"No network can exceed {-one_to_many.LIMITS['class']:.3f}" in said
    assert "Over 200 held-out answers" in said
    assert "A gradient arrives at " in said
    (targets,) = (one for one in found.sections if one.title == TARGETS)
    assert targets.verdict == ""  # a fact, not a mark
    assert "**" not in " ".join(targets.found)


def test_the_same_seed_writes_the_same_report(diagnosed, tmp_path):
    texts = []
    for seed in (1, 1, 2):
        torch.manual_seed(3)
        folder = tmp_path / str(len(texts))
        texts.append(diagnosed("stptt", folder=folder, seed=seed).path.read_text())
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_the_bound_that_is_one_is_named(diagnosed, monkeypatch):
    """Where k-hat is high and smoothing moves the estimate, read what was not smoothed."""
    wild = report.Weights(3 * torch.randn(30, 4, dtype=torch.float64).exp(), None)
    tame = report.Weights(torch.zeros(30, 4, dtype=torch.float64), None)
    monkeypatch.setattr(
        report, "DIAGNOSTICS", {"guide": report.DIAGNOSTICS[next(iter(report.DIAGNOSTICS))]}
    )
    for weights, named in ((wild, True), (tame, False)):
        monkeypatch.setattr(
            report.importance_sampling, "log_weights", lambda *_, found=weights: found
        )
        text = diagnosed("vrae").path.read_text()
        assert ("take the one that is not smoothed" in text) == named
        assert "in one or two dimensions it forgives half the variance" in text
        assert "affordable" not in text


# Rolls and files of one's own ------------------------------------------------------------------


def tunes(number=6):
    """A scale each, from another key on."""
    return [torch.eye(88, dtype=torch.uint8)[40 + i : 40 + i + 12] for i in range(number)]


def vrae(source):
    """A tiny VRAE that learned from rolls."""
    net = zoo.VRAE(88, 2, zoo.likelihoods.Bernoulli(88), hidden=4)
    inference.fit(inference.SequenceELBO(net), source, epochs=1, device="cpu", progress=False)
    return net


def test_a_model_of_midi_files_is_diagnosed_on_files_held_out(tmp_path):
    for i, roll in enumerate(tunes()):
        data.write_midi(tmp_path / "songs" / f"{i}.mid", roll, step=0.5)
    source = data.MidiFolder(tmp_path / "songs", step=0.5, chunk=6, split="train")
    zoo.save(tmp_path / "net", vrae(source), data=source, title="tunes")
    words = "--sequences", 1, "--num-samples", 25
    result = command("diagnose", tmp_path / "net", "--out", tmp_path / "out", *words)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "out" / "report.md").read_text()
    assert "on 1 held-out sequence of MidiFolder, 12 frames" in text
    found = az.from_netcdf(tmp_path / "out" / "posterior.nc")
    kept = found["observed_data"]["x"]
    assert kept.sizes["key"] == 88
    assert np.array_equal(kept.values, source.held_out(1).obs.numpy())


def test_a_model_of_rolls_is_diagnosed_on_the_set_handed_over(sizes, tmp_path):
    source = data.PianoRolls(tunes(), split="train")
    zoo.save(tmp_path / "net", vrae(source))
    how = {"sizes": sizes, "sequences": 1, "num_samples": 25}
    found = report.report(tmp_path / "net", tmp_path / "out", data=source, **how)
    assert "on 1 held-out sequence of PianoRolls, 8 frames" in found.path.read_text()
    with pytest.raises(ValueError, match="this PianoRolls serves all of its sequences"):
        report.report(tmp_path / "net", tmp_path / "2", data=data.PianoRolls(tunes()), **how)
    with pytest.raises(ValueError, match="was not trained on data"):
        report.report(tmp_path / "net", tmp_path / "2", **how)


# The command --------------------------------------------------------------------------------------


def command(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)


def test_diagnose_writes_a_report(saved, tmp_path):
    folder, out = saved(tmp_path / "net", "bptt"), tmp_path / "out"
    words = "--sequences", 3, "--num-samples", 25
    result = command("diagnose", folder, "--out", out, *words)
    assert result.exit_code == 0
    _, *rows, last = result.stdout.splitlines()
    assert last == f"wrote report.md, answers.png, posterior.nc to {out}"
    assert len(rows) == len(report.DIAGNOSTICS)
    assert rows[0].endswith(("good", "fair", "bad", TOO_FEW))
    assert rows[-1].endswith("left out, see the report")
    assert (out / "posterior.nc").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ppc/order0", "--out", "x"], "no diagnostic applies to ppc/order0: Order0 has no Pyro"),
        (["ppc/nothing", "--out", "x"], "ppc/nothing"),
    ],
)
def test_diagnose_refuses_what_it_cannot_report(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        command("diagnose", *words)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("out", ["file", "file/folder"])
def test_a_report_does_not_go_into_a_file(out, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file is a file: give a folder"):
        report.report("ppc/kf2", tmp_path / out)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_second_model_leaves_no_figures_of_the_first(saved, sizes, tmp_path):
    out = tmp_path / "out"
    report.report("ppc/kf-true", out, sequences=1, num_samples=25)
    (out / "mine.png").write_text("mine")
    found = report.report(saved(tmp_path / "net", "refh"), out, 4, 30, sizes=sizes)
    assert {path.name for path in out.iterdir()} == {"report.md", "chains.png", "mine.png"}
    assert {path.name for path in found.files} == {"report.md", "chains.png"}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("there", [False, True])
def test_what_is_interrupted_leaves_what_was_there(stop, there, tmp_path, monkeypatch):
    out = tmp_path / "deep" / "out"
    if there:
        report.report("ppc/kf-true", out, sequences=1, num_samples=25)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}

    def stopped(context):
        assert (context.out / "pit.png").is_file()
        raise stop

    diagnostics = {PIT: report.DIAGNOSTICS[PIT], EXPORT: stopped}
    monkeypatch.setattr(report, "DIAGNOSTICS", diagnostics)
    with pytest.raises(stop):
        report.report("ppc/kf2", out, sequences=1, num_samples=25)
    assert before == {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
