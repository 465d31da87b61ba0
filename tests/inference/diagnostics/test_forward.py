"""Forward prediction, against a slow transcription and a system whose predictions are known."""

import math

import pytest
import torch
from scipy import stats

from seqzoo import data, inference, zoo
from tests.inference.diagnostics.told import Told

B, T, M, AHEAD = 3, 9, 2, 3
LENGTHS = (9, 7, 8)


@pytest.fixture
def told():
    random = torch.Generator().manual_seed(0)
    rates = torch.rand(B, T, M, generator=random) + 0.3
    counts = torch.poisson(rates, generator=random)
    mask = torch.arange(T)[None] < torch.tensor(LENGTHS)[:, None]
    observed = torch.rand(B, T, M, generator=random) < 0.8
    return Told(rates), data.Batch(counts, mask, observed=observed)


def places(batch, steps):
    """Values of the bins so many steps ahead that were seen."""
    return [
        (b, length - AHEAD + step, m)
        for b, length in enumerate(LENGTHS)
        for step in steps
        for m in range(M)
        if batch.observed[b, length - AHEAD + step, m]
    ]


def slow_score(rates, batch, steps, unit):
    means = []
    for m in range(M):
        mine = [float(batch.obs[p]) for p in places(batch, range(AHEAD)) if p[2] == m]
        means.append(sum(mine) / len(mine))
    chosen = places(batch, steps)
    if unit == "bits/spike":
        model = sum(stats.poisson.logpmf(float(batch.obs[p]), float(rates[p])) for p in chosen)
        null = sum(stats.poisson.logpmf(float(batch.obs[p]), means[p[2]]) for p in chosen)
        return (model - null) / sum(float(batch.obs[p]) for p in chosen) / math.log(2)
    scores = []
    for m in range(M):
        mine = [p for p in chosen if p[2] == m]
        error = sum((float(batch.obs[p]) - float(rates[p])) ** 2 for p in mine)
        spread = sum((float(batch.obs[p]) - means[m]) ** 2 for p in mine)
        scores += [1 - error / spread] if spread else []
    return sum(scores) / len(scores)


@pytest.mark.parametrize("unit", ["bits/spike", "r2"])
def test_the_last_bins_are_hidden_and_scored(told, unit):
    net, batch = told
    found = inference.forward_prediction(net, batch, AHEAD, unit)
    assert found.total == pytest.approx(slow_score(net.rates, batch, range(AHEAD), unit))
    for step in range(AHEAD):
        wanted = slow_score(net.rates, batch, [step], unit)
        assert float(found.ahead[step]) == pytest.approx(wanted)
    for b, length in enumerate(LENGTHS):
        first = length - AHEAD
        assert torch.equal(net.batch.observed[b, :first], batch.observed[b, :first])
        assert not net.batch.observed[b, first:].any()
        assert not net.batch.obs[b, first:].any()
        assert int(net.batch.mask[b].sum()) == length


def test_an_rnn_is_scored_by_its_rollout():
    torch.manual_seed(0)
    net = zoo.RNN(M, zoo.likelihoods.Poisson(M), hidden=8)
    obs = torch.poisson(torch.rand(B, T, M) + 0.5)
    ahead = inference.rollout(net, obs[:, :-AHEAD], frames=AHEAD).mean
    wanted = inference.bits_per_spike(ahead, obs[:, -AHEAD:])
    assert inference.forward_prediction(net, obs, AHEAD).total == pytest.approx(wanted, rel=1e-5)


ONES = torch.ones(2, 5, 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda n: inference.forward_prediction(n, ONES, 5), "trial 0 has 5 bins: too few"),
        (lambda n: inference.forward_prediction(n, ONES, 2, "mse"), "unit must be one of"),
        (lambda n: inference.forward_prediction(n, ONES * 0.5, 2, "bits/spike"), "whole numbers"),
        (lambda n: inference.forward_prediction(n, ONES, 2, "r2"), "no channel varies"),
        (lambda n: inference.forward_prediction(n, 0 * ONES, 2), "no spike"),
        (
            lambda n: inference.forward_prediction(
                n, data.Batch(ONES, observed=torch.arange(5).expand(2, 5)[..., None] > 2), 2
            ),
            "trial 0 has no value that was seen before its last 2",
        ),
        (
            lambda n: inference.forward_prediction(
                n, data.Batch(ONES, observed=torch.arange(5).expand(2, 5)[..., None] < 2), 2
            ),
            "no value in the last 2 bins",
        ),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(Told(torch.ones(2, 5, 1)))
