"""Benchmarks: ratios measured in one run, never a lone time."""

from __future__ import annotations

import contextlib
import gc
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from ...data import PPC, Batch, BouncingBalls
from ...inference import (
    BPTT,
    ContrastiveDivergence,
    LearningRule,
    LocalELBO,
    SequenceELBO,
    StraightThrough,
    TargetPropagation,
    sweep,
)
from ...inference.capture import AFTER
from ...inference.contracts import Fold
from ...inference.rules.chunks import FRAMES
from ..models.rvae import RVAE
from ..models.srn import SRN
from ..models.vrae import VRAE
from ..parts.decoders import CausalDecoder
from ..parts.likelihoods import Bernoulli, Categorical, Poisson
from ..parts.path_guides import Increments
from ..recipes import find
from ..runs.processes import JobFailed, in_processes
from .stepwise import StepwiseELBO, StepwiseVRAE
from .timing import least

MEGABYTE = 2**20
WARM_UP = 30.0  # seconds at most, before a job is timed


class Case(NamedTuple):
    """One line of ``seqzoo bench local``: a rule on a batch."""

    rule: str
    batch: int
    steps: int


Result = TypeVar("Result")


class Cost(NamedTuple):
    """Cost of a training step.

    Arguments:
        seconds: least time of some.
        fold: that of its fold alone, the statistics known; None of a rule without a sweep before.
        megabytes: memory that a step adds.
        peak: memory of the whole process at its peak (MB).
    """

    seconds: float
    fold: float | None
    megabytes: float
    peak: float


LOCAL = "LocalELBO"
ONLINE = "LocalELBO online (a step a frame)"
FOLD = "fold"
BASE = "BPTT"  # the rule that the others are compared with
RULES: dict[str, Callable[[RVAE], LearningRule]] = {  # in the order of measurement
    BASE: lambda net: BPTT(net, captured=True),  # as all are after a hundred chunks
    LOCAL: lambda net: LocalELBO(net, captured=True),
    ONLINE: lambda net: LocalELBO(net, window=1, captured=True),
}


def local(
    steps: list[int],
    batches: list[int],
    repeats: int,
    device: str,
    rules: Sequence[str] = tuple(RULES),
) -> Iterator[tuple[Case, Cost]]:
    """Cost of the rules on one rVAE.

    One process times them in turns, so that ratios hold on a busy machine. Then each has a process
    of its own, for its peak of memory. The memory of a GPU needs none: torch counts it.
    """
    call = _alone if device == "cpu" else _called
    for length in steps:
        for batch in batches:
            times = call(_times, length, batch, repeats, device, rules)
            for case in (Case(rule, batch, length) for rule in rules):
                yield case, Cost(*times[case.rule], *call(_memory, case, device))


def _called(function: Callable[..., Result], *arguments: object) -> Result:
    """The result of a function in this process."""
    return function(*arguments)


def _alone(function: Callable[..., Result], *arguments: object) -> Result:
    """The result of a function in a new process."""
    found = in_processes({"": (function, arguments)}, 1)[""]
    if isinstance(found, JobFailed):
        raise found
    return found


class Speed(NamedTuple):
    """Frames a second, of a step that trains on some film."""

    rule: str
    batch: int
    frames: float


def frames(batches: list[int], repeats: int, device: str) -> Iterator[Speed]:
    """Times training on bouncing balls, 100 frames a film, by the models of that table.

    CD-25 of the rEFH with 400 hidden units, and of the TRBM, which holds u still; the convolutional
    rVAE by its local rule, and by BPTT.
    """
    refh, trbm, rvae = (find(f"balls/{name}").model for name in ("refh", "trbm", "rvae"))
    rules = {
        "CD-25, rEFH": (refh, lambda net: ContrastiveDivergence(net, k=25)),
        "CD-25, TRBM": (trbm, lambda net: ContrastiveDivergence(net, k=25)),
        "LocalELBO, rVAE": (rvae, LocalELBO),
        "BPTT, rVAE": (rvae, BPTT),
    }
    for batch in batches:
        data = BouncingBalls(batch, 100, rendering="squared").batch().to(device)
        for name, (model, make) in rules.items():
            torch.manual_seed(0)
            rule = make(model.build().to(device))
            _step(rule, data)  # warm-up
            seconds = _time(partial(_step, rule, data), repeats, device)
            yield Speed(name, batch, batch * 100 / seconds)


class Step(NamedTuple):
    """Least milliseconds of a training step of a VRAE, of several.

    Arguments:
        hidden: units of the GRUs.
        stepwise: with a Pyro site a time step.
        whole: with one site for the whole path.
    """

    hidden: int
    stepwise: float
    whole: float


def music(
    sequences: int, steps: int, sizes: list[int], repeats: int, device: str
) -> Iterator[Step]:
    """Times an ELBO step of VRAEs: with a Pyro site a time step, and with one for the whole path.

    88 keys, 32 latents, an ``Increments`` guide, GRUs of each of the ``sizes``. The two take turns.
    Those of the former are torch's own layers and cells.
    """
    obs = (torch.rand(sequences, steps, 88, device=device) < 0.05).float()
    for size in sizes:
        torch.manual_seed(0)
        guide = Increments(features_dim=size, dim=32)
        decoder = CausalDecoder(32, 88, hidden=size, width=size, drift=False)
        parts = {"hidden": size, "guide": guide, "decoder": decoder}
        net = VRAE(88, 32, Bernoulli(88), **parts).to(device)
        rules = {"stepwise": StepwiseELBO(StepwiseVRAE(net)), "whole": SequenceELBO(net)}
        jobs = {name: partial(_step, rule, Batch(obs)) for name, rule in rules.items()}
        for work in jobs.values():
            work()  # warm-up
        found = least(jobs, repeats, partial(_time, repeats=1, device=device))
        yield Step(size, **{name: 1e3 * seconds for name, seconds in found.items()})


