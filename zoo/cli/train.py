"""Commands that list and train recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Device, Jobs, Modules, Name, Seed, Set, check_device, check_table

app = typer.Typer()


@app.command("list")
def list_recipes(
    markdown: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of a table, a model or summary."),
    ] = None,
    modules: Modules = None,
) -> None:
    """Show every recipe: whether it ships trained, and its obtained and published figures."""
    from .. import catalogue
    from ..runs.printing import show, table

    if markdown:
        from ..runs import tables

        print(tables.markdown(markdown))
        return
    known = catalogue.recipes()
    if modules:
        from ..recipes import index

        known = index()
    shipped, carded, rows = catalogue.shipped(), catalogue.carded(), []
    for name, recipe in known.items():
        obtained = "-"
        if name in carded:
            card = catalogue.card(name)
            spread = "" if card["sd"] is None else f" ± {card['sd']:.1g}"
            obtained = f"{card['value']:.3g}{spread} (n={card['n']})"
        status = "shipped" if name in shipped else "recipe"
        published = "-" if recipe["published"] is None else f"{recipe['published']:.3g}"
        rows.append((name, status, obtained, published, recipe["unit"]))
    columns = "recipe", "status", "obtained", "published", "unit"
    show(table(columns, rows, words=(0, 1, 4)))


@app.command()
def train(
    name: Name,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder; if unset runs/NAME/seedN, or one of their own for --quick and --set.",
        ),
    ] = None,
    device: Device = None,
    overrides: Set = None,
    quick: Annotated[bool, typer.Option(help="The recipe's small budget.")] = False,
    fresh: Annotated[bool, typer.Option(help="Ignore a checkpoint of an earlier run.")] = False,
    changed: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Go on from a checkpoint whose lr (or clip, epochs, schedule ...) was another.",
        ),
    ] = None,
    from_best: Annotated[
        bool, typer.Option("--from-best", help="Go on from the best epoch of the checkpoint.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Replace the finished run in the folder, if there is one.")
    ] = False,
    modules: Modules = None,
) -> None:
    """Train one recipe, and print its score on validation data.

    Writes weights.safetensors and card.json, which holds the score on test data. seqzoo evaluate
    and reproduce print that one: settings are chosen without it. A run that was stopped goes on
    from its last whole epoch when the same command is given again, and ends with the same weights.
    A finished run is replaced with --overwrite alone.
    """
    from .. import store
    from ..recipes import find, parse_overrides
    from ..runs.finished import place
    from ..runs.run import is_main_process, run

    check_device(device)
    recipe = find(name)
    recipe = recipe.quickened() if quick else recipe
    changes = parse_overrides(overrides or [])
    recipe = recipe.override(changes)
    folder = out or place(Path("runs"), quick, changes) / name / f"seed{seed}"
    if fresh and (from_best or changed):
        raise ValueError(
            "--fresh ignores a checkpoint: it goes with neither --from-best nor --changed"
        )
    resume = "best" if from_best else not fresh
    card = run(
        recipe,
        seed,
        folder,
        device=device,
        resume=resume,
        overwrite=overwrite,
        changed=changed or (),
    )
    if not is_main_process():
        return
    value = card["validation"]
    if value is None:  # the training looked at no validation data
        net = store.load(folder, device or "cpu")
        value = float(recipe.task.measure(net, seed, "validation").figures[0])
    print(f"{name}: {card['metric']} {value:.4g} {card['unit']} on validation data (seed {seed})")
    print(f"{folder} holds weights.safetensors and card.json; zoo.load({str(folder)!r}) loads them")
    print(f"seqzoo evaluate {folder} scores it on test data")


@app.command()
def reproduce(
    table: Annotated[
        str,
        typer.Argument(
            callback=check_table, help="A table, such as ppc or jsb, or music: its four tables."
        ),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds, 0 to N-1.")] = 3,
    quick: Annotated[bool, typer.Option(help="Small budgets: minutes, and worse figures.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Rows to run, TABLE/ROW or ROW; all if unset.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            file_okay=False, help="Folder of the runs; those with --quick or --set have one in it."
        ),
    ] = Path("runs"),
    jobs: Jobs = 2,
    device: Device = None,
    overrides: Set = None,
    overwrite: Annotated[
        bool, typer.Option(help="Replace finished runs of other settings in --out.")
    ] = False,
    ship: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            file_okay=False,
            help="Put weights and cards there, for zoo.load('FOLDER/TABLE/ROW').",
        ),
    ] = None,
    modules: Modules = None,
) -> None:
    """Run a whole table over several seeds and print it beside the published one.

    Finished runs in --out are kept: give the command again to go on where it stopped.
    """
    from ..recipes import find, parse_overrides, rows
    from ..recipes.recipe import override_all
    from ..runs import reproduce as running
    from ..runs.finished import place
    from ..runs.printing import show
    from ..runs.processes import SomeFailed
    from ..runs.tables import remarks, render

    check_device(device)
    recipes = rows(table, only or ())
    recipes = [r.quickened() if quick else r for r in recipes]
    changes = parse_overrides(overrides or [])
    recipes = override_all(recipes, changes)
    folder = place(out, quick, changes)
    failure = None
    try:
        cards = running.reproduce(
            recipes, list(range(seeds)), folder, jobs, device, overwrite=overwrite
        )
    except SomeFailed as error:  # the table of the others, and then the error
        cards, failure = error.results, error
    for name in dict.fromkeys(recipe.table for recipe in recipes):
        group = {row: found for row, found in cards.items() if find(row).table == name}
        print()
        show(render(group))
        print(remarks(group))
    if failure is not None:
        raise failure
    if ship is not None:
        print(f"shipped to {ship}: " + ", ".join(running.ship(cards, folder, ship)))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for runs and picture.")] = Path(
        "demo"
    ),
    jobs: Jobs = 2,
    smoke: Annotated[bool, typer.Option(help="A few seconds only: for tests.")] = False,
    shipped: Annotated[
        bool, typer.Option(help="Train nothing: draw the picture with the models that ship.")
    ] = False,
) -> None:
    """Train an rEFH and an rVAE by the temporally local rule, beside learned Kalman filters."""
    from .. import store
    from ..runs.printing import show
    from ..runs.tables import remarks, render
    from ..studies import demo as study

    picture = out / "trajectory.png"
    study.take_folder(out)
    if shipped:
        nets = {name: store.load(f"ppc/{name}") for name in study.SHOWN}
    else:
        print("Training an rEFH and an rVAE by the local rule, and two Kalman filters by EM")
        cards, nets = study.demo(out, jobs, smoke, print)
        print()
        show(render(cards))
        print(remarks(cards) + "\n")
    study.plot_demo(nets, picture)
    print(f"wrote {picture}")
