"""Options that several commands share, and the checks of their values."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated

import typer

from .. import catalogue
from ..names import unknown

#: Endings of recordings, see ``data.read_recording``.
RECORDINGS = (".nwb", ".npz", ".npy", ".mat", ".nc", ".csv")


def check_recipe(name: str) -> str:
    """Refuses a mistyped recipe."""
    return _check("recipe", name, catalogue.recipes)


def check_table(name: str) -> str:
    """Refuses a mistyped table."""
    return _check("table", name, catalogue.tables)


def check_searched(name: str) -> str:
    """Refuses a mistyped recipe, which may be the folder of a run or a file."""
    if Path(name).exists():
        return name
    if Path(name).suffix in RECORDINGS:
        raise ValueError(f"there is no file {name}")
    return _check("recipe", name, catalogue.recipes)


def check_trained(name: str) -> str:
    """Refuses a mistyped model, which may be the folder of a run."""
    return name if Path(name).exists() else _check("model", name, catalogue.carded)


def _check(kind: str, name: str, known: Callable[[], Collection[str]]) -> str:
    """Answers a mistyped name at once: the registry would import torch first.

    Once the registry is there it answers itself: ``--import`` may have brought further names.
    """
    registry = __name__.removesuffix("cli.options") + "recipes"
    if registry not in sys.modules and name not in known():
        raise ValueError(unknown(kind, name, known()))
    return name


def _import(names: list[str] | None) -> list[str] | None:
    """Imports the modules that the user named."""
    if names:
        from ..recipes import import_modules

        import_modules(names)
    return names


Name = Annotated[
    str, typer.Argument(callback=check_recipe, help="A recipe, TABLE/ROW, such as ppc/refh.")
]
Trained = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        callback=check_trained,
        help="A trained model: ppc/refh, or a folder of a run.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of weights, data and noise.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; best there is if unset.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Change a field of the recipe: --set rule.k=5 --set fit.epochs=10 "
        "--set 'model.likelihood=Gaussian(dim=15)'. May be given several times.",
    ),
]
Recorded = Annotated[
    Path | None,
    typer.Option(
        "--data", help="The recording of a model of seqzoo fit, if it is no longer where it was."
    ),
]
Modules = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        callback=_import,
        is_eager=True,
        help="A module, or a .py file, with classes or RECIPES of your own. May be given several "
        "times.",
    ),
]
Jobs = Annotated[int, typer.Option(min=1, help="Runs at a time, one processor core each.")]

Frames = Annotated[int, typer.Option(min=1, help="Frames whose chains are followed.")]
NumChains = Annotated[int, typer.Option(min=2, help="Chains of each frame.")]
Steps = Annotated[int, typer.Option(min=50, help="Gibbs steps kept of every chain.")]
NumWarmup = Annotated[int, typer.Option(min=0, help="Gibbs steps before those.")]


def check_device(device: str | None) -> None:
    """Raises a ValueError for a device that this machine does not have."""
    from ...inference.training.arguments import check_device as check

    check(device)
