"""The context of a report: a trained model, held-out data and the sizes of the diagnostics."""

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
    """One diagnostic of a report.

    Arguments:
        title: its name.
        question: the question that it answers.
        found: the results, in sentences.
        figure: name of its file, or None.
        verdict: ``"good"``, ``"fair"``, ``"bad"``, ``"too few to tell"``, or empty where the
            diagnostic is no judgement.
    """

    title: str
    question: str
    found: list[str]
    figure: str | None = None
    verdict: str = ""


class Sizes(NamedTuple):
    """Sizes of the diagnostics.

    Arguments:
        steps: largest number of frames of a sequence.
        lengths: lengths to which sequences are shortened for k-hat.
        predictions: samples of each predicted frame or answer.
        simulated: sequences of simulation-based calibration.
        simulated_steps: frames of each of those.
        folded: sequences whose frames are simulated, or weighed, one by one.
        updates: largest number of updates of the training along which gradients are compared.
        values: largest number of data values (sequences times frames times values of a frame)
            that this training reads.
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
    """A trained model, and the data and settings of its report.

    Arguments:
        net: the model.
        out: folder of the figures.
        sequences: number of test sequences.
        num_samples: samples from the guide.
        seed: seed of data and samples.
        chains: number and length of Gibbs chains.
        sizes: sizes of the other diagnostics.
        training: whether a network may be trained, to compare gradients along the way.
        batch: test data.
        data: the training data.
        answers: whether the model gives one answer to each sequence.
        limit: largest log-probability (nats) of an answer that a net can reach, or None.
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
        """Whether the model has a Pyro pair of model and guide."""
        return isinstance(self.net, (FrameModel, SequenceModel))

    @property
    def name(self) -> str:
        """The class of the model."""
        return type(self.net).__name__

    @property
    def rule(self) -> Part:
        """The rule that trained the model.

        Raises:
            NotApplicable: for a model that no rule trained.
        """
        content = store.card_of(self.net)["configuration"].get("rule")
        if content is None:
            raise NotApplicable("no rule trained this model")
        return read(content)

    def need_pair(self) -> None:
        """Raises NotApplicable for a model without a guide."""
        if not self.paired:
            raise NotApplicable(f"{self.name} has no Pyro pair of model and guide to sample from")

    def need_latents(self) -> None:
        """Raises NotApplicable for a model whose guide samples nothing."""
        self.need_pair()
        few = self.batch.rows(slice(1))
        with RandomStream(few.obs.device, "report"), torch.no_grad():
            latents = sample_sites(self.net, prepare_plate(self.net, few), 1, prior=True).latents
        if not latents:
            raise NotApplicable(
                f"the Pyro model of this {self.name} samples no latent state (there is none, or it "
                "is integrated out), so a guide has nothing to infer"
            )
