"""Damaged MIDI, idx and MATLAB files by the thousand: an answer or one sentence, in bounds."""

import gzip
import io
import resource
import struct
import time
import warnings

import mido
import numpy as np
import pytest
import scipy.io
import torch
from seqzoo.data import DataError, midi, moving_mnist, polyphonic, read_midi, write_midi

from tests import fuzzing

LONGEST = 10.0  # s of one file
MEMORY = 1.5e9  # bytes that all of them may add to the largest size of the process


def song(folder):
    """A file with several tracks, tempi, texts and running status."""
    roll = torch.zeros(40, 88, dtype=torch.uint8)
    for i in range(40):
        roll[i : i + 3, (7 * i) % 88] = 1
    write_midi(folder / "song.mid", roll, step=0.1)
    made = mido.MidiFile(folder / "song.mid")
    made.type = 1
    other = mido.MidiTrack(made.tracks[0][3:9])
    other.insert(0, mido.MetaMessage("text", text="title"))
    other.insert(1, mido.MetaMessage("key_signature", key="D"))
    other.insert(2, mido.Message("sysex", data=[1, 2, 3]))
    other.insert(3, mido.Message("control_change", control=7, value=100))
    made.tracks.append(other)
    made.save(folder / "song.mid")
    return (folder / "song.mid").read_bytes()


def digits():
    """Twelve images, gzipped."""
    header = b"\0\0\x08\3" + struct.pack(">3I", 12, 28, 28)
    return header + np.arange(12 * 784, dtype=np.uint8).tobytes()


def cells(compressed):
    """A MATLAB file of three lists of rolls."""
    made = np.empty((1, 4), dtype=object)
    for i in range(4):
        made[0, i] = np.eye(5 + i, 88, dtype=(np.uint8, np.float64)[i % 2])
    file, names = io.BytesIO(), ("traindata", "validdata", "testdata")
    scipy.io.savemat(file, dict.fromkeys(names, made), do_compression=compressed)
    return file.getvalue()


def gzipped(content):
    return gzip.compress(content, mtime=0)


def read_song(path):
    return read_midi(path, step=0.05)


def read_test(path):
    return polyphonic.read_mat(path, "test")[0]


#: How a whole file is made, what is done to the damaged bytes, and how it is read.
KINDS = {
    "MIDI": (song, bytes, read_song),
    "idx": (lambda _: digits(), gzipped, moving_mnist.read_idx),
    "gzip": (lambda _: gzipped(digits()), bytes, moving_mnist.read_idx),
    "mat": (lambda _: cells(False), bytes, read_test),
    "compressed mat": (lambda _: cells(True), bytes, read_test),
}


def one_word(read, path):
    """Reads a file: an answer, or an error of one sentence that names the file."""
    start, said = time.monotonic(), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert isinstance(read(path), torch.Tensor)
    except DataError as error:
        said = str(error)
    assert said is None or (str(path) in said and "\n" not in said)
    assert time.monotonic() - start < LONGEST


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(tmp_path, kind):
    make, wrap, read = KINDS[kind]
    whole, path = make(tmp_path), tmp_path / "damaged"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for draw in fuzzing.rounds():
        path.write_bytes(wrap(fuzzing.mutate(whole, draw)))
        one_word(read, path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert 1024 * grown < MEMORY


def test_small_files_stay_small(tmp_path):
    """Files that state more than memory holds: refused, and before anything is unpacked."""
    path = tmp_path / "small"
    day = b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\7\xff\xff\xff\x7f\xff\x2f\0"
    lists = cells(True)
    zeros = gzip.compress(bytes(2**26), 1)
    huge = gzip.compress(b"\0\0\x08\3" + struct.pack(">3I", 2**20, 64, 64) + bytes(2**20), 1)
    for content, read, word in (
        (day, read_song, f"more than {midi.LONGEST}"),
        (zeros, moving_mnist.read_idx, "not an idx file"),
        (huge, moving_mnist.read_idx, f"more than the {moving_mnist.LARGEST}"),
        (lists[:128] + bomb(2**29), read_test, "more than 268435456"),
        (lists[:128] + bomb(2**20), read_test, "a list states"),
    ):
        path.write_bytes(content)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(DataError, match=word):
            read(path)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def bomb(size):
    """A compressed list 'testdata' that states ``size`` entries, and nothing but zeros."""
    flags = struct.pack("<4I", 6, 8, 1, 0)
    body = flags + struct.pack("<4I", 5, 8, 1, size) + struct.pack("<2I", 1, 8) + b"testdata"
    packed = gzip.zlib.compress(struct.pack("<2I", 14, size) + body + bytes(2**20), 9)
    return struct.pack("<2I", 15, len(packed)) + packed
