"""Charts as altair objects, out of points. Needs altair (extra `[report]`); imported for the first chart.

Every axis has a title, with its unit, and time is UTC. The colours are few and named: a page that embeds a chart can give
them others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from engagement_async._core.plots import Axis, PlotData, Point
from engagement_async.errors import UsageError

try:
    import altair as alt
except ImportError as error:  # pragma: no cover - the tests have it
    raise UsageError("plots and pictures need altair: pip install 'engagement-async[report]'") from error

__all__ = [
    "ACCENT",
    "FAINT",
    "MISS",
    "TEXT",
    "alt",
    "configured",
    "count_axis",
    "from_zero",
    "panels",
    "plot",
    "time_axis",
]

ACCENT: Final = "#1f6feb"
"""Of what a chart shows."""
MISS: Final = "#c2410c"
"""Of what went wrong, and of limits."""
TEXT: Final = "#24292e"
FAINT: Final = "#d7dbe0"
"""Of grid lines."""
_PANEL_HEIGHT: Final = 84
_BARS_UP_TO: Final = 200
"""Points that are bars; more of them are an area."""
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
_UTC_LABEL: Final = (
    "utchours(datum.value) || utcminutes(datum.value) || utcseconds(datum.value)"
    " ? utcFormat(datum.value, utcseconds(datum.value) ? '%H:%M:%S' : '%H:%M') : utcFormat(datum.value, '%d %b')"
)
_TITLES: Final = {
    Axis.HOURS: "hour (UTC)",
    Axis.DAYS: "day (UTC)",
    Axis.HOURS_OF_DAY: "hour of day (UTC)",
    Axis.TWEETS: "Tweet",
    Axis.OWNERS: "owner",
    Axis.METRICS: "metric",
}
_STEPS: Final = {Axis.HOURS: (timedelta(hours=1), "an hour"), Axis.DAYS: (timedelta(days=1), "a day")}


def plot(data: PlotData, *, width: int) -> Any:
    """Return a chart with a panel for each metric, one below the other."""
    if data.axis in _STEPS:
        step, unit = _STEPS[data.axis]
        titled = {f"{metric} {unit}": points for metric, points in data.panels.items()}
        return configured(panels(titled, step, _TITLES[data.axis], width=width))
    draw = _hours_of_day if data.axis is Axis.HOURS_OF_DAY else _ranked
    charts = [
        draw(points, _TITLES[data.axis], width).properties(title=metric) for metric, points in data.panels.items()
    ]
    return configured(alt.vconcat(*charts, spacing=16))


def panels(
    points: Mapping[str, Sequence[Point]], step: timedelta, title: str, *, width: int, height: int = _PANEL_HEIGHT
) -> Any:
    """Return panels over time, one below the other, with one axis of time for all. What is partial is pale.

    Args:
        points: The title of each panel to its points, in order of time.
        step: How long one of them is.
        title: What the axis of time says.
        width: Of the panels, in pixels.
        height: Of each panel, in pixels.
    """
    last = len(points) - 1
    charts = [
        _over_time(series, step, title if at == last else None, width).properties(title=metric, height=height)
        for at, (metric, series) in enumerate(points.items())
    ]
    return alt.vconcat(*charts, spacing=12).resolve_scale(x="shared")


def time_axis(title: str | None, width: int, **options: Any) -> Any:
    """Return an axis of instants: days by their date, other ones by their hour. Without a title it has no labels."""
    return alt.Axis(
        title=title,
        labels=title is not None,
        ticks=title is not None,
        labelExpr=_UTC_LABEL,
        tickCount=max(3, width // 80),
        labelOverlap=True,
        labelFlush=True,
        grid=False,
        **options,
    )


def configured(chart: Any, *, background: str = "white") -> Any:
    """Return the chart in the style of all charts."""
    quiet = {"labelColor": TEXT, "titleColor": TEXT, "titleFontWeight": "normal", "domainColor": FAINT}
    return (
        chart.configure(background=background, font=_FONT, padding=4)
        .configure_view(stroke=None)
        .configure_axis(gridColor=FAINT, tickColor=FAINT, labelFontSize=11, titleFontSize=11, titlePadding=6, **quiet)
        .configure_title(
            anchor="start", frame="group", fontSize=12, fontWeight=600, color=TEXT, subtitleColor=TEXT, offset=6
        )
        .configure_legend(
            labelColor=TEXT, titleColor=TEXT, titleFontWeight="normal", labelFontSize=11, titleFontSize=11
        )
    )


def count_axis(title: str | None = None, ticks: int = 3) -> Any:
    """Return an axis of numbers: 12k for 12,000."""
    return alt.Axis(
        title=title,
        labelExpr="datum.value % 1 ? '' : format(datum.value, '~s')",
        tickCount=ticks,
        tickMinStep=1,
        domain=False,
        ticks=False,
    )


def from_zero(points: Sequence[Point]) -> Any:
    """Return a scale from zero to the largest value, and to 1 at least: zeros alone have an axis too."""
    return alt.Scale(domain=[0, max(1, *(point.value for point in points))], nice=True)


def _over_time(points: Sequence[Point], step: timedelta, title: str | None, width: int) -> Any:
    rows = []
    for point in points:
        assert isinstance(point.key, datetime)  # noqa: S101
        at, end = point.key.isoformat(), (point.key + step).isoformat()
        shown = {"when": f"{point.key:%Y-%m-%d %H:%M}", "value": point.value, "partial": point.is_partial}
        rows.append({"at": at, "end": end, **shown})
    chart = alt.Chart(alt.Data(values=rows), width=width)
    x = alt.X("at:T", scale=alt.Scale(type="utc"), axis=time_axis(title, width))
    y = alt.Y("value:Q", axis=count_axis(), scale=from_zero(points))
    tooltip = [alt.Tooltip("when:N", title="from (UTC)"), alt.Tooltip("value:Q", format=",")]
    if len(rows) <= _BARS_UP_TO:
        opacity = alt.condition("datum.partial", alt.value(0.35), alt.value(1.0))
        bars = chart.mark_bar(color=ACCENT, binSpacing=1)
        return bars.encode(x=x, x2="end:T", y=y, y2=alt.datum(0), opacity=opacity, tooltip=tooltip)
    return chart.mark_area(color=ACCENT, interpolate="step-after").encode(x=x, y=y, tooltip=tooltip)


def _hours_of_day(points: Sequence[Point], title: str, width: int) -> Any:
    rows = [{"key": f"{point.key:02}", "value": point.value} for point in points]
    return (
        alt.Chart(alt.Data(values=rows), width=width, height=_PANEL_HEIGHT)
        .mark_bar(color=ACCENT)
        .encode(
            x=alt.X("key:O", sort=None, axis=alt.Axis(title=title, labelAngle=0, labelOverlap=True, ticks=False)),
            y=alt.Y("value:Q", axis=count_axis(), scale=from_zero(points)),
            tooltip=[alt.Tooltip("key:O", title=title), alt.Tooltip("value:Q", format=",")],
        )
    )


def _ranked(points: Sequence[Point], title: str, width: int) -> Any:
    rows = [{"key": str(point.key), "value": point.value} for point in points]
    return (
        alt.Chart(alt.Data(values=rows), width=width, height={"step": 18})
        .mark_bar(color=ACCENT)
        .encode(
            x=alt.X("value:Q", axis=count_axis("count", ticks=5), scale=from_zero(points)),
            y=alt.Y("key:N", sort=None, axis=alt.Axis(title=title, ticks=False, domain=False, labelLimit=220)),
            tooltip=[alt.Tooltip("key:N", title=title), alt.Tooltip("value:Q", format=",")],
        )
    )
