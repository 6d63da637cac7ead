"""(status, headers, body) become an Answer or an error, in pure functions.

Strings become integers while the JSON is parsed: a grouping of n items is a dict of depth n with integer leaves, and the
decoder is built for exactly the groupings of one query.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from engagement_async._core.groupings import Grouping, leaf_dicts
from engagement_async._core.query import UNSUPPORTED_KEYS, Query
from engagement_async.errors import (
    APIError,
    AuthError,
    InvalidAnswerError,
    RateLimitedError,
    RequestRefusedError,
    ServerError,
    ServerRefusedError,
)

__all__ = ["Answer", "AnswerReader", "Grouping", "Reading", "RefusedIdsError", "Window", "check_depth"]


class Window(NamedTuple):
    """The time that an answer covers: aware UTC datetimes, `start` taken in and `end` left out."""

    start: datetime
    end: datetime


@dataclass(slots=True)
class Answer:
    """What is known about the IDs of one batch. Every ID of `tweet_ids` is in exactly one place of the outcomes.

    An ID is answered unless it is unavailable, forbidden, failed, or unsupported in every metric that was asked.
    """

    number: int
    """Of the batch, from 0, in input order."""
    tweet_ids: tuple[str, ...]
    groupings: dict[str, Grouping] = field(default_factory=dict)
    windows: tuple[Window, ...] = ()
    unavailable_tweet_ids: tuple[str, ...] = ()
    forbidden_tweet_ids: tuple[str, ...] = ()
    unsupported_tweet_ids: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Metric to the IDs for which the API has no value of it."""
    failed_tweet_ids: dict[str, str] = field(default_factory=dict)
    """ID to the reason."""
    notes: tuple[str, ...] = ()
    """Texts of the API's `errors` that stood beside data and say nothing that the outcomes does not."""

    @property
    def start(self) -> datetime | None:
        return min((window.start for window in self.windows), default=None)

    @property
    def end(self) -> datetime | None:
        return max((window.end for window in self.windows), default=None)


class Reading(NamedTuple):
    """What one reply says: the answer for the IDs that it settles, and what must be asked again."""

    answer: Answer
    missing: tuple[str, ...] = ()
    """IDs that it speaks of nowhere."""
    reduced: tuple[tuple[Query, tuple[str, ...]], ...] = ()
    """IDs that were refused for some of the metrics: the others can still be asked."""
    is_refusal: bool = False
    """Whether it came as an error: then `missing` were not looked at."""


class RefusedIdsError(APIError):
    """A 400 or 403 that speaks of IDs: those that it names, or, when it names none, one or more of the batch."""

    def __init__(self, message: str, *, status: int, texts: tuple[str, ...], named: tuple[str, ...]) -> None:
        super().__init__(message, status=status, texts=texts)
        self.named = named


_ID_LISTS = ("unavailable_tweet_ids", *UNSUPPORTED_KEYS)

_RATE_LIMIT = re.compile(r"rate.?limit|too many requests", re.IGNORECASE)
_AUTHENTICATED = re.compile(r"could not be authenticated|could not authenticate|application id is not authorized", re.I)
_SERVER_ERROR = re.compile(r"internal server error", re.IGNORECASE)
_FORBIDDEN_IDS = re.compile(r"forbidden to access tweets(?: for author id \d+)?\s*:\s*([\d,\s]+)", re.IGNORECASE)
_REQUEST_ITSELF = re.compile(r"forbidden to access metrics|groupBys? you have specified", re.IGNORECASE)
_TOLD = re.compile(r"tweet id\(s\) are unavailable|forbidden to access tweets|older than \d+ days", re.IGNORECASE)
"""What the outcomes of IDs tells already."""
_ID = re.compile(r"\d{1,19}", re.ASCII)
_TRANSIENT = frozenset({408, 500, 502, 503, 504})


_NOTHING = msgspec.Raw()
MAX_ERRORS_BYTES = 2**20
"""A refusal that names all of 250 IDs has 5 kB. Whatever is longer is not built."""


class _Errors(msgspec.Struct):
    """The parts of an answer that are about errors, in every shape that was seen."""

    errors: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING
    message: msgspec.Raw = _NOTHING


def error_texts(body: bytes) -> tuple[str, ...]:
    """The texts of `errors`: an array of strings, or of objects with a `message`."""
    try:
        found = msgspec.json.decode(body, type=_Errors)
        return _texts(found.errors) or _texts(found.error) or _texts(found.message)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, InvalidAnswerError):
        return ()


