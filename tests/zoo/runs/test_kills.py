"""``reproduce`` is stopped at random moments, and goes on to the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from seqzoo.zoo import store

from tests import fuzzing

pytestmark = pytest.mark.slow

ROWS = ["ppc/refh", "ppc/tvae", "ppc/kf1"]
SETTINGS = ["data.sequences=2", "data.steps=20", "fit.epochs=60", "rule.iterations=40"]
SECONDS = 12.0  # in which every process must be gone


def command(folder):
    only = [word for name in ROWS for word in ("--only", name)]
    changes = [word for pair in SETTINGS for word in ("--set", pair)]
    words = ["reproduce", "ppc", *only, *changes, "--seeds", "1", "--jobs", "2"]
    return [sys.executable, "-m", "seqzoo", *words, "--out", str(folder)]


def session(number):
    """Processes that still run in a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, leader = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(leader) == number and state != "Z":
            found.append(int(path.parent.name))
    return found


def weights(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob(store.WEIGHTS))
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights of an unbroken run, and the seconds that it took."""
    folder, start = tmp_path_factory.mktemp("whole"), time.monotonic()
    subprocess.run(command(folder), check=True, capture_output=True)
    found = weights(folder)
    assert len(found) == len(ROWS)
    return found, time.monotonic() - start


def test_stopped_tables_end_with_the_same_bytes(whole, tmp_path):
    expected, seconds = whole
    draw, kills, folder = random.Random(fuzzing.SEED), 0, tmp_path / "0"
    while kills < fuzzing.KILLS:
        number = draw.choice((signal.SIGINT, signal.SIGTERM, signal.SIGKILL))
        everyone = number == signal.SIGINT and draw.random() < 0.5  # as a terminal does
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        program = subprocess.Popen(command(folder), start_new_session=True, **both)
        try:
            program.wait(draw.uniform(2.0, max(6.0, seconds)))
        except subprocess.TimeoutExpired:
            (os.killpg if everyone else os.kill)(program.pid, number)
            kills += 1
        out = program.communicate(timeout=SECONDS)[0].decode()
        end = time.monotonic() + SECONDS
        while session(program.pid):
            assert time.monotonic() < end, f"processes live on after {number.name}"
            time.sleep(0.1)
        # A signal before the program has begun, or after its end, means what it always does.
        assert program.returncode in (0, -number, 128 + number), out
        assert program.returncode == -number or "Traceback" not in out, out
        if program.returncode == 0:
            assert weights(folder) == expected
            folder = tmp_path / str(kills)
    subprocess.run(command(folder), check=True, capture_output=True)
    assert weights(folder) == expected
