"""Trackers against the true states, and measures against film that moves wrongly."""

import math

import pytest
import torch
from seqzoo.data import BouncingBalls, balls, moving_mnist
from seqzoo.zoo.studies.tracking import (
    measure_balls,
    measure_digits,
    track_balls,
    track_digits,
)

GENERATOR = torch.Generator()


def noise(like, sd):
    return like + sd * torch.randn(like.shape, generator=GENERATOR.manual_seed(0))


def blurred(film, size):
    """Film through a box of 3x3 pixels, twice: a blur of sd 1.15 pixels."""
    frames = film.reshape(-1, 1, size, size)
    for _ in range(2):
        frames = torch.nn.functional.avg_pool2d(frames, 3, 1, 1, count_include_pad=False)
    return frames.reshape(film.shape)


def compare(paths, truth, reach):
    """Share of things with a path within reach, rms error of those, and how often a path swaps."""
    away, who = (paths[:, :, :, None] - truth[:, :, None]).norm(dim=-1).nan_to_num(1e9).min(-1)
    near = away < reach
    swaps = near[:, 1:] & near[:, :-1] & (who[:, 1:] != who[:, :-1])
    return near.float().mean().item(), away[near].square().mean().sqrt().item(), int(swaps.sum())


@pytest.fixture(scope="module", params=["squared", "sutskever"])
def film(request):
    return BouncingBalls(6, 100, seed=3, split="test", rendering=request.param)


@pytest.fixture(scope="module")
def digits():
    """Film of two made-up digits, a ring and a bar, and their centres."""
    along = torch.arange(28) - 13.5
    radius = (along.square() + along[:, None].square()).sqrt()
    bar = (along.abs() < 2) & (along.abs() < 9)[:, None]
    images = torch.stack(((radius - 7).abs() < 2, bar)).to(torch.uint8) * 255
    random = GENERATOR.manual_seed(1)
    centre = moving_mnist._trajectories(12, 40, 2, 64, random)[..., :2].float()
    return moving_mnist.render(images.expand(12, 2, 28, 28), centre), centre


# Balls ----------------------------------------------------------------------------------------


def test_all_balls_of_real_film_are_found_in_their_places_and_followed(film):
    paths = track_balls(film.obs, rendering=film.rendering)
    found, error, swaps = compare(paths, film.state[..., :2], 0.5)
    assert (found, swaps) == (1, 0)
    assert error < 1e-3


@pytest.mark.parametrize("rendering", ["squared", "sutskever"])
def test_other_numbers_of_balls_and_pixels(rendering):
    data = BouncingBalls(3, 40, seed=1, size=15, balls=5, rendering=rendering)
    paths = track_balls(data.obs, 5, rendering, size=15)
    found, error, swaps = compare(paths, data.state[..., :2], 0.5)
    assert found > 0.99
    assert error < 0.05
    assert swaps <= 2


def test_film_that_is_blurred_dim_and_noisy(film):
    obs = noise(0.1 + 0.7 * blurred(film.obs[:3], 30), 0.05)
    paths = track_balls(obs, rendering=film.rendering)
    found, error, swaps = compare(paths, film.state[:3, ..., :2], 0.5)
    assert found > 0.995
    assert swaps == 0
    assert error < 0.06


@pytest.mark.parametrize("number", [0, 1, 2])
def test_balls_that_are_not_there_are_not_found(film, number):
    data = BouncingBalls(2, 50, seed=2, rendering=film.rendering, balls=max(number, 1))
    obs = blurred(data.obs, 30) * (number > 0)
    paths = track_balls(noise(obs, 0.05), rendering=film.rendering)
    assert (~paths.isnan().any(-1)).float().sum(-1).mean().item() == pytest.approx(number, abs=0.02)


def test_noise_and_grey_hold_no_balls(film):
    grey = torch.full((2, 50, 900), 0.5)
    for obs in (grey, torch.rand(2, 50, 900, generator=GENERATOR.manual_seed(0))):
        paths = track_balls(obs, rendering=film.rendering)
        assert measure_balls(paths).found < 0.1
    motion = measure_balls(track_balls(grey, rendering=film.rendering))
    assert motion.found == motion.moves == motion.contacts == 0
    assert math.isnan(motion.speed)
    assert math.isnan(motion.second_order)


def test_a_ball_out_of_sight_keeps_its_path():
    time = torch.arange(12.0)
    centre = torch.stack((2 + 0.5 * time, torch.full_like(time, 5)), -1)
    still = torch.tensor([5.0, 7.5]).expand(12, 2)
    shown = torch.stack((centre, still), 1)[None]
    shown[:, 4:8, 0] = -50
    paths = track_balls(balls.render(shown), balls=2)
    moving = int((paths[0, 0, :, 1] < 6).nonzero())
    assert paths[0, 4:8, moving].isnan().all()
    torch.testing.assert_close(paths[0, 8:, moving], centre[8:], atol=0.01, rtol=0)
    torch.testing.assert_close(paths[0, :, 1 - moving], still, atol=0.01, rtol=0)


