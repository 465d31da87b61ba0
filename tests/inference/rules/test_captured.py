"""A gradient that is recorded as a CUDA graph: it waits for no device, and is the same."""

import dataclasses

import pytest
import torch
from seqzoo.zoo.parts.likelihoods import exponential_family
from seqzoo.zoo.recipes.film_task import spatial_vae
from torch.utils._python_dispatch import TorchDispatchMode

from seqzoo import data, inference, zoo

# Operations that read a value back from the device, or whose shape depends on one.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2"}
WEIGHTS = {"x": [0.05, 1.0, 0.5], "u": 0.02}


class Waits(TorchDispatchMode):
    """Lists the operations that a recording could not hold."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.split("::")[1]
        indices = args[1] if name.startswith("index") and isinstance(args[-1], list) else []
        by_mask = any(getattr(index, "dtype", None) == torch.bool for index in indices)
        if name in WAITING or by_mask:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


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


def rule_of(build, **options):
    torch.manual_seed(0)
    net = build()
    return inference.LocalELBO(net, weights=WEIGHTS, drop_past=0.2, **options)


def gradient(rule, batch):
    torch.manual_seed(1)
    rule.done = 0.3
    metrics = rule.gradients(batch)
    return metrics["loss"], [parameter.grad for parameter in rule.net.parameters()]


@pytest.mark.parametrize("case", CASES)
def test_nothing_in_it_waits_for_the_device(case, monkeypatch):
    monkeypatch.setattr(exponential_family, "none_above", lambda value, limit: False)  # as on a GPU
    build, batch = CASES[case]
    rule = rule_of(build, captured=True)
    with Waits() as control:
        torch.ones(2)[torch.tensor([True, False])].sum().item()
    assert control.found  # the list is of the kind of thing that is looked for
    fold, _ = rule._fold(batch(), rule.net.initial(len(batch())))
    numbers = torch.tensor([inference.rules.rule.anneal(x, 0.3) for x in rule.annealed().values()])
    with Waits() as seen:
        rule._gradient_at(numbers, *fold)
    assert seen.found == []


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_captured_gradient_is_the_plain_one(case, device):
    build, batch = CASES[case]
    found = []
    for captured in (False, True, True):
        rule = rule_of(build, captured=captured)
        rule.net.to(device)
        if len(found) == 2:  # a second call replays, at other numbers than were recorded
            gradient(rule, batch().to(device))
        found.append(gradient(rule, batch().to(device)))
    tolerance = {"rtol": 0, "atol": 0} if device == "cpu" else {"rtol": 1e-4, "atol": 1e-5}
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], **tolerance)


def test_a_capture_keeps_no_gradient_through_time():
    net = CASES["rvae"][0]()
    with pytest.raises(ValueError, match="captured records one fold"):
        inference.rules.folded.FoldedRule(net, through_time=True, captured=True)
