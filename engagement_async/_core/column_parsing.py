"""(status, headers, body) become answers with columns: ordinary answers at once, all others as `parsing` does."""

from __future__ import annotations

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

    def _parse_fast(
        self, batch_number: int, tweet_ids: tuple[str, ...], body: bytes, response: ResponseBytes | None
    ) -> ParsedResponse | None:
        """Return an ordinary answer as columns; any other as `ResponseParser` does."""
        decoded = self._columns.decode(body, tweet_ids)
        if decoded is None:
            return super()._parse_fast(batch_number, tweet_ids, body, response)
        answer = Answer(batch_number, tweet_ids, windows=windows_of(decoded))
        return ParsedResponse(with_columns(answer, decoded.groupings))
