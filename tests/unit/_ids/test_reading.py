"""IDs out of files: every format, every archive, and what people's tools do to IDs before they come here."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import errors
from engagement_async._ids.reading import Reject, read_id_chunks, read_ids, why_not_an_id

A, B, C = "1070059276213702656", "1021817816134156288", "9223372036854775807"
TEXT = f"# mine\n{A}\n\n  {B}  # the second\r\n{C}\n"


def read(path: str | Path, data: bytes | str | None = None, **options: object) -> tuple[list[str], list[Reject]]:
    if isinstance(data, str):
        data = data.encode()
    if data is not None:
        Path(path).write_bytes(data)
    rejects: list[Reject] = []
    return list(read_ids([path], on_reject=rejects.append, **options)), rejects  # type: ignore[arg-type]


def reasons(rejects: list[Reject]) -> list[tuple[int, str]]:
    return [(reject.line, reject.reason.split(":")[0]) for reject in rejects]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", TEXT),
        ("ids", f"\"{A}\"\n'{B}'\n{C}"),
        ("ids.csv", f'name,tweet_id\nx,{A}\n\n"a\nb",{B}\r\ny, {C}\n'),
        ("ids.csv", f"{A}\n{B}\n{C}\n"),
        ("european.CSV", f"name;tweet_id\nx;{A}\ny;{B}\nz;{C}\n"),
        ("ids.tsv", f"id\tid_str\n1.07E+18\t{A}\n2\t{B}\n3\t{C}\n"),
        ("ids.jsonl", f'{{"id":1,"id_str":"{A}"}}\n\n{{"id_str":"{B}"}}\n{{"id_str":{C}}}'),
        ("ids.ndjson", f'"{A}"\n{B}\n"{C}"\n'),
    ],
)
@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("", bytes), (".gz", gzip.compress), (".zst", zstandard.compress), ("", lambda data: b"\xef\xbb\xbf" + data)],
    ids=["plain", "gzip", "zstd", "BOM"],
)
def test_each_format_gives_the_same_ids(
    tmp_path: Path, name: str, content: str, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    assert read(tmp_path / (name + suffix), pack(content.encode())) == ([A, B, C], [])


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    "column",
    [
        pa.array([A, B, C]),
        pa.array([A, B, C], pa.large_string()),
        pa.array([int(A), int(B), int(C)], pa.int64()),
        pa.array([int(A), int(B), int(C)], pa.uint64()),
        pa.array([A, B, C]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_parquet(tmp_path: Path, column: pa.Array, suffix: str) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"other": [1.5, 2.5, 3.5], "tweet_id": column}), sink)
    data = sink.getvalue()
    assert read(tmp_path / f"ids.parquet{suffix}", gzip.compress(data) if suffix else data) == ([A, B, C], [])
    assert read("-", stdin=io.BytesIO(data), format="parquet") == ([A, B, C], [])


def test_parquet_that_cannot_hold_ids(tmp_path: Path) -> None:
    path = tmp_path / "ids.parquet"
    pq.write_table(pa.table({"tweet_id": [1.7e18]}), path)
    with pytest.raises(errors.UsageError, match="is a float"):
        read(path)
    pq.write_table(pa.table({"tweet_id": [[A]]}), path)
    with pytest.raises(errors.UsageError, match="IDs are strings or integers"):
        read(path)
    pq.write_table(pa.table({"tweet_id": [A, None, "-5"]}), path)
    assert reasons(read(path)[1]) == [(2, "is empty"), (3, "is negative")]
    with pytest.raises(errors.UsageError, match="not a whole Parquet file"):
        read(path, path.read_bytes()[:-9])
    with pytest.raises(errors.UsageError, match="not a whole Parquet file"):
        read(path, TEXT)


def test_several_files_and_standard_input_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(A)
    (tmp_path / "b.csv").write_text(f"id\n{B}\n")
    assert list(read_ids([tmp_path / "a.txt", "-", tmp_path / "b.csv"], stdin=io.BytesIO(C.encode()))) == [A, C, B]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("1.7E+18", "is a float: a spreadsheet made it one, and its last digits are lost; format the column as text"),
        ("1,7e18", "is a float"),
        (f"{A}.0", "is a float"),
        ("0", "starts with 0"),
        (f"0{A}", "starts with 0"),
        ("9223372036854775808", "is larger than 2^63-1"),
        ("1" * 20, "is larger than 2^63-1"),
        ("9" * 5000, "is larger than 2^63-1"),
        ("-5", "is negative"),
        ("\0001", "holds a NUL"),
        ("", "is empty"),
        ("١٢٣", "is not a Tweet ID: digits alone"),
        ("²", "is not a Tweet ID"),
        (f"https://x.com/a/status/{A}", "is not a Tweet ID"),
        (f"{A} {B}", "is not a Tweet ID"),
        ("nan", "is not a Tweet ID"),
    ],
)
def test_the_reason_why_a_value_is_no_id(tmp_path: Path, value: str, reason: str) -> None:
    assert (why_not_an_id(value) or "").startswith(reason)

    if value:
        ids, rejects = read(tmp_path / "ids.txt", f"{A}\n{value}\n{B}\n")
        assert ids == [A, B]
        assert [(r.line, r.reason) for r in rejects] == [(2, why_not_an_id(value))]
    ids, rejects = read(tmp_path / "ids.csv", f'x,tweet_id\n1,{A}\n2,"{value}"\n3,{B}\n')
    assert ids == [A, B]
    assert [(r.line, r.reason) for r in rejects] == [(3, why_not_an_id(value))]


def test_without_a_callback_the_first_bad_line_stops() -> None:
    with pytest.raises(errors.UsageError, match=r"standard input:2: 'x' is not a Tweet ID"):
        list(read_ids(["-"], stdin=io.BytesIO(f"{A}\nx\n".encode())))


def test_a_reject_shows_no_more_than_80_characters(tmp_path: Path) -> None:
    _, rejects = read(tmp_path / "ids.txt", "x" * 1000)
    assert len(rejects[0].text) == 80


@given(st.lists(st.one_of(st.integers(-5, 2**64).map(str), st.text(max_size=6)), max_size=30), st.sampled_from("\n\r"))
def test_every_line_is_an_id_a_comment_a_blank_or_a_reject(lines: list[str], end: str) -> None:
    lines = [line.replace("\n", "").replace("\x1a", "") for line in lines]
    end = "\n" if end == "\n" else "\r\n"
    rejects: list[Reject] = []
    data = end.join(lines).encode("utf-8", "replace")
    if data.startswith((b"\xef\xbb\xbf", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        return
    ids = list(read_ids(["-"], on_reject=rejects.append, stdin=io.BytesIO(data)))

    values = [line.partition("#")[0].strip() for line in data.decode().split("\n")]
    bare = [value.strip("\"'").strip() for value in values if value]
    assert ids == [
        value for value in bare if value.isascii() and value.isdigit() and value[0] != "0" and int(value) < 2**63
    ]
    assert len(ids) + len(rejects) == len(bare)


@given(st.lists(st.integers(1, 2**63 - 1).map(str)), st.integers(1, 40))
def test_pieces_of_any_size_make_the_same_lines(ids: list[str], size: int) -> None:
    class Dripping(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            return super().read(size)

    data = "\n".join(ids).encode()
    assert list(read_ids(["-"], stdin=Dripping(data))) == ids
    assert list(read_ids(["-"], stdin=Dripping(gzip.compress(data)))) == ids
    assert list(read_ids(["-"], stdin=Dripping(zstandard.compress(data)))) == ids


def test_a_line_of_a_gigabyte_is_refused_and_never_held() -> None:
    class Endless(io.RawIOBase):
        left = 4096

        def read(self, _size: int = -1) -> bytes:
            self.left -= 1
            piece = (A + "\n").encode() if self.left == 4095 else b"7" * 262144 if self.left > 0 else b""
            return piece or (f"\n{B}\n".encode() if self.left == 0 else b"")

    rejects: list[Reject] = []
    tracemalloc.start()
    ids = list(read_ids(["-"], on_reject=rejects.append, stdin=Endless()))  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert ids == [A, B]
    assert [(r.line, r.reason) for r in rejects] == [(2, "… is a line of over 1,048,576 bytes")]
    assert peak < 8_000_000


def test_line_numbers_stay_right_behind_a_line_that_was_too_long(tmp_path: Path) -> None:
    _, rejects = read(tmp_path / "ids.csv", f"id,x\n{A},{'y' * 2_000_000}\n{B},\nz,\n")
    assert [r.line for r in rejects] == [2, 4]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_an_archive_cut_at_any_byte_is_never_taken_for_whole(pack: Callable[[bytes], bytes]) -> None:
    packed = pack(TEXT.encode())
    for length in range(4, len(packed)):
        with pytest.raises(errors.UsageError, match="is cut short"):
            list(read_ids(["-"], stdin=io.BytesIO(packed[:length])))
    with pytest.raises(errors.UsageError, match="is corrupt"):
        list(read_ids(["-"], stdin=io.BytesIO(packed + b"trailing")))
    assert list(read_ids(["-"], stdin=io.BytesIO(packed + packed))) == [A, B, C, A, B, C]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("ids.txt", TEXT.encode("utf-16"), "is UTF-16: save it as UTF-8"),
        ("ids.csv", b"a,b\n1,2\n", "which column holds the IDs. Name it with --id-column: 'a', 'b'"),
        ("ids.csv", b'x,id\n"a,1\nb,2\n', r"ids.csv:2: a quote is opened here"),
        ("ids.csv", b'x,id\n"a,1\nb,"2"\n', r"ids.csv:2: a quote is opened here"),
        ("ids.csv", b'x,id\n"' + b"a,1\n" * 50_000, r"ids.csv:2: a quote is opened here"),
        ("ids.json", b"[1]", "make JSONL of it"),
        ("ids.xlsx", b"PK", "save it as CSV"),
    ],
)
def test_a_file_that_cannot_be_read_says_how_to_mend_it(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(errors.UsageError, match=message):
        read(tmp_path / name, data)


def test_wrong_paths_columns_and_formats(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match=r"none\.txt: No such file"):
        read(tmp_path / "none.txt")
    with pytest.raises(errors.UsageError, match="Is a directory"):
        read(tmp_path)
    with pytest.raises(errors.UsageError, match="has no column 'b', but 'a'"):
        read(tmp_path / "ids.csv", f"a\n{A}\n", id_column="b")
    with pytest.raises(errors.UsageError, match="text has no columns"):
        read(tmp_path / "ids.txt", A, id_column="b")
    with pytest.raises(errors.UsageError, match="unknown format 'xml'"):
        read(tmp_path / "ids.txt", A, format="xml")


def test_rows_that_lack_the_column(tmp_path: Path) -> None:
    ids, rejects = read(tmp_path / "ids.csv", f"x,id\n1,{A}\n2\n")
    assert (ids, reasons(rejects)) == ([A], [(3, "has 1 cells")])
    ids, rejects = read(tmp_path / "ids.jsonl", f'{{"id":"{A}"}}\n{{"i":1}}\n[]\n{{"id":1.7e18}}\n{{"id":true}}\n{{')
    assert ids == [A]
    assert reasons(rejects) == [
        (2, "has no key 'id'"),
        (3, "holds no ID"),
        (4, "is a float"),
        (5, "holds no ID"),
        (6, "is not JSON"),
    ]


@pytest.mark.parametrize(("count", "warnings"), [(2, 0), (3, 1), (100, 1), (50_000, 1)])
def test_ids_that_all_end_in_00_are_told_once(tmp_path: Path, count: int, warnings: int) -> None:
    told: list[str] = []
    lines = [f"{n}00" for n in range(1, count + 1)]
    assert read(tmp_path / "ids.txt", "\n".join(lines), on_warning=told.append)[0] == lines
    assert len(told) == warnings
    assert read(tmp_path / "ids.txt", "\n".join(["1", *lines[:99]]), on_warning=told.append)[0] == ["1", *lines[:99]]
    assert len(told) == warnings


def test_chunks_are_lists_of_bounded_size() -> None:
    ids = [str(10**18 + n) for n in range(100_000)]
    chunks = list(read_id_chunks(["-"], stdin=io.BytesIO("\n".join(ids).encode())))
    assert [tweet_id for chunk in chunks for tweet_id in chunk] == ids
    assert max(map(len, chunks)) < 30_000
