"""What a journal keeps of responses is read again, whatever their span; what is no such response is damage."""

from __future__ import annotations

import gzip

import pytest

from engagement_async import HISTORICAL, Query
from engagement_async.backfill.responses import ResponseReader

GROUPINGS = {"days": ["owner", "tweet.id", "engagement.type", "engagement.day"]}
BODY = b'{"days":{"1":{"favorites":{"2026-01-02":"7","2026-01-01":"6"}}}}'


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def reader(end: str = "2026-01-03") -> ResponseReader:
    query = Query(HISTORICAL, engagement_types=["favorites"], groupings=GROUPINGS, start="2026-01-01", end=end)
    return ResponseReader(query)


@pytest.mark.parametrize("end", ["2026-01-02", "2026-01-02T05:00:00Z", "2026-01-03"])
@pytest.mark.parametrize("response", [packed(BODY), packed(BODY[:20]) + packed(BODY[20:])])
def test_it_is_read_again(end: str, response: bytes) -> None:
    assert reader(end).groupings(response) == {"days": {"1": {"favorites": {"2026-01-02": 7, "2026-01-01": 6}}}}
    assert reader(end).whole(response, ("1",)).levels == {"days": ("tweet.id", "engagement.type", "engagement.day")}
    with pytest.raises(ValueError, match="no whole answer"):
        reader(end).whole(response, ("1", "2"))


@pytest.mark.parametrize("response", [b"", BODY, packed(BODY)[:-1], packed(b"{"), packed(b"[]")])
def test_other_bytes_are_damage(response: bytes) -> None:
    with pytest.raises(ValueError, match=r"body|answer"):
        reader().groupings(response)
    with pytest.raises(ValueError, match=r"body|answer"):
        reader().whole(response, ("1",))
