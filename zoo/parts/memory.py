"""Recurrent nets: causal memories, which run step by step, and readers of whole sequences."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...inference import kernels
from ...inference.checks import check_real, check_sizes
from ...inference.inputs import at
from ..part import Described
from . import recurrent
from .checks import check_dropout
from .likelihoods import Likelihood
from .missing import beside, frames_read, reads
from .nets import activation, scale_to_radius

__all__ = ["DeepTransition", "Memory", "Reader"]

WEIGHTS = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
CELLS = {"tanh": recurrent.RNN, "gru": recurrent.GRU, "lstm": nn.LSTM}


class CausalNet(Protocol):
    """The members of a causal recurrent net, such as ``Memory``.

    A user's own memory is any ``nn.Module`` with these members. One more is optional:
    ``scan(inputs, state, passes)`` runs all steps in one call, see ``Recurrent.scan``.
    """

    @property
    def inputs(self) -> int:
        """Values a step, ``I``."""
        ...

    @property
    def outputs(self) -> int:
        """Values of an output, ``H``."""
        ...

    def initial(self, *rows: int) -> Tensor:
        """The state before the first step, ``[*rows, U]``."""
        ...

    def step(self, inputs: Tensor, state: Tensor, /) -> Tensor:
        """The state after one step, ``[..., I], [..., U] -> [..., U]``."""
        ...

    def output(self, state: Tensor, /) -> Tensor:
        """The output at a state, ``[..., U] -> [..., H]``."""
        ...

    def __call__(self, inputs: Tensor, /) -> Tensor:
        """Outputs after every step of whole sequences, ``[..., T, I] -> [..., T, H]``."""
        ...


class SequenceReader(Protocol):
    """The members of a net that reads whole sequences, such as ``Reader``."""

    @property
    def features_dim(self) -> int:
        """Values of the features, ``F``."""
        ...

    def __call__(self, inputs: Tensor, mask: Tensor, /) -> Tensor:
        """Features of every step, ``[B, T, I]`` with its mask ``[B, T]`` to ``[B, T, F]``."""
        ...


class Memory(Described, nn.Module):
    """A causal recurrent net whose state is one flat vector, ``[..., U]``.

    Arguments:
        inputs: values a step, ``I``.
        hidden: units a layer.
        cell: ``"gru"``, ``"lstm"`` or ``"tanh"``.
        layers: number of layers.
        dropout: probability that a unit between two layers is dropped.
        skip: keep the last input in the state, beside the units.
        radius: spectral radius of the initial recurrent weights of a ``"tanh"`` cell, which are
            then Gaussian (Sutskever et al., 2013).

    Attributes:
        outputs: values of an output, ``H``: the units of the last layer, then the last input where
            ``skip``.

    Raises:
        ValueError: for an unknown cell, or a radius for a cell other than ``"tanh"``.

    Example:
        >>> Memory(88, 200)(torch.zeros(2, 50, 88)).shape
        torch.Size([2, 50, 200])
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        cell: str = "gru",
        layers: int = 1,
        dropout: float = 0.0,
        skip: bool = False,
        radius: float | None = None,
    ) -> None:
        super().__init__()
        check_sizes(inputs=inputs, hidden=hidden, layers=layers)
        check_dropout(dropout=dropout)
        if cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {cell!r}")
        if radius is not None and cell != "tanh":
            raise ValueError(f"radius is for a tanh cell, got {cell}")
        if radius is not None:
            check_real("radius", radius, above=0)
        self.inputs, self.hidden, self.cell, self.layers = inputs, hidden, cell, layers
        self.net: nn.RNNBase = CELLS[cell](
            inputs, hidden, layers, batch_first=True, dropout=dropout
        )
        if radius is not None:
            for layer in range(layers):
                scale_to_radius(nn.init.normal_(self._weight("weight_hh", layer)), radius)
        self.skip, self.outputs = skip, hidden + (inputs if skip else 0)
        self.units = hidden * layers * (2 if cell == "lstm" else 1)
        self.state_dim = self.units + (inputs if skip else 0)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs after every step of whole sequences, ``[..., T, I] -> [..., T, H]``."""
        rows = inputs.reshape(-1, *inputs.shape[-2:])
        after = self.net(rows)[0].reshape(*inputs.shape[:-1], self.hidden)
        return torch.cat((after, inputs), -1) if self.skip else after

    def initial(self, *rows: int) -> Tensor:
        """The state before the first step, ``[*rows, U]``."""
        return self._weight("weight_hh", 0).new_zeros(*rows, self.state_dim)

    def step(self, inputs: Tensor, state: Tensor) -> Tensor:
        """The state after one step, ``[..., I], [..., U] -> [..., U]``."""
        value, new = inputs.reshape(-1, self.inputs), []
        # The state of an LSTM has the outputs of all layers, then the cells of all layers.
        parts = state[..., : self.units].reshape(-1, self.units // self.hidden, self.hidden)
        for layer in range(self.layers):
            weights = [self._weight(name, layer) for name in WEIGHTS]
            before = parts[:, layer]
            if self.cell == "lstm":
                value, cell = torch.lstm_cell(
                    value, (before, parts[:, self.layers + layer]), *weights
                )
                new.insert(layer, value)
                new.append(cell)
            else:
                one = torch.gru_cell if self.cell == "gru" else torch.rnn_tanh_cell
                value = one(value, before, *weights)
                new.append(value)
        if self.skip:
            new.append(inputs.reshape(-1, self.inputs))
        return torch.cat(new, -1).reshape(state.shape)

    def scan(self, inputs: Tensor, state: Tensor, passes: Tensor) -> Tensor | None:
        """All steps, layer by layer, by a kernel or torch's own loop; see ``Recurrent.scan``.

        None of an LSTM, and of padding before real steps.
        """
        if not isinstance(self.net, recurrent.GRU | recurrent.RNN):
            return None
        if kernels.overrides(self, Memory, "step"):
            return None
        if not kernels.suits(inputs, state, *self.net.parameters()):
            return None
        if (passes[:, 1:] & ~passes[:, :-1]).any():
            return None
        found, value = [], inputs
        for layer, first in enumerate(state[:, : self.units].split(self.hidden, 1)):
            value = self.net.layer(layer, value, first)
            found.append(value)
        after = torch.cat((*found, inputs) if self.skip else found, -1)
        every = torch.cat((state[:, None], after), 1)
        number = functional.pad(passes.cumsum(1), (1, 0))  # of the last real step so far
        return torch.take_along_dim(every, number[..., None], 1)

    def _weight(self, name: str, layer: int) -> Tensor:
        """A parameter of one layer, which torch holds by name."""
        return getattr(self.net, f"{name}_l{layer}")

    def output(self, state: Tensor) -> Tensor:
        """The output at a state, ``[..., U] -> [..., H]``."""
        last = state[..., (self.layers - 1) * self.hidden : self.layers * self.hidden]
        return torch.cat((last, state[..., self.units :]), -1) if self.skip else last


class DeepTransition(Described, nn.Module):
    """A recurrence through a hidden layer, with a shortcut past it: the DT(S)-RNN.

        h_t = tanh(V f(W [x_t, h_{t-1}]) + S x_t + R h_{t-1})

    Source: Pascanu et al., "How to construct deep recurrent neural networks" (2014).

    Arguments:
        inputs: values a step, ``I``.
        hidden: units of the state, ``H``.
        width: units of the layer between one state and the next.
        nonlinearity: activation of that layer, a name in ``nets.ACTIVATIONS``.
        skip: keep the last input in the state, beside the units; see ``Memory``.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        width: int,
        nonlinearity: str = "relu",
        skip: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(inputs=inputs, hidden=hidden, width=width)
        self.inputs, self.hidden, self.skip = inputs, hidden, skip
        self.outputs = self.state_dim = hidden + (inputs if skip else 0)
        self.from_input = nn.Linear(inputs, width + hidden)
        self.from_state = nn.Linear(hidden, width + hidden, bias=False)
        self.deep = nn.Linear(width, hidden, bias=False)
        self.width, self.nonlinearity = width, activation(nonlinearity)

    def forward(self, inputs: Tensor) -> Tensor:
        """See ``Memory.forward``."""
        units, states = self.initial(*inputs.shape[:-2])[..., : self.hidden], []
        for drive in self.from_input(inputs).unbind(-2):
            units = self._step(drive, units)
            states.append(units)
        return self._beside(torch.stack(states, -2), inputs)

    def initial(self, *rows: int) -> Tensor:
        """See ``Memory.initial``."""
        return self.from_state.weight.new_zeros(*rows, self.state_dim)

    def step(self, inputs: Tensor, state: Tensor) -> Tensor:
        """See ``Memory.step``."""
        units = self._step(self.from_input(inputs), state[..., : self.hidden])
        return self._beside(units, inputs)

    def output(self, state: Tensor) -> Tensor:
        """The state itself, ``[..., H]``."""
        return state

    def _step(self, drive: Tensor, units: Tensor) -> Tensor:
        deep, shortcut = (drive + self.from_state(units)).split((self.width, self.hidden), -1)
        return torch.tanh(self.deep(self.nonlinearity(deep)) + shortcut)

    def _beside(self, units: Tensor, inputs: Tensor) -> Tensor:
        return torch.cat((units, inputs), -1) if self.skip else units


