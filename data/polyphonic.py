"""Polyphonic music as piano rolls: which of 88 keys sound in each frame.

The four sets of *Modeling temporal dependencies in high-dimensional sequences* (Boulanger-
Lewandowski, Bengio & Vincent, ICML 2012), in their original split. Other renderings with the same
names and other lengths are in circulation, and figures on those do not compare. ``PianoRolls``
makes the same kind of data set from rolls of your own; ``MidiFolder`` reads them from MIDI files.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from os import PathLike

import numpy as np
import torch
from torch import Tensor

from . import matlab
from .batch import Batch, Index, check_sequences
from .checks import check_number, check_real, check_seed
from .dataset import SPLITS, Dataset, check_held_out, sequences_of
from .fetch import fetch
from .files import DataError
from .rng import generator

KEYS = 88  # of a piano
LOWEST = 21  # the MIDI note of key 0, the lowest A of a piano
_FILES = {
    "jsb": "poly/JSB_Chorales.mat",
    "nottingham": "poly/Nottingham.mat",
    "piano-midi": "poly/Piano_midi.mat",
    "musedata": "poly/MuseData.mat",
}
NAMES = tuple(_FILES)
_PARTS: dict[str, str] = dict(zip(SPLITS, ("traindata", "validdata", "testdata")))


class PianoRolls(Dataset):
    """A data set of piano rolls of different lengths.

    A row is a whole sequence by default, a piece of one with ``chunk``, and a run of frames with
    the frame that follows as target with ``window``.
    Rows are cut out when they are asked for, so that memory stays a byte a key and frame.

    Arguments:
        sequences: rolls ``[T_i, 88]``, tensors or arrays, 1 where a key sounds and 0 elsewhere.
        chunk: cut every sequence into pieces of this many frames; the last of each may be shorter.
        window: rows are every run of this many frames, and ``target [B, 88]`` is the frame after
            it. Sequences that are not longer than a window have none.
        device: where the data live.
        recut: cut chunks at other places in every epoch, or windows that are a stride apart. Epoch
            0 is as without, and every epoch has as many rows.
        seed: seed of those places.
        stride: windows begin at frame 0 of a sequence and every so many frames from there. With
            ``recut`` they begin at a random one of the places where a window fits and go round in
            a circle, so that every window of a sequence is served equally often over the epochs.
        every_step: ``target`` is the frame after each frame of a window, ``[B, T, 88]``, rather
            than the frame after the last.
        split: serve only the sequences of ``"train"``, ``"validation"`` or ``"test"``; all of them
            when left out. A model can be diagnosed if it was trained on ``"train"``.
        fraction: fraction of the sequences that go to test, and to validation: at least one each.
        split_seed: seed of the shuffle that splits them. The split depends on nothing but the
            number of sequences, ``fraction`` and ``split_seed``.

    Attributes:
        sequences: the whole sequences given, ``[T_i, 88]``, uint8, whether or not they are cut
            or left out of the split.
        frames: frames of all sequences that are served.

    Raises:
        ValueError: when there is no sequence, when one is not ``[T, 88]`` of zeros and ones with
            a frame or more, when ``chunk``, ``window`` or ``stride`` is below 1 or both of the
            first are given, when ``stride`` or ``every_step`` is given without ``window``, when
            ``recut`` has nothing to choose (neither chunks nor windows with a stride above 1),
            when no sequence is longer than a window, or when a split is unknown or the sequences
            are too few for it.

    Example:
        >>> PianoRolls([torch.zeros(5, 88), torch.zeros(3, 88)]).batch().obs.shape
        torch.Size([2, 5, 88])
    """

    unit = "key"

    def __init__(
        self,
        sequences: Sequence[Tensor | np.ndarray],
        chunk: int | None = None,
        window: int | None = None,
        device: torch.device | str = "cpu",
        recut: bool = False,
        seed: int = 0,
        stride: int = 1,
        every_step: bool = False,
        split: str | None = None,
        fraction: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        if chunk is not None and window is not None:
            raise ValueError("chunk and window exclude one another: give one of them")
        check_cuts(chunk, window, stride, seed)
        check_seed(split_seed, "split_seed")
        check_real("fraction", fraction, above=0, below=0.5)
        if window is None and (stride > 1 or every_step):
            name = "stride" if stride > 1 else "every_step"
            raise ValueError(f"{name} is about windows: say how many frames one has, window=100")
        if recut and chunk is None and window is None:
            raise ValueError("recut is about chunks: say how many frames one has, chunk=100")
        if recut and chunk is None and stride == 1:
            raise ValueError(
                "recut has no window to choose, a stride of 1 serves them all every epoch: "
                "give a longer one, stride=100"
            )
        if len(sequences) == 0:
            raise ValueError("there is no sequence: give a list of piano rolls [T, 88]")
        rolls = [check_roll(roll, f"sequence {i}") for i, roll in enumerate(sequences)]
        self.chunk, self.window, self.device = chunk, window, torch.device(device)
        self.recut, self.seed = recut, seed
        self.stride, self.every_step = stride, every_step
        self.split, self.fraction, self.split_seed = split, fraction, split_seed
        served = rolls
        if split is not None:
            served = [rolls[i] for i in sequences_of(split, len(rolls), fraction, split_seed)]
        # one tensor of all frames: a row is two numbers, where it starts and where it stops
        self._frames = torch.cat(served).to(self.device)
        lengths = [len(roll) for roll in served]
        self.sequences = list(self._frames.split(lengths))
        if split is not None:
            self.sequences = [roll.to(self.device) for roll in rolls]
        self.frames = len(self._frames)
        self._lengths = torch.tensor(lengths)
        self._pieces = _cut(self._lengths, chunk, window, stride).to(self.device)
        if len(self) == 0:
            raise ValueError(
                f"no sequence is longer than a window of {window} frames: the longest has "
                f"{max(lengths)}"
            )

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def lengths(self) -> Tensor:
        """Frames of each row, ``[N]``, on the CPU."""
        return (self._pieces[:, 1] - self._pieces[:, 0]).cpu()

    def fresh(self, epoch: int) -> PianoRolls:
        """The same rolls, cut at other places where they are cut anew; as many rows."""
        if check_number("epoch", epoch, 0) == 0 or not self.recut:
            return self
        other = copy.copy(self)
        random = generator(self.seed, "cut", epoch)
        pieces = _cut(self._lengths, self.chunk, self.window, self.stride, random)
        other._pieces = pieces.to(self.device)
        return other

    def __repr__(self) -> str:
        cut = "".join(
            f", {name}={value}"
            for name, value in (("chunk", self.chunk), ("window", self.window))
            if value is not None
        )
        cut += f", stride={self.stride}" if self.stride > 1 else ""
        cut += ", every_step=True" if self.every_step else ""
        size = f"{len(self._lengths)} sequences, {self.frames} frames"
        return f"{type(self).__name__}({self._which()}{size}{cut})"

    def _which(self) -> str:
        return "" if self.split is None else f"{self.split!r}, "

    def rows(self, index: Index) -> Batch:
        """Some of the rows, padded to the longest of them.

        Arguments:
            index: a slice, a list or a tensor of indices.

        Returns:
            ``obs [B, T, 88]``, ``mask [B, T]``, and with ``window`` ``target [B, 88]``,
            or ``[B, T, 88]`` with ``every_step``.

        Raises:
            ValueError: when no row is left.
        """
        pieces = self._pieces[index]
        if pieces.dim() != 2 or len(pieces) == 0:
            raise ValueError("no row is left: index a data set with a slice or a list of rows")
        start, stop = pieces.unbind(1)
        kind = torch.get_default_dtype()
        at = start[:, None] + torch.arange(int((stop - start).max()), device=self.device)
        obs = self._frames[at.clamp(max=self.frames - 1)].to(kind)  # Batch sets padding to zero
        target = None
        if self.window is not None:
            target = self._frames[at + 1 if self.every_step else stop].to(kind)
        return Batch(obs=obs, mask=at < stop[:, None], target=target)

    def batch(self) -> Batch:
        """All rows, as one padded batch: four bytes a key and padded frame in float32."""
        return self.rows(slice(None))

    def batches(self, frames: int) -> Iterator[tuple[list[int], Batch]]:
        """All rows once, the longest first, in batches of rows alike in length: for evaluation.

        No row is shorter than half the longest of its batch, so that padding stays the lesser part.

        Arguments:
            frames: padded frames of a batch, at most; a longer row makes a batch of its own.

        Returns:
            An iterator over pairs: which rows they are, and the batch.

        Raises:
            ValueError: when ``frames`` is below 1.
        """
        check_number("frames", frames)
        return self._by_length(frames)

    def _by_length(self, frames: int) -> Iterator[tuple[list[int], Batch]]:
        lengths = self.lengths
        order = lengths.argsort(descending=True, stable=True)
        while len(order):
            longest = int(lengths[order[0]])
            alike = int((2 * lengths[order] >= longest).sum())
            many = max(1, min(frames // longest, alike))
            index = order[:many].tolist()
            yield index, self.rows(index)
            order = order[many:]

    def rates(self) -> Tensor:
        """Fraction of all frames in which each key sounds, ``[88]``, float32."""
        return self._frames.sum(0) / self.frames

    def held_out(
        self, num_sequences: int, seed: int = 0, split: str = "test", steps: int | None = None
    ) -> Batch:
        """Sequences of another split, chosen at random; see ``Dataset``.

        A set with ``window`` gives windows that do not overlap, with the frame after each as
        ``target [B, 88]``. Any other gives the beginnings of whole sequences, ``[B, steps, 88]``.
        """
        check_held_out(num_sequences, seed, split, steps)
        rolls = self._rolls_of(split)
        other = PianoRolls(rolls, window=self.window, device=self.device, stride=self.window or 1)
        order = torch.randperm(len(other), generator=generator(seed, "report"))
        batch = other.rows(order[:num_sequences].tolist())
        return batch if self.window or steps is None else batch.window(0, steps)

    def _rolls_of(self, split: str) -> Sequence[Tensor]:
        """The sequences of a split."""
        self._check_split()
        chosen = sequences_of(split, len(self.sequences), self.fraction, self.split_seed)
        return [self.sequences[i] for i in chosen]

    def _check_split(self) -> None:
        if self.split is None:
            name = type(self).__name__
            raise ValueError(
                f"this {name} serves all of its sequences, so none is held out: train on "
                f"{name}(..., split='train'), which keeps a fraction of {self.fraction} for test "
                "and as much for validation"
            )


class Polyphonic(PianoRolls):
    """One of the four published sets of polyphonic music, in the original split.

    The first use downloads a file of at most 1 MB, see ``fetch``. Column ``j`` is MIDI note
    ``21 + j``. Figures are nats a frame: summed over the keys, totalled over a split and divided
    by its frames. Every piece is transposed to C major or C minor; ``transpose_to`` does so with
    rolls of your own.

    Arguments:
        name: ``"jsb"`` (chorales), ``"nottingham"`` (folk tunes), ``"piano-midi"`` (classical
            piano) or ``"musedata"`` (orchestral and piano).
        split: ``"train"``, ``"validation"`` or ``"test"``.
        chunk: cut every sequence into pieces of at most this many frames (training); whole when
            left out (evaluation).
        window: serve every run of this many frames with the frame after it as ``target``.
        seed: seed of the places where rows are cut anew; published data do not depend on it.
        device: where the data live.
        recut: cut chunks, or windows that are a stride apart, at other places in every epoch.
        stride: windows begin every so many frames of a sequence, see ``PianoRolls``.
        every_step: ``target`` is the frame after each frame of a window, ``[B, T, 88]``.

    Attributes:
        sequences: the whole sequences, ``[T_i, 88]``, uint8.
        frames: frames of the split.

    Raises:
        ValueError: when name or split is unknown, or a number is out of its range.
        DataError: when the file is missing or damaged.

    Example:
        >>> Polyphonic("jsb", split="test").batch().obs.shape
        torch.Size([77, 160, 88])
    """

    def __init__(
        self,
        name: str,
        split: str = "train",
        chunk: int | None = None,
        window: int | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        recut: bool = False,
        stride: int = 1,
        every_step: bool = False,
    ) -> None:
        if name not in NAMES:
            raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        check_cuts(chunk, window, stride, seed)
        rolls = read_mat(fetch(_FILES[name]), split)
        super().__init__(rolls, chunk, window, device, recut, seed, stride, every_step)
        self.name, self.split = name, split

    def _which(self) -> str:
        return f"{self.name!r}, {self.split!r}, "

    def _rolls_of(self, split: str) -> Sequence[Tensor]:
        return read_mat(fetch(_FILES[self.name]), split)


def check_cuts(chunk: int | None, window: int | None, stride: int, seed: int) -> None:
    """Raises a ValueError for numbers of ``PianoRolls`` that are none, before a file is read."""
    for name, value in (("chunk", chunk), ("window", window)):
        if value is not None:
            check_number(name, value)
    check_number("stride", stride)
    check_seed(seed)


def check_roll(roll: Tensor | np.ndarray, name: str = "the roll") -> Tensor:
    """A piano roll as a uint8 tensor ``[T, 88]`` on the CPU; errors call it ``name``.

    Raises:
        ValueError: when it is not ``[T, 88]``, has no frame, or holds anything but 0 and 1.
    """
    try:
        roll = torch.as_tensor(np.array(roll) if isinstance(roll, np.ndarray) else roll)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is not an array of numbers: give it as [T, {KEYS}]") from error
    if roll.dim() != 2 or roll.shape[1] != KEYS or len(roll) == 0:
        raise ValueError(
            f"{name} must be [T, {KEYS}] with a frame or more, got shape {tuple(roll.shape)}"
        )
    roll = roll.detach().cpu()
    if not ((roll == 0) | (roll == 1)).all():
        raise ValueError(f"{name} must hold nothing but 0 (silent) and 1 (sounds)")
    return roll.to(torch.uint8)


def read_mat(path: str | PathLike, split: str) -> list[Tensor]:
    """The sequences of one split in a MATLAB file of the four sets.

    Arguments:
        path: a file such as ``JSB_Chorales.mat``, of at most 256 MiB, unpacked, too.
        split: ``"train"``, ``"validation"`` or ``"test"``.

    Returns:
        Rolls ``[T_i, 88]``, uint8.

    Raises:
        ValueError: when the split is unknown.
        DataError: when the file cannot be read, is corrupt, cut short or no MATLAB file, or does
            not hold the piano rolls of the split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    part = _PARTS[split]
    try:
        cells = matlab.read(path, part)
    except matlab.Malformed as error:
        raise DataError(
            f"{path} is corrupt, cut short or not a MATLAB file ({error}): get it anew"
        ) from error
    if not isinstance(cells, list) or not cells:
        raise DataError(f"{path} has no list of sequences {part!r}: get the file as published")
    try:
        return [check_roll(roll, f"sequence {i} of {part}") for i, roll in enumerate(cells)]
    except ValueError as error:
        raise DataError(f"{path} does not hold piano rolls: {error}") from error


