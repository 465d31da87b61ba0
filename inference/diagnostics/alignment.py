"""Comparing learning rules and checking what they learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ...data import Batch
from ..evaluate import check_batch
from ..rng import RandomStream
from ..rules.rule import LearningRule
from ..rules.target import TargetPropagation
from ..unrolling import answering, in_paths, loss_of, unroll


def alignment(
    rule_a: LearningRule, rule_b: LearningRule, batch: Batch, seed: int = 0
) -> dict[str, float]:
    """Cosine between two rules' gradients, parameter by parameter, on one network and batch.

    What a rule teaches on a batch is the average over all its updates, weighted by their frames,
    the parameters staying as they are: of a rule with ``window`` (truncated backpropagation through
    time) or ``minibatch``, all of these. The network's ``.grad`` is left empty.

    Both rules draw the same random numbers one after the other, so that two rules whose gradients
    are equal give 1, if they draw alike. Chunks of a fold, windows and minibatches draw noise of
    their own: equal gradients may then give 0.99, and far less of a small batch or a trained
    network, whose gradient is mostly noise (more ``particles`` make less of it). So cut both rules
    alike: ``LocalELBO(net, window=1)`` beside ``BPTT(net, window=1)``; beside a whole ``BPTT(net)``
    a ``LocalELBO`` in one piece, its ``chunk`` as large as the batch.

    Arguments:
        rule_a, rule_b: two rules on the same network.
        batch: the batch.
        seed: seed of the shared random stream.

    Returns:
        The cosine for every parameter's name, and for ``"all"`` joined that both rules teach; NaN
        where either gradient is zero, or missing.

    Raises:
        ValueError: when the rules hold different networks, or are none, or the batch is none.
    """
    check_batch(batch)
    for rule in (rule_a, rule_b):
        _check_rule(rule)
    if rule_a.net is not rule_b.net:
        raise ValueError("alignment compares two rules on one network: these hold two networks")
    pairs = _paired(*(_taught(rule, batch, seed) for rule in (rule_a, rule_b)))
    pairs["all"] = _joined(pairs.values())
    return {name: _cosine(*pair) for name, pair in pairs.items()}


class AlignmentCurve:
    """Follows how two rules' gradients agree while a network learns; ``fit(validate=curve)``.

    At each validation both rules see the network that is validated, on the same batch and noise:
    one batch's gradients, averaged over nothing else; see ``alignment`` for those of windows, and
    for how to make both draw their noise alike. ``fit`` validates in evaluation mode, and
    with ``average`` it is the averaged weights that are compared. The rules are made anew each
    time, so that whatever they anneal is where it starts. Training goes on with the same bits as
    without: the network's gradients and all random states are put back.

    Arguments:
        rule_a, rule_b: each makes a rule of a network: ``BPTT``, or a lambda with its arguments.
        batch: what gradients are compared on.
        score: a function for ``validate`` whose score is passed on, so that its best epoch wins.
            Without one the last epoch counts as the best. (Of a run that is to be resumed, give
            one: a curve begins anew, and with it the count of epochs.)
        seed: seed of the noise that both rules share.

    Attributes:
        cosines: the cosine at each validation, by parameter's name and for ``"all"``, as
            ``alignment`` has them; NaN where either gradient is zero or missing.
        modules: the same, joined by the first part of the parameters' names.

    Raises:
        ValueError: when what shall make a rule is none that could, or makes none, the batch has no
            real frame, or a rule holds another network than it was given. Whatever else a rule
            raises says which of the two it was, in its message or in a note.

    Example:
        >>> curve = AlignmentCurve(TargetPropagation, OutputBPTT, batch)
        >>> curve(net)  # before training
        >>> fit(TargetPropagation(net), data, validate=curve)
        >>> curve.cosines["all"]
    """

    def __init__(
        self,
        rule_a: Callable[[nn.Module], LearningRule],
        rule_b: Callable[[nn.Module], LearningRule],
        batch: Batch,
        score: Callable[[nn.Module], float] | None = None,
        seed: int = 0,
    ):
        check_batch(batch)
        for make in (rule_a, rule_b):
            if not callable(make):
                raise ValueError(
                    f"a curve takes what makes a rule of a network, such as BPTT: got {make!r}"
                )
        if not batch.frames:
            raise ValueError("the batch has no real frame, so there are no gradients to compare")
        self.rules, self.batch, self.score, self.seed = (rule_a, rule_b), batch, score, seed
        self.cosines: dict[str, list[float]] = {}
        self.modules: dict[str, list[float]] = {}
        self.calls = 0

    def __call__(self, net: nn.Module) -> float:
        """Compares the rules on a network, and returns its score, the lower the better."""
        kept = [(parameter, parameter.grad) for parameter in net.parameters()]
        for parameter, _ in kept:
            parameter.grad = None  # or a rule might write into what is kept
        batch = self.batch.to(kept[0][0].device if kept else "cpu")
        try:
            with RandomStream(batch.obs.device, "curve", self.seed), torch.enable_grad():
                pairs = _paired(*(self._taught(place, net, batch) for place in (0, 1)))
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

    def _taught(self, place: int, net: nn.Module, batch: Batch) -> dict[str, Tensor | None]:
        """What the first or the second rule teaches; its errors say which of the two it was."""
        make = self.rules[place]
        with _told_of(f"rule_{'ab'[place]} of the curve ({getattr(make, '__name__', make)})"):
            rule = make(net)
            _check_rule(rule)
            if rule.net is not net:
                raise ValueError("a rule holds another network than the one it was made for")
            return _taught(rule, batch, self.seed)


def target_alignment(rule: TargetPropagation, batch: Batch, seed: int = 0) -> Tensor:
    """Cosine, step by step, between what targets ask of a state and what its gradient does.

    The first is the target minus the state, the second -dE/dh_t by backpropagation through time
    (straight through what is sampled), on the same paths.

    Arguments:
        rule: target propagation on some network.
        batch: the batch.
        seed: seed of the paths; the caller's random state is left alone.

    Returns:
        ``[T]``: over all paths, sequences and units; NaN where either is zero.

    Raises:
        ValueError: for a rule without targets, or what is no batch.
    """
    if not isinstance(rule, TargetPropagation):
        raise ValueError(
            f"{type(rule).__name__} sends back no targets: target_alignment takes a "
            "TargetPropagation, and compares it with backpropagation itself"
        )
    check_batch(batch)
    net = rule.net
    with RandomStream(batch.obs.device, "target alignment", seed):
        asked = rule.targets(batch)
    visited: list[Tensor] = []

    def choose(mean: Tensor) -> Tensor:
        visited.append(net.straight_through(mean))
        return visited[-1]

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
        raise ValueError(
            f"gradients are those of a LearningRule, such as BPTT: got {type(rule).__name__}"
        )


@contextmanager
def _told_of(which: str) -> Iterator[None]:
    """What is raised within says which rule it was."""
    try:
        yield
    except Exception as error:
        if type(error) is ValueError:  # others may carry more than a message
            raise ValueError(f"{which}: {error}") from error
        error.add_note(f"in {which}")
        raise


def _taught(rule: LearningRule, batch: Batch, seed: int) -> Gradients:
    """Mean gradient over a rule's updates, flat; None of what no update teaches.

    A running mean, so that windows of one frame need no more memory than one of them all.
    """
    net, seen = rule.net, 0.0
    mean: Gradients = dict.fromkeys(name for name, _ in net.named_parameters())
    with RandomStream(batch.obs.device, "alignment", seed):
        for metrics in rule.updates(batch):
            frames = float(metrics.get("frames", 1.0))
            seen += frames
            share = frames / seen if seen else 0.0
            for name, parameter in net.named_parameters():
                mean[name] = _mixed(mean[name], parameter.grad, share)
    net.zero_grad(set_to_none=True)
    return mean


def _mixed(mean: Tensor | None, gradient: Tensor | None, share: float) -> Tensor | None:
    """(1 - share) mean + share gradient, flat; None is zero. The first one has a share of 1."""
    if gradient is None:
        return None if mean is None else mean * (1 - share)
    gradient = gradient.flatten() * share
    return gradient if mean is None else mean * (1 - share) + gradient


def _paired(one: Gradients, other: Gradients) -> dict[str, Pair]:
    return {name: (one[name], other[name]) for name in one}


def _joined(pairs: Iterable[Pair]) -> Pair:
    """The gradients of what both rules teach, end to end."""
    both = [pair for pair in pairs if not any(part is None for part in pair)]
    return tuple(map(torch.cat, zip(*both))) if both else (None, None)


def _cosine(a: Tensor | None, b: Tensor | None) -> float:
    if a is None or b is None or not (a.any() and b.any()):
        return float("nan")
    return float(cosine_similarity(a.double(), b.double(), dim=0))
