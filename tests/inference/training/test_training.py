"""The training loop: its arithmetic, its checkpoints, and its shards."""

import copy
import itertools
import math
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import accelerate
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from seqzoo.data import PPC, Batch, Loader, collate
from seqzoo.inference.training import checkpoint as checkpoints
from seqzoo.inference.training import optimizers as training
from seqzoo.inference.training import processes
from seqzoo.inference.training.rmsprop import RMSpropNesterov

from seqzoo import inference
from tests.inference.training.helpers import (
    QUIET,
    Failing,
    Squared,
    assert_close,
    assert_same,
    linear,
    refh,
    rvae,
    train,
    train_together,
    two_layers,
    uneven,
    weights,
)


class Energy(inference.FoldedRule):
    """The free energy of a harmonium's data alone: a folded rule without randomness."""

    def loss(self, fold):
        return self.net.free_energy(fold.obs, fold.past).sum()


class Recording(torch.optim.SGD):
    """Keeps the gradients' norm before, and the weights after, every step."""

    def __init__(self, groups):
        super().__init__(groups)
        self.norms, self.weights = [], []

    def step(self, closure=None):
        members = [p for group in self.param_groups for p in group["params"]]
        self.norms.append(float(torch.cat([p.grad.flatten() for p in members]).norm()))
        super().step(closure)
        self.weights.append([p.detach().clone() for p in members])


# Arithmetic -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "make"),
    [
        (linear, Squared),
        (rvae, inference.LocalELBO),
        (rvae, inference.BPTT),
    ],
)
def test_fit_lowers_the_loss(net, make):
    data = uneven() if net is linear else PPC(4, 12).batch()
    fit = train(net(), make, data=data, epochs=60, lr=1e-2)
    losses = [record["loss"] for record in fit.history]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_history_has_one_record_an_epoch():
    fit = train(linear(), Squared, data=uneven(), epochs=3, validate=lambda net: 1.0)
    assert [record["epoch"] for record in fit.history] == [0, 1, 2]
    assert all(record.keys() == {"epoch", "loss", "lr", "validation"} for record in fit.history)
    assert not fit.interrupted


def test_the_loss_in_the_history_is_the_mean_over_real_frames():
    net, data = linear(), uneven()
    fit = train(net, Squared, data=data, epochs=1, lr=0.0, batch_size=2)
    with torch.no_grad():
        assert fit.history[0]["loss"] == pytest.approx(float(Squared(net).error(data).mean()))


@pytest.mark.parametrize(
    ("name", "half", "late"),
    [("constant", 1, 1), ("linear", 0.5, 0.2), ("cosine", 0.5, 0.0954915), ("late", 1, 0.5)],
)
def test_schedules(name, half, late):
    factor = training.SCHEDULES[name]
    assert factor(0.0) == 1
    assert factor(0.5) == pytest.approx(half)
    assert factor(0.8) == pytest.approx(late)


def test_the_rate_follows_the_share_of_the_run_batch_by_batch():
    seen = []

    def schedule(done):
        seen.append(done)
        return 1 - done

    fit = train(linear(), Squared, data=uneven(), batch_size=2, lr=0.4, schedule=schedule)
    assert seen == [0, 0.25, 0.5, 0.75]
    assert [record["lr"] for record in fit.history] == pytest.approx([0.3, 0.1])


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("sgd", torch.optim.SGD),
        ("momentum", lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)),
        ("nesterov", lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, nesterov=True)),
        ("adam", torch.optim.Adam),
        ("adam-short", lambda p, lr: torch.optim.Adam(p, lr=lr, betas=(0.9, 0.98))),
        ("adagrad", torch.optim.Adagrad),
        ("rmsprop", torch.optim.RMSprop),
        ("rmsprop-nesterov", lambda p, lr: RMSpropNesterov(p, lr=lr, start=1.0)),
    ],
)
def test_optimizers_match_torch_driven_by_hand(name, optimizer):
    fitted, by_hand, data = linear(), linear(), uneven()
    train(fitted, Squared, data=data, epochs=5, lr=0.02, optimizer=name, schedule="linear")
    plain = optimizer(by_hand.parameters(), lr=0.02)
    for epoch in range(5):
        plain.param_groups[0]["lr"] = 0.02 * (1 - epoch / 5)
        plain.zero_grad()
        Squared(by_hand).error(data).mean().backward()
        plain.step()
    assert not torch.equal(fitted.weight, linear().weight)
    (assert_close if name.startswith("adam") else assert_same)(weights(fitted), weights(by_hand))


def test_every_optimizer_is_tested_above():
    names = {"sgd", "momentum", "nesterov", "adam", "adam-short", "adagrad", "rmsprop"}
    assert set(training.OPTIMIZERS) == names | {"rmsprop-nesterov"}


