"""The pictures of a job's runs: requests against the contract, latencies, retries, outcomes of IDs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from engagement_async._core.charts import ACCENT, MISS, alt, count_axis, panels, time_axis
from engagement_async._core.plots import Point
from engagement_async._core.rate_limit import RateLimit
from engagement_async.backfill.traffic import Slot, Traffic
from engagement_async.reports.picture import OUTCOME_COLOURS, Picture, Table, counted, seconds_text
from engagement_async.reports.runs import (
    PERCENTILES,
    LatencyBin,
    RateBin,
    TroubleBin,
    is_mostly_pause,
    latencies_of,
    percentile_s,
    rates_of,
    stretches_of,
    troubles_of,
)

__all__ = ["MOST_OWNERS", "outcomes_picture", "owners_picture", "traffic_pictures"]

MOST_OWNERS: Final = 25
"""Owners that have a bar."""
_MOST_OWNER_ROWS: Final = 200
_HEIGHT: Final = 200


def traffic_pictures(traffic: Traffic) -> Iterator[Picture]:
    """Yield the pictures of what was sent; none for a job that kept no record of it.

    Where a job was at work now and then, with long pauses, they are of the last stretch of work.
    """
    if not traffic.slots:
        return
    stretches = stretches_of(traffic.slots)
    if not is_mostly_pause(stretches):
        yield from _pictures_of(traffic.slots, traffic.contracts)
        return
    about = f"The last of {len(stretches):,} stretches of work; what was before is in the numbers above."
    for picture in _pictures_of(stretches[-1], traffic.contracts):
        yield replace(picture, about=f"{about} {picture.about}")


def _pictures_of(slots: Sequence[Slot], contracts: Sequence[RateLimit]) -> Iterator[Picture]:
    contract = min(contracts, key=lambda limit: limit.requests / limit.period, default=None)
    yield _requests(rates_of(slots, contract), contracts, contract)
    if latencies := latencies_of(slots):
        overall = tuple(percentile_s((slot.latencies for slot in slots), percent) for percent in PERCENTILES)
        yield _latency(latencies, overall)
    if troubles := troubles_of(slots):
        yield _trouble(troubles)


def _requests(bins: Sequence[RateBin], contracts: Sequence[RateLimit], contract: RateLimit | None) -> Picture:
    most = max(each.per_minute for each in bins)
    allowed = [limit.requests * 60 / limit.period for limit in contracts]
    period = "minute" if contract is None or contract.period == 60 else f"{contract.period:g} seconds"
    scaled = "" if contract is None or contract.period == 60 else f", times {60 / contract.period:g}"
    says = f"At most {most:,.0f} requests a minute were sent"
    if len(allowed) > 1:
        says += f"; the contracts of the runs allow {', '.join(f'{limit:,.0f}' for limit in allowed)}"
    elif allowed:
        says += f"; the contract allows {allowed[0]:,.0f}" + (", less than that" if most > allowed[0] else "")
    says += "."

    def draw(width: int) -> Any:
        rows = [{"at": _iso(b.at), "end": _iso(b.ends_at), "value": b.per_minute} for b in bins]
        y = alt.Y(
            "value:Q",
            title="requests a minute",
            axis=count_axis("requests a minute", ticks=5),
            scale=alt.Scale(domain=[0, 1.08 * max(most, *allowed, 1)]),
        )
        base = alt.Chart(alt.Data(values=rows))
        sent = base.mark_bar(color=ACCENT, binSpacing=0).encode(x=_x(width), x2="end:T", y=y, y2=alt.datum(0))
        layers = [sent]
        for limit in dict.fromkeys(allowed):
            line = alt.Chart(alt.Data(values=[{"value": limit, "text": f"contract: {limit:,.0f} a minute"}]))
            layers.append(line.mark_rule(color=MISS, strokeDash=[5, 3], strokeWidth=1.5).encode(y="value:Q"))
            text = line.mark_text(color=MISS, align="left", baseline="bottom", dx=4, dy=-3, fontSize=11)
            layers.append(text.encode(x=alt.value(0), y="value:Q", text="text:N"))
        return alt.layer(*layers, width=width, height=_HEIGHT)

    return Picture(
        "requests",
        "Requests a minute",
        says,
        f"The most in any {period} that ends in the span{scaled}: what the contract counts. UTC.",
        draw,
        Table(("from (UTC)", "requests a minute"), [(_when(b.at), round(b.per_minute, 1)) for b in bins]),
    )


def _latency(bins: Sequence[LatencyBin], overall: Sequence[float]) -> Picture:
    names = [f"p{percent}" for percent in PERCENTILES]
    of_all = ", ".join(f"{name} {seconds_text(value)}" for name, value in zip(names, overall, strict=True))

    def draw(width: int) -> Any:
        rows, part = [], 0
        for place, b in enumerate(bins):
            part += place > 0 and bins[place - 1].ends_at < b.at  # a line does not lead over a time without responses
            for name, value in zip(names, b.percentiles_s, strict=True):
                rows.append({"at": _iso(b.at), "seconds": value, "percentile": name, "part": part})
        least, most = min(b.percentiles_s[0] for b in bins), max(b.percentiles_s[-1] for b in bins)
        y = alt.Y(
            "seconds:Q",
            scale=alt.Scale(type="log", domain=[least / 1.25, most * 1.25], nice=False),
            axis=alt.Axis(
                title="time to response (log)",
                labelExpr="datum.value < 1 ? format(1000 * datum.value, 'd') + ' ms' : format(datum.value, '~r') + ' s'",
                values=_log_ticks(least / 1.25, most * 1.25),
                domain=False,
                ticks=False,
            ),
        )
        scale = alt.Scale(domain=names, range=[[1, 0], [6, 3], [2, 2]])
        dash = alt.StrokeDash("percentile:N", scale=scale, legend=alt.Legend(orient="top", title=None, symbolSize=400))
        base = alt.Chart(alt.Data(values=rows)).encode(x=_x(width), y=y)
        lines = base.mark_line(color=ACCENT, strokeWidth=1.8).encode(strokeDash=dash, detail="part:N")
        return alt.layer(lines, base.mark_circle(color=ACCENT, opacity=1, size=10), width=width, height=_HEIGHT)

    return Picture(
        "latency",
        "Time to response",
        f"Over all responses: {of_all}.",
        "From the request to its response, whatever its status: half of the responses took no longer than "
        "p50, and one of a hundred longer than p99. Read off within 5 percent. UTC.",
        draw,
        Table(
            ("from (UTC)", "responses", *(f"{name} (s)" for name in names)),
            [(_when(b.at), b.responses, *(round(value, 3) for value in b.percentiles_s)) for b in bins],
        ),
    )


def _log_ticks(least: float, most: float) -> list[float]:
    """Return round values of a logarithmic axis: more of them where it is short."""
    for bases in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = [base * 10.0**power for power in range(-3, 4) for base in bases]
        found = [tick for tick in ticks if least <= tick <= most]
        if len(found) >= 3:
            break
    return found


def _trouble(bins: Sequence[TroubleBin]) -> Picture:
    names = {
        "retries": "sent again",
        "limited": "refused for the rate (429)",
        "refused": "answered with another error",
        "unanswered": "without a response",
    }
    totals = {text: sum(getattr(b, name) for b in bins) for name, text in names.items()}

    def draw(width: int) -> Any:
        points = {
            f"{text}, requests": [Point(b.at, getattr(b, name)) for b in bins]
            for name, text in names.items()
            if totals[text]
        }
        return panels(points, bins[0].ends_at - bins[0].at, "time (UTC)", width=width, height=70)

    return Picture(
        "retries",
        "Retries and refusals",
        f"Requests: {counted(totals)}.",
        "Each request is counted in the span in which it was sent again, or in which its response came. UTC.",
        draw,
        Table(
            ("from (UTC)", *names.values()),
            [(_when(b.at), *counts) for b in bins if any(counts := [getattr(b, name) for name in names])],
        ),
    )


def outcomes_picture(outcomes: Mapping[str, int]) -> Picture:
    """Return the picture of where the IDs ended. `outcomes` is by name, with `pending` where some are."""
    shown = {name: outcomes[name] for name in OUTCOME_COLOURS if outcomes.get(name)}
    total = sum(outcomes.values())

    def draw(width: int) -> Any:
        rows = [{"outcome": name, "IDs": number} for name, number in shown.items()]
        return (
            alt.Chart(alt.Data(values=rows), width=width, height={"step": 26})
            .mark_bar()
            .encode(
                x=alt.X("IDs:Q", axis=count_axis("IDs", ticks=5)),
                y=alt.Y("outcome:N", sort=None, axis=alt.Axis(title=None, ticks=False, domain=False)),
                color=_outcome_colour(legend=None),
            )
        )

    return Picture(
        "outcomes",
        "Outcomes of the IDs",
        f"Of {total:,} distinct IDs: {counted(shown)}.",
        "Every ID has one outcome. Unavailable: deleted, protected or otherwise gone. Unsupported: too old for all "
        "metrics. Forbidden: somebody else's.",
        draw,
        Table(
            ("outcome", "IDs", "percent"),
            [(name, number, round(100 * number / total, 2)) for name, number in shown.items()],
        ),
    )


def owners_picture(owners: Mapping[str, Mapping[str, int]], errors: Mapping[str, str | None]) -> Picture:
    """Return the picture of outcomes by owner.

    Args:
        owners: Owner to outcome to IDs, in the order of the table. Of owners with equally many IDs, the first are shown.
        errors: Owner to why the credentials were of no use.
    """
    largest = sorted(owners, key=lambda owner: -sum(owners[owner].values()))[:MOST_OWNERS]
    useless = sum(error is not None for error in errors.values())

    def draw(width: int) -> Any:
        rows = [
            {"owner": owner, "outcome": name, "IDs": owners[owner][name], "order": order}
            for owner in largest
            for order, name in enumerate(OUTCOME_COLOURS)
            if owners[owner].get(name)
        ]
        legend = alt.Legend(orient="top", title=None, columns=max(2, width // 130))
        return (
            alt.Chart(alt.Data(values=rows), width=max(120, width - 110), height={"step": 20})
            .mark_bar()
            .encode(
                x=alt.X("IDs:Q", stack="zero", axis=count_axis("IDs", ticks=4)),
                y=alt.Y(
                    "owner:N",
                    sort=list(largest),
                    axis=alt.Axis(title="owner", ticks=False, domain=False, labelLimit=100),
                ),
                color=_outcome_colour(legend=legend),
                order="order:Q",
            )
        )

    names = [name for name in OUTCOME_COLOURS if any(its.get(name) for its in owners.values())]
    rows = [(owner, *(its.get(name, 0) for name in names), errors.get(owner)) for owner, its in owners.items()]
    return Picture(
        "owners",
        "Outcomes by owner",
        f"{len(owners):,} owners, {useless:,} of them with unusable credentials.",
        f"The {len(largest)} owners with the most IDs. The table begins with those who had trouble.",
        draw,
        Table(
            ("owner", *names, "credentials"),
            rows[:_MOST_OWNER_ROWS],
            max(0, len(rows) - _MOST_OWNER_ROWS),
        ),
    )


def _outcome_colour(*, legend: Any) -> Any:
    scale = alt.Scale(domain=list(OUTCOME_COLOURS), range=list(OUTCOME_COLOURS.values()))
    return alt.Color("outcome:N", scale=scale, legend=legend)


def _x(width: int) -> Any:
    return alt.X("at:T", scale=alt.Scale(type="utc"), axis=time_axis("time (UTC)", width))


def _iso(at: datetime) -> str:
    return at.isoformat()


def _when(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
