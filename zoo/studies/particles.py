"""How far the bound of a model of music falls with the number of its particles or samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from ...inference.checks import check_number, check_seed
from .. import store
from ..recipes.music_task import BY_SAMPLES, music_task

NUMBERS = (100, 300, 500, 1000, 3000)


def curve(
    name: str, numbers: Sequence[int] = NUMBERS, seed: int = 0, device: str | None = None
) -> Iterator[tuple[str, float]]:
    """The tightest bound of a trained model, with one number of particles or samples after another.

    Arguments:
        name: a VRAE or VOSP of music, such as ``jsb/vrae``.
        numbers: numbers of particles, or of samples.
        seed: seed of the samples.
        device: where to compute.

    Returns:
        The name of each figure, such as ``"SMC-100"``, and its value on the whole test data: an
        upper bound on the negative log-likelihood, nats per frame.

    Raises:
        ValueError: for a model of other data, a model without such a bound, or a number below 1.
    """
    check_seed(seed)
    for number in numbers:
        check_number("numbers", number)
    net = store.load(name, device or "cpu")
    card = store.card_of(net)
    data = card["configuration"]["data"]
    bounds = [match for match in map(BY_SAMPLES.fullmatch, card.get("also", {})) if match]
    if data["part"] != "Polyphonic" or not bounds:
        raise ValueError(
            f"{name} has no bound of particles or samples on music: name a model such as jsb/vrae "
            "or jsb/vosp"
        )
    kind, _, frames = bounds[-1].groups("")
    return _measured(net, data["name"], [f"{kind}-{number}{frames}" for number in numbers], seed)


def _measured(
    net: nn.Module, data: str, figures: list[str], seed: int
) -> Iterator[tuple[str, float]]:
    for figure in figures:
        yield figure, music_task(data, figure).measure(net, seed, "test").figures[0].item()
