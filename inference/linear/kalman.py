"""Kalman filter and Rauch-Tung-Striebel smoother, batched, in float64.

The model:

    x_1 ~ N(m, P),   x_t = A x_{t-1} + B s_t + N(0, Q),   y_t = C x_t + d + D s_t + N(0, R + V_t)

V_t is diagonal, known, and may differ from value to value. The offset d, the noise R and the inputs
s_t are optional. A value with infinite variance is missing. The others of its frame count, and the
time passes.

Parameters may carry leading axes ``[..., K, K]`` that broadcast against the batch of sequences;
EM uses one for its restarts, so that they run at the cost of one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .checks import Data, check_inputs, check_precision, check_system, measured
from .fast import independent, run, why_not
from .system import Beliefs, LinearGaussian, begun, drive


def kalman_filter(
    model: LinearGaussian,
    obs: Tensor,
    variance: Tensor,
    mask: Tensor | None = None,
    inputs: Tensor | None = None,
    compiled: bool | None = None,
) -> Beliefs:
    """Forward pass: p(x_t | y_1 .. y_t), with covariances updated in Joseph's form.

    Arguments:
        model: the parameters.
        obs: ``[B, T, D]``; a missing value may be anything.
        variance: diagonal of V_t, ``[B, T, D]``; infinite where a value is missing.
        mask: True where a frame is real, ``[B, T]``. x_1 is the state of the first real frame of a
            sequence. The state is predicted, not updated, in later frames that are not real.
        inputs: s_t, ``[B, T, I]``, for a system that takes them. Those of frames that are not real
            count as zero; a frame without values, but with inputs, is real.
        compiled: True for the compiled form, False for the form in torch. None takes the compiled
            form where it applies; both agree but for rounding.

    Returns:
        Beliefs over ``[..., B, T, K]``, in the dtype of the parameters.

    Raises:
        ValueError: for arguments of wrong shapes, that are not finite where they count, or that are
            no covariances; where float64 does not suffice; and for ``compiled=True`` where the
            compiled form does not apply.
    """
    return _beliefs(model, obs, variance, mask, inputs, compiled, smooth=False)


def _beliefs(
    model: LinearGaussian,
    obs: Tensor,
    variance: Tensor,
    mask: Tensor | None,
    inputs: Tensor | None,
    compiled: bool | None,
    smooth: bool,
) -> Beliefs:
    """Checks the arguments, and calls one of the two forms."""
    check_system(model)
    data = measured(model, obs, variance, mask, inputs)
    if compiled is not False:
        reason = why_not(model, data)
        values = independent(model, data) if reason is None else None
        if values is not None:
            return run(model, data, values, mask, smooth)
        if compiled:
            raise ValueError(
                "the compiled form does not apply: "
                + (reason or "full noise, with variances or missing values that differ by frame")
            )
    return (_smoothed if smooth else _filtered)(model, data, mask)


def _filtered(model: LinearGaussian, data: Data, mask: Tensor | None) -> Beliefs:
    obs, variance, seen, driven = data
    transitions = _transitions(model, obs.shape[-2], mask)
    C = model.emission.unsqueeze(-3)
    eye = torch.eye(C.shape[-1], dtype=C.dtype, device=C.device)
    constant: Tensor | float = obs.shape[-1] * math.log(2 * math.pi)
    mean = model.initial_mean.unsqueeze(-2).unsqueeze(-1)
    cov = model.initial_covariance.unsqueeze(-3)
    means, covs, terms, failures = [], [], [], []
    for t, (y, r) in enumerate(zip(obs.unbind(-2), variance.unbind(1))):
        if t > 0:
            A, Q = (matrix.select(-3, t - 1) for matrix in transitions)
            mean, cov = A @ mean, A @ cov @ A.mT + Q
            if driven is not None:
                mean = mean + driven[..., t - 1, :, None]
        if seen is not None:  # a row of zeros in C: the value says nothing, and gains nothing
            C = model.emission.unsqueeze(-3) * seen[:, t, :, None]
            constant = seen[:, t].to(C).sum(-1) * math.log(2 * math.pi)
        R = torch.diag_embed(r)
        if model.noise is not None:
            R = R + _noise(model.noise, None if seen is None else seen[:, t])
        innovation = y[..., None] - C @ mean
        S = C @ cov @ C.mT + R
        factor, failure = torch.linalg.cholesky_ex(S)
        gain = torch.cholesky_solve(C @ cov, factor).mT
        whitened = torch.linalg.solve_triangular(factor, innovation, upper=False)
        log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        keep = eye - gain @ C
        mean = mean + gain @ innovation
        cov = keep @ cov @ keep.mT + gain @ R @ gain.mT
        means.append(mean[..., 0])
        covs.append(cov)
        terms.append(-0.5 * (whitened.square().sum((-2, -1)) + log_det + constant))
        failures.append(failure)
    # Leading axes of A or Q are not yet there in frame 0.
    mean, cov = (torch.stack(torch.broadcast_tensors(*p), d) for p, d in ((means, -2), (covs, -3)))
    scores = torch.stack(torch.broadcast_tensors(*terms), -1)
    failed = torch.stack(torch.broadcast_tensors(*failures), -1) != 0
    check_precision(mean, cov, scores.masked_fill(failed, math.nan))
    return Beliefs(mean, cov, scores.sum(-1))


def kalman_smoother(
    model: LinearGaussian,
    obs: Tensor,
    variance: Tensor,
    mask: Tensor | None = None,
    inputs: Tensor | None = None,
    compiled: bool | None = None,
) -> Beliefs:
    """Backward (Rauch-Tung-Striebel) pass: p(x_t | y_1 .. y_T), with lag-one covariances.

    Arguments:
        model, obs, variance, mask, inputs, compiled: see ``kalman_filter``.

    Returns:
        Beliefs over ``[..., B, T, K]``, with ``lagged``.

    Raises:
        ValueError: see ``kalman_filter``.
    """
    return _beliefs(model, obs, variance, mask, inputs, compiled, smooth=True)


def _smoothed(model: LinearGaussian, data: Data, mask: Tensor | None) -> Beliefs:
    forward = _filtered(model, data, mask)
    # All predictions and smoother gains at once; only the recursion itself is serial.
    mean_ahead, ahead = _ahead(model, forward, mask, data.drive)
    A_t, _ = _transitions(model, data.obs.shape[-2], mask)
    before = forward.covariance[..., :-1, :, :]
    gain = solve(ahead, A_t @ before).mT
    mean, cov = forward.mean[..., -1, :], forward.covariance[..., -1, :, :]
    means, covs = [mean], [cov]
    for t in reversed(range(data.obs.shape[-2] - 1)):
        J = gain[..., t, :, :]
        shift = J @ (mean - mean_ahead[..., t, :])[..., None]
        mean = forward.mean[..., t, :] + shift[..., 0]
        cov = before[..., t, :, :] + J @ (cov - ahead[..., t, :, :]) @ J.mT
        means.append(mean)
        covs.append(cov)
    mean, cov = torch.stack(means[::-1], -2), torch.stack(covs[::-1], -3)
    lagged = cov[..., 1:, :, :] @ gain.mT
    check_precision(mean, cov)
    return Beliefs(mean, cov, forward.log_likelihood, lagged)


def predictions(
    model: LinearGaussian,
    filtered: Beliefs,
    mask: Tensor | None = None,
    inputs: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of p(x_t | y_1 .. y_{t-1}) of every step but the first.

    Arguments:
        model: the parameters.
        filtered: the beliefs of ``kalman_filter``, over ``[..., B, T, K]``.
        mask: True where a frame is real, ``[B, T]``.
        inputs: those that ``kalman_filter`` was given, ``[B, T, I]``.

    Returns:
        ``[..., B, T - 1, K]`` and ``[..., B, T - 1, K, K]``.
    """
    check_inputs(model, inputs, mask, filtered.mean.shape[-3:-1])
    return _ahead(model, filtered, mask, drive(model, inputs, mask))


