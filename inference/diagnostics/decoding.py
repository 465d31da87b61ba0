"""States, behaviour or rates read from latents or rates by a linear map.

Fit the map on training data, and score it on other data:

    decoder = inference.fit_decoder(train_rates, train_velocity, train_mask, ridge=inference.RIDGES)
    inference.r_squared(decoder(test_rates), test_velocity, test_mask).mean()

With ``ridge=RIDGES`` that is the decoding of velocity of the Neural Latents Benchmark (Pei et al.,
2021), with the same numbers as its ``nlb_tools``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import check_real
from .values import Values, as_tensor

#: The penalties among which the Neural Latents Benchmark chooses.
RIDGES = tuple(10 ** (power / 2) for power in range(-8, 1))
FOLDS = 5  # of the cross-validation that chooses a penalty, as in the benchmark


class Decoder(NamedTuple):
    """An affine map, fitted by ``fit_decoder``.

    Arguments:
        weight: ``[K, D]``.
        bias: ``[D]``.
        ridge: the penalty.
    """

    weight: Tensor
    bias: Tensor
    ridge: float = 0.0

    def __call__(self, features: Values) -> Tensor:
        """``[..., K] -> [..., D]``."""
        return as_tensor(features, "features").to(self.weight) @ self.weight + self.bias


def fit_decoder(
    features: Values, target: Values, mask: Tensor, ridge: float | Sequence[float] = 0.0
) -> Decoder:
    """The affine map from latents or rates to true states, behaviour or rates, by least squares.

    Arguments:
        features: ``[B, T, K]``.
        target: ``[B, T, D]``.
        mask: which frames count, ``[B, T]``. Leave out those in which the target is missing.
        ridge: penalty on squared weights, ``alpha`` of scikit-learn's ``Ridge``. Of several, the
            one with the best mean R² in a cross-validation by five blocks of frames is taken.
            0 is ordinary least squares, of minimum norm where features are collinear.

    Raises:
        ValueError: for shapes that do not match, values that are not finite, a negative penalty,
            or too few frames to choose among several.
    """
    several = isinstance(ridge, Sequence)
    penalties = [check_real("ridge", each, least=0) for each in (ridge if several else (ridge,))]
    if not penalties:
        raise ValueError("ridge: name a penalty or more")
    x = _rows(features, mask, "features")
    y = _rows(target, mask, "target").to(x.device)
    best = penalties[0]
    if len(penalties) > 1:
        if len(x) < 2 * FOLDS:
            raise ValueError(f"{len(x)} frames are too few to choose a ridge: {2 * FOLDS} at least")
        scores = torch.zeros(len(penalties), dtype=x.dtype, device=x.device)
        for fold in torch.arange(len(x), device=x.device).tensor_split(FOLDS):
            kept = torch.ones(len(x), dtype=torch.bool, device=x.device)
            kept[fold] = False
            maps = _solve(x[kept], y[kept], penalties)
            scores += torch.stack(
                [_score(each(x[fold]), y[fold]).nan_to_num(0.0).mean() for each in maps]
            )
        best = penalties[int(scores.argmax())]
    return _solve(x, y, [best])[0]


def r_squared(predicted: Values, target: Values, mask: Tensor) -> Tensor:
    """The coefficient of determination of each column, ``[D]``; NaN where a target is constant.

    Arguments:
        predicted, target: ``[B, T, D]``.
        mask: which frames count, ``[B, T]``.

    Raises:
        ValueError: for shapes that do not match, or values that are not finite.
    """
    found = _rows(predicted, mask, "predicted")
    wanted = _rows(target, mask, "target").to(found.device)
    if found.shape != wanted.shape:
        raise ValueError(f"predicted has {found.shape[1]} columns, target {wanted.shape[1]}")
    return _score(found, wanted)


def _score(found: Tensor, wanted: Tensor) -> Tensor:
    residual, spread = (wanted - found).square().sum(0), (wanted - wanted.mean(0)).square().sum(0)
    varies = (wanted != wanted[:1]).any(0)
    return torch.where(varies, 1 - residual / spread, torch.full_like(spread, math.nan))


def _solve(x: Tensor, y: Tensor, penalties: Sequence[float]) -> list[Decoder]:
    """A map ``[N, K] -> [N, D]`` for each penalty, from one decomposition."""
    centre, middle = x.mean(0), y.mean(0)
    left, size, right = torch.linalg.svd(x - centre, full_matrices=False)
    least = size.max() * torch.finfo(x.dtype).eps * max(x.shape)
    projected, decoders = left.T @ (y - middle), []
    for penalty in penalties:
        gain = torch.where(size > least, size / (size.square() + penalty), torch.zeros_like(size))
        weight = right.T @ (gain[:, None] * projected)
        decoders.append(Decoder(weight, middle - centre @ weight, penalty))
    return decoders


def _rows(values: Values, mask: Tensor, name: str) -> Tensor:
    """The frames that count, ``[N, D]``, float64."""
    values = as_tensor(values, name)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise ValueError("mask must be a bool tensor [B, T], True where a frame counts")
    if values.dim() != 3 or mask.shape != values.shape[:2] or not mask.any():
        raise ValueError(
            f"{name} must be [B, T, D] beside a mask [B, T] with a frame that counts, got "
            f"{tuple(values.shape)} and {tuple(mask.shape)}"
        )
    rows = values[mask.to(values.device)]
    if not torch.isfinite(rows).all():
        raise ValueError(f"{name} must be finite in every frame that counts")
    return rows
