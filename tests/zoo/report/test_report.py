"""The report of `seqzoo diagnose --out`: what it says of tiny models of every kind."""

import math
import re

import arviz as az
import numpy as np
import pytest
import torch
from PIL import Image
from seqzoo.inference.samples import prepare_plate
from seqzoo.zoo import cli, report, store
from seqzoo.zoo.models.mdrnn import MDRNN
from seqzoo.zoo.models.srn import SRN
from seqzoo.zoo.parts.likelihoods import Bernoulli, Categorical, Poisson
from seqzoo.zoo.recipes import find, one_to_many, part
from seqzoo.zoo.recipes.held_out import held_out
from seqzoo.zoo.studies.chains import Agreement, Chains
from typer.testing import CliRunner

from seqzoo import data, inference, zoo

TOO_FEW = "too few to tell"
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
    return part(data.OneToMany, kind=kind, sequences=20, steps=4)


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
        part(inference.TargetPropagation, num_samples=3),
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


def looked(tmp_path, kind, sequences=4, num_samples=30, **how):
    chains = Chains(frames=5, num_chains=3, num_warmup=2, num_samples=8)
    folder = tmp_path / "net"
    if not folder.exists():
        saved(folder, kind, how.pop("name", None))
    how = {"chains": chains, "sizes": SMALL, "training": True, **how}
    return report.report(folder, tmp_path / "out", sequences, num_samples, **how)


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
    assert written <= report.markdown.FIGURES | {"report.md"}  # so that a later report removes it
    for path in found.files:
        if path.suffix == ".png":
            assert f"]({path.name})" in text
            with Image.open(path) as picture:
                assert np.asarray(picture.convert("L")).std() > 5


def test_the_report_of_a_vrae_has_the_numbers_of_the_library(tmp_path):
    found = looked(tmp_path, "vrae", num_samples=40)
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
    (targets,) = (one for one in found.sections if one.title == TARGETS)
    assert targets.verdict == ""  # a fact, not a mark
    assert "**" not in " ".join(targets.found)


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
    found = report.report("ppc/kf-true", tmp_path, sequences=40, num_samples=25)
    assert {one.title for one in found.sections} == {PIT, EXPORT}
    verdicts = {one.title: one.verdict for one in found.sections}
    assert verdicts[PIT] == "good"
    assert "Over 2400 values" in found.sections[0].found[0]
    assert "of 2400 frames chance alone makes about 0.007" in found.sections[0].found[0]
    assert dict(found.left_out)[TARGETS] == "it was not trained by any rule"


def test_a_system_of_the_first_order_repeats_its_errors(tmp_path, monkeypatch):
    """It knows of no velocity. Its noise makes up for that: intervals are right, errors are not."""
    monkeypatch.setattr(report, "DIAGNOSTICS", {PIT: report.DIAGNOSTICS[PIT]})
    said = {}
    for name in ("ppc/kf-true", "ppc/kf1"):
        (section,) = report.report(name, tmp_path, sequences=40).sections
        said[name] = " ".join(section.found)
    assert "the system uses all that the past tells" in said["ppc/kf-true"]
    assert (
        "correlate by 0.24 (by chance either is within 0.04). The system does not use all"
        in (said["ppc/kf1"])
    )


def test_a_bias_is_no_memory():
    """Independent errors that are off by 0.3 standard deviations tell nothing of one another."""
    pits = torch.special.ndtr(torch.randn(50, 60, 2, dtype=torch.float64) + torch.tensor([0.3, 0]))
    pits[3, 20:] = math.nan
    found = report.predictions.successive(pits)
    assert found.mean == pytest.approx(0.3, abs=4 * found.chance)
    assert abs(found.shared) < 4 * found.chance < 0.06
    errors = torch.randn(50, 61, 1, dtype=torch.float64)
    errors = (errors[:, 1:] + errors[:, :-1]) / math.sqrt(2)  # each shares half with the next
    found = report.predictions.successive(torch.special.ndtr(errors + 0.3))
    assert found.shared == pytest.approx(0.5, abs=0.06)


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


