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
from seqzoo.zoo.chains import Chains
from seqzoo.zoo.held_out import held_out
from seqzoo.zoo.likelihoods import Bernoulli, Poisson
from seqzoo.zoo.mdrnn import MDRNN
from seqzoo.zoo.outputs import Categorical
from seqzoo.zoo.recipes import find, one_to_many, part
from seqzoo.zoo.srn import SRN
from typer.testing import CliRunner

GUIDED = {"k-hat of importance weights", "Importance-weighted bound", "Draws, for ArviZ"}
PIT, SBC = "Calibration of one-step predictions", "Simulation-based calibration"
CHAINS, ANSWERS = "Clamped Gibbs chains", "Calibration of answers"
TARGETS, EXPORT = "Alignment of targets", "Draws, for ArviZ"
RULES = "Gradients of two rules along training"
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
    "rvae": (
        spiking(zoo.RVAE, latent_dim=2, hidden=6),
        LOCAL,
        SPIKES,
        GUIDED | {PIT, SBC, CHAINS, RULES},
    ),
    "vrae": (spiking(zoo.VRAE, latent_dim=2, hidden=6), ELBO, SPIKES, GUIDED | {SBC}),
    "vosp": (spiking(zoo.VOSP, latent_dim=2, hidden=6, width=4), ELBO, SPIKES, GUIDED | {PIT, SBC}),
    "rnn": (spiking(zoo.RNN, hidden=6), ELBO, SPIKES, {PIT, EXPORT}),
    "refh": (spiking(zoo.REFH, hidden_dim=9), CONTRAST, SPIKES, {CHAINS}),
    "stptt": (
        part(SRN, inputs=1, output=TEN, hidden=6, stochastic=0.5),
        part(inference.TargetPropagation, samples=3),
        question("class"),
        GUIDED | {ANSWERS, TARGETS, RULES},
    ),
    "bptt": (
        part(MDRNN, inputs=1, hidden=6),
        part(inference.OutputBPTT),
        question("regression"),
        {ANSWERS, EXPORT},
    ),
}


SMALL = report.Sizes(
    steps=8, lengths=(3,), predictions=19, simulated=50, simulated_steps=3, updates=40
)


def saved(folder, kind, name=None):
    """An untrained model in a folder, as ``seqzoo train`` leaves one."""
    net, rule, source, _ = KINDS[kind]
    parts = {"model": net, "rule": rule, "data": source}
    configuration = {key: value.to_json() for key, value in parts.items()}
    card = {"name": name or f"toy/{kind}", "title": kind, "configuration": configuration}
    store.save_model(folder, net.build(), card)
    return folder


def looked(tmp_path, kind, sequences=4, draws=30, **how):
    chains = Chains(frames=5, chains=3, burn=2, draws=8)
    folder = tmp_path / "net"
    if not folder.exists():
        saved(folder, kind, how.pop("name", None))
    how = {"chains": chains, "sizes": SMALL, **how}
    return report.report(folder, tmp_path / "out", sequences, draws, **how)


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
    batch = held_out(SPIKES, 4, 0, steps=8)
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
    KINDS["film"] = (net, LOCAL, BALLS, GUIDED | {CHAINS, RULES})
    try:
        found = looked(tmp_path, "film", sequences=1)
    finally:
        del KINDS["film"]
    assert {one.title for one in found.sections} == GUIDED | {CHAINS, RULES}
    assert "grey values" in dict(found.left_out)[PIT]


# Linear systems -----------------------------------------------------------------------------------


def test_an_exact_posterior_is_found_to_be_calibrated(tmp_path):
    """The Kalman filter with the true parameters: a diagnostic that found fault would be wrong."""
    found = report.report("ppc/kf-true", tmp_path, sequences=40, draws=25)
    assert {one.title for one in found.sections} == {PIT, EXPORT}
    verdicts = {one.title: one.verdict for one in found.sections}
    assert verdicts[PIT] == "good"
    assert "Over 2400 values" in found.sections[0].found[0]
    assert dict(found.left_out)[TARGETS] == "it was not trained by any rule"


def test_a_system_of_the_first_order_repeats_its_errors(tmp_path, monkeypatch):
    """It knows of no velocity. Its noise makes up for that: intervals are right, errors are not."""
    monkeypatch.setattr(report, "LOOKS", {PIT: report.LOOKS[PIT]})
    said = {}
    for name in ("ppc/kf-true", "ppc/kf1"):
        (section,) = report.report(name, tmp_path, sequences=40).sections
        said[name] = next(one for one in section.found if one.startswith("Errors of successive"))
    assert "the system uses all that the past tells" in said["ppc/kf-true"]
    assert "by 0.24 (by chance 0.02): the system does not use all" in said["ppc/kf1"]


