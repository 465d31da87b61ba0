"""The loader."""

import pytest
import torch
from seqzoo.data import PPC, Batch, Dataset, Loader


def numbered(rows=7):
    """A batch whose row ``i`` holds the number ``i``."""
    return Batch(torch.arange(float(rows)).reshape(rows, 1, 1).expand(rows, 3, 2))


def order(loader, epoch):
    return [int(row) for batch in loader.epoch(epoch) for row in batch.obs[:, 0, 0]]


def test_shuffle_covers_every_row_once_in_an_order_of_the_epoch():
    loader = Loader(numbered(), batch_size=3, seed=2)
    orders = [order(loader, epoch) for epoch in range(5)]
    assert all(sorted(rows) == list(range(7)) for rows in orders)
    assert len({tuple(rows) for rows in orders}) == 5
    assert [len(batch) for batch in loader.epoch(0)] == [3, 3, 1]
    assert len(loader) == 3


def test_same_epoch_twice_is_equal_and_seeds_differ():
    loader = Loader(numbered(), batch_size=3, seed=2)
    list(loader.epoch(3))
    assert order(loader, 4) == order(Loader(numbered(), batch_size=3, seed=2), 4)
    assert order(loader, 4) != order(Loader(numbered(), batch_size=3, seed=3), 4)


def test_without_shuffling_rows_come_in_order():
    loader = Loader(numbered(), batch_size=4, shuffle=False)
    assert order(loader, 0) == order(loader, 5) == list(range(7))


def test_one_batch_holds_everything():
    loader = Loader(numbered())
    assert len(loader) == 1
    assert sorted(order(loader, 2)) == list(range(7))


def test_fresh_data_every_epoch():
    data = PPC(5, 4, seed=2)
    loader = Loader(data)
    for epoch in (0, 1, 6):
        (batch,) = loader.epoch(epoch)
        assert torch.equal(batch.obs, PPC(5, 4, seed=2, epoch=epoch).obs)
    (first,), (second,) = loader.epoch(1), loader.epoch(2)
    assert not torch.equal(first.obs, second.obs)


def test_without_fresh_data_the_set_stays():
    data = PPC(5, 4, seed=2)
    (batch,) = Loader(data, fresh=False).epoch(3)
    assert torch.equal(batch.obs, data.obs)


@pytest.mark.parametrize("size", [0, -1])
def test_loader_rejects_a_batch_size(size):
    with pytest.raises(ValueError, match="batch_size"):
        Loader(numbered(), batch_size=size)


def test_loader_rejects_an_empty_data_set():
    class Empty(Dataset):
        def __len__(self):
            return 0

        def rows(self, index):
            raise IndexError

    with pytest.raises(ValueError, match="the data set is empty"):
        Loader(Empty())


def test_loader_rejects_what_is_no_data_set():
    with pytest.raises(ValueError, match=r"got list: use data.as_batch, or write a subclass"):
        Loader([torch.zeros(3, 2)])
