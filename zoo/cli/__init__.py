"""The command line, ``seqzoo``."""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..runs.processes import Interrupted, SomeFailed, terminable
from . import bench, fit, models, search, study, train
from .output import unfailing

LONGEST = 1000  # characters of an error
#: Commands whose results are in files: they succeed although nobody can read what they print.
KEPT = {"train", "fit", "reproduce", "search", "sample", "diagnose", "demo"}


class Commands(TyperGroup):
    """All commands, each of which may be stopped by hand."""

    def invoke(self, ctx: typer.Context) -> Any:
        """Turns ctrl-C into an error of ours: typer would say nothing."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted("stopped") from error


app = typer.Typer(
    cls=Commands,
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
app.add_typer(fit.app)
app.add_typer(search.app)
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
def common(
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
    with unfailing() as output, terminable() as signals:
        try:
            app()
        except SystemExit as ended:
            status = ended.code
        except (ValueError, FloatingPointError, OSError) as error:
            _say(error)
            status = 2
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and "memory" not in str(error):
                raise
            why = (str(error).splitlines() or ["take less at a time"])[0]
            _say(f"not enough memory: {why}")
            status = 2
        except SomeFailed as error:
            _say(error)
            status = 1
        except Interrupted as error:
            _say(error)
            status = 128 + error.number
        except KeyboardInterrupt:
            status = 128 + signal.SIGINT
        if signals:
            status = 128 + signals[0]
        output.flush()
        if output.lost:
            _say(f"the output was cut short: {output.lost}")
            status = status or (0 if KEPT.intersection(sys.argv[1:2]) else 1)
    sys.exit(status)


def _say(error: object) -> None:
    """Prints an error as one line, without the middle of a very long one."""
    line = " ".join(str(error).split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    print(f"seqzoo: {line}", file=sys.stderr)
