"""`write_report`: a source becomes a page, or one picture of it a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from engagement_async._core.result import EngagementResult
from engagement_async._export.files import atomic_file, check_outputs, output_stream
from engagement_async.errors import UsageError

__all__ = ["FORMATS", "write_report"]

FORMATS: Final = ("html", "svg", "png")


def write_report(
    source: str | os.PathLike[str] | EngagementResult,
    output: str | os.PathLike[str],
    *,
    picture: str | None = None,
    format: str | None = None,  # noqa: A002 - its name everywhere
    title: str | None = None,
    is_dark: bool = False,
    now: Callable[[], datetime] | None = None,
) -> None:
    """Write a report as one HTML page that loads nothing and needs no script, or one of its pictures (extra `[report]`).

    Of a job the page has requests a minute against the contract, latencies, retries, and the outcomes of IDs; of all data
    the metrics over time, the top Tweets, the week, the half-life of a Tweet, and the IDs that are gone.

    Args:
        source: The directory of a job, a series store, a file that a result was saved to (JSON, JSON lines, CSV, TSV,
            Parquet), or an `EngagementResult`.
        output: The file, whose suffix is the format; `-` is the standard output.
        picture: The name of one picture, as `hours`, for `svg` and `png`.
        format: `html`, `svg` or `png`, if not the one of the suffix.
        title: What the page is headed by.
        is_dark: Whether a single picture is for a dark page. An HTML page is as its reader's screen.
        now: Returns the present, as an aware datetime.

    Raises:
        UsageError: The source is none, there is no such picture or format, or altair or vl-convert is not installed.
        JobError: The job cannot be read.
        SeriesError: The store cannot be read.
    """
    kind = _format_of(str(output), format, picture)
    check_outputs([str(output)], [] if isinstance(source, EngagementResult) else [str(source)])
    # What draws is looked for before anything is read: what is missing should not cost a minute.
    from engagement_async.reports.drawing import NARROW, WIDE, inline_svg, picture_file

    from engagement_async.reports.composition import report_of, why_there_is_no  # isort: skip - it needs altair too
    from engagement_async.reports.page import page
    from engagement_async.reports.sources import load_result, load_source

    loaded = load_result(source) if isinstance(source, EngagementResult) else load_source(Path(source))
    made_at = (now or _utc_now)()
    report = report_of(loaded, made_at=made_at, title=title)
    if picture is None:
        written = page(report, inline_svg, wide=WIDE, narrow=NARROW).encode(errors="replace")  # names need not be UTF-8
    else:
        if picture not in report.pictures:
            raise UsageError(why_there_is_no(picture, report))
        written = picture_file(report.pictures[picture], kind=kind, is_dark=is_dark)
    with output_stream(1) if str(output) == "-" else atomic_file(Path(output)) as file:
        file.write(written)


def _format_of(output: str, given: str | None, picture: str | None) -> str:
    suffix = Path(output).suffix.removeprefix(".").lower()
    kind = given or (suffix if suffix in FORMATS else "")
    if not kind and output == "-":
        kind = "html" if picture is None else "svg"
    if kind not in FORMATS:
        raise UsageError(
            f"a report is written as {', '.join(FORMATS)}, not {given or output!r}: name such a file, or the format"
        )
    if kind == "html" and picture is not None:
        raise UsageError("one picture is svg or png: the HTML page has all of them")
    if kind != "html" and picture is None:
        raise UsageError(f"{kind} holds one picture: name it, as hours, or write html, which has all of them")
    return kind


def _utc_now() -> datetime:
    return datetime.now(UTC)
