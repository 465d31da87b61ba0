"""Kalman filter, Rauch-Tung-Striebel smoother and EM, batched, in float64.

The model, with time-varying observation noise R_t that is known:

    x_1 ~ N(m, P),   x_t = A x_{t-1} + N(0, Q),   y_t = C x_t + N(0, R_t)

Parameters may carry leading axes ``[..., K, K]`` that broadcast against the batch of sequences;
EM uses one for its restarts, so that they run at the cost of one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..data import Batch
from .closed_form import ClosedForm
from .rule import SYSTEM, check_network
from .streams import RandomStream


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
    """Gaussian beliefs about the state at every step.

    Arguments:
        mean: ``[..., B, T, K]``.
        covariance: ``[..., B, T, K, K]``.
        log_likelihood: log p(y_1 .. y_T) in nats, ``[..., B]``.
        lagged: Cov(x_{t+1}, x_t | y), ``[..., B, T - 1, K, K]``; the smoother alone fills it.
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
        variance: diagonal of R_t, ``[B, T, D]``; infinite where a frame says nothing.
        mask: True where a frame is real, ``[B, T]``. Padding, and what says nothing, is predicted,
            not observed.

    Returns:
        Beliefs over ``[..., B, T, K]``, in the dtype of the parameters.
    """
    obs, variance = obs.to(model.dynamics), variance.to(model.dynamics)
    says = variance.isfinite().all(-1)
    if not says.all():
        mask = says if mask is None else mask & says
    if mask is not None:  # what is not observed has no value and is not weighed
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
    """Backward (Rauch-Tung-Striebel) pass: p(x_t | y_1 .. y_T), with lag-one covariances."""
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


def maximise(beliefs: Beliefs, emission: Tensor, mask: Tensor) -> LinearGaussian:
    """M step for A, Q, m and P, given smoothed beliefs; C is fixed and R_t known.

    A transition counts when a real frame follows: padding at the end of a sequence adds nothing,
    and a gap within it is a stretch of the path that was not seen.
    """
    second = beliefs.covariance + beliefs.mean[..., None] * beliefs.mean[..., None, :]
    lagged = beliefs.lagged + beliefs.mean[..., 1:, :, None] * beliefs.mean[..., :-1, None, :]
    real = mask[:, 1:].flip(1).cummax(1).values.flip(1).to(second.dtype)
    weight = real[..., None, None]
    now = (second[..., 1:, :, :] * weight).sum((-4, -3))
    then = (second[..., :-1, :, :] * weight).sum((-4, -3))
    cross = (lagged * weight).sum((-4, -3))
    dynamics = torch.linalg.solve(then, cross.mT).mT
    process = symmetric(now - dynamics @ cross.mT) / real.sum()
    mean = beliefs.mean[..., 0, :].mean(-2)
    initial = second[..., 0, :, :].mean(-3) - mean[..., None] * mean[..., None, :]
    return LinearGaussian(dynamics, process, emission, mean, symmetric(initial))


def symmetric(matrix: Tensor) -> Tensor:
    """The symmetric part."""
    return (matrix + matrix.mT) / 2


class EM(ClosedForm):
    """Expectation-maximisation for a linear-Gaussian network: exact, monotone, no gradient.

    The restarts run as one batch; the likeliest wins.

    Arguments:
        net: a network with ``measure(obs, mask) -> (value, variance)``,
            ``assign(LinearGaussian)`` and ``guess(value, mask)`` (a random start), such as
            ``zoo.LGDS``.
        restarts: number of random starts.
        iterations: most EM iterations.
        tolerance: stop when no restart gains more than this, in nats per frame.
        seed: seed of the starts.

    Raises:
        ValueError: for fewer than one restart or iteration, or a network of another kind.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        restarts: int = 4,
        iterations: int = 100,
        tolerance: float = 1e-7,
        seed: int = 0,
    ):
        check_network(self, net, "linear-Gaussian networks (LGDS)", SYSTEM)
        if restarts < 1 or iterations < 1:
            raise ValueError("restarts and iterations must be at least 1")
        self.net, self.restarts, self.iterations = net, restarts, iterations
        self.tolerance, self.seed = tolerance, seed

    @torch.no_grad()
    def fit(self, batch: Batch, progress: bool = False) -> list[float]:
        """Learns from one batch and leaves the likeliest restart in the network.

        Returns:
            The log-likelihood of that restart (nats per frame) before every M step; it never
            decreases.
        """
        from tqdm import tqdm

        if batch.obs.shape[1] < 2:
            raise ValueError("EM learns a transition: it needs sequences of at least two frames")
        value, variance = self.net.measure(batch.obs, batch.mask)
        with RandomStream(batch.obs.device, "EM", self.seed):
            guesses = [self.net.guess(value, batch.mask) for _ in range(self.restarts)]
        model = LinearGaussian(*(torch.stack(parts) for parts in zip(*guesses)))
        history: list[Tensor] = []
        bar = tqdm(range(self.iterations), "EM", disable=not progress)
        for _ in bar:
            beliefs = kalman_smoother(model, value, variance, batch.mask)
            history.append(beliefs.log_likelihood.sum(-1) / batch.frames)
            bar.set_postfix(log_likelihood=f"{history[-1].max():.5f}")
            if len(history) > 1 and (history[-1] - history[-2]).max() < self.tolerance:
                break
            model = maximise(beliefs, model.emission, batch.mask)
        final = kalman_filter(model, value, variance, batch.mask).log_likelihood.sum(-1)
        best = int(final.argmax())
        self.net.assign(LinearGaussian(*(part[best] for part in model)))
        return [float(step[best]) for step in history]
