"""The one-to-many task: its data, and the limits that are known exactly."""

import math

import numpy as np
import pytest
import torch
from seqzoo.data import Dataset, Loader, OneToMany, one_to_many
from seqzoo.data.one_to_many import class_probabilities, conditional_entropy, log_density


@pytest.fixture(scope="module")
def large():
    """Many samples for both kinds, ``x`` and ``a`` in float64: ``(x, a, classes)``."""
    regression = OneToMany("regression", sequences=200_000, steps=1, seed=3)
    classes = OneToMany("class", sequences=200_000, steps=1, seed=3)
    assert torch.equal(regression.obs, classes.obs)
    x, a = regression.obs[:, 0, 0].double(), regression.target[:, 0].double()
    return x, a, classes.target


def entropy_of_bins(values, bins, low=-0.1, high=1.1):
    """Differential entropy of samples, from a histogram."""
    frequency = np.histogram(values, bins, (low, high))[0] / len(values)
    frequency = frequency[frequency > 0]
    return -(frequency * np.log(frequency * bins / (high - low))).sum()


# The data -------------------------------------------------------------------------------------


def test_shapes_and_types():
    data = OneToMany(sequences=6, steps=4, seed=1)
    assert data.obs.shape == (6, 4, 1)
    assert data.obs.dtype == torch.float32
    assert data.target.shape == (6,)
    assert data.target.dtype == torch.int64
    assert isinstance(data, Dataset)
    assert len(data) == len(data.batch()) == 6
    assert data.batch().mask.all()
    origin = OneToMany("regression", sequences=6, steps=4, seed=1)
    assert origin.target.shape == (6, 1)
    assert origin.target.dtype == torch.float32
    assert len(OneToMany()) == 3000
    assert OneToMany().obs.shape[1] == 2
    assert repr(data) == "OneToMany('class', 6 x 4, seed=1, split='train')"


def test_numbers_are_those_of_the_equation(large):
    x, a, classes = large
    noise = x - a - 0.3 * torch.sin(2 * math.pi * a)
    assert noise.abs().max() < 0.1 + 1e-6
    for values, low, high in ((a, 0, 1), (noise, -0.1, 0.1)):  # uniform, in standard errors
        width = high - low
        assert abs(values.mean() - (low + high) / 2) < 4 * width / math.sqrt(12 * len(a))
        assert abs(values.var() / (width**2 / 12) - 1) < 4 * math.sqrt(0.8 / len(a))
    assert abs(torch.corrcoef(torch.stack((a, noise)))[0, 1]) < 4 / math.sqrt(len(a))
    assert classes.tolist() == np.rint(9 * a.numpy()).astype(int).tolist()


def test_distractors_are_uniform_and_say_nothing():
    data = OneToMany("regression", sequences=100_000, steps=3)
    distractors = data.obs[:, 1:, 0]
    assert (distractors >= 0).all()
    assert (distractors < 1).all()
    assert (distractors.mean(0) - 0.5).abs().max() < 4 / math.sqrt(12e5)
    together = torch.corrcoef(torch.cat((data.obs[..., 0], data.target), 1).T)
    others = [together[1, 2], *together[1:3, 0], *together[1:3, 3]]
    assert max(map(abs, others)) < 4.5 / math.sqrt(1e5)


@pytest.mark.parametrize("kind", ["class", "regression"])
def test_more_steps_append_distractors_to_the_same_task(kind):
    short, longer, long = (OneToMany(kind, 50, steps, seed=4) for steps in (1, 2, 30))
    assert torch.equal(longer.obs, long.obs[:, :2])
    assert torch.equal(short.obs, long.obs[:, :1])
    assert torch.equal(short.target, long.target)
    assert torch.equal(longer.target, long.target)


def test_both_kinds_ask_about_the_same_numbers():
    classes, origin = OneToMany("class", 50, seed=4), OneToMany("regression", 50, seed=4)
    assert torch.equal(classes.obs, origin.obs)
    assert torch.equal(classes.target, (9 * origin.target[:, 0]).round().long())


def test_same_arguments_same_data():
    first, second = (OneToMany(sequences=9, seed=4, split="test") for _ in range(2))
    assert torch.equal(first.obs, second.obs)
    assert torch.equal(first.target, second.target)


@pytest.mark.parametrize("other", [{"seed": 5}, {"split": "validation"}, {"split": "test"}])
def test_seed_and_split_each_change_the_data(other):
    first, second = OneToMany(sequences=9, seed=4), OneToMany(sequences=9, **{"seed": 4, **other})
    assert (first.obs != second.obs).all()


def test_data_are_untouched_by_the_global_seed_and_leave_it_alone():
    torch.manual_seed(1)
    first = OneToMany(sequences=4).obs
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))
    assert torch.equal(first, OneToMany(sequences=4).obs)


@pytest.mark.parametrize("index", [slice(1, 4), [3, 0, 2], torch.tensor([3, 0, 2])])
def test_rows_are_rows(index):
    data = OneToMany(sequences=5, steps=3)
    batch = data.rows(index)
    assert torch.equal(batch.obs, data.obs[index])
    assert torch.equal(batch.target, data.target[index])
    assert len(batch) == 3


