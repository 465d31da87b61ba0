"""Recordings in files: what is written comes back, and what a file lacks is told."""

import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch
from seqzoo.data import DataError, Recording, read_recording

LENGTHS = (4, 6, 5)


def example():
    random = np.random.default_rng(0)
    trials = [random.poisson(1.0, (length, 3)).astype(np.float32) for length in LENGTHS]
    trials[1][5] = np.nan  # missing to its end
    return Recording(
        trials,
        0.02,
        [0.5, 1.0, 7.25],
        ["ä", "b", "c"],
        [3, 5, 9],
        {
            "side": ["L", "R", "L"],
            "score": np.array([1.0, np.nan, 2.0]),
            "hit": [True, False, True],
        },
        "unit",
        [random.normal(size=(length, 2)) for length in LENGTHS],
        ["x", "y"],
    )


def check(found, wanted, *without):
    for name in ("trials", "inputs"):
        pairs = zip(getattr(found, name) or (), getattr(wanted, name) or (), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=1e-6)
    for name in ("names", "channels", "conditions", "input_names", "unit"):
        if name not in without:
            np.testing.assert_equal(getattr(found, name), getattr(wanted, name))
    np.testing.assert_allclose(found.starts, wanted.starts)
    assert found.bin == pytest.approx(wanted.bin)


def netcdf(path, recording):
    recording.to_xarray().to_netcdf(path, engine="h5netcdf")


def csv(path, recording):
    parts = []
    for number, (trial, known) in enumerate(zip(recording.trials, recording.inputs)):
        part = pd.DataFrame(trial.numpy(), columns=recording.channels)
        part[recording.input_names] = known.numpy()
        time = recording.starts[number] + recording.bin * np.arange(len(part))
        side = recording.conditions["side"][number]
        parts.append(part.assign(time=time, trials=recording.names[number], side=side))
    pd.concat(parts).to_csv(path, index=False)


def test_a_recording_is_saved_and_loaded_with_all_that_it_holds(tmp_path):
    recording, path = example(), tmp_path / "säsion.npz"
    recording.save(path)
    check(Recording.load(path), recording)
    check(read_recording(path), recording)
    first = path.read_bytes()
    recording.save(path)
    assert path.read_bytes() == first
    part = recording.split(0.4, 0.3, 0.3, seed=1)[2]
    part.save(path)
    check(Recording.load(path), part)
    plain = Recording([np.ones((3, 2))])
    plain.save(path)
    assert Recording.load(path).inputs is None
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_tables_and_labelled_arrays(tmp_path):
    recording = example()
    netcdf(tmp_path / "a.nc", recording)
    check(read_recording(tmp_path / "a.nc"), recording, "unit")
    csv(tmp_path / "a.csv", recording)
    found = read_recording(tmp_path / "a.csv", inputs=["x", "y"])
    check(found, recording, "unit", "conditions")
    assert found.conditions == {"side": ["L", "R", "L"]}


def test_arrays(tmp_path):
    random = np.random.default_rng(0)
    values, hand = random.normal(size=(2, 5, 3)), random.normal(size=(2, 5, 1))
    trials = [random.normal(size=(length, 3)) for length in LENGTHS]
    cells = np.empty(3, dtype=object)
    cells[:] = trials
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "one.npz", spikes=values, hand=hand)
    np.savez(tmp_path / "many.npz", *trials)
    for compressed in (False, True):
        content = {"spikes": values, "hand": hand, "list": cells, "title": "a session"}
        scipy.io.savemat(tmp_path / "a.mat", content, do_compression=compressed)
        for name, how, wanted in (
            ("a.npy", {}, values),
            ("one.npz", {"inputs": ["hand"]}, values),
            ("one.npz", {"variable": "spikes"}, values),
            ("many.npz", {}, trials),
            ("a.mat", {"variable": "spikes", "inputs": ["hand"]}, values),
            ("a.mat", {"variable": "list"}, trials),
        ):
            found = read_recording(tmp_path / name, 0.1, **how)
            for trial, one in zip(found.trials, wanted, strict=True):
                np.testing.assert_allclose(trial, one, rtol=1e-6)
            assert found.input_names == how.get("inputs", [])
            if found.inputs:
                np.testing.assert_allclose(torch.stack(found.inputs), hand, rtol=1e-6)
    np.save(tmp_path / "single.npy", values[0])
    assert len(read_recording(tmp_path / "single.npy", 0.1)) == 1


