"""The one training loop: any rule that fills ``.grad``, on one device or on several processes."""

from __future__ import annotations

import itertools
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...data import BatchLike, Dataset, Loader
from ..rng import RandomStream
from ..rules.closed_form import ClosedForm
from ..rules.rule import LearningRule, Metrics
from .arguments import (
    check_arguments,
    check_changed,
    check_device,
    check_rule,
    factor_of,
    loader_of,
    score_of,
)
from .closed_form import check_unused, fit_closed_form
from .errors import Diverged, Unscored
from .fingerprint import Fingerprint, of_data, of_rule, of_value
from .optimizers import OptimizerOf, Schedule, optimizer_of, rates_of, schedule_of
from .processes import Processes, must_return
from .state import Fit, RunState

Validate = Callable[[nn.Module], float]
FEW = 100  # updates: whoever makes one an epoch may take epochs for updates

# Arguments that the runs before and after a stop have in common.
SHARED = (
    *("epochs", "lr", "clip", "schedule", "optimizer", "average", "seed", "shards"),
    *("validate", "validate_every", "patience", "prefixes", "identity"),
)


# Likely causes of a loss that is not finite.
AT_ONCE = (
    " before any update, so that lr is not to blame: look for NaN, infinity, or a scale that is "
    "not positive (of a LinearChain, say) in what the network's parts return"
)
LATER = (
    ": lower lr, or set clip; or see that the network's parts return scales that stay positive, "
    "such as softplus(...) + 1e-3"
)


