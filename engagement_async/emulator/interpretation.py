"""How the emulator reads what the documentation leaves open, and what older clients send. Data and its checks alone.

The defaults are the strictest reading of the two reference pages. Everything else has a name in `INTERPRETATIONS`, for
the command line and the documentation.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

__all__ = ["INTERPRETATIONS", "Interpretation", "Leniency", "NamedInterpretation", "ProblemStatus"]

ProblemStatus = Literal["200", "400-when-none-left", "400"]


class Leniency(enum.Enum):
    """What the pages do not allow in a request, and clients in use send all the same. The value is the name."""

    NUMBER_IDS = "number-ids"
    PADDED_IDS = "padded-ids"
    CAPITAL_TWEET_ID = "capital-tweet-id"
    TEN_GROUPINGS = "ten-groupings"
    REPEATED_METRICS = "repeated-metrics"
    MEDIA_CLICKS = "media-clicks"
    START_ALONE = "start-alone"
    UNWIDENED_SPAN = "unwidened-span"
    BEARER_HISTORICAL = "bearer-historical"
    OAUTH_1_0A = "oauth-1.0a"
    ANY_ENCODING = "any-encoding"
    SIGNED_FORM_BODY = "signed-form-body"


@dataclass(frozen=True, slots=True)
class Interpretation:
    """One way to read what the documentation leaves open. A client must cope with every one of them.

    `hours`: `engagement.hour` without `engagement.day` as `{"2016-02-10": {"17": ...}}` ("dated") or `{"17": ...}`
    ("bare"), summed over the days.
    `window_hours`: hours of a 28 hour answer: 29 as in the reference example, or 28 as in its prose.
    `includes_current_hour`: whether that window ends after the current hour or before it.
    `end`: the `end` of a window that reaches to the present, as a full hour ("hour") or as the instant of the answer
    ("now").
    `unavailable`, `unsupported`: the status when such Tweets are in a request: 200, 400 when no data is left, or 400.
    `lists_unavailable`: whether `unavailable_tweet_ids` is there. Without it the status is always 400, and there is no
    data, as documented for protected Tweets.
    `forbidden`: one text with all IDs ("ids"), or one text an author ("authors").
    `integers_every`: each so many-th leaf is a bare integer, as one leaf of a documented example is; 0 for none.
    `future_end`: an `end` in the future is refused with 400 ("refused"), or hours to come are zeros ("zeros").
    `history_days`: how many days back `start` may be; None for back to 2014-09-01.
    `accepts`: what is let through although the reference pages do not allow it.
    """

    hours: Literal["dated", "bare"] = "dated"
    window_hours: Literal[28, 29] = 29
    includes_current_hour: bool = True
    end: Literal["hour", "now"] = "hour"
    unavailable: ProblemStatus = "200"
    unsupported: ProblemStatus = "200"
    lists_unavailable: bool = True
    forbidden: Literal["ids", "authors"] = "ids"
    integers_every: int = 0
    future_end: Literal["refused", "zeros"] = "refused"
    history_days: int | None = None
    accepts: frozenset[Leniency] = frozenset()

    @classmethod
    def named(cls, *names: str) -> Interpretation:
        """Combine interpretations of the table `INTERPRETATIONS`.

        Raise `ValueError` for an unknown name, and for two that contradict each other.
        """
        chosen: dict[str, Any] = {}
        set_by: dict[str, str] = {}
        for name in dict.fromkeys(names):
            if name not in INTERPRETATIONS:
                raise ValueError(f"no interpretation is called {name!r}; there are: {', '.join(INTERPRETATIONS)}")
            for field, value in INTERPRETATIONS[name].changes.items():
                if field == "accepts":
                    value = value | chosen.get(field, frozenset())
                elif chosen.get(field, value) != value:
                    raise ValueError(f"the interpretations {set_by[field]!r} and {name!r} contradict each other")
                chosen[field] = value
                set_by.setdefault(field, name)
        return cls(**chosen)


@dataclass(frozen=True, slots=True)
class NamedInterpretation:
    """A named part of an `Interpretation`: its one line, and the fields that it sets."""

    name: str
    description: str
    changes: Mapping[str, Any]


def _table() -> dict[str, NamedInterpretation]:
    answers: list[tuple[str, str, dict[str, Any]]] = [
        ("bare-hours", "engagement.hour alone is {'17': ..}, not under its day", {"hours": "bare"}),
        ("window-28", "the 28 hour window is 28 hours, the current one included", {"window_hours": 28}),
        (
            "window-28-past",
            "the 28 hour window is the 28 hours before the current one",
            {"window_hours": 28, "includes_current_hour": False},
        ),
        ("end-now", "`end` is the instant of the answer, with seconds", {"end": "now"}),
        (
            "unavailable-400-when-none-left",
            "400 when every Tweet of a request is unavailable",
            {"unavailable": "400-when-none-left"},
        ),
        ("unavailable-400", "400, beside the data, when any Tweet is unavailable", {"unavailable": "400"}),
        (
            "unavailable-unlisted",
            "400 without data and list when any Tweet is unavailable",
            {"lists_unavailable": False},
        ),
        (
            "unsupported-400-when-none-left",
            "400 when every Tweet is too old for its metrics",
            {"unsupported": "400-when-none-left"},
        ),
        ("unsupported-400", "400, beside the data, when any Tweet is too old", {"unsupported": "400"}),
        ("forbidden-by-author", "403 with one text an author of others' Tweets", {"forbidden": "authors"}),
        ("integer-leaves", "every seventh value is a bare integer", {"integers_every": 7}),
        ("future-end", "an `end` in the future is taken, hours to come are zeros", {"future_end": "zeros"}),
        ("history-365-days", "`start` may be 365 days ago at most", {"history_days": 365}),
    ]
    requests: list[tuple[Leniency, str]] = [
        (Leniency.NUMBER_IDS, "Tweet IDs may be JSON numbers"),
        (Leniency.PADDED_IDS, "Tweet IDs may have white space around them"),
        (Leniency.CAPITAL_TWEET_ID, "group_by may say Tweet.id"),
        (Leniency.TEN_GROUPINGS, "up to ten groupings a request"),
        (Leniency.REPEATED_METRICS, "a metric may be given twice"),
        (Leniency.MEDIA_CLICKS, "media_clicks, the old name of media_engagements, is a metric"),
        (Leniency.START_ALONE, "`start` without `end` means until now"),
        (Leniency.UNWIDENED_SPAN, "four weeks are counted before bounds widen to full hours"),
        (Leniency.BEARER_HISTORICAL, "app-only credentials may ask public metrics of historical"),
        (Leniency.OAUTH_1_0A, "oauth_version may be 1.0A"),
        (Leniency.ANY_ENCODING, "Accept-Encoding: * is enough"),
        (Leniency.SIGNED_FORM_BODY, "a body sent as a form may be part of the signature"),
    ]
    rows = [
        *answers,
        *((each.value, description, {"accepts": frozenset({each})}) for each, description in requests),
        ("older-clients", "everything that older clients send, at once", {"accepts": frozenset(Leniency)}),
    ]
    return {name: NamedInterpretation(name, text, MappingProxyType(changes)) for name, text, changes in rows}


INTERPRETATIONS: Mapping[str, NamedInterpretation] = MappingProxyType(_table())
"""Every named interpretation: first of answers, then of requests."""
