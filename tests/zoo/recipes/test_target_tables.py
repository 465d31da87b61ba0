"""The tables of target propagation: tasks, recipes, pictures, searches, horizons, commands."""

import dataclasses
import functools
import itertools
import json
import math
import re
import shlex
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from seqzoo.data import Loader, OneToMany, polyphonic
from seqzoo.data.midi import read_midi
from seqzoo.data.one_to_many import class_probabilities, conditional_entropy, log_density
from seqzoo.zoo import MDRNN, SRN, pictures, store
from seqzoo.zoo.parts.initialisers import Orthogonal
from seqzoo.zoo.parts.likelihoods import Bernoulli, Categorical
from seqzoo.zoo.recipes import (
    COLLECTIONS,
    RECIPES,
    Part,
    Scores,
    find,
    members,
    one_to_many,
    parse_overrides,
    windows,
)
from seqzoo.zoo.recipes import music_task as piano
from seqzoo.zoo.runs import reproduce
from seqzoo.zoo.runs import search as searching
from seqzoo.zoo.runs.run import run
from seqzoo.zoo.studies import bench, horizon
from torch import nn

from seqzoo import inference, zoo

ASKED = [n for n in RECIPES if n.startswith("onetomany-")]
PLAYED = [n for n in RECIPES if n.startswith("pianomidi-")]
PUBLISHED = {  # REFERENCE, section 1
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
LENGTHS = {"train": (112, 105), "validation": (121,), "test": (103, 30, 104)}
SMALL = {"model.hidden": 4, "fit.epochs": 1, "fit.batch_size": 10, "fit.validate_every": 1}
READOUT = {True: 0.03, False: 0.001}  # learning rates of the readout: of classes, of curves
WORST = "onetomany-class-t2/stptt"
PNG = b"\x89PNG\r\n\x1a\n"


def tiny(recipe, sequences=20):
    """A recipe of the one-to-many tasks that trains and scores in no time."""
    recipe = recipe.override({**SMALL, "data.sequences": 20})
    few = functools.partial(recipe.task.score, sequences=sequences)
    task = dataclasses.replace(recipe.task, score=few)
    return dataclasses.replace(recipe, task=task, quick={"fit.epochs": 1})


def numbered(lengths, first=0):
    """Rolls in which every frame spells its own number, in ones and zeros."""
    digits = 2 ** torch.arange(12)
    frames = (torch.arange(first, first + sum(lengths))[:, None] & digits) > 0
    rolls = torch.zeros(sum(lengths), 88, dtype=torch.uint8)
    rolls[:, 30:42] = frames
    return list(rolls.split(lengths))


def numbers(frames):
    """What frames spell, ``[..., 88] -> [...]``."""
    return (frames[..., 30:42].long() * 2 ** torch.arange(12)).sum(-1)


FIRST = {"train": 0, "validation": 1000, "test": 2000}


@pytest.fixture
def few(monkeypatch):
    """Published music becomes a few short rolls, and generated music short."""
    made = lambda _, split: numbered(LENGTHS[split], FIRST[split])  # noqa: E731
    monkeypatch.setattr(polyphonic, "fetch", lambda file: file)
    monkeypatch.setattr(polyphonic, "read_mat", made)
    monkeypatch.setattr(windows, "GENERATED", 6)


def seen(path):
    """A picture's pixels, ``[rows, columns, 3]``, which must show something."""
    assert path.read_bytes().startswith(PNG)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert min(pixels.shape[:2]) > 300
    assert 0.01 < (pixels != 255).any(-1).mean() < 0.9
    return pixels


# Tables -----------------------------------------------------------------------------------------


def test_the_tables_print_the_published_figures():
    rows = [find(name) for name in ASKED + PLAYED]
    for recipe in [recipe for recipe in rows if recipe.name.endswith(KEPT)]:
        assert recipe.published is None
        rows.remove(recipe)
    plain = {recipe.name: recipe.published for recipe in rows if recipe.table != "pianomidi-t50"}
    again = {f"{name}-published": value for name, value in PUBLISHED.items() if name in ASKED}
    assert plain == PUBLISHED | again
    rest = [recipe for recipe in rows if recipe.table == "pianomidi-t50"]
    assert {(r.rule.name, r.fit["optimizer"]): r.published for r in rest} == BY_OPTIMISER
    assert len(rest) == len(BY_OPTIMISER)
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


@pytest.mark.parametrize("name", ASKED + PLAYED)
def test_a_row_is_what_its_name_says(name):
    recipe = find(name)
    steps = int(re.search(r"-t(\d+)/", name)[1])
    net, rule = recipe.model.build(), recipe.rule.name
    assert recipe.data.arguments["window" if name in PLAYED else "steps"] == steps
    row = recipe.name.split("/")[1]
    by_targets = row.startswith(("stptt", "tptt"))
    assert rule == "TargetPropagation" if by_targets else rule in ("StraightThrough", "OutputBPTT")
    half = "class" in name or (name in PLAYED and not name.endswith("ste-d"))
    assert net.num_stochastic == (net.units.dim // 2 if half else 0)
    assert row.endswith("-control") == (not recipe.rule.arguments.get("propagate", True))
    assert row.endswith("-published") == ("set as published" in recipe.title)
    assert (row == "readout") == (name in ASKED and recipe.fit["lr"] == TAUGHT_ALONE[name])
    if "-t50/" in name and row != "stptt-control":
        first, _, shown = recipe.title.partition(", ")
        assert first == ("STPTT" if by_targets else "STE-BPTT")
        assert shown.lower() == recipe.fit["optimizer"]
        assert name.partition("-t50/")[2].partition("-")[2] in ("", recipe.fit["optimizer"])
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
def test_every_row_of_one_to_many_trains_scores_and_comes_back(name, tmp_path):
    everything = ("readout.weight", "from_state.weight", "from_input.weight")
    alone = name.endswith("/readout")
    card, net = trained(tiny(find(name)), tmp_path, everything[:1] if alone else everything)
    assert card["unit"] == "nats"
    assert -2 < card["value"] < 6
    obs = OneToMany(sequences=3, steps=4, split="validation").obs
    assert torch.isfinite(net.sample_answers(obs).float()).all()


@pytest.mark.parametrize("name", PLAYED)
def test_every_row_of_windows_trains_scores_and_comes_back(name, few, tmp_path):
    card, net = trained(find(name).override(SMALL), tmp_path)
    assert card["unit"] == "nats per frame"
    assert 0 < card["value"] < 88
    assert net.sample_answers(torch.zeros(2, 5, 88)).shape == (1, 2, 88)


# The score of one-to-many -----------------------------------------------------------------------


def still(net, bias):
    """A network whose answer does not depend on what it read."""
    nn.init.zeros_(net.readout.weight)
    net.readout.bias.data = torch.as_tensor(bias, dtype=torch.float32)
    return net


@pytest.mark.parametrize("stochastic", [0.0, 0.5, 1.0])
def test_a_uniform_answer_scores_the_log_of_ten(stochastic):
    net = still(SRN(1, Categorical(10), 4, stochastic), torch.zeros(10))
    scores = one_to_many.score("class", 3, net, 0, "test", sequences=301, num_samples=5)
    assert scores.values.shape == (301, 1)
    torch.testing.assert_close(scores.values, torch.full((301, 1), math.log(10)))
    assert torch.equal(scores.weights, torch.ones(301))


def test_an_answer_that_never_changes_scores_by_hand():
    rates = torch.arange(1.0, 11) / 55
    net = still(SRN(1, Categorical(10), 4, 0.5), rates.log() + 3)
    values = one_to_many.score("class", 2, net, 4, "test", sequences=250, num_samples=3).values
    truth = OneToMany("class", 250, 2, 4, "test").target
    expected = [-math.log(float(rates[label])) for label in truth]
    torch.testing.assert_close(values, torch.tensor(expected)[:, None])

    net = still(MDRNN(1, components=1), [7.0, 0.5, math.log(0.25)])
    values = one_to_many.score("regression", 2, net, 4, "test", sequences=250).values
    error = OneToMany("regression", 250, 2, 4, "test").target - 0.5
    expected = math.log(0.25 * math.sqrt(2 * math.pi)) + (error / 0.25).square() / 2
    torch.testing.assert_close(values, expected)


def test_paths_average_probabilities():
    """One fair bit chooses between two laws: M paths score k p_1 + (M - k) p_0 over M, k whole."""
    net = still(SRN(1, Categorical(10), 2, 0.5), torch.zeros(10))
    for part in (net.from_input.weight, net.from_state.weight, net.from_state.bias):
        nn.init.zeros_(part)
    net.readout.weight.data[4, 0] = 3.0  # class 4 becomes likelier with the bit
    few, many = (
        one_to_many.score("class", 2, net, 1, "test", sequences=400, num_samples=paths).values[:, 0]
        for paths in (5, 200)
    )
    four = OneToMany("class", 400, 2, 1, "test").target == 4
    up, other = math.exp(3) / (math.exp(3) + 9), 1 / (math.exp(3) + 9)
    on = torch.where(four, up, other)
    counts = 5 * ((-few).exp() - 0.1) / (on - 0.1)
    torch.testing.assert_close(counts, counts.round(), atol=1e-3, rtol=0)
    assert set(counts.round().tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    assert float(counts.mean()) == pytest.approx(2.5, abs=0.2)
    expected = torch.where(four, -math.log((up + 0.1) / 2), -math.log((other + 0.1) / 2))
    assert float((many - expected).abs().mean()) < 0.1


class Oracle(nn.Module):
    """The exact conditional; with some doubt it takes any answer for possible."""

    def __init__(self, kind, doubt=0.0):
        super().__init__()
        self.kind, self.doubt = kind, doubt

    def estimate_log_prob(self, batch, num_samples):
        x, target = batch.obs[:, 0, 0], batch.target
        if self.kind == "class":
            exact, flat = class_probabilities(x).gather(1, target[:, None])[:, 0], 0.1
        else:
            exact, flat = log_density(target[:, 0], x).exp(), 1.0
        return ((1 - self.doubt) * exact + self.doubt * flat).log()


@pytest.mark.parametrize("kind", ["class", "regression"])
def test_the_exact_conditional_scores_the_limit_and_nothing_scores_below(kind):
    task, steps = one_to_many.answer_task(kind, 2), 2
    scores = one_to_many.score(kind, steps, Oracle(kind), 0, "test")
    assert len(scores.values) == 10_000
    noise = float(scores.values.std()) / 100
    assert noise < 0.01
    found = float(scores.figures[0])
    assert found == pytest.approx(LIMITS[kind], abs=3 * noise)
    by_task = task.measure(Oracle(kind), 0, "test").figures
    assert by_task.tolist() == pytest.approx([found] * len(by_task))
    for doubt in (0.03, 0.3):
        doubtful = one_to_many.score(kind, steps, Oracle(kind, doubt), 0, "test").figures
        assert float(doubtful[0]) > max(found + 0.01, LIMITS[kind])


class Recorder(nn.Module):
    """Notes what it is asked, and answers with minus the number of paths."""

    def __init__(self):
        super().__init__()
        self.asked = {}

    def estimate_log_prob(self, batch, num_samples):
        self.asked.setdefault(num_samples, []).append((batch.obs, batch.target))
        return torch.full((len(batch),), -float(num_samples))

    def everything(self, num_samples):
        obs, target = zip(*self.asked[num_samples])
        return torch.cat(obs), torch.cat(target)


@pytest.mark.parametrize("kind", ["class", "regression"])
def test_validation_looks_at_other_data_than_training_and_test(kind):
    data = Part(OneToMany, {"kind": kind, "steps": 3}).build(seed=0)
    read, task = [data.obs[:, 0, 0]], one_to_many.answer_task(kind, 3)
    for split in ("validation", "test"):
        recorder = Recorder()
        scores = task.measure(recorder, 0, split, {"sequences": 500})
        assert scores.figures.tolist() == [20.0]  # as many paths as in the paper
        assert tuple(recorder.asked) == (20,)
        obs, target = recorder.everything(20)
        held = OneToMany(kind, 500, 3, 0, split)
        assert torch.equal(obs, held.obs)
        assert torch.equal(target, held.target)
        read.append(obs[:, 0, 0])
    other = Recorder()
    assert task.measure(other, 0, "test", {"sequences": 5, "num_samples": 3}).figures.tolist() == [
        3.0
    ]
    assert task.columns == ("NLL, 20 paths" if kind == "class" else "NLL",)
    together = torch.cat(read)
    assert len(together.unique()) > 0.999 * len(together)  # but for chance, no number comes twice


def test_scores_of_one_seed_are_figures_on_the_same_draws():
    torch.manual_seed(3)
    net = SRN(1, Categorical(10), 6, 0.5)
    before = torch.get_rng_state()
    first, again, other = (
        one_to_many.score("class", 2, net, seed, "test", sequences=50, num_samples=2).values
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("table", sorted({name.split("/")[0] for name in ASKED}))
def test_training_data_are_the_same_every_epoch_and_for_every_row(table):
    rows = [find(name) for name in ASKED if name.startswith(table + "/")]
    sets = [recipe.data.build(seed=2) for recipe in rows]
    assert [len(data) for data in sets] == [3000] * len(
        one_to_many.MAKERS + one_to_many.AS_PUBLISHED
    )
    assert all(torch.equal(data.obs, sets[0].obs) for data in sets)
    assert not torch.equal(sets[0].obs, rows[0].data.build(seed=3).obs)
    loader = Loader(sets[0], 700)
    epochs = [torch.cat([batch.obs for batch in loader.epoch(n)])[:, :, 0] for n in (0, 1)]
    assert not torch.equal(*epochs)
    first, second = (epoch[epoch[:, 0].argsort(stable=True)] for epoch in epochs)
    assert torch.equal(first[:, 0], second[:, 0])
    assert Counter(map(tuple, first.tolist())) == Counter(map(tuple, second.tolist()))


# The score of windows ---------------------------------------------------------------------------


def starts(split, steps, stride):
    """Where windows must begin, counted over all sequences of a split."""
    found, first = [], {"validation": 1000, "test": 2000}[split]
    for length in LENGTHS[split]:
        found += range(first, first + length - steps, stride)
        first += length
    return found


@pytest.mark.parametrize("steps", [5, 50, 100])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_every_window_is_scored_exactly_once(split, steps, few, monkeypatch):
    stride = 1 if split == "test" else windows.VALIDATED
    monkeypatch.setattr(windows, "ROWS", 7)
    recorder = Recorder()
    scores = windows.window_task(steps).measure(recorder, 0, split)
    obs, target = recorder.everything(windows.PATHS)
    assert torch.equal(numbers(obs), numbers(obs)[:, :1] + torch.arange(steps))
    assert torch.equal(numbers(target), numbers(obs)[:, -1] + 1)
    assert Counter(numbers(obs)[:, 0].tolist()) == Counter(starts(split, steps, stride))
    assert sum(max(0, n - steps) for n in LENGTHS["test"]) == len(starts("test", steps, 1))
    assert scores.values.shape == (len(obs), 1)
    assert torch.equal(scores.weights, torch.ones(len(obs)))
    assert max(len(asked) for asked, _ in recorder.asked[windows.PATHS]) <= 7


@pytest.mark.parametrize("stochastic", [0.0, 0.5])
def test_constant_rates_score_by_hand(stochastic, few):
    rates = torch.linspace(0.02, 0.6, 88)
    net = still(SRN(88, Bernoulli(88), 4, stochastic), rates.logit())
    scores = windows.score(50, net, 0, "test")
    expected = []
    for roll in numbered(LENGTHS["test"], 2000):
        for frame in roll[50:].bool():
            expected.append(-float(torch.where(frame, rates.log(), (1 - rates).log()).sum()))
    torch.testing.assert_close(scores.values[:, 0], torch.tensor(expected))
    assert float(scores.figures[0]) == pytest.approx(np.mean(expected), rel=1e-5)
    sparse = windows.score(50, net, 0, "test", stride=9).values[:, 0]
    taken = [*range(0, 53, 9), *range(53, 107, 9)]
    torch.testing.assert_close(sparse, torch.tensor(expected)[taken])


def test_the_windows_of_piano_midi(published):
    """Frames that are predicted: all of a split but the first T of each sequence."""
    recorder = Recorder()
    found = windows.score(100, recorder, 0, "validation").values
    obs = recorder.everything(20)[0]
    rolls = windows.Polyphonic("piano-midi", "validation").sequences
    assert sum(len(roll) for roll in rolls) == 8540
    every = windows.VALIDATED
    assert len(obs) == len(found) == sum(math.ceil(max(0, len(r) - 100) / every) for r in rolls)


def test_training_on_windows_serves_a_frame_to_predict_at_every_step(few):
    for name in PLAYED:
        data = find(name).data.build(seed=0)
        batch = data.batch()
        steps = find(name).data.arguments["window"]
        assert batch.target.shape == batch.obs.shape == (len(data), steps, 88)
        assert torch.equal(numbers(batch.target), numbers(batch.obs) + 1)
        assert int(numbers(batch.obs).max()) < 1000


# Pictures ---------------------------------------------------------------------------------------


@pytest.fixture
def answers():
    data = OneToMany("class", 80, 1, split="test")
    other = data.target.roll(7)
    return data.obs[:, 0, 0], data.target, other


DRAWN = {
    "classes": (pictures.plot_classes, lambda x: x),
    "curve": (pictures.plot_curve, lambda x: x / 9),
}


@pytest.mark.parametrize("how", DRAWN)
def test_answers_are_drawn_beside_the_data(how, answers, tmp_path):
    show, scaled = DRAWN[how]
    x, truth, other = answers
    found = []
    for number, drawn in enumerate((truth, other)):
        path = tmp_path / "new" / f"{number}.png"
        show(x, scaled(truth), scaled(drawn), path)
        found.append(seen(path))
    first, second = found
    assert (first != second).any(-1).mean() > 0.005
    warmth = second[..., 0] - second[..., 2]
    assert (warmth > 50).mean() > 0.002  # samples are red
    assert (warmth < -50).mean() > 0.002  # data are blue


@pytest.mark.parametrize("how", DRAWN)
def test_answers_are_kept_as_numbers(how, answers, tmp_path):
    show, scaled = DRAWN[how]
    x, truth, other = answers
    show(x, scaled(truth), scaled(other), tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        assert set(file) == {"inputs", "data", "samples"}
        assert np.array_equal(file["inputs"], x)
        assert np.array_equal(file["data"], scaled(truth))
        assert np.array_equal(file["samples"], scaled(other))


@pytest.mark.parametrize("how", DRAWN)
@pytest.mark.parametrize("file", ["x.gif", "x", "x.csv"])
def test_answers_are_refused_another_ending(how, file, answers, tmp_path):
    show, scaled = DRAWN[how]
    x, truth, other = answers
    with pytest.raises(ValueError, match=rf"cannot write '{file}': end it with one of \.png"):
        show(x, scaled(truth), scaled(other), tmp_path / "new" / file)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def drawn(monkeypatch):
    """Figures that would have been saved."""
    figures = []
    for module in (pictures, horizon):
        monkeypatch.setattr(module, "save_figure", lambda figure, path: figures.append(figure))
    return figures


def lines(axis):
    """Points of all lines that a panel has, and their labels."""
    return [(np.asarray(line.get_xydata()), line.get_label()) for line in axis.get_lines()]


def test_bars_stand_at_the_mean_of_each_class(answers, drawn, tmp_path):
    x, truth, other = answers
    pictures.plot_classes(x, truth, other, tmp_path / "x.png")
    bars = [points for points, _ in lines(drawn[0].axes[0]) if len(points) == 2]
    assert len(bars) == len(truth.unique()) + len(other.unique())
    for (left, _), (right, end) in bars:
        label = round(end - 0.42) if end > round(end) else round(end + 0.42)
        classes = truth if end > label else other  # data above the line of a class
        assert left == right == pytest.approx(float(x[classes == label].mean()))


def test_a_curve_shows_what_was_asked_for_across_and_what_was_read_upwards(
    answers, drawn, tmp_path
):
    x, truth, other = answers
    pictures.plot_curve(x, truth / 9, other / 9, tmp_path / "x.png")
    (data, first), (samples, second) = lines(drawn[0].axes[0])
    assert (first, second) == ("data", "samples")
    for points, values in ((data, truth), (samples, other)):
        assert np.array_equal(points.astype(np.float32), torch.stack((values / 9, x), 1))


def test_a_network_that_knows_few_classes_is_drawn(answers, tmp_path):
    x, truth, _ = answers
    pictures.plot_classes(x, truth, torch.full_like(truth, 9), tmp_path / "x.png")
    seen(tmp_path / "x.png")


def test_a_roll_goes_on_where_a_window_ends(few, tmp_path):
    torch.manual_seed(0)
    net = SRN(88, Bernoulli(88), 6, 0.5)
    rolls = [roll for roll in numbered(LENGTHS["test"], 2000) if len(roll) > 50]
    drawn = []
    for number, seed in enumerate((1, 1, 2)):
        windows.write_samples(50, net, tmp_path / f"{number}.npz", seed)
        with np.load(tmp_path / f"{number}.npz") as file:
            drawn.append(np.stack([file[title] for title in file]))
    first, again, other = drawn
    assert first.shape == (2, 56, 88)
    assert np.array_equal(first[:, :50], torch.stack([roll[:50] for roll in rolls]))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[:, 50:], other[:, 50:])
    assert set(np.unique(first[:, 50:])) == {0, 1}

    windows.write_samples(50, net, tmp_path / "x.mid", 1)
    played = read_midi(tmp_path / "x.mid", step=piano.STEPS["piano-midi"])
    assert np.array_equal(played, first[0])
    windows.write_samples(50, net, tmp_path / "x.png", 1)
    pixels = seen(tmp_path / "x.png")
    assert (np.abs(pixels - [251, 222, 197]).max(-1) < 12).mean() > 0.05  # the prompt is shaded


def test_a_continuation_sees_the_last_window_alone(few, tmp_path):
    asked = []

    class Echo(nn.Module):
        def sample_answers(self, obs, seed):
            asked.append(obs)
            return obs[None, :, 3]

    windows.write_samples(50, Echo(), tmp_path / "x.npz", 0)
    assert [obs.shape for obs in asked] == [(2, 50, 88)] * 6
    for before, after in itertools.pairwise(asked):
        assert torch.equal(after[:, :-1], before[:, 1:])
        assert torch.equal(after[:, -1], before[:, 3])


@pytest.mark.parametrize("file", ["x.gif", "x.wav", "x"])
def test_a_roll_is_refused_another_ending(file, few, tmp_path):
    with pytest.raises(ValueError, match=f"cannot write '{file}'"):
        windows.write_samples(50, SRN(88, Bernoulli(88), 4), tmp_path / "new" / file, 0)
    assert not list(tmp_path.iterdir())


# Search -----------------------------------------------------------------------------------------


@pytest.fixture
def ranged():
    """A tiny recipe with ranges for a setting of the rule and for two learning rates."""
    pytest.importorskip("optuna")
    recipe = tiny(find(WORST)).override({"rule.alpha_i": 0.2, "fit.lr": {"": 0.05, "back.": 2e-3}})
    ranges = {"rule.alpha_i": (0.01, 1.0), "fit.lr": {"": (1e-2, 0.3), "back.": (1e-3, 0.1)}}
    return dataclasses.replace(recipe, search=ranges)


@pytest.fixture
def scored(monkeypatch):
    """Trials are scored by a function of their recipe in place of training."""

    def choose(score):
        monkeypatch.setattr(
            searching, "train", lambda recipe, *_: (None, 1, {"validation": score(recipe)})
        )

    return choose


def test_a_search_starts_from_the_recipe_s_own_setting(ranged, scored):
    scored(lambda recipe: recipe.fit["lr"]["back."])
    said = []
    found = searching.search(ranged, 3, say=said.append)
    assert said[0].changes == {"rule.alpha_i": 0.2, "fit.lr": {"": 0.05, "back.": 2e-3}}
    assert ranged.override(said[0].changes).configuration() == ranged.configuration()
    assert all(trial in found for trial in said)
    assert len(said) == len(found) == 3
    assert [trial.score for trial in found] == sorted(trial.score for trial in said)


def test_a_search_stays_within_its_ranges_and_tries_different_settings(ranged, scored):
    scored(lambda recipe: recipe.rule.arguments["alpha_i"])
    found = searching.search(ranged, 12)
    assert len(found) == 12
    for part, (low, high) in (
        (lambda t: t.changes["rule.alpha_i"], (0.01, 1.0)),
        (lambda t: t.changes["fit.lr"][""], (1e-2, 0.3)),
        (lambda t: t.changes["fit.lr"]["back."], (1e-3, 0.1)),
    ):
        values = [part(trial) for trial in found]
        assert low <= min(values) < max(values) <= high
        assert len(set(values)) > 8
    assert found[0].score < 0.2  # that of the recipe's own
    assert searching.search(ranged, 12) == found
    assert searching.search(ranged, 12, seed=7) != found


def test_a_rate_without_prefixes_is_searched_too(ranged, scored):
    plain = dataclasses.replace(ranged.override({"fit.lr": 0.02}), search={"fit.lr": (1e-2, 1e-1)})
    scored(lambda recipe: -recipe.fit["lr"])
    found = searching.search(plain, 5)
    rates = [trial.changes["fit.lr"] for trial in found]
    assert 0.02 in rates
    assert rates == sorted(rates, reverse=True)


def test_rates_that_are_not_searched_stay_as_they_are(ranged, scored):
    narrow = dataclasses.replace(ranged, search={"fit.lr": {"back.": (1e-3, 0.1)}})
    scored(lambda recipe: recipe.fit["lr"]["back."])
    for trial in searching.search(narrow, 4):
        assert trial.changes.keys() == {"fit.lr"}
        assert trial.changes["fit.lr"][""] == 0.05


@pytest.mark.filterwarnings("ignore:Fixed parameter")
def test_a_recipe_set_outside_the_ranges_is_still_tried_first(ranged, scored):
    scored(lambda recipe: recipe.rule.arguments["alpha_i"])
    said = []
    searching.search(ranged.override({"rule.alpha_i": 5.0}), 4, say=said.append)
    first, *rest = [trial.changes["rule.alpha_i"] for trial in said]
    assert first == 5.0
    assert all(0.01 <= value <= 1.0 for value in rest)


def test_a_search_never_touches_test_data(ranged, monkeypatch):
    opened, make = [], OneToMany.__init__

    @functools.wraps(make)
    def noted(self, *args, **how):
        make(self, *args, **how)
        opened.append((self.split, self.seed))

    monkeypatch.setattr(OneToMany, "__init__", noted)
    found = searching.search(ranged, 2)
    assert set(opened) == {("train", 1000), ("validation", 1000)}
    assert all(math.isfinite(trial.score) for trial in found)
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OneToMany, "__init__", noted)
        opened.clear()
        ranged.task.measure(ranged.model.build(), 0, "test")
        assert opened == [("test", 0)]  # the note above would have been taken


def test_a_trial_is_the_training_that_a_row_gets(ranged, tmp_path):
    """Its score is the best validation score of a run with the same settings and seed."""
    (own,) = searching.search(ranged, 1, seed=5)
    assert own.score == run(ranged, 5, tmp_path, device="cpu", progress=False)["validation"]


def test_a_diverging_trial_counts_as_infinite(ranged, scored):
    def score(recipe):
        if recipe.rule.arguments["alpha_i"] != 0.2:
            raise FloatingPointError("the loss of epoch 0 is nan: lower lr, or set clip")
        return 3.0

    scored(score)
    found = searching.search(ranged, 4)
    assert [trial.score for trial in found] == [3.0, math.inf, math.inf, math.inf]


def test_a_trial_that_blows_up_in_training_counts_as_infinite(ranged):
    wild = ranged.override({"fit.lr": 1e38, "fit.epochs": 3})
    wild = dataclasses.replace(wild, search={"fit.lr": (1e37, 3e38)})
    assert [trial.score for trial in searching.search(wild, 2)] == [math.inf] * 2


def test_a_trial_whose_validation_score_is_not_a_number_counts_as_infinite(ranged):
    """The last update of all may be the one that ruins the network."""
    task = dataclasses.replace(
        ranged.task, score=lambda *_: Scores(torch.full((2, 1), math.nan), torch.ones(2))
    )
    found = searching.search(dataclasses.replace(ranged, task=task), 2)
    assert [trial.score for trial in found] == [math.inf] * 2


def test_a_search_is_written_whole(ranged, scored, tmp_path):
    scored(lambda recipe: recipe.rule.arguments["alpha_i"])
    found = searching.search(ranged, 3)
    searching.save(ranged, found, tmp_path / "new" / "x.json")
    content = json.loads((tmp_path / "new" / "x.json").read_text())
    assert content["recipe"] == WORST
    assert content["configuration"] == ranged.configuration()
    assert sorted(content["ranges"].values()) == [[1e-3, 0.1], [1e-2, 0.3], [0.01, 1.0]]
    trials = [searching.Trial(trial, trial.pop("score")) for trial in content["trials"]]
    assert trials == found
    assert "CPU" in content["hardware"]


def test_a_search_with_a_diverged_trial_is_still_json(ranged, tmp_path):
    """Infinity is no JSON: only Python reads it."""
    trials = [searching.Trial({"rule.alpha_i": 0.1}, 1.0), searching.Trial({}, math.inf)]
    searching.save(ranged, trials, tmp_path / "x.json")

    def foreign(name):
        raise AssertionError(f"{name} is not JSON")

    content = json.loads((tmp_path / "x.json").read_text(), parse_constant=foreign)
    assert content["trials"] == [{"rule.alpha_i": 0.1, "score": 1.0}, {"score": None}]


@pytest.mark.parametrize("name", [n for n, recipe in RECIPES.items() if recipe.search])
def test_a_recipe_s_own_setting_lies_within_its_ranges(name):
    recipe = find(name)
    for setting, (low, high) in searching._flat(recipe.search).items():
        assert 0 < low <= searching._current(recipe, setting) <= high
    own = {
        setting: searching._current(recipe, setting) for setting in searching._flat(recipe.search)
    }
    assert recipe.override(searching._nested(recipe, own)).configuration() == recipe.configuration()


def test_search_prints_every_trial_and_the_best_as_options(
    ranged, seqzoo, scored, monkeypatch, tmp_path
):
    scored(lambda recipe: recipe.fit["lr"]["back."])
    monkeypatch.setitem(RECIPES, WORST, ranged)
    path = tmp_path / "x.json"
    words = ["--trials", 4, "--seed", 3, "--out", path, "--device", "cpu"]
    code, out, error = seqzoo("search", WORST, *words)
    assert (code, error) == (0, "")
    *trials, best, wrote = out.splitlines()
    assert len(trials) == 4
    assert all("rule.alpha_i=" in line and "fit.lr={" in line for line in trials)
    assert wrote == f"wrote {path}"
    content = json.loads(path.read_text())
    assert len(content["trials"]) == 4
    first, lowest = content["trials"][0], min(float(line.split()[0]) for line in trials)
    assert lowest == round(first["score"], 4)
    assert best.startswith(f"best of 4: {lowest:.4f} by --set ")
    options = shlex.split(best.partition(" by ")[2])
    assert options[::2] == ["--set"] * 2
    assert parse_overrides(options[1::2]) | {"score": first["score"]} == first


def test_search_takes_the_quick_budget_and_other_settings(ranged, seqzoo, scored, monkeypatch):
    tried = []

    def score(recipe):
        tried.append((recipe.fit["epochs"], recipe.model.arguments["hidden"]))
        return 1.0

    scored(score)
    longer = dataclasses.replace(ranged.override({"fit.epochs": 9}), quick={"fit.epochs": 2})
    monkeypatch.setitem(RECIPES, WORST, longer)
    words = ["search", WORST, "--trials", 1, "--set", "model.hidden=6"]
    assert seqzoo(*words)[0] == 0
    assert seqzoo(*words, "--quick")[0] == 0
    assert tried == [(9, 6), (2, 6)]


def test_search_says_what_is_missing(ranged, refused, monkeypatch):
    monkeypatch.setitem(RECIPES, WORST, dataclasses.replace(ranged, search={}))
    assert f"{WORST} names no ranges to search in" in refused("search", WORST)
    assert "names no ranges" in refused("search", "ppc/kf1")
    monkeypatch.setitem(RECIPES, WORST, ranged)
    monkeypatch.setitem(sys.modules, "optuna", None)  # as if it were not installed
    assert "search needs Optuna: pip install 'seqzoo[search]'" in refused("search", WORST)


@pytest.mark.parametrize("rates", ["0.02", "{'': 0.02}"])
def test_search_says_that_ranges_do_not_fit_the_rates(rates, ranged, refused, scored, monkeypatch):
    """Ranges are by prefix: a recipe whose rates were changed to others must get a sentence."""
    scored(lambda recipe: 1.0)
    monkeypatch.setitem(RECIPES, WORST, ranged)
    refused("search", WORST, "--trials", 2, "--set", f"fit.lr={rates}")


# Horizons ---------------------------------------------------------------------------------------


def shorten(monkeypatch, change):
    """Changes every recipe that a maker makes."""

    def changed(make):
        return lambda *args, **how: change(make(*args, **how))

    makers = tuple(changed(make) for make in one_to_many.MAKERS)
    monkeypatch.setattr(one_to_many, "MAKERS", makers)
    others = tuple(changed(make) for make in one_to_many.AS_PUBLISHED)
    monkeypatch.setattr(one_to_many, "AS_PUBLISHED", others)
    for name in ("targets", "through_time", "readout", "published"):
        monkeypatch.setattr(one_to_many, name, changed(getattr(one_to_many, name)))


@pytest.fixture
def short(monkeypatch, in_process):
    """Rows of the horizons that train in no time."""
    shorten(monkeypatch, tiny)
    monkeypatch.setattr(horizon, "BATCH", 20)


def test_a_horizon_is_the_recipe_with_another_number_of_steps():
    for kind, lengths in one_to_many.STEPS.items():
        for make in one_to_many.MAKERS:
            for steps in lengths:
                here = make(kind, steps)
                assert here.configuration() == find(here.name).configuration()
            here, there = make(kind, 7), make(kind, lengths[0])
            assert here.name.startswith(f"onetomany-{kind}-t7/")
            assert here.published is None
            assert here.limit == there.limit
            assert here.data.arguments["steps"] == 7
            assert (here.model, here.rule, here.fit) == (there.model, there.rule, there.fit)


def test_the_control_differs_from_the_row_beside_it_in_its_rates_alone():
    for kind in one_to_many.STEPS:
        row, control = (make(kind, 9) for make in (one_to_many.through_time, one_to_many.readout))
        assert (row.model, row.rule, row.data) == (control.model, control.rule, control.data)
        assert {k: v for k, v in row.fit.items() if k != "lr"} == {
            k: v for k, v in control.fit.items() if k != "lr"
        }
        assert control.fit["lr"] == row.fit["lr"] | {"": 0.0}
        assert not control.ships
        targets = one_to_many.targets(kind, 9)
        assert targets.model == row.model
        assert targets.fit["lr"]["readout."] == row.fit["lr"]["readout."]
        assert {k: v for k, v in row.fit.items() if k != "lr"} == {
            k: v for k, v in targets.fit.items() if k != "lr"
        }


def test_chance_is_what_is_known_without_the_question():
    shares = [1 / 18, *[1 / 9] * 8, 1 / 18]
    entropy = -sum(p * math.log(p) for p in shares)
    assert horizon.CHANCE["class"] == pytest.approx(entropy, abs=5e-4)
    assert horizon.CHANCE["regression"] == 0  # the density of U(0, 1) is one


def test_horizon_trains_both_rules_draws_and_keeps_what_is_finished(short, seqzoo, tmp_path):
    words = ["study", "horizon", "--kind", "class", "--steps", 2, "--steps", 3, "--seeds", 2]
    words += ["--jobs", 1, "--runs", tmp_path / "runs", "--out", tmp_path / "x.png"]
    code, out, error = seqzoo(*words)
    assert (code, error) == (0, "")
    assert "kept from" not in out
    seen(tmp_path / "x.png")
    folders = sorted(path.parent for path in tmp_path.glob("runs/*/*/*/card.json"))
    rows = ["stptt", "ste", "readout"]
    assert len(folders) == 2 * 2 * len(rows)
    lines = [line for line in out.splitlines() if line.startswith("class ")]
    for line, (steps, row) in zip(lines, itertools.product("23", rows), strict=True):
        folder = tmp_path / "runs" / f"onetomany-class-t{steps}" / row
        cards = [store.load_card(folder / f"seed{seed}/card.json") for seed in (0, 1)]
        values = [card["value"] for card in cards]
        figures = [f"{np.mean(values):.3f}", f"{np.std(values, ddof=1):.3f}", "2"]
        found = line.removeprefix("class").strip()
        assert found.startswith(find(f"onetomany-class-t2/{row}").title)
        assert found.split()[-4:] == [steps, *figures]
    before = {folder: (folder / store.WEIGHTS).stat().st_mtime_ns for folder in folders}

    code, again, _ = seqzoo(*words, "--steps", 4)
    assert again.count("kept from") == len(folders)
    assert {f: (f / store.WEIGHTS).stat().st_mtime_ns for f in folders} == before
    assert len(list(tmp_path.glob("runs/*/*/*/card.json"))) == 3 * 2 * len(rows)
    assert set(lines) <= set(again.splitlines())


def test_horizon_quick_is_kept_apart(short, seqzoo, monkeypatch, tmp_path):
    shorten(monkeypatch, lambda recipe: recipe.override({"fit.epochs": 3}))
    monkeypatch.setattr(one_to_many, "MAKERS", one_to_many.MAKERS[1:2])
    words = ["study", "horizon", "--kind", "regression", "--steps", 2, "--jobs", 1]
    words += ["--runs", tmp_path, "--out", tmp_path / "x.png"]
    name = "onetomany-regression-t2/bptt/seed0/card.json"
    for options, folder, epochs in ((["--quick"], "quick", 1), ([], ".", 3)):
        code, out, _ = seqzoo(*words, *options)
        assert code == 0
        assert "kept from" not in out
        assert store.load_card(tmp_path / folder / name)["epochs_run"] == epochs
        assert " - " in out.splitlines()[-2]  # one seed has no sd


def test_both_tasks_are_drawn_side_by_side(tmp_path):
    rows = [("class", "stptt"), ("class", "ste"), ("regression", "tptt"), ("regression", "bptt")]
    points = [
        horizon.Point(kind, row, row.upper(), steps, 1.5 + steps / 50, sd, 2)
        for kind, row in rows
        for steps, sd in ((2, 0.1), (30, None))
    ]
    horizon.plot_curves(points, tmp_path / "both.png")
    horizon.plot_curves(points[:4], tmp_path / "one.png")
    both, one = seen(tmp_path / "both.png"), seen(tmp_path / "one.png")
    assert both.shape[1] == pytest.approx(2 * one.shape[1], rel=0.01)


def test_horizons_are_drawn_beside_limit_and_published_figures(drawn, tmp_path):
    rows = [("class", "stptt"), ("class", "ste"), ("regression", "tptt")]
    points = [horizon.Point(k, r, r, t, t / 10, 0.1, 2) for k, r in rows for t in (2, 30)]
    horizon.plot_curves(points, tmp_path / "x.png")
    left, right = ({name: p.tolist() for p, name in lines(a)} for a in drawn[0].axes)
    assert left["stptt, published"] == [[2, 1.44], [20, 1.54]]
    assert left["ste, published"] == [[2, 1.44], [20, 2.27]]
    assert right["tptt, published"] == [[5, -0.98], [30, -0.94]]
    assert "bptt, published" not in right
    assert {y for _, y in left["limit 1.322"]} == {1.322}
    assert {y for _, y in right["limit -1.282"]} == {-1.282}
    bars = drawn[0].axes[0].containers
    assert [bar.get_label() for bar in bars] == ["stptt", "ste"]
    assert bars[0].lines[0].get_xydata().tolist() == [[2, 0.2], [30, 3.0]]


def test_every_row_of_the_horizons_can_be_drawn(drawn, tmp_path):
    """Rows set as published are dashed; they and the control have no published figure of theirs."""
    for kind in one_to_many.STEPS:
        recipes = [make(kind, 2) for make in one_to_many.MAKERS]
        rows = [(recipe.name.split("/")[1], recipe.title) for recipe in recipes]
        points = [horizon.Point(kind, *row, 2, 1.0, None, 1) for row in rows]
        horizon.plot_curves(points, tmp_path / "x.png")
        axis = drawn[-1].axes[0]
        bars = {bar.get_label(): bar.lines[0].get_linestyle() for bar in axis.containers}
        assert list(bars) == [title for _, title in rows]
        assert len(bars) == len(rows)
        for row, title in rows:
            assert (bars[title] == "--") == row.endswith("-published")
        figures = [name for _, name in lines(axis) if name.endswith(", published")]
        assert figures == [f"{title}, published" for _, title in rows[:2]]


def test_alignment_is_drawn_over_training_and_back_from_the_answer(drawn, tmp_path):
    states = torch.tensor([[0.1, 0.2, 1.0], [0.3, 0.4, 1.0]])
    one = horizon.Alignment(find(WORST), 3, [0, 5], [0.9, 0.7], states)
    horizon.plot_alignments([one], tmp_path / "x.png")
    training, back = map(lines, drawn[0].axes)
    assert drawn[0].axes[0].get_title() == one.recipe.title
    assert training[0][0].tolist() == [[0, 0.9], [5, 0.7]]
    for (points, label), row, when in zip(back, states, ("at first", "trained")):
        assert label == f"T=3, {when}"
        assert points[:, 0].tolist() == [0, 1, 2]  # the answer's own step comes first
        assert points[:, 1].tolist() == pytest.approx(row.flip(0).tolist())


def test_alignment_of_several_rows_is_drawn_row_by_row(drawn, tmp_path):
    """Panels of one row hold its horizons alone."""
    states = torch.tensor([[0.1, 0.2, 1.0], [0.3, 0.4, 1.0]])
    recipes = find(WORST), find(f"{WORST}-published")
    found = [
        horizon.Alignment(recipe, steps, [0, 5], [0.9, level], states)
        for recipe, level in zip(recipes, (0.7, 0.6))
        for steps in (3, 4)
    ]
    horizon.plot_alignments(found, tmp_path / "x.png")
    panels = drawn[0].axes
    assert len(panels) == 4
    for axis, recipe, level in zip(panels[::2], recipes, (0.7, 0.6)):
        assert axis.get_title() == recipe.title
        shown = [(points[-1].tolist(), name) for points, name in lines(axis)[:2]]
        assert shown == [([5, level], "T=3"), ([5, level], "T=4")]
    for axis in panels[1::2]:
        names = [name for _, name in lines(axis)[:4]]
        assert names == [f"T={t}, {when}" for t in (3, 4) for when in ("at first", "trained")]


def test_following_starts_at_the_first_gradient_and_ends_with_the_last(short, monkeypatch):
    kept, fit = [], horizon.fit
    shorten(monkeypatch, lambda recipe: recipe.override({"fit.epochs": 3, "fit.lr": 0.01}))
    monkeypatch.setattr(horizon, "fit", lambda *a, **how: kept.append(fit(*a, **how)) or kept[-1])
    found = list(horizon.alignments("class", [2, 5], 3, False, "cpu"))
    rows = ["t2/stptt-published", "t5/stptt-published", "t2/stptt", "t5/stptt"]
    titles = ["STPTT, set as published"] * 2 + ["STPTT"] * 2
    assert [one.recipe.title for one in found] == titles
    assert [one.recipe.name for one in found] == [f"onetomany-class-{row}" for row in rows]
    assert [one.steps for one in found] == [2, 5, 2, 5]
    for one, last in zip(found, kept, strict=True):
        assert one.epochs == [0, 1, 2, 3]
        assert len(set(one.gradients)) == 4
        assert one.states.shape == (2, one.steps)
        assert one.states.abs().max() <= 1 + 1e-6
        torch.testing.assert_close(one.states[:, -1], torch.ones(2))  # where the answer is
        torch.manual_seed(3)
        net = one.recipe.model.build()
        rules = one.recipe.rule.build(net), inference.StraightThrough(net)
        batch = OneToMany("class", 20, one.steps, 3, "validation").batch()
        assert one.gradients[0] == inference.alignment(*rules, batch)["from_state.weight"]
        before = inference.target_alignment(rules[0], batch)
        torch.testing.assert_close(one.states[0], before)
        net = last.net.cpu()
        rules = one.recipe.rule.build(net), inference.StraightThrough(net)
        assert one.gradients[-1] == inference.alignment(*rules, batch)["from_state.weight"]
        torch.testing.assert_close(one.states[1], inference.target_alignment(rules[0], batch))


def test_following_leaves_training_as_it_is(short, tmp_path, monkeypatch):
    """Gradients that are compared on the way change nothing of what is learned."""
    kept, fit = [], horizon.fit
    monkeypatch.setattr(horizon, "fit", lambda *a, **how: kept.append(fit(*a, **how)) or kept[-1])
    list(horizon.alignments("regression", [3], 0, False, "cpu"))
    recipe = one_to_many.published("regression", 3, target=True)
    run(recipe, 0, tmp_path, device="cpu", progress=False)
    expected = zoo.load(tmp_path).state_dict()
    for name, value in kept[0].net.state_dict().items():
        torch.testing.assert_close(value.cpu(), expected[name], msg=name)


@pytest.mark.parametrize("kind", ["class", "regression"])
def test_alignment_prints_and_draws(kind, short, seqzoo, tmp_path):
    words = ["--kind", kind, "--steps", 2, "--steps", 4, "--quick", "--out", tmp_path / "x.png"]
    code, out, error = seqzoo("study", "alignment", *words)
    assert (code, error) == (0, "")
    _, *rows, last = out.splitlines()
    assert last == f"wrote {tmp_path / 'x.png'}"
    row = {"class": "stptt", "regression": "tptt"}[kind]
    assert [line.split()[0] for line in rows] == [
        f"onetomany-{kind}-t{steps}/{row}{ending}"
        for ending in ("-published", "")
        for steps in "24"
    ]
    for row in rows:
        before, after = map(float, re.findall(r"-?\d\.\d\d", row))
        assert -1 <= before <= 1
        assert -1 <= after <= 1
    seen(tmp_path / "x.png")


@pytest.fixture
def untrained(monkeypatch):
    """Anything that would train fails."""

    def stop(*_, **__):
        raise AssertionError("it trains")

    monkeypatch.setattr(horizon, "fit", stop)
    monkeypatch.setattr(reproduce, "reproduce", stop)


@pytest.mark.parametrize("verb", ["horizon", "alignment"])
def test_horizon_names_the_mistake_before_it_trains(verb, untrained, refused, tmp_path):
    words = ["study", verb, "--out", tmp_path / "x.png", "--kind", "ppc"]
    assert "kind must be class or regression, got ppc" in refused(*words)


@pytest.mark.parametrize("verb", ["horizon", "alignment"])
@pytest.mark.parametrize("file", ["x.gif", "x", "x.npz"])
def test_horizon_refuses_another_ending_before_it_trains(verb, file, untrained, refused, tmp_path):
    words = ["study", verb, "--steps", 2, "--kind", "class", "--out", tmp_path / file]
    assert f"cannot write '{file}'" in refused(*words)
    assert not list(tmp_path.iterdir())


# Benchmarks -------------------------------------------------------------------------------------


def test_the_benchmark_times_both_rules_on_equal_networks(monkeypatch):
    timed = []

    def note(rule, data, repeats, device):
        timed.append((type(rule).__name__, rule.net, rule.num_samples, data))
        return 0.001 * len(timed)

    monkeypatch.setattr(bench, "_time", note)
    found = list(bench.target(3, [2, 4], 6, 5, 1, "cpu"))
    assert [(row.units, row.steps) for row in found] == [
        (units, steps) for steps in (2, 4) for units in ("half stochastic, M=5", "deterministic")
    ]
    assert [row.targets for row in found] == pytest.approx([1, 3, 5, 7])
    assert [row.through_time for row in found] == pytest.approx([2, 4, 6, 8])
    for (one, net, paths, data), (other, second, _, same) in zip(timed[::2], timed[1::2]):
        assert (one, other, paths) == ("TargetPropagation", "StraightThrough", 5)
        assert same is data
        assert len(data) == 3
        assert net.units.dim == 6
        weights = second.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert [net.num_stochastic for _, net, _, _ in timed] == [3, 3, 0, 0] * 2


def test_bench_target_prints_a_ratio(seqzoo):
    words = ["--steps", 2, "--steps", 3, "--batch", 2, "--units", 4, "--num-samples", 2]
    code, out, error = seqzoo("bench", "target", *words, "--repeats", 1)
    assert (code, error) == (0, "")
    lines = out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == ["2", "2", "3", "3"]
    for line in lines:
        targets, through_time, ratio = line.replace("x", " ").split()[-3:]
        assert float(targets) > 0
        assert float(ratio) == pytest.approx(float(targets) / float(through_time), rel=0.2)


def test_bench_target_says_that_a_device_is_missing(refused):
    assert "warp" in refused("bench", "target", "--device", "warp")


# Answers on the command line --------------------------------------------------------------------


@pytest.fixture(scope="module")
def answering(tmp_path_factory):
    """Folders of two tiny networks, not to be changed."""
    folders = {}
    for name in (WORST, "onetomany-regression-t5/bptt"):
        folders[name] = tmp_path_factory.mktemp("runs") / "model"
        run(tiny(find(name)), 0, folders[name], device="cpu", progress=False)
    return folders


@pytest.mark.parametrize("name", [WORST, "onetomany-regression-t5/bptt"])
def test_sample_draws_answers_beside_the_data(name, answering, seqzoo, tmp_path):
    folder = answering[name]
    for file in ("x.png", "x.npz"):
        code, out, error = seqzoo("sample", folder, "--seed", 4, "--out", tmp_path / file)
        assert (code, out, error) == (0, f"wrote {tmp_path / file}\n", "")
    seen(tmp_path / "x.png")
    kind, steps = ("class", 2) if name == WORST else ("regression", 5)
    data = OneToMany(kind, 1000, steps, 4, "test")
    with np.load(tmp_path / "x.npz") as file:
        assert np.array_equal(file["inputs"], data.obs[:, 0, 0])
        assert np.array_equal(file["data"], data.target.flatten())
        expected = zoo.load(folder).sample_answers(data.obs, seed=4).flatten()
        assert np.array_equal(file["samples"], expected)


def test_sample_has_no_direction_where_there_are_answers(answering, few, refused, tmp_path):
    words = ["--out", tmp_path / "x.png", "--direction", "backwards"]
    for folder, kind in zip(answering.values(), ("SRN", "MDRNN")):
        error = refused("sample", folder, *words)
        assert f"{kind} answers questions: it has no direction of time" in error
    recipe = find("pianomidi-t50/ste").override({"model.hidden": 4})
    card = {"name": recipe.name, "configuration": recipe.configuration()}
    store.save_model(tmp_path / "model", recipe.model.build(), card)
    assert "it has no other direction" in refused("sample", tmp_path / "model", *words)
    assert not (tmp_path / "x.png").exists()


def test_sample_goes_on_with_a_roll(few, seqzoo, tmp_path):
    recipe = find("pianomidi-t50/ste").override({"model.hidden": 4})
    card = {"name": recipe.name, "configuration": recipe.configuration()}
    store.save_model(tmp_path / "model", recipe.model.build(), card)
    code, _, error = seqzoo("sample", tmp_path / "model", "--out", tmp_path / "x.mid")
    assert (code, error) == (0, "")
    played = read_midi(tmp_path / "x.mid", step=piano.STEPS["piano-midi"])
    assert torch.equal(numbers(played[:50]), 2000 + torch.arange(50))


def test_sample_refuses_another_ending_for_answers(answering, refused, tmp_path):
    for folder in answering.values():
        assert "cannot write 'x.gif'" in refused("sample", folder, "--out", tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())


def test_evaluate_scores_as_many_as_it_is_told(answering, seqzoo):
    folder = answering[WORST]
    how = ["--how", "sequences=60", "--how", "num_samples=7"]
    code, out, _ = seqzoo("evaluate", folder, "--json", "--seed", 2, *how)
    assert code == 0
    result = json.loads(out)
    net = zoo.load(folder)
    expected = one_to_many.score("class", 2, net, 2, "test", sequences=60, num_samples=7).figures
    assert [result["value"]] == expected.tolist()
    assert (result["n_sequences"], result["limit"]) == (60, 1.322)


# Alignment --------------------------------------------------------------------------------------


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
