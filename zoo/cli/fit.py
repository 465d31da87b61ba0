"""The command ``fit``, and what ``search`` does with a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Device, Modules, Seed, Set, check_device

if TYPE_CHECKING:
    from ..part import Part

app = typer.Typer()

Source = Annotated[
    Path, typer.Argument(metavar="FILE", help="A recording: .nwb, .npz, .npy, .mat, .nc or .csv.")
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="Such as rvae, lgds or gru; may be given several times."),
]
Bin = Annotated[
    float | None, typer.Option(help="Width of a bin in seconds, where the file does not say it.")
]
Trials = Annotated[
    str, typer.Option(help="The table or column that says the trials; none: one trial.")
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", help="A series, array or column that is an input; several times."),
]
Units = Annotated[
    list[str] | None,
    typer.Option(
        "--units", metavar="COLUMN=VALUE", help="Units of an NWB file, such as quality=good."
    ),
]
Variable = Annotated[str | None, typer.Option(help="The array, or the table of units, to read.")]
Split = Annotated[
    str, typer.Option(help="Fractions of the trials for training, validation and test.")
]
SplitSeed = Annotated[int, typer.Option(help="Seed of the split.")]
Latents = Annotated[
    int | None, typer.Option(min=1, help="Size of the latent state; chosen if unset.")
]
Updates = Annotated[int | None, typer.Option(min=1, help="Budget of training; chosen if unset.")]


@app.command()
def fit(
    file: Source,
    model: Models = None,
    bin: Bin = None,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of the run; of several, one in it each.")
    ] = Path("fit"),
    trials: Trials = "trials",
    inputs: Inputs = None,
    units: Units = None,
    variable: Variable = None,
    split: Split = "0.7,0.15,0.15",
    split_seed: SplitSeed = 0,
    latents: Latents = None,
    updates: Updates = None,
    overrides: Set = None,
    seed: Seed = 0,
    device: Device = None,
    fresh: Annotated[bool, typer.Option(help="Ignore a checkpoint of an earlier run.")] = False,
    changed: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Go on from a checkpoint whose lr or clip was another."),
    ] = None,
    from_best: Annotated[
        bool, typer.Option("--from-best", help="Go on from the best epoch of the checkpoint.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the finished run in --out.")] = False,
    modules: Modules = None,
) -> None:
    """Train models on a recording of your own, and score them on test trials.

    Settings are chosen for the data; --latents, --updates and --set change them. Writes
    weights.safetensors and card.json, which seqzoo evaluate, diagnose, sample and search take. The
    same command goes on where it was stopped.
    """
    from ..recipes import parse_overrides
    from ..recipes.recipe import override_all
    from ..runs import recording_runs
    from ..runs.printing import show, table
    from ..runs.run import is_main_process

    check_device(device)
    if fresh and (from_best or changed):
        raise ValueError(
            "--fresh ignores a checkpoint: it goes with neither --from-best nor --changed"
        )
    names = list(dict.fromkeys(model or ["rvae"]))
    data = source(file, bin, trials, inputs, units, variable, split, split_seed)
    plans = [recording_runs.plan_of(name, data, latents, updates) for name in names]
    chosen = [recording_runs.recipe_for(name, data, plan) for name, plan in zip(names, plans)]
    changes = parse_overrides(overrides or [])
    recording_runs.check_changes(changes)
    chosen = override_all(chosen, changes)
    resume = "best" if from_best else not fresh
    how: dict[str, Any] = {"device": device, "resume": resume, "overwrite": overwrite}
    cards = recording_runs.run_all(chosen, seed, out, print, changed=changed or (), **how)
    if not is_main_process():
        return
    found = recording_runs.scores(chosen, out, seed)
    rows, notes = [], []
    for recipe, plan in zip(chosen, plans):
        card, each = cards[recipe.title], found[recipe.title]
        figures = [f"{x.value:.3g}" if math.isfinite(x.value) else "-" for x in each.values()]
        rows.append((recipe.title, *figures, f"{card['wall_time_s']:.0f}"))
        notes += [f"{recipe.title}: {x.note}" for x in each.values() if x.note]
        notes += recording_runs.advice(recipe, card, plan, each["next"].value)
    unit = next(iter(found.values()))["next"].unit
    columns = f"next bin ({unit})", f"held-out ({unit})", "nats/frame", "seconds"
    show(table(("model", *columns), rows, words=(0,)))
    print("\n".join(notes), end="\n" if notes else "")
    where = out if len(chosen) == 1 else out / chosen[0].title
    print(f"{out} holds weights and cards; zoo.load({str(where)!r}) loads a model")


def source(
    file: Path,
    bin: float | None,
    trials: str,
    inputs: list[str] | None,
    units: list[str] | None,
    variable: str | None,
    split: str,
    split_seed: int,
) -> Part:
    """The recording that options name, as a part."""
    from ..registry import parse
    from ..runs import recording_runs

    try:
        fractions = [float(each) for each in split.split(",")]
    except ValueError as error:
        raise ValueError(
            f"--split must be fractions, such as 0.7,0.15,0.15: got {split}"
        ) from error
    wanted: dict[str, Any] = {}
    for pair in units or []:
        column, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"give --units COLUMN=VALUE, such as quality=good: got {pair!r}")
        wanted.setdefault(column.strip(), []).append(parse(value.strip()))
    return recording_runs.source(
        file,
        bin=bin,
        trials=None if trials == "none" else trials,
        inputs=inputs or [],
        units=wanted or None,
        variable=variable,
        split=fractions,
        split_seed=split_seed,
    )
