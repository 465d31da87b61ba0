"""The work of one job of ``run.py``: ``measure.py NAME DEVICE ...`` prints results as it goes."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROW = "ROW "
POLL = 0.5  # seconds between two looks at the parent


def emit(**row: Any) -> None:
    """Prints a result: numbers with five digits."""
    kept = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in row.items()}
    print(f"\n{ROW}{json.dumps(kept)}", flush=True)  # a line of its own: pytest prints dots


def obey_parent() -> None:
    """Ends this process group when its parent is gone: a run that was killed leaves nothing."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os.killpg(os.getpgid(0), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


class Report:
    """Names failing tests as they fail, and counts the others."""

    def __init__(self) -> None:
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Called by pytest after the set-up, the call and the end of every test."""
        if report.failed:
            why = str(report.longrepr).strip().splitlines()[-1:]
            emit(failed=report.nodeid, why="".join(why)[:300])
        if report.failed or report.when == "call" or report.skipped:
            self.counts[report.outcome] += 1

    def pytest_sessionfinish(self) -> None:
        """Called by pytest at the end."""
        emit(**self.counts)


def tests(device: str, *chosen: str) -> int:
    """The tests that need a GPU; ``chosen`` are arguments of pytest in their place."""
    import pytest

    workers = ["-n", str(max(1, (os.cpu_count() or 2) - 2))]
    options = ["-q", "-p", "no:cacheprovider", "-o", "addopts="]
    options += ["--import-mode=importlib", "--strict-markers"]
    what = list(chosen) if chosen else ["tests", "-m", "gpu", *workers]
    return int(pytest.main([*options, *what], plugins=[Report()]))


def local(device: str, steps: str, batch: str) -> None:
    """``seqzoo bench local``, without the online form."""
    from seqzoo.zoo.studies import bench

    _rules(device, int(steps), int(batch), [rule for rule in bench.RULES if rule != bench.ONLINE])


def online(device: str, steps: str, batch: str) -> None:
    """The online form of the local rule, which makes an update a frame, beside BPTT."""
    from seqzoo.zoo.studies import bench

    _rules(device, int(steps), int(batch), [bench.BASE, bench.ONLINE])


def _rules(device: str, steps: int, batch: int, rules: list[str]) -> None:
    from seqzoo.zoo.studies import bench

    base = None
    repeats = 5 if steps <= 1000 else 2  # seconds each
    for case, cost in bench.local([steps], [batch], repeats, device, rules):
        base = base or cost
        emit(
            **{"T": case.steps, "B": case.batch, "rule": case.rule},
            ms=1e3 * cost.seconds,
            ms_an_update=1e3 * cost.seconds / (steps if case.rule == bench.ONLINE else 1),
            MB=cost.megabytes,
            times_BPTT=base.seconds / cost.seconds,
            over_fold=None if cost.fold is None else cost.seconds / cost.fold,
        )


def music(device: str) -> None:
    """``seqzoo bench music``."""
    from seqzoo.zoo.studies import bench

    for step in bench.music(20, 100, [32, 64, 200], 5, device):
        emit(**step._asdict(), ratio=step.stepwise / step.whole)


def target(device: str) -> None:
    """``seqzoo bench target``."""
    from seqzoo.zoo.studies import bench

    for pair in bench.target(20, [5, 30], 100, 20, 10, device):
        emit(**pair._asdict(), ratio=pair.targets / pair.through_time)


def frames(device: str) -> None:
    """``seqzoo bench frames``."""
    from seqzoo.zoo.studies import bench

    for speed in bench.frames([10, 100], 5, device):
        emit(**speed._asdict())


def synchronisations(device: str) -> None:
    """How often one update of each rule makes the CPU wait for the GPU."""
    from jobs import TRAININGS

    for name in TRAININGS:
        count = waits(name, device)
        if count is not None:
            emit(recipe=name, synchronisations=count)


def waits(name: str, device: str) -> int | None:
    """Synchronisations of an update of a recipe's rule, after one; None of a rule without."""
    import torch
    from seqzoo.data import Loader
    from seqzoo.zoo.recipes import find

    recipe = find(name)
    assert recipe.rule is not None  # these are recipes with a rule and data
    assert recipe.data is not None
    torch.manual_seed(0)
    rule = recipe.rule.build(recipe.model.build().to(device))
    if not recipe.by_gradient:
        return None
    size = recipe.fit.get("batch_size")
    batch = next(iter(Loader(recipe.data.build(seed=0), size).epoch(0))).to(device)
    for count in (False, True):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            if count:
                torch.cuda.set_sync_debug_mode("warn")
            try:
                next(iter(rule.updates(batch)))
            finally:
                torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in seen)


def train(device: str, name: str, epochs: str) -> None:
    """A short training of a recipe, twice: the second time everything is warm."""
    from seqzoo.zoo.recipes import find
    from seqzoo.zoo.runs import run

    recipe = dataclasses.replace(find(name), warmup={}, validate=False)
    if recipe.by_gradient:
        recipe = recipe.override({"fit.epochs": int(epochs)})
    for turn in ("first", "warm"):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            trained = run.train(recipe, 0, Path(folder), device, False, False)
        seconds = time.perf_counter() - start
        last = {k: v for k, v in trained.history[-1].items() if k != "epoch"}
        emit(recipe=name, turn=turn, epochs=len(trained.history), seconds=seconds, **last)


def evaluate(device: str, *names: str) -> None:
    """Scores of trained models on the device, beside those of their cards."""
    from seqzoo.zoo import store
    from seqzoo.zoo.runs.processes import JobFailed, in_processes

    jobs = {name: (score, (name, device)) for name in names or store.shipped()}

    def say(name: str, found: Any) -> None:
        if isinstance(found, JobFailed):
            emit(model=name, failed=str(found))
            return
        card = store.card(name)
        emit(model=name, metric=card["metric"], card=card["value"], found=found)

    in_processes(jobs, max(1, (os.cpu_count() or 2) - 4), say)


def score(name: str, device: str) -> float:
    """The first figure of a trained model."""
    from seqzoo.zoo import store
    from seqzoo.zoo.recipes import find

    return find(name).task.measure(store.load(name, device), 0, "test").figures.tolist()[0]


def film(device: str, name: str, out: str) -> None:
    """A recipe of film at its full budget, which goes on where it was stopped."""
    from seqzoo.zoo.recipes import find
    from seqzoo.zoo.runs import run
    from seqzoo.zoo.store import holds_model

    recipe = find(name).override({"rule.captured": device != "cpu"})
    if holds_model(Path(out)):
        emit(recipe=name, status="finished in an earlier run")
        return
    start = time.perf_counter()
    card = run.run(recipe, 0, Path(out), device, progress=False)
    emit(recipe=name, seconds=time.perf_counter() - start, value=card["value"], **card["also"])


WORK: dict[str, Callable[..., int | None]] = {
    each.__name__: each
    for each in (
        *(tests, local, online, music, target, frames),
        *(synchronisations, train, evaluate, film),
    )
}

if __name__ == "__main__":
    obey_parent()
    sys.exit(WORK[sys.argv[1]](*sys.argv[2:]) or 0)
