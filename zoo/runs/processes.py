"""Jobs in processes of their own: one that dies fails alone, and none outlives its parent."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

GRACE = 5.0  # seconds that a stopped process has to leave what it holds in order
#: Modules that jobs need, imported once where processes can be copies. Optimizers import dynamo.
PRELOADED = [f"{__package__}.run", "torch._dynamo"]
End = Any  # of a pipe: a Connection, or on Windows a PipeConnection
Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Interrupted(Exception):
    """A run that was stopped by hand and has left its checkpoint.

    Arguments:
        message: what to do next.
        number: the signal that stopped it.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


class JobFailed(ValueError):
    """Why a job has no result, in a sentence.

    Arguments:
        message: the sentence.
        trace: where an error that nobody foresaw was raised.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message, trace)
        self.trace = trace

    def __str__(self) -> str:
        return self.args[0]


class SomeFailed(Exception):
    """The end of several jobs of which some failed.

    Arguments:
        message: how many, and what to do next.
        results: those of the other jobs.
    """

    def __init__(self, message: str, results: Any) -> None:
        super().__init__(message)
        self.results = results


def in_processes(
    jobs: Mapping[Key, tuple[Callable[..., Result], tuple[Any, ...]]],
    at_a_time: int,
    done: Callable[[Key, Result | JobFailed], None] = lambda key, result: None,
    modules: tuple[Callable[..., None], tuple[Any, ...]] | None = None,
) -> dict[Key, Result | JobFailed]:
    """Runs each job in a new process.

    SIGINT and SIGTERM stop all of them: each has a few seconds to leave its checkpoint, a second
    signal takes those away. A job whose parent was killed stops in the same way.

    Arguments:
        jobs: a function and its arguments, of each job by its key. Both travel by pickle.
        at_a_time: how many run at the same time.
        done: told the key and the result of every job as it ends.
        modules: a function and its arguments that each process calls before it reads its job.

    Returns:
        The results by key. A job that raised an error, or whose process died, has a ``JobFailed``.

    Raises:
        Interrupted: after a signal.
    """
    waiting, results = list(jobs), {}
    running: dict[Key, tuple[BaseProcess, End]] = {}
    with _caught() as signals:
        try:
            while (waiting or running) and not signals:
                while waiting and len(running) < at_a_time:
                    key = waiting.pop(0)
                    running[key] = _start(jobs[key], modules)
                _wait(running)
                for key in [key for key, job in running.items() if _ended(*job)]:
                    results[key] = _result(*running.pop(key))
                    done(key, results[key])
        finally:
            _stop([process for process, _ in running.values()], signals)
    if signals:
        raise Interrupted("stopped; give the same command again to go on", signals[0])
    return {key: results[key] for key in jobs}


class Stopped(KeyboardInterrupt):
    """A signal that stops the program.

    Python would end with another exit status after a plain ``KeyboardInterrupt`` in a module that
    calls ``exec``, though the exception is caught.
    """


@contextmanager
def terminable() -> Iterator[list[int]]:
    """Lets SIGTERM stop the program as ctrl-C does; gives the signals that have."""
    seen: list[int] = []

    def stop(number: int, frame: object) -> None:
        seen.append(number)
        raise Stopped

    with _handled(stop):
        yield seen


# In the parent ------------------------------------------------------------------------------------


@contextmanager
def _caught() -> Iterator[list[int]]:
    """The signals that arrive, in place of what they do otherwise; only a main thread has them."""
    seen: list[int] = []
    with _handled(lambda number, frame: seen.append(number)):
        yield seen


@contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Has a function called for SIGINT and SIGTERM, but for one that is ignored."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)


def _start(
    job: tuple[Callable[..., Any], tuple[Any, ...]], modules: Any
) -> tuple[BaseProcess, End]:
    here, there = multiprocessing.Pipe(duplex=False)
    process = _context().Process(target=_work, args=(there, modules, pickle.dumps(job)))
    # A terminal sends ctrl-C to all processes: the new one leaves it to its parent from the start.
    with _held_back(signal.SIGINT):
        process.start()
    there.close()
    return process, here


def _context() -> Any:
    """How processes start: to import torch takes each of them seconds, so Linux forks a server.

    The server computes nothing, so its copies find no thread of OpenMP or CUDA missing.
    """
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        context.set_forkserver_preload(PRELOADED)
    return context


@contextmanager
def _held_back(number: signal.Signals) -> Iterator[None]:
    """Blocks a signal, in processes that start meanwhile, too, where the system can."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which unblocks signals, so it goes first
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(running: Mapping[Any, tuple[BaseProcess, End]]) -> None:
    """Until a job ends, or a moment: a handler of a signal does not end a wait."""
    connection.wait(
        [each for process, end in running.values() for each in (process.sentinel, end)], 0.2
    )


def _ended(process: BaseProcess, end: End) -> bool:
    return end.poll() or process.exitcode is not None


def _result(process: BaseProcess, end: End) -> Any:
    try:
        found = end.recv() if end.poll() else None
    except (EOFError, OSError):  # it died before it had sent anything, or half-way
        found = None
    end.close()
    process.join(GRACE)
    process.kill()
    process.join()
    if found is None:
        code = process.exitcode or 0
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        more = ": is there enough memory?" if code == -signal.SIGKILL else ""
        return JobFailed(f"its process ended {how}{more}")
    if isinstance(found, JobFailed) and found.trace:
        print(found.trace, file=sys.stderr)
    return found


def _stop(processes: list[BaseProcess], signals: list[int]) -> None:
    """Ends processes: at once where they have been told to before, or a second signal comes."""
    end = time.monotonic() + GRACE
    for process in processes:
        process.terminate()
    while time.monotonic() < end and len(signals) < 2 and any(p.is_alive() for p in processes):
        connection.wait([process.sentinel for process in processes], 0.1)
    for process in processes:
        process.kill()
        process.join()


# In the process of a job --------------------------------------------------------------------------


def _work(there: End, modules: Any, job: bytes) -> None:
    """Does a job and sends its result."""
    _obey_parent()
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # the parent speaks
    try:
        if modules is not None:
            prepare, arguments = modules
            prepare(*arguments)
        function, arguments = pickle.loads(job)
        there.send(function(*arguments))
    except (KeyboardInterrupt, Interrupted):
        sys.exit(128 + signal.SIGTERM)
    except (ValueError, FloatingPointError, OSError) as error:
        there.send(JobFailed(" ".join(str(error).split())))
    except Exception as error:
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        there.send(JobFailed(message, traceback.format_exc()))


def _obey_parent() -> None:
    """Stops on SIGTERM as on ctrl-C, and when the parent is gone; ctrl-C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(128 + signal.SIGTERM)