def test_the_longest_prefix_sets_the_rate():
    net, data = two_layers(), uneven()
    start = weights(net)
    rates = {"": 0.1, "0.": 0.0, "0.bias": 0.05}
    train(net, Squared, data=data, epochs=1, lr=rates, optimizer="sgd")
    by_hand = two_layers()
    Squared(by_hand).error(data).mean().backward()
    assert torch.equal(net[0].weight, start["0.weight"])
    torch.testing.assert_close(net[0].bias, start["0.bias"] - 0.05 * by_hand[0].bias.grad)
    torch.testing.assert_close(net[1].weight, start["1.weight"] - 0.1 * by_hand[1].weight.grad)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"": 0.1, "decoder": 0.2}, "no parameter's name starts with 'decoder'"),
        ({"0.": 0.1}, "no learning rate for 1.weight"),
        ({"": -0.1}, "lr of '' must be at least 0"),
        ({"": 0.1, "0.": True}, "lr of '0.' must be a finite number"),
        ({"": float("nan")}, "must be a finite number"),
    ],
)
def test_rates_that_do_not_fit_the_network(rates, message):
    with pytest.raises(ValueError, match=message):
        train(two_layers(), Squared, data=uneven(), lr=rates)


def test_clip_bounds_the_norm_of_the_applied_gradient():
    def norms(clip):
        made = []
        train(
            two_layers(),
            Squared,
            data=uneven(),
            epochs=4,
            optimizer=lambda groups: made.append(Recording(groups)) or made[0],
            clip=clip,
        )
        return made[0].norms

    assert min(norms(None)) > 0.5
    assert norms(0.5) == pytest.approx([0.5] * 4, rel=1e-4)


def test_the_average_is_the_exponential_one_over_all_updates():
    net, made = rvae(), []
    train(
        net,
        lambda net: inference.LocalELBO(net, minibatch=16),
        epochs=3,
        lr=0.005,
        average=0.7,
        optimizer=lambda groups: made.append(Recording(groups)) or made[0],
    )
    average = made[0].weights[0]
    for update in made[0].weights[1:]:
        average = [0.7 * old + 0.3 * new for old, new in zip(average, update)]
    assert len(made[0].weights) == 9
    for parameter, by_hand, last in zip(net.parameters(), average, made[0].weights[-1]):
        torch.testing.assert_close(parameter.detach(), by_hand)
        assert not torch.equal(parameter, last)


def test_the_sweep_uses_the_average():
    data, made, seen = PPC(4, 12).batch(), [], []

    class Watching(inference.LocalELBO):
        def loss(self, fold):
            assert self.reference is not self.net
            seen.append(fold.past.clone())
            return super().loss(fold)

    net = rvae()
    rule = Watching(net)
    copied = copy.deepcopy(net)
    average = [p.detach().clone() for p in net.parameters()]
    inference.fit(
        rule,
        data,
        epochs=4,
        lr=0.005,
        average=0.5,
        optimizer=lambda groups: made.append(Recording(groups)) or made[0],
        **QUIET,
    )
    assert rule.reference is rule.net
    for number, past in enumerate(seen):
        with torch.no_grad():
            for parameter, value in zip(copied.parameters(), average):
                parameter.copy_(value)
            swept = inference.sweep(copied, data, copied.initial(4)).statistics[:, :-1]
        torch.testing.assert_close(past, swept.flatten(0, 1), rtol=1e-5, atol=1e-6)
        update = made[0].weights[number]
        average = [(a + b) / 2 for a, b in zip(average, update)] if number else update


