"""MIDI files as piano rolls, and piano rolls as MIDI files.

Time is cut into equal frames, either of seconds (``step``) or of musical time (``per_beat`` frames
a beat, at any tempo). A key sounds in a frame when a note of it sounds at the frame's
middle: both ends of a note move to the nearest frame boundary, and a note that sounds at no
frame's middle is lost. Choose frames no longer than the shortest note that matters.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .checks import check_number, check_real, check_seed
from .dataset import sequences_of
from .files import DataError, read_file, write_whole
from .midi_events import Song, Unreadable, read_song
from .musical_keys import check_tonic, transpose_to
from .polyphonic import KEYS, LOWEST, PianoRolls, check_cuts, check_roll

DRUMS = 9  # the tenth channel: its notes are instruments, not pitches
LARGEST = 2**23  # bytes of a file
LONGEST = 2**20  # frames of a file, 92 MB: one that states more is damaged, or frames are too short
SHOWN = 3  # files that a warning names
SUFFIXES = (".mid", ".midi")
TICKS = 960  # a beat, in the files written
TEMPO = 500_000  # microseconds a beat until a file says otherwise, which is 120 beats a minute
VELOCITY = 80  # how hard keys are struck in the files written: mezzo forte


class Reading(NamedTuple):
    """A roll, and what was skipped in its file: a sentence's end, empty where nothing was."""

    roll: Tensor
    remark: str


def read_midi(
    path: str | PathLike,
    step: float | None = None,
    per_beat: float | None = None,
    transpose: str | None = None,
) -> Tensor:
    """The notes of a MIDI file as a piano roll.

    All tracks and instruments sound together, drums (channel 10) left out. A key sounds from when
    it is struck until it is let go on the same channel and track, however often it is struck in
    between; one that is never let go sounds until its track ends. Loudness and pedals are not read.
    The roll lasts as long as the file, silence at its end included.

    Faults that leave the notes readable are skipped with a warning: a wrong number or length of
    tracks, escape events, values out of range, unknown chunks. A file is read up to 8 MiB, and its
    roll has at most 2^20 frames (92 MB).

    Arguments:
        path: a MIDI file of type 0 or 1.
        step: seconds a frame.
        per_beat: frames a beat, in place of ``step``: 4 gives sixteenths where a beat is a quarter.
        transpose: a tonic such as ``"C"``: the roll is moved there from its own key, which is
            estimated, see ``data.transpose_to``. Models of the published sets expect ``"C"``.

    Returns:
        1 where a key sounds, ``[T, 88]``, uint8; column ``j`` is MIDI note ``21 + j``.

    Warns:
        UserWarning: when something was skipped, or notes outside 21 to 108 were dropped.

    Raises:
        ValueError: unless one of ``step`` and ``per_beat`` is given, and is above 0; or when
            ``transpose`` is no tonic.
        DataError: when the file cannot be read, is cut short or corrupt (with the byte), counts
            time in SMPTE frames or holds unrelated songs (type 2), or is too short or too long for
            such frames.
    """
    roll, remark = _read(path, step, per_beat, transpose, LONGEST)
    if remark:
        warnings.warn(f"{path}: {remark}", stacklevel=2)
    return roll


