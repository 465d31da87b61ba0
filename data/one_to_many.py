"""The one-to-many task: infer the origin of a number, where several origins are possible.

The synthetic data of *Learning multi-modal recurrent neural networks with target propagation*
(Manchev & Spratling, 2024), sections 5.1 and 5.2, equations (14) and (15). The network reads
``x = a + 0.3 sin(2 pi a) + eps`` with ``a ~ U(0, 1)`` and ``eps ~ U(-0.1, 0.1)``, then distractors,
and is asked for ``a``. Given ``x``, ``a`` is uniform on all places where the curve passes within
0.1 of ``x``: up to three intervals. The loss of a perfect network is therefore known exactly.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from .batch import Batch, Index
from .checks import check_number, check_seed
from .dataset import SPLITS, Dataset, check_held_out
from .rng import generator

KINDS = ("class", "regression")
CLASSES = 10
AMPLITUDE = 0.3
NOISE = 0.1  # eps is uniform on +-NOISE
LOW, HIGH = -NOISE, 1 + NOISE  # where x may lie
_ROUNDING = 1e-7  # float32: data shall be possible under their own distribution
_CELLS = 18 * 10_000  # of a in [0, 1]; classes change at odd multiples of 1/18, between two cells


class OneToMany(Dataset):
    """Numbers whose origin is asked for, read first and followed by distractors ``U(0, 1)``.

    A finite set: every epoch serves the same rows. Of one seed and split, ``a`` and ``eps`` are
    the same for both kinds and any number of steps, and more steps append distractors to the same
    ones, so that figures for different horizons are figures on the same task.

    Arguments:
        kind: ``"class"``, the target is ``round(9 a)``, one of ten; or ``"regression"``, it is
            ``a`` itself.
        sequences: number of sequences ``N``.
        steps: frames ``T``: the number and ``T - 1`` distractors.
        seed: seed; the same arguments give the same data on every device.
        split: ``"train"``, ``"validation"`` or ``"test"``: unrelated streams for one seed.
        device: where the data live.

    Attributes:
        obs: ``x`` and the distractors, ``[N, T, 1]``.
        target: classes ``[N]``, int64; or ``a``, ``[N, 1]``.

    Raises:
        ValueError: when the kind or the split is unknown, or ``sequences`` or ``steps`` is below 1.

    Example:
        >>> OneToMany(sequences=5, steps=3).obs.shape
        torch.Size([5, 3, 1])
    """

    def __init__(
        self,
        kind: str = "class",
        sequences: int = 3000,
        steps: int = 2,
        seed: int = 0,
        split: str = "train",
        device: torch.device | str = "cpu",
    ) -> None:
        _check_kind(kind)
        sequences, steps = check_number("sequences", sequences), check_number("steps", steps)
        seed = check_seed(seed)
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        self.kind, self.sequences, self.steps = kind, sequences, steps
        self.seed, self.split, self.device = seed, split, torch.device(device)
        random = generator(seed, f"OneToMany {split}")
        a, noise = torch.rand(2, sequences, generator=random, dtype=torch.float32)
        x = curve(a.double()) + NOISE * (2 * noise.double() - 1)
        # a stream of their own, read step by step: more steps leave all else as it was
        random = generator(seed, f"OneToMany {split} distractors")
        more = range(steps - 1)
        distractors = [torch.rand(sequences, generator=random, dtype=a.dtype) for _ in more]
        obs = torch.stack([x.float(), *distractors], 1)[..., None]
        self.obs = obs.to(self.device, torch.get_default_dtype())
        target = _class(a.double()) if kind == "class" else a[:, None].clone()
        dtype = torch.get_default_dtype() if target.is_floating_point() else target.dtype
        self.target = target.to(self.device, dtype)

    def __len__(self) -> int:
        return self.sequences

    def __repr__(self) -> str:
        size = f"{self.sequences} x {self.steps}"
        return f"OneToMany({self.kind!r}, {size}, seed={self.seed}, split={self.split!r})"

    def rows(self, index: Index) -> Batch:
        """Some of the sequences, as a batch with ``target``."""
        return Batch(obs=self.obs[index], target=self.target[index])

    def subset(self, num_sequences: int, seed: int = 0) -> OneToMany:
        """A set of ``num_sequences`` sequences, drawn from the stream of ``seed``."""
        check_number("num_sequences", num_sequences)
        return self._like(num_sequences, seed, self.split)

    def held_out(
        self, num_sequences: int, seed: int = 0, split: str = "test", steps: int | None = None
    ) -> Batch:
        """Sequences drawn for another split; see ``Dataset``."""
        check_held_out(num_sequences, seed, split, steps)
        return self._like(num_sequences, seed, split).batch()

    def _like(self, sequences: int, seed: int, split: str) -> OneToMany:
        return OneToMany(self.kind, sequences, self.steps, seed, split, self.device)


def curve(a: Tensor) -> Tensor:
    """The noiseless ``x``, ``a + 0.3 sin(2 pi a)``, ``[...] -> [...]``."""
    return a + AMPLITUDE * torch.sin(2 * math.pi * a)


def class_probabilities(x: Tensor) -> Tensor:
    """The exact ``p(class | x)``, ``[...] -> [..., 10]``, in the dtype of ``x``.

    Raises:
        ValueError: when an ``x`` lies outside [-0.1, 1.1], where there are no data.
    """
    widths = _widths(x)
    return (widths / widths.sum(-1, keepdim=True)).to(x)


def log_density(a: Tensor, x: Tensor) -> Tensor:
    """The exact ``log p(a | x)`` in nats, in the dtype of ``x``; -inf where ``a`` cannot be.

    Arguments:
        a: the origin asked for, ``[...]``.
        x: the number read, ``[...]``, the same shape.

    Raises:
        ValueError: when the shapes differ, or an ``x`` lies outside [-0.1, 1.1].
    """
    if a.shape != x.shape:
        raise ValueError(f"a and x must agree in shape, got {tuple(a.shape)}, {tuple(x.shape)}")
    exact = a.detach().cpu().double()
    within = (x.detach().cpu().double() - curve(exact)).abs() <= NOISE + _ROUNDING
    possible = within & (exact >= 0) & (exact <= 1)
    return (-_widths(x).sum(-1).log()).masked_fill(~possible, -math.inf).to(x)


@cache
def conditional_entropy(kind: str) -> float:
    """The limit of the task in nats, which no network's mean loss on unseen data can beat.

    ``H(class | x)`` for ``"class"``, and the differential entropy ``h(a | x)`` for
    ``"regression"``, integrated numerically over ``x``; the error is below 1e-4.

    Raises:
        ValueError: when the kind is unknown.
    """
    _check_kind(kind)
    points = 60_000
    step = (HIGH - LOW) / points
    widths = _widths(LOW + step * (torch.arange(points, dtype=torch.float64) + 0.5))
    total = widths.sum(-1)
    density = total / (2 * NOISE)  # of x
    if kind == "class":
        entropy = torch.special.entr(widths / total[:, None]).sum(-1)
    else:
        entropy = total.log()
    return float((density * entropy).sum() * step)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")


def _class(a: Tensor) -> Tensor:
    return torch.round((CLASSES - 1) * a).long()  # half to even, as the paper says: convergent


@cache
def _curves() -> list[Tensor]:
    """The curve on a fine grid of ``a``, class by class, each sorted, for counting."""
    a = (torch.arange(_CELLS, dtype=torch.float64) + 0.5) / _CELLS
    return [curve(a[_class(a) == label]).sort().values for label in range(CLASSES)]


def _widths(x: Tensor) -> Tensor:
    """How much of each class ``x`` leaves possible, ``[...] -> [..., 10]``, float64 on the CPU.

    The measure of ``{a : |x - curve(a)| < 0.1}`` within each class; ``p(x)`` is five times the sum.
    """
    x = x.detach().cpu().double()
    if not ((x >= LOW - _ROUNDING) & (x <= HIGH + _ROUNDING)).all():
        raise ValueError(f"x must lie in [{LOW}, {HIGH}]: there are no data elsewhere")
    curves = _curves()
    # at the very ends no cell's centre is near enough: the outermost one is taken
    x = x.clamp(curves[0][0] - NOISE, curves[-1][-1] + NOISE)
    low, high = x - NOISE - _ROUNDING, x + NOISE + _ROUNDING
    counts = [
        torch.searchsorted(values, high, right=True) - torch.searchsorted(values, low)
        for values in curves
    ]
    return torch.stack(counts, -1).double() / _CELLS
