"""Data sets, batches, masks and the loader."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats
from seqzoo.data import PPC, Batch, Dataset, Loader, as_batch, collate, generator, ppc


@pytest.fixture(scope="module")
def population():
    return PPC(40, 1000, seed=3, split="test")


def reference_rates(position):
    """Mean rates at unit gain, one neuron and one copy at a time."""
    sd, half = 0.148235, math.pi / 3
    period = 15 / 14 * 2 * half
    while position >= period / 2:
        position -= period
    while position < -period / 2:
        position += period
    rates = []
    for neuron in range(15):
        centre = -half + neuron * 2 * half / 14
        copies = [position - period, position, position + period]
        rates.append(sum(math.exp(-((x - centre) ** 2) / (2 * sd**2)) for x in copies))
    return np.array(rates)


# Probabilistic population codes ---------------------------------------------------------------


def test_shapes_and_types():
    data = PPC(3, 7, seed=1)
    assert data.obs.shape == (3, 7, 15)
    assert data.state.shape == (3, 7, 2)
    assert data.obs.dtype == data.state.dtype == torch.float32
    assert data.mask.shape == (3, 7)
    assert data.mask.all()
    assert len(data) == len(data.batch()) == 3
    assert isinstance(data, Dataset)


def test_spikes_per_step(population):
    assert population.obs.sum(-1).mean().item() == pytest.approx(19.9, abs=0.1)
    assert torch.equal(population.obs, population.obs.round())
    assert population.obs.min() == 0


def test_mean_counts_follow_the_tuning_curves(population):
    """Counts summed over all steps against eight times the summed rates, in standard errors."""
    counts, position = population.obs.reshape(-1, 15), population.state[..., 0].flatten()
    expected = 8 * ppc.tuning(position).double().sum(0)
    deviation = (counts.double().sum(0) - expected) / (1.3 * expected).sqrt()
    assert deviation.abs().max() < 4.5


def test_gain_is_shared_by_the_population_and_fresh_every_step(population):
    """Var(total) = E(g) s + Var(g) s^2, and totals of one trajectory are independent."""
    total = population.obs.sum(-1).double()
    sums = reference_rates(0.3).sum()
    expected = 8 * sums + 3.2**2 / 12 * sums**2
    assert total.var().item() == pytest.approx(expected, rel=0.03)
    following = ((total[:, 1:] - total.mean()) * (total[:, :-1] - total.mean())).mean()
    assert abs(following) < 4.5 * expected / math.sqrt(total.numel())


def test_raw_decoding_error(population):
    error = ppc.position_mse(ppc.decode(population.obs), population.state[..., 0])
    assert error.item() == pytest.approx(1.18e-3, rel=0.03)


def test_observation_variance_is_the_variance_of_the_decoder(population):
    error = ppc.wrap(ppc.decode(population.obs) - population.state[..., 0])
    ratio = (error.square() / ppc.observation_variance(population.obs)).mean().item()
    assert ratio == pytest.approx(1.0, rel=0.03)


def test_regression_recovers_dynamics_and_process_noise(population):
    state = population.state.double().numpy()
    before, after = state[:, :-1].reshape(-1, 2), state[:, 1:].reshape(-1, 2)
    dynamics = np.linalg.lstsq(before, after, rcond=None)[0].T
    noise = after - before @ dynamics.T
    np.testing.assert_allclose(dynamics, [[1.0, 0.05], [-0.03, 0.9975]], atol=5e-4)
    covariance = np.cov(noise.T)
    np.testing.assert_allclose(covariance.diagonal(), [5e-7, 5e-5], rtol=0.04)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 4.5 / math.sqrt(len(noise))


def test_start_distribution():
    start = PPC(20_000, 1, seed=5).state[:, 0].double().numpy()
    limit = math.pi / 3 - 0.05
    assert stats.kstest(start[:, 0], stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3
    assert stats.kstest(start[:, 1], stats.norm(0, math.sqrt(5e-10)).cdf).pvalue > 1e-3
    assert limit - 1e-3 < np.abs(start[:, 0]).max() < limit


def test_same_arguments_same_data():
    first, second = PPC(3, 9, seed=4, split="validation"), PPC(3, 9, seed=4, split="validation")
    assert torch.equal(first.obs, second.obs)
    assert torch.equal(first.state, second.state)


@pytest.mark.parametrize("other", [{"seed": 5}, {"split": "validation"}, {"epoch": 1}])
def test_seed_split_and_epoch_each_change_the_data(other):
    first, second = PPC(3, 9, seed=4), PPC(3, 9, **{"seed": 4, **other})
    assert not torch.equal(first.obs, second.obs)
    assert (first.state[:, 0, 0] != second.state[:, 0, 0]).all()


def test_data_are_untouched_by_the_global_seed_and_leave_it_alone():
    torch.manual_seed(1)
    first = PPC(2, 4, seed=0).obs
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))
    assert torch.equal(first, PPC(2, 4, seed=0).obs)


def test_fresh_is_reproducible_and_fresh_zero_is_itself():
    data = PPC(3, 9, seed=4, split="test")
    assert data.fresh(0) is data
    again = data.fresh(7)
    assert torch.equal(again.obs, data.fresh(7).obs)
    assert torch.equal(again.obs, PPC(3, 9, seed=4, split="test", epoch=7).obs)
    assert not torch.equal(again.obs, data.obs)
    assert torch.equal(again.fresh(0).obs, data.obs)


def test_rows_keep_observations_and_states_together():
    data = PPC(5, 4, seed=2)
    part = data.rows(torch.tensor([3, 1]))
    assert torch.equal(part.obs, data.obs[[3, 1]])
    assert torch.equal(part.state, data.state[[3, 1]])


@pytest.mark.parametrize(
    "arguments",
    [
        {"sequences": 0, "steps": 5},
        {"sequences": 5, "steps": 0},
        {"sequences": 2, "steps": 2, "split": "dev"},
    ],
)
def test_ppc_rejects_bad_arguments(arguments):
    with pytest.raises(ValueError, match="must be"):
        PPC(**arguments)


# Tuning curves and the decoder ----------------------------------------------------------------

POSITIONS = np.linspace(-3.3, 3.3, 41)


def test_tuning_against_a_literal_reference():
    expected = np.stack([reference_rates(x) for x in POSITIONS])
    actual = ppc.tuning(torch.tensor(POSITIONS)).numpy()
    np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_tuning_is_periodic_and_its_sum_nearly_flat():
    position = torch.tensor(POSITIONS)
    rates = ppc.tuning(position)
    torch.testing.assert_close(ppc.tuning(position + ppc.PERIOD), rates)
    assert not torch.allclose(ppc.tuning(position + ppc.PERIOD / 2), rates)
    total = rates.sum(-1)
    assert (total.max() - total.min()) / total.mean() < 1e-3


def test_decoding_noiseless_rates_is_exact_all_round_the_torus():
    half = ppc.PERIOD / 2
    edges = torch.tensor([-half, half, math.nextafter(half, 0.0), -half + 1e-6, half - 1e-6])
    position = torch.cat((torch.linspace(-half, half, 301), edges)).double()
    decoded = ppc.decode(ppc.tuning(position))
    away = (decoded - position).remainder(ppc.PERIOD)
    assert torch.minimum(away, ppc.PERIOD - away).max() < 1e-3
    assert decoded.min() >= -half
    assert decoded.max() < half


def test_decoding_follows_a_shift_of_the_neurons():
    counts = PPC(4, 30, seed=9).obs.double()
    counts[..., 0] += 1e-3  # no ties for the loudest neuron
    counts = counts + torch.linspace(0, 1e-2, 15, dtype=torch.float64)
    spacing = 2 * math.pi / 3 / 14
    for shift in (1, 6, 14):
        turned = ppc.decode(counts.roll(shift, -1)) - ppc.decode(counts) - shift * spacing
        laps = turned / (15 * spacing)
        torch.testing.assert_close(laps, laps.round(), atol=1e-9, rtol=0)


def test_decoding_ignores_the_gain():
    counts = PPC(2, 20, seed=9).obs
    torch.testing.assert_close(ppc.decode(counts), ppc.decode(2.5 * counts))


def test_decoding_against_a_circular_window():
    """Centre of mass of the fifteen neurons around the loudest, written out for one frame."""
    counts = torch.tensor([5.0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 4])
    centre = (5 * 0 + 3 * 1 + 2 * -2 + 4 * -1) / 14
    spacing = 2 * math.pi / 3 / 14
    expected = -math.pi / 3 + centre * spacing
    assert ppc.decode(counts).item() == pytest.approx(expected, abs=1e-6)


def test_a_silent_population():
    silent = torch.zeros(2, 3, 15)
    torch.testing.assert_close(ppc.decode(silent), torch.full((2, 3), -math.pi / 3))
    uniform = (15 / 14 * 2 * math.pi / 3) ** 2 / 12
    torch.testing.assert_close(ppc.observation_variance(silent), torch.full((2, 3), uniform))


def test_observation_variance_falls_with_spikes():
    counts = torch.zeros(3, 15)
    counts[0, 2], counts[1, 5], counts[2, 5:7] = 1, 4, 10
    expected = 0.148235**2 / torch.tensor([1.0, 4.0, 20.0])
    torch.testing.assert_close(ppc.observation_variance(counts), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("function", [ppc.decode, ppc.observation_variance])
def test_whole_numbers_decode_like_floats(function):
    counts = PPC(2, 5, seed=9).obs
    torch.testing.assert_close(function(counts.long()), function(counts))


@pytest.mark.parametrize("function", [ppc.decode, ppc.observation_variance])
@pytest.mark.parametrize(
    "bad",
    [
        torch.ones(2, 14),
        torch.full((2, 15), math.nan),
        torch.full((2, 15), math.inf),
        torch.full((2, 15), -1.0),
    ],
)
def test_a_population_must_be_one(function, bad):
    with pytest.raises(ValueError, match=r"population|spike counts"):
        function(bad)


def test_position_error_goes_the_short_way_round():
    half = 15 / 14 * math.pi / 3
    true = torch.tensor([[half - 0.1, 0.0, 5.0]])
    decoded = torch.tensor([[-half + 0.2, 0.4, 5.0 - 4 * half]])
    expected = (0.3**2 + 0.4**2 + 0.0) / 3
    assert ppc.position_mse(decoded, true).item() == pytest.approx(expected, abs=1e-6)


def test_position_error_leaves_padding_out():
    true = torch.zeros(2, 3)
    decoded = torch.tensor([[0.1, 0.2, 0.9], [0.3, 0.9, 0.9]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    expected = (0.1**2 + 0.2**2 + 0.3**2) / 3
    assert ppc.position_mse(decoded, true, mask).item() == pytest.approx(expected, abs=1e-6)


def test_position_error_needs_one_shape():
    with pytest.raises(ValueError, match="differ in shape"):
        ppc.position_mse(torch.zeros(2, 3), torch.zeros(2, 1))


# Batches --------------------------------------------------------------------------------------


def ragged():
    """Two sequences of 4 and 2 frames, 3 values each, in a batch of 5 frames."""
    obs = torch.arange(30.0).reshape(2, 5, 3) + 1
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], dtype=torch.bool)
    return obs, mask


BAD_BATCHES = {
    "a list": ([[[1.0]]], None, "torch tensor"),
    "whole numbers": (torch.ones(2, 5, 3, dtype=torch.long), None, "floating point"),
    "two axes": (torch.ones(5, 3), None, "batch, time, features"),
    "no sequence": (torch.ones(0, 5, 3), None, "empty"),
    "no frame": (torch.ones(2, 0, 3), None, "empty"),
    "NaN": (torch.full((2, 5, 3), math.nan), None, "NaN"),
    "Inf": (torch.full((2, 5, 3), math.inf), None, "Inf"),
    "mask of numbers": (torch.ones(2, 5, 3), torch.ones(2, 5), "bool"),
    "mask too long": (torch.ones(2, 5, 3), torch.ones(2, 6, dtype=torch.bool), "mask must be"),
    "mask transposed": (torch.ones(2, 5, 3), torch.ones(5, 2, dtype=torch.bool), "mask must be"),
    "all masked": (torch.ones(2, 5, 3), torch.zeros(2, 5, dtype=torch.bool), "sequence 0"),
}


@pytest.mark.parametrize(("obs", "mask", "message"), BAD_BATCHES.values(), ids=BAD_BATCHES.keys())
def test_batch_rejects(obs, mask, message):
    with pytest.raises(ValueError, match=message):
        Batch(obs, mask)


def test_batch_names_the_sequence_without_a_real_frame():
    obs, mask = ragged()
    mask[1] = False
    with pytest.raises(ValueError, match="sequence 1 has no real frame"):
        Batch(obs, mask)


def test_batch_rejects_nan_in_a_real_frame_only():
    obs, mask = ragged()
    obs[~mask] = math.nan
    batch = Batch(obs, mask)
    assert (batch.obs[~mask] == 0).all()
    assert torch.equal(batch.obs[mask], obs[mask])
    assert obs[~mask].isnan().all(), "the caller's tensor was changed"
    obs[0, 2, 1] = math.nan
    with pytest.raises(ValueError, match="real frame"):
        Batch(obs, mask)


def test_padding_of_frames_with_two_axes_becomes_zero():
    _, mask = ragged()
    batch = Batch(torch.full((2, 5, 4, 3), 7.0), mask)
    assert torch.equal(batch.obs, 7.0 * mask[..., None, None].expand(2, 5, 4, 3))


@pytest.mark.parametrize(
    "observed",
    [torch.ones(2, 5, 3), torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 3, 5).bool()],
)
def test_batch_rejects_observed(observed):
    with pytest.raises(ValueError, match="observed must be"):
        Batch(ragged()[0], observed=observed)


@pytest.mark.parametrize("name", ["target", "state"])
def test_batch_rejects_other_row_counts(name):
    with pytest.raises(ValueError, match=f"{name} has 3 rows"):
        Batch(ragged()[0], **{name: torch.zeros(3, 5)})


def test_mask_defaults_to_all_real():
    batch = Batch(ragged()[0])
    assert torch.equal(batch.mask, torch.ones(2, 5, dtype=torch.bool))
    assert batch.frames == 10


def full_batch():
    obs, mask = ragged()
    return Batch(
        obs,
        mask,
        target=torch.tensor([8, 9]),
        observed=obs > 4,
        state=torch.arange(20.0).reshape(2, 5, 2),
    )


def test_frames_counts_real_ones():
    assert full_batch().frames == 6


def test_window_cuts_time_and_keeps_ended_sequences():
    batch = full_batch()
    part = batch.window(2, 4)
    for name in ("obs", "mask", "observed", "state"):
        assert torch.equal(getattr(part, name), getattr(batch, name)[:, 2:4])
    assert torch.equal(part.target, batch.target)
    assert len(part) == 2
    assert not part.mask[1].any()
    assert part.frames == 2


def test_a_window_with_an_ended_sequence_can_be_moved_and_indexed():
    part = full_batch().window(2, 4)
    assert torch.equal(part.to("cpu").mask, part.mask)
    assert torch.equal(part.rows([1]).obs, torch.zeros(1, 2, 3))


def test_windows_tile_the_batch():
    batch = full_batch()
    parts = [batch.window(start, start + 2) for start in range(0, 5, 2)]
    assert torch.equal(torch.cat([part.obs for part in parts], 1), batch.obs)
    assert sum(part.frames for part in parts) == batch.frames


def test_rows_pick_sequences_from_every_field():
    batch = full_batch()
    for index in (slice(1, 2), [1], torch.tensor([1])):
        part = batch.rows(index)
        for name in ("obs", "mask", "target", "observed", "state"):
            assert torch.equal(getattr(part, name), getattr(batch, name)[1:2])
    assert Batch(batch.obs).rows([0]).target is None


def test_to_moves_every_field():
    moved = full_batch().to("cpu")
    for name in ("obs", "mask", "target", "observed", "state"):
        assert torch.equal(getattr(moved, name), getattr(full_batch(), name))


def test_collate_pads_ragged_sequences():
    sequences = [torch.full((length, 3), float(length)) for length in (2, 5, 1)]
    batch = collate(sequences, [torch.tensor(i) for i in (4, 5, 6)])
    assert batch.obs.shape == (3, 5, 3)
    assert batch.mask.sum(1).tolist() == [2, 5, 1]
    assert batch.target.tolist() == [4, 5, 6]
    for row, sequence in enumerate(sequences):
        assert torch.equal(batch.obs[row, batch.mask[row]], sequence)
        assert batch.mask[row, : len(sequence)].all()
    assert (batch.obs[~batch.mask] == 0).all()


@pytest.mark.parametrize(
    ("sequences", "message"),
    [([], "empty list"), ([torch.ones(2, 3), torch.ones(0, 3)], "sequence 1")],
)
def test_collate_rejects(sequences, message):
    with pytest.raises(ValueError, match=message):
        collate(sequences)


# The loader -----------------------------------------------------------------------------------


def numbered(rows=7):
    """A batch whose row ``i`` holds the number ``i``."""
    return Batch(torch.arange(float(rows)).reshape(rows, 1, 1).expand(rows, 3, 2))


def order(loader, epoch):
    return [int(row) for batch in loader.epoch(epoch) for row in batch.obs[:, 0, 0]]


# as_batch -------------------------------------------------------------------------------------


def test_a_batch_is_returned_as_it_is():
    batch = Batch(torch.zeros(2, 3, 4))
    assert as_batch(batch) is batch


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_keep_their_floating_dtype(dtype):
    obs = torch.rand(2, 3, 4, dtype=dtype)
    assert torch.equal(as_batch(obs).obs, obs)
    assert as_batch(obs).obs.dtype == dtype
    assert as_batch([obs[0], obs[1, :2]]).obs.dtype == dtype


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int64", ">f4", "float16", "float64"])
def test_arrays_get_the_default_dtype(dtype):
    values = np.arange(24).reshape(2, 3, 4) % 2
    array = values.astype(dtype)
    array.setflags(write=False)
    for batch in (as_batch(array), as_batch(list(array)), as_batch(torch.tensor(values))):
        assert torch.equal(batch.obs, torch.tensor(values, dtype=torch.float32))
    assert batch.mask.all()


def test_sequences_of_unequal_length_are_padded():
    short, long = np.ones((2, 3), dtype=int), torch.full((4, 3), 2.0)
    for given in ([short, long], (short.tolist(), long.tolist())):
        batch = as_batch(given)
        assert batch.obs.sum((1, 2)).tolist() == [6.0, 24.0]
        assert batch.mask.sum(1).tolist() == [2, 4]


UNFIT = {
    "data set": (PPC(2, 3), r"data set PPC: use its .batch\(\)"),
    "text": ("abc", "expected a Batch, .* got str"),
    "nothing": (None, "got NoneType"),
    "empty list": ([], "empty list"),
    "complex tensor": (torch.zeros(2, 3, 4, dtype=torch.complex64), "must hold real numbers"),
    "complex array": (
        np.zeros((2, 3, 4), dtype=complex),
        "real numbers, got ndarray of complex128",
    ),
    "strings": ([[["a"]]], "sequence 0 must hold real numbers"),
    "objects": (np.array([None, 1], dtype=object), "must hold real numbers, got ndarray of object"),
    "masked array": (np.ma.zeros((2, 3, 4)), "give its .data and a mask to Batch"),
    "ragged sequence": ([[[1.0, 2.0], [3.0]]], "sequence 0 is not an array"),
    "one sequence": (torch.zeros(3, 4), r"obs\[None\] for one sequence"),
    "frames without an axis": ([np.zeros(3)], r"sequence 0 must be \[time, features\]"),
    "unequal features": ([np.zeros((3, 2)), np.zeros((3, 4))], "sequence 1 has shape"),
    "infinite": (np.full((2, 3, 4), np.inf), "NaN or Inf"),
}


@pytest.mark.parametrize(("value", "message"), UNFIT.values(), ids=UNFIT.keys())
def test_as_batch_rejects(value, message):
    with pytest.raises(ValueError, match=message):
        as_batch(value)


def test_a_copy_with_another_field_is_checked():
    batch = dataclasses.replace(Batch(torch.ones(2, 3, 1)), target=torch.zeros(2))
    assert batch.target is not None
    with pytest.raises(ValueError, match="target has 3 rows"):
        dataclasses.replace(batch, target=torch.zeros(3))


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
    with pytest.raises(ValueError, match="empty"):
        Loader([])


# Random keys ----------------------------------------------------------------------------------

KEYS = [
    (),
    (0,),
    (1,),
    (0, 1),
    (1, 0),
    (0, 0),
    ("a",),
    (97,),
    ("ab",),
    ("a", "b"),
    ("b", "a"),
    (2**32,),
    (2**32 + 1,),
    (1, 1),
    (0, "PPC train", 0),
    (0, "PPC train", 0, 0),
]


def test_a_key_gives_one_stream():
    first, second = (torch.rand(4, generator=generator(3, "x", 1)) for _ in range(2))
    assert torch.equal(first, second)


def test_unequal_keys_give_unequal_streams():
    seeds = {}
    for key in KEYS:
        seeds.setdefault(generator(*key).initial_seed(), []).append(key)
    assert [keys for keys in seeds.values() if len(keys) > 1] == []
