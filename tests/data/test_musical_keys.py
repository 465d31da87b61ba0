"""The key of a roll, and rolls moved to a tonic."""

import pytest
import torch
from seqzoo.data import Polyphonic, estimate_key, midi, read_midi, transpose_to, write_midi

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 11)


def scale(tonic, steps):
    """A scale up from a tonic around middle C, with a chord at the end."""
    roll = torch.zeros(len(steps) + 1, 88, dtype=torch.uint8)
    for frame, step in enumerate(steps):
        roll[frame, 60 - midi.LOWEST + tonic + step] = 1
    for step in (0, steps[2], steps[4], 12):
        roll[-1, 60 - midi.LOWEST + tonic + step] = 1
    return roll


@pytest.mark.parametrize("tonic", range(12))
@pytest.mark.parametrize(("mode", "steps"), [("major", MAJOR), ("minor", MINOR)])
def test_the_key_of_a_scale(tonic, mode, steps):
    assert estimate_key(scale(tonic, steps)) == (tonic, mode)
    moved, semitones = transpose_to(scale(tonic, steps), "C")
    assert -6 <= semitones <= 5
    assert (tonic + semitones) % 12 == 0
    assert torch.equal(moved, scale(tonic + semitones, steps))
    assert estimate_key(transpose_to(scale(tonic, steps), "Bb")[0]) == (10, mode)


def test_chorales_in_any_key_are_found_again(published):
    """The published sets are in C; 96 % of the test chorales are recognised, 12 keys alike."""
    chorales, right = Polyphonic("jsb", "test").sequences, 0
    for number, roll in enumerate(chorales):
        shift = number % 12 - 6
        moved = roll.roll(shift, 1)  # nothing sounds within six semitones of the ends
        right += (estimate_key(moved).tonic - shift) % 12 == 0
    assert right / len(chorales) > 0.95
    assert sum(estimate_key(roll).mode == "minor" for roll in chorales) > 25


def test_a_silent_roll_and_wrong_names():
    silent = torch.zeros(3, 88)
    with pytest.raises(ValueError, match="silent"):
        estimate_key(silent)
    assert transpose_to(silent, "C")[1] == 0
    for name in ("H", "c", "", 0, None, ["C"]):
        with pytest.raises(ValueError, match="a tonic is one of"):
            transpose_to(silent, name)


def test_all_keys_at_once_and_notes_at_the_ends():
    moved, semitones = transpose_to(torch.ones(2, 88), "C")
    assert moved.sum() == 2 * (88 - abs(semitones))


def test_a_file_is_moved(tmp_path):
    song = tmp_path / "song.mid"
    write_midi(song, scale(9, MAJOR), per_beat=1)
    assert torch.equal(read_midi(song, per_beat=1, transpose="C"), scale(12, MAJOR))
    data = midi.MidiFolder(tmp_path, per_beat=1, transpose="D")
    assert torch.equal(data.sequences[0], scale(14, MAJOR))
    with pytest.raises(ValueError, match="a tonic is one of"):
        midi.MidiFolder(tmp_path, per_beat=1, transpose="H")
