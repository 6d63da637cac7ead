"""(status, headers, body) become the outcomes of a request's IDs, or an error. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import NamedTuple

from engagement_async._core.accounting import NO_GAPS, Accounting, Gaps, ParsedResponse, in_input_order, windows_of
from engagement_async._core.answer import Answer, ReceivedAnswer
from engagement_async._core.decoding import Decoded, ResponseDecoder
from engagement_async._core.query import Query, fake_zeros_in
from engagement_async._core.refusals import (
    are_all_unavailable,
    are_too_old,
    error_for_status,
    error_for_texts,
    ids_named_by,
    read_errors,
    refusal_error,
    texts_of,
)
from engagement_async._core.structs import StructDecoder
from engagement_async.errors import InvalidAnswerError, RateLimitedError

__all__ = ["ParsedResponse", "ResponseBytes", "ResponseParser"]

_TOO_OLD_IDS = "unsupported_for_impressions_engagements_tweet_ids"


class ResponseBytes(NamedTuple):
    """The bytes of a response, for answers that keep them."""

    wire: Callable[[], bytes]
    """Returns the body as it came, as gzip."""
    unpack: Callable[[bytes], bytes]
    """Returns the body of that."""


class ResponseParser:
    """Parses the responses to one query. Built once a query: it holds the decoders for exactly its groupings."""

    def __init__(self, query: Query, *, json_depth: int = 32, checks_times: bool = False) -> None:
        self.query = query
        self._json_depth = json_depth
        self._checks_times = checks_times
        self._decoder = ResponseDecoder(query, json_depth=json_depth, checks_times=checks_times)
        self._fake_zeros = fake_zeros_in(query)

    def for_query(self, query: Query) -> ResponseParser:
        """Return a parser for another query, with the same limits."""
        return ResponseParser(query, json_depth=self._json_depth, checks_times=self._checks_times)

    def parse(
        self,
        batch_number: int,
        tweet_ids: tuple[str, ...],
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        *,
        may_lack: Gaps | None = NO_GAPS,
        response: ResponseBytes | None = None,
    ) -> ParsedResponse:
        """Return what the response to a request for these IDs says.

        IDs that lack a metric of the query are answered if `may_lack` has them, or is None, and stand in the answer's
        `missing_metrics`. With a `response`, an answer that settles all IDs keeps that, as a `ReceivedAnswer`.

        Raise `AuthError`, `AccessRefusedError`, `RateLimitedError`, `RefusedIdsError`, `RequestRefusedError`,
        `ServerRefusedError`, `ServerError` or `InvalidAnswerError`.
        """
        if status == 200:
            fast = self._parse_fast(batch_number, tweet_ids, body, response)
            if fast is not None:
                return fast
            parsed = self._parse_data(batch_number, tweet_ids, body, may_lack=may_lack)
            if response is not None and parsed.answer.tweet_ids == tweet_ids:
                return parsed._replace(answer=ReceivedAnswer.of(parsed.answer, response.wire()))
            return parsed
        if status in (400, 403):
            return self._parse_refusal(batch_number, tweet_ids, status, body, may_lack=may_lack)
        raise error_for_status(status, read_errors(body))

    @cached_property
    def _structs(self) -> StructDecoder:
        return StructDecoder(self.query)

    def _parse_fast(
        self, batch_number: int, tweet_ids: tuple[str, ...], body: bytes, response: ResponseBytes | None
    ) -> ParsedResponse | None:
        """Return an answer that keeps its response, with all values of all Tweets that are there; None for any other."""
        if response is None:
            return None
        whole = self._structs.decode(body)
        if whole is None or not whole.is_of(tweet_ids):
            return None
        wire, unpack = response.wire(), response.unpack  # the response itself holds its unpacked body
        answer = ReceivedAnswer(
            batch_number,
            tweet_ids,
            windows=windows_of(whole),
            unavailable_tweet_ids=in_input_order(tweet_ids, whole.unavailable),
        )
        return ParsedResponse(
            answer.keep(wire, whole.count_values(), lambda: self._decoder.decode(unpack(wire)).groupings)
        )

    def _parse_data(
        self, batch_number: int, tweet_ids: tuple[str, ...], body: bytes, *, may_lack: Gaps | None
    ) -> ParsedResponse:
        decoded = self._decoder.decode(body)
        texts = texts_of(decoded.errors)
        if not texts and self._is_ordinary(decoded, tweet_ids):
            answer = Answer(batch_number, tweet_ids, decoded.groupings, windows=windows_of(decoded))
            return ParsedResponse(answer)
        if not texts and not decoded.groupings:
            texts = read_errors(body).texts
        error = error_for_texts(200, texts)
        if error is not None and not isinstance(error, RateLimitedError):
            raise error
        try:
            accounting = self._accounting(batch_number, tweet_ids, decoded, texts)
            parsed = accounting.settle(may_lack=may_lack)
        except InvalidAnswerError:
            if error is not None:
                raise error from None
            raise
        if error is not None and parsed.answer.tweet_ids != tweet_ids:
            raise error  # beside whole data such a text is a note
        return parsed

    def _parse_refusal(
        self, batch_number: int, tweet_ids: tuple[str, ...], status: int, body: bytes, *, may_lack: Gaps | None
    ) -> ParsedResponse:
        report = read_errors(body)
        error = error_for_texts(status, report.texts, report.codes)
        if error is not None:
            raise error
        if report.is_json:
            try:
                decoded = self._decoder.decode(body)
            except InvalidAnswerError:
                decoded = self._decoder.decode(b"{}")
            if len(tweet_ids) == 1 and not decoded.unsupported and are_too_old(report.texts):
                decoded.unsupported[_TOO_OLD_IDS] = list(tweet_ids)  # of one Tweet no list is needed
            # The IDs that it lists have their outcomes: unavailable, forbidden, or unsupported for a metric.
            accounting = self._accounting(batch_number, tweet_ids, decoded, report.texts, is_refusal=True)
            parsed = accounting.settle_refusal(may_lack=may_lack)
            if len(parsed.missing) < len(tweet_ids):
                return parsed
            if are_all_unavailable(report.texts, len(tweet_ids)):
                answer = Answer(batch_number, tweet_ids, unavailable_tweet_ids=tweet_ids)
                return ParsedResponse(answer, from_error_status=True)
        raise refusal_error(status, report, in_input_order(tweet_ids, ids_named_by(report.texts)))

    def _is_ordinary(self, decoded: Decoded, tweet_ids: tuple[str, ...]) -> bool:
        """Return whether this is the answer of all IDs, with all groupings and metrics, and nothing else."""
        if not decoded.has_all_types or self._fake_zeros is not None or decoded.unavailable or decoded.unsupported:
            return False
        return decoded.schema.has_exactly(decoded.groupings, tweet_ids)

    def _accounting(
        self,
        batch_number: int,
        tweet_ids: tuple[str, ...],
        decoded: Decoded,
        texts: tuple[str, ...],
        *,
        is_refusal: bool = False,
    ) -> Accounting:
        accounting = Accounting(self.query, batch_number, tweet_ids, decoded, texts)
        has_data = not is_refusal or len(decoded.groupings) == len(self.query.groupings)
        if self._fake_zeros is not None and has_data:  # else nothing is known of IDs that the refusal does not name
            accounting.drop_fake_zeros(self._fake_zeros)
        return accounting