def _read(
    path: str | PathLike,
    step: float | None,
    per_beat: float | None,
    transpose: str | None,
    most: int,
) -> Reading:
    """The roll of a file, of at most ``most`` frames."""
    scale, unit = _frame(step, per_beat)
    if transpose is not None:
        check_tonic(transpose)
    song = _parse(path)
    notes, last = _notes(song)
    # tick x tempo is whole, so that times are exact until the one division
    clock = _clock(song) if unit == "seconds" else lambda tick: tick
    per_frame = song.division * (1e6 * scale if unit == "seconds" else 1 / scale)

    def frame(tick: int) -> int:
        """The first frame whose middle is at a tick or after it."""
        return math.ceil(round(clock(tick) / per_frame, 6) - 0.5)

    frames = frame(last)
    if last == 0:
        raise DataError(f"{path} holds no music: its tracks end where they begin")
    if frames < 1:
        raise DataError(f"{path} lasts less than half a frame: choose shorter frames")
    if frames > most:
        raise DataError(
            f"{path} lasts {frames} frames, more than {most}: choose longer frames, or check "
            "whether the file is meant to be so long"
        )
    roll = torch.zeros(frames, KEYS, dtype=torch.uint8)
    spans: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    outside = 0
    for note, start, stop in notes:
        if LOWEST <= note < LOWEST + KEYS:
            spans[note - LOWEST].append((frame(start), frame(stop)))
        else:
            outside += 1
    for key, held in spans.items():
        for start, stop in _merged(held):
            roll[start:stop, key] = 1
    remarks = []
    if song.skipped:
        remarks.append("skipped " + ", ".join(f"{k} (byte {at})" for k, at in song.skipped.items()))
    if outside:
        remarks.append(f"{outside} notes outside {LOWEST} to {LOWEST + KEYS - 1} were dropped")
    if transpose is not None:
        before = int(roll.sum())
        roll, semitones = transpose_to(roll, transpose)
        if int(roll.sum()) < before:
            remarks.append(f"notes were dropped that {semitones} semitones move off the keyboard")
    return Reading(roll, "; ".join(remarks))


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of spans, in order: each frame is then painted once, whoever holds the key."""
    spans.sort()
    merged = spans[:1]
    for start, stop in spans[1:]:
        if start > merged[-1][1]:
            merged.append((start, stop))
        elif stop > merged[-1][1]:
            merged[-1] = (merged[-1][0], stop)
    return merged


def write_midi(
    path: str | PathLike,
    roll: Tensor | np.ndarray,
    step: float | None = None,
    per_beat: float | None = None,
) -> None:
    """Writes a piano roll as a MIDI file for piano; ``read_midi`` with the same frames reads it.

    Frames that follow one another with a key sounding become one held note: a roll does not say
    whether the key was struck again. The file is written whole or not at all.

    Arguments:
        path: the file; its folder is made when there is none.
        roll: 1 where a key sounds, 0 elsewhere, ``[T, 88]``.
        step: seconds a frame, 0.0021 or more.
        per_beat: frames a beat, 240 or less, played at 120 beats a minute, in place of ``step``.

    Raises:
        ValueError: when the roll is not one, unless one of ``step`` and ``per_beat`` is given and
            in its range, or when the music is longer than a MIDI file can say.
    """
    import mido

    scale, unit = _frame(step, per_beat)
    ticks = TICKS * (scale / (TEMPO * 1e-6) if unit == "seconds" else 1 / scale)  # a frame
    if ticks < 4:
        raise ValueError(
            f"frames must be at least a {TICKS // 4}th of a beat (0.0021 s), got {step or per_beat}"
        )
    roll = check_roll(roll).numpy()
    if len(roll) > LONGEST or round(len(roll) * ticks) >= 2**28:
        raise ValueError(f"{len(roll)} such frames are longer than a MIDI file can say")
    silence = np.zeros((1, KEYS), dtype=np.int8)
    change = np.diff(roll.astype(np.int8), axis=0, prepend=silence, append=silence)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=TEMPO)])
    now = 0
    for frame, key in np.argwhere(change != 0).tolist():
        tick = round(frame * ticks)
        kind = "note_on" if change[frame, key] > 0 else "note_off"
        note = LOWEST + key
        track.append(mido.Message(kind, note=note, velocity=VELOCITY, time=tick - now))
        now = tick
    # the silence at the end lasts until the track ends
    track.append(mido.MetaMessage("end_of_track", time=round(len(roll) * ticks) - now))
    write_whole(Path(path), mido.MidiFile(type=0, ticks_per_beat=TICKS, tracks=[track]).save)


class _Folder(NamedTuple):
    """What was read: names and rolls in order, the files left out and why, and remarks."""

    names: list[str]
    rolls: list[Tensor]
    skipped: dict[str, str]
    remarks: dict[str, str]


class MidiFolder(PianoRolls):
    """Your own MIDI files as a data set.

    A file of a folder that cannot be read, or in which no note sounds, is left out with a warning
    that counts such files; ``skipped`` has their reasons. A file that is named itself, alone or in
    a list, is refused instead.

    Arguments:
        files: a folder, whose ``.mid`` and ``.midi`` files are taken in the order of their names,
            those in folders within it too, but for names that start with a dot; or one file; or a
            list of files, in its own order.
        step: seconds a frame, see ``read_midi``.
        per_beat: frames a beat, in place of ``step``.
        chunk: cut every sequence into pieces of at most this many frames.
        window: serve every run of this many frames with the frame after it as ``target``.
        seed: seed of the places where rows are cut anew; files do not depend on it.
        device: where the data live.
        recut: cut chunks, or windows that are a stride apart, at other places in every epoch.
        stride: windows begin every so many frames of a sequence, see ``PianoRolls``.
        every_step: ``target`` is the frame after each frame of a window, ``[B, T, 88]``.
        split: read only the files of ``"train"``, ``"validation"`` or ``"test"``; all of them when
            left out. A model can be diagnosed if it was trained on ``"train"``.
        fraction: fraction of the files that go to test, and to validation: at least one each.
        split_seed: seed of the shuffle that splits the files. The split depends on nothing but
            their number and order, ``fraction`` and ``split_seed``; a file that is left out counts.
        transpose: a tonic such as ``"C"``, to which every file is moved, see ``read_midi``.
        max_frames: frames of all files together, at most. A frame takes 88 bytes, twice as many
            while the files are read: 1.5 GB in all unless you raise it.

    Attributes:
        names: the files read, in the order of ``sequences``: in a folder, their paths within it.
        skipped: the files left out, and why: a dictionary from names to sentences.
        remarks: what was skipped within files that were read: from names to sentences.
        sequences: their rolls, ``[T_i, 88]``, uint8.
        frames: frames of these files together.

    Warns:
        UserWarning: once for all files left out, and once for all remarks.

    Raises:
        ValueError: when a number is out of its range, see ``PianoRolls`` and ``read_midi``.
        DataError: when the folder is missing, no file of it can be read, a file that is named
            itself cannot be read or has no note that sounds in any frame, or the files have more
            than ``max_frames`` frames.

    Example:
        >>> train = MidiFolder("songs", step=0.25, chunk=100, split="train")
        >>> train.held_out(5, split="test")  # whole files that ``train`` does not serve
    """

    def __init__(
        self,
        files: str | PathLike | Sequence[str | PathLike],
        step: float | None = None,
        per_beat: float | None = None,
        chunk: int | None = None,
        window: int | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        recut: bool = False,
        stride: int = 1,
        every_step: bool = False,
        split: str | None = None,
        fraction: float = 0.1,
        split_seed: int = 0,
        transpose: str | None = None,
        max_frames: int = 2**23,
    ) -> None:
        self.max_frames = check_number("max_frames", max_frames)
        check_cuts(chunk, window, stride, seed)
        check_seed(split_seed, "split_seed")
        check_real("fraction", fraction, above=0, below=0.5)
        _frame(step, per_beat)
        self.files = str(files) if isinstance(files, str | PathLike) else [str(f) for f in files]
        self.step, self.per_beat, self.transpose = step, per_beat, transpose
        self.split, self.fraction, self.split_seed = split, fraction, split_seed
        self.names, rolls, self.skipped, self.remarks = self._read(split)
        super().__init__(rolls, chunk, window, device, recut, seed, stride, every_step)
        self.split, self.fraction, self.split_seed = split, fraction, split_seed

    def _rolls_of(self, split: str) -> Sequence[Tensor]:
        self._check_split()
        return self._read(split).rolls

    def _read(self, split: str | None) -> _Folder:
        """The files of a split, or all of them."""
        found = _find(self.files)
        if split is not None:
            chosen = sequences_of(split, len(found), self.fraction, self.split_seed)
            found = [found[i] for i in chosen]
        names, rolls, skipped, remarks, left = [], [], {}, {}, self.max_frames
        whole_folder = isinstance(self.files, str) and Path(self.files).expanduser().is_dir()
        for name, path in found:
            try:
                roll, remark = _read(path, self.step, self.per_beat, self.transpose, LONGEST)
                if not roll.any():
                    raise DataError(
                        f"{path} has no note that sounds in a frame (drums are left out): "
                        "leave the file out, or choose shorter frames"
                    )
            except DataError as error:
                if not whole_folder:
                    raise
                skipped[name] = str(error).removeprefix(f"{path} ")
                continue
            left -= len(roll)
            if left < 0:
                raise DataError(
                    f"the files have more than {self.max_frames} frames together: choose longer "
                    "frames or fewer files, or raise max_frames (88 bytes a frame)"
                )
            names.append(name)
            rolls.append(roll)
            if remark:
                remarks[name] = remark
        if not rolls:
            name, why = next(iter(skipped.items()))
            raise DataError(f"none of {len(skipped)} files can be read. The first: {name} {why}")
        kinds = (("left out: ", skipped, " "), ("read with remarks: ", remarks, ": "))
        for what, of, colon in kinds:
            if of:
                few = "; ".join(f"{name}{colon}{why}" for name, why in list(of.items())[:SHOWN])
                few += f"; and {len(of) - SHOWN} more" if len(of) > SHOWN else ""
                counts = f"{len(of)} of {len(found)} files "
                warnings.warn(f"{self.files}: {counts}{what}{few}", stacklevel=3)
        return _Folder(names, rolls, skipped, remarks)


def _find(files: str | PathLike | Sequence[str | PathLike]) -> list[tuple[str, Path]]:
    """The MIDI files asked for, each after the name it goes under."""
    if not isinstance(files, (str, PathLike)):
        if len(files) == 0:
            raise DataError("there is no file: give a folder or a list of MIDI files")
        return [(str(path), Path(path).expanduser()) for path in files]
    place = Path(files).expanduser()
    if not place.exists():
        raise DataError(f"there is no folder or file {place}: check its name")
    if not place.is_dir():
        return [(place.name, place)]
    names = (path.relative_to(place) for path in place.rglob("*") if not path.is_dir())
    found = [
        (name.as_posix(), place / name)
        for name in names
        # a name that starts with a dot is some system's own: a note, a bin of deleted files
        if name.suffix.lower() in SUFFIXES and not any(p.startswith(".") for p in name.parts)
    ]
    if not found:
        raise DataError(f"{place} holds no file that ends in .mid or .midi: check its name")
    return sorted(found)


def _frame(step: float | None, per_beat: float | None) -> tuple[float, str]:
    """How long a frame is, as it was given, and whether in seconds or frames a beat."""
    if (step is None) == (per_beat is None):
        raise ValueError("give either step, in seconds a frame, or per_beat, in frames a beat")
    value = step if step is not None else per_beat
    assert value is not None  # one of them is given
    name = "step" if per_beat is None else "per_beat"
    return check_real(name, value, above=0), "seconds" if per_beat is None else "beats"


def _parse(path: str | PathLike) -> Song:
    """A file whose tracks sound together."""
    try:
        song = read_song(read_file(Path(path).expanduser(), LARGEST))
    except Unreadable as error:
        raise DataError(f"{path} {error}") from error
    if song.kind == 2:
        raise DataError(f"{path} holds unrelated songs (MIDI type 2): save each as its own file")
    if song.division < 0:
        raise DataError(f"{path} counts time in SMPTE frames: save it with ticks a beat")
    return song


def _notes(song: Song) -> tuple[list[tuple[int, int, int]], int]:
    """MIDI note, first tick and last tick of every note, and the tick at which the song ends."""
    notes = []
    for track in song.tracks:
        # a track and channel is one player: two may hold the same key
        held: dict[tuple[int, int], tuple[int, int]] = {}  # when it was first and last struck
        for tick, channel, number, velocity in track.notes:
            if channel == DRUMS:
                continue
            player = channel, number
            if velocity > 0:
                held[player] = held.get(player, (tick, tick))[0], tick
            elif player in held:
                first, last = held.pop(player)
                if first < tick:
                    notes.append((number, first, tick))
                    if last == tick:  # some files let go of a key after striking it again
                        held[player] = tick, tick
        notes.extend((number, first, track.end) for (_, number), (first, _) in held.items())
    return notes, max(track.end for track in song.tracks)


def _clock(song: Song) -> Callable[[int], int]:
    """Time from the start at a tick, in microseconds times ticks a beat: a whole number."""
    changes = sorted(
        (change for track in song.tracks for change in track.tempi), key=lambda change: change[0]
    )
    ticks, tempi, times = [0], [TEMPO], [0]
    for tick, tempo in changes:
        times.append(times[-1] + (tick - ticks[-1]) * tempi[-1])
        ticks.append(tick)
        tempi.append(tempo)

    def clock(tick: int) -> int:
        i = bisect_right(ticks, tick) - 1
        return times[i] + (tick - ticks[i]) * tempi[i]

    return clock
