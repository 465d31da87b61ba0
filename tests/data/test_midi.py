"""MIDI files and piano rolls: there and back, what other programs write, and damaged files."""

import os
import socket
import struct
import time
import warnings

import mido
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seqzoo.data import (
    DataError,
    Dataset,
    MidiFolder,
    dataset,
    midi,
    midi_events,
    read_midi,
    write_midi,
)

A4 = 69 - 21  # the column of a' = 440 Hz


def scale(frames=12):
    """A roll with held notes, chords, both ends of the keyboard, and silence around them."""
    roll = torch.zeros(frames, 88, dtype=torch.uint8)
    roll[2:5, A4] = 1
    roll[4:9, 0] = 1
    roll[6, 87] = roll[8, 87] = 1
    return roll


def save(path, *tracks, type=1, ticks=100):
    """A MIDI file of lists of messages ``(ticks since the last, kind, rest)``."""
    made = [
        mido.MidiTrack(
            mido.MetaMessage(kind, time=time, **rest)
            if kind in ("set_tempo", "end_of_track")
            else mido.Message(kind, time=time, **rest)
            for time, kind, rest in track
        )
        for track in tracks
    ]
    mido.MidiFile(type=type, ticks_per_beat=ticks, tracks=made).save(path)
    return path


def on(time, note=69, velocity=64, channel=0):
    return time, "note_on", {"note": note, "velocity": velocity, "channel": channel}


def off(time, note=69, channel=0):
    return time, "note_off", {"note": note, "channel": channel}


def end(time):
    return time, "end_of_track", {}


def tempo(time, microseconds):
    return time, "set_tempo", {"tempo": microseconds}


def sounding(roll, note=69):
    """The frames in which a note sounds."""
    return roll[:, note - 21].nonzero().flatten().tolist()


@pytest.fixture
def song(tmp_path):
    return tmp_path / "song.mid"


# There and back -------------------------------------------------------------------------------

FRAMES = [
    {"step": 0.1},
    {"step": 0.0021},
    {"step": 1 / 3},
    {"step": 17.3},
    {"per_beat": 4},
    {"per_beat": 0.5},
    {"per_beat": 7},
    {"per_beat": 240},
]


@pytest.mark.parametrize("how", FRAMES, ids=str)
def test_there_and_back(song, how):
    write_midi(song, scale(), **how)
    back = read_midi(song, **how)
    assert back.dtype == torch.uint8
    assert torch.equal(back, scale())


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    notes=st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 9), st.integers(0, 87)), max_size=30
    ),
    silence=st.integers(1, 30),
    step=st.none() | st.floats(0.0021, 10),
    per_beat=st.floats(0.1, 240),
)
def test_there_and_back_whatever_the_roll_and_the_frames(tmp_path, notes, silence, step, per_beat):
    last = max((start + length for start, length, _ in notes), default=0)
    roll = torch.zeros(last + silence, 88, dtype=torch.uint8)
    for start, length, key in notes:
        roll[start : start + length, key] = 1
    how = {"step": step} if step else {"per_beat": per_beat}
    write_midi(tmp_path / "song.mid", roll, **how)
    assert torch.equal(read_midi(tmp_path / "song.mid", **how), roll)


def test_silence_before_between_and_after(song):
    for roll in (torch.zeros(5, 88), torch.zeros(1, 88)):
        write_midi(song, roll, step=0.1)
        assert torch.equal(read_midi(song, step=0.1), roll.to(torch.uint8))


@pytest.mark.parametrize("kind", [torch.float32, torch.bool, torch.int64])
def test_rolls_of_any_kind_of_number(song, kind):
    write_midi(song, scale().to(kind), step=0.1)
    assert torch.equal(read_midi(song, step=0.1), scale())
    write_midi(song, scale().numpy().astype(np.float64), step=0.1)
    assert torch.equal(read_midi(song, step=0.1), scale())


def test_a_long_roll_does_not_drift(song):
    roll = (torch.rand(12_000, 88) < 0.002).to(torch.uint8)
    write_midi(song, roll, step=1 / 30)
    assert torch.equal(read_midi(song, step=1 / 30), roll)