def fit(
    rule: LearningRule,
    data: Dataset | Loader | BatchLike,
    *,
    epochs: int = 10,
    lr: float | Mapping[str, float] = 1e-3,
    optimizer: str | OptimizerOf = "adam",
    schedule: str | Schedule = "linear",
    batch_size: int | None = None,
    clip: float | None = None,
    average: float | None = None,
    validate: Validate | None = None,
    validate_every: int = 1,
    patience: int | None = None,
    seed: int = 0,
    shards: int | None = None,
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    resume: bool | str = False,
    changed: str | Sequence[str] = (),
    identity: Any = None,
    progress: bool = True,
) -> Fit:
    """Trains ``rule.net`` in place.

    Every random number is a function of ``seed``, the epoch, the batch and the shard: a run that
    was killed and resumed ends with the same bits, and so does one spread over processes.

    A ``ClosedForm`` rule, such as ``EM``, learns from all data as one batch, on the CPU unless
    ``device`` says otherwise, and takes no argument but ``device`` and ``progress``.

    Arguments:
        rule: the learning rule; it holds the network.
        data: a data set, a loader, or sequences in any form that ``data.as_batch`` takes.
            Synthetic data are drawn anew every epoch.
        epochs: passes over the data.
        lr: learning rate, or one for each prefix of parameter names (``""`` is the rest). A rate
            of 0 freezes parameters.
        optimizer: a name in ``OPTIMIZERS``, or a callable that takes parameter groups.
        schedule: a name in ``SCHEDULES``, or a function of the fraction done in [0, 1).
        batch_size: sequences a batch; all when left out. Ignored where ``data`` is a loader.
        clip: largest norm of the whole gradient.
        average: decay of a running average of the weights. Local rules then sweep with the
            average, and the average is validated and returned.
        validate: score of a network after each epoch, the lower the better; its best epoch is
            returned.
        validate_every: validate after every so many epochs, and after the last.
        patience: stop after so many validations in a row without a better score.
        seed: seed of everything random.
        shards: parts that a batch is split into, each with its own random stream. It defaults to
            the number of processes; one process with so many shards gives the same result as
            so many processes.
        device: where to train; the default follows ``accelerate``.
        checkpoint: file written after every epoch.
        resume: go on from ``checkpoint`` if it is there (it must be there for ``"best"``, and
            where ``changed`` is given). It must be of the same run: the same
            rule, network, data and arguments, see ``training.fingerprint``. ``"best"`` goes back to
            the best validated epoch, and starts the optimizer afresh.
        changed: names of arguments that a resumed run may change, of ``clip``, ``epochs``, ``lr``,
            ``patience``, ``schedule`` and ``validate_every``; the result's ``changes`` records
            them. A run that diverged goes on by ``resume="best"``, a lower ``lr`` and
            ``changed=["lr"]``.
        identity: plain data that a resumed run must also have in common with the one that was
            stopped, such as the settings of a loader of your own.
        progress: show a progress bar.

    Returns:
        The trained network with its history: a record an epoch, or an iteration of a rule in
        closed form.

    Warns:
        UserWarning: when each of fewer than 100 epochs made one update, and the loss was still
            falling.

    Raises:
        ValueError: for arguments out of range, arguments that the rule does not use, or data that
            the network cannot take; or from ``validate``, with a word on the weights.
        CheckpointError: when the checkpoint is damaged or of another run; it says how they differ.
        FloatingPointError: when the loss or the weights are no longer finite. The network then has
            its best weights, or those of the last whole epoch.
        OSError: when the disk is full; the checkpoint of the epoch before is kept.
    """
    arguments = dict(locals())
    check_rule(rule)
    check_device(device)
    if isinstance(rule, ClosedForm):
        check_unused(rule, arguments, fit)
        return fit_closed_form(rule, data, device, progress)
    check_arguments(arguments)
    processes = Processes(device, shards)
    loader = loader_of(data, batch_size, seed)
    rule.net.to(processes.device)
    may_change = check_changed(changed, bool(resume) and checkpoint is not None)
    settings: Fingerprint = {}
    if checkpoint is not None:
        rates = rates_of(lr)
        given = arguments | {"shards": processes.shards, "prefixes": list(rates)}
        given["lr"] = rates[""] if list(rates) == [""] else rates
        settings = {
            key: text for name in SHARED for key, text in of_value(name, given[name]).items()
        }
        settings |= of_rule(rule) | of_data(loader)
    state = RunState(rule.net, optimizer_of(rule.net, optimizer, lr), average, settings)
    course = Course(rule, state, processes, schedule_of(schedule), seed, int(epochs), clip)
    back = resume == "best"
    if checkpoint is not None and (back or may_change or (resume and Path(checkpoint).is_file())):
        state.load(checkpoint, processes.device, may_change, back)
    quiet = not (progress and processes.main)
    bar = tqdm(range(state.epoch, epochs), repr(rule), epochs, initial=state.epoch, disable=quiet)
    rule.net.train()
    rule.reference = state.trained
    try:
        for epoch in bar:
            if patience is not None and state.since_best >= patience:
                break
            record = course.epoch(epoch, loader)
            if validate is not None and ((epoch + 1) % validate_every == 0 or epoch + 1 == epochs):
                with RandomStream(processes.device, seed, "validate"):
                    record["validation"] = _score(state.trained, validate, epoch)
            state.note(record)
            bar.set_postfix({k: f"{v:.4g}" for k, v in record.items() if k != "epoch"})
            if checkpoint is not None and processes.main:
                state.save(checkpoint)
    except KeyboardInterrupt:
        state.run.interrupted = True
        kept = checkpoint is not None and state.run.history
        where = f"; {checkpoint} holds them, and the run can go on from there" if kept else ""
        tqdm.write(f"stopped by hand after {len(state.run.history)} whole epochs{where}")
    except Exception as error:
        _stop(state, error, checkpoint)
    finally:
        rule.reference = rule.net
        rule.net.eval()
    state.put_back(state.finite)
    if len(state.run.history) == course.updates and ended_early(state.run.history):
        warnings.warn(
            f"fit made {course.updates} updates, one an epoch, and the loss was still falling: "
            "give more epochs or a smaller batch_size, or the rule a minibatch or window",
            stacklevel=2,
        )
    return state.run


def ended_early(history: Sequence[Mapping[str, float]]) -> bool:
    """Whether a run of 10 to 100 epochs gained more than a tenth of all in its last quarter."""
    losses = [record["loss"] for record in history]
    if not 10 <= len(losses) < FEW:
        return False
    quarter = len(losses) // 4
    before, last = (
        sum(part) / quarter for part in (losses[-2 * quarter : -quarter], losses[-quarter:])
    )
    return before - last > 0.1 * (losses[0] - last) > 0


