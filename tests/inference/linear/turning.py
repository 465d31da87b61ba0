"""A system of three states that turn and decay, seen in twenty values."""

import torch


def turning(net):
    """A linear network of 3 states and 20 values, with this system in it."""
    turn = torch.tensor([[0.95, -0.25, 0.0], [0.25, 0.95, 0.0], [0.0, 0.0, 0.9]]).double() * 0.98
    random = torch.Generator().manual_seed(0)
    net.dynamics.copy_(turn)
    net.process.copy_(torch.eye(3) - turn @ turn.mT)
    net.emission.copy_(torch.randn(20, 3, generator=random) / 2)
    return net
