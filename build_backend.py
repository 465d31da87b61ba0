"""The build backend: setuptools, whose editable installs are found before anything else.

Setuptools appends its finder of an editable install to ``sys.meta_path``. There a folder ``seqzoo``
beside a user's script comes first, as a namespace package, and hides the install. Here the finder
is put first. Built packages need no finder and are left as they are.
"""

import base64
import hashlib
import os
import zipfile
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  the hooks of a backend

APPENDED, FIRST = (
    b"sys.meta_path.append(_EditableFinder)",
    b"sys.meta_path.insert(0, _EditableFinder)",
)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):  # noqa: ANN001, ANN201
    """Builds the wheel of an editable install; returns its file name."""
    name = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    whole = Path(wheel_directory, name)
    part = whole.with_suffix(".part")
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(part, "w") as new:
        files = {item.filename: old.read(item) for item in old.infolist()}
        for file in [file for file in files if file.endswith("_finder.py")]:
            before, files[file] = files[file], files[file].replace(APPENDED, FIRST)
            (record,) = (name for name in files if name.endswith(".dist-info/RECORD"))
            files[record] = files[record].replace(_line(file, before), _line(file, files[file]))
        for file, content in files.items():
            new.writestr(file, content)
    os.replace(part, whole)
    return name


def _line(file: str, content: bytes) -> bytes:
    """The line of a wheel's record for a file."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{file},sha256={digest},{len(content)}".encode()