def test_frames_that_follow_one_another_are_one_held_note(song):
    write_midi(song, scale(), step=0.5)
    (track,) = mido.MidiFile(song).tracks
    assert [m.note for m in track if m.type == "note_on"] == [69, 21, 108, 108]
    ticks = np.cumsum([m.time for m in track])
    struck = [t for m, t in zip(track, ticks) if m.type == "note_on" and m.note == 69]
    let_go = [t for m, t in zip(track, ticks) if m.type == "note_off" and m.note == 69]
    assert (struck, let_go) == ([2 * 960], [5 * 960])


def test_seconds_are_seconds(song):
    write_midi(song, scale(), step=0.25)
    assert mido.MidiFile(song).length == pytest.approx(3.0)
    write_midi(song, scale(), per_beat=2)  # at 120 beats a minute
    assert mido.MidiFile(song).length == pytest.approx(3.0)


# What other programs write --------------------------------------------------------------------


def test_a_note_sounds_where_it_sounds_at_the_middle_of_the_frame(song):
    # 100 ticks a frame: middles at 50, 150, 250, ...
    save(song, [on(50), off(100), on(101), off(98), end(201)])  # 50-150, 251-349; ends at 550
    roll = read_midi(song, per_beat=1)
    assert sounding(roll) == [0]
    assert len(roll) == 5
    save(song, [on(49), off(102), on(99), off(1), end(49)])  # 49-151, 250-251; ends at 300
    assert sounding(read_midi(song, per_beat=1)) == [0, 1, 2]


def test_changes_of_tempo(song):
    """A beat of half a second, then beats of a quarter, then of a second."""
    notes = [on(0), off(100), on(100), off(100), on(100), off(100), end(0)]
    save(song, [tempo(200, 250_000), tempo(200, 1_000_000)], notes)
    assert sounding(read_midi(song, per_beat=1)) == [0, 2, 4]
    roll = read_midi(song, step=0.25)
    assert sounding(roll) == [0, 1, 4, 6, 7, 8, 9]
    assert len(roll) == 10


def test_velocity_nought_lets_go(song):
    save(song, [on(0), on(200, velocity=0), end(100)])
    assert sounding(read_midi(song, per_beat=1)) == [0, 1]


def test_drums_are_left_out(song):
    save(song, [on(0, channel=9), off(300, channel=9), on(0), off(100), end(0)])
    assert sounding(read_midi(song, per_beat=1)) == [3]


def test_tracks_and_channels_are_different_players(song):
    """The first to let go of a key does not silence the other."""
    hands = ([on(0), off(100)], [on(0), off(300)])
    save(song, *hands)
    assert sounding(read_midi(song, per_beat=1)) == [0, 1, 2]
    both = [on(0), on(0, channel=1), off(100), off(200, channel=1)]
    save(song, both, type=0)
    assert sounding(read_midi(song, per_beat=1)) == [0, 1, 2]


def test_struck_again_while_it_sounds(song):
    save(song, [on(0), on(100), off(100), on(100), off(100), end(100)])
    assert sounding(read_midi(song, per_beat=1)) == [0, 1, 3]


def test_struck_again_before_it_is_let_go_at_the_same_tick(song):
    save(song, [on(0), on(100), off(0), off(100), end(100)])
    assert sounding(read_midi(song, per_beat=1)) == [0, 1]


def test_a_note_of_no_length_and_a_stray_end(song):
    save(song, [off(0), on(50), off(0), off(100, note=70), end(150)])
    roll = read_midi(song, per_beat=1)
    assert not roll.any()
    assert len(roll) == 3


def test_a_note_that_is_never_let_go_sounds_until_its_track_ends(song):
    save(song, [on(100), end(200)], [end(500)])
    roll = read_midi(song, per_beat=1)
    assert sounding(roll) == [1, 2]
    assert len(roll) == 5


