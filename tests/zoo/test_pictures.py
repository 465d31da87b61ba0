"""Pictures of answers."""

import numpy as np
import pytest
import torch
from seqzoo.data import OneToMany
from seqzoo.zoo import pictures


@pytest.fixture
def answers():
    data = OneToMany("class", 80, 1, split="test")
    other = data.target.roll(7)
    return data.obs[:, 0, 0], data.target, other


DRAWN = {
    "classes": (pictures.plot_classes, lambda x: x),
    "curve": (pictures.plot_curve, lambda x: x / 9),
}


@pytest.mark.parametrize("how", DRAWN)
def test_answers_are_drawn_beside_the_data(how, answers, tmp_path, seen):
    show, scaled = DRAWN[how]
    x, truth, other = answers
    found = []
    for number, drawn in enumerate((truth, other)):
        path = tmp_path / "new" / f"{number}.png"
        show(x, scaled(truth), scaled(drawn), path)
        found.append(seen(path))
    first, second = found
    assert (first != second).any(-1).mean() > 0.005
    warmth = second[..., 0] - second[..., 2]
    assert (warmth > 50).mean() > 0.002  # samples are red
    assert (warmth < -50).mean() > 0.002  # data are blue


@pytest.mark.parametrize("how", DRAWN)
def test_answers_are_kept_as_numbers(how, answers, tmp_path):
    show, scaled = DRAWN[how]
    x, truth, other = answers
    show(x, scaled(truth), scaled(other), tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        assert set(file) == {"inputs", "data", "samples"}
        assert np.array_equal(file["inputs"], x)
        assert np.array_equal(file["data"], scaled(truth))
        assert np.array_equal(file["samples"], scaled(other))


@pytest.mark.parametrize("how", DRAWN)
@pytest.mark.parametrize("file", ["x.gif", "x", "x.csv"])
def test_answers_are_refused_another_ending(how, file, answers, tmp_path):
    show, scaled = DRAWN[how]
    x, truth, other = answers
    with pytest.raises(ValueError, match=rf"cannot write '{file}': end it with one of \.png"):
        show(x, scaled(truth), scaled(other), tmp_path / "new" / file)
    assert not list(tmp_path.iterdir())


def test_bars_stand_at_the_mean_of_each_class(answers, drawn, tmp_path, lines):
    x, truth, other = answers
    pictures.plot_classes(x, truth, other, tmp_path / "x.png")
    bars = [points for points, _ in lines(drawn[0].axes[0]) if len(points) == 2]
    assert len(bars) == len(truth.unique()) + len(other.unique())
    for (left, _), (right, end) in bars:
        label = round(end - 0.42) if end > round(end) else round(end + 0.42)
        classes = truth if end > label else other  # data above the line of a class
        assert left == right == pytest.approx(float(x[classes == label].mean()))


def test_a_curve_shows_what_was_asked_for_across_and_what_was_read_upwards(
    answers, drawn, tmp_path, lines
):
    x, truth, other = answers
    pictures.plot_curve(x, truth / 9, other / 9, tmp_path / "x.png")
    (data, first), (samples, second) = lines(drawn[0].axes[0])
    assert (first, second) == ("data", "samples")
    for points, values in ((data, truth), (samples, other)):
        assert np.array_equal(points.astype(np.float32), torch.stack((values / 9, x), 1))


def test_a_network_that_knows_few_classes_is_drawn(answers, tmp_path, seen):
    x, truth, _ = answers
    pictures.plot_classes(x, truth, torch.full_like(truth, 9), tmp_path / "x.png")
    seen(tmp_path / "x.png")