def files(folder):
    """A folder of files, of which most are wrong."""
    recording = example()
    recording.save(folder / "good.npz")
    netcdf(folder / "good.nc", recording)
    csv(folder / "good.csv", recording)
    np.savez(folder / "two.npz", a=np.ones((2, 3, 4)), b=np.ones((2, 4, 1)))
    np.save(folder / "words.npy", np.array([["a"]]))
    np.save(folder / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    scipy.io.savemat(folder / "text.mat", {"title": "none"})
    (folder / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512))
    for name in ("empty.npz", "empty.npy", "empty.mat", "empty.nc", "empty.csv", "empty.nwb"):
        (folder / name).write_bytes(b"")
    content = (folder / "good.npz").read_bytes()
    (folder / "cut.npz").write_bytes(content[: len(content) // 2])
    (folder / "changed.npz").write_bytes(content[:99] + b"?" + content[100:])
    (folder / "notime.csv").write_text("tme,trials,a\n0,0,1\n")
    (folder / "folder.npz").mkdir()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("files")
    files(path)
    return path


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        ("good.txt", {}, "none of the endings"),
        ("missing.npz", {}, "cannot be read"),
        ("folder.npz", {}, "folder"),
        ("good.npz", {"bin": 0.1}, "bins of 0.02 s, not 0.1"),
        ("good.nc", {"bin": 0.1}, "bins of 0.02 s, not 0.1"),
        ("good.nc", {"variable": "x"}, "has no array 'x'"),
        ("good.nc", {"inputs": ["z"]}, "no variable 'z'"),
        ("good.csv", {"trials": "trial"}, "'trial' .* did you mean trials"),
        ("good.csv", {"trials": None}, "'side' holds words that change"),
        ("good.csv", {"units": {"a": 1}}, "take no units"),
        ("good.npz", {"trials": "blocks"}, "take no trials"),
        ("words.npy", {"inputs": "x"}, "list of names"),
        ("words.npy", {"bin": 0}, "bin"),
        ("words.npy", {"bin": 0.1}, "must be numbers"),
        ("objects.npy", {"bin": 0.1}, "no .npy file"),
        ("two.npz", {"variable": "a"}, "does not say the width"),
        ("two.npz", {"bin": 0.1, "inputs": ["c"]}, "one of a, b"),
        ("two.npz", {"bin": 0.1, "variable": "c"}, "no array 'c'"),
        ("two.npz", {"bin": 0.1, "inputs": ["b"]}, "other trials or bins"),
        ("text.mat", {"bin": 0.1}, "no array"),
        ("new.mat", {"bin": 0.1}, "-v7"),
        ("notime.csv", {}, "'time' .* did you mean tme"),
        ("cut.npz", {}, "no .npz file"),
        ("changed.npz", {}, r"changed\.npz"),
        *((f"empty.{kind}", {"bin": 0.1}, "empty") for kind in ("npz", "npy", "mat", "nc", "csv")),
        ("empty.nwb", {"bin": 0.1}, "no NWB file"),
    ],
)
def test_what_a_file_lacks_is_told(folder, name, how, words):
    with pytest.raises(ValueError, match=words) as error:
        read_recording(folder / name, **how)
    assert "\n" not in str(error.value)


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="words or numbers"):
        Recording([np.ones((3, 2))], names=[("a", 1j)]).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"saved as \.npz"):
        example().save(tmp_path / "a.nwb")
    (tmp_path / "b.npz").mkdir()
    with pytest.raises(OSError, match="another name"):
        example().save(tmp_path / "b.npz")
    assert [each.name for each in tmp_path.iterdir()] == ["b.npz"]
    np.savez(tmp_path / "c.npz", np.ones((2, 3)))
    with pytest.raises(DataError, match=r"not written by Recording\.save"):
        Recording.load(tmp_path / "c.npz")
