"""No Tweet ID is dropped without a word, whatever became of a file: thousands of mutated files of every format.

Each planted ID that is still in the text must be taken, or its line must be among the rejects, comments or notices, or the
whole file is refused.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from engagement_async._ids.reading import InputReport, Reject, read_ids
from engagement_async.errors import UsageError

SEEDS: Final = 150
ROWS: Final = 12
NEAR: Final = {"wide.csv": 3, "pretty.json": 12, "tweets.js": 12, "page.json": 100}
"""Lines between the beginning of a row or value, where it is rejected, and the ID in it."""


def planted(seed: int) -> list[str]:
    source = random.Random(seed)
    return [str(source.randrange(10**17, 2 * 10**18)) for _ in range(ROWS)]


def rows(line: str) -> Callable[[list[str]], str]:
    return lambda ids: "".join(line.replace("ID", tweet_id).replace("N", str(n)) for n, tweet_id in enumerate(ids))


def tweets(ids: list[str]) -> list[dict[str, object]]:
    return [{"created_at": "now", "id": int(i), "id_str": i, "text": 'a "b", c', "indices": [0, 35]} for i in ids]


def pages(ids: list[str]) -> list[dict[str, object]]:
    return [
        {"data": [{"id": i, "text": "x"} for i in ids[at : at + 4]], "meta": {"result_count": 4}}
        for at in range(0, len(ids), 4)
    ]


BUILT: Final[dict[str, Callable[[list[str]], str]]] = {
    "list.txt": rows("ID\n"),
    "urls.txt": rows("https://x.com/user/status/ID?s=20\n"),
    "quotes.txt": rows("'ID\n"),
    "many.txt": lambda ids: "\n".join(", ".join(ids[at : at + 3]) for at in range(0, ROWS, 3)),
    "one.csv": lambda ids: "Tweet id\n" + rows("ID\n")(ids),
    "bare.csv": rows('"ID"\n'),
    "wide.csv": lambda ids: "id,text,status_id,n\n" + rows('N,"a, ""b""\nc",ID,7\n')(ids),
    "first.csv": lambda ids: "tweet_id,text\n" + rows("ID,hello\n")(ids),
    "last.csv": lambda ids: "text,tweet_id\n" + rows('"hi",ID\n')(ids),
    "headless.csv": rows("ID,hello N\n"),
    "excel.csv": lambda ids: "sep=;\nPost id;text\n" + rows('"=""ID""";x\n')(ids),
    "tabs.tsv": lambda ids: "text\tid_str\n" + rows("hello\tID\n")(ids),
    "noted.csv": lambda ids: "tweetId|text\n" + rows("xID|hello\n")(ids),
    "lines.jsonl": lambda ids: "".join(json.dumps(tweet) + "\n" for tweet in tweets(ids)),
    "numbers.jsonl": rows("ID\n"),
    "pages.jsonl": lambda ids: "".join(json.dumps(page) + "\n" for page in pages(ids)),
    "stream.jsonl": rows('{"data":{"id":"ID","text":"x"}}\n{"delete":{"status":{"id":N}}}\n'),
    "gnip.jsonl": lambda ids: (
        rows('{"id":"tag:search.twitter.com,2005:ID","verb":"post"}\n')(ids)
        + '{"info":{"message":"Replay Completed"}}\n'
    ),
    "array.json": lambda ids: json.dumps(tweets(ids)),
    "pretty.json": lambda ids: json.dumps(tweets(ids), indent=2),
    "page.json": lambda ids: json.dumps({"data": [{"id": i} for i in ids]}, indent=1),
    "strings.json": lambda ids: json.dumps(ids),
    "tweets.js": lambda ids: (
        "window.YTD.tweets.part0 = " + json.dumps([{"tweet": tweet} for tweet in tweets(ids)], indent=2)
    ),
}
PIECES: Final = [
    "",
    '"',
    '""',
    "\n",
    ",",
    ";",
    "\t",
    "#",
    "'",
    " ",
    "x",
    "\0",
    "{",
    "}",
    "[",
    "]",
    "\\",
    ":",
    "é",
    "7",
    "\r",
    "=",
]
PACKED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "BOM": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data: data.decode("utf-8", "replace").encode("utf-16"),
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
}


