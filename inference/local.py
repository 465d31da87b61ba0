"""Temporally local learning: sweep forwards without a graph, then fold time into the batch.

*Sweep*: run the recognition network forwards and collect the statistics u_0 .. u_{T-1}.
*Fold*: treat the pairs (u_{t-1}, y_t) as independent data and take one gradient over all of them.
The backward pass is then as parallel as a feed-forward network's.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from pyro.infer import TraceMeanField_ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ..data import Batch
from .evaluate import log_weights
from .rule import PAIR, RECURRENT, LearningRule, Metrics, check_network, refuse

CHUNKS = 1024, 8192  # smaller ones cost time, larger ones memory and then time, too


class Fold(NamedTuple):
    """Real frames taken out of time: ``N`` independent members of a plate.

    Arguments:
        obs: y_t, ``[N, M]``.
        past: u_{t-1}, the statistics of the state before, ``[N, U]``.
        features: what ``net.encode`` makes of ``obs``, ``[N, F]``, and
        present: u_t, ``[N, U]``: both where the sweep kept its graph, so that a guide need not
            compute them again (``BPTT``); otherwise None.
    """

    obs: Tensor
    past: Tensor
    features: Tensor | None = None
    present: Tensor | None = None

    @property
    def rows(self) -> int:
        """``N`` (``len`` of a named tuple counts its fields)."""
        return len(self.obs)

    def select(self, index) -> Fold:
        """Some of the frames."""
        return Fold(*(None if part is None else part[index] for part in self))


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
    # Without padding, no past is blank after the first frame: a network may have a quicker way.
    later = getattr(net, "advance", net.step) if real is None else net.step
    for t, frame in enumerate(features.unbind(1)):
        new = (later if t else net.step)(frame, statistics[-1])
        new = new if draw is None else draw(new)
        statistics.append(new if real is None else torch.where(real[t], new, statistics[-1]))
    return torch.stack(statistics, 1)


def anneal(value: float | Sequence[float], done: float) -> float:
    """A constant, or ``[first, last, share]``: from first to last, geometrically, over a share.

    Arguments:
        value: the constant, or the three numbers, all above 0.
        done: share of the run that is done.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, (int, float)):
        return float(value)
    if len(value) != 3 or min(value) <= 0:
        raise ValueError(f"give a number or [first, last, share], all above 0: got {value}")
    first, last, share = value
    return first * (last / first) ** min(1.0, done / share)


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
        forget: share of the frames that are shown without their past, so that a network learns
            how to start: of a thousand frames only one is a first one. ``[first, last, share]``
            anneals it over a share of the run.
        through_time: let the gradient flow into u_{t-1}.
        chunk: folded frames whose graph is held at a time. Memory is bounded, which no gradient
            through time can have. The gradient is the same in expectation: chunks draw their noise
            one after the other, so that another size draws other numbers. ``None`` takes a third
            of a fold, within ``CHUNKS``.
        compiled: run the sweep as one compiled scan (worth it for long training; needs a C++
            compiler and spends some seconds on the first call).

    Raises:
        ValueError: for numbers out of range, options that exclude one another, or a network
            that is not ``Recurrent``.
    """

    #: What the sweep does to u_t before the next frame finds it; None leaves it as it is.
    draw: Callable[[Tensor], Tensor] | None = None

    def __init__(
        self,
        net: nn.Module,
        *,
        window: int | None = None,
        minibatch: int | None = None,
        forget: float | Sequence[float] = 0.0,
        through_time: bool = False,
        chunk: int | None = None,
        compiled: bool = False,
    ):
        check_network(self, net, "recurrent networks", RECURRENT)
        super().__init__(net)
        for name, value in (("window", window), ("minibatch", minibatch), ("chunk", chunk)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if through_time and minibatch is not None:
            raise ValueError("minibatch cuts frames out of time: it cannot go with through_time")
        if through_time and compiled:
            raise ValueError("the compiled sweep keeps no graph: it cannot go with through_time")
        if not 0 <= anneal(forget, 0.0) <= 1 or not 0 <= anneal(forget, 1.0) <= 1:
            raise ValueError(f"forget is a share in [0, 1], got {forget}")
        self.window, self.minibatch, self.forget, self.chunk = window, minibatch, forget, chunk
        self.through_time, self.compiled = through_time, compiled

    def loss(self, fold: Fold) -> Tensor:
        """The loss summed over the frames of a fold (nats)."""
        raise NotImplementedError(f"{type(self).__name__} must define loss(fold)")

    def gradients(self, batch: Batch) -> Metrics:
        """One gradient from the whole batch as a single window and a single fold."""
        self._check(batch)
        fold, _ = self._fold(batch, self.net.initial(len(batch)))
        return self._backward(fold)

    def count(self, batch: Batch) -> int:
        """Windows, times the minibatches that each has room for, padding included."""
        return sum(self._minibatches(part) for part in self._windows(batch))

    def updates(self, batch: Batch) -> Iterator[Metrics]:
        """One update a window, or one a minibatch of each window's frames."""
        self._check(batch)
        past = self.net.initial(len(batch))
        for part in self._windows(batch):
            fold, past = self._fold(part, past)
            if self.minibatch is None:
                yield self._backward(fold)
                continue
            order = torch.randperm(fold.rows, device=part.obs.device)
            for index in order.tensor_split(self._minibatches(part)):
                yield self._backward(fold.select(index))

    def _windows(self, batch: Batch) -> Iterator[Batch]:
        steps = batch.obs.shape[1]
        for start in range(0, steps, self.window or steps):
            yield batch.window(start, start + (self.window or steps))

    def _minibatches(self, part: Batch) -> int:
        return 1 if self.minibatch is None else math.ceil(part.mask.numel() / self.minibatch)

    def _check(self, batch: Batch, frames: int = 1000) -> None:
        """Checks the data before the first update, some frames at a time: no copy of them all."""
        for start in range(0, batch.obs.shape[1], frames):
            part = batch.window(start, start + frames)
            if part.mask.any():
                self.net.check(part.obs if part.mask.all() else part.obs[part.mask])

    def _fold(self, part: Batch, past: Tensor) -> tuple[Fold, Tensor]:
        """The real frames of one window, and the state that the next window starts from."""
        if self.through_time:
            features = self.net.encode(part.obs)
            statistics = sweep(self.net, features, past, part.mask)
            parts = [part.obs, statistics[:, :-1], features, statistics[:, 1:]]
        else:
            statistics = self._sweep(part, past)
            parts = [part.obs, statistics[:, :-1]]
        if part.mask.all():
            fold = Fold(*(sequences.flatten(0, 1) for sequences in parts))
        else:
            fold = Fold(*(sequences[part.mask] for sequences in parts))
        return fold, statistics[:, -1].detach()

    @torch.no_grad()
    def _sweep(self, part: Batch, past: Tensor) -> Tensor:
        features = self.reference.encode(part.obs)
        if self.compiled:
            return compiled_sweep(self.reference, features, past, part.mask)
        return sweep(self.reference, features, past, part.mask, self.draw)

    def _chunk(self, rows: int) -> int:
        """Frames whose graph is held at a time: all of them, where the graph runs through time."""
        if self.through_time:
            return max(rows, 1)
        low, high = CHUNKS
        return self.chunk or min(high, max(low, math.ceil(rows / 3)))

    def _backward(self, fold: Fold) -> Metrics:
        """Sets ``.grad`` to the mean over the frames of a fold."""
        self.net.zero_grad(set_to_none=True)
        total = torch.zeros((), device=fold.obs.device)
        if self.forget and fold.rows:
            share = anneal(self.forget, self.done)
            lost = torch.rand(fold.rows, 1, device=fold.past.device) < share
            past = torch.where(lost, self.net.initial(fold.rows), fold.past)
            fold = fold._replace(past=past, present=None)
        size = self._chunk(fold.rows)
        for start in range(0, fold.rows, size):  # no turn at all once every sequence has ended
            loss = self.loss(fold.select(slice(start, start + size))) / fold.rows
            loss.backward()
            total += loss.detach()
        return {"loss": total, "frames": total.new_tensor(fold.rows)}


