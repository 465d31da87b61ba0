"""One batch on several processes: shards, each with its own random stream, joined exactly.

A shard's draws depend on its number alone, so that two processes with a shard each and one process
with two shards take the same steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import nn

from ...data import Batch
from ..rng import RandomStream
from ..rules.rule import LearningRule, Metrics

Stream = tuple[Iterator[Metrics], RandomStream]


def split(
    rule: LearningRule,
    batch: Batch,
    accelerator: Accelerator,
    shards: int,
    device: torch.device,
    key: tuple[int, ...],
) -> list[Stream]:
    """This process's shards of a batch, each an iterator of updates with its random stream.

    Raises:
        ValueError: when the batch cannot be split evenly.
    """
    if len(batch) % shards:
        raise ValueError(
            f"a batch of {len(batch)} sequences cannot be split evenly into {shards} shards"
        )
    mine = range(accelerator.process_index, shards, accelerator.num_processes)
    parts = [batch if shards == 1 else batch.rows(slice(shard, None, shards)) for shard in mine]
    return [
        (rule.updates(part.to(device)), RandomStream(device, *key, shard))
        for shard, part in zip(mine, parts)
    ]


def joined(net: nn.Module, streams: list[Stream], accelerator: Accelerator) -> Iterator[Metrics]:
    """Runs all shards in step, and leaves their average gradient, weighted by frames."""
    if len(streams) == 1 and accelerator.num_processes == 1:  # nobody to take turns with
        updates, stream = streams[0]
        while True:
            with stream:
                metrics = next(updates, None)
            if metrics is None:
                return
            yield metrics
    while True:
        gathered: list[Metrics] = []
        sums = [torch.zeros_like(parameter) for parameter in net.parameters()]
        for updates, stream in streams:
            with stream:
                metrics = next(updates, None)
            if metrics is None:
                return
            gathered.append(metrics)
            for number, parameter in enumerate(net.parameters()):
                if parameter.grad is not None:
                    sums[number] += parameter.grad * metrics["frames"]
        frames = sum(metrics["frames"] for metrics in gathered)
        names = [name for name in gathered[0] if name != "frames"]
        totals = [sum(m[name] * m["frames"] for m in gathered) for name in names]
        reduced = accelerator.reduce([*sums, *totals, frames], "sum")
        frames = reduced.pop()
        means = [total / frames.clamp_min(1) for total in reduced]
        for parameter, mean in zip(net.parameters(), means):
            parameter.grad = mean
        yield {**dict(zip(names, means[len(sums) :])), "frames": frames}
