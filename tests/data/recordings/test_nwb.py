"""NWB files that pynwb wrote, with all that makes real ones difficult; one file for all tests."""

import datetime
import warnings

import numpy as np
import pytest
from seqzoo.data import DataError, Recording

pynwb = pytest.importorskip("pynwb")

EPOCH = 1.7e9  # seconds since 1970: the clock of a device
ZONE = datetime.timezone(datetime.timedelta(hours=-7))
#: Start and stop of trials: not in order, two that overlap, one shorter than a bin, one that was
#: broken off, one after the end of the recording.
TRIALS = [[3.0, 4.0], [0.5, 1.52], [2.0, 2.8], [2.5, 2.9], [4.9, 4.91], [4.5, np.nan], [90, 91]]
QUALITY = ["good", "mua", "good", "good", "noise"]


def times():
    random = np.random.default_rng(0)
    return [np.sort(random.uniform(0, 5, 150)) if unit != 3 else np.array([]) for unit in range(5)]


def write(path, offset):
    """A session; all of its times are ``offset`` later."""
    start = datetime.datetime(2024, 3, 1, 12, tzinfo=ZONE)
    reference = datetime.datetime(2024, 3, 1, 10, tzinfo=datetime.UTC)
    file = pynwb.NWBFile("a session", "id", start, timestamps_reference_time=reference)
    probe = file.create_electrode_group("g", "g", "l", file.create_device("probe"))
    for place in ("M1", "PMd"):
        file.add_electrode(group=probe, location=place)
    file.add_unit_column("quality", "by hand")
    for unit, each in enumerate(times()):
        file.add_unit(
            spike_times=offset + each,
            id=10 + unit,
            quality=QUALITY[unit],
            electrodes=[unit % 2],
            waveform_mean=np.zeros(3),
            obs_intervals=[[offset, offset + (2.5 if unit == 1 else 95)]],
        )
    for name in ("side", "score", "target"):
        file.add_trial_column(name, name)
    file.add_trial_column("events", "of unequal number", index=True)
    for number, (first, last) in enumerate(TRIALS):
        more = {"side": "LR"[number % 2], "score": [1.0, np.nan][number % 2]}
        arrays = {"target": [0.1, 0.2], "events": list(range(number + 1))}
        file.add_trial(start_time=offset + first, stop_time=offset + last, **more, **arrays)
    file.add_epoch(start_time=offset, stop_time=offset + 5.0)
    at = offset + np.arange(0, 95, 0.01)
    series, space = pynwb.TimeSeries, pynwb.behavior.SpatialSeries
    hand = {"data": np.stack((at - offset, np.cos(at - offset)), 1) * 100, "timestamps": at}
    behavior = file.create_processing_module("behavior", "b")
    hand = space(name="hand", reference_frame="table", conversion=0.01, unit="m", **hand)
    behavior.add(pynwb.behavior.Position(spatial_series=hand))
    eye = series(name="eye", data=np.arange(len(at)), timestamps=hand, unit="m")
    behavior.add(pynwb.behavior.BehavioralTimeSeries(time_series=[eye]))
    light = {"rate": 10.0, "starting_time": offset, "unit": "cd"}
    file.add_acquisition(series(name="eye", data=np.arange(950), **light))
    file.add_stimulus(series(name="light", data=np.arange(950, dtype=np.int16), **light))
    file.add_acquisition(series(name="empty", data=np.zeros(0), **light))
    sorted_units = pynwb.misc.Units(name="sorted", description="by a program")
    sorted_units.add_unit(spike_times=offset + np.arange(0, 5, 0.1))
    file.create_processing_module("ecephys", "e").add(sorted_units)
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A session whose times begin at zero."""
    return write(tmp_path_factory.mktemp("nwb") / "session.nwb", 0.0)


@pytest.fixture(params=[0.0, EPOCH], ids=["session clock", "absolute clock"])
def session(request, plain, tmp_path_factory):
    """For tests of what is read by its time: under both clocks."""
    if not request.param:
        return plain, 0.0
    return write(tmp_path_factory.mktemp("nwb") / "session.nwb", EPOCH), EPOCH


def read(path, bin=0.02, **how):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        recording = Recording.from_nwb(path, bin, **how)
    return recording, "\n".join(str(each.message) for each in found)


def test_a_session_is_read_and_what_is_left_out_is_told(session):
    path, offset = session
    found, told = read(path)
    assert found.names == [0, 1, 2, 3, 6]
    assert found.channels == [10, 11, 12, 13, 14]
    assert found.lengths.tolist() == [50, 51, 40, 20, 50]
    np.testing.assert_allclose(found.starts - offset, [3.0, 0.5, 2.0, 2.5, 90.0], atol=1e-6)
    assert found.conditions["side"] == ["L", "R", "L", "R", "L"]
    np.testing.assert_equal(found.conditions["score"], [1.0, np.nan, 1.0, np.nan, 1.0])
    assert set(found.conditions) == {"side", "score"}
    for trial, start in zip(found.trials, (3.0, 0.5, 2.0, 2.5, 90.0)):
        for unit, each in enumerate(times()):
            edges = start + 0.02 * np.arange(len(trial) + 1)
            wanted = np.histogram(each, edges)[0].astype(float)
            wanted[edges[1:] > (2.5 if unit == 1 else 95) + 1e-6] = np.nan
            np.testing.assert_array_equal(trial[:, unit], wanted)
    for words in (
        "1 of 7 trials have no start or no stop",
        "shorter than a bin, and left out: 4",
        "trials 2 and 3 overlap",
        "after the last spike of all, counted as silent: 6",
    ):
        assert words in told


def test_units_are_chosen_by_their_columns(plain):
    for units, wanted in (
        ({"quality": "good"}, [10, 12, 13]),
        ({"quality": ["good", "mua"], "location": "PMd"}, [11, 13]),
    ):
        found, _ = read(plain, units=units)
        assert found.channels == wanted
    assert read(plain, unit_table="sorted")[0].channels == [0]


def test_inputs_are_found_by_name(session):
    path, offset = session
    hand = ["hand", "Position", "behavior/Position/hand"]
    for name in hand:
        found, _ = read(path, inputs=[name, "light"])
        short = name.rpartition("/")[2]
        assert found.input_names == [f"{short}_0", f"{short}_1", "light"]
        for start, known in zip(found.starts - offset, found.inputs):
            centres = start + 0.02 * np.arange(len(known)) + 0.01
            np.testing.assert_allclose(known[:, 0], centres, atol=0.011)  # two samples a bin
            np.testing.assert_allclose(known[:, 1], np.cos(centres), atol=0.011)
            np.testing.assert_allclose(known[:, 2], 10 * centres, atol=0.11)
    assert read(path, inputs=["acquisition/eye"])[0].input_names == ["eye"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"trials": "trails"}, "'trails': it has epochs, trials, and trials=None"),
        ({"units": {"quality": "best"}}, "quality 'best': there are good, mua, noise"),
        ({"units": {"qualty": "good"}}, "'qualty' .* did you mean quality"),
        ({"units": {"waveform_mean": 0}}, "no single number or word"),
        ({"unit_table": "sort"}, "'sort': did you mean sorted"),
        ({"inputs": ["hnd"]}, "'hnd': did you mean hand"),
        ({"inputs": ["eye"]}, "several .* acquisition/eye, processing/behavior/"),
        ({"inputs": ["empty"]}, "empty .* no series of numbers"),
    ],
)
def test_what_a_file_lacks_is_told(plain, how, words):
    with pytest.raises(DataError, match=words):
        read(plain, **how)


@pytest.mark.parametrize("bin", [0, float("nan"), 100.0, 1e-9])
def test_a_bin_that_does_not_fit(plain, bin):
    with pytest.raises(ValueError, match="bin"):
        read(plain, bin)


def test_files_that_are_none(plain, tmp_path):
    import h5py

    content = plain.read_bytes()
    path = tmp_path / "cut.nwb"
    for size in (10, len(content) // 2, len(content) - 10):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"cut\.nwb is no NWB file"):
            read(path)
    path.unlink()
    with h5py.File(path, "w") as file:
        file["x"] = [1.0]
    with pytest.raises(DataError, match=r"cut\.nwb is no NWB file"):
        read(path)
    store = tmp_path / "store.nwb"
    store.mkdir()
    with pytest.raises(DataError, match="folder"):
        read(store)
    (store / ".zgroup").write_text("{}")
    with pytest.raises(DataError, match="Zarr"):
        read(store)
