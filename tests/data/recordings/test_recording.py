"""Recordings: bins against a slow count, files written by other programs, parts, and mistakes."""

import datetime

import numpy as np
import pandas as pd
import pytest
import torch
from seqzoo.data import Recording

from seqzoo import data

TRIALS = [[0.5, 1.52], [2.0, 2.8], [3.0, 4.0]]  # 51, 40 and 50 bins of 0.02 s


def spikes(seed=0, units=5):
    random = np.random.default_rng(seed)
    times = [np.sort(random.uniform(0, 5, random.integers(50, 200))) for _ in range(units - 1)]
    return [*times, np.array([])]  # and a unit without a spike


def slow_counts(times, start, stop, bin):
    bins = int((stop - start) / bin + 1e-6)
    counts = torch.zeros(bins, len(times))
    for unit, each in enumerate(times):
        for time in each:
            at = int(np.floor((time - start) / bin))
            if 0 <= at < bins:
                counts[at, unit] += 1
    return counts


def test_spikes_are_counted_in_the_whole_bins_of_every_trial():
    times = spikes()
    found = Recording.from_spikes(times, 0.02, TRIALS)
    assert found.lengths.tolist() == [51, 40, 50]
    for trial, (start, stop) in zip(found.trials, TRIALS):
        assert torch.equal(trial, slow_counts(times, start, stop, 0.02))
    assert found.starts.tolist() == [0.5, 2.0, 3.0]
    batch = found.batch()
    assert batch.observed is None  # a silent unit is not missing
    assert batch.mask.sum(1).tolist() == [51, 40, 50]
    torch.testing.assert_close(found.rates(), torch.cat(found.trials).mean(0))


def test_a_spike_at_an_edge_belongs_to_the_later_bin():
    found = Recording.from_spikes([[0.0, 0.1, 0.2, 0.3]], 0.1, [[0.0, 0.4]])
    assert found.trials[0][:, 0].tolist() == [1, 1, 1, 1]


def test_a_unit_that_was_not_recorded_all_the_time():
    found = Recording.from_spikes(
        {"a": [0.05, 0.95], "b": [0.05, 0.95]}, 0.1, [[0.0, 1.0]], observed={"b": [[0.0, 0.55]]}
    )
    assert found.channels == ["a", "b"]
    seen = found.batch().observed[0]
    assert seen[:, 0].all()
    assert seen[:, 1].tolist() == [True] * 5 + [False] * 5


def test_traces_are_averaged_and_a_bin_without_a_sample_is_missing():
    random = np.random.default_rng(0)
    time = np.sort(random.uniform(0, 2, 300))
    time = time[(time < 0.8) | (time > 0.95)]
    values = random.normal(size=(len(time), 3))
    values[5, 1] = np.nan
    found = Recording.from_traces(time, values, 0.05, [[0.0, 1.0], [1.0, 2.0]])
    for number, trial in enumerate(found.trials):
        for bin, row in enumerate(trial):
            start = number + bin * 0.05
            inside = values[(time >= start) & (time < start + 0.05)]
            wanted = np.nanmean(inside, 0) if len(inside) else np.full(3, np.nan)
            np.testing.assert_allclose(row, wanted, rtol=1e-5, atol=1e-6)
    assert not found.batch().observed[0, 16:19].any()


def test_inputs_are_averaged_or_interpolated_in_bins():
    random = np.random.default_rng(1)
    fast = np.sort(random.uniform(-0.1, 5.1, 3000))
    hand = np.stack((np.sin(fast), np.cos(fast)), 1)
    slow, light = np.array([0.0, 1.0, 3.0, 5.0]), np.array([0.0, 2.0, 2.0, 0.0])
    inputs = {"hand": (fast, hand), "light": (slow, light)}
    found = Recording.from_spikes(spikes(), 0.02, TRIALS, inputs=inputs)
    assert found.input_names == ["hand_0", "hand_1", "light"]
    for start, known in zip(found.starts, found.inputs):
        for bin, row in enumerate(known.double().numpy()):
            low = start + 0.02 * bin
            inside = hand[(fast >= low) & (fast < low + 0.02)]
            np.testing.assert_allclose(row[:2], inside.mean(0), atol=1e-6)
            centre = low + 0.01
            at = [t >= low and t < low + 0.02 for t in slow]
            wanted = light[at][0] if any(at) else np.interp(centre, slow, light)
            assert row[2] == pytest.approx(wanted, abs=1e-6)
    traces = Recording.from_traces(fast, hand, 0.02, TRIALS, inputs={"light": (slow, light)})
    assert all(torch.equal(a, b[:, 2:]) for a, b in zip(traces.inputs, found.inputs))
    holed = np.where((fast > 2.1) & (fast < 2.2), np.nan, fast)
    with pytest.warns(UserWarning, match="no sample in [456] of 141 bins"):
        Recording.from_spikes(spikes(), 0.02, TRIALS, inputs={"hand": (fast, holed)})
    with pytest.raises(
        ValueError, match=r"'late' has samples from 1 to 5 s, and none for the bins"
    ):
        Recording.from_spikes(spikes(), 0.02, TRIALS, inputs={"late": (slow[1:], light[1:])})