def _texts(errors: msgspec.Raw) -> tuple[str, ...]:
    size = memoryview(errors).nbytes
    if not size:
        return ()
    if size > MAX_ERRORS_BYTES:
        raise InvalidAnswerError("the answer's errors are too long to be any")
    found = msgspec.json.decode(errors)
    items = found if isinstance(found, list) else [found]
    texts = (item.get("message") if isinstance(item, dict) else item for item in items)
    return tuple(text for text in texts if isinstance(text, str) and text)


class AnswerReader:
    """Reads the replies to one query. Built once a query: it holds the decoders for exactly its groupings."""

    def __init__(self, query: Query, *, json_depth: int = 32) -> None:
        self.query = query
        self._json_depth = json_depth
        self._shapes = [_Shape(query.groupings)]
        by_hour = {name: _with_days(group_by) for name, group_by in query.groupings.items()}
        if by_hour != query.groupings:
            # Hours without days are documented as {"2016-02-10": {"17": ..}} and seen as bare {"17": ..}.
            self._shapes.insert(0, _Shape(by_hour))

    def read(
        self, number: int, tweet_ids: tuple[str, ...], status: int, headers: Mapping[str, str], body: bytes
    ) -> Reading:
        """What the reply to a request for these IDs says.

        Raises `AuthError`, `RateLimitedError`, `RefusedIdsError`, `RequestRefusedError`, `ServerRefusedError`,
        `ServerError` or `InvalidAnswerError`.
        """
        if status == 200:
            return self._read_data(number, tweet_ids, status, body)
        if status in (400, 403):
            return self._read_refusal(number, tweet_ids, status, body)
        raise _status_error(status, error_texts(body))

    def _read_data(self, number: int, tweet_ids: tuple[str, ...], status: int, body: bytes) -> Reading:
        shape, raw, nulls = self._decode(body)
        texts = _texts(raw.errors)
        if texts:
            _raise_for_texts(status, texts)
        elif not nulls and (groupings := shape.ordinary_groupings(raw, tweet_ids)) is not None:
            return Reading(Answer(number, tweet_ids, groupings, windows=_windows(raw)))
        return self._outcomes(number, tweet_ids, shape, raw, texts, nulls)

    def _outcomes(
        self,
        number: int,
        tweet_ids: tuple[str, ...],
        shape: _Shape,
        raw: Any,
        texts: tuple[str, ...],
        nulls: Set[str],
        *,
        is_refusal: bool = False,
    ) -> Reading:
        """Puts every ID in its place. Whatever the answer says of IDs that were not asked is left out.

        `nulls` are IDs with a null among their values: they count as left out of the answer.
        """
        asked = frozenset(tweet_ids)
        gone = asked.intersection(_listed(raw.unavailable_tweet_ids))
        refused = asked.intersection(_named_forbidden(texts)) - gone if texts else frozenset()
        out = gone | refused
        unsupported = self._unsupported(raw, asked - out)
        valueless = self._valueless(unsupported)
        groupings = shape.groupings(raw)
        seen: Set[str] = frozenset()
        for name, depth in shape.depth_of_ids.items():
            if name in groupings:
                groupings[name], found = _kept(groupings[name], depth, shape.is_leaf[name], asked, out | nulls)
                seen = found if not seen else seen | found
        if unsupported:
            self._drop_fake_values(shape, groupings, unsupported, valueless)
        reduced: dict[tuple[str, ...], list[str]] = {}
        missing: tuple[str, ...] = ()
        if len(seen) + len(out) < len(asked):
            if is_refusal and not groupings:
                unseen = tweet_ids if not out else tuple(i for i in tweet_ids if i not in out)
            elif shape.depth_of_ids:
                unseen = tuple(i for i in tweet_ids if i not in seen and i not in out)
            else:
                unseen = ()
            reduced = self._reduced(unseen, unsupported, valueless)
            told = frozenset(valueless).union(*reduced.values())
            missing = tuple(i for i in unseen if i not in told)
        if not is_refusal and len(groupings) < len(shape.group_by) and len(out) + len(valueless) < len(asked):
            is_nothing = not out and not unsupported
            _check_absent(shape, groupings, texts, is_nothing=is_nothing)
        left = frozenset(missing).union(*reduced.values())
        answer = Answer(
            number,
            tuple(i for i in tweet_ids if i not in left) if left else tweet_ids,
            groupings,
            windows=_windows(raw),
            unavailable_tweet_ids=_ordered(tweet_ids, gone),
            forbidden_tweet_ids=_ordered(tweet_ids, refused),
            unsupported_tweet_ids={metric: _ordered(tweet_ids, ids) for metric, ids in unsupported.items()},
            notes=tuple(text for text in texts if not _TOLD.search(text)),
        )
        again = tuple(
            (query, tuple(ids))
            for metrics, ids in reduced.items()
            if (query := self.query.without(metrics)) is not None
        )
        return Reading(answer, missing, again, is_refusal)

    def _unsupported(self, raw: Any, asked: frozenset[str]) -> dict[str, frozenset[str]]:
        unsupported: dict[str, frozenset[str]] = {}
        for key, metrics in UNSUPPORTED_KEYS.items():
            ids = asked.intersection(_listed(getattr(raw, key)))
            for metric in metrics if ids else ():
                if metric in self.query.engagement_types:
                    unsupported[metric] = ids
        return unsupported

    def _valueless(self, unsupported: Mapping[str, frozenset[str]]) -> frozenset[str]:
        """The IDs that are unsupported in every metric that was asked."""
        if not unsupported:
            return frozenset()
        return frozenset.intersection(*(unsupported.get(m, frozenset()) for m in self.query.engagement_types))

    @staticmethod
    def _reduced(
        unseen: Iterable[str], unsupported: Mapping[str, frozenset[str]], valueless: frozenset[str]
    ) -> dict[tuple[str, ...], list[str]]:
        """IDs without any value that have metrics left to ask, by the metrics to leave out."""
        reduced: dict[tuple[str, ...], list[str]] = {}
        for i in unseen if unsupported else ():
            metrics = tuple(metric for metric, ids in unsupported.items() if i in ids)
            if metrics and i not in valueless:
                reduced.setdefault(metrics, []).append(i)
        return reduced

    def _drop_fake_values(
        self,
        shape: _Shape,
        groupings: dict[str, Grouping],
        unsupported: Mapping[str, frozenset[str]],
        valueless: frozenset[str],
    ) -> None:
        """A zero of an unsupported metric is no value."""
        for name, at_id in shape.depth_of_ids.items():
            if name not in groupings:
                continue
            group_by = shape.group_by[name]
            if "engagement.type" in group_by:
                at_type = group_by.index("engagement.type")
                for metric, ids in unsupported.items():
                    keys = {at_id: ids, at_type: frozenset([metric])}
                    groupings[name] = _pruned(groupings[name], keys, 0, max(at_id, at_type))
            if valueless:
                groupings[name] = _pruned(groupings[name], {at_id: valueless}, 0, at_id)

    def _read_refusal(self, number: int, tweet_ids: tuple[str, ...], status: int, body: bytes) -> Reading:
        try:
            shape, raw, nulls = self._decode(body)
        except InvalidAnswerError:
            texts = error_texts(body)
            _raise_for_texts(status, texts)
        else:
            texts = _texts(raw.errors)
            _raise_for_texts(status, texts)
            # "Those are the answer": the IDs that it lists, as gone, as forbidden, or as without a metric that was asked.
            reading = self._outcomes(number, tweet_ids, shape, raw, texts, nulls, is_refusal=True)
            if len(reading.missing) < len(tweet_ids):
                return reading
        named = _ordered(tweet_ids, {i for text in texts for i in _ID.findall(text)})
        raise RefusedIdsError(
            f"the API refused the request: {_said(status, texts)}", status=status, texts=texts, named=named
        )

    def _decode(self, body: bytes) -> tuple[_Shape, Any, Set[str]]:
        """The answer's shape, the answer, and the IDs that have a null among their values."""
        for shape in self._shapes:
            try:
                raw: Any = shape.exact.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if not memoryview(raw.errors).nbytes:
                return shape, raw, frozenset()
        # There is more in it than was asked for, or something is wrong with it. Types bound the depth of what was asked
        # for; whatever else there is must be looked at before it is parsed.
        check_depth(body, self._json_depth)
        problem = ""
        for shape in self._shapes:
            try:
                raw = shape.lenient.decode(body)
                return shape, raw, shape.ids_with_nulls(raw)
            except msgspec.ValidationError as error:
                problem = str(error)
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise InvalidAnswerError("the answer is no JSON") from None
            except RecursionError:
                raise InvalidAnswerError("the answer is nested too deep") from None
        raise InvalidAnswerError(f"the answer has a wrong shape: {problem}")


