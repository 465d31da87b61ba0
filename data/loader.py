"""The loader, which serves a data set in minibatches."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .batch import Batch
from .checks import check_number, check_seed
from .dataset import Dataset
from .rng import generator

POOL = 8  # batches whose rows are sorted by length together


class Loader:
    """Serves minibatches, in an order that depends on ``seed`` and the epoch alone.

    Each epoch serves ``dataset.fresh(epoch)``, in a new order. Rows of a set that has ``lengths``
    are batched with others of like length. Epoch 7 is the same whether or not the run was killed
    after epoch 6, and on however many processes.

    Arguments:
        dataset: a data set, or a plain ``Batch``.
        batch_size: sequences a batch; all of them when left out.
        shuffle: a new order every epoch.
        fresh: draw synthetic data anew every epoch (epoch 0 is the data set itself).
        seed: seed of the order.

    Raises:
        ValueError: for anything but a data set or a batch, an empty one, or a ``batch_size``
            below 1.
    """

    def __init__(
        self,
        dataset: Dataset | Batch,
        batch_size: int | None = None,
        shuffle: bool = True,
        fresh: bool = True,
        seed: int = 0,
    ) -> None:
        if not isinstance(dataset, Dataset | Batch):
            raise ValueError(
                f"a loader serves a data set or a Batch, got {type(dataset).__name__}: "
                "use data.as_batch, or write a subclass of data.Dataset"
            )
        if len(dataset) == 0:
            raise ValueError("the data set is empty")
        if batch_size is not None:
            batch_size = check_number("batch_size", batch_size)
        seed = check_seed(seed)
        self.dataset, self.batch_size = dataset, batch_size or len(dataset)
        self.shuffle, self.fresh, self.seed = shuffle, fresh, seed

    def __len__(self) -> int:
        """Batches an epoch."""
        return math.ceil(len(self.dataset) / self.batch_size)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch.

        Raises:
            ValueError: for a number that is not whole, or below 0.
        """
        check_number("number", number, 0)
        return self._serve(number)

    def _serve(self, number: int) -> Iterator[Batch]:
        source = self.dataset
        if self.fresh and isinstance(source, Dataset):
            source = source.fresh(number)
        order = torch.arange(len(source))
        if self.shuffle and self.batch_size < len(source):
            random = generator(self.seed, number)
            order = torch.randperm(len(source), generator=random)
            lengths = source.lengths if isinstance(source, Dataset) else None
            if lengths is not None:
                order = self._alike(order, lengths, random)
        for index in order.split(self.batch_size):
            yield source.rows(index)

    def _alike(self, order: Tensor, lengths: Tensor, random: torch.Generator) -> Tensor:
        """Sorts pools of some batches by length, so that little is padded, and shuffles them."""
        pools = order.split(POOL * self.batch_size)
        batches = [
            part
            for pool in pools
            for part in pool[lengths[pool].argsort(stable=True)].split(self.batch_size)
        ]
        last = [batches.pop()] if len(batches[-1]) < self.batch_size else []  # stays the last
        shuffled = [batches[i] for i in torch.randperm(len(batches), generator=random).tolist()]
        return torch.cat(shuffled + last)
