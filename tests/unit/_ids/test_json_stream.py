"""JSON as a stream: lines, arrays, X's archive, and where each value begins."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator

import pytest

from engagement_async._ids.json_stream import json_ids
from engagement_async._ids.report import InputReport, Intake, Reject
from engagement_async.errors import UsageError

A, B = "1070059276213702656", "1021817816134156288"
TWEETS = [{"tweet": {"id": A, "id_str": A, "entities": {"indices": ["0", "35"]}}}, {"tweet": {"id_str": B}}]


def read(text: str, size: int = 1 << 16) -> tuple[list[str], list[tuple[int, str]], InputReport]:
    rejects: list[Reject] = []
    intake = Intake(InputReport("a"), rejects.append)
    source = io.BytesIO(text.encode())
    chunks = json_ids(iter(lambda: source.read(size), b""), intake, id_column=None)
    ids = [tweet_id for chunk in chunks for tweet_id in chunk]
    return ids, [(reject.line, reject.reason.split(":")[0]) for reject in rejects], intake.report


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
@pytest.mark.parametrize(
    "text",
    [
        f'{{"id_str":"{A}"}}\n\n{{"id_str":"{B}"}}',
        f'"{A}"\n{B}\n',
        f"[{A}, {B}]",
        f"[{A}]\n[{B}]\n",
        f'["{A}",\n"{B}",\n]\n',
        json.dumps(TWEETS),
        json.dumps(TWEETS, indent=2),
        "\n".join(json.dumps(tweet, indent=2) for tweet in TWEETS),
        "window.YTD.tweets.part0 = " + json.dumps(TWEETS, indent=2),
        f"window.YTD.tweets.part0 = {json.dumps(TWEETS[:1])};\nwindow.YTD.tweets.part1 = {json.dumps(TWEETS[1:])};\n",
        json.dumps({"data": [{"id": A}, {"id": B}]}, indent=1),
        f'{{"id": {A}.0, "x": 1.5}}\n{{"id": "{B}"}}\n',
    ],
)
def test_values_are_found_in_pieces_of_any_size(text: str, size: int) -> None:
    assert read(text, size)[:2] == ([A, B], [])


def test_a_bad_line_costs_itself_alone() -> None:
    ids, rejects, _ = read(f'{{"id":"{A}"}}\n{{"i":1}}\n[]\n{{"id":1.7e18}}\n{{"id":true}}\n{{\n{{"id":"{B}"}}')

    assert ids == [A, B]
    assert sorted(rejects) == [(2, "has no key 'id'"), (4, "is a float"), (5, "holds no ID"), (6, "is not JSON")]


def test_rejects_in_an_array_have_the_line_of_their_value() -> None:
    assert read(f'[\n{{"id":"{A}"}},\n\n{{"id":null}},\n7.5]')[1] == [(4, "holds no ID"), (5, "is a float")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'[{A},\n{{"id":', "a:2: is cut short"),
        (f"[{A},\n", "is cut short: the array has no end"),
        (f"[{A},\n{B} oops]", "a:2: is not JSON"),
        (f"[{A},\n['{B}']]", "a:2: is not JSON"),
        ("[" * 100_000, "is nested too deep"),
    ],
)
def test_a_mistake_in_an_array_refuses_the_file(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(text)


def test_an_array_of_any_length_is_never_held() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"["
        element = json.dumps({"id_str": A, "text": "x" * 1000}).encode()
        for _ in range(300):
            yield b",".join([element] * 100) + b","
        yield element + b"]"

    tracemalloc.start()
    intake = Intake(InputReport("a"))
    count = sum(map(len, json_ids(pieces(), intake, id_column=None)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert count == 30_001
    assert peak < 15_000_000


def test_a_value_of_a_gigabyte_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engagement_async._ids.json_stream._VALUE_BYTES", 200_000)

    with pytest.raises(UsageError, match="a value of over 200,000 bytes, or no JSON: make lines of it"):
        read('{\n"data": [' + "7," * 5_000_000)
    assert read('{"data": [' + "7," * 5_000_000)[1] == [(1, "… is a line of over 200,000 bytes")]