class Taught(NamedTuple):
    """Least milliseconds of a training step of one network, by each of two rules."""

    units: str
    steps: int
    targets: float
    through_time: float


def target(
    batch: int, steps: list[int], hidden: int, num_samples: int, repeats: int, device: str
) -> Iterator[Taught]:
    """Times target propagation beside backpropagation through time, on the same networks.

    One number a step, ten classes; half of the units stochastic with ``num_samples`` paths, or
    none of them. The rules take turns, their sweeps recorded as after a hundred updates.
    """
    half = 0.5, f"half stochastic, M={num_samples}"
    for length in steps:
        asked = torch.randint(10, (batch,), device=device)
        data = Batch(torch.rand(batch, length, 1, device=device), target=asked)
        for fraction, units in (half, (0.0, "deterministic")):
            jobs = {}
            for rule in (TargetPropagation, StraightThrough):
                torch.manual_seed(0)
                net = SRN(1, Categorical(10), hidden, stochastic=fraction).to(device)
                taught = rule(net, num_samples=num_samples, captured=True)
                jobs[rule.__name__] = partial(_step, taught, data)
                for _ in range(5):
                    _step(taught, data)  # warm-up
            found = least(jobs, repeats, partial(_time, repeats=1, device=device))
            yield Taught(units, length, *(1e3 * seconds for seconds in found.values()))


def _times(
    length: int, batch: int, repeats: int, device: str, names: Sequence[str] = tuple(RULES)
) -> dict[str, tuple[float, float | None]]:
    """Least seconds of an update and of its fold alone, by rule; the rules take turns.

    On a CPU they are of processor time, on one thread. The online form makes an update a frame, and
    all of them are timed once.
    """
    if device == "cpu":
        torch.set_num_threads(1)
    data = PPC(batch, length, seed=0).batch().to(device)
    rules = {name: _rule(name, data, device) for name in (LOCAL, *names)}
    local = rules[LOCAL]
    assert isinstance(local, LocalELBO)
    with torch.no_grad():
        fold = Fold.of(data, sweep(local.net, data, local.net.initial(batch)).statistics[:, :-1])
    jobs: dict[str, Callable[[], object]] = {FOLD: partial(local._backward, fold)}
    jobs |= {name: partial(_step, rule, data) for name, rule in rules.items()}
    online = {name: jobs.pop(name) for name in names if name == ONLINE}
    for work in jobs.values():
        _warm(work, device)
    clock = partial(_time, repeats=1, device=device)
    found = least(jobs, repeats, clock) | least(online, 1, clock)
    return {name: (found[name], found[FOLD] if name == LOCAL else None) for name in names}


def _memory(case: Case, device: str) -> tuple[float, float]:
    """Memory that an update adds, and that of the process at its peak (MB)."""
    data = PPC(case.batch, case.steps, seed=0).batch().to(device)
    rule = _rule(case.rule, data, device)
    gc.collect()
    before = _start_peak(device)
    _step(rule, data)
    peak = _peak(device)
    return peak - before, peak


def _rule(name: str, data: Batch, device: str) -> LearningRule:
    """A rule on a network of its own, warm: imports, kernels, allocator and recordings."""
    torch.manual_seed(0)
    rule = RULES[name](RVAE(15, 10, Poisson(15), hidden=32).to(device))
    short = name == ONLINE or device == "cpu"  # more would hide the memory that an update adds
    some = 20 if short else 2 * max(FRAMES) // len(data)  # a whole chunk of its fold
    _step(rule, data.window(0, max(20, some)))
    return rule


def _warm(work: Callable[[], object], device: str) -> None:
    """Does some work until it is as fast as in training: gradients are recorded after some.

    On a GPU the first call of a rule that is asked to records.
    """
    end = time.perf_counter() + WARM_UP
    for _ in range(AFTER + 1 if device == "cpu" else 2):
        work()
        if time.perf_counter() > end:
            break


def _time(work: Callable[[], object], repeats: int, device: str) -> float:
    """Median seconds of some work: of processor time, where one thread does all of it."""
    alone = device == "cpu" and torch.get_num_threads() == 1
    clock, times = time.process_time if alone else time.perf_counter, []
    for _ in range(repeats):
        start = clock()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return statistics.median(times)


def _step(rule: LearningRule, data: Batch) -> None:
    """All gradients of a batch; the online form makes one a frame."""
    for _ in rule.updates(data):
        pass


def _start_peak(device: str) -> float:
    """Begins a new peak; returns the memory in use (MB)."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / MEGABYTE
    with contextlib.suppress(OSError):  # Linux alone can forget an old peak
        Path("/proc/self/clear_refs").write_text("5")
    return _peak(device)


def _peak(device: str) -> float:
    """The largest memory in use since the peak began (MB)."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / MEGABYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
