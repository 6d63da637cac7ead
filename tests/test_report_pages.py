"""Reports in a real Chromium: they render, load nothing, run nothing, and fit, wide and narrow, light and dark, on paper."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from engagement_async import EngagementResult
from engagement_async.reports.composition import report_of
from engagement_async.reports.drawing import NARROW, WIDE, inline_svg
from engagement_async.reports.loaded import Loaded
from engagement_async.reports.page import page
from engagement_async.reports.sources import load_job
from tests.support.chromium import Chromium, Visit, needs_chromium
from tests.support.reports import add_run, answered_job, busy_slots, result_of

pytestmark = [needs_chromium, pytest.mark.timeout(600)]

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
EVIL: Final = "<script>document.title='taken'</script><img src=http://127.0.0.1:9/x onerror=alert(1)>\"'&</svg>"
FLAGS: Final = "-" * 60 + "W" * 90
"""A name without a place to break it."""
WIDTHS: Final = (1280, 390)
SCHEMES: Final = ("light", "dark")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report with every picture, and names that mean harm."""
    folder = tmp_path_factory.mktemp("pages")
    job = answered_job(folder / "job")
    add_run(job, slots=busy_slots(), requests=300)
    loaded = load_job(job)
    for owner in (EVIL, FLAGS, "plain"):
        loaded.tally.by_owner[owner].update({"answered": 20, "failed": 3})
    loaded.tally.gone[:] = [(tweet_id, EVIL) for tweet_id, _ in loaded.tally.gone]
    hostile = Loaded(
        "Job", EVIL, loaded.tally, loaded.status, loaded.traffic, {EVIL: f"refused {EVIL}"}, notes=(EVIL, FLAGS)
    )
    path = folder / "report.html"
    path.write_text(page(report_of(hostile, made_at=NOW), inline_svg, wide=WIDE, narrow=NARROW))
    return path


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    async with Chromium(tmp_path / "profile") as chromium:
        yield chromium


async def measured(visit: Visit) -> dict[str, Any]:
    """Return what the layout of a page came to."""
    found: dict[str, Any] = await visit.value(
        """(() => {
            const shown = [...document.querySelectorAll('figure svg')].filter(svg => svg.getClientRects().length);
            const outside = [...document.querySelectorAll('h1,h2,h3,p,dl,figure,svg,figcaption,summary,.scroll')]
                .filter(e => e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 0.5);
            const texts = shown.flatMap(svg => [...svg.querySelectorAll('text')]);
            return {
                page: document.documentElement.scrollWidth, screen: innerWidth, shown: shown.length,
                outside: outside.map(e => e.outerHTML.slice(0, 80)),
                smallest: Math.min(...texts.filter(t => t.textContent).map(t => t.getBoundingClientRect().height)),
                background: getComputedStyle(document.documentElement).backgroundColor,
                colour: getComputedStyle(document.body).color,
                bars: getComputedStyle(document.querySelector('#hours .wide path[fill]')).fill,
                words: getComputedStyle(document.querySelector('#hours text')).fill,
            };
        })()"""
    )
    return found


async def test_it_shows_every_picture_and_loads_and_runs_nothing(browser: Chromium, file: Path) -> None:
    visit = await browser.visit(file)
    await visit.screen(1280)

    assert visit.requests == [file.as_uri()]
    assert visit.complaints == []
    assert await visit.value("document.title") == f"Engagement of {EVIL}"
    assert await visit.value("document.scripts.length + document.images.length") == 0
    figures = "[...document.querySelectorAll('figure')].map(figure => figure.id)"
    assert await visit.value(figures) == [
        *("hours", "top", "week", "half-life", "outcomes", "owners", "requests", "latency", "retries")
    ]
    assert await visit.value("document.querySelector('h1').textContent") == f"Engagement of {EVIL}"
    assert EVIL in await visit.value("document.querySelector('#owners table').textContent")
    drawn = await visit.value("document.querySelector('#owners .wide svg').textContent")
    assert "<script>" in drawn  # cut as a label is, and a text


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
async def test_it_fits(browser: Chromium, file: Path, width: int, scheme: str) -> None:
    visit = await browser.visit(file)
    await visit.screen(width, scheme=scheme)

    found = await measured(visit)

    assert found["outside"] == []
    assert found["page"] == found["screen"] == width
    assert found["shown"] == 9  # of each picture the one for this width
    assert found["smallest"] >= 11.0  # CSS pixels
    assert len(await visit.picture()) > 50_000


async def test_it_is_dark_where_the_reader_is(browser: Chromium, file: Path) -> None:
    visit = await browser.visit(file)
    seen = {}
    for scheme in SCHEMES:
        await visit.screen(1280, scheme=scheme)
        seen[scheme] = await measured(visit)

    light, dark = seen["light"], seen["dark"]
    assert light["background"] == "rgb(255, 255, 255)"
    assert (dark["background"], dark["bars"], dark["words"]) == (
        "rgb(15, 20, 27)",
        "rgb(88, 166, 255)",
        "rgb(219, 226, 234)",
    )
    for each in seen.values():
        for front in ("colour", "words", "bars"):
            least = 3.0 if front == "bars" else 7.0
            assert contrast(each[front], each["background"]) >= least


def contrast(front: str, back: str) -> float:
    """Return the contrast of two colours, as https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio has it."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(front), luminance(back)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


async def test_a_keyboard_opens_the_numbers_and_sees_where_it_is(browser: Chromium, file: Path) -> None:
    visit = await browser.visit(file)
    await visit.screen(1280)
    for _ in range(40):
        await visit.press("Tab")
        if await visit.value("document.activeElement.matches('#hours summary')"):
            break
    assert await visit.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await visit.press("Enter")

    assert await visit.value("document.querySelector('#hours details').open") is True
    await visit.press("Tab")
    assert await visit.value("document.activeElement.className") == "scroll"


async def test_a_screen_reader_hears_the_pictures_once_and_their_tables(browser: Chromium, file: Path) -> None:
    visit = await browser.visit(file)
    await visit.screen(1280)

    tree = (await visit.call("Accessibility.getFullAXTree"))["nodes"]

    heard = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    images = [name for role, name in heard if role in ("image", "img")]
    assert len(images) == 9
    assert all(". " in name and name.endswith(".") for name in images)
    levels = [
        next(its["value"]["value"] for its in node["properties"] if its["name"] == "level")
        for node in tree
        if not node["ignored"] and node["role"]["value"] == "heading"
    ]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert ("main", "") in heard


async def test_it_prints(browser: Chromium, file: Path) -> None:
    visit = await browser.visit(file)
    await visit.screen(1280, scheme="dark")
    await visit.call("Emulation.setEmulatedMedia", media="print")

    assert await visit.value("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert await visit.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    paper = await visit.paper()
    assert paper.startswith(b"%PDF")
    assert len(paper) > 20_000


async def test_a_large_job_is_a_small_page(tmp_path: Path) -> None:
    def make() -> EngagementResult:
        return result_of(answered_job(tmp_path / "job", 3000))

    from engagement_async.reports import write_report

    result = await asyncio.to_thread(make)
    await asyncio.to_thread(write_report, result, tmp_path / "report.html")

    assert len((tmp_path / "report.html").read_bytes()) < 1_500_000
