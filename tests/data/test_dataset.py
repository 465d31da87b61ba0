"""What every data set can be asked for."""

import pytest
import torch
from seqzoo.data import (
    PPC,
    Batch,
    BouncingBalls,
    Dataset,
    Loader,
    MidiFolder,
    MovingMNIST,
    OneToMany,
    PianoRolls,
    Polyphonic,
    write_midi,
)


class Walks(Dataset):
    """A data set with nothing but what one must write."""

    obs = torch.arange(30.0).reshape(10, 3, 1)

    def __len__(self):
        return len(self.obs)

    def rows(self, index):
        return Batch(self.obs[index])


def test_a_data_set_of_two_methods_inherits_the_rest():
    data = Walks()
    assert data.unit == "unit"
    assert data.lengths is None
    assert data.fresh(3) is data
    assert torch.equal(data.batch().obs, data.obs)
    served = torch.cat([batch.obs for batch in Loader(data, 4).epoch(1)])
    assert torch.equal(served.sort(0).values, data.obs)
    with pytest.raises(ValueError, match="Walks holds no test rows out: define its method"):
        data.held_out(2)


def test_a_subset_is_some_of_the_rows():
    data = Walks()
    first, again, other = data.subset(4, 1), data.subset(4, 1), data.subset(4, 2)
    assert torch.equal(first.obs, again.obs)
    assert not torch.equal(first.obs, other.obs)
    assert len(first.obs[:, 0].unique()) == 4
    assert data.subset(10) is data
    with pytest.raises(ValueError, match="num_sequences must be at least 1, got 0"):
        data.subset(0)


def test_units_name_what_a_value_is():
    units = {cls: cls.unit for cls in (PPC, BouncingBalls, MovingMNIST, PianoRolls, OneToMany)}
    assert list(units.values()) == ["neuron", "pixel", "pixel", "key", "unit"]
    assert MidiFolder.unit == Polyphonic.unit == "key"


# Drawn anew ---------------------------------------------------------------------------------


def balls(**how):
    return BouncingBalls(steps=4, balls=2, size=6, rendering="squared", **how)


def digits(**how):
    return MovingMNIST(steps=4, digits=1, size=32, **how)


def spikes(**how):
    return PPC(steps=4, **how)


def questions(**how):
    return OneToMany("regression", steps=4, **how)


DRAWN = {"balls": balls, "digits": digits, "spikes": spikes, "questions": questions}


@pytest.mark.parametrize("make", DRAWN.values(), ids=DRAWN.keys())
def test_held_out_sequences_are_those_of_the_split(published, make):
    data = make(sequences=3, seed=1, split="test")
    before = data.obs.clone()
    for split in ("test",) if make is digits else ("test", "validation"):  # reading is slow
        expected = make(sequences=5, seed=2, split=split).batch()
        found = data.held_out(5, seed=2, split=split)
        assert torch.equal(found.obs, expected.obs)
        assert (found.target is None) == (expected.target is None)
    assert torch.equal(data.obs, before)
    assert torch.equal(data.batch().obs, before)


@pytest.mark.parametrize("make", DRAWN.values(), ids=DRAWN.keys())
def test_a_subset_of_a_drawn_set_is_a_smaller_one(published, make):
    data = make(sequences=3, seed=1, split="test")
    few = data.subset(2, seed=4)
    for epoch in (0, 3):
        expected = make(sequences=2, seed=4, split="test").fresh(epoch)
        assert torch.equal(few.fresh(epoch).obs, expected.obs)
    assert len(data) == 3


def test_held_out_film_has_the_steps_asked_for():
    assert spikes(sequences=2).held_out(3, steps=7).obs.shape == (3, 7, 15)
    assert questions(sequences=2).held_out(3, steps=2).obs.shape == (3, 4, 1)  # never cut


# Rolls and files of one's own -----------------------------------------------------------------


def rolls(number=10, frames=6):
    """Roll ``i`` has key ``i`` down throughout."""
    return [torch.eye(88, dtype=torch.uint8)[i].repeat(frames + i, 1) for i in range(number)]


