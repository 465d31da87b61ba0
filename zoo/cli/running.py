"""Commands that list, train, score and sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import Device, Jobs, Name, Seed, Set, check_device, recipe_of

app = typer.Typer()


@app.command("list")
def list_recipes(
    markdown: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of a table, a model or summary."),
    ] = None,
) -> None:
    """Show every recipe: whether it ships trained, what it obtained, and what was published."""
    from .. import store
    from ..recipes import RECIPES
    from ..runs import tables

    if markdown:
        print(tables.markdown(markdown))
        return
    shipped, carded = store.shipped(), store.carded()
    print(f"{'recipe':<41}{'status':<10}{'obtained':>22}{'published':>12}  unit")
    for name, recipe in RECIPES.items():
        obtained = "-"
        if name in carded:
            card = store.card(name)
            spread = "" if card["sd"] is None else f" ± {card['sd']:.1g}"
            obtained = f"{card['value']:.3g}{spread} (n={card['n']})"
        status = "shipped" if name in shipped else "recipe"
        published = "-" if recipe.published is None else f"{recipe.published:.3g}"
        print(f"{name:<41}{status:<10}{obtained:>22}{published:>12}  {recipe.task.unit}")


@app.command()
def train(
    name: Name,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder; runs/NAME/seedN if unset.")] = None,
    device: Device = None,
    overrides: Set = None,
    quick: Annotated[bool, typer.Option(help="The recipe's small budget.")] = False,
    fresh: Annotated[bool, typer.Option(help="Ignore a checkpoint of an earlier run.")] = False,
) -> None:
    """Train one recipe, then score it on test data.

    Writes weights.safetensors and card.json. A run that was stopped goes on from its last whole
    epoch when the same command is given again, and ends with the same weights.
    """
    from ..recipes import find, parse_overrides
    from ..runs.run import is_main_process, run

    check_device(device)
    recipe = find(name)
    recipe = recipe.quickened() if quick else recipe
    recipe = recipe.override(parse_overrides(overrides or []))
    folder = out or Path("runs") / name / f"seed{seed}"
    card = run(recipe, seed, folder, device=device, resume=not fresh)
    if not is_main_process():
        return
    print(f"{name}: {card['metric']} {card['value']:.4g} {card['unit']} on test data (seed {seed})")
    print(f"{folder} holds weights.safetensors and card.json; zoo.load({str(folder)!r}) loads them")


@app.command()
def evaluate(
    name: Annotated[str, typer.Argument(help="A trained model: ppc/refh, or a folder of a run.")],
    seed: Annotated[int, typer.Option(help="Seed of the test data.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    how: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE",
            help="Change how film is predicted: --how start=previous --how steps=50 (harmoniums), "
            "--how by=posterior (rVAE; also predictor, gibbs); --how sequences=20 takes fewer "
            "films. May be given several times.",
        ),
    ] = None,
    device: Device = None,
) -> None:
    """Score a trained model on test data drawn with a seed of your choice.

    The sd is over the test sequences; for the sd over training seeds see the model's card.
    """
    from .. import store
    from ..recipes import RECIPES, parse_overrides

    check_device(device)
    if name in RECIPES and RECIPES[name].rule is None:
        net, recipe = RECIPES[name].model.build(), RECIPES[name]
    else:
        net = store.load(name, device or "cpu")
        recipe = recipe_of(net)
    scores = recipe.task.measure(net, seed, "test", **parse_overrides(how or []))
    means, few = scores.figures.tolist(), len(scores.values) < 2
    spread = None if few else float(scores.values[:, 0].std())
    result = {
        "name": recipe.name,
        "metric": recipe.task.metric,
        "unit": recipe.task.unit,
        "value": means[0],
        "sd": spread,
        "also": dict(zip(recipe.task.also, means[1:])),
        "n_sequences": len(scores.values),
        "seed": seed,
        "published": recipe.published,
        "limit": recipe.limit,
    }
    if as_json:
        print(json.dumps(result))
    else:
        print(
            f"{result['name']}: {result['metric']} {result['value']:.4g} {result['unit']} "
            f"({'' if few else f'sd {spread:.2g} over '}{result['n_sequences']} test sequences, "
            f"seed {seed})"
        )
        for figure, value in result["also"].items():
            print(f"  {figure}: {value:.4g} {result['unit']}")


@app.command()
def reproduce(
    table: Annotated[
        str, typer.Argument(help="A table, such as ppc or jsb, or music: its four tables.")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds, 0 to N-1.")] = 3,
    quick: Annotated[bool, typer.Option(help="Small budgets: minutes, and worse figures.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Rows to run; all if unset.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs"),
    jobs: Jobs = 2,
    device: Device = None,
    overrides: Set = None,
    ship: Annotated[
        bool, typer.Option(help="Put weights and cards into the installed zoo (maintainers).")
    ] = False,
) -> None:
    """Run a whole table over several seeds and print it beside the published one.

    Finished runs in --out are kept: give the command again to go on where it stopped.
    """
    from ..recipes import find, members, parse_overrides
    from ..recipes import table as rows
    from ..recipes.recipe import override_all
    from ..runs import reproduce as running
    from ..runs.tables import render

    check_device(device)
    tables = members(table)
    recipes = [find(name) for name in only] if only else [r for t in tables for r in rows(t)]
    if any(recipe.table not in tables for recipe in recipes):
        raise ValueError(f"--only takes rows of the table {table}")
    recipes = [r.quickened() if quick else r for r in recipes]
    recipes = override_all(recipes, parse_overrides(overrides or []))
    folder = out / "quick" if quick else out
    cards = running.reproduce(recipes, list(range(seeds)), folder, jobs, device)
    for name in dict.fromkeys(recipe.table for recipe in recipes):
        print("\n" + render({r: c for r, c in cards.items() if find(r).table == name}))
    if ship:
        print("shipped: " + ", ".join(running.ship(cards, folder)))


@app.command()
def search(
    name: Name,
    trials: Annotated[int, typer.Option(min=1, help="Settings to try.")] = 12,
    quick: Annotated[bool, typer.Option(help="Try them on the recipe's small budget.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of search and training.")] = 1000,
    out: Annotated[Path | None, typer.Option(help="A .json file of all trials.")] = None,
    device: Device = None,
    overrides: Set = None,
) -> None:
    """Look for better learning rates of a recipe on validation data, with Optuna.

    Prints each trial and then the best as --set options. Test data are never looked at.
    """
    from ..recipes import find, parse_overrides
    from ..runs import search as searching

    check_device(device)
    recipe = find(name)
    recipe = recipe.quickened() if quick else recipe
    recipe = recipe.override(parse_overrides(overrides or []))

    tried = []

    def say(trial) -> None:
        tried.append(trial)
        if out is not None:  # after every trial: a search that is stopped keeps what it found
            searching.save(recipe, tried, out, device)
        settings = ", ".join(f"{key}={value}" for key, value in trial.changes.items())
        print(f"{trial.score:>9.4f}  {settings}", flush=True)

    found = searching.search(recipe, trials, seed, device, say)
    best = " ".join(f'--set "{key}={value}"' for key, value in found[0].changes.items())
    print(f"best of {trials}: {found[0].score:.4f} by {best}")
    if out is not None:
        print(f"wrote {out}")


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="A trained model: ppc/refh, or a folder of a run.")],
    out: Annotated[Path, typer.Option(help="File to write; its ending chooses the format.")],
    seed: Seed = 0,
    direction: Annotated[
        str | None,
        typer.Option(help="forwards or backwards in time; the model's own way if unset."),
    ] = None,
    device: Device = None,
) -> None:
    """Let a trained model generate: spike counts, film (.gif), music (.mid), answers; as .png too.

    Networks that answer questions are drawn beside the data: what they answer, and what was right.
    """
    from .. import store

    check_device(device)
    net = store.load(name, device or "cpu")
    if not (hasattr(net, "sample") or hasattr(net, "answer")):
        raise ValueError(f"{type(net).__name__} generates nothing")
    recipe_of(net).task.draw(net, out, seed, direction=direction)
    print(f"wrote {out}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for runs and picture.")] = Path("demo"),
    jobs: Jobs = 2,
    smoke: Annotated[bool, typer.Option(help="A few seconds only: for tests.")] = False,
    shipped: Annotated[
        bool, typer.Option(help="Train nothing: draw the picture with the models that ship.")
    ] = False,
) -> None:
    """Train an rEFH and an rVAE by the temporally local rule, beside learned Kalman filters."""
    from .. import store
    from ..studies.demo import SHOWN, draw, run_demo

    if not shipped:
        run_demo(out, jobs, smoke)
        return
    draw({name: store.load(f"ppc/{name}") for name in SHOWN}, out / "trajectory.png")
    print(f"wrote {out / 'trajectory.png'}")
