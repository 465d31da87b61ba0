"""Kalman filter and Rauch-Tung-Striebel smoother, batched, in float64.

The model, with time-varying observation noise R_t that is known:

    x_1 ~ N(m, P),   x_t = A x_{t-1} + N(0, Q),   y_t = C x_t + N(0, R_t)

Parameters may carry leading axes ``[..., K, K]`` that broadcast against the batch of sequences;
EM uses one for its restarts, so that they run at the cost of one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class LinearGaussian(NamedTuple):
    """Parameters of a linear-Gaussian dynamical system.

    Arguments:
        dynamics: A, ``[..., K, K]``.
        process: Q, covariance of the process noise, ``[..., K, K]``.
        emission: C, ``[..., D, K]``.
        initial_mean: m, ``[..., K]``.
        initial_covariance: P, ``[..., K, K]``.
    """

    dynamics: Tensor
    process: Tensor
    emission: Tensor
    initial_mean: Tensor
    initial_covariance: Tensor


class Beliefs(NamedTuple):
    """Gaussian distributions of the state at every step.

    Arguments:
        mean: ``[..., B, T, K]``.
        covariance: ``[..., B, T, K, K]``.
        log_likelihood: log p(y_1 .. y_T) in nats, ``[..., B]``.
        lagged: Cov(x_{t+1}, x_t | y), ``[..., B, T - 1, K, K]``; None from the filter.
    """

    mean: Tensor
    covariance: Tensor
    log_likelihood: Tensor
    lagged: Tensor | None = None

    @property
    def variance(self) -> Tensor:
        """Marginal variances, ``[..., B, T, K]``."""
        return self.covariance.diagonal(dim1=-2, dim2=-1)


def kalman_filter(
    model: LinearGaussian, obs: Tensor, variance: Tensor, mask: Tensor | None = None
) -> Beliefs:
    """Forward pass: p(x_t | y_1 .. y_t), with covariances updated in Joseph's form.

    Arguments:
        model: the parameters.
        obs: ``[B, T, D]``.
        variance: diagonal of R_t, ``[B, T, D]``; infinite where a frame carries no information.
        mask: True where a frame is real, ``[B, T]``. The state is predicted, not updated, where a
            frame is padding or carries no information.

    Returns:
        Beliefs over ``[..., B, T, K]``, in the dtype of the parameters.
    """
    obs, variance = obs.to(model.dynamics), variance.to(model.dynamics)
    informative = variance.isfinite().all(-1)
    if not informative.all():
        mask = informative if mask is None else mask & informative
    if mask is not None:  # values of masked frames may be anything
        obs = obs.masked_fill(~mask[..., None], 0.0)
        variance = variance.masked_fill(~mask[..., None], 1.0)
    A, Q, C = (matrix.unsqueeze(-3) for matrix in model[:3])
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    constant = obs.shape[-1] * math.log(2 * math.pi)
    mean = model.initial_mean.unsqueeze(-2).unsqueeze(-1)
    cov = model.initial_covariance.unsqueeze(-3)
    means, covs, terms = [], [], []
    for t, (y, r) in enumerate(zip(obs.unbind(1), variance.unbind(1))):
        if t > 0:
            mean, cov = A @ mean, A @ cov @ A.mT + Q
        R = torch.diag_embed(r)
        innovation = y[..., None] - C @ mean
        S = C @ cov @ C.mT + R
        factor = torch.linalg.cholesky(S)
        gain = torch.cholesky_solve(C @ cov, factor).mT
        whitened = torch.linalg.solve_triangular(factor, innovation, upper=False)
        log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        term = -0.5 * (whitened.square().sum((-2, -1)) + log_det + constant)
        if mask is not None:
            gain = gain * mask[:, t, None, None]
            term = term * mask[:, t]
        keep = eye - gain @ C
        mean = mean + gain @ innovation
        cov = keep @ cov @ keep.mT + gain @ R @ gain.mT
        means.append(mean[..., 0])
        covs.append(cov)
        terms.append(term)
    return Beliefs(torch.stack(means, -2), torch.stack(covs, -3), torch.stack(terms, -1).sum(-1))


def kalman_smoother(
    model: LinearGaussian, obs: Tensor, variance: Tensor, mask: Tensor | None = None
) -> Beliefs:
    """Backward (Rauch-Tung-Striebel) pass: p(x_t | y_1 .. y_T), with lag-one covariances.

    Arguments:
        model, obs, variance, mask: see ``kalman_filter``.

    Returns:
        Beliefs over ``[..., B, T, K]``, with ``lagged``.
    """
    forward = kalman_filter(model, obs, variance, mask)
    A, Q = model.dynamics.unsqueeze(-3), model.process.unsqueeze(-3)
    # All predictions and smoother gains at once; only the recursion itself is serial.
    A_t, Q_t = A.unsqueeze(-3), Q.unsqueeze(-3)
    before = forward.covariance[..., :-1, :, :]
    ahead = A_t @ before @ A_t.mT + Q_t
    gain = torch.linalg.solve(ahead, A_t @ before).mT
    mean_ahead = (A_t @ forward.mean[..., :-1, :, None])[..., 0]
    mean, cov = forward.mean[..., -1, :], forward.covariance[..., -1, :, :]
    means, covs = [mean], [cov]
    for t in reversed(range(obs.shape[1] - 1)):
        J = gain[..., t, :, :]
        shift = J @ (mean - mean_ahead[..., t, :])[..., None]
        mean = forward.mean[..., t, :] + shift[..., 0]
        cov = before[..., t, :, :] + J @ (cov - ahead[..., t, :, :]) @ J.mT
        means.append(mean)
        covs.append(cov)
    mean, cov = torch.stack(means[::-1], -2), torch.stack(covs[::-1], -3)
    lagged = cov[..., 1:, :, :] @ gain.mT
    return Beliefs(mean, cov, forward.log_likelihood, lagged)
