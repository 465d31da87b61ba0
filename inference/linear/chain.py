"""Gaussian Markov chains whose dimensions mix: prior and posterior paths of linear systems."""

from __future__ import annotations

import torch
from torch import Tensor

from ..paths import Path
from .kalman import Beliefs, solve
from .system import LinearGaussian, drive


class GaussianChain(Path):
    """z_t = F_t z_{t-1} + b_t + L_t e_t with z_0 = 0, white e_t, and L_t lower triangular.

    Arguments:
        mask: True where a step is real, ``batch_shape + [T]``.
        transition: F, broadcasts to ``batch_shape + [T, K, K]``.
        offset: b, broadcasts to ``batch_shape + [T, K]``.
        factor: L, its diagonal positive, broadcasts like ``transition``.
    """

    def __init__(self, mask: Tensor, transition: Tensor, offset: Tensor, factor: Tensor) -> None:
        self.transition, self.offset, self.factor = transition, offset, factor
        super().__init__(mask, offset.shape[-1], factor)

    def from_innovations(self, noise: Tensor) -> Tensor:
        pushes = self.offset + (self.factor @ noise[..., None])[..., 0]
        path = [pushes[..., 0, :]]
        for t in range(1, noise.shape[-2]):
            moved = (self.transition[..., t, :, :] @ path[-1][..., None])[..., 0]
            path.append(moved + pushes[..., t, :])
        return torch.stack(path, -2)

    def to_innovations(self, path: Tensor) -> tuple[Tensor, Tensor]:
        before = torch.nn.functional.pad(path[..., :-1, :], (0, 0, 1, 0))
        rest = path - self.offset - (self.transition @ before[..., None])[..., 0]
        noise = torch.linalg.solve_triangular(self.factor, rest[..., None], upper=False)[..., 0]
        return noise, self.factor.diagonal(dim1=-2, dim2=-1)


def prior_chain(
    system: LinearGaussian, mask: Tensor, inputs: Tensor | None = None
) -> GaussianChain:
    """p(x_1 .. x_T) of a system, for sequences that begin with a real frame.

    Arguments:
        system: the parameters, without leading axes.
        mask: True where a frame is real, ``[B, T]``.
        inputs: ``[B, T, I]``.

    Raises:
        ValueError: where noise does not enter every direction of the state.
    """
    steps = mask.shape[1]
    transition = system.dynamics.repeat(steps, 1, 1)
    transition[0] = 0.0
    covariance = system.process.repeat(steps, 1, 1)
    covariance[0] = system.initial_covariance
    offset = torch.zeros_like(system.initial_mean).repeat(*mask.shape, 1)
    driven = drive(system, inputs, mask)
    if driven is not None:
        offset[:, 1:] = driven
    offset[:, 0] = system.initial_mean
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if failed.any():
        raise ValueError(
            "noise enters some directions of the state only, so that its paths have no density: "
            "give process and initial_covariance full rank"
        )
    return GaussianChain(mask, transition, offset, factor)


def posterior_chain(beliefs: Beliefs, mask: Tensor) -> GaussianChain:
    """The chain with the moments of smoothed beliefs, ``[B, T, K]``.

    Arguments:
        beliefs: those of a smoother, with ``lagged``.
        mask: True where a frame is real, ``[B, T]``.
    """
    mean, cov, lagged = beliefs.mean, beliefs.covariance, beliefs.lagged
    assert lagged is not None
    gain = solve(cov[..., :-1, :, :], lagged.mT).mT  # lagged V^-1
    left = cov[..., 1:, :, :] - gain @ lagged.mT
    transition = torch.cat((torch.zeros_like(cov[..., :1, :, :]), gain), -3)
    moved = (gain @ mean[..., :-1, :, None])[..., 0]
    offset = torch.cat((mean[..., :1, :], mean[..., 1:, :] - moved), -2)
    covariance = torch.cat((cov[..., :1, :, :], left), -3)
    # L L' is the covariance, and L is triangular, however small an eigenvalue is.
    factor = torch.linalg.qr(covariance_root(covariance).mT).R.mT
    sign = factor.diagonal(dim1=-2, dim2=-1).sign()
    return GaussianChain(mask, transition, offset, factor * sign[..., None, :])


def covariance_root(covariance: Tensor) -> Tensor:
    """A matrix M with M M' = covariance, ``[..., K, K]``, of eigenvalues that may be zero."""
    values, axes = torch.linalg.eigh((covariance + covariance.mT) / 2)
    least = 1e-12 * covariance.diagonal(dim1=-2, dim2=-1).amax(-1, keepdim=True)
    return axes * values.maximum(least).sqrt()[..., None, :]