def test_balls_that_pass_through_one_another_are_followed():
    time = torch.arange(16.0)[:, None]
    shown = torch.stack((torch.cat((2 + 0.4 * time, 0 * time + 4), 1),) * 2, 1)
    shown[:, 1] = torch.cat((8 - 0.4 * time, 0 * time + 6.0), 1)  # they graze: 2 < 2.4
    paths = track_balls(balls.render(shown[None]), balls=2)
    assert compare(paths, shown[None], 0.5)[::2] == (1, 0)


# Measures -------------------------------------------------------------------------------------


def test_measures_of_true_paths(film):
    motion = measure_balls(film.state[..., :2])
    assert motion.found == 3
    assert motion.apart > 0.99
    assert motion.variation < 1e-4
    assert motion.turn < 0.01
    assert motion.second_order < 1e-6
    assert motion.mirrored > 0.98
    assert motion.frames == motion.groups == 600
    assert min(motion.moves, motion.triples) > 500
    assert motion.contacts > 40


def test_measures_of_tracked_film_are_those_of_the_truth(film):
    motion = measure_balls(track_balls(film.obs, rendering=film.rendering))
    for got, expected in zip(motion, measure_balls(film.state[..., :2])):
        assert got == pytest.approx(expected, abs=0.01, rel=0.01)


def test_film_out_of_order_is_found_out(film):
    order = torch.randperm(100, generator=GENERATOR.manual_seed(0))
    motion = measure_balls(track_balls(film.obs[:, order], rendering=film.rendering))
    assert motion.found == 3
    assert motion.speed > 1
    assert motion.second_order > 2
    assert motion.turn > 60
    assert motion.variation > 0.4
    assert motion.mirrored < 0.3


def test_film_that_stands_still_has_no_velocity(film):
    still = film.obs[:, :1].expand(-1, 30, -1)
    motion = measure_balls(track_balls(still, rendering=film.rendering))
    assert motion.speed == 0
    assert math.isnan(motion.second_order)
    noisy = measure_balls(track_balls(noise(still, 0.1), rendering=film.rendering))
    assert noisy.speed < 0.05
    assert noisy.second_order == pytest.approx(3, abs=0.2)


def test_second_order_of_a_random_walk_is_two():
    steps = torch.randn(4000, 3, 1, 2, generator=GENERATOR.manual_seed(0))
    motion = measure_balls(5 + 0.1 * steps.cumsum(1))
    assert motion.triples == 4000
    assert motion.second_order == pytest.approx(2, abs=0.1)
    assert motion.turn > 60


def test_speed_variation_and_turn_by_hand():
    def along(moves):
        moves = torch.tensor([[0.0, 0.0], *moves], dtype=torch.float64)
        return 4 + moves.cumsum(0)[None, :, None]

    motion = measure_balls(along([[0.3, 0.0], [0.1, 0.0], [0.2, 0.0]]))
    assert motion.speed == pytest.approx(0.2)
    assert motion.variation == pytest.approx(0.1 / 0.2)  # sd 0.1 with two degrees of freedom
    assert motion.second_order == pytest.approx((0.2**2 + 0.1**2) / (0.1**2 + 0.2**2))
    assert motion.turn == pytest.approx(0, abs=1e-4)
    assert (motion.moves, motion.triples) == (3, 2)
    turned = measure_balls(along([[0.2, 0.0], [0.0, 0.2]]))
    assert turned.turn == pytest.approx(90, abs=1e-4)
    assert turned.variation == pytest.approx(0, abs=1e-6)


def test_flights_end_at_walls_and_at_other_balls():
    paths = torch.tensor([4.0, 4.2, 4.4, 9.0, 4.4, 4.0, 3.6])[:, None]
    paths = torch.cat((paths, torch.full_like(paths, 5)), 1)[None, :, None]
    motion = measure_balls(paths)
    assert (motion.moves, motion.triples) == (4, 2)
    assert motion.variation == pytest.approx(0, abs=1e-5)  # steady within each of the two flights
    beside = torch.cat((paths, paths + torch.tensor([0.0, 2.5])), 2)
    assert measure_balls(beside).moves == 0
    assert measure_balls(beside).apart == 1
    assert measure_balls(torch.cat((paths, paths + 1), 2)).apart == 0


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize(
    ("after", "mirrored"),
    [((0.3, 0.1), 1), ((-0.3, 0.1), 0), ((0.0, 0.1), 0), ((0.3, -0.3), 0), ((0.3, 0.25), 1)],
)
def test_wall_contacts_by_hand(axis, far, after, mirrored):
    """A ball comes down at (-0.3, 0.1) along the normal and the wall, and leaves as given."""
    normal = [2.0, 1.7, 1.4, 1.1]
    other = [4.0, 4.1, 4.2, 4.3]
    for _ in range(5):
        normal.append(normal[-1] + after[0])
        other.append(other[-1] + after[1])
    normal = torch.tensor(normal)
    path = torch.stack((10 - normal if far else normal, torch.tensor(other)), -1)
    motion = measure_balls((path if axis == 0 else path.flip(1))[None, :, None])
    assert motion.contacts == 1
    assert motion.mirrored == mirrored


