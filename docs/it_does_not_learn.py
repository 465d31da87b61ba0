"""The figures of ``it_does_not_learn.md``: models of simulated recordings, by set and with sd.

    python docs/it_does_not_learn.py counts --sets 11 12 13
    python docs/it_does_not_learn.py calcium --models gru vosp --set model.private=True

Settings were chosen on validation trials of sets 1 and 2. No choice was made on any other set.
"""

from __future__ import annotations

import argparse
import ast
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqzoo import data, zoo

TURN = 2 * math.pi / 25  # rad a bin
ROTATION = 0.99 * np.array([[math.cos(TURN), -math.sin(TURN)], [math.sin(TURN), math.cos(TURN)]])
DEAD = 7
MODELS = {
    "counts": ("gru", "rvae", "vosp", "refh", "vrae"),
    "traces": ("lgds", "rvae", "vrae", "vosp", "gru"),
    "calcium": ("lgds", "rvae", "vrae", "vosp", "gru"),
}


def states(steps: int, draw: np.random.Generator) -> np.ndarray:
    """A noisy rotation in 25 bins and a slow drift, each of variance 1, ``[T, 3]``."""
    x, found = draw.normal(size=3), []
    for _ in range(steps):
        found.append(x)
        turned = ROTATION @ x[:2] + 0.141 * draw.normal(size=2)
        x = np.array([*turned, 0.97 * x[2] + 0.243 * draw.normal()])
    return np.stack(found)


def calcium(rates: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Traces of an indicator that keeps 0.9 a bin, and what is expected of each bin, ``[T, M]``."""
    now, traces, expected = np.zeros(rates.shape[1]), [], []
    for rate, spikes in zip(rates, draw.poisson(rates)):
        expected.append(0.9 * now + rate)
        now = 0.9 * now + spikes
        traces.append(now)
    return traces + 0.3 * draw.normal(size=rates.shape), np.stack(expected)


def oscillator(
    kind: str, seed: int, trials: int = 60, neurons: int = 40
) -> tuple[data.Recording, list[np.ndarray]]:
    """Trials of 80 to 120 bins of channels that follow a three-dimensional oscillator.

    5 % of the bins are missing, and one channel is dead.

    Arguments:
        kind: ``"counts"``; ``"traces"``, linear maps of the state plus noise; or ``"calcium"``.
        seed: seed of the set: neurons, states and noise.
        trials, neurons: their numbers.

    Returns:
        The recording, and what is expected of each bin given the state (of calcium also given the
        bin before), ``[T, M]`` of each trial.
    """
    draw = np.random.default_rng(seed)
    weights, base = draw.normal(size=(3, neurons)), draw.uniform(-2.2, -1.0, neurons)
    unit, offset = np.exp(0.7 * draw.normal(size=neurons)), draw.normal(size=neurons)
    values, expected = [], []
    for _ in range(trials):
        x = states(int(draw.integers(80, 121)), draw)
        shared = x @ weights / math.sqrt(3)
        if kind == "counts":
            mean = np.exp(base + x @ (weights * [[0.55], [0.55], [0.4]]))
            mean[:, DEAD] = 0
            seen = draw.poisson(mean).astype(float)
        elif kind == "traces":
            mean = unit * (offset + shared)
            seen = mean + 0.7 * unit * draw.normal(size=mean.shape)
        else:
            found = calcium(0.06 * np.exp(1.2 * shared), draw)
            seen, mean = (100 * unit * (3 + each) for each in found)
        if kind != "counts":
            seen[:, DEAD] = mean[:, DEAD] = 3 * unit[DEAD]
        seen[draw.random(len(seen)) < 0.05] = np.nan
        values.append(seen)
        expected.append(mean)
    return data.Recording(values, bin=0.02), expected


def padded(expected: Sequence[np.ndarray]) -> Tensor:
    """Trials with zeros at their ends, ``[B, T, M]``."""
    found = [torch.as_tensor(each, dtype=torch.get_default_dtype()) for each in expected]
    return torch.nn.utils.rnn.pad_sequence(found, batch_first=True)


def scores(
    kind: str, seed: int, names: Sequence[str], changes: Mapping[str, Any], **sizes: int
) -> list[dict[str, Any]]:
    """Rows of the table of ``zoo.compare`` on the test trials of a set.

    Arguments:
        kind, seed: of the set, see ``oscillator``.
        names: models.
        changes: settings of every model.
        sizes: ``trials`` and ``neurons`` of the set, and ``latent_dim``.
    """
    latents = {"latent_dim": sizes.pop("latent_dim")} if "latent_dim" in sizes else {}
    recording, expected = oscillator(kind, seed, **sizes)
    train, validation, test = recording.split(0.7, 0.15, 0.15, seed=0)
    each = dict.fromkeys(names, changes)
    fits = zoo.compare(names, train, validation, changes=each, progress=False, **latents)
    true = padded([expected[int(name)] for name in test.names])
    return fits.score(test, true_rates=true).rows


def show(tables: Sequence[Sequence[Mapping[str, Any]]], title: str) -> None:
    """Prints a table: the values of one set, or mean and sd over several."""
    print(" | ".join([title, *list(tables[0][0])[1:]]))
    for rows in zip(*tables):
        cells = [rows[0]["model"]]
        for key in list(rows[0])[1:]:
            found = [row[key] for row in rows if row.get(key) is not None]
            spread = f" ± {np.std(found, ddof=1):.3f}" if len(found) > 1 else ""
            cells.append(f"{np.mean(found):.3f}{spread}" if found else "-")
        print(" | ".join(cells), flush=True)


def main() -> None:
    """Prints the scores of each set, then mean and sd over sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=MODELS)
    parser.add_argument("--models", nargs="+", help="names of zoo.compare")
    parser.add_argument("--sets", nargs="+", type=int, default=[11, 12, 13], help="seeds of sets")
    parser.add_argument("--latents", type=int, help="latent_dim")
    parser.add_argument("--set", nargs="*", default=[], help="settings, as FIELD=VALUE")
    given = parser.parse_args()
    changes = {key: ast.literal_eval(value) for key, value in (x.split("=") for x in given.set)}
    sizes = {} if given.latents is None else {"latent_dim": given.latents}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = given.models or MODELS[given.kind]
    tables = []
    for seed in given.sets:
        tables.append(scores(given.kind, seed, names, changes, **sizes))
        show([tables[-1]], f"set {seed}")
    show(tables, "mean ± sd")


if __name__ == "__main__":
    main()
