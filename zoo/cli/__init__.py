"""The command line, ``seqzoo``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from . import bench, models, study, train

app = typer.Typer(
    help="A model zoo of recurrent generative models, and of the rules that train them.\n\n"
    "Start with [bold]seqzoo demo[/bold], look at [bold]seqzoo list[/bold], then run one row "
    "with [bold]seqzoo train ppc/refh[/bold] or a whole table with "
    "[bold]seqzoo reproduce ppc[/bold].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(train.app)
app.add_typer(models.app)
app.add_typer(study.app, name="study")
app.add_typer(bench.app, name="bench", no_args_is_help=True)


def _version(asked: bool) -> None:
    """Prints the version and ends the program."""
    if asked:
        from seqzoo import __version__

        print(f"seqzoo {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Takes the options that belong to no single command."""


def main() -> None:
    """Runs the command line.

    An error that the user can correct is printed as one line, and the exit status is 2.
    """
    from ..runs.run import Interrupted

    try:
        app()
    except (ValueError, FloatingPointError, OSError) as error:
        print(f"seqzoo: {error}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as error:
        print(f"seqzoo: {error}", file=sys.stderr)
        sys.exit(130)
