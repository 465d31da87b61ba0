"""The command line, ``seqzoo``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

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


def _recipe(net):
    """The recipe that a loaded model's card names."""
    from .recipes import find
    from .store import ModelError

    if "name" not in net.card:
        raise ModelError("the card names no recipe: train the model again")
    return find(net.card["name"])


def _check_device(device: str | None) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"no device {device!r} here: {error}".splitlines()[0]) from error


@app.command("list")
def list_recipes(
    markdown: Annotated[
        str | None, typer.Option(metavar="TABLE", help="Print one table as the README shows it.")
    ] = None,
) -> None:
    """Show every recipe: whether it ships trained, what it obtained, and what was published."""
    from . import reproduce, store
    from .recipes import RECIPES

    if markdown:
        print(reproduce.markdown(markdown))
        return
    shipped, carded = store.shipped(), store.carded()
    print(f"{'recipe':<27}{'status':<10}{'obtained':>22}{'published':>12}  unit")
    for name, recipe in RECIPES.items():
        obtained = "-"
        if name in carded:
            card = store.card(name)
            spread = "" if card["sd"] is None else f" ± {card['sd']:.1g}"
            obtained = f"{card['value']:.3g}{spread} (n={card['n']})"
        status = "shipped" if name in shipped else "recipe"
        published = "-" if recipe.published is None else f"{recipe.published:.3g}"
        print(f"{name:<27}{status:<10}{obtained:>22}{published:>12}  {recipe.task.unit}")


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
    from .recipes import find, parse_overrides, run
    from .recipes.recipe import is_main_process

    _check_device(device)
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
    from . import store
    from .recipes import RECIPES, parse_overrides

    _check_device(device)
    if name in RECIPES and RECIPES[name].rule is None:
        net, recipe = RECIPES[name].model.build(), RECIPES[name]
    else:
        net = store.load(name, device or "cpu")
        recipe = _recipe(net)
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
    from . import reproduce as running
    from .recipes import find, members, parse_overrides
    from .recipes import table as rows
    from .recipes.recipe import override_all

    _check_device(device)
    tables = members(table)
    recipes = [find(name) for name in only] if only else [r for t in tables for r in rows(t)]
    if any(recipe.table not in tables for recipe in recipes):
        raise ValueError(f"--only takes rows of the table {table}")
    recipes = [r.quickened() if quick else r for r in recipes]
    recipes = override_all(recipes, parse_overrides(overrides or []))
    folder = out / "quick" if quick else out
    cards = running.reproduce(recipes, list(range(seeds)), folder, jobs, device)
    for name in dict.fromkeys(recipe.table for recipe in recipes):
        print("\n" + running.render({r: c for r, c in cards.items() if find(r).table == name}))
    if ship:
        print("shipped: " + ", ".join(running.ship(cards, folder)))


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
    """Let a trained model generate: spike counts (.png, .npz), film (.gif, .png, .npz)."""
    from . import store

    _check_device(device)
    net = store.load(name, device or "cpu")
    if not hasattr(net, "sample"):
        raise ValueError(f"{type(net).__name__} generates nothing")
    _recipe(net).task.draw(net, out, seed, direction=direction)
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
    from . import store
    from .demo import SHOWN, draw, run_demo

    if not shipped:
        run_demo(out, jobs, smoke)
        return
    draw({name: store.load(f"ppc/{name}") for name in SHOWN}, out / "trajectory.png")
    print(f"wrote {out / 'trajectory.png'}")


@app.command()
def diagnose(
    names: Annotated[list[str], typer.Argument(help="Trained models of film, such as balls/refh.")],
    frames: Annotated[int, typer.Option(min=1, help="Frames whose chains are followed.")] = 50,
    chains: Annotated[int, typer.Option(min=2, help="Chains a frame.")] = 8,
    draws: Annotated[int, typer.Option(min=4, help="Gibbs steps kept.")] = 100,
    burn: Annotated[int, typer.Option(min=0, help="Gibbs steps before those.")] = 25,
    seed: Seed = 0,
) -> None:
    """R-hat of clamped Gibbs sampling: do chains of the next frame, from random starts, agree?

    Each frame counts with the worst of eight random directions; R-hat is ArviZ's (rank-normalised,
    split). Above 1.1, chains have not converged.
    """
    from .diagnose import gibbs

    total = chains * draws
    print(f"{chains} chains from random starts, {burn} steps, then {draws}; {frames} test frames")
    print(f"{'model':<20}{'R-hat':>8}{'9 in 10 below':>16}{'above 1.1':>12}{f'ESS of {total}':>13}")
    for name, found in gibbs(names, frames, chains, draws, burn, seed):
        print(
            f"{name:<20}{found.rhat:>8.2f}{found.worst:>16.2f}{found.apart:>11.0%} "
            f"{found.ess:>12.0f}",
            flush=True,
        )


