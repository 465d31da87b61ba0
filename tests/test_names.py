"""Tests have the same names in every process: pytest-xdist refuses to start otherwise."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest


def collected(seed):
    """The names of all tests, in the order in which a process with this hash seed has them."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider"],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if "::" in line]


@pytest.mark.slow
def test_names_do_not_depend_on_the_time_or_on_the_order_of_hashes():
    first = collected(1)
    time.sleep(1.1)
    second = collected(2)
    assert len(first) > 1000
    assert [pair for pair in zip(first, second) if pair[0] != pair[1]] == []
    assert len(first) == len(second)


@pytest.mark.parametrize("value", [bytes([time.time_ns() % 251] * 3)])
def test_bytes_are_named_by_their_number(value, request):
    assert request.node.name == "test_bytes_are_named_by_their_number[3 bytes]"
