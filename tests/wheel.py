"""`make wheel-test`: the built wheel, installed into clean environments, without extras and with each.

The wheel is built from the source distribution, so both are whole. Each environment imports every public name, fetches
from an emulator, and meets what it has no extra for with an error that names the extra. Without extras this is done on
every Python that the machine has.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from tests.support.interpreters import ROOT, find, promised, uv

PROGRAM = ROOT / "tests" / "support" / "installed.py"
HAVE_ARROW = ("arrow", "duckdb", "series", "all")
HAVE_COMMANDS = ("cli", "all")
HAVE_REPORT = ("report", "all")
ENGINES = ("dask", "ray", "spark")
"""Extras of a gigabyte: `make engines` installs them, and runs their tests."""


def environment(folder: Path, interpreter: str, wheel: Path, extra: str) -> Path:
    """Return the interpreter of a new environment that holds the wheel and nothing else."""
    uv("venv", "--quiet", "--no-project", "--python", interpreter, folder)
    python = folder / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", python, f"{wheel}[{extra}]" if extra else wheel)
    return python


def check(python: Path, extra: str, folder: Path) -> None:
    """Raise `CalledProcessError` or `AssertionError` when the environment does not do what it should."""
    has = [name for name, extras in (("arrow", HAVE_ARROW), ("report", HAVE_REPORT)) if extra in extras]
    subprocess.run([python, "-I", "-W", "error", PROGRAM, *has], check=True, cwd=folder)
    engagement = [python.with_name("engagement")]
    version = subprocess.run([*engagement, "--version"], check=False, capture_output=True, text=True, cwd=folder)
    if extra in HAVE_COMMANDS:
        assert version.returncode == 0, version.stderr
        subprocess.run([*engagement, "demo", "--output", "demo"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        assert list((folder / "demo").iterdir())
    else:
        assert version.returncode != 0
        assert "engagement-async[cli]" in version.stderr, version.stderr
        assert "Traceback" not in version.stderr, version.stderr


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    interpreters = {version: found for version in promised() if (found := find(version)) is not None}
    oldest = next(iter(interpreters))
    extras = [extra for extra in project["optional-dependencies"] if extra not in ENGINES]
    runs = [(oldest, extra) for extra in extras] + [(version, "") for version in interpreters]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        built = subprocess.run(
            [sys.executable, "-m", "build", "--outdir", folder, ROOT], check=False, capture_output=True, text=True
        )
        if built.returncode:
            sys.exit(f"{built.stdout}{built.stderr}wheel-test: the package cannot be built")
        (wheel,) = folder.glob("*.whl")
        for version, extra in runs:
            place = folder / f"{version}-{extra or 'bare'}"
            place.mkdir()
            check(environment(place / "venv", interpreters[version], wheel, extra), extra, place)
            print(f"wheel-test: Python {version}, {f'[{extra}]' if extra else 'no extras'}: fine", flush=True)
    for version in promised():
        if version not in interpreters:
            print(f"wheel-test: Python {version}: not to be had here")
    return 0


if __name__ == "__main__":
    sys.exit(main())
