"""Files, folders of parts, standard input."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from engagement_async._ids.sources import files_of, name_of, open_source
from engagement_async.errors import UsageError


def test_a_folder_is_its_files_in_order_of_name(tmp_path: Path) -> None:
    parts = ["day=1/part-0.csv", "day=1/part-1.csv", "day=2/part-0.csv", "last.csv"]
    for name in [*parts, "_SUCCESS", ".part.crc", "_temporary/x.csv", ".hidden/x.csv"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert list(files_of([tmp_path, "-"])) == [*(tmp_path / name for name in parts), "-"]


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(UsageError, match="a folder without a file"):
        list(files_of([tmp_path]))


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.txt: No such file"):
        open_source(tmp_path / "none.txt", None)
    with pytest.raises(UsageError, match="null"):
        open_source("a\0b", None)


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")
    Path(path).write_text("20\n")

    with open_source(path, None) as file:
        assert file.read() == b"20\n"
    assert name_of(path) == path


def test_standard_input_stays_open() -> None:
    stdin = io.BytesIO(b"20")
    with open_source("-", stdin) as file:
        assert file is stdin
    assert not stdin.closed
    assert name_of("-") == "standard input"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be waited for there")
def test_a_signal_ends_the_wait_for_a_pipe_also_if_it_interrupts_no_system_call() -> None:
    """A signal to another thread is noticed by the main one as late as one that comes right before it waits."""
    reader, writer = os.pipe()
    late = threading.Timer(0.3, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT))

    def wait() -> None:
        with open_source(f"/dev/fd/{reader}", None) as file:
            late.start()
            file.read(10)

    try:
        with pytest.raises(KeyboardInterrupt):
            wait()
    finally:
        late.join()
        os.close(reader)
        os.close(writer)
