"""Comparing learning rules and checking what they learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ..data import Batch, generator
from .outputs import answering, in_paths, loss_of, unroll
from .rule import LearningRule, Recurrent
from .streams import RandomStream
from .target import TargetPropagation


def alignment(
    rule_a: LearningRule, rule_b: LearningRule, batch: Batch, seed: int = 0
) -> dict[str, float]:
    """Cosine between two rules' gradients, parameter by parameter, on one network and batch.

    Both rules draw the same random numbers, so that two rules whose gradients are equal give 1.
    The network's ``.grad`` is left empty.

    Arguments:
        rule_a, rule_b: two rules on the same network.
        batch: the batch.
        seed: seed of the shared random stream.

    Returns:
        The cosine for every parameter's name, and for ``"all"`` joined that both rules teach; NaN
        where either gradient is zero, or missing.

    Raises:
        ValueError: when the rules hold different networks.
    """
    pairs = _gradients(rule_a, rule_b, batch, seed)
    pairs["all"] = _joined(pairs.values())
    return {name: _cosine(*pair) for name, pair in pairs.items()}


class AlignmentCurve:
    """Follows how two rules' gradients agree while a network learns; ``fit(validate=curve)``.

    At each validation both rules see the network that is validated, on the same batch and noise:
    one batch's gradients, averaged over nothing else. ``fit`` validates in evaluation mode, and
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
        ValueError: when what shall make a rule is none that could, the batch has no real frame,
            or a rule holds another network than it was given.

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
                rules = [make(net) for make in self.rules]
                if any(rule.net is not net for rule in rules):
                    raise ValueError("a rule holds another network than the one it was made for")
                pairs = _gradients(*rules, batch, self.seed)
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
    """
    net = rule.net
    with RandomStream(batch.obs.device, "target alignment", seed):
        asked = rule.targets(batch)
    visited: list[Tensor] = []

    def choose(mean: Tensor) -> Tensor:
        visited.append(net.straight(mean))
        return visited[-1]

    with RandomStream(batch.obs.device, "target alignment", seed):
        drive = in_paths(net, net.drive(batch.obs.transpose(0, 1)), rule.samples)
        states = unroll(net, drive, choose)
        error, _ = loss_of(net, answering(net, states[1:], batch), batch)
    slopes = torch.autograd.grad(error, visited)
    return torch.tensor(
        [_cosine(asked[..., t, :].flatten(), -slope.flatten()) for t, slope in enumerate(slopes)]
    )


class Convergence(NamedTuple):
    """Whether chains agree, by ArviZ: one number for every scalar that was followed.

    Arguments:
        rhat: rank-normalised split R-hat; 1 is agreement, and above 1.01 chains still differ.
        ess: bulk effective sample size, over all chains.
    """

    rhat: Tensor
    ess: Tensor


def convergence(draws: Tensor) -> Convergence:
    """R-hat and effective sample size of draws ``[C, D, ...]``: chains, then draws.

    Returns:
        Both of shape ``[...]``; NaN where all draws are equal.

    Raises:
        ValueError: for fewer than two chains or four draws.
    """
    import arviz

    if draws.dim() < 2 or draws.shape[0] < 2 or draws.shape[1] < 4:
        raise ValueError(
            "convergence takes [chains, draws, ...], at least 2 chains and 4 draws: "
            f"got {tuple(draws.shape)}"
        )
    shape = draws.shape[2:]
    data = arviz.convert_to_dataset(
        {"draws": draws.reshape(*draws.shape[:2], -1).double().cpu().numpy()}
    )
    found = [
        torch.as_tensor(measure(data)["draws"].values).reshape(shape)
        for measure in (arviz.rhat, arviz.ess)
    ]
    return Convergence(*found)


@torch.no_grad()
def clamped_gibbs(
    net: Recurrent,
    past: Tensor,
    chains: int = 8,
    draws: int = 100,
    burn: int = 25,
    probes: int = 8,
    seed: int = 0,
) -> Tensor:
    """Follows Gibbs chains of the next frame with u_{t-1} clamped, from random starts.

    The network offers ``random_frames(N)`` and ``gibbs(obs, past, steps, clamp_past)``. A frame is
    followed through its projections on a few random directions.

    Arguments:
        net: a harmonium or an rVAE.
        past: u_{t-1}, ``[N, U]``.
        chains: chains ``C`` for each u.
        draws: Gibbs steps that are kept, ``D``.
        burn: Gibbs steps before them.
        probes: directions ``P``.
        seed: seed of chains and directions; the caller's random state is left alone.

    Returns:
        ``[C, D, N, P]``, for ``convergence``.
    """
    clamped = past.repeat(chains, 1)
    kept = []
    with RandomStream(past.device, "clamped Gibbs", seed):
        obs = net.random_frames(len(clamped))
        size = (obs.shape[-1], probes)
        direction = torch.randn(size, generator=generator(seed, "probes")).to(obs)
        obs, _ = net.gibbs(obs, clamped, burn, clamp_past=True)
        for _ in range(draws):
            obs, _ = net.gibbs(obs, clamped, 1, clamp_past=True)
            kept.append(obs @ direction)
    return torch.stack(kept).unflatten(1, (chains, -1)).transpose(0, 1)


Pair = tuple[Tensor | None, Tensor | None]


def _gradients(
    rule_a: LearningRule, rule_b: LearningRule, batch: Batch, seed: int
) -> dict[str, Pair]:
    """Both rules' gradients of every parameter, flat; None where a rule does not teach it."""
    if rule_a.net is not rule_b.net:
        raise ValueError("alignment compares two rules on one network: these hold two networks")
    net, gradients = rule_a.net, []
    for rule in (rule_a, rule_b):
        with RandomStream(batch.obs.device, "alignment", seed):
            rule.gradients(batch)
        gradients.append({name: _flat(p.grad) for name, p in net.named_parameters()})
    net.zero_grad(set_to_none=True)
    return {name: (gradients[0][name], gradients[1][name]) for name in gradients[0]}


def _joined(pairs: Iterable[Pair]) -> Pair:
    """The gradients of what both rules teach, end to end."""
    both = [pair for pair in pairs if not any(part is None for part in pair)]
    return tuple(map(torch.cat, zip(*both))) if both else (None, None)


def _flat(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient.flatten().clone()


def _cosine(a: Tensor | None, b: Tensor | None) -> float:
    if a is None or b is None or not (a.any() and b.any()):
        return float("nan")
    return float(cosine_similarity(a.double(), b.double(), dim=0))
