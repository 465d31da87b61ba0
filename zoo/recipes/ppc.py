"""Position decoded from a population code: Abdulsalam & Makin (2023), Table 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ...data import PPC, ppc
from ...inference import BPTT, EM, ContrastiveDivergence, LocalELBO
from ..models.baselines import Order0
from ..models.generation import Generates
from ..models.harmonium import Harmonium
from ..models.lgds import LGDS
from ..models.recurrent_vae import RecurrentVAE
from ..models.refh import REFH
from ..models.rvae import RVAE
from ..models.trbm import RTRBM, TRBM
from ..models.tvae import TVAE
from ..part import Part, part
from ..parts.likelihoods import Poisson
from ..pictures import check_file, plot_population
from .population import PopulationReadout, SpringFilter
from .recipe import Recipe
from .task import Reconstructs, Task, device_of

SOURCE = "Abdulsalam & Makin (2023), Table 1"
LIMIT = 1.41e-4  # the Kalman filter with the true parameters: row ppc/kf-true measures it
SEQUENCES, STEPS = 40, 1000


def position(model: Reconstructs, obs: torch.Tensor) -> torch.Tensor:
    """The position (rad) that a model reads from spike counts, ``[B, T]``.

    A linear system's first coordinate is the position; for the others it is decoded from the mean
    reconstruction.
    """
    if isinstance(model, LGDS):
        return model.filter(obs).mean[..., 0].to(obs)
    return ppc.decode(model.reconstruct(obs))


def score(model: Reconstructs, seed: int, split: str) -> torch.Tensor:
    """Position MSE (rad²) of each of 40 trajectories of 1000 steps, ``[40]``."""
    device = device_of(model)
    data = PPC(SEQUENCES, STEPS, seed=seed, split=split, device=device)
    error = ppc.wrap(position(model, data.obs) - data.state[..., 0])
    return error.square().mean(1)


def write_samples(model: Generates, path: Path, seed: int, direction: str | None = None) -> None:
    """Writes generated spike counts: a picture (.png) or arrays (.npz)."""
    check_file(path)
    plot_population(model.sample(sequences=4, steps=400, seed=seed, direction=direction), path)


TASK = Task(metric="position MSE", unit="rad²", score=score, write_samples=write_samples)
TRAINING = part(PPC, sequences=SEQUENCES, steps=STEPS)


def row(name: str, title: str, model: Part, rule: Part | None = None, **rest: Any) -> Recipe:
    common = {"task": TASK, "source": SOURCE, "limit": LIMIT}
    if rule is not None:
        common["data"] = TRAINING
    return Recipe(f"ppc/{name}", title, model=model, rule=rule, **{**common, **rest})


def harmonium(cls: type[Harmonium]) -> Part:
    return part(cls, obs_dim=15, hidden_dim=240, likelihood=part(Poisson, dim=15))


def vae(cls: type[RecurrentVAE], **arguments: Any) -> Part:
    return part(cls, obs_dim=15, likelihood=part(Poisson, dim=15), **arguments)


# The rVAE. Position is the one latent that frames show; velocity lives in u alone. The warm-up
# learns what a frame alone says (no past at all), several times, because a one-dimensional code of
# the torus may fold; the free energy tells which did. A KL weight that falls from 10 to 1 makes
# folds rare: the code grows from the middle of the data outwards.
#
# sigma_u, one number for each mean and each spread, sets the gains of the filter: the first that
# of position, the second that of velocity. In a linear model of the rule, whose latents have unit
# variance, these are close to a Kalman filter's. The KL term draws latents to unit variance, but
# slowly, so that its weight begins at 1. Short windows renew the statistics every ten updates.
RECURRENT = vae(
    RVAE, latent_dim=2, emission_dim=1, past_scale=[0.035, 0.23, 1.0, 1.0], past_hidden=0
)
OBJECTIVE = {"drop_past": 0.1, "weights": {"x": [1.0, 0.2, 0.6], "u": [1 / 3, 1.0, 0.3]}}
LOCAL = {"minibatch": 400, "window": 100}
SHORT = part(PPC, sequences=40, steps=500)
BUDGET = {
    **{"epochs": 120, "lr": 1e-3, "optimizer": "adam-short", "schedule": "cosine"},
    **{"average": 0.98, "clip": 50.0},
}
WARMUP = {
    "restarts": 4,
    "rule": {
        **{"drop_past": 1.0, "minibatch": 250, "window": None},
        "weights": {"x": [10.0, 1.0, 0.6]},
    },
    "fit": {"epochs": 8, "lr": 3e-3},
}
# By BPTT an update takes 20 frames of 20 sequences, as many as a minibatch of the local rule. The
# rate was chosen anew, since 1e-3 is too high through time.
THROUGH_TIME = {
    "model": RECURRENT,
    "rule": part(BPTT, window=20, **OBJECTIVE),
    "data": part(PPC, sequences=20, steps=500),
    "fit": {**BUDGET, "epochs": 160, "lr": 3e-4},
    "warmup": {
        "restarts": 4,
        "rule": {"drop_past": 1.0, "weights": WARMUP["rule"]["weights"]},
        "fit": {"epochs": 26, "lr": 3e-3},
    },
}

RECIPES = [
    row("order0", "order 0", part(Order0), published=12e-4),
    row("kf-true", "KF, true parameters", part(SpringFilter)),
    row(
        "kf1",
        "KF-1",
        part(LGDS, state_dim=1, readout=part(PopulationReadout)),
        part(EM, iterations=100, restarts=4),
        quick={"rule.iterations": 30, "data.sequences": 20, "data.steps": 500},
        published=5.8e-4,
        note="as published, within the noise of one training set.",
    ),
    row(
        "kf2",
        "KF-2",
        part(LGDS, state_dim=2, readout=part(PopulationReadout)),
        part(EM, iterations=200, restarts=4),
        quick={"rule.iterations": 60, "data.sequences": 20, "data.steps": 500},
        published=2.2e-4,
        note="lower than published because EM is run to convergence: stopped after 20 "
        "iterations it scores 2.2e-4 (`--set rule.iterations=20`).",
    ),
    row(
        "trbm",
        "TRBM",
        harmonium(TRBM),
        part(ContrastiveDivergence, k=1, window=4, sample_past=True),
        fit={"epochs": 40, "lr": 2e-3},
        published=6.0e-4,
        note="as published. In training the history u is a sample of the hidden units, as in "
        "the TRBM's first description; carrying means (`--set rule.sample_past=False`) "
        "gives 5.7e-4.",
    ),
    row(
        "refh",
        "rEFH",
        harmonium(REFH),
        part(ContrastiveDivergence, k=1, window=1, sample_past=True),
        fit={"epochs": 40, "lr": 1e-3},
        # one update for 160 frames in place of 40: a quarter as many updates an epoch
        quick={
            **{"fit.epochs": 25, "fit.lr": 2e-3},
            **{"data.sequences": 160, "data.steps": 250},
        },
        published=3.3e-4,
        note="in training the recursion carries samples of the hidden units, and both kinds "
        "of visible unit are sampled in the negative phase. Carrying means, as the "
        "reference does (`--set rule.sample_past=False`), gives 3.6e-4.",
    ),
    row(
        "rtrbm",
        "RTRBM",
        harmonium(RTRBM),
        part(ContrastiveDivergence, k=1, window=20),
        fit={"epochs": 240, "lr": 5e-3},
        quick={"fit.epochs": 80},
        published=3.1e-4,
        note="trained for three times as long as the published figure takes. It stays near "
        "the TRBM's error for tens of epochs before it finds the velocity.",
    ),
    row(
        "tvae",
        "TVAE",
        vae(TVAE, latent_dim=2),
        part(LocalELBO, minibatch=400),
        fit={"epochs": 60, "lr": 2e-3, "average": 0.98},
        quick={"fit.epochs": 20},
        published=9.5e-4,
        note="u is given through p(x[t] | u[t-1]), as the TRBM's dynamic bias gives it; see "
        "the next row for the other reading. One frame's memory, so a first-order filter.",
    ),
    row(
        "tvae-static",
        "TVAE, x[t] free of u[t-1]",
        vae(TVAE, latent_dim=2, transition=False),
        part(LocalELBO, minibatch=400),
        fit={"epochs": 60, "lr": 2e-3, "average": 0.98},
        quick={"fit.epochs": 20},
        note="with u out of the generative model the best posterior ignores it, and the row "
        "cannot differ from order 0. The published 9.5e-4 is neither this nor a "
        "first-order filter.",
    ),
    row(
        "tvae-bptt",
        "TVAE by BPTT",
        vae(TVAE, latent_dim=2),
        part(BPTT, window=50),
        fit={"epochs": 400, "lr": 5e-3, "clip": 50.0},
        quick={"fit.epochs": 150},
        note="ours to add: to the TVAE what the RTRBM is to the TRBM. It leaves a "
        "first-order filter's error late, and when depends on the seed: after 400 "
        "epochs 1.8e-4, 5.6e-4 and 3.6e-4.",
    ),
    row(
        "tvae-warmed",
        "TVAE, trained as the rVAE",
        vae(TVAE, latent_dim=2, emission_dim=1),
        part(LocalELBO, drop_past=0.1, **LOCAL),
        data=SHORT,
        fit=BUDGET,
        warmup=WARMUP,
        ships=False,
        note="a control: the guide, decoder, warm-up, averaging and budget of the rVAE. It gives u "
        "through p(x[t] | u[t-1]) and need not explain it.",
    ),
    row(
        "rvae",
        "rVAE",
        RECURRENT,
        part(LocalELBO, **LOCAL, **OBJECTIVE),
        data=SHORT,
        fit=BUDGET,
        warmup=WARMUP,
        published=5.3e-4,
        note="sigma_u is one number for each statistic, and sets the gains of the filter; "
        "position is the only latent that frames show. With one sigma_u of 0.15 for ten "
        "latents, and no warm-up, the same code gives 5.9e-4, about the published figure; "
        "with one of 0.07 for two, 1.1e-3.",
    ),
    row(
        "rvae-unexplained",
        "rVAE, past unexplained",
        RECURRENT,
        part(LocalELBO, **LOCAL, drop_past=0.1, weights={**OBJECTIVE["weights"], "u": 1e-6}),
        data=SHORT,
        fit=BUDGET,
        warmup=WARMUP,
        ships=False,
        note="a control: the weight of u is 1e-6, and all else is as in the row before.",
    ),
    row(
        "rvae-bptt",
        "rVAE by BPTT",
        **THROUGH_TIME,
        note="ours to add, with the network, objective, optimizer and warm-up of the row rVAE. The "
        "rate was chosen on validation data: 1e-3, the local rule's, gives 4.9e-4 there.",
    ),
]
