"""The demo: two temporally local models beside Kalman filters, a table and a picture."""

from __future__ import annotations

from pathlib import Path

from ..data import PPC, ppc
from . import pictures, store
from .recipes import find
from .recipes.ppc import LIMIT, position
from .reproduce import render, reproduce

ROWS = ["ppc/rvae", "ppc/refh", "ppc/kf2", "ppc/kf1", "ppc/order0", "ppc/kf-true"]
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

    data = PPC(1, 600, seed=1, split="validation")
    truth = data.state[0, :, 0]
    decoded = {"raw decoding": ppc.decode(data.obs[0])}
    for name, label in (("refh", "rEFH"), ("rvae", "rVAE"), ("kf2", "KF-2")):
        model = store.load(out / f"ppc/{name}/seed0")
        decoded[label] = ppc.wrap(position(model, data.obs)[0])
    picture = out / "trajectory.png"
    title = f"Position of a noisy spring, read from 15 neurons (limit {LIMIT:.3g} rad²)"
    pictures.draw_trajectory(data.obs[0], truth, decoded, picture, title)
    print(f"\nwrote {picture}")
    return picture
