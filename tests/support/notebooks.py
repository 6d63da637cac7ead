"""Notebooks, executed in a kernel of their own: on loopback, apart from whatever Jupyter this user has, and gone afterwards.

As a program it executes the notebook on its stdin and writes it with its outputs to stdout. It is a process of its own, as
Jupyter's client leaves sockets to the garbage collector; and whatever ends it ends the kernel, which looks after its parent.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat

__all__ = ["execute", "html_of", "notebook_of", "read_notebook", "stderr_of", "text_of"]

_ROOT = Path(__file__).parents[2]
_KERNEL = "engagement"


def execute(notebook: Any, folder: Path, environment: Mapping[str, str]) -> Any:
    """Return the notebook as it is after all of its cells ran in that folder, with these variables.

    A cell that raises is an error, unless it has the tag `raises-exception`. Nothing but pytest's own timeout bounds how
    long it takes.
    """
    with tempfile.TemporaryDirectory() as made:
        # A user's own kernels, start-up files and settings count for nothing, and keys of connections are gone afterwards.
        own = {f"JUPYTER_{name}_DIR": f"{made}/{name.lower()}" for name in ("CONFIG", "DATA", "RUNTIME")}
        spec = Path(own["JUPYTER_DATA_DIR"], "kernels", _KERNEL)
        spec.mkdir(parents=True)
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        (spec / "kernel.json").write_text(
            json.dumps({"argv": command, "display_name": "Python 3", "language": "python"})
        )
        own |= {"IPYTHONDIR": f"{made}/ipython", "JUPYTER_PLATFORM_DIRS": "1", "JUPYTER_PATH": "", "MPLBACKEND": "agg"}
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.notebooks", folder],
            input=nbformat.writes(notebook),
            env={**os.environ, **environment, **own, "PYTHONPATH": str(_ROOT)},
            cwd=_ROOT,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    return nbformat.reads(done.stdout, as_version=4)


def main(folder: str) -> None:
    """Execute the notebook on stdin."""
    notebook = nbformat.reads(sys.stdin.read(), as_version=4)
    asyncio.run(_execute(notebook, folder))
    sys.stdout.write(nbformat.writes(notebook))


async def _execute(notebook: Any, folder: str) -> None:
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    manager = AsyncKernelManager(kernel_name=_KERNEL, ip="127.0.0.1")
    client = NotebookClient(notebook, km=manager, timeout=None, startup_timeout=280, shutdown_kernel="immediate")
    async with client.async_setup_kernel(cleanup_kc=True, cwd=folder):
        connection = json.loads(Path(manager.connection_file).read_text())
        if (connection["transport"], connection["ip"]) != ("tcp", "127.0.0.1"):
            raise RuntimeError(f"the kernel listens on {connection['ip']}")
        for index, cell in enumerate(notebook.cells):
            await client.async_execute_cell(cell, index)
        client.set_widgets_metadata()


def notebook_of(*cells: str) -> Any:
    """Return a notebook of these cells of code. One that begins with `# raises` may raise."""
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]
    for cell in made:
        if cell.source.startswith("# raises"):
            cell.metadata["tags"] = ["raises-exception"]
    return nbformat.v4.new_notebook(cells=made)


def read_notebook(path: Path) -> Any:
    """Return the notebook of a file."""
    return nbformat.read(path, as_version=4)


def html_of(cell: Any) -> str:
    """Return the HTML that a cell shows."""
    return "".join(_data(cell, "text/html"))


def text_of(cell: Any) -> str:
    """Return what a cell shows as text."""
    return "".join(_data(cell, "text/plain"))


def stderr_of(cell: Any) -> str:
    """Return what a cell wrote to stderr."""
    return "".join(output.text for output in cell.outputs if output.get("name") == "stderr")


def _data(cell: Any, kind: str) -> Iterator[str]:
    return (output.data[kind] for output in cell.outputs if kind in output.get("data", {}))


if __name__ == "__main__":
    main(sys.argv[1])
