"""Checkpoints: whose they are, whether they are as they were written, and what is in them."""

import collections
import copy
import errno
import functools
import math
import os
import pickle

import numpy as np
import pytest
import torch
from seqzoo.data import PPC, Batch, Dataset, Loader, balls
from seqzoo.data import files as data_files
from seqzoo.data.files import write_whole
from seqzoo.inference.training import checkpoint as checkpoints
from seqzoo.inference.training import fingerprint
from torch import nn

from seqzoo import data, inference, zoo
from tests.inference.training.helpers import (
    Failing,
    Squared,
    assert_same,
    linear,
    refh,
    rvae,
    train,
    uneven,
    weights,
)

# Whose a checkpoint is ------------------------------------------------------------------------


def score(net):
    return float(net.weight.detach().norm())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 3}, "epochs was 2 and is 3"),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"lr": 0.5}, "lr was 0.1 and is 0.5"),
        ({"lr": {"w": 0.1, "b": 0.1}}, "prefixes"),
        ({"average": 0.5}, "average was None and is 0.5"),
        ({"shards": 2}, "shards was 1 and is 2"),
        ({"optimizer": "sgd"}, "optimizer was 'adam' and is 'sgd'"),
        ({"optimizer": torch.optim.SGD}, "optimizer was 'adam' and is SGD"),
        ({"schedule": "cosine"}, "schedule was 'linear' and is 'cosine'"),
        ({"schedule": lambda done: 1 - 0.5 * done}, "schedule"),
        ({"batch_size": 2}, "loader.batch_size was 4 and is 2"),
        ({"clip": 0.1}, "clip was None and is 0.1"),
        ({"validate_every": 2}, "validate_every was 1 and is 2"),
        ({"validate": lambda net: 1.0}, "validate"),
        ({"validate": None}, "validate"),
        ({"patience": 2}, "patience was None and is 2"),
        ({"identity": {"noise": 2.0}}, "identity.noise was 1.0 and is 2.0"),
        ({"data": uneven(1)}, "data.obs was .* and is"),
        ({"data": PPC(4, 12)}, "data was Batch and is PPC"),
    ],
    ids=lambda change: change if isinstance(change, str) else None,
)
def test_a_checkpoint_of_another_run_is_refused(change, message, tmp_path):
    how = {"data": uneven(), "epochs": 2, "lr": 0.1, "checkpoint": tmp_path / "run.pt"}
    how |= {"validate": score, "identity": {"noise": 1.0}}
    train(linear(), Squared, **how)
    net = linear(seed=1)
    with pytest.raises(inference.CheckpointError, match=rf"run\.pt is of another run: .*{message}"):
        train(net, Squared, resume=True, **{**how, **change})
    assert_same(weights(net), weights(linear(seed=1)))


class Own(inference.LearningRule):
    """A rule of a user's, with options of every sort."""

    temperature = 1.0

    def __init__(
        self, net, strength=1.0, hidden=1.0, how=torch.tanh, limits=(0.0, 1.0), table=None
    ):
        super().__init__(net)
        self.power, self._hidden, self.how = strength, hidden, how
        self.limits, self.table = list(limits), table
        self.seen = []


class Hotter(Own):
    temperature = 2.0


class OwnNet(nn.Module):
    """A network of a user's, with options of every sort."""

    def __init__(self, scale=1.0, frozen=1.0, keep=0.5, power=2, act=torch.relu, kind="gru"):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))
        self.frozen = nn.Parameter(torch.tensor(frozen), requires_grad=False)
        self.drop, self._power, self.act = nn.Dropout(keep), power, act
        self.net = (nn.GRU if kind == "gru" else nn.LSTM)(3, 3)
        self.weight = nn.Parameter(torch.randn(3))


def sequence(family=zoo.likelihoods.Poisson, hidden=4, **parts):
    return zoo.VRAE(3, 2, family(3), hidden=hidden, **parts)


