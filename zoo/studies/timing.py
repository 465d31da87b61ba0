"""Times of work: the least of several, of jobs that take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

Work = Callable[[], object]


def processor_time(work: Work) -> float:
    """Seconds that all threads of this process spend: other programs hardly change them."""
    start = time.process_time()
    work()
    return time.process_time() - start


def least(
    jobs: Mapping[str, Work], repeats: int, seconds: Callable[[Work], float] = processor_time
) -> dict[str, float]:
    """The least seconds of each of some jobs, which take turns: other work only adds to them.

    Arguments:
        jobs: the work, by name.
        repeats: how often each has its turn.
        seconds: the clock.
    """
    turns = [{name: seconds(work) for name, work in jobs.items()} for _ in range(repeats)]
    return {name: min(turn[name] for turn in turns) for name in jobs}