# Verdicts -----------------------------------------------------------------------------------------


def judged(errors):
    """The verdict on predictions N(0, 1), and what is said of them, for such errors."""
    found = report.calibration.measured(torch.special.ndtr(errors), len(errors))
    verdict = report.calibration.verdict_of(found.excess, found.chance)
    said = report.calibration.in_numbers(found, "values", "frames")
    return verdict, " ".join([*said, report.calibration.in_words(verdict, found, "they", "frames")])


def errors(number, spread=1.0, bias=0.0):
    return spread * torch.randn(number, dtype=torch.float64) + bias


@pytest.mark.parametrize(("number", "right"), [(60, TOO_FEW), (200, "good"), (1200, "good")])
def test_right_predictions_are_seldom_blamed(number, right):
    found = [judged(errors(number))[0] for _ in range(200)]
    assert found.count(right) >= 195


@pytest.mark.parametrize(
    ("spread", "bias", "words"),
    [
        (math.sqrt(2), 0.0, "intervals of they cover too little."),  # half the variance is claimed
        (math.sqrt(0.5), 0.0, "intervals of they cover too much."),
        (1.0, 0.3, "they are too low."),
        (1.0, -0.3, "they are too high."),
    ],
)
def test_wrong_predictions_are_blamed_for_what_is_wrong(spread, bias, words):
    found = [judged(errors(1200, spread, bias)) for _ in range(20)]
    assert {verdict for verdict, _ in found} <= {"bad", "fair"}
    for verdict, said in found:
        assert said.endswith(f"**{verdict.capitalize()}**: {words}")
        assert ("what came lies above" in said) == (bias > 0)
        assert ("what came lies below" in said) == (bias < 0)


def test_width_is_named_as_the_shares_that_are_quoted():
    """Errors of two sizes: central intervals hold too many values, outer ones too few."""
    mixed = torch.cat((errors(3000, 0.3), errors(3000, 3.0)))
    verdict, said = judged(mixed)
    assert verdict == "bad"
    assert said.endswith("intervals of they cover too much at 50 %, too little at 90 %.")


def test_chance_of_unreliable_probabilities():
    found = []
    for _ in range(50):
        chance = torch.rand(500)
        found.append(
            report.answers.unreliability(*report.reliability(chance, torch.bernoulli(chance)))
        )
    off, expected = torch.tensor(found).mean(0)
    assert float(off) == pytest.approx(float(expected), rel=0.15)


def test_the_bound_that_is_one_is_named(tmp_path, monkeypatch):
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
        text = looked(tmp_path, "vrae").path.read_text()
        assert ("read the one that is not smoothed" in text) == named
        assert "in one or two dimensions it forgives half the variance" in text
        assert "affordable" not in text


# Chains -------------------------------------------------------------------------------------------


def test_chains_of_a_guide_that_is_too_narrow_are_no_draws_of_the_model(tmp_path, monkeypatch):
    """They agree with one another, on about 0.6 times the spread."""
    monkeypatch.setattr(report, "DIAGNOSTICS", {CHAINS: report.DIAGNOSTICS[CHAINS]})
    chains = Chains(frames=20, num_chains=8, num_warmup=10, num_samples=50)
    (section,) = report.report("ppc/rvae", tmp_path, sequences=4, chains=chains).sections
    assert section.verdict == "fair"
    said = " ".join(section.found)
    assert "draws of the model only where the guide is its posterior" in said
    low, high = map(float, re.search(r"is (\S+) to (\S+) times that of the model's", said).groups())
    assert 0.5 < low < high < 0.8


