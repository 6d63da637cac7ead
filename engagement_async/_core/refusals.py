"""What the API says when it refuses: the texts of its errors, and which of our errors they mean. Pure.

The texts are those of the Engagement API's reference pages ("Error Messages") and of recorded answers; the codes and
problem documents are those of the gateway in front of it (https://docs.x.com/x-api/fundamentals/response-codes-and-errors).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from engagement_async.errors import (
    AccessRefusedError,
    APIError,
    AuthError,
    InvalidAnswerError,
    RateLimitedError,
    RequestRefusedError,
    ServerError,
    ServerRefusedError,
)

__all__ = [
    "ErrorReport",
    "RefusedIdsError",
    "are_all_unavailable",
    "are_too_old",
    "error_for_status",
    "error_for_texts",
    "ids_forbidden_by",
    "ids_named_by",
    "is_reflected_in_outcomes",
    "read_errors",
    "refusal_error",
    "summarize",
    "texts_of",
]

MAX_ERRORS_BYTES = 2**20
"""A refusal that names all of 250 IDs has 5 kB. Longer error lists are rejected unparsed."""

_RATE_LIMIT = re.compile(r"rate.?limit|too many requests", re.IGNORECASE)
_AUTHENTICATION = re.compile(
    r"could not be authenticated|could not authenticate|application id is not authorized", re.IGNORECASE
)
_SERVER_ERROR = re.compile(r"internal server error", re.IGNORECASE)
_WHOLE_REQUEST = re.compile(r"forbidden to access metrics|groupBys? you have specified", re.IGNORECASE)
_ACCESS = re.compile(
    r"access level|usage ?cap|client.?(?:forbidden|not.?enrolled)|not.?enrolled|credits|monthly product|subscription|"
    r"not permitted to (?:perform|access) this|(?:app|application|account) (?:is|has been) suspended|"
    r"your [\w ]{1,40} (?:is|are) (?:not|locked)",
    re.IGNORECASE,
)
"""The application or the account has no access, whatever the request."""
_UNAVAILABLE = re.compile(r"(?:(\d+) )?tweet id\(?s?\)? (?:is|are) unavailable", re.IGNORECASE)
_TOO_OLD = re.compile(r"impressions (?:&|and) engagements for tweets older than", re.IGNORECASE)
_FORBIDDEN = re.compile(r"forbidden to access tweets?\b", re.IGNORECASE)
_ALREADY_ACCOUNTED = re.compile(
    r"tweet id\(s\) are unavailable|forbidden to access tweets|older than \d+ days", re.IGNORECASE
)
_NO_TWEET_IDS = re.compile(r"author ids?\s*:?\s*\d+|\d+ tweet id|\d+ (?:day|hour|minute|second)s?\b", re.IGNORECASE)
"""Numbers in a text that are no Tweet IDs."""
_ID = re.compile(r"(?<![\w./-])(?<!\d:)\d{1,19}(?![\w/-]|[.:]\d)", re.ASCII)
_BEFORE_PROSE = re.compile(r"(?:[^a-z]|\b(?:and|for|with|the|ids?)\b)*", re.IGNORECASE)
_TRANSIENT = frozenset({408, 500, 502, 503, 504})
_AUTHENTICATION_CODES = frozenset({32, 89, 99, 135, 215})
_RATE_LIMIT_CODES = frozenset({88})
_SERVER_CODES = frozenset({130, 131})
_INVALID_REQUEST = re.compile(r"invalid.request", re.IGNORECASE)


class RefusedIdsError(APIError):
    """A 400 or 403 that may be about IDs: those that it names, or, when it names none, one or more of the request."""

    def __init__(self, message: str, *, status: int, texts: tuple[str, ...], named: tuple[str, ...]) -> None:
        super().__init__(message, status=status, texts=texts)
        self.named = named


_ABSENT = msgspec.Raw()
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
"""Line breaks and escape sequences: texts go to terminals and into tables."""


class _ErrorFields(msgspec.Struct):
    """The parts of an answer that are about errors, in every shape that was seen."""

    errors: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT
    message: msgspec.Raw = _ABSENT
    title: msgspec.Raw = _ABSENT
    detail: msgspec.Raw = _ABSENT
    type: msgspec.Raw = _ABSENT
    code: msgspec.Raw = _ABSENT


class ErrorReport(NamedTuple):
    """What the body of an error says."""

    texts: tuple[str, ...] = ()
    codes: frozenset[int] = frozenset()
    """Numbers that the gateway gives its errors. The Engagement API itself gives none."""
    is_json: bool = False
    is_problem: bool = False
    """Whether it is a problem document (RFC 9457) of the gateway, other than one about an invalid request."""


def read_errors(body: bytes) -> ErrorReport:
    """Return the texts and codes of an error's body, in any of the shapes that were seen."""
    try:
        found = msgspec.json.decode(body, type=_ErrorFields)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ErrorReport()
    try:
        title, detail, kind = (" ".join(_texts(raw)) for raw in (found.title, found.detail, found.type))
        problem = ": ".join(text for text in (title, detail) if text)
        texts = _texts(found.errors) or _texts(found.error) or _texts(found.message)
        codes = frozenset((*_codes(found.errors), *_codes(found.error), *_codes(found.code)))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, InvalidAnswerError):
        return ErrorReport(is_json=True)
    is_problem = bool(title or (kind and detail)) and not _INVALID_REQUEST.search(f"{title} {kind}")
    if problem and problem not in texts:
        texts = (problem, *texts)
    return ErrorReport(texts, codes, is_json=True, is_problem=is_problem)