def add_notes(obs: Tensor, mask: Tensor, rate: float, seed: int = 0) -> Tensor:
    """Piano rolls with wrong notes: keys turned on at random, for a model to take away again.

    Arguments:
        obs: piano rolls, ``[B, T, 88]``, floating point.
        mask: True where a frame is real, ``[B, T]``; padding stays silent.
        rate: probability with which each key of each real frame is turned on; a key that sounds
            anyway stays on.
        seed: seed; the same arguments give the same notes on every device.

    Returns:
        ``[B, T, 88]``, a copy.

    Raises:
        ValueError: when ``rate`` is not a probability, or obs or mask is invalid.
    """
    check_real("rate", rate, least=0, most=1)
    check_seed(seed)
    check_sequences(obs, mask)
    random = generator(seed, "add_notes")
    wrong = torch.rand(obs.shape, generator=random, dtype=torch.float32) < rate
    wrong = wrong.to(obs.device) & mask.reshape(mask.shape + (1,) * (obs.dim() - 2))
    return obs.masked_fill(wrong, 1.0)


def hide_steps(batch: Batch, length: int, seed: int = 0, start: int | None = None) -> Batch:
    """A batch in which a run of steps is hidden from the model, for it to fill in.

    Hidden values are zero in ``obs``: score imputed values against the batch that was given. Values
    hidden before stay hidden, and padding counts as not observed.

    Arguments:
        batch: sequences.
        length: consecutive steps to hide, all of them real frames.
        seed: seed of the start, drawn for each sequence alone from all that fit.
        start: the first hidden step, the same for every sequence, in place of a random one.

    Returns:
        The batch with ``observed [B, T, M]``, False where a value is hidden.

    Raises:
        ValueError: when ``length`` is below 1, or a sequence has no room for that many steps, or
            nothing of it would be left.
    """
    check_number("length", length)
    check_seed(seed)
    if start is not None:
        check_number("start", start, 0)
    steps = batch.mask.shape[1]
    fits = torch.zeros_like(batch.mask)  # [B, T]: a run may start here
    if length <= steps:
        fits[:, : steps - length + 1] = batch.observed_frames.unfold(1, length, 1).all(-1)
    if start is not None:
        fits &= torch.arange(steps, device=fits.device) == start
    if not fits.any(1).all():
        row = int((~fits.any(1)).nonzero()[0])
        where = "" if start is None else f" from step {start}"
        raise ValueError(
            f"{length} steps{where} cannot be hidden in sequence {row}, which has "
            f"{int(batch.mask[row].sum())} real frames: hide fewer, or leave short sequences out"
        )
    # the k-th start that fits: how far a batch is padded changes nothing
    chosen = torch.rand(len(batch), generator=generator(seed, "hide_steps"), dtype=torch.float64)
    chosen = (chosen * fits.sum(1).cpu()).long().to(fits.device)
    first = (fits.cumsum(1) > chosen[:, None]).int().argmax(1, keepdim=True)
    step = torch.arange(steps, device=fits.device)
    hidden = (step >= first) & (step < first + length)
    seen = (batch.mask & ~hidden).reshape(batch.mask.shape + (1,) * (batch.obs.dim() - 2))
    observed = seen.expand(batch.obs.shape)
    if batch.observed is not None:
        observed = observed & batch.observed
    return dataclasses.replace(batch, observed=observed.contiguous())


def _cut(
    lengths: Tensor,
    chunk: int | None,
    window: int | None,
    stride: int = 1,
    random: torch.Generator | None = None,
) -> Tensor:
    """Where each row starts and stops among the frames of all sequences, ``[rows, 2]``.

    With ``random`` a sequence's first chunk is shorter, by so little that there are as many; and
    its windows are moved along a circle of all starts, which leaves their number alone too.
    """
    ends = lengths.cumsum(0)
    pieces = []
    for begin, end in zip((ends - lengths).tolist(), ends.tolist()):
        if window is not None:
            starts = max(0, end - begin - window)  # a frame must follow
            start = torch.arange(0, starts, stride)
            if random and starts:
                shift = int(torch.randint(starts, (), generator=random))
                start = ((start + shift) % starts).sort().values
            start = begin + start
            stop = start + window
        else:
            size = chunk or end - begin
            spare = -(end - begin) % size  # frames that the last chunk lacks
            shift = int(torch.randint(spare + 1, (), generator=random)) if random else 0
            start = torch.arange(begin - shift, end, size)
            stop = (start + size).clamp(max=end)
            start = start.clamp(min=begin)
        pieces.append(torch.stack((start, stop), 1))
    return torch.cat(pieces)
