"""Networks and questions that tests of the rules for answers share."""

import torch
from seqzoo.data import Batch
from torch import nn


def scattered(net):
    """A network in float64 with weights that matter."""
    net = net.double()
    for part in net.parameters():
        nn.init.normal_(part, std=0.8)
    return net


def asked(rows, steps, inputs, classes, mask=None, every_step=False):
    """Sequences with a class for answer, or one at every step."""
    target = torch.randint(classes, (rows, steps) if every_step else (rows,))
    return Batch(torch.randn(rows, steps, inputs, dtype=torch.float64), mask, target=target)
