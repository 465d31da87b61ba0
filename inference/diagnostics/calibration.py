"""Are predictions as often true as they say? PIT, coverage, calibration error.

All of it follows from one number: where a value lies among ``S`` draws that claim to be of its
law, as a share of them (the probability integral transform, PIT). If they are, it is uniform on
[0, 1], exactly, for any ``S``. A histogram with a hump in the middle is one of draws too wide, a
trough of draws too narrow, a slope of draws that are off to one side.

Sources: Gneiting et al., "Probabilistic forecasts, calibration and sharpness" (2007); Czado et
al., "Predictive model assessment for count data" (2009).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ...data import Batch, generator
from ..contracts import Fold, Recurrent, SequenceModel
from ..draws import blanked, draw, main_site, prepare, spread_out
from ..evaluate import check_samples, portions
from ..rng import RandomStream

LEVELS = tuple(level / 20 for level in range(1, 20))  # of central intervals: 5 % to 95 %
EXPECTED = 5  # values a bin, the least for which a chi-squared law is any good


# One value among draws ----------------------------------------------------------------------------


def pit(value: Tensor, draws: Tensor, seed: int = 0) -> Tensor:
    """The randomised PIT of values, ``[...]``, float64: uniform where draws are of their law.

    Discrete data equal some of their draws: the PIT is then drawn from the range between those
    below and those not above.

    Arguments:
        value: ``[...]``; NaN (padding) stays NaN.
        draws: ``[S, ...]``.
        seed: of that draw.

    Raises:
        ValueError: when shapes do not fit, or draws of a real value are NaN.
    """
    return _pit(value, [draws], seed)


def _pit(value: Tensor, parts: Iterable[Tensor], seed: int) -> Tensor:
    """The same of draws that come in parts, which are never in memory together."""
    below = torch.zeros(value.shape, dtype=torch.float64, device=value.device)
    equal, number = torch.zeros_like(below), 0
    real = ~value.isnan()
    for draws in parts:
        if draws.dim() != value.dim() + 1 or draws.shape[1:] != value.shape or not len(draws):
            raise ValueError(
                f"draws must be [S, ...] of values [...]: got {tuple(draws.shape)} and "
                f"{tuple(value.shape)}"
            )
        if (draws.isnan().any(0) & real).any():
            raise ValueError("draws are NaN where the value is real, so it has no rank among them")
        below += (draws < value).sum(0)
        equal += (draws == value).sum(0)
        number += len(draws)
    where = torch.rand(value.shape, generator=generator("PIT", seed), dtype=torch.float64)
    found = (below + where.to(value.device) * (equal + 1)) / (number + 1)
    return found.masked_fill(~real, float("nan"))


def coverage(pits: Tensor, levels: Sequence[float] = LEVELS, central: bool = True) -> Tensor:
    """Share of values within the interval of each level, ``[L]``; nominal: ``levels``.

    Central intervals are all but blind to draws that are off to one side: what they lose at one end
    they win at the other. One-sided ones see that at once, and a wrong width half as well.

    Arguments:
        pits: PIT of the values, any shape; NaN does not count.
        levels: in (0, 1).
        central: the interval in the middle; False: the one from below, PIT <= level. A share above
            its level at all of them is one of draws too high.

    Raises:
        ValueError: for levels outside (0, 1), a PIT outside [0, 1], or none.
    """
    pits = _real(pits)
    levels = torch.tensor(levels, dtype=pits.dtype, device=pits.device)
    if levels.dim() != 1 or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"levels must be a list of shares within (0, 1), got {levels.tolist()}")
    inside = (pits - 0.5).abs() <= levels[:, None] / 2 if central else pits <= levels[:, None]
    return inside.double().mean(1)


def calibration_error(
    pits: Tensor, levels: Sequence[float] = LEVELS, central: bool = True
) -> float:
    """The expected calibration error: how far coverage is from its level, averaged over levels.

    0 is perfect. With ``n`` independent values chance alone makes about 0.33 / sqrt(n) of it, and
    more than 0.61 / sqrt(n) once in twenty times; central or one-sided. Of a Gaussian that is right
    but for this:

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
        ValueError: for fewer than two bins, a PIT outside [0, 1], or none.
    """
    if bins < 2:
        raise ValueError(f"a histogram needs at least 2 bins, got {bins}")
    where = (_real(pits) * bins).long().clamp(0, bins - 1)
    return torch.bincount(where, minlength=bins)


def uniformity(pits: Tensor, bins: int = 10) -> float:
    """Chi-squared p-value of the PIT being uniform, of **independent** values.

    Frames of one sequence, and values of one frame, are not: take one of each sequence, or look at
    the histogram.

    Raises:
        ValueError: for fewer than 5 values a bin, or one outside [0, 1].
    """
    from scipy.stats import chisquare

    counts = histogram(pits, bins)
    if counts.sum() < EXPECTED * bins:
        raise ValueError(
            f"{bins} bins take at least {EXPECTED * bins} values, there are {int(counts.sum())}"
        )
    return float(chisquare(counts.cpu().numpy()).pvalue)


def _real(pits: Tensor) -> Tensor:
    pits = pits[~pits.isnan()].double()
    if not len(pits):
        raise ValueError("there is no PIT but NaN")
    if pits.min() < 0 or pits.max() > 1:
        raise ValueError(
            f"a PIT lies within [0, 1], these reach from {pits.min():.3g} to {pits.max():.3g}: "
            "inference.pit makes them of values and draws"
        )
    return pits


# Predictions --------------------------------------------------------------------------------------


@torch.no_grad()
def frame_pit(net, batch: Batch, draws: int = 99, seed: int = 0, at_once: int = 25) -> Tensor:
    """PIT of every value among one-step predictions, x_t given x_1 .. x_{t-1}; ``[B, T, M]``.

    Of models whose next frame depends on what was seen alone (RNN), on that and on latent noise of
    its own (a framewise VOSP), or on a state that is foreseen (rVAE, TVAE). The first frame of a
    sequence is predicted from nothing.

    Arguments:
        net: such a model.
        batch: the sequences.
        draws: predictions of each frame.
        seed: of all draws; the caller's random state is left alone.
        at_once: draws held in memory at a time.

    Returns:
        NaN in padding.

    Raises:
        ValueError: for less than one draw, and for other models: draw predictions of your own, and
            take ``pit``.
    """
    check_samples(draws, "draws", at_once)
    data = prepare(net, batch)
    seen = blanked(batch.obs, batch.mask, 1)
    with RandomStream(batch.obs.device, "frame PIT"):
        latent = bool(draw(net, data, 1, prior=True).latents)
    alone = not latent or (isinstance(net, SequenceModel) and net.framewise)
    if isinstance(data, Fold):

        def predict(number: int) -> Tensor:
            frames = net.emit(net.foresee(data.past, number)).sample()
            return spread_out(frames, batch.mask, 1)

    elif isinstance(net, Recurrent) and alone:

        def predict(number: int) -> Tensor:
            drawn = draw(net, data, number, prior=True)
            return drawn.laws[main_site(drawn, data)].sample()

    else:
        raise ValueError(
            f"what a {type(net).__name__} expects of a frame depends on all it makes of the past: "
            "draw predictions with its own verbs, and compare them with inference.pit"
        )
    with RandomStream(batch.obs.device, "frame PIT", seed):
        return _pit(seen, map(predict, portions(draws, at_once)), seed)