_NOT_NESTING = bytes(set(range(256)) - set(b'[]{}"'))
_STRING = re.compile(rb'"[^"]*+"')  # possessive: backtracking would cost memory by the byte


def check_depth(body: bytes, most: int) -> None:
    """Raises `InvalidAnswerError` for JSON that is nested in more levels than that."""
    if b"\\" in body:  # backslashes pair up from the left, and stand in strings alone
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Without everything that neither nests nor ends a string, most strings are "" and gone in one step.
    bare = _STRING.sub(b"", body.translate(None, _NOT_NESTING).replace(b'""', b""))
    depth = 0
    for byte in bare:
        if byte in b"[{":
            depth += 1
            if depth > most:
                raise InvalidAnswerError(f"the answer is nested in more than {most} levels")
        elif byte in b"]}":
            depth -= 1


class _Shape:
    """How answers are nested, and the decoders for it: one struct with a typed field for each grouping."""

    def __init__(self, group_by: Mapping[str, tuple[str, ...]]) -> None:
        self.group_by = group_by
        self.depth_of_ids = {name: by.index("tweet.id") for name, by in group_by.items() if "tweet.id" in by}
        self.is_leaf = {name: depth == len(group_by[name]) - 1 for name, depth in self.depth_of_ids.items()}
        self._fields = {name: f"grouping_{index}" for index, name in enumerate(group_by)}
        self.exact = self._decoder(int, forbid_unknown_fields=True)
        self.lenient = self._decoder(int | None, forbid_unknown_fields=False)

    def _decoder(self, leaf: Any, *, forbid_unknown_fields: bool) -> msgspec.json.Decoder[Any]:
        fields: list[tuple[str, Any, Any]] = [(key, list[str | int] | None, None) for key in _ID_LISTS]
        fields += [("errors", msgspec.Raw, _NOTHING), ("start", str | None, None), ("end", str | None, None)]
        for name, field_name in self._fields.items():
            kind: Any = leaf
            for _ in self.group_by[name]:
                kind = dict[str, kind]
            fields.append((field_name, kind | None, None))
        renamed = {field_name: name for name, field_name in self._fields.items()}
        answer = msgspec.defstruct(
            "ApiAnswer", fields, rename=renamed, gc=False, forbid_unknown_fields=forbid_unknown_fields
        )
        return msgspec.json.Decoder(answer, strict=False)

    def groupings(self, raw: Any) -> dict[str, Grouping]:
        return {
            name: grouping
            for name, field_name in self._fields.items()
            if (grouping := getattr(raw, field_name)) is not None
        }

    def ordinary_groupings(self, raw: Any, tweet_ids: tuple[str, ...]) -> dict[str, Grouping] | None:
        """The groupings of an answer that tells all that was asked, of every ID, and nothing else. Else None."""
        groupings = self.groupings(raw)
        if len(groupings) < len(self.group_by) or any(getattr(raw, key) for key in _ID_LISTS):
            return None
        for name, depth in self.depth_of_ids.items():
            if not _is_whole(groupings[name], depth, self.is_leaf[name], tweet_ids):
                return None
        return groupings

    def ids_with_nulls(self, raw: Any) -> Set[str]:
        """The IDs with a null among their values. A null in a sum is nobody's: `InvalidAnswerError`."""
        found: set[str] = set()
        has_null = False
        for name, grouping in self.groupings(raw).items():
            at = self.depth_of_ids.get(name)
            for path, leaves in leaf_dicts(grouping, len(self.group_by[name]) - 1, ()):
                if None in leaves.values():
                    has_null = True
                    keys = [(*path, key) for key, value in leaves.items() if value is None]
                    found.update(key[at] for key in keys if at is not None)
        if has_null and len(self.depth_of_ids) < len(self.group_by):
            raise InvalidAnswerError("the answer has a null among its sums")
        return found


