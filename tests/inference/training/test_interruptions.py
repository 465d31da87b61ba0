"""Slow tests: checkpoints damaged at random, and runs of ``fit`` stopped at random moments."""

import copy
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import pytest
import torch
from seqzoo.data import Loader
from seqzoo.inference.training import checkpoint as checkpoints

from seqzoo import inference
from tests import fuzzing
from tests.inference.training.helpers import Failing, Squared, linear, train, uneven, weights

pytestmark = pytest.mark.slow

ODD = (
    *(None, True, -1, 0, 1, 99, 10**12, 0.5, math.nan, math.inf, "", "x", b"x", [], {}, (1,)),
    *(torch.zeros(0), torch.zeros(3), torch.full((3, 3), math.nan), torch.ones(3, 3).bool()),
)


def resume(path):
    """Goes on from a checkpoint of three epochs out of six."""
    net = linear(seed=1)
    how = {"data": Loader(uneven(), 2), "checkpoint": path, "epochs": 6, "lr": 0.01}
    how |= {"average": 0.9, "validate": lambda net: float(net.weight.detach().norm())}
    fit = train(net, Squared, resume=True, **how)
    return net, fit


@pytest.fixture
def stopped(tmp_path):
    """A checkpoint of three epochs out of six, as bytes."""
    path = tmp_path / "run.pt"
    failing = Failing(uneven(), 2, at=3, error=KeyboardInterrupt())
    how = {"data": failing, "checkpoint": path, "epochs": 6, "lr": 0.01, "average": 0.9}
    train(linear(), Squared, validate=lambda net: float(net.weight.detach().norm()), **how)
    return path.read_bytes()


def test_a_file_damaged_at_random_is_refused(stopped, tmp_path):
    path = tmp_path / "run.pt"
    for draw in fuzzing.rounds():
        damaged = fuzzing.mutate(stopped, draw)
        path.write_bytes(damaged)
        if damaged != stopped:
            with pytest.raises(inference.CheckpointError):
                resume(path)


def spots(content, found=()):
    """Every place in nested dicts and lists, as (container, key)."""
    places = list(found)
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(pairs):
        places.append((content, key))
        if isinstance(value, (dict, list)):
            places += spots(value)
    return places


def test_a_content_changed_at_random_is_refused_or_goes_on_soundly(stopped, tmp_path):
    path = tmp_path / "run.pt"
    path.write_bytes(stopped)
    whole = checkpoints.load_checkpoint(path)
    for draw in fuzzing.rounds():
        content = copy.deepcopy(whole)
        for _ in range(draw.choice((1, 1, 2, 3))):
            places = spots(content)
            holder, key = draw.choice(places)
            kind = draw.randrange(4)
            if kind == 0:
                del holder[key]
            elif kind == 1 and isinstance(holder, dict):
                holder[draw.choice(("x", 0, 99))] = draw.choice(ODD)
            elif kind == 2:
                holder[key] = copy.deepcopy(draw.choice(places)[0])
            else:
                holder[key] = draw.choice(ODD)
        with path.open("wb") as file:
            body = tmp_path / "body"
            torch.save(content, body)
            file.write(checkpoints.seal(body.read_bytes()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                net, fit = resume(path)
            except (inference.CheckpointError, FloatingPointError):
                continue
        assert [record["epoch"] for record in fit.history] == list(range(6))
        assert all(bool(torch.isfinite(value).all()) for value in weights(net).values())


SCRIPT = """
    import json, sys, torch
    from seqzoo import inference, zoo
    from seqzoo.data import PPC

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = zoo.RVAE(15, 2, zoo.likelihoods.Poisson(15), hidden=8)
    score = lambda net: float(next(net.parameters()).detach().norm())
    fit = inference.fit(
        inference.LocalELBO(net, minibatch=16), PPC(4, 12), epochs=60, lr=0.01, average=0.9,
        validate=score, checkpoint=sys.argv[1], resume=True, progress=False, device="cpu",
    )
    if fit.interrupted:
        sys.exit(130)
    content = [value.numpy().tobytes().hex() for value in net.state_dict().values()]
    with open(sys.argv[2], "w") as file:
        json.dump([content, fit.history, fit.best], file)
"""


def test_runs_stopped_at_random_moments_end_with_the_same_bytes(tmp_path):
    draw = random.Random(fuzzing.SEED)
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))

    def in_folder(name):
        (tmp_path / name).mkdir()
        files = tmp_path / name / "run.pt", tmp_path / name / "result"
        return files[1], [sys.executable, str(script), *map(str, files)]

    start = time.monotonic()
    expected, whole = in_folder("whole")
    subprocess.run(whole, check=True)
    seconds = time.monotonic() - start
    stops, run = 0, 0
    while stops < fuzzing.KILLS:
        run += 1
        result, command = in_folder(f"run{run}")
        for _ in range(5):
            number = draw.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
            # most of the time is that of the imports
            if fuzzing.run_and_stop(command, draw.uniform(0.5, 1.05) * seconds, number) is None:
                break
            stops += 1
        if not result.exists():
            subprocess.run(command, check=True)
        assert result.read_bytes() == expected.read_bytes()
        assert sorted(os.listdir(result.parent)) == ["result", "run.pt"]
