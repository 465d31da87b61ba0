"""Subspace identification: a linear system from the covariances of frames that lie apart in time.

The covariance of y_{t+l} and y_t is C A^l S C', S being that of the state, whatever the noise of
single frames is. C and A follow from the singular vectors of a matrix of such blocks. Missing
values leave the pairs out in which they stand. The result is a start for EM.

Source: T. Katayama, "Subspace Methods for System Identification" (2005), chapter 7.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SLOWEST = 0.99  # limit on the singular values of A, of a state of variance 1
DEPTH, ROWS = 5, 600  # frames in a block matrix, and about how many rows it has at most


class Found(NamedTuple):
    """A system whose state has mean 0 and covariance I at every step.

    Arguments:
        dynamics: A, ``[K, K]``; its singular values are below 1.
        emission: C, ``[D, K]``.
    """

    dynamics: Tensor
    emission: Tensor

    @property
    def process(self) -> Tensor:
        """Q, so that the covariance stays I."""
        return torch.eye(len(self.dynamics)).to(self.dynamics) - self.dynamics @ self.dynamics.mT


def lagged_covariances(value: Tensor, seen: Tensor, lags: int) -> Tensor:
    """Cov(y_{t+l}, y_t) for l = 0 .. ``lags``, from the pairs that were seen; ``[L + 1, D, D]``.

    Arguments:
        value: ``[B, T, D]``.
        seen: True where a value was seen, ``[B, T, D]``.
        lags: ``L``, below ``T``.
    """
    weight = seen.to(value)
    mean = (value * weight).sum((0, 1)) / weight.sum((0, 1)).clamp_min(1.0)
    rest, found = (value - mean).masked_fill(~seen, 0.0), []
    for lag in range(lags + 1):
        steps = value.shape[1] - lag
        pairs = [
            (each[:, lag:].flatten(0, 1), each[:, :steps].flatten(0, 1)) for each in (rest, weight)
        ]
        total, count = (later.mT @ now for later, now in pairs)
        found.append(total / count.clamp_min(1.0))
    return torch.stack(found)


def lags_for(states: int, values: int, steps: int) -> int:
    """How many lags ``identify`` uses of sequences of so many steps; 0 of a single one."""
    depth = max(2, min(DEPTH, ROWS // values), -(-states // values) + 1)
    return min(2 * depth - 1, steps - 1)


def identify(covariances: Tensor, states: int) -> Found:
    """A system with such covariances of frames apart in time.

    Arguments:
        covariances: those of lags 0 to ``L``, ``L >= 1``, ``[L + 1, D, D]``; that of lag 0, in
            which noise is, does not count.
        states: ``K``.
    """
    device, covariances = covariances.device, covariances.cpu()
    values, depth = covariances.shape[-1], len(covariances) // 2  # 2 depth - 1 lags at most
    blocks = [[covariances[i + j + 1] for j in range(depth)] for i in range(depth)]
    left, scale, right = torch.linalg.svd(torch.cat([torch.cat(row, 1) for row in blocks]))
    size = min(states, len(scale))
    root = scale[:size].clamp_min(1e-3 * scale[0].clamp_min(1e-12)).sqrt()
    future = left[:, :size] * root  # C, C A, C A^2, ..
    past = root[:, None] * right[:size]  # A S C', A^2 S C', ..
    if depth > 1:
        dynamics = torch.linalg.pinv(future[:-values]) @ future[values:]
    else:
        dynamics = 0.9 * torch.eye(size).to(future)
    emission = future[:values].contiguous()
    # S is the least-squares solution of the equations for the past.
    powers = [torch.linalg.matrix_power(dynamics, j + 1) for j in range(depth)]
    system = torch.cat([torch.kron(power, emission) for power in powers])
    target = torch.cat([part.flatten() for part in past.split(values, 1)])
    spread = torch.linalg.lstsq(system, target[:, None], driver="gelsd").solution.view(size, size)
    size_of, axes = torch.linalg.eigh((spread + spread.mT) / 2)
    size_of = size_of.clamp_min(1e-2 * size_of.max().clamp_min(1e-6))
    half = (axes * size_of.sqrt()) @ axes.mT
    dynamics = torch.linalg.solve(half, dynamics @ half)
    emission = emission @ half
    u, gains, v = torch.linalg.svd(dynamics)
    dynamics = (u * gains.clamp_max(SLOWEST)) @ v
    if size < states:  # sequences too short to tell more apart
        extra = states - size
        dynamics = torch.block_diag(dynamics, 0.9 * torch.eye(extra).to(dynamics))
        emission = torch.cat((emission, emission.abs().mean() * torch.randn(values, extra)), 1)
    return Found(dynamics.to(device), emission.to(covariances).to(device))
