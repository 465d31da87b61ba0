"""The next frame of Piano-midi after T frames: Manchev & Spratling (2024), Tables 3 and 4."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ...data import Polyphonic, write_midi
from ...inference import LearningRule, StraightThrough, TargetPropagation
from ...inference.rng import RandomStream
from ..models.srn import SRN
from ..part import Part, part
from ..parts.initialisers import Orthogonal
from ..parts.likelihoods import Bernoulli
from ..pictures import MUSIC, check_file, plot_rolls
from .music_task import STEPS as SECONDS
from .recipe import Recipe
from .task import Scores, Task, device_of

KEYS, NAME = 88, "piano-midi"
ROWS = 100  # windows at a time
PATHS = 20
VALIDATED = 7  # validation looks at every so many windows; an even number would keep to the meter
GENERATED = 128  # frames of a sampled roll, after its prompt
DATA = ("pianomidi-t50", "pianomidi-t100")


def score(
    steps: int, model: SRN, seed: int, split: str, stride: int = 1, num_samples: int = PATHS
) -> Scores:
    """-log p of the frame after each window, ``[N, 1]``, nats.

    Arguments:
        steps: frames of a window.
        model, seed, split: the network, the seed of its samples, and which data.
        stride: frames from one window to the next; validation data are looked at sparsely.
        num_samples: paths of the stochastic units, whose probabilities are averaged.
    """
    device = device_of(model)
    stride = VALIDATED if split == "validation" else stride
    rolls = Polyphonic(NAME, split, window=steps, stride=stride, device=device)
    found = []
    with RandomStream(device, "score", seed):
        for rows in torch.arange(len(rolls)).split(ROWS):
            batch = rolls.rows(rows)
            assert batch.target is not None  # the data ask for an answer
            found.append(-model.estimate_log_prob(batch, num_samples))
    values = torch.cat(found).cpu()[:, None]
    return Scores(values, torch.ones(len(values)))


@torch.no_grad()
def write_samples(
    steps: int, model: SRN, path: Path, seed: int, direction: str | None = None
) -> None:
    """Goes on where a test sequence's first window ends: .mid, or a picture of three (.png)."""
    if direction is not None:
        raise ValueError(f"{type(model).__name__} goes on with a roll: it has no other direction")
    check_file(path, MUSIC)
    device = device_of(model)
    long = [roll for roll in Polyphonic(NAME, "test").sequences if len(roll) > steps][:3]
    rolls = torch.stack([roll[:steps] for roll in long]).float().to(device)
    for frame in range(GENERATED):
        following = model.sample_answers(rolls[:, -steps:], seed=1000 * seed + frame)[0]
        rolls = torch.cat((rolls, following[:, None]), 1)
    if path.suffix in (".mid", ".midi"):
        write_midi(path, rolls[0], step=SECONDS[NAME])
        return
    prompt = torch.arange(rolls.shape[1]) < steps
    titles = [f"test sequence {i + 1}: shaded frames are given" for i in range(len(rolls))]
    plot_rolls(dict(zip(titles, rolls)), path, hidden=prompt)


def window_task(steps: int) -> Task:
    """Nats per predicted frame, over all windows of the test sequences."""
    return Task(
        metric=f"NLL, {PATHS} paths",
        unit="nats per frame",
        score=functools.partial(score, steps),
        write_samples=functools.partial(write_samples, steps),
    )


PUBLISHED = {
    50: {
        **{"stptt": 12.44, "stptt-adagrad": 9.69, "stptt-sgd": 12.44, "stptt-rmsprop": 9.86},
        **{"ste": 13.39, "ste-adagrad": 13.34, "ste-sgd": 13.39, "ste-rmsprop": 13.17},
    },
    100: {"stptt": 9.45, "ste": 13.25, "ste-d": 11.22},
}
SOURCES = {
    50: "Manchev & Spratling (2024), Table 3",
    100: "Manchev & Spratling (2024), Table 4",
}
ENDINGS = {"nesterov": "", "adagrad": "-adagrad", "sgd": "-sgd", "rmsprop": "-rmsprop"}
OPTIMIZERS = {"adagrad": "AdaGrad", "nesterov": "Nesterov", "sgd": "SGD", "rmsprop": "RMSprop"}


# Learning rates by `seqzoo search` over five epochs (docs/search), made a little smaller for the
# longer runs; G learns fifty times slower.
RATES = {"adagrad": 0.2, "nesterov": 1.0, "sgd": 6.0, "rmsprop": 0.012}
SLOWER = 50
# By frames of a window: epochs, units, paths in training, and what becomes of the rate.
PLANS = {50: (12, 100, 5, 1.0), 100: (9, 300, 3, 0.5)}


