"""Priors over whole latent paths: modules that turn a mask ``[B, T]`` into a law of paths.

A user's own prior is any module with an attribute ``dim`` that returns an ``inference.Path``.

Source: Bayer & Osendorfer, "Variational inference of latent state sequences using recurrent
networks" (2014), section 3.3.
"""

from __future__ import annotations

import math

import pyro
import torch
from pyro.contrib.gp import kernels
from torch import Tensor, nn

from ...inference.paths import GaussianPath, LinearChain
from ..part import Described

__all__ = ["AR1", "GaussianProcess", "WhiteNoise", "WienerProcess"]

JITTER = 1e-6  # relative to the first step's variance: smooth kernels are singular

KERNELS = {
    "brownian": kernels.Brownian,
    "exponential": kernels.Exponential,
    "matern32": kernels.Matern32,
    "matern52": kernels.Matern52,
    "rbf": kernels.RBF,
}


class WhiteNoise(Described, nn.Module):
    """z_t = s e_t: nothing is remembered from one step to the next.

    Arguments:
        dim: size ``K`` of the state.
        scale: standard deviation s.
        learn: make s a parameter, one for each dimension.

    Raises:
        ValueError: when ``dim`` or ``scale`` is not positive.
    """

    formula = "z[t] = s e[t]"
    coefficient: float | Tensor = 0.0

    def __init__(self, dim: int, scale: float = 1.0, learn: bool = False):
        super().__init__()
        if dim < 1 or scale <= 0:
            raise ValueError(f"dim and scale must be positive, got {dim} and {scale}")
        self.dim = dim
        start = torch.full((dim,), math.log(scale))
        self.log_scale = nn.Parameter(start, requires_grad=learn)

    def scales(self, mask: Tensor) -> Tensor:
        """s_t, broadcasts to ``[T, K]``."""
        return self.log_scale.exp()[None]

    def forward(self, mask: Tensor) -> LinearChain:
        """The law of paths as long as ``mask [..., T]``, batch shape ``[...]``."""
        scale = self.scales(mask)
        return LinearChain(mask, self.coefficient, torch.zeros_like(scale), scale)

    def extra_repr(self) -> str:
        return f"{self.dim}, {self.formula}"


class WienerProcess(WhiteNoise):
    """z_t = z_{t-1} + s e_t: independent increments, the paper's prior.

    Arguments:
        dim, scale, learn: see ``WhiteNoise``; s is the standard deviation of an increment.
    """

    formula = "z[t] = z[t-1] + s e[t]"
    coefficient = 1.0


class AR1(WhiteNoise):
    """z_t = a z_{t-1} + s sqrt(1 - a²) e_t: forgets, and has the same variance s² at every step.

    Arguments:
        dim, scale, learn: see ``WhiteNoise``; s is the standard deviation of every z_t.
        coefficient: a, in (-1, 1).

    Raises:
        ValueError: when ``coefficient`` is not in (-1, 1).
    """

    formula = "z[t] = a z[t-1] + s sqrt(1 - a²) e[t]"

    def __init__(self, dim: int, coefficient: float = 0.9, scale: float = 1.0, learn: bool = False):
        super().__init__(dim, scale, learn)
        if not -1 < coefficient < 1:
            raise ValueError(f"coefficient must be in (-1, 1), got {coefficient}")
        self.coefficient = coefficient

    def scales(self, mask: Tensor) -> Tensor:
        later = math.sqrt(1 - self.coefficient**2)
        share = self.log_scale.new_full((mask.shape[-1], 1), later)
        share[0] = 1.0  # the first step starts in the stationary law
        return self.log_scale.exp() * share


class GaussianProcess(Described, nn.Module):
    """z_{1:T} ~ N(0, k(t, r)) for every dimension, with any kernel of ``pyro.contrib.gp``.

    Time costs: T³ for the law, T² a path.

    Arguments:
        dim: size ``K`` of the state.
        kernel: a name in ``KERNELS``, or a kernel of ``pyro.contrib.gp`` over one input, the time.
        lengthscale: in steps, of a kernel given by name (a Brownian one has none).
        variance: of a kernel given by name.
        learn: make the kernel's settings parameters.

    Raises:
        ValueError: for an unknown kernel.
    """

    def __init__(
        self,
        dim: int,
        kernel: str | kernels.Kernel = "rbf",
        lengthscale: float = 5.0,
        variance: float = 1.0,
        learn: bool = False,
    ):
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be positive, got {dim}")
        if isinstance(kernel, str):
            if kernel not in KERNELS:
                raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {kernel!r}")
            settings = {"variance": torch.tensor(float(variance))}
            if kernel != "brownian":
                settings["lengthscale"] = torch.tensor(float(lengthscale))
            kernel = KERNELS[kernel](input_dim=1, **settings)
        self.dim, self.kernel = dim, kernel
        for setting in kernel.parameters():
            setting.requires_grad_(learn)

    def forward(self, mask: Tensor) -> GaussianPath:
        """The law of paths as long as ``mask [..., T]``, batch shape ``[...]``."""
        steps = mask.shape[-1]
        setting = next(self.kernel.parameters())
        times = torch.arange(1, steps + 1, device=setting.device, dtype=setting.dtype)
        with pyro.get_param_store().scope():  # a kernel that is called writes its parameters there
            covariance = self.kernel(times).double()
        jitter = JITTER * covariance[0, 0].detach()  # the same however long the path is
        factor = torch.linalg.cholesky(covariance + jitter * torch.eye(steps).to(covariance))
        return GaussianPath(mask, factor.to(setting.dtype), self.dim)

    def extra_repr(self) -> str:
        return f"{self.dim}, z ~ GP(0, {type(self.kernel).__name__})"