def test_predictions_of_a_linear_system_are_those_of_its_filter():
    """Their density, frame by frame, makes up the filter's log-likelihood; padding has none."""
    net = zoo.LGDS(state_dim=3, obs_dim=2)
    net.dynamics += 0.1 * torch.randn(3, 3)
    net.process += 0.3
    mask = torch.arange(5) < torch.tensor([5, 3])[:, None]
    batch = data.Batch(torch.randn(2, 5, 2), mask)
    pits = report.predictions.linear_pit(net, batch)
    assert torch.equal(pits.isnan(), ~mask[..., None].expand(-1, -1, 2))
    one = zoo.LGDS(state_dim=2, obs_dim=1)
    one.dynamics[0, 1], one.process[1, 0], one.process[0, 1] = 0.4, 0.2, 0.2
    obs = torch.randn(1, 4, 1)
    shifted = [obs + torch.tensor([0.0, 0.0, 0.0, d])[None, :, None] for d in (-1e-3, 1e-3)]
    low, high = (report.predictions.linear_pit(one, data.Batch(o))[0, 3, 0] for o in shifted)
    now, before = one.filter(obs).log_likelihood, one.filter(obs[:, :3]).log_likelihood
    assert float((high - low) / 2e-3) == pytest.approx(float((now - before).exp()), rel=1e-4)


# Two rules ----------------------------------------------------------------------------------------


@pytest.fixture
def rules_alone(monkeypatch):
    """A report looks at nothing else, which saves the time."""
    monkeypatch.setattr(report, "LOOKS", {RULES: report.LOOKS[RULES]})


def compared(tmp_path, kind):
    (section,) = looked(tmp_path, kind).sections
    assert section.verdict == ""
    return " ".join([section.question, *section.found])


def test_gradients_of_the_local_rule_and_bptt_are_compared(rules_alone, tmp_path):
    said = compared(tmp_path, "rvae")
    assert "trained by LocalELBO for 10 updates (10 times 2 sequences of PPC)" in said
    assert "compared on 4 validation sequences, 32 frames" in said
    assert "`decoder`: cosine 1.00 at first, 1.00 at the end, 1.00 in the trained model." in said
    assert "`recognition`: cosine " in said
    assert "Equal throughout: `decoder`" in said
    assert "`recognition`" not in said.split("Equal throughout")[1]


def test_gradients_of_targets_are_compared_with_straight_through(rules_alone, tmp_path):
    said = compared(tmp_path, "stptt")
    assert "TargetPropagation and StraightThrough" in said
    assert "trained by TargetPropagation for 10 updates (10 times 20 sequences" in said
    assert "`readout`: cosine 1.00 at first, 1.00 at the end" in said
    assert "At most one of the rules teaches what is left out here: `back`" in said
    assert "no verdict on learning" in said


def test_the_budget_of_a_recipe_is_cut(rules_alone, tmp_path):
    """It has the quick epochs, and no more updates than there shall be."""
    net, rule, source, _ = KINDS["stptt"]
    recipe = find("onetomany-class-t20/stptt")
    parts = {"model": net, "rule": rule, "data": source.set(["samples"], 100)}
    configuration = {key: value.to_json() for key, value in parts.items()}
    configuration["fit"] = {**recipe.fit, "batch_size": 7, "epochs": 900}
    card = {"name": recipe.name, "title": "toy", "configuration": configuration}
    store.save_model(tmp_path / "net", net.build(), card)
    assert recipe.quick == {"fit.epochs": 3}
    # 3 epochs of 100 rows in batches of 7 would be 43 updates: 40 of 7 rows remain, in ten parts
    said = compared(tmp_path, "stptt")
    assert "for 40 updates (10 times 28 sequences" in said


def test_no_training_is_done_where_none_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(report.rules, "train_along", None)
    found = looked(tmp_path, "refh", training=False)
    assert "ContrastiveDivergence, which has no counterpart" in dict(found.left_out)[RULES]
    found = looked(tmp_path / "other", "stptt", training=False)
    assert dict(found.left_out)[RULES] == "no network was to be trained for it (--no-training)"


@pytest.mark.parametrize(
    ("rows", "size", "plan"),
    [
        (800, 20, (20, 40, 4)),  # more than an epoch from point to point
        (9000, 3000, (900, 10, 1)),  # less: a part of the data
        (25, 2, (1, 20, 2)),
        (3, 20, (1, 10, 1)),
    ],
)
def test_training_is_planned_for_ten_points(rows, size, plan):
    assert report.retraining.plan_of(rows, size) == plan
    assert plan[0] <= size


# The command --------------------------------------------------------------------------------------


def command(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)


def test_diagnose_writes_a_report(tmp_path):
    folder, out = saved(tmp_path / "net", "bptt"), tmp_path / "out"
    words = "--sequences", 3, "--draws", 25, "--no-training"
    result = command("diagnose", folder, "--out", out, *words)
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
        (["ppc/order0", "--out", "x"], "no diagnostic applies to ppc/order0: Order0 has no Pyro"),
        (["ppc/nothing", "--out", "x"], "ppc/nothing"),
    ],
)
def test_diagnose_refuses_what_it_cannot_report(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        command("diagnose", *words)
    assert not any(tmp_path.iterdir())
