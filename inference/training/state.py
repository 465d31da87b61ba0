"""The state of a training run, which a checkpoint holds, and the result of ``fit``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint


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
    """

    net: nn.Module
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] | None = None
    interrupted: bool = False


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
        settings: dict[str, int | str],
    ) -> None:
        self.net, self.optimizer, self.settings = net, optimizer, settings
        self.averaged = None
        if average is not None:
            how = {"multi_avg_fn": get_ema_multi_avg_fn(average), "use_buffers": True}
            self.averaged = AveragedModel(net, **how)
        self.run = Fit(net)
        self.epoch, self.since_best = 0, 0
        self.best_weights: dict[str, Tensor] | None = None
        self.moved = False  # whether the weights are other than those that the network came with

    @property
    def trained(self) -> nn.Module:
        """The network that is validated and returned: the average, where there is one."""
        return self.net if self.averaged is None else self.averaged.module

    def step(self, clip: float | None) -> None:
        """One step of the optimizer along the gradients that are there."""
        if clip is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), clip)
        self.optimizer.step()
        self.moved = True
        if self.averaged is not None:
            self.averaged.update_parameters(self.net)

    def note(self, record: dict[str, float]) -> None:
        """Ends an epoch; keeps the weights if their validation score is the best so far."""
        self.run.history.append(record)
        self.epoch = int(record["epoch"]) + 1
        if "validation" not in record:
            return
        self.since_best += 1
        best, score = self.run.best, record["validation"]
        if score < (best["validation"] if best else math.inf):
            self.run.best, self.since_best = dict(record), 0
            weights = self.trained.state_dict()
            self.best_weights = {name: value.clone() for name, value in weights.items()}

    def save(self, path: str | Path) -> None:
        """Writes the checkpoint of the last whole epoch."""
        content = {
            "settings": self.settings,
            "epoch": self.epoch,
            "since_best": self.since_best,
            "history": self.run.history,
            "best": self.run.best,
            "best_weights": self.best_weights,
            "net": self.net.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        save_checkpoint(path, content)

    def load(self, path: str | Path, device: torch.device) -> None:
        """Puts a checkpoint back.

        Raises:
            CheckpointError: when it is damaged, or of other settings or another architecture.
        """
        saved = load_checkpoint(path, device)
        if not isinstance(saved, dict) or "settings" not in saved:
            raise CheckpointError(f"{path} is no checkpoint of fit: use another file")
        if saved["settings"] != self.settings:
            now, then = self.settings, saved["settings"]
            differing = ", ".join(name for name in now if now[name] != then.get(name))
            raise CheckpointError(
                f"{path} is of a run with other settings ({differing}): use the same ones, "
                "another checkpoint file, or start afresh"
            )
        try:
            self.net.load_state_dict(saved["net"])
        except RuntimeError as error:
            raise CheckpointError(f"{path} is of another architecture: {error}") from error
        if self.averaged is not None:
            self.averaged.load_state_dict(saved["averaged"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.run.history, self.run.best = saved["history"], saved["best"]
        self.epoch, self.since_best = saved["epoch"], saved["since_best"]
        self.best_weights = saved["best_weights"]
        self.moved = self.epoch > 0
        torch.set_rng_state(saved["random"].cpu())
