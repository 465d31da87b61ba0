"""Jobs for ``test_processes``, in a module without torch: each runs in a process of its own."""

import os
import signal
import sys
import time
from pathlib import Path


def square(number):
    return number**2


def refuse(error):
    raise error


def die(number):
    os.kill(os.getpid(), number)
    time.sleep(30)


def wait(folder, name, deaf=False):
    """Leaves its process id, waits, and leaves a checkpoint when it is stopped."""
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(folder, f"{name}.pid").write_text(str(os.getpid()))
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        Path(folder, f"{name}.left").touch()
        raise


def main(folder, deaf, _):
    """The program that ``test_processes`` stops: two jobs at a time of four."""
    from seqzoo.zoo.runs import processes
    from seqzoo.zoo.runs.processes import Interrupted, in_processes

    processes.PRELOADED.clear()  # these jobs need none
    jobs = {name: (wait, (folder, name, deaf == "deaf")) for name in "abcd"}
    try:
        in_processes(jobs, 2)
    except Interrupted as error:
        print(error)
        sys.exit(128 + error.number)


if __name__ == "__mp_main__":  # a job's process reads the program first, and here takes long
    Path(sys.argv[1], f"{os.getpid()}.early").touch()
    time.sleep(float(sys.argv[3]))

if __name__ == "__main__":
    main(*sys.argv[1:])
