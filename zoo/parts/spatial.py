"""Latent states on a grid: maps of features, for film.

A vector of latents lists the objects of a frame in some order, which no continuous code of
interchangeable objects can do. A map has no order. Its convolutions treat all places alike, so
motion and collisions learned at one place apply at all others.

A map of ``C`` channels on a grid of ``G`` by ``G`` places is a vector of ``C * G * G`` values,
channel by channel. These parts therefore fit wherever ``RVAE`` and ``TVAE`` take a guide, a
decoder, a decoder of the past or a predictor.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...inference.checks import check_layers, check_real, check_sizes
from ..part import Described
from .limits import held

__all__ = ["SpatialDecoder", "SpatialGuide", "SpatialNet"]

MAX_MEAN = 4.0  # standard deviations of the prior: keeps the recursion of a new guide bounded
MIN_SPREAD, MAX_SPREAD = 1e-3, 1.5
RAW_SPREAD = (-3.9, 1.9)  # softplus of these is 0.02 and 2


class SpatialNet(Described, nn.Module):
    """3x3 convolutions from maps to maps, with rectified units between them.

    Arguments:
        grid: places along one side, ``G``.
        inputs: channels of the input.
        outputs: channels of the output.
        width: channels of the layers between.
        layers: number of convolutions.
        spreads: the second half of the outputs are raw spreads, limited to 0.02 to 2 after a
            softplus. A predictor needs this, since its target is a belief that may be very narrow.

    Raises:
        ValueError: for fewer than one layer.

    Example:
        >>> SpatialNet(10, 8, 16, 32)(torch.zeros(5, 800)).shape
        torch.Size([5, 1600])
    """

    def __init__(
        self,
        grid: int,
        inputs: int,
        outputs: int,
        width: int,
        layers: int = 3,
        spreads: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(grid=grid, inputs=inputs, outputs=outputs, width=width, layers=layers)
        self.grid, self.inputs, self.spreads = grid, inputs, spreads
        sizes = [inputs, *[width] * (layers - 1), outputs]
        parts: list[nn.Module] = []
        for before, after in pairwise(sizes):
            parts += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        self.net = _channels_last(nn.Sequential(*parts[:-1]))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., inputs * G * G] -> [..., outputs * G * G]``."""
        maps = x.reshape(-1, self.inputs, self.grid, self.grid)
        out = self.net(maps).reshape(*x.shape[:-1], -1)
        if not self.spreads:
            return out
        mean, raw = out.chunk(2, -1)
        return torch.cat((mean, held(raw, *RAW_SPREAD)), -1)