def test_the_reference_is_reset_after_an_error():
    rule = inference.LocalELBO(rvae())
    data = Failing(PPC(4, 12), batch_size=2, at=0, error=RuntimeError("out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        inference.fit(rule, data, average=0.9, **QUIET)
    assert rule.reference is rule.net


# Validation -----------------------------------------------------------------------------------


def test_the_best_validated_weights_are_returned():
    scores, snapshots = iter([3.0, 1.0, 2.0, 1.5]), []

    def validate(net):
        assert not net.training
        snapshots.append(weights(net))
        return next(scores)

    net = linear()
    fit = train(net, Squared, data=uneven(), epochs=4, lr=0.1, validate=validate)
    assert fit.best["epoch"] == 1
    assert fit.best["validation"] == 1.0
    assert_same(weights(net), snapshots[1])
    assert not torch.equal(snapshots[1]["weight"], snapshots[3]["weight"])


def test_the_average_is_what_is_validated():
    snapshots = []
    net = linear()
    made = []
    train(
        net,
        Squared,
        data=uneven(),
        epochs=2,
        average=0.5,
        optimizer=lambda groups: made.append(Recording(groups)) or made[0],
        validate=lambda net: snapshots.append(weights(net)) or 1.0,
    )
    first, second = (update[0] for update in made[0].weights)
    torch.testing.assert_close(snapshots[1]["weight"], (first + second) / 2)


def test_patience_stops_after_so_many_epochs_without_a_better_score():
    scores = iter([3.0, 2.0, 4.0, 2.0, 1.0, 0.0])
    fit = train(
        linear(), Squared, data=uneven(), epochs=6, patience=2, validate=lambda _: next(scores)
    )
    assert [record["validation"] for record in fit.history] == [3, 2, 4, 2]
    assert fit.best["epoch"] == 1


def test_patience_counts_validations_not_epochs():
    scores = iter([3.0, 2.0, 4.0, 5.0, 0.0])
    fit = train(
        linear(),
        Squared,
        data=uneven(),
        epochs=50,
        patience=2,
        validate_every=10,
        validate=lambda _: next(scores),
    )
    assert len(fit.history) == 40
    assert (fit.best["epoch"], fit.best["validation"]) == (19, 2.0)


@pytest.mark.parametrize(
    ("every", "scored"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (3, [2, 4]), (9, [4])]
)
def test_validation_after_every_so_many_epochs_and_after_the_last(every, scored):
    scores = iter([3.0, 1.0, 2.0, 4.0, 5.0])
    fit = train(
        linear(),
        Squared,
        data=uneven(),
        epochs=5,
        validate=lambda _: next(scores),
        validate_every=every,
    )
    assert [record["epoch"] for record in fit.history if "validation" in record] == scored
    assert len(fit.history) == 5
    assert fit.best["epoch"] == scored[min(1, len(scored) - 1)]
    assert fit.best["validation"] == (1.0 if len(scored) > 1 else 3.0)


def test_a_resumed_run_validates_at_the_same_epochs(tmp_path):
    def run(at, **how):
        net, seen = linear(), []
        fit = train(
            net,
            Squared,
            data=Failing(uneven(), 2, at=at, error=KeyboardInterrupt()),
            epochs=5,
            validate=lambda net: seen.append(1) or net.weight.detach().norm(),
            validate_every=2,
            checkpoint=tmp_path / "run.pt",
            **how,
        )
        return fit, weights(net), len(seen)

    whole, expected, scored = run(None)
    assert scored == 3
    stopped, _, before = run(at=3)
    assert stopped.interrupted
    resumed, found, after = run(None, resume=True)
    assert before + after == scored
    assert resumed.history == whole.history
    assert resumed.best == whole.best
    assert_same(found, expected)


def test_a_score_that_is_not_a_number_is_no_better():
    scores = iter([float("nan"), 2.0, 1.0, float("nan")])
    how = {"data": uneven(), "epochs": 4, "validate": lambda _: next(scores)}
    fit = train(linear(), Squared, **how)
    assert (fit.best["epoch"], fit.best["validation"]) == (2, 1.0)


# Kill and resume ------------------------------------------------------------------------------

RULES = {
    "minibatch": (rvae, lambda net: inference.LocalELBO(net, minibatch=16), {}),
    "online": (rvae, lambda net: inference.LocalELBO(net, window=1), {}),
    "contrastive": (refh, inference.ContrastiveDivergence, {"optimizer": "momentum"}),
    "averaged": (rvae, inference.LocalELBO, {"average": 0.9, "optimizer": "rmsprop"}),
    "validated": (rvae, inference.LocalELBO, {"average": 0.9, "validate": True, "clip": 1.0}),
    "fixed data, shards": (rvae, inference.LocalELBO, {"shards": 2, "data": "batch"}),
}


def distance_from_start(net):
    start = rvae()
    pairs = zip(net.parameters(), start.parameters())
    noise = torch.rand(())
    return float(sum((a - b).square().sum() for a, b in pairs).detach() + noise)


@pytest.mark.parametrize(
    ("case", "error"),
    [*((case, KeyboardInterrupt()) for case in RULES), ("averaged", RuntimeError("killed"))],
    ids=[*RULES, "averaged, killed"],
)
def test_a_killed_and_resumed_run_ends_with_the_same_bits(case, error, tmp_path):
    build, make, how = RULES[case]
    how = dict(how)
    if how.pop("validate", False):
        how["validate"] = distance_from_start
    data = PPC(4, 6).batch() if how.pop("data", None) else PPC(4, 6)
    how |= {"epochs": 6, "lr": 0.01, "checkpoint": tmp_path / "run.pt", **QUIET}

    whole = build(seed=1)
    expected = inference.fit(make(whole), Loader(data, 2), **{**how, "checkpoint": None})

    killed = make(build(seed=1))
    failing = Failing(data, 2, at=3, error=error)
    if isinstance(error, KeyboardInterrupt):
        stopped = inference.fit(killed, failing, **how)
        assert stopped.interrupted
        assert len(stopped.history) == 3
    else:
        with pytest.raises(RuntimeError, match="killed"):
            inference.fit(killed, failing, **how)
    assert checkpoints.load_checkpoint(tmp_path / "run.pt")["epoch"] == 3

    resumed = build(seed=2)
    assert not torch.equal(next(whole.parameters()), next(resumed.parameters()))
    obtained = inference.fit(make(resumed), Loader(data, 2), resume=True, **how)
    assert_same(weights(resumed), weights(whole))
    assert obtained.history == expected.history
    assert obtained.best == expected.best
    assert not obtained.interrupted
    assert os.listdir(tmp_path) == ["run.pt"]


def test_data_drawn_from_the_global_generator_go_on_too(tmp_path):
    class Noisy(Failing):
        def epoch(self, number):
            for batch in super().epoch(number):
                yield Batch(batch.obs + torch.randn_like(batch.obs), batch.mask)

    def run(seed, at, **how):
        net = linear()
        torch.manual_seed(seed)
        data = Noisy(uneven(), 2, at=at, error=KeyboardInterrupt())
        train(net, Squared, data=data, epochs=6, checkpoint=tmp_path / "run.pt", **how)
        return weights(net)

    whole = run(1, at=None)
    run(1, at=3)
    assert_same(run(2, at=None, resume=True), whole)
    assert not torch.equal(run(2, at=None)["weight"], whole["weight"])


def test_patience_survives_a_kill(tmp_path):
    def run(scores, data, **how):
        scores = iter(scores)
        return train(
            linear(),
            Squared,
            data=data,
            epochs=8,
            patience=3,
            validate=lambda _: next(scores),
            checkpoint=tmp_path / "run.pt",
            **how,
        )

    stopped = run([1.0, 2.0, 3.0], Failing(uneven(), 2, at=3, error=KeyboardInterrupt()))
    assert stopped.interrupted
    fit = run([4.0, 5.0, 6.0], Loader(uneven(), 2), resume=True)
    assert [record["validation"] for record in fit.history] == [1, 2, 3, 4]
    assert fit.best["epoch"] == 0


def test_a_process_killed_by_the_system_is_resumed_to_the_same_bits(tmp_path, forked):
    how = {"epochs": 6, "lr": 0.01, "average": 0.9}

    def make(net):
        return inference.LocalELBO(net, minibatch=16)

    def killed():
        updates, count = inference.LocalELBO.updates, itertools.count(1)

        def deadly(self, batch):
            for metrics in updates(self, batch):
                if next(count) == 11:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield metrics

        inference.LocalELBO.updates = deadly  # in the copy of this process alone
        train(rvae(), make, checkpoint=tmp_path / "run.pt", **how)

    whole, resumed = rvae(), rvae(seed=1)
    expected = train(whole, make, **how)
    assert forked(killed) == [-signal.SIGKILL]
    assert checkpoints.load_checkpoint(tmp_path / "run.pt")["epoch"] == 3
    obtained = train(resumed, make, checkpoint=tmp_path / "run.pt", resume=True, **how)
    assert_same(weights(resumed), weights(whole))
    assert obtained.history == expected.history


def test_a_finished_run_is_returned_as_it_was(tmp_path):
    first, again = linear(), linear(seed=5)
    how = {"data": uneven(), "checkpoint": tmp_path / "run.pt"}
    expected = train(first, Squared, **how)
    obtained = train(again, Squared, resume=True, **how)
    assert_same(weights(first), weights(again))
    assert obtained.history == expected.history


def test_without_resume_a_checkpoint_is_ignored(tmp_path):
    path = tmp_path / "new" / "run.pt"
    first, again = linear(), linear()
    train(first, Squared, data=uneven(), checkpoint=path)
    train(again, Squared, data=uneven(), checkpoint=path)
    assert_same(weights(first), weights(again))
    assert not torch.equal(first.weight, linear().weight)


def test_resume_without_a_checkpoint_starts_anew(tmp_path):
    first, again = linear(), linear()
    train(first, Squared, data=uneven())
    train(again, Squared, data=uneven(), checkpoint=tmp_path / "run.pt", resume=True)
    assert_same(weights(first), weights(again))


# Shards and processes -------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [2, 4])
def test_shards_of_unequal_lengths_equal_the_joined_batch(shards):
    joined, split, unweighted = linear(), linear(), linear()
    how = {"data": uneven(), "epochs": 5, "lr": 0.05, "optimizer": "sgd"}
    one = train(joined, Squared, **how)
    many = train(split, Squared, shards=shards, **how)
    assert_close(weights(joined), weights(split))
    assert [r["loss"] for r in many.history] == pytest.approx([r["loss"] for r in one.history])

    class Unweighted(Squared):
        def gradients(self, batch):
            return {**super().gradients(batch), "frames": torch.tensor(1.0)}

    train(unweighted, Unweighted, shards=shards, **how)
    assert not torch.allclose(joined.weight, unweighted.weight, atol=1e-3)


@pytest.mark.parametrize("shards", [1, 2])
def test_a_rule_may_count_in_plain_numbers(shards):
    class Plain(Squared):
        def gradients(self, batch):
            metrics = super().gradients(batch)
            return {**metrics, "frames": int(metrics["frames"])}

    plain, tensors = linear(), linear()
    how = {"data": uneven(), "shards": shards, "optimizer": "sgd"}
    assert train(plain, Plain, **how).history == train(tensors, Squared, **how).history
    assert_same(weights(plain), weights(tensors))


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda metrics: metrics.pop("frames"), r"'loss' and 'frames'.* got \['loss'\]"),
        (lambda metrics: metrics.pop("loss"), r"'loss' and 'frames'.* got \['frames'\]"),
        (lambda metrics: metrics.update(loss=1.0), "its loss is a float"),
    ],
)
def test_a_rule_must_tell_its_loss_and_frames(change, complaint, shards):
    class Silent(Squared):
        def gradients(self, batch):
            metrics = super().gradients(batch)
            change(metrics)
            return metrics

    net = linear()
    with pytest.raises(ValueError, match=f"Silent must return .*{complaint}"):
        train(net, Silent, data=uneven(), shards=shards)
    assert_same(weights(net), weights(linear()))


