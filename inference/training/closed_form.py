"""The part of ``fit`` that runs a rule in closed form."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..rules.closed_form import ClosedForm
from .arguments import whole
from .state import Fit

USED = ("rule", "data", "device", "progress")


def check_unused(
    rule: ClosedForm, arguments: Mapping[str, Any], function: Callable[..., Any]
) -> None:
    """Raises a ValueError for arguments that were given and that the rule does not use.

    Arguments:
        rule: the rule.
        arguments: those of ``function``, by name.
        function: tells their defaults.
    """
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    given = [
        name for name, value in arguments.items() if name not in USED and value != defaults[name]
    ]
    if given:
        raise ValueError(
            f"{type(rule).__name__} learns in closed form and does not use "
            f"{', '.join(given)}: its own arguments set how it learns"
        )


def fit_closed_form(
    rule: ClosedForm, data: Any, device: torch.device | str | None, progress: bool
) -> Fit:
    """Learns from all data as one batch; see ``fit``."""
    where = torch.device("cpu" if device is None else device)
    rule.net.to(where)
    figures = rule.learn(whole(data).to(where), progress)
    rule.net.eval()
    history = [{"epoch": number, rule.figure: value} for number, value in enumerate(figures)]
    return Fit(rule.net, history)
