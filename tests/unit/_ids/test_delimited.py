"""CSV and TSV: the column, the header or its absence, and what quotes do."""

from __future__ import annotations

import csv
import re
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async._ids import delimited
from engagement_async._ids.delimited import delimited_ids
from engagement_async._ids.formats import Format
from engagement_async._ids.report import InputReport, Intake, Reject
from engagement_async.errors import UsageError

A, B, C = "1070059276213702656", "1021817816134156288", "9223372036854775807"


def read(
    text: str, id_column: str | None = None, hint: Format = Format.CSV
) -> tuple[list[str], list[str], InputReport]:
    rejects: list[Reject] = []
    intake = Intake(InputReport("a.csv", "csv"), rejects.append)
    data = text.encode()
    blocks = [(1, data if data.endswith(b"\n") else data + b"\n")] if data else []
    chunks = delimited_ids(blocks, intake, id_column=id_column, hint=hint)
    ids = [tweet_id for chunk in chunks for tweet_id in chunk]
    return ids, [f"{reject.line}: {reject.reason.split(':')[0]}" for reject in rejects], intake.report


@pytest.mark.parametrize(
    ("text", "column"),
    [
        (f"tweet_id\n{A}\n{B}\n{C}", "tweet_id"),
        (f"whatever\n{A}\n{B}\n{C}", "whatever"),
        (f"{A}\n{B}\n{C}", None),
        (f"'{A}\n'{B}\n'{C}\n", None),
        (f'"""{A}"""\n"""{B}"""\n"""{C}"""\n', None),
        (f"\u200b{A}\n{B}\n{C}", None),
        (f"https://x.com/a/status/{A}\n{B}\n{C}\n", None),
        (f"Tweet id,Tweet permalink\n{A},x\n{B},y\n{C},z\n", "Tweet id"),
        (f"id,status_id\n1,{A}\n2,{B}\n3,{C}\n", "status_id"),
        (f"id;Post id\n1;{A}\n2;{B}\n3;{C}\n", "Post id"),
        (f"\n\nid|text\n{A}|x\n{B}|y\n{C}|z\n", "id"),
        (f"sep=;\r\ntweet_id;text\r\n{A};x\r\n{B};y\r\n{C};z\r\n", "tweet_id"),
        (f'"a,b";tweet_id\n1;{A}\n2;{B}\n3;{C}\n', "tweet_id"),
        (f'tweet_id,n\n"=""{A}""",1\n"=""{B}""",2\n"=""{C}""",3\n', "tweet_id"),
        (f"{A},hello\n{B},you\n{C},there\n", "1"),
        (f'"hello, a",{A}\n"you",{B}\nthere,{C}\n', "2"),
        (f'text,id\n"a\nb",{A}\n"c ""d""",{B}\ne,{C}\n', "id"),
        (f"text,id\nx,{A}\n,\n,,,\ny,{B}\nz,{C}\n", "id"),
        (f"text,url\nx,https://x.com/a/status/{A}\ny,{B}\nz,{C}\n", "url"),
    ],
)
def test_the_column_is_found(text: str, column: str | None) -> None:
    ids, rejects, report = read(text)

    assert (ids, rejects, report.column) == ([A, B, C], [], column)


@pytest.mark.parametrize(
    ("text", "id_column", "expected"),
    [
        (f"a,b\n{A},{B}\n", "b", [B]),
        (f"a,Tweet ID\n{A},{B}\n", "tweet_id", [B]),
        (f"a,b\n{A},{B}\n", "2", [B]),
        (f"{A},{B}\n{B},{C}\n", "2", [B, C]),
        (f"x,{A[:-1]}x\ny,{B}\n", "2", [B]),
        ("20,x\n30,y\n", "1", ["20", "30"]),
    ],
)
def test_the_caller_names_the_column(text: str, id_column: str, expected: list[str]) -> None:
    assert read(text, id_column)[0] == expected


@pytest.mark.parametrize(
    ("text", "id_column", "message"),
    [
        ("a,b\n1x,2x\n", None, "which column holds the IDs. Name it with --id-column: 'a', 'b'"),
        (f"{A},hello\n{B},you\n", A, "has no header, for its first line holds an ID: so no column"),
        (f"{A},{B}\n{C},{A}\n", None, "has no header.* Name it by its number, as --id-column 1, or --ids-format text"),
        ("20,a\n30,b\n", None, "has no header.* Name it by its number, as --id-column 1"),
        (f"{A},hello\n", "3", "has no column 3, but 2"),
        (f"a\n{A}\n", "b", "has no column 'b', but 'a'"),
        (f"id,number\n1,{A}\n2,{B}\n", None, "'id' holds no IDs, but row numbers"),
        (f"tweet_id,text{A},hello\n{B},you\n", None, "holds names of columns and an ID too"),
        ('x,id\n"a,1\nb,2\n', None, "a.csv:2: a quote is opened here"),
        ('x,id\n"a,1\nb,"2"\n', None, "a.csv:2: a quote is opened here"),
        ('x,id\n"' + "a,1\n" * 1_500_000, None, "a.csv:2: a quote is opened here.*over 4,194,304 characters"),
    ],
)
def test_what_is_not_clear_is_refused_with_the_fix(text: str, id_column: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=re.compile(message, re.DOTALL)):
        read(text, id_column)


