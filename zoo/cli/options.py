"""Options that several commands share, and the checks of their values."""

from __future__ import annotations

from typing import Annotated

import typer


def _import(names: list[str] | None) -> list[str] | None:
    """Imports the modules that the user named."""
    if names:
        from ..recipes import import_modules

        import_modules(names)
    return names


Name = Annotated[str, typer.Argument(help="A recipe, TABLE/ROW, such as ppc/refh.")]
Trained = Annotated[
    str, typer.Argument(metavar="NAME", help="A trained model: ppc/refh, or a folder of a run.")
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
