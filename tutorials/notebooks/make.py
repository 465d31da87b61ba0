"""Runs tutorials in full, and keeps what they print and draw: ``make notebooks``."""

import sys
import tempfile
from pathlib import Path

import jupytext
import nbclient
import nbformat

QUIET = "import warnings; warnings.filterwarnings('ignore', message='IProgress not found')"


def run(script: Path, timeout: float | None = None) -> nbformat.NotebookNode:
    """A percent script as a notebook with its outputs; what it writes goes to an empty folder.

    Arguments:
        script: the tutorial.
        timeout: seconds that a cell may take.

    Raises:
        nbclient.exceptions.CellExecutionError: when a cell fails.
    """
    notebook = jupytext.read(script)
    notebook.metadata["kernelspec"] = {
        **{"name": "python3", "display_name": "Python 3", "language": "python"}
    }
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # or every run would make new ones
    with tempfile.TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        how = {"timeout": timeout, "record_timing": False, "resources": where}
        client = nbclient.NotebookClient(notebook, **how)
        with client.setup_kernel():
            client.kc.execute(QUIET, store_history=False)  # progress bars ask for ipywidgets
            for number, cell in enumerate(notebook.cells):
                client.execute_cell(cell, number)
    return notebook


if __name__ == "__main__":
    for name in sys.argv[1:]:
        source = Path(name)
        nbformat.write(run(source), Path(__file__).parent / f"{source.stem}.ipynb")
