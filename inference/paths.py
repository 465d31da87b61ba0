"""Distributions of latent paths z_1 .. z_T, as Pyro distributions of event shape ``[T, K]``.

Priors and guides both return one of these, so any prior works with any guide. The divergence
KL(q || p) is exact where q is a ``LinearChain`` and p is a ``LinearChain`` or a ``GaussianPath``.
Subclasses may define another distribution and are excluded. The exact divergence is registered
with torch, so ``kl_divergence`` and Pyro's mean-field ELBO find it.

A path may be shorter than ``T``: steps where ``mask`` is False contribute nothing. This is exact.
Every distribution here runs forwards in time, so the beginning of a path does not depend on its
end.

Source of the divergences: Bayer & Osendorfer, "Variational inference of latent state sequences
using recurrent networks" (2014), section 3.3.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl

from .distributions import SampledDistribution

HALF_LOG_2PI = math.log(2 * math.pi) / 2


def previous(path: Tensor) -> Tensor:
    """z_{t-1} beside z_t, zero before the first step; ``[..., T, K] -> [..., T, K]``."""
    return torch.cat((torch.zeros_like(path[..., :1, :]), path[..., :-1, :]), -2)


class Path(SampledDistribution):
    """A distribution of paths. Subclasses define ``from_innovations`` and ``to_innovations``.

    A subclass that holds more than the mask and tensors that broadcast also defines ``expand``.

    Arguments:
        mask: True where a step is real, ``batch_shape + [T]``.
        dim: size ``K`` of the state.
        like: any tensor of the distribution; samples have its dtype and device.
    """

    advice = "take .mode, the path without noise, or average samples, .rsample((1000,)).mean(0)"
    has_rsample = True
    arg_constraints: ClassVar[dict] = {}
    support = constraints.independent(constraints.real, 2)  # pyright: ignore[reportAssignmentType]

    def __init__(self, mask: Tensor, dim: int, like: Tensor) -> None:
        self.real, self.like = mask, {"dtype": like.dtype, "device": like.device}
        event_shape = torch.Size((mask.shape[-1], dim))
        super().__init__(mask.shape[:-1], event_shape, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        wider = copy.copy(self)  # of the same class, whatever its arguments are
        wider.real = self.real.expand(*batch_shape, -1)
        wider._batch_shape = torch.Size(batch_shape)
        return wider

    def from_innovations(self, noise: Tensor) -> Tensor:
        """The path with the given innovations, ``[..., T, K] -> [..., T, K]``."""
        raise NotImplementedError(f"{type(self).__name__} must define from_innovations(noise)")

    def to_innovations(self, path: Tensor) -> tuple[Tensor, Tensor]:
        """Innovations and their scales: (z_t - E[z_t | z_<t]) / sd[z_t | z_<t], and that sd.

        Each broadcasts to ``[..., T, K]``. A path's innovations are white noise.
        """
        raise NotImplementedError(f"{type(self).__name__} must define to_innovations(path)")

    @property
    def mode(self) -> Tensor:
        """The path without noise, ``[..., T, K]``; the most likely path of a Gaussian.

        With nonlinear transitions it is the greedy path: each step is the most likely one given
        the steps before it.
        """
        return self.from_innovations(torch.zeros(self._extended_shape(), **self.like))

    def propose(self, step: int, before: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and sd of z_t given the path before it, for a particle filter; each ``[..., B, K]``.

        Arguments:
            step: t.
            before: z_{t-1}, ``[..., B, K]`` (the first ``B`` rows of the batch).
            memory: the decoder's memory of z_1 .. z_{t-1}, ``[..., B, U]``.

        Raises:
            ValueError: for a distribution that has no such step.
        """
        raise ValueError(
            f"{type(self).__name__} is no Markov chain: a particle filter needs one, such as "
            "WienerProcess or AR1"
        )

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.from_innovations(torch.randn(shape, **self.like))

    def step_log_probs(self, path: Tensor) -> Tensor:
        """log p(z_t | z_<t), zero where the mask is False; ``[..., T]``."""
        noise, scale = self.to_innovations(path)
        terms = -noise.square() / 2 - scale.log() - HALF_LOG_2PI
        return torch.where(self.real, terms.sum(-1), 0.0)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z), ``[...]``."""
        return self.step_log_probs(value).sum(-1)

    def _entropy(self, log_scales: Tensor) -> Tensor:
        """The entropy where scales do not depend on the path; ``log_scales [..., T]``, summed."""
        each = log_scales + self.event_shape[-1] * (HALF_LOG_2PI + 0.5)
        return torch.where(self.real, each, 0.0).sum(-1)


class LinearChain(Path):
    """z_t = a_t z_{t-1} + b_t + s_t e_t, with z_0 = 0 and white e_t, independently per dimension.

    Special cases are the Wiener process (a = 1), white noise and the diagonal guide (a = 0),
    autoregressive processes, independent increments, and any Gaussian Markov chain that does not
    mix dimensions. For another distribution, subclass ``Path`` instead: ``moments``, ``response``
    and ``propose`` hold for this chain only.

    Arguments:
        mask: True where a step is real, ``batch_shape + [T]``.
        coefficient: a, a number or a tensor that broadcasts to ``batch_shape + [T, K]``.
        offset, scale: b and s > 0, tensors that broadcast to ``batch_shape + [T, K]``.

    Raises:
        ValueError: when an argument does not broadcast to that shape, or ``scale`` is not a tensor.
            Values are not checked: a scale that is not positive makes the loss NaN or infinite.
    """

    def __init__(
        self, mask: Tensor, coefficient: float | Tensor, offset: Tensor, scale: Tensor
    ) -> None:
        self.coefficient, self.offset, self.scale = coefficient, offset, scale
        if not isinstance(scale, Tensor):
            raise ValueError(f"scale must be a tensor [..., T, K], got {scale!r}: see torch.full")
        parts = {"coefficient": coefficient, "offset": offset, "scale": scale}
        shapes = {name: part.shape for name, part in parts.items() if isinstance(part, Tensor)}
        dim = max((shape[-1] for shape in shapes.values() if shape), default=0)
        whole = (*mask.shape, dim)
        for name, shape in shapes.items():
            axes = zip(reversed(shape), reversed(whole))
            if not 0 < len(shape) <= len(whole) or any(n not in (1, m) for n, m in axes):
                raise ValueError(
                    f"{name} must broadcast to [batch, steps, latents] = {whole}, "
                    f"got {tuple(shape)}"
                )
        super().__init__(mask, dim, scale)

    def from_innovations(self, noise: Tensor) -> Tensor:
        return self._accumulate(self.coefficient, self.offset + self.scale * noise)

    def to_innovations(self, path: Tensor) -> tuple[Tensor, Tensor]:
        return (path - self.coefficient * previous(path) - self.offset) / self.scale, self.scale

    def propose(
        self, step: int, before: Tensor, memory: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        rows, a = before.shape[-2], self.coefficient
        a = self._at(a, step, rows) if isinstance(a, Tensor) else a
        mean = a * before + self._at(self.offset, step, rows)
        return mean, self._at(self.scale, step, rows).expand_as(before)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of each z_t, ``[..., T, K]``."""
        shape = self._extended_shape()
        mean = self._accumulate(self.coefficient, self.offset.expand(shape))
        squared = self.coefficient * self.coefficient
        return mean, self._accumulate(squared, self.scale.square().expand(shape))

    @property
    def mean(self) -> Tensor:
        """The mean path, which is also the most likely one, ``[..., T, K]``."""
        return self.moments()[0]

    @property
    def variance(self) -> Tensor:
        """Variance of each z_t, ``[..., T, K]``."""
        return self.moments()[1]

    def entropy(self) -> Tensor:
        """-E[log p(z)] of the real steps, nats, ``[...]``."""
        each = self.scale.log().expand(self._extended_shape()).sum(-1)
        return self._entropy(each)

    def response(self) -> Tensor:
        """The lower triangular C of z = mean + C e, ``[..., K, T, T]``: covariance C C'."""
        shape = self._extended_shape()
        impulses = torch.diag_embed(self.scale.expand(shape).transpose(-1, -2))
        a = self.coefficient
        a = a.expand(shape).transpose(-1, -2)[..., None] if isinstance(a, Tensor) else a
        return self._accumulate(a, impulses)

    @staticmethod
    def _at(part: Tensor, step: int, rows: int) -> Tensor:
        """The value of an argument at one step, for the first rows of a batch."""
        now = part[..., step if part.shape[-2] > 1 else 0, :]
        return now[..., :rows, :] if now.dim() > 1 else now

    @staticmethod
    def _accumulate(a: float | Tensor, drive: Tensor) -> Tensor:
        """y_t = a_t y_{t-1} + drive_t along dim -2; in parallel where a is 0 or 1 throughout."""
        if not isinstance(a, Tensor):
            if a == 0:
                return drive
            if a == 1:
                return drive.cumsum(-2)
            a = drive.new_full((1, 1), a)
        coefficients = a.expand(*a.shape[:-2], drive.shape[-2], a.shape[-1]).unbind(-2)
        values, *rest = drive.unbind(-2)
        path = [values]
        for coefficient, value in zip(coefficients[1:], rest):
            path.append(torch.addcmul(value, coefficient, path[-1]))
        return torch.stack(path, -2)


