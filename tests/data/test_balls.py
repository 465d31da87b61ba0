"""Bouncing balls: motion, rendering and the set."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from seqzoo.data import BouncingBalls, Dataset, Loader, balls

RADIUS, BOX = 1.2, 10.0


@pytest.fixture(scope="module")
def film():
    return BouncingBalls(200, 100, seed=3, split="test")


def reference_frame(state):
    """One frame's move of ``[balls, 4]``, one ball and one axis at a time; and how many met."""
    x, v = state[:, :2].copy(), state[:, 2:].copy()
    met = 0
    for _ in range(2):
        for i in range(len(x)):
            for axis in range(2):
                x[i, axis] += 0.5 * v[i, axis]
        for i in range(len(x)):
            for axis in range(2):
                if x[i, axis] - RADIUS < 0:
                    v[i, axis] = abs(v[i, axis])
                if x[i, axis] + RADIUS > BOX:
                    v[i, axis] = -abs(v[i, axis])
        for i in range(len(x)):
            for j in range(i):
                line = x[i] - x[j]
                distance = math.hypot(*line)
                if distance < 2 * RADIUS:
                    line = line / distance
                    along_i, along_j = v[i] @ line, v[j] @ line
                    v[i] = v[i] + (along_j - along_i) * line
                    v[j] = v[j] + (along_i - along_j) * line
                    met += 1
    return np.concatenate((x, v), 1), met


def reference_pixels(centres, size, rendering):
    """A frame ``[size, size]``, pixel by pixel, rows first."""
    frame = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            for x, y in centres:
                square = ((column + 0.5) / size * 10 - x) ** 2
                square += ((row + 0.5) / size * 10 - y) ** 2
                ratio = square / RADIUS**2 if rendering == "sutskever" else square * RADIUS**2
                frame[row, column] += math.exp(-(ratio**4))
    return np.minimum(frame, 1)


# Motion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 3, 6])  # of six, three often meet at once
def test_motion_against_a_literal_reference(number):
    data = BouncingBalls(15, 60, seed=8, balls=number)
    met = 0
    for states in data.state.double().numpy():
        for before, after in pairwise(states):
            expected, collisions = reference_frame(before)
            np.testing.assert_allclose(after, expected, atol=2e-5)
            met += collisions
    assert met > 20 or number == 1


def test_the_first_frame_is_recorded_before_anything_moves():
    start = BouncingBalls(500, 1, seed=1).state[:, 0]
    assert ((start[..., :2] >= RADIUS) & (start[..., :2] <= BOX - RADIUS)).all()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (start[:, i, :2] - start[:, j, :2]).norm(dim=-1).min() >= 2 * RADIUS - 1e-6


