"""The Pythons that the package promises, and where this machine has them."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

__all__ = ["ROOT", "find", "promised", "uv"]

ROOT = Path(__file__).parents[2]
UV = (sys.executable, "-m", "uv")


def promised() -> list[str]:
    """Return the versions that the classifiers name, as `3.11`, the oldest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: 3."
    minors = sorted(int(each.removeprefix(prefix)) for each in project["classifiers"] if each.startswith(prefix))
    return [f"3.{minor}" for minor in minors]


def find(version: str) -> str | None:
    """Return an interpreter of that version: this one, one of the path, pyenv's, or one that uv has or can fetch."""
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    found = shutil.which(f"python{version}")
    for candidate in (sys.executable, found, *sorted(glob.glob(f"{pyenv}/versions/{version}.*/bin/python"))):
        if candidate and _version_of(candidate) == version:
            return candidate
    fetched = subprocess.run(
        [*UV, "python", "install", "--quiet", version],
        env=os.environ | {"UV_HTTP_RETRIES": "0", "UV_PYTHON_INSTALL_BIN": "0"},
        capture_output=True,
        check=False,
    )
    if fetched.returncode:
        return None
    done = subprocess.run(
        [*UV, "python", "find", "--managed-python", version], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None


def uv(*args: str | Path) -> None:
    """Run uv. Raise `CalledProcessError` when it fails."""
    subprocess.run([*UV, *map(str, args)], check=True, cwd=ROOT)


def _version_of(interpreter: str) -> str | None:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # a shim of pyenv, say
        return None
    return done.stdout.strip()
