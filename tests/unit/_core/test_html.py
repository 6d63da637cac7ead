from __future__ import annotations

from html.parser import HTMLParser

from engagement_async._core.html import facts_html, note_html, table_html


class Cells(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_values_become_cells_and_names_stay_text() -> None:
    hostile = "<script>alert(1)</script>"
    parsed = Cells(table_html(hostile, ("owner", "n"), [{"owner": hostile, "n": 12_345}, {"n": None}], more=1_200))

    assert parsed.texts == [hostile, "owner", "n", hostile, "12,345", "1,200 more rows"]
    assert set(parsed.tags) == {"table", "caption", "strong", "thead", "tbody", "tr", "th", "td", "p"}


def test_nothing_is_said_of_rows_that_are_all_there() -> None:
    assert "more" not in table_html("t", ("a",), [{"a": 1}])


def test_rows_that_were_not_counted_are_at_least_so_many() -> None:
    assert "at least 1,000 more rows" in table_html("t", ("a",), [{"a": 1}], more=1_000, is_all=False)


def test_facts_stand_below_a_bar() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    html = facts_html(hostile, [("a", 1_200), (hostile, hostile), ("none", None), ("yes", True)], done=(1, 3))
    parsed = Cells(html)

    assert parsed.texts == [hostile, "33.3%", "a", "1,200", hostile, hostile, "none", "yes", "True"]
    assert parsed.tags.count("progress") == 1
    assert 'value="0.3333"' in html
    assert "progress" not in facts_html("t", [("a", 1)])
    assert "100.0%" in facts_html("t", [], done=(0, 0))


def test_a_note_is_escaped_and_can_be_sent() -> None:
    html = note_html("<b>", "caf\udce9 & more")

    assert Cells(html).texts == ["<b>", "caf? & more"]
    html.encode()