def test_start_distribution():
    start = BouncingBalls(4000, 1, seed=5, balls=1).state[:, 0, 0].double()
    for axis in range(2):
        place = start[:, axis].numpy()
        assert stats.kstest(place, stats.uniform(RADIUS, BOX - 2 * RADIUS).cdf).pvalue > 1e-3
    angle = torch.atan2(start[:, 3], start[:, 2]).numpy()
    assert stats.kstest(angle, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-3


def test_energy_is_kept(film):
    norm = film.state[..., 2:].flatten(2).norm(dim=-1)
    torch.testing.assert_close(norm, torch.full_like(norm, 0.5), atol=1e-5, rtol=0)


def undisturbed(film):
    """Frames whose balls are all too far from the walls to touch one on the way, ``[N, T - 1]``."""
    position = film.state[:, :-1, :, :2]
    free = (position > RADIUS + 0.5) & (position < BOX - RADIUS - 0.5)
    return free.flatten(2).all(-1)


def test_momentum_is_kept_through_ball_ball_collisions(film):
    velocity = film.state[..., 2:]
    change = (velocity[:, 1:] - velocity[:, :-1])[undisturbed(film)]
    collided = change.abs().flatten(1).amax(1) > 1e-3
    assert collided.sum() > 50
    assert change.sum(1).abs().max() < 1e-6


def test_balls_push_one_another_along_the_line_of_centres(film):
    free = undisturbed(film)
    position, velocity = film.state.split(2, -1)
    push = (velocity[:, 1:] - velocity[:, :-1])[free]  # [frames, balls, 2]
    struck = push.norm(dim=-1) > 0.05
    pairs = struck.sum(1) == 2  # frames in which one pair met
    first, second = struck[pairs].long().topk(2, dim=1).indices.T
    frames = torch.arange(len(first))
    place = position[:, :-1][free][pairs]
    line = place[frames, first] - place[frames, second]
    cosine = torch.cosine_similarity(line, push[pairs][frames, first])
    assert len(cosine) > 50
    assert cosine.abs().min() > 0.9  # the line turns a little between the frame and the contact
    assert (cosine > 0).float().mean() > 0.9  # apart, but for the few pairs that hang together


def test_balls_stay_in_the_box(film):
    """A wall acts once it is crossed: a disc may reach past it by less than one frame's move."""
    position = film.state[..., :2]
    assert position.min() > RADIUS - 0.5
    assert position.max() < BOX - RADIUS + 0.5
    assert (position < RADIUS).any()
    assert (position > BOX - RADIUS).any()


def test_balls_hardly_overlap(film):
    position = film.state[..., :2]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (position[:, :, i] - position[:, :, j]).norm(dim=-1).min() > 2 * RADIUS - 0.75


# Pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rendering", ["sutskever", "squared"])
@pytest.mark.parametrize("size", [7, 30])
def test_rendering_against_a_literal_reference(rendering, size):
    data = BouncingBalls(2, 3, seed=6, size=size, rendering=rendering)
    frames = data.obs.reshape(6, size, size).numpy()
    for frame, state in zip(frames, data.state.flatten(0, 1).double().numpy()):
        expected = reference_pixels(state[:, :2], size, rendering)
        np.testing.assert_allclose(frame, expected, atol=1e-5)


def test_pixels_of_overlapping_balls_do_not_exceed_one():
    frame = balls.render(torch.full((3, 2), 5.0)).reshape(30, 30)
    assert frame.max() == 1
    assert frame[15, 15] == 1
    assert frame[0, 0] == 0


def test_rows_of_a_frame_are_y():
    frame = balls.render(torch.tensor([[2.0, 8.0]]), size=10).reshape(10, 10)
    row, column = divmod(int(frame.argmax()), 10)
    assert row in (7, 8)
    assert column in (1, 2)


@pytest.mark.parametrize(("rendering", "expected"), [("sutskever", 0.0131), ("squared", 0.0117)])
def test_error_of_predicting_the_frame_before(film, rendering, expected):
    obs = balls.render(film.state[:60, :, :, :2], 30, rendering)
    error = (obs[:, 1:] - obs[:, :-1]).square().mean().item()
    assert error == pytest.approx(expected, rel=0.03)


def test_rendering_in_chunks_changes_nothing(monkeypatch):
    position = BouncingBalls(3, 5, seed=2).state[..., :2]
    whole = balls.render(position)
    monkeypatch.setattr(balls, "CHUNK", 2000)
    torch.testing.assert_close(balls.render(position), whole, atol=1e-7, rtol=0)
    monkeypatch.setattr(balls, "CHUNK", 1)
    torch.testing.assert_close(balls.render(position), whole, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    "position", [torch.zeros(2), torch.zeros(3, 3), torch.zeros(3, 2, dtype=torch.long)]
)
def test_render_rejects(position):
    with pytest.raises(ValueError, match="position must be"):
        balls.render(position)


# The set --------------------------------------------------------------------------------------


def test_shapes_and_types():
    data = BouncingBalls(2, 7, seed=1, size=15, balls=4)
    assert data.obs.shape == (2, 7, 225)
    assert data.state.shape == (2, 7, 4, 4)
    assert data.obs.dtype == data.state.dtype == torch.float32
    assert data.mask.shape == (2, 7)
    assert data.mask.all()
    assert len(data) == len(data.batch()) == 2
    assert isinstance(data, Dataset)


def test_same_arguments_same_data():
    first, second = (BouncingBalls(3, 9, seed=4, split="validation") for _ in range(2))
    assert torch.equal(first.obs, second.obs)
    assert torch.equal(first.state, second.state)


@pytest.mark.parametrize("other", [{"seed": 5}, {"split": "validation"}, {"epoch": 1}])
def test_seed_split_and_epoch_each_change_the_data(other):
    first, second = BouncingBalls(3, 4, seed=4), BouncingBalls(3, 4, **{"seed": 4, **other})
    assert (first.state[:, 0] != second.state[:, 0]).all()


def test_rendering_and_size_leave_the_motion_alone():
    first = BouncingBalls(3, 9, seed=4)
    second = BouncingBalls(3, 9, seed=4, size=8, rendering="squared")
    assert torch.equal(first.state, second.state)


def test_data_are_untouched_by_the_global_seed_and_leave_it_alone():
    torch.manual_seed(1)
    first = BouncingBalls(2, 4).state
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))
    assert torch.equal(first, BouncingBalls(2, 4).state)


def test_fresh_is_reproducible_and_fresh_zero_is_itself():
    settings = {"seed": 4, "split": "test", "balls": 2, "size": 8, "rendering": "squared"}
    data = BouncingBalls(3, 9, **settings)
    assert data.fresh(0) is data
    again = data.fresh(7)
    assert torch.equal(again.obs, BouncingBalls(3, 9, epoch=7, **settings).obs)
    assert not torch.equal(again.obs, data.obs)
    assert torch.equal(again.fresh(0).obs, data.obs)


@pytest.mark.parametrize("index", [slice(1, 3), [3, 1], torch.tensor([3, 1])])
def test_rows_are_the_same_before_and_after_the_film_is_rendered(index):
    data = BouncingBalls(5, 4, seed=2)
    before = data.rows(index)
    assert data._obs is None, "rows rendered the whole film"
    torch.testing.assert_close(before.obs, data.obs[index], atol=1e-7, rtol=0)
    after = data.rows(index)
    assert torch.equal(after.obs, data.obs[index])
    assert torch.equal(after.state, data.state[index])
    assert torch.equal(before.state, after.state)


def test_the_loader_draws_every_epoch_anew():
    data = BouncingBalls(5, 4, seed=2, size=8)
    for epoch in (0, 3):
        seen = torch.cat([batch.state for batch in Loader(data, batch_size=2).epoch(epoch)])
        expected = BouncingBalls(5, 4, seed=2, epoch=epoch).state
        assert sorted(seen[:, 0, 0, 0].tolist()) == sorted(expected[:, 0, 0, 0].tolist())


@pytest.mark.parametrize(
    "arguments",
    [
        {"sequences": 0},
        {"steps": 0},
        {"size": 0},
        {"balls": 0},
        {"balls": 7},
        {"rendering": "squares"},
        {"split": "dev"},
    ],
)
def test_rejects_bad_arguments(arguments):
    with pytest.raises(ValueError, match="must be"):
        BouncingBalls(**{"sequences": 2, "steps": 2, **arguments})
