"""Calibration of predictions and answers, and verdicts on it."""

import math

import pytest
import torch
from seqzoo.zoo import report

from seqzoo import data, zoo

TOO_FEW = "too few to tell"
PIT = "Calibration of one-step predictions"
TARGETS = "Alignment of targets"
EXPORT = "Posterior samples for ArviZ"

pytestmark = pytest.mark.usefixtures("blank")


def test_reliability_counts_how_often_what_was_foretold_came():
    chance = torch.tensor([0.05, 0.05, 0.95, 1.0])
    said, came, counts = report.reliability(chance, torch.tensor([0, 1, 1, 1]))
    torch.testing.assert_close(said.float(), torch.tensor([0.05, 0.975]))
    assert came.tolist() == [0.5, 1.0]
    assert counts.tolist() == [2, 2]
    chance = torch.rand(200_000)
    said, came, _ = report.reliability(chance, torch.bernoulli(chance))
    torch.testing.assert_close(said, came, atol=0.02, rtol=0)


# Linear systems -----------------------------------------------------------------------------------


def test_an_exact_posterior_is_found_to_be_calibrated(tmp_path):
    """The Kalman filter with the true parameters: a diagnostic that found fault would be wrong."""
    found = report.report("ppc/kf-true", tmp_path, sequences=40, num_samples=25)
    assert {one.title for one in found.sections} == {PIT, EXPORT}
    verdicts = {one.title: one.verdict for one in found.sections}
    assert verdicts[PIT] == "good"
    assert "Over 2400 values" in found.sections[0].found[0]
    assert "With 2400 frames chance alone makes about 0.007" in found.sections[0].found[0]
    assert dict(found.left_out)[TARGETS] == "no rule trained this model"


def test_a_system_of_the_first_order_repeats_its_errors(tmp_path, monkeypatch):
    """It knows of no velocity. Its noise makes up for that: intervals are right, errors are not."""
    monkeypatch.setattr(report, "DIAGNOSTICS", {PIT: report.DIAGNOSTICS[PIT]})
    said = {}
    for name in ("ppc/kf-true", "ppc/kf1"):
        (section,) = report.report(name, tmp_path, sequences=40).sections
        said[name] = " ".join(section.found)
    assert "No sign that the system leaves information of the past unused" in said["ppc/kf-true"]
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
    assert abs(found.correlation) < 4 * found.chance < 0.06
    errors = torch.randn(50, 61, 1, dtype=torch.float64)
    errors = (errors[:, 1:] + errors[:, :-1]) / math.sqrt(2)  # each shares half with the next
    found = report.predictions.successive(torch.special.ndtr(errors + 0.3))
    assert found.correlation == pytest.approx(0.5, abs=0.06)


def test_predictions_of_a_linear_system_are_those_of_its_filter():
    """Their density, frame by frame, makes up the filter's log-likelihood; padding has none."""
    net = zoo.LGDS(3, 2, readout=zoo.readouts.Readout(2))
    net.dynamics += 0.1 * torch.randn(3, 3)
    net.process += 0.3
    mask = torch.arange(5) < torch.tensor([5, 3])[:, None]
    batch = data.Batch(torch.randn(2, 5, 2), mask)
    pits = report.predictions.linear_pit(net, batch)
    assert torch.equal(pits.isnan(), ~mask[..., None].expand(-1, -1, 2))
    one = zoo.LGDS(2, readout=zoo.readouts.Readout())
    one.dynamics[0, 1], one.process[1, 0], one.process[0, 1] = 0.4, 0.2, 0.2
    obs = torch.randn(1, 4, 1)
    shifted = [obs + torch.tensor([0.0, 0.0, 0.0, d])[None, :, None] for d in (-1e-3, 1e-3)]
    low, high = (report.predictions.linear_pit(one, data.Batch(o))[0, 3, 0] for o in shifted)
    now, before = one.filter(obs).log_likelihood, one.filter(obs[:, :3]).log_likelihood
    assert float((high - low) / 2e-3) == pytest.approx(float((now - before).exp()), rel=1e-4)


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
        assert ("data lie above" in said) == (bias > 0)
        assert ("data lie below" in said) == (bias < 0)


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
