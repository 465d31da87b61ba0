"""Kalman filter and smoother compiled by numba, for float64 on the CPU.

Sensors are taken one at a time, so that an update divides by a number and inverts no matrix; a
missing value has no update. Covariances are updated as sums of squares, by Joseph's form in the
filter and its analogue in the smoother: they stay positive where differences would not.

The last axis of every array is that of the lanes: sequences side by side, so that the inner loops
are those of vector units. Needs numba; ``fast`` calls it.
"""

from __future__ import annotations

import numpy as np

from ..kernels import compiled

Array = np.ndarray
#: A pivot below this fraction of its variance is rounding: the covariance is singular there.
SINGULAR = 1e-15


@compiled
def copy(out: Array, values: Array) -> None:
    """out = values, ``[K, K, lanes]``: by loops, since numba takes seconds to compile a slice."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for n in range(out.shape[2]):
                out[i, j, n] = values[i, j, n]


@compiled
def multiply(out: Array, left: Array, right: Array) -> None:
    """out = left @ right, each ``[K, K, lanes]``."""
    lanes = out.shape[-1]
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for n in range(lanes):
                out[i, j, n] = left[i, 0, n] * right[0, j, n]
            for k in range(1, right.shape[0]):
                for n in range(lanes):
                    out[i, j, n] += left[i, k, n] * right[k, j, n]


@compiled
def congruence(out: Array, left: Array, middle: Array, work: Array) -> None:
    """out += left @ middle @ left.T, of which middle and out are symmetric."""
    lanes = out.shape[-1]
    multiply(work, left, middle)
    for i in range(out.shape[0]):
        for j in range(i + 1):
            for k in range(out.shape[0]):
                for n in range(lanes):
                    out[i, j, n] += work[i, k, n] * left[j, k, n]
            for n in range(lanes):
                out[j, i, n] = out[i, j, n]


@compiled
def move(mean: Array, before: Array, A: Array, drive: Array) -> None:
    """mean = A @ before + drive."""
    lanes = mean.shape[-1]
    for i in range(mean.shape[0]):
        for n in range(lanes):
            mean[i, n] = drive[i, n]
        for k in range(mean.shape[0]):
            for n in range(lanes):
                mean[i, n] += A[i, k, n] * before[k, n]


@compiled
def transition(A_t: Array, Q_t: Array, A: Array, Q: Array, first: Array, t: int) -> None:
    """A and Q of the step to frame t: the state stays as it is up to a sequence's first frame."""
    lanes = A_t.shape[-1]
    for i in range(A.shape[0]):
        for j in range(A.shape[0]):
            for n in range(lanes):
                moves = t > first[n]
                A_t[i, j, n] = A[i, j, n] if moves else (1.0 if i == j else 0.0)
                Q_t[i, j, n] = Q[i, j, n] if moves else 0.0


@compiled
def update(
    mean: Array, cov: Array, c: Array, y: Array, r: Array, spread: Array, score: Array, work: Array
) -> None:
    """Conditions on one value of each lane, y = c @ x + N(0, r): none where r is infinite."""
    lanes = mean.shape[-1]
    states = mean.shape[0]
    v, gain, seen = work[0], work[1], work[2, 0]
    error = work[2, 1]
    for n in range(lanes):
        seen[n] = 1.0 if r[n] < np.inf else 0.0
        spread[n] = r[n] if r[n] < np.inf else 1.0
        error[n] = y[n]
    for i in range(states):
        for n in range(lanes):
            v[i, n] = cov[i, 0, n] * c[0, n]
        for k in range(1, states):
            for n in range(lanes):
                v[i, n] += cov[i, k, n] * c[k, n]
    for i in range(states):
        for n in range(lanes):
            spread[n] += seen[n] * c[i, n] * v[i, n]
            error[n] -= c[i, n] * mean[i, n]
    for n in range(lanes):
        spread[n] = spread[n] if spread[n] > 0.0 else np.nan
        score[n] += seen[n] * error[n] * error[n] / spread[n]
    for i in range(states):
        for n in range(lanes):
            gain[i, n] = seen[n] * v[i, n] / spread[n]
            mean[i, n] += gain[i, n] * error[n]
    # (I - k c') P (I - k c')' + k r k': first W = (I - k c') P, then W - (W c - r k) k'.
    for i in range(states):
        for j in range(states):
            for n in range(lanes):
                cov[i, j, n] -= gain[i, n] * v[j, n]
    for i in range(states):
        for n in range(lanes):
            v[i, n] = -(r[n] if r[n] < np.inf else 1.0) * gain[i, n]
        for k in range(states):
            for n in range(lanes):
                v[i, n] += cov[i, k, n] * c[k, n]
    for i in range(states):
        for j in range(i + 1):
            for n in range(lanes):
                cov[i, j, n] -= v[i, n] * gain[j, n]
                cov[j, i, n] = cov[i, j, n]