@pytest.mark.parametrize("window", [None, 4, 1])
def test_shards_whose_sequences_have_ended_wait_for_the_others(window):
    counts = PPC(4, 12).obs
    data = collate([counts[0], counts[1, :2], counts[2, :9], counts[3, :5]])
    joined, split = refh(), refh()

    def make(net):
        return Energy(net, window=window)

    train(joined, make, data=data, lr=1e-3, optimizer="sgd")
    train(split, make, data=data, lr=1e-3, optimizer="sgd", shards=2)
    assert not torch.equal(joined.obs_weight, refh().obs_weight)
    assert_close(weights(joined), weights(split))


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def variables(rank):
    """What torchrun tells the process of a rank, of two on a machine without a GPU."""
    return {
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
        **{"MASTER_ADDR": "127.0.0.1", "CUDA_VISIBLE_DEVICES": ""},
    }


@pytest.mark.parametrize("device", [None, "cpu"])
def test_two_processes_equal_one(device, tmp_path, forked):
    """Without a GPU the processes also find one another where no device is named."""
    port = str(free_port())

    def rank(number):
        os.environ.update({**variables(number), "MASTER_PORT": port})
        AcceleratorState._reset_state(reset_partial_state=True)  # of the process that was forked
        train_together(tmp_path, device)

    assert forked(lambda: rank(0), lambda: rank(1)) == [0, 0]
    check_together(tmp_path)


