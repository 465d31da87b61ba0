"""The search for rates and widths on the command line: of recipes, runs and recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .fit import Bin, Inputs, Latents, Split, SplitSeed, Trials, Units, Updates, Variable, source
from .options import Device, Modules, Recorded, Set, check_device, check_searched

app = typer.Typer()
TRIALS, STORAGE = "trials.json", "search.db"  # what a search writes to a folder


@app.command()
def search(
    name: Annotated[
        str,
        typer.Argument(
            callback=check_searched,
            help="A recipe, TABLE/ROW; a run of seqzoo fit; or a recording, with --model.",
        ),
    ],
    model: Annotated[str, typer.Option(help="Of a recording: the model, such as rvae.")] = "rvae",
    num_trials: Annotated[
        int, typer.Option("--trials", min=1, help="Settings to try, earlier ones included.")
    ] = 12,
    quick: Annotated[bool, typer.Option(help="Try them on the recipe's small budget.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of search and training.")] = 1000,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder, in which a search that was stopped goes on; or a .json file."),
    ] = None,
    data: Recorded = None,
    bin: Bin = None,
    table: Trials = "trials",
    inputs: Inputs = None,
    units: Units = None,
    variable: Variable = None,
    split: Split = "0.7,0.15,0.15",
    split_seed: SplitSeed = 0,
    latents: Latents = None,
    updates: Updates = None,
    device: Device = None,
    overrides: Set = None,
    modules: Modules = None,
) -> None:
    """Look for better rates and widths on validation data, with Optuna.

    Prints each trial and then the best as --set options. Test data are never looked at. In a folder
    the search is kept in search.db: the same command goes on where it was stopped, and a larger
    --trials adds to it.
    """
    from ..pictures import check_file
    from ..recipes import find, parse_overrides
    from ..runs import recording_runs
    from ..runs import search as searching
    from ..runs.processes import Interrupted
    from ..runs.run import is_recorded

    check_device(device)
    storage = written = None
    if out is not None and out.suffix and not out.is_dir():
        check_file(out, (".json",))
        if out.exists():
            raise ValueError(f"{out} is there already, and may hold a search: give another file")
        written = out
    elif out is not None:
        storage, written = out / STORAGE, out / TRIALS
        if out.is_dir() and not storage.is_file() and any(out.iterdir()):
            raise ValueError(f"{out} holds something else: give a new folder, or that of a search")
    if Path(name).is_dir():
        recipe = recording_runs.recipe_of_run(Path(name), data)
    elif Path(name).is_file():
        how = (bin, table, inputs, units, variable, split, split_seed)
        read = source(Path(name), *how)
        plan = recording_runs.plan_of(model, read, latents, updates)
        recipe = recording_runs.recipe_for(model, read, plan)
    else:
        recipe = find(name)
    recipe = recipe.quickened() if quick else recipe
    changes = parse_overrides(overrides or [])
    if is_recorded(recipe):
        recording_runs.check_changes(changes)
    recipe = recipe.override(changes)

    tried: list[searching.Trial] = []

    def say(trial: searching.Trial) -> None:
        tried.append(trial)
        if written is not None:  # after every trial: a search that is stopped keeps what it found
            searching.save(recipe, tried, written, device)
        settings = ", ".join(f"{key}={value}" for key, value in trial.changes.items())
        print(f"{trial.score:>9.4f}  {settings}", flush=True)

    try:
        found = searching.search(recipe, num_trials, seed, device, say, storage)
    except Interrupted as error:
        done = f"stopped after {len(tried)} of {num_trials} trials"
        raise Interrupted(done, error.number) from error
    best = " ".join(f'--set "{key}={value}"' for key, value in found[0].changes.items())
    print(f"best of {len(found)}: {found[0].score:.4f} by {best}")
    if written is not None:
        print(f"wrote {written}")
