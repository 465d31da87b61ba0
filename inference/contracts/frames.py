"""Networks that carry statistics of the past from frame to frame."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from ...data import Batch
from ..ahead import next_frames
from ..inputs import keyword
from .fold import Fold
from .network import Network
from .tempered import Tempered
from .unwritten import unwritten


class Recurrent(Network):
    """u_t = f(y_t, u_{t-1}): a network that carries statistics of the past from frame to frame.

    You write
        the recursion
            ``check(obs)``, ``initial(rows)``, ``encode(obs)``, ``step(features, past)``
        to predict, if it can
            ``sample_next(past, previous, num_samples)``
        to take sequences with missing values, if it can
            ``expected_frame(past)``; then set ``takes_missing`` to True
        to read inputs s_t beside the frames, if it can
            set ``input_dim``; then ``encode``, ``expected_frame`` and ``sample_next`` also take
            ``inputs``, those of the same frames, ``[..., I]``

    You inherit
        ``advance``, which is ``step`` unless you have a quicker one
        ``scan``, which leaves a sequence to the loop over ``step``
        ``input_dim`` (0): a batch's inputs are ignored
        ``read``, which puts ``expected_frame`` in place of missing values
        ``shown``, which hides no value from the network in training
        ``waits`` (True): the state stays initial until something was seen

    Then works
        ``sweep``, ``run_filter``; with ``sample_next`` also ``predict_next``, ``rollout``,
        ``rates(given="past")`` and ``score(kind="next")``; with a loss of its own, any
        ``FoldedRule``
    """

    rates_given: tuple[str, ...] = ("past",)

    #: Whether the state stays the initial one until something was seen; False: time passes.
    waits: bool = True

    @abstractmethod
    def check(self, obs: Tensor) -> None:
        """Raises a ValueError where real frames ``[..., M]`` are not what the network takes."""
        unwritten(self, "check(obs)")

    @abstractmethod
    def initial(self, rows: int) -> Tensor:
        """u before the first frame, ``[B, U]``."""
        unwritten(self, "initial(rows)")

    @abstractmethod
    def encode(self, obs: Tensor) -> Tensor:
        """Features of each frame alone, ``[..., M] -> [..., F]``; runs for all frames at once."""
        unwritten(self, "encode(obs)")

    @abstractmethod
    def step(self, features: Tensor, past: Tensor) -> Tensor:
        """u_t, from features ``[B, F]`` and u_{t-1} ``[B, U]``; the only serial part."""
        unwritten(self, "step(features, past)")

    def advance(self, features: Tensor, past: Tensor) -> Tensor:
        """``step`` where no past is the initial one, ``[B, U]``."""
        return self.step(features, past)

    def scan(self, features: Tensor, past: Tensor, passes: Tensor) -> Tensor | None:
        """All steps of whole sequences in one call, by a kernel.

        Arguments:
            features: of every frame, ``[B, T, F]``.
            past: u before the first frame, ``[B, U]``.
            passes: False where a frame leaves the state as it was, ``[B, T]``.

        Returns:
            ``past`` and u_0 .. u_{T-1}, ``[B, T + 1, U]``; None leaves them to ``step``.
        """
        return None

    def expected_frame(self, past: Tensor) -> Tensor:
        """The frame expected after u_{t-1}, ``[N, U] -> [N, M]``, without random numbers.

        Raises:
            ValueError: for a network that does not write it.
        """
        raise ValueError(
            f"{type(self).__name__} cannot let time pass where nothing was seen: that takes "
            "expected_frame(past)"
        )

    def read(
        self, obs: Tensor, observed: Tensor, past: Tensor, inputs: Tensor | None = None
    ) -> Tensor:
        """Features of frames of which values are missing, ``[N, F]``.

        The frame that the network expects takes the place of missing values. No gradient passes
        through it.

        Arguments:
            obs: y_t, ``[N, M]``.
            observed: True where a value was seen, ``[N, M]``.
            past: u_{t-1}, ``[N, U]``.
            inputs: s_t, ``[N, I]``; None for a network that reads none.
        """
        given = keyword(inputs)
        with torch.no_grad():
            expected = self.expected_frame(past, **given)
        return self.encode(torch.where(observed, obs, expected), **given)

    def shown(self, batch: Batch) -> Tensor | None:
        """True where the network is shown a value in training, ``[B, T, M]``; None where it is all.

        A rule asks for it once an update, so that the sweep and the fold read the same frames.
        """
        return None

    def expect(self, batch: Batch, given: str, num_samples: int) -> Tensor:
        """Expected frames, ``[S, B, T, M]``, from ``sample_next`` where given the past alone."""
        if given != "past":
            return super().expect(batch, given, num_samples)
        return next_frames(self, batch, num_samples)

    def sample_next(self, past: Tensor, previous: Tensor, num_samples: int = 1) -> Tensor:
        """The next frame, ``[S, N, M]``, given u_{t-1} ``[N, U]`` and y_{t-1} ``[N, M]``.

        Raises:
            ValueError: for a network that does not write it.
        """
        raise ValueError(
            f"{type(self).__name__} predicts no next frame: that takes a network that inherits "
            "inference.Recurrent and writes sample_next(past, previous, num_samples)"
        )


class FrameModel(Recurrent):
    """p(x_t, y_t, u_{t-1}) and q(x_t | y_t, u_{t-1}): a latent-variable model of single frames.

    Frames are independent of one another given u_{t-1}, the statistics of the past. The Pyro pair
    therefore sees them as one plate of ``N`` members, a ``Fold``. Where ``takes_missing``, the
    log-density of a frame leaves out the values that are not in ``fold.observed``.

    You write
        the recursion of the recognition model
            see ``Recurrent``
        the Pyro pair, with one plate at dim -1
            ``model(fold)``, ``guide(fold)``
        to predict states, if it can
            ``sample_state(past, num_samples)``, ``emit(x)``; with ``input_dim`` they also take
            ``inputs``

    Then works
        rules: ``LocalELBO``, ``BPTT``
        filters and predictions: see ``Recurrent``
        diagnostics: ``khat`` and ``loo`` of frames, ``sbc``, ``to_arviz``; with
        ``sample_state`` and ``emit`` also ``frame_pit``
    """

    @abstractmethod
    def model(self, fold: Fold) -> None:
        """Runs p(x_t, y_t, u_{t-1}) with the frames observed."""
        unwritten(self, "model(fold)")

    @abstractmethod
    def guide(self, fold: Fold) -> None:
        """Draws x_t from q(x_t | y_t, u_{t-1})."""
        unwritten(self, "guide(fold)")

    def sample_state(self, past: Tensor, num_samples: int) -> Tensor:
        """States drawn from p(x_t | u_{t-1}), ``[N, U] -> [S, N, K]``.

        Raises:
            ValueError: for a model that does not write it.
        """
        raise ValueError(
            f"{type(self).__name__} predicts no state: that takes sample_state(past, num_samples)"
        )

    def emit(self, x: Tensor) -> torch.distributions.Distribution:
        """p(y_t | x_t), batch shape ``[...]``, event shape ``[M]``, of states ``[..., K]``.

        Raises:
            ValueError: for a model that does not write it.
        """
        raise ValueError(f"{type(self).__name__} tells no p(y_t | x_t): that takes emit(x)")


class GibbsModel(Recurrent):
    """A recurrent network whose next frame Gibbs chains draw, u_{t-1} held still.

    You write
        the recursion
            see ``Recurrent``
        the chains
            ``random_frames(frames)``, ``gibbs(obs, past, steps, clamp_past)``; with ``input_dim``
            they also take ``inputs``

    Then works
        ``clamped_gibbs``, and ``convergence`` of its chains
    """

    @abstractmethod
    def random_frames(self, frames: int) -> Tensor:
        """Frames where chains start, ``[N, M]``."""
        unwritten(self, "random_frames(frames)")

    @abstractmethod
    def gibbs(
        self, obs: Tensor, past: Tensor, steps: int, clamp_past: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Rounds of block Gibbs sampling.

        Arguments:
            obs: start of y, ``[N, M]``.
            past: start of u, ``[N, U]``; it stays where it is if ``clamp_past``.
            steps: rounds.

        Returns:
            y ``[N, M]`` and u ``[N, U]``.
        """
        unwritten(self, "gibbs(obs, past, steps, clamp_past)")


