"""Contrastive divergence for recurrent harmoniums, with or without the gradient through time."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from ..checks import check_real
from ..contracts import EnergyModel, Fold
from .folded import FoldedRule, recordable
from .rule import anneal


class ContrastiveDivergence(FoldedRule):
    """CD-k on a fold: lower the free energy of the data, raise that of k Gibbs steps away.

    The positive and the negative phase of all frames run as one batch. For an rEFH both y_t and
    u_{t-1} are data, and both are resampled; for a TRBM u_{t-1} is clamped. The gradient is that
    of F(data) - F(negative), hidden units summed out exactly in both terms.

    The RTRBM is a TRBM whose u_{t-1} keeps its dependence on the parameters: with
    ``through_time`` the free-energy difference is also differentiated along the recursion, which
    is the recursive term of Sutskever, Hinton & Taylor (2009).

    Chains that start at the data never visit regions far from them. The trained model may have
    spurious modes there, which prediction from random visibles then finds. A fraction of the
    chains can start where prediction starts instead: from random visibles, u_{t-1} clamped.
    These are the short runs of Nijkamp et al., "Learning non-convergent non-persistent short-run
    MCMC" (2019).

    A value that is missing from a frame is an absent unit: zero in both phases, so that it adds
    nothing to the gradient (Salakhutdinov, Mnih & Hinton, "Restricted Boltzmann machines for
    collaborative filtering", 2007).

    Arguments:
        net: the network.
        k: Gibbs steps of the negative phase. ``[first, last, fraction]`` anneals it (see
            ``rule.anneal``); its decimals are the chance of one step more.
        random: fraction of the frames whose chain starts from random visibles with u clamped.
        random_k: Gibbs steps of those; may be annealed likewise.
        through_time: ``None`` follows ``net.through_time`` (True for the RTRBM alone).
        sample_past: while training, let u_{t-1} be a sample of the hidden units and not their
            means. The model filters with the means in either case.
        window, minibatch, drop_past, chunk, captured: see ``FoldedRule``.
            ``window=1`` is the online form.

    Raises:
        ValueError: for fewer than one step, a fraction outside [0, 1], options that exclude one
            another, or a network that is no ``EnergyModel``.
    """

    trains = EnergyModel
    net: EnergyModel

    def __init__(
        self,
        net: EnergyModel,
        *,
        k: float | Sequence[float] = 1,
        random: float = 0.0,
        random_k: float | Sequence[float] = 10,
        through_time: bool | None = None,
        sample_past: bool = False,
        window: int | None = None,
        minibatch: int | None = None,
        drop_past: float | Sequence[float] = 0.0,
        chunk: int | None = None,
        captured: bool | None = None,
    ) -> None:
        self._check_kind(net)
        follow = net.through_time if through_time is None else through_time
        super().__init__(
            net,
            window=window,
            minibatch=minibatch,
            drop_past=drop_past,
            through_time=follow,
            chunk=chunk,
            captured=captured,
        )
        for name, steps in (("k", k), ("random_k", random_k)):
            try:
                fewest = min(anneal(steps, 0.0), anneal(steps, 1.0))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name}: {error}") from error
            if fewest < 1:
                raise ValueError(f"{name} must be at least 1, got {steps}")
        check_real("random", random, least=0, most=1)
        if sample_past and follow:
            raise ValueError("sample_past does not go with through_time")
        self.k, self.random, self.random_k = k, random, random_k
        if sample_past and type(net).sample_hidden is EnergyModel.sample_hidden:
            self.refuse(net, "networks that sample their hidden units", "has no sample_hidden")
        self.sample = net.sample_hidden if sample_past else None

    def _settings(self) -> tuple[int, ...]:
        """Gibbs steps of the chains, near and far."""
        far = (self._steps(self.random_k),) if self.random else ()
        return (*far, self._steps(self.k))

    @recordable
    def loss(self, fold: Fold) -> Tensor:
        obs, past = self._negative(fold)
        if self.net.clamps_past:
            past = fold.past  # the same tensor, graph and all
        both = self.net.free_energy(torch.cat((fold.obs, obs)), torch.cat((fold.past, past)))
        data, negative = both.chunk(2)
        return (data - negative).sum()

    @torch.no_grad()
    def _negative(self, fold: Fold) -> tuple[Tensor, Tensor]:
        """Where the chains end: y ``[N, M]`` and u ``[N, U]``."""
        *far_steps, steps = self._chosen or self._settings()
        if not far_steps:
            return self._chain(fold, steps)
        obs, past = torch.empty_like(fold.obs), fold.past.clone()
        order = torch.randperm(fold.rows, device=fold.obs.device)
        far, near = order.tensor_split([round(self.random * fold.rows)])
        start = fold.select(far)._replace(obs=self.net.random_frames(len(far)))
        obs[far], _ = self._chain(start, *far_steps, clamp_past=True)
        obs[near], past[near] = self._chain(fold.select(near), steps)
        return obs, past

    def _chain(self, start: Fold, steps: int, clamp_past: bool = False) -> tuple[Tensor, Tensor]:
        """Gibbs steps, after each of which the units of missing values are absent again."""
        gibbs, obs, past = self.net.gibbs, start.obs, start.past
        if clamp_past:
            gibbs = functools.partial(gibbs, clamp_past=True)
        if start.observed is None:
            return gibbs(obs, past, steps)
        absent = ~start.observed
        obs = obs.masked_fill(absent, 0.0)
        for _ in range(steps):
            obs, past = gibbs(obs, past, 1)
            obs = obs.masked_fill(absent, 0.0)
        return obs, past

    def _steps(self, k: float | Sequence[float]) -> int:
        now = anneal(k, self.done)
        return int(now) + int(torch.rand(()) < now % 1) if now % 1 else int(now)
