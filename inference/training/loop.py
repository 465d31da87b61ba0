"""The one training loop: any rule that fills ``.grad``, on one device or on several processes."""

from __future__ import annotations

import itertools
import math
import numbers
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from ...data import Batch, Dataset, Loader
from ..rng import RandomStream
from ..rules.rule import LearningRule, Metrics
from .processes import joined, split
from .rmsprop import RMSpropNesterov
from .state import Fit, RunState

Validate = Callable[[nn.Module], float]

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": lambda groups: torch.optim.Adam(groups, fused=True),
    "sgd": torch.optim.SGD,
    "momentum": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "nesterov": lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True),
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    # a mean square that starts at 1 begins gently, as in the library of the paper's authors
    "rmsprop-nesterov": lambda groups: RMSpropNesterov(groups, start=1.0),
}

# Factor on the learning rate, as a function of the share of the run that is done.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "late": lambda done: min(1.0, (1.0 - done) / 0.4),
    "late-exponential": lambda done: 0.03 ** (max(0.0, done - 0.3) / 0.7),
}


# What may be wrong where the loss is not finite.
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
    data: Dataset | Batch | Loader,
    *,
    epochs: int = 10,
    lr: float | Mapping[str, float] = 1e-3,
    optimizer: str | Callable = "adam",
    schedule: str | Callable[[float], float] = "linear",
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
    resume: bool = False,
    identity: str = "",
    progress: bool = True,
) -> Fit:
    """Trains ``rule.net`` in place.

    Every random draw is a function of ``seed``, the epoch, the batch and the shard: a run that
    was killed and resumed ends with the same bits, and so does one spread over processes.

    Arguments:
        rule: the learning rule; it holds the network.
        data: a data set, a batch or a loader. Synthetic data are drawn anew every epoch.
        epochs: passes over the data.
        lr: learning rate, or one for each prefix of parameter names (``""`` is the rest).
        optimizer: a name in ``OPTIMIZERS``, or a callable that takes parameter groups.
        schedule: a name in ``SCHEDULES``, or a function of the share done in [0, 1).
        batch_size: sequences a batch; all when left out. Ignored where ``data`` is a loader.
        clip: largest norm of the whole gradient.
        average: decay of a running average of the weights. Local rules then sweep with the
            average, and the average is what is validated and returned.
        validate: score of a network after each epoch, the lower the better; its best epoch is
            returned.
        validate_every: validate after every so many epochs, and after the last.
        patience: stop after so many epochs without a better score.
        seed: seed of everything random.
        shards: parts that a batch is split into, each with its own random stream. It defaults to
            the number of processes; set on one process it gives what so many would have given.
        device: where to train; the default follows ``accelerate``.
        checkpoint: file written after every epoch.
        resume: go on from ``checkpoint`` if it is there.
        identity: any text that a resumed run must have in common with the one that was stopped,
            besides the arguments above, such as the settings of the rule and the network.
        progress: show a progress bar.

    Returns:
        The trained network with its history.

    Raises:
        ValueError: for arguments out of range or data the network cannot take.
        CheckpointError: when the checkpoint is damaged or belongs to other settings.
        FloatingPointError: when the loss is no longer finite.
    """
    check_device(device)
    # accelerate settles on a device once for the whole process: only several processes, which
    # need a matching backend to talk through, may settle it on the CPU.
    on_cpu = device is not None and torch.device(device).type == "cpu"
    accelerator = Accelerator(cpu=on_cpu and int(os.environ.get("WORLD_SIZE", "1")) > 1)
    device = torch.device(device) if device is not None else accelerator.device
    shards = shards or accelerator.num_processes
    _check_kinds(
        "a whole number",
        numbers.Integral,
        epochs=epochs,
        shards=shards,
        validate_every=validate_every,
        **_given(patience=patience, batch_size=batch_size),
    )
    _check_kinds("a number", numbers.Real, **_given(average=average, clip=clip))
    _check(epochs, shards, accelerator.num_processes, average, patience, validate, clip)
    if validate_every < 1:
        raise ValueError(f"validate_every must be at least 1, got {validate_every}")
    if not isinstance(data, (Loader, Dataset, Batch)):
        raise ValueError(
            f"data must be a data set, a Batch or a Loader, got {type(data).__name__}: "
            "data.collate makes a Batch of a list of tensors [T, M], data.Batch of one [B, T, M]"
        )
    loader = data if isinstance(data, Loader) else Loader(data, batch_size, seed=seed)
    factor = _choose(schedule, SCHEDULES, "schedule")
    rule.net.to(device)
    state = RunState(
        rule.net,
        _choose(optimizer, OPTIMIZERS, "optimizer")(_groups(rule.net, lr)),
        average,
        {
            "rule": repr(rule),
            "identity": identity,
            "epochs": int(epochs),
            "seed": seed,
            "shards": int(shards),
            "lr": str(lr),
            "average": str(average),
            "optimizer": _label(optimizer),
            "schedule": _label(schedule),
            "batches": len(loader),
            "clip": str(clip),
            "validate_every": int(validate_every),
        },
    )
    rates = [group["lr"] for group in state.optimizer.param_groups]
    if resume and checkpoint is not None and Path(checkpoint).is_file():
        state.load(checkpoint, device)

    def proceed(done: float) -> None:
        """Sets what depends on the share of the run that is done."""
        rule.done = done
        for group, rate in zip(state.optimizer.param_groups, rates):
            group["lr"] = rate * factor(done)

    def gradients(epoch: int) -> Iterator[Metrics]:
        """The joint gradients of one epoch."""
        for index, batch in enumerate(loader.epoch(epoch)):
            streams = split(rule, batch, accelerator, shards, device, (seed, epoch, index))
            streams = [(_checked(rule, updates), stream) for updates, stream in streams]
            updates = joined(rule.net, streams, accelerator)
            count = rule.count(batch.rows(slice(0, None, shards)))
            for number in itertools.count():
                if number < count:
                    proceed((epoch + (index + number / count) / len(loader)) / epochs)
                if (metrics := next(updates, None)) is None:
                    break
                yield metrics

    main = accelerator.is_main_process
    bar = tqdm(
        range(state.epoch, epochs),
        repr(rule),
        epochs,
        initial=state.epoch,
        disable=not (progress and main),
    )
    rule.net.train()
    rule.reference = state.trained
    untouched = state.epoch == 0  # the weights are those that the network came with
    try:
        for epoch in bar:
            if patience is not None and state.since_best >= patience:
                break
            totals: dict[str, Tensor | float] = defaultdict(float)
            for metrics in gradients(epoch):
                if not torch.isfinite(metrics["loss"]):
                    raise FloatingPointError(
                        f"the loss of epoch {epoch} is {float(metrics['loss'])}"
                        + (AT_ONCE if untouched else LATER)
                    )
                state.step(clip)
                untouched = False
                for name, value in metrics.items():
                    weight = 1 if name == "frames" else metrics["frames"]
                    totals[name] = totals[name] + value * weight
            if not totals:
                raise ValueError(f"{_asked(rule)}, but there was no update in epoch {epoch}")
            frames = totals.pop("frames")
            record = {"epoch": epoch, "lr": state.optimizer.param_groups[0]["lr"]}
            record |= {name: float(total / frames) for name, total in totals.items()}
            due = (epoch + 1) % validate_every == 0 or epoch + 1 == epochs
            if validate is not None and due:
                with RandomStream(device, seed, "validate"):
                    record["validation"] = _score(state.trained, validate)
            state.note(record)
            bar.set_postfix({k: f"{v:.4g}" for k, v in record.items() if k != "epoch"})
            if checkpoint is not None and main:
                state.save(checkpoint)
    except KeyboardInterrupt:
        state.run.interrupted = True
        kept = checkpoint is not None and state.run.history
        where = f"; {checkpoint} holds them, go on with resume=True" if kept else ""
        tqdm.write(f"stopped by hand after {len(state.run.history)} whole epochs{where}")
    finally:
        rule.reference = rule.net
    rule.net.load_state_dict(state.best_weights or state.trained.state_dict())
    rule.net.eval()
    return state.run


