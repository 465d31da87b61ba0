"""Benchmarks on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import check_device

Repeats = Annotated[int, typer.Option(min=1, help="Timed steps; the median is shown.")]
Where = Annotated[str, typer.Option(help="cpu or cuda.")]

app = typer.Typer(help="Benchmarks; each prints ratios measured in one run.")


@app.command("local")
def bench_local(
    steps: Annotated[list[int] | None, typer.Option(help="Sequence lengths T.")] = None,
    batches: Annotated[list[int] | None, typer.Option(help="Batch sizes B.")] = None,
    repeats: Repeats = 5,
    device: Where = "cpu",
) -> None:
    """Time and memory of a training step: the local rule, its online form, and BPTT."""
    from ..runs.run import hardware
    from ..studies import bench

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


@app.command("frames")
def bench_frames(
    batches: Annotated[list[int] | None, typer.Option(help="Films of 100 frames a step.")] = None,
    repeats: Repeats = 5,
    device: Where = "cpu",
) -> None:
    """Frames a second of training on bouncing balls: CD-25, and the rVAE's local rule and BPTT."""
    from ..runs.run import hardware
    from ..studies import bench

    check_device(device)
    print(f"30x30 pixels, models of the balls table; {hardware(device)}")
    print(f"{'rule':<20}{'films':>6}{'frames/s':>11}")
    for speed in bench.frames(batches or [1, 8], repeats, device):
        print(f"{speed.rule:<20}{speed.batch:>6}{speed.frames:>11.0f}", flush=True)


@app.command("music")
def bench_music(
    sequences: Annotated[int, typer.Option(min=1, help="Sequences B.")] = 20,
    steps: Annotated[int, typer.Option(min=2, help="Frames T.")] = 100,
    units: Annotated[list[int] | None, typer.Option(help="Units of the GRUs.")] = None,
    repeats: Repeats = 10,
    device: Where = "cpu",
) -> None:
    """An ELBO step of a VRAE: one Pyro site for the whole path, against one a time step."""
    from ..runs.run import hardware
    from ..studies import bench

    check_device(device)
    print(f"VRAE, B={sequences}, T={steps}, 32 latents; {hardware(device)}")
    print(f"{'units':>6}{'a site a time step, ms':>25}{'a site a path, ms':>20}{'ratio':>9}")
    for step in bench.music(sequences, steps, units or [32, 64, 200], repeats, device):
        times = f"{step.stepwise:>25.1f}{step.whole:>20.1f}{step.stepwise / step.whole:>8.2f}x"
        print(f"{step.hidden:>6}{times}", flush=True)


@app.command("target")
def bench_target(
    steps: Annotated[list[int] | None, typer.Option(help="Sequence lengths T.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Sequences B.")] = 20,
    units: Annotated[int, typer.Option(min=2, help="Hidden units.")] = 100,
    samples: Annotated[int, typer.Option(min=1, help="Paths M of stochastic units.")] = 20,
    repeats: Repeats = 30,
    device: Where = "cpu",
) -> None:
    """A training step of target propagation, and of BPTT on the same network."""
    from ..runs.run import hardware
    from ..studies import bench

    check_device(device)
    print(f"SRN, {units} units, ten classes, B={batch}; {hardware(device)}")
    print(f"{'T':>6}  {'units':<24}{'target propagation, ms':>24}{'BPTT, ms':>12}{'ratio':>9}")
    for taught in bench.target(batch, steps or [5, 30], units, samples, repeats, device):
        ratio = taught.targets / taught.through_time
        print(
            f"{taught.steps:>6}  {taught.units:<24}{taught.targets:>24.1f}"
            f"{taught.through_time:>12.1f}{ratio:>8.2f}x",
            flush=True,
        )
