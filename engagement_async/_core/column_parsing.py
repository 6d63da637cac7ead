"""(status, headers, body) become answers with columns: ordinary answers at once, all others as `parsing` does."""

from __future__ import annotations

from collections.abc import Mapping

from engagement_async._core.accounting import windows_of
from engagement_async._core.answer import Answer
from engagement_async._core.column_decoding import ColumnDecoder
from engagement_async._core.columnar import with_columns
from engagement_async._core.parsing import ParsedResponse, ResponseBytes, ResponseParser
from engagement_async._core.query import Query

__all__ = ["ColumnParser"]


class ColumnParser(ResponseParser):
    """A `ResponseParser` whose ordinary answers are columns. What has to be looked at closely, or merged, is dicts."""

    def __init__(self, query: Query, *, json_depth: int = 32) -> None:
        super().__init__(query, json_depth=json_depth, checks_times=True)
        self._columns = ColumnDecoder(query)

    def parse(
        self,
        batch_number: int,
        tweet_ids: tuple[str, ...],
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        *,
        accept_incomplete: bool = False,
        response: ResponseBytes | None = None,
    ) -> ParsedResponse:
        """Return what the response to a request for these IDs says, as `ResponseParser.parse`."""
        decoded = self._columns.decode(body, tweet_ids) if status == 200 else None
        if decoded is None:
            return super().parse(
                batch_number,
                tweet_ids,
                status,
                headers,
                body,
                accept_incomplete=accept_incomplete,
                response=response,
            )
        answer = Answer(batch_number, tweet_ids, windows=windows_of(decoded))
        return ParsedResponse(with_columns(answer, decoded.groupings))
