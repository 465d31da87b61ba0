"""Batches, their masks, and what becomes one."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from seqzoo.data import PPC, Batch, as_batch, collate


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
        inputs=torch.arange(20.0).reshape(2, 5, 2) + 1,
    )


def test_frames_counts_those_of_which_something_was_seen():
    obs, mask = ragged()
    assert Batch(obs, mask).frames == 6
    assert full_batch().frames == 5  # nothing was seen of the first one


@pytest.mark.parametrize("filler", [0.0, 50.0, float("nan"), float("inf")])
def test_a_filler_is_not_kept(filler):
    batch = full_batch()
    seen = batch.observed
    other = Batch(ragged()[0].masked_fill(~seen, filler), batch.mask, observed=seen)
    assert torch.equal(other.obs, batch.obs)
    assert not batch.obs[~seen].any()


def test_a_gap_is_time_of_which_nothing_was_seen():
    mask = torch.tensor([[True, False, False, True, True], [False, True, False, True, False]])
    batch = Batch(torch.ones(2, 5, 3), mask)
    passes = torch.tensor([[True] * 5, [False, True, True, True, False]])
    assert torch.equal(batch.mask, passes)
    assert torch.equal(batch.observed, mask[..., None].expand(2, 5, 3))
    assert torch.equal(batch.observed_frames, mask)
    assert torch.equal(batch.obs[..., 0].bool(), mask)
    assert batch.window(1, 3).mask[0].all()  # also where a window ends in the gap


def test_nothing_is_missing_where_all_was_seen():
    obs, mask = ragged()
    assert Batch(obs, mask, observed=torch.ones_like(obs, dtype=torch.bool)).observed is None


def test_a_sequence_of_which_nothing_was_seen_is_refused():
    seen = torch.ones(2, 5, 3, dtype=torch.bool)
    seen[1] = False
    with pytest.raises(ValueError, match="sequence 1 has no value that was seen"):
        Batch(ragged()[0], observed=seen)


def test_window_cuts_time_and_keeps_ended_sequences():
    batch = full_batch()
    part = batch.window(2, 4)
    for name in ("obs", "mask", "observed", "state", "inputs"):
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
        for name in ("obs", "mask", "target", "observed", "state", "inputs"):
            assert torch.equal(getattr(part, name), getattr(batch, name)[1:2])
    assert Batch(batch.obs).rows([0]).target is None


def test_to_moves_every_field():
    moved = full_batch().to("cpu")
    for name in ("obs", "mask", "target", "observed", "state", "inputs"):
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


@pytest.mark.parametrize(
    ("sequences", "targets", "complaint"),
    [
        ([np.zeros((6, 4))], None, r"sequence 0 is no tensor but ndarray: use torch\.as_tensor"),
        (
            [torch.zeros(6, 4), torch.zeros(2, 5)],
            None,
            r"sequence 1 has shape \(2, 5\), sequence 0 \(6, 4\): all axes but the first",
        ),
        ([torch.zeros(6, 4), torch.zeros(6)], None, r"sequence 1 has shape \(6,\)"),
        ([torch.zeros(())], None, r"sequence 0 has shape \(\)"),
        ([torch.zeros(6, 4)], [4], "target 0 is no tensor but int"),
        (
            [torch.zeros(6, 4)] * 2,
            [torch.zeros(1), torch.zeros(2)],
            r"target 1 has shape \(2,\), target 0 \(1,\): all axes must agree",
        ),
    ],
)
def test_sequences_that_cannot_be_collated(sequences, targets, complaint):
    with pytest.raises(ValueError, match=complaint):
        collate(sequences, targets)


def test_sequences_that_can_be_collated():
    batch = collate([torch.zeros(6, 4), torch.zeros(2, 4)], torch.tensor([1, 0]))
    assert batch.mask.sum(1).tolist() == [6, 2]
    assert batch.target.tolist() == [1, 0]
    assert collate(torch.zeros(3, 6, 4, 4)).obs.shape == (3, 6, 4, 4)


BAD_INPUTS = {
    "an array": (np.zeros((2, 5, 1)), "torch tensor"),
    "no axis of inputs": (torch.zeros(2, 5), r"\[2, 5, I\]"),
    "other steps": (torch.zeros(2, 4, 1), r"\[2, 5, I\]"),
    "none": (torch.zeros(2, 5, 0), r"\[2, 5, I\]"),
    "whole numbers": (torch.zeros(2, 5, 1, dtype=torch.long), "torch.float32"),
    "doubles": (torch.zeros(2, 5, 1).double(), r"inputs.to\(torch.float32\)"),
    "NaN in a real frame": (torch.full((2, 5, 1), math.nan), "step 0 of sequence 0"),
}


@pytest.mark.parametrize(("inputs", "message"), BAD_INPUTS.values(), ids=BAD_INPUTS.keys())
def test_batch_rejects_inputs(inputs, message):
    with pytest.raises(ValueError, match=message):
        Batch(*ragged(), inputs=inputs)


def test_inputs_are_zero_in_padding_and_known_in_gaps():
    obs, mask = ragged()
    gap = mask.clone()
    gap[0, 1] = False
    inputs = torch.ones(2, 5, 2).masked_fill(~mask[..., None], math.nan)
    batch = Batch(obs, gap, inputs=inputs)
    assert torch.equal(batch.inputs, mask[..., None].float().expand(2, 5, 2))
    inputs[0, 1] = math.inf
    with pytest.raises(ValueError, match="step 1 of sequence 0"):
        Batch(obs, gap, inputs=inputs)


def test_collate_pads_inputs():
    parts = [torch.ones(3, 2), torch.ones(2, 2)]
    batch = collate(parts, inputs=[torch.full((3, 1), 2.0), torch.full((2, 1), 3.0)])
    assert batch.inputs[..., 0].tolist() == [[2, 2, 2], [3, 3, 0]]
    with pytest.raises(ValueError, match="as many steps"):
        collate(parts, inputs=[torch.ones(3, 1), torch.ones(3, 1)])
