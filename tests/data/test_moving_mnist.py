"""MovingMNIST and the idx format."""

import gzip
import struct

import numpy as np
import pytest
import torch
from seqzoo.data import DataError, Dataset, MovingMNIST, moving_mnist


@pytest.fixture(scope="module")
def film(published):
    return MovingMNIST(40, 30, seed=3, split="test")


# Motion ---------------------------------------------------------------------------------------


def test_digits_keep_their_speed(film):
    speed = film.state[..., 2:].norm(dim=-1)
    torch.testing.assert_close(speed, torch.full_like(speed, 3.6))


def test_digits_stay_inside(film):
    centre = film.state[..., :2]
    assert centre.min() >= 14
    assert centre.max() <= 50
    assert centre.min() < 15
    assert centre.max() > 49


def test_digits_move_straight_between_walls_and_are_mirrored_at_them(film):
    centre, velocity = film.state.double().split(2, -1)
    before, after = velocity[:, :-1], velocity[:, 1:]
    goal = centre[:, :-1] + before
    low, high = goal < 14, goal > 50
    assert low.any()
    assert high.any()
    expected = torch.where(low, 28 - goal, torch.where(high, 100 - goal, goal))
    torch.testing.assert_close(centre[:, 1:], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(after, torch.where(low | high, -before, before))


def test_starts_and_directions_are_spread(published):
    start = MovingMNIST(2000, 1, seed=1, split="test").state[:, 0].flatten(0, 1)
    np.testing.assert_allclose(start.mean(0), [32, 32, 0, 0], atol=0.7)
    np.testing.assert_allclose(start[:, :2].std(0), 36 / 12**0.5, rtol=0.05)
    np.testing.assert_allclose(start[:, 2:].std(0), 3.6 / 2**0.5, rtol=0.05)


def test_a_narrow_frame(published):
    data = MovingMNIST(2, 50, size=29, split="test")
    assert data.obs.shape == (2, 50, 29 * 29)
    assert ((data.state[..., :2] >= 14) & (data.state[..., :2] <= 15)).all()


# Pictures -------------------------------------------------------------------------------------


def reference_frame(images, centres, size):
    """A frame ``[size, size]``, every pixel of every digit shared among the four it covers."""
    frame = np.zeros((size, size))
    for image, (x, y) in zip(images, centres):
        digit = np.zeros((size + 1, size + 1))
        left, top = int(np.floor(x - 14)), int(np.floor(y - 14))
        right, down = x - 14 - left, y - 14 - top
        for i in range(28):
            for j in range(28):
                grey = image[i, j] / 255
                digit[top + i, left + j] += grey * (1 - down) * (1 - right)
                digit[top + i, left + j + 1] += grey * (1 - down) * right
                digit[top + i + 1, left + j] += grey * down * (1 - right)
                digit[top + i + 1, left + j + 1] += grey * down * right
        frame = np.maximum(frame, digit[:size, :size])
    return frame


def noise(*shape):
    """Images without the margin of MNIST, so that every edge counts."""
    return torch.randint(1, 256, (*shape, 28, 28), dtype=torch.uint8)


def test_rendering_against_a_literal_reference():
    images = noise(2, 3)
    centre = 14 + torch.rand(2, 4, 3, 2) * (40 - 28)
    centre[0, 0] = torch.tensor([[14.0, 14.0], [26.0, 26.0], [14.0, 26.0]])  # the corners
    frames = moving_mnist.render(images, centre, size=40).reshape(2, 4, 40, 40)
    for n in range(2):
        for t in range(4):
            expected = reference_frame(images[n].numpy(), centre[n, t].double().numpy(), 40)
            np.testing.assert_allclose(frames[n, t], expected, atol=1e-5)


def test_rendering_in_chunks_changes_nothing(monkeypatch):
    images, centre = noise(5, 2), 14 + 36 * torch.rand(5, 3, 2, 2)
    whole = moving_mnist.render(images, centre)
    monkeypatch.setattr(moving_mnist, "CHUNK", 2 * 3 * 29**2)
    assert torch.equal(moving_mnist.render(images, centre), whole)


@pytest.mark.parametrize("bad", [13.9, 50.1, float("nan")])
def test_render_rejects_a_digit_outside(bad):
    centre = torch.full((1, 1, 1, 2), 20.0)
    centre[..., 1] = bad
    with pytest.raises(ValueError, match="centres must lie between"):
        moving_mnist.render(noise(1, 1), centre)


def test_render_rejects_shapes():
    with pytest.raises(ValueError, match=r"got \(2, 1, 28, 28\) and \(2, 4, 2, 2\)"):
        moving_mnist.render(noise(2, 1), torch.full((2, 4, 2, 2), 20.0))


def test_brightness_and_centre_of_mass_follow_the_state(published):
    """What a tracker of one digit sees: constant brightness, and the motion of the state."""
    data = MovingMNIST(6, 20, digits=1, seed=2, split="test")
    frames = data.obs.double().reshape(6, 20, 64, 64)
    image = data.images[data.digit[:, 0]].double() / 255
    mass = image.sum((1, 2))[:, None]
    torch.testing.assert_close(frames.sum((2, 3)), mass.expand(6, 20), rtol=1e-5, atol=0)
    middle = torch.arange(64) + 0.5
    for axis, other in ((0, 2), (1, 3)):  # x is columns, y is rows
        seen = (frames.sum(other) * middle).sum(-1) / mass
        own = (image.sum(other - 1) * (middle[:28] - 14)).sum(-1, keepdim=True) / mass
        torch.testing.assert_close(
            seen - own, data.state[:, :, 0, axis].double(), atol=1e-3, rtol=0
        )


def test_digits_pass_through_one_another(published):
    both = MovingMNIST(3, 20, seed=2, split="test")
    alone = [
        moving_mnist.render(both.images[both.digit[:, k : k + 1]], both.state[:, :, k : k + 1, :2])
        for k in range(2)
    ]
    assert torch.equal(both.obs, torch.maximum(*alone))
    assert both.obs.min() == 0
    assert 0.9 < both.obs.max() <= 1


# The set --------------------------------------------------------------------------------------


def test_shapes_and_types(published):
    data = MovingMNIST(2, 5, digits=3, size=40, split="test")
    assert data.obs.shape == (2, 5, 1600)
    assert data.state.shape == (2, 5, 3, 4)
    assert data.digit.shape == (2, 3)
    assert data.obs.dtype == data.state.dtype == torch.float32
    assert data.mask.shape == (2, 5)
    assert data.mask.all()
    assert len(data) == len(data.batch()) == 2
    assert isinstance(data, Dataset)


def test_splits_share_no_image(published):
    pools = {
        split: MovingMNIST(1, 1, split=split).images for split in ("train", "validation", "test")
    }
    assert [len(pool) for pool in pools.values()] == [50_000, 10_000, 10_000]
    seen = [{image.tobytes() for image in pool.numpy()} for pool in pools.values()]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_digits_are_drawn_from_the_whole_pool(published):
    digit = MovingMNIST(4000, 1, split="test").digit
    assert digit.min() < 100
    assert digit.max() > 9900
    assert len(digit.unique()) > 5000


def test_same_arguments_same_data(published):
    first, second = (MovingMNIST(3, 4, seed=4, split="test") for _ in range(2))
    assert torch.equal(first.obs, second.obs)
    assert torch.equal(first.state, second.state)


@pytest.mark.parametrize("other", [{"seed": 5}, {"epoch": 1}])
def test_seed_and_epoch_each_change_digits_and_motion(published, other):
    first = MovingMNIST(3, 4, seed=4, split="test")
    second = MovingMNIST(3, 4, **{"seed": 4, "split": "test", **other})
    assert (first.state != second.state).all()
    assert not torch.equal(first.digit, second.digit)


def test_splits_move_differently(published):
    first, second = (MovingMNIST(3, 4, split=split) for split in ("validation", "test"))
    assert (first.state != second.state).all()


def test_fresh_is_reproducible_and_fresh_zero_is_itself(published):
    settings = {"seed": 4, "digits": 1, "size": 40, "split": "test"}
    data = MovingMNIST(3, 4, **settings)
    kept = data.obs.clone()
    assert data.fresh(0) is data
    again = data.fresh(7)
    assert torch.equal(again.obs, MovingMNIST(3, 4, epoch=7, **settings).obs)
    assert not torch.equal(again.obs, data.obs)
    assert torch.equal(again.fresh(0).obs, kept)
    assert torch.equal(data.obs, kept)


@pytest.mark.parametrize("index", [slice(1, 3), [3, 1], torch.tensor([3, 1])])
def test_rows_are_the_same_before_and_after_the_film_is_rendered(published, index):
    data = MovingMNIST(5, 4, seed=2, split="test")
    before = data.rows(index)
    assert data._obs is None, "rows rendered the whole film"
    assert torch.equal(before.obs, data.obs[index])
    assert torch.equal(data.rows(index).obs, before.obs)
    assert torch.equal(before.state, data.state[index])


@pytest.mark.parametrize(
    "arguments", [{"sequences": 0}, {"steps": 0}, {"digits": 0}, {"size": 28}, {"split": "dev"}]
)
def test_rejects_bad_arguments(arguments):
    with pytest.raises(ValueError, match="must be"):
        MovingMNIST(**{"sequences": 2, "steps": 2, **arguments})


# The idx format -------------------------------------------------------------------------------


def idx(array):
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


DIGITS = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
WHOLE = gzip.compress(idx(DIGITS), mtime=0)


@pytest.mark.parametrize(
    "array", [DIGITS, np.array([7, 2, 1], dtype=np.uint8)], ids=["images", "labels"]
)
def test_idx_files_are_read(tmp_path, array):
    (tmp_path / "file.gz").write_bytes(gzip.compress(idx(array)))
    assert np.array_equal(moving_mnist.read_idx(tmp_path / "file.gz").numpy(), array)


BAD_FILES = {
    "cut short": (WHOLE[:-30], "cut short"),
    "checksum": (WHOLE[:-8] + b"12345678", "corrupt"),
    "garbled": (WHOLE[:40] + b"\xff" * 40 + WHOLE[80:], "corrupt"),
    "not gzipped": (idx(DIGITS), "not gzipped"),
    "a page of a web site": (b"<html>not found</html>", "not gzipped"),
    "empty": (b"", "not an idx file"),
    "floats": (gzip.compress(b"\0\0\x0d\x01" + bytes(8)), "not an idx file"),
    "half a header": (gzip.compress(idx(DIGITS)[:9]), "within its header"),
    "a digit too few": (gzip.compress(idx(DIGITS)[:-784]), "states 2352 values and holds 1568"),
    "a value too many": (gzip.compress(idx(DIGITS) + b"1"), "states 2352 values and holds more"),
    "no digit": (gzip.compress(idx(DIGITS[:0])), "holds no value"),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_idx_files_give_a_clear_error(tmp_path, content, message):
    (tmp_path / "file.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        moving_mnist.read_idx(tmp_path / "file.gz")


def test_a_missing_idx_file(tmp_path):
    with pytest.raises(DataError, match=r"none\.gz cannot be read"):
        moving_mnist.read_idx(tmp_path / "none.gz")
