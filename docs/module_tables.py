"""The tables of modules in docs/architecture.md: each module with the first sentence of its docstring. cog runs it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

__all__ = ["table"]

PACKAGE = Path(__file__).parents[1] / "engagement_async"


def table(folder: str = "") -> str:
    """Return the modules of one folder of the package as a Markdown table; of the package itself by default."""
    modules = [path for path in sorted((PACKAGE / folder).glob("*.py")) if path.stem not in ("__init__", "__main__")]
    folders = [path for path in sorted((PACKAGE / folder).glob("*/__init__.py")) if folder]
    rows = [f"| `{path.relative_to(PACKAGE)}` | {_summary(path)} |" for path in modules]
    rows += [f"| `{path.parent.relative_to(PACKAGE)}/` | {_summary(path)} |" for path in folders]
    return "\n".join(["", "| module | what lives in it |", "|---|---|", *rows, "", ""])


def _summary(path: Path) -> str:
    """The first sentence of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    text = " ".join(docstring.partition("\n\n")[0].split())
    sentence = re.match(r".+?\.(?= [A-Z`]|$)", text)
    return (sentence[0] if sentence else text).replace("|", "\\|")
