"""Commands that look into trained models."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from .options import Device, Seed, check_device

app = typer.Typer()


Frames = Annotated[int, typer.Option(min=1, help="Frames whose chains are followed.")]
Chained = Annotated[int, typer.Option(min=2, help="Chains a frame.")]
Kept = Annotated[int, typer.Option(min=50, help="Gibbs steps kept of every chain.")]
Burn = Annotated[int, typer.Option(min=0, help="Gibbs steps before those.")]


@app.command()
def diagnose(
    name: Annotated[str, typer.Argument(help="A trained model: ppc/rvae, or a folder of a run.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write; reports/NAME if unset. An earlier report in it goes."),
    ] = None,
    sequences: Annotated[int, typer.Option(min=1, help="Test sequences.")] = 20,
    draws: Annotated[int, typer.Option(min=25, help="Draws of the guide.")] = 500,
    training: Annotated[
        bool,
        typer.Option(
            "--training/--no-training",
            help="Train a fresh network to compare two rules' gradients on the way.",
        ),
    ] = True,
    frames: Frames = 50,
    chains: Chained = 8,
    steps: Kept = 100,
    burn: Burn = 25,
    seed: Seed = 0,
) -> None:
    """Can a trained model be trusted? A report with figures, of whatever applies to it.

    k-hat of its guide, bounds, calibration of predictions and answers, simulation-based
    calibration, agreement of Gibbs chains, alignment of targets, and draws for ArviZ
    (posterior.nc). Where its rule has a counterpart through time, a network is trained for about
    half a minute to compare the gradients of both.
    """
    from ..report import report
    from ..studies.chains import Chains

    out = out or Path("reports", *Path(name).parts[-2:])
    followed = Chains(frames, chains, burn, steps)
    found = report(name, out, sequences, draws, seed, followed, training)
    for section in found.sections:
        print(f"{section.title:<40}{section.verdict}")
    for title, _ in found.left_out:
        print(f"{title:<40}left out, see the report")
    print(f"wrote {', '.join(path.name for path in found.files)} to {out}")


@app.command()
def chains(
    names: Annotated[list[str], typer.Argument(help="Harmoniums or rVAEs, such as balls/refh.")],
    frames: Frames = 50,
    chains: Chained = 8,
    steps: Kept = 100,
    burn: Burn = 25,
    seed: Seed = 0,
) -> None:
    """R-hat of clamped Gibbs sampling: do chains of the next frame, from random starts, agree?

    Each frame counts with the worst of eight random directions; R-hat is ArviZ's (rank-normalised,
    split). Above 1.1, chains have not converged. The last row is what independent draws of these
    sizes would give. Chains of an rVAE or TVAE that agree are draws of the model only where its
    guide is the posterior.
    """
    from ..studies.chains import Chains, compare, null

    how = Chains(frames, chains, burn, steps)
    agreements = compare(names, how, seed)
    total = chains * steps
    print(f"{chains} chains from random starts, {burn} steps, then {steps}; {frames} test frames")
    print(f"{'model':<20}{'R-hat':>8}{'9 in 10 below':>16}{'above 1.1':>12}{f'ESS of {total}':>13}")
    for name, found in chain(agreements, [("independent draws", null(how, seed))]):
        print(
            f"{name:<20}{found.rhat.median():>8.2f}{found.rhat.quantile(0.9):>16.2f}"
            f"{found.apart:>11.0%} {found.ess.median():>12.0f}",
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
    from ..studies.motion import motion as moving

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
    from ..studies.kl import FLOOR, draw, measure

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
    from .. import store
    from ..studies.restoration import denoising

    check_device(device)
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
    from .. import store
    from ..studies.restoration import WAYS, imputation

    check_device(device)
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
