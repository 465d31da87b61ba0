"""Measures of firing rates, against slow transcriptions of their definitions."""

import math

import numpy as np
import pytest
import torch
import xarray
from scipy import stats

from seqzoo import data, inference

B, T, M = 4, 12, 3
CONDITIONS = ["left", "right", "left", "right"]
MASK = torch.arange(T)[None] < torch.tensor([12, 9, 12, 7])[:, None]


@pytest.fixture
def recording():
    """Rates and counts of unequal trials with a gap, missing values and a dead channel."""
    random = torch.Generator().manual_seed(0)
    rates = torch.rand(B, T, M + 1, generator=random) + 0.2
    rates[1, 3, 0] = 0.0
    counts = torch.poisson(rates, generator=random)
    observed = torch.rand(B, T, M + 1, generator=random) < 0.9
    observed[0, 4:6] = False
    observed[..., M] = False
    return rates, data.Batch(counts, MASK, observed=observed)


def seen_of(batch):
    return [
        (b, t, m)
        for b in range(B)
        for t in range(T)
        for m in range(batch.obs.shape[2])
        if batch.mask[b, t] and batch.observed[b, t, m]
    ]


def slow_bits(rates, batch, neurons):
    places = [place for place in seen_of(batch) if place[2] in neurons]
    model = null = spikes = 0.0
    for place in places:
        mine = [float(batch.obs[other]) for other in places if other[2] == place[2]]
        count = float(batch.obs[place])
        model += stats.poisson.logpmf(count, float(rates[place]) or 1e-9)
        null += stats.poisson.logpmf(count, np.mean(mine) or 1e-9)
        spikes += count
    return (model - null) / spikes / math.log(2) if spikes else math.nan


def test_bits_per_spike(recording):
    rates, batch = recording
    wanted = slow_bits(rates, batch, range(M))
    assert inference.bits_per_spike(rates, batch) == pytest.approx(wanted, rel=1e-6)
    other = rates.masked_fill(~batch.observed, math.nan)  # rates of bins that were not seen
    labelled = xarray.DataArray(other.numpy(), dims=("trial", "time", "channel"))
    assert inference.bits_per_spike(labelled, batch) == pytest.approx(wanted, rel=1e-6)
    each = [slow_bits(rates, batch, [m]) for m in range(M + 1)]
    found = inference.bits_per_neuron(rates, batch).numpy()
    np.testing.assert_allclose(found, each, rtol=1e-6)  # the dead channel has none


def test_the_mean_of_each_neuron_has_no_bits(recording):
    _, batch = recording
    mean = batch.obs.sum((0, 1)) / batch.observed.sum((0, 1)).clamp_min(1)
    found = inference.bits_per_spike(mean.expand(batch.obs.shape), batch)
    assert found == pytest.approx(0.0, abs=1e-6)


# Linear maps -------------------------------------------------------------------------------------


@pytest.fixture
def pair():
    random = torch.Generator().manual_seed(1)
    features = torch.randn(B, T, 2, generator=random, dtype=torch.float64)
    target = features @ torch.tensor([[1.0, 2.0, 0.0], [0.5, -1.0, 3.0]]).double() + 7
    return features, target + torch.randn(B, T, 3, generator=random, dtype=torch.float64)


def slow_map(x, y, ridge):
    """Weights of a ridge regression whose bias is not penalised: [K + 1, D], by augmented rows."""
    ones, wide = np.ones((len(x), 1)), x.shape[1]
    above, below = np.c_[x, ones], np.c_[math.sqrt(ridge) * np.eye(wide), np.zeros((wide, 1))]
    return np.linalg.lstsq(np.r_[above, below], np.r_[y, np.zeros((wide, y.shape[1]))])[0]


@pytest.mark.parametrize("ridge", [0.0, 3.0])
def test_a_decoder_is_least_squares(pair, ridge):
    features, target = pair
    decoder = inference.fit_decoder(features, target, MASK, ridge)
    wanted = slow_map(features[MASK].numpy(), target[MASK].numpy(), ridge)
    np.testing.assert_allclose(torch.cat((decoder.weight, decoder.bias[None])), wanted, rtol=1e-9)
    found = inference.r_squared(decoder(features), target, MASK)
    for column in range(3):
        y, p = target[MASK][:, column], decoder(features)[MASK][:, column]
        expected = 1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum()
        assert float(found[column]) == pytest.approx(float(expected))
    constant = torch.full((B, T, 1), 0.1)
    assert inference.r_squared(constant, constant, MASK).isnan().all()


def test_a_ridge_is_chosen_by_blocks_of_frames(pair):
    features, target = pair
    x, y, ridges = features[MASK].numpy(), target[MASK].numpy(), [0.01, 1.0, 10.0, 100.0]
    blocks, scores = np.array_split(np.arange(len(x)), 5), []
    for ridge in ridges:
        found = []
        for block in blocks:
            rest = np.setdiff1d(np.arange(len(x)), block)
            miss = y[block] - np.c_[x[block], np.ones(len(block))] @ slow_map(
                x[rest], y[rest], ridge
            )
            found.append(
                np.mean(1 - (miss**2).sum(0) / ((y[block] - y[block].mean(0)) ** 2).sum(0))
            )
        scores.append(np.mean(found))
    assert inference.fit_decoder(features, target, MASK, ridges).ridge == ridges[np.argmax(scores)]
    assert 0 < np.argmax(scores) < 3


