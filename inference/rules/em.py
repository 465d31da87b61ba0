"""Expectation-maximisation for linear dynamical systems."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...data import Batch
from ..checks import check_missing, check_real, check_seed, check_sizes
from ..contracts import LinearSystem
from ..linear.fast import compiles
from ..linear.system import LinearGaussian, Readings, begun
from ..rng import RandomStream
from .closed_form import ClosedForm


class EM(ClosedForm):
    """Expectation-maximisation for a linear system: monotone, no gradient.

    The restarts run as one batch; the likeliest wins. The log-likelihood is exact where noise is
    Gaussian, and otherwise the lower bound that ``net.e_step`` gives; with the log-density of
    the parameters where the network has a prior on them.

    Arguments:
        net: a ``LinearSystem``, such as ``zoo.LGDS`` or ``zoo.PoissonLGDS``.
        restarts: number of starts.
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

        data = self._read(batch)
        with RandomStream(batch.obs.device, "EM", self.seed):
            guesses = [self.net.guess(data, restart) for restart in range(self.restarts)]
        model = guesses[0].map(lambda *parts: torch.stack(parts), *guesses[1:])
        likeliest, history = model, [torch.full((self.restarts,), -math.inf).to(data.value)]
        waits = progress and data.value.device.type == "cpu" and compiles()
        title = "EM (compiling the Kalman filter, once)" if waits else "EM"
        bar = tqdm(range(self.iterations + 1), title, disable=not progress)
        beliefs = None
        for _ in bar:
            if beliefs is not None:
                model = self.net.m_step(model, beliefs, data)
            beliefs = self.net.e_step(model, data, beliefs)
            bar.set_description("EM", refresh=False)
            total = beliefs.log_likelihood.sum(-1) + self.net.log_prior(model, data)
            gained = total / batch.frames
            # A step may lose by rounding alone, where float64 does not suffice.
            likeliest = _chosen(gained > history[-1], model, likeliest)
            history.append(gained.maximum(history[-1]))
            bar.set_postfix(log_likelihood=f"{history[-1].max():.5f}")
            if (history[-1] - history[-2]).max() < self.tolerance:
                break
        best = int(history[-1].argmax())
        self.net.assign(likeliest.map(lambda part: part[best]))
        return [float(step[best]) for step in history[1 : self.iterations + 1]]

    def _read(self, batch: Batch) -> Readings:
        """What the network reads, with a mask that ends where no more values were seen.

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
        inputs = None if batch.inputs is None else batch.inputs.to(value)[rows]
        return Readings(value[rows], variance[rows], mask[rows], inputs)


def _chosen(where: Tensor, first: LinearGaussian, second: LinearGaussian) -> LinearGaussian:
    """Systems of ``first`` where a restart ``[R]`` says so, those of ``second`` elsewhere."""
    return first.map(
        lambda a, b: torch.where(where[(...,) + (None,) * (a.dim() - 1)], a, b), second
    )
