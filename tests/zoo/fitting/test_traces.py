"""Traces: a likelihood with a unit and a learned spread, and comparisons of models of them."""

import math

import numpy as np
import pytest
import torch
from seqzoo.zoo.fitting.advice import of_past
from seqzoo.zoo.plans.defaults import check_sizes, plan_for
from seqzoo.zoo.plans.facts import Facts

from seqzoo import data, inference, zoo

M, DEAD = 5, 3
UNITS = np.array([1e-6, 1e4, 1.0, 1e-3, 50.0])


def traces(seed=0, trials=6, units=1.0, offset=0.0):
    """Noisy walks with missing values and a channel that never changes."""
    draw = np.random.default_rng(seed)
    found = [draw.normal(size=(length, M)).cumsum(0) for length in draw.integers(12, 20, trials)]
    for trial in found:
        trial[:, DEAD] = 0.1
        trial[draw.random(trial.shape) < 0.1] = np.nan
    return data.Recording([trial * units + offset for trial in found], unit="channel")


def built(name, recording):
    torch.manual_seed(0)
    return plan_for(name, Facts.of(recording), check_sizes(2, None)).model.build().eval()


@pytest.mark.parametrize("name", ["rvae", "rvae-bptt", "tvae", "vrae", "vosp", "gru"])
def test_a_unit_changes_the_density_by_its_jacobian_alone(name):
    plain, other = traces(), traces(units=UNITS, offset=-3 * UNITS)
    first, second = built(name, plain), built(name, other)
    expected, found = (
        inference.rates(net, each, num_samples=4).to_numpy()
        for net, each in ((first, plain), (second, other))
    )
    # The scale of a dead channel is the median of the others, in their own units.
    alive = [channel for channel in range(M) if channel != DEAD]
    back = (found + 3 * UNITS) / UNITS
    np.testing.assert_allclose(back[..., alive], expected[..., alive], rtol=1e-3, atol=1e-3)
    seen = torch.stack([trial.isfinite().sum(0) for trial in plain.trials])
    jacobian = seen * (second.likelihood.scale / first.likelihood.scale).log()
    values = [
        inference.predictive_bound(net, each, 4) for net, each in ((first, plain), (second, other))
    ]
    torch.testing.assert_close(values[1] + jacobian.sum(1), values[0], rtol=1e-3, atol=1e-2)


def test_the_learned_spread_is_that_of_the_noise():
    """y = 2 s + noise, where s is a known input, in three units."""
    units, noise = torch.tensor([1e-6, 1.0, 1e4]), torch.tensor([0.1, 0.5, 2.0])
    torch.manual_seed(0)
    inputs = torch.randn(100, 8, 1)
    obs = units * (5 + 2 * inputs + noise * torch.randn(100, 8, 3))
    scale = obs.std((0, 1)).tolist()
    likelihood = zoo.likelihoods.LearnedGaussian(3, obs.mean((0, 1)).tolist(), scale)
    net = zoo.RNN(3, likelihood, hidden=2, input_dim=1, sees_missing=True)
    batch = data.Batch(obs, inputs=inputs, observed=torch.rand_like(obs) > 0.1)
    rule = inference.SequenceELBO(net)
    inference.fit(rule, batch, epochs=60, lr=0.1, schedule="late", progress=False)
    torch.testing.assert_close(net.likelihood.sd / units, noise, rtol=0.05, atol=0)


def test_the_spread_has_limits_that_learning_comes_back_from():
    likelihood = zoo.likelihoods.LearnedGaussian(2, scale=10.0)
    with torch.no_grad():
        likelihood.log_sd[:] = torch.tensor([-50.0, 50.0])
    torch.testing.assert_close(likelihood.sd, torch.tensor([0.1, 1000.0]))
    value = torch.tensor([5.0, 1.0])  # more spread than the first has, and less than the second
    (-likelihood.distribution(torch.zeros(2)).log_prob(value)).backward()
    assert likelihood.log_sd.grad[0] < 0 < likelihood.log_sd.grad[1]


@pytest.mark.parametrize(
    "arguments", [(0,), (2, [1.0]), (2, 0.0, [1.0, 0.0]), (2, math.nan), (2, 0.0, "1")]
)
def test_a_location_and_a_scale_are_checked(arguments):
    with pytest.raises(ValueError, match=r"dim|location|scale"):
        zoo.likelihoods.LearnedGaussian(*arguments)


def test_facts_of_dead_and_unseen_channels():
    trials = [trial.numpy() for trial in traces().trials]
    for trial in trials:
        trial[:, 4] = np.nan
    facts = Facts.of(data.Recording(trials))
    values = np.concatenate(trials)
    assert facts.location[:3] == pytest.approx(np.nanmean(values[:, :3], 0))
    assert facts.location[4] == pytest.approx(np.nanmean(values))
    assert facts.scale[:3] == pytest.approx(np.nanstd(values[:, :3], 0))
    assert facts.scale[3] == facts.scale[4] == sorted(facts.scale[:3])[1]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ([[0.5, 0.25], [0.5, 0.25]], "no channel changes"),
        ([[1e6, 0.5], [1e6 + 1, 0.25]], "subtract its mean"),
    ],
)
def test_traces_that_cannot_be_learned_from_are_refused(values, match):
    with pytest.raises(ValueError, match=match):
        Facts.of(data.Recording([np.array(values)]))


def test_a_comparison_of_traces_has_baselines():
    train, held, test = (traces(seed, units=1e-6) for seed in range(3))
    with pytest.warns(UserWarning, match="fixed standard deviation"):
        fits = zoo.compare(["gru", "refh"], train, held, updates=2, progress=False)
    batch = test.batch()
    scores = {row["model"]: row["next bin (r2)"] for row in fits.score(test, batch.obs).rows}
    assert "fixed standard deviation" in fits.failed["refh"]
    assert "past" in [each.kind for each in fits["gru"].advice]
    assert scores["true rates"] == 1
    past, alive = fits.baseline.predict(batch).double(), [0, 1, 2, 4]
    found = [
        1 - float(((y - p)[s]).square().sum() / (y[s] - y[s].mean()).square().sum())
        for y, p, s in (
            (batch.obs[..., i].double(), past[..., i], batch.observed[..., i]) for i in alive
        )
    ]
    assert scores["own past, smoothed"] == pytest.approx(sum(found) / len(found), abs=1e-6)
    assert scores["own past, smoothed"] > scores["mean of each channel"] == 0
    assert scores["gru"] == pytest.approx(inference.score(fits["gru"].net, test, "next"), abs=0.01)
    with pytest.raises(ValueError, match="rates"):
        fits.score(test, batch.obs[..., :1])


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("gru", {}, "'model.private': True}, a state"),
        ("gru", {"model.private": True}, "it_does_not_learn"),
        ("lgds", {}, "number of channels"),
        ("vrae", {}, "take 'gru' or 'vosp'"),
    ],
)
def test_advice_where_a_channels_own_past_is_better(name, changes, sentence):
    plan = plan_for(name, Facts.of(traces()), check_sizes(2, None)).changed(changes)
    (found,) = of_past(0.3, 0.4, "r2", plan)
    assert sentence in found.text
    assert of_past(0.5, 0.4, "r2", plan) == []
    built = plan.model.build()
    assert hasattr(getattr(built, "memory", None), "gain_logit") == bool(changes)


def test_a_harmonium_refuses_a_likelihood_that_is_no_exponential_family():
    with pytest.raises(ValueError, match="exponential family"):
        zoo.REFH(3, 2, zoo.likelihoods.LearnedGaussian(3))