ELBO, CD = inference.SequenceELBO, inference.ContrastiveDivergence
RULES = {
    "class": (inference.LocalELBO(rvae()), inference.BPTT(rvae())),
    **{
        f"LocalELBO {name}": (
            inference.LocalELBO(rvae()),
            inference.LocalELBO(rvae(), **{name: value}),
        )
        for name, value in {
            "num_samples": 2,
            "bound": "iwae",
            "weights": {"x": 0.5},
            "window": 4,
            "minibatch": 4,
            "drop_past": 0.1,
            "chunk": 5,
        }.items()
    },
    "weights of sites": (
        inference.LocalELBO(rvae(), weights={"x": 0.5}),
        inference.LocalELBO(rvae(), weights={"x": [0.5, 1.0, 0.5]}),
    ),
    **{
        f"SequenceELBO {name}": (ELBO(sequence()), ELBO(sequence(), **{name: value}))
        for name, value in {
            "objective": "importance",
            "num_samples": 5,
            "kl_weight": 0.1,
            "free_bits": 0.1,
        }.items()
    },
    "CD k": (CD(refh(), k=1), CD(refh(), k=2)),
    "CD sample_past": (CD(refh()), CD(refh(), sample_past=True)),
    **{
        f"own {name}": (Own(linear()), Own(linear(), **{name: value}))
        for name, value in {
            "strength": 2.0,
            "hidden": 2.0,
            "how": torch.sin,
            "limits": (0.0, 2.0),
            "table": torch.ones(3),
        }.items()
    },
    "own class": (Own(linear()), Hotter(linear())),
    "likelihood": (ELBO(sequence()), ELBO(sequence(zoo.likelihoods.Gaussian))),
    "size": (ELBO(sequence()), ELBO(sequence(hidden=5))),
    "prior": (ELBO(sequence()), ELBO(sequence(prior=zoo.priors.AR1(2)))),
    "start of a prior": (
        ELBO(sequence(prior=zoo.priors.WhiteNoise(2, scale=0.5))),
        ELBO(sequence(prior=zoo.priors.WhiteNoise(2, scale=2.0))),
    ),
    "coefficient": (
        ELBO(sequence(prior=zoo.priors.AR1(2, coefficient=0.5))),
        ELBO(sequence(prior=zoo.priors.AR1(2, coefficient=0.9))),
    ),
    **{
        f"own network's {name}": (Squared(OwnNet()), Squared(OwnNet(**{name: value})))
        for name, value in {
            "scale": 2.0,
            "frozen": 2.0,
            "keep": 0.1,
            "power": 3,
            "act": torch.tanh,
            "kind": "lstm",
        }.items()
    },
    "dtype": (Squared(linear()), Squared(linear().double())),
}


@pytest.mark.parametrize("case", RULES)
def test_options_of_rules_and_networks_make_another_run(case):
    one, other = RULES[case]
    assert fingerprint.of_rule(one) == fingerprint.of_rule(copy.deepcopy(one))
    assert fingerprint.of_rule(one) != fingerprint.of_rule(other)


def test_weights_and_counts_of_a_run_make_no_other_run():
    one, other = Own(OwnNet()), Own(OwnNet())
    other.done, other.reference = 0.5, OwnNet()
    other.seen.append(1)
    assert fingerprint.of_rule(one) == fingerprint.of_rule(other)


class Files(Dataset):
    """Rows that are read when they are asked for."""

    def __init__(self, number, value=0.0):
        self.number, self._rows = number, torch.full((number, 5, 3), value)

    def __len__(self):
        return self.number

    def rows(self, index):
        return Batch(self._rows[index] + 0 * torch.randn(1))


