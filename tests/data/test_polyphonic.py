"""Polyphonic music: the published sets, piano rolls as a data set, wrong notes and hidden steps."""

import zlib

import numpy as np
import pytest
import scipy.io
import torch
from seqzoo.data import (
    Batch,
    DataError,
    Dataset,
    Loader,
    MidiFolder,
    PianoRolls,
    Polyphonic,
    add_notes,
    collate,
    fetch,
    hide_steps,
    polyphonic,
    write_midi,
)

TABLE = {  # sequences, frames
    ("jsb", "train"): (229, 13807),
    ("jsb", "validation"): (76, 4602),
    ("jsb", "test"): (77, 4725),
    ("nottingham", "train"): (694, 176561),
    ("nottingham", "validation"): (173, 45513),
    ("nottingham", "test"): (170, 44463),
    ("piano-midi", "train"): (87, 75911),
    ("piano-midi", "validation"): (12, 8540),
    ("piano-midi", "test"): (25, 19036),
    ("musedata", "train"): (524, 245202),
    ("musedata", "validation"): (135, 82755),
    ("musedata", "test"): (124, 64339),
}
LENGTHS = (7, 3, 12, 1, 8)


def rolls(lengths=LENGTHS, seed=0):
    """Random rolls, about a tenth of the keys sounding."""
    random = torch.Generator().manual_seed(seed)
    return [(torch.rand(n, 88, generator=random) < 0.1).to(torch.uint8) for n in lengths]


# The published sets ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "split"), TABLE)
def test_sequences_and_frames_of_the_published_split(published, name, split):
    data = Polyphonic(name, split)
    assert (len(data), data.frames) == TABLE[name, split]
    assert len(data.sequences) == len(data)
    assert sum(len(roll) for roll in data.sequences) == data.frames
    assert all(roll.shape[1:] == (88,) for roll in data.sequences)
    assert {roll.dtype for roll in data.sequences} == {torch.uint8}


def test_they_are_the_arrays_of_the_file(published):
    cells = scipy.io.loadmat(published / "poly/Piano_midi.mat")["validdata"][0]
    data = Polyphonic("piano-midi", "validation")
    for roll, cell in zip(data.sequences, cells, strict=True):
        assert np.array_equal(roll.numpy(), cell)


def test_sequences_differ_in_length_and_padding_is_masked(published):
    data = Polyphonic("jsb", "test")
    batch = data.batch()
    assert batch.obs.shape == (77, 160, 88)
    assert batch.obs.dtype == torch.float32
    assert batch.mask.sum(1).tolist() == [len(roll) for roll in data.sequences]
    assert batch.frames == 4725
    assert batch.mask.sum(1).unique().numel() > 10
    assert (batch.obs[~batch.mask] == 0).all()
    assert torch.equal(batch.obs[batch.mask], torch.cat(data.sequences).float())


def test_rates_are_shares_of_all_frames(published):
    data = Polyphonic("jsb")
    rates = data.rates()
    frames = torch.cat(data.sequences).double()
    torch.testing.assert_close(rates, frames.mean(0).float())
    assert 3.5 < rates.sum() < 4  # four voices
    assert rates.argmax() + 21 in range(60, 80)


def test_best_constant_rates_of_piano_midi(published):
    """The figure of the reference: constant rates score about 11 nats a frame."""
    rates = Polyphonic("piano-midi").rates().double().clamp(1e-6, 1 - 1e-6)
    test = Polyphonic("piano-midi", "test").rates().double()
    nats = -(test * rates.log() + (1 - test) * (1 - rates).log()).sum()
    assert 10 < nats < 12


def test_seed_is_accepted_and_changes_nothing(published):
    first, second = (Polyphonic("jsb", "test", seed=seed) for seed in (0, 1))
    assert torch.equal(first.batch().obs, second.batch().obs)


def test_there_and_back_through_midi(published, tmp_path):
    data = Polyphonic("jsb", "test")
    for i, roll in enumerate(data.sequences[:5]):
        write_midi(tmp_path / f"{i}.mid", roll, per_beat=2)
    assert all(map(torch.equal, MidiFolder(tmp_path, per_beat=2).sequences, data.sequences))


def test_repr_says_what_it_is(published):
    data = Polyphonic(name="jsb", split="test", chunk=100, seed=1)
    assert repr(data) == "Polyphonic('jsb', 'test', 77 sequences, 4725 frames, chunk=100)"
    assert repr(PianoRolls(rolls())) == "PianoRolls(5 sequences, 31 frames)"


