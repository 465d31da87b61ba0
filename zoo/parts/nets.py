"""Feed-forward nets, and initial values of weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from ...inference.checks import check_layers, check_number, check_real, check_sizes
from ..part import Described
from .checks import check_dropout
from .likelihoods import Likelihood
from .linear import Linear

__all__ = ["MLP", "ConvDecoder", "ConvEncoder", "activation", "scale_to_radius", "set_output_mean"]

SCANS = f"{__package__}.scans"  # the module of kernels, which numba compiles
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "linear": nn.Identity,
}


def activation(name: str) -> nn.Module:
    """An activation by name.

    Raises:
        ValueError: for a name not in ``ACTIVATIONS``.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]()


def activation_code(module: nn.Module) -> int | None:
    """The place of an activation in ``ACTIVATIONS``, by which kernels know it; None for another."""
    kinds = list(ACTIVATIONS.values())
    known = type(module) in kinds and getattr(module, "alpha", 1.0) == 1.0  # that of an ELU
    return kinds.index(type(module)) if known else None


class MLP(Described, nn.Sequential):
    """Fully connected layers with an activation after each but the last.

    Arguments:
        sizes: width of the input, of every hidden layer, and of the output.
        nonlinearity: a name in ``ACTIVATIONS``.
        last: activation after the last layer.
        skip: add a linear map from input to output.
        dropout: probability that a unit of a hidden layer is dropped.

    Example:
        >>> MLP([15, 64, 64, 10])(torch.zeros(2, 15)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        nonlinearity: str = "relu",
        last: str = "linear",
        skip: bool = False,
        dropout: float = 0.0,
    ) -> None:
        check_layers("sizes", sizes, 2)
        check_dropout(dropout=dropout)
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes), start=2):
            layers += [Linear(inputs, outputs)]
            layers += [activation(last if number == len(sizes) else nonlinearity)]
            if dropout and number < len(sizes):
                layers += [nn.Dropout(dropout)]
        super().__init__(*layers)
        self.skip = Linear(sizes[0], sizes[-1], bias=False) if skip else None

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """``[..., sizes[0]] -> [..., sizes[-1]]``."""
        out = value
        for name, layer in self._modules.items():
            if name != "skip" and layer is not None:
                out = layer(out)
        return out if self.skip is None else out + self.skip(value)


def set_output_mean(net: nn.Module, likelihood: Likelihood, mean: float) -> None:
    """Sets the bias of a net's last linear layer to the natural parameters of this mean."""
    check_real("mean", mean)
    last = [layer for layer in net.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        last.bias.copy_(likelihood.natural(torch.full((likelihood.dim,), mean)))


def scale_to_radius(
    weight: torch.Tensor, radius: float, incoming: int | None = None
) -> torch.Tensor:
    """Scales recurrent weights in place to a spectral radius, after dropping connections.

    Arguments:
        weight: Gaussian weights, ``[H, H]``, with a row for each receiving unit as in ``nn.RNN``.
        radius: the largest modulus of an eigenvalue.
        incoming: number of random connections that each unit keeps; None keeps all.

    Returns:
        ``weight``.

    Raises:
        ValueError: for arguments out of range, or weights whose eigenvalues are all 0.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning"
    (2013), section 4.
    """
    if weight.dim() != 2 or weight.shape[0] != weight.shape[1]:
        raise ValueError(f"recurrent weights must be square, got {tuple(weight.shape)}")
    check_real("the spectral radius", radius, above=0)
    if incoming is not None:
        check_number("incoming", incoming, most=len(weight))
    with torch.no_grad():
        if incoming is not None:
            dropped = torch.rand_like(weight).argsort(1)[:, incoming:]
            weight.scatter_(1, dropped, 0.0)
        largest = torch.linalg.eigvals(weight.double()).abs().max().item()
        if largest == 0:
            raise ValueError("all eigenvalues of the weights are 0: sample them again")
        return weight.mul_(radius / largest)


class ConvEncoder(Described, nn.Sequential):
    """Square grey images to codes: strided convolutions that halve the image, then a linear layer.

    Arguments:
        size: pixels along one side.
        width: size of the code.
        channels: channels of every convolution (4x4, stride 2).
        nonlinearity: activation after every layer, a name in ``ACTIVATIONS``.

    Raises:
        ValueError: when there are more convolutions than halvings of ``size``.

    Source: Radford et al., "Unsupervised representation learning with deep convolutional generative
    adversarial networks" (2016).

    Example:
        >>> ConvEncoder(30, 128)(torch.zeros(2, 5, 900)).shape
        torch.Size([2, 5, 128])
    """

    def __init__(
        self,
        size: int,
        width: int,
        channels: Sequence[int] = (16, 32, 64),
        nonlinearity: str = "relu",
    ) -> None:
        check_sizes(size=size, width=width)
        check_layers("channels", channels)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise((1, *channels)):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), activation(nonlinearity)]
        smallest = _halved(size, len(channels))[-1]
        full = nn.Linear(channels[-1] * smallest**2, width)
        super().__init__(*layers, nn.Flatten(), full, activation(nonlinearity))
        self.size = size

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Flattened images ``[..., size²]`` to codes ``[..., width]``."""
        image = obs.reshape(-1, 1, self.size, self.size)
        return super().forward(image).reshape(*obs.shape[:-1], -1)


class ConvDecoder(Described, nn.Sequential):
    """Codes to square grey images: two linear layers, then transposed convolutions that double it.

    Arguments:
        latent_dim: size of the input.
        size: pixels along one side.
        width: width of the first linear layer.
        channels: channels of the image before every convolution, from the smallest image on.
        nonlinearity: activation between the layers, a name in ``ACTIVATIONS``.
    """

    def __init__(
        self,
        latent_dim: int,
        size: int,
        width: int,
        channels: Sequence[int] = (64, 32, 16),
        nonlinearity: str = "relu",
    ) -> None:
        check_sizes(latent_dim=latent_dim, size=size, width=width)
        check_layers("channels", channels)
        sizes = _halved(size, len(channels))[::-1]
        smallest = channels[0] * sizes[0] ** 2
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, width),
            activation(nonlinearity),
            nn.Linear(width, smallest),
            activation(nonlinearity),
            nn.Unflatten(-1, (channels[0], sizes[0], sizes[0])),
        ]
        for (inputs, outputs), (before, after) in zip(
            itertools.pairwise((*channels, 1)), itertools.pairwise(sizes)
        ):
            odd = after - 2 * before
            layers.append(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, output_padding=odd))
            layers.append(activation(nonlinearity))
        super().__init__(*layers[:-1], nn.Flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Latents ``[..., K]`` to flattened images ``[..., size²]``, natural parameters."""
        return super().forward(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def _halved(size: int, times: int) -> list[int]:
    """The side of an image before and after every halving."""
    sizes = [size]
    for _ in range(times):
        sizes.append(sizes[-1] // 2)
    if sizes[-1] < 1:
        raise ValueError(f"{size} pixels cannot be halved {times} times: use fewer convolutions")
    return sizes
