"""Several models trained on the same data, beside one another."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ...data import Batch, BatchLike, Dataset, Recording
from ...inference import bits_per_spike
from ...inference.checks import check_seed
from ...inference.diagnostics.neural import checked_rates
from ...inference.diagnostics.score import hidden_channels, score_values
from ..models import LGDS
from ..names import instead
from ..plans.defaults import LATENTS, check_name, check_sizes
from ..plans.facts import Facts, as_recording
from .advice import of_past
from .baselines import OwnPast
from .model import FittedModel, fit_model
from .scores import scores
from .table import Table


class Comparison(Mapping[str, FittedModel]):
    """Models that were trained on the same data, by name; printed it is a table.

    Attributes:
        failed: a sentence for each model that could not be trained.
        baseline: predictions of each channel from its own past.
    """

    def __init__(
        self,
        models: Mapping[str, FittedModel],
        failed: Mapping[str, str],
        baseline: OwnPast,
        unit: str,
    ) -> None:
        self._models, self.failed = dict(models), dict(failed)
        self.baseline, self.unit = baseline, unit

    def __getitem__(self, name: str) -> FittedModel:
        if name in self.failed:
            raise KeyError(f"{name} could not be trained: {self.failed[name]}")
        if name not in self._models:
            raise KeyError(f"no model {name!r}: {instead(name, self._models, 'see the table')}")
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def table(self) -> Table:
        """Scores on validation data, and what to try where a model ought to do better."""
        rows = [
            {
                "model": name,
                f"validation ({self.unit})": model.validation,
                "weights": model.weights,
                "seconds": model.seconds,
                "": ", ".join(each.kind for each in model.advice),
            }
            for name, model in self.items()
        ]
        notes = [f"{name}: {each.text}" for name, model in self.items() for each in model.advice]
        return Table(rows, notes + self._excuses())

    def score(
        self,
        test: Recording | Dataset | BatchLike,
        true_rates: Tensor | None = None,
        held_out: float = 0.25,
        seed: int = 0,
    ) -> Table:
        """Scores on test data that no choice was made on.

        Columns: predictions of the next bin; of held-out channels from the others; the likelihood;
        weights; seconds of training. Below the models stand each channel's own past, smoothed, and
        the mean of each channel, which is 0 by definition.

        Arguments:
            test: test data.
            true_rates: expected values of simulated data, ``[B, T, M]``: their score is the limit.
            held_out: fraction of the channels that are hidden, see ``inference.score``.
            seed: seed of the choice of channels and of random draws.

        Raises:
            ValueError: for data of other channels, or rates of another shape.
        """
        data = as_recording(test, "test")
        batch, unit = data.batch(), self.unit
        following, others = f"next bin ({unit})", f"held-out ({unit})"
        rows, notes = [], []
        for name, model in self.items():
            figures = scores(model.net, data, unit, held_out, seed)
            notes += [f"{name}: {each.note}" for each in figures.values() if each.note]
            found = {kind: None if each.note else each.value for kind, each in figures.items()}
            rows.append(
                {
                    "model": name,
                    following: found["next"],
                    others: found["cosmooth"],
                    "nats/frame": found["likelihood"],
                    "weights": model.weights,
                    "seconds": model.seconds,
                }
            )
            if unit == "bits/spike" and model.plan.model.builds(LGDS):
                notes.append(f"{name}: its nats are of a density of real values, not of counts")
        blank = dict.fromkeys([others, "nats/frame", "weights", "seconds"])
        past = score_values(self.baseline.predict(batch), batch, unit)
        rows.append({"model": "own past, smoothed", following: past, **blank})
        rows.append({"model": "mean of each channel", following: 0.0, **blank, others: 0.0})
        if true_rates is not None:
            limit = {"model": "true rates", following: _limit(true_rates, batch, unit), **blank}
            hidden = hidden_channels(held_out, batch.obs.shape[-1], seed)
            try:
                part = data.select(channels=hidden).batch()
                limit[others] = _limit(true_rates[..., hidden], part, unit)
            except ValueError:  # none of them has a value or changes: a note of each model says so
                pass
            rows.append(limit)
        return Table(rows, notes + self._excuses())

    def _excuses(self) -> list[str]:
        return [f"{name} was not trained: {reason}" for name, reason in self.failed.items()]

    def __repr__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _limit(true_rates: Tensor, batch: Batch, unit: str) -> float:
    """The score of expected values ``[B, T, M]``, checked."""
    if unit == "bits/spike":
        return bits_per_spike(true_rates, batch)
    return score_values(checked_rates(true_rates, batch, least=-math.inf), batch, unit)


def compare(
    names: Sequence[str],
    train: Recording | Dataset | BatchLike,
    validation: Recording | Dataset | BatchLike,
    *,
    latent_dim: int = LATENTS,
    updates: int | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> Comparison:
    """Trains several models on the same data, with settings that follow from the data.

    A model that cannot be trained says so in a sentence of the table, and the others go on.

    Arguments:
        names: of ``"lgds"``, ``"poisson-lgds"``, ``"rvae"`` (the local rule), ``"rvae-bptt"``,
            ``"tvae"``, ``"refh"``, ``"trbm"``, ``"rtrbm"``, ``"vrae"``, ``"vosp"`` and ``"gru"``.
        train, validation: see ``fit_model``.
        latent_dim: size of the latent state; of harmoniums and the GRU, which have none, no use.
        updates: steps of the optimizer of every model; None is the default of each.
        changes: further settings by model: ``{"rvae": {"model.hidden": 32, "fit.lr": 1e-3}}``.
        seed: seed of the weights and of the training.
        device: where to train; the default follows ``accelerate``.
        folder: folder of checkpoints: a comparison that was stopped goes on from there.
        progress: show progress bars, and a line for each model.

    Returns:
        The trained models by name; printed, a table.

    Raises:
        ValueError: for unknown names or settings, or data that are none.

    Example:
        >>> train, validation, test = recording.split(0.7, 0.15, 0.15, seed=0)
        >>> fits = zoo.compare(["lgds", "rvae", "gru"], train, validation)
        >>> fits.score(test)
        >>> fits["rvae"].filter(test)
    """
    if isinstance(names, str) or not names:
        raise ValueError(f"names must be a list of models, such as ['lgds', 'rvae'], got {names!r}")
    changes = changes or {}
    for name in [*names, *changes]:
        check_name(name)
    check_seed(seed)
    check_sizes(latent_dim, updates)
    unused = [name for name in changes if name not in names]
    if unused or len(set(names)) < len(names):
        wrong = f"changes are for {unused[0]!r}, which" if unused else "a name of a model"
        raise ValueError(f"{wrong} must be among the names, once: {', '.join(names)}")
    recording, held = as_recording(train, "train"), as_recording(validation, "validation")
    unit = Facts.of(recording).unit
    models, failed = {}, {}
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        start = time.perf_counter()
        try:
            models[name] = fit_model(
                name,
                recording,
                held,
                latent_dim=latent_dim,
                updates=updates,
                changes=changes.get(name),
                seed=seed,
                device=device,
                checkpoint=None if folder is None else Path(folder) / f"{name}.pt",
                progress=progress,
            )
            told = repr(models[name])
        except (ValueError, FloatingPointError) as error:
            failed[name] = str(error)
            told = f"{name} was not trained after {time.perf_counter() - start:.0f} s: {error}"
            warnings.warn(told, stacklevel=2)
        if progress:
            tqdm.write(told)
    baseline = OwnPast(recording, unit)
    past = score_values(baseline.predict(held.batch()), held.batch(), unit)
    for name, model in models.items():
        advice = model.advice + of_past(model.validation, past, unit, model.plan)
        models[name] = dataclasses.replace(model, advice=advice)
    return Comparison(models, failed, baseline, unit)
