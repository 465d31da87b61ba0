"""MIDI files as piano rolls, and piano rolls as MIDI files.

Time is cut into equal frames, either of seconds (``step``) or of musical time (``per_beat`` frames
a beat, at any tempo). A key sounds in a frame when a note of it sounds at the frame's
middle: both ends of a note move to the nearest frame boundary, and a note that sounds at no
frame's middle is lost. Choose frames no longer than the shortest note that matters.
"""

from __future__ import annotations

import io
import math
import warnings
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .dataset import sequences_of
from .fetch import DataError
from .files import write_whole
from .polyphonic import KEYS, LOWEST, PianoRolls, check_roll

if TYPE_CHECKING:
    from mido import MidiFile

DRUMS = 9  # the tenth channel: its notes are instruments, not pitches
LONGEST = 2**22  # frames; a file that states more is damaged or its frames are far too short
SUFFIXES = (".mid", ".midi")
TICKS = 960  # a beat, in the files written
TEMPO = 500_000  # microseconds a beat until a file says otherwise, which is 120 beats a minute
VELOCITY = 80  # how hard keys are struck in the files written: mezzo forte


def read_midi(
    path: str | PathLike, step: float | None = None, per_beat: float | None = None
) -> Tensor:
    """The notes of a MIDI file as a piano roll.

    All tracks and instruments sound together, drums (channel 10) left out. A key sounds from when
    it is struck until it is let go on the same channel and track, however often it is struck in
    between; one that is never let go sounds until its track ends. Loudness and pedals are not read.
    The roll lasts as long as the file, silence at its end included.

    Arguments:
        path: a MIDI file of type 0 or 1.
        step: seconds a frame.
        per_beat: frames a beat, in place of ``step``: 4 gives sixteenths where a beat is a quarter.

    Returns:
        1 where a key sounds, ``[T, 88]``, uint8; column ``j`` is MIDI note ``21 + j``.

    Warns:
        UserWarning: when notes outside 21 to 108 were dropped.

    Raises:
        ValueError: unless one of ``step`` and ``per_beat`` is given, and is above 0.
        DataError: when the file cannot be read, is corrupt or cut short, counts time in SMPTE
            frames or holds unrelated songs (type 2), or is too short or too long for such frames.
    """
    scale, unit = _frame(step, per_beat)
    song = _parse(path)
    notes, last = _notes(song)
    # tick x tempo is whole, so that times are exact until the one division
    clock = _clock(song) if unit == "seconds" else lambda tick: tick
    per_frame = song.ticks_per_beat * (1e6 * scale if unit == "seconds" else 1 / scale)

    def frame(tick: int) -> int:
        """The first frame whose middle is at a tick or after it."""
        return math.ceil(round(clock(tick) / per_frame, 6) - 0.5)

    frames = frame(last)
    if frames < 1:
        raise DataError(f"{path} lasts less than half a frame: choose shorter frames")
    if frames > LONGEST:
        raise DataError(
            f"{path} lasts {frames} frames, more than {LONGEST}: choose longer frames, or get the "
            "file anew if it should be short"
        )
    roll = torch.zeros(frames, KEYS, dtype=torch.uint8)
    outside = 0
    for note, start, stop in notes:
        if LOWEST <= note < LOWEST + KEYS:
            roll[frame(start) : frame(stop), note - LOWEST] = 1
        else:
            outside += 1
    if outside:
        warnings.warn(
            f"{path}: {outside} notes outside {LOWEST} to {LOWEST + KEYS - 1} were dropped",
            stacklevel=2,
        )
    return roll


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


