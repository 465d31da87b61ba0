"""How much longer an update takes than its matrix products alone would, for each rule.

The products of an update are counted as torch calls them, and divided by the rate at which this
machine multiplies large matrices of the same precision: the least time that they can take. The rest
is elementwise arithmetic, random numbers, memory, and the calls themselves.

Source: Williams et al., "Roofline: an insightful visual performance model for multicore
architectures" (2009).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

from ...data import PPC, Batch
from ...inference import (
    BPTT,
    ContrastiveDivergence,
    LocalELBO,
    OutputBPTT,
    SequenceELBO,
    StraightThrough,
    TargetPropagation,
    kernels,
)
from ...inference.linear.kalman import kalman_smoother
from ...inference.linear.system import LinearGaussian, Readings
from ..models.lgds import LGDS
from ..models.refh import REFH
from ..models.rvae import RVAE
from ..models.srn import SRN
from ..models.vrae import VRAE
from ..parts.likelihoods import Bernoulli, Categorical, Poisson
from .timing import least

LARGE = 1024  # rows of the matrices that give the peak: larger ones are no faster on one core


class Distance(NamedTuple):
    """An update beside its matrix products.

    Arguments:
        rule: the rule.
        task: the network and the data.
        megaflops: of the matrix products of an update; a multiplication and an addition are two.
        seconds: processor time of an update, the least of several.
        products: what its products would take at the peak of this machine.
    """

    rule: str
    task: str
    megaflops: float
    seconds: float
    products: float


class Update(NamedTuple):
    """An update of a rule.

    Arguments:
        rule: the rule.
        task: the network and the data.
        step: the update as it is timed.
        plain: the same update without a recording, whose products are counted.
        dtype: precision of its products.
    """

    rule: str
    task: str
    step: Callable[[], object]
    plain: Callable[[], object]
    dtype: torch.dtype = torch.float32


def roofline(steps: int, repeats: int) -> Iterator[Distance]:
    """Measures an update of each rule, on one thread of the CPU, in processor time.

    Arguments:
        steps: frames T of the population code; the other tasks are as long as those of their
            tables.
        repeats: how often the update and the large product take turns.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for update in updates(steps):
            matrix = torch.randn(LARGE, LARGE, dtype=update.dtype)
            product = partial(torch.mm, matrix, matrix)
            number = flops(update.plain)
            product()
            update.step()  # compiles, or records
            found = least({"update": update.step, "product": product}, repeats)
            yield Distance(
                *(update.rule, update.task, number / 1e6, found["update"]),
                products=number * found["product"] / (2 * LARGE**3),
            )
    finally:
        torch.set_num_threads(threads)


def updates(steps: int) -> Iterator[Update]:
    """An update of each rule, on a network of the size of its table."""
    codes = PPC(40, steps, seed=0).batch()
    words = f"rVAE, 32 hidden units, 40 x {steps}"
    torch.manual_seed(0)
    net = RVAE(15, 10, Poisson(15), hidden=32)
    for kind in (LocalELBO, BPTT):  # recorded, as all are after a hundred chunks
        step, plain = (partial(kind(net, captured=each).gradients, codes) for each in (True, False))
        yield Update(kind.__name__, words, step, plain)
    harmonium = REFH(15, 50, Poisson(15))
    step, plain = (
        partial(ContrastiveDivergence(harmonium, k=1, captured=each).gradients, codes)
        for each in (True, False)
    )
    words = f"rEFH, 50 hidden units, CD-1, 40 x {steps}"
    yield Update("ContrastiveDivergence", words, step, plain)
    keys = Batch((torch.rand(20, 100, 88) < 0.05).float())
    step = partial(SequenceELBO(VRAE(88, 32, Bernoulli(88), hidden=200)).gradients, keys)
    yield Update("SequenceELBO", "VRAE, 200 units, 20 x 100", step, step)
    asked = Batch(torch.rand(20, 30, 1), target=torch.randint(10, (20,)))
    for fraction, units in ((0.5, "half of them stochastic, M=20"), (0.0, "deterministic")):
        words = f"SRN, 100 units, {units}, 20 x 30"
        answers = SRN(1, Categorical(10), 100, stochastic=fraction)
        given: dict[str, Any] = {"num_samples": 20} if fraction else {}
        for kind in (TargetPropagation, StraightThrough if fraction else OutputBPTT):
            step, plain = (
                partial(kind(answers, captured=each, **given).gradients, asked)
                for each in (True, False)
            )
            yield Update(kind.__name__, words, step, plain)
    system = LGDS(4, 15)
    readings = Readings(*system.measure(codes), codes.mask)
    step = partial(_iterate, system, system.guess(readings, 1), readings)
    words = f"LGDS, 4 states, 15 channels, 40 x {steps}"
    yield Update("EM", words, step, step, torch.float64)


@torch.no_grad()
def _iterate(net: LGDS, model: LinearGaussian, data: Readings) -> LinearGaussian:
    """One iteration of EM."""
    beliefs = kalman_smoother(model, data.value, data.variance, data.mask)
    return net.m_step(model, beliefs, data)


def flops(step: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions of a step.

    Loops that numba compiles are counted as the loops in torch that they stand for.
    """
    in_place: dict[Any, Any] = {torch.ops.aten.addmm_: _product}  # which torch does not count
    counter = FlopCounterMode(display=False, custom_mapping=in_place)
    with mock.patch.object(kernels, "load", return_value=None), counter:  # as without numba
        step()
    return counter.get_total_flops()


def _product(total: torch.Size, left: torch.Size, right: torch.Size, **others: Any) -> int:
    """Operations of ``total += left @ right``, given the shapes."""
    return 2 * left[0] * left[1] * right[1]
