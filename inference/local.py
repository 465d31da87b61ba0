"""Temporally local learning: sweep forwards without a graph, then fold time into the batch.

*Sweep*: run the recognition network forwards and collect the statistics u_0 .. u_{T-1}.
*Fold*: treat the pairs (u_{t-1}, y_t) as independent data and take one gradient over all of them.
The backward pass is then as parallel as a feed-forward network's.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from ..data import Batch
from .evaluate import log_weights
from .rule import LearningRule, Metrics


class Fold(NamedTuple):
    """Real frames taken out of time: ``N`` independent members of a plate.

    Arguments:
        obs: y_t, ``[N, M]``.
        past: u_{t-1}, the statistics of the state before, ``[N, U]``.
        features: what ``net.encode`` makes of ``obs``, ``[N, F]``.
        present: u_t, ``[N, U]``, where the sweep kept its graph, so that a guide need not compute
            it again (``BPTT``); otherwise None.
    """

    obs: Tensor
    past: Tensor
    features: Tensor
    present: Tensor | None = None

    @property
    def rows(self) -> int:
        """``N`` (``len`` of a named tuple counts its fields)."""
        return len(self.obs)


def sweep(
    net: nn.Module,
    features: Tensor,
    past: Tensor,
    mask: Tensor | None = None,
    draw: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Runs ``net.step`` through time. The only serial computation in a local rule.

    Arguments:
        net: a ``Recurrent`` network.
        features: encoded observations, ``[B, T, F]``.
        past: statistics before the first frame, ``[B, U]``.
        mask: True where a frame is real, ``[B, T]``; a padded frame leaves the state as it was.
        draw: what is done to u_t before the next frame finds it, such as ``torch.bernoulli``.

    Returns:
        Statistics ``[B, T + 1, U]``: entry ``t`` is u_{t-1}, what frame ``t`` finds.
    """
    statistics = [past]
    real = None if mask is None or bool(mask.all()) else mask[..., None].unbind(1)
    for t, frame in enumerate(features.unbind(1)):
        new = net.step(frame, statistics[-1])
        new = new if draw is None else draw(new)
        statistics.append(new if real is None else torch.where(real[t], new, statistics[-1]))
    return torch.stack(statistics, 1)