def test_unknown_name_and_split():
    with pytest.raises(ValueError, match="must be one of jsb, nottingham, piano-midi, musedata, "):
        Polyphonic("JSB")
    with pytest.raises(ValueError, match="must be one of train, validation, test, got 'valid'"):
        Polyphonic("jsb", "valid")


# Rows, chunks and windows ---------------------------------------------------------------------


def test_a_data_set():
    data = PianoRolls(rolls())
    assert isinstance(data, Dataset)
    assert len(data) == 5
    assert data.frames == sum(LENGTHS)
    assert data.batch().obs.shape == (5, 12, 88)


@pytest.mark.parametrize("index", [slice(1, 4), [3, 0, 2], torch.tensor([3, 0, 2])])
@pytest.mark.parametrize("chunk", [None, 5])
def test_rows_are_padded_as_collate_pads(index, chunk):
    data = PianoRolls(rolls(), chunk=chunk)
    pieces = [piece for roll in rolls() for piece in roll.split(chunk or len(roll))]
    chosen = pieces[index] if isinstance(index, slice) else [pieces[i] for i in index]
    expected, batch = collate([piece.float() for piece in chosen]), data.rows(index)
    assert torch.equal(batch.obs, expected.obs)
    assert torch.equal(batch.mask, expected.mask)
    assert batch.target is None


@pytest.mark.parametrize("index", [slice(5, 9), [], torch.tensor([], dtype=torch.long), 2])
def test_rows_reject_an_index_that_leaves_none(index):
    with pytest.raises(ValueError, match="no row is left"):
        PianoRolls(rolls()).rows(index)