def test_one_row_of_ids_is_a_list() -> None:
    assert read(f"{A},{B},{C}\n")[0] == [A, B, C]


@pytest.mark.parametrize(
    ("text", "ids", "rejects"),
    [
        (f"x,id\n1,{A}\n2\n", [A], ["3: has 1 cells"]),
        (f"text,id\na,{A}\nI paid 1,500,{B}\nb,{C}\n", [A, C], ["3: has 3 cells, and the first row 2"]),
        (f"id,text\n{A},a\nb,{B}\n,c\n", [A], ["3: is not a Tweet ID", "4: is empty"]),
        (f'id,text\n{A},"a" b\n{B},c\n', [B], ["2: is not CSV"]),
        (f'id,text\n{A},"a\n{B},b"\n{C},c\n', [A, C], ["3: is within quotes that were opened in line 2"]),
        (f'text,id\n"a,{A}\nb",{B}\nc,{C}\n', [B, C], ["2: is within quotes that were opened in line 2"]),
    ],
)
def test_what_is_no_id_is_rejected_where_it_is(text: str, ids: list[str], rejects: list[str]) -> None:
    assert read(text)[:2] == (ids, rejects)


def test_a_text_of_several_lines_with_commas_and_other_ids_is_no_row() -> None:
    text = f'id,text,user_id\n{A},"one, two\nthree, four\nfive, six",{C}\n{B},x,{C}\n'

    assert read(text)[:2] == ([A, B], [])


def test_headers_of_files_that_were_joined_are_notices() -> None:
    ids, rejects, report = read(f"id,text\n{A},x\nid,text\n{B},y\n")

    assert (ids, rejects, report.notices) == ([A, B], [], 1)


def test_rows_with_more_cells_are_told() -> None:
    ids, rejects, report = read(f"id,text\n{A},x\n{B},y, z\n")

    assert (ids, rejects, report.irregular) == ([A, B], [], 1)


def test_large_cells_are_taken_and_the_process_keeps_its_limit() -> None:
    limit = csv.field_size_limit()
    cell = "y" * 300_000
    ids, rejects, _ = read(f'id,text\n{A},{cell}\n{B},"{cell}\n{cell}"\n{C},"{cell}"\n')

    assert (ids, rejects) == ([A, B, C], [])
    assert csv.field_size_limit() == limit


def test_a_row_goes_on_in_the_next_block() -> None:
    intake = Intake(InputReport("a.csv"), lambda reject: None)
    blocks = [(1, f'id,text\n{A},"a\n'.encode()), (3, f'b"\n{B},c\n'.encode()), (5, f"{C},d\n".encode())]

    chunks = delimited_ids(blocks, intake, id_column=None, hint=None)

    assert [tweet_id for chunk in chunks for tweet_id in chunk] == [A, B, C]
    assert intake.report.rejected == 0


@pytest.mark.parametrize("text", ["", "\n\n", "tweet_id\n", "id,text\n"])
def test_no_rows(text: str) -> None:
    assert read(text)[:2] == ([], [])


# --- owners -------------------------------------------------------------------------------------------------------


def read_owned(text: str, owner_column: str, id_column: str | None = None) -> tuple[list[tuple[str, str]], list[str]]:
    rejects: list[Reject] = []
    intake = Intake(InputReport("a.csv", "csv"), rejects.append)
    chunks = delimited_ids(
        [(1, text.encode())], intake, id_column=id_column, hint=Format.CSV, owner_column=owner_column
    )
    ids = [tweet_id for chunk in chunks for tweet_id in chunk]
    return list(zip(intake.owners, ids, strict=True)), [f"{each.line}: {each.reason.split(':')[0]}" for each in rejects]