class GaussianPath(Path):
    """Zero-mean Gaussian paths with any covariance over time, the same for every dimension.

    Arguments:
        mask: True where a step is real, ``batch_shape + [T]``.
        factor: Cholesky factor of the covariance between the steps, ``[T, T]``.
        dim: size ``K`` of the state.
    """

    def __init__(self, mask: Tensor, factor: Tensor, dim: int) -> None:
        self.factor = factor
        super().__init__(mask, dim, factor)

    @property
    def mean(self) -> Tensor:
        """Zero, ``[..., T, K]``."""
        return torch.zeros(self._extended_shape(), **self.like)

    @property
    def variance(self) -> Tensor:
        """Variance of each z_t, ``[..., T, K]``."""
        return self.factor.square().sum(-1)[:, None].expand(self._extended_shape())

    def entropy(self) -> Tensor:
        """-E[log p(z)] of the real steps, nats, ``[...]``."""
        return self._entropy(self.event_shape[-1] * self.factor.diagonal().log())

    def from_innovations(self, noise: Tensor) -> Tensor:
        return self.factor @ noise

    def to_innovations(self, path: Tensor) -> tuple[Tensor, Tensor]:
        return self.whiten(path), self.factor.diagonal()[:, None]

    def whiten(self, columns: Tensor) -> Tensor:
        """The innovations of paths, or of the columns of any ``[..., T, N]``."""
        return torch.linalg.solve_triangular(self.factor, columns, upper=False)


