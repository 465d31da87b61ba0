"""Recurrent layers over whole sequences and their gradients, compiled by numba: see ``recurrent``.

Each row of a batch is independent of the others. Loops over units are short and touch few arrays,
so that they run on the vector units.
"""

from __future__ import annotations

import numpy as np

from ...inference.kernels import compiled
from .scans import add_product, exp

Array = np.ndarray


@compiled
def gru(out: Array, gates: Array, fed: Array, start: Array, weight: Array, bias: Array) -> None:
    """h_t = n + z (h_{t-1} - n), with n = tanh(x + r a) and the gates r, z.

    a is the part of W h_{t-1} + b that is for n.

    Arguments:
        out: h, written, ``[B, T, H]``.
        gates: terms of the inputs, and of b for r and z; r, z and n take their place,
            ``[B, T, 3 H]``.
        fed: a, written, ``[B, T, H]``; with one step it is not kept.
        start: h before the first step, ``[B, H]``.
        weight: the transpose of W, ``[H, 3 H]``.
        bias: b for a, ``[H]``.
    """
    rows, steps, size = out.shape
    both, one, two = 2 * size, out.dtype.type(1), out.dtype.type(2)
    past, product = start.copy(), np.empty((rows, 3 * size), out.dtype)
    for t in range(steps):
        kept = t if fed.shape[1] > 1 else 0
        for n in range(rows):
            gate, drive = gates[n, t], product[n]
            for j in range(both):
                drive[j] = gate[j]
            for j in range(size):
                drive[both + j] = bias[j]
        add_product(product, past, weight)
        for n in range(rows):
            gate, state, drive = gates[n, t], past[n], product[n]
            r, z, c, added = gate[:size], gate[size:both], gate[both:], drive[both:]
            for j in range(both):
                gate[j] = one / (one + exp(-drive[j]))
            for j in range(size):
                c[j] += r[j] * added[j]
            for j in range(size):
                c[j] = one - two / (one + exp(two * c[j]))
            for j in range(size):
                state[j] = c[j] + z[j] * (state[j] - c[j])
            for j in range(size):
                fed[n, kept, j], out[n, t, j] = added[j], state[j]


@compiled
def gru_gradient(
    drive: Array,
    fed: Array,
    start: Array,
    grad: Array,
    out: Array,
    first: Array,
    gates: Array,
    kept: Array,
    weight: Array,
) -> None:
    """The gradient of ``gru``, from the last step to the first.

    Arguments:
        drive: gradient of the terms of the inputs, written, ``[B, T, 3 H]``.
        fed: gradient of a, written, ``[B, T, H]``.
        start: gradient of the first state, written, ``[B, H]``.
        grad: gradient of h, ``[B, T, H]``.
        out, first, gates, kept: h, the first state, r, z and n, and a.
        weight: W, ``[3 H, H]``.
    """
    rows, steps, size = out.shape
    both, zero, one = 2 * size, out.dtype.type(0), out.dtype.type(1)
    for n in range(rows):
        for j in range(size):
            start[n, j] = zero
    back = np.empty((rows, 3 * size), out.dtype)
    for t in range(steps - 1, -1, -1):
        for n in range(rows):
            slope, above, gate, added = start[n], grad[n, t], gates[n, t], kept[n, t]
            r, z, c = gate[:size], gate[size:both], gate[both:]
            total = back[n]
            by_r, by_z, by_a = total[:size], total[size:both], total[both:]
            before = out[n, t - 1] if t else first[n]
            for j in range(size):
                slope[j] += above[j]
            for j in range(size):
                by_z[j] = slope[j] * (before[j] - c[j]) * z[j] * (one - z[j])
            for j in range(size):
                by_a[j] = slope[j] * (one - z[j]) * (one - c[j] * c[j])
            for j in range(size):
                slope[j] *= z[j]
            for j in range(size):
                by_r[j] = by_a[j] * added[j] * r[j] * (one - r[j])
            for j in range(3 * size):
                drive[n, t, j] = total[j]
            for j in range(size):
                by_a[j] *= r[j]
                fed[n, t, j] = by_a[j]
        add_product(start, back, weight)


@compiled
def tanh(out: Array, start: Array, weight: Array) -> None:
    """h_t = tanh(x + W h_{t-1}).

    Arguments:
        out: terms of the inputs and of the biases; h takes their place, ``[B, T, H]``.
        start: h before the first step, ``[B, H]``.
        weight: the transpose of W, ``[H, H]``.
    """
    rows, steps, size = out.shape
    one, two = out.dtype.type(1), out.dtype.type(2)
    past, drive = start.copy(), np.empty_like(start)
    for t in range(steps):
        for n in range(rows):
            for j in range(size):
                drive[n, j] = out[n, t, j]
        add_product(drive, past, weight)
        for n in range(rows):
            state, total = past[n], drive[n]
            for j in range(size):
                state[j] = one - two / (one + exp(two * total[j]))
                out[n, t, j] = state[j]


@compiled
def tanh_gradient(drive: Array, start: Array, grad: Array, out: Array, weight: Array) -> None:
    """The gradient of ``tanh``, from the last step to the first.

    Arguments:
        drive: gradient of the terms of the inputs, written, ``[B, T, H]``.
        start: gradient of the first state, written, ``[B, H]``.
        grad: gradient of h, ``[B, T, H]``.
        out: h.
        weight: W, ``[H, H]``.
    """
    rows, steps, size = out.shape
    zero, one, back = out.dtype.type(0), out.dtype.type(1), np.empty_like(start)
    for n in range(rows):
        for j in range(size):
            start[n, j] = zero
    for t in range(steps - 1, -1, -1):
        for n in range(rows):
            slope, above, state, total = start[n], grad[n, t], out[n, t], back[n]
            for j in range(size):
                total[j] = (slope[j] + above[j]) * (one - state[j] * state[j])
            for j in range(size):
                drive[n, t, j] = total[j]
                slope[j] = zero
        add_product(start, back, weight)