@compiled
def divide(right: Array, matrix: Array, L: Array, inverse: Array) -> None:
    """right = matrix^-1 @ right, by a factorisation L D L'; singular directions are left out."""
    lanes = right.shape[-1]
    states = matrix.shape[0]
    for j in range(states):
        for i in range(j, states):
            for n in range(lanes):
                L[i, j, n] = matrix[i, j, n]
            for k in range(j):  # L[k, j] above the diagonal is D[k] L[j, k]
                for n in range(lanes):
                    L[i, j, n] -= L[i, k, n] * L[k, j, n]
        for n in range(lanes):
            regular = L[j, j, n] > SINGULAR * matrix[j, j, n]
            inverse[j, n] = 1.0 / L[j, j, n] if regular else 0.0
        for i in range(j + 1, states):
            for n in range(lanes):
                L[j, i, n] = L[i, j, n]
                L[i, j, n] *= inverse[j, n]
    for j in range(right.shape[1]):
        for i in range(states):
            for k in range(i):
                for n in range(lanes):
                    right[i, j, n] -= L[i, k, n] * right[k, j, n]
        for i in range(states - 1, -1, -1):
            for n in range(lanes):
                right[i, j, n] *= inverse[i, n]
            for k in range(i + 1, states):
                for n in range(lanes):
                    right[i, j, n] -= L[k, i, n] * right[k, j, n]


@compiled
def forward(
    A: Array,
    Q: Array,
    C: Array,
    y: Array,
    r: Array,
    drive: Array,
    first: Array,
    mean: Array,
    cov: Array,
    spread: Array,
    score: Array,
) -> None:
    """Filters all blocks of lanes.

    Arguments:
        A, Q, C: the system of each lane, ``[blocks, K, K, lanes]`` and ``[blocks, D, K, lanes]``.
        y, r: values and variances, ``[blocks, T, D, lanes]``; a variance is infinite where one is
            missing.
        drive: added to the state before a frame, ``[blocks, T, K, lanes]``.
        first: first real frame, ``[blocks, lanes]``.
        mean, cov: of x_1 in frame 0; the filtered ones are written here,
            ``[blocks, T, K, lanes]`` and ``[blocks, T, K, K, lanes]``.
        spread: predicted variance of every value, written; 1 where one is missing, NaN where it is
            not positive.
        score: sum of squared errors over that variance, written, ``[blocks, T, lanes]``.
    """
    states, lanes = A.shape[1], A.shape[-1]
    A_t, Q_t = np.empty((states, states, lanes)), np.empty((states, states, lanes))
    work = np.empty((max(states, 3), max(states, 2), lanes))
    for block in range(len(y)):
        last = first[block].max()
        for t in range(y.shape[1]):
            m, P = mean[block, t], cov[block, t]
            if t > 0:
                if t <= last + 1:
                    transition(A_t, Q_t, A[block], Q[block], first[block], t)
                move(m, mean[block, t - 1], A_t, drive[block, t])
                copy(P, Q_t)
                congruence(P, A_t, cov[block, t - 1], work[:states, :states])
            for n in range(lanes):
                score[block, t, n] = 0.0
            for d in range(y.shape[2]):
                update(
                    m, P, C[block, d], y[block, t, d], r[block, t, d], spread[block, t, d],
                    score[block, t], work,
                )  # fmt: skip


@compiled
def backward(
    A: Array, Q: Array, drive: Array, first: Array, mean: Array, cov: Array, lagged: Array
) -> None:
    """Smooths all blocks of lanes, in the place of the filtered beliefs.

    Arguments:
        A, Q, drive, first, mean, cov: see ``forward``.
        lagged: Cov(x_{t+1}, x_t | y), written, ``[blocks, T - 1, K, K, lanes]``.
    """
    states, lanes = A.shape[1], A.shape[-1]
    shape = (states, states, lanes)
    A_t, Q_t, ahead, gain = np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape)
    keep, other, work, L = np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape)
    vector, change = np.empty((states, lanes)), np.empty((states, lanes))
    for block in range(len(mean)):
        last = first[block].max()
        for t in range(mean.shape[1] - 2, -1, -1):
            if t == mean.shape[1] - 2 or t <= last:
                transition(A_t, Q_t, A[block], Q[block], first[block], t + 1)
            m, P, after = mean[block, t], cov[block, t], cov[block, t + 1]
            # gain = (P A') (A P A' + Q)^-1, the transpose of what is divided here.
            multiply(other, A_t, P)
            copy(ahead, Q_t)
            congruence(ahead, A_t, P, work)
            divide(other, ahead, L, vector)
            for i in range(states):
                for j in range(states):
                    for n in range(lanes):
                        gain[i, j, n] = other[j, i, n]
            move(change, m, A_t, drive[block, t + 1])
            for i in range(states):
                for n in range(lanes):
                    change[i, n] = mean[block, t + 1, i, n] - change[i, n]
            for i in range(states):
                for k in range(states):
                    for n in range(lanes):
                        m[i, n] += gain[i, k, n] * change[k, n]
            multiply(lagged[block, t], after, other)
            # (I - J A) P (I - J A)' + J (Q + P_after) J'
            multiply(keep, gain, A_t)
            for i in range(states):
                for j in range(states):
                    for n in range(lanes):
                        keep[i, j, n] = (1.0 if i == j else 0.0) - keep[i, j, n]
                        other[i, j, n] = Q_t[i, j, n] + after[i, j, n]
            copy(ahead, P)
            for i in range(states):
                for j in range(states):
                    for n in range(lanes):
                        P[i, j, n] = 0.0
            congruence(P, keep, ahead, work)
            congruence(P, gain, other, work)