@pytest.mark.parametrize("chunk", [1, 3, 4, 12, 100])
def test_chunks_join_into_the_sequences(chunk):
    data = PianoRolls(rolls(), chunk=chunk)
    batch = data.batch()
    assert batch.obs.shape[1] <= chunk
    assert torch.equal(batch.obs[batch.mask], torch.cat(rolls()).float())
    assert len(data) == sum(-(-length // chunk) for length in LENGTHS)
    assert all(map(torch.equal, data.sequences, rolls()))
    lengths = batch.mask.sum(1).tolist()
    for length in LENGTHS:  # all of a sequence's pieces are full but its last
        assert lengths[: length // chunk] == [chunk] * (length // chunk)
        lengths = lengths[-(-length // chunk) :]
    assert lengths == []


def test_chunks_of_a_published_set(published):
    data = Polyphonic("piano-midi", chunk=100)
    assert len(data) == sum(-(-len(roll) // 100) for roll in data.sequences)
    assert data.rows(slice(0, 9)).obs.shape == (9, 100, 88)


@pytest.mark.parametrize("window", [1, 3, 7, 11])
def test_windows_and_targets_are_slices(window):
    data = PianoRolls(rolls(), window=window)
    expected = [
        (roll[t : t + window], roll[t + window])
        for roll in rolls()
        for t in range(len(roll) - window)
    ]
    batch = data.batch()
    assert len(data) == len(expected)
    assert batch.obs.shape == (len(expected), window, 88)
    assert batch.target.shape == (len(expected), 88)
    assert batch.target.dtype == torch.float32
    assert batch.mask.all()
    for row, (frames, after) in enumerate(expected):
        assert torch.equal(batch.obs[row], frames.float())
        assert torch.equal(batch.target[row], after.float())
    some = data.rows([0, len(expected) - 1])
    assert torch.equal(some.target, batch.target[[0, -1]])


def test_windows_are_not_materialised(published):
    data = Polyphonic("piano-midi", window=50)
    assert len(data) == sum(max(0, len(roll) - 50) for roll in data.sequences)
    held = [value for value in vars(data).values() if isinstance(value, torch.Tensor)]
    assert sum(value.nbytes for value in held) < 2 * data.frames * 88


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chunk": 0}, "chunk must be at least 1, got 0"),
        ({"window": -1}, "window must be at least 1, got -1"),
        ({"chunk": 2, "window": 2}, "exclude one another"),
        ({"window": 2, "stride": 0}, "stride must be at least 1, got 0"),
        ({"stride": 2}, "stride is about windows: say how many frames one has"),
        ({"chunk": 4, "stride": 2}, "stride is about windows"),
        ({"every_step": True}, "every_step is about windows: say how many frames one has"),
        ({"chunk": 4, "every_step": True}, "every_step is about windows"),
        ({"window": 12}, "no sequence is longer than a window of 12 frames: the longest has 12"),
    ],
)
def test_rejects_bad_cuts(arguments, message):
    with pytest.raises(ValueError, match=message):
        PianoRolls(rolls(), **arguments)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bool, torch.int64, "array"])
def test_rolls_of_any_kind_of_number(kind):
    given = [roll.numpy() if kind == "array" else roll.to(kind) for roll in rolls()]
    data = PianoRolls(given)
    assert all(map(torch.equal, data.sequences, rolls()))


def test_the_data_are_a_copy():
    given = rolls()
    data = PianoRolls(given[:1])
    kept = data.sequences[0].clone()
    given[0].fill_(1)
    assert torch.equal(data.sequences[0], kept)


def broken(value):
    roll = torch.zeros(4, 88)
    roll[2, 3] = value
    return roll


@pytest.mark.parametrize(
    ("roll", "message"),
    [
        (torch.zeros(4, 87), r"must be \[T, 88\] .* got shape \(4, 87\)"),
        (torch.zeros(88), r"got shape \(88,\)"),
        (torch.zeros(0, 88), r"with a frame or more, got shape \(0, 88\)"),
        (broken(2), "nothing but 0"),
        (broken(0.5), "nothing but 0"),
        (broken(-1), "nothing but 0"),
        (broken(float("nan")), "nothing but 0"),
        (broken(float("inf")), "nothing but 0"),
        (np.array([["a"] * 88]), "is not an array of numbers"),
        ("notes", "is not an array of numbers"),
    ],
)
def test_rejects_what_is_no_roll(roll, message):
    with pytest.raises(ValueError, match=f"sequence 5 .*{message}"):
        PianoRolls([*rolls(), roll])


def test_rejects_no_sequence():
    with pytest.raises(ValueError, match="there is no sequence"):
        PianoRolls([])


# Serving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [{}, {"chunk": 4}, {"window": 3}])
def test_the_loader_serves_every_row_once_in_an_order_of_the_seed(cut):
    data = PianoRolls(rolls(3 * LENGTHS), **cut)
    first, again = (list(Loader(data, 4, seed=3).epoch(2)) for _ in range(2))
    other = list(Loader(data, 4, seed=4).epoch(2))
    assert sum(map(len, first)) == len(data)
    assert all(torch.equal(a.obs, b.obs) for a, b in zip(first, again, strict=True))
    assert any(
        a.obs.shape != b.obs.shape or not torch.equal(a.obs, b.obs) for a, b in zip(first, other)
    )
    seen = sorted(
        tuple(map(int, row[real].flatten())) for b in first for row, real in zip(b.obs, b.mask)
    )
    whole = data.batch()
    assert seen == sorted(
        tuple(map(int, row[m].flatten())) for row, m in zip(whole.obs, whole.mask)
    )


def served(data, seed, epoch, batch_size=4):
    """The rows of every batch of an epoch, by number: frame 0 of row i says i in binary."""
    return [
        [sum(2**k for k in range(12) if row[0, k]) for row in batch.obs]
        for batch in Loader(data, batch_size, seed=seed).epoch(epoch)
    ]


@pytest.fixture
def numbered():
    """Rolls of very different lengths that can be told apart."""
    random = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, 200, (150,), generator=random).tolist()
    made = [torch.zeros(n, 88) for n in lengths]
    for i, roll in enumerate(made):
        roll[:, :12] = torch.tensor([float(i >> k & 1) for k in range(12)])
    return PianoRolls(made)


def test_rows_alike_in_length_are_served_together(numbered):
    """Every row once an epoch, and the short batch last, as without; with half the padding."""
    epochs = [served(numbered, 1, epoch) for epoch in (0, 1)]
    for batches in epochs:
        assert sorted(row for batch in batches for row in batch) == list(range(150))
        assert [len(batch) for batch in batches] == [4] * 37 + [2]
    assert epochs[0] != epochs[1]
    assert served(numbered, 1, 1) == epochs[1]
    assert served(numbered, 2, 1) != epochs[1]

    def padded(batches):
        return sum(len(b) * int(numbered.lengths[b].max()) for b in batches) - numbered.frames

    chance = torch.randperm(150).split(4)
    assert padded(epochs[0]) < 0.5 * padded(chance)
    shortest = [int(numbered.lengths[batch].min()) for batch in epochs[0]]
    assert shortest[:37] != sorted(shortest[:37])  # batches of long rows come at any time


def test_rows_of_one_length_and_one_batch_are_served_too():
    data = PianoRolls(rolls((3,) * 9))
    assert [len(batch) for batch in Loader(data, 4, seed=1).epoch(0)] == [4, 4, 1]
    (batch,) = Loader(data, 9).epoch(0)
    assert torch.equal(batch.obs, data.batch().obs)
    whole = [len(batch) for batch in Loader(data, 3).epoch(5)]
    assert whole == [3, 3, 3]


LONG = (23, 3, 40, 8, 1, 16)


@pytest.mark.parametrize("chunk", [1, 5, 8, 100])
def test_pieces_cut_anew_join_into_the_sequences(chunk):
    """As many rows as before, the same frames in the same order, none across two sequences."""
    data = PianoRolls(rolls(LONG), chunk=chunk, recut=True)
    ends = set(torch.tensor(LONG).cumsum(0).tolist())
    plain = PianoRolls(rolls(LONG), chunk=chunk)
    places = set()
    for epoch in range(6):
        fresh = data.fresh(epoch)
        assert len(fresh) == len(data) == len(plain)
        batch = fresh.batch()
        assert torch.equal(batch.obs[batch.mask], torch.cat(data.sequences).float())
        assert 1 <= fresh.lengths.min() <= fresh.lengths.max() <= chunk
        assert ends <= set(fresh.lengths.cumsum(0).tolist())
        places.add(tuple(fresh.lengths.tolist()))
    assert torch.equal(data.fresh(0).lengths, plain.lengths)
    assert (len(places) > 1) == (chunk in (5, 8))  # nothing is to choose where chunks are 1 or all


def test_places_are_those_of_seed_and_epoch():
    def places(seed, epoch, start=0):
        data = PianoRolls(rolls(LONG), chunk=5, recut=True, seed=seed)
        return data.fresh(start).fresh(epoch).lengths.tolist()

    assert places(1, 2) == places(1, 2, start=7)
    assert places(1, 2) != places(1, 3)
    assert places(1, 2) != places(2, 2)
    still = PianoRolls(rolls(LONG), chunk=5)
    assert still.fresh(3) is still


def test_a_loader_cuts_anew_every_epoch():
    data = PianoRolls(rolls(LONG), chunk=5, recut=True)
    loader = Loader(data, 4, seed=2)
    lengths = [[b.mask.sum(1).tolist() for b in loader.epoch(epoch)] for epoch in (1, 1, 2)]
    assert lengths[0] == lengths[1]
    flat = [sorted(n for batch in epoch for n in batch) for epoch in lengths]
    assert flat[1] != flat[2]
    assert all(sum(epoch) == data.frames and len(epoch) == len(data) for epoch in flat)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "recut is about chunks: say how many frames one has"),
        ({"window": 3}, "recut has no window to choose, a stride of 1 serves them all"),
    ],
)
def test_nothing_else_is_cut_anew(arguments, message):
    with pytest.raises(ValueError, match=message):
        PianoRolls(rolls(), recut=True, **arguments)


