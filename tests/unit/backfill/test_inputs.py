"""Inputs, and by what they are recognized."""

from __future__ import annotations

import json
import os
from pathlib import Path

import orjson
import pytest

from engagement_async import UsageError
from engagement_async.backfill.inputs import FileSource, Fingerprint, GivenSource, file_stamp, is_proof, path_of


def test_a_fingerprint_is_of_the_ids_and_their_order() -> None:
    def of(*chunks: list[int]) -> str:
        fingerprint = Fingerprint()
        for chunk in chunks:
            assert list(fingerprint.update(chunk)) == chunk
        return fingerprint.hexdigest()

    assert of([1, 2], [3]) == of([1], [2, 3])
    assert len({of([1, 2]), of([2, 1]), of([1, 2, 2]), of([1])}) == 4


def test_ids_that_a_caller_holds_are_checked() -> None:
    assert [list(chunk) for chunk in GivenSource(["7", 8]).chunks(print)] == [[7, 8]]
    assert GivenSource(["7"]).stamps() == []
    with pytest.raises(UsageError, match=r"tweet_ids\[1\]"):
        list(GivenSource(["7", "x"]).chunks(print))


def test_a_file_is_known_by_what_nobody_can_set_and_by_what_is_read_of_it(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("tweet_id,other\n1,2\n")
    stamp = file_stamp(path)
    assert {"name", "size", "mtime_ns", "ctime_ns"} == stamp.keys()
    assert FileSource([path]).stamps() == [{**stamp, "id_column": None, "format": None}]

    assert FileSource([path], id_column="other").stamps() != FileSource([path]).stamps()
    assert FileSource([path], format="csv").stamps() != FileSource([path]).stamps()


def test_what_cannot_be_known_again_has_no_stamp(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "size" not in file_stamp(tmp_path / "pipe")
    for file in ("-", tmp_path / "pipe", tmp_path / "missing"):
        assert FileSource([file]).stamps() == []


def test_files_beside_what_cannot_be_known_again_are_known_by_name_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "ids.csv"
    path.write_text("tweet_id\n1\n")
    for other in ("-", tmp_path / "pipe"):
        stamps = FileSource([path, other]).stamps()
        assert [path_of(stamp) for stamp in stamps] == [str(path)]
        assert not is_proof(stamps)
    assert is_proof(FileSource([path]).stamps())


def test_a_name_that_is_no_text_is_kept(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/100%25 \xff\xe9.csv"
    Path(os.fsdecode(path)).write_text("tweet_id\n1\n")
    (stamp,) = json.loads(orjson.dumps(FileSource([os.fsdecode(path)]).stamps()))

    assert os.fsencode(path_of(stamp)) == path
    assert path_of({"name": "/a/100%25.csv", "size": 1}) == "/a/100%25.csv"  # as earlier versions wrote all names


def test_lines_that_are_no_ids_are_handed_on_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("1\nx\n2\n")
    rejects: list[object] = []

    assert [i for chunk in FileSource([path]).chunks(rejects.append) for i in chunk] == [1, 2]
    assert len(rejects) == 1
    with pytest.raises(UsageError):
        list(FileSource([path], strict=True).chunks(rejects.append))