def test_notes_off_the_keyboard_are_dropped_with_a_warning(song):
    save(
        song, [on(0), on(0, note=20), on(0, note=109), off(100), off(0, note=20), off(0, note=109)]
    )
    with pytest.warns(UserWarning, match=r"song\.mid: 2 notes outside 21 to 108 were dropped"):
        roll = read_midi(song, per_beat=1)
    assert roll.sum() == 1
    save(song, [on(0, note=21), on(0, note=108), end(100)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_midi(song, per_beat=1)[0, [0, 87]].tolist() == [1, 1]


# What programs write that is wrong ------------------------------------------------------------


def raw(events, stated=None, counted=1, ticks=100, after=b"", more=()):
    """The bytes of a file whose events sound note 69 in frame 1 of a beat a frame."""
    header = b"MThd\0\0\0\6\0\1" + struct.pack(">hh", counted, ticks)
    tracks = b""
    for track in (events, *more):
        size = len(track) if stated is None else stated
        tracks += b"MTrk" + struct.pack(">I", size) + track
    return header + tracks + after


NOTE = b"\x64\x90\x45\x40\x64\x80\x45\x40"  # ticks 100 to 200
END = b"\x64\xff\x2f\0"  # at tick 300
QUIRKS = {
    "escape": (raw(b"\0\xf7\2\x01\x02" + NOTE + END), "an escape event"),
    "11 sharps": (raw(b"\0\xff\x59\2\x0b\0" + NOTE + END), "a key signature that is none"),
    "key mode 7": (raw(b"\0\xff\x59\2\0\7" + NOTE + END), "a key signature"),
    "short key": (raw(b"\0\xff\x59\1\0" + NOTE + END), "a key signature"),
    "controller 255": (raw(b"\0\xb0\7\xff" + NOTE + END), "controller values above 127"),
    "program 200": (raw(b"\0\xc0\xc8" + NOTE + END), "program numbers above 127"),
    "pitch bend": (raw(b"\0\xe0\xff\xff" + NOTE + END), "pitch bends above 127"),
    "note 200": (raw(b"\0\x90\xc8\x40" + NOTE + END), "notes of a number above 127"),
    "velocity 255": (raw(NOTE.replace(b"\x90\x45\x40", b"\x90\x45\xff") + END), "velocities"),
    "tempo 0": (raw(b"\0\xff\x51\3\0\0\0" + NOTE + END), "a tempo of 0"),
    "short tempo": (raw(b"\0\xff\x51\2\0\1" + NOTE + END), "a tempo cut short"),
    "real time": (raw(b"\0\xf8" + NOTE + END), "a system event"),
    "song position": (raw(b"\0\xf2\1\2" + NOTE + END), "a system event"),
    "meta 130": (raw(b"\0\xff\x82\1\0" + NOTE + END), "a meta event of an unknown kind"),
    "too few counted": (raw(b"\0\xff\x2f\0", counted=1, more=(NOTE + END,)), "counts 1 tracks"),
    "none counted": (raw(NOTE + END, counted=0), "counts 0 tracks where there are 1"),
    "too many counted": (raw(NOTE + END, counted=7), "counts 7 tracks where there are 1"),
    "no end": (raw(NOTE + b"\x64\xff\x01\0"), "the missing end of a track"),
    "events after the end": (raw(NOTE + END + b"\0\x90\x30\x40"), "events after the end"),
    "length of 0": (raw(NOTE + END, stated=0), "the wrong length of a track"),
    "length too long": (raw(NOTE + END, stated=99), "the wrong length of a track"),
    "length too short": (raw(NOTE + END, stated=6), "the wrong length of a track"),
    "lengths of two": (raw(NOTE + END, 40, 2, more=(NOTE + END,)), "the wrong length of a track"),
    "zeros at the end": (raw(NOTE + END, after=bytes(50)), "bytes after a track"),
    "a byte at the end": (raw(NOTE + END, after=b"\x1a"), "bytes after the last track"),
    "unknown chunk": (raw(NOTE + END, after=b"XFIH\0\0\0\1\0"), "an unknown chunk"),
    "RIFF": (b"RIFF\0\0\0\0RMIDdata\0\0\0\0" + raw(NOTE + END), "bytes before the header"),
}


@pytest.mark.parametrize(("content", "remark"), QUIRKS.values(), ids=QUIRKS.keys())
@pytest.mark.parametrize("how", [{"per_beat": 1}, {"step": 0.5}], ids=["beats", "seconds"])
def test_faults_that_leave_the_notes_are_skipped_and_named(song, content, remark, how):
    song.write_bytes(content)
    with pytest.warns(UserWarning, match=rf"song\.mid: skipped .*{remark}.*\(byte \d+\)"):
        roll = read_midi(song, **how)
    assert sounding(roll) == [1]
    assert len(roll) == 3


SOUND = {
    "running status": NOTE[:4] + b"\x64\x45\0",
    "running status after text": NOTE[:4] + b"\0\xff\1\2\xff\xfe\x64\x45\0",
    "running status after a sysex": NOTE[:4] + b"\0\xf0\2\1\xf7\x64\x45\0",
    "text in any encoding": b"\0\xff\3\4\xff\x81\x8d\0" + NOTE,
    "a long sysex": b"\0\xf0\x81\0" + bytes(128) + NOTE,
    "a tempo of four bytes": b"\0\xff\x51\4\x07\xa1\x20\0" + NOTE,
    "a long end": NOTE + b"\x64\xff\x2f\2\0\0",
}


@pytest.mark.parametrize("events", SOUND.values(), ids=SOUND.keys())
def test_files_that_are_right_are_read_without_a_word(song, events):
    song.write_bytes(raw(events if events[-1:] == b"\0" and b"\x2f\2" in events else events + END))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        roll = read_midi(song, step=0.5)
    assert sounding(roll) == [1]
    assert len(roll) == 3


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.randoms(use_true_random=False), st.integers(0, 1))
def test_events_are_those_that_mido_reads(tmp_path, random, kind):
    track = mido.MidiTrack()
    for _ in range(30):
        time, number = random.choice((0, 1, 130, 20_000)), random.randrange(128)
        track.append(
            random.choice(
                (
                    mido.Message("note_on", note=number, velocity=random.randrange(128), time=time),
                    mido.Message("note_off", note=number, channel=3, time=time),
                    mido.Message("control_change", control=number, value=7, time=time),
                    mido.Message("program_change", program=number, time=time),
                    mido.Message("pitchwheel", pitch=-number, time=time),
                    mido.Message("sysex", data=[number] * 3, time=time),
                    mido.MetaMessage("set_tempo", tempo=1 + number, time=time),
                    mido.MetaMessage("text", text="x" * number, time=time),
                    mido.MetaMessage("key_signature", key="F#m", time=time),
                )
            )
        )
    mido.MidiFile(type=kind, ticks_per_beat=100, tracks=[track]).save(tmp_path / "song.mid")
    song = midi_events.read_song((tmp_path / "song.mid").read_bytes())
    ((notes, tempi, end),) = song.tracks
    ticks = np.cumsum([message.time for message in track]).tolist()
    assert not song.skipped
    assert end == ticks[-1]
    assert tempi == [(t, m.tempo) for t, m in zip(ticks, track) if m.type == "set_tempo"]
    assert notes == [
        (t, m.channel, m.note, m.velocity if m.type == "note_on" else 0)
        for t, m in zip(ticks, track)
        if m.type in ("note_on", "note_off")
    ]


# Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"step": 0.1, "per_beat": 4}])
def test_one_length_of_frame(song, how):
    with pytest.raises(ValueError, match="give either step, in seconds a frame, or per_beat"):
        read_midi(song, **how)
    with pytest.raises(ValueError, match="give either step, in seconds a frame, or per_beat"):
        write_midi(song, scale(), **how)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["step", "per_beat"])
