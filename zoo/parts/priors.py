"""Priors over whole latent paths.

``Prior`` lists the members that a model uses. A user's own prior is any ``nn.Module`` with these
members.

Source: Bayer & Osendorfer, "Variational inference of latent state sequences using recurrent
networks" (2014), section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import pyro
import torch
from pyro.contrib.gp import kernels
from torch import Tensor, nn

from ...inference.checks import check_number, check_real
from ...inference.paths import GaussianPath, LinearChain, Path
from ...inference.rng import LOCK
from ..part import Described

__all__ = ["AR1", "GaussianProcess", "WhiteNoise", "WienerProcess"]

JITTER = 1e-6  # relative to the first step's variance: smooth kernels are nearly singular

KERNELS: dict[str, Callable[..., kernels.Kernel]] = {
    "brownian": kernels.Brownian,
    "exponential": kernels.Exponential,
    "matern32": kernels.Matern32,
    "matern52": kernels.Matern52,
    "rbf": kernels.RBF,
}


class Prior(Protocol):
    """The members of a prior over latent paths."""

    @property
    def dim(self) -> int:
        """Size of the state, ``K``."""
        ...

    def __call__(self, mask: Tensor, /) -> Path:
        """p(z) of paths as long as ``mask [B, T]``: batch shape ``[B]``, event shape ``[T, K]``."""
        ...


class WhiteNoise(Described, nn.Module):
    """z_t = s e_t: white noise, with independent steps.

    Arguments:
        dim: size ``K`` of the state.
        scale: standard deviation s.
        learn: make s a parameter, one value for each dimension.

    Raises:
        ValueError: when ``dim`` or ``scale`` is not positive.
    """

    formula = "z[t] = s e[t]"
    coefficient: float | Tensor = 0.0

    def __init__(self, dim: int, scale: float = 1.0, learn: bool = False) -> None:
        super().__init__()
        check_number("dim", dim)
        check_real("scale", scale, above=0)
        self.dim = dim
        self.log_scale = nn.Parameter(torch.full((dim,), math.log(scale)), requires_grad=learn)

    def scales(self, mask: Tensor) -> Tensor:
        """s_t, broadcasts to ``[T, K]``."""
        return self.log_scale.exp()[None]

    def forward(self, mask: Tensor) -> LinearChain:
        """p(z) of paths as long as ``mask [..., T]``, batch shape ``[...]``."""
        scale = self.scales(mask)
        return LinearChain(mask, self.coefficient, torch.zeros_like(scale), scale)

    def extra_repr(self) -> str:
        return f"{self.dim}, {self.formula}"


class WienerProcess(WhiteNoise):
    """z_t = z_{t-1} + s e_t: a Wiener process, with independent increments.

    Arguments:
        dim: size ``K`` of the state.
        scale: standard deviation s of an increment.
        learn: make s a parameter, one value for each dimension.

    Raises:
        ValueError: when ``dim`` or ``scale`` is not positive.
    """

    formula = "z[t] = z[t-1] + s e[t]"
    coefficient = 1.0


class AR1(WhiteNoise):
    """z_t = a z_{t-1} + s sqrt(1 - a²) e_t: stationary, with variance s² at every step.

    Arguments:
        dim: size ``K`` of the state.
        coefficient: a, in (-1, 1).
        scale: standard deviation s of every z_t.
        learn: make s a parameter, one value for each dimension.

    Raises:
        ValueError: when ``dim`` or ``scale`` is not positive, or ``coefficient`` not in (-1, 1).
    """

    coefficient: float

    formula = "z[t] = a z[t-1] + s sqrt(1 - a²) e[t]"

    def __init__(
        self, dim: int, coefficient: float = 0.9, scale: float = 1.0, learn: bool = False
    ) -> None:
        super().__init__(dim, scale, learn)
        check_real("coefficient", coefficient, above=-1, below=1)
        self.coefficient = coefficient

    def scales(self, mask: Tensor) -> Tensor:
        """s for the first step, s sqrt(1 - a²) for the others, all stationary, ``[T, K]``."""
        factor = self.log_scale.new_full((mask.shape[-1], 1), math.sqrt(1 - self.coefficient**2))
        factor[0] = 1.0
        return self.log_scale.exp() * factor


class GaussianProcess(Described, nn.Module):
    """z_{1:T} ~ N(0, k(t, r)) for every dimension, with any kernel of ``pyro.contrib.gp``.

    The cost grows as T³ for the covariance, and as T² for each path.

    Arguments:
        dim: size ``K`` of the state.
        kernel: a name in ``KERNELS``, or a kernel of ``pyro.contrib.gp`` over one input, the time.
        lengthscale: of a kernel given by name, in steps; of no use for ``"brownian"``.
        variance: of a kernel given by name.
        learn: train the parameters of the kernel.

    Raises:
        ValueError: when ``dim`` is not positive, or the kernel unknown.
    """

    def __init__(
        self,
        dim: int,
        kernel: str | kernels.Kernel = "rbf",
        lengthscale: float = 5.0,
        variance: float = 1.0,
        learn: bool = False,
    ) -> None:
        super().__init__()
        check_number("dim", dim)
        check_real("lengthscale", lengthscale, above=0)
        check_real("variance", variance, above=0)
        if isinstance(kernel, str):
            if kernel not in KERNELS:
                raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {kernel!r}")
            settings = {"variance": torch.tensor(float(variance))}
            if kernel != "brownian":
                settings["lengthscale"] = torch.tensor(float(lengthscale))
            kernel = KERNELS[kernel](input_dim=1, **settings)
        self.dim = dim
        self.kernel: kernels.Kernel = kernel
        for setting in kernel.parameters():
            setting.requires_grad_(learn)

    def forward(self, mask: Tensor) -> GaussianPath:
        """p(z) of paths as long as ``mask [..., T]``, batch shape ``[...]``."""
        steps = mask.shape[-1]
        setting = next(self.kernel.parameters())
        times = torch.arange(1, steps + 1, device=setting.device, dtype=setting.dtype)
        with LOCK, pyro.get_param_store().scope():  # calling a kernel writes to Pyro's one store
            covariance = self.kernel(times).double()
        jitter = JITTER * covariance[0, 0].detach()  # independent of the length of the path
        factor = torch.linalg.cholesky(covariance + jitter * torch.eye(steps).to(covariance))
        return GaussianPath(mask, factor.to(setting.dtype), self.dim)

    def extra_repr(self) -> str:
        return f"{self.dim}, z ~ GP(0, {type(self.kernel).__name__})"