class Remembers:
    """The recursion of a model whose ``memory`` reads the frames.

    A subclass writes ``expected_frame``.

    Attributes:
        memory: a ``CausalNet`` over frames.
        likelihood: that of the frames.
        sees_missing: whether the memory also reads which values were seen.
        input_dim: inputs that it reads after each frame, ``I``.
    """

    memory: CausalNet
    likelihood: Likelihood
    sees_missing: bool = False
    input_dim: int = 0
    waits = False  # time passes from the first frame on, seen or not

    def expected_frame(self, past: Tensor, inputs: Tensor | None = None) -> Tensor:
        """The frame that the model expects at a state of h, ``[N, U] -> [N, M]``."""
        raise NotImplementedError(f"{type(self).__name__} must define expected_frame(past, inputs)")

    def reading(
        self, obs: Tensor, observed: Tensor | None = None, inputs: Tensor | None = None
    ) -> Tensor:
        """Frames as the memory reads them, ``[B, T, M] -> [B, T, R]``.

        With ``sees_missing`` these are zeros in place of missing values, then which values were
        seen. Otherwise each missing value is the one that the model expects after the frames
        before it, so that time passes in a gap. Gradients pass through expected values.

        Arguments:
            obs: frames with zeros in place of missing values, ``[B, T, M]``.
            observed: True where a value was seen, ``[B, T, M]``; None where all were.
            inputs: they follow the values of each frame, ``[B, T, I]``.
        """
        if observed is None or self.sees_missing:
            return self.encode(obs, observed, inputs)
        state, frames = self.initial(len(obs)), []
        for t in range(obs.shape[1]):
            now = at(inputs, (slice(None), t))
            frames.append(self.read(obs[:, t], observed[:, t], state, now))
            state = self.step(frames[-1], state)
        return torch.stack(frames, 1)

    def read(
        self, obs: Tensor, observed: Tensor, past: Tensor, inputs: Tensor | None = None
    ) -> Tensor:
        """Frames at one step as the memory reads them, ``[N, R]``: see ``reading``."""
        if self.sees_missing:
            return self.encode(obs, observed, inputs)
        frames = torch.where(observed, obs, self.expected_frame(past, inputs))
        return self.encode(frames, inputs=inputs)

    def remembered(self, frames: Tensor) -> Tensor:
        """h_{t-1}, the memory's output before each frame, ``[B, T, R] -> [B, T, H]``."""
        after = self.memory(frames)[:, :-1]
        first = self.memory.output(self.memory.initial(len(frames), 1))
        return torch.cat((first, after), 1)

    def initial(self, rows: int) -> Tensor:
        """The state of h before the first frame, ``[B, U]``."""
        return self.memory.initial(rows)

    def encode(
        self, obs: Tensor, observed: Tensor | None = None, inputs: Tensor | None = None
    ) -> Tensor:
        """The frame itself, with ``sees_missing`` which values were seen, then its inputs.

        ``[..., M] -> [..., R]``.
        """
        frames = frames_read(self.likelihood, obs, observed, self.sees_missing)
        return beside(frames, inputs, self.input_dim)

    def step(self, features: Tensor, past: Tensor) -> Tensor:
        """The state of h after a frame, ``[B, U]``."""
        return self.memory.step(features, past)

    def scan(self, features: Tensor, past: Tensor, passes: Tensor) -> Tensor | None:
        """The memory's scan, where it has one: see ``Recurrent.scan``."""
        scan = getattr(self.memory, "scan", None)
        if scan is None or kernels.overrides(self, Remembers, "step"):
            return None
        return scan(features, past, passes)