def test_a_frame_has_a_length(song, name, value):
    with pytest.raises(ValueError, match=rf"{name} must be (above 0|a finite number)"):
        read_midi(song, **{name: value})
    with pytest.raises(ValueError, match=rf"{name} must be (above 0|a finite number)"):
        write_midi(song, scale(), **{name: value})


@pytest.mark.parametrize(
    ("roll", "how", "message"),
    [
        (torch.zeros(3, 87), {"step": 0.1}, r"must be \[T, 88\]"),
        (torch.zeros(0, 88), {"step": 0.1}, r"must be \[T, 88\]"),
        (torch.full((3, 88), 0.5), {"step": 0.1}, "nothing but 0"),
        (torch.full((3, 88), float("nan")), {"step": 0.1}, "nothing but 0"),
        (scale(), {"step": 0.002}, "at least a 240th of a beat"),
        (scale(), {"per_beat": 241}, "at least a 240th of a beat"),
        (scale(), {"step": 1e5}, "12 such frames are longer than a MIDI file can say"),
    ],
)
def test_what_cannot_be_written_leaves_the_old_file(song, roll, how, message):
    write_midi(song, scale(), step=0.1)
    before = song.read_bytes()
    with pytest.raises(ValueError, match=message):
        write_midi(song, roll, **how)
    assert song.read_bytes() == before


