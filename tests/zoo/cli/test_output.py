"""What is printed cannot fail a command: any encoding, a reader that left, a full disk."""

import errno
import io
import os
import subprocess
import sys

import pytest
from seqzoo.zoo import store
from seqzoo.zoo.cli import main
from seqzoo.zoo.cli.output import unfailing


class Failing(io.RawIOBase):
    """A file that refuses every byte."""

    def __init__(self, number, path):
        self.number, self.file = number, path.open("wb")

    def writable(self):
        return True

    def write(self, data):
        raise OSError(self.number, os.strerror(self.number))

    def fileno(self):
        return self.file.fileno()


@pytest.fixture
def run(monkeypatch):
    """Runs a command line that prints to the given streams; gives its exit status."""

    def command(words, out, error=None):
        monkeypatch.setattr(sys, "argv", ["seqzoo", *words])
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", error or io.StringIO())
        with pytest.raises(SystemExit) as stopped:
            main()
        assert sys.stdout is out
        return stopped.value.code or 0

    return command


COMMANDS = {
    "train": "train ppc/order0 --out run",
    "evaluate": "evaluate ppc/kf-true",
    "list": "list",
    "table": "list --markdown ppc",
    "help": "study --help",
    "studies": "study",
    "mistake": "train ppc/refh --set rule.é²\udcff=5",
}


@pytest.mark.parametrize(
    ("encoding", "command"),
    [
        *(("ascii", command) for command in COMMANDS),
        *((encoding, "table") for encoding in ("gbk", "latin-1", "utf-8")),
        *((encoding, "mistake") for encoding in ("gbk", "latin-1", "utf-8")),
    ],
)
def test_any_encoding_will_do(encoding, command, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    assert run(COMMANDS[command].split(), *streams) == (2 if command == "mistake" else 0)
    out, error = (stream.buffer.getvalue().decode(encoding) for stream in streams)
    assert (error if command == "mistake" else out).strip()
    assert "Traceback" not in error


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("command", ["train", "list", "help"])
def test_an_output_that_fails_ends_nothing(number, command, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = io.TextIOWrapper(io.BufferedWriter(Failing(number, tmp_path / "lost")))
    error = io.StringIO()
    code = run(COMMANDS[command].split(), out, error)
    lost = number != errno.EPIPE
    assert code == (1 if lost and command != "train" else 0)
    assert (os.strerror(number) in error.getvalue()) == lost
    assert (tmp_path / "run" / store.WEIGHTS).is_file() == (command == "train")


def test_an_error_that_cannot_be_printed_still_has_its_status(run, tmp_path):
    broken = [
        io.TextIOWrapper(io.BufferedWriter(Failing(errno.ENOSPC, tmp_path / name)))
        for name in ("out", "error")
    ]
    assert run(["train", "ppc/nope"], *broken) == 2


def test_a_reader_that_leaves_is_no_error():
    script = "import runpy; runpy.run_module('seqzoo', run_name='__main__')"
    shell = f'set -o pipefail; "{sys.executable}" -c "{script}" list | head -n 1'
    done = subprocess.run(["bash", "-c", shell], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [(1,), (1, 2)])
def test_a_closed_output_is_no_error(closed, forked, tmp_path):
    """As ``>&-`` has it: no file of this number, and a stream that is None."""

    def listed():
        error = os.open(tmp_path / "error", os.O_CREAT | os.O_WRONLY)
        os.dup2(error, 2)
        for number in closed:
            os.close(number)
        sys.stdout, sys.stderr = None, None if 2 in closed else os.fdopen(2, "w")
        sys.argv = ["seqzoo", "list"]
        main()

    assert forked(listed) == [0]
    assert (tmp_path / "error").read_text() == ""


def test_what_is_printed_is_kept_where_it_can_be():
    text = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    before = sys.stdout
    try:
        sys.stdout = text
        with unfailing() as output:
            print("rad²")
            assert output.lost is None
    finally:
        sys.stdout = before
    assert text.buffer.getvalue() == b"rad?\n"
