"""What is looked at: a trained model, held-out data, and how much of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from ...data import Batch, OneToMany, Polyphonic, generator
from ...data.synthetic import Synthetic
from ...inference import RandomStream
from ...inference.draws import draw, prepare
from ..recipes import RECIPES
from ..recipes.part import PARTS, Part

STEPS = 60  # frames of a sequence that are looked at


class Section(NamedTuple):
    """One diagnostic.

    Arguments:
        title: its name.
        question: what it answers.
        found: the numbers and what they say, a sentence each.
        figure: name of the picture, or None.
        verdict: ``"good"``, ``"fair"``, ``"bad"``, or empty where there is nothing to judge.
    """

    title: str
    question: str
    found: list[str]
    figure: str | None = None
    verdict: str = ""


class Chains(NamedTuple):
    """How clamped Gibbs chains are followed: frames, chains a frame, steps before and kept."""

    frames: int = 50
    chains: int = 8
    burn: int = 25
    draws: int = 100


class Sizes(NamedTuple):
    """How much each look takes in, besides sequences and draws.

    Arguments:
        steps: frames of a sequence, at most.
        lengths: where sequences are cut, to see how k-hat grows with them.
        predictions: draws of each frame or answer that is predicted.
        simulated, simulated_steps: sequences of simulation-based calibration, and their frames.
        folded: sequences whose frames are simulated, or weighed, one by one.
        updates, values: of the training that two rules are compared along, at most: updates, and
            values of data (sequences times frames times values a frame) that it reads.
    """

    steps: int = STEPS
    lengths: tuple[int, ...] = (5, 10, 20, 40)
    predictions: int = 99
    simulated: int = 100
    simulated_steps: int = 20
    folded: int = 5
    updates: int = 2000
    values: int = 60_000_000


class NotHere(Exception):
    """A diagnostic does not apply; the message says why."""


class Subject(NamedTuple):
    """A trained model and what is asked of it.

    Arguments:
        net: the model.
        out: folder of the figures.
        sequences, draws, seed: how much is looked at.
        chains: of Gibbs sampling.
        sizes: of everything else.
        training: whether a network may be trained, to see how gradients go.
        batch: test data.
        data: ``Part`` that its training data were built from.
        answers: whether it gives one answer to each sequence.
        limit: log-probability (nats) that no net can beat, or None.
    """

    net: Any
    out: Path
    sequences: int
    draws: int
    seed: int
    chains: Chains
    sizes: Sizes
    training: bool
    batch: Batch
    data: Part
    answers: bool
    limit: float | None

    @property
    def paired(self) -> bool:
        """Whether there are a model and a guide."""
        return all(callable(getattr(self.net, part, None)) for part in ("model", "guide"))

    @property
    def name(self) -> str:
        return type(self.net).__name__

    @property
    def rule(self) -> Part:
        """What it was trained by."""
        content = self.net.card["configuration"].get("rule")
        if content is None:
            raise NotHere("it was not trained by any rule")
        return Part.from_json(content)

    def need_pair(self) -> None:
        if not self.paired:
            raise NotHere(f"{self.name} has no Pyro pair of model and guide to draw from")

    def need_latents(self) -> None:
        self.need_pair()
        few = self.batch.rows(slice(1))
        with RandomStream(few.obs.device, "report"), torch.no_grad():
            latents = draw(self.net, prepare(self.net, few), 1, prior=True).latents
        if not latents:
            raise NotHere(
                f"the Pyro model of this {self.name} draws no latent state (there is none, or it is"
                " integrated out), so a guide has nothing to infer"
            )


def data_of(card: dict[str, Any]) -> Part:
    """The data that a model learned from; of one that learned nothing, those of its table.

    Raises:
        ValueError: where there are none.
    """
    content = card["configuration"].get("data")
    if content is not None:
        return Part.from_json(content)
    recipe = RECIPES.get(card["name"])
    for other in RECIPES.values():
        if recipe is not None and other.table == recipe.table and other.data is not None:
            return other.data
    raise ValueError(f"{card['name']} was not trained on data, so there is nothing to diagnose")


def held_out(
    data: Part,
    sequences: int,
    seed: int,
    answers: bool = False,
    steps: int = STEPS,
    split: str = "test",
) -> Batch:
    """Held-out sequences of the kind that a model was trained on, of at most ``steps`` frames.

    Arguments:
        data: what it was trained on.
        sequences: how many.
        seed: which.
        answers: whether it gives one answer to each sequence, which then is not cut.
        steps: frames a sequence, at most.
        split: ``"test"`` or ``"validation"``.

    Raises:
        ValueError: for data without such a split.
    """
    maker, given = PARTS[data.name], dict(data.arguments)
    if maker is OneToMany:
        given |= {"samples": sequences, "seed": seed, "split": split}
        return OneToMany(**given).batch()
    if maker is Polyphonic and answers:
        window = given.get("window", steps)
        rolls = Polyphonic(given["name"], split, window=window, stride=window)
        chosen = torch.randperm(len(rolls), generator=generator(seed, "report"))[:sequences]
        return rolls.rows(chosen)
    if maker is Polyphonic:
        rolls = Polyphonic(given["name"], split)
        chosen = torch.randperm(len(rolls), generator=generator(seed, "report"))[:sequences]
        return rolls.rows(chosen.tolist()).window(0, steps)
    if isinstance(maker, type) and issubclass(maker, Synthetic):
        given |= {"sequences": sequences, "steps": steps, "seed": seed, "split": split}
        return maker(**given).batch()
    raise ValueError(f"{data.name} has no {split} data to diagnose a model on")