class FoldedRule(LearningRule):
    """A rule whose loss is a sum over frames that share nothing but u_{t-1}.

    Subclasses write ``loss(fold)``. With ``through_time`` the statistics keep their dependence on
    the parameters, and the same loss is trained by backpropagation through time.

    Arguments:
        net: a ``Recurrent`` network.
        window: frames an update; ``None`` takes the whole sequence, 1 is the online form, whose
            memory does not grow with T. The state is carried, without its graph, from one window
            to the next.
        minibatch: folded frames an update, drawn in random order from the whole window; ``None``
            takes them all at once.
        through_time: let the gradient flow into u_{t-1}.
        compiled: run the sweep as one compiled scan (worth it for long training; needs a C++
            compiler and spends some seconds on the first call).
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        window: int | None = None,
        minibatch: int | None = None,
        through_time: bool = False,
        compiled: bool = False,
    ):
        super().__init__(net)
        for name, value in (("window", window), ("minibatch", minibatch)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1 or None, got {value}")
        if through_time and minibatch is not None:
            raise ValueError("minibatch cuts frames out of time: it cannot go with through_time")
        if through_time and compiled:
            raise ValueError("the compiled sweep keeps no graph: it cannot go with through_time")
        self.window, self.minibatch = window, minibatch
        self.through_time, self.compiled = through_time, compiled

    #: What the sweep does to u_t before the next frame finds it; None leaves it as it is.
    draw: Callable[[Tensor], Tensor] | None = None

    def loss(self, fold: Fold) -> Tensor:
        """The loss summed over the frames of a fold (nats)."""
        raise NotImplementedError(f"{type(self).__name__} must define loss(fold)")

    def gradients(self, batch: Batch) -> Metrics:
        """One gradient from the whole batch as a single window and a single fold."""
        self.net.check(batch.obs[batch.mask])
        fold, _ = self._fold(batch, self.net.initial(len(batch)))
        return self._backward(fold)

    def updates(self, batch: Batch) -> Iterator[Metrics]:
        """One update a window, or one a minibatch of each window's frames."""
        self.net.check(batch.obs[batch.mask])
        past, steps = self.net.initial(len(batch)), batch.obs.shape[1]
        for start in range(0, steps, self.window or steps):
            part = batch.window(start, start + (self.window or steps))
            if self.minibatch is None:
                fold, past = self._fold(part, past)
                yield self._backward(fold)
            else:
                statistics = self._sweep(part, past)
                past = statistics[:, -1]
                yield from self._minibatches(part, statistics[:, :-1])

    def _minibatches(self, part: Batch, past: Tensor) -> Iterator[Metrics]:
        obs, past = part.obs[part.mask], past[part.mask]
        # As many updates as the padded window has room for, so that every process makes the same.
        count = -(-part.mask.numel() // self.minibatch)
        for index in torch.randperm(len(obs), device=obs.device).tensor_split(count):
            yield self._backward(Fold(obs[index], past[index], self.net.encode(obs[index])))

    def _fold(self, part: Batch, past: Tensor) -> tuple[Fold, Tensor]:
        """The real frames of one window, and the state that the next window starts from."""
        features = self.net.encode(part.obs)
        if self.through_time:
            statistics = sweep(self.net, features, past, part.mask)
        else:
            shared = features.detach() if self.reference is self.net else None
            statistics = self._sweep(part, past, shared)
        parts = [part.obs, statistics[:, :-1], features]
        if self.through_time:
            parts.append(statistics[:, 1:])
        if bool(part.mask.all()):
            fold = Fold(*(sequences.flatten(0, 1) for sequences in parts))
        else:
            fold = Fold(*(sequences[part.mask] for sequences in parts))
        return fold, statistics[:, -1].detach()

    @torch.no_grad()
    def _sweep(self, part: Batch, past: Tensor, features: Tensor | None = None) -> Tensor:
        features = self.reference.encode(part.obs) if features is None else features
        if self.compiled:
            return compiled_sweep(self.reference, features, past, part.mask)
        return sweep(self.reference, features, past, part.mask, self.draw)

    def _backward(self, fold: Fold) -> Metrics:
        self.net.zero_grad(set_to_none=True)
        if fold.rows == 0:  # every sequence of this shard has ended
            zero = torch.zeros((), device=fold.obs.device)
            return {"loss": zero, "frames": zero}
        loss = self.loss(fold) / fold.rows
        loss.backward()
        return {"loss": loss.detach(), "frames": loss.new_tensor(fold.rows)}


class LocalELBO(FoldedRule):
    """The free energy of paper equation (3), one frame at a time, as a Pyro ELBO over a fold.

    The network's Pyro pair is called as ``net.model(fold)`` and ``net.guide(fold)``.

    Arguments:
        net: a directed ``Recurrent`` network with a Pyro model and guide.
        particles: samples of the latent state a frame.
        bound: ``"elbo"``, or ``"iwae"`` for the importance-weighted bound of each frame.
        window, minibatch, compiled: see ``FoldedRule``.

    Raises:
        ValueError: for an unknown bound or fewer than one particle.
    """

    def __init__(
        self, net: nn.Module, *, particles: int = 1, bound: str = "elbo", through_time=False, **how
    ):
        super().__init__(net, through_time=through_time, **how)
        if particles < 1:
            raise ValueError(f"particles must be at least 1, got {particles}")
        if bound not in ("elbo", "iwae"):
            raise ValueError(f"bound must be 'elbo' or 'iwae', got {bound!r}")
        self.particles, self.bound = particles, bound
        kind = TraceMeanField_ELBO if getattr(net, "mean_field", True) else Trace_ELBO
        self.elbo = kind(
            num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=1
        )

    def loss(self, fold: Fold) -> Tensor:
        if self.bound == "elbo":
            return self.elbo.differentiable_loss(self.net.model, self.net.guide, fold)
        weights = log_weights(self.net.model, self.net.guide, fold, self.particles)
        return -(weights.logsumexp(0) - torch.tensor(self.particles).log()).sum()


def compiled_sweep(
    net: nn.Module, features: Tensor, past: Tensor, mask: Tensor | None = None
) -> Tensor:
    """``sweep`` as one compiled scan: the same numbers, without Python between the steps."""
    if mask is not None and not bool(mask.all()):
        return sweep(net, features, past, mask)
    validate = torch.distributions.Distribution._validate_args
    rest = _scan(net)(features.transpose(0, 1).contiguous(), past)
    # The compiler switches validation off for the whole process: put it back.
    torch.distributions.Distribution.set_default_validate_args(validate)
    return torch.cat((past[:, None], rest.transpose(0, 1)), 1)


@functools.lru_cache(maxsize=8)
def _scan(net: nn.Module):
    from torch._higher_order_ops import scan

    def step(past: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        new = net.step(frame, past)
        return new, new.clone()

    return torch.compile(lambda frames, past: scan(step, past, frames, dim=0)[1], fullgraph=True)
