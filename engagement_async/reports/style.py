"""The style of a report's page: `page.css`, and what the colours of the pictures become where it is dark."""

from __future__ import annotations

import re
from importlib.resources import files

from engagement_async.reports.picture import DARK

__all__ = ["style"]


def style() -> str:
    """Return the style sheet, in one line."""
    base = files(__package__ or "").joinpath("page.css").read_text(encoding="utf-8")
    pictures = "".join(
        f'svg [fill="{light}"]{{fill:{dark}}}svg [stroke="{light}"]{{stroke:{dark}}}' for light, dark in DARK.items()
    )
    compact = re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/", "", base, flags=re.DOTALL)).strip()
    return f"{compact}@media screen and (prefers-color-scheme:dark){{{pictures}}}"
