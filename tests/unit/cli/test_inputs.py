"""What a command says of its IDs."""

from __future__ import annotations

from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner

from engagement_async import UsageError
from engagement_async._ids.reading import FORMATS
from engagement_async.cli.inputs import InputReporter, id_chunks
from engagement_async.cli.options import id_options
from engagement_async.cli.report import Mode, Reporter

A, B = "1070059276213702656", "1021817816134156288"


def read(*given: str, files: tuple[str, ...] = (), mode: Mode = Mode.LINES, accepts: bool = False) -> list[str]:
    heard = InputReporter(Reporter(mode), accepts_suspicious=accepts)
    return [i for chunk in id_chunks(given, files, heard, id_column=None, ids_format=None) for i in chunk]


def test_each_input_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"Post id,x\n{B},1\n")

    assert read(A, files=(str(path),)) == [A, B]
    assert capsys.readouterr().err == f"{path}: 1 ID from csv, column 'Post id'\n"
    assert read(files=(str(path),), mode=Mode.JSON) == [B]
    event = orjson.loads(capsys.readouterr().err)
    assert (event["event"], event["ids"], event["column"]) == ("input", 1, "Post id")
    assert read(files=(str(path),), mode=Mode.QUIET) == [B]
    assert capsys.readouterr().err == ""


def test_of_many_parts_the_first_are_told_and_the_rest_summed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in range(8):
        (tmp_path / f"part-{part}.txt").write_text(f"{A}\n{B}\n")

    assert len(read(files=(str(tmp_path),))) == 16
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 6
    assert told[-1] == "and 6 IDs from 3 more files"


def test_suspicious_ids_stop_a_command_unless_they_are_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1\n2\n3\n")

    with pytest.raises(UsageError, match=r"row numbers.* If they are right: --accept-suspicious-ids"):
        read(files=(str(path),))
    assert read(files=(str(path),), accepts=True) == ["1", "2", "3"]
    assert capsys.readouterr().err.startswith(f"warning: {path}: the IDs count from 1 to 3")


def test_small_arguments_are_meant() -> None:
    assert read("20", "1", "2,3") == ["20", "1", "2", "3"]


def test_nothing_is_given() -> None:
    with pytest.raises(UsageError, match="which Tweets"):
        read()


def test_a_file_among_the_arguments_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    path.touch()

    with pytest.raises(UsageError, match=r"b\.csv' is a file: write --ids before each file"):
        read(A, str(path))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_an_option(name: str) -> None:
    @click.command()
    @id_options
    def command(ids_format: str, **_: object) -> None:
        click.echo(ids_format)

    assert CliRunner().invoke(command, ["--ids-format", name]).output == f"{name}\n"