def test_a_loader_serves_the_same_rows_every_epoch_in_another_order():
    data = OneToMany("regression", sequences=25)
    epochs = []
    for number in (0, 1, 7):
        batches = list(Loader(data, 10, seed=1).epoch(number))
        assert [len(batch) for batch in batches] == [10, 10, 5]
        rows = [torch.cat((batch.obs[..., 0], batch.target), 1) for batch in batches]
        epochs.append(torch.cat(rows).tolist())
    assert epochs[0] != epochs[1] != epochs[2]
    expected = torch.cat((data.obs[..., 0], data.target), 1).tolist()
    assert all(sorted(epoch) == sorted(expected) for epoch in epochs)
    assert data.fresh(7) is data


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "classes"}, "kind must be one of class, regression, got 'classes'"),
        ({"split": "valid"}, "split must be one of train, validation, test, got 'valid'"),
        ({"sequences": 0}, "sequences must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
    ],
)
def test_rejects_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        OneToMany(**arguments)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["class", "regression"])
def test_every_device_has_the_same_data(kind):
    here, there = OneToMany(kind, 50), OneToMany(kind, 50, device="cuda")
    assert there.obs.is_cuda
    assert there.target.is_cuda
    assert torch.equal(here.obs, there.obs.cpu())
    assert torch.equal(here.target, there.target.cpu())
    x = there.obs[:, 0, 0]
    assert class_probabilities(x).is_cuda
    assert torch.equal(class_probabilities(x).cpu(), class_probabilities(x.cpu()))


# The limits -----------------------------------------------------------------------------------


def test_limits_are_those_that_were_computed_before():
    assert conditional_entropy("class") == pytest.approx(1.322, abs=1e-3)
    assert conditional_entropy("regression") == pytest.approx(-1.282, abs=1e-3)
    with pytest.raises(ValueError, match="kind must be one of class, regression, got 'both'"):
        conditional_entropy("both")


def test_the_integrals_have_converged(monkeypatch):
    before = [conditional_entropy(kind) for kind in one_to_many.KINDS]
    monkeypatch.setattr(one_to_many, "_CELLS", 18 * 50_000)
    one_to_many._curves.cache_clear()
    after = [conditional_entropy.__wrapped__(kind) for kind in one_to_many.KINDS]
    one_to_many._curves.cache_clear()
    assert after == pytest.approx(before, abs=1e-4)


def test_exact_conditionals_reach_the_limits_on_the_data(large):
    x, a, classes = large
    loss = -class_probabilities(x).gather(1, classes[:, None]).log().mean().item()
    assert loss == pytest.approx(conditional_entropy("class"), abs=0.01)
    assert loss == pytest.approx(1.322, abs=0.01)
    loss = -log_density(a, x).mean().item()
    assert loss == pytest.approx(conditional_entropy("regression"), abs=0.01)
    assert loss == pytest.approx(-1.282, abs=0.01)


def test_entropies_of_histograms(large):
    """Without the exact conditionals: h(a | x) = h(a) + h(x | a) - h(x), and likewise classes."""
    x, _, classes = (values.numpy() for values in large)
    of_x = entropy_of_bins(x, 300)
    assert math.log(0.2) - of_x == pytest.approx(conditional_entropy("regression"), abs=0.01)
    share = np.bincount(classes) / len(classes)
    of_classes = -(share * np.log(share)).sum()
    assert of_classes == pytest.approx(2.274, abs=0.005)  # what guessing without x loses
    within = sum(p * entropy_of_bins(x[classes == k], 300) for k, p in enumerate(share))
    assert of_classes + within - of_x == pytest.approx(conditional_entropy("class"), abs=0.01)


@pytest.mark.parametrize("x", [-0.05, 0.2, 0.4, 0.5, 0.61, 1.0])
def test_probabilities_are_shares_of_the_places_that_are_near(x):
    a = (np.arange(1_000_000) + 0.5) / 1e6
    near = a[np.abs(x - a - 0.3 * np.sin(2 * np.pi * a)) < 0.1]
    expected = np.bincount(np.rint(9 * near).astype(int), minlength=10) / len(near)
    place = torch.tensor([x], dtype=torch.float64)
    np.testing.assert_allclose(class_probabilities(place)[0], expected, atol=1e-3)
    density = log_density(torch.tensor(near[:1]), place)
    assert density.item() == pytest.approx(-math.log(len(near) / 1e6), abs=1e-3)


def test_three_answers_explain_the_middle():
    probabilities = class_probabilities(torch.tensor([0.5]))[0]
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities, probabilities.flip(0))  # the curve is symmetric
    places = torch.tensor([0.12, 0.3, 0.5, 0.7, 0.88])  # on the curve: 0.33, 0.59, 0.5, 0.41, 0.67
    possible = log_density(places, torch.full((5,), 0.5)).isfinite()
    assert possible.tolist() == [False, True, True, True, False]


def test_all_data_are_possible_also_at_the_ends():
    ends = torch.tensor([-0.1, 1.1])
    assert class_probabilities(ends).argmax(1).tolist() == [0, 9]
    assert log_density(torch.tensor([0.0, 1.0]), ends).isfinite().all()
    for split in ("train", "validation", "test"):
        data = OneToMany("regression", 100_000, 1, split=split)
        assert log_density(data.target, data.obs[:, 0]).isfinite().all()
    assert log_density(torch.tensor([-0.01, 1.01]), torch.tensor([0.0, 1.0])).isneginf().all()


@pytest.mark.parametrize("x", [-0.11, 1.11, math.nan])
def test_there_are_no_data_elsewhere(x):
    place = torch.tensor([0.5, x])
    with pytest.raises(ValueError, match=r"x must lie in \[-0.1, 1.1\]"):
        class_probabilities(place)
    with pytest.raises(ValueError, match=r"x must lie in \[-0.1, 1.1\]"):
        log_density(place.clamp(0, 1), place)


def test_origins_and_numbers_agree_in_shape():
    with pytest.raises(ValueError, match=r"agree in shape, got \(3, 1\), \(3,\)"):
        log_density(torch.rand(3, 1), torch.rand(3))
