"""Notebooks run from the first cell to the last, and print what the site shows."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.pages import ROOT

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """What the cells of code write to standard output; accuracies depend on the processor."""
    texts = [
        "".join(part.text for part in cell.outputs if part.get("name") == "stdout")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    return [re.sub(r"[\d.]+%", "N%", text) for text in texts]


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_it_shows(path: Path):
    shown = nbformat.read(path, as_version=4)
    run = nbformat.read(path, as_version=4)
    folder = dict(metadata=dict(path=str(path.parent)))
    NotebookClient(run, timeout=300, resources=folder).execute()
    assert printed(run) == printed(shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_stays_small(path: Path):
    assert path.stat().st_size < 200_000, "fewer or smaller pictures"
