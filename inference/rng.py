"""Private random streams, which leave the caller's random state as it was."""

from __future__ import annotations

import torch

from ..data import generator


class RandomStream:
    """A context in which torch's global random generators run on a private stream.

    On exit the caller's random state is restored. A stream that is entered again continues where it
    stopped, so several streams can take turns.

    Arguments:
        device: the device whose generator is switched, in addition to the CPU's.
        key: the stream is a hash of these values; different keys give unrelated streams.

    Example:
        >>> with RandomStream("cpu", "noise", 3):
        ...     torch.randn(2)
    """

    def __init__(self, device: torch.device | str, *key: int | str) -> None:
        self.device = torch.device(device)
        self._seed = generator(*key).initial_seed()
        self._state: list[torch.Tensor] | None = None

    def __enter__(self) -> RandomStream:
        self._outside = self._states()
        if self._state is None:
            self._start()
        else:
            self._restore(self._state)
        return self

    def _start(self) -> None:
        torch.default_generator.manual_seed(self._seed)  # torch.manual_seed would seed every device
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(self._seed)

    def __exit__(self, *error: object) -> None:
        self._state = self._states()
        self._restore(self._outside)

    def _states(self) -> list[torch.Tensor]:
        states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        return states

    def _restore(self, states: list[torch.Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self.device)
