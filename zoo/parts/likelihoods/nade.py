"""NADE: binary units that see the units before them, p(x) = prod_i p(x_i | x_1 .. x_{i-1}).

p(x_i = 1 | x_<i) = sigmoid(b_i + V_i . sigmoid(c + sum_{j<i} W_j x_j))

with visible biases b, hidden biases c, and weights W (``below``, from the units already seen) and
V (``above``, to the next one). The joint is exact and tractable, unlike that of a restricted
Boltzmann machine. As the output of a recurrent network (RNN-NADE), the network puts out b and c of
every frame, and W and V are shared by all frames.

Sources: Larochelle & Murray, "The neural autoregressive distribution estimator" (2011), equations
6 and 7; Boulanger-Lewandowski et al., "Modeling temporal dependencies in high-dimensional
sequences" (2012), section 6.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn import functional

from ...part import Described


class NADEDistribution(TorchDistribution):
    """Binary frames of ``M`` units with the law of a NADE with ``H`` hidden units.

    ``mean`` is not defined: it has no closed form (``NADE.mean`` estimates it).

    Arguments:
        visible_bias: b, ``[..., M]``.
        hidden_bias: c, ``[..., H]``.
        below: W, ``[M, H]``.
        above: V, ``[M, H]``.
        validate_args: whether arguments and values are checked.

    Raises:
        ValueError: when the shapes do not fit.
    """

    arg_constraints = {  # noqa: RUF012  (torch declares it so)
        "visible_bias": constraints.real_vector,
        "hidden_bias": constraints.real_vector,
        "below": constraints.independent(constraints.real, 2),
        "above": constraints.independent(constraints.real, 2),
    }
    support = constraints.independent(constraints.boolean, 1)

    def __init__(
        self,
        visible_bias: Tensor,
        hidden_bias: Tensor,
        below: Tensor,
        above: Tensor,
        validate_args: bool | None = None,
    ):
        sizes = visible_bias.shape[-1:] + hidden_bias.shape[-1:]
        if not below.shape == above.shape == sizes:
            raise ValueError(
                f"below and above must both be {tuple(sizes)}, as the biases say, "
                f"got {tuple(below.shape)} and {tuple(above.shape)}"
            )
        batch = torch.broadcast_shapes(visible_bias.shape[:-1], hidden_bias.shape[:-1])
        self.visible_bias = visible_bias.expand(batch + sizes[:1])
        self.hidden_bias = hidden_bias.expand(batch + sizes[1:])
        self.below, self.above = below, above
        super().__init__(batch, sizes[:1], validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        biases = (bias.expand((*batch_shape, -1)) for bias in (self.visible_bias, self.hidden_bias))
        return NADEDistribution(*biases, self.below, self.above, self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x), exact: ``[..., M]`` to ``[...]``, in nats.

        The hidden layer of a frame changes only after an active unit: a frame with a active units
        has a + 1 hidden layers, not M. So all logits take one product with V over these, which
        for sparse frames is cheap; dense ones are as right, and slower.
        """
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        # Leading axes that only the parameters have (particles) share the work on the indices.
        own = len(_stripped(value.shape[:-1]))
        lead, core = shape[: len(shape) - own], shape[len(shape) - own :]
        value = value.reshape(value.shape[value.dim() - 1 - own :]).expand((*core, -1))
        frames = value.reshape(-1, self.event_shape[0]).to(self.below.dtype)
        visible, hidden = (
            bias.expand((*shape, -1)).reshape((*lead, len(frames), bias.shape[-1]))
            for bias in (self.visible_bias, self.hidden_bias)
        )

        before = frames.cumsum(-1).sub_(frames).long()  # active units below every unit, [N, M]
        seen, owner, start = self._seen(frames, before)  # one row for each distinct hidden layer
        layers = torch.sigmoid(hidden.index_select(-2, owner) + seen)
        logits = functional.linear(layers, self.above)
        place = (start[:, None] + before) * frames.shape[1]
        place += torch.arange(frames.shape[1], device=place.device)
        own_logits = logits.flatten(-2).index_select(-1, place.flatten()).view_as(visible) + visible
        losses = functional.binary_cross_entropy_with_logits(
            own_logits, frames.expand_as(own_logits), reduction="none"
        )
        return -losses.sum(-1).view(shape)

    def _seen(self, frames: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the active units add to the hidden layer, after each of them.

        Arguments:
            frames: ``[N, M]``.
            before: number of active units below each unit, ``[N, M]``.

        Returns:
            The sums of rows of W, ``[R, H]``: for every frame the empty sum, then one more row
            for each active unit, in order. With them the frame of every row, ``[R]``, and the
            first row of every frame, ``[N]``.
        """
        lengths = frames.sum(-1).long() + 1
        start = lengths.cumsum(0) - lengths
        owner = torch.arange(len(frames), device=frames.device).repeat_interleave(lengths)
        rank = torch.arange(len(owner), device=frames.device) - start[owner]
        # One product for all rows: no frame is padded to the fullest one.
        summed = torch.where(before[owner] < rank[:, None], frames[owner], 0.0)
        return summed @ self.below, owner, start

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Ancestral draws, unit after unit: ``sample_shape + [..., M]``."""
        return self.draw(sample_shape)[0]

    @torch.no_grad()
    def draw(self, sample_shape: torch.Size = torch.Size()) -> tuple[Tensor, Tensor]:  # noqa: B008
        """Ancestral draws and, unit by unit, the probability that each was drawn with.

        Returns:
            Bits and p(x_i = 1 | x_<i), both ``sample_shape + [..., M]``.
        """
        shape = self._extended_shape(sample_shape)
        uniform = torch.rand(shape, device=self.below.device).unbind(-1)
        return self._ancestral(shape, lambda unit, chance: uniform[unit] < chance)

    @torch.no_grad()
    def mode(self) -> Tensor:
        """The greedy frame, ``[..., M]``: every unit takes its likelier value, in order.

        It need not be the likeliest frame, which would take a search over all of them.
        """
        return self._ancestral(self._extended_shape(), lambda unit, chance: chance > 0.5)[0]

    def _ancestral(
        self, shape: torch.Size, choose: Callable[[int, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        bits = self.visible_bias.new_zeros(shape)
        chances = torch.empty_like(bits)
        hidden = self.hidden_bias.expand(shape[:-1] + self.hidden_bias.shape[-1:]).clone()
        for unit, (row, column) in enumerate(zip(self.below, self.above)):
            logit = torch.sigmoid(hidden) @ column + self.visible_bias[..., unit]
            chances[..., unit] = torch.sigmoid(logit)
            bits[..., unit] = choose(unit, chances[..., unit])
            hidden.addcmul_(bits[..., unit, None], row)
        return bits, chances


def _stripped(shape: torch.Size) -> torch.Size:
    """A shape without its leading ones."""
    first = next((axis for axis, size in enumerate(shape) if size != 1), len(shape))
    return shape[first:]


class NADE(Described, nn.Module):
    """Binary units that depend on each other within a frame: a likelihood beside ``Bernoulli``.

    It is no exponential family with a parameter for each unit: a network that decodes into it
    puts out ``natural_dim`` values a frame, the visible biases and then the hidden ones. It has
    no ``log_normaliser``, and a harmonium cannot take it for its visible units.

    Arguments:
        dim: number of units ``M``.
        hidden: number of hidden units ``H``.

    Raises:
        ValueError: for a number below 1.

    Example:
        >>> NADE(88, hidden=50).distribution(torch.zeros(2, 138)).sample().shape
        torch.Size([2, 88])
    """

    event_dim = 1

    def __init__(self, dim: int, hidden: int = 100):
        super().__init__()
        if dim < 1 or hidden < 1:
            raise ValueError(f"NADE needs units of both kinds, got {dim} and {hidden} hidden ones")
        self.dim, self.hidden = dim, hidden
        self.below = nn.Parameter(0.01 * torch.randn(dim, hidden))
        self.above = nn.Parameter(0.01 * torch.randn(dim, hidden))

    @property
    def natural_dim(self) -> int:
        """What a network must put out for a frame: ``M + H`` values."""
        return self.dim + self.hidden

    def distribution(self, natural: Tensor) -> NADEDistribution:
        """p(y | b, c): ``[..., M + H]`` to a batch ``[...]`` with event shape ``[M]``.

        Raises:
            ValueError: when the last axis is not ``M + H``.
        """
        if natural.shape[-1] != self.natural_dim:
            raise ValueError(
                f"NADE({self.dim}, hidden={self.hidden}) needs {self.natural_dim} values a frame "
                f"(visible and hidden biases), got {natural.shape[-1]}"
            )
        biases = natural.split([self.dim, self.hidden], -1)
        return NADEDistribution(*biases, self.below, self.above, validate_args=False)

    def sample(self, natural: Tensor) -> Tensor:
        """A draw, ``[..., M + H] -> [..., M]``."""
        return self.distribution(natural).sample()

    def mode(self, natural: Tensor) -> Tensor:
        """The greedy frame, ``[..., M + H] -> [..., M]``: not always the likeliest one."""
        return self.distribution(natural).mode()

    def mean(self, natural: Tensor, draws: int = 32) -> Tensor:
        """Estimated E[y], ``[..., M + H] -> [..., M]``, without a gradient.

        The marginal of a unit is a sum over all frames. This averages p(x_i = 1 | x_<i) over
        ancestral draws: unbiased, and of less variance than averaging the bits (Rao-Blackwell).
        The standard error of a unit is at most ``0.5 / sqrt(draws)``.

        Arguments:
            natural: visible and hidden biases.
            draws: number of ancestral draws.
        """
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        law = self.distribution(natural)
        total = sum(law.draw()[1] for _ in range(draws))
        return total / draws

    @torch.no_grad()
    def natural(self, mean: Tensor) -> Tensor:
        """Biases to start from, ``[..., M] -> [..., M + H]``.

        Hidden biases are 0. A visible bias gives its unit this probability when the units before
        it stand at their means: exact for W = 0 or V = 0, close for the small weights of a new
        NADE.
        """
        seen = mean[..., None] * self.below
        layers = torch.sigmoid(seen.cumsum(-2) - seen)
        visible = torch.logit(mean, eps=1e-3) - (layers * self.above).sum(-1)
        return torch.cat([visible, mean.new_zeros((*mean.shape[:-1], self.hidden))], -1)

    def check(self, value: Tensor) -> None:
        """Raises a ValueError for values outside the support."""
        if value.shape[-1:] != (self.dim,):
            raise ValueError(
                f"NADE({self.dim}) needs {self.dim} values a frame, got shape {tuple(value.shape)}"
            )
        if not value.is_floating_point():
            raise ValueError(f"obs must be floating point, got {value.dtype}: use .float()")
        if not torch.isfinite(value).all():
            raise ValueError("obs has NaN or Inf in a real frame: mask the frame or clean the data")
        if ((value != 0) & (value != 1)).any():
            raise ValueError("NADE data must be 0 or 1: binarise them")

    def extra_repr(self) -> str:
        return f"{self.dim}, hidden={self.hidden}"
