"""The pictures of data: metrics over time, the top Tweets, the week, the half-life, IDs that are gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from engagement_async._core.charts import ACCENT, FAINT, MISS, alt, count_axis, panels
from engagement_async._core.plots import ALL_METRICS
from engagement_async.reports.figures import WEEKDAYS, Cell, Panels, panels_of, week_of
from engagement_async.reports.lifetimes import HalfLife
from engagement_async.reports.picture import RAMP, Link, Picture, Table, Value
from engagement_async.reports.tally import Tally, TopTweet

__all__ = ["data_pictures", "tweet_link"]

_MOST_CURVES: Final = 4
_HEIGHT: Final = 220
_TWEET: Final = "https://x.com/i/web/status/{}"


def tweet_link(tweet_id: str) -> Link:
    """Return a link to a Tweet."""
    return Link(tweet_id, _TWEET.format(tweet_id))


def data_pictures(tally: Tally) -> Iterator[Picture]:
    """Yield the pictures that this data allows."""
    if (over_time := panels_of(tally)) is not None and over_time.points:
        yield _over_time(tally, over_time)
    if tally.top:
        yield _top(tally)
    metric = tally.ranked_by
    week = week_of(tally, metric)
    if any(cell.mean for cell in week):
        yield _week(metric, week)
    loudest = sorted(tally.lifetimes.found(), key=lambda its: -tally.sums[its.metric])
    if loudest:
        yield _half_life(loudest)


def _over_time(tally: Tally, found: Panels) -> Picture:
    first = next(iter(found.points.values()))
    span = f"{found.starts_at:%Y-%m-%d %H:%M} to {found.ends_at:%Y-%m-%d %H:%M} UTC"
    largest = max(found.points, key=lambda metric: tally.sums[metric])
    peak = max(found.points[largest], key=lambda point: point.value)
    is_cut = any(point.is_partial for point in first)
    about = f"Sums over all Tweets, {found.unit}, {span}."
    if is_cut:
        about += " Pale: not seen whole, by the edge of a window or for some Tweets."
    if found.silent:
        about += f" Without any engagement: {', '.join(found.silent)}."

    def draw(width: int) -> Any:
        titled = {f"{metric} {found.unit}": points for metric, points in found.points.items()}
        return panels(titled, found.step, "time (UTC)", width=width, height=64 if len(titled) > 4 else 84)

    times = [point.key for point in first]
    rows: list[Sequence[Value]] = [
        (f"{at:%Y-%m-%d %H:%M}", *(points[place].value for points in found.points.values()))
        for place, at in enumerate(times)
    ]
    return Picture(
        "hours",
        "Engagement over time",
        f"{largest}: {tally.sums[largest]:,} in all, at most {peak.value:,} {found.unit} ({peak.key:%Y-%m-%d %H:%M} UTC).",
        about,
        draw,
        Table(("from (UTC)", *found.points), rows),
    )


def _top(tally: Tally) -> Picture:
    top, metric = tally.top, tally.ranked_by
    has_owners = any(tweet.owner for tweet in top)
    others = [name for name in tally.metrics if name != metric and any(tweet.sums.get(name) for tweet in top)]
    share = sum(tweet.sums[metric] for tweet in top) / (tally.sums[metric] or 1)

    def draw(width: int) -> Any:
        rows = [{"Tweet": tweet.tweet_id, "value": tweet.sums[metric]} for tweet in top]
        return (
            alt.Chart(alt.Data(values=rows), width=max(120, width - 150), height={"step": 18})
            .mark_bar(color=ACCENT)
            .encode(
                x=alt.X("value:Q", axis=count_axis(metric, ticks=4)),
                y=alt.Y("Tweet:N", sort=None, axis=alt.Axis(title=None, ticks=False, domain=False)),
            )
        )

    def row(tweet: TopTweet) -> Sequence[Any]:
        owner = (tweet.owner,) if has_owners else ()
        return (tweet_link(tweet.tweet_id), *owner, tweet.sums[metric], *(tweet.sums.get(name) for name in others))

    return Picture(
        "top",
        "Top Tweets",
        f"The {len(top)} Tweets with the most {metric} have {share:.0%} of all: the first one {top[0].sums[metric]:,}.",
        f"By {metric}. The table leads to the Tweets.",
        draw,
        Table(("Tweet", *(("owner",) if has_owners else ()), metric, *others), [row(tweet) for tweet in top]),
        shows_table=True,
    )


def _week(metric: str, cells: Sequence[Cell]) -> Picture:
    seen = [cell for cell in cells if cell.mean is not None]
    most = max(seen, key=lambda cell: cell.mean or 0.0)
    missing = len(cells) - len(seen)
    name = "engagement" if metric == ALL_METRICS else metric

    def draw(width: int) -> Any:
        rows = [{"day": WEEKDAYS[cell.weekday], "hour": cell.hour, "mean": cell.mean} for cell in seen]
        colour = alt.Color(
            "mean:Q",
            scale=alt.Scale(type="quantize", range=list(RAMP), domain=[0, most.mean], zero=True),
            legend=alt.Legend(
                orient="bottom", title=f"{name} an hour", titleLimit=0, direction="horizontal", format="~s"
            ),
        )
        return (
            alt.Chart(alt.Data(values=rows), width=width, height={"step": 24})
            .mark_rect(stroke=FAINT, strokeWidth=0.5)
            .encode(
                x=alt.X(
                    "hour:O",
                    scale=alt.Scale(domain=list(range(24))),
                    axis=alt.Axis(title="hour of day (UTC)", labelAngle=0, ticks=False, values=list(range(0, 24, 3))),
                ),
                y=alt.Y("day:N", sort=list(WEEKDAYS), scale=alt.Scale(domain=list(WEEKDAYS)), axis=_day_axis()),
                color=colour,
            )
        )

    about = f"{name} in each hour of the week, on average over the hours that were seen whole. UTC."
    if missing:
        about += f" Empty: {missing} of 168 hours of the week were not seen."
    by_place = {(cell.weekday, cell.hour): cell.mean for cell in cells}
    rows = [(f"{hour:02}:00", *(_rounded(by_place[weekday, hour]) for weekday in range(7))) for hour in range(24)]
    return Picture(
        "week",
        "Hour of day by weekday",
        f"Most {name} on {WEEKDAYS[most.weekday]} from {most.hour:02}:00 UTC: {_mean_text(most.mean)} an hour on average.",
        about,
        draw,
        Table(("hour (UTC)", *WEEKDAYS), rows),
    )


def _day_axis() -> Any:
    return alt.Axis(title=None, ticks=False, domain=False)


def _mean_text(mean: float | None) -> str:
    return f"{mean or 0:,.1f}" if (mean or 0) < 100 else f"{mean:,.0f}"


def _rounded(mean: float | None) -> float | None:
    return None if mean is None else round(mean, 1)


def _half_life(found: Sequence[HalfLife]) -> Picture:
    first, shown = found[0], found[:_MOST_CURVES]

    def draw(width: int) -> Any:
        rows = [
            {"age": age, "share": share, "metric": its.metric}
            for its in shown
            for age, share in enumerate((0.0, *its.shares))
        ]
        names = [its.metric for its in shown]
        dashes = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]][: len(names)]
        legend = alt.Legend(orient="top", title=None, symbolSize=400, columns=2 if width < 500 else 4)
        curves = (
            alt.Chart(alt.Data(values=rows), width=width, height=_HEIGHT)
            .mark_line(color=ACCENT, strokeWidth=1.8)
            .encode(
                x=alt.X(
                    "age:Q",
                    scale=alt.Scale(domain=[0, first.horizon_h], nice=False),
                    axis=alt.Axis(title="age of the Tweet (hours)", grid=False),
                ),
                y=alt.Y(
                    "share:Q",
                    scale=alt.Scale(domain=[0, 1]),
                    axis=alt.Axis(
                        title=f"share of the first {first.horizon_h} hours", format="%", tickCount=4, domain=False
                    ),
                ),
                strokeDash=alt.StrokeDash(
                    "metric:N", sort=names, scale=alt.Scale(domain=names, range=dashes), legend=legend
                ),
            )
        )
        half = alt.Chart(alt.Data(values=[{"share": 0.5}])).mark_rule(color=MISS, strokeDash=[5, 3])
        return alt.layer(curves, half.encode(y="share:Q"))

    return Picture(
        "half-life",
        "Half-life of a Tweet",
        f"Half of a Tweet's {first.metric} in its first {first.horizon_h} hours come within {first.median_h:.1f} hours "
        f"(median of {first.tweets:,} Tweets).",
        f"Of the Tweets that were seen from their first hour on for {first.horizon_h} hours or more; what came later is "
        "left out. The line says how much had come at which age, over all of them.",
        draw,
        Table(
            ("metric", "Tweets", "half-life, median (h)", "a quarter of Tweets below (h)", "three quarters below (h)"),
            [
                (its.metric, its.tweets, round(its.median_h, 2), *(round(hours, 2) for hours in its.quartiles_h))
                for its in found
            ],
        ),
    )
