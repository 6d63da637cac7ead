"""What a journal's responses hold, read again: groupings as dicts, or structs for columns. Pure."""

from __future__ import annotations

from functools import cached_property

from engagement_async._core.decoding import ResponseDecoder
from engagement_async._core.groupings import Grouping
from engagement_async._core.query import Query
from engagement_async._core.structs import StructDecoder, WholeAnswer
from engagement_async._engine.body import gunzip
from engagement_async.config import SizeLimits
from engagement_async.errors import BodyError, InvalidAnswerError

__all__ = ["ResponseReader"]


class ResponseReader:
    """Reads the responses to one query, which were found to be whole answers to it when they came.

    Whatever its span: whether they are of that was seen then, and the end of a span may have been in the future.
    """

    def __init__(self, query: Query) -> None:
        groupings = query.without_owners().groupings
        self._query = Query(query.endpoint, engagement_types=query.engagement_types, groupings=groupings)

    def groupings(self, response: bytes) -> dict[str, Grouping]:
        """Return the groupings. Raise `ValueError` when the bytes are no such response."""
        try:
            return self._decoder.decode(gunzip(response)).groupings
        except (BodyError, InvalidAnswerError) as error:
            raise ValueError(str(error)) from None

    def whole(self, response: bytes, tweet_ids: tuple[str, ...]) -> WholeAnswer:
        """Return the same without a dict for each Tweet. Raise `ValueError` when it is no whole answer for these IDs."""
        try:
            whole = self._structs.decode(gunzip(response))
        except BodyError as error:
            raise ValueError(str(error)) from None
        if whole is None or not whole.is_of(tweet_ids):
            raise ValueError("it is no whole answer for its IDs")
        return whole

    @cached_property
    def _decoder(self) -> ResponseDecoder:
        return ResponseDecoder(self._query, json_depth=SizeLimits().json_depth)

    @cached_property
    def _structs(self) -> StructDecoder:
        return StructDecoder(self._query)
