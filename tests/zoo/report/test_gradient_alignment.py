"""Gradients of two rules in a report."""

import pytest
from seqzoo.zoo import report, store
from seqzoo.zoo.recipes import find

RULES = "Gradients of two rules along training"

pytestmark = pytest.mark.usefixtures("blank")


@pytest.fixture
def compared(monkeypatch, diagnosed):
    """The sentences of a report on the gradients alone."""
    monkeypatch.setattr(report, "DIAGNOSTICS", {RULES: report.DIAGNOSTICS[RULES]})

    def compare(kind):
        (section,) = diagnosed(kind, training=True).sections
        assert section.verdict == ""
        return " ".join([section.question, *section.found])

    return compare


def test_gradients_of_the_local_rule_and_bptt_are_compared(compared):
    said = compared("rvae")
    assert "trained by LocalELBO for 10 updates (10 times 2 sequences of PPC)" in said
    assert "compared on 4 validation sequences, 32 frames" in said
    assert "`decoder`: cosine 1.00 at first, 1.00 at the end, 1.00 in the trained model." in said
    assert "`recognition`: cosine " in said
    assert "Equal throughout: `decoder`" in said
    assert "`recognition`" not in said.split("Equal throughout")[1]


def test_gradients_of_targets_are_compared_with_straight_through(compared):
    said = compared("stptt")
    assert "TargetPropagation and StraightThrough" in said
    assert "trained by TargetPropagation for 10 updates (10 times 20 sequences" in said
    assert "`readout`: cosine 1.00 at first, 1.00 at the end" in said
    assert "Left out, because at most one of the rules trains them: `back`" in said
    assert "no verdict on learning" in said


def test_the_budget_of_a_recipe_is_cut(kinds, compared, tmp_path):
    """It has the quick epochs, and no more updates than there shall be."""
    net, rule, source = kinds["stptt"]
    recipe = find("onetomany-class-t20/stptt")
    parts = {"model": net, "rule": rule, "data": source.set(["sequences"], 100)}
    configuration = {key: value.to_json() for key, value in parts.items()}
    configuration["fit"] = {**recipe.fit, "batch_size": 7, "epochs": 900}
    card = {"name": recipe.name, "title": "toy", "configuration": configuration}
    store.save_model(tmp_path / "net", net.build(), card)
    assert recipe.quick == {"fit.epochs": 3}
    # 3 epochs of 100 rows in batches of 7 would be 43 updates: 40 of 7 rows remain, in ten parts
    said = compared("stptt")
    assert "for 40 updates (10 times 28 sequences" in said


def test_nothing_is_trained_unless_asked_for(diagnosed, tmp_path, monkeypatch):
    monkeypatch.setattr(report.gradient_alignment, "train_along", None)
    found = diagnosed("refh", training=False)
    assert "ContrastiveDivergence, which has no counterpart" in dict(found.left_out)[RULES]
    found = diagnosed("stptt", folder=tmp_path / "other", training=False)
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
