"""`make matrix`: the suite on every Python that is promised; newest dependencies, and on the oldest Python the lowest too.

An interpreter is one that this machine has, or that uv can fetch, or, for root on a machine with debootstrap, that of a
small Debian in a folder. A version that is not to be had is said to be so; it fails nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.interpreters import ROOT, find, promised, uv

FOLDER = ROOT / ".matrix"
PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "3", "--dist", "loadfile"]
Suite = Callable[[list[str]], int]
"""Runs pytest with these further arguments; returns its exit code."""


def prepared(version: str, resolution: str) -> Suite | None:
    """Return the suite on a Python in an environment of its own; None where there is no such Python."""
    interpreter = find(version)
    if interpreter is None:
        return in_debian(version) if resolution == "highest" else None
    folder = FOLDER / f"{version}-{resolution}"
    uv("venv", "--quiet", "--clear", "--no-project", "--python", interpreter, folder)
    python = folder / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", python, "--resolution", resolution, "-e", ".[all]", "--group", "dev")
    return lambda args: subprocess.run([python, *PYTEST, *args], check=False, cwd=ROOT).returncode


def in_debian(version: str) -> Suite | None:
    """Return the suite on Debian's own Python of that version, in a folder that is its root; None where that cannot be."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        return None
    root = FOLDER / f"debian-{version}"
    if not (root / "usr" / "bin" / f"python{version}").exists():
        shutil.rmtree(root, ignore_errors=True)
        packages = f"python{version},python{version}-venv,ca-certificates,curl,make,openssl,redis-server"
        command = ["debootstrap", "--variant=minbase", f"--include={packages}", "sid", str(root)]
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            return None
    authorities = Path("/etc/ssl/certs/ca-certificates.crt")
    if authorities.exists():
        shutil.copy(authorities, root / authorities.relative_to("/"))
    shutil.rmtree(root / "project", ignore_errors=True)
    for name in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split():
        if (ROOT / name).exists():
            target = root / "project" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    # The mounts are this command's own, and end with it.
    inside = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" sh -c "$1" -- "${@:2}"'

    def run(script: str, *args: str) -> int:
        command = ["unshare", "--mount", "bash", "-c", inside, str(root), f"cd /project && {script}", *args]
        return subprocess.run(command, check=False).returncode

    made = f"python{version} -m venv --clear /venv && /venv/bin/pip install --quiet -e '.[all]' --group dev"
    if run(made):
        raise SystemExit(f"matrix: the dependencies do not install on Debian's Python {version}")
    return lambda args: run('/venv/bin/python "$@"', *PYTEST, *args)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", metavar="VERSION", help="as 3.12; may be repeated")
    parser.add_argument(
        "--resolution", choices=["highest", "lowest-direct"], help="of the dependencies; both unless given"
    )
    given, pytest_args = parser.parse_known_args()
    versions = promised()
    runs = [(version, "highest") for version in versions] + [(versions[0], "lowest-direct")]
    lines: list[str] = []
    failed = False
    for version, resolution in runs:
        if (given.only and version not in given.only) or (given.resolution and resolution != given.resolution):
            continue
        suite = prepared(version, resolution)
        began = time.monotonic()
        code = None if suite is None else suite(pytest_args)
        failed = failed or bool(code)
        said = "not to be had here" if code is None else "passed" if code == 0 else f"FAILED ({code})"
        lines.append(f"  {version:5} {resolution:14} {said}, {time.monotonic() - began:.0f} s")
        print(f"matrix: Python {version}, {resolution}: {said}", flush=True)
    print("matrix:", *lines, sep="\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
