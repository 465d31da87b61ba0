"""Pictures of recordings: the values of what is drawn."""

import math
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
import torch
import xarray
from matplotlib import pyplot
from seqzoo.zoo import pictures

from seqzoo import data, inference

BIN, N, T, M = 0.5, 3, 6, 4
NAN = math.nan


@pytest.fixture(autouse=True)
def _closed():
    mpl.use("Agg")
    yield
    pyplot.close("all")


@pytest.fixture
def recording():
    """Three trials; in the second a gap and a missing value; channel ``d`` is dead."""
    random = np.random.default_rng(0)
    trials = [random.poisson(1.0, (length, M)).astype(float) for length in (6, 5, 4)]
    for trial in trials:
        trial[:, 2], trial[:, 3] = 0.0, NAN
    trials[1][1:3], trials[1][4, 0] = NAN, NAN
    trials[1][0, 1] = 3.0
    return data.Recording(
        trials,
        bin=BIN,
        channels=list("abcd"),
        names=[7, 8, 9],
        conditions={"side": ["left", "right", "left"], "angle": [0.0, 1.0, 2.0]},
    )


@pytest.fixture
def rates(recording):
    values = np.random.default_rng(1).uniform(0.1, 2.0, (N, T, M))
    values[1, 3, 1] = NAN
    return recording.to_xarray().copy(data=values)


