"""Expectation-maximisation for linear-Gaussian dynamical systems."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...data import Batch
from ..checks import check_missing, check_real, check_seed, check_sizes
from ..contracts import LinearSystem
from ..kalman import Beliefs, LinearGaussian, begun, kalman_smoother, solve
from ..rng import RandomStream
from .closed_form import ClosedForm


def maximise(beliefs: Beliefs, emission: Tensor, mask: Tensor) -> LinearGaussian:
    """M step for A, Q, m and P, given smoothed beliefs; C is fixed and R_t known.

    A transition counts between the first and the last real frame of a sequence: padding adds
    nothing, and a gap is a stretch of the path that was not seen.

    Arguments:
        beliefs: those of ``kalman_smoother``.
        emission: C.
        mask: True where a frame is real, ``[B, T]``.
    """
    if beliefs.lagged is None:
        raise ValueError("these beliefs are filtered: the M step takes those of kalman_smoother")
    mean, cov = beliefs.mean, beliefs.covariance
    counts = (begun(mask)[:, :-1] & begun(mask.flip(1)).flip(1)[:, 1:]).to(mean)[..., None]
    before, after = mean[..., :-1, :], mean[..., 1:, :]

    def total(covariances: Tensor) -> Tensor:
        return (covariances * counts[..., None]).sum((-4, -3))

    now, then, lagged = total(cov[..., 1:, :, :]), total(cov[..., :-1, :, :]), total(beliefs.lagged)
    cross = lagged + products(after * counts, before)
    dynamics = solve(then + products(before * counts, before), cross.mT).mT
    # A sum of residuals is a covariance, where a difference of sums may round to none.
    rest = (after - before @ dynamics[..., None, :, :].mT) * counts
    noise = now - dynamics @ lagged.mT - lagged @ dynamics.mT + dynamics @ then @ dynamics.mT
    process = symmetric(noise + products(rest, rest)) / counts.sum()
    start = mean[..., 0, :].mean(-2)
    spread = (mean[..., 0, :] - start[..., None, :])[..., None, :]
    initial = symmetric(cov[..., 0, :, :].mean(-3) + products(spread, spread) / len(mask))
    return LinearGaussian(dynamics, process, emission, start, initial)


def products(first: Tensor, second: Tensor) -> Tensor:
    """Sum of outer products over sequences and steps, ``[..., B, T, K] -> [..., K, K]``."""
    return first.flatten(-3, -2).mT @ second.flatten(-3, -2)


def _chosen(where: Tensor, first: LinearGaussian, second: LinearGaussian) -> LinearGaussian:
    """Systems of ``first`` where a restart ``[R]`` says so, those of ``second`` elsewhere."""
    return first.map(
        lambda a, b: torch.where(where[(...,) + (None,) * (a.dim() - 1)], a, b), second
    )


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

        value, variance, mask = self._measured(batch)
        with RandomStream(batch.obs.device, "EM", self.seed):
            seen = variance.isfinite() & mask[..., None]
            guesses = [self.net.guess(value, seen) for _ in range(self.restarts)]
        model = guesses[0].map(lambda *parts: torch.stack(parts), *guesses[1:])
        likeliest, history = model, [torch.full((self.restarts,), -math.inf).to(value)]
        bar = tqdm(range(self.iterations + 1), "EM", disable=not progress)
        beliefs = None
        for _ in bar:
            if beliefs is not None:
                model = maximise(beliefs, model.emission, mask)
            beliefs = kalman_smoother(model, value, variance, mask)
            gained = beliefs.log_likelihood.sum(-1) / batch.frames
            # A step may lose by rounding alone, where float64 does not suffice.
            likeliest = _chosen(gained > history[-1], model, likeliest)
            history.append(gained.maximum(history[-1]))
            bar.set_postfix(log_likelihood=f"{history[-1].max():.5f}")
            if (history[-1] - history[-2]).max() < self.tolerance:
                break
        best = int(history[-1].argmax())
        self.net.assign(likeliest.map(lambda part: part[best]))
        return [float(step[best]) for step in history[1 : self.iterations + 1]]

    def _measured(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Values, variances, and a mask that ends where no more values were seen.

        Sequences without a value are left out.

        Raises:
            ValueError: when no sequence has two frames with a value.
        """
        check_missing(self.net, batch)
        value, variance = self.net.measure(batch)
        seen = variance.isfinite().any(-1) & batch.mask
        frames = seen.sum(1)
        if frames.max() < 2:
            raise ValueError(
                "EM learns a transition: it needs a sequence of at least two frames with a value, "
                f"and these have {int(frames.sum())} such frames in {len(batch)} sequences"
            )
        mask = batch.mask & begun(seen.flip(1)).flip(1)
        rows = frames > 0
        return value[rows], variance[rows], mask[rows]