class EnergyModel(GibbsModel):
    """p(y_t, u_{t-1}) ∝ exp(-F(y_t, u_{t-1})): a harmonium, its hidden units summed out.

    You write
        the recursion u_t = E[x_t | y_t, u_{t-1}]
            see ``Recurrent``
        the energy
            ``free_energy(obs, past)``
        the chains
            see ``GibbsModel``
        for ``ContrastiveDivergence(sample_past=True)``
            ``sample_hidden(mean)``
        for ``annealed_likelihood``
            ``tempered(past, obs)``

    You inherit
        ``clamps_past`` (True): u_{t-1} is given, as in a TRBM; False: the model explains it
        ``through_time`` (False): the model is trained by the gradient through time

    Then works
        rules: ``ContrastiveDivergence``
        filters, predictions and chains: see ``Recurrent`` and ``GibbsModel``
        with ``tempered`` also ``annealed_likelihood``
    """

    clamps_past: bool = True
    through_time: bool = False

    @abstractmethod
    def free_energy(self, obs: Tensor, past: Tensor) -> Tensor:
        """F(y_t, u_{t-1}), ``[N]``, of frames ``[N, M]`` and statistics ``[N, U]``; in nats.

        A missing value is zero in data and chains alike. Where ``takes_missing``, it adds nothing
        that depends on the parameters.
        """
        unwritten(self, "free_energy(obs, past)")

    def sample_hidden(self, mean: Tensor) -> Tensor:
        """Hidden units drawn given their means, ``[..., U] -> [..., U]``.

        Raises:
            ValueError: for a model that does not write it.
        """
        raise ValueError(
            f"{type(self).__name__} samples no hidden units: that takes sample_hidden(mean)"
        )

    def tempered(self, past: Tensor, obs: Tensor) -> Tempered[Any]:
        """Distributions between independent units and p(y_t | u_{t-1}).

        Arguments:
            past: u_{t-1} of every chain, ``[N, U]``.
            obs: frames whose mean values the independent units have, ``[F, M]``.

        Raises:
            ValueError: for a model that does not write it, or frames without a probability.
        """
        raise ValueError(
            f"{type(self).__name__} has no path to independent units: that takes "
            "tempered(past, obs)"
        )
