"""``fit`` and rules that learn in closed form."""

import pytest
import torch
from seqzoo.data import PPC, Loader
from seqzoo.zoo.models.baselines import MeanFrame
from seqzoo.zoo.recipes.population import PopulationReadout

from seqzoo import inference, zoo


def system():
    return zoo.LGDS(2, readout=PopulationReadout())


def em(net):
    return inference.EM(net, restarts=2, iterations=5)


@pytest.mark.parametrize("form", [lambda d: d, lambda d: d.batch(), lambda d: Loader(d, 3)])
def test_em_learns_from_all_sequences_in_any_form(form):
    net, other, data = system(), system(), PPC(6, 12)
    fitted = inference.fit(em(net), form(data), progress=False)
    expected = em(other).learn(data.batch())
    assert [record["log_likelihood"] for record in fitted.history] == expected
    assert [record["epoch"] for record in fitted.history] == list(range(len(expected)))
    assert fitted.net is net
    assert not net.training
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_average_learns_in_one_iteration():
    net, batch = MeanFrame(15), PPC(4, 12).batch()
    fitted = inference.fit(inference.Average(net), batch, progress=False)
    torch.testing.assert_close(net.mean, batch.obs.flatten(0, 1).mean(0))
    expected = (batch.obs - net.mean).square().mean()
    assert fitted.history == [{"epoch": 0, "squared_error": pytest.approx(float(expected))}]


@pytest.mark.parametrize(
    "how",
    [
        {"lr": 0.1},
        {"epochs": 3},
        {"optimizer": "sgd"},
        {"seed": 1},
        {"checkpoint": "run.pt", "resume": True},
        {"validate": lambda net: 0.0},
    ],
    ids=", ".join,
)
def test_arguments_that_are_not_used_are_refused(how):
    net = system()
    start = net.dynamics.clone()
    said = f"EM learns in closed form and does not use {', '.join(how)}:"
    with pytest.raises(ValueError, match=said):
        inference.fit(em(net), PPC(4, 12), progress=False, **how)
    assert torch.equal(net.dynamics, start)


def test_there_are_no_gradients():
    with pytest.raises(ValueError, match="EM learns in closed form and has no gradients"):
        inference.alignment(em(net := system()), em(net), PPC(4, 12).batch())


def test_a_network_without_parameters_is_refused():
    class Idle(inference.LearningRule):
        pass

    with pytest.raises(ValueError, match="LGDS has no parameters, so there is nothing to train"):
        inference.fit(Idle(system()), PPC(4, 12), progress=False)
