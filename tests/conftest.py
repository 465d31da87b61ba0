"""Fixtures that tests share: one thread, a fixed seed, torch's global switches, local data."""

import functools
import gc
import multiprocessing
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import typer
import typer.testing
from filelock import FileLock
from seqzoo.inference import kernels
from seqzoo.zoo import cli
from seqzoo.zoo.models import predictive
from seqzoo.zoo.runs import reproduce
from seqzoo.zoo.runs.processes import JobFailed
from seqzoo.zoo.studies import bench

from seqzoo import inference

# Tests share modules of this folder, whoever starts pytest and wherever. It comes last: the folder
# seqzoo beside it is no whole package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

# A test runs on the CPU unless it names another device: the data that it makes are there.
os.environ.setdefault("ACCELERATE_USE_CPU", "1")
if "SEQZOO_DATA" in os.environ:  # some tests work in a folder of their own
    os.environ["SEQZOO_DATA"] = os.path.abspath(os.environ["SEQZOO_DATA"])
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as nohup and a shell's `&` leave it
    signal.signal(signal.SIGINT, signal.default_int_handler)
if not torch.accelerator.is_available():
    # Without one, torch keeps every seed, and the stack of its caller, for the day there is one.
    torch.manual_seed = lambda seed: torch.default_generator.manual_seed(int(seed))


@pytest.fixture(autouse=True)
def sober():
    """Seeds everything, and fails a test that leaves torch's or Pyro's global state changed."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pyro.clear_param_store()
    before = _globals()
    yield
    assert _globals() == before, "the test changed a global switch of torch or Pyro"
    assert not list(pyro.get_param_store().keys()), "something was written to Pyro's param store"


def _globals():
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.distributions.Distribution._validate_args,
        pyro.poutine.runtime._PYRO_STACK == [],
    )


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """One worker compiles a module of kernels, at its first use; the others read it from disk."""
    load, several = kernels.load, "PYTEST_XDIST_WORKER" in os.environ
    path = tmp_path_factory.getbasetemp().parent / "kernel.lock"

    @functools.cache
    def loaded(name):
        with FileLock(path) if several else nullcontext():
            module = load(name)
            if module is not None:
                every = {"kernel": _filter, "scans": _scan, "recurrences": _recur}
                every[name.rsplit(".", 1)[-1]](module)
        return module

    with mock.patch.object(kernels, "load", loaded):
        yield


@pytest.fixture(scope="session", autouse=True)
def one_command_line():
    """Commands are put together once: typer reads all signatures anew at every call."""
    put_together = functools.cache(typer.main.get_command)
    with (
        mock.patch.object(typer.main, "get_command", put_together),
        mock.patch.object(typer.testing, "_get_command", put_together),
    ):
        yield


@pytest.fixture
def one_step(monkeypatch):
    """A Gauss-Newton step to a state given its past: results are compared, converged or not."""
    posterior = functools.partial(predictive.explaining_posterior, steps=1)
    monkeypatch.setattr(predictive, "explaining_posterior", posterior)


def _filter(module):
    A, first, mean = np.ones((1, 1, 1, 1)), np.zeros((1, 1), dtype=int), np.ones((1,) * 4)
    cov, score = np.ones((1,) * 5), np.ones((1, 1, 1))
    module.forward(A, A, A, mean, mean, mean, first, mean, cov, mean, score)
    module.backward(A, A, mean, first, mean, cov, np.ones((1, 0, 1, 1, 1)))


def _scan(module):
    for dtype in (np.float32, np.float64):
        u, one = np.ones((1, 2, 2), dtype), np.ones((2, 2), dtype)
        features, past = np.ones((1, 1, 5), dtype), np.ones((2, 3), dtype)
        module.elman(u, u[:, :1], np.ones((1, 1), bool), one, 4)
        module.gaussian(u, features, np.ones((1, 1), bool), past, one[:1], 0, 1.0, 1.0, 1.0)


def _recur(module):
    for dtype in (np.float32, np.float64):
        h, x, u, one = (np.ones(size, dtype) for size in ((1, 2, 1), (1, 2, 3), (1, 1), 1))
        module.gru(h, x, h, u, x[0, :1], one)
        module.gru_gradient(x, h, u, h, h, u, x, h, x[0, :1].reshape(3, 1))
        module.tanh(h, u, u)
        module.tanh_gradient(h, u, h, h, u)


@pytest.fixture(params=["stand-in", pytest.param("cuda", marks=pytest.mark.gpu)])
def second(request):
    """A context with a second device, see tests/second_device.py."""
    from tests.second_device import second_device

    return functools.partial(second_device, request.param)


@pytest.fixture(scope="module")
def published():
    """Sets SEQZOO_DATA to a folder with the published digits and piano rolls, or skips."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SEQZOO_DATA") or beside)
    for name in ("mnist/t10k-images-idx3-ubyte.gz", "poly/JSB_Chorales.mat"):
        if not (folder / name).is_file():
            pytest.skip(f"no {name} here: set SEQZOO_DATA to a folder that holds it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQZOO_DATA", str(folder))
        yield folder


