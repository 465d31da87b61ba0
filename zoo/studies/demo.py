"""The demo: two temporally local models beside Kalman filters, a table and a picture."""

from __future__ import annotations

from pathlib import Path

import torch

from ...data import PPC, ppc
from .. import pictures, store
from ..recipes import find
from ..recipes.ppc import position
from ..runs.reproduce import reproduce
from ..runs.tables import render

ROWS = ["ppc/rvae", "ppc/refh", "ppc/kf2", "ppc/kf1", "ppc/order0", "ppc/kf-true"]
SHOWN = {"refh": "rEFH", "rvae": "rVAE", "kf2": "KF-2"}
SMOKE = {"gradient": {"data.steps": 50, "fit.epochs": 2}, "em": {"data.steps": 50}}


def run_demo(out: Path, jobs: int = 2, smoke: bool = False) -> Path:
    """Trains the rows with their quick budgets, prints the table, and draws one trajectory.

    Returns:
        The picture's path.
    """
    recipes = [find(name).quickened() for name in ROWS]
    if smoke:
        recipes = [
            r if r.rule is None else r.override(SMOKE["em" if r.rule.name == "EM" else "gradient"])
            for r in recipes
        ]
    print("Training an rEFH and an rVAE by the temporally local rule, and two Kalman filters by EM")
    cards = reproduce(recipes, [0], out, jobs)
    order = ["ppc/order0", "ppc/kf1", "ppc/rvae", "ppc/refh", "ppc/kf2", "ppc/kf-true"]
    print("\n" + render({name: cards[name] for name in order}))

    picture = out / "trajectory.png"
    draw({name: store.load(out / f"ppc/{name}/seed0") for name in SHOWN}, picture)
    print(f"\nwrote {picture}")
    return picture


def draw(models: dict[str, torch.nn.Module], picture: Path) -> None:
    """Draws 30 s of a trajectory as some models read it; ``models`` by row name, as in SHOWN."""
    data = PPC(1, 600, seed=1, split="validation")
    decoded = {"raw decoding": ppc.decode(data.obs[0])}
    for name, model in models.items():
        decoded[SHOWN[name]] = ppc.wrap(position(model, data.obs)[0])
    title = "Position of a noisy spring, read from the spikes of 15 neurons"
    pictures.draw_trajectory(data.obs[0], data.state[0, :, 0], decoded, picture, title)
