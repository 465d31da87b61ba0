"""Calibration of predictions: PIT, coverage, calibration error.

All of these follow from the probability integral transform (PIT): the fraction of ``S`` samples
that lie below a value. If the value and the samples have the same distribution, the PIT is uniform
on [0, 1], exactly and for any ``S``. A hump in the middle of its histogram means that the samples
are too wide, a trough that they are too narrow, and a slope that they are shifted.

Sources: Gneiting et al., "Probabilistic forecasts, calibration and sharpness" (2007); Czado et
al., "Predictive model assessment for count data" (2009).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ...data import BatchLike, generator
from ..checks import check_number, check_samples, check_seed, portions
from ..contracts import FrameModel, Recurrent, SequenceModel
from ..inputs import inputs_of, keyword
from ..placing import batch_for
from ..rng import RandomStream
from ..samples import blanked_obs, main_site, prepare_plate, sample_sites, spread_out

LEVELS = tuple(level / 20 for level in range(1, 20))  # of central intervals: 5 % to 95 %
EXPECTED = 5  # values per bin, the least for which the chi-squared distribution is accurate


# One value among samples --------------------------------------------------------------------------


def pit(value: Tensor, samples: Tensor, seed: int = 0) -> Tensor:
    """The randomised PIT of values, ``[...]``, float64.

    It is uniform where values and samples have the same distribution. Discrete values equal some
    of their samples; the PIT is then drawn uniformly from the range of the ties.

    Arguments:
        value: ``[...]``; NaN (padding) stays NaN.
        samples: ``[S, ...]``; moved to the device of the values.
        seed: seed of the random ties.

    Raises:
        ValueError: when shapes do not fit, or samples of a real value are NaN.
    """
    check_seed(seed)
    return _pit(value, [samples.to(value.device)], seed)


def _pit(value: Tensor, parts: Iterable[Tensor], seed: int) -> Tensor:
    """``pit`` of samples that come in parts, which are never in memory together."""
    below = torch.zeros(value.shape, dtype=torch.float64, device=value.device)
    equal, number = torch.zeros_like(below), 0
    real = ~value.isnan()
    for samples in parts:
        if samples.dim() != value.dim() + 1 or samples.shape[1:] != value.shape or not len(samples):
            raise ValueError(
                f"samples must be [S, ...] for values [...]: got {tuple(samples.shape)} and "
                f"{tuple(value.shape)}"
            )
        if (samples.isnan().any(0) & real).any():
            raise ValueError(
                "samples are NaN where the value is real, so it has no rank among them"
            )
        below += (samples < value).sum(0)
        equal += (samples == value).sum(0)
        number += len(samples)
    where = torch.rand(value.shape, generator=generator("PIT", seed), dtype=torch.float64)
    found = (below + where.to(value.device) * (equal + 1)) / (number + 1)
    return found.masked_fill(~real, float("nan"))


def coverage(pits: Tensor, levels: Sequence[float] = LEVELS, central: bool = True) -> Tensor:
    """Fraction of values within the interval of each level, ``[L]``; nominally ``levels``.

    Central intervals hardly react to samples that are shifted, because the loss at one end is a
    gain at the other. One-sided intervals detect a shift at once, and a wrong width half as well.

    Arguments:
        pits: PIT of the values, any shape; NaN does not count.
        levels: in (0, 1).
        central: the interval in the middle; False: the one from below, PIT <= level. Fractions
            above their levels throughout mean that the samples are too high.

    Raises:
        ValueError: for levels outside (0, 1), a PIT outside [0, 1], or no PIT.
    """
    pits = _real(pits)
    nominal = torch.tensor(levels, dtype=pits.dtype, device=pits.device)
    if nominal.dim() != 1 or not ((nominal > 0) & (nominal < 1)).all():
        raise ValueError(f"levels must be a list of fractions within (0, 1), got {levels}")
    nominal = nominal[:, None]
    inside = (pits - 0.5).abs() <= nominal / 2 if central else pits <= nominal
    return inside.double().mean(1)


def calibration_error(
    pits: Tensor, levels: Sequence[float] = LEVELS, central: bool = True
) -> float:
    """The expected calibration error: the mean distance of coverage from its level.

    0 is perfect. For ``n`` independent values of the right distribution it is about
    0.33 / sqrt(n), and above 0.61 / sqrt(n) once in twenty times, central or one-sided. For a
    Gaussian with one error:

    | | central | one-sided |
    |---|---|---|
    | shifted by 0.1 (0.3) of its sd | 0.002 (0.016) | 0.03 (0.09) |
    | its sd 20 % too small | 0.073 | 0.036 |

    Arguments:
        pits, levels, central: see ``coverage``.

    Raises:
        ValueError: see ``coverage``.
    """
    found = coverage(pits, levels, central).cpu()
    return float((found - torch.tensor(levels)).abs().mean())


def histogram(pits: Tensor, bins: int = 10) -> Tensor:
    """Values in each of the equal bins of [0, 1], ``[bins]``; NaN does not count.

    Raises:
        ValueError: for fewer than two bins, a PIT outside [0, 1], or no PIT.
    """
    check_number("bins", bins, 2)
    where = (_real(pits) * bins).long().clamp(0, bins - 1)
    return torch.bincount(where, minlength=bins)


def uniformity(pits: Tensor, bins: int = 10) -> float:
    """Chi-squared p-value of a uniform PIT, for **independent** values.

    Frames of one sequence, and values of one frame, are not independent: take one of each sequence,
    or look at the histogram.

    Raises:
        ValueError: for fewer than 5 values per bin, or a PIT outside [0, 1].
    """
    from scipy.stats import chisquare

    counts = histogram(pits, bins)
    if counts.sum() < EXPECTED * bins:
        raise ValueError(
            f"{bins} bins need at least {EXPECTED * bins} values, got {int(counts.sum())}"
        )
    return float(chisquare(counts.cpu().numpy()).pvalue)


def _real(pits: Tensor) -> Tensor:
    pits = pits[~pits.isnan()].double()
    if not len(pits):
        raise ValueError("every PIT is NaN: at least one must be a number")
    if pits.min() < 0 or pits.max() > 1:
        raise ValueError(
            f"a PIT lies within [0, 1], these range from {pits.min():.3g} to {pits.max():.3g}: "
            "compute them with inference.pit(values, samples)"
        )
    return pits


# Predictions --------------------------------------------------------------------------------------


@torch.no_grad()
def frame_pit(
    net: SequenceModel | FrameModel,
    batch: BatchLike,
    num_samples: int = 99,
    seed: int = 0,
    at_once: int = 25,
) -> Tensor:
    """PIT of every value among one-step predictions, x_t given x_1 .. x_{t-1}; ``[B, T, M]``.

    It works for models whose next frame depends on the earlier frames only (RNN), on these and on
    latent noise of its own (a framewise VOSP), or on a predicted state (rVAE, TVAE). Where a model
    reads inputs, those of the predicted frame are given, too. The first frame of a sequence is
    predicted from a blank past.

    Arguments:
        net: such a model.
        batch: the sequences: a ``Batch``, or anything that ``data.as_batch`` takes.
        num_samples: predictions of each frame.
        seed: seed of a private random stream; the caller's random state is left alone.
        at_once: samples held in memory at a time.

    Returns:
        NaN in padding and where values are missing.

    Raises:
        ValueError: for less than one sample, and for other models: sample their predictions, and
            call ``pit``.
    """
    check_samples(num_samples, at_once, seed)
    batch = batch_for(net, batch)
    data = prepare_plate(net, batch)
    seen = blanked_obs(batch)
    with RandomStream(batch.obs.device, "frame PIT"):
        latent = bool(sample_sites(net, data, 1, prior=True).latents)
    one_step = not latent or (isinstance(net, SequenceModel) and net.framewise)
    if isinstance(net, FrameModel):

        def predict(number: int) -> Tensor:
            given = keyword(inputs_of(net, data))
            state = net.sample_state(data.past, number, **given)
            frames = net.emit(state, **given).sample()
            return spread_out(frames, batch.observed_frames, 1)

    elif isinstance(net, Recurrent) and one_step:

        def predict(number: int) -> Tensor:
            samples = sample_sites(net, data, number, prior=True)
            return samples.distributions[main_site(samples, data)].sample()

    else:
        raise ValueError(
            f"a {type(net).__name__} predicts a frame from its posterior of the whole past: sample "
            "predictions with its own methods, and compare them by inference.pit"
        )
    with RandomStream(batch.obs.device, "frame PIT", seed):
        return _pit(seen, map(predict, portions(num_samples, at_once)), seed)