def counting(*lengths):
    """Rolls whose frames say in binary how many frames of all rolls came before."""
    number = torch.arange(sum(lengths))[:, None]
    roll = torch.zeros(sum(lengths), 88, dtype=torch.uint8)
    roll[:, :10] = number >> torch.arange(10) & 1
    return list(roll.split(lengths))


def numbers(frames):
    """What ``counting`` wrote, ``[..., 88] -> [...]``, as lists."""
    return (frames[..., :10].long() << torch.arange(10)).sum(-1).tolist()


def test_windows_a_stride_apart():
    """Rolls of frames 0-7, 8-10 and 11-15, windows of 3: the second has no room."""
    batch = PianoRolls(counting(8, 3, 5), window=3, stride=2).batch()
    assert numbers(batch.obs) == [[0, 1, 2], [2, 3, 4], [4, 5, 6], [11, 12, 13]]
    assert numbers(batch.target) == [3, 5, 7, 14]
    assert batch.target.shape == (4, 88)
    one = PianoRolls(counting(8, 3, 5), window=3, stride=9)
    assert numbers(one.batch().obs) == [[0, 1, 2], [11, 12, 13]]
    still = PianoRolls(counting(8, 3, 5), window=3, stride=2)
    assert still.fresh(4) is still


@pytest.mark.parametrize("stride", [1, 2])
def test_a_target_after_every_frame(stride):
    arguments = {"window": 3, "stride": stride}
    data = PianoRolls(counting(8, 3, 5), **arguments, every_step=True)
    last = PianoRolls(counting(8, 3, 5), **arguments).batch()
    batch = data.rows(slice(None))
    assert batch.target.shape == batch.obs.shape == (len(data), 3, 88)
    assert batch.target.dtype == torch.float32
    assert torch.equal(batch.obs, last.obs)
    assert torch.equal(batch.target[:, -1], last.target)
    assert numbers(batch.target) == [[n + 1 for n in row] for row in numbers(batch.obs)]
    assert numbers(data.rows([-1]).target) == [[[13, 14, 15]], [[12, 13, 14]]][stride - 1]


