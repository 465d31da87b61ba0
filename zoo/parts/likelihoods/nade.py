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
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn import functional

from ....inference.checks import check_number, check_sizes
from ....inference.distributions import SampledDistribution
from ...part import Described


class NADEDistribution(SampledDistribution):
    """Binary frames of ``M`` units distributed as a NADE with ``H`` hidden units says.

    Its mean has no closed form; ``NADE.mean`` estimates it.

    Arguments:
        visible_bias: b, ``[..., M]``.
        hidden_bias: c, ``[..., H]``.
        below: W, ``[M, H]``.
        above: V, ``[M, H]``.
        validate_args: check arguments and values.

    Raises:
        ValueError: when the shapes do not match.
    """

    advice = "estimate it with NADE.mean, or average samples, .sample((1000,)).mean(0)"
    arg_constraints = {  # noqa: RUF012  # pyright: ignore[reportAssignmentType]
        "visible_bias": constraints.real_vector,
        "hidden_bias": constraints.real_vector,
        "below": constraints.independent(constraints.real, 2),
        "above": constraints.independent(constraints.real, 2),
    }
    # torch's stub declares a property
    support = constraints.independent(constraints.boolean, 1)  # pyright: ignore[reportAssignmentType]

    def __init__(
        self,
        visible_bias: Tensor,
        hidden_bias: Tensor,
        below: Tensor,
        above: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        sizes = visible_bias.shape[-1:] + hidden_bias.shape[-1:]
        if not below.shape == above.shape == sizes:
            raise ValueError(
                f"below and above must both be {tuple(sizes)}, as the biases are, "
                f"got {tuple(below.shape)} and {tuple(above.shape)}"
            )
        batch = torch.broadcast_shapes(visible_bias.shape[:-1], hidden_bias.shape[:-1])
        self.visible_bias = visible_bias.expand(batch + sizes[:1])
        self.hidden_bias = hidden_bias.expand(batch + sizes[1:])
        self.below, self.above = below, above
        super().__init__(batch, sizes[:1], validate_args=validate_args)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> NADEDistribution:
        visible = self.visible_bias.expand((*batch_shape, -1))
        hidden = self.hidden_bias.expand((*batch_shape, -1))
        return NADEDistribution(visible, hidden, self.below, self.above, self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x), exact: ``[..., M]`` to ``[...]``, in nats.

        The hidden layer of a frame changes only after an active unit: a frame with n active units
        has n + 1 different hidden layers, not M. One product of these layers with V gives all
        logits, which is fast for sparse frames.
        """
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        # Leading axes of the parameters alone, such as particles, use the same indices.
        own = len(_stripped(value.shape[:-1]))
        lead, core = shape[: len(shape) - own], shape[len(shape) - own :]
        value = value.reshape(value.shape[value.dim() - 1 - own :]).expand((*core, -1))
        frames = value.reshape(-1, self.event_shape[0]).to(self.below.dtype)
        visible, hidden = (
            bias.expand((*shape, -1)).reshape((*lead, len(frames), bias.shape[-1]))
            for bias in (self.visible_bias, self.hidden_bias)
        )

        before = frames.cumsum(-1).sub_(frames).long()  # active units below every unit, [N, M]
        seen, owner, first = self._seen(frames, before)  # one row for each different hidden layer
        layers = torch.sigmoid(hidden.index_select(-2, owner) + seen)
        logits = functional.linear(layers, self.above)
        place = (first[:, None] + before) * frames.shape[1]
        place += torch.arange(frames.shape[1], device=place.device)
        own_logits = logits.flatten(-2).index_select(-1, place.flatten()).view_as(visible) + visible
        losses = functional.binary_cross_entropy_with_logits(
            own_logits, frames.expand_as(own_logits), reduction="none"
        )
        return -losses.sum(-1).view(shape)

    def _seen(self, frames: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The sums that active units add to the hidden layer, after each of them.

        Arguments:
            frames: ``[N, M]``.
            before: number of active units below each unit, ``[N, M]``.

        Returns:
            Sums of rows of W, ``[R, H]``: for every frame the empty sum, then one more row for
            each active unit, in order; the frame of every row, ``[R]``; and the first row of every
            frame, ``[N]``.
        """
        lengths = frames.sum(-1).long() + 1
        first = lengths.cumsum(0) - lengths
        owner = torch.arange(len(frames), device=frames.device).repeat_interleave(lengths)
        rank = torch.arange(len(owner), device=frames.device) - first[owner]
        # One product for all rows: no frame is padded to the fullest one.
        summed = torch.where(before[owner] < rank[:, None], frames[owner], 0.0)
        return summed @ self.below, owner, first

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Ancestral samples, unit after unit: ``sample_shape + [..., M]``."""
        return self.sample_with_means(sample_shape)[0]

    @torch.no_grad()
    def sample_with_means(
        self,
        sample_shape: torch.Size = torch.Size(),  # noqa: B008
    ) -> tuple[Tensor, Tensor]:
        """Ancestral samples with the conditional mean of every unit.

        Returns:
            Samples and p(x_i = 1 | x_<i), both ``sample_shape + [..., M]``.
        """
        shape = self._extended_shape(sample_shape)
        uniform = torch.rand(shape, device=self.below.device).unbind(-1)
        return self._ancestral(shape, lambda unit, chance: uniform[unit] < chance)

    @property
    @torch.no_grad()
    def mode(self) -> Tensor:
        """The greedy frame, ``[..., M]``: every unit takes its more likely value, in order.

        It is not always the most likely frame, which only a search over all frames finds.
        """
        return self._ancestral(self._extended_shape(), lambda unit, chance: chance > 0.5)[0]

    def _ancestral(
        self, shape: torch.Size, choose: Callable[[int, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        units = self.visible_bias.new_zeros(shape)
        chances = torch.empty_like(units)
        hidden = self.hidden_bias.expand(shape[:-1] + self.hidden_bias.shape[-1:]).clone()
        for unit, (row, column) in enumerate(zip(self.below, self.above)):
            logit = torch.sigmoid(hidden) @ column + self.visible_bias[..., unit]
            chances[..., unit] = torch.sigmoid(logit)
            units[..., unit] = choose(unit, chances[..., unit])
            hidden.addcmul_(units[..., unit, None], row)
        return units, chances


def _stripped(shape: torch.Size) -> torch.Size:
    """A shape without its leading ones."""
    first = next((axis for axis, size in enumerate(shape) if size != 1), len(shape))
    return shape[first:]


class NADE(Described, nn.Module):
    """Binary units that depend on each other within a frame.

    A decoder puts out ``natural_dim`` values a frame: the visible biases, then the hidden biases.
    NADE is no exponential family with one parameter for each unit, so a harmonium cannot use it.

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

    def __init__(self, dim: int, hidden: int = 100) -> None:
        super().__init__()
        check_sizes(dim=dim, hidden=hidden)
        self.dim, self.hidden = dim, hidden
        self.below = nn.Parameter(0.01 * torch.randn(dim, hidden))
        self.above = nn.Parameter(0.01 * torch.randn(dim, hidden))

    @property
    def natural_dim(self) -> int:
        """Natural parameters of one frame, ``M + H``, which a decoder puts out."""
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
        visible, hidden = natural.split([self.dim, self.hidden], -1)
        return NADEDistribution(visible, hidden, self.below, self.above, validate_args=False)

    def sample(self, natural: Tensor) -> Tensor:
        """A random frame, ``[..., M + H] -> [..., M]``."""
        return self.distribution(natural).sample()

    def mode(self, natural: Tensor) -> Tensor:
        """The greedy frame, ``[..., M + H] -> [..., M]``: not always the most likely one."""
        return self.distribution(natural).mode

    def mean(self, natural: Tensor, num_samples: int = 32) -> Tensor:
        """An estimate of E[y], ``[..., M + H] -> [..., M]``, without a gradient.

        The marginal of a unit is a sum over all frames. The estimate averages p(x_i = 1 | x_<i)
        over ancestral samples. It is unbiased, and by the Rao-Blackwell theorem its variance is
        below that of the average sample. The standard error of a unit is at most
        ``0.5 / sqrt(num_samples)``.

        Arguments:
            natural: visible and hidden biases.
            num_samples: number of ancestral samples.

        Raises:
            ValueError: for a number below 1.
        """
        check_number("num_samples", num_samples)
        distribution = self.distribution(natural)
        total = torch.zeros_like(distribution.visible_bias)
        for _ in range(num_samples):
            total += distribution.sample_with_means()[1]
        return total / num_samples

    @torch.no_grad()
    def natural(self, mean: Tensor) -> Tensor:
        """Initial biases with about this mean, ``[..., M] -> [..., M + H]``.

        Hidden biases are 0. A visible bias gives its unit this probability where the units before
        it are at their means. That is exact for W = 0 or V = 0, and close for a new NADE, whose
        weights are small.
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
