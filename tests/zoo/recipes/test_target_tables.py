"""The tables of target propagation: rows and training."""

import math
import re

import pytest
import torch
from seqzoo.data import OneToMany
from seqzoo.data.one_to_many import conditional_entropy
from seqzoo.zoo import SRN
from seqzoo.zoo.parts.initialisers import Orthogonal
from seqzoo.zoo.parts.likelihoods import Categorical
from seqzoo.zoo.recipes import (
    COLLECTIONS,
    RECIPES,
    find,
    members,
    one_to_many,
)
from seqzoo.zoo.runs.run import run
from torch import nn

from seqzoo import inference, zoo

ASKED = [n for n in RECIPES if n.startswith("onetomany-")]
PLAYED = [n for n in RECIPES if n.startswith("pianomidi-")]
PUBLISHED = {
    "onetomany-class-t2/stptt": 1.44,
    "onetomany-class-t2/ste": 1.44,
    "onetomany-class-t20/stptt": 1.54,
    "onetomany-class-t20/ste": 2.27,
    "onetomany-regression-t5/tptt": -0.98,
    "onetomany-regression-t5/bptt": -0.98,
    "onetomany-regression-t30/tptt": -0.94,
    "onetomany-regression-t30/bptt": 0.54,
    "pianomidi-t100/ste-d": 11.22,
    "pianomidi-t100/ste": 13.25,
    "pianomidi-t100/stptt": 9.45,
}
BY_OPTIMISER = {  # pianomidi-t50
    ("StraightThrough", "adagrad"): 13.34,
    ("StraightThrough", "nesterov"): 13.39,
    ("StraightThrough", "sgd"): 13.39,
    ("StraightThrough", "rmsprop"): 13.17,
    ("TargetPropagation", "adagrad"): 9.69,
    ("TargetPropagation", "nesterov"): 12.44,
    ("TargetPropagation", "sgd"): 12.44,
    ("TargetPropagation", "rmsprop"): 9.86,
}
KEPT = ("/readout", "-control")  # rows that are controls, and have no published figure
LIMITS = {"class": 1.322, "regression": -1.282}
SMALL = {"model.hidden": 4, "fit.epochs": 1, "fit.batch_size": 10, "fit.validate_every": 1}
READOUT = {True: 0.03, False: 0.001}  # learning rates of the readout: of classes, of curves
WORST = "onetomany-class-t2/stptt"


def test_the_tables_print_the_published_figures():
    rows = [find(name) for name in ASKED + PLAYED]
    for recipe in [recipe for recipe in rows if recipe.name.endswith(KEPT)]:
        assert recipe.published is None
        rows.remove(recipe)
    plain = {recipe.name: recipe.published for recipe in rows if recipe.table != "pianomidi-t50"}
    again = {f"{name}-published": value for name, value in PUBLISHED.items()}
    assert plain == PUBLISHED | again
    rest = [recipe for recipe in rows if recipe.table == "pianomidi-t50"]
    for whole in (False, True):
        half = [recipe for recipe in rest if recipe.name.endswith("-published") == whole]
        assert {(r.rule.name, r.fit["optimizer"]): r.published for r in half} == BY_OPTIMISER
        assert len(half) == len(BY_OPTIMISER)
    for name in PLAYED:
        number = 3 if "-t50/" in name else 4
        assert find(name).source.endswith(f"Table {number}")
        assert find(name).limit is None


@pytest.mark.parametrize(("kind", "table"), [("class", 1), ("regression", 2)])
def test_the_limit_is_what_the_data_leave_open(kind, table):
    assert one_to_many.LIMITS[kind] == LIMITS[kind]
    assert one_to_many.LIMITS[kind] == pytest.approx(conditional_entropy(kind), abs=5e-4)
    rows = [find(name) for name in ASKED if f"-{kind}-" in name]
    assert len(rows) == 2 * len(one_to_many.MAKERS + one_to_many.AS_PUBLISHED) == 10
    for recipe in rows:
        assert recipe.limit == LIMITS[kind]
        assert recipe.published is None or recipe.limit < recipe.published
        assert recipe.source.endswith(f"Table {table}")


