"""The page: text stays text, headings are in order, tables are behind the pictures, and nothing is loaded."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from engagement_async.reports.page import Fact, Report, Section, page
from engagement_async.reports.picture import DARK, Link, Picture, Table
from engagement_async.reports.style import style

EVIL = "</title></style><script>alert('1')</script>\"'&<img src=x onerror=alert(1)>"


def picture(name: str = "hours", *, shows_table: bool = False) -> Picture:
    table = Table(
        (EVIL, "number", "link"),
        [(EVIL, 1234, Link("7", "https://x.com/i/web/status/7")), ("b", None, None)],
        left_out=1234,
    )
    return Picture(name, f"Title {EVIL}", f"Says {EVIL}", f"About {EVIL}", lambda _: None, table, shows_table)


def made(*pictures: Picture) -> str:
    section = Section(
        "data", f"Section {EVIL}", [Fact(EVIL, EVIL, EVIL)], pictures, [(EVIL, Table((EVIL,), [(EVIL,)]))], [EVIL]
    )
    report = Report(f"Report {EVIL}", f"Of {EVIL}", [section])
    return page(report, lambda _, width, prefix: f"<svg id='{prefix}{width}'></svg>", wide=700, narrow=300)


class Elements(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_whatever_comes_from_outside_is_text() -> None:
    found = Elements(made(picture()))
    names = [tag for tag, _ in found.tags]

    assert "script" not in names
    assert "img" not in names
    assert not [attrs for _, attrs in found.tags if any(name.startswith("on") for name in attrs)]
    assert found.text.count(EVIL) >= 12


def test_nothing_is_loaded_and_nothing_may_be() -> None:
    text = made(picture())
    found = Elements(text)

    assert "default-src 'none'" in text
    assert {tag for tag, attrs in found.tags if "src" in attrs or tag in ("link", "iframe", "object")} == set()
    assert {attrs["href"] for tag, attrs in found.tags if tag == "a"} == {"#hours", "https://x.com/i/web/status/7"}
    assert not re.search(r"url\(|@import", style())


def test_headings_are_in_order_and_the_language_is_known() -> None:
    found = Elements(made(picture("hours"), picture("top")))

    assert [tag for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)] == ["h1", "h2", "h3", "h3"]
    assert found.tags[0] == ("html", {"lang": "en"})
    assert sum(tag == "main" for tag, _ in found.tags) == 1


def test_pictures_are_drawn_for_both_widths_with_names_of_their_own() -> None:
    text = made(picture("hours"))

    assert "<svg id='hours-w-700'>" in text
    assert "<svg id='hours-n-300'>" in text


def test_tables_have_captions_scopes_and_can_be_scrolled_by_keyboard() -> None:
    text = made(picture())
    found = Elements(text)

    assert sum(tag == "caption" for tag, _ in found.tags) == sum(tag == "table" for tag, _ in found.tags) == 2
    assert {attrs.get("scope") for tag, attrs in found.tags if tag == "th"} == {"col", "row"}
    assert all(attrs["tabindex"] == "0" for tag, attrs in found.tags if attrs.get("class") == "scroll")
    assert "<td class=n>1,234</td>" in text
    assert '<th scope="col" class=n>number</th>' in text
    assert "1,234 more are not in this table" in text


@pytest.mark.parametrize("is_open", [False, True])
def test_a_table_is_closed_unless_the_picture_shows_it(*, is_open: bool) -> None:
    assert ("<details open>" in made(picture(shows_table=is_open))) is is_open


def test_a_report_without_pictures_has_no_contents() -> None:
    assert "<nav" not in made()
    assert "<table" not in page(Report("a", "b"), lambda *_: "", wide=1, narrow=1)


def test_every_colour_of_a_picture_has_another_one_in_the_dark() -> None:
    dark = style().partition("@media screen and (prefers-color-scheme:dark){svg")[2]

    for light, other in DARK.items():
        assert f'[fill="{light}"]{{fill:{other}}}' in dark
        assert f'[stroke="{light}"]{{stroke:{other}}}' in dark