def test_a_grazing_ball_that_goes_on_through_the_wall_is_not_mirrored():
    """Its velocity is close to the mirror image, but does not turn."""
    time = torch.arange(12.0)
    path = torch.stack((1.4 - 0.06 * time, 3 + 0.3 * time), -1)[None, :, None]
    motion = measure_balls(path)
    assert (motion.contacts, motion.mirrored) == (1, 0)


# Digits ---------------------------------------------------------------------------------------


def test_digits_that_are_apart_are_where_they_are(digits):
    film, centre = digits
    paths = track_digits(film)
    apart = (centre[:, :, 0] - centre[:, :, 1]).norm(dim=-1) > 26
    assert apart.sum() > 50
    distance = (paths[:, :, :, None] - centre[:, :, None]).norm(dim=-1).amin(2)
    assert distance[apart].max() < 0.2


def test_measures_of_digits(digits):
    film, centre = digits
    truth = measure_digits(centre)
    assert truth.second_order < 1e-6
    assert truth.speed == pytest.approx(3.6, rel=1e-4)
    assert truth.mirrored == 1
    motion = measure_digits(track_digits(film))
    assert motion.found == 2
    assert motion.apart == pytest.approx(truth.apart, abs=0.05)
    assert motion.speed == pytest.approx(3.6, rel=0.03)
    assert motion.variation < 0.1
    assert motion.second_order < 0.05
    assert motion.mirrored > 0.9
    assert motion.contacts > 10
    order = torch.randperm(40, generator=GENERATOR.manual_seed(0))
    shuffled = measure_digits(track_digits(film[:, order]))
    assert shuffled.second_order > 1.5
    assert shuffled.variation > 0.3


def test_digits_keep_their_paths_while_they_pass():
    time = torch.arange(16.0)
    centre = torch.stack((16 + 2 * time, torch.full_like(time, 20)), -1)
    other = torch.stack((48 - 2 * time, torch.full_like(time, 30)), -1)
    centre = torch.stack((centre, other), 1)[None]
    spot = torch.zeros(1, 2, 28, 28, dtype=torch.uint8)
    spot[:, :, 12:16, 12:16] = 255
    paths = track_digits(moving_mnist.render(spot, centre))
    assert compare(paths[:, [0, -1]], centre[:, [0, -1]], 0.5)[::2] == (1, 0)


@pytest.mark.parametrize("kind", ["black", "grey", "noise"])
def test_no_ink_no_digit(kind):
    random = torch.rand(1, 5, 4096, generator=GENERATOR.manual_seed(0))
    film = {"black": 0 * random, "grey": 0 * random + 0.5, "noise": random}[kind]
    assert track_digits(film).isnan().all()
    assert measure_digits(track_digits(film)).found == 0


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: track_balls(torch.zeros(2, 3, 899)), "film must be floating point and"),
        (lambda: track_balls(torch.zeros(3, 900)), "film must be floating point and"),
        (lambda: track_balls(torch.zeros(2, 3, 900).long()), "film must be floating point"),
        (lambda: track_balls(torch.full((1, 1, 900), torch.nan)), "film must hold"),
        (lambda: track_balls(torch.zeros(0, 3, 900)), "film must hold"),
        (lambda: track_balls(torch.zeros(1, 1, 900), balls=7), "balls must be 1 to 6"),
        (lambda: track_balls(torch.zeros(1, 1, 900), 3, "disc"), "rendering must be one of"),
        (lambda: measure_balls(torch.zeros(2, 3, 2)), "paths must be"),
        (lambda: track_digits(torch.zeros(1, 1, 900)), "film must be floating point and"),
        (lambda: track_digits(torch.zeros(1, 1, 4096), 0), "digits must be 1 to 6"),
        (lambda: track_digits(torch.zeros(1, 1, 784), size=28), "size must be at least 29"),
        (lambda: measure_digits(torch.zeros(1, 3, 2, 2), size=28), "size must be at least"),
    ],
)
def test_rejects(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_short_film_is_measured_as_far_as_it_goes(steps):
    data = BouncingBalls(2, steps, seed=0)
    motion = measure_balls(track_balls(data.obs))
    assert motion.found == 3
    assert motion.contacts == 0
    assert (motion.triples > 0) == (steps > 2)
