"""A gradient that is recorded is the same, and waits for no device."""

import dataclasses

import pytest
import torch
from seqzoo.inference import recorded_sweep
from seqzoo.inference.sweep import sweep
from seqzoo.zoo.recipes.film_task import spatial_vae

from seqzoo import data, inference, zoo

WEIGHTS = {"x": [0.05, 1.0, 0.5], "u": 0.02}


def counts():
    batch = data.PPC(4, 12, seed=0).batch()
    return dataclasses.replace(batch, inputs=batch.obs[..., :2].flip(1))


def film():
    return data.BouncingBalls(2, 6, rendering="squared", seed=0).batch()


CASES = {
    "rvae": (lambda: zoo.RVAE(15, 4, zoo.likelihoods.Poisson(15), hidden=8), counts),
    "rvae-predictor": (
        lambda: zoo.RVAE(
            *(15, 4, zoo.likelihoods.Poisson(15)), hidden=8, predictor_hidden=8, input_dim=2
        ),
        counts,
    ),
    "tvae": (lambda: zoo.TVAE(15, 4, zoo.likelihoods.Poisson(15), 8, input_dim=2), counts),
    "map": (lambda: spatial_vae(grid=10, channels=2, width=4, strides=[3]).build(), film),
}


def harmonium(kind):
    return lambda: kind(15, 6, zoo.likelihoods.Poisson(15))


RULES = {
    **{f"local, {name}": (inference.LocalELBO, case) for name, case in CASES.items()},
    "BPTT": (inference.BPTT, CASES["rvae-predictor"]),
    "CD": (inference.ContrastiveDivergence, (harmonium(zoo.REFH), counts)),
    "CD through time": (inference.ContrastiveDivergence, (harmonium(zoo.RTRBM), counts)),
}
OPTIONS = {
    inference.ContrastiveDivergence: {"k": [1.0, 3.0, 0.4], "random": 0.3, "random_k": 2},
}


def rule_of(name, **options):
    torch.manual_seed(0)
    kind, (build, _) = RULES[name]
    given = OPTIONS.get(kind, {"weights": WEIGHTS})
    return kind(build(), drop_past=0.2, chunk=20, **given, **options)


def gradient(rule, batch, seed=1, done=0.3):
    torch.manual_seed(seed)
    rule.done = done
    metrics = rule.gradients(batch)
    return metrics["loss"], [parameter.grad for parameter in rule.net.parameters()]


def recordings(rule):
    return list(rule._gradient.slopes._recordings.values())


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", ["local, rvae-predictor", "CD"])
def test_a_sweep_in_recorded_pieces_is_the_loop(name, padded, monkeypatch):
    monkeypatch.setattr(recorded_sweep, "FEW", 12)  # a CPU then takes the way of a GPU
    monkeypatch.setattr(recorded_sweep, "PIECE", 5)
    rule, batch = rule_of(name, captured=True), RULES[name][1][1]()
    if padded:
        batch = dataclasses.replace(batch, mask=torch.arange(12) < torch.tensor([[12], [9]] * 2))
    rule._begin(batch)
    past = rule.net.initial(len(batch))
    for _ in range(2):  # records, then replays
        found = rule._recorded_sweep(batch, past)
        if padded:
            assert found is None
            continue
        assert len(rule._recorded_sweep.steps._recordings) == 2  # five steps, and the last two
        assert all(rule._recorded_sweep.steps._recordings.values())
        with torch.no_grad():
            plain = sweep(rule.net, batch, past)
        torch.testing.assert_close(found.statistics, plain.statistics, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.features, plain.features, rtol=1e-5, atol=1e-6)


def test_the_online_form_is_recorded_in_full():
    found, batch = [], counts()
    for captured in (False, True):
        rule = rule_of("local, rvae", window=1, captured=captured)
        torch.manual_seed(1)
        found.append([float(metrics["loss"]) for metrics in rule.updates(batch)])
    assert found[0] == found[1]
    assert all(rule._recorded_sweep.steps._recordings.values())
    assert all(recordings(rule))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_recorded_gradient_is_the_plain_one(name, device):
    batch = RULES[name][1][1]().to(device)
    found = []
    for captured in (False, True):
        rule = rule_of(name, captured=captured)
        rule.net.to(device)
        for seed, done in ((2, 0.1), (1, 0.3), (1, 0.3)):  # replays at other numbers and weights
            last = gradient(rule, batch, seed, done)
            with torch.no_grad():
                for parameter in rule.net.parameters():
                    parameter.mul_(1.01)
        found.append(last)
        if device == "cpu":
            assert bool(recordings(rule)) == captured
            assert all(recordings(rule)) or name == "local, map"  # convolutions are not recorded
    tolerance = {"rtol": 0, "atol": 0} if device == "cpu" else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(found[1], found[0], **tolerance)