def test_collinear_features_are_mapped(pair):
    features, target = pair
    twice = torch.cat((features, features, torch.zeros(B, T, 1)), -1)
    found = inference.fit_decoder(twice, target, MASK)(twice)
    wanted = inference.fit_decoder(features, target, MASK)(features)
    assert torch.allclose(found, wanted, atol=1e-9)


# PSTHs -------------------------------------------------------------------------------------------


def slow_psth(values, batch, rows, sd=0.0):
    """Means over trials of values smoothed over the bins that were seen, [T, M]."""
    found = np.full(values.shape[1:], math.nan)
    for t in range(T):
        for m in range(values.shape[2]):
            means = []
            for b in rows:
                if not (batch.mask[b, t] and batch.observed[b, t, m]):
                    continue
                near = [
                    (math.exp(-0.5 * ((s - t) / sd) ** 2) if sd else float(s == t), s)
                    for s in range(T)
                    if batch.mask[b, s] and batch.observed[b, s, m] and abs(s - t) <= 3 * sd
                ]
                weights = sum(w for w, _ in near)
                means.append(sum(w * float(values[b, s, m]) for w, s in near) / weights)
            if means:
                found[t, m] = np.mean(means)
    return found


@pytest.mark.parametrize("sd", [0.0, 1.5])
def test_psth(recording, sd):
    rates, batch = recording
    found = inference.psth(batch.obs, batch, CONDITIONS, sd)
    assert list(found) == ["left", "right"]
    slow = [slow_psth(batch.obs, batch, rows, sd) for rows in ((0, 2), (1, 3))]
    np.testing.assert_allclose(torch.stack(list(found.values())), slow, rtol=1e-6)
    assert inference.psth_r_squared(found, found) == pytest.approx(1.0)
    expected = inference.psth(rates, batch, CONDITIONS)
    smooth = [slow_psth(rates, batch, rows) for rows in ((0, 2), (1, 3))]
    squares, correlations = [], []
    for m in range(M):
        y, p = np.concatenate(slow)[:, m], np.concatenate(smooth)[:, m]
        y, p = y[~np.isnan(y)], p[~np.isnan(y)]
        squares.append(1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum())
        correlations.append(stats.pearsonr(y, p).statistic)
    assert inference.psth_r_squared(expected, found) == pytest.approx(np.mean(squares))
    assert inference.psth_correlation(expected, found) == pytest.approx(np.mean(correlations))


def test_conditions_are_paired_by_name(recording):
    rates, batch = recording
    found, target = (inference.psth(x, batch, CONDITIONS) for x in (rates, batch.obs))
    whole = inference.psth_r_squared(found, target)
    other = {name: target[name] for name in ("right", "left")}
    assert inference.psth_r_squared(found, other) == pytest.approx(whole)
    tensors = inference.psth(rates, batch, torch.tensor([3, 1, 3, 1]))
    assert torch.equal(tensors[3].nan_to_num(), found["left"].nan_to_num())
    with pytest.raises(ValueError, match="'left' is predicted, but has no target"):
        inference.psth_r_squared(found, {"right": target["right"]})


RATES, COUNTS = torch.full((1, 3, 2), 0.5), torch.ones(1, 3, 2)
ALL = torch.ones(1, 3, dtype=torch.bool)
FLAT = {"a": torch.ones(3, 2)}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: inference.bits_per_spike(RATES[:, :2], COUNTS), "the batch is"),
        (lambda: inference.bits_per_spike(-RATES, COUNTS), "negative"),
        (lambda: inference.bits_per_spike(RATES * math.nan, COUNTS), "finite"),
        (lambda: inference.bits_per_spike(RATES, -COUNTS), "negative"),
        (lambda: inference.bits_per_spike(RATES, 0 * COUNTS), "no spike"),
        (lambda: inference.bits_per_spike(np.array("rates"), COUNTS), "real numbers"),
        (lambda: inference.psth(RATES, COUNTS, ["a", "b"]), "2 conditions for 1 trials"),
        (lambda: inference.psth(RATES, COUNTS, [math.nan]), "NaN"),
        (lambda: inference.psth_r_squared(FLAT, FLAT), "varies"),
        (lambda: inference.psth_r_squared(FLAT, {"a": torch.ones(3, 1)}), "same neurons"),
        (lambda: inference.psth_correlation({}, FLAT), "no condition"),
        (lambda: inference.r_squared(RATES, RATES[..., :1], ALL), "2 columns, target 1"),
        (lambda: inference.r_squared(RATES, RATES, ~ALL), "counts"),
        (lambda: inference.r_squared(RATES, RATES, ALL.float()), "mask must be a bool"),
        (lambda: inference.fit_decoder(RATES, RATES * math.inf, ALL), "target must be finite"),
        (lambda: inference.fit_decoder(RATES, RATES, ALL, [0.1, 1.0]), "too few"),
        (lambda: inference.fit_decoder(RATES, RATES, ALL, []), "a penalty or more"),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
