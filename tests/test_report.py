"""The report of `seqzoo diagnose --out`: what it says of tiny models of every kind."""

import math

import arviz as az
import numpy as np
import pytest
import torch
from PIL import Image
from seqzoo import data, inference, zoo
from seqzoo.inference.draws import prepare
from seqzoo.zoo import cli, report, store
from seqzoo.zoo.likelihoods import Bernoulli, Poisson
from seqzoo.zoo.mdrnn import MDRNN
from seqzoo.zoo.outputs import Categorical
from seqzoo.zoo.recipes import one_to_many, part
from seqzoo.zoo.srn import SRN
from typer.testing import CliRunner

GUIDED = {"k-hat of importance weights", "Importance-weighted bound", "Draws, for ArviZ"}
PIT, SBC = "Calibration of one-step predictions", "Simulation-based calibration"
CHAINS, ANSWERS = "Clamped Gibbs chains", "Calibration of answers"
TARGETS, EXPORT = "Alignment of targets", "Draws, for ArviZ"
SPIKES = part(data.PPC, sequences=2, steps=10)
POISSON = part(Poisson, dim=15)
BALLS = part(data.BouncingBalls, sequences=2, steps=10)


def spiking(cls, **how):
    return part(cls, obs_dim=15, likelihood=POISSON, **how)


def question(kind):
    return part(data.OneToMany, kind=kind, samples=20, steps=4)


