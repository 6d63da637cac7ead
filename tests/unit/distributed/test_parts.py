"""The folder of parts: whole files or none, one run at a time, and what is finished is known from the files."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from engagement_async import TOTALS, JobCorruptError, JobDiskError, JobLockedError, OtherJobError, Query
from engagement_async._export.files import publish
from engagement_async.distributed import parts
from engagement_async.distributed.arrow_tables import schema_of
from engagement_async.distributed.parts import PartWriter, Written, begin_run, finished_ids, finished_parts

QUERY = Query(TOTALS, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id", "engagement.type"]})
OTHER = Query(TOTALS, engagement_types=["replies"], groupings={"by_tweet": ["tweet.id", "engagement.type"]})


def table(*ids: str, state: str = "answered", owner: str | None = None) -> pa.Table:
    rows = [{"tweet_id": i, "state": state, "favorites": 3, "owner": owner} for i in ids]
    return pa.Table.from_pylist(rows, schema=schema_of(QUERY, wide=True))


def begin(folder: Path) -> PartWriter:
    return begin_run(folder, QUERY, wide=True)


def finished(folder: Path) -> dict[str, str | None]:
    return {i: owner for ids, owners in finished_ids(folder) for i, owner in zip(ids, owners, strict=True)}


def test_parts_of_many_runs_are_one_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "below" / "out"
    first = pickle.loads(pickle.dumps(begin(folder)))
    assert first.write(0, table("1", "2", "2")) == Written(2, 0)
    assert first.write(7, table("3", owner="acme")) == Written(1, 0)
    second = begin(folder)
    second.write(0, table("4"))

    assert finished(folder) == {"1": None, "2": None, "3": "acme", "4": None}
    assert [path.name for path in finished_parts(folder)] == [f"part-{n:06}.parquet" for n in (0, 7, 8)]
    assert sorted(pads.dataset(folder).to_table()["tweet_id"].to_pylist()) == ["1", "2", "2", "3", "4"]
    assert (second.written(0), second.written(1)) == (1, 0)


def test_a_part_that_is_written_again_takes_its_place(tmp_path: Path) -> None:
    writer = begin(tmp_path)
    writer.write(0, table("1", "2"))
    writer.write(0, table("1", "2"))

    assert pads.dataset(tmp_path).to_table()["tweet_id"].to_pylist() == ["1", "2"]


def test_pending_ids_are_in_no_part(tmp_path: Path) -> None:
    writer = begin(tmp_path)

    assert writer.write(0, pa.concat_tables([table("1"), table("2", state="pending")])) == Written(1, 1)
    assert writer.write(1, table("3", state="pending")) == Written(0, 1)
    assert finished(tmp_path) == {"1": None}
    assert len(finished_parts(tmp_path)) == 1


def test_only_the_run_that_began_last_adds_parts(tmp_path: Path) -> None:
    first = begin(tmp_path)
    second = begin(tmp_path)

    with pytest.raises(JobLockedError, match="another run has taken over"):
        first.write(0, table("1"))
    second.write(0, table("2"))
    assert finished(tmp_path) == {"2": None}
    assert not list(tmp_path.glob(".*"))


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    begin(tmp_path)
    (tmp_path / ".part-000000.0123abcd.writing").write_bytes(b"PAR1 half of it")

    writer = begin(tmp_path)

    assert writer.first_number == 0
    assert not list(tmp_path.glob(".*"))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").touch()
    with pytest.raises(OtherJobError, match=r"holds mine\.csv"):
        begin(tmp_path)
    begin(tmp_path / "out")
    for query, wide in ((OTHER, True), (QUERY, False)):
        with pytest.raises(OtherJobError, match="another query"):
            begin_run(tmp_path / "out", query, wide=wide)
    for text in (b"no JSON", b"[]"):
        (tmp_path / "out" / "_engagement.json").write_bytes(text)
        with pytest.raises(OtherJobError, match="was not written by this package"):
            begin(tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"PAR1 half of it", b"PAR1" * 1000])
def test_a_part_that_is_damaged_is_named(tmp_path: Path, content: bytes) -> None:
    writer = begin(tmp_path)
    writer.path(3).write_bytes(content)

    with pytest.raises(JobCorruptError, match=r"part-000003\.parquet cannot be read .*delete it"):
        finished(tmp_path)


def test_a_disk_that_fails_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = begin(tmp_path)

    def full(_: pa.Table, path: Path, **__: object) -> None:
        path.write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(JobDiskError, match="No space left on device"):
        writer.write(0, table("1"))
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("_")] == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(JobDiskError, match="cannot be written"):
        begin(tmp_path / "file" / "out")


def test_a_part_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = begin(tmp_path)
    seen: list[tuple[list[str], bool]] = []

    def watched(hidden: Path, target: Path) -> None:
        seen.append((pq.read_table(hidden)["tweet_id"].to_pylist(), target.exists()))
        publish(hidden, target)

    monkeypatch.setattr(parts, "publish", watched)
    writer.write(0, table("1"))

    assert seen == [(["1"], False)]
