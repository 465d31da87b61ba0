"""Gibbs chains in a report."""

import re

import pytest
import torch
from seqzoo.zoo import report
from seqzoo.zoo.studies.chains import Agreement, Chains

from seqzoo import inference

TOO_FEW = "too few to tell"
CHAINS = "Clamped Gibbs chains"

pytestmark = pytest.mark.usefixtures("blank")


def test_chains_of_a_guide_that_is_too_narrow_are_no_draws_of_the_model(tmp_path, monkeypatch):
    """They agree with one another, on about half the spread."""
    monkeypatch.setattr(report, "DIAGNOSTICS", {CHAINS: report.DIAGNOSTICS[CHAINS]})
    chains = Chains(frames=20, num_chains=8, num_warmup=10, num_samples=50)
    (section,) = report.report("ppc/rvae", tmp_path, sequences=4, chains=chains).sections
    assert section.verdict == "fair"
    said = " ".join(section.found)
    assert "They sample the model only where the guide is its posterior" in said
    low, high = map(float, re.search(r"is (\S+) to (\S+) times that of the model's", said).groups())
    assert 0.3 < low < high < 0.8


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
