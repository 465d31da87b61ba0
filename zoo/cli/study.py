"""Studies on the command line: one question asked of trained models or of rules each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    Device,
    Frames,
    Jobs,
    Modules,
    Name,
    NumChains,
    NumWarmup,
    Seed,
    Set,
    Steps,
    Trained,
    check_device,
    check_recipe,
    check_table,
    check_trained,
)

if TYPE_CHECKING:
    from ..studies.restoration import Row

Horizons = Annotated[list[int] | None, typer.Option("--steps", min=1, help="Horizons T.")]
Picture = Annotated[Path, typer.Option(help="A picture: .png, .pdf or .svg.")]
Quick = Annotated[bool, typer.Option(help="Small budgets: minutes, and worse figures.")]
Sequences = Annotated[int, typer.Option(min=1, help="Test sequences.")]

app = typer.Typer(help="Studies of trained models and of rules; alone, it lists them.")


@app.callback(invoke_without_command=True)
def study(context: typer.Context) -> None:
    """Lists the studies where none is named."""
    from ..runs.printing import show, table

    if context.invoked_subcommand is None:
        commands = typer.main.get_group(app).commands
        lines = [(name, (command.help or "").splitlines()[0]) for name, command in commands.items()]
        show(table(("study", "what it shows"), lines, words=(0, 1)))


@app.command()
def chains(
    names: Annotated[
        list[str],
        typer.Argument(
            callback=lambda names: [check_trained(name) for name in names],
            help="Harmoniums or rVAEs, such as balls/refh.",
        ),
    ],
    frames: Frames = 50,
    num_chains: NumChains = 8,
    steps: Steps = 100,
    num_warmup: NumWarmup = 25,
    seed: Seed = 0,
    modules: Modules = None,
) -> None:
    """R-hat of clamped Gibbs chains of the next frame, from random starts.

    Each frame counts with the worst of eight random directions; R-hat is ArviZ's (rank-normalised,
    split). Above 1.1, chains have not converged. The last row is the result of independent samples
    of the same number. Chains of an rVAE or TVAE sample the model only where its guide is the
    posterior.
    """
    from ..runs.printing import show, table
    from ..studies.chains import Chains, compare

    found = compare(names, Chains(frames, num_chains, num_warmup, steps), seed)
    total = num_chains * steps
    print(
        f"{num_chains} chains from random starts, {num_warmup} steps, then {steps}; "
        f"{frames} test frames"
    )
    rows = [
        (
            name,
            f"{agreement.rhat.median():.2f}",
            f"{agreement.rhat.quantile(0.9):.2f}",
            f"{agreement.apart:.0%}",
            f"{agreement.ess.median():.0f}",
        )
        for name, agreement in found.items()
    ]
    show(table(("model", "R-hat", "9 in 10 below", "above 1.1", f"ESS of {total}"), rows))


@app.command()
def motion(
    name: Annotated[
        str,
        typer.Argument(
            metavar="TABLE", callback=check_table, help="A table of film: balls or mnist."
        ),
    ],
    films: Annotated[int, typer.Option(min=1, help="Films of each kind.")] = 50,
    frames: Annotated[int, typer.Option(min=5, help="Frames of a film.")] = 100,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="A .png or .gif of the first film of each row, in order.")
    ] = None,
    modules: Modules = None,
) -> None:
    """How objects move in the film that trained models generate, beside real film.

    Film is made from nothing and after ten real frames. found: objects a frame; kept: frames until
    a film first lacks an object, median; apart: fraction of frames without overlap; speed: per
    frame, and its variation within a flight; turn: degrees a frame in free flight; order 2: error
    of predicting by constant velocity over that of predicting no motion (0: constant velocity, 2: a
    random walk); mirrored: fraction of wall contacts that reflect.
    """
    from ..pictures import FILM, check_file
    from ..runs.printing import show, table
    from ..studies import motion as study

    if out is not None:
        check_file(out, FILM)
    rows = [
        (
            title,
            f"{seen.found:.2f}",
            f"{kept:g}",
            f"{seen.apart:.2f}",
            f"{seen.speed:.2f}",
            f"{seen.variation:.2f}",
            f"{seen.turn:.1f}",
            f"{seen.second_order:.3f}",
            f"{seen.mirrored:.2f}",
            str(seen.contacts),
        )
        for title, (seen, kept) in study.motion(name, films, frames, seed, out).items()
    ]
    columns = "found", "kept", "apart", "speed", "varies", "turn", "order 2", "mirrored", "contacts"
    show(table(("film", *columns), rows))


@app.command()
def kl(
    name: Annotated[
        str,
        typer.Argument(
            callback=check_trained,
            help="A model with a diagonal guide: jsb/vrae-published, or a run of such a row.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="A .png of the result.")] = None,
) -> None:
    """The exact KL term of a trained model beside the published one, which is no bound.

    In nats per frame on test data. No diagonal guide under a Wiener prior costs less than
    ln(2)/2 = 0.347 nats a step and dimension. The published objective leaves out the information
    that neighbouring increments carry about one another. Training can exploit this: precise and
    vague steps take turns, and the correlation of their spreads s goes to -1.
    """
    from ..pictures import PICTURES, check_file
    from ..runs.printing import show, table
    from ..studies.kl import FLOOR, measure_kl, plot_kl

    if out is not None:
        check_file(out, PICTURES)
    found = measure_kl(name)
    values = (
        ("exact KL", found.exact),
        ("marginal increments (no bound)", found.marginal),
        ("difference", found.exact - found.marginal),
        ("information that increments share", found.shared),
        (f"floor of the exact KL, {found.dims} dimensions", FLOOR * found.dims),
    )
    rows = [(title, f"{value:.3f}", f"{value / found.dims:.4f}") for title, value in values]
    show(table(("term", "nats per frame", "a dimension"), rows))
    print(f"correlation of ln s with that of the step before: {found.turning:.2f}")
    if out is not None:
        plot_kl(found, out)
        print(f"wrote {out}")


@app.command()
def refit(
    name: Annotated[
        str, typer.Argument(callback=check_trained, help="A VRAE of music: jsb/vrae-published.")
    ],
    updates: Annotated[int, typer.Option(min=1, help="Updates of each guide.")] = 600,
    seed: Seed = 0,
) -> None:
    """How much of a loose bound is the guide's: other guides for the same decoder.

    The decoder and the prior are kept. Each guide is trained on the exact ELBO. The bound is in
    nats per frame on test data.
    """
    from ..runs.printing import show, table
    from ..studies.refit import refit_guide

    found = refit_guide(name, updates, seed)
    rows = [(row.guide, str(row.updates), f"{row.bound:.2f}") for row in found]
    show(table(("guide", "updates", "ELBO, nats per frame"), rows))


@app.command()
def particles(
    names: Annotated[
        list[str],
        typer.Argument(
            callback=lambda names: [check_trained(name) for name in names],
            help="VRAEs or VOSPs of music, such as jsb/vrae.",
        ),
    ],
    numbers: Annotated[
        list[int] | None,
        typer.Option("--number", min=1, help="Particles or samples; 100 to 3000 if unset."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    device: Device = None,
) -> None:
    """How far the bounds of models of music fall with the number of particles or samples.

    Each bound is the tightest of its model, on the whole test data, in nats per frame. A bound that
    no longer falls is close to the negative log-likelihood.
    """
    from ..runs.printing import show, table
    from ..studies.particles import NUMBERS, curve

    check_device(device)
    curves = {name: curve(name, numbers or NUMBERS, seed, device) for name in names}
    for name, points in curves.items():
        rows = [(figure, f"{value:.3f}") for figure, value in points]
        show(table((name, "nats per frame"), rows))


@app.command("denoise")
def denoise_music(
    name: Trained,
    rate: Annotated[float, typer.Option(help="Probability that a silent key is turned on.")] = 0.05,
    sequences: Sequences = 10,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="A picture of two sequences: .png, .pdf, .svg or .npz.")
    ] = None,
    device: Device = None,
    modules: Modules = None,
) -> None:
    """How well a VRAE or VOSP takes wrong notes out of test music, beside plain filters.

    Precision, recall and F1 of notes, all keys and frames together.
    """
    from .. import store
    from ..studies.restoration import denoising

    check_device(device)
    net = store.load(name, device or "cpu")
    _show_restored(denoising(net, sequences, rate, seed, out))
    if out is not None:
        print(f"wrote {out}")


@app.command("impute")
def impute_music(
    name: Trained,
    length: Annotated[int, typer.Option(min=1, help="Consecutive frames to hide.")] = 8,
    sequences: Sequences = 10,
    method: Annotated[
        list[str] | None,
        typer.Option(help="mode, gibbs or resample; all if unset. May be given several times."),
    ] = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="A picture of one sequence: .png, .pdf, .svg or .npz.")
    ] = None,
    device: Device = None,
    modules: Modules = None,
) -> None:
    """How well a VRAE or VOSP fills in hidden frames of test music, beside plain rules.

    Precision, recall and F1 of hidden notes, and nats per hidden key and frame.
    """
    from .. import store
    from ..studies.restoration import METHODS, imputation

    check_device(device)
    net = store.load(name, device or "cpu")
    _show_restored(imputation(net, sequences, length, method or METHODS, seed, out))
    if out is not None:
        print(f"wrote {out}")


def _show_restored(found: Iterable[Row]) -> None:
    from ..runs.printing import show, table

    rows = [
        (
            row.name,
            f"{row.precision:.3f}",
            f"{row.recall:.3f}",
            f"{row.f1:.3f}",
            "-" if row.nats is None else f"{row.nats:.4f}",
        )
        for row in found
    ]
    show(table(("method", "precision", "recall", "F1", "nats"), rows))


@app.command()
def horizon(
    out: Picture,
    kind: Annotated[
        list[str] | None, typer.Option(help="class or regression; both if unset.")
    ] = None,
    horizons: Horizons = None,
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds, 0 to N-1.")] = 3,
    quick: Quick = False,
    runs: Annotated[Path, typer.Option(file_okay=False, help="Folder of the runs.")] = Path("runs"),
    jobs: Jobs = 2,
) -> None:
    """Held-out NLL of target propagation and of BPTT as the horizon grows.

    Trains both rules on one-to-many tasks at every horizon, and the control at the first and the
    last. Finished runs are kept. Rows that ship with the same settings and seeds are not trained.
    """
    from ..pictures import PICTURES, check_file
    from ..runs.printing import show, table
    from ..studies import horizon as study

    check_file(out, PICTURES)
    kinds, lengths = kind or list(study.one_to_many.STEPS), horizons or list(study.STEPS)
    points = study.curves(
        kinds, lengths, seeds, runs / "quick" if quick else runs, jobs, quick, print
    )
    rows = [
        (
            point.kind,
            point.title,
            str(point.steps),
            f"{point.value:.3f}",
            "-" if point.sd is None else f"{point.sd:.3f}",
            str(point.n),
        )
        for point in points
    ]
    show(table(("task", "rule", "T", "NLL", "sd", "n"), rows, words=(0, 1)))
    study.plot_curves(points, out)
    print(f"wrote {out}")


@app.command()
def settings(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the trials.")],
    rule: Annotated[list[str] | None, typer.Option(help="bptt or tptt; both if unset.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A setting; all if unset.")] = None,
    horizons: Horizons = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Training seed; 1000 if unset.")
    ] = None,
) -> None:
    """Validation NLL of starts and rates of target propagation and of BPTT, by the horizon.

    The best of each are the settings of the rows for numbers and of the horizon study. Trials in
    the folder are kept. Of several seeds the mean is shown; seeds 0 to 2 are those of the rows.
    """
    import statistics

    import torch

    from ..runs.printing import show, table
    from ..runs.search import SEED
    from ..studies import horizon
    from ..studies.settings import MAKERS, choose

    torch.set_num_threads(1)
    rows = []
    for steps in horizons or horizon.STEPS:
        for each in rule or list(MAKERS):
            tried = [choose(each, steps, out, only, seed, print) for seed in seeds or [SEED]]
            mean = {name: statistics.fmean(found[name] for found in tried) for name in tried[0]}
            best = min(mean, key=lambda name: mean[name])
            rows.append((each, str(steps), best, f"{mean[best]:.4f}"))
    show(table(("rule", "T", "best setting", "validation NLL"), rows, words=(0, 2)))


@app.command()
def vary(
    name: Name,
    field: Annotated[
        str,
        typer.Argument(
            metavar="FIELD=[VALUE,...]",
            help="A field of the recipe and its values: rule.noise=[0,0.1,1].",
        ),
    ],
    how: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=[VALUE,...]",
            help="Score every network in several ways: --how num_samples=[1,20].",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds, 0 to N-1.")] = 3,
    quick: Quick = False,
    runs: Annotated[Path, typer.Option(file_okay=False, help="Folder of the runs.")] = Path("runs"),
    jobs: Jobs = 2,
    device: Device = None,
    overrides: Set = None,
    modules: Modules = None,
) -> None:
    """Test figure of a recipe as one field changes, mean and sd over seeds.

    Finished runs are kept. The validation figure stands beside it, for who chooses a setting.
    """
    from ..recipes import find, parse_overrides
    from ..runs.finished import place
    from ..runs.printing import show, table
    from ..studies.variation import vary as study

    check_device(device)
    changes = parse_overrides(overrides or [])
    recipe = find(name)
    recipe = (recipe.quickened() if quick else recipe).override(changes)
    ((path, values),) = parse_overrides([field]).items()
    ways = parse_overrides([how] if how else [])
    for key, each in {path: values, **ways}.items():
        if not isinstance(each, list):
            raise ValueError(f"give the values of {key} in brackets: {key}=[{each}]")
    folder = place(runs, quick, changes)
    found = study(recipe, path, values, seeds, folder, jobs, device, ways, print)
    columns = list(found[0].changes)
    rows = []
    for one in found:
        mean, sd = one.spread
        seen = [value for value in one.validation if value is not None]
        validation = f"{sum(seen) / len(seen):.4g}" if seen else "-"
        figures = f"{mean:.4g}", "-" if sd is None else f"{sd:.2g}", str(len(one.values))
        rows.append((*(str(one.changes[key]) for key in columns), *figures, validation))
    print(f"{name}: {recipe.task.metric}, {recipe.task.unit or 'no unit'}, on test data")
    show(table((*columns, "mean", "sd", "n", "validation"), rows))


@app.command()
def curves(
    names: Annotated[
        list[str],
        typer.Argument(
            callback=lambda names: [check_recipe(name) for name in names],
            help="Recipes of one table, TABLE/ROW.",
        ),
    ],
    every: Annotated[int, typer.Option(min=1, help="Epochs between scores.")] = 1,
    how: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE",
            help="Change how they are scored, as evaluate does: --how method=mean. May be given "
            "several times.",
        ),
    ] = None,
    seed: Seed = 0,
    runs: Annotated[Path, typer.Option(file_okay=False, help="Folder of the runs.")] = Path("runs"),
    device: Device = None,
    overrides: Set = None,
    modules: Modules = None,
) -> None:
    """Validation figure of recipes over training, a column each.

    Runs that were stopped go on, and finished ones are kept.
    """
    import torch

    from ..recipes import find, parse_overrides
    from ..runs.finished import place
    from ..runs.printing import show, table
    from ..studies.curves import curve

    check_device(device)
    torch.set_num_threads(1)
    changes, protocol = parse_overrides(overrides or []), parse_overrides(how or [])
    recipes = [find(name).override(changes) for name in names]
    if len({recipe.task.metric for recipe in recipes}) > 1:
        raise ValueError("the recipes are scored in different ways: name recipes of one table")
    folder = place(runs / "curves", False, {**changes, **protocol, "every": every})
    found = [
        curve(recipe, every, folder / recipe.name / f"seed{seed}", seed, device, protocol)
        for recipe in recipes
    ]
    epochs = sorted(set().union(*found))
    rows = [
        (str(epoch), *(f"{one[epoch]:.4g}" if epoch in one else "-" for one in found))
        for epoch in epochs
    ]
    task = recipes[0].task
    print(f"{task.metric}, {task.unit or 'no unit'}, on validation data (seed {seed})")
    show(table(("epoch", *names), rows))


@app.command()
def alignment(
    out: Picture,
    kind: Annotated[str, typer.Option(help="class or regression.")] = "regression",
    horizons: Horizons = None,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = None,
) -> None:
    """Cosine of the gradients of target propagation and of BPTT, over training and the horizon.

    Trains on one-to-many tasks by target propagation, as published and as our rows are set.
    """
    from ..pictures import PICTURES, check_file
    from ..runs.printing import show, table
    from ..studies import horizon as study

    check_file(out, PICTURES)
    check_device(device)
    found = study.alignments(kind, horizons or [5, 30], seed, quick, device or "cpu")
    rows = [
        (one.recipe.name, f"{one.gradients[0]:.2f}", f"{one.gradients[-1]:.2f}") for one in found
    ]
    show(table(("recipe", "cosine of W_hh, untrained", "trained"), rows))
    study.plot_alignments(found, out)
    print(f"wrote {out}")