class OneVector(inference.SequenceModel):
    """z ~ N(0, I), x_t ~ N(z, I): one latent vector a sequence, guided by its posterior."""

    def model(self, batch):
        size = batch.obs.shape[2]
        with pyro.plate("sequences", len(batch)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(batch), size), 1.0).to_event(1))
            frames = dist.Normal(z[..., None, :], 1.0).expand((*z.shape[:-1], *batch.obs.shape[1:]))
            pyro.sample("x", frames.to_event(1).mask(batch.mask).to_event(1), obs=batch.obs)

    def guide(self, batch):
        number = batch.mask.sum(1, keepdim=True)
        mean = (batch.obs * batch.mask[..., None]).sum(1) / (number + 1)
        with pyro.plate("sequences", len(batch)):
            pyro.sample("z", dist.Normal(mean, (number + 1.0) ** -0.5).to_event(1))


@pytest.fixture
def one_vector():
    """A model whose latents are no path, however many values they have."""
    return OneVector()


def _here(jobs, at_a_time, done=lambda key, result: None, modules=None):
    results = {}
    for key, (function, arguments) in jobs.items():
        try:
            results[key] = function(*arguments)
        except ValueError as error:
            results[key] = JobFailed(str(error))
        done(key, results[key])
    return results


@pytest.fixture
def in_process(monkeypatch):
    """Runs jobs that have processes of their own in this one."""
    for module in (reproduce, bench):
        monkeypatch.setattr(module, "in_processes", _here)


@pytest.fixture
def forked():
    """Runs functions at a time, each in a copy of this process: a new one imports for seconds."""

    def run(*functions, seconds=60.0):
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=function) for function in functions]
        for process in processes:
            process.start()
        for process in processes:
            process.join(seconds)
        statuses = [process.exitcode for process in processes]
        for process in processes:
            process.kill()
        return statuses  # as ``subprocess`` counts, None of one that did not end

    return run


@pytest.fixture
def seqzoo(monkeypatch, capsys):
    """Runs one command line as the shell would: exit code, standard output, standard error."""

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["seqzoo", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code or 0, *capsys.readouterr()

    return command


@pytest.fixture
def refused(seqzoo):
    """Runs a command line that must fail, and returns the one sentence it says."""

    def command(*words):
        code, out, error = seqzoo(*words)
        assert code == 2
        assert out == ""
        assert error.startswith("seqzoo: ")
        assert error.count("\n") == 1
        return error

    return command


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Modules and test items stay to the end: Python's garbage collector need not visit them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items, config):
    """Leaves out tests that need a GPU where there is none.

    The suites of ``inference.testing`` know no marks of pytest: their tests of a GPU have a name.
    """
    for item in items:
        if item.name.partition("[")[0].endswith("_on_a_gpu"):
            item.add_marker(pytest.mark.gpu)
    if not torch.cuda.is_available():
        left_out = [item for item in items if item.get_closest_marker("gpu")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]


def pytest_make_parametrize_id(val):
    """Names bytes by their number: gzip, for one, writes the time in them, and workers disagree."""
    return f"{len(val)} bytes" if isinstance(val, bytes | bytearray) else None
