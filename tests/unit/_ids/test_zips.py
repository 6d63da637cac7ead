"""ZIP archives: the parts with IDs, X's archive, and those that are damaged."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from engagement_async._ids.reading import InputReport, read_ids
from engagement_async.errors import UsageError

A, B = "1070059276213702656", "1021817816134156288"
ARCHIVE = {
    "x/data/tweets.js": f'window.YTD.tweets.part0 = [{{"tweet": {{"id_str": "{A}"}}}}]',
    "x/data/tweets-part1.js": f'window.YTD.tweets.part1 = [{{"tweet": {{"id_str": "{B}"}}}}]',
    "x/data/like.js": 'window.YTD.like.part0 = [{"like": {"tweetId": "7"}}]',
    "x/assets/logo.png": "no text",
}


def packed(files: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return sink.getvalue()


def read(path: Path, data: bytes) -> tuple[list[str], list[str]]:
    path.write_bytes(data)
    reports: list[InputReport] = []
    ids = list(read_ids([path], on_input=reports.append))
    return ids, [str(report).removeprefix(f"{path}/") for report in reports]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_one_file_and_what_a_macintosh_adds(tmp_path: Path, method: int) -> None:
    files: dict[str, str | bytes] = {"a.csv": f"Tweet id,x\n{A},1\n{B},2\n", "__MACOSX/._a.csv": "x", ".DS_Store": "x"}

    assert read(tmp_path / "a.zip", packed(files, method)) == (
        [A, B],
        ["a.csv: 2 IDs from csv (zip), column 'Tweet id'"],
    )


def test_the_tweets_of_a_persons_archive(tmp_path: Path) -> None:
    ids, told = read(tmp_path / "a.zip", packed(dict(ARCHIVE)))

    assert ids == [B, A]
    assert told[1] == "x/data/tweets.js: 1 ID from json (zip), column 'id_str'"


def test_tables_in_order_of_their_names_and_packed_again(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"b.csv": f"id\n{B}\n", "a.csv.gz": gzip.compress(f"id\n{A}\n".encode())}
    data = packed(files)

    assert read(tmp_path / "a.zip", data)[0] == [A, B]
    assert read(tmp_path / "a", gzip.compress(data))[1][1] == "b.csv: 1 ID from csv (gzip, zip), column 'id'"
    assert list(read_ids(["-"], stdin=io.BytesIO(data))) == [A, B]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is a ZIP archive without a file"),
        ({"a.csv": "id\n", "logo.png": "x"}, "which of its files hold IDs. Unpack it, and give those: a.csv, logo.png"),
        ({"mimetype": "x", "content.xml": "x"}, "is a spreadsheet"),
        ({"a.zip": packed({"a.txt": A})}, r"a\.zip/a\.zip: is a ZIP archive within another"),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path: Path, files: dict[str, str | bytes], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(tmp_path / "a.zip", packed(files))


def test_a_damaged_archive_is_refused_or_whole(tmp_path: Path) -> None:
    data = packed({"a.csv": "id\n" + "".join(f"{int(A) + n}\n" for n in range(500))})
    whole = read(tmp_path / "a.zip", data)[0]
    for at in range(4, len(data), 7):
        for damaged in (data[:at], data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]):
            try:
                assert read(tmp_path / "a.zip", damaged)[0] == whole, at
            except UsageError as error:
                assert str(error).startswith(f"{tmp_path}/a.zip"), at  # noqa: PT017