def test_independent_draws_set_what_chains_can_reach():
    """The worst of eight directions is above 1 by chance alone, the more so of few draws."""
    rhat = [
        float(inference.convergence(torch.randn(8, steps, 40, 8)).rhat.amax(-1).median())
        for steps in (20, 100)
    ]
    found = [report.chains.null(Chains(num_samples=steps)) for steps in (20, 100)]
    assert [float(one.rhat.median()) for one in found] == pytest.approx(rhat, abs=5e-3)
    assert found[0].rhat.median() > 1.03
    assert found[1].rhat.median() < 1.01
    assert found[1].apart == 0
    again = report.chains.null(Chains(num_samples=20))
    assert torch.equal(again.rhat, found[0].rhat)


@pytest.mark.parametrize(
    ("rhat", "least", "guided", "verdict"),
    [
        (1.02, 1.01, False, "good"),
        (1.02, 1.01, True, "fair"),
        (1.30, 1.01, False, "bad"),
        (1.30, 1.01, True, "bad"),
        (1.05, 1.30, False, TOO_FEW),
    ],
)
def test_verdicts_on_chains(rhat, least, guided, verdict):
    found, chance = (Agreement(torch.full((9,), r), torch.ones(9), 0) for r in (rhat, least))
    assert report.chains.judged(found, chance, guided) == verdict


# Two rules ----------------------------------------------------------------------------------------


@pytest.fixture
def rules_alone(monkeypatch):
    """A report looks at nothing else, which saves the time."""
    monkeypatch.setattr(report, "DIAGNOSTICS", {RULES: report.DIAGNOSTICS[RULES]})


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
    parts = {"model": net, "rule": rule, "data": source.set(["sequences"], 100)}
    configuration = {key: value.to_json() for key, value in parts.items()}
    configuration["fit"] = {**recipe.fit, "batch_size": 7, "epochs": 900}
    card = {"name": recipe.name, "title": "toy", "configuration": configuration}
    store.save_model(tmp_path / "net", net.build(), card)
    assert recipe.quick == {"fit.epochs": 3}
    # 3 epochs of 100 rows in batches of 7 would be 43 updates: 40 of 7 rows remain, in ten parts
    said = compared(tmp_path, "stptt")
    assert "for 40 updates (10 times 28 sequences" in said


def test_nothing_is_trained_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(report.gradient_alignment, "train_along", None)
    found = looked(tmp_path, "refh", training=False)
    assert "ContrastiveDivergence, which has no counterpart" in dict(found.left_out)[RULES]
    found = looked(tmp_path / "other", "stptt", training=False)
    assert dict(found.left_out)[RULES] == "it trains a network: ask for it with --training"


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


def test_a_model_of_rolls_is_diagnosed_on_the_set_handed_over(tmp_path):
    source = data.PianoRolls(tunes(), split="train")
    zoo.save(tmp_path / "net", vrae(source))
    how = {"sizes": SMALL, "sequences": 1, "num_samples": 25}
    found = report.report(tmp_path / "net", tmp_path / "out", data=source, **how)
    assert "on 1 held-out sequence of PianoRolls, 8 frames" in found.path.read_text()
    with pytest.raises(ValueError, match="this PianoRolls serves all of its sequences"):
        report.report(tmp_path / "net", tmp_path, data=data.PianoRolls(tunes()), **how)
    with pytest.raises(ValueError, match="was not trained on data"):
        report.report(tmp_path / "net", tmp_path, **how)


# The command --------------------------------------------------------------------------------------


def command(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)


def test_diagnose_writes_a_report(tmp_path):
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
    with pytest.raises(ValueError, match="file is a file: --out names the folder"):
        command("diagnose", "ppc/kf2", "--out", tmp_path / out)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_second_model_leaves_no_figures_of_the_first(tmp_path):
    out = tmp_path / "out"
    report.report("ppc/kf-true", out, sequences=1, num_samples=25)
    (out / "mine.png").write_text("mine")
    found = report.report(saved(tmp_path / "net", "refh"), out, 4, 30, sizes=SMALL)
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