def mutated(text: str, source: random.Random) -> str:
    for _ in range(source.choice([1, 1, 1, 2, 4])):
        at = source.randrange(len(text) + 1)
        match source.randrange(6):
            case 0:
                text = text[:at] + source.choice(PIECES) + text[at:]
            case 1:
                text = text[:at] + text[at + source.choice([1, 1, 2, 9]) :]
            case 2:
                text = text[:at] + source.choice(PIECES) + text[at + 1 :]
            case 3:
                text = text[:at]
            case 4:
                end = min(len(text), at + source.randrange(60))
                text = text[:end] + text[at:end] + text[end:]
            case _:
                lines = text.split("\n")
                lines.insert(source.randrange(len(lines)), lines.pop(source.randrange(len(lines))))
                text = "\n".join(lines)
        if not text:
            break
    return text


def read(path: Path, data: bytes) -> tuple[list[str], list[Reject], InputReport] | None:
    """Return what was taken of a file, or None if it was refused."""
    rejects: list[Reject] = []
    reports: list[InputReport] = []
    path.write_bytes(data)
    try:
        ids = list(read_ids([path], on_reject=rejects.append, on_input=reports.append, on_warning=refuse))
    except UsageError as error:
        refusal = str(error)
    else:
        assert (reports[0].ids, reports[0].rejected) == (len(ids), len(rejects))
        return ids, rejects, reports[0]
    assert refusal.startswith(f"{path}:")
    return None


def refuse(warning: str) -> None:
    raise UsageError(warning)


def dropped(text: str, ids: list[str], found: tuple[list[str], list[Reject], InputReport], near: int) -> list[str]:
    """Return the IDs that are in the text, were not taken, and are in no line of which there was a word."""
    taken, rejects, report = found
    told = {reject.line + offset for reject in rejects for offset in range(near + 1)}
    lost = []
    for tweet_id in set(ids) - set(taken):
        for match in re.finditer(rf"(?<!\d){tweet_id}(?!\d)", text):
            line = text.count("\n", 0, match.start()) + 1
            content = text.split("\n")[line - 1]
            excused = (report.comments and "#" in content) or report.irregular or report.notices > text.count("delete")
            if line not in told and not excused:
                lost.append(f"{tweet_id} in line {line}: {content!r}")
    return lost


@pytest.mark.parametrize("name", BUILT)
def test_an_untouched_file_gives_every_id(name: str, tmp_path: Path) -> None:
    ids = planted(1)
    for pack in PACKED.values():
        found = read(tmp_path / name, pack(BUILT[name](ids).encode()))
        assert found is not None
        assert (found[0], found[1]) == (ids, [])


@pytest.mark.parametrize("name", BUILT)
def test_of_a_mutated_text_no_id_is_dropped_without_a_word(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0
    for seed in range(SEEDS):
        source = random.Random(f"{name} {seed}")
        ids = planted(seed)
        text = mutated(BUILT[name](ids), source)
        pack = source.choice(list(PACKED))
        monkeypatch.setattr("engagement_async._ids.reading._READ_BYTES", source.choice([40, 300, 1 << 18]))
        found = read(tmp_path / name, PACKED[pack](text.encode("utf-8", "replace")))
        if found is not None:
            taken += len(found[0])
            assert dropped(text, ids, found, NEAR.get(name, 0)) == [], (seed, pack, text)
    assert taken > SEEDS  # most of them are read in spite of it


@pytest.mark.parametrize("pack", ["gzip", "bzip2", "xz", "zstd"])
def test_a_mutated_archive_is_refused_or_whole(pack: str, tmp_path: Path) -> None:
    ids = planted(7)
    packed = PACKED[pack](BUILT["wide.csv"](ids).encode())
    for seed in range(10 * SEEDS):
        source = random.Random(seed)
        data = bytearray(packed)
        at = source.randrange(10, len(data))  # without its magic it is another file
        match source.randrange(3):
            case 0:
                data[at] ^= 1 << source.randrange(8)
            case 1:
                del data[at:]
            case _:
                data[at:at] = source.randbytes(3)
        found = read(tmp_path / "wide.csv", bytes(data))
        assert found is None or found[0] == ids, seed


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_mutated_table_is_refused_or_has_every_row(kind: str, tmp_path: Path) -> None:
    ids = planted(5)
    table = pa.table({"tweet_id": ids, "text": ["x"] * ROWS})
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink, write_page_checksum=True)
    else:
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    whole = sink.getvalue()
    for seed in range(2 * SEEDS):
        source = random.Random(seed)
        data = bytearray(whole)
        at = source.randrange(8, len(data))
        if source.randrange(4):
            data[at] ^= 1 << source.randrange(8)
        else:
            del data[at:]
        found = read(tmp_path / f"ids.{kind}", bytes(data))
        assert found is None or len(found[0]) + len(found[1]) == ROWS, seed
