"""What is looked at: a trained model, held-out data, and how much of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from ...data import Batch, Dataset
from ...inference import RandomStream
from ...inference.contracts import FrameModel, SequenceModel
from ...inference.samples import prepare_plate, sample_sites
from .. import store
from ..part import Part
from ..recipes.held_out import STEPS
from ..registry import read
from ..studies.chains import Chains


class Section(NamedTuple):
    """One diagnostic.

    Arguments:
        title: its name.
        question: what it answers.
        found: the numbers and what they say, a sentence each.
        figure: name of the picture, or None.
        verdict: ``"good"``, ``"fair"``, ``"bad"``, ``"too few to tell"``, or empty where there is
            nothing to judge.
    """

    title: str
    question: str
    found: list[str]
    figure: str | None = None
    verdict: str = ""


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


class NotApplicable(Exception):
    """A diagnostic does not apply; the message says why."""


class Context(NamedTuple):
    """A trained model and what is asked of it.

    Arguments:
        net: the model.
        out: folder that figures are made in.
        sequences, num_samples, seed: how much is looked at.
        chains: of Gibbs sampling.
        sizes: of everything else.
        training: whether a network may be trained, to see how gradients go.
        batch: test data.
        data: the data set that it learned from.
        answers: whether it gives one answer to each sequence.
        limit: log-probability (nats) that no net can beat, or None.
    """

    net: Any
    out: Path
    sequences: int
    num_samples: int
    seed: int
    chains: Chains
    sizes: Sizes
    training: bool
    batch: Batch
    data: Dataset
    answers: bool
    limit: float | None

    @property
    def paired(self) -> bool:
        """Whether there are a model and a guide."""
        return isinstance(self.net, (FrameModel, SequenceModel))

    @property
    def name(self) -> str:
        return type(self.net).__name__

    @property
    def rule(self) -> Part:
        """What it was trained by."""
        content = store.card_of(self.net)["configuration"].get("rule")
        if content is None:
            raise NotApplicable("it was not trained by any rule")
        return read(content)

    def need_pair(self) -> None:
        if not self.paired:
            raise NotApplicable(f"{self.name} has no Pyro pair of model and guide to draw from")

    def need_latents(self) -> None:
        self.need_pair()
        few = self.batch.rows(slice(1))
        with RandomStream(few.obs.device, "report"), torch.no_grad():
            latents = sample_sites(self.net, prepare_plate(self.net, few), 1, prior=True).latents
        if not latents:
            raise NotApplicable(
                f"the Pyro model of this {self.name} draws no latent state (there is none, or it is"
                " integrated out), so a guide has nothing to infer"
            )