@pytest.mark.slow
def test_processes_of_torchrun_equal_one(tmp_path):
    program = (
        "from tests.inference.training.helpers import train_together; "
        f"train_together({str(tmp_path)!r}, None)"
    )
    script = tmp_path / "both.py"
    script.write_text(program)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": root}
    subprocess.run([sys.executable, *launch, script], env=environment, check=True, timeout=120)
    check_together(tmp_path)


def check_together(folder):
    """Checks that both ranks learned what one process learns of two shards."""
    one = rvae()
    fit = train(
        one,
        lambda net: inference.LocalELBO(net, minibatch=16),
        epochs=3,
        lr=0.01,
        batch_size=2,
        average=0.9,
        shards=2,
    )
    for rank in (0, 1):
        obtained, history, refused = torch.load(folder / f"rank{rank}", weights_only=True)
        assert_close(weights(one), obtained)
        losses = [record["loss"] for record in fit.history]
        assert [record["loss"] for record in history] == pytest.approx(losses, rel=1e-5)
        assert "shards (3) must be a multiple of the 2 processes" in refused
    assert (folder / "rank0.checkpoint").exists()
    assert not (folder / "rank1.checkpoint").exists()


@pytest.mark.parametrize("named", [None, "cuda"])
def test_more_processes_than_accelerators_are_refused(named, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    with pytest.raises(ValueError, match=r"2 processes .* 1 accelerator"):
        processes.Processes(named)


def test_processes_that_do_not_find_one_another_stop(monkeypatch):
    alone = SimpleNamespace(num_processes=1, is_main_process=True, device=torch.device("cpu"))
    monkeypatch.setattr(accelerate, "Accelerator", lambda cpu: alone)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes train together, and accelerate finds 1"):
        train(linear(), Squared, data=uneven())


# Randomness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["minibatch", "online", "contrastive"])
def test_the_seed_decides_the_weights(case):
    build, make, _ = RULES[case]
    nets = [build() for _ in range(3)]
    batch = PPC(4, 12).batch()
    for state, (net, seed) in enumerate(zip(nets, (3, 3, 4))):
        torch.manual_seed(state)
        train(net, make, seed=seed, data=batch, lr=0.01)
    assert_same(weights(nets[0]), weights(nets[1]))
    assert any(not torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[2].parameters()))


def test_every_shard_batch_and_epoch_has_its_own_noise():
    def draws(seed):
        drawn = []

        class Drawing(Squared):
            def gradients(self, batch):
                drawn.append(float(torch.randn((), dtype=torch.float64)))
                return super().gradients(batch)

        train(linear(), Drawing, data=uneven(), batch_size=2, shards=2, seed=seed)
        return drawn

    assert len(set(draws(0))) == len(draws(0)) == 8
    assert draws(0) == draws(0)
    assert not set(draws(0)) & set(draws(1))


