"""What networks of frames and of sequences write for the verbs that all of them have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn

from ...data import Batch

#: What latent states and rates may be given: frames before t; those and frame t; all frames.
GIVENS = ("past", "present", "all")


class States(NamedTuple):
    """Latent states of every frame.

    Arguments:
        mean: ``[B, T, K]``.
        variance: ``[B, T, K]``; None where a state has no spread, as that of an RNN.
        draws: ``[S, B, T, K]``; None where none were asked for.
    """

    mean: Tensor
    variance: Tensor | None = None
    draws: Tensor | None = None


class Network(nn.Module):
    """A network of sequences, as the verbs see it.

    You write
        for ``latents``
            ``latents_given`` and ``infer(batch, given, num_samples)``
        for ``rates``, ``predict_next``, and ``score`` of ``"next"`` and ``"cosmooth"``
            ``rates_given`` and ``expect(batch, given, num_samples)``
        for ``predictive_bound`` and ``score`` of ``"likelihood"``
            ``log_predictive(batch, num_samples)``

    You inherit
        ``takes_missing`` (False): batches with missing values are refused; set it to True once
        missing values count for nothing

    The verbs call these methods in evaluation mode and without a graph. Random numbers are those of
    a private stream, and the batch is on the network's device. The batch has missing values only
    where ``takes_missing``. Nothing else of a batch is checked. A frame that was not seen has
    latent states and expected values, too. Values in padding may be anything.
    """

    #: Whether it leaves values out that a batch says were not seen. Otherwise it refuses them.
    takes_missing: bool = False
    #: Values of ``Batch.inputs`` that it reads at each step, ``I``; 0 ignores them.
    input_dim: int = 0
    #: What latent states may be given, the most informed last: of ``"present"`` and ``"all"``.
    latents_given: tuple[str, ...] = ()
    #: What expected frames may be given, the most informed last: of ``GIVENS``.
    rates_given: tuple[str, ...] = ()

    def infer(self, batch: Batch, given: str, num_samples: int) -> States:
        """Latent states of every frame.

        Arguments:
            batch: the sequences.
            given: ``"present"``: frames up to t; ``"all"``: all frames of the sequence.
            num_samples: draws ``S``, with 0 for none. Given ``"all"`` each is a path from the joint
                distribution; given ``"present"`` the draws of different frames may be unrelated.

        Raises:
            ValueError: for a network without latent states.
        """
        raise ValueError(
            f"{type(self).__name__} tells no latent states: that takes infer(batch, given, "
            "num_samples) and latents_given"
        )

    def expect(self, batch: Batch, given: str, num_samples: int) -> Tensor:
        """Expected frames given draws of the latent states, ``[S, B, T, M]``; S is 1 where exact.

        Arguments:
            batch: the sequences.
            given: ``"past"``: frames before t; ``"present"`` or ``"all"``, see ``infer``.
            num_samples: draws, of equal weight.

        Raises:
            ValueError: for a network that predicts no frames.
        """
        raise ValueError(
            f"{type(self).__name__} tells no expected frames: that takes expect(batch, given, "
            "num_samples) and rates_given"
        )

    def log_predictive(self, batch: Batch, num_samples: int) -> Tensor:
        """log p(y_1 .. y_T), exact or a lower bound in expectation, ``[B]``, in nats.

        Raises:
            ValueError: for a network without such a density.
        """
        raise ValueError(
            f"{type(self).__name__} has no tractable likelihood: score(kind='next') rates its "
            "predictions"
        )


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """A network in evaluation mode; every module gets back the mode that it was in."""
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