def nwb_file(path, times, trials=True, **units):
    pynwb = pytest.importorskip("pynwb")
    zone = datetime.timezone(datetime.timedelta(hours=-7))
    start = datetime.datetime(2024, 3, 1, 12, tzinfo=zone)
    file = pynwb.NWBFile("a session", "id", start)
    for number, unit in enumerate(times):
        more = {name: values[number] for name, values in units.items()}
        file.add_unit(spike_times=unit, id=10 + number, **more)
    if trials:
        file.add_trial_column("side", "which side")
        for number, (first, last) in enumerate(TRIALS):
            file.add_trial(start_time=first, stop_time=last, side="LR"[number % 2])
        file.add_trial(start_time=4.5, stop_time=float("nan"), side="L")  # broken off
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path


def test_an_nwb_file(tmp_path):
    times = spikes()
    path = nwb_file(tmp_path / "session.nwb", times)
    found = Recording.from_nwb(path, bin=0.02)
    other = Recording.from_spikes(times, 0.02, TRIALS)
    assert all(torch.equal(a, b) for a, b in zip(found.trials, other.trials, strict=True))
    assert found.channels == [10, 11, 12, 13, 14]
    assert found.conditions == {"side": ["L", "R", "L"]}
    whole = Recording.from_nwb(path, bin=0.02, trials=None)
    assert len(whole) == 1
    with pytest.raises(data.DataError, match="'epochs'"):
        Recording.from_nwb(path, bin=0.02, trials="epochs")


def test_an_nwb_file_says_when_a_unit_was_recorded(tmp_path):
    times = spikes()[:2]
    intervals = [[[0.0, 5.0]], [[0.0, 2.5]]]
    path = nwb_file(tmp_path / "session.nwb", times, obs_intervals=intervals)
    seen = Recording.from_nwb(path, bin=0.02).batch().observed
    assert seen[0, :51].all()
    assert seen[1, :25].all()
    assert not seen[1, 25:40, 1].any()
    assert not seen[2, :, 1].any()


@pytest.mark.parametrize("content", [b"", b"no file of HDF5", None])
def test_a_file_that_is_no_nwb_file(tmp_path, content):
    pytest.importorskip("pynwb")
    path = tmp_path / "session.nwb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(data.DataError, match=r"session\.nwb"):
        Recording.from_nwb(path, bin=0.02)


def test_an_nwb_file_without_units(tmp_path):
    path = nwb_file(tmp_path / "session.nwb", [])
    with pytest.raises(data.DataError, match="no units"):
        Recording.from_nwb(path, bin=0.02)


def test_pynapple_objects():
    nap = pytest.importorskip("pynapple")
    times = spikes()[:-1]
    support = nap.IntervalSet(*np.array(TRIALS).T)
    group = nap.TsGroup({i: nap.Ts(each) for i, each in enumerate(times)})
    found = Recording.from_pynapple(group, 0.02, support)
    other = Recording.from_spikes(times, 0.02, TRIALS)
    assert all(torch.equal(a, b) for a, b in zip(found.trials, other.trials, strict=True))
    time, values = np.arange(0, 5, 0.01), np.random.default_rng(0).normal(size=(500, 2))
    frame = nap.TsdFrame(t=time, d=values, columns=["x", "y"])
    traces = Recording.from_pynapple(frame, 0.05, support)
    assert traces.channels == ["x", "y"]
    torch.testing.assert_close(
        traces.trials[1][0], torch.tensor(values[200:205].mean(0), dtype=torch.float32)
    )
    with pytest.raises(ValueError, match="TsGroup"):
        Recording.from_pynapple(values, 0.02)


