"""IDs out of files: every format, every archive, and what people's tools do to IDs before they come here."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import errors
from engagement_async._ids.reading import (
    InputReport,
    Reject,
    ids_of_argument,
    read_id_chunks,
    read_ids,
    read_owned_chunks,
)

A, B, C = "1070059276213702656", "1021817816134156288", "9223372036854775807"
TEXT = f"# mine\n{A}\n\n  {B}  # the second\r\n{C}\n"


def read(path: str | Path, data: bytes | str | None = None, **options: object) -> tuple[list[str], list[Reject]]:
    if isinstance(data, str):
        data = data.encode()
    if data is not None:
        Path(path).write_bytes(data)
    rejects: list[Reject] = []
    return list(read_ids([path], on_reject=rejects.append, **options)), rejects  # type: ignore[arg-type]


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "BOM": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data: data.decode().encode("utf-16"),
}


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
        ("tweets.json", f'{{"id_str":"{A}"}}\n{{"id_str":"{B}"}}\n{{"id":"{C}"}}\n'),
        ("tweets.js", f'window.YTD.tweets.part0 = [{{"tweet":{{"id":"{A}"}}}},{{"id":"{B}"}},{{"id":"{C}"}}]'),
        ("table.txt", f"Post id,text\n{A},x\n{B},y\n{C},z\n"),
        ("urls.md", f"https://x.com/a/status/{A}?s=20\nhttps://twitter.com/i/web/status/{B}\n{C}\n"),
    ],
)
@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
@pytest.mark.parametrize("from_stdin", [False, True], ids=["file", "stdin"])
def test_each_format_gives_the_same_ids(
    tmp_path: Path, name: str, content: str, pack: Callable[[bytes], bytes], from_stdin: bool
) -> None:
    data = pack(content.encode())
    if from_stdin:
        assert read("-", stdin=io.BytesIO(data)) == ([A, B, C], [])
    else:
        assert read(tmp_path / name, data) == ([A, B, C], [])


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_tables_in_archives_and_from_a_pipe(tmp_path: Path, kind: str, pack: Callable[[bytes], bytes]) -> None:
    table = pa.table({"other": [1.5, 2.5, 3.5], "tweet_id": [A, B, C]})
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink)
    else:
        feather.write_feather(table, sink)
    data = sink.getvalue()
    if pack in (PACKINGS["BOM"], PACKINGS["UTF-16"]):
        return

    assert read(tmp_path / "ids.bin", pack(data)) == ([A, B, C], [])
    assert read("-", stdin=io.BytesIO(pack(data))) == ([A, B, C], [])


def test_what_was_taken_is_reported(tmp_path: Path) -> None:
    told: list[InputReport] = []
    (tmp_path / "parts").mkdir()
    for name, content in (("_SUCCESS", b""), ("a.csv.gz", gzip.compress(f"x,Tweet id\n1,{A}\n2,oops\n".encode()))):
        (tmp_path / "parts" / name).write_bytes(content)
    (tmp_path / "parts" / "b.jsonl").write_text(f'{{"delete":{{}}}}\n{{"id":"{B}"}}\n')

    assert read(tmp_path / "parts", on_input=told.append)[0] == [A, B]
    assert [str(report).removeprefix(f"{tmp_path}/parts/") for report in told] == [
        "a.csv.gz: 1 ID from csv (gzip), column 'Tweet id'; 1 reject",
        "b.jsonl: 1 ID from json, column 'id'; 1 notice skipped",
    ]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (A, {"id_column": "b", "format": "text"}, "text has no columns"),
        (A, {"format": "xml"}, "unknown format 'xml': one of text, csv"),
        (f"a,b\n{A},x\n", {"id_column": "c"}, r"ids\.txt: has no column 'c', but 'a', 'b'"),
        ("<html>", {}, r"ids\.txt: is HTML"),
        ("{", {"format": "parquet"}, r"ids\.txt: is not a whole Parquet file"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, text: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(errors.UsageError, match=message):
        read(tmp_path / "ids.txt", text, **options)


@pytest.mark.parametrize(
    "options", [{}, {"format": "text"}, {"format": "csv"}, {"id_column": "1"}, {"id_column": "id"}], ids=str
)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokens.toml", '[acme]\naccess_token = "1467-SECRET"\naccess_token_secret = "SECRET"\n'),
        ("tokens.toml", 'acme."access_token_secret" = "SECRET, with a comma"\n'),
        ("service.env", "ENGAGEMENT_CONSUMER_KEY=SECRET\nexport ENGAGEMENT_BEARER_TOKEN='SECRET'\n"),
        ("settings.yaml", f"{A}\nbearer_token: SECRET\n"),
    ],
)
def test_of_a_file_with_credentials_nothing_is_shown(
    tmp_path: Path, name: str, text: str, options: dict[str, str]
) -> None:
    (tmp_path / "ids").mkdir()
    (tmp_path / "ids" / name).write_text(text)
    told: list[str] = []

    with pytest.raises(errors.UsageError) as refused:
        list(read_ids([tmp_path / "ids"], on_reject=lambda reject: told.append(str(reject)), **options))  # type: ignore[arg-type]

    assert "SECRET" not in f"{told} {refused.value}"
    if not options:
        assert str(refused.value) == f"{tmp_path}/ids/{name}: holds credentials, not Tweet IDs: name another file"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "which column holds the IDs"),
        ({"format": "text"}, "holds credentials, not Tweet IDs"),
        ({"id_column": "Access Token"}, "column 'access_token' holds credentials: choose another with --id-column"),
        ({"id_column": "3"}, "column 'access_token_secret' holds credentials: choose another with --id-column"),
    ],
    ids=str,
)
def test_of_a_table_of_credentials_nothing_is_shown(tmp_path: Path, options: dict[str, str], message: str) -> None:
    rejects: list[Reject] = []
    (tmp_path / "owners.csv").write_text("owner,access_token,access_token_secret\nacme,1467-SECRET,SECRET\n")

    with pytest.raises(errors.UsageError, match=message) as refused:
        list(read_ids([tmp_path / "owners.csv"], on_reject=rejects.append, **options))  # type: ignore[arg-type]

    assert "SECRET" not in f"{rejects} {refused.value}"


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("one.csv", "access_token\nSECRET\n", {}),
        ("one.tsv", "Access-Token\nSECRET\n", {}),
        ("one.json", '{"access_token": "SECRET"}', {}),
        ("several.jsonl", '{"access_token": "SECRET"}\n{"id": "SECRET"}\n', {}),
        ("several.jsonl", '{"access_token": "SECRET"}\n{"id": "SECRET"}\n', {"id_column": "access_token"}),
        ("spaces.csv", "Owner,Access Token\nme,SECRET\n", {"id_column": "2"}),
    ],
)
def test_of_a_column_of_credentials_nothing_is_shown(
    tmp_path: Path, name: str, text: str, options: dict[str, str]
) -> None:
    rejects: list[Reject] = []
    (tmp_path / name).write_text(text)

    with pytest.raises(errors.UsageError, match="holds credentials") as refused:
        list(read_ids([tmp_path / name], on_reject=rejects.append, **options))  # type: ignore[arg-type]

    assert "SECRET" not in f"{rejects} {refused.value}"


@pytest.mark.parametrize("row", ["you SECRET", 'you,"x"y,SECRET', "you,SECRET,1,2"])
def test_of_a_table_with_credentials_beside_ids_no_row_is_shown(tmp_path: Path, row: str) -> None:
    ids, rejects = read(tmp_path / "ids.csv", f"owner,id,access_token\nme,{A},SECRET\n{row}\nthem,{B},SECRET\n")

    assert (ids, [reject.text for reject in rejects]) == ([A, B], ["(not shown)"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain.txt", f"{A}\nmy access_token\n{B}\n"),
        ("tweets.jsonl", f'{{"id": "{A}"}}\n{{"text": "how do I get an access_token?"}}\n{{"id": "{B}"}}\n'),
        ("strings.json", f'["{A}", "access_token is a word", "{B}"]'),
        ("quotes.csv", f'id,text\n{A},a\n{C},"my "access_token" is"\n{B},b\n'),
        ("short.csv", f"id,text\n{A},a\nmy access_token\n{B},b\n"),
        ("list.csv", f"date,id,text\nd,{A},hello\nd,,I lost my key, access token, and wallet\nd,{B},b\n"),
    ],
)
def test_the_word_alone_is_no_credential(tmp_path: Path, name: str, text: str) -> None:
    ids, rejects = read(tmp_path / name, text)

    assert (ids, len(rejects)) == ([A, B], 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("camel.jsonl", '{"id": "x"}\n{"user": "me", "accessToken": "SECRET"}\n'),
        ("portal.txt", "Access Token: SECRET\n"),
        ("other.env", "API_KEY=SECRET\nAPI_KEY_SECRET=SECRET\n"),
        ("header.txt", "Authorization: Bearer SECRET\n"),
        ("blanks.txt", "owner consumer_key access_token\nme SECRET SECRET\n"),
        ("prefix.csv", "owner,id,twitter_access_token\nme,,SECRET,1\n"),
        ("row.csv", "2244994,consumer_key=SECRET,access_token=SECRET\n"),
    ],
)
def test_whatever_credentials_are_called_they_are_not_shown(tmp_path: Path, name: str, text: str) -> None:
    rejects: list[Reject] = []
    (tmp_path / name).write_text(text)
    message = ""

    try:
        list(read_ids([tmp_path / name], on_reject=rejects.append))
    except errors.UsageError as error:
        message = str(error)

    assert rejects or message
    assert "SECRET" not in f"{rejects} {message}"


def test_nor_where_the_column_of_ids_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "keys.env").write_text("api_key=SECRET\napi_secret_key=SECRET\n")

    with pytest.raises(errors.UsageError, match="holds credentials, not Tweet IDs"):
        list(read_ids([tmp_path / "keys.env"], id_column="tweet_id"))


def test_a_first_row_that_speaks_of_a_token_is_no_file_of_credentials(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", f'{A},"my access_token: x"\n{B},b\n')[0] == [A, B]


def test_the_format_that_the_caller_names_is_the_one(tmp_path: Path) -> None:
    ids, rejects = read(tmp_path / "ids.csv", f"{A},{B}\n{C},z9y\n", format="text")

    assert (ids, [reject.text for reject in rejects]) == ([A, B, C], ["z9y"])


@pytest.mark.parametrize(
    ("text", "warning"), [("1\n2\n3\n", "the IDs count from 1 to 3"), (f"{A}.0\n" * 3, "every ID that ends in .0")]
)
def test_suspicious_ids_are_told_once(tmp_path: Path, text: str, warning: str) -> None:
    told: list[str] = []
    read(tmp_path / "ids.txt", text, on_warning=told.append)

    assert len(told) == 1
    assert told[0].startswith(f"{tmp_path / 'ids.txt'}: {warning}")


def test_arguments() -> None:
    assert ids_of_argument(f"https://x.com/a/status/{A}") == [A]
    assert ids_of_argument(f"{A},{B}") == [A, B]
    with pytest.raises(errors.UsageError, match=r"^'12x' is not a Tweet ID"):
        ids_of_argument("12x")


@given(st.lists(st.one_of(st.integers(-5, 2**64).map(str), st.text(max_size=6)), max_size=30), st.sampled_from("\n\r"))
def test_every_line_is_an_id_a_comment_a_blank_or_a_reject(lines: list[str], end: str) -> None:
    lines = [re.sub("[\n\r,;|#]", "", line) for line in lines]
    data = ("\n" if end == "\n" else "\r\n").join(lines).encode("utf-8", "replace")
    rejects: list[Reject] = []
    ids = list(read_ids(["-"], format="text", on_reject=rejects.append, stdin=io.BytesIO(data)))

    assert len(ids) + len(rejects) >= sum(1 for line in lines if line.strip().isascii() and line.strip())
    assert {line for line in lines if re.fullmatch("[1-9][0-9]{0,17}", line)} <= set(ids)


def test_several_files_and_standard_input_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(A)
    (tmp_path / "b.csv").write_text(f"id\n{B}\n")
    assert list(read_ids([tmp_path / "a.txt", "-", tmp_path / "b.csv"], stdin=io.BytesIO(C.encode()))) == [A, C, B]


def test_without_a_callback_the_first_bad_line_stops() -> None:
    with pytest.raises(errors.UsageError, match=r"standard input:2: 'x' is not a Tweet ID"):
        list(read_ids(["-"], stdin=io.BytesIO(f"{A}\nx\n".encode())))


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


def test_chunks_are_lists_of_bounded_size() -> None:
    ids = [str(10**18 + n) for n in range(100_000)]
    chunks = list(read_id_chunks(["-"], stdin=io.BytesIO("\n".join(ids).encode())))
    assert [tweet_id for chunk in chunks for tweet_id in chunk] == ids
    assert max(map(len, chunks)) < 30_000


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "json", "parquet", "arrow"])
def test_every_format_gives_ids_with_their_owners(tmp_path: Path, kind: str) -> None:
    ids = [str(1070059276213702656 + n) for n in range(40_000)]
    owners = [f"owner{n % 7}" for n in range(40_000)]
    path = tmp_path / f"ids.{kind}"
    rows = [{"id": tweet_id, "user": {"name": owner}} for tweet_id, owner in zip(ids, owners, strict=True)]
    if kind.startswith("csv"):
        lines = "".join(f"{owner},{tweet_id}\n" for tweet_id, owner in zip(ids, owners, strict=True))
        data = f"user.name,tweet_id\n{lines}".encode()
        path.write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    elif kind == "jsonl":
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    elif kind == "json":
        path.write_bytes(orjson.dumps({"data": rows}))
    elif kind == "parquet":
        pq.write_table(pa.table({"tweet_id": ids, "user.name": owners}), path)
    else:
        feather.write_feather(pa.table({"tweet_id": ids, "user.name": owners}), str(path))
    reports: list[InputReport] = []
    chunks = list(read_owned_chunks([path], owner_column="user.name", on_input=reports.append))

    assert [i for _, chunk in chunks for i in chunk] == ids
    assert [owner for chunk, _ in chunks for owner in chunk] == owners
    assert (reports[0].ids, reports[0].owner_column) == (40_000, "user.name")
    assert reports[0].fields()["owner_column"] == "user.name"


def test_in_json_an_owner_may_stand_around_its_tweets(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    path.write_text(
        '[{"owner": "a", "ids": ["123456789", "123456780"]}, {"owner": 5, "data": [{"id": "987654321"}]}, {"id": "1"}]'
    )
    rejects: list[Reject] = []

    assert list(read_owned_chunks([path], owner_column="owner", on_reject=rejects.append)) == [
        (["a", "a", "5"], ["123456789", "123456780", "987654321"])
    ]
    assert len(rejects) == 1


def test_text_has_no_owners(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("1070059276213702656\n1021817816134156288\n")

    with pytest.raises(errors.UsageError, match="no column 'owner' of owners"):
        list(read_owned_chunks([path], owner_column="owner"))
    with pytest.raises(errors.UsageError, match="text has no columns"):
        list(read_owned_chunks([path], owner_column="owner", format="text"))
