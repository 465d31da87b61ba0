"""The kinds of network that rules train: what one writes, and what uses it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from ..data import Batch

# What rules use of a network.
RECURRENT = ("check", "encode", "step", "initial")  # a sweep, see ``Recurrent``


PAIR = ("model", "guide")  # a Pyro pair


ANSWERS = ("read", "at_every_step", "rest", "drive", "mean", "log_score", "bits")


SYSTEM = ("measure", "guess", "assign")  # a linear-Gaussian one


# What tells a kind of network, and a rule that trains it: the first that fits.
TRAINED_BY = (
    ((*ANSWERS, "straight"), "StraightThrough"),
    ((*RECURRENT, "free_energy", "gibbs"), "ContrastiveDivergence"),
    (SYSTEM, "EM"),
    ((*PAIR, "read"), "SequenceELBO"),
    ((*RECURRENT, *PAIR), "LocalELBO"),
    (PAIR, "SequenceELBO"),
)


@runtime_checkable
class Recurrent(Protocol):
    """A network whose only serial part is ``step``; the sweep runs it, the fold does the rest.

    * ``check(obs)`` raises a ValueError where ``obs`` is outside the support of the likelihood;
    * ``encode(obs [..., M]) -> [..., F]`` sees each frame alone, so it runs for all at once;
    * ``step(features [B, F], past [B, U]) -> [B, U]`` is the recursion u_t = f(y_t, u_{t-1});
    * ``initial(rows) -> [B, U]`` is u before the first frame.

    It may also have ``advance(features, past)``: ``step`` for when no past is the initial one.
    """

    def check(self, obs: Tensor) -> None: ...

    def encode(self, obs: Tensor) -> Tensor: ...

    def step(self, features: Tensor, past: Tensor) -> Tensor: ...

    def initial(self, rows: int) -> Tensor: ...


@runtime_checkable
class Answers(Protocol):
    """What a network of units must offer.

    * ``read(batch)`` checks a batch with its target and gives it back;
    * ``drive(obs [..., I]) -> [..., H]`` sees each frame alone, so it runs for all at once;
    * ``mean(drive, past) -> [..., H]``: the means of h_t given h_{t-1};
    * ``draw(mean)``: h_t, its stochastic units sampled; ``straight(mean)``: the same, with a
      gradient that takes sampling for the identity;
    * ``rest() -> [H]``: h_0;
    * ``log_score(states [..., M, B, H], target [..., B, ...]) -> [..., B]``: log of the mean over
      M of p(target | h);
    * ``at_every_step(batch)``: whether it is asked at every step, or at the last one alone;
    * ``bits``: how many units are stochastic.

    Target propagation also needs ``invert(drive, after) -> [..., H]``, a learned estimate of
    h_{t-1} from x_t and h_t.
    """

    bits: int

    def read(self, batch: Batch) -> Batch: ...

    def at_every_step(self, batch: Batch) -> bool: ...

    def rest(self) -> Tensor: ...

    def drive(self, obs: Tensor) -> Tensor: ...

    def mean(self, drive: Tensor, past: Tensor) -> Tensor: ...

    def draw(self, mean: Tensor) -> Tensor: ...

    def straight(self, mean: Tensor) -> Tensor: ...

    def log_score(self, states: Tensor, target: Tensor) -> Tensor: ...