def texts_of(errors: msgspec.Raw) -> tuple[str, ...]:
    """Return the texts of the `errors` beside data. Raise `InvalidAnswerError` when they are too long, or no JSON."""
    if not memoryview(errors).nbytes:
        return ()
    try:
        return _texts(errors)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise InvalidAnswerError("the answer's errors are no JSON") from None


def _items(raw: msgspec.Raw) -> list[Any]:
    size = memoryview(raw).nbytes
    if not size:
        return []
    if size > MAX_ERRORS_BYTES:
        raise InvalidAnswerError("the answer's errors are too long to be any")
    found = msgspec.json.decode(raw)
    return found if isinstance(found, list) else [found]


def _texts(raw: msgspec.Raw) -> tuple[str, ...]:
    texts = (_text_of(item) if isinstance(item, dict) else item for item in _items(raw))
    return tuple(_CONTROLS.sub(" ", text) for text in texts if isinstance(text, str) and text)


def _text_of(item: dict[str, Any]) -> str:
    parts = [item.get("message")] if item.get("message") else [item.get("title"), item.get("detail")]
    return ": ".join(part for part in parts if isinstance(part, str) and part)


def _codes(raw: msgspec.Raw) -> list[int]:
    codes = [item.get("code") if isinstance(item, dict) else item for item in _items(raw)]
    return [code for code in codes if isinstance(code, int) and not isinstance(code, bool)]


def ids_forbidden_by(texts: Iterable[str]) -> set[str]:
    """Return the IDs that `Forbidden to access tweets ...` names, with an author or without, in any punctuation."""
    found: set[str] = set()
    for text in texts:
        for part in _FORBIDDEN.split(text)[1:]:
            listed = _BEFORE_PROSE.match(_NO_TWEET_IDS.sub(" ", part))
            found.update(_ID.findall(listed.group()) if listed else ())
    return found


def ids_named_by(texts: Iterable[str]) -> set[str]:
    """Return every number in the texts that may be a Tweet ID."""
    return {i for text in texts for i in _ID.findall(_NO_TWEET_IDS.sub(" ", text))}


def are_all_unavailable(texts: Iterable[str], count: int) -> bool:
    """Return whether a text without a list leaves no doubt that all IDs of a request of `count` are unavailable.

    Protected Tweets are documented to be refused so, with a 400.
    """
    found = [match for text in texts if (match := _UNAVAILABLE.search(text))]
    return any(count == 1 or match[1] == str(count) for match in found)


