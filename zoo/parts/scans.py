"""Recursions of parts over whole sequences, compiled by numba: see ``inference.kernels``.

Time runs outside and rows inside, so that the rows of a step keep the processor's vector units
busy. Rows are copied by loops: numba takes seconds to compile a slice. A NaN of a real frame stays
a NaN, as in torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from ...inference.kernels import compiled

Array = np.ndarray


@compiled
def add_product(out: Array, left: Array, right: Array) -> None:
    """out += left @ right, of ``[N, K]`` and ``[K, J]``: four rows and four terms at a time."""
    rows, terms, width = len(left), len(right), out.shape[1]
    whole, even = rows // 4 * 4, terms // 4 * 4
    for n in range(0, whole, 4):
        o, p, q, r = out[n], out[n + 1], out[n + 2], out[n + 3]
        for k in range(0, even, 4):
            a = left[n, k], left[n, k + 1], left[n, k + 2], left[n, k + 3]
            b = left[n + 1, k], left[n + 1, k + 1], left[n + 1, k + 2], left[n + 1, k + 3]
            c = left[n + 2, k], left[n + 2, k + 1], left[n + 2, k + 2], left[n + 2, k + 3]
            d = left[n + 3, k], left[n + 3, k + 1], left[n + 3, k + 2], left[n + 3, k + 3]
            for j in range(width):
                w, x, y, z = right[k, j], right[k + 1, j], right[k + 2, j], right[k + 3, j]
                o[j] = o[j] + a[0] * w + a[1] * x + a[2] * y + a[3] * z
                p[j] = p[j] + b[0] * w + b[1] * x + b[2] * y + b[3] * z
                q[j] = q[j] + c[0] * w + c[1] * x + c[2] * y + c[3] * z
                r[j] = r[j] + d[0] * w + d[1] * x + d[2] * y + d[3] * z
    for n in range(whole, rows):
        for k in range(0, even, 4):
            e, f, g, h = left[n, k], left[n, k + 1], left[n, k + 2], left[n, k + 3]
            for j in range(width):
                w, x, y, z = right[k, j], right[k + 1, j], right[k + 2, j], right[k + 3, j]
                out[n, j] = out[n, j] + e * w + f * x + g * y + h * z
    for n in range(rows):
        for k in range(even, terms):
            e = left[n, k]
            for j in range(width):
                out[n, j] += e * right[k, j]


def exp(x: Any) -> Any:
    """e^x; in float32 without a call, so that a loop of it runs on the vector units."""
    return math.exp(x)


def _exp32(x: Any) -> Any:
    """2^n e^r with x = n log 2 + r: a polynomial in r, and the bits of 2^n; to 2e-7."""
    x = np.float32(-87.0) if x < np.float32(-87.0) else x
    x = np.float32(88.0) if x > np.float32(88.0) else x
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)  # log 2 in two parts
    value = np.float32(1 / 5040)
    value = value * r + np.float32(1 / 720)
    value = value * r + np.float32(1 / 120)
    value = value * r + np.float32(1 / 24)
    value = value * r + np.float32(1 / 6)
    value = value * r + np.float32(1 / 2)
    value = value * r * r + r + np.float32(1)
    bits = np.int32((np.int32(n) + np.int32(127)) << np.int32(23))
    return value * bits.view(np.float32)


@overload(exp)
def _exp_of(x: Any) -> Callable[[Any], Any]:
    return _exp32 if x == types.float32 else exp


def log1p(x: Any) -> Any:
    """log(1 + x) of x >= 0, likewise."""
    return math.log1p(x)


def _log1p32(x: Any) -> Any:
    """k log 2 + log(1 + f) with 1 + x = 2^k (1 + f): a polynomial in f, and the bits of 1 + x."""
    y = np.float32(1) + x
    bits = np.float32(y).view(np.int32)
    k = np.float32((bits >> np.int32(23)) - np.int32(127))
    f = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32)
    large = f > np.float32(1.41421356)
    k = k + np.float32(1) if large else k
    f = (np.float32(0.5) * f if large else f) - np.float32(1)
    value = np.float32(7.0376836292e-2)
    value = value * f - np.float32(1.1514610310e-1)
    value = value * f + np.float32(1.1676998740e-1)
    value = value * f - np.float32(1.2420140846e-1)
    value = value * f + np.float32(1.4249322787e-1)
    value = value * f - np.float32(1.6668057665e-1)
    value = value * f + np.float32(2.0000714765e-1)
    value = value * f - np.float32(2.4999993993e-1)
    value = value * f + np.float32(3.3333331174e-1)
    value = (value * f - np.float32(0.5)) * f * f + f
    lost = (x - (y - np.float32(1))) / y  # of x, in the sum 1 + x
    return k * np.float32(0.693359375) + (value - k * np.float32(2.12194440e-4) + lost)


@overload(log1p)
def _log1p_of(x: Any) -> Callable[[Any], Any]:
    return _log1p32 if x == types.float32 else log1p


@compiled
def activate(values: Array, code: int) -> None:
    """An activation in place, ``[N, J]``; for ``code`` see ``nets.activation_code``."""
    one, zero = values.dtype.type(1), values.dtype.type(0)
    for n in range(values.shape[0]):
        for j in range(values.shape[1]):
            x = values[n, j]
            if code == 0:
                x = zero if x < zero else x
            elif code == 1:
                x = math.tanh(x)
            elif code == 2:
                x = math.expm1(x) if x < zero else x
            elif code == 3:
                x = x / (one + exp(-x))
            elif code == 4:
                x = one / (one + exp(-x))
            values[n, j] = x


@compiled
def gaussian(
    statistics: Array,
    features: Array,
    passes: Array,
    from_past: Array,
    heads: Array,
    code: int,
    max_mean: float,
    min_spread: float,
    max_spread: float,
) -> None:
    """The recursion of a ``GaussianGuide``.

    Arguments:
        statistics: ``[B, T + 1, U]``, of which the first is given and the others are written.
        features: ``[B, T, H + 4 K]``.
        passes: False where the statistics stay as they are, ``[B, T]``.
        from_past: ``[U, H + 2 K]``.
        heads: ``[H, 2 K]``.
        code: the activation, see ``nets.activation_code``.
        max_mean, min_spread, max_spread: bounds of the moments.
    """
    rows, steps = passes.shape
    size, width = from_past.shape
    hidden, pair = heads.shape
    latents = pair // 2
    number = features.dtype.type
    furthest, least, most = number(max_mean), number(min_spread), number(max_spread)
    known_from = size - 1 if size > latents else 0  # a blank past is zero from here on
    past, joint = np.empty((rows, size), features.dtype), np.empty((rows, hidden), features.dtype)
    drive, raw = np.empty((rows, width), features.dtype), np.empty((rows, pair), features.dtype)
    flat, positive = raw.reshape(-1), np.empty(rows * pair, features.dtype)
    for n in range(rows):
        for k in range(size):
            past[n, k] = statistics[n, 0, k]
    for t in range(steps):
        for n in range(rows):
            for j in range(width):
                drive[n, j] = features[n, t, j]
        add_product(drive, past, from_past)
        for n in range(rows):
            for j in range(hidden):
                joint[n, j] = drive[n, j]
            for j in range(pair):
                raw[n, j] = drive[n, hidden + j]
        activate(joint, code)
        add_product(raw, joint, heads)
        for n in range(rows):
            known = False
            for k in range(known_from, size):
                known = known or past[n, k] != 0
            if not known:
                for j in range(pair):
                    raw[n, j] = features[n, t, width + j]
        for j in range(rows * pair):  # of the means, too: in one piece it is quicker
            positive[j] = flat[j] if flat[j] > 20 else log1p(exp(flat[j]))
        for n in range(rows):
            if passes[n, t]:
                for k in range(latents):
                    mean = raw[n, k]
                    mean = -furthest if mean < -furthest else mean
                    past[n, k] = furthest if mean > furthest else mean
                for k in range(latents, size):
                    spread = positive[n * pair + k] + least
                    past[n, k] = most if spread > most else spread
            for k in range(size):
                statistics[n, t + 1, k] = past[n, k]


@compiled
def elman(statistics: Array, features: Array, passes: Array, from_past: Array, code: int) -> None:
    """u_t = f(x_t + W u_{t-1}), of units that are alike.

    Arguments:
        statistics: ``[B, T + 1, U]``, of which the first is given and the others are written.
        features: x, ``[B, T, U]``.
        passes: False where the statistics stay as they are, ``[B, T]``.
        from_past: the transpose of W, ``[U, U]``.
        code: the activation f, see ``nets.activation_code``.
    """
    rows, steps = passes.shape
    size = len(from_past)
    past, drive = np.empty((rows, size), features.dtype), np.empty((rows, size), features.dtype)
    for n in range(rows):
        for j in range(size):
            past[n, j] = statistics[n, 0, j]
    for t in range(steps):
        for n in range(rows):
            for j in range(size):
                drive[n, j] = features[n, t, j]
        add_product(drive, past, from_past)
        activate(drive, code)
        for n in range(rows):
            if passes[n, t]:
                for j in range(size):
                    past[n, j] = drive[n, j]
            for j in range(size):
                statistics[n, t + 1, j] = past[n, j]
