"""Running a trained network over sequences: filtering, and predicting frames not yet seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data import Batch, BatchLike
from .ahead import filled_frames, next_frames, swept
from .checks import check_missing, check_number, check_samples
from .contracts import Network, Recurrent, evaluating
from .inputs import given_inputs, keyword
from .placing import batch_for
from .rng import RandomStream
from .sweep import Swept


class Filtered(NamedTuple):
    """The filtering distribution of the latent state: past and present only.

    Arguments:
        mean: ``[B, T, K]``.
        variance: ``[B, T, K]``.
    """

    mean: Tensor
    variance: Tensor


class Prediction(NamedTuple):
    """Predictions of frames.

    Arguments:
        samples: the frame that each chain, or each sample of x_t, predicts, ``[S, B, T, M]``.
    """

    samples: Tensor

    @property
    def mean(self) -> Tensor:
        """The average over the samples, ``[B, T, M]``."""
        return self.samples.mean(0)


@torch.no_grad()
def run_sweep(net: Recurrent, batch: Batch) -> Swept:
    """Statistics of a recurrent network over whole sequences, and features of the frames.

    Raises:
        ValueError: for a network without such statistics, when a real frame is outside the support
            of its likelihood, or for missing values that it does not take.
    """
    if not isinstance(net, Recurrent):
        raise ValueError(
            f"{type(net).__name__} has no statistics of the past to run over sequences: that takes "
            "an inference.Recurrent, such as an rVAE, a harmonium or an RNN"
        )
    return swept(net, batch)


def run_filter(net: Recurrent, batch: BatchLike) -> Tensor:
    """Statistics u_0 .. u_{T-1} of a recurrent network, ``[B, T, U]``.

    Where nothing of a frame was seen, the network reads the frame that it expects, as in a rollout.
    Such statistics are as certain as those of a frame that was seen: they do not say how long ago
    that was.

    Arguments:
        net: a recurrent network.
        batch: the sequences: a ``Batch``, or anything that ``data.as_batch`` takes.

    Raises:
        ValueError: for a network that is not recurrent, or data that it does not take.
    """
    return run_sweep(net, batch_for(net, batch)).statistics[:, 1:]


@torch.no_grad()
def predict_next(
    net: Network,
    batch: BatchLike,
    num_samples: int = 8,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Prediction:
    """Predicts each frame from the frames before it: y_t given y_0 .. y_{t-1}.

    The prediction is an expected frame, without noise of its own. Frames and values that were not
    seen are predicted, too. A network that reads inputs is given those of the predicted frame. A
    recurrent network filters the true sequence, and at each step ``net.sample_next`` turns the
    statistics u_{t-1} into the next frame. Other networks write ``expect``; see ``Network``.

    Arguments:
        net: a network that predicts.
        batch: the sequences: a ``Batch``, or anything that ``data.as_batch`` takes.
        num_samples: chains, or independent samples of the state, per frame.
        seed: seed of a private random stream; the caller's random state is left alone.
        options: further arguments of ``net.sample_next``, such as ``{"steps": 25}`` Gibbs steps.

    Returns:
        Predictions of all ``T`` frames. The first frame is predicted from a blank past. Padding is
        zero. There is one sample where a prediction is exact.

    Raises:
        ValueError: when the data are unfit, or the network cannot predict.

    Example:
        >>> net = zoo.load("balls/refh")
        >>> predict_next(net, film, num_samples=8, options={"steps": 25}).mean.shape
        torch.Size([2, 100, 900])
    """
    check_samples(num_samples, seed=seed)
    predicts = isinstance(net, Network) and "past" in net.rates_given
    if not predicts and not isinstance(net, Recurrent):  # whose sample_next says why it does not
        raise ValueError(
            f"{type(net).__name__} predicts no next frame: that takes a network that inherits "
            "inference.Recurrent and writes sample_next(past, previous, num_samples)"
        )
    if options and not isinstance(net, Recurrent):
        raise ValueError(f"{type(net).__name__} has no sample_next, and takes no options of it")
    batch = batch_for(net, batch)
    check_missing(net, batch)
    with RandomStream(batch.obs.device, "predict", seed), evaluating(net):
        if isinstance(net, Recurrent):
            return Prediction(next_frames(net, batch, num_samples, options))
        predicted = net.expect(batch, "past", num_samples)
    return Prediction(predicted.masked_fill(~batch.mask[..., None], 0.0))


@torch.no_grad()
def rollout(
    net: Recurrent,
    batch: BatchLike,
    frames: int,
    num_samples: int = 1,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    inputs: Tensor | None = None,
) -> Prediction:
    """Continues each sequence: every predicted frame is filtered as if it had been seen.

    A predicted frame is an expected one, without noise of its own, so grey pixels and keys are fed
    back. All samples are the same where the prediction is deterministic (an RNN). ``net.sample``
    samples frames instead.

    Arguments:
        net: a recurrent network with ``sample_next``.
        batch: the sequences seen: a ``Batch``, or anything that ``data.as_batch`` takes.
        frames: the number of frames to add.
        num_samples: continuations of each sequence, independent of one another.
        seed: seed of a private random stream; the caller's random state is left alone.
        options: further arguments of ``net.sample_next``.
        inputs: those of the frames to add, ``[B, frames, I]``, for a network that reads inputs.

    Returns:
        Continuations, ``[S, B, frames, M]`` in ``samples``.

    Raises:
        ValueError: when the data or the inputs are unfit, or the network cannot predict.
    """
    check_number("frames", frames)
    _check(net, num_samples, seed)
    batch = batch_for(net, batch)
    obs, rows = batch.obs, len(batch)
    ahead = given_inputs(net, inputs, rows, frames, obs)
    ahead = None if ahead is None else ahead.repeat(num_samples, 1, 1)
    statistics = run_sweep(net, batch).statistics
    past = statistics[:, -1].repeat(num_samples, 1)  # padding left it where it was
    last = (batch.mask * torch.arange(1, obs.shape[1] + 1, device=obs.device)).argmax(1)
    seen = filled_frames(net, batch, statistics)[torch.arange(rows, device=obs.device), last]
    frame = seen.repeat(num_samples, 1)
    film = []
    with RandomStream(obs.device, "rollout", seed):
        for t in range(frames):
            given = keyword(ahead, (slice(None), t))
            frame = net.sample_next(past, frame, 1, **(options or {}), **given)[0]
            past = net.step(net.encode(frame, **given), past)
            film.append(frame)
    return Prediction(torch.stack(film, 1).unflatten(0, (num_samples, rows)))


def _check(net: Recurrent, num_samples: int, seed: int) -> None:
    check_samples(num_samples, seed=seed)
    if not isinstance(net, Recurrent):
        raise ValueError(
            f"{type(net).__name__} predicts no next frame: that takes a network that inherits "
            "inference.Recurrent and writes sample_next(past, previous, num_samples)"
        )