def example(inputs=False):
    random = np.random.default_rng(1)
    trials = [random.poisson(1.0, (length, 8)).astype(float) for length in (8, 12, 10, 9, 11, 10)]
    trials[1][3:5] = np.nan
    trials[2][:, 6] = np.nan
    conditions = {"angle": [0, 90, 180, 0, 90, 180]}
    names, channels = list("abcdef"), [f"n{i}" for i in range(8)]
    known = [random.normal(size=(len(trial), 2)) for trial in trials] if inputs else None
    axes = ["x", "y"] if inputs else None
    about = (channels, names, conditions, "neuron", known, axes)
    return Recording(trials, 0.02, np.arange(6.0), *about)


def same(first, second):
    return all(torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) for a, b in zip(first, second))


@pytest.mark.parametrize("inputs", [False, True])
def test_xarray_and_back(inputs):
    recording = example(inputs)
    array = recording.to_xarray()
    assert array.dims == ("trial", "time", "neuron")
    found = Recording.from_xarray(array)
    assert same(found.trials, recording.trials)
    for name in ("channels", "names", "conditions", "input_names"):
        assert getattr(found, name) == getattr(recording, name)
    assert same(found.inputs or [], recording.inputs or [])
    assert found.bin == pytest.approx(0.02)
    assert found.starts.tolist() == recording.starts.tolist()
    single = Recording.from_xarray(array.isel(trial=0, drop=True).dropna("time"))
    assert same(single.trials, recording.trials[:1])


def test_pandas():
    recording = example(inputs=True)
    parts = []
    for name, trial in zip(recording.names, recording.trials):
        part = pd.DataFrame(trial.numpy(), columns=recording.channels)
        part.index = pd.Index(0.02 * np.arange(len(trial)), name="time")
        x, y = recording.inputs[len(parts)].numpy().T
        parts.append(part.assign(trial=name, x=x, y=y))
    table = pd.concat(parts)
    for given in (table, table.set_index("trial", append=True)):
        found = Recording.from_pandas(given, trial="trial", inputs=["x", "y"])
        assert same(found.trials, recording.trials)
        assert same(found.inputs, recording.inputs)
        assert found.names == recording.names
        assert found.channels == recording.channels
    with pytest.raises(ValueError, match="'trail': did you mean trial"):
        Recording.from_pandas(table, trial="trail")
    with pytest.raises(ValueError, match="'z'"):
        Recording.from_pandas(table, trial="trial", inputs=["z"])
    assert Recording.from_pandas(parts[0]).conditions == {"trial": ["a"]}
    with pytest.raises(ValueError, match="'trial' holds words that change"):
        Recording.from_pandas(table)


def test_missing_values_are_told_apart_from_padding():
    batch = example().batch()
    assert batch.obs.shape == (6, 12, 8)
    assert not batch.observed[1, 3:5].any()
    assert batch.mask[1].all()  # time passes in a gap
    assert not batch.observed[2, :, 6].any()
    assert batch.frames == 60 - 2


def test_splits_are_disjoint_complete_and_seeded():
    recording = example(inputs=True)
    parts = recording.split(0.5, 0.25, 0.25, seed=3)
    names = [part.names for part in parts]
    assert sorted(name for part in names for name in part) == recording.names
    assert [part.names for part in recording.split(0.5, 0.25, 0.25, seed=3)] == names
    assert len({tuple(recording.split(0.5, 0.25, 0.25, seed=s)[0].names) for s in range(9)}) > 1
    train, _, test = parts
    held = train.held_out(9, split="test")
    assert len(held) == len(test)
    for part in parts:
        rows = [recording.names.index(name) for name in part.names]
        assert same(part.inputs, [recording.inputs[row] for row in rows])
        for number, known in enumerate(part.inputs):
            batch = part.batch()
            assert torch.equal(batch.inputs[number, : len(known)], known)
            assert not batch.inputs[number, len(known) :].any()
    early, late = recording.split_time(0.5)
    for whole, first, rest in zip(recording.trials, early.trials, late.trials):
        assert same([whole], [torch.cat((first, rest))])
    assert late.starts[0] == pytest.approx(0.08)
    cut = recording.pieces(5)
    assert cut.lengths.tolist() == [4, 4, 4, 4, 4, 5, 5, 5, 4, 4, 4, 3, 5, 5]
    assert cut.names == list("aabbbccddeeeff")
    for values, given in (("trials", recording.trials), ("inputs", recording.inputs)):
        assert same([torch.cat(getattr(cut, values))], [torch.cat(given)])
    np.testing.assert_allclose(cut.starts[:5], [0, 0.08, 1, 1.08, 1.16])
    held_in, held_out = recording.split_channels(0.75, seed=0)
    assert sorted(held_in.channels + held_out.channels) == recording.channels
    assert len(held_out.channels) == 2
    assert same(held_out.inputs, recording.inputs)
    assert all(
        torch.equal(torch.cat(pair), whole)
        for *pair, whole in zip(early.inputs, late.inputs, recording.inputs)
    )


