"""Every tutorial runs, on tiny sizes, as a script and as a notebook, and writes nothing here."""

import ast
import importlib.util
import re
import runpy
import sys
from pathlib import Path

import jupytext
import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "tutorials" / "notebooks"
SCRIPTS = sorted((ROOT / "tutorials").glob("*.py"))
HEADER = "# ---\n# jupyter:\n#   jupytext:\n"
LIMIT = 180  # s; one takes some seconds where it has a core to itself
#: They train for seconds even so, and ``make slow`` runs them, as notebooks, too.
LONG = "3_swap", "5_denoise", "6_your_own", "7_from"
every_tutorial = pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])


def cells(text):
    """Marker and content of every cell of a percent script, the header left out."""
    parts = re.split(r"^# %%(.*)\n", text, flags=re.MULTILINE)
    return [(kind.strip(), content) for kind, content in zip(parts[1::2], parts[2::2])]


def listing():
    """What lies where a careless script writes: beside it, and at the top of the repository."""
    return {path for folder in (ROOT, ROOT / "tutorials") for path in folder.iterdir()}


@pytest.fixture
def small(request, monkeypatch, tmp_path):
    """The smoke setting, in an empty folder; the published data for a script that reads them."""

    def prepare(script):
        if "data.Polyphonic(" in script.read_text():
            request.getfixturevalue("published")
        for name, value in (
            ("SEQZOO_SMOKE", "1"),
            ("MPLBACKEND", "Agg"),
            ("OMP_NUM_THREADS", "1"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
        ):
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)

    return prepare


def test_there_are_tutorials():
    assert len(SCRIPTS) >= 5
    assert [path.name[:2] for path in SCRIPTS] == sorted({path.name[:2] for path in SCRIPTS})


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * path.stem.startswith(LONG))
        for path in SCRIPTS
    ],
)
def test_a_tutorial_runs(script, small, capsys):
    """In this process: a new one would import torch again."""
    small(script)
    before = listing()
    matplotlib.use("Agg")
    runpy.run_path(str(script), run_name="__main__")
    plt.close("all")
    assert capsys.readouterr().out.strip()
    assert not listing() - before, "written into the repository"


@every_tutorial
def test_a_tutorial_is_a_percent_script(script):
    text = script.read_text()
    assert text.startswith(HEADER)
    assert "#       format_name: percent\n" in text.split("# %%")[0]
    found = cells(text)
    assert {kind for kind, _ in found} <= {"", "[markdown]"}
    prose = [content for kind, content in found if kind == "[markdown]"]
    assert len(prose) >= 3
    assert prose[0].startswith("# # "), "the first cell is the title"
    for content in prose:
        assert all(line.startswith("#") for line in content.strip().splitlines())
    for kind, content in found:
        if not kind:
            ast.parse(content)  # every cell stands alone
    assert "SEQZOO_SMOKE" in text


@every_tutorial
def test_a_tutorial_needs_no_package_beyond_those_of_seqzoo(script):
    known = {"seqzoo", "torch", "numpy", "matplotlib", "pyro", "safetensors", "arviz", "IPython"}
    known |= {"pynwb"} if 'pip install "seqzoo[neuro]"' in script.read_text() else set()
    for node in ast.walk(ast.parse(script.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.split(".")[0] in known | sys.stdlib_module_names, name


@every_tutorial
def test_a_tutorial_is_a_notebook(script):
    notebook = jupytext.read(script)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds == ["markdown" if kind else "code" for kind, _ in cells(script.read_text())]
    again = jupytext.reads(jupytext.writes(notebook, "py:percent"), "py:percent")
    assert [cell.source for cell in again.cells] == [cell.source for cell in notebook.cells]


@every_tutorial
def test_the_notebook_that_is_shown_is_that_of_the_script(script):
    """It has the script's cells, was run from first to last without a fault, and shows pictures."""
    shown = NOTEBOOKS / f"{script.stem}.ipynb"
    assert shown.is_file(), "run it: make notebooks"
    notebook, source = nbformat.read(shown, 4), jupytext.read(script)
    nbformat.validate(notebook)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in source.cells], (
        "refresh it: make notebooks"
    )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    text = shown.read_text()
    assert len(text) < 4e6  # most of it is sound
    assert not re.search(r"site-packages|/home/|/root/|/work/|/tmp/", text), "names of a machine"


@pytest.mark.slow
@every_tutorial
def test_a_tutorial_runs_as_a_notebook(script, small, monkeypatch):
    small(script)
    monkeypatch.delenv("MPLBACKEND")  # the kernel draws into the notebook
    spec = importlib.util.spec_from_file_location("make", NOTEBOOKS / "make.py")
    spec.loader.exec_module(make := importlib.util.module_from_spec(spec))
    notebook = make.run(script, LIMIT)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no picture is shown"