def entries(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def segments(ax):
    """Ticks of a raster: time and row."""
    (ticks,) = [each for each in ax.collections if each.get_label() == "spikes"]
    return sorted((float(s[0, 0]), float(s[:, 1].mean())) for s in ticks.get_segments())


# A raster ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [None, [2, 1]])
def test_a_raster_has_every_spike_in_its_bin(recording, rates, channels):
    ax = pictures.plot_raster(recording, rates, trial=1, channels=channels)
    shown = range(M) if channels is None else channels
    counts = recording.trials[1].numpy()
    found = segments(ax)
    for row, channel in enumerate(shown):
        for t in range(5):
            inside = [s for s, r in found if r == row and BIN * t < s < BIN * (t + 1)]
            assert len(inside) == np.nan_to_num(counts[t, channel])
    assert len(found) == np.nansum(counts[:, list(shown)])
    assert [text.get_text() for text in ax.get_yticklabels()] == (
        ["a", "b", "c", "d (missing)"] if channels is None else ["c", "b"]
    )
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time in the trial (s)", "neuron")
    assert ax.get_xlim() == (0, 5 * BIN)
    assert ax.get_title("left") == "trial 8"


def test_missing_bins_are_hatched_and_named(recording):
    ax = pictures.plot_raster(recording, trial=1)
    boxes = set()
    for patch in (each for each in ax.collections if each.get_hatch()):
        for path in patch.get_paths():
            low, high = path.vertices.min(0), path.vertices.max(0)
            boxes.add((float(low[0]), float(high[0]), round(float(low[1] + high[1]) / 2)))
    gap = {(BIN, 3 * BIN, row) for row in range(3)}
    assert boxes == gap | {(4 * BIN, 5 * BIN, 0), (0.0, 5 * BIN, 3)}
    assert entries(ax).count("missing") == 1
    whole = data.Recording([np.ones((3, 2))])
    assert "missing" not in entries(pictures.plot_raster(whole))


def test_rates_have_the_height_of_their_row(recording, rates):
    ax = pictures.plot_raster(recording, rates, trial=1)
    lines = ax.get_lines()
    assert len(lines) == M
    for row, line in enumerate(lines):
        wanted = rates.values[1, :5, row]
        np.testing.assert_allclose(line.get_xdata(), BIN * (np.arange(5) + 0.5))
        np.testing.assert_allclose(
            line.get_ydata(), row - 0.4 + 0.8 * wanted / np.nanmax(wanted), rtol=1e-6
        )
        assert ax.texts[row].get_text() == f"{np.nanmax(wanted) / BIN:.3g}"
    assert np.isnan(lines[1].get_ydata()[3])  # the line breaks


@pytest.mark.parametrize("form", ["xarray", "batch"])
def test_other_forms_of_data_are_drawn_alike(recording, form):
    given = recording.to_xarray() if form == "xarray" else recording.batch()
    ax = pictures.plot_raster(given, trial=1)
    scale = 1.0 if form == "xarray" else BIN
    found = [(scale * time, row) for time, row in segments(ax)]
    np.testing.assert_allclose(found, segments(pictures.plot_raster(recording, trial=1)))
    assert ("(bins)" in ax.get_xlabel()) == (form == "batch")


def test_the_share_of_missing_bins_is_drawn(recording):
    ax = pictures.plot_missing(recording)
    wanted = [
        [100 * float(trial[:, m].isnan().float().mean()) for trial in recording.trials]
        for m in range(M)
    ]
    np.testing.assert_allclose(ax.images[0].get_array(), wanted)
    assert [text.get_text() for text in ax.get_yticklabels()] == list("abcd")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["7", "8", "9"]


# Latent states -----------------------------------------------------------------------------------


def latents(width, recording):
    values = np.random.default_rng(2).normal(size=(N, T, width)) @ np.diag(1.0 + np.arange(width))
    values[1, 5:], values[2, 4:], values[0, 2] = NAN, NAN, NAN
    x = recording.to_xarray()
    coords = {"trial": x.trial, "time": x.time, "side": x.side, "angle": x.angle}
    mean = xarray.DataArray(values, coords, ("trial", "time", "latent"))
    return xarray.Dataset({"mean": mean, "sd": mean.copy(data=np.full(values.shape, 0.25))})


def drawn(ax, dims):
    """Points of every path, ``[T, dims]``, and of every start."""
    lines = [np.stack(x.get_data() if dims == 2 else x.get_data_3d(), 1) for x in ax.get_lines()]
    return [x for x in lines if len(x) == T], [x for x in lines if len(x) < T]


@pytest.mark.parametrize("dims", [2, 3])
def test_paths_are_drawn_by_condition(recording, dims):
    found = latents(dims, recording)
    ax = pictures.plot_latents(found, "side", dims)
    paths, starts = drawn(ax, dims)
    values = found["mean"].values
    for path, wanted in zip(paths[:2], (values[0], values[2])):  # left, then their mean
        np.testing.assert_allclose(path, wanted)  # NaN in gaps, which break a line
    np.testing.assert_allclose(paths[2], np.nanmean(values[[0, 2]], 0))
    np.testing.assert_allclose(paths[3], values[1])
    np.testing.assert_allclose(np.concatenate(starts), [paths[2][0], values[1, 0]])
    assert entries(ax) == ["left", "right"]
    assert ax.get_legend().get_title().get_text() == "side"
    assert ax.get_xlabel() == "latent 0"


def test_many_latents_are_projected_onto_principal_components(recording):
    found = latents(4, recording)
    ax = pictures.plot_latents(found)
    frames = found["mean"].values[found["mean"].notnull().values.all(2)]
    values, vectors = np.linalg.eigh(np.cov(frames.T))
    for column, label in enumerate((ax.get_xlabel(), ax.get_ylabel())):
        vector = vectors[:, -1 - column]
        vector = vector * np.sign(vector[np.abs(vector).argmax()])
        wanted = (found["mean"].values - frames.mean(0)) @ vector
        np.testing.assert_allclose(np.stack(drawn(ax, 2)[0])[..., column], wanted, atol=1e-9)
        share = 100 * values[-1 - column] / values.sum()
        assert label == f"PC {column + 1} ({share:.0f} % of variance)"


def test_many_numbers_have_a_scale(recording):
    many = np.random.default_rng(3).normal(size=(9, T, 2))
    ax = pictures.plot_latents(many, [float(8 - n) for n in range(9)])
    assert ax.get_legend() is None
    scale = ax.figure.axes[1]
    assert [text.get_text() for text in scale.get_yticklabels()] == ["0", "2", "4", "6", "8"]
    words = pictures.plot_latents(many, [f"target {n}" for n in range(9)])
    assert entries(words) == [f"target {n}" for n in range(9)]


def test_latents_are_drawn_beside_the_truth(recording):
    found = latents(2, recording)
    truth = found["mean"].values + 1
    ax = pictures.plot_over_time(found, truth, trial=1)
    lines, bands = ax.get_lines(), ax.collections
    for column in range(2):
        mean, true = (line.get_ydata() for line in lines[2 * column : 2 * column + 2])
        np.testing.assert_allclose(mean, found["mean"].values[1, :, column])
        np.testing.assert_allclose(true, truth[1, :, column])
        edge = bands[column].get_paths()[0].vertices[:, 1]
        assert edge.max() == pytest.approx(np.nanmax(mean) + 0.5)
        assert edge.min() == pytest.approx(np.nanmin(mean) - 0.5)
    assert ax.get_xlabel() == "time in the trial (s)"
    assert entries(ax) == ["latent 0", "latent 1", "truth"]


# Fits and neurons --------------------------------------------------------------------------------


def fit(**history):
    records = [{"epoch": n} for n in range(max(map(len, history.values())))]
    for key, values in history.items():
        for record, value in zip(records, values):
            record.update({} if value is None else {key: value})
    return SimpleNamespace(history=records)


def test_learning_curves_mark_the_best_validation():
    one = fit(loss=[3.0, 2.0, 1.5, 1.0], validation=[2.0, None, 1.0, 1.5])
    two = fit(loss=[4.0, 3.0], validation=[3.0, 2.5])
    ax = pictures.plot_learning({"one": one, "two": two})
    first, star, second, _ = ax.get_lines()
    assert star.get_xydata().tolist() == [[2, 1.0]]
    assert first.get_xydata().tolist() == [[0, 2.0], [2, 1.0], [3, 1.5]]
    assert second.get_xydata().tolist() == [[0, 3.0], [1, 2.5]]
    assert entries(ax) == ["one: best 1, epoch 2", "two: best 2.5, epoch 1"]
    assert ax.get_ylabel() == "validation"
    losses = pictures.plot_learning({"one": one, "two": fit(loss=[1.0])})
    assert losses.get_ylabel() == "loss"
    assert losses.get_lines()[0].get_ydata().tolist() == [3.0, 2.0, 1.5, 1.0]


def test_curves_of_different_units_are_scaled():
    one = fit(loss=[3.0] * 4, validation=[2.0, None, 1.0, 1.5])
    ax = pictures.plot_learning({"one": one, "em": fit(log_likelihood=[-9.0, -5.0])}, scaled=True)
    first, star, em = ax.get_lines()
    assert first.get_xydata().tolist() == [[25, 1.0], [75, 0.0], [100, 0.5]]
    assert star.get_xydata().tolist() == [[75, 0.0]]
    assert em.get_xydata().tolist() == [[50, 1.0], [100, 0.0]]
    assert entries(ax) == ["one: best 1, epoch 2", "em: log likelihood"]


def test_each_neuron_has_its_bits(recording, rates):
    rates = rates.fillna(0.5)
    mean = rates.copy(data=np.full(rates.shape, 0.4))
    ax = pictures.plot_neurons({"model": rates, "flat": mean}, recording)
    zero, model, flat, silent, dead = ax.get_lines()
    batch = recording.batch()
    for line, values in ((model, rates), (flat, mean)):
        wanted = inference.bits_per_neuron(torch.tensor(values.values), batch)
        np.testing.assert_allclose(line.get_ydata(), wanted)
    assert np.isfinite(model.get_ydata()).tolist() == [True, True, False, False]
    assert set(zero.get_ydata()) == {0}
    assert (silent.get_xdata().tolist(), dead.get_xdata().tolist()) == ([2], [3])
    total = inference.bits_per_spike(torch.tensor(rates.values), batch)
    assert f"model: {total:.3f} bits per spike" in entries(ax)
    assert entries(ax)[-2:] == ["no spike", "dead"]
    some = pictures.plot_neurons({"model": rates}, recording, channels=[1, 2])
    assert some.get_lines()[1].get_ydata()[0] == pytest.approx(model.get_ydata()[1])


# All ---------------------------------------------------------------------------------------------


def test_axes_that_are_given_are_used_and_returned(recording, rates):
    found, fits = latents(2, recording), {"one": fit(loss=[1.0])}
    for number, plot in enumerate(
        (
            lambda ax: pictures.plot_raster(recording, rates, ax=ax),
            lambda ax: pictures.plot_missing(recording, ax=ax),
            lambda ax: pictures.plot_latents(found, "side", ax=ax),
            lambda ax: pictures.plot_over_time(found, ax=ax),
            lambda ax: pictures.plot_learning(fits, ax=ax),
            lambda ax: pictures.plot_neurons({"model": rates.fillna(1.0)}, recording, ax=ax),
        )
    ):
        _, ax = pyplot.subplots(num=f"given {number}")
        assert plot(ax) is ax
    assert len(pyplot.get_fignums()) == 6  # and no other figure is made


BLANK = np.zeros((N, T, 2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda r: pictures.plot_raster(np.full((1, 3, 2), 0.5)), "see plot_over_time"),
        (lambda r: pictures.plot_raster(r, trial=3), "trial must be"),
        (lambda r: pictures.plot_raster(r, channels=[4]), "channels must be"),
        (lambda r: pictures.plot_raster(r, channels=[]), "one or more"),
        (lambda r: pictures.plot_raster(r, BLANK), r"must be \[3, T, 4\]"),
        (lambda r: pictures.plot_raster(r, np.zeros((N, 4, M))), "the longest trial has 6"),
        (lambda r: pictures.plot_raster(r, np.full((N, T, M), -1.0)), "negative"),
        (
            lambda r: pictures.plot_raster(r, r.to_xarray().assign_coords(trial=[9, 8, 7])),
            "other trials",
        ),
        (lambda r: pictures.plot_latents(BLANK, dims=3), "see plot_over_time"),
        (lambda r: pictures.plot_latents(BLANK, dims=4), "dims must be"),
        (lambda r: pictures.plot_latents(BLANK, [1, 2]), "2 conditions for 3 trials"),
        (lambda r: pictures.plot_latents(latents(2, r), "hour"), r"no coordinate 'hour'"),
        (lambda r: pictures.plot_latents(BLANK, ax=pyplot.axes(projection="3d")), "2 dimensions"),
        (lambda r: pictures.plot_latents(BLANK[0]), "must be .trial, time, latent"),
        (lambda r: pictures.plot_over_time(BLANK, BLANK[..., :1]), "truth has shape"),
        (lambda r: pictures.plot_learning({}), "no fit"),
        (lambda r: pictures.plot_learning({"a": fit(loss=[1.0])}, "bits"), "'a' has no 'bits'"),
        (lambda r: pictures.plot_neurons({}, r), "no rates"),
    ],
)
def test_mistakes_are_named(recording, call, words):
    with pytest.raises(ValueError, match=words):
        call(recording)