class LocalELBO(FoldedRule):
    """The free energy of paper equation (3), one frame at a time, as a Pyro ELBO over a fold.

    The network's Pyro pair is called as ``net.model(fold)`` and ``net.guide(fold)``.

    Arguments:
        net: a directed ``Recurrent`` network with a Pyro model and guide.
        particles: samples of the latent state a frame.
        bound: ``"elbo"``, or ``"iwae"`` for the importance-weighted bound of each frame.
        weights: factors on the log-probability of sites, by name: ``{"x": 0.3}`` weighs the KL
            term of the latent state by 0.3. ``[first, last, share]`` anneals (see ``anneal``). With
            any weight but 1 the loss is no bound.
        window, minibatch, forget, compiled: see ``FoldedRule``.

    Raises:
        ValueError: for an unknown bound, fewer than one particle, weights that are no numbers, or
            a network without a Pyro pair over single frames.
    """

    trains = "recurrent networks with a Pyro pair over single frames (RVAE, TVAE)"

    def __init__(
        self,
        net: nn.Module,
        *,
        particles: int = 1,
        bound: str = "elbo",
        weights: Mapping[str, float | Sequence[float]] | None = None,
        **how,
    ):
        check_network(self, net, self.trains, (*RECURRENT, *PAIR))
        if hasattr(net, "read"):  # see evaluate.of_frames
            refuse(self, net, self.trains, "reads whole sequences")
        super().__init__(net, **how)
        if particles < 1:
            raise ValueError(f"particles must be at least 1, got {particles}")
        if bound not in ("elbo", "iwae"):
            raise ValueError(f"bound must be 'elbo' or 'iwae', got {bound!r}")
        self.particles, self.bound, self.weights = particles, bound, dict(weights or {})
        for weight in self.weights.values():
            anneal(weight, 0.0)
        self.elbo = TraceMeanField_ELBO(  # exact KL where one is registered, else sampled
            num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=1
        )

    def loss(self, fold: Fold) -> Tensor:
        model, guide = self.net.model, self.net.guide
        if self.weights:
            now = {site: anneal(weight, self.done) for site, weight in self.weights.items()}
            model, guide = Weighted(now)(model), Weighted(now)(guide)
        if self.bound == "elbo":
            return self.elbo.differentiable_loss(model, guide, fold)
        weights = log_weights(model, guide, fold, self.particles)
        return -(weights.logsumexp(0) - math.log(self.particles)).sum()