def test_unequal_keys_have_unrelated_streams():
    keys = [(0,), (0, 3), (0, 3, 0), (0, 3, 0, 0), (3, 0), (0, "3"), (2**32, 3), (0, 1, 3)]
    draws = set()
    for key in keys:
        with inference.RandomStream("cpu", *key):
            draws.add(float(torch.randn((), dtype=torch.float64)))
    assert len(draws) == len(keys)


def test_the_callers_random_state_is_left_alone():
    net = rvae()
    before = torch.get_rng_state()
    train(
        net,
        lambda net: inference.LocalELBO(net, minibatch=16),
        batch_size=2,
        average=0.9,
        validate=lambda net: float(torch.rand(())),
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_an_error_in_a_rule_leaves_the_callers_random_state_alone():
    class Broken(Squared):
        def gradients(self, batch):
            raise RuntimeError(f"drew {torch.rand(())}")

    net = linear()
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="drew"):
        train(net, Broken, data=uneven())
    assert torch.equal(torch.get_rng_state(), before)


# Divergence -----------------------------------------------------------------------------------


class Exploding(Squared):
    """Has an infinite loss, or raises an error, after ``at`` updates."""

    def __init__(self, net, at, error=None):
        super().__init__(net)
        self.at, self.stop = at, error

    def gradients(self, batch):
        metrics = super().gradients(batch)
        self.at -= 1
        if self.at < 0:
            if self.stop is not None:
                raise self.stop
            metrics["loss"] = torch.tensor(math.inf)
        return metrics


def weight(net):
    return float(net.weight.detach().norm())


def test_a_loss_that_is_not_finite_stops_the_run():
    net = linear()
    with pytest.raises(FloatingPointError, match=r"lower lr.*The network again has the weights"):
        train(net, Squared, data=uneven(), epochs=9, lr=1e30, optimizer="sgd")
    assert all(torch.isfinite(each).all() for each in net.parameters())


@pytest.mark.parametrize(
    "error", [None, FloatingPointError("overflow"), RuntimeError("lost")], ids=repr
)
@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("average", [None, 0.5])
def test_after_an_error_the_network_has_its_best_weights_or_the_last(error, validate, average):
    scores, seen = iter([3.0, 1.0, 2.0, 2.0]), []

    def score(net):
        seen.append(weights(net))
        return next(scores)

    net, whole = linear(), linear()
    how = {"data": uneven(), "average": average, "lr": 0.1, "schedule": "constant"}
    caught = RuntimeError if isinstance(error, RuntimeError) else FloatingPointError
    with pytest.raises(caught) as raised:
        train(
            net,
            lambda net: Exploding(net, 4, error),
            epochs=9,
            validate=score if validate else None,
            **how,
        )
    train(whole, Squared, epochs=4, **how)
    assert_same(weights(net), seen[1] if validate else weights(whole))
    assert not net.training
    if caught is FloatingPointError:
        which = r"best weights: epoch 1, validation 1\b" if validate else "last whole epoch, 3$"
        assert re.search(which, str(raised.value))


def test_weights_that_are_not_finite_after_the_last_update_are_not_returned(tmp_path):
    net = linear()
    how = {"data": uneven(), "epochs": 1, "lr": 1e38, "optimizer": Huge}
    with pytest.raises(FloatingPointError, match="weights after epoch 0 are not finite"):
        train(net, Squared, checkpoint=tmp_path / "run.pt", **how)
    assert_same(weights(net), weights(linear()))
    assert not os.listdir(tmp_path)


class Huge(torch.optim.SGD):
    """Takes ten steps at once."""

    def step(self, closure=None):
        for _ in range(10):
            super().step(closure)


def test_a_rule_that_checks_its_numbers_first_is_stopped_likewise():
    class Checking(Squared):
        def gradients(self, batch):
            if not all(torch.isfinite(each).all() for each in self.net.parameters()):
                raise ValueError("expected a real location")
            return super().gradients(batch)

    net = linear()
    with pytest.raises(FloatingPointError, match=r"epoch 0 are no longer finite \(expected a real"):
        train(net, Checking, data=uneven(), batch_size=2, lr=1e38, optimizer=Huge)
    assert_same(weights(net), weights(linear()))