def row(
    steps: int,
    name: str,
    title: str,
    rule: type[LearningRule],
    optimizer: str = "nesterov",
    stochastic: float = 0.5,
    **options: Any,
) -> Recipe:
    """One row; the network answers after the last frame, and learns from every one of a window."""
    epochs, hidden, paths, slower = PLANS[steps]
    rate = slower * RATES[optimizer]
    targets = rule is TargetPropagation
    ranges = {"": (rate / 4, rate * 4), "back.": (rate / SLOWER / 10, rate)}
    return Recipe(
        f"pianomidi-t{steps}/{name}",
        title,
        model=network(
            hidden, stochastic, initialiser=part(Orthogonal, input_gain=4.0), output_mean=0.05
        ),
        rule=part(rule, num_samples=paths, **({"alpha_i": 1.0} if targets else {}), **options),
        data=part(Polyphonic, name=NAME, window=steps, stride=steps, recut=True, every_step=True),
        fit={
            "epochs": epochs,
            "batch_size": 20,
            "lr": rates(rate, rule),
            "optimizer": optimizer,
            "schedule": "late",
            "clip": 1.0,
            "validate_every": 3,
        },
        quick={"fit.epochs": max(1, epochs // 4)},
        ships=name in ("stptt", "ste", "ste-d"),
        search={"fit.lr": ranges if targets else ranges[""]},
        **of_table(steps, name),
    )


def network(hidden: int, stochastic: float, **others: Any) -> Part:
    """The network of all rows."""
    sizes = {"inputs": KEYS, "output": part(Bernoulli, dim=KEYS), "hidden": hidden}
    return part(SRN, **sizes, stochastic=stochastic, **others)


def rates(rate: float, rule: type[LearningRule]) -> Any:
    """The learning rate, and with targets that of G."""
    return {"": rate, "back.": rate / SLOWER} if rule is TargetPropagation else rate


def of_table(steps: int, name: str) -> dict[str, Any]:
    """The fields of a recipe that depend on its table and on its name there."""
    return {
        "task": window_task(steps),
        "published": PUBLISHED[steps].get(name),
        "source": SOURCES[steps],
        "validate": True,
    }


# Rates of the rows at the published budget, of the grid from 1 to 1e-4 that the paper names without
# its result. `seqzoo search pianomidi-t50/ste-published` looks between its ends.
GRID = {"adagrad": 0.1, "nesterov": 0.1, "sgd": 0.1, "rmsprop": 1e-3}


def published(
    steps: int,
    name: str,
    title: str,
    rule: type[LearningRule],
    optimizer: str = "nesterov",
    stochastic: float = 0.5,
) -> Recipe:
    """A row with the paper's network, paths and budget: 300 epochs of all windows.

    The window teaches one prediction, of the frame after it. The paper names neither the rates that
    it chose nor the size of a batch; start, inverse and alpha_i are those of its other tasks. An
    epoch is about 67 000 windows. 300 of them are a job for a GPU.
    """
    targets = rule is TargetPropagation
    ranges = {"": (1e-4, 1.0), "back.": (1e-5, 1e-1)}
    return Recipe(
        f"pianomidi-t{steps}/{name}-published",
        f"{title}, as published",
        model=network(PLANS[steps][1], stochastic, inverse="tanh"),
        rule=part(rule, num_samples=PATHS, **({"alpha_i": 0.1} if targets else {})),
        data=part(Polyphonic, name=NAME, window=steps),
        fit={
            "epochs": 300,
            "batch_size": 100,
            "lr": rates(GRID[optimizer], rule),
            "optimizer": optimizer,
            "schedule": "constant",
            "validate_every": 15,
        },
        quick={"fit.epochs": 3},
        ships=False,
        search={"fit.lr": ranges if targets else ranges[""]},
        **of_table(steps, name),
    )


Maker = Callable[..., Recipe]


def each_optimizer(make: Maker, name: str, title: str, rule: type[LearningRule]) -> list[Recipe]:
    """The rows of table 3; the first, which is best, has the plain name."""
    return [
        make(50, f"{name}{ending}", f"{title}, {OPTIMIZERS[optimizer]}", rule, optimizer)
        for optimizer, ending in ENDINGS.items()
    ]


def of_table_4(make: Maker) -> list[Recipe]:
    """The rows of table 4."""
    return [
        make(100, "stptt", "STPTT", TargetPropagation),
        make(100, "ste", "STE-BPTT", StraightThrough),
        make(100, "ste-d", "STE(D)-BPTT", StraightThrough, stochastic=0.0),
    ]


RECIPES = [
    *each_optimizer(row, "stptt", "STPTT", TargetPropagation),
    row(50, "stptt-control", "no targets sent back, Nesterov", TargetPropagation, propagate=False),
    *each_optimizer(row, "ste", "STE-BPTT", StraightThrough),
    *each_optimizer(published, "stptt", "STPTT", TargetPropagation),
    *each_optimizer(published, "ste", "STE-BPTT", StraightThrough),
    *of_table_4(row),
    *of_table_4(published),
]
