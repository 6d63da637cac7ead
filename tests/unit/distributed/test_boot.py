"""The clock since boot, and which boot it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from engagement_async.distributed.boot import boot_clock, boot_id


def test_the_boot_and_its_clock_are_the_machine_s(monkeypatch: pytest.MonkeyPatch) -> None:
    assert boot_id() == boot_id() != ""
    assert 0 < boot_clock() <= boot_clock()

    def no_file(path: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", no_file)
    assert boot_id().startswith("boot ")