@pytest.mark.parametrize("stride", [2, 7, 50])
def test_windows_cut_anew_are_each_served_as_often(stride):
    """Every start of a sequence that has n: (1 + (n - 1) // stride) / n of the epochs."""
    lengths, epochs = (14, 3, 4, 9), 600
    data = PianoRolls(counting(*lengths), window=3, stride=stride, recut=True, every_step=True)
    plain = PianoRolls(counting(*lengths), window=3, stride=stride)
    assert torch.equal(data.batch().obs, plain.batch().obs)
    assert torch.equal(data.fresh(0).batch().obs, plain.batch().obs)
    count = torch.zeros(sum(lengths))
    for epoch in range(1, epochs + 1):
        fresh = data.fresh(epoch)
        assert len(fresh) == len(data) == len(plain)
        first = [row[0] for row in numbers(fresh.batch().obs)]
        assert first == sorted(set(first))  # none twice
        count[first] += 1
    begin = 0
    for length in lengths:
        starts = max(0, length - 3)
        share = (1 + (starts - 1) // stride) / starts if starts else 0
        seen = count[begin : begin + length]
        deviation = 4.5 * (epochs * share * (1 - share)) ** 0.5
        assert ((seen[:starts] - epochs * share).abs() <= deviation).all()
        assert (seen[starts:] == 0).all()  # none across two sequences
        begin += length


def test_windows_cut_anew_are_a_stride_apart_but_for_one_place():
    data = PianoRolls(counting(100), window=10, stride=7, recut=True)
    for epoch in range(20):
        first = torch.tensor([row[0] for row in numbers(data.fresh(epoch).batch().obs)])
        assert len(first) == 13
        gaps = first.diff()
        assert (gaps == 7).sum() >= 11
        assert gaps.max() == 7


def test_a_loader_serves_other_windows_every_epoch():
    def windows(epoch, seed=1):
        data = PianoRolls(counting(40, 3, 30), window=4, recut=True, seed=seed, stride=6)
        loader = Loader(data, 4, seed=2)
        batches = list(loader.epoch(epoch))
        assert len(batches) == len(loader)
        return [numbers(batch.obs) for batch in batches]

    assert windows(1) == windows(1)
    assert windows(1) != windows(2)
    flat = [sorted(row[0] for b in windows(1, seed) for row in b) for seed in (1, 2)]
    assert flat[0] != flat[1]


def test_windows_of_a_published_set(published):
    data = Polyphonic("jsb", window=20, recut=True, stride=20, every_step=True)
    assert repr(data) == (
        "Polyphonic('jsb', 'train', 229 sequences, 13807 frames, window=20, stride=20, "
        "every_step=True)"
    )
    batch = data.fresh(3).rows([0, 5])
    assert batch.obs.shape == batch.target.shape == (2, 20, 88)
    assert torch.equal(batch.obs[:, 1:], batch.target[:, :-1])


@pytest.mark.parametrize("frames", [1, 12, 20, 24, 1000])
def test_batches_cover_every_sequence_once(frames):
    data = PianoRolls(rolls())
    seen = []
    for index, batch in data.batches(frames):
        assert batch.mask.numel() <= frames or len(batch) == 1
        assert (2 * batch.mask.sum(1) >= batch.mask.shape[1]).all()
        assert batch.mask.sum(1).tolist() == [LENGTHS[i] for i in index]
        for i, obs, mask in zip(index, batch.obs, batch.mask, strict=True):
            assert torch.equal(obs[mask], rolls()[i].float())
        seen += index
    assert sorted(seen) == list(range(5))
    assert [LENGTHS[i] for i in seen] == sorted(LENGTHS, reverse=True)


def test_batches_of_a_published_set_have_little_padding(published):
    data = Polyphonic("jsb", "test")
    for frames, most in ((1000, 1.15), (20_000, 1.5)):
        padded = sum(batch.mask.numel() for _, batch in data.batches(frames))
        assert padded < most * data.frames
    assert data.batch().mask.numel() > 2 * data.frames


def test_batches_reject_no_frame():
    with pytest.raises(ValueError, match="frames must be at least 1, got 0"):
        PianoRolls(rolls()).batches(0)


# Files ----------------------------------------------------------------------------------------


def cells(*shapes):
    array = np.empty((1, len(shapes)), dtype=object)
    for i, shape in enumerate(shapes):
        array[0, i] = np.zeros(shape, dtype=np.uint8)
    return array


@pytest.fixture
def mat(tmp_path):
    """Writes a MATLAB file of the given variables."""

    def write(**variables):
        scipy.io.savemat(tmp_path / "file.mat", variables)
        return tmp_path / "file.mat"

    return write


def test_a_mat_file_is_read(mat):
    path = mat(traindata=cells((3, 88), (1, 88)), testdata=cells((2, 88)))
    assert [roll.shape for roll in polyphonic.read_mat(path, "train")] == [(3, 88), (1, 88)]
    assert [roll.shape for roll in polyphonic.read_mat(path, "test")] == [(2, 88)]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"testdata": cells((2, 88))}, "no list of sequences 'traindata'"),
        ({"traindata": np.zeros((3, 88))}, "no list of sequences 'traindata'"),
        ({"traindata": cells()}, "no list of sequences 'traindata'"),
        (
            {"traindata": cells((3, 88), (3, 80))},
            r"does not hold piano rolls: sequence 1 of traindata must be \[T, 88\]",
        ),
    ],
)
def test_a_mat_file_that_holds_something_else(mat, variables, message):
    with pytest.raises(DataError, match=f"file.mat .*{message}"):
        polyphonic.read_mat(mat(**variables), "train")


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:60],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:200] + bytes(100) + whole[300:],
        lambda whole: b"<html>not found</html>",
        lambda whole: b"\x00" * 500,
        zlib.compress,
    ],
)
def test_a_damaged_mat_file(mat, damage):
    path = mat(traindata=cells(*[(9, 88)] * 9))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"file\.mat (is corrupt, cut short|has no list)"):
        polyphonic.read_mat(path, "train")