def _is_whole(grouping: Grouping, depth: int, is_leaf: bool, tweet_ids: tuple[str, ...]) -> bool:
    if depth:
        return bool(grouping) and all(_is_whole(inner, depth - 1, is_leaf, tweet_ids) for inner in grouping.values())
    if not is_leaf and not all(grouping.values()):
        return False
    return tuple(grouping) == tweet_ids or grouping.keys() == frozenset(tweet_ids)


def _windows(raw: Any) -> tuple[Window, ...]:
    return (Window(_instant(raw.start), _instant(raw.end)),) if raw.start and raw.end else ()


def _with_days(group_by: tuple[str, ...]) -> tuple[str, ...]:
    if "engagement.hour" not in group_by or "engagement.day" in group_by:
        return group_by
    at = group_by.index("engagement.hour")
    return (*group_by[:at], "engagement.day", *group_by[at:])


@lru_cache(maxsize=256)
def _instant(text: str) -> datetime:
    """A bound of an answer: as documented, or a date alone, or without its Z."""
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidAnswerError(f"the answer's start or end is no time: {text[:40]!r}") from None


def _kept(
    grouping: Grouping, depth: int, is_leaf: bool, asked: frozenset[str], unwanted: Set[str]
) -> tuple[Grouping, Set[str]]:
    """The grouping with asked and wanted IDs alone, and those of them that have values."""
    if depth:
        kept: Grouping = {}
        found: Set[str] = frozenset()
        for key, inner in grouping.items():
            kept[key], here = _kept(inner, depth - 1, is_leaf, asked, unwanted)
            found = here if not found else found | here
        return kept, found
    kept = {
        key: value for key, value in grouping.items() if key in asked and key not in unwanted and (is_leaf or value)
    }
    return kept, kept.keys()


