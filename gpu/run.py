"""All that a GPU can show in eight minutes: tests, benchmarks, short trainings and films.

    make gpu                                   # with the packages of .venv
    python3 gpu/run.py --wheels .gpu/wheels    # a bare machine: Python 3.12, torch with CUDA

``jobs.py`` lists the jobs, the most valuable first, each with a limit of its own. Everything they
measure goes to ``OUT/results.json`` and ``OUT/results.md`` at once, and what they print to
``OUT/logs``: a run that is cut off has lost nothing. Given the same ``OUT`` again, a job replaces
its own results alone, and films go on from their checkpoints.

This file needs nothing but Python. Exit status: 0, 1 where a job failed, 2 without a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
GRACE = 10.0  # seconds that a stopped job has to leave its checkpoint
ROW = "ROW "  # begins a line of a job's output that holds results, as JSON
PROBE = """
import json, torch
card = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
print(json.dumps({"torch": torch.__version__, "gpu": card}))
"""


class Job(NamedTuple):
    """A command that prints results.

    Arguments:
        name: the heading of its results.
        command: the program and its arguments.
        limit: seconds after which it is stopped.
        partial: whether a job that was stopped at its limit has done what it should.
    """

    name: str
    command: Sequence[str]
    limit: float
    partial: bool = False


class Results:
    """Results of jobs by name, written to the disk at every change.

    Arguments:
        folder: where ``results.json`` and ``results.md`` are; those that are there are kept.
        machine: facts about the machine.
    """

    def __init__(self, folder: Path, machine: dict[str, str]) -> None:
        self.folder, self.lock = folder, threading.Lock()
        self.found: dict[str, Any] = {"jobs": {}}
        with contextlib.suppress(OSError, ValueError):
            self.found = json.loads((folder / "results.json").read_text())
        self.found["machine"] = machine

    def begin(self, job: Job) -> None:
        """Forgets the earlier results of a job."""
        with self.lock:
            when = datetime.datetime.now().isoformat(timespec="seconds")
            command = " ".join(map(str, job.command))
            entry = {"status": "running", "command": command, "started": when, "rows": []}
            self.found["jobs"][job.name] = entry
            self._write()

    def row(self, job: Job, row: dict[str, Any]) -> None:
        """Adds a result."""
        with self.lock:
            self.found["jobs"][job.name]["rows"].append(row)
            self._write()

    def end(self, job: Job, status: str, seconds: float) -> None:
        """Notes how a job ended."""
        with self.lock:
            self.found["jobs"][job.name] |= {"status": status, "seconds": round(seconds, 1)}
            self._write()

    def _write(self) -> None:
        for name, text in (
            ("results.json", json.dumps(self.found, indent=1) + "\n"),
            ("results.md", table(self.found)),
        ):
            beside = self.folder / f"{name}.new"
            beside.write_text(text)
            os.replace(beside, self.folder / name)


def table(found: dict[str, Any]) -> str:
    """The results as Markdown: a heading for each job, and a table for each kind of row."""
    lines = ["# Results", "", ", ".join(f"{k}: {v}" for k, v in found["machine"].items()), ""]
    for name, job in found["jobs"].items():
        seconds = f", {job['seconds']} s" if "seconds" in job else ""
        lines += [f"## {name}", "", f"`{job['command']}`: {job['status']}{seconds}", ""]
        kinds = list(dict.fromkeys(tuple(row) for row in job["rows"]))
        for kind in kinds:
            lines += [_line(kind), _line(["---"] * len(kind))]
            lines += [_line(row.values()) for row in job["rows"] if tuple(row) == kind] + [""]
    return "\n".join(lines)


def _line(cells: Any) -> str:
    return "| " + " | ".join(_text(cell) for cell in cells) + " |"


def _text(cell: Any) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell).replace("|", "\\|")


class Stopped(Exception):
    """The run was told to stop."""


def run(
    stages: Sequence[Sequence[Job]],
    folder: Path,
    seconds: float,
    machine: dict[str, str],
    environment: dict[str, str] | None = None,
) -> int:
    """Runs the jobs of each stage side by side, and one stage after the other.

    Arguments:
        stages: the jobs.
        folder: where results are written.
        seconds: after which whatever runs is stopped, and nothing more begins.
        machine: facts about the machine, for the results.
        environment: of the jobs.

    Returns:
        0 where every job ended well, 1 otherwise.
    """
    end, well = time.monotonic() + seconds, True
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    results = Results(folder, machine)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        for stage in stages:
            running = []
            try:
                for job in stage:
                    results.begin(job)
                    if end - time.monotonic() < 1:
                        results.end(job, "not begun: no time was left", 0.0)
                    else:
                        running.append(_Running(job, results, end, environment))
                going = running
                while going := [each for each in going if each.going()]:
                    time.sleep(0.05)
            except (KeyboardInterrupt, Stopped):
                for each in running:
                    each.stop("stopped by hand")
                return 1
            well = well and all(each.well for each in running)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0 if well else 1


def _stop(number: int, frame: object) -> None:
    raise Stopped


class _Running:
    """A job in a process group of its own."""

    def __init__(
        self, job: Job, results: Results, end: float, environment: dict[str, str] | None
    ) -> None:
        self.job, self.results, self.well, self.ended = job, results, True, False
        self.start = time.monotonic()
        self.limit = min(self.start + job.limit, end)
        self.log = (results.folder / "logs" / f"{job.name.replace('/', '-')}.log").open("w")
        self.process = subprocess.Popen(
            list(map(str, job.command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # a limit ends all of its processes
            env=environment,
            cwd=ROOT,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        print(f"{job.name} ...", flush=True)

    def _read(self) -> None:
        assert self.process.stdout is not None  # it is a pipe
        for line in self.process.stdout:
            self.log.write(line)
            self.log.flush()
            if line.startswith(ROW):
                row = json.loads(line.removeprefix(ROW))
                self.results.row(self.job, row)
                print(f"  {self.job.name}: {row}", flush=True)

    def going(self) -> bool:
        """Whether it still runs; ends it at its limit."""
        if not self.ended and self.process.poll() is not None:
            code = self.process.returncode
            self.well = code == 0
            self._end("done" if self.well else f"failed with exit status {code}")
        elif not self.ended and time.monotonic() > self.limit:
            self.well = self.job.partial
            self.stop(f"stopped after {self.limit - self.start:.3g} s")
        return not self.ended

    def stop(self, status: str) -> None:
        """Ends all its processes; they have some seconds to leave things in order."""
        for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        self._end(status)

    def _end(self, status: str) -> None:
        """Writes how it ended, once."""
        if self.ended:
            return
        self.ended = True
        self.reader.join(GRACE)
        self.log.close()
        self.results.end(self.job, status, time.monotonic() - self.start)
        print(f"{self.job.name}: {status}", flush=True)


def prepare(wheels: Path | None, data: Path, site: Path) -> dict[str, str]:
    """The environment of the jobs: with wheels, the packages and seqzoo in a folder of their own.

    Arguments:
        wheels: a folder of wheels; None where all packages are installed.
        data: a folder of published data, used where there is none already.
        site: an empty folder, for the packages.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if data.is_dir():
        environment.setdefault("SEQZOO_DATA", str(data))
    if wheels is None:
        return environment
    quiet = "-q --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check"
    names = sorted(map(str, wheels.glob("*.whl")))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *quiet.split(), "--target", str(site), *names],
        check=True,
    )
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    _link(site, packages["package-dir"])
    return {**environment, "PYTHONPATH": str(site)}