def test_a_mat_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none\.mat cannot be read \(No such file"):
        polyphonic.read_mat(tmp_path / "none.mat", "test")


@pytest.mark.parametrize(("name", "file"), polyphonic._FILES.items())
def test_it_says_which_file_is_missing_or_damaged(tmp_path, monkeypatch, name, file):
    monkeypatch.setenv("SEQZOO_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"has no file {file}: put"):
        Polyphonic(name)
    (tmp_path / "poly").mkdir()
    (tmp_path / file).write_bytes(b"MATLAB 5.0")
    with pytest.raises(DataError, match="corrupt or cut short"):
        Polyphonic(name)
    assert file in fetch.FILES


# Wrong notes ----------------------------------------------------------------------------------


@pytest.fixture
def batch():
    return PianoRolls(rolls((300, 200, 50))).batch()


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_wrong_notes_come_at_their_rate_and_only_in_real_frames(batch, rate):
    noisy = add_notes(batch.obs, batch.mask, rate, seed=1)
    silent = (batch.obs == 0) & batch.mask[..., None]
    expected, count = rate, silent.sum()
    share = noisy[silent].mean()
    assert abs(share - expected) < 4 * (rate * (1 - rate) / count) ** 0.5
    assert (noisy[batch.obs == 1] == 1).all()
    assert (noisy[~batch.mask] == 0).all()
    assert noisy.unique().tolist() == [0, 1]


def test_wrong_notes_leave_the_original_alone_and_follow_the_seed(batch):
    kept = batch.obs.clone()
    first, again, other = (add_notes(batch.obs, batch.mask, 0.1, seed) for seed in (1, 1, 2))
    assert torch.equal(batch.obs, kept)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_rates_nought_and_one(batch):
    assert torch.equal(add_notes(batch.obs, batch.mask, 0), batch.obs)
    assert torch.equal(add_notes(batch.obs, batch.mask, 1)[batch.mask].unique(), torch.ones(1))


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_is_a_probability(batch, rate):
    with pytest.raises(ValueError, match="rate must be"):
        add_notes(batch.obs, batch.mask, rate)


def test_wrong_notes_need_a_mask_of_the_same_shape(batch):
    with pytest.raises(ValueError, match="mask must be"):
        add_notes(batch.obs, batch.mask[:, 1:], 0.1)


# Hidden steps ---------------------------------------------------------------------------------


def hidden_runs(batch, length, real=None):
    """The first hidden step of each sequence; checks that one run of real frames is hidden."""
    real = batch.mask if real is None else real
    assert batch.observed.shape == batch.obs.shape
    assert (batch.observed == batch.observed[..., :1]).all()  # all keys alike
    hidden = ~batch.observed[..., 0] & real
    assert (hidden.sum(1) == length).all()
    first = hidden.int().argmax(1)
    for row, start in enumerate(first.tolist()):
        assert hidden[row, start : start + length].all()
    assert not batch.observed[~batch.mask].any()
    return first


@pytest.mark.parametrize("length", [1, 5, 49])
def test_a_run_of_real_frames_is_hidden(batch, length):
    covered = hide_steps(batch, length, seed=2)
    hidden_runs(covered, length)
    assert torch.equal(covered.obs, batch.obs.masked_fill(~covered.observed, 0))
    assert torch.equal(covered.mask, batch.mask)


def test_no_sequence_is_hidden_whole(batch):
    with pytest.raises(ValueError, match="sequence 2 has no value that was seen"):
        hide_steps(batch, 50)


def test_starts_are_spread_over_all_that_fit():
    batch = Batch(torch.zeros(4000, 8, 88), mask=(torch.arange(8) < 6).expand(4000, 8))
    count = hidden_runs(hide_steps(batch, 2, seed=0), 2).bincount(minlength=8)
    assert (count[5:] == 0).all()
    assert (count[:5] - 800).abs().max() < 4 * (4000 * 0.2 * 0.8) ** 0.5


def test_hidden_steps_follow_the_seed_and_not_the_padding(batch):
    first, again, other = (hide_steps(batch, 9, seed).observed for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    longer = collate([torch.zeros(n, 88) for n in (300, 200, 50, 400)])
    assert torch.equal(
        hidden_runs(hide_steps(longer, 9, 1), 9)[:3], hidden_runs(hide_steps(batch, 9, 1), 9)
    )


def test_a_given_start(batch):
    assert hidden_runs(hide_steps(batch, 4, start=46), 4).tolist() == [46, 46, 46]
    with pytest.raises(ValueError, match="4 steps from step 47 cannot be hidden in sequence 2"):
        hide_steps(batch, 4, start=47)
    with pytest.raises(ValueError, match="start must be at least 0"):
        hide_steps(batch, 4, start=-1)


def test_a_mask_with_a_gap():
    mask = torch.ones(1, 9, dtype=torch.bool)
    mask[0, 4] = False
    starts = {
        int(hidden_runs(hide_steps(Batch(torch.zeros(1, 9, 88), mask=mask), 3, seed), 3, mask))
        for seed in range(50)
    }
    assert starts == {0, 1, 5, 6}


def test_what_was_hidden_before_stays_hidden(batch):
    twice = hide_steps(hide_steps(batch, 3, start=0), 3, start=10)
    hidden = ~twice.observed[..., 0] & batch.mask
    assert hidden[:, :3].all()
    assert hidden[:, 10:13].all()
    assert hidden.sum() == 18


@pytest.mark.parametrize(("length", "row", "frames"), [(51, 2, 50), (201, 1, 200), (999, 0, 300)])
def test_a_sequence_that_is_too_short(length, row, frames):
    batch = PianoRolls(rolls((300, 200, 50)[: row + 1])).batch()
    message = f"{length} steps cannot be hidden in sequence {row}, which has {frames} real frames"
    with pytest.raises(ValueError, match=message):
        hide_steps(batch, length)


def test_no_step_to_hide(batch):
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        hide_steps(batch, 0)