def _pruned(grouping: Grouping, keys: Mapping[int, Collection[str]], level: int, last: int) -> Grouping:
    """The grouping without the leaves whose keys match at every level of `keys`; emptied dicts go too."""
    matching = keys.get(level)
    if level == last:
        return {key: value for key, value in grouping.items() if matching is None or key not in matching}
    pruned: Grouping = {}
    for key, inner in grouping.items():
        if matching is None or key in matching:
            inner = _pruned(inner, keys, level + 1, last)
            if not inner:
                continue
        pruned[key] = inner
    return pruned


def _ordered(tweet_ids: Iterable[str], chosen: Collection[str]) -> tuple[str, ...]:
    return tuple(i for i in tweet_ids if i in chosen) if chosen else ()


def _named_forbidden(texts: Iterable[str]) -> set[str]:
    return {i for text in texts for ids in _FORBIDDEN_IDS.findall(text) for i in _ID.findall(ids)}


def _listed(ids: list[str | int] | None) -> Iterable[str]:
    return map(str, ids) if ids else ()


def _check_absent(
    shape: _Shape, groupings: Mapping[str, Grouping], texts: tuple[str, ...], *, is_nothing: bool
) -> None:
    """Raises `InvalidAnswerError` for groupings that were asked and left out: their values would be lost without a word.

    Where the answer speaks of some IDs, all groupings are by Tweet and none is there, the other IDs are missing, and that
    is told of each of them.
    """
    if is_nothing or groupings or len(shape.depth_of_ids) < len(shape.group_by):
        absent = ", ".join(repr(name) for name in shape.group_by if name not in groupings)
        raise InvalidAnswerError(f"the answer leaves out the grouping {absent}", status=200, texts=texts)


def _said(status: int, texts: tuple[str, ...]) -> str:
    """The API's own words, short enough for a message."""
    said = "; ".join(texts) or f"HTTP {status}"
    return said if len(said) <= 300 else said[:297] + "..."


def _raise_for_texts(status: int, texts: tuple[str, ...]) -> None:
    """Some texts say what is wrong whatever status they come with."""
    for text in texts:
        if _RATE_LIMIT.search(text):
            raise RateLimitedError(text, status=status, texts=texts)
        if _AUTHENTICATED.search(text):
            raise _auth_error(status, texts)
        if _SERVER_ERROR.search(text):
            raise ServerError(f"the API failed: {text}", status=status, texts=texts)
        if status != 200 and _REQUEST_ITSELF.search(text):
            raise RequestRefusedError(f"the API refused the request: {text}", status=status, texts=texts)


def _auth_error(status: int, texts: tuple[str, ...]) -> AuthError:
    said = _said(status, texts)
    return AuthError(f"the credentials were refused: {said}. Check keys and tokens", status=status, texts=texts)


def _status_error(status: int, texts: tuple[str, ...]) -> APIError:
    said = _said(status, texts)
    if status == 401:
        return _auth_error(status, texts)
    if status == 429 or any(_RATE_LIMIT.search(text) for text in texts):
        return RateLimitedError(said, status=status, texts=texts)
    if status in _TRANSIENT or status >= 500:
        return ServerError(f"the API failed: {said}", status=status, texts=texts)
    if 300 <= status < 400:
        return ServerRefusedError(
            f"the address answers with a redirect ({status}): set base_url to where the API is", status=status
        )
    if status == 404:
        return ServerRefusedError(f"no Engagement API at this address (404): check base_url. {said}", status=status)
    if status == 406:
        return ServerRefusedError(f"the API wants gzip (406): does a proxy strip headers? {said}", status=status)
    if 200 <= status < 300:
        return InvalidAnswerError(f"the answer has status {status}, and no data", status=status)
    return RequestRefusedError(f"the API refused the request ({status}): {said}", status=status, texts=texts)
