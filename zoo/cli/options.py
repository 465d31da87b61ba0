"""Options that several commands have, and what they check."""

from __future__ import annotations

from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(help="A recipe, TABLE/ROW, such as ppc/refh.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, data and noise.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; best there is if unset.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Change a field of the recipe: --set rule.k=5 --set fit.epochs=10 "
        "--set model.hidden_dim=100. May be given several times.",
    ),
]
Jobs = Annotated[int, typer.Option(help="Runs at a time, one processor core each.")]


def recipe_of(net):
    """The recipe that a loaded model's card names."""
    from ..recipes import find
    from ..store import ModelError

    if "name" not in net.card:
        raise ModelError("the card names no recipe: train the model again")
    return find(net.card["name"])


def check_device(device: str | None) -> None:
    """Raises a ValueError for a device that is not here."""
    from ...inference.training.loop import check_device as check

    check(device)
