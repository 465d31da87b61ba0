"""Private random streams, which leave the caller's random state as it was, and their lock.

torch's random generators and Pyro's stack of handlers are one for the whole process. ``LOCK`` lets
one thread at a time use them: every stream holds it from entry to exit, and so does every trace.
"""

from __future__ import annotations

import os
import threading

import torch

from ..data import generator

#: Whoever holds it draws random numbers and traces with Pyro; the same thread may take it again.
LOCK = threading.RLock()

if hasattr(os, "register_at_fork"):  # a child of fork gets the lock free, or as its parent held it
    os.register_at_fork(
        before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release
    )


class RandomStream:
    """A context in which torch's global random generators run on a private stream.

    On exit the caller's random state is restored. A stream that is entered again continues where it
    stopped, so several streams can take turns.

    Streams of several threads run one after the other, so that each gives the numbers that it gives
    alone. Two things are not safe. Random numbers that another thread draws outside any stream are
    taken from the stream that runs, and change both. Code within a stream waits for ever for a
    thread that waits to enter one.

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
        self._outside: list[list[torch.Tensor]] = []  # one state for each entry without an exit

    def __enter__(self) -> RandomStream:
        LOCK.acquire()
        try:
            outside = self._states()
            if not self._outside:  # entered within itself, a stream goes on
                self._start() if self._state is None else self._restore(self._state)
            self._outside.append(outside)
        except BaseException:
            LOCK.release()
            raise
        return self

    def _start(self) -> None:
        torch.default_generator.manual_seed(self._seed)  # torch.manual_seed would seed every device
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(self._seed)

    def __exit__(self, *error: object) -> None:
        try:
            outside = self._outside.pop()
            if not self._outside:
                self._state = self._states()
                self._restore(outside)
        finally:
            LOCK.release()

    def _states(self) -> list[torch.Tensor]:
        states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        return states

    def _restore(self, states: list[torch.Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self.device)