def test_a_paper_s_table_is_a_collection():
    assert members("onetomany-class") == ("onetomany-class-t2", "onetomany-class-t20")
    assert members("onetomany-regression") == (
        "onetomany-regression-t5",
        "onetomany-regression-t30",
    )
    assert members("pianomidi-tptt") == ("pianomidi-t50", "pianomidi-t100")
    found = {t for c in ("class", "regression") for t in COLLECTIONS[f"onetomany-{c}"]}
    found |= set(COLLECTIONS["pianomidi-tptt"])
    assert found == {name.split("/")[0] for name in ASKED + PLAYED}


@pytest.mark.parametrize("name", [name for name in ASKED + PLAYED if name.endswith("-published")])
def test_a_row_as_published_has_the_budget_of_the_paper(name):
    recipe = find(name)
    table = "played" if name in PLAYED else name.split("-")[1]
    epochs, batch_size, optimizer = {
        "class": (1000, 20, "adagrad"),
        "regression": (4000, 3000, "adagrad"),  # iterations of all data
        "played": (300, 100, recipe.fit["optimizer"]),
    }[table]
    fit = recipe.fit
    assert (fit["epochs"], fit["batch_size"], fit["optimizer"]) == (epochs, batch_size, optimizer)
    assert not {"clip", "average"} & set(fit)
    rule = recipe.rule.build(recipe.model.build())
    if table != "regression":
        assert rule.num_samples == 20
    if table != "played":
        assert len(recipe.data.build(seed=0)) == 3000
        rates = {"tptt": {"": 0.01, "back.": 1e-3}, "bptt": 0.01}
        rates |= {"stptt": {"": 0.1, "back.": 1e-5}, "ste": 0.1}
        row = name.split("/")[1].removesuffix("-published")
        assert fit["lr"] == rates[row]
        assert getattr(rule, "alpha_i", None) == {"stptt": 0.1, "tptt": 1.0}.get(row)
        assert not fit["epochs"] % fit["validate_every"]