ELBO = part(inference.SequenceELBO)
LOCAL = part(inference.LocalELBO)
CONTRAST = part(inference.ContrastiveDivergence)
TEN = part(Categorical, classes=10)
KINDS = {  # network, rule, data, and what applies
    "rvae": (spiking(zoo.RVAE, latent_dim=2, hidden=6), LOCAL, SPIKES, GUIDED | {PIT, SBC, CHAINS}),
    "vrae": (spiking(zoo.VRAE, latent_dim=2, hidden=6), ELBO, SPIKES, GUIDED | {SBC}),
    "vosp": (spiking(zoo.VOSP, latent_dim=2, hidden=6, width=4), ELBO, SPIKES, GUIDED | {PIT, SBC}),
    "rnn": (spiking(zoo.RNN, hidden=6), ELBO, SPIKES, {PIT, EXPORT}),
    "refh": (spiking(zoo.REFH, hidden_dim=9), CONTRAST, SPIKES, {CHAINS}),
    "stptt": (
        part(SRN, inputs=1, output=TEN, hidden=6, stochastic=0.5),
        part(inference.TargetPropagation, samples=3),
        question("class"),
        GUIDED | {ANSWERS, TARGETS},
    ),
    "bptt": (
        part(MDRNN, inputs=1, hidden=6),
        part(inference.OutputBPTT),
        question("regression"),
        {ANSWERS, EXPORT},
    ),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, size in {"STEPS": 8, "LENGTHS": (3,), "SIMULATED": 50, "PREDICTIONS": 19}.items():
        monkeypatch.setattr(report, name, size)
    monkeypatch.setattr(report, "SIMULATED_STEPS", 3)


def saved(folder, kind, name=None):
    """An untrained model in a folder, as ``seqzoo train`` leaves one."""
    net, rule, source, _ = KINDS[kind]
    parts = {"model": net, "rule": rule, "data": source}
    configuration = {key: value.to_json() for key, value in parts.items()}
    card = {"name": name or f"toy/{kind}", "title": kind, "configuration": configuration}
    store.save_model(folder, net.build(), card)
    return folder


def looked(tmp_path, kind, sequences=4, draws=30, **how):
    chains = report.Chains(frames=5, chains=3, burn=2, draws=8)
    folder = tmp_path / "net"
    if not folder.exists():
        saved(folder, kind, how.pop("name", None))
    return report.report(folder, tmp_path / "out", sequences, draws, chains=chains, **how)


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_has_what_applies_and_says_why_the_rest_does_not(kind, tmp_path):
    saved(tmp_path / "net", kind)
    state = torch.get_rng_state()
    found = looked(tmp_path, kind)
    assert torch.equal(state, torch.get_rng_state())
    assert {one.title for one in found.sections} == KINDS[kind][-1]
    text = found.path.read_text()
    assert text.startswith(f"# Diagnostics of toy/{kind}\n")
    assert " nan" not in text.replace("NaN", "")
    for one in found.sections:
        assert f"## {one.title}\n\n{one.question}" in text
        assert all(f"- {sentence}" in text for sentence in one.found)
        assert one.question.endswith(".")
        assert all(sentence.rstrip(")").endswith(".") for sentence in one.found), one.found
        if one.verdict:
            assert any(s.startswith(f"**{one.verdict.capitalize()}**") for s in one.found)
    for title, why in found.left_out:
        assert f"- {title}: {why}.\n" in text
        assert len(why) > 20
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {path.name for path in found.files}
    for path in found.files:
        if path.suffix == ".png":
            assert f"]({path.name})" in text
            with Image.open(path) as picture:
                assert np.asarray(picture.convert("L")).std() > 5


def test_the_report_of_a_vrae_has_the_numbers_of_the_library(tmp_path):
    found = looked(tmp_path, "vrae", draws=40)
    net = store.load(tmp_path / "net")
    batch = report.held_out(SPIKES, 4, 0)
    assert batch.obs.shape == (4, 8, 15)
    assert torch.equal(batch.obs, data.PPC(4, 8, seed=0, split="test").obs)
    weights = report.log_weights(net, batch, 40, 0)
    assert weights.frames is None
    shapes = inference.psis.smooth_weights(weights.sequences).khat
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


def test_weights_of_frames_make_up_those_of_sequences(tmp_path):
    mask = torch.arange(8) < torch.tensor([8, 5])[:, None]
    batch = data.Batch(data.PPC(2, 8, seed=0).obs, mask)
    net = KINDS["vosp"][0].build()
    found = report.log_weights(net, batch, 30, 0)
    assert torch.equal(found.frames[0].isnan(), ~mask)
    torch.testing.assert_close(found.frames.nansum(-1), found.sequences)
    net = KINDS["rvae"][0].build()
    found = report.log_weights(net, batch, 30, 0)
    assert found.sequences is None
    assert torch.equal(found.frames[3].isnan(), ~mask)
    assert isinstance(prepare(net, batch), inference.Fold)


def test_bounds_of_groups_of_draws():
    weights = torch.randn(8, 3, dtype=torch.float64)
    found = report.bounds(weights, [1, 2, 4, 8])
    assert float(found[0]) == pytest.approx(float(weights.mean(0).sum()))
    assert float(found[-1]) == pytest.approx(float((weights.logsumexp(0) - math.log(8)).sum()))
    assert (found.diff() > 0).all()
    torch.testing.assert_close(
        report.bounds(torch.full((7, 2), 3.0), [1, 3, 7]), torch.full((3,), 6.0)
    )


def test_reliability_counts_how_often_what_was_foretold_came():
    chance = torch.tensor([0.05, 0.05, 0.95, 1.0])
    said, came, counts = report.reliability(chance, torch.tensor([0, 1, 1, 1]))
    torch.testing.assert_close(said.float(), torch.tensor([0.05, 0.975]))
    assert came.tolist() == [0.5, 1.0]
    assert counts.tolist() == [2, 2]
    chance = torch.rand(200_000)
    said, came, _ = report.reliability(chance, torch.bernoulli(chance))
    torch.testing.assert_close(said, came, atol=0.02, rtol=0)


def test_answers_know_their_limit(tmp_path):
    found = looked(tmp_path, "stptt", name="onetomany-class-t20/stptt")
    said = " ".join(s for one in found.sections for s in one.found)
    assert f"No network can exceed {-one_to_many.LIMITS['class']:.3f}" in said
    assert "Over 200 held-out answers" in said
    assert "A gradient arrives at " in said


def test_the_same_seed_writes_the_same_report(tmp_path):
    texts = []
    for seed in (1, 1, 2):
        torch.manual_seed(3)
        folder = tmp_path / str(len(texts))
        texts.append(looked(folder, "stptt", seed=seed).path.read_text())
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_grey_film_has_no_intervals(tmp_path):
    size = 900
    net = part(
        zoo.RVAE,
        obs_dim=size,
        latent_dim=2,
        hidden=4,
        likelihood=part(Bernoulli, dim=size, grey=True),
    )
    KINDS["film"] = (net, LOCAL, BALLS, GUIDED | {CHAINS})
    try:
        found = looked(tmp_path, "film", sequences=1)
    finally:
        del KINDS["film"]
    assert {one.title for one in found.sections} == GUIDED | {CHAINS}
    assert "grey values" in dict(found.left_out)[PIT]


# The command --------------------------------------------------------------------------------------


def command(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)


def test_diagnose_writes_a_report(tmp_path):
    folder, out = saved(tmp_path / "net", "bptt"), tmp_path / "out"
    result = command("diagnose", folder, "--out", out, "--sequences", 3, "--draws", 25)
    assert result.exit_code == 0
    *rows, last = result.stdout.splitlines()
    assert last == f"wrote report.md, answers.png, posterior.nc to {out}"
    assert len(rows) == len(report.LOOKS)
    assert rows[0].split()[-1] in ("good", "fair", "bad")
    assert rows[-1].endswith("left out, see the report")
    assert (out / "posterior.nc").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["balls/refh", "balls/rtrbm", "--out", "x"], "--out takes a report of one model: got bal"),
        (["ppc/kf-true", "--out", "x"], "ppc/kf-true was not trained on data"),
        (["ppc/rvae", "--out", "x", "--draws", "10"], "at least 25 draws"),
        (["ppc/nothing", "--out", "x"], "ppc/nothing"),
    ],
)
def test_diagnose_refuses_what_it_cannot_report(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        command("diagnose", *words)
    assert not any(tmp_path.iterdir())
