"""The state of a training run, which a checkpoint holds, and the result of ``fit``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .checkpoint import load_checkpoint, save_checkpoint
from .errors import CheckpointError
from .fingerprint import Fingerprint
from .reading import check_weights, check_whole, differences


@dataclass
class Fit:
    """The result of ``fit``.

    Attributes:
        net: the trained network (the one the rule holds): the averaged weights where weights
            were averaged, the best validated ones where ``fit`` validated.
        history: one record an epoch: ``epoch``, ``loss``, ``lr``, and ``validation`` if asked; of a
            rule in closed form one an iteration: ``epoch``, and its figure (``log_likelihood``).
        best: the lowest validation score and its epoch, or None.
        interrupted: True when ctrl-C ended the run early.
        changes: one record for each setting that ``fit(changed=...)`` changed, and for a return to
            the best weights: ``epoch``, from which on, ``setting``, ``before`` and ``after``.
    """

    net: nn.Module
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] | None = None
    interrupted: bool = False
    changes: list[dict[str, Any]] = field(default_factory=list)


class RunState:
    """Everything that changes during a run and that a checkpoint holds.

    Arguments:
        net: the network in training.
        optimizer: its optimizer.
        average: decay of the running average of the weights, or None.
        settings: the settings that a resumed run shares with the one that was stopped.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: float | None,
        settings: Fingerprint,
    ) -> None:
        self.net, self.optimizer, self.settings = net, optimizer, settings
        self.averaged = None
        if average is not None:
            how = {"multi_avg_fn": get_ema_multi_avg_fn(average), "use_buffers": True}
            self.averaged = AveragedModel(net, **how)
            self._towards = 1 - average
            self._pair = list(self.averaged.module.modules()), list(net.modules())
            kinds = {(each.dtype, each.device) for each in _tensors(net.modules())}
            self._alike = len(kinds) == 1 and next(iter(kinds))[0].is_floating_point
        self.run = Fit(net)
        self.epoch, self.since_best = 0, 0
        self.best_weights: dict[str, Tensor] | None = None
        self.last_weights = self._weights()
        self.moved = False  # whether the weights are other than those that the network came with

    @property
    def trained(self) -> nn.Module:
        """The network that is validated and returned: the average, where there is one."""
        return self.net if self.averaged is None else self.averaged.module

    @property
    def finite(self) -> bool:
        """Whether every parameter in training is finite, and so is its average."""
        every = itertools.chain(self.net.parameters(), self.trained.parameters())
        return all(bool(torch.isfinite(each).all()) for each in every if each.requires_grad)

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.trained.state_dict().items()}

    def step(self, clip: float | None) -> None:
        """One step of the optimizer along the gradients that are there."""
        if clip is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), clip)
        self.optimizer.step()
        moved, self.moved = self.moved, True
        if self.averaged is not None:
            self._follow(self.averaged, first=not moved)

    @torch.no_grad()
    def _follow(self, averaged: AveragedModel, first: bool) -> None:
        """Moves the average towards the weights.

        Torch's own update sorts all tensors by kind and reads its counter back, at every update.
        Of a small network that takes longer than a step of Adam.
        """
        if first or not self._alike:
            averaged.update_parameters(self.net)
            return
        own, now = (_tensors(modules) for modules in self._pair)
        torch._foreach_lerp_(own, now, self._towards)  # pyright: ignore[reportPrivateImportUsage]
        averaged.n_averaged += 1

    def note(self, record: dict[str, float]) -> None:
        """Ends an epoch; keeps the weights if their validation score is the best so far."""
        self.run.history.append(record)
        self.epoch, self.last_weights = int(record["epoch"]) + 1, self._weights()
        if "validation" not in record:
            return
        self.since_best += 1
        best, score = self.run.best, record["validation"]
        if score < (best["validation"] if best else math.inf):
            self.run.best, self.since_best = dict(record), 0
            self.best_weights = self.last_weights

    def put_back(self, present: bool) -> str:
        """Gives the network its best weights, or those of the last whole epoch.

        Arguments:
            present: where nothing was validated, leave the present ones, or their average.

        Returns:
            A sentence that says which they are, after a full stop; none of the present ones.
        """
        kept = present and self.best_weights is None
        other = self.trained.state_dict() if kept else self.last_weights
        self.net.load_state_dict(self.best_weights or other)
        if self.run.best is not None:
            which = f"its best weights: epoch {int(self.run.best['epoch'])}, validation "
            which += f"{self.run.best['validation']:.6g}"
        elif self.epoch:
            which = f"the weights of its last whole epoch, {self.epoch - 1}"
        else:
            which = "the weights it came with"
        return "" if kept else f". The network again has {which}"

    def save(self, path: str | Path) -> None:
        """Writes the checkpoint of the last whole epoch."""
        content = {
            "settings": self.settings,
            "epoch": self.epoch,
            "since_best": self.since_best,
            "history": self.run.history,
            "changes": self.run.changes,
            "best": self.run.best,
            "best_weights": self.best_weights,
            "net": self.net.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        save_checkpoint(path, content)

    def load(
        self,
        path: str | Path,
        device: torch.device,
        changed: Collection[str] = (),
        best: bool = False,
    ) -> None:
        """Puts a checkpoint back, all of it or nothing.

        Arguments:
            path: the file.
            device: where the network is.
            changed: names among ``CHANGEABLE`` of settings that may differ.
            best: go back to the best epoch. What the optimizer has gathered since is dropped.

        Raises:
            CheckpointError: when it is damaged, incomplete, of another run, or has no best epoch.
        """
        saved = load_checkpoint(path, device)
        check_whole(saved, path)
        changes = differences(saved, path, self.settings, changed)
        check_weights(saved, path, self.net, self.trained, self.averaged, self.optimizer)
        if best and saved["best"] is None:
            raise CheckpointError(f"{path} has no best epoch: nothing was validated", "last")
        self.run.history, self.run.best = saved["history"], saved["best"]
        self.epoch, self.since_best = saved["epoch"], saved["since_best"]
        self.best_weights = saved["best_weights"]
        self.net.load_state_dict(saved["net"])
        if self.averaged is not None:
            self.averaged.load_state_dict(saved["averaged"])
        if best:
            last, self.epoch, self.since_best = self.epoch, saved["best"]["epoch"] + 1, 0
            del self.run.history[self.epoch :]
            self.net.load_state_dict(saved["best_weights"])
            self.trained.load_state_dict(saved["best_weights"])
            changes["weights"] = f"of epoch {last - 1}", f"of epoch {self.epoch - 1}, the best"
        else:
            self.optimizer.load_state_dict(saved["optimizer"])
        self.run.changes = saved["changes"] + [
            {"epoch": self.epoch, "setting": name, "before": before, "after": after}
            for name, (before, after) in changes.items()
        ]
        self.last_weights = self._weights()
        self.moved = self.epoch > 0
        torch.set_rng_state(saved["random"].cpu())


def _tensors(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Parameters and buffers, each once."""
    every = (
        each
        for module in modules
        for held in (module._parameters, module._buffers)
        for each in held.values()
        if each is not None
    )
    return list({id(each): each for each in every}.values())