def _stop(state: RunState, error: Exception, checkpoint: str | Path | None) -> NoReturn:
    """Puts good weights back and raises the error again, with a word on them if they diverged."""
    infinite = isinstance(error, FloatingPointError) or not state.finite
    back = state.put_back(present=not infinite)
    if not (state.moved and (infinite or isinstance(error, Unscored))):
        raise error
    reason = str(error).partition("\n")[0]
    if infinite and not isinstance(error, FloatingPointError):  # a rule that checks its numbers
        reason = f"the weights of epoch {state.epoch} are no longer finite ({reason}){LATER}"
    remedy = ""
    if checkpoint is not None and state.epoch:
        back += f". {checkpoint} holds its last whole epoch"
        remedy = "on" if state.run.best is None else "best"
    kind = Diverged if infinite else Unscored
    raise kind(f"{reason}{back}", remedy, ["lr", "clip"]) from error


class Course:
    """One epoch after the other: gradients by the rule, steps by the optimizer.

    Arguments:
        rule: the rule.
        state: the state of the run.
        processes: run the rule on a batch.
        schedule: factor on the learning rates.
        seed: seed of everything random.
        epochs: epochs of the whole run.
        clip: largest norm of the gradient, or None.
    """

    def __init__(
        self,
        rule: LearningRule,
        state: RunState,
        processes: Processes,
        schedule: Schedule,
        seed: int,
        epochs: int,
        clip: float | None,
    ) -> None:
        self.rule, self.state, self.processes = rule, state, processes
        self.schedule, self.seed, self.epochs, self.clip = schedule, seed, epochs, clip
        self.updates = 0  # made so far
        self.rates: list[float] = [group["lr"] for group in state.optimizer.param_groups]

    def epoch(self, epoch: int, loader: Loader) -> dict[str, float]:
        """Trains on every batch once.

        Returns:
            The record of the epoch: ``epoch``, ``lr``, and the rule's metrics, a mean over frames.

        Raises:
            FloatingPointError: when the loss or the weights are no longer finite.
            ValueError: when the rule made no update, or saw no value.
        """
        totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        for index, batch in enumerate(loader.epoch(epoch)):
            updates = self.processes.updates(self.rule, batch, self.seed, epoch, index)
            count = self.rule.count(batch.rows(slice(0, None, self.processes.shards)))
            for number in itertools.count():
                if number < count:
                    done = epoch + (index + number / count) / len(loader)
                    self._proceed(done / self.epochs)
                if (metrics := next(updates, None)) is None:
                    break
                self._step(metrics, epoch)
                for name, value in metrics.items():
                    weight = 1 if name == "frames" else metrics["frames"]
                    totals[name] = totals[name] + value * weight
        if not totals:
            asked = must_return(self.rule)
            raise ValueError(f"{asked}, but there was no update in epoch {epoch}")
        self._check_loss(totals["loss"], epoch)
        if not self.state.finite:
            raise FloatingPointError(f"the weights after epoch {epoch} are not finite{LATER}")
        frames = totals.pop("frames")
        if not frames:
            raise ValueError(f"no value was seen in epoch {epoch}: leave such sequences out")
        record = {"epoch": epoch, "lr": self.state.optimizer.param_groups[0]["lr"]}
        return record | {name: float(total / frames) for name, total in totals.items()}

    def _proceed(self, done: float) -> None:
        """Sets the fraction of the run that is done, and the learning rates."""
        self.rule.done = done
        factor = factor_of(self.schedule(done), done)
        for group, rate in zip(self.state.optimizer.param_groups, self.rates):
            group["lr"] = rate * factor

    def _step(self, metrics: Metrics, epoch: int) -> None:
        loss = metrics["loss"]
        if loss.device.type == "cpu" or not self.state.moved:  # a GPU is asked once an epoch
            self._check_loss(loss, epoch)
        self.state.step(self.clip)
        self.updates += 1

    def _check_loss(self, loss: Tensor, epoch: int) -> None:
        if not torch.isfinite(loss):
            why = LATER if self.state.moved else AT_ONCE
            raise FloatingPointError(f"the loss of epoch {epoch} is {float(loss)}{why}")


def _score(net: nn.Module, validate: Validate, epoch: int) -> float:
    was_training = net.training
    net.eval()
    try:
        value = validate(net)
    except (ValueError, ArithmeticError) as error:
        raise Unscored(f"validate cannot score the network of epoch {epoch}: {error}") from error
    net.train(was_training)
    return score_of(value)