def kl_steps(q: Path, p: Path, path: Tensor | None = None) -> Tensor:
    """KL(q || p) as a sum over steps, ``[..., T]``.

    It is exact where q is a ``LinearChain`` and p is a ``LinearChain`` or a ``GaussianPath``;
    subclasses are excluded, because they may be another distribution. Otherwise it is the
    divergence of each step given the earlier steps of a sampled path. Its expectation over paths
    is exact, and its variance is usually less than that of a difference of log-densities.

    Arguments:
        q, p: the two distributions.
        path: a sample from q, ``[..., T, K]``; unused where the divergence is exact.

    Raises:
        NotImplementedError: when there is neither an exact divergence nor a path.
    """
    exact = {LinearChain: _chain_from_chain, GaussianPath: _chain_from_gaussian}.get(type(p))
    if type(q) is LinearChain and exact is not None:
        terms = exact(q, p)
    elif path is not None:
        (q_noise, q_scale), (p_noise, p_scale) = q.to_innovations(path), p.to_innovations(path)
        shift = q_noise * q_scale - p_noise * p_scale  # of the means given the path so far
        spread = (q_scale.square() + shift.square()) / p_scale.square()
        terms = (p_scale / q_scale).log() + (spread - 1) / 2
    else:
        names = f"{type(q).__name__} and {type(p).__name__}"
        raise NotImplementedError(f"no exact divergence between {names} is known: pass a path")
    return torch.where(q.real, terms.sum(-1), 0.0)


def _chain_from_chain(q: LinearChain, p: LinearChain) -> Tensor:
    mean, variance = q.moments()
    mean, variance = previous(mean), previous(variance)
    slope = q.coefficient - p.coefficient
    shift = slope * mean + q.offset - p.offset
    spread = q.scale.square() + slope * slope * variance + shift.square()
    return (p.scale / q.scale).log() + (spread / p.scale.square() - 1) / 2


def _chain_from_gaussian(q: LinearChain, p: GaussianPath) -> Tensor:
    scale, a = p.factor.diagonal()[:, None], q.coefficient
    if isinstance(a, Tensor):
        spread = p.whiten(q.response()).square().sum(-1).transpose(-1, -2)  # [..., T, K]
    else:  # impulses of unit size die away alike in every path: one [T, T] for all of them
        unit = q._accumulate(a, torch.eye(len(scale), **p.like))
        spread = p.whiten(unit).square() @ q.scale.square().expand(q._extended_shape())
    return (scale / q.scale).log() + (spread + p.whiten(q.mean).square() - 1) / 2


@register_kl(LinearChain, LinearChain)
@register_kl(LinearChain, GaussianPath)
def _exact(q: Path, p: Path) -> Tensor:
    return kl_steps(q, p).sum(-1)


def marginal_increments(q: LinearChain, p: LinearChain) -> Tensor:
    """The term that the paper describes in place of the KL; **not a divergence of the paths**.

    This is the divergence of each increment's *marginal* under q from its prior N(0, s²), summed
    over dimensions; ``[..., T]``. The published guide is a diagonal Gaussian over the z_t, so
    neighbouring increments share z_{t-1} and depend on each other. The sum of marginal divergences
    ignores this: it is below KL(q || p) by ln((s_t² + s_{t-1}²) / s_t²) / 2 per step and dimension.
    A loss built with it is **no upper bound** on the negative log-likelihood. Training can exploit
    it: with vague steps (s_t = 1) between precise ones (s_t near 0) the term stays near 0, while
    the divergence of the paths grows without limit.

    Source: Bayer & Osendorfer (2014), section 3.3, last paragraph, read literally.

    Raises:
        ValueError: when p is not a Wiener process or q not a ``LinearChain``.
    """
    wiener = type(p) is LinearChain and not isinstance(p.coefficient, Tensor)
    if not (type(q) is LinearChain and wiener and p.coefficient == 1):
        raise ValueError(
            "the marginal-increments objective needs a Gaussian chain and a Wiener prior, got "
            f"{type(q).__name__} and {type(p).__name__}: use objective='elbo'"
        )
    mean, variance = q.moments()
    before = previous(variance)
    spread = (variance + before - 2 * q.coefficient * before) / p.scale.square()
    shift = (mean - previous(mean)).square() / p.scale.square()
    terms = (spread + shift - 1 - spread.log()) / 2
    return torch.where(q.real, terms.sum(-1), 0.0)
