from __future__ import annotations

from engagement_async import TOTALS, Query
from engagement_async._core.batches import OwnedTweet
from engagement_async._core.parsing import ResponseParser
from engagement_async._core.request import Purpose, Request, split_in_half

PARSER = ResponseParser(Query(TOTALS, engagement_types=["favorites"], groupings={"all": ["engagement.type"]}))


def test_halves_are_all_of_it() -> None:
    assert split_in_half(tuple("abcde")) == (("a", "b"), ("c", "d", "e"))


def test_a_part_is_a_fresh_request_of_the_same_batch() -> None:
    request = Request(("1", "2"), PARSER, 7, batch="pending", is_second_look=True, failures=3, attempts=4)

    part = request.part(("2",))

    assert (part.tweet_ids, part.batch_number, part.batch, part.is_second_look) == (("2",), 7, "pending", True)
    assert (part.failures, part.attempts, part.is_suspect) == (0, 0, False)
    assert request.suspect_part(("1",), 5.0).is_suspect


def test_a_probe_asks_for_one_tweet_and_belongs_to_no_batch() -> None:
    probe = Request(("1", "2"), PARSER, 7, batch="pending").probe(OwnedTweet("9"), Purpose.LIFE_SIGN)

    assert (probe.tweet_ids, probe.batch, probe.is_probe) == (("9",), None, True)