def test_writing_is_whole_or_not_at_all(song, monkeypatch):
    write_midi(song, scale(), step=0.1)
    before = song.read_bytes()

    def fails(self, path):
        path.write_bytes(b"MThd")
        raise OSError("disk full")

    monkeypatch.setattr(mido.MidiFile, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        write_midi(song, scale(20), step=0.1)
    assert song.read_bytes() == before
    assert list(song.parent.iterdir()) == [song]


def test_the_folder_of_a_new_file_is_made(tmp_path):
    write_midi(tmp_path / "new" / "song.mid", scale(), step=0.1)
    assert torch.equal(read_midi(tmp_path / "new" / "song.mid", step=0.1), scale())


def test_every_truncated_file_is_named(song):
    write_midi(song, scale(), step=0.1)
    whole = song.read_bytes()
    for size in range(len(whole)):
        song.write_bytes(whole[:size])
        kind = "not a MIDI file" if size < 4 else r"cut short .*at byte \d+"
        with pytest.raises(DataError, match=rf"song\.mid is {kind}"):
            read_midi(song, step=0.1)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 95), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_files_read_or_say_so(tmp_path, changes):
    path = tmp_path / "song.mid"
    write_midi(path, scale(), step=0.1)
    content = bytearray(path.read_bytes())
    for at, byte in changes:
        content[at % len(content)] = byte
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            answer = read_midi(path, step=0.1).shape[1]
        except DataError as error:
            answer = str(error)
    assert answer == 88 or "song.mid" in answer


