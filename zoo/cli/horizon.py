"""Horizons on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Device, Jobs, Seed, check_device

app = typer.Typer(help="Target propagation and BPTT as the horizon grows, on one-to-many tasks.")
Steps = Annotated[list[int] | None, typer.Option(min=1, help="Horizons T.")]
Quick = Annotated[bool, typer.Option(help="Small budgets: minutes, and worse figures.")]


@app.command("nll")
def horizon_nll(
    out: Annotated[Path, typer.Option(help="A picture: .png, .pdf or .svg.")],
    kind: Annotated[
        list[str] | None, typer.Option(help="class or regression; both if unset.")
    ] = None,
    steps: Steps = None,
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds, 0 to N-1.")] = 1,
    quick: Quick = False,
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs"),
    jobs: Jobs = 2,
) -> None:
    """Train both rules at every horizon and draw the held-out NLL; finished runs are kept."""
    from ..pictures import PICTURES, check_ending
    from ..studies import horizon

    check_ending(out, PICTURES)
    kinds, lengths = kind or list(horizon.one_to_many.STEPS), steps or list(horizon.STEPS)
    folder = runs / "quick" if quick else runs
    points = horizon.curves(kinds, lengths, seeds, folder, jobs, quick)
    print(f"{'task':<12}{'rule':<14}{'T':>5}{'NLL':>9}{'sd':>9}{'n':>3}")
    for point in points:
        spread = "-" if point.sd is None else f"{point.sd:.3f}"
        print(
            f"{point.kind:<12}{point.title:<14}{point.steps:>5}{point.value:>9.3f}"
            f"{spread:>9}{point.n:>3}"
        )
    horizon.draw_curves(points, out)
    print(f"wrote {out}")


@app.command("alignment")
def horizon_alignment(
    out: Annotated[Path, typer.Option(help="A picture: .png, .pdf or .svg.")],
    kind: Annotated[str, typer.Option(help="class or regression.")] = "regression",
    steps: Steps = None,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = None,
) -> None:
    """Does target propagation follow the gradient? Its cosine with BPTT's, over training and T."""
    from ..pictures import PICTURES, check_ending
    from ..studies import horizon

    check_ending(out, PICTURES)
    check_device(device)
    lengths = steps or [5, 30]
    found = horizon.follow(kind, lengths, seed, quick, device or "cpu", print)
    horizon.draw_followed(list(found), out)
    print(f"wrote {out}")