def test_overlapping_trials_are_told():
    with pytest.warns(UserWarning, match="trials 0 and 1 overlap"):
        Recording.from_spikes([[0.1, 0.5]], 0.1, [[0.0, 1.0], [0.5, 1.5]])


NAN, INF = float("nan"), float("inf")
MISTAKES = {
    "no trial": (lambda: Recording([]), "a trial"),
    "other channels": (lambda: Recording([np.ones((3, 2)), np.ones((3, 4))]), "trial 1"),
    "one axis": (lambda: Recording([np.ones(3)]), "trial 0"),
    "infinite": (lambda: Recording([np.full((3, 2), INF)]), "infinity"),
    "nothing seen": (lambda: Recording([np.full((3, 2), NAN)]), "trial 0"),
    "an input too few": (lambda: Recording([np.ones((3, 2))], inputs=[np.ones((2, 1))]), "3 bins"),
    "an input missing": (lambda: Recording([np.ones((3, 2))], inputs=[[[NAN]] * 3]), "every bin"),
    "inputs of no trial": (lambda: Recording([np.ones((3, 2))], inputs=[]), "0 trials"),
    "input names": (
        lambda: Recording([np.ones((3, 2))], inputs=[np.ones((3, 2))], input_names=["a", "a"]),
        "different names",
    ),
    "no pair": (lambda: Recording.from_spikes([[0, 1.0]], 0.1, inputs={"a": 3}), "a pair"),
    "two clocks": (
        lambda: Recording.from_spikes([[1e5]], 0.1, [[0, 1], [1, 2]]),
        "one clock",
    ),
    "starts": (lambda: Recording([np.ones((3, 2))], starts=[NAN]), "starts"),
    "observed of none": (
        lambda: Recording.from_spikes({"a": [0.5]}, 0.1, observed={"b": [[0, 1]]}),
        "'b'",
    ),
    "words": (lambda: Recording([[["a"]]]), "numbers"),
    "bin of 0": (lambda: Recording([np.ones((3, 2))], bin=0.0), "bin"),
    "names": (lambda: Recording([np.ones((3, 2))], names=["a", "b"]), "names"),
    "channels": (lambda: Recording([np.ones((3, 2))], channels=["a"]), "channels"),
    "no spike": (lambda: Recording.from_spikes([[], []], 0.1), "no unit has a spike"),
    "NaN time": (lambda: Recording.from_spikes([[NAN]], 0.1), "unit 0"),
    "no whole bin": (lambda: Recording.from_spikes([[0.1]], 1.0, [[0, 0.5]]), "whole bin"),
    "backwards": (lambda: Recording.from_spikes([[0.1]], 0.1, [[1.0, 0.5]]), "number 0"),
    "milliseconds": (lambda: Recording.from_spikes([[1.0]], 1e-6, [[0, 60000]]), "seconds"),
    "samples out of order": (lambda: Recording.from_traces([1, 0], [[1.0], [2.0]], 0.1), "ascend"),
    "too few": (lambda: Recording([np.ones((3, 2))] * 2).split(), "2 trials"),
    "more than all": (lambda: example().split(0.7, 0.2), "train 0.7, validation 0.2, test 0.15"),
    "one channel": (lambda: Recording([np.ones((3, 1))]).split_channels(), "1 channels"),
    "one bin": (lambda: Recording([np.ones((1, 2))]).split_time(0.5), "1 bins"),
    "no such trial": (lambda: example().select(trials=[99]), "by position, 0 to"),
    "a mask": (lambda: example().select(channels=[True, False]), "channels are chosen by position"),
    "not held out": (lambda: example().held_out(2), "split"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    build, words = MISTAKES[name]
    with pytest.raises(ValueError, match=words):
        build()