DATA = {
    "a value": lambda: torch.zeros(4, 5, 3),
    "another value": lambda: torch.zeros(4, 5, 3).index_put((torch.tensor(3),) * 1, torch.ones(1)),
    "fewer": lambda: torch.zeros(3, 5, 3),
    "shorter": lambda: Batch(torch.zeros(4, 5, 3), torch.arange(5).expand(4, 5) < 4),
    "unseen": lambda: Batch(torch.zeros(4, 5, 3), observed=torch.arange(3).expand(4, 5, 3) < 2),
    "float64": lambda: torch.zeros(4, 5, 3, dtype=torch.float64),
    "PPC": lambda: PPC(4, 12),
    "PPC's seed": lambda: PPC(4, 12, seed=1),
    "PPC's size": lambda: PPC(4, 13),
    "PPC's split": lambda: PPC(4, 12, split="validation"),
    "balls": lambda: balls.BouncingBalls(4, 5),
    "balls' number": lambda: balls.BouncingBalls(4, 5, balls=2),
    "files": lambda: Files(4),
    "files' number": lambda: Files(5),
    "files' values": lambda: Files(4, 1.0),
    "loader": lambda: Loader(Files(4), 2),
    "loader's order": lambda: Loader(Files(4), 2, seed=1),
    "loader's shuffle": lambda: Loader(Files(4), 2, shuffle=False),
}


def prints(make):
    made = make()
    loader = (
        made
        if isinstance(made, Loader)
        else Loader(data.as_batch(made) if not isinstance(made, Dataset) else made)
    )
    return fingerprint.of_data(loader)


def test_data_are_told_apart_and_known_again():
    before = torch.get_rng_state()
    found = {name: prints(make) for name, make in DATA.items()}
    assert torch.equal(torch.get_rng_state(), before)
    assert all(prints(make) == found[name] for name, make in DATA.items())
    assert len({repr(each) for each in found.values()}) == len(DATA)


def test_large_data_are_hashed_in_part(monkeypatch):
    monkeypatch.setattr(fingerprint, "WHOLE", 64)
    large = torch.arange(1000.0)
    assert fingerprint.digest(large) != fingerprint.digest(large + 1)
    assert fingerprint.digest(large) == fingerprint.digest(large.clone())


def rate(done, slope):
    return 1 - slope * done


def test_functions_are_known_by_their_constants():
    def closing(slope):
        return lambda done: 1 - slope * done

    functions = [
        *(closing(0.5), closing(0.6)),
        *(lambda done: 1 - 0.5 * done, lambda done: 1 - 0.6 * done),
        *(functools.partial(rate, slope=0.5), functools.partial(rate, slope=0.6)),
        *(torch.tanh, torch.sin),
    ]
    found = [repr(fingerprint.of_value("f", each)) for each in functions]
    assert len(set(found)) == len(functions)
    assert repr(fingerprint.of_value("f", closing(0.5))) == found[0]


def test_what_training_changes_tells_no_runs_apart(tmp_path):
    """The running mean of a BatchNorm has changed when the same network goes on."""

    class Normed(nn.Sequential):
        def forward(self, obs):
            return super().forward(obs.flatten(0, 1)).view_as(obs)

    def start():
        torch.manual_seed(0)
        return Normed(nn.Linear(3, 3), nn.BatchNorm1d(3))

    def run(net, at, **how):
        loader = Failing(uneven(), 2, at=at, error=KeyboardInterrupt())
        return train(net, Squared, data=loader, epochs=4, checkpoint=tmp_path / "run.pt", **how)

    whole, stopped = start(), start()
    run(whole, None)
    assert run(stopped, 2).interrupted
    run(stopped, None, resume=True)
    assert_same(weights(stopped), weights(whole))


def test_settings_that_a_resumed_run_may_change(tmp_path):
    path = tmp_path / "run.pt"
    how = {"data": uneven(), "epochs": 4, "lr": 0.1, "checkpoint": path, "optimizer": "sgd"}
    loader = Failing(uneven(), 4, at=2, error=RuntimeError("killed"))
    with pytest.raises(RuntimeError, match="killed"):
        train(linear(), Squared, **{**how, "data": loader, "epochs": 2} | {"epochs": 4})
    how |= {"lr": 0.01, "clip": 0.5}
    with pytest.raises(inference.CheckpointError, match=r"changed=\['clip', 'lr'\]"):
        train(linear(), Squared, resume=True, **how)
    with pytest.raises(inference.CheckpointError, match="clip was None"):
        train(linear(), Squared, resume=True, changed="lr", **how)
    fit = train(linear(), Squared, resume=True, changed=["lr", "clip"], **how)
    assert [r["lr"] for r in fit.history] == pytest.approx([0.1, 0.075, 0.005, 0.0025])
    assert fit.changes == [
        {"epoch": 2, "setting": "lr", "before": "0.1", "after": "0.01"},
        {"epoch": 2, "setting": "clip", "before": "None", "after": "0.5"},
    ]
    again = train(linear(), Squared, resume=True, **how)  # they are the run's own now
    assert again.changes == fit.changes
    assert again.history == fit.history


