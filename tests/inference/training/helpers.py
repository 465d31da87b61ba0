"""Small networks, data and rules of the tests of training."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from seqzoo.data import PPC, Loader, collate
from torch import nn

from seqzoo import inference, zoo

QUIET = {"progress": False, "device": "cpu"}


class Squared(inference.LearningRule):
    """Squared error of a net that predicts each frame's values in reverse order: no randomness."""

    def error(self, batch):
        return (self.net(batch.obs) - batch.obs.flip(-1)).square().sum(-1)[batch.mask]

    def gradients(self, batch):
        self.net.zero_grad(set_to_none=True)
        error = self.error(batch)
        error.mean().backward()
        return {"loss": error.mean().detach(), "frames": error.new_tensor(len(error))}


class Failing(Loader):
    """Raises ``error`` after the first batch of epoch ``at``."""

    def __init__(self, *args, at, error, **how):
        super().__init__(*args, **how)
        self.at, self.error = at, error

    def epoch(self, number):
        batches = super().epoch(number)
        yield next(batches)
        if number == self.at:
            raise self.error
        yield from batches


def uneven(seed=0):
    random = torch.Generator().manual_seed(seed)
    return collate([torch.randn(length, 3, generator=random) for length in (12, 3, 7, 1)])


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(3, 3)


def two_layers(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))


def rvae(seed=0, hidden=8):
    torch.manual_seed(seed)
    return zoo.RVAE(15, 2, zoo.likelihoods.Poisson(15), hidden=hidden)


def refh(seed=0):
    torch.manual_seed(seed)
    return zoo.REFH(15, 8, zoo.likelihoods.Poisson(15), scale=0.1)


def weights(net):
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def assert_close(one, other, tolerance=1e-6):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=tolerance, atol=tolerance, msg=name)


def train(net, make=inference.LocalELBO, seed=0, **how):
    rule = make(net)
    return inference.fit(
        rule, how.pop("data", None) or PPC(4, 12), **{**QUIET, "seed": seed, "epochs": 2, **how}
    )


def train_together(folder, device):
    """Trains with the other processes of a launcher; each writes what it found to a file."""
    torch.set_num_threads(1)
    rule = inference.LocalELBO(rvae(), minibatch=16)
    how = {"epochs": 3, "lr": 0.01, "batch_size": 2, "average": 0.9, "progress": False}
    refused = ""
    try:
        inference.fit(rule, PPC(4, 12), shards=3, device=device, **how)
    except ValueError as error:
        refused = str(error)
    path = Path(folder) / f"rank{os.environ['RANK']}"
    checkpoint = path.with_suffix(".checkpoint")
    fit = inference.fit(rule, PPC(4, 12), checkpoint=checkpoint, device=device, **how)
    torch.save([rule.net.state_dict(), fit.history, refused], path)
    torch.distributed.destroy_process_group()