def are_too_old(texts: Iterable[str]) -> bool:
    """Return whether a text says that impressions and engagements of some Tweets are unsupported."""
    return any(_TOO_OLD.search(text) for text in texts)


def is_reflected_in_outcomes(text: str) -> bool:
    """Return whether a text says what the outcomes of IDs say already."""
    return _ALREADY_ACCOUNTED.search(text) is not None


def summarize(status: int, texts: tuple[str, ...]) -> str:
    """Return the API's own words, short enough for a message."""
    words = "; ".join(texts) or f"HTTP {status}"
    return words if len(words) <= 300 else words[:297] + "..."


def error_for_texts(status: int, texts: tuple[str, ...], codes: frozenset[int] = frozenset()) -> APIError | None:
    """Return the error that some texts and codes mean whatever status they come with, if any."""
    words = "\n".join(texts)
    if _RATE_LIMIT.search(words) or codes & _RATE_LIMIT_CODES:
        return RateLimitedError(summarize(status, texts), status=status, texts=texts)
    if _AUTHENTICATION.search(words) or codes & _AUTHENTICATION_CODES:
        return _auth_error(status, texts)
    if _SERVER_ERROR.search(words) or codes & _SERVER_CODES:
        return ServerError(f"the API failed: {summarize(status, texts)}", status=status, texts=texts)
    if status != 200 and _WHOLE_REQUEST.search(words):
        return RequestRefusedError(
            f"the API refused the request: {summarize(status, texts)}", status=status, texts=texts
        )
    return None


def refusal_error(status: int, report: ErrorReport, named: tuple[str, ...]) -> APIError:
    """Return the error for a 400 or 403 that lists no IDs. `named` are IDs of the request that its texts name."""
    texts = report.texts
    is_about_access = (
        not report.is_json or report.is_problem or report.codes or any(_ACCESS.search(text) for text in texts)
    )
    if is_about_access and not named and not any(_UNAVAILABLE.search(t) or _FORBIDDEN.search(t) for t in texts):
        return _access_error(status, texts)
    return RefusedIdsError(
        f"the API refused the request: {summarize(status, texts)}", status=status, texts=texts, named=named
    )


def error_for_status(status: int, report: ErrorReport) -> APIError:
    """Return the error for any status but 200, 400 and 403."""
    texts = report.texts
    words = summarize(status, texts)
    if status == 401:
        return _auth_error(status, texts)
    if status == 429 or any(_RATE_LIMIT.search(text) for text in texts):
        return RateLimitedError(words, status=status, texts=texts)
    if status == 402:
        return _access_error(status, texts)
    if status in _TRANSIENT or status >= 500:
        return ServerError(f"the API failed: {words}", status=status, texts=texts)
    if 300 <= status < 400:
        return ServerRefusedError(
            f"the address answers with a redirect ({status}): set base_url to where the API is", status=status
        )
    if status == 404:
        return ServerRefusedError(f"no Engagement API at this address (404): check base_url. {words}", status=status)
    if status == 406:
        return ServerRefusedError(f"the API wants gzip (406): does a proxy strip headers? {words}", status=status)
    if 200 <= status < 300:
        return InvalidAnswerError(f"the answer has status {status}, and no data", status=status)
    return RequestRefusedError(f"the API refused the request ({status}): {words}", status=status, texts=texts)


def _auth_error(status: int, texts: tuple[str, ...]) -> AuthError:
    words = summarize(status, texts)
    told = words.rstrip(" .;")
    return AuthError(f"the credentials were refused: {told}. Check keys and tokens", status=status, texts=texts)


def _access_error(status: int, texts: tuple[str, ...]) -> AccessRefusedError:
    return AccessRefusedError(
        f"the API refuses this application or account ({status}): {summarize(status, texts)}",
        status=status,
        texts=texts,
    )