class MidiFolder(PianoRolls):
    """Your own MIDI files as a data set.

    Arguments:
        files: a folder, whose ``.mid`` and ``.midi`` files are taken in the order of their names,
            those in folders within it too; or one file; or a list of files, in its own order.
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
            their number and order, ``fraction`` and ``split_seed``.

    Attributes:
        names: the files read, in the order of ``sequences``: in a folder, their paths within it.
        sequences: their rolls, ``[T_i, 88]``, uint8.
        frames: frames of these files together.

    Raises:
        ValueError: when a number is out of its range, see ``PianoRolls`` and ``read_midi``.
        DataError: when the folder or a file is missing, the folder holds no MIDI file, a file is
            corrupt or cut short, or no note of a file sounds in any frame.

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
    ) -> None:
        self.files = str(files) if isinstance(files, str | PathLike) else [str(f) for f in files]
        self.step, self.per_beat = step, per_beat
        found = _find(files)
        if split is not None:
            found = [found[i] for i in sequences_of(split, len(found), fraction, split_seed)]
        self.names = [name for name, _ in found]
        rolls = [_sounding(path, step, per_beat) for _, path in found]
        super().__init__(rolls, chunk, window, device, recut, seed, stride, every_step)
        self.split, self.fraction, self.split_seed = split, fraction, split_seed

    def _rolls_of(self, split: str) -> Sequence[Tensor]:
        self._check_split()
        found = _find(self.files)
        chosen = sequences_of(split, len(found), self.fraction, self.split_seed)
        return [_sounding(found[i][1], self.step, self.per_beat) for i in chosen]


def _sounding(path: Path, step: float | None, per_beat: float | None) -> Tensor:
    """The roll of a file in which a note sounds."""
    roll = read_midi(path, step, per_beat)
    if not roll.any():
        raise DataError(
            f"{path} has no note that sounds in a frame (drums are left out): "
            "leave the file out, or choose shorter frames"
        )
    return roll


def _find(files: str | PathLike | Sequence[str | PathLike]) -> list[tuple[str, Path]]:
    """The MIDI files asked for, each after the name it goes under."""
    if not isinstance(files, (str, PathLike)):
        if len(files) == 0:
            raise DataError("there is no file: give a folder or a list of MIDI files")
        return [(str(path), Path(path).expanduser()) for path in files]
    place = Path(files).expanduser()
    if place.is_file():
        return [(place.name, place)]
    if not place.is_dir():
        raise DataError(f"there is no folder or file {place}: check its name")
    found = [
        (path.relative_to(place).as_posix(), path)
        for path in place.rglob("*")
        # a name that starts with a dot is some system's own note, not music
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
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
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be above 0 and finite, got {value}")
    return value, "seconds" if per_beat is None else "beats"


def _parse(path: str | PathLike) -> MidiFile:
    """A file as mido reads it."""
    import mido

    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its name") from error
    try:
        song = mido.MidiFile(file=io.BytesIO(content))
    except Exception as error:  # mido raises exceptions of many kinds
        raise DataError(f"{path} is corrupt, cut short or not a MIDI file: get it anew") from error
    if song.type == 2:
        raise DataError(f"{path} holds unrelated songs (MIDI type 2): save each as its own file")
    if song.ticks_per_beat < 0:
        raise DataError(f"{path} counts time in SMPTE frames: save it with ticks a beat")
    if song.type not in (0, 1) or song.ticks_per_beat == 0 or not song.tracks:
        raise DataError(f"{path} is corrupt (its header makes no sense): get it anew")
    if any(message.time >= 2**28 for track in song.tracks for message in track):
        raise DataError(f"{path} is corrupt (a time is longer than the format has): get it anew")
    return song


def _notes(song: MidiFile) -> tuple[list[tuple[int, int, int]], int]:
    """MIDI note, first tick and last tick of every note, and the tick at which the song ends."""
    notes, last = [], 0
    for track in song.tracks:
        # a track and channel is one player: two may hold the same key
        held: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        tick = 0
        for message in track:
            tick += message.time
            if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
                continue
            starts = held[message.channel, message.note]
            if message.type == "note_on" and message.velocity > 0:
                starts.append(tick)
                continue
            # some files let go of a key after striking it again at the same tick
            before = [start for start in starts if start < tick]
            if before:
                notes.append((message.note, before[0], tick))
            held[message.channel, message.note] = starts[len(before) :] if before else []
        for (_, note), starts in held.items():
            notes.extend((note, start, tick) for start in starts[:1])
        last = max(last, tick)
    return notes, last


def _clock(song: MidiFile) -> Callable[[int], int]:
    """Time from the start at a tick, in microseconds times ticks a beat: a whole number."""
    changes = sorted(_tempi(song), key=lambda change: change[0])
    ticks, tempi, times = [0], [TEMPO], [0]
    for tick, tempo in changes:
        times.append(times[-1] + (tick - ticks[-1]) * tempi[-1])
        ticks.append(tick)
        tempi.append(tempo)

    def clock(tick: int) -> int:
        i = bisect_right(ticks, tick) - 1
        return times[i] + (tick - ticks[i]) * tempi[i]

    return clock


def _tempi(song: MidiFile) -> Iterator[tuple[int, int]]:
    """The ticks at which the tempo changes, and the new one in microseconds a beat."""
    for track in song.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "set_tempo":
                yield tick, message.tempo
