"""What nets read of frames of which some values were not seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .likelihoods import Likelihood


def reads(obs_dim: int, sees_missing: bool) -> int:
    """Values of a frame as a net reads it, ``R``: ``M``, or ``2 M`` where it sees what is missing.

    Arguments:
        obs_dim: values of a frame, ``M``.
        sees_missing: whether the net reads which values were seen.
    """
    return obs_dim * (1 + sees_missing)


def with_seen(obs: Tensor, observed: Tensor | None = None) -> Tensor:
    """Frames, then 1.0 for each value that was seen and 0.0 for the others; ``[..., 2 M]``.

    Arguments:
        obs: frames with zeros in place of missing values, ``[..., M]``.
        observed: True where a value was seen, ``[..., M]``; None where all were.
    """
    seen = torch.ones_like(obs) if observed is None else observed.to(obs)
    return torch.cat((obs, seen), -1)


def hide_values(hide: nn.Module, frames: Tensor, obs_dim: int) -> Tensor:
    """Frames ``[..., R]`` with dropout of their values, and not of what says which were seen."""
    if frames.shape[-1] == obs_dim:
        return hide(frames)
    values, seen = frames[..., :obs_dim], frames[..., obs_dim:]
    return torch.cat((hide(values), seen), -1)


def expected(likelihood: Likelihood, natural: Tensor) -> Tensor:
    """Frames to read in place of missing ones, ``[..., N] -> [..., M]``, without random numbers.

    They are the means, or the modes where the values of a frame are not independent (NADE).
    """
    distribution = likelihood.distribution(natural)
    if isinstance(distribution, torch.distributions.Independent):
        return likelihood.mean(natural)
    return likelihood.mode(natural)
