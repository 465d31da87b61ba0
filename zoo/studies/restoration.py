"""How well models restore music: notes found, against filters that know nothing of music."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...data import Batch, Polyphonic, add_notes, hide_steps
from ...data.polyphonic import NAMES
from ...inference import LatentPathModel, denoise, impute
from ..pictures import check_file, plot_rolls
from ..recipes.task import device_of

LEAST = 1e-4  # probabilities are taken to be this far from 0 and 1 when they are scored in nats
FRAMES = 200  # of a test sequence: longer ones are cut
SHOWN = 64  # frames of a picture
METHODS = ("mode", "gibbs", "resample")


class Row(NamedTuple):
    """One method of restoration, and how well it did.

    Arguments:
        name: of the method.
        precision: fraction of the notes it gives that are right.
        recall: fraction of the right notes that it gives.
        f1: their harmonic mean.
        nats: of a missing key in a frame, under the predicted probabilities; None for bits.
    """

    name: str
    precision: float
    recall: float
    f1: float
    nats: float | None = None


def score(name: str, found: Tensor, clean: Tensor, where: Tensor, graded: bool = False) -> Row:
    """Counts notes over all entries together; a key sounds where its value is above a half.

    Arguments:
        name: of the method.
        found: bits or probabilities, ``[B, T, M]``.
        clean: the truth, ``[B, T, M]``.
        where: which entries count, bool, ``[B, T, M]`` or ``[B, T, 1]``.
        graded: score probabilities in nats as well.
    """
    where = where.expand(clean.shape)
    given, right = (found > 0.5)[where], (clean > 0.5)[where]
    hits = int((given & right).sum())
    precision, recall = (hits / max(int(part.sum()), 1) for part in (given, right))
    f1 = 2 * hits / max(int(given.sum() + right.sum()), 1)
    nats = None
    if graded:
        chance = found[where].double().clamp(LEAST, 1 - LEAST)
        nats = -float(torch.where(right, chance, 1 - chance).log().mean())
    return Row(name, precision, recall, f1, nats)


# Filters -----------------------------------------------------------------------------------------


def supported(obs: Tensor, mask: Tensor) -> Tensor:
    """Keeps a key only where it sounds in the frame before or after as well, ``[B, T, M]``."""
    real = obs.masked_fill(~mask[..., None], 0.0)
    edge = torch.zeros_like(real[:, :1])
    before, after = torch.cat((edge, real[:, :-1]), 1), torch.cat((real[:, 1:], edge), 1)
    return real * torch.maximum(before, after)


def likelier(obs: Tensor, rates: Tensor, rate: float) -> Tensor:
    """Keeps a key where it sounds more often than noise does, ``[B, T, M]``.

    Arguments:
        obs: noisy data, ``[B, T, M]``.
        rates: how often each key sounds in clean music, ``[M]``.
        rate: probability that noise turned a silent key on.
    """
    return obs * (rates > (1 - rates) * rate)


def carried(obs: Tensor, observed: Tensor) -> Tensor:
    """The last value that was seen of each key, forward in time; 0 before there is one."""
    frames, last = [], torch.zeros_like(obs[:, 0])
    for value, seen in zip(obs.unbind(1), observed.unbind(1)):
        last = torch.where(seen, value, last)
        frames.append(last)
    return torch.stack(frames, 1)


# Tables ------------------------------------------------------------------------------------------


def check_music(net: nn.Module) -> tuple[LatentPathModel, str]:
    """A model of latent paths that was trained on music, and the name of its data set.

    Raises:
        ValueError: for any other model.
    """
    name = getattr(net, "card", {}).get("name", "")
    table = name.partition("/")[0]
    if table not in NAMES:
        tables = ", ".join(NAMES)
        raise ValueError(f"{name or 'this model'} is not about music: its table must be {tables}")
    if not isinstance(net, LatentPathModel):
        raise ValueError(f"{name} has no latent path to restore music with: name a VRAE or a VOSP")
    return net, table


def denoising(
    net: nn.Module,
    sequences: int = 10,
    rate: float = 0.05,
    seed: int = 0,
    picture: Path | None = None,
) -> list[Row]:
    """Adds wrong notes to test data and takes them away again; all entries are scored.

    Arguments:
        net: a loaded model of music.
        sequences: test sequences, the first ones, of at most ``FRAMES`` frames.
        rate: probability that a silent key is turned on.
        seed: seed of the notes and of the model's samples.
        picture: file for the first two sequences (clean, noisy, denoised), or None.

    Raises:
        ValueError: for a model that is not of music, or has no latent path.
    """
    model, table = check_music(net)
    if picture is not None:  # before anything is computed
        check_file(picture)
    clean = _pieces(table, sequences, least=1).to(device_of(net))
    rates = Polyphonic(table, "train").rates().to(clean.obs)
    mask, where = clean.mask, clean.mask[..., None]
    wrong = add_notes(clean.obs, mask, rate, seed)
    noisy = Batch(wrong, mask)
    found = denoise(model, noisy, rate, seed=seed)
    restored = (
        ("left as it is", wrong),
        ("kept if a neighbour frame has it", supported(wrong, mask)),
        ("kept by how often a key sounds", likelier(wrong, rates, rate)),
        ("by modes, as published", denoise(model, noisy)),
        (f"by weights, noise rate {rate:g}", found),
    )
    rows = [score(name, values, clean.obs, where) for name, values in restored]
    if picture is not None:
        rolls = {}
        for title, frames in (("clean", clean.obs), ("noisy", wrong), ("denoised", found)):
            for i, (roll, real) in enumerate(zip(frames[:2], mask)):
                rolls[f"{title}, sequence {i + 1}"] = roll[real][:SHOWN]
        plot_rolls(rolls, picture, columns=min(2, len(mask)))
    return rows


def imputation(
    net: nn.Module,
    sequences: int = 10,
    length: int = 8,
    methods: Sequence[str] = METHODS,
    seed: int = 0,
    picture: Path | None = None,
) -> list[Row]:
    """Hides consecutive steps of test data and fills them in; the hidden entries are scored.

    Arguments:
        net: a loaded model of music.
        sequences: test sequences, the first ones that are longer than ``length``.
        length: steps to hide, complete frames.
        methods: of ``inference.impute``.
        seed: seed of the places and of the model's samples.
        picture: file for the first sequence, restored by the first chain of the first method, or
            None.

    Raises:
        ValueError: for a model that is not of music or has no latent path, or where no test
            sequence is long enough.
    """
    model, table = check_music(net)
    if picture is not None:  # before anything is computed
        check_file(picture)
    unknown = [method for method in methods if method not in METHODS]
    if unknown:  # before anything is computed
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {unknown[0]!r}")
    whole = _pieces(table, sequences, length + 1).to(device_of(net))
    batch = hide_steps(whole, length, seed)
    obs, mask, observed = whole.obs, batch.mask, batch.observed
    assert observed is not None  # hide_steps sets it
    where = ~observed & mask[..., None]
    rates = Polyphonic(table, "train").rates().to(obs).expand(obs.shape)
    rows = [
        score("training rate of each key", rates, obs, where, graded=True),
        score("last observed frame", carried(batch.obs, observed), obs, where),
    ]
    restored_roll = None
    for method in methods:
        chains = 1 if method == "mode" else 8
        found = impute(model, batch, method, num_chains=chains, seed=seed)
        restored_roll = found.samples[0, 0] if restored_roll is None else restored_roll
        name = "by modes, as published" if method == "mode" else f"by {method}"
        rows.append(score(name, found.mean, obs, where, graded=True))
    if picture is not None and restored_roll is not None:
        lost = where[0].any(1)
        middle = int(lost.nonzero().float().mean()) if lost.any() else 0
        part = slice(max(0, middle - SHOWN // 2), middle + SHOWN // 2)
        original, real = obs[0], mask[0][part]
        rolls = {
            "original": original,
            "corrupted": original.masked_fill(where[0], 0.0),
            "recovered": restored_roll,
            "errors": (restored_roll - original).abs(),
        }
        rolls = {title: roll[part][real] for title, roll in rolls.items()}
        plot_rolls(rolls, picture, columns=2, hidden=lost[part][real])
    return rows


def _pieces(table: str, sequences: int, least: int) -> Batch:
    """The first test sequences of a length, padded."""
    rolls = Polyphonic(table, "test", chunk=FRAMES)
    long = (rolls.lengths >= least).nonzero()[:, 0]
    if len(long) == 0:
        raise ValueError(f"no test sequence of {table} has {least} frames: hide fewer")
    return rolls.rows(long[:sequences])
