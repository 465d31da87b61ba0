"""Measures of firing rates against those of the Neural Latents Benchmark, where it is installed.

Its package pins an old pandas: pip install --no-deps nlb_tools, then pip install scikit-learn.
"""

import math

import numpy as np
import pytest
import torch

from seqzoo import data, inference
from tests.inference.diagnostics.told import Told

nlb = pytest.importorskip("nlb_tools.evaluation")
B, T, M = 12, 30, 5


@pytest.fixture
def recording():
    """Rates and counts, NaN in padding, in a gap and in a dead channel."""
    random = np.random.default_rng(0)
    rates = np.exp(random.normal(-0.5, 0.5, (B, T, M)).cumsum(1) * 0.2)
    counts = random.poisson(rates).astype(float)
    for trial, length in enumerate(random.integers(20, T + 1, B)):
        counts[trial, length:] = math.nan
    counts[2, 5:8] = math.nan
    counts[..., 4] = math.nan
    tensor = torch.tensor(counts)
    mask = tensor.isfinite().any(-1)
    return rates, counts, data.Batch(tensor.nan_to_num(), mask, observed=tensor.isfinite())


@pytest.mark.parametrize("faint", [0.0, 1e-12])
def test_bits_per_spike(recording, faint):
    rates, counts, batch = recording
    rates[0, :3, 0] = faint
    wanted = nlb.bits_per_spike(rates.copy(), counts.copy())
    assert inference.bits_per_spike(rates, batch) == pytest.approx(wanted, rel=1e-9)


def test_psth_r_squared(recording):
    rates, _, _ = recording
    full = np.random.default_rng(2).poisson(rates).astype(float)
    conditions = np.arange(B) % 3
    batch = data.Batch(torch.tensor(full))
    target = inference.psth(full, batch, conditions, smooth=2.0)
    found = inference.psth(rates, batch, conditions)
    rows = [np.flatnonzero(conditions == c) for c in range(3)]
    stacked = np.stack([target[c].numpy() for c in range(3)])
    wanted = nlb.eval_psth(stacked, rates, rows)
    assert inference.psth_r_squared(found, target) == pytest.approx(wanted, rel=1e-9)
    short = {c: values.clone() for c, values in target.items()}
    short[1][25:] = math.nan  # a condition of short trials
    stacked = np.stack([short[c].numpy() for c in range(3)])
    wanted = nlb.eval_psth(stacked, rates, rows)
    assert inference.psth_r_squared(found, short) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("grid", [False, True])
def test_velocity_decoding(recording, grid):
    rates, _, _ = recording
    random = np.random.default_rng(3)
    velocity = np.tanh(rates @ random.normal(size=(M, 2))) + random.normal(size=(B, T, 2))
    velocity[3, 20:] = math.nan
    train, test = slice(0, 8), slice(8, 12)
    masks = [np.ones((8, 1), bool), np.ones((4, 1), bool)]
    wanted = nlb.velocity_decoding(
        rates[train], velocity[train], masks[0], rates[test], velocity[test], masks[1], grid
    )
    known = torch.tensor(np.isfinite(velocity).all(-1))
    ridge = inference.RIDGES if grid else 1e-2
    decoder = inference.fit_decoder(rates[train], velocity[train], known[train], ridge)
    found = inference.r_squared(decoder(rates[test]), velocity[test], known[test]).mean()
    assert float(found) == pytest.approx(wanted, rel=1e-7)


def test_co_smoothing_and_forward_prediction(recording):
    rates, counts, batch = recording
    net, hidden = Told(torch.tensor(rates)), [1, 3]
    wanted = nlb.bits_per_spike(rates[..., hidden].copy(), counts[..., hidden].copy())
    found = inference.score(net, batch, "cosmooth", held_out=hidden)
    assert found == pytest.approx(wanted, rel=1e-9)
    last = np.zeros((B, T, M), dtype=bool)
    for trial, length in enumerate(batch.mask.sum(1).tolist()):
        last[trial, length - 6 : length] = True
    wanted = nlb.bits_per_spike(rates.copy(), np.where(last, counts, math.nan))
    found = inference.forward_prediction(net, batch, 6).total
    assert found == pytest.approx(wanted, rel=1e-9)
