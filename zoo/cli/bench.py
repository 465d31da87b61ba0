"""Benchmarks on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import check_device

Repeats = Annotated[int, typer.Option(min=1, help="Timed steps; the median or the least is shown.")]
Where = Annotated[str, typer.Option(help="cpu or cuda.")]

app = typer.Typer(help="Benchmarks; each prints ratios measured in one run.")


@app.command("local")
def bench_local(
    steps: Annotated[list[int] | None, typer.Option(help="Sequence lengths T.")] = None,
    batches: Annotated[list[int] | None, typer.Option(help="Batch sizes B.")] = None,
    repeats: Repeats = 5,
    device: Where = "cpu",
) -> None:
    """Time and memory of an update: the local rule, its fold alone, its online form, and BPTT."""
    from ..runs.printing import show, table
    from ..runs.run import hardware
    from ..studies import bench

    print(f"rVAE, 15 neurons, 10 latents, 32 hidden units; {hardware(device)}")
    rows, base = [], None
    try:
        for case, cost in bench.local(
            steps or [100, 1000, 10000], batches or [8, 40], repeats, device
        ):
            base = cost if base is None or case.rule == bench.BASE else base
            rows.append(
                (
                    str(case.steps),
                    str(case.batch),
                    case.rule,
                    f"{cost.seconds * 1e3:.1f}",
                    f"{cost.megabytes:.1f}",
                    f"{cost.peak:.0f}",
                    f"{base.seconds / cost.seconds:.2f}x",
                    f"{base.megabytes / max(cost.megabytes, 0.1):.2f}x",
                    "" if cost.fold is None else f"{cost.seconds / cost.fold:.2f}x",
                )
            )
    finally:  # minutes of measurements are not lost where a later case fails
        columns = "T", "B", "rule", "ms", "MB", "peak", "time", "memory", "over fold"
        show(table(columns, rows, words=(2,)))
    print("ms: the least of the repeats; on a CPU, processor time of one thread, warm;")
    print("MB: what a step adds to the memory in use; peak: the whole process, data and libraries;")
    print("time, memory: how many times more BPTT needs for the same batch;")
    print("over fold: the time of an update over that of its fold, the statistics known.")


@app.command("frames")
def bench_frames(
    batches: Annotated[list[int] | None, typer.Option(help="Films of 100 frames a step.")] = None,
    repeats: Repeats = 5,
    device: Where = "cpu",
) -> None:
    """Frames a second of training on bouncing balls: CD-25, and the rVAE's local rule and BPTT."""
    from ..runs.printing import show, table
    from ..runs.run import hardware
    from ..studies import bench

    check_device(device)
    print(f"30x30 pixels, models of the balls table; {hardware(device)}")
    speeds = bench.frames(batches or [1, 8], repeats, device)
    rows = [(speed.rule, str(speed.batch), f"{speed.frames:.0f}") for speed in speeds]
    show(table(("rule", "films", "frames/s"), rows))


@app.command("music")
def bench_music(
    sequences: Annotated[int, typer.Option(min=1, help="Sequences B.")] = 20,
    steps: Annotated[int, typer.Option(min=2, help="Frames T.")] = 100,
    units: Annotated[list[int] | None, typer.Option(help="Units of the GRUs.")] = None,
    repeats: Repeats = 10,
    device: Where = "cpu",
) -> None:
    """An ELBO step of a VRAE: one Pyro site for the whole path, against one a time step."""
    from ..runs.printing import show, table
    from ..runs.run import hardware
    from ..studies import bench

    check_device(device)
    print(f"VRAE, B={sequences}, T={steps}, 32 latents; {hardware(device)}")
    rows = [
        (
            str(step.hidden),
            f"{step.stepwise:.1f}",
            f"{step.whole:.1f}",
            f"{step.stepwise / step.whole:.2f}x",
        )
        for step in bench.music(sequences, steps, units or [32, 64, 200], repeats, device)
    ]
    columns = "units", "a site a time step, ms", "a site a path, ms", "ratio"
    show(table(columns, rows, words=()))


@app.command("target")
def bench_target(
    steps: Annotated[list[int] | None, typer.Option(help="Sequence lengths T.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Sequences B.")] = 20,
    units: Annotated[int, typer.Option(min=2, help="Hidden units.")] = 100,
    num_samples: Annotated[int, typer.Option(min=1, help="Paths M of stochastic units.")] = 20,
    repeats: Repeats = 30,
    device: Where = "cpu",
) -> None:
    """A training step of target propagation, and of BPTT on the same network."""
    from ..runs.printing import show, table
    from ..runs.run import hardware
    from ..studies import bench

    check_device(device)
    print(f"SRN, {units} units, ten classes, B={batch}; {hardware(device)}")
    rows = [
        (
            str(pair.steps),
            pair.units,
            f"{pair.targets:.1f}",
            f"{pair.through_time:.1f}",
            f"{pair.targets / pair.through_time:.2f}x",
        )
        for pair in bench.target(batch, steps or [5, 30], units, num_samples, repeats, device)
    ]
    columns = "T", "units", "target propagation, ms", "BPTT, ms", "ratio"
    show(table(columns, rows, words=(1,)))


@app.command("roofline")
def bench_roofline(
    steps: Annotated[int, typer.Option(min=2, help="Frames T of the population code.")] = 1000,
    repeats: Repeats = 7,
) -> None:
    """An update of each rule over the time of its matrix products alone, on one thread."""
    from ..runs.printing import show, table
    from ..runs.run import hardware
    from ..studies.roofline import roofline

    print(f"processor time of one thread of {hardware('cpu').split(', ')[0]}")
    rows = []
    try:
        for each in roofline(steps, repeats):
            numbers = each.megaflops, 1e3 * each.products, 1e3 * each.seconds
            rows.append(
                (
                    *(each.rule, each.task, *(f"{number:.1f}" for number in numbers)),
                    f"{each.seconds / each.products:.1f}x" if each.products else "",
                )
            )
    finally:
        columns = "rule", "network and data", "Mflop", "products, ms", "update, ms", "ratio"
        show(table(columns, rows, words=(0, 1)))
    print("Mflop: of the matrix products of an update; products: their time at the rate of a large")
    print("product; ratio: how many times longer the update takes.")


@app.command("peers")
def bench_peers(repeats: Repeats = 10) -> None:
    """Kalman filters and EM beside dynamax, and a VRAE's step beside Pyro's deep Markov model."""
    from ..runs.printing import show, table
    from ..runs.run import hardware
    from ..studies.peers import peers

    print(f"processor time, the least of {repeats} turns; {hardware('cpu')}")
    rows = []
    try:
        for task, ours, plain, peer, theirs in peers(repeats):
            ratio = "not installed" if theirs is None else f"{theirs / ours:.2f}x"
            numbers = ("" if each is None else f"{each:.1f}" for each in (ours, plain, theirs))
            ours_ms, plain_ms, theirs_ms = numbers
            rows.append((task, ours_ms, plain_ms, peer, theirs_ms, ratio))
    finally:
        columns = "task", "seqzoo, ms", "in torch, ms", "peer", "peer, ms", "ratio"
        show(table(columns, rows, words=(0, 3)))
    print("in torch: without compiled kernels; ratio: how many times longer the peer takes.")
