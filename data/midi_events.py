"""The notes and the tempi of a MIDI file, event by event.

The format is that of *Standard MIDI Files 1.0* (MIDI Manufacturers Association, 1996). Files that
programs really write break it in many ways. What does not change the notes is skipped, and counted
in ``Song.skipped``; a file that is cut off or garbled is refused with the byte where it happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

#: Data bytes of the channel events 8n to En, and of the system events that no file should hold.
CHANNEL = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}
SYSTEM = {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, **dict.fromkeys(range(0xF8, 0xFF), 0)}
NAMES = {
    0xA: "key pressures",
    0xB: "controller values",
    0xC: "program numbers",
    0xD: "channel pressures",
    0xE: "pitch bends",
}
SEARCHED = 1024  # bytes in which the header must begin: some programs write one of their own first


class Unreadable(ValueError):
    """The bytes are no MIDI file that can be read. The message follows the name of a file."""


class Garbled(ValueError):
    """Bytes that are no event. Arguments: what is wrong, and the byte where."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(reason)
        self.reason, self.at = reason, at


class Cut(Garbled):
    """The bytes end within an event, or before the event that ends a track."""


class Note(NamedTuple):
    """A key struck, or let go where the velocity is 0."""

    tick: int
    channel: int
    number: int
    velocity: int


class Track(NamedTuple):
    """One track: its notes, its tempi ``(tick, microseconds a beat)`` and the tick of its end."""

    notes: list[Note]
    tempi: list[tuple[int, int]]
    end: int


class Song(NamedTuple):
    """A MIDI file.

    Attributes:
        kind: 0 (one track), 1 (tracks together) or 2 (unrelated songs).
        division: ticks a beat; negative where time is counted in SMPTE frames.
        tracks: the tracks.
        skipped: what was passed over, and the byte of the first of its kind.
    """

    kind: int
    division: int
    tracks: list[Track]
    skipped: dict[str, int]


class _Reader:
    """Reads the events of one track from ``start`` to before ``stop``."""

    def __init__(self, content: bytes, start: int, stop: int) -> None:
        self.content, self.at, self.stop = content, start, stop
        self.skipped: dict[str, int] = {}  # what was passed over, and the byte of the first
        self.finished = False  # whether the event that ends a track was read

    def track(self) -> Track:
        """The events up to the end of the track, or to ``stop``."""
        notes, tempi, tick, running = [], [], 0, None
        while self.at < self.stop and not self.finished:
            begin = self.at
            tick += self.number()
            status = self.byte()
            if status < 0x80:
                if running is None:
                    raise Garbled("an event of no kind", begin)
                self.at -= 1
                status = running
            if status == 0xFF:
                self.meta(begin, tick, tempi)
            elif status in (0xF0, 0xF7):
                if status == 0xF7:
                    self.skip("an escape event (F7)", begin)
                self.take(self.number())
            elif status > 0xEF:
                if status not in SYSTEM:
                    raise Garbled(f"an event of the unknown kind {status:X}", begin)
                self.skip(f"a system event ({status:X})", begin)
                self.take(SYSTEM[status])
            else:
                running = status
                data = self.take(CHANNEL[status >> 4])
                note = self.channel_event(begin, tick, status, data)
                if note:
                    notes.append(note)
        return Track(notes, tempi, tick)

    def channel_event(self, begin: int, tick: int, status: int, data: bytes) -> Note | None:
        """A note that is struck or let go; None for other events."""
        kind, channel = status >> 4, status & 15
        if kind not in (8, 9):
            if max(data) > 127:
                self.skip(f"{NAMES[kind]} above 127", begin)
            return None
        number, velocity = data
        if number > 127:
            self.skip("notes of a number above 127", begin)
            return None
        if velocity > 127:
            self.skip("velocities above 127 (taken for 127)", begin)
        return Note(tick, channel, number, velocity if kind == 9 else 0)

    def meta(self, begin: int, tick: int, tempi: list[tuple[int, int]]) -> None:
        """Reads what is no sound: the end of the track, tempi, signatures, text."""
        kind, data = self.byte(), self.take(self.number())
        if kind == 0x2F:
            self.finished = True
        elif kind == 0x51:
            tempo = int.from_bytes(data[:3])
            if len(data) < 3 or tempo == 0:
                self.skip("a tempo of 0" if len(data) >= 3 else "a tempo cut short", begin)
            else:
                tempi.append((tick, tempo))
        elif kind == 0x59:
            sharps = int.from_bytes(data[:1], signed=True)
            if len(data) < 2 or abs(sharps) > 7 or data[1] > 1:
                self.skip("a key signature that is none", begin)
        elif kind > 127:
            self.skip("a meta event of an unknown kind", begin)

    def skip(self, what: str, at: int) -> None:
        """Remembers the first of each kind of event that was passed over."""
        self.skipped.setdefault(what, at)

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def number(self) -> int:
        """A number of seven bits a byte, of at most four bytes."""
        value, begin = 0, self.at
        while True:
            byte = self.byte()
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value
            if self.at - begin == 4:
                raise Garbled("a number of more than four bytes", begin)

    def take(self, count: int) -> bytes:
        """The next bytes."""
        begin, self.at = self.at, self.at + count
        if self.at > self.stop:
            raise Cut("an event ends too early", begin)
        return self.content[begin : self.at]