def test_a_finished_run_can_be_made_longer(tmp_path):
    how = {"data": uneven(), "lr": 0.1, "schedule": "constant", "checkpoint": tmp_path / "run.pt"}
    whole, longer = linear(), linear()
    train(whole, Squared, epochs=5, **{**how, "checkpoint": None})
    train(longer, Squared, epochs=3, **how)
    fit = train(longer, Squared, epochs=5, resume=True, changed=["epochs"], **how)
    assert_same(weights(longer), weights(whole))
    assert len(fit.history) == 5


@pytest.mark.parametrize(
    ("changed", "resume", "message"),
    [("seed", True, "changed takes .* got 'seed'"), ("lr", False, "give checkpoint= and resume=")],
)
def test_changes_that_make_no_sense(changed, resume, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(linear(), Squared, changed=changed, resume=resume, checkpoint=tmp_path / "run.pt")


# Numbers of numpy -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"lr": np.float64(0.1)},
        {"lr": {"w": np.float32(0.1), "": np.float64(0.2)}},
        {"seed": np.int64(3)},
        {"epochs": np.int32(2)},
        {"clip": np.float32(1.0), "average": np.float32(0.5)},
        {"schedule": lambda done: np.float64(1 - done)},
        {"schedule": lambda done: np.float32(1 - done)},
        {"schedule": lambda done: torch.tensor(1 - done)},
        {"optimizer": lambda groups: torch.optim.SGD(groups, momentum=np.float64(0.9))},
        {"validate": lambda net: np.float32(1.0), "patience": np.int64(3)},
        {"validate": lambda net: np.float64(1.0), "validate_every": np.int64(2)},
        {"identity": {"noise": np.float32(0.5)}},
    ],
    ids=" ".join,
)
def test_numbers_of_numpy_can_be_resumed(how, tmp_path):
    class Counting(Squared):
        def gradients(self, batch):
            metrics = super().gradients(batch)
            return metrics | {"half": np.float64(0.5), "one": np.float32(1), "n": np.int64(3)}

    def run(at, **more):
        net = linear()
        loader = Failing(uneven(), 2, at=at, error=KeyboardInterrupt())
        fit = train(net, Counting, **{"data": loader, "epochs": 2, **how, **more})
        return fit, weights(net)

    whole, expected = run(None)
    more = {"checkpoint": tmp_path / "run.pt", "resume": True}
    assert run(1, **more)[0].interrupted
    resumed, found = run(None, **more)
    assert_same(found, expected)
    assert resumed.history == whole.history


