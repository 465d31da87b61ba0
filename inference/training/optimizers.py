"""Optimizers and schedules by name, and the parameter groups of an optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ...data.checks import shown
from ..checks import check_real
from .rmsprop import RMSpropNesterov

Schedule = Callable[[float], float]
OptimizerOf = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]

OPTIMIZERS: dict[str, OptimizerOf] = {
    "adam": lambda groups: torch.optim.Adam(groups, fused=True),
    "sgd": torch.optim.SGD,
    "momentum": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "nesterov": lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True),
    # with a memory of 50 updates: after a burst of large gradients, "adam" takes small steps for
    # thousands of updates
    "adam-short": lambda groups: torch.optim.Adam(groups, betas=(0.9, 0.98), fused=True),
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    # a mean square that starts at 1 begins gently, as in the library of the paper's authors
    "rmsprop-nesterov": lambda groups: RMSpropNesterov(groups, start=1.0),
}

# Factor on the learning rate, as a function of the fraction of the run that is done.
SCHEDULES: dict[str, Schedule] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "late": lambda done: min(1.0, (1.0 - done) / 0.4),
    "late-exponential": lambda done: 0.03 ** (max(0.0, done - 0.3) / 0.7),
}


def optimizer_of(
    net: nn.Module, choice: str | OptimizerOf, lr: float | Mapping[str, float]
) -> torch.optim.Optimizer:
    """The optimizer of a network's parameters.

    Arguments:
        net: the network.
        choice: a name in ``OPTIMIZERS``, or a callable that takes parameter groups.
        lr: learning rate, or one for each prefix of parameter names.

    Raises:
        ValueError: for an unknown name, or rates that do not fit.
    """
    made = _choose(choice, OPTIMIZERS, "optimizer")(parameter_groups(net, lr))
    if not isinstance(made, torch.optim.Optimizer):
        raise ValueError(f"optimizer must return a torch.optim.Optimizer, got {shown(made)}")
    return made


def schedule_of(choice: str | Schedule) -> Schedule:
    """The schedule of this name in ``SCHEDULES``, or the callable itself.

    Raises:
        ValueError: for an unknown name.
    """
    return _choose(choice, SCHEDULES, "schedule")


def parameter_groups(net: nn.Module, lr: float | Mapping[str, float]) -> list[dict[str, Any]]:
    """Parameter groups: the longest prefix that fits a parameter's name sets its rate.

    Raises:
        ValueError: for rates that are no numbers, negative, or fit no parameter; and for a
            parameter without a rate.
    """
    if not any(True for _ in net.parameters()):
        raise ValueError(f"{type(net).__name__} has no parameters, so there is nothing to train")
    rates = rates_of(lr)
    groups: dict[str, list[nn.Parameter]] = {prefix: [] for prefix in rates}
    for name, parameter in net.named_parameters():
        fitting = [prefix for prefix in rates if name.startswith(prefix)]
        if not fitting:
            raise ValueError(f'no learning rate for {name}: add one under its prefix or ""')
        groups[max(fitting, key=len)].append(parameter)
    empty = [prefix for prefix, members in groups.items() if not members]
    if empty:
        raise ValueError(f"no parameter's name starts with {empty[0]!r}")
    return [{"params": members, "lr": rates[prefix]} for prefix, members in groups.items()]


def rates_of(lr: float | Mapping[str, float]) -> dict[str, float]:
    """Learning rates by prefix, as plain numbers; a single rate has the prefix ``""``.

    Raises:
        ValueError: for rates that are no finite numbers, or negative.
    """
    if not isinstance(lr, Mapping):
        return {"": float(check_real("lr", lr, least=0))}
    return {
        prefix: float(check_real(f"lr of {prefix!r}", rate, least=0)) for prefix, rate in lr.items()
    }


def _choose(
    choice: str | Callable[..., Any], table: Mapping[str, Callable[..., Any]], name: str
) -> Callable[..., Any]:
    if not isinstance(choice, str) and callable(choice):
        return choice
    if choice not in table:
        raise ValueError(f"{name} must be one of {', '.join(table)} or a callable, got {choice!r}")
    return table[choice]