@app.command()
def motion(
    table: Annotated[str, typer.Argument(help="A table about film: balls or mnist.")],
    films: Annotated[int, typer.Option(min=1, help="Films of each kind.")] = 50,
    frames: Annotated[int, typer.Option(min=5, help="Frames of a film.")] = 100,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="A .png or .gif of the first film of each row, in order.")
    ] = None,
) -> None:
    """Track what moves in the film that trained models generate, beside real film.

    found: things a frame; apart: share of frames without overlap; speed: per frame, and its
    variation within a flight; turn: degrees a frame in free flight; order 2: error of predicting by
    constant velocity over that of predicting no motion (0: constant velocity, 2: a random walk);
    mirrored: share of wall contacts that reflect.
    """
    from .diagnose import motion as moving

    print(
        f"{'film':<26}{'found':>7}{'apart':>7}{'speed':>7}{'varies':>8}{'turn':>7}{'order 2':>9}"
        f"{'mirrored':>10}{'contacts':>10}"
    )
    for title, seen in moving(table, films, frames, seed, out):
        print(
            f"{title:<26}{seen.found:>7.2f}{seen.apart:>7.2f}{seen.speed:>7.2f}"
            f"{seen.variation:>8.2f}{seen.turn:>7.1f}{seen.second_order:>9.2f}"
            f"{seen.mirrored:>10.2f}{seen.contacts:>10}",
            flush=True,
        )


@app.command()
def kl(
    name: Annotated[str, typer.Argument(help="A model with a diagonal guide: jsb/vrae-published.")],
    out: Annotated[Path | None, typer.Option(help="A .png of the finding.")] = None,
) -> None:
    """The exact KL term of a trained model beside the published one, which is no bound.

    In nats per frame on test data. No diagonal guide under a Wiener prior costs less than
    ln(2)/2 = 0.347 nats a step and dimension; the published objective leaves out what neighbouring
    increments tell of one another.
    """
    from .kl import FLOOR, draw, measure

    found = measure(name)
    for title, value in (
        ("exact KL", found.exact),
        ("marginal increments (no bound)", found.marginal),
        ("difference", found.exact - found.marginal),
        ("what increments share", found.shared),
        (f"floor of the exact KL, {found.dims} dimensions", FLOOR * found.dims),
    ):
        print(f"{title:<40}{value:>9.3f} nats per frame{value / found.dims:>9.4f} a dimension")
    if out is not None:
        draw(found, out)
        print(f"wrote {out}")


@app.command("denoise")
def denoise_music(
    name: Annotated[str, typer.Argument(help="A trained VRAE or VOSP of music, or its folder.")],
    rate: Annotated[float, typer.Option(help="Probability that a silent key is turned on.")] = 0.05,
    sequences: Annotated[int, typer.Option(min=1, help="Test sequences.")] = 10,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="A picture of two sequences: .png, .pdf, .svg or .npz.")
    ] = None,
    device: Device = None,
) -> None:
    """Add wrong notes to test music and take them away: notes found, beside a plain filter.

    Precision, recall and F1 of notes, all keys and frames together.
    """
    from . import store
    from .restoration import denoising

    _check_device(device)
    net = store.load(name, device or "cpu")
    _print_rows(denoising(net, sequences, rate, seed, out))
    if out is not None:
        print(f"wrote {out}")


@app.command("impute")
def impute_music(
    name: Annotated[str, typer.Argument(help="A trained VRAE or VOSP of music, or its folder.")],
    length: Annotated[int, typer.Option(min=1, help="Consecutive frames to hide.")] = 8,
    sequences: Annotated[int, typer.Option(min=1, help="Test sequences.")] = 10,
    by: Annotated[
        list[str] | None,
        typer.Option(help="mode, gibbs or resample; all if unset. May be given several times."),
    ] = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="A picture of one sequence: .png, .pdf, .svg or .npz.")
    ] = None,
    device: Device = None,
) -> None:
    """Hide frames of test music and fill them in: notes found, beside what plain rules find.

    Precision, recall and F1 of hidden notes, and nats per hidden key and frame.
    """
    from . import store
    from .restoration import WAYS, imputation

    _check_device(device)
    net = store.load(name, device or "cpu")
    _print_rows(imputation(net, sequences, length, by or WAYS, seed, out))
    if out is not None:
        print(f"wrote {out}")