class Queueing(torch.optim.SGD):
    """Keeps a queue, which no checkpoint can hold."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for member in group["params"]:
                self.state[member]["queue"] = collections.deque([1.0])


def test_a_state_that_could_not_be_read_again_is_not_written(tmp_path):
    with pytest.raises(inference.CheckpointError, match=r"'queue'.* is a deque"):
        train(linear(), Squared, optimizer=Queueing, checkpoint=tmp_path / "run.pt", data=uneven())
    assert not os.listdir(tmp_path)


# Damage ---------------------------------------------------------------------------------------


def torch_file(content):
    torch.save(content, "other.pt")
    with open("other.pt", "rb") as file:
        return file.read()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"0",
        lambda content: b"",
        lambda content: b"not a checkpoint" * 50,
        lambda content: torch_file({"weight": torch.zeros(3)}),
        lambda content: checkpoints.seal(torch_file([1, 2, 3])),
        lambda content: checkpoints.seal(b"no file of torch"),
    ],
    ids=["half", "short", "long", "empty", "garbage", "torch's", "a list", "sealed garbage"],
)
def test_a_damaged_checkpoint_is_refused_with_a_sentence(damage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.pt"
    how = {"data": uneven(), "checkpoint": path}
    train(linear(), Squared, **how)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(inference.CheckpointError, match=r"run\.pt") as caught:
        train(linear(), Squared, resume=True, **how)
    assert "delete" not in str(caught.value)


def test_every_single_bit_that_flips_is_seen(tmp_path):
    path = tmp_path / "run.pt"
    checkpoints.save_checkpoint(path, {"net": torch.ones(3)})
    whole = path.read_bytes()
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        with pytest.raises(inference.CheckpointError):
            checkpoints.load_checkpoint(path)
    path.write_bytes(whole)
    assert torch.equal(checkpoints.load_checkpoint(path)["net"], torch.ones(3))


def without(*path):
    def change(content):
        for name in path[:-1]:
            content = content[name]
        del content[path[-1]]

    return change


def put(value, *path):
    def change(content):
        for name in path[:-1]:
            content = content[name]
        content[path[-1]] = value

    return change


KEYS = (
    *("settings", "epoch", "since_best", "history", "changes", "best", "best_weights"),
    *("net", "averaged", "optimizer", "random"),
)
CONTENTS = {
    **{f"no {name}": without(name) for name in KEYS},
    **{f"{name} of text": put("x", name) for name in KEYS},
    **{f"{name} is None": put(None, name) for name in KEYS},
    **{f"epoch {value!r}": put(value, "epoch") for value in (-1, 0, 1, 2, 99, True, 3.0)},
    "another history": put([], "history"),
    "a shorter history": lambda content: content["history"].pop(),
    "a record of another epoch": put(7, "history", 1, "epoch"),
    "a record of text": put("x", "history", 1, "loss"),
    "a record without a loss": without("history", 1, "loss"),
    "a validation that is lower": put(-1.0, "history", 0, "validation"),
    "another best": put(-1.0, "best", "validation"),
    "since_best": put(99, "since_best"),
    "changes of nothing": put([{}], "changes"),
    "settings of numbers": put(3, "settings", "epochs"),
    "no epochs": without("settings", "epochs"),
    "weights of another name": without("net", "weight"),
    "weights of another shape": put(torch.zeros(3, 4), "net", "weight"),
    "weights of another dtype": put(torch.zeros(3, 3, dtype=torch.int8), "net", "weight"),
    "weights of text": put("x", "net", "weight"),
    "weights of NaN": put(torch.full((3, 3), math.nan), "net", "weight"),
    "best weights of infinity": put(torch.full((3, 3), math.inf), "best_weights", "weight"),
    "an average's weights": without("averaged", "module.weight"),
    "an optimizer without groups": without("optimizer", "param_groups"),
    "an optimizer of more groups": lambda content: content["optimizer"]["param_groups"].append({}),
    "an optimizer's option": without("optimizer", "param_groups", 0, "betas"),
    "an optimizer's state": without("optimizer", "state", 0, "exp_avg"),
    "an optimizer's shape": put(torch.zeros(7), "optimizer", "state", 0, "exp_avg"),
    "an optimizer's NaN": put(torch.full((3, 3), math.nan), "optimizer", "state", 0, "exp_avg"),
    "a random state": put(torch.zeros(7, dtype=torch.uint8), "random"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The content of a checkpoint of three epochs out of six."""
    path = tmp_path_factory.mktemp("run") / "run.pt"
    loader = Failing(uneven(), 2, at=3, error=KeyboardInterrupt())
    train(linear(), Squared, **settings(loader, path))
    return checkpoints.load_checkpoint(path)


def settings(loader, path):
    how = {"data": loader, "checkpoint": path, "epochs": 6, "lr": 0.01}
    return how | {"validate": score, "average": 0.9}


