"""Pictures as SVG for a page, and as files."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from engagement_async._core.charts import ACCENT, alt
from engagement_async.reports.drawing import inline_svg, picture_file
from engagement_async.reports.picture import DARK, Picture, Table

EVIL = "</text><script>alert(1)</script>&\"'"


def draw(width: int) -> Any:
    rows = [{"name": EVIL, "value": 3}, {"name": "b", "value": 1.23456}]
    chart = alt.Chart(alt.Data(values=rows), width=width, height=60).mark_bar(color=ACCENT, clip=True)
    return chart.encode(x="value:Q", y=alt.Y("name:N", title=EVIL))


PICTURE = Picture("bars", f"Bars {EVIL}", f"Three {EVIL}", "About.", draw, Table(("a",), [("b",)]))


def test_a_picture_in_a_page_is_named_and_scales() -> None:
    root = ET.fromstring(inline_svg(PICTURE, 300, "bars-w-"))

    assert root.get("role") == "img"
    assert root.get("aria-label") == f"Bars {EVIL}. Three {EVIL}"
    assert root.get("viewBox", "").startswith("0 0 ")
    assert root.get("width") is None
    assert EVIL in "".join(root.itertext())
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))


def test_the_ids_of_a_picture_are_its_own() -> None:
    text = inline_svg(PICTURE, 300, "bars-w-")

    ids = re.findall(r' id="([^"]+)"', text)
    used = re.findall(r"url\(#([^)]+)\)", text)
    assert ids
    assert all(each.startswith("bars-w-") for each in ids)
    assert set(used) <= set(ids)


def test_a_picture_is_small_and_speaks_once() -> None:
    text = inline_svg(PICTURE, 300, "x-")

    assert not re.search(r"\d\.\d\d", text.partition("<g")[2])
    assert text.count("aria-") == 1
    assert "NaN" not in text


@pytest.mark.parametrize("is_dark", [False, True])
def test_a_file_has_its_title_and_the_colours_of_its_page(*, is_dark: bool) -> None:
    text = picture_file(PICTURE, kind="svg", is_dark=is_dark).decode()

    assert "Bars" in text
    assert (DARK[ACCENT] in text) is is_dark
    assert (ACCENT in text) is not is_dark
    assert "<script" not in text


def test_a_file_may_be_png() -> None:
    assert picture_file(PICTURE, kind="png", is_dark=False).startswith(b"\x89PNG")


def test_without_vl_convert_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['vl_convert'] = None\n"
        "from engagement_async import UsageError\n"
        "from engagement_async.reports import write_report\n"
        "try:\n    write_report('nothing', 'report.html')\n"
        "except UsageError as error: print(error)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "pip install 'engagement-async[report]'" in done.stdout