def _print_rows(rows) -> None:
    for number, row in enumerate(rows):
        if number == 0:  # after the first row: a mistake in what was asked for prints no table
            print(f"{'way':<34}{'precision':>10}{'recall':>8}{'F1':>7}{'nats':>9}")
        nats = "-" if row.nats is None else f"{row.nats:.4f}"
        shown = f"{row.precision:>10.3f}{row.recall:>8.3f}{row.f1:>7.3f}{nats:>9}"
        print(f"{row.name:<34}{shown}", flush=True)


bench_app = typer.Typer(help="Benchmarks; each prints ratios measured in one run.")
app.add_typer(bench_app, name="bench", no_args_is_help=True)


@bench_app.command("local")
def bench_local(
    steps: Annotated[list[int] | None, typer.Option(help="Sequence lengths T.")] = None,
    batches: Annotated[list[int] | None, typer.Option(help="Batch sizes B.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed steps; the median is shown.")] = 5,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Time and memory of a training step: the local rule, its online form, and BPTT."""
    from . import bench
    from .recipes.recipe import hardware

    print(f"rVAE, 15 neurons, 10 latents, 32 hidden units; {hardware(device)}")
    print(f"{'T':>6}{'B':>4}  {'rule':<34}{'ms':>9}{'MB':>8}{'peak':>8}{'time':>9}{'memory':>9}")
    for case, cost in bench.local(steps or [100, 1000, 10000], batches or [8, 40], repeats, device):
        if case.rule == "BPTT":
            base = cost
        print(
            f"{case.steps:>6}{case.batch:>4}  {case.rule:<34}{cost.seconds * 1e3:>9.1f}"
            f"{cost.megabytes:>8.1f}{cost.peak:>8.0f}{base.seconds / cost.seconds:>8.2f}x"
            f"{base.megabytes / max(cost.megabytes, 0.1):>8.2f}x",
            flush=True,
        )
    print("MB: what a step adds to the memory in use; peak: the whole process, data and libraries;")
    print("time, memory: how many times more BPTT needs for the same batch.")


@bench_app.command("frames")
def bench_frames(
    batches: Annotated[list[int] | None, typer.Option(help="Films of 100 frames a step.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed steps; the median is shown.")] = 5,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Frames a second of training on bouncing balls: CD-25, and the rVAE's local rule and BPTT."""
    from . import bench
    from .recipes.recipe import hardware

    _check_device(device)
    print(f"30x30 pixels, models of the balls table; {hardware(device)}")
    print(f"{'rule':<20}{'films':>6}{'frames/s':>11}")
    for speed in bench.frames(batches or [1, 8], repeats, device):
        print(f"{speed.rule:<20}{speed.batch:>6}{speed.frames:>11.0f}", flush=True)


@bench_app.command("music")
def bench_music(
    sequences: Annotated[int, typer.Option(min=1, help="Sequences B.")] = 20,
    steps: Annotated[int, typer.Option(min=2, help="Frames T.")] = 100,
    units: Annotated[list[int] | None, typer.Option(help="Units of the GRUs.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed steps; the median is shown.")] = 10,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """An ELBO step of a VRAE: one Pyro site for the whole path, against one a time step."""
    from . import bench
    from .recipes.recipe import hardware

    _check_device(device)
    print(f"VRAE, B={sequences}, T={steps}, 32 latents; {hardware(device)}")
    print(f"{'units':>6}{'a site a time step, ms':>25}{'a site a path, ms':>20}{'ratio':>9}")
    for step in bench.music(sequences, steps, units or [32, 64, 200], repeats, device):
        times = f"{step.stepwise:>25.1f}{step.whole:>20.1f}{step.stepwise / step.whole:>8.2f}x"
        print(f"{step.hidden:>6}{times}", flush=True)


def main() -> None:
    """Runs the command line; errors that a user can mend are one sentence."""
    from .recipes.recipe import Interrupted

    try:
        app()
    except (ValueError, FloatingPointError, OSError) as error:
        print(f"seqzoo: {error}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as error:
        print(f"seqzoo: {error}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
