"""What a run tells the journal of owners, and what becomes of IDs whose owner's credentials are of no use."""

from __future__ import annotations

import pytest

from engagement_async import Answer, Failure, FailureKind, UsageError
from engagement_async.backfill.codec import NOT_ASKED, pending_ids
from engagement_async.backfill.owner_records import (
    PREFIX,
    OwnerRecord,
    OwnerRecords,
    check_failed_credentials,
    read_owner_records,
)

REFUSED = Failure("owner x: the credentials were refused", kind=FailureKind.CREDENTIALS)
SERVER = Failure("HTTP 500", kind=FailureKind.SERVER)


def answer(owner: str | None, **failed: str) -> Answer:
    return Answer(
        0, ("1", "2", "3"), {}, failed_tweet_ids={i.strip("_"): why for i, why in failed.items()}, owner=owner
    )


def test_ids_stay_failed_or_become_pending() -> None:
    refused = answer("x", _1=REFUSED, _2=SERVER)

    assert OwnerRecords("failed").take(refused) is refused
    taken = OwnerRecords("pending").take(refused)
    assert taken.failed_tweet_ids == {"1": NOT_ASKED, "2": SERVER}
    assert pending_ids(taken) == ("1",)
    assert (taken.owner, taken.tweet_ids) == ("x", refused.tweet_ids)


def test_requests_and_errors_are_documents_until_they_are_written() -> None:
    records = OwnerRecords("pending")
    records.load({"x": OwnerRecord(5), "y": OwnerRecord(7, "owner y: revoked")})
    assert records.changed() == {}
    records.count({"x": 2, "z": 1})
    records.take(answer("x", _1=REFUSED, _2=REFUSED, _3=REFUSED))
    records.take(answer("y"))
    changed = records.changed()

    assert read_owner_records(changed.values()) == {
        "x": OwnerRecord(7, str(REFUSED)),
        "y": OwnerRecord(7),
        "z": OwnerRecord(1),
    }
    assert list(changed) == [PREFIX + document["owner"] for document in changed.values()]
    records.count({"z": 1})  # while they are written
    records.acknowledge(changed)
    assert list(records.changed()) == [f"{PREFIX}z"]
    records.count({"z": -1})  # it was never sent
    assert records.changed() == {}
    assert records.refused == {"x"}


def test_an_error_stands_until_the_owner_was_answered() -> None:
    records = OwnerRecords("pending")
    records.load({"x": OwnerRecord(2, "owner x: revoked")})
    records.take(answer("x", _1=SERVER, _2=SERVER, _3=SERVER))
    records.take(answer(None))
    assert records.changed() == {}

    records.take(answer("x", _1=SERVER))
    assert read_owner_records(records.changed().values()) == {"x": OwnerRecord(2)}


def test_an_answer_that_comes_late_takes_no_error_back() -> None:
    records = OwnerRecords("pending")
    records.take(answer("x", _1=REFUSED))
    records.take(answer("x"))

    assert read_owner_records(records.changed().values()) == {"x": OwnerRecord(0, str(REFUSED))}


@pytest.mark.parametrize("value", ["Pending", True, None, "", 1])
def test_what_is_no_choice_is_refused(value: object) -> None:
    check_failed_credentials("failed")
    check_failed_credentials("pending")
    with pytest.raises(UsageError, match="give 'failed' or 'pending'"):
        check_failed_credentials(value)
