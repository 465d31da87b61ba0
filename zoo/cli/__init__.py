"""The command line, ``seqzoo``."""

from __future__ import annotations

import sys

import typer

from . import bench, horizon, looking, running

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
app.add_typer(running.app)
app.add_typer(looking.app)
app.add_typer(horizon.app, name="horizon", no_args_is_help=True)
app.add_typer(bench.app, name="bench", no_args_is_help=True)


def main() -> None:
    """Runs the command line; errors that a user can mend are one sentence."""
    from ..runs.run import Interrupted

    try:
        app()
    except (ValueError, FloatingPointError, OSError) as error:
        print(f"seqzoo: {error}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as error:
        print(f"seqzoo: {error}", file=sys.stderr)
        sys.exit(130)
