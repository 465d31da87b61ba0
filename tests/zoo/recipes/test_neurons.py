"""SimulatedNeurons recordings: their data and facts, and how models of them are scored."""

import math

import pytest
import torch
from seqzoo.zoo.plans.facts import Facts
from seqzoo.zoo.recipes import find, neurons
from seqzoo.zoo.recipes.simulated_neurons import SimulatedNeurons

from seqzoo import data, inference, zoo


@pytest.mark.parametrize("system", neurons.DATA)
def test_the_facts_of_a_table_are_those_of_its_data(system):
    made, stated = SimulatedNeurons(system), neurons.FACTS[system]
    found = Facts.of(made)
    assert found[:5] == stated[:5]
    assert found.mean == pytest.approx(stated.mean, rel=0.1)
    limits = [
        inference.bits_per_spike(each.rates_true, each.batch())
        for each in (SimulatedNeurons(system, 50, seed=seed, split="test") for seed in range(3))
    ]
    assert sum(limits) / 3 == pytest.approx(neurons.LIMITS[system], abs=0.001)


def test_scores_are_those_of_the_verbs():
    made = SimulatedNeurons("lorenz", 50, seed=3, split="test")
    net = zoo.RNN(30, zoo.likelihoods.Poisson(30), hidden=8).eval()
    following, others, _, states = find("lorenz/gru").task.measure(net, 3, "test").figures.tolist()
    assert following == pytest.approx(inference.score(net, made, "next"))
    assert others == pytest.approx(inference.score(net, made, "cosmooth"))
    train = SimulatedNeurons("lorenz", seed=3)
    hidden, target = (
        torch.as_tensor(inference.latents(net, each)["mean"].to_numpy()).double().flatten(0, 1)
        for each in (train, made)
    )
    ones = torch.ones(len(hidden), 1, dtype=torch.float64)
    weights = torch.linalg.lstsq(torch.cat((hidden, ones), 1), train.state.double().flatten(0, 1))
    found = torch.cat((target, ones[: len(target)]), 1) @ weights.solution
    state = made.state.double().flatten(0, 1)
    r2 = 1 - (state - found).square().sum(0) / (state - state.mean(0)).square().sum(0)
    assert states == pytest.approx(float(r2.mean()), abs=1e-6)
    loss = find("lorenz/gru").task.measure(net, 3, "validation").figures
    held = SimulatedNeurons("lorenz", 50, seed=3, split="validation").batch()
    assert float(loss) == pytest.approx(-float(inference.elbo(net, held).sum()) / held.frames)


def test_an_unknown_system_is_refused():
    with pytest.raises(ValueError, match="lorenz"):
        SimulatedNeurons("lorentz")


def test_trials_of_other_splits_are_others():
    made = SimulatedNeurons("chaotic-rnn", 4, 20)
    other = made.held_out(4, seed=0, split="test")
    assert isinstance(made, data.Recording)
    assert not torch.equal(other.obs, made.batch().obs)
    assert math.isclose(float(other.obs.mean()), float(made.batch().obs.mean()), rel_tol=0.5)
