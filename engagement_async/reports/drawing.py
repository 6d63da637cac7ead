"""Charts become pictures: SVG for a page, whose colours the page may change, and single files of SVG or PNG."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from typing import Any, Final

from engagement_async._core.charts import configured
from engagement_async.errors import UsageError
from engagement_async.reports.picture import DARK, Picture

try:
    import vl_convert  # noqa: F401 - altair draws with it
except ImportError as error:  # pragma: no cover - the tests have it
    raise UsageError("pictures need vl-convert: pip install 'engagement-async[report]'") from error

__all__ = ["NARROW", "WIDE", "inline_svg", "picture_file"]

WIDE: Final = 780
"""Pixels of a chart on a desk."""
NARROW: Final = 268
"""Pixels of a chart on a telephone, without its axis."""
_SVG: Final = "http://www.w3.org/2000/svg"
_LONG_NUMBER: Final = re.compile(r"-?\d+\.\d{2,}")
_DROPPED: Final = ("aria-", "role", "pointer-events", "version", "width", "height", "class", "stroke-miterlimit")
_PNG_SCALE: Final = 2


def inline_svg(picture: Picture, width: int, prefix: str) -> str:
    """Return the picture as an SVG element for a page: as wide as there is room, and named for those who cannot see it.

    Args:
        picture: What to draw.
        width: Pixels of the chart.
        prefix: What its IDs begin with: a page has several pictures.
    """
    ET.register_namespace("", _SVG)
    root = ET.fromstring(_drawn(picture.draw(width), "svg"))  # noqa: S314 - our own
    size = root.get("viewBox", "")
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if element.tag.endswith(("}svg", "}g", "}path", "}text", "}line")) and name.startswith(_DROPPED):
                del element.attrib[name]
            else:
                element.set(name, _LONG_NUMBER.sub(_shorter, _renamed(name, value, prefix)))
    _prune(root)
    root.attrib.clear()
    root.attrib.update({"viewBox": size, "role": "img", "aria-label": f"{picture.title}. {picture.says}"})
    return ET.tostring(root, encoding="unicode")


def picture_file(picture: Picture, *, kind: str, is_dark: bool) -> bytes:
    """Return one picture as a file: `svg` or `png`."""
    background = "#0f141b" if is_dark else "white"
    chart = picture.draw(WIDE).properties(title={"text": picture.title, "subtitle": picture.says, "offset": 14})
    drawn = _drawn(chart, kind, background, recolour=is_dark)
    return drawn if isinstance(drawn, bytes) else drawn.encode()


def _drawn(chart: Any, kind: str, background: str = "transparent", *, recolour: bool = False) -> Any:
    styled = configured(chart, background=background)
    if recolour:
        import altair as alt

        styled = alt.Chart.from_json(_recoloured(styled.to_json()))
    if kind == "svg":
        text = io.StringIO()
        styled.save(text, format="svg")
        return text.getvalue()
    file = io.BytesIO()
    styled.save(file, format=kind, scale_factor=_PNG_SCALE)
    return file.getvalue()


def _recoloured(specification: str) -> str:
    return re.sub("|".join(DARK), lambda found: DARK[found[0]], specification)


def _renamed(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}{value}"
    if name.endswith("href") and value.startswith("#"):
        return f"#{prefix}{value[1:]}"
    return value.replace("url(#", f"url(#{prefix}") if value.startswith("url(#") else value


def _shorter(found: re.Match[str]) -> str:
    return f"{round(float(found[0]), 1):g}"


def _prune(element: ET.Element) -> None:
    """Remove what draws nothing: paths without a shape, what is not displayed, groups without content."""
    for child in list(element):
        _prune(child)
        is_nothing = child.get("display") == "none" or (child.tag == f"{{{_SVG}}}path" and not child.get("d"))
        if is_nothing or (child.tag == f"{{{_SVG}}}g" and not len(child)):
            element.remove(child)
