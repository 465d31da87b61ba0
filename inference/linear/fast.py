"""The compiled Kalman filter and smoother, where they apply: numba, float64, on the CPU.

``kernel`` takes one value of a frame at a time. Diagonal observation noise is an addition to
the variances; full noise is whitened, where one transformation serves all frames.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from .. import kernels
from .checks import Data, check_precision
from .system import Beliefs, LinearGaussian, begun


def kernel() -> ModuleType | None:
    """The compiled functions; None where numba is not installed."""
    return kernels.load(f"{__package__}.kernel")


def compiles() -> bool:
    """Whether the next call compiles the kernel, which takes about 15 seconds, once."""
    module = kernel()
    if module is None or module.forward.signatures:
        return False
    folder, written = module.forward.stats.cache_path, Path(str(module.__file__)).stat().st_mtime
    kept = [] if folder is None else Path(folder).glob("kernel.backward-*.nbc")
    return all(file.stat().st_mtime < written for file in kept)


def why_not(model: LinearGaussian, data: Data) -> str | None:
    """The reason why the kernel does not apply, or None where it does."""
    tensors = [*model.parts().values(), *(part for part in data if part is not None)]
    if model.dynamics.dtype != torch.float64 or model.dynamics.device.type != "cpu":
        return f"the system is {model.dynamics.dtype} on {model.dynamics.device}"
    if torch.is_grad_enabled() and any(part.requires_grad for part in tensors):
        return "it has no gradient: call it under torch.no_grad()"
    if kernel() is None:
        return "numba is not installed: pip install numba"
    return None


class Independent(NamedTuple):
    """Values with independent noise, one after another.

    Arguments:
        emission: C, ``[..., D, K]``.
        obs: ``[..., B, T, D]``.
        variance: ``[..., B, T, D]``; infinite where a value is missing.
        constant: what each frame adds to -2 log p(y), ``[..., B, T]``.
    """

    emission: Tensor
    obs: Tensor
    variance: Tensor
    constant: Tensor


def independent(model: LinearGaussian, data: Data) -> Independent | None:
    """The values with their noise made diagonal, or None where that takes a matrix a frame."""
    C, noise, (obs, variance, seen, _) = model.emission, model.noise, data
    whole = torch.ones(variance.shape[:2], dtype=torch.bool, device=variance.device)
    if seen is not None:
        alive = seen.flatten(0, 1).any(0)  # the others are in no frame
        C, obs, seen = C[..., alive, :], obs[..., alive], seen[..., alive]
        noise = None if noise is None else noise[..., alive, :][..., alive]
        variance = variance[..., alive].masked_fill(~seen, math.inf)
        whole = seen.any(-1)
    own = torch.zeros_like(C[..., 0]) if noise is None else noise.diagonal(dim1=-2, dim2=-1)
    diagonal = noise is None or torch.equal(noise, torch.diag_embed(own))
    if not diagonal or C.shape[-2] > C.shape[-1]:
        reduced = _reduced(C, noise, obs, variance, whole)
        if reduced is not None or not diagonal:
            return reduced
    count = variance.shape[-1] if seen is None else seen.sum(-1)
    variance = variance if noise is None else variance + own[..., None, None, :]
    return Independent(C, obs, variance, torch.as_tensor(count).to(obs) * math.log(2 * math.pi))


def _reduced(
    C: Tensor, noise: Tensor | None, obs: Tensor, variance: Tensor, whole: Tensor
) -> Independent | None:
    """The K values of a frame that the states depend on, by a QR decomposition of white C.

    With S = R + V = L L' and L^-1 C = U [T; 0], the first K of U' L^-1 y have emission T and white
    noise, and the others are noise alone. Needs frames seen whole or not at all, with one V.
    """
    least, most = torch.aminmax(variance if whole.all() else variance[whole][None], dim=1)
    least, most = least.amin(0), most.amax(0)
    if not most.isfinite().all() or (least != most).any():
        return None
    S = torch.diag(most) if noise is None else noise + torch.diag(most)
    L, failure = torch.linalg.cholesky_ex(S)
    scale = L.diagonal(dim1=-2, dim2=-1)
    # A QR decomposition keeps what small rows say where rows are of similar size.
    if failure.any() or (scale.amax(-1) > 1e4 * scale.amin(-1)).any():
        return None
    white = torch.linalg.solve_triangular(L, C, upper=False)
    U, T = torch.linalg.qr(white, mode="complete")
    size = min(C.shape[-2:])
    turned = obs @ torch.linalg.solve_triangular(L.mT, U, upper=True).unsqueeze(-3)
    rest = torch.linalg.vector_norm(turned[..., size:], dim=-1).square()
    frame = C.shape[-2] * math.log(2 * math.pi) + 2 * scale.log().sum(-1)[..., None, None]
    unit = torch.where(whole, 1.0, math.inf).to(obs)[..., None].expand(*whole.shape, size)
    return Independent(T[..., :size, :], turned[..., :size], unit, rest + whole * frame)


class Lanes(NamedTuple):
    """Sequences side by side in blocks of at most 64, the last block filled up with copies.

    Arguments:
        leading: leading axes of the parameters.
        rows: number of sequences, ``B``.
    """

    leading: torch.Size
    rows: int

    @property
    def count(self) -> int:
        """Sequences of all systems."""
        return self.leading.numel() * self.rows

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.count // 64)

    def lay(self, part: Tensor, axes: int) -> Tensor:
        """``[..., 1 or B, *axes] -> [blocks, *axes, lanes]``."""
        shape = part.shape[part.dim() - axes :]
        part = part.expand(*self.leading, self.rows, *shape).reshape(self.count, *shape)
        spare = -self.count % self.blocks
        if spare:
            part = torch.cat((part, part[-1:].expand(spare, *shape)))
        return part.unflatten(0, (self.blocks, -1)).movedim(1, -1).contiguous()

    def back(self, part: Tensor) -> Tensor:
        """``[blocks, *axes, lanes] -> [..., B, *axes]``."""
        part = part.movedim(-1, 1).flatten(0, 1)[: self.count]
        return part.reshape(*self.leading, self.rows, *part.shape[1:])


def run(
    model: LinearGaussian, data: Data, values: Independent, mask: Tensor | None, smooth: bool
) -> Beliefs:
    """Beliefs of the filter or the smoother.

    Arguments:
        model: the parameters.
        data: those of ``measured``.
        values: those of ``independent``.
        mask: True where a frame is real, ``[B, T]``.
        smooth: the smoother's, with ``lagged``.

    Raises:
        ValueError: where float64 does not suffice.
    """
    compiled = kernel()
    assert compiled is not None
    matrices = model.dynamics, model.process, model.emission, model.initial_covariance
    leading = torch.broadcast_shapes(
        model.initial_mean.shape[:-1],
        values.obs.shape[:-3],
        values.variance.shape[:-3],
        *(part.shape[:-2] for part in matrices),
    )
    rows, steps, _ = values.obs.shape[-3:]
    lanes = Lanes(leading, rows)
    A, Q, C, P = (
        lanes.lay(part.unsqueeze(-3), 2)
        for part in (model.dynamics, model.process, values.emission, model.initial_covariance)
    )
    y, r = lanes.lay(values.obs, 2), lanes.lay(values.variance, 2)
    first = torch.zeros(rows, dtype=torch.int64)
    if mask is not None:
        first = (~begun(mask)).sum(1)
    blocks, states, _, width = A.shape
    mean = y.new_empty(blocks, steps, states, width)
    cov = y.new_empty(blocks, steps, states, states, width)
    mean[:, 0], cov[:, 0] = lanes.lay(model.initial_mean.unsqueeze(-2), 1), P
    drive = torch.zeros_like(mean)
    if data.drive is not None:
        drive[:, 1:] = lanes.lay(data.drive, 2)
    spread, score = torch.empty_like(y), y.new_empty(blocks, steps, width)
    start = lanes.lay(first, 0)
    system = A.numpy(), Q.numpy()
    written = mean.numpy(), cov.numpy()
    compiled.forward(
        *system, C.numpy(), y.numpy(), r.numpy(), drive.numpy(), start.numpy(), *written,
        spread.numpy(), score.numpy(),
    )  # fmt: skip
    score += spread.log_().sum(-2)
    scores = -0.5 * (lanes.back(score) + values.constant)
    _check(lanes, mean, cov, scores)
    lagged = None
    if smooth:
        after = y.new_empty(blocks, steps - 1, states, states, width)
        compiled.backward(*system, drive.numpy(), start.numpy(), *written, after.numpy())
        _check(lanes, mean, cov)
        lagged = lanes.back(after)
    return Beliefs(lanes.back(mean), lanes.back(cov), scores.sum(-1), lagged)


def _check(lanes: Lanes, mean: Tensor, cov: Tensor, scores: Tensor | None = None) -> None:
    """Looks for the frame that is not finite, where a sum is not."""
    total = mean.sum() + cov.sum() + (0.0 if scores is None else scores.sum())
    if not total.isfinite():
        check_precision(lanes.back(mean), lanes.back(cov), scores)
