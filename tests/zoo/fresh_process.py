"""Run in a new process: commands that need no torch, the bare package, and then every class.

Each step leaves the modules that it imported to the next. Arguments: command lines as JSON, names
of modules as JSON, and a folder of saved models.
"""

import contextlib
import io
import json
import sys
from pathlib import Path


def answers(commands):
    """Status and output of each, and which of three packages were imported by then."""
    from seqzoo.zoo.cli import main

    for words in commands:
        sys.argv, said = ["seqzoo", *words.split()], io.TextIOWrapper(io.BytesIO())
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                main()
            except SystemExit as ended:
                code = ended.code or 0
        said.seek(0)
        yield code, said.read(), sorted({"torch", "numpy", "pyro"} & set(sys.modules))


if __name__ == "__main__":
    commands, heavy, folder = sys.argv[1:]
    found = list(answers(json.loads(commands)))

    from seqzoo import data, inference, zoo

    assert [data.PPC, inference.fit, zoo.RVAE, zoo.load]
    imported = [name for name in json.loads(heavy) if name in sys.modules]

    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from tests.zoo import test_saving

    test_saving.reload(Path(folder))
    print(json.dumps([found, imported]))
