"""Scores of answers to questions, and of music in windows."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from seqzoo.data import Loader, OneToMany
from seqzoo.data.midi import read_midi
from seqzoo.data.one_to_many import class_probabilities, log_density
from seqzoo.zoo import MDRNN, SRN
from seqzoo.zoo.parts.likelihoods import Bernoulli, Categorical
from seqzoo.zoo.recipes import (
    RECIPES,
    Part,
    find,
    one_to_many,
    windows,
)
from seqzoo.zoo.recipes import music_task as piano
from torch import nn

ASKED = [n for n in RECIPES if n.startswith("onetomany-")]
PLAYED = [n for n in RECIPES if n.startswith("pianomidi-")]
LIMITS = {"class": 1.322, "regression": -1.282}
LENGTHS = {"train": (112, 105), "validation": (121,), "test": (103, 30, 104)}
WORST = "onetomany-class-t2/stptt"


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


def starts(split, steps, stride):
    """Where windows must begin, counted over all sequences of a split."""
    found, first = [], {"validation": 1000, "test": 2000}[split]
    for length in LENGTHS[split]:
        found += range(first, first + length - steps, stride)
        first += length
    return found


@pytest.mark.parametrize("steps", [5, 50, 100])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_every_window_is_scored_exactly_once(split, steps, few, monkeypatch, numbers):
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
def test_constant_rates_score_by_hand(stochastic, few, numbered):
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
    # The paper counts 20 132 880 windows of 100 frames in 300 epochs.
    windows_read = 300 * len(find("pianomidi-t100/ste-published").data.build(seed=0))
    assert windows_read == pytest.approx(20_132_880, rel=2e-3)


def test_training_on_windows_serves_a_frame_to_predict_at_every_step(few, numbers):
    for name in PLAYED:
        data = find(name).data.build(seed=0)
        batch = data.batch()
        steps = find(name).data.arguments["window"]
        assert batch.obs.shape == (len(data), steps, 88)
        read = numbers(batch.obs)
        if name.endswith("-published"):  # the paper's windows predict the frame after them alone
            read = read[:, -1]
        assert torch.equal(numbers(batch.target), read + 1)
        assert int(numbers(batch.obs).max()) < 1000


def test_a_roll_goes_on_where_a_window_ends(few, tmp_path, seen, numbered):
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