def read_song(content: bytes) -> Song:
    """The song in the bytes of a MIDI file.

    Raises:
        Unreadable: with the reason and the byte, when the bytes are no MIDI file, are cut off or
            are garbled.
    """
    skipped: dict[str, int] = {}
    start = content.find(b"MThd", 0, SEARCHED)
    if start < 0:
        raise Unreadable("is not a MIDI file: no header 'MThd' begins in it")
    if start:
        skipped["bytes before the header"] = 0
    if len(content) < start + 14:
        raise Unreadable(f"is cut short within its header, at byte {len(content)}: get it anew")
    size = int.from_bytes(content[start + 4 : start + 8])
    kind = int.from_bytes(content[start + 8 : start + 10])
    counted = int.from_bytes(content[start + 10 : start + 12])
    division = int.from_bytes(content[start + 12 : start + 14], signed=True)
    if size < 6 or kind > 2 or division == 0:
        raise Unreadable(f"is corrupt (its header makes no sense, at byte {start}): get it anew")
    try:
        tracks = list(_tracks(content, start + 8 + size, skipped))
    except Garbled as error:
        fate = "is cut short" if isinstance(error, Cut) else "is corrupt"
        raise Unreadable(f"{fate} ({error.reason}, at byte {error.at}): get it anew") from error
    if not tracks:
        raise Unreadable(
            f"is cut short (no track follows its header, at byte {start}): get it anew"
        )
    if len(tracks) != counted:
        skipped[f"a header that counts {counted} tracks where there are {len(tracks)}"] = start
    return Song(kind, division, tracks, skipped)


def _tracks(content: bytes, at: int, skipped: dict[str, int]) -> Iterator[Track]:
    """The tracks from a byte on."""
    while at < len(content):
        name = content[at : at + 4]
        if len(content) < at + 8:
            if name[:2] == b"MT":
                raise Cut("a track ends in its first bytes", at)
            skipped.setdefault("bytes after the last track", at)
            return
        start = at + 8
        stop = start + int.from_bytes(content[at + 4 : start])
        if name == b"MTrk":
            track, at = _track(content, start, stop, skipped)
            yield track
        elif stop <= len(content) and name.isalnum() and name.isascii():
            skipped.setdefault("an unknown chunk", at)
            at = stop
        else:
            following = content.find(b"MTrk", at)
            skipped.setdefault("bytes after a track", at)
            at = following if following >= 0 else len(content)


def _track(content: bytes, start: int, stated: int, skipped: dict[str, int]) -> tuple[Track, int]:
    """A track and the byte after it; its stated end holds unless the events say otherwise."""
    length = len(content)
    reader = _Reader(content, start, min(stated, length))
    track, error = None, None
    try:
        track = reader.track()
    except Garbled as raised:
        error = raised
    if not reader.finished and stated < length and content[stated : stated + 4] != b"MTrk":
        following = content.find(b"MTrk", stated)
        longer = _Reader(content, start, following if following >= 0 else length)
        with suppress(Garbled):
            beyond = longer.track()
            if longer.finished:
                reader, track = longer, beyond
    if track is None:
        assert error is not None  # nothing else leaves it without a track
        raise error
    if not reader.finished and stated > length:
        raise Cut(f"its last track lacks {stated - length} bytes", length)
    for what, at in reader.skipped.items():
        skipped.setdefault(what, at)
    if not reader.finished:
        skipped.setdefault("the missing end of a track", reader.at)
    elif content[reader.at : reader.at + 4] != b"MTrk" and reader.at < stated <= length:
        skipped.setdefault("events after the end of a track", reader.at)
        return track, stated
    elif reader.at != stated:
        skipped.setdefault("the wrong length of a track", start - 4)
    return track, reader.at
