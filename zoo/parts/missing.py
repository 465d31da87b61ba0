"""What nets read: frames of which some values were not seen, and inputs beside them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .likelihoods import Likelihood


def reads(obs_dim: int, sees_missing: bool, input_dim: int = 0) -> int:
    """Values of a frame as a net reads it, ``R``: ``M``, or ``2 M`` where it sees what is missing.

    Arguments:
        obs_dim: values of a frame, ``M``.
        sees_missing: whether the net reads which values were seen.
        input_dim: inputs that follow, ``I``.
    """
    return obs_dim * (1 + sees_missing) + input_dim


def frames_read(
    likelihood: Likelihood, obs: Tensor, observed: Tensor | None, sees_missing: bool
) -> Tensor:
    """Frames as nets read them, ``[..., M]``, or ``[..., 2 M]`` where they see what is missing.

    A likelihood with a unit of its own has ``standardised``, which brings values to order one.

    Arguments:
        likelihood: that of the frames.
        obs: frames with zeros in place of missing values, ``[..., M]``.
        observed: True where a value was seen, ``[..., M]``; None where all were.
        sees_missing: whether the net reads which values were seen.
    """
    standardised = getattr(likelihood, "standardised", None)
    if standardised is not None:
        obs = standardised(obs)
        obs = obs if observed is None else obs.masked_fill(~observed, 0.0)
    return with_seen(obs, observed) if sees_missing else obs


def with_seen(obs: Tensor, observed: Tensor | None = None) -> Tensor:
    """Frames, then 1.0 for each value that was seen and 0.0 for the others; ``[..., 2 M]``.

    Arguments:
        obs: frames with zeros in place of missing values, ``[..., M]``.
        observed: True where a value was seen, ``[..., M]``; None where all were.
    """
    seen = torch.ones_like(obs) if observed is None else observed.to(obs)
    return torch.cat((obs, seen), -1)


def beside(values: Tensor, inputs: Tensor | None, input_dim: int) -> Tensor:
    """Values of each frame, then its inputs, ``[..., V + I]``; the values alone where ``I`` is 0.

    Arguments:
        values: ``[..., V]``.
        inputs: ``[..., I]``, with fewer leading axes where samples have them in common; not read
            where ``I`` is 0.
        input_dim: ``I``.

    Raises:
        ValueError: for inputs of another size, or none.
    """
    if not input_dim:
        return values
    inputs = needed(inputs, input_dim)
    return torch.cat((values, inputs.expand(*values.shape[:-1], input_dim)), -1)


def needed(inputs: Tensor | None, input_dim: int) -> Tensor:
    """Inputs ``[..., I]`` of a model that reads them.

    Raises:
        ValueError: for inputs of another size, or none.
    """
    if inputs is None or inputs.shape[-1] != input_dim:
        found = "none" if inputs is None else str(inputs.shape[-1])
        raise ValueError(f"the model reads {input_dim} inputs a frame, and was given {found}")
    return inputs


def hide_values(hide: nn.Dropout, frames: Tensor, obs_dim: int, sees_missing: bool) -> Tensor:
    """Frames ``[..., R]`` as a net is shown them in training: some of their values are hidden.

    A hidden value is zero. A net that sees what is missing is told so. For any other the values
    that are left are scaled, as dropout does.

    Arguments:
        hide: its ``p`` is the probability that a value is hidden.
        frames: values, which were seen where ``sees_missing``, and inputs, ``[..., R]``.
        obs_dim: values of a frame, ``M``.
        sees_missing: whether ``frames`` say which values were seen.
    """
    if frames.shape[-1] == obs_dim:
        return hide(frames)
    values, others = frames[..., :obs_dim], frames[..., obs_dim:]
    if not sees_missing:
        return torch.cat((hide(values), others), -1)
    if not (hide.training and hide.p):
        return frames
    shown = (torch.rand_like(values) >= hide.p).to(values)
    seen, inputs = others[..., :obs_dim], others[..., obs_dim:]
    return torch.cat((shown * values, shown * seen, inputs), -1)


def expected(likelihood: Likelihood, natural: Tensor) -> Tensor:
    """Frames to read in place of missing ones, ``[..., N] -> [..., M]``, without random numbers.

    They are the means, or the modes where the values of a frame are not independent (NADE).
    """
    distribution = likelihood.distribution(natural)
    if isinstance(distribution, torch.distributions.Independent):
        return likelihood.mean(natural)
    return likelihood.mode(natural)