def _ahead(
    model: LinearGaussian, filtered: Beliefs, mask: Tensor | None, driven: Tensor | None
) -> tuple[Tensor, Tensor]:
    A, Q = _transitions(model, filtered.mean.shape[-2], mask)
    mean = (A @ filtered.mean[..., :-1, :, None])[..., 0]
    if driven is not None:
        mean = mean + driven
    return mean, A @ filtered.covariance[..., :-1, :, :] @ A.mT + Q


def solve(covariance: Tensor, right: Tensor) -> Tensor:
    """covariance^-1 right, by the pseudo-inverse where a covariance is singular."""
    found, singular = torch.linalg.solve_ex(covariance, right)
    if singular.any():
        other = torch.linalg.pinv(covariance, hermitian=True) @ right
        found = torch.where(singular[..., None, None] > 0, other, found)
    return found


def _transitions(model: LinearGaussian, steps: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """A and Q of each step but the first, ``[..., 1 or B, T - 1, K, K]``: none before x_1."""
    A, Q = (matrix[..., None, None, :, :] for matrix in (model.dynamics, model.process))
    if mask is not None and not mask[:, 0].all():
        moves = begun(mask)[:, :-1, None, None]
        A = torch.where(moves, A, torch.eye(A.shape[-1], dtype=A.dtype, device=A.device))
        Q = torch.where(moves, Q, torch.zeros_like(Q))
    A, Q = (matrix.expand(*matrix.shape[:-3], steps - 1, -1, -1) for matrix in (A, Q))
    return A, Q


def _noise(noise: Tensor, seen: Tensor | None) -> Tensor:
    """R of one frame, ``[..., 1 or B, D, D]``, with zeros in the rows and columns not seen."""
    noise = noise.unsqueeze(-3)
    return noise if seen is None else noise * (seen[:, :, None] & seen[:, None, :])
