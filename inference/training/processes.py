"""One batch on several processes: shards, each with its own random stream, joined exactly.

The random numbers of a shard depend on its number alone, so that two processes with a shard each
and one process with two shards take the same steps. One process with one shard runs the rule as
it is.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ...data import Batch
from ..rng import RandomStream
from ..rules.rule import LearningRule, Metrics


class Shard(NamedTuple):
    """A rule's updates on a part of a batch, and the random stream that they draw from."""

    rule: LearningRule
    updates: Iterator[Metrics]
    stream: RandomStream

    def next(self) -> Metrics | None:
        """The metrics of the next update; None after the last."""
        try:
            with self.stream:
                metrics = next(self.updates)
        except StopIteration:
            return None
        return self._checked(metrics)

    def _checked(self, metrics: Metrics) -> Metrics:
        asked = must_return(self.rule)
        if not isinstance(metrics, Mapping) or not {"loss", "frames"} <= metrics.keys():
            given = list(metrics) if isinstance(metrics, Mapping) else type(metrics).__name__
            raise ValueError(f"{asked} (how many are real), got {given}")
        loss, frames = metrics["loss"], metrics["frames"]
        if not isinstance(loss, Tensor):
            raise ValueError(f"{asked}: its loss is a {type(loss).__name__}")
        # a count may be a plain number; those of shards are summed as tensors
        plain = not isinstance(frames, Tensor)
        return {**metrics, "frames": loss.new_tensor(frames)} if plain else metrics


class Processes:
    """The processes that train together; usually one.

    Arguments:
        device: where to train; the default follows ``accelerate``.
        shards: parts that a batch is split into; the number of processes when left out.

    Attributes:
        device: where this process trains.
        shards: parts that a batch is split into.
        main: whether this process writes and speaks.

    Raises:
        ValueError: for shards that cannot be shared out evenly, or processes that cannot find
            one another.
    """

    def __init__(self, device: torch.device | str | None = None, shards: int | None = None) -> None:
        from accelerate import Accelerator  # slow to import, and only training needs it

        several = int(os.environ.get("WORLD_SIZE", "1"))
        on_cpu = device is not None and torch.device(device).type == "cpu"
        # accelerate settles on a device once for the whole process: only several processes, which
        # need a matching backend to talk through, may settle it on the CPU.
        on_cpu = on_cpu or not torch.accelerator.is_available()
        if several > 1 and not on_cpu:
            _check_devices()
        self.accelerator = Accelerator(cpu=several > 1 and on_cpu)
        number = self.accelerator.num_processes
        if several > 1 and number != several:
            raise ValueError(
                f"WORLD_SIZE says that {several} processes train together, and accelerate finds "
                f"{number}: set device='cpu', call fit before any other use of accelerate, or "
                "start one process"
            )
        self.device = self.accelerator.device if device is None else torch.device(device)
        self.main = self.accelerator.is_main_process
        self.shards = number if shards is None else int(shards)
        if self.shards % number:
            raise ValueError(f"shards ({self.shards}) must be a multiple of the {number} processes")

    def updates(self, rule: LearningRule, batch: Batch, *key: int) -> Iterator[Metrics]:
        """The updates of a rule on a batch, each with the joint gradient of all shards in place.

        Arguments:
            rule: the rule.
            batch: the whole batch; this process takes its own shards of it.
            key: the random streams are a hash of these numbers and of the shard's.

        Raises:
            ValueError: when the batch cannot be split evenly.
        """
        if len(batch) % self.shards:
            raise ValueError(
                f"a batch of {len(batch)} sequences cannot be split evenly into {self.shards} "
                "shards"
            )
        if self.shards == 1:
            shard = self._shard(rule, batch, key, 0)
            return iter(shard.next, None)
        first, every = self.accelerator.process_index, self.accelerator.num_processes
        mine = range(first, self.shards, every)
        parts = [batch.rows(slice(number, None, self.shards)) for number in mine]
        shards = [self._shard(rule, part, key, number) for number, part in zip(mine, parts)]
        return self._joined(rule, shards)

    def _shard(self, rule: LearningRule, part: Batch, key: tuple[int, ...], number: int) -> Shard:
        stream = RandomStream(self.device, *key, number)
        return Shard(rule, rule.updates(part.to(self.device)), stream)

    def _joined(self, rule: LearningRule, shards: list[Shard]) -> Iterator[Metrics]:
        """Runs all shards in step, and leaves their average gradient, weighted by frames."""
        parameters = list(rule.net.parameters())
        while True:
            gathered: list[Metrics] = []
            sums = [torch.zeros_like(parameter) for parameter in parameters]
            for shard in shards:
                if (metrics := shard.next()) is None:
                    return
                gathered.append(metrics)
                for total, parameter in zip(sums, parameters):
                    if parameter.grad is not None:
                        total.add_(parameter.grad * metrics["frames"])
            names = [name for name in gathered[0] if name != "frames"]
            totals = [_sum(m[name] * m["frames"] for m in gathered) for name in names]
            frames = _sum(metrics["frames"] for metrics in gathered)
            *reduced, frames = self.accelerator.reduce([*sums, *totals, frames], "sum")
            means = [total / frames.clamp_min(1) for total in reduced]
            for parameter, mean in zip(parameters, means):
                parameter.grad = mean
            yield {**dict(zip(names, means[len(sums) :])), "frames": frames}


def _check_devices() -> None:
    """Raises a ValueError where this machine has fewer accelerators than processes."""
    number, found = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.accelerator.device_count()
    if number > found:
        raise ValueError(
            f"{number} processes train on this machine, which has {found} accelerator(s): start "
            "one process for each, or set device='cpu'"
        )


def must_return(rule: LearningRule) -> str:
    """The beginning of an error about the metrics of a rule."""
    return f"{type(rule).__name__} must return a dictionary with the tensors 'loss' and 'frames'"


def _sum(values: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, values)
