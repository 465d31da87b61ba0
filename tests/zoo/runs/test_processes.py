"""Jobs in processes of their own: results, failures, signals, and parents that are killed."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from seqzoo.zoo.runs import processes
from seqzoo.zoo.runs.processes import Interrupted, JobFailed, in_processes

HERE = Path(__file__).parent
LEFT = {f"{name}.left" for name in "ab"}


@pytest.fixture
def work(monkeypatch):
    """The module of jobs, which processes find by its name."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setattr(processes, "PRELOADED", [])
    import work

    return work


def test_results_come_by_key_and_as_they_end(work):
    said = {}
    jobs = {n: (work.square, (n,)) for n in (3, 1, 2)}
    assert in_processes(jobs, 2, said.__setitem__) == {3: 9, 1: 1, 2: 4}
    assert said == {3: 9, 1: 1, 2: 4}
    assert in_processes({}, 2) == {}


def test_a_job_that_fails_fails_alone(work, capfd):
    jobs = {
        "killed": (work.die, (signal.SIGKILL,)),
        "ended": (work.die, (signal.SIGTERM,)),
        "refused": (work.refuse, (ValueError("no such\nthing"),)),
        "broken": (work.refuse, (KeyError("x"),)),
        "left": (work.refuse, (SystemExit(3),)),
        "whole": (work.square, (5,)),
    }
    found = in_processes(jobs, 3)
    assert found.pop("whole") == 25
    assert all(isinstance(error, JobFailed) for error in found.values())
    sentences = {key: str(error) for key, error in found.items()}
    assert "SIGKILL" in sentences["killed"]
    assert "143" in sentences["ended"]
    assert sentences["refused"] == "no such thing"
    assert sentences["broken"] == "KeyError: 'x'"
    assert "status 3" in sentences["left"]
    assert capfd.readouterr().err.count("Traceback") == 1  # of the error nobody foresaw


def test_an_error_of_the_listener_ends_the_jobs(work, tmp_path):
    def fail(key, result):
        raise RuntimeError("full disk")

    jobs = {"quick": (work.square, (1,)), "long": (work.wait, (tmp_path, "long"))}
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="full disk"):
        in_processes(jobs, 2, fail)
    assert time.monotonic() - start < 30
    gone(tmp_path)


def test_signals_mean_afterwards_what_they_meant_before(work):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    in_processes({1: (work.square, (1,))}, 1)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_jobs_run_from_another_thread(work):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(in_processes({1: (work.square, (4,))}, 1))
    )
    thread.start()
    thread.join()
    assert found == [{1: 16}]


def test_a_signal_between_jobs_drops_those_that_wait(work, monkeypatch):
    started, start = [], processes._start
    monkeypatch.setattr(processes, "_start", lambda *job: started.append(job) or start(*job))
    jobs = {n: (work.square, (n,)) for n in range(4)}
    with pytest.raises(Interrupted) as stopped:
        in_processes(jobs, 1, lambda key, result: signal.raise_signal(signal.SIGINT))
    assert stopped.value.number == signal.SIGINT
    assert len(started) == 1


# A whole program, stopped from outside ------------------------------------------------------------


@contextlib.contextmanager
def started(folder, deaf="", slow=0.0, sign="[ab].pid"):
    """The program of ``work`` once its first two jobs run, and its group of processes."""
    words = [sys.executable, str(HERE / "work.py"), str(folder), deaf, str(slow)]
    pipe = subprocess.PIPE
    program = subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    try:
        until(lambda: len(list(folder.glob(sign))) == 2)
        time.sleep(0.1)
        yield program
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()


def until(true, seconds=30.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def gone(folder, seconds=12.0):
    """Waits for the end of every process that has left its number."""
    numbers = [int(path.read_text() or 0) for path in folder.glob("*.pid")]
    until(lambda: not any(number and alive(number) for number in numbers), seconds)


def alive(number):
    """Whether a process runs: one that ended and that nobody waits for does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("everyone", [True, False], ids=["group", "parent"])
def test_one_signal_stops_all_and_starts_nothing(number, everyone, tmp_path):
    with started(tmp_path) as program:
        (os.killpg if everyone and number == signal.SIGINT else os.kill)(program.pid, number)
        out, _ = program.communicate(timeout=12)
        assert program.returncode == 128 + number
        assert out == "stopped; give the same command again to go on\n"
        gone(tmp_path, 1.0)
    assert {path.name for path in tmp_path.glob("*.left")} == LEFT
    assert {path.stem for path in tmp_path.glob("*.pid")} == {"a", "b"}


def test_a_process_that_is_still_starting_leaves_ctrl_c_to_its_parent(tmp_path):
    """A program imports torch for seconds before a job can say what a signal means."""
    with started(tmp_path, slow=2.0, sign="*.early") as program:
        os.killpg(program.pid, signal.SIGINT)
        out, error = program.communicate(timeout=12)
    assert (program.returncode, error) == (130, "")
    assert out == "stopped; give the same command again to go on\n"


def test_a_second_signal_does_not_wait_for_the_deaf(tmp_path):
    with started(tmp_path, "deaf") as program:
        program.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert program.poll() is None
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=3)
        assert program.returncode == 130
        gone(tmp_path, 1.0)


@pytest.mark.parametrize("deaf", ["", "deaf"])
def test_jobs_notice_that_their_parent_was_killed(deaf, tmp_path):
    with started(tmp_path, deaf) as program:
        program.kill()
        gone(tmp_path)
    assert {path.name for path in tmp_path.glob("*.left")} == (set() if deaf else LEFT)
