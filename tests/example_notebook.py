"""`make notebook`: examples/notebook.ipynb out of examples/notebook.py, with the outputs of a run against the emulator."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from engagement_async.emulator import Emulator
from tests.support.notebooks import execute
from tests.support.pages import ROOT

__all__ = ["EXAMPLES", "SHARED", "sources", "unexecuted"]

EXAMPLES = ROOT / "examples"
SHARED = ("settings.py", "tweets.txt")
"""What the notebook needs beside it."""


def unexecuted() -> Any:
    """Return the notebook that notebook.py is, without outputs, with names of cells that do not change."""
    notebook = jupytext.read(EXAMPLES / "notebook.py")
    notebook.metadata.pop("jupytext", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata.clear()
    return notebook


def sources(notebook: Any) -> list[tuple[str, str]]:
    """Return the kinds and the texts of a notebook's cells."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, Emulator(60_000, log_size=None) as emulator:
        for name in SHARED:
            shutil.copy(EXAMPLES / name, folder)
        notebook = execute(unexecuted(), Path(folder), emulator.environment)
    notebook.metadata.pop("widgets")  # a bar is worth nothing once it is full
    for cell in notebook.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if not _is_bar(each)]
    nbformat.write(notebook, EXAMPLES / "notebook.ipynb")
    return 0


def _is_bar(output: Any) -> bool:
    return output.output_type == "stream" or any("widget" in kind for kind in output.get("data", {}))


if __name__ == "__main__":
    sys.exit(main())