HEADER = b"MThd\0\0\0\6"
TRACK = b"MTrk\0\0\0\4\0\xff\x2f\0"
BAD_FILES = {
    "not MIDI": (b"<html>not found</html>", "not a MIDI file"),
    "no track": (HEADER + b"\0\1\0\0\0\x60", "no track follows its header, at byte 0"),
    "no ticks": (HEADER + b"\0\1\0\1\0\0" + TRACK, "its header makes no sense"),
    "unknown type": (HEADER + b"\0\5\0\1\0\x60" + TRACK, "its header makes no sense"),
    "songs": (HEADER + b"\0\2\0\1\0\x60" + TRACK, "unrelated songs"),
    "SMPTE": (HEADER + b"\0\1\0\1\xe7\x28" + TRACK, "counts time in SMPTE frames"),
    "no time": (HEADER + b"\0\1\0\1\0\x60" + TRACK, "holds no music"),
    "endless delta": (
        HEADER + b"\0\1\0\1\0\x60" + b"MTrk\0\0\x0b\xbc" + b"\xff" * 3000 + b"\1\xff\x2f\0",
        "a number of more than four bytes, at byte 22",
    ),
    "a day": (
        HEADER + b"\0\1\0\1\0\x60" + b"MTrk\0\0\0\7" + b"\xff\xff\xff\x7f\xff\x2f\0",
        "frames, more than 1048576: choose longer frames",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files_give_a_clear_error(song, content, message):
    song.write_bytes(content)
    with pytest.raises(DataError, match=rf"song\.mid .*({message})"):
        read_midi(song, step=0.1)


CUT = {
    "within a delta": (NOTE + b"\x81", 31),
    "within an event": (NOTE + b"\0\x90\x45", 32),
    "within a text": (NOTE + b"\0\xff\1\x20abc", 34),
    "without an end": (NOTE, 30),
}


@pytest.mark.parametrize(("events", "byte"), CUT.values(), ids=CUT.keys())
def test_what_is_cut_is_refused_with_the_byte(song, events, byte):
    song.write_bytes(raw(events, stated=200))
    with pytest.raises(DataError, match=rf"song\.mid is cut short .*at byte {byte}\)"):
        read_midi(song, step=0.5)


@pytest.mark.parametrize("events", [b"\0\x45\x40", b"\0\xf4\0", b"\xff\xff\xff\xff\0\x90"])
def test_what_is_garbled_is_refused_with_the_byte(song, events):
    song.write_bytes(raw(events + NOTE + END))
    with pytest.raises(DataError, match=r"song\.mid is corrupt .*at byte 22\)"):
        read_midi(song, step=0.5)


def test_many_held_notes_take_no_longer_than_their_bytes(song):
    long = b"\xff\xff\x7f"
    held = b"".join(bytes((0, 0x90 | c, n, 64)) for c in range(9) for n in range(21, 109))
    again = b"".join(b"\0\x90\x45\x40" for _ in range(20_000))
    song.write_bytes(raw(held + again + 40 * (long + b"\xff\1\0") + END))
    start = time.process_time()
    roll = read_midi(song, per_beat=1)
    assert roll.all()
    assert len(roll) > 800_000
    assert time.process_time() - start < 5


def test_many_wrong_lengths_take_no_longer_than_their_bytes(song):
    """Tracks without an end, each of which could be read on as events to the end of the file."""
    track = b"MTrk\0\0\0\4\0\x90\x45\x40XFIH\0\0\0\1\0"
    song.write_bytes(raw(NOTE + END, after=15_000 * track))
    start = time.process_time()
    with pytest.warns(UserWarning, match="the missing end of a track"):
        read_midi(song, step=0.5)
    assert time.process_time() - start < 5


def test_a_pipe_a_socket_a_device_and_a_folder_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mid")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.mid"))
    for path in (tmp_path / "pipe.mid", tmp_path / "socket.mid", "/dev/zero", tmp_path):
        with pytest.raises(DataError, match=r"cannot be read \(it is a"):
            read_midi(path, step=0.1)
    with pytest.raises(DataError, match=r"cannot be read \(it is a pipe"):
        MidiFolder(tmp_path / "pipe.mid", step=0.1)
    with pytest.raises(DataError, match="cannot be read"):
        read_midi("a\0b", step=0.1)


