"""What a file is, by its first bytes."""

from __future__ import annotations

import pytest

from engagement_async._ids.formats import Format, delimiter_of, detect, is_sep_line, suffix_format
from engagement_async.errors import UsageError

A, B = "1070059276213702656", "1021817816134156288"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (f"{A}\n{B}\n", Format.TEXT),
        (f"{A}, {B}\n", Format.TEXT),
        (f"{A},{B}\n{B},{A}\n", Format.TEXT),
        (f"# mine\n{A}\n", Format.TEXT),
        ("hello world\n", Format.TEXT),
        (f"['{A}', '{B}']", Format.TEXT),
        (f"Tweet ID\n{A}\n", Format.CSV),
        (f"tweet_id,text\n{A},x\n", Format.CSV),
        (f"text\tPost id\nx\t{A}\n", Format.CSV),
        (f"{A},hello\n{B},you\n", Format.CSV),
        (f"sep=;\nid;x\n{A};x\n", Format.CSV),
        (f"url\nhttps://x.com/a/status/{A}\n", Format.CSV),
        (f'{{"id": "{A}"}}\n', Format.JSON),
        (f'[\n{{"id": "{A}"}}', Format.JSON),
        (f'["{A}"]', Format.JSON),
        ("[]", Format.JSON),
        ("window.YTD.tweets.part0 = [ {", Format.JSON),
        ('const tweets = [{"id": 1}]', Format.JSON),
    ],
)
def test_text_is_recognized_by_its_content(head: str, expected: Format) -> None:
    assert detect(head.encode(), None, "a") is expected


@pytest.mark.parametrize(
    ("head", "hint", "expected"),
    [
        (f"{A}\n", Format.CSV, Format.CSV),
        (f'{{"id": "{A}"}}', Format.CSV, Format.JSON),
        (f'"{A}"\n', Format.JSONL, Format.JSON),
        (f"tweet_id\n{A}\n", Format.JSON, Format.CSV),
    ],
)
def test_the_suffix_counts_where_the_content_leaves_it_open(head: str, hint: Format, expected: Format) -> None:
    assert detect(head.encode(), hint, "a") is expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"PAR1xx", Format.PARQUET),
        (b"ARROW1\0\0", Format.ARROW),
        (b"\xff\xff\xff\xff8", Format.ARROW),
    ],
)
def test_binary_formats(head: bytes, expected: Format) -> None:
    assert detect(head, Format.CSV, "a") is expected


@pytest.mark.parametrize(
    ("head", "hint", "message"),
    [
        (b"PK\x03\x04 data/tweets.js", None, "is a ZIP archive within another"),
        (b"\xd0\xcf\x11\xe0", None, "is an Excel workbook"),
        (b"SQLite format 3\0", None, "is an SQLite database"),
        (b"<!DOCTYPE html>", None, "is HTML or XML"),
        (b"FEA1", None, "is Feather of version 1"),
        (b"%PDF-1.4", None, "is a PDF"),
        (bytes(range(256)), None, "is neither text nor"),
        (b"1\n", Format.PARQUET, "is not a whole Parquet file"),
        (b"[oops]", Format.JSON, "is not JSON"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_fix(head: bytes, hint: Format | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        detect(head, hint, "a")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", Format.CSV),
        ("a.CSV.gz", Format.CSV),
        ("a.ndjson.zst", Format.JSONL),
        ("tweets.js", Format.JSON),
        ("a.feather", Format.ARROW),
        ("a.pq", Format.PARQUET),
        ("a.txt", None),
        ("a", None),
        (".csv", None),
    ],
)
def test_what_a_suffix_promises(name: str, expected: Format | None) -> None:
    assert suffix_format(name) is expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        *(("a,b", ","), ("a;b", ";"), ("a\tb", "\t"), ("a|b", "|"), ("a", ","), ("sep=|", "|"), ('"sep=;"', ";")),
        *(('"a,b,c";tweet_id', ";"), ("a,b,c;tweet_id", ";")),
    ],
)
def test_delimiters(line: str, expected: str) -> None:
    assert delimiter_of(line) == expected
    assert is_sep_line(line) == ("sep=" in line)
