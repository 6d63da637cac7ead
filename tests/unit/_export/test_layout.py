"""Which files an output makes: the format by the suffix, and what is refused before anything is asked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async._core.tables import TableShape
from engagement_async._export.layout import FORMATS, TEXT_FORMATS, OutputFormat, TableLayout, format_of
from engagement_async.errors import UsageError
from tests.support.jobs import started

ONE = {"by_tweet": ("tweet.id", "engagement.type")}
TWO = {**ONE, "all": ("engagement.type",)}
SUM = {"days": ("engagement.day",)}


@pytest.mark.parametrize(
    ("name", "kind", "compression"),
    [
        ("x.csv", "csv", None),
        ("X.CSV", "csv", None),
        ("x.2026.tsv", "tsv", None),
        ("x.json", "json", None),
        ("x.ndjson", "jsonl", None),
        ("x.jsonl.gz", "jsonl", "gz"),
        ("x.csv.zst", "csv", "zst"),
        ("a.b/x.CSV.GZ", "csv", "gz"),
        ("x.pq", "parquet", None),
        ("x.parquet", "parquet", None),
        ("x.feather", "arrow", None),
        ("x.arrow", "arrow", None),
        ("x.duckdb", "duckdb", None),
        ("x.ddb", "duckdb", None),
        ("x.xlsx", "xlsx", None),
        ("文.csv", "csv", None),
    ],
)
def test_the_suffix_says_the_format(name: str, kind: str, compression: str | None) -> None:
    assert format_of(name) == (kind, compression)
    assert TableLayout(name, None, ONE).format == (kind, compression)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("x", "which format"),
        ("x.txt", r"which format\? Let the name end in \.json, \.jsonl, \.csv"),
        ("x.gz", "which format"),
        ("x.txt.gz", "which format"),
        ("x.xls", "which format"),
        ("x.", "which format"),
        (".csv", "which format"),
        ("x.csv.bz2", r"\.bz2 is not written: take one of \.gz and \.zst"),
        ("x.csv.zip", r"\.zip is not written"),
        ("x.parquet.gz", r"parquet is compressed already: leave out \.gz"),
        ("x.xlsx.zst", r"xlsx is compressed already: leave out \.zst"),
        ("s3://bucket/x.csv", "no path of this machine: write a file or a folder here, and copy it with `aws s3 cp`"),
        ("s3://bucket/x/", "no path of this machine"),
        ("gs://b/x.parquet", "gcloud storage cp"),
        ("https://example.com/x.csv", "no path of this machine"),
    ],
)
def test_what_is_not_understood_is_refused(name: str, says: str) -> None:
    for format_ in (None, "csv") if "which format" not in says and "already" not in says else (None,):
        with pytest.raises(UsageError, match=says):
            TableLayout(name, format_, ONE, stream_format="json")


def test_a_name_that_duckdb_cannot_open_is_refused() -> None:
    for name, format_ in (("caf\udce9.duckdb", None), ("caf\udce9/x", "duckdb")):
        with pytest.raises(UsageError, match="DuckDB opens only files whose names are UTF-8"):
            TableLayout(name, format_, ONE)
    assert TableLayout("caf\udce9.csv", None, ONE).format == ("csv", None)


def test_a_format_that_is_named_overrides_the_suffix() -> None:
    assert TableLayout("x.txt", "csv", ONE).format == ("csv", None)
    assert TableLayout("x.parquet", "csv", ONE).format == ("csv", None)
    assert TableLayout("x.log.gz", "jsonl", ONE).format == ("jsonl", "gz")
    assert TableLayout("x", "ndjson", ONE).format == ("jsonl", None)


@given(st.sampled_from(FORMATS), st.sampled_from([None, "gz", "zst"]))
def test_a_file_of_a_format_is_read_as_that_format(kind: str, compression: str | None) -> None:
    if compression is None or kind in TEXT_FORMATS:
        assert format_of("x" + OutputFormat(kind, compression).suffix) == (kind, compression)


def test_streams_have_the_format_that_is_wanted_of_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("-", "/dev/stdout", "/dev/null", "/dev/fd/1", str(tmp_path / "pipe")):
        assert TableLayout(name, None, ONE, stream_format="json").format.name == "json"
        assert TableLayout(name, "csv", ONE, stream_format="json").format.name == "csv"
        with pytest.raises(UsageError, match="which format"):
            TableLayout(name, None, ONE)
        with pytest.raises(UsageError, match="duckdb needs a file"):
            TableLayout(name, "duckdb", ONE)
    assert TableLayout(str(tmp_path / "pipe.csv"), None, ONE, stream_format="json").format.name == "csv"


def test_a_terminal_gets_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor == 1)

    for kind in ("parquet", "arrow", "xlsx"):
        with pytest.raises(UsageError, match="is no text for a terminal"):
            TableLayout("-", kind, ONE)
    assert TableLayout("-", "tsv", ONE).format.is_text


def test_names_that_differ_in_case_are_kept_apart_in_json_and_a_name_as_long_as_a_sheets_is_one() -> None:
    assert TableLayout("x.json", None, {"A": ("tweet.id",), "a": ("engagement.type",)}).groupings == ("A", "a")
    assert TableLayout("x.xlsx", None, {"😀" * 15 + "a": ("tweet.id",)}).has_all_in_one


def test_a_folder_has_a_file_for_each_grouping(tmp_path: Path) -> None:
    new = f"{tmp_path}/out/"
    layout = TableLayout(new, None, TWO)
    assert (layout.is_folder, layout.format.name) == (True, "parquet")
    assert layout.files() == [f"{new}by_tweet.parquet", f"{new}all.parquet"]
    assert layout.part_of("all", 3) == f"{new}all-00003.parquet"
    assert layout.make_folder()
    assert not layout.make_folder()

    assert TableLayout(str(tmp_path), "csv", TWO).files() == [f"{tmp_path}/by_tweet.csv", f"{tmp_path}/all.csv"]
    assert TableLayout(f"{tmp_path}/x.csv.gz/", None, ONE).files() == [f"{tmp_path}/x.csv.gz/by_tweet.csv.gz"]
    assert TableLayout(f"{tmp_path}/v1.2/", None, ONE).format.name == "parquet"
    for kind in ("json", "duckdb", "xlsx"):
        with pytest.raises(UsageError, match="a folder holds"):
            TableLayout(new, kind, ONE)


@pytest.mark.parametrize("name", ["job", "job/", "job/parts/", "job/parts/more/"])
def test_no_folder_is_made_in_the_folder_of_a_job(tmp_path: Path, name: str) -> None:
    started(tmp_path / "job", 3)
    layout = TableLayout(f"{tmp_path}/{name}", "parquet", ONE)
    with pytest.raises(UsageError, match="lies in the folder of a job"):
        layout.make_folder()
    assert not any(entry.is_dir() for entry in (tmp_path / "job").iterdir())


def test_parts_of_another_export_are_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / "by_tweet-00007.csv.gz").touch()
    layout = TableLayout(f"{tmp_path}/", "csv", ONE)

    with pytest.raises(UsageError, match="a part of another export"):
        layout.make_folder([("by_tweet", 0)])


@pytest.mark.parametrize(
    ("output", "groupings", "options", "says"),
    [
        ("x.csv", TWO, {}, "csv holds one grouping, and there are 2"),
        ("{grouping}.xlsx", TWO, {}, "leave {grouping} out"),
        ("{grouping}.csv", {"../up": ("tweet.id",)}, {}, "cannot be part of a file's name"),
        ("x/", {".hidden": ("tweet.id",)}, {}, "cannot be part of a file's name"),
        ("x.xlsx", {"outcomes": ("tweet.id",)}, {}, "a grouping is called outcomes"),
        ("x.xlsx", {"a/b": ("tweet.id",)}, {}, "no name of a sheet"),
        ("x.xlsx", {"a" * 32: ("tweet.id",)}, {}, "no name of a sheet"),
        ("x.xlsx", {"History": ("tweet.id",)}, {}, "no name of a sheet"),
        ("x.xlsx", {"😀" * 16: ("tweet.id",)}, {}, "no name of a sheet"),
        ("x.xlsx", {"Ä": ("tweet.id",), "ä": ("tweet.id",)}, {}, "differ only in case"),
        ("x.duckdb", {"A": ("tweet.id",), "a": ("tweet.id",)}, {}, "'A' and 'a' differ only in case"),
        ("x.xlsx", {"e\u0301": ("tweet.id",), "É": ("tweet.id",)}, {}, "differ only in case"),
        ("x.csv", SUM, {"shape": TableShape(("replies",))}, "a column for each engagement.type"),
        ("x.json", ONE, {"shape": TableShape(("replies",))}, "neither wide nor has observed_at"),
        ("x.json", ONE, {"shape": TableShape((), has_observed_at=True)}, "neither wide nor has observed_at"),
        ("x.parquet", ONE, {"excel": True}, "--excel is for csv and tsv"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    output: str, groupings: dict[str, tuple[str, ...]], options: dict[str, object], says: str
) -> None:
    with pytest.raises(UsageError, match=says.replace("{", r"\{").replace("}", r"\}")):
        TableLayout(output, None, groupings, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("x.xlsx", "xlsxwriter", "xlsx"),
        ("x.parquet", "pyarrow", "arrow"),
        ("x.feather", "pyarrow", "arrow"),
        ("x.duckdb", "duckdb", "duckdb"),
        ("x.csv.zst", "zstandard", "cli"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(UsageError, match=rf"pip install 'engagement-async\[{extra}\]'"):
        TableLayout(name, None, ONE)


@pytest.mark.parametrize("output", ["{grouping}.csv", "new/", "there/"])
@pytest.mark.parametrize("ignores_case", [False, True])
def test_files_whose_names_differ_only_in_case_are_refused_where_the_file_system_ignores_it(
    output: str, ignores_case: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: ignores_case if ".CASE-" in str(path) else exists(path))
    groupings = {"A": ("tweet.id",), "a": ("tweet.id",)}
    if not ignores_case:
        TableLayout(output, "csv", groupings)
        assert sorted(os.listdir()) == ["there"]
    else:
        with pytest.raises(UsageError, match="differ only in case"):
            TableLayout(output, "csv", groupings)