@pytest.mark.parametrize("case", CONTENTS)
def test_a_checkpoint_that_is_incomplete_or_inconsistent_is_refused(case, finished, tmp_path):
    path, net = tmp_path / "run.pt", linear(seed=1)
    content = copy.deepcopy(finished)
    CONTENTS[case](content)
    checkpoints.save_checkpoint(path, content)
    before = torch.get_rng_state()
    with pytest.raises(inference.CheckpointError, match=r"run\.pt"):
        train(net, Squared, resume=True, **settings(Loader(uneven(), 2), path))
    assert_same(weights(net), weights(linear(seed=1)))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_whole_checkpoint_is_taken(finished, tmp_path):
    """That of the cases above, of which each has one fault."""
    path, net = tmp_path / "run.pt", linear(seed=1)
    checkpoints.save_checkpoint(path, copy.deepcopy(finished))
    train(net, Squared, resume=True, **settings(Loader(uneven(), 2), path))
    assert len(checkpoints.load_checkpoint(path)["history"]) == 6


class Dangerous:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_checkpoint_runs_no_code(tmp_path):
    path, trace = tmp_path / "run.pt", tmp_path / "trace"
    torch.save(Dangerous(str(trace)), path)
    for body in (pickle.dumps(Dangerous(str(trace)), protocol=2), path.read_bytes()):
        for content in (body, checkpoints.seal(body)):
            path.write_bytes(content)
            with pytest.raises(inference.CheckpointError):
                checkpoints.load_checkpoint(path)
    assert not trace.exists()


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(inference.CheckpointError, match=r"no checkpoint at .*run\.pt"):
        checkpoints.load_checkpoint(tmp_path / "run.pt")


# Writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("unplugged"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(error, tmp_path):
    def write(part):
        part.write_text("half")
        raise error

    path = tmp_path / "deep" / "file"
    write_whole(path, lambda part: part.write_text("old"))
    with pytest.raises(type(error)):
        write_whole(path, write)
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["full", "quota", "torch", "safetensors"],
)
def test_a_full_disk_is_a_sentence_and_keeps_the_old_file(error, tmp_path):
    def write(part):
        part.write_text("half")
        raise error

    path = tmp_path / "file"
    with pytest.raises(OSError, match=r"^.*file could not be written: its disk is full[^;]*$"):
        write_whole(path, write)
    write_whole(path, lambda part: part.write_text("old"))
    with pytest.raises(OSError, match=r"file could not be written: .* is kept") as caught:
        write_whole(path, write)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_disk_that_fills_up_keeps_the_checkpoint_of_the_epoch_before(tmp_path, monkeypatch):
    path, written = tmp_path / "run.pt", []

    def write(part, content):
        written.append(part)
        with open(part, "wb") as file:
            file.write(content[: len(content) // 2] if len(written) == 3 else content)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_bytes", write)
    how = {"data": uneven(), "epochs": 5, "checkpoint": path}
    whole, net = linear(), linear()
    with pytest.raises(OSError, match=r"run\.pt could not be written: its disk is full"):
        train(net, Squared, **how)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["run.pt"]
    train(whole, Squared, **{**how, "checkpoint": None})
    assert checkpoints.load_checkpoint(path)["epoch"] == 2
    train(net, Squared, resume=True, **how)
    assert_same(weights(net), weights(whole))


def test_the_next_writer_removes_what_a_dead_process_left(tmp_path, monkeypatch):
    monkeypatch.setattr(data_files, "_runs", lambda pid: pid == 7)
    kept = [
        ".run.pt.7.part",  # it still writes
        *(
            ".other.pt.8.part",
            ".run.pt.x.part",
            "run.pt.8.part",
            ".run.pt.part",
            ".run.pt.8.partial",
        ),
    ]
    for name in (*kept, ".run.pt.8.part", ".run.pt.99.part"):
        (tmp_path / name).touch()
    train(linear(), Squared, data=uneven(), checkpoint=tmp_path / "run.pt")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "run.pt"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(path := tmp_path / "pipe")
    with pytest.raises(ValueError, match="device or a pipe"):
        train(linear(), Squared, checkpoint=path)
    with pytest.raises(OSError, match="device or a pipe"):
        write_whole(path, lambda part: part.write_bytes(b""))
    assert os.listdir(tmp_path) == ["pipe"]
    assert path.is_fifo()
