"""Expectation-maximisation for linear-Gaussian dynamical systems."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...data import Batch
from ..checks import check_real, check_seed, check_sizes
from ..contracts import LinearSystem
from ..kalman import Beliefs, LinearGaussian, kalman_filter, kalman_smoother
from ..rng import RandomStream
from .closed_form import ClosedForm


def maximise(beliefs: Beliefs, emission: Tensor, mask: Tensor) -> LinearGaussian:
    """M step for A, Q, m and P, given smoothed beliefs; C is fixed and R_t known.

    A transition counts when a real frame follows: padding at the end of a sequence adds nothing,
    and a gap within it is a stretch of the path that was not seen.
    """
    if beliefs.lagged is None:
        raise ValueError("these beliefs are filtered: the M step takes those of kalman_smoother")
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
        net: a ``LinearSystem``, such as ``zoo.LGDS``.
        restarts: number of random starts.
        iterations: most EM iterations.
        tolerance: stop when no restart gains more than this, in nats per frame; -inf never does.
        seed: seed of the starts.

    Raises:
        ValueError: for fewer than one restart or iteration, or a network of another kind.
    """

    trains = LinearSystem
    net: LinearSystem
    figure = "log_likelihood"

    def __init__(
        self,
        net: LinearSystem,
        *,
        restarts: int = 4,
        iterations: int = 100,
        tolerance: float = 1e-7,
        seed: int = 0,
    ) -> None:
        super().__init__(net)
        check_sizes(restarts=restarts, iterations=iterations)
        check_seed(seed)
        if not (isinstance(tolerance, float) and tolerance == -math.inf):  # which never stops
            check_real("tolerance", tolerance)
        self.restarts, self.iterations = restarts, iterations
        self.tolerance, self.seed = tolerance, seed

    @torch.no_grad()
    def learn(self, batch: Batch, progress: bool = False) -> list[float]:
        """Learns from one batch and leaves the likeliest restart in the network.

        Returns:
            The log-likelihood of that restart (nats per frame) before every M step; it never
            decreases.
        """
        from tqdm import tqdm

        if batch.obs.shape[1] < 2:
            raise ValueError("EM learns a transition: it needs sequences of at least two frames")
        value, variance = self.net.measure(batch)
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