@pytest.mark.parametrize(
    ("text", "column"),
    [
        (f"tweet_id,handle\n{A},acme\n{B}, globex \n", "handle"),
        (f"Handle,x,tweet_id\nacme,1,{A}\nglobex,2,{B}\n", "handle"),
        (f'handle,text,id\nacme,"a, b",{A}\nglobex,"c\nd",{B}\n', "1"),
        (f"{A};acme\n{B};globex\n", "2"),
        (f"acme\t{A}\nglobex\t{B}\n", "1"),
    ],
)
def test_ids_come_with_their_owners(text: str, column: str) -> None:
    assert read_owned(text, column) == ([("acme", A), ("globex", B)], [])


@pytest.mark.parametrize("owner", ['"acme, Inc."', '"a ""b"""', "acme"])
@pytest.mark.parametrize("noise", ["", f'{A},"of two\nlines"\n', f'{A},a"b\n'])
def test_every_row_of_a_long_table_with_quotes_comes_with_its_owner(owner: str, noise: str) -> None:
    ids = [str(int(A) + 7919 * n) for n in range(1, 501)]
    text = "tweet_id,handle\n" + "".join(f"{i},{owner}\n" for i in ids) + noise

    pairs, _ = read_owned(text, "handle")

    (name,) = next(csv.reader([owner]))
    assert pairs[:500] == [(name, i) for i in ids]


def test_what_has_no_owner_is_rejected() -> None:
    pairs, rejects = read_owned(f"tweet_id,handle,n\n{A},acme,1\n{B},,2\n{C},acme\n,acme,3\n,,\n{C},acme,5\n", "handle")

    assert pairs == [("acme", A), ("acme", C)]
    assert sorted(rejects) == [
        "3: has no owner in column 'handle'",
        "4: has 2 cells, and the first row 3",
        "5: is empty",
    ]


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        (f"tweet_id,handle\n{A},acme\n", "owner", "has no column 'owner'"),
        (
            f"tweet_id,access_token\n{A},SECRET\n",
            "access_token",
            "holds credentials: choose another with --owner-column",
        ),
        (f"tweet_id,handle\n{A},acme\n", "tweet_id", "holds the IDs: which one holds their owners"),
        (f"{A},acme\n{B},globex\n", "handle", "as --owner-column 1"),
        (f"{A},acme\n{B},globex\n", "3", "1 to 2"),
        (f"{A},{B}\n", "1", "which column holds"),
    ],
)
def test_a_column_of_owners_that_cannot_be(text: str, column: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_owned(text, column)


LINES = st.sampled_from(
    [
        *(f"{A},text,7", f"{B},other text,8", f"{B},,", f"{C},text,7", f"{A},text,7\r", "0123,text,7", ",text,7"),
        *("not an ID,text,7", f"{A},text", f"{A},text,7,8", f'{A},"a, b",7', f"{A},text,\u0663", "", "tweet_id,text,n"),
        *(f'"{A}","x ""y""",7', f'{A},"open,7', f'{A},a"b,7', f'"{A}",t,"7"', f'{A},"x"y,7', f'{A},"x\r",7', '"'),
        *(f'{A},"",""', f'"{B}",text,8', f'{B},"text",8', f'"{B}","text","8"', f'{A}, "x",7', f'{A},"a""",7'),
        *(f" {A},text,7", f"{A}\x00,text,7", f"text,{A},7", f"{A},te\rxt,7"),
    ]
)


@given(st.lists(st.lists(LINES, min_size=1, max_size=6), min_size=1, max_size=4), st.integers(0, 2))
def test_blocks_that_match_are_read_as_others_are(blocks: list[list[str]], column: int) -> None:
    """Blocks behind those of the sample, in which each line may match."""
    order = [1, 2] if column == 0 else [0, 2] if column == 1 else [0, 1]

    def turned(line: str) -> str:
        cells = line.split(",")
        if len(cells) != 3:
            return line
        others = [cells[1], cells[2]]
        return ",".join(cells[0] if at == column else others[order.index(at)] for at in range(3))

    first = [turned("tweet_id,text,n"), *[turned(f"{A},text,7")] * 60]
    blocks = [lines * 3 for lines in blocks]  # each alone, and lines that go on in the next ones
    texts = ["\n".join(map(turned, lines)) + "\n" for lines in [first, *blocks]]
    found: list[Any] = []
    for pattern in (delimited._patterns, lambda *_: None):
        rejects: list[Reject] = []
        intake = Intake(InputReport("a.csv", "csv"), rejects.append)
        numbered, number = [], 1
        for text in texts:
            numbered.append((number, text.encode()))
            number += text.count("\n")
        with mock.patch.object(delimited, "_patterns", pattern):
            try:
                chunks = list(delimited_ids(numbered, intake, id_column=None, hint=Format.CSV))
            except UsageError as error:
                found.append(str(error))
                continue
        found.append(([i for chunk in chunks for i in chunk], rejects, intake.report))

    assert found[0] == found[1]
