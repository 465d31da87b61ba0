"""The tables ``lorenz`` and ``chaotic-rnn``: simulated neurons, models with default settings.

The systems are those of Pandarinath et al., "Inferring single-trial neural population dynamics
using sequential auto-encoders" (2018). Sizes are the zoo's own, so that no row has a published
figure.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...inference import fit_decoder, latents, r_squared, rates
from ...inference import score as score_of
from ...inference.contracts import Network
from ..models.generation import Generates
from ..part import part
from ..pictures import check_file, plot_heat
from ..plans.defaults import Sizes, plan_for
from ..plans.facts import Facts
from ..plans.validation import validation_loss
from .recipe import Recipe
from .simulated_neurons import BIN, SimulatedNeurons
from .task import Scores, Task

TRIALS, BINS, LATENTS = 100, 100, 8
TITLES = {
    "lgds": "LGDS",
    "poisson-lgds": "LGDS of counts",
    "rvae": "rVAE",
    "rvae-bptt": "rVAE, BPTT",
    "refh": "rEFH",
    "rtrbm": "RTRBM",
    "vrae": "VRAE",
    "vosp": "VOSP",
    "gru": "RNN (GRU)",
}
FACTS = {
    "lorenz": Facts(30, TRIALS, TRIALS * BINS, 0, "counts", mean=0.26),
    "chaotic-rnn": Facts(50, TRIALS, TRIALS * BINS, 0, "counts", mean=0.15),
}
#: Bits per spike of the true rates, given the rates: the mean of three test sets.
LIMITS = {"lorenz": 1.387, "chaotic-rnn": 0.216}


def score(model: Network, seed: int, split: str, system: str) -> Scores:
    """Scores of 50 trials; on validation data the loss that chooses the epoch.

    Bits per spike of the next bin, and of a quarter of the neurons given the others; R² of the
    rates, averaged over neurons; and R² of the states after a linear map from the latents that
    training trials choose. Rates and latents are the most informed that a model has.
    """
    made = SimulatedNeurons(system, TRIALS // 2, BINS, seed, split)
    if split == "validation":
        loss = validation_loss(model, made.batch())
        return Scores(torch.tensor([[loss]]), torch.ones(1))
    train, mask = SimulatedNeurons(system, TRIALS, BINS, seed), made.batch().mask
    found = _tensor(rates(model, made))
    decoder = fit_decoder(_latents(model, train), train.state, train.batch().mask)
    figures = [
        score_of(model, made, "next"),
        score_of(model, made, "cosmooth"),
        float(r_squared(found, made.rates_true, mask).mean()),
        float(r_squared(decoder(_latents(model, made)), made.state, mask).mean()),
    ]
    return Scores(torch.tensor([figures], dtype=torch.float64), torch.ones(1))


def _latents(model: Network, data: SimulatedNeurons) -> Tensor:
    return _tensor(latents(model, data)["mean"])


def _tensor(values: Any) -> Tensor:
    return torch.as_tensor(values.to_numpy())


def write_samples(model: Generates, path: Path, seed: int, direction: str | None = None) -> None:
    """Writes generated counts: a picture (.png) or arrays (.npz)."""
    check_file(path)
    plot_heat(model.sample(sequences=4, steps=BINS, seed=seed, direction=direction), BIN, path)


def _rows(system: str) -> list[Recipe]:
    task = Task(
        metric="next bin, bits/spike",
        unit="",
        score=functools.partial(score, system=system),
        write_samples=write_samples,
        also=("held-out neurons, bits/spike", "R² of rates", "R² of states"),
    )
    facts = FACTS[system]
    found = []
    for name, title in TITLES.items():
        plan = plan_for(name, facts, Sizes(LATENTS, None))
        fit = plan.budget(facts.frames, facts.trials)
        found.append(
            Recipe(
                f"{system}/{name}",
                title,
                task,
                model=plan.model,
                rule=plan.rule,
                data=part(SimulatedNeurons, system=system, trials=TRIALS, bins=BINS),
                fit=fit,
                quick={"fit.epochs": 2} if fit else {"rule.iterations": 2},
                limit=LIMITS[system],
                validate=bool(fit),
                ships=False,
            )
        )
    return found


DATA = tuple(FACTS)
RECIPES = [row for system in DATA for row in _rows(system)]