def keys(batch):
    """Which rolls the rows of a batch came from."""
    return sorted(set(batch.obs.sum(1).argmax(1).tolist()))


def test_splits_of_rolls_are_disjoint_and_complete():
    parts = {
        split: keys(PianoRolls(rolls(), split=split, fraction=0.2).batch())
        for split in ("train", "validation", "test")
    }
    assert [len(part) for part in parts.values()] == [6, 2, 2]
    assert sorted(key for part in parts.values() for key in part) == list(range(10))
    other = keys(PianoRolls(rolls(), split="test", fraction=0.2, split_seed=1).batch())
    assert other != parts["test"]
    assert keys(PianoRolls(rolls(), seed=9, split="test", fraction=0.2).batch()) == parts["test"]


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("cut", [{}, {"chunk": 3, "recut": True}, {"window": 2}], ids=str)
def test_held_out_rolls_are_those_of_the_split(split, cut):
    data = PianoRolls(rolls(), split="train", fraction=0.3, **cut)
    expected = keys(PianoRolls(rolls(), split=split, fraction=0.3).batch())
    found = data.held_out(100, seed=3, split=split)
    assert keys(found) == expected
    assert not set(keys(found)) & set(keys(data.batch()))
    few = data.held_out(2, split=split, steps=1)
    assert len(few) == 2
    if "window" in cut:
        assert few.obs.shape[1] == 2
        assert torch.equal(few.target.argmax(1), few.obs[:, 0].argmax(1))
    else:
        assert few.obs.shape[1] == 1
        assert found.frames == sum(6 + i for i in expected)


def test_a_split_shows_in_the_sizes():
    data = PianoRolls(rolls(), split="test")
    assert repr(data).startswith("PianoRolls('test', 1 sequences,")
    assert len(data.sequences) == 10
    assert data.frames == int(data.lengths.sum())
    assert data.rates().sum() == 1


def test_files_held_out_are_never_read_in_training(tmp_path):
    for i, roll in enumerate(rolls(5)):
        write_midi(tmp_path / f"{i}.mid", roll, step=0.5)
    train = MidiFolder(tmp_path, step=0.5, split="train")
    test = MidiFolder(str(tmp_path), step=0.5, split="test")
    assert len(train.names) == 3
    assert len(test.names) == 1
    assert keys(train.batch()) == [int(name[0]) for name in train.names]
    assert keys(train.held_out(5)) == keys(test.batch()) == [int(test.names[0][0])]
    assert keys(train.held_out(5, split="validation")) not in (keys(test.batch()), [])


def test_published_rolls_are_held_out_in_their_own_split(published):
    data = Polyphonic("jsb", chunk=20, recut=True)
    test = Polyphonic("jsb", split="test").batch()
    found = data.held_out(100, steps=30)
    assert found.obs.shape == (77, 30, 88)
    assert torch.equal(found.obs.sum((0, 1)), test.obs[:, :30].sum((0, 1)))


@pytest.mark.parametrize(
    ("how", "message"),
    {
        "all served": ({}, r"serves all of its sequences.*PianoRolls\(\.\.\., split='train'\)"),
        "split": ({"split": "valid"}, "split must be one of train, validation, test"),
        "fraction": ({"split": "train", "fraction": 0.5}, "fraction must be above 0 and below 0.5"),
        "no training": ({"split": "train", "fraction": 0.49}, "10 sequences leave none"),
    }.values(),
    ids=["all served", "split", "fraction", "no training"],
)
def test_splits_that_cannot_be(how, message):
    with pytest.raises(ValueError, match=message):
        PianoRolls(rolls(), **how).held_out(1)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"num_sequences": 0}, "num_sequences must be at least 1, got 0"),
        ({"split": "train"}, "split must be one of validation, test, got 'train'"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
    ],
    ids=["number", "split", "steps"],
)
@pytest.mark.parametrize("make", [spikes, questions, lambda sequences: PianoRolls(rolls())])
def test_held_out_rejects(make, how, message):
    with pytest.raises(ValueError, match=message):
        make(sequences=2).held_out(**{"num_sequences": 1, **how})