@pytest.mark.parametrize("average", [None, 0.5])
def test_a_run_that_diverged_goes_on_from_its_best_weights(average, tmp_path):
    path = tmp_path / "run.pt"

    def run(net, lr, epochs=6, **more):
        how = {"optimizer": "momentum", "schedule": "constant", "average": average}
        how |= {"data": uneven(), "epochs": epochs, "lr": lr, "validate": weight, **more}
        return train(net, Squared, **how)

    net, best, on = linear(), linear(), linear()
    with pytest.raises(FloatingPointError, match=r"run\.pt .*resume='best' and changed=\['lr'"):
        run(net, 1e9, epochs=60, checkpoint=path)
    saved = checkpoints.load_checkpoint(path)
    last, first = saved["epoch"], saved["best"]["epoch"] + 1
    assert first < last
    run(best, 1e9, epochs=first)
    assert_same(weights(net), weights(best))
    how = {"checkpoint": path, "resume": "best", "changed": ["lr", "epochs"]}
    fit = run(on, 0.01, epochs=first + 3, **how)
    assert len(fit.history) == first + 3
    assert fit.history[-1]["loss"] < fit.history[first]["loss"]
    assert {change["setting"] for change in fit.changes} == {"lr", "epochs", "weights"}
    assert {change["epoch"] for change in fit.changes} == {first}
    if average is None:
        run(best, 0.01, epochs=3)
        assert_same(weights(on), weights(best))
    again = run(linear(), 0.01, epochs=first + 3, checkpoint=path, resume=True)
    assert again.history == fit.history


@pytest.mark.parametrize("scored", [0, 2])
def test_a_score_that_fails_leaves_what_was_learned(scored, tmp_path):
    def score(net):
        if len(seen) == scored:
            raise ValueError("rates must be finite")
        seen.append(weights(net))
        return -len(seen)

    net, whole, seen = linear(), linear(), []
    how = {"data": uneven(), "schedule": "constant"}
    where = "best weights: epoch 1.*resume='best'" if scored else "must be finite$"
    with pytest.raises(ValueError, match=f"validate cannot score .* epoch {scored}: .*{where}"):
        train(net, Squared, epochs=5, validate=score, checkpoint=tmp_path / "run.pt", **how)
    train(whole, Squared, epochs=max(scored, 1), **how)
    assert_same(weights(net), weights(whole))


def test_going_back_needs_a_best_epoch(tmp_path):
    how = {"data": uneven(), "checkpoint": tmp_path / "run.pt"}
    for more in ({"resume": "best"}, {"resume": True, "changed": "lr"}):
        with pytest.raises(inference.CheckpointError, match="no checkpoint at"):
            train(linear(), Squared, **how, **more)
    train(linear(), Squared, **how)
    with pytest.raises(inference.CheckpointError, match="no best epoch"):
        train(linear(), Squared, resume="best", **how)


# Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"epochs": "abc"}, "epochs must be a whole number, got 'abc'"),
        ({"epochs": None}, "epochs must be a whole number"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"shards": 1.0}, "shards must be a whole number"),
        ({"validate_every": "2"}, "validate_every must be a whole number"),
        ({"patience": "2"}, "patience must be a whole number"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"clip": "tight"}, "clip must be a finite number"),
        ({"clip": math.inf}, "clip must be a finite number"),
        ({"clip": math.nan}, "clip must be a finite number"),
        ({"clip": True}, "clip must be a finite number"),
        ({"average": "long"}, "average must be a finite number"),
        ({"device": "warp"}, "no device 'warp' here"),
        ({"average": 1.5}, "average must be"),
        ({"average": 1.0}, "average must be"),
        ({"shards": 3}, "a batch of 4 sequences cannot be split evenly into 3 shards"),
        ({"shards": -1}, "shards"),
        ({"optimizer": "adamw"}, "optimizer must be one of adam, sgd"),
        ({"schedule": "step"}, "schedule must be one of constant"),
        ({"schedule": lambda done: math.nan}, "schedule must return a finite number"),
        ({"schedule": lambda done: None}, "schedule must return a finite number"),
        ({"schedule": lambda done: -1.0}, "schedule must return a finite number"),
        ({"patience": 2}, "patience needs validate"),
        ({"patience": 0, "validate": lambda net: 0.0}, "patience"),
        ({"validate_every": 0, "validate": lambda net: 0.0}, "validate_every must be at least 1"),
        ({"resume": "last"}, "resume must be True, False or 'best'"),
        ({"validate": uneven()}, "validate must be a function of the network.* got a Batch"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"clip": -1.0}, "clip"),
        ({"lr": -1.0}, "lr must be at least 0"),
        ({"lr": math.nan}, "lr must be a finite number"),
        ({"lr": math.inf}, "lr must be a finite number"),
        ({"lr": True}, "lr must be a finite number"),
        ({"lr": "1e-3"}, "lr must be a finite number"),
        ({"checkpoint": "."}, "checkpoint must be a file"),
        ({"checkpoint": b"run.pt"}, "checkpoint must be the path of a file"),
        ({"checkpoint": "x" * 300}, "checkpoint cannot be written"),
        ({"changed": 1}, "changed must be a list"),
        ({"device": "meta"}, "no values"),
        ({"optimizer": lambda groups: None}, "optimizer must return"),
        ({"checkpoint": __file__ + "/run.pt"}, "is a file, not a folder"),
    ],
)
def test_arguments_out_of_range(change, message):
    net = linear()
    with pytest.raises(ValueError, match=message):
        train(net, Squared, data=uneven(), **change)
    assert torch.equal(net.weight, linear().weight)


