"""The fetching of data files: checksums, sizes, deadlines, caches and local folders."""

import gzip
import hashlib
import io
import os
import socket
import subprocess
import threading
import time

import pooch
import pytest
import requests
from seqzoo.data import DataError, MovingMNIST, fetch

NAME = "mnist/t10k-images-idx3-ubyte.gz"
WHOLE = gzip.compress(bytes(range(256)) * 20, mtime=0)
DAMAGED = {"cut short": WHOLE[:-1], "empty": b"", "garbled": WHOLE[:50] + b"x" + WHOLE[51:]}


class Server:
    """Stands in for the network: answers every request with ``content``, or raises it."""

    def __init__(self):
        self.content, self.asked = requests.exceptions.ConnectionError("no route to host"), []

    def __call__(self, url, **kwargs):
        self.asked.append(url)
        if isinstance(self.content, Exception):
            raise self.content
        response = requests.Response()
        response.status_code, response.url = 200, url
        response.raw = io.BytesIO(self.content)
        return response


@pytest.fixture
def server(monkeypatch, tmp_path):
    """No local folder, an empty cache, a network of our own, and a small file in the table."""
    fake = Server()
    monkeypatch.delenv("SEQZOO_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(requests, "get", fake)
    source = fetch.FILES[NAME]._replace(sha256=hashlib.sha256(WHOLE).hexdigest(), size=len(WHOLE))
    monkeypatch.setitem(fetch.FILES, NAME, source)
    return fake


@pytest.fixture
def folder(monkeypatch, tmp_path, server):
    """A local folder, as SEQZOO_DATA."""
    (tmp_path / "local" / "mnist").mkdir(parents=True)
    monkeypatch.setenv("SEQZOO_DATA", str(tmp_path / "local"))
    return tmp_path / "local"


def left_behind(tmp_path):
    return [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_download_is_checked_kept_and_not_repeated(server, tmp_path):
    server.content = WHOLE
    path = fetch.fetch(NAME)
    assert path.read_bytes() == WHOLE
    assert path == tmp_path / "cache" / "seqzoo" / NAME
    assert left_behind(tmp_path) == [path]
    assert fetch.fetch(NAME) == path
    assert server.asked == [fetch.FILES[NAME].url]


def test_without_local_copy_or_network(server, tmp_path):
    with pytest.raises(DataError, match=r"could not be downloaded .* connect to the network, or"):
        fetch.fetch(NAME)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_bad_download_leaves_nothing_behind(server, tmp_path, content):
    server.content = content
    with pytest.raises(DataError, match="corrupt or cut short"):
        fetch.fetch(NAME)
    assert left_behind(tmp_path) == []


def test_a_damaged_cache_is_mended(server):
    server.content = WHOLE
    path = fetch.fetch(NAME)
    path.write_bytes(WHOLE[:-5])
    assert fetch.fetch(NAME).read_bytes() == WHOLE
    path.write_bytes(WHOLE[:-5])
    server.content = requests.exceptions.Timeout("slow")
    with pytest.raises(DataError, match="could not be downloaded"):
        fetch.fetch(NAME)


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot be kept"):
        fetch.fetch(NAME)


def test_a_local_folder_is_used_without_the_network(server, folder):
    (folder / NAME).write_bytes(WHOLE)
    assert fetch.fetch(NAME) == folder / NAME
    assert server.asked == []


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_bad_local_file(server, folder, content):
    (folder / NAME).write_bytes(content)
    with pytest.raises(DataError, match="corrupt or cut short"):
        fetch.fetch(NAME)
    assert (folder / NAME).read_bytes() == content
    assert server.asked == []


def test_a_local_folder_without_the_file(server, folder, monkeypatch):
    with pytest.raises(DataError, match=f"which has no file {NAME}: put"):
        fetch.fetch(NAME)
    (folder / NAME).mkdir()
    with pytest.raises(DataError, match="has no file"):
        fetch.fetch(NAME)
    monkeypatch.setenv("SEQZOO_DATA", str(folder / "nowhere"))
    with pytest.raises(DataError, match="has no file"):
        fetch.fetch(NAME)
    assert server.asked == []


def test_an_unknown_name():
    with pytest.raises(DataError, match="no data file is called 'mnist/digits'"):
        fetch.fetch("mnist/digits")


@pytest.mark.parametrize(
    ("split", "part"), [("train", "train"), ("validation", "train"), ("test", "t10k")]
)
def test_the_film_says_what_is_missing(folder, split, part):
    with pytest.raises(DataError, match=f"no file mnist/{part}-images-idx3-ubyte.gz"):
        MovingMNIST(2, 3, split=split)


def test_the_film_rejects_damaged_digits(server, folder):
    (folder / NAME).write_bytes(WHOLE[:-1])
    with pytest.raises(DataError, match="corrupt or cut short"):
        MovingMNIST(2, 3, split="test")


@pytest.mark.parametrize("name", fetch.FILES)
def test_published_files_have_the_checksums_of_the_table(published, name):
    if not (published / name).is_file():
        pytest.skip(f"no {name} here")
    assert fetch.fetch(name) == published / name


# Servers that never end -----------------------------------------------------------------------


class Endless(threading.Thread):
    """A server on this computer that sends a beginning, then one piece again and again."""

    def __init__(self, beginning, piece, pause):
        super().__init__(daemon=True)
        self.beginning, self.piece, self.pause, self.sent = beginning, piece, pause, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/file"
        self.start()

    def run(self):
        while True:
            try:
                caller, _ = self.socket.accept()
            except OSError:
                return
            with caller:
                try:
                    caller.sendall(self.beginning)
                    while True:
                        caller.sendall(self.piece)
                        self.sent += len(self.piece)
                        time.sleep(self.pause)
                except OSError:
                    pass


ENDLESS = {
    "a body without end": (b"HTTP/1.0 200 OK\r\n\r\n", bytes(2**16), 0, "corrupt or cut short"),
    "chunks without end": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"400\r\n" + bytes(1024) + b"\r\n",
        0,
        "corrupt or cut short",
    ),
    "a body that trickles": (b"HTTP/1.0 200 OK\r\n\r\n", b"x", 0.02, "within"),
    "a header that trickles": (b"HTTP/1.0 200 OK\r\nX: ", b"x", 0.02, "within"),
    "silence": (b"", b"", 0.02, "within"),
}


@pytest.mark.parametrize(("beginning", "piece", "pause", "word"), ENDLESS.values(), ids=ENDLESS)
def test_a_download_ends(server, tmp_path, monkeypatch, beginning, piece, pause, word):
    monkeypatch.undo()
    monkeypatch.delenv("SEQZOO_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(fetch, "DEADLINE", 0.5)
    endless = Endless(beginning, piece, pause)
    source = fetch.Source(endless.url, hashlib.sha256(WHOLE).hexdigest(), len(WHOLE))
    monkeypatch.setitem(fetch.FILES, NAME, source)
    start = time.monotonic()
    with pytest.raises(DataError, match=word):
        fetch.fetch(NAME)
    assert time.monotonic() - start < 3
    assert left_behind(tmp_path) == []
    assert endless.sent < 2**25
    endless.socket.close()


def test_what_a_killed_download_left_is_removed(server, tmp_path):
    """Parts of processes that have ended, and no others."""
    server.content = WHOLE
    folder = tmp_path / "cache" / "seqzoo" / "mnist"
    folder.mkdir(parents=True)
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    name = NAME.removeprefix("mnist/")
    running = folder / f".{name}.{os.getppid()}.part"
    other = folder / f".own.{ended.pid}.part"
    for path in (folder / f".{name}.{ended.pid}.part", running, other):
        path.write_bytes(b"half")
    path = fetch.fetch(NAME)
    assert sorted(left_behind(tmp_path)) == sorted([path, running, other])
