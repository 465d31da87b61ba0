"""The kinds of network that rules train and verbs use, written down once.

A network inherits the class of its kind and writes the methods listed there under "You write". The
class alone decides the kind: a method or an attribute of the same name on another class does not.

    Recurrent               u_t = f(y_t, u_{t-1})                       the statistics of a sweep
        FrameModel          p(x_t, y_t, u_{t-1}), q(x_t | y_t, u_{t-1}) RVAE, TVAE
        GibbsModel          chains of y_t given u_{t-1}
            EnergyModel     F(y_t, u_{t-1})                             REFH, TRBM, RTRBM
    SequenceModel           p(x_{1:T}, z), q(z | x_{1:T})               VRAE, VOSP, RNN
        LatentPathModel     p(z_{1:T}) p(x_{1:T} | z_{1:T})             VRAE, VOSP
        LinearSystem        x_t = A x_{t-1} + noise                     LGDS, PoissonLGDS
    AnswerModel             p(y | x_{1:T}), units h_t                   SRN, MDRNN

A network may be of several kinds: a VOSP is a ``LatentPathModel`` that is ``Recurrent``, and an SRN
is an ``AnswerModel`` that is a ``SequenceModel``. All but an ``AnswerModel`` alone are a
``Network``, which says what to write for ``latents``, ``rates`` and ``score``. All are
``nn.Module``; those with Pyro parameters also inherit ``PyroModule``. List a kind after the
classes that implement its methods, and write them as methods: a submodule of the same name would
be hidden.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from ..data import Batch, BatchLike
from .ahead import next_frames
from .inputs import keyword
from .kalman import Beliefs, kalman_smoother
from .kalman_system import LinearGaussian
from .network import Network
from .particles import ParticleSteps
from .paths import Path


class Fold(NamedTuple):
    """Real frames taken out of time: ``N`` independent members of a plate.

    Arguments:
        obs: y_t, ``[N, M]``.
        past: u_{t-1}, the statistics of the state before, ``[N, U]``.
        features: ``net.encode(obs)``, ``[N, F]``, and
        present: u_t, ``[N, U]``: both where the sweep kept its graph, so that a guide need not
            compute them again (``BPTT``); otherwise None.
        observed: True where a value of ``obs`` was seen, ``[N, M]``; None where all were. Missing
            values of ``obs`` are zero, and no frame lacks all of its values.
        inputs: s_t, the inputs of each frame, ``[N, I]``; None where the batch has none.
        shown: True where the recognition model is shown a value, ``[N, M]``; the likelihood is of
            all that were observed. None shows all of these.
    """

    obs: Tensor
    past: Tensor
    features: Tensor | None = None
    present: Tensor | None = None
    observed: Tensor | None = None
    inputs: Tensor | None = None
    shown: Tensor | None = None

    @classmethod
    def of(
        cls,
        batch: Batch,
        past: Tensor,
        features: Tensor | None = None,
        present: Tensor | None = None,
        shown: Tensor | None = None,
    ) -> Fold:
        """The frames of a batch of which something was seen.

        Arguments:
            batch: the sequences.
            past: u_{t-1}, ``[B, T, U]``.
            features, present, shown: ``[B, T, F]``, ``[B, T, U]`` and ``[B, T, M]``, see above.
        """
        seen = batch.observed_frames
        whole = bool(seen.all())
        frames = cls(batch.obs, past, features, present, batch.observed, batch.inputs, shown)
        fold = frames._each(lambda part: part.flatten(0, 1) if whole else part[seen])
        complete = fold.observed is not None and bool(fold.observed.all())
        return fold._replace(observed=None) if complete else fold

    @property
    def rows(self) -> int:
        """``N`` (``len`` of a named tuple counts its fields)."""
        return len(self.obs)

    def select(self, index: slice | Tensor) -> Fold:
        """Some of the frames."""
        return self._each(lambda part: part[index])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Fold:
        others = (None if part is None else change(part) for part in self[2:])
        return Fold(change(self.obs), change(self.past), *others)


class Encoding(NamedTuple):
    """A batch and the belief about its latent paths: the argument of a path model's Pyro pair.

    Arguments:
        obs: ``[B, T, M]``.
        mask: ``[B, T]``.
        features: ``[B, T, F]``.
        belief: q(z | x), batch shape ``[B]``.
        observed: True where a value of ``obs`` was seen, ``[B, T, M]``; None where all were.
            Missing values of ``obs`` are zero.
        inputs: s_t, the inputs of each frame, ``[B, T, I]``; None where the model reads none.
    """

    obs: Tensor
    mask: Tensor
    features: Tensor
    belief: Path
    observed: Tensor | None = None
    inputs: Tensor | None = None

    @property
    def rows(self) -> int:
        """``B`` (``len`` of a named tuple counts its fields)."""
        return len(self.obs)


# Networks that carry statistics of the past ------------------------------------------------------


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

    Frames are independent of one another given the statistics of the past, u_{t-1}, so that the
    Pyro pair sees them as one plate of ``N`` members, a ``Fold``. Where ``takes_missing``, the
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

    You inherit
        ``clamps_past`` (True): u_{t-1} is given, as in a TRBM; False: the model explains it
        ``through_time`` (False): the model is trained by the gradient through time

    Then works
        rules: ``ContrastiveDivergence``
        filters, predictions and chains: see ``Recurrent`` and ``GibbsModel``
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


# Networks of whole sequences ---------------------------------------------------------------------


class SequenceModel(Network):
    """p(x_{1:T}, z) and q(z | x_{1:T}): a Pyro pair over whole sequences.

    You write
        the Pyro pair, with one plate of sequences at dim -1
            ``model(data)``, ``guide(data)``; a guide without latent state does nothing
        to check data, or to encode them once for both
            ``prepare(batch)``
        for tighter bounds, if it can
            ``framewise`` and ``frame_weights(data, num_samples)``
            ``causal`` and ``particle_steps(data)``

    You inherit
        ``prepare``, which gives the batch as it is

    Then works
        rules: ``SequenceELBO``
        bounds: ``elbo``, ``importance_bound``, ``smoothed_bound``; ``frame_bound`` if framewise,
        ``particle_bound`` if causal
        diagnostics: ``khat``, ``loo``, ``sbc``, ``to_arviz``
    """

    #: Whether the latent noise of one frame is independent of that of others, given the data.
    framewise: bool = False
    #: Whether frames depend on the latent path up to them alone, so that particles can be stepped.
    causal: bool = False

    def prepare(self, batch: Batch) -> Any:
        """The argument of ``model`` and ``guide``: the batch itself, or an encoding of it.

        Raises:
            ValueError: where the batch is not what the network takes.
        """
        return batch

    @abstractmethod
    def model(self, data: Any) -> None:
        """Runs p(x_{1:T}, z) with the data observed."""
        unwritten(self, "model(data)")

    @abstractmethod
    def guide(self, data: Any) -> None:
        """Draws z from q(z | x_{1:T})."""
        unwritten(self, "guide(data)")

    def frame_weights(self, data: Any, num_samples: int) -> Tensor:
        """log p(x_t, z_t | past) - log q(z_t | past, x), zero in padding; ``[k, B, T]``.

        Raises:
            ValueError: for a model whose frames share latent noise, or have none.
        """
        raise ValueError(
            f"the frames of this {type(self).__name__} share latent noise, or have none: bound "
            "whole sequences, with importance_bound or particle_bound"
        )

    def particle_steps(self, data: Any) -> ParticleSteps:
        """A pass of particles along the data, the longest sequence first.

        Raises:
            ValueError: for a model whose frames do not depend causally on its latent path.
        """
        raise ValueError(f"{type(self).__name__} cannot be stepped through by particles")


class LatentPathModel(SequenceModel):
    """p(z_{1:T}) p(x_{1:T} | z_{1:T}): a sequence model whose latent state is a path.

    You write
        the Pyro pair over an ``Encoding``
            see ``SequenceModel``; ``prepare(batch) -> Encoding``
        its parts
            ``likelihood``, ``prior``, ``latent_dim``
        frames given a path
            ``natural(path, encoding)``, ``reconstruct(batch, method)``

    Then works
        all of ``SequenceModel``; ``denoise`` and ``impute``
    """

    latent_dim: int
    likelihood: nn.Module
    prior: nn.Module

    @abstractmethod
    def prepare(self, batch: Batch) -> Encoding:
        """A batch, checked, and q(z | x)."""
        unwritten(self, "prepare(batch)")

    @abstractmethod
    def natural(self, path: Tensor, encoding: Encoding) -> Tensor:
        """Natural parameters of the frames, ``[..., B, T, N]``, of a path ``[..., B, T, K]``."""
        unwritten(self, "natural(path, encoding)")

    @abstractmethod
    def reconstruct(self, batch: BatchLike, method: str = "mean") -> Tensor:
        """Frames at the most likely path, ``[B, T, M]``; ``method`` is ``"mean"`` or ``"mode"``."""
        unwritten(self, "reconstruct(batch, method)")


class Readings(NamedTuple):
    """What a linear system reads from a batch.

    Arguments:
        value: ``[B, T, D]``.
        variance: known variance of each value, infinite where it is missing, ``[B, T, D]``.
        mask: True where a frame is real, ``[B, T]``.
        inputs: known inputs s_t, ``[B, T, I]``; None where there are none.
    """

    value: Tensor
    variance: Tensor
    mask: Tensor
    inputs: Tensor | None = None


class LinearSystem(SequenceModel):
    """x_t = A x_{t-1} + B s_t + noise, and frames that depend on C x_t + d + D s_t.

    You write
        the Pyro pair
            see ``SequenceModel``
        beliefs about states
            ``measure(batch)``
        for expectation-maximisation
            ``guess(data, restart)``, ``m_step(system, beliefs, data)``, ``assign(system)``

    You inherit
        ``e_step``, the Kalman smoother: overwrite it where noise is not Gaussian
        ``log_prior``, 0: overwrite it where ``m_step`` counts a prior on the parameters

    Then works
        rules: ``EM``
        all of ``SequenceModel`` but ``SequenceELBO``, where it has no trainable parameter
    """

    @abstractmethod
    def measure(self, batch: BatchLike) -> tuple[Tensor, Tensor]:
        """Values read from frames and their variances, infinite where missing, ``[B, T, D]``."""
        unwritten(self, "measure(batch)")

    @abstractmethod
    def guess(self, data: Readings, restart: int) -> LinearGaussian:
        """A system to start from: a random one, or one that the data suggest for restart 0."""
        unwritten(self, "guess(data, restart)")

    def e_step(
        self, system: LinearGaussian, data: Readings, before: Beliefs | None = None
    ) -> Beliefs:
        """E step: smoothed beliefs under each of the systems, ``[R, B, T, K]``.

        Arguments:
            system: parameters with a leading axis of restarts.
            data: what was read.
            before: the beliefs of the E step before, to start from; None in the first.
        """
        return kalman_smoother(system, data.value, data.variance, data.mask, data.inputs)

    @abstractmethod
    def m_step(self, system: LinearGaussian, beliefs: Beliefs, data: Readings) -> LinearGaussian:
        """M step: parameters that raise the expected log-density of path and data."""
        unwritten(self, "m_step(system, beliefs, data)")

    def log_prior(self, system: LinearGaussian, data: Readings) -> Tensor:
        """log p(parameters) up to a constant, ``[R]``."""
        return torch.zeros_like(system.dynamics[..., 0, 0])

    @abstractmethod
    def assign(self, system: LinearGaussian) -> None:
        """Copies the parameters of a system in."""
        unwritten(self, "assign(system)")


# Networks that answer ----------------------------------------------------------------------------


class AnswerModel(nn.Module):
    """p(y | x_{1:T}) from units h_t ~ p(h_t | x_t, h_{t-1}): a network that answers a sequence.

    You write
        the units
            ``rest()``, ``drive(obs)``, ``mean(drive, past)``,
            ``sample_units(mean)``
        the answer
            ``at_every_step(batch)``, ``log_score(states, target)``
        to check data
            ``prepare(batch)``
        for ``TargetPropagation``
            ``invert(drive, after)``

    You inherit
        ``num_stochastic`` (0): the first so many units are binary and sampled
        ``takes_missing`` (False): set it to True once missing values count for nothing
        ``prepare``, which gives the batch as it is
        ``straight_through``, made of ``sample_units``

    Then works
        rules: ``OutputBPTT`` (no stochastic units), ``StraightThrough``, ``TargetPropagation``
        diagnostics: ``target_alignment``; bounds and the rest if it is a ``SequenceModel``, too
    """

    num_stochastic: int = 0
    #: Whether it leaves values out that a batch says were not seen. Otherwise it refuses them.
    takes_missing: bool = False

    def prepare(self, batch: Batch) -> Batch:
        """A batch with its target, checked.

        Raises:
            ValueError: where the batch is not what the network takes.
        """
        return batch

    @abstractmethod
    def at_every_step(self, batch: Batch) -> bool:
        """Whether a batch asks for an answer at every step, or at the last one alone."""
        unwritten(self, "at_every_step(batch)")

    @abstractmethod
    def rest(self) -> Tensor:
        """h_0, ``[H]``."""
        unwritten(self, "rest()")

    @abstractmethod
    def drive(self, obs: Tensor) -> Tensor:
        """Input to the units from each frame alone, ``[..., I] -> [..., H]``."""
        unwritten(self, "drive(obs)")

    @abstractmethod
    def mean(self, drive: Tensor, past: Tensor) -> Tensor:
        """Means of h_t given h_{t-1}, ``[..., H]``."""
        unwritten(self, "mean(drive, past)")

    @abstractmethod
    def sample_units(self, mean: Tensor) -> Tensor:
        """h_t given its means, the stochastic units sampled without a gradient; ``[..., H]``."""
        unwritten(self, "sample_units(mean)")

    @abstractmethod
    def log_score(self, states: Tensor, target: Tensor) -> Tensor:
        """log of the mean over M states of p(target | h), ``[..., B]``, in nats.

        Arguments:
            states: ``[..., M, B, H]``.
            target: ``[..., B]``, or ``[..., B, D]`` for answers of several values.
        """
        unwritten(self, "log_score(states, target)")

    def straight_through(self, mean: Tensor) -> Tensor:
        """h_t given its means, ``[..., H]``; its gradient takes sampling for the identity."""
        return mean + (self.sample_units(mean) - mean).detach() if self.num_stochastic else mean

    def invert(self, drive: Tensor, after: Tensor) -> Tensor:
        """A learned estimate of h_{t-1} from x_t and h_t, ``[..., H]``.

        Raises:
            ValueError: for a network that does not write it.
        """
        raise ValueError(f"{type(self).__name__} has no inverse: that takes invert(drive, after)")


# Who writes them ---------------------------------------------------------------------------------


def unwritten(net: nn.Module, method: str) -> NoReturn:
    """Raises the error of a method that a network of some kind has not written."""
    raise NotImplementedError(f"{type(net).__name__} must define {method}")


def missing(net: object, kind: type) -> list[str]:
    """Names of the methods of a kind that a network of that kind has not written."""
    names = [name for name in dir(kind) if _is_abstract(kind, name)]
    return [name for name in names if _is_abstract(type(net), name)]


def _is_abstract(kind: type, name: str) -> bool:
    return bool(getattr(getattr(kind, name, None), "__isabstractmethod__", False))
