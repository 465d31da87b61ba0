"""Every kind of model has the diagnostics that apply to it."""

import numpy as np
import pytest
import torch
from PIL import Image
from seqzoo.zoo import report
from seqzoo.zoo.parts.likelihoods import Bernoulli
from seqzoo.zoo.recipes import part

from seqzoo import data, inference, zoo

GUIDED = {"k-hat of importance weights", "Importance-weighted bound", "Posterior samples for ArviZ"}
PIT = "Calibration of one-step predictions"
SBC = "Simulation-based calibration"
CHAINS = "Clamped Gibbs chains"
ANSWERS = "Calibration of answers"
TARGETS = "Alignment of targets"
EXPORT = "Posterior samples for ArviZ"
RULES = "Gradients of two rules along training"

APPLIES = {
    "rvae": GUIDED | {PIT, SBC, CHAINS, RULES},
    "vrae": GUIDED | {SBC},
    "vosp": GUIDED | {PIT, SBC},
    "rnn": {PIT, EXPORT},
    "refh": {CHAINS},
    "stptt": GUIDED | {ANSWERS, TARGETS, RULES},
    "bptt": {ANSWERS, EXPORT},
}


#: Kinds whose reports have every figure between them: those of the others are not drawn.
DRAWN = {
    "rvae": {"khat.png", "bound.png", "pit.png", "sbc.png", "chains.png", "rules.png"},
    "stptt": {"khat.png", "bound.png", "answers.png", "targets.png", "rules.png"},
}


@pytest.mark.parametrize(("kind", "applies"), APPLIES.items())
def test_a_report_has_what_applies_and_says_why_the_rest_does_not(
    kind, applies, saved, diagnosed, tmp_path, request
):
    if kind not in DRAWN:
        request.getfixturevalue("blank")
    saved(tmp_path / "net", kind)
    state = torch.get_rng_state()
    found = diagnosed(kind, training=True)
    assert torch.equal(state, torch.get_rng_state())
    assert {one.title for one in found.sections} == applies
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
    pictures = {name for name in written if name.endswith(".png")}
    assert all(f"]({name})" in text for name in pictures)
    if kind in DRAWN:
        assert pictures == DRAWN[kind]
        for name in pictures:
            with Image.open(tmp_path / "out" / name) as picture:
                assert np.asarray(picture.convert("L")).std() > 5


def test_every_figure_is_drawn():
    assert set.union(*DRAWN.values()) == report.markdown.FIGURES - {"posterior.nc"}


def test_grey_film_has_no_intervals(kinds, diagnosed, blank):
    size = 900
    net = part(
        zoo.RVAE,
        obs_dim=size,
        latent_dim=2,
        hidden=4,
        likelihood=part(Bernoulli, dim=size, grey=True),
    )
    balls = part(data.BouncingBalls, sequences=2, steps=10)
    kinds["film"] = net, part(inference.LocalELBO), balls
    found = diagnosed("film", sequences=1)
    assert {one.title for one in found.sections} == GUIDED | {CHAINS}
    assert "grey values" in dict(found.left_out)[PIT]
