"""The install is found, whatever folders lie beside a user's script."""

import base64
import hashlib
import importlib.util
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = (
    "import importlib.util, seqzoo;"
    "print(seqzoo.__version__, seqzoo.__file__, importlib.util.find_spec('seqzoo.data').origin)"
)


def find_distribution():
    """The install of seqzoo, if there is one."""
    try:
        return metadata.distribution("seqzoo")
    except metadata.PackageNotFoundError:
        return None


@pytest.fixture
def beside(tmp_path):
    """A folder with a script, and with a user's data in a folder of the package's name."""
    for name in ("seqzoo/data", "seqzoo/zoo"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def ran(folder, *options, **environment):
    """What the script prints."""
    command = [sys.executable, *options, folder / "script.py"]
    done = subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(find_distribution() is None, reason="needs an install: this is a plain tree")
def test_a_folder_of_the_same_name_does_not_hide_this_install(beside):
    version, package, data = ran(beside)
    import seqzoo

    assert version == seqzoo.__version__
    assert package == seqzoo.__file__
    assert data == importlib.util.find_spec("seqzoo.data").origin


def test_it_does_not_hide_an_installed_wheel(beside):
    """A wheel is plain folders on the path, which links stand for here."""
    site = beside / "site-packages"
    (site / "seqzoo").mkdir(parents=True)
    for name, folder in (("data", "data"), ("__init__.py", "seqzoo/__init__.py")):
        (site / "seqzoo" / name).symlink_to(ROOT / folder)
    _, package, data = ran(beside, "-S", PYTHONPATH=str(site))
    assert Path(package) == site / "seqzoo/__init__.py"
    assert Path(data) == site / "seqzoo/data/__init__.py"


def test_the_finder_of_an_editable_install_is_put_first(tmp_path, monkeypatch):
    """The record of the wheel still holds, and nothing else changes."""
    setuptools = pytest.importorskip("setuptools.build_meta")
    spec = importlib.util.spec_from_file_location("build_backend", ROOT / "build_backend.py")
    backend = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(backend)
    finder, record = "__editable___x_finder.py", "x-1.dist-info/RECORD"
    content = b"import sys\n" + backend.APPENDED + b"\n"

    def build(folder, settings, metadata):
        with zipfile.ZipFile(Path(folder, "x.whl"), "w") as wheel:
            wheel.writestr(finder, content)
            wheel.writestr(record, backend._line(finder, content) + b"\nx-1.dist-info/RECORD,,\n")
        return "x.whl"

    monkeypatch.setattr(setuptools, "build_editable", build)
    assert backend.build_editable(str(tmp_path)) == "x.whl"
    assert [path.name for path in tmp_path.iterdir()] == ["x.whl"]
    with zipfile.ZipFile(tmp_path / "x.whl") as wheel:
        changed, line = wheel.read(finder), wheel.read(record).decode().splitlines()[0]
    assert changed == b"import sys\n" + backend.FIRST + b"\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(changed).digest()).decode().rstrip("=")
    assert line == f"{finder},sha256={digest},{len(changed)}"


def test_the_lowest_versions_are_those_that_are_declared():
    """``make test-lowest`` installs what pyproject.toml promises, every dependency of it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [project["dependencies"], *project["optional-dependencies"].values()]
    lines = [line for lines in declared for line in lines if not line.startswith("seqzoo")]
    lowest = dict(line.split(">=") for line in lines)
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pinned.keys() == lowest.keys()
    for name, version in lowest.items():
        numbers, least = ([int(x) for x in v.split(".")] for v in (pinned[name], version))
        assert numbers[: len(least)] == least, name
        assert len(least) == 3 or numbers[2] <= 1, name  # SciPy 1.11.0 was withdrawn
