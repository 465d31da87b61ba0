"""The demo: two temporally local models beside Kalman filters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...data import PPC, ppc
from .. import folders, pictures, store
from ..recipes import find
from ..recipes.ppc import position
from ..runs.reproduce import reproduce
from ..runs.tables import Card

TRAINED = ["ppc/rvae", "ppc/refh", "ppc/kf2", "ppc/kf1", "ppc/order0", "ppc/kf-true"]
ROWS = ["ppc/order0", "ppc/kf1", "ppc/rvae", "ppc/refh", "ppc/kf2", "ppc/kf-true"]
SHOWN = {"refh": "rEFH", "rvae": "rVAE", "kf2": "KF-2"}
SMOKE = {
    "gradient": {"data.sequences": 4, "data.steps": 50, "fit.epochs": 2, "warmup": {}},
    "em": {"data.sequences": 4, "data.steps": 50, "rule.iterations": 5},
}


def demo(
    out: Path,
    jobs: int = 2,
    smoke: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, list[Card]], dict[str, Any]]:
    """Trains the rows of the demo with their quick budgets.

    Arguments:
        out: folder of the runs.
        jobs: runs at a time.
        smoke: train for a few seconds only.
        say: told of every run that is done.

    Returns:
        The cards of each row, in the order of the table; and the models to plot, named as in
        ``SHOWN``.
    """
    recipes = [find(name).quickened() for name in TRAINED]
    if smoke:
        recipes = [
            r if r.rule is None else r.override(SMOKE["em" if r.rule.name == "EM" else "gradient"])
            for r in recipes
        ]
    cards = reproduce(recipes, [0], out, jobs, say=say)
    nets = {name: store.load(out / f"ppc/{name}/seed0") for name in SHOWN}
    return {name: cards[name] for name in ROWS}, nets


def take_folder(out: Path) -> None:
    """Makes the folder of the demo, and marks it for good.

    Raises:
        ValueError: for a file, or for a folder that holds files of someone else.
    """
    earlier = f"{TRAINED[0]}/seed0"
    folders.check(out, folders.NONE, lambda folder: store.holds_model(folder / earlier))
    out.mkdir(parents=True, exist_ok=True)
    (out / folders.MARK).touch()


def plot_demo(models: dict[str, Any], picture: Path) -> None:
    """Plots 30 s of a trajectory and the positions that models decode from it.

    Arguments:
        models: by row name, as in ``SHOWN``.
        picture: file to write.
    """
    data = PPC(1, 600, seed=1, split="validation")
    decoded = {"raw decoding": ppc.decode(data.obs[0])}
    for name, model in models.items():
        decoded[SHOWN[name]] = ppc.wrap(position(model, data.obs)[0])
    title = "Position of a noisy spring, read from the spikes of 15 neurons"
    pictures.plot_trajectory(data.obs[0], data.state[0, :, 0], decoded, picture, title)