class Reader(Described, nn.Module):
    """Features of a whole sequence at each of its steps, by one or two recurrent nets.

    Arguments:
        inputs: values a step, ``I``.
        hidden: units a layer in each direction.
        direction: ``"forwards"`` reads x_1 .. x_t; ``"backwards"`` reads x_T .. x_t; ``"both"``.
        cell: ``"gru"``, ``"lstm"`` or ``"tanh"``.
        layers: number of layers.
        dropout: probability that a unit between two layers is dropped.
        skip: add x_t itself to the features.

    Attributes:
        features_dim: ``F``: ``hidden``, or twice that for both directions, plus ``inputs`` where
            ``skip``.

    Raises:
        ValueError: for an unknown direction.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        direction: str = "backwards",
        cell: str = "gru",
        layers: int = 1,
        dropout: float = 0.0,
        skip: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(inputs=inputs, hidden=hidden)
        ways = {"forwards": 1, "backwards": 1, "both": 2}
        if direction not in ways:
            raise ValueError(f"direction must be one of {', '.join(ways)}, got {direction!r}")
        self.direction, self.skip = direction, skip
        self.features_dim = ways[direction] * hidden + (inputs if skip else 0)
        sizes = inputs, hidden, cell, layers, dropout
        self.ahead = Memory(*sizes) if direction != "backwards" else None
        self.back = Memory(*sizes) if direction != "forwards" else None

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """``[B, T, I]`` with its mask ``[B, T]`` to ``[B, T, F]``."""
        features = [inputs] if self.skip else []
        if self.ahead is not None:
            features.append(self.ahead(inputs))
        if self.back is not None:
            features.append(reverse(self.back(reverse(inputs, mask)), mask))
        return torch.cat(features, -1)


def reverse(sequences: Tensor, mask: Tensor) -> Tensor:
    """Each sequence ``[B, T, ...]`` from its last real frame to its first; padding stays last.

    Raises:
        ValueError: when padding is not at the end.
    """
    if mask.device.type == "cpu":  # a GPU would have to be waited for; ``prepare`` has checked
        check_ends(mask)
    rows, number = mask.shape
    steps, lengths = torch.arange(number, device=mask.device), mask.sum(1, keepdim=True)
    order = torch.where(steps < lengths, lengths - 1 - steps, steps)
    order += number * torch.arange(rows, device=mask.device)[:, None]  # whole frames are copied
    return sequences.flatten(0, 1).index_select(0, order.flatten()).view(sequences.shape)


def check_ends(mask: Tensor) -> None:
    """Raises a ValueError where padding comes before a real frame; mask ``[B, T]``."""
    if (mask[:, 1:] & ~mask[:, :-1]).any():
        row = int((mask[:, 1:] & ~mask[:, :-1]).any(1).nonzero()[0])
        raise ValueError(
            f"sequence {row} has padding before real frames: move it to the end, or say which "
            "values are missing by observed, which lets time pass (see data.Batch)"
        )


def check_fits(
    memory: CausalNet, obs_dim: int, sees_missing: bool = False, input_dim: int = 0
) -> None:
    """Raises a ValueError where a memory reads frames of another size."""
    needed = reads(obs_dim, sees_missing, input_dim)
    if memory.inputs != needed:
        twice = f", and sees_missing needs {needed}" if sees_missing and not input_dim else ""
        more = f", and with input_dim {input_dim} it needs {needed}" if input_dim else twice
        raise ValueError(
            f"the memory reads {memory.inputs} values a frame, obs_dim is {obs_dim}{more}"
        )
