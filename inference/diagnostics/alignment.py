"""Comparing learning rules and checking what they learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ...data import Batch, BatchLike, as_batch
from ..checks import check_seed
from ..placing import batch_for
from ..rng import RandomStream
from ..rules.rule import LearningRule
from ..rules.target import TargetPropagation
from ..unrolling import answering, in_paths, loss_of, unroll


def alignment(
    rule_a: LearningRule, rule_b: LearningRule, batch: BatchLike, seed: int = 0
) -> dict[str, float]:
    """Cosine between two rules' gradients, parameter by parameter, on one network and batch.

    The gradient of a rule on a batch is the average over all its updates (the windows of truncated
    backpropagation through time, or the minibatches of a fold), weighted by their frames, with the
    parameters held fixed. The network's ``.grad`` is left empty.

    Both rules use the same random numbers. Two rules with equal gradients therefore give 1 if they
    sample in the same order. The chunks of a fold, windows and minibatches each sample noise of
    their own. Equal gradients may then give 0.99, or far less for a small batch or a trained
    network, whose gradient is mostly noise; more ``num_samples`` reduce it. So cut both rules in
    the same way: compare ``LocalELBO(net, window=1)`` with ``BPTT(net, window=1)``, and a whole
    ``BPTT(net)`` with a ``LocalELBO`` whose ``chunk`` is as large as the batch.

    Arguments:
        rule_a, rule_b: two rules on the same network.
        batch: the sequences: a ``Batch``, or anything that ``data.as_batch`` takes.
        seed: seed of a private random stream; the caller's random state is left alone.

    Returns:
        The cosine by parameter name, and under ``"all"`` that of all parameters which both rules
        train, joined; NaN where either gradient is zero or missing.

    Raises:
        ValueError: when either is not a ``LearningRule``, or the two hold different networks.
    """
    check_seed(seed)
    for rule in (rule_a, rule_b):
        _check_rule(rule)
    batch = batch_for(rule_a.net, batch)
    if rule_a.net is not rule_b.net:
        raise ValueError("alignment compares two rules on one network, but these hold two networks")
    pairs = _paired(*(_mean_gradient(rule, batch, seed) for rule in (rule_a, rule_b)))
    pairs["all"] = _joined(pairs.values())
    return {name: _cosine(*pair) for name, pair in pairs.items()}


class AlignmentCurve:
    """Records the agreement of two rules' gradients during training, as ``fit(validate=curve)``.

    At each validation both rules are applied to the current network, on the same batch and noise;
    see ``alignment`` for how to make both sample the same noise. ``fit`` validates in evaluation
    mode, and with ``average`` it passes the averaged weights. The rules are built anew each time,
    so everything they anneal is at its start. Training is not affected: gradients and random states
    are restored.

    Arguments:
        rule_a, rule_b: functions from a network to a rule: ``BPTT``, or a lambda with arguments.
        batch: the sequences: a ``Batch``, or anything that ``data.as_batch`` takes.
        score: a function for ``validate`` whose score is passed on, so that its best epoch wins.
            Without one the last epoch counts as the best. (A resumed run needs one, because a
            curve, and its count of epochs, starts again.)
        seed: seed of the noise that both rules share.

    Attributes:
        cosines: the cosine at each validation, by parameter's name and for ``"all"``, as
            ``alignment`` has them; NaN where either gradient is zero or missing.
        modules: the same, joined by the first part of the parameters' names.

    Raises:
        ValueError: when ``rule_a`` or ``rule_b`` is not callable or returns no rule, the batch has
            no real frame, or a rule holds another network than it was given. Any other error of a
            rule names the rule, in its message or in a note.

    Example:
        >>> curve = AlignmentCurve(TargetPropagation, OutputBPTT, batch)
        >>> curve(net)  # before training
        >>> fit(TargetPropagation(net), data, validate=curve)
        >>> curve.cosines["all"]
    """

    def __init__(
        self,
        rule_a: Callable[[Any], LearningRule],
        rule_b: Callable[[Any], LearningRule],
        batch: BatchLike,
        score: Callable[[nn.Module], float] | None = None,
        seed: int = 0,
    ) -> None:
        check_seed(seed)
        batch = as_batch(batch)
        for make in (rule_a, rule_b):
            if not callable(make):
                raise ValueError(
                    "rule_a and rule_b must be functions from a network to a rule, such as BPTT: "
                    f"got {make!r}"
                )
        if not batch.frames:
            raise ValueError("the batch has no real frame, so it has no gradients to compare")
        self.rules, self.batch, self.score, self.seed = (rule_a, rule_b), batch, score, seed
        self.cosines: dict[str, list[float]] = {}
        self.modules: dict[str, list[float]] = {}
        self.calls = 0

    def __call__(self, net: nn.Module) -> float:
        """Compares the rules on a network, and returns its score, the lower the better."""
        kept = [(parameter, parameter.grad) for parameter in net.parameters()]
        for parameter, _ in kept:
            parameter.grad = None  # a rule may otherwise add to the kept gradient
        batch = batch_for(net, self.batch)
        try:
            with RandomStream(batch.obs.device, "curve", self.seed), torch.enable_grad():
                pairs = _paired(*(self._gradient(place, net, batch) for place in (0, 1)))
        finally:
            for parameter, gradient in kept:
                parameter.grad = gradient
        modules: dict[str, list] = {}
        for name, pair in pairs.items():
            modules.setdefault(name.partition(".")[0], []).append(pair)
        joined = {name: _joined(members) for name, members in modules.items()}
        pairs["all"] = _joined(pairs.values())
        for curves, found in ((self.cosines, pairs), (self.modules, joined)):
            for name, pair in found.items():
                curves.setdefault(name, []).append(_cosine(*pair))
        self.calls += 1
        return -float(self.calls) if self.score is None else self.score(net)

    def _gradient(self, place: int, net: nn.Module, batch: Batch) -> dict[str, Tensor | None]:
        """The gradient of the first or the second rule, whose errors name the rule."""
        make = self.rules[place]
        with _naming(f"rule_{'ab'[place]} of the curve ({getattr(make, '__name__', make)})"):
            rule = make(net)
            _check_rule(rule)
            if rule.net is not net:
                raise ValueError("a rule holds another network than the one it was made for")
            return _mean_gradient(rule, batch, self.seed)


def target_alignment(rule: TargetPropagation, batch: BatchLike, seed: int = 0) -> Tensor:
    """Cosine, step by step, between the change that targets ask for and the gradient's.

    The first is the target minus the state. The second is -dE/dh_t by backpropagation through
    time, straight through sampled units, on the same paths.

    Arguments:
        rule: target propagation on some network.
        batch: the sequences, a ``Batch`` with a target.
        seed: seed of a private random stream; the caller's random state is left alone.

    Returns:
        ``[T]``, over all paths, sequences and units; NaN where either is zero.

    Raises:
        ValueError: for a rule without targets.
    """
    if not isinstance(rule, TargetPropagation):
        raise ValueError(
            f"{type(rule).__name__} has no targets: target_alignment takes a TargetPropagation and "
            "compares it with backpropagation"
        )
    check_seed(seed)
    net, batch = rule.net, batch_for(rule.net, batch)
    with RandomStream(batch.obs.device, "target alignment", seed):
        asked = rule.targets(batch)
    visited: list[Tensor] = []

    def choose(mean: Tensor) -> Tensor:
        visited.append(net.straight_through(mean))
        return visited[-1]

    batch = net.prepare(batch)
    with RandomStream(batch.obs.device, "target alignment", seed):
        drive = in_paths(net, net.drive(batch.obs.transpose(0, 1)), rule.num_samples)
        states = unroll(net, drive, choose)
        error, _ = loss_of(net, answering(net, states[1:], batch), batch)
    slopes = torch.autograd.grad(error, visited)
    return torch.tensor(
        [_cosine(asked[..., t, :].flatten(), -slope.flatten()) for t, slope in enumerate(slopes)]
    )


# Gradients ----------------------------------------------------------------------------------------

Gradients = dict[str, Tensor | None]
Pair = tuple[Tensor | None, Tensor | None]


def _check_rule(rule: LearningRule) -> None:
    if not isinstance(rule, LearningRule):
        raise ValueError(f"expected a LearningRule, such as BPTT, got {type(rule).__name__}")


@contextmanager
def _naming(which: str) -> Iterator[None]:
    """Adds the name of a rule to errors."""
    try:
        yield
    except Exception as error:
        if type(error) is ValueError:  # others may carry more than a message
            raise ValueError(f"{which}: {error}") from error
        error.add_note(f"in {which}")
        raise


def _mean_gradient(rule: LearningRule, batch: Batch, seed: int) -> Gradients:
    """Mean gradient over a rule's updates, flat; None for parameters without a gradient.

    It is a running mean, so many small windows need no more memory than one.
    """
    net, seen = rule.net, 0.0
    mean: Gradients = dict.fromkeys(name for name, _ in net.named_parameters())
    with RandomStream(batch.obs.device, "alignment", seed):
        for metrics in rule.updates(batch):
            frames = float(metrics.get("frames", 1.0))
            seen += frames
            fraction = frames / seen if seen else 0.0
            for name, parameter in net.named_parameters():
                mean[name] = _mixed(mean[name], parameter.grad, fraction)
    net.zero_grad(set_to_none=True)
    return mean


def _mixed(mean: Tensor | None, gradient: Tensor | None, fraction: float) -> Tensor | None:
    """(1 - fraction) mean + fraction gradient, flat; None is zero. The first fraction is 1."""
    if gradient is None:
        return None if mean is None else mean * (1 - fraction)
    gradient = gradient.flatten() * fraction
    return gradient if mean is None else mean * (1 - fraction) + gradient


def _paired(one: Gradients, other: Gradients) -> dict[str, Pair]:
    return {name: (one[name], other[name]) for name in one}


def _joined(pairs: Iterable[Pair]) -> Pair:
    """The gradients that both rules have, joined end to end."""
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not both:
        return None, None
    return torch.cat([a for a, _ in both]), torch.cat([b for _, b in both])


def _cosine(a: Tensor | None, b: Tensor | None) -> float:
    if a is None or b is None or not (a.any() and b.any()):
        return float("nan")
    return float(cosine_similarity(a.double(), b.double(), dim=0))
