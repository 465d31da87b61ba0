"""Shared by the slow tests that try many damaged inputs, or stop programs at random moments."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence

#: Seconds that each fuzz test runs: a minute sees thousands of damaged inputs, a night more.
SECONDS = float(os.environ.get("SEQZOO_FUZZ_SECONDS", "60"))
#: Programs that each test of interruptions stops.
KILLS = int(os.environ.get("SEQZOO_KILLS", "10"))
#: The seed, so that a failure can be repeated.
SEED = int(os.environ.get("SEQZOO_FUZZ_SEED", "0"))


def rounds(seconds: float = SECONDS, seed: int = SEED) -> Iterator[random.Random]:
    """A random generator a round, until the time is up; its seed is ``f"{seed}/{round}"``."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield random.Random(f"{seed}/{number}")
        number += 1


def mutate(data: bytes, draw: random.Random) -> bytes:
    """A damaged copy: bits flipped, bytes replaced, or a piece cut, doubled or inserted."""
    damaged = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        if not damaged:
            break
        at = draw.randrange(len(damaged))
        kind = draw.randrange(6)
        if kind == 0:
            damaged[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            damaged[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        elif kind == 2:
            del damaged[at : at + draw.choice((1, 2, 4, len(damaged)))]
        elif kind == 3:
            damaged[at:at] = damaged[at : at + draw.choice((1, 4, 64))]
        elif kind == 4:
            damaged[at:at] = draw.randbytes(draw.choice((1, 4, 64)))
        else:
            large = (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0" * 4)
            damaged[at : at + 4] = draw.choice(large)
    return bytes(damaged)


def run_and_stop(command: Sequence[str], seconds: float, number: signal.Signals) -> int | None:
    """Starts a program and sends it a signal after some seconds.

    Returns:
        Its exit status, negative for a signal as ``subprocess`` counts; None where it had ended
        before the signal.
    """
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as program:
        try:
            program.wait(seconds)
            return None
        except subprocess.TimeoutExpired:
            program.send_signal(number)
            return program.wait(60)