class Weighted(Messenger):
    """Pyro handler that scales the log-probability of sites by name."""

    def __init__(self, weights: Mapping[str, float]):
        super().__init__()
        self.weights = weights

    def _pyro_sample(self, msg) -> None:
        if msg["name"] in self.weights:
            msg["scale"] = msg["scale"] * self.weights[msg["name"]]


def compiled_sweep(
    net: nn.Module, features: Tensor, past: Tensor, mask: Tensor | None = None
) -> Tensor:
    """``sweep`` as one compiled scan: the same numbers, without Python between the steps."""
    if features.shape[1] < 2 or (mask is not None and not bool(mask.all())):
        return sweep(net, features, past, mask)
    validate = torch.distributions.Distribution._validate_args
    first = net.step(features[:, 0], past)
    rest = _scan(net)(features[:, 1:].transpose(0, 1).contiguous(), first)
    # The compiler switches validation off for the whole process: put it back.
    torch.distributions.Distribution.set_default_validate_args(validate)
    return torch.cat((past[:, None], first[:, None], rest.transpose(0, 1)), 1)


@functools.lru_cache(maxsize=8)
def _scan(net: nn.Module):
    from torch._higher_order_ops import scan

    advance = getattr(net, "advance", net.step)

    def step(past: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        new = advance(frame, past)
        return new, new.clone()

    return torch.compile(lambda frames, past: scan(step, past, frames, dim=0)[1], fullgraph=True)
