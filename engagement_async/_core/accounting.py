"""The outcome of each ID of a request, and which IDs must be requested again. Pure.

A response settles an ID when it has values of it in every grouping by Tweet, or says why it has none. Only values of
settled IDs are accepted. Sums over Tweets cannot be split: they are accepted only when all IDs of the request are settled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from engagement_async._core.answer import Answer, Window
from engagement_async._core.decoding import Decoded
from engagement_async._core.groupings import (
    Grouping,
    drop_empty,
    keep_ids,
    keys_at,
    leaf_dicts,
    metrics_by_tweet,
    metrics_of,
    remove,
    values_at,
)
from engagement_async._core.outcomes import Failure, FailureKind
from engagement_async._core.query import UNSUPPORTED_KEYS, FakeZeros, Query
from engagement_async._core.refusals import ids_forbidden_by, is_reflected_in_outcomes
from engagement_async.errors import InvalidAnswerError

__all__ = ["NO_GAPS", "Accounting", "Gaps", "ParsedResponse", "in_input_order", "windows_of"]

Gaps = Mapping[str, Set[str]]
"""Metrics, and IDs of which the API gives no value of them."""
NO_GAPS: Final[Gaps] = {}


class ParsedResponse(NamedTuple):
    """What one response says: the outcomes of the IDs that it settles, and what must be requested again.

    Every ID of the request is in exactly one of `answer.tweet_ids`, `missing`, `incomplete`, `ask_apart` and
    `retry_without_metrics`.
    """

    answer: Answer
    missing: tuple[str, ...] = ()
    """IDs without any value, or with values in only some of the groupings by Tweet."""
    incomplete: tuple[str, ...] = ()
    """IDs with values, of which a metric of the query is in no place of the response. None when these are accepted."""
    ask_apart: tuple[str, ...] = ()
    """IDs whose values cannot be accepted, because the response does not settle all IDs of its request, and nobody knows
    whether its sums over Tweets include the others. To be sent again as a request of their own."""
    retry_without_metrics: tuple[tuple[Query, tuple[str, ...]], ...] = ()
    """IDs without any value that are unsupported for some of the metrics: the other metrics can still be requested."""
    from_error_status: bool = False
    """Whether it came as a 400 or 403: then `missing` are IDs that the API did not look at."""
    gaps: Gaps = NO_GAPS
    """What the `incomplete` IDs lack."""

    @property
    def is_whole(self) -> bool:
        """Whether it settles every ID of its request."""
        return not (self.missing or self.incomplete or self.ask_apart or self.retry_without_metrics)


class Accounting:
    """Finds the outcome of every ID of one request. What the response says of other IDs is ignored."""

    def __init__(
        self, query: Query, batch_number: int, tweet_ids: tuple[str, ...], decoded: Decoded, texts: tuple[str, ...]
    ) -> None:
        asked = frozenset(tweet_ids)
        self._query = query
        self._batch_number = batch_number
        self._tweet_ids = tweet_ids
        self._decoded = decoded
        self._schema = decoded.schema
        self._groupings = decoded.groupings
        self._texts = texts
        self._unavailable = asked.intersection(map(str, decoded.unavailable or ()))
        self._forbidden = asked.intersection(ids_forbidden_by(texts)) - self._unavailable
        self._in_question = asked - self._unavailable - self._forbidden
        """IDs that may have values."""
        self._out_of_range = self._in_question & decoded.ids_out_of_range
        self._unsupported: dict[str, frozenset[str]] = {}
        for key, metrics in UNSUPPORTED_KEYS.items():
            ids = self._in_question.intersection(map(str, decoded.unsupported.get(key) or ()))
            for metric in metrics if ids else ():
                if metric in query.engagement_types:
                    self._unsupported[metric] = ids
        self._partial_metrics: tuple[str, ...] = ()

    def drop_fake_zeros(self, fake: FakeZeros) -> None:
        """Remove zeros of a time in which the API did not count. Those Tweets are unsupported for the metric, or lack it if
        that time is only a part of the span.
        """
        if not fake.covers_span:
            self._partial_metrics = fake.metrics
            for name in self._schema.with_types:
                if name in self._groupings and "engagement.day" in self._schema.levels[name]:
                    _drop_early_zeros(self._groupings[name], self._schema.levels[name], fake)
            return
        for metric in fake.metrics:
            counted = self._ids_with_nonzero(metric)
            if ids := self._in_question - counted:
                self._unsupported[metric] = self._unsupported.get(metric, frozenset()) | ids

    def settle_refusal(self, *, may_lack: Gaps | None) -> ParsedResponse:
        """Return the outcomes in a 400 or 403. It may hold the data of the IDs that it does not refuse."""
        if len(self._groupings) == len(self._schema.levels):
            return self.settle(may_lack=may_lack)._replace(from_error_status=True)
        self._groupings = {}
        wanted = self._wanted()
        retries = self._retries(wanted)
        retried = frozenset().union(*retries.values())
        missing = in_input_order(self._tweet_ids, wanted - retried)
        return self._parsed(missing, (), (), retries, {}, from_error_status=True)

    def settle(self, *, may_lack: Gaps | None) -> ParsedResponse:
        """Return the outcomes in a 200, and the IDs to request again.

        Raise `InvalidAnswerError` when a grouping is left out, or a sum is not a number that can be accepted.
        """
        self._drop_unsupported()
        wanted = self._wanted()
        seen = self._seen(wanted)
        unseen = wanted - seen
        retries = self._retries(unseen)
        retried = frozenset().union(*retries.values())
        self._check_absent(wanted, retried)
        missing = unseen - retried
        lacking = self._lacking_metrics(seen)
        gaps: dict[str, Set[str]] = {}
        if may_lack is not None:
            gaps = {m: new for m, ids in lacking.items() if (new := ids - may_lack.get(m, frozenset()))}
        incomplete: Set[str] = frozenset().union(*gaps.values())
        answered = seen - incomplete
        ask_apart: Set[str] = frozenset()
        if not self._schema.is_by_tweet:
            if self._decoded.bad_sum and not (self._decoded.ids_with_null or self._out_of_range):
                raise InvalidAnswerError(f"the answer has {self._decoded.bad_sum} among its sums")
            if missing or retried or incomplete or self._out_of_range:
                answered, ask_apart = frozenset(), answered
                self._groupings = {}
        for metric in self._partial_metrics:
            lacking[metric] = lacking.get(metric, frozenset()) | answered
        self._take(answered)
        return self._parsed(
            in_input_order(self._tweet_ids, missing),
            in_input_order(self._tweet_ids, incomplete),
            in_input_order(self._tweet_ids, ask_apart),
            retries,
            {m: ordered for m, ids in lacking.items() if (ordered := in_input_order(self._tweet_ids, ids & answered))},
        )._replace(gaps=gaps)

    def _wanted(self) -> frozenset[str]:
        """Return the IDs that must have values: all but those for which the response says why they have none."""
        return self._in_question - self._without_any_value() - self._out_of_range

    def _without_any_value(self) -> frozenset[str]:
        """Return the IDs that are unsupported in every metric of the query."""
        if not self._unsupported:
            return frozenset()
        return frozenset.intersection(*(self._unsupported.get(m, frozenset()) for m in self._query.engagement_types))

    def _seen(self, wanted: frozenset[str]) -> frozenset[str]:
        """Return the IDs with values in every grouping by Tweet; all, where no grouping is by Tweet."""
        if not self._groupings:
            return frozenset()
        seen = wanted - self._decoded.ids_with_null
        for name, level in self._schema.level_of_ids.items():
            if name in self._groupings:
                seen &= keys_at(self._groupings[name], level)
        return seen

    def _retries(self, unseen: frozenset[str]) -> dict[tuple[str, ...], list[str]]:
        """Return the IDs without values that have metrics left to request, by the metrics to leave out."""
        retries: dict[tuple[str, ...], list[str]] = {}
        for i in in_input_order(self._tweet_ids, unseen) if self._unsupported else ():
            metrics = tuple(metric for metric, ids in self._unsupported.items() if i in ids)
            if metrics:
                retries.setdefault(metrics, []).append(i)
        return retries

    def _check_absent(self, wanted: frozenset[str], retried: frozenset[str]) -> None:
        """Raise `InvalidAnswerError` for groupings of the query that are left out: their values would be lost.

        If the response mentions some IDs, all groupings are by Tweet and none is there, the other IDs are missing.
        """
        absent = [name for name in self._schema.levels if name not in self._groupings]
        if not absent or not wanted or wanted == retried:
            return
        says_something = self._in_question != frozenset(self._tweet_ids) or self._unsupported or self._out_of_range
        if self._groupings or not says_something or not self._schema.is_by_tweet:
            names = ", ".join(map(repr, absent))
            raise InvalidAnswerError(f"the answer leaves out the grouping {names}", status=200, texts=self._texts)

    def _lacking_metrics(self, seen: frozenset[str]) -> dict[str, frozenset[str]]:
        """Return the metrics of the query that the response lacks, each with the IDs of which it lacks it.

        The API may leave zeros out. So a grouping may lack a metric that another one has as zero; but not one that another
        has with a number, nor one that is in no grouping at all.
        """
        lacking: dict[str, set[str]] = {}
        self._look_at_tweets(seen, lacking)
        for name in self._groupings:
            if name not in self._schema.level_of_ids and not self._decoded.bad_sum:
                self._look_at_sum(name, seen, lacking)
        return {metric: frozenset(ids) for metric, ids in lacking.items()}

    def _look_at_tweets(self, seen: frozenset[str], lacking: dict[str, set[str]]) -> None:
        levels = self._schema.levels
        names = [
            name for name in self._groupings if name in self._schema.level_of_ids and name in self._schema.with_types
        ]
        shown = [metrics_by_tweet(self._groupings[name], levels[name]) for name in names]
        count = len(self._query.engagement_types)
        for i in seen if names else ():
            each = [metrics[i] for metrics in shown]
            if min(map(len, each)) == count:
                continue
            for metric in self._query.engagement_types:
                lack = [metric not in metrics for metrics in each]
                if not any(lack) or i in self._unsupported.get(metric, ()):
                    continue
                keys = {"tweet.id": i, "engagement.type": metric}
                if all(lack) or any(any(values_at(self._groupings[n], levels[n], keys)) for n in names):
                    lacking.setdefault(metric, set()).add(i)

    def _look_at_sum(self, name: str, seen: frozenset[str], lacking: dict[str, set[str]]) -> None:
        levels, grouping = self._schema.levels[name], self._groupings[name]
        has_types = name in self._schema.with_types
        if has_types:
            shown: Collection[str] = metrics_of(grouping, levels)
        else:  # it does not say of which metrics its values are; but if it has none, it lacks all
            shown = self._query.engagement_types if grouping else ()
        for metric in self._query.engagement_types:
            supported = seen - self._unsupported.get(metric, frozenset())
            if metric in shown or not supported:
                continue
            elsewhere = list(self._values_elsewhere(name, metric, include_untyped=not has_types))
            if not elsewhere or any(elsewhere):
                lacking.setdefault(metric, set()).update(supported)

    def _values_elsewhere(self, name: str, metric: str, *, include_untyped: bool) -> Iterator[int]:
        for other, grouping in self._groupings.items():
            if other == name:
                continue
            if other in self._schema.with_types:
                yield from values_at(grouping, self._schema.levels[other], {"engagement.type": metric})
            elif include_untyped:
                yield from values_at(grouping, self._schema.levels[other], {})

    def _ids_with_nonzero(self, metric: str) -> frozenset[str]:
        """Return the IDs that have a number other than zero of this metric; all, if only sums can show it and one does."""
        found: set[str] = set()
        for name, grouping in self._groupings.items():
            levels = self._schema.levels[name]
            if name in self._schema.with_types:
                keys = {"engagement.type": metric}
            elif len(self._query.engagement_types) == 1:
                keys = {}
            else:
                continue
            if name in self._schema.level_of_ids:
                found.update(i for i in self._in_question if any(values_at(grouping, levels, {**keys, "tweet.id": i})))
            elif self._schema.level_of_ids:
                continue  # the groupings by Tweet tell more
            elif any(values_at(grouping, levels, keys)):
                return self._in_question
        return frozenset(found)

    def _drop_unsupported(self) -> None:
        """Remove the values of metrics that a Tweet is unsupported for: the API shows zeros that are none."""
        for name, grouping in self._groupings.items():
            levels = self._schema.levels[name]
            for metric, ids in self._unsupported.items() if name in self._schema.with_types else ():
                if name in self._schema.level_of_ids:
                    remove(grouping, levels, {"engagement.type": {metric}, "tweet.id": ids})
                elif ids == self._in_question and not any(values_at(grouping, levels, {"engagement.type": metric})):
                    remove(grouping, levels, {"engagement.type": {metric}})
            # Days and hours below the last Tweet or type are never empty: the decoders have looked.
            last = max((at for at, level in enumerate(levels) if level in ("tweet.id", "engagement.type")), default=0)
            drop_empty(grouping, min(last + 1, len(levels) - 1))

    def _take(self, answered: Set[str]) -> None:
        for name, level in self._schema.level_of_ids.items():
            if name in self._groupings:
                keep_ids(self._groupings[name], level, answered)

    def _parsed(
        self,
        missing: tuple[str, ...],
        incomplete: tuple[str, ...],
        ask_apart: tuple[str, ...],
        retries: Mapping[tuple[str, ...], list[str]],
        missing_metrics: dict[str, tuple[str, ...]],
        *,
        from_error_status: bool = False,
    ) -> ParsedResponse:
        ids = self._tweet_ids
        same_query = frozenset((*missing, *incomplete, *ask_apart))  # that answer will list what is unsupported
        open_ids = same_query.union(*retries.values())
        unsupported = {m: in_input_order(ids, found - same_query) for m, found in self._unsupported.items()}
        failure = Failure("a value of this Tweet does not fit into 64 bits", kind=FailureKind.UNREPRESENTABLE)
        answer = Answer(
            self._batch_number,
            tuple(i for i in ids if i not in open_ids) if open_ids else ids,
            self._groupings,
            windows=windows_of(self._decoded) if self._groupings or not open_ids else (),
            unavailable_tweet_ids=in_input_order(ids, self._unavailable),
            forbidden_tweet_ids=in_input_order(ids, self._forbidden),
            unsupported_tweet_ids={metric: found for metric, found in unsupported.items() if found},
            failed_tweet_ids=dict.fromkeys(in_input_order(ids, self._out_of_range), failure),
            missing_metrics=missing_metrics,
            notes=tuple(text for text in self._texts if not is_reflected_in_outcomes(text)),
        )
        again = tuple(
            (query, tuple(found))
            for metrics, found in retries.items()
            if (query := self._query.without(metrics)) is not None
        )
        return ParsedResponse(answer, missing, incomplete, ask_apart, again, from_error_status)


def in_input_order(tweet_ids: Iterable[str], chosen: Collection[str]) -> tuple[str, ...]:
    """Return the chosen ones of these IDs, in their order."""
    return tuple(i for i in tweet_ids if i in chosen) if chosen else ()


class Bounds(Protocol):
    """What has the bounds of an answer, as the API wrote them."""

    @property
    def start(self) -> str | None: ...

    @property
    def end(self) -> str | None: ...


def windows_of(decoded: Bounds) -> tuple[Window, ...]:
    """Return the window of an answer, if it has one. Raise `InvalidAnswerError` for bounds that are no times."""
    return (Window(_parse_time(decoded.start), _parse_time(decoded.end)),) if decoded.start and decoded.end else ()


@lru_cache(maxsize=256)
def _parse_time(text: str) -> datetime:
    """Parse a bound: as documented, or a date alone, or without its Z."""
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidAnswerError(f"the answer's start or end is no time: {text[:40]!r}") from None


def _drop_early_zeros(grouping: Grouping, levels: tuple[str, ...], fake: FakeZeros) -> None:
    first_counted = f"{fake.until:%Y-%m-%d}"
    for path, leaves in leaf_dicts(grouping, len(levels) - 1, ()):
        for key in [key for key, value in leaves.items() if not value]:
            at = dict(zip(levels, (*path, key), strict=True))
            if at["engagement.type"] in fake.metrics and at["engagement.day"] < first_counted:
                del leaves[key]
    drop_empty(grouping, len(levels) - 1)
