"""Measures of firing rates, against slow transcriptions of their definitions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from seqzoo import data, inference

B, T, M = 4, 12, 3
CONDITIONS = ["left", "right", "left", "right"]


@pytest.fixture
def recording():
    random = torch.Generator().manual_seed(0)
    rates = torch.rand(B, T, M, generator=random) + 0.2
    counts = torch.poisson(rates, generator=random)
    mask = torch.arange(T)[None] < torch.tensor([12, 9, 12, 7])[:, None]
    observed = torch.rand(B, T, M, generator=random) < 0.9
    observed[0, 4:6] = False
    return rates, data.Batch(counts, mask, observed=observed)


def seen_of(batch):
    return [
        (b, t, m)
        for b in range(B)
        for t in range(T)
        for m in range(M)
        if batch.mask[b, t] and batch.observed[b, t, m]
    ]


def test_bits_per_spike(recording):
    rates, batch = recording
    places = seen_of(batch)
    means = [np.mean([float(batch.obs[p]) for p in places if p[2] == m]) for m in range(M)]
    model = sum(stats.poisson.logpmf(float(batch.obs[p]), float(rates[p])) for p in places)
    null = sum(stats.poisson.logpmf(float(batch.obs[p]), means[p[2]]) for p in places)
    spikes = sum(float(batch.obs[p]) for p in places)
    wanted = (model - null) / spikes / math.log(2)
    assert inference.bits_per_spike(rates, batch) == pytest.approx(wanted, rel=1e-6)
    other = rates.masked_fill(~batch.observed, 77.0)  # rates of bins that were not seen
    assert inference.bits_per_spike(other, batch) == pytest.approx(wanted, rel=1e-6)


def test_the_mean_of_each_neuron_has_no_bits(recording):
    _, batch = recording
    mean = batch.obs.sum((0, 1)) / batch.observed.sum((0, 1))
    assert inference.bits_per_spike(mean.expand(B, T, M), batch) == pytest.approx(0.0, abs=1e-6)


def test_a_decoder_is_least_squares():
    random = torch.Generator().manual_seed(1)
    features = torch.randn(B, T, 2, generator=random, dtype=torch.float64)
    target = features @ torch.tensor([[1.0, 2.0, 0.0], [0.5, -1.0, 3.0]]).double() + 7
    target += 0.1 * torch.randn(B, T, 3, generator=random, dtype=torch.float64)
    mask = torch.arange(T)[None] < torch.tensor([12, 9, 12, 7])[:, None]
    decoder = inference.fit_decoder(features, target, mask)
    x = np.c_[features[mask].numpy(), np.ones(int(mask.sum()))]
    wanted = np.linalg.lstsq(x, target[mask].numpy(), rcond=None)[0]
    np.testing.assert_allclose(decoder.weight, wanted[:2], rtol=1e-4)
    np.testing.assert_allclose(decoder.bias, wanted[2], rtol=1e-4)
    found = inference.r_squared(decoder(features), target, mask)
    for column in range(3):
        y, p = target[mask][:, column], decoder(features)[mask][:, column]
        expected = 1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum()
        assert float(found[column]) == pytest.approx(float(expected))
    constant = torch.ones(B, T, 1)
    assert inference.r_squared(constant, constant, mask).isnan().all()


def test_psth(recording):
    rates, batch = recording
    found = inference.psth(batch.obs, batch, CONDITIONS)
    assert found.shape == (2, T, M)
    for c, rows in enumerate(((0, 2), (1, 3))):
        for t in range(T):
            for m in range(M):
                values = [
                    float(batch.obs[b, t, m])
                    for b in rows
                    if batch.mask[b, t] and batch.observed[b, t, m]
                ]
                wanted = np.mean(values) if values else math.nan
                assert float(found[c, t, m]) == pytest.approx(wanted, nan_ok=True)
    assert inference.psth_r_squared(batch.obs, batch, CONDITIONS) == pytest.approx(1.0)
    scores, smooth = [], inference.psth(rates, batch, CONDITIONS)
    for m in range(M):
        y, p = found[..., m].flatten(), smooth[..., m].flatten()
        y, p = y[~y.isnan()], p[~y.isnan()]
        scores.append(float(1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum()))
    score = inference.psth_r_squared(rates, batch, CONDITIONS)
    assert score == pytest.approx(np.mean(scores))


RATES, COUNTS = torch.full((1, 3, 2), 0.5), torch.ones(1, 3, 2)
MASK = torch.ones(1, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: inference.bits_per_spike(RATES[:, :2], COUNTS), "the batch is"),
        (lambda: inference.bits_per_spike(-RATES, COUNTS), "negative"),
        (lambda: inference.bits_per_spike(RATES * math.nan, COUNTS), "finite"),
        (lambda: inference.bits_per_spike(RATES, -COUNTS), "negative"),
        (lambda: inference.bits_per_spike(RATES, 0 * COUNTS), "no spike"),
        (lambda: inference.psth(RATES, COUNTS, ["a", "b"]), "2 conditions for 1 trials"),
        (lambda: inference.psth_r_squared(RATES, COUNTS, ["a"]), "varies"),
        (lambda: inference.r_squared(RATES, RATES[..., :1], MASK), "differ in shape"),
        (lambda: inference.r_squared(RATES, RATES, ~MASK), "counts"),
        (lambda: inference.fit_decoder(RATES, RATES * math.inf, MASK), "target must be finite"),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