@pytest.mark.parametrize("name", ASKED + PLAYED)
def test_a_row_is_what_its_name_says(name):
    recipe = find(name)
    steps = int(re.search(r"-t(\d+)/", name)[1])
    net, rule = recipe.model.build(), recipe.rule.name
    assert recipe.data.arguments["window" if name in PLAYED else "steps"] == steps
    row = recipe.name.split("/")[1]
    by_targets = row.startswith(("stptt", "tptt"))
    assert rule == "TargetPropagation" if by_targets else rule in ("StraightThrough", "OutputBPTT")
    half = "class" in name or (name in PLAYED and not row.startswith("ste-d"))
    assert net.num_stochastic == (net.units.dim // 2 if half else 0)
    assert row.endswith("-control") == (not recipe.rule.arguments.get("propagate", True))
    assert row.endswith("-published") == recipe.title.endswith(", as published")
    assert (row == "readout") == (name in ASKED and recipe.fit["lr"] == TAUGHT_ALONE[name])
    if "-t50/" in name and row != "stptt-control":
        first, shown, *_ = recipe.title.split(", ")
        assert first == ("STPTT" if by_targets else "STE-BPTT")
        assert shown.lower() == recipe.fit["optimizer"]
        ending = row.removesuffix("-published").partition("-")[2]
        assert ending in ("", recipe.fit["optimizer"])
    assert recipe.validate
    quick = recipe.quickened()
    assert quick.fit["epochs"] < recipe.fit["epochs"]
    assert (quick.model, quick.rule, quick.data) == (recipe.model, recipe.rule, recipe.data)


TAUGHT_ALONE = {name: {"": 0.0, "readout.": READOUT["class" in name]} for name in ASKED}


def trained(recipe, folder, teaches=("readout.weight", "from_state.weight", "from_input.weight")):
    """Runs a row, and says what must hold of any."""
    torch.manual_seed(0)
    before = recipe.model.build().state_dict()
    card = run(recipe, 0, folder, device="cpu", progress=False)
    net = zoo.load(folder)
    after = net.state_dict()
    changed = {part for part in before if not torch.equal(after[part], before[part])}
    assert all(torch.isfinite(value).all() for value in after.values())
    assert changed.issuperset(teaches)
    if recipe.name.endswith("/readout"):
        assert changed == {"readout.weight", "readout.bias"}
    taught = recipe.rule.name == "TargetPropagation"
    assert torch.equal(after["back.weight"], before["back.weight"]) != taught
    found = recipe.task.measure(net, 0, "test")
    assert [card["value"], *card["also"].values()] == found.figures.tolist()
    assert [recipe.task.metric, *recipe.task.also] == [card["metric"], *card["also"]]
    validated = recipe.task.measure(net, 0, "validation").figures
    assert validated.shape == (1,)
    assert math.isfinite(card["validation"])
    return card, net


@pytest.mark.parametrize("name", [name for name in ASKED if not name.endswith("/readout")])
def test_a_rule_teaches_the_recurrent_part_of_its_row(name):
    """At full size: a row that does not is its control, whatever its title says."""
    torch.manual_seed(0)
    recipe = find(name)
    net = recipe.model.build()
    recipe.rule.build(net).gradients(recipe.data.build(seed=0).rows(torch.arange(200)))
    assert net.from_state.weight.grad[net.num_stochastic :].any()
    assert net.from_input.weight.grad[net.num_stochastic :].any()


@pytest.mark.parametrize("name", ASKED)
def test_every_row_of_one_to_many_trains_scores_and_comes_back(name, tmp_path, tiny):
    everything = ("readout.weight", "from_state.weight", "from_input.weight")
    alone = name.endswith("/readout")
    card, net = trained(tiny(find(name)), tmp_path, everything[:1] if alone else everything)
    assert card["unit"] == "nats"
    assert -2 < card["value"] < 6
    obs = OneToMany(sequences=3, steps=4, split="validation").obs
    assert torch.isfinite(net.sample_answers(obs).float()).all()


#: A row of windows of each rule, network and optimizer: others differ in numbers alone.
KINDS = {
    (row.rule.name, str(row.model.arguments.get("stochastic")), row.fit["optimizer"]): row.name
    for row in map(find, PLAYED)
}


@pytest.mark.parametrize("name", KINDS.values())
def test_every_kind_of_row_of_windows_trains_scores_and_comes_back(name, few, tmp_path):
    card, net = trained(find(name).override(SMALL), tmp_path)
    assert card["unit"] == "nats per frame"
    assert 0 < card["value"] < 88
    assert net.sample_answers(torch.zeros(2, 5, 88)).shape == (1, 2, 88)


def test_all_parameters_are_those_that_both_rules_teach():
    torch.manual_seed(0)
    net = SRN(1, Categorical(10), 6, initialiser=Orthogonal(gain=4.0, input_gain=9.0))
    batch = OneToMany("class", 30, 3).batch()
    rules = inference.TargetPropagation(net), inference.OutputBPTT(net)
    gradients = []
    for rule in rules:
        rule.gradients(batch)
        gradients.append(
            {n: p.grad.flatten() for n, p in net.named_parameters() if p.grad is not None}
        )
    own = gradients[0].keys() - gradients[1].keys()
    assert own == {"back.weight", "back.bias"}
    a, b = (torch.cat([g[name] for name in gradients[1]]) for g in gradients)
    expected = float(a @ b / a.norm() / b.norm())
    wrong = torch.cat([a, *(gradients[0][name] for name in own)])  # as if G counted as missed
    found = inference.alignment(*rules, batch)
    assert found["all"] == pytest.approx(expected, abs=1e-5)
    assert abs(expected - float(a @ b / wrong.norm() / b.norm())) > 0.01
    assert all(math.isnan(found[name]) for name in own)
    assert found["readout.weight"] == pytest.approx(1)


def test_rules_that_teach_nothing_in_common_have_no_angle():
    net = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)})

    class Teaches(inference.LearningRule):
        def __init__(self, net, name):
            super().__init__(net)
            self.name = name

        def gradients(self, batch):
            self.net.zero_grad(set_to_none=True)
            self.net[self.name](batch.obs).sum().backward()
            return {}

    batch = OneToMany("class", 4, 2).batch()
    found = inference.alignment(Teaches(net, "a"), Teaches(net, "b"), batch)
    assert math.isnan(found["all"])
    assert inference.alignment(Teaches(net, "a"), Teaches(net, "a"), batch)["all"] == pytest.approx(
        1
    )