@pytest.mark.parametrize("score", [None, "low", torch.zeros(3), [1.0]])
def test_a_score_is_one_number(score):
    with pytest.raises(ValueError, match="validate must return one number"):
        train(linear(), Squared, data=uneven(), validate=lambda net: score)


def test_fit_takes_a_rule_and_not_a_network():
    with pytest.raises(ValueError, match=r"fit takes a learning rule .* got a Linear"):
        train(linear(), lambda net: net, data=uneven())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda:0", torch.device("cuda", 0)])
def test_a_device_that_is_not_here(device):
    with pytest.raises(ValueError, match=r"no device 'cuda:0' here: .*(CUDA|NVIDIA)"):
        train(linear(), Squared, data=uneven(), device=device)


def test_whole_numbers_of_numpy_are_taken():
    one, other = linear(), linear()
    train(one, Squared, data=uneven(), epochs=2, clip=1.0)
    train(other, Squared, data=uneven(), epochs=np.int64(2), clip=np.float32(1.0))
    assert_same(weights(one), weights(other))


@pytest.mark.parametrize("make", [inference.LocalELBO, inference.ContrastiveDivergence])
@pytest.mark.parametrize(
    ("bad", "message"), [(-1.0, "negative"), (float("nan"), "NaN"), (0.5, "whole numbers")]
)
def test_data_that_are_no_counts(make, bad, message):
    net = rvae() if make is inference.LocalELBO else refh()
    obs = PPC(4, 12).obs.clone()
    obs[2, 3, 4] = bad
    start = weights(net)
    with pytest.raises(ValueError, match=message):
        train(net, make, data=Batch(obs))
    assert_same(weights(net), start)


def test_bad_values_in_padding_are_no_matter():
    obs = PPC(4, 12).obs.clone()
    mask = torch.ones(4, 12, dtype=torch.bool)
    mask[:, 8:] = False
    clean, dirty = rvae(), rvae()
    train(clean, data=Batch(obs, mask))
    obs[:, 8:] = float("nan")
    train(dirty, data=Batch(obs, mask))
    assert_same(weights(clean), weights(dirty))


# Alignment ------------------------------------------------------------------------------------


def test_a_rule_is_aligned_with_itself():
    net = rvae()
    cosines = inference.alignment(
        inference.LocalELBO(net), inference.LocalELBO(net), PPC(4, 12).batch()
    )
    assert cosines.keys() == {*dict(net.named_parameters()), "all"}
    assert list(cosines.values()) == pytest.approx([1.0] * len(cosines), abs=1e-6)


def test_the_local_rule_leaves_out_a_part_of_the_recognition_gradient_alone():
    net = rvae()
    local, full = inference.LocalELBO(net), inference.BPTT(net)
    before = torch.get_rng_state()
    cosines = inference.alignment(local, full, PPC(4, 12).batch())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in net.parameters())
    for name, cosine in cosines.items():
        if "decoder" in name:
            assert cosine == pytest.approx(1.0, abs=1e-6), name
        else:
            assert -1 <= cosine < 0.9999, name
    assert 0 < cosines["all"] < 0.9999


def test_alignment_is_the_cosine_of_the_gradients():
    net, batch = two_layers(), uneven()

    class Linear(Squared):
        def error(self, batch):
            return self.net(batch.obs).sum(-1)[batch.mask]

    gradients = []
    for rule in (Squared(net), Linear(net)):
        rule.gradients(batch)
        gradients.append(net[0].weight.grad.flatten().clone())
    a, b = gradients
    expected = float(a @ b / (a.norm() * b.norm()))
    cosines = inference.alignment(Squared(net), Linear(net), batch)
    assert cosines["0.weight"] == pytest.approx(expected, abs=1e-6)
    assert abs(expected) < 0.99


def test_a_gradient_of_zero_has_no_direction():
    net, batch = two_layers(), uneven()

    class First(Squared):
        def error(self, batch):
            return self.net[0](batch.obs).sum(-1)[batch.mask]

    cosines = inference.alignment(Squared(net), First(net), batch)
    assert math.isnan(cosines["1.weight"])
    assert -1 <= cosines["0.weight"] <= 1
    assert -1 <= cosines["all"] <= 1


def test_alignment_needs_one_network():
    with pytest.raises(ValueError, match="two networks"):
        inference.alignment(Squared(linear()), Squared(linear()), uneven())


@pytest.mark.parametrize(
    ("lr", "batch_size", "warns"), [(1e-3, None, 1), (0.5, None, 0), (1e-3, 2, 0)]
)
def test_a_run_of_few_updates_that_ended_too_early_is_told(lr, batch_size, warns, recwarn):
    net = linear()
    inference.fit(Squared(net), uneven(), epochs=20, lr=lr, batch_size=batch_size, **QUIET)
    told = [each for each in recwarn if "still falling" in str(each.message)]
    assert len(told) == warns
    if warns:
        assert "20 updates" in str(told[0].message)
