"""Running a trained network over sequences: filtering, and predicting frames not yet seen."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..data import Batch
from .contracts import Recurrent
from .rng import RandomStream
from .sweep import sweep

FRAMES = 2000  # frames predicted at once: chains times frames times pixels must fit in memory


class Filtered(NamedTuple):
    """The filtering distribution of the latent state: past and present only.

    Arguments:
        mean: ``[B, T, K]``.
        variance: ``[B, T, K]``.
    """

    mean: Tensor
    variance: Tensor


class Prediction(NamedTuple):
    """What a network expects of each frame before it sees it.

    Arguments:
        chains: what each chain (or independent draw of x_t) expects, ``[C, B, T, M]``.
    """

    chains: Tensor

    @property
    def mean(self) -> Tensor:
        """The average over the chains, ``[B, T, M]``."""
        return self.chains.mean(0)


@torch.no_grad()
def run_sweep(net: Recurrent, batch: Batch) -> Tensor:
    """Statistics of a recurrent network, ``[B, T + 1, U]``: entry ``t`` is what frame ``t`` finds.

    Raises:
        ValueError: when a real frame is outside the support of the network's likelihood.
    """
    net.check(batch.obs[batch.mask])
    start = net.initial(len(batch)).to(batch.obs.device)
    return sweep(net, net.encode(batch.obs), start, batch.mask)


def run_filter(net: Recurrent, obs: Tensor, mask: Tensor | None = None) -> Tensor:
    """Statistics u_0 .. u_{T-1} of a recurrent network, ``[B, T, U]``.

    Arguments:
        net: a recurrent network.
        obs: ``[B, T, M]``.
        mask: True where a frame is real, ``[B, T]``.

    Raises:
        ValueError: when ``obs`` or ``mask`` is unfit, with a sentence that says why.
    """
    return run_sweep(net, Batch(obs, mask))[:, 1:]


@torch.no_grad()
def predict_next(
    net: Recurrent,
    obs: Tensor,
    mask: Tensor | None = None,
    chains: int = 8,
    seed: int = 0,
    **how,
) -> Prediction:
    """Each frame as predicted from the frames before it: y_t given y_0 .. y_{t-1}.

    The network filters the true sequence; at each step its ``predict(past, previous, chains)``
    turns the statistics u_{t-1} into the next frame, without noise in the frame itself.

    Arguments:
        net: a recurrent network with ``predict``.
        obs: ``[B, T, M]``.
        mask: True where a frame is real, ``[B, T]``.
        chains: chains, or independent draws, a frame.
        seed: seed of the chains; the caller's random state is left alone.
        how: further arguments of the network's ``predict``, such as ``steps=25`` Gibbs steps.

    Returns:
        Predictions for all ``T`` frames. The first is made from a blank past; padding gets zeros.

    Raises:
        ValueError: when ``obs`` or ``mask`` is unfit, or the network cannot predict.

    Example:
        >>> predict_next(zoo.load("balls/refh"), film, chains=8, steps=25).mean.shape
        torch.Size([2, 100, 900])
    """
    _check(net, chains)
    batch = Batch(obs, mask)
    obs, mask = batch.obs, batch.mask
    past = run_sweep(net, batch)[:, :-1][mask]
    previous = torch.cat((torch.zeros_like(obs[:, :1]), obs[:, :-1]), 1)[mask]
    predicted = obs.new_zeros(chains, *obs.shape)
    with RandomStream(obs.device, "predict", seed):
        parts = [
            net.predict(*rows, chains, **how)
            for rows in zip(past.split(FRAMES), previous.split(FRAMES))
        ]
    predicted[:, mask] = torch.cat(parts, 1)
    return Prediction(predicted)


@torch.no_grad()
def rollout(
    net: Recurrent,
    obs: Tensor,
    frames: int,
    mask: Tensor | None = None,
    chains: int = 1,
    seed: int = 0,
    **how,
) -> Prediction:
    """Goes on where a sequence ends: each predicted frame is filtered as if it had been seen.

    A predicted frame is an expected one, without noise of its own: grey pixels and keys are fed
    back, and where nothing is drawn to predict it (an RNN) all chains are the same. ``net.sample``
    draws frames.

    Arguments:
        net: a recurrent network with ``predict``.
        obs: what was seen, ``[B, T, M]``.
        frames: how many to add.
        mask: True where a frame is real, ``[B, T]``.
        chains: continuations of each sequence, independent of one another.
        seed: seed of the continuations; the caller's random state is left alone.
        how: further arguments of the network's ``predict``.

    Returns:
        Continuations, ``[C, B, frames, M]`` in ``chains``.

    Raises:
        ValueError: when ``obs`` or ``mask`` is unfit, or the network cannot predict.
    """
    _check(net, chains)
    if frames < 1:
        raise ValueError(f"frames must be at least 1, got {frames}")
    batch = Batch(obs, mask)
    past = run_sweep(net, batch)[:, -1].repeat(chains, 1)  # padding left it where it was
    last = (batch.mask * torch.arange(1, obs.shape[1] + 1, device=obs.device)).argmax(1)
    frame = batch.obs[torch.arange(len(obs), device=obs.device), last].repeat(chains, 1)
    film = []
    with RandomStream(obs.device, "rollout", seed):
        for _ in range(frames):
            frame = net.predict(past, frame, 1, **how)[0]
            past = net.step(net.encode(frame), past)
            film.append(frame)
    return Prediction(torch.stack(film, 1).unflatten(0, (chains, len(obs))))


def check_direction(net: Recurrent, direction: str) -> None:
    """Raises a ValueError where a network cannot generate in a direction of time."""
    if direction not in net.directions:
        known = " or ".join(net.directions)
        raise ValueError(f"{type(net).__name__} generates {known} in time, not {direction!r}")


def _check(net: Recurrent, chains: int) -> None:
    if not isinstance(net, Recurrent):
        raise ValueError(
            f"{type(net).__name__} predicts no next frame: that takes a network that inherits "
            "inference.Recurrent and writes predict(past, previous, chains)"
        )
    if chains < 1:
        raise ValueError(f"chains must be at least 1, got {chains}")