def check_device(device: torch.device | str | None) -> None:
    """Raises a ValueError for a device that is not here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"no device '{device}' here: {error}".splitlines()[0]) from error


def _asked(rule: LearningRule) -> str:
    return f"{type(rule).__name__} must return a dictionary with the tensors 'loss' and 'frames'"


def _checked(rule: LearningRule, updates: Iterator[Metrics]) -> Iterator[Metrics]:
    """What a rule yields, or a ValueError where ``fit`` cannot go on with it."""
    for metrics in updates:
        if not isinstance(metrics, Mapping) or not {"loss", "frames"} <= metrics.keys():
            given = list(metrics) if isinstance(metrics, Mapping) else type(metrics).__name__
            raise ValueError(f"{_asked(rule)} (how many are real), got {given}")
        loss, frames = metrics["loss"], metrics["frames"]
        if not isinstance(loss, Tensor):
            raise ValueError(f"{_asked(rule)}: its loss is a {type(loss).__name__}")
        # a count may be a plain number; those of shards are summed as tensors
        plain = not isinstance(frames, Tensor)
        yield {**metrics, "frames": loss.new_tensor(frames)} if plain else metrics


def _score(net: nn.Module, validate: Validate) -> float:
    was_training = net.training
    net.eval()
    value = float(validate(net))
    net.train(was_training)
    return value


def _label(choice) -> str:
    return (
        choice
        if isinstance(choice, str)
        else getattr(choice, "__qualname__", type(choice).__name__)
    )


def _given(**values) -> dict:
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def _check_kinds(wanted: str, kind: type, **values) -> None:
    for name, value in values.items():
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be {wanted}, got {value!r}")


def _check(epochs, shards, processes, average, patience, validate, clip) -> None:
    if shards < 1:
        raise ValueError(f"shards must be at least 1, got {shards}")
    if clip is not None and clip <= 0:
        raise ValueError(f"clip must be positive, got {clip}")
    if patience is not None and patience < 1:
        raise ValueError(f"patience must be at least 1, got {patience}")
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if shards % processes:
        raise ValueError(f"shards ({shards}) must be a multiple of the {processes} processes")
    if average is not None and not 0 <= average < 1:
        raise ValueError(f"average is a decay in [0, 1), got {average}")
    if patience is not None and validate is None:
        raise ValueError("patience needs validate=: a score to be patient about")


def _choose(choice, table: Mapping[str, Callable], name: str) -> Callable:
    if callable(choice):
        return choice
    if choice not in table:
        raise ValueError(f"{name} must be one of {', '.join(table)} or a callable, got {choice!r}")
    return table[choice]


def _groups(net: nn.Module, lr: float | Mapping[str, float]) -> list[dict]:
    """Parameter groups: the longest prefix that fits a parameter's name sets its rate."""
    if not isinstance(lr, (int, float, Mapping)):
        raise ValueError(f"lr must be a number or a number for each prefix, got {lr!r}")
    rates = {"": lr} if isinstance(lr, (int, float)) else dict(lr)
    if any(rate < 0 for rate in rates.values()):
        raise ValueError(f"learning rates cannot be negative: {rates}")
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