class SpatialDecoder(Described, nn.Module):
    """A map of latents to the natural parameters of a square grey image.

    Arguments:
        grid: places along one side, ``G``.
        channels: channels of the latent map, ``C``.
        width: channels of the layers.
        strides: factors by which the image grows, from the map to the pixels.
        bias: initial natural parameter of a pixel.

    Example:
        >>> SpatialDecoder(10, 8, 32, strides=(3,))(torch.zeros(5, 800)).shape
        torch.Size([5, 900])
    """

    def __init__(
        self, grid: int, channels: int, width: int, strides: Sequence[int], bias: float = -2.5
    ) -> None:
        super().__init__()
        check_sizes(grid=grid, channels=channels, width=width)
        check_layers("strides", strides)
        check_real("bias", bias)
        self.grid, self.channels = grid, channels
        parts: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        parts += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        *inner, final = strides
        for stride in inner:
            parts += [nn.ConvTranspose2d(width, width, stride + 2, stride, 1), nn.ReLU()]
        last = nn.ConvTranspose2d(width, 1, final + 2, final, 1)
        assert last.bias is not None
        nn.init.constant_(last.bias, bias)
        self.net = _channels_last(nn.Sequential(*parts, last))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., C * G * G] -> [..., M]``."""
        maps = x.reshape(-1, self.channels, self.grid, self.grid)
        return self.net(maps).reshape(*x.shape[:-1], -1)


class SpatialGuide(Described, nn.Module):
    """q(x_t | u_{t-1}, y_t), a diagonal Gaussian over a map; u_t is its mean and its spread.

    Strided convolutions encode the frame before it meets the maps of u_{t-1} on the grid. With h(y)
    the encoded frame and f a net of 3x3 convolutions, mean_t and spread_t are f(h(y_t), u_{t-1},
    b). The input b is 1 at a first frame, whose past is blank, and 0 later. A blank past is all
    zeros, which no belief is.

    Arguments:
        grid: places along one side, ``G``.
        channels: channels of the latent map, ``C``.
        width: channels of the encoded frame; the layers of f have twice as many.
        strides: factors by which the image shrinks, from the pixels to the map.
        inputs: images that it reads: 2 in a model with ``sees_missing``, whose second image says
            which pixels were seen.

    Attributes:
        latent_dim: size of x, ``C * G * G``.
        statistics_dim: size of u, twice that.
    """

    complete = True  # u_t determines q(x_t)

    def __init__(
        self, grid: int, channels: int, width: int, strides: Sequence[int], inputs: int = 1
    ) -> None:
        super().__init__()
        check_sizes(grid=grid, channels=channels, width=width, inputs=inputs)
        check_layers("strides", strides)
        self.grid, self.channels, self.width, self.inputs = grid, channels, width, inputs
        self.size = grid * prod(strides)
        self.latent_dim = channels * grid**2
        self.statistics_dim = 2 * self.latent_dim
        parts: list[nn.Module] = []
        for place, stride in enumerate(strides):
            parts += [
                nn.Conv2d(width if place else inputs, width, stride + 2, stride, 1),
                nn.ReLU(),
            ]
        self.encoder = nn.Sequential(*parts, nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        layers: list[nn.Module] = [
            nn.Conv2d(width + 2 * channels + 1, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
        ]
        last = nn.Conv2d(2 * width, 2 * channels, 1)
        assert last.bias is not None
        with torch.no_grad():
            last.bias[channels:] = -1.0
        self.joint = _channels_last(nn.Sequential(*layers, last))
        _channels_last(self.encoder)

    def initial(self, rows: int) -> Tensor:
        """The blank past, ``[B, U]``."""
        return next(self.joint.parameters()).new_zeros(rows, self.statistics_dim)

    def encode(self, obs: Tensor) -> Tensor:
        """All that needs no past, ``[..., M] -> [..., width * G * G]``."""
        image = obs.unflatten(-1, (self.inputs, self.size, self.size)).flatten(end_dim=-4)
        return self.encoder(image).reshape(*obs.shape[:-1], -1)

    def moments(self, features: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread (standard deviation) of x_t, each ``[N, K]``."""
        shape = -1, self.grid, self.grid
        blank = (past[:, -1:] == 0).to(past)[..., None, None].expand(-1, 1, *shape[1:])
        maps = features.unflatten(1, shape), past.unflatten(1, shape), blank
        mean, spread = self.joint(torch.cat(maps, 1)).flatten(1).chunk(2, 1)
        spread = held(functional.softplus(spread) + MIN_SPREAD, 0.0, MAX_SPREAD)
        return held(mean, -MAX_MEAN, MAX_MEAN), spread

    def step(self, features: Tensor, past: Tensor) -> Tensor:
        """u_t, ``[N, U]``."""
        return torch.cat(self.moments(features, past), 1)

    def forward(self, features: Tensor, past: Tensor) -> dist.TorchDistribution:
        """q(x_t | u_{t-1}, y_t), batch shape ``[N]``, event shape ``[K]``."""
        return dist.Normal(*self.moments(features, past), validate_args=False).to_event(1)

    def posterior(self, statistics: Tensor) -> dist.TorchDistribution:
        """The belief with statistics ``[..., U]``."""
        mean, spread = statistics.chunk(2, -1)
        return dist.Normal(mean, spread.clamp_min(MIN_SPREAD), validate_args=False).to_event(1)


def _channels_last(net: nn.Sequential) -> nn.Sequential:
    """The net with its weights in the layout that a GPU's convolutions read fastest."""
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