def _link(site: Path, places: dict[str, str]) -> None:
    """Links packages into a folder, as an editable install has them.

    Arguments:
        site: the folder.
        places: folders of the repository by the names of packages.
    """
    for name, place in places.items():
        package = site.joinpath(*name.split("."))
        if any(other.startswith(f"{name}.") for other in places):  # others stand in it
            package.mkdir(parents=True)
            for path in (ROOT / place).glob("*.py"):
                (package / path.name).symlink_to(path)
        else:
            package.symlink_to(ROOT / place, target_is_directory=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Tests, benchmarks and trainings on a GPU.")
    parser.add_argument("--out", type=Path, default=ROOT / "gpu-run", help="folder of results")
    parser.add_argument("--seconds", type=float, default=480, help="limit of the whole run")
    parser.add_argument("--wheels", type=Path, help="folder of wheels of missing packages")
    parser.add_argument("--only", nargs="*", default=[], help="jobs whose names begin so")
    chosen = parser.parse_args()
    began = time.monotonic()
    probe = subprocess.run(
        [sys.executable, "-c", PROBE], check=False, capture_output=True, text=True
    )
    machine = json.loads(probe.stdout) if probe.returncode == 0 else {"gpu": ""}
    if not machine["gpu"]:
        print(
            "This machine has no GPU that torch can use: run it where torch.cuda.is_available() "
            "is True.",
            file=sys.stderr,
        )
        return 2
    import jobs

    stages = [
        [job for job in stage if job.name.startswith(tuple(chosen.only) or "")]
        for stage in jobs.stages("cuda", chosen.out.resolve())
    ]
    with tempfile.TemporaryDirectory(prefix="seqzoo-gpu-") as site:
        environment = prepare(chosen.wheels, ROOT / ".gpu" / "data", Path(site))
        left = chosen.seconds - (time.monotonic() - began)
        code = run(stages, chosen.out.resolve(), left, machine, environment)
    print(f"results: {chosen.out / 'results.md'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
