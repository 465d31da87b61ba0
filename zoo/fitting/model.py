"""One model, trained on data of one's own with settings that follow from the data."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...data import BatchLike, Dataset, Recording
from ...inference import fit, latents, predict_next, rates, score
from ...inference.checks import check_seed
from ...inference.contracts import Network
from ..plans.defaults import LATENTS, check_name, check_sizes, plan_for
from ..plans.facts import Facts, as_recording, in_pieces
from ..plans.plan import Plan, starting_network
from ..plans.validation import validation_loss
from ..store import save
from .advice import Advice, advice_on

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class FittedModel:
    """A trained model with its verbs and its learning curve.

    Attributes:
        name: the name in ``zoo.compare``.
        net: the network.
        plan: the model, rule and budget that it was trained with.
        history: a record an epoch, see ``inference.fit``.
        validation: predictions of the next bin on validation data, in ``unit``.
        unit: ``"bits/spike"`` of counts, otherwise ``"r2"``.
        seconds: time of training; of a run that went on, since it did.
        advice: what the learning curve says, and which change to try.
    """

    name: str
    net: Network
    plan: Plan
    history: list[dict[str, float]]
    validation: float
    unit: str
    seconds: float
    advice: list[Advice]

    @property
    def weights(self) -> int:
        """Numbers that were learned."""
        state = (
            self.net.state_dict()
            if not self.plan.by_gradient
            else dict(self.net.named_parameters())
        )
        return sum(value.numel() for value in state.values())

    def latents(
        self, data: BatchLike, given: str | None = None, num_samples: int = 0, seed: int = 0
    ) -> xarray.Dataset:
        """Latent states of every bin; see ``inference.latents``."""
        return latents(self.net, data, given, num_samples, seed)

    def filter(self, data: BatchLike) -> xarray.Dataset:
        """Latent states of every bin given the bins up to it; see ``inference.latents``."""
        return latents(self.net, data, "present")

    def rates(
        self, data: BatchLike, given: str | None = None, num_samples: int = 100, seed: int = 0
    ) -> xarray.DataArray:
        """Expected values of every bin; see ``inference.rates``."""
        return rates(self.net, data, given, num_samples, seed)

    def predict_next(self, data: BatchLike, num_samples: int = 100, seed: int = 0) -> Any:
        """Each bin predicted from the bins before it; see ``inference.predict_next``."""
        return predict_next(self.net, data, num_samples=num_samples, seed=seed)

    def score(
        self, data: BatchLike, kind: str = "next", unit: str | None = None, seed: int = 0
    ) -> float:
        """How well the model does on data that it was not trained on; see ``inference.score``."""
        return score(self.net, data, kind, unit, seed=seed)

    def save(self, folder: str | Path) -> None:
        """Saves the network for ``zoo.load``, with rule, budget and score on its card."""
        figure = {"metric": "next bin on validation data", "unit": self.unit}
        save(
            folder,
            self.net,
            title=self.name,
            training=self.plan.configuration(),
            value=self.validation,
            **figure,
        )

    def __repr__(self) -> str:
        text = f"{type(self).__name__}({self.name}: {self.validation:.3f} {self.unit}"
        return f"{text} on validation data, {self.weights:,} weights, {self.seconds:.0f} s)"


def fit_model(
    name: str,
    train: Recording | Dataset | BatchLike,
    validation: Recording | Dataset | BatchLike,
    *,
    latent_dim: int = LATENTS,
    updates: int | None = None,
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> FittedModel:
    """Trains one model with settings that follow from the data.

    Trials of more than 250 bins are cut into pieces for training. The weights that predict the
    validation data best are kept.

    Arguments:
        name: a name in ``zoo.compare``.
        train: training data: a ``data.Recording``, a data set, or anything that ``data.as_batch``
            takes.
        validation: validation data, on which nothing is trained.
        latent_dim: size of the latent state.
        updates: steps of the optimizer; None is the default of the model.
        changes: further settings by name: ``{"model.hidden": 32, "rule.minibatch": 50,
            "fit.lr": 1e-3}``.
        seed: seed of the weights and of the training.
        device: where to train; the default follows ``accelerate``.
        checkpoint: file that is written after every epoch. A run that was stopped goes on from it,
            and ends with the same bits. Rules in closed form write none.
        progress: show a progress bar.

    Raises:
        ValueError: for an unknown name or setting, or data that the model cannot take.
        FloatingPointError: when training diverged.

    Example:
        >>> rvae = zoo.fit_model("rvae", train, validation, latent_dim=3)
        >>> rvae.filter(test)["mean"]
    """
    check_name(name)
    check_seed(seed)
    sizes = check_sizes(latent_dim, updates)
    recording = as_recording(train, "train")
    held = as_recording(validation, "validation")
    if len(held.channels) != len(recording.channels):
        raise ValueError(
            f"train has {len(recording.channels)} channels and validation {len(held.channels)}"
        )
    facts = Facts.of(recording)
    plan = plan_for(name, facts, sizes).changed(changes or {})
    pieces = in_pieces(recording)
    net = starting_network(plan.model, seed)
    rule = plan.rule.build(net)
    start = time.perf_counter()
    if plan.by_gradient:
        found = fit(
            rule,
            pieces,
            validate=functools.partial(validation_loss, batch=in_pieces(held).batch()),
            seed=seed,
            device=device,
            checkpoint=checkpoint,
            resume=checkpoint is not None,
            progress=progress,
            **plan.budget(facts.frames, len(pieces)),
        )
        curve = [record["validation"] for record in found.history if "validation" in record]
    else:
        found = fit(rule, pieces, device=device, progress=progress)
        curve = [-record[rule.figure] for record in found.history]
    seconds = time.perf_counter() - start
    value = score(net, held, "next", facts.unit)
    advice = advice_on(value, curve, plan)
    if value <= 0:
        warnings.warn(f"{name}: {advice[0].text}", stacklevel=2)
    return FittedModel(name, net, plan, found.history, value, facts.unit, seconds, advice)