def test_a_large_file_is_refused_before_it_is_read(song):
    with song.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataError, match="more than the 8388608 that are read"):
        read_midi(song, step=0.1)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none\.mid cannot be read \(No such file"):
        read_midi(tmp_path / "none.mid", step=0.1)


# A folder of files ----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for name, frames in (("b.mid", 12), ("a.MIDI", 20), ("more/c.mid", 15)):
        write_midi(tmp_path / name, scale(frames), step=0.1)
    (tmp_path / "notes.txt").write_text("not music")
    (tmp_path / "._b.mid").write_bytes(b"what macOS leaves behind")
    (tmp_path / "folder.mid").mkdir()
    return tmp_path


def test_a_folder_is_a_data_set(folder):
    data = MidiFolder(folder, step=0.1)
    assert isinstance(data, Dataset)
    assert data.names == ["a.MIDI", "b.mid", "more/c.mid"]
    assert [len(roll) for roll in data.sequences] == [20, 12, 15]
    assert torch.equal(data.sequences[1], scale())
    assert data.batch().obs.shape == (3, 20, 88)
    assert data.frames == 47


def test_chunks_windows_and_beats_of_a_folder(folder):
    assert len(MidiFolder(str(folder), step=0.1, chunk=10)) == 2 + 2 + 2
    assert len(MidiFolder(folder, step=0.1, window=10, seed=3)) == 10 + 2 + 5
    assert [len(r) for r in MidiFolder(folder, per_beat=5).sequences] == [20, 12, 15]


def test_one_file_and_a_list_of_files(folder):
    assert MidiFolder(folder / "b.mid", step=0.1).names == ["b.mid"]
    files = [folder / "more/c.mid", str(folder / "b.mid"), folder / "b.mid"]
    data = MidiFolder(files, step=0.1)
    assert [len(roll) for roll in data.sequences] == [15, 12, 12]
    assert data.names == [str(file) for file in files]


def test_nothing_to_read(folder, tmp_path):
    with pytest.raises(DataError, match=r"there is no folder or file .*nowhere: check its name"):
        MidiFolder(tmp_path / "nowhere", step=0.1)
    with pytest.raises(DataError, match=r"folder\.mid holds no file that ends in \.mid or \.midi"):
        MidiFolder(folder / "folder.mid", step=0.1)
    with pytest.raises(DataError, match="there is no file: give a folder"):
        MidiFolder([], step=0.1)
    with pytest.raises(DataError, match=r"gone\.mid cannot be read"):
        MidiFolder([folder / "gone.mid"], step=0.1)


def test_a_folder_reports_broken_links_and_passes_over_hidden_folders(folder):
    (folder / ".Trash").mkdir()
    (folder / ".Trash" / "d.mid").write_bytes((folder / "b.mid").read_bytes())
    (folder / "away.mid").symlink_to(folder / "gone.mid")
    os.mkfifo(folder / "pipe.mid")
    with pytest.warns(UserWarning, match="2 of 5 files left out"):
        data = MidiFolder(folder, step=0.1)
    assert data.names == ["a.MIDI", "b.mid", "more/c.mid"]
    assert data.skipped.keys() == {"away.mid", "pipe.mid"}


@pytest.mark.parametrize("fault", ["cut short", "no note that sounds"])
def test_a_folder_leaves_out_files_and_says_how_many(folder, fault):
    path = folder / "more/c.mid"
    if fault == "cut short":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        write_midi(path, torch.zeros(9, 88), step=0.1)
    with pytest.warns(UserWarning, match=rf"1 of 3 files left out: more/c\.mid .*{fault}"):
        data = MidiFolder(folder, step=0.1)
    assert data.names == ["a.MIDI", "b.mid"]
    assert list(data.skipped) == ["more/c.mid"]
    with pytest.raises(DataError, match=rf"more/c\.mid .*{fault}"):  # it was asked for itself
        MidiFolder([folder / "b.mid", path], step=0.1)
    for other in ("a.MIDI", "b.mid"):
        (folder / other).write_bytes(b"")
    with pytest.raises(DataError, match=r"none of 3 files can be read.* a\.MIDI is not a MIDI"):
        MidiFolder(folder, step=0.1)


def test_a_split_stays_when_a_file_is_left_out(folder):
    names = {split: MidiFolder(folder, step=0.1, split=split).names for split in dataset.SPLITS}
    (lost,) = names["validation"]
    (folder / lost).write_bytes(b"")
    for split in ("train", "test"):
        assert MidiFolder(folder, step=0.1, split=split).names == names[split]


def test_a_folder_collects_remarks(folder):
    path = folder / "b.mid"
    path.write_bytes(path.read_bytes() + b"\0\0")
    with pytest.warns(UserWarning, match=r"1 of 3 files read with remarks: b\.mid: skipped bytes"):
        data = MidiFolder(folder, step=0.1)
    assert list(data.remarks) == ["b.mid"]
    assert len(data.names) == 3


def test_frames_of_a_folder_are_bounded(folder):
    assert MidiFolder(folder, step=0.1, max_frames=47).frames == 47
    with pytest.raises(DataError, match="more than 46 frames together"):
        MidiFolder(folder, step=0.1, max_frames=46)


def test_the_lowest_column_is_the_lowest_key(song):
    save(song, [on(0, note=midi.LOWEST), end(100)])
    assert read_midi(song, per_beat=1)[0].nonzero().flatten().tolist() == [0]
