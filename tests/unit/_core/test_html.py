from __future__ import annotations

from html.parser import HTMLParser

from engagement_async._core.html import table_html


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
