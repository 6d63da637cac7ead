"""ArrowFetcher against the emulator: exact tables, from any thread and any loop, one client, owners, and errors."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engagement_async import (
    LAST_28_HOURS,
    TOTALS,
    ArrowFetcher,
    AuthError,
    CredentialFile,
    EnvironmentCredentials,
    LocalScheduler,
    OAuth1Credentials,
    Proxy,
    Query,
    RateLimit,
    SizeLimits,
    Timeouts,
    UsageError,
)
from engagement_async.distributed import MachineScheduler
from engagement_async.emulator import Emulator, tweet_ids
from tests.support.pipelines import METRICS, QUERY, emulator_in_environment, write_owners

IDS = tweet_ids(1_000, newest_at=time.time())
GONE = IDS[10:13]


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with emulator_in_environment(monkeypatch, unavailable=GONE) as emulator:
        yield emulator
        assert not emulator.log.refusals


@pytest.fixture
def fetcher(emulator: Emulator, tmp_path: Path) -> Iterator[ArrowFetcher]:
    with ArrowFetcher(
        QUERY,
        credentials=EnvironmentCredentials(),
        scheduler=MachineScheduler(RateLimit(100_000), contract="tests", state_dir=tmp_path),
        base_url=emulator.base_url,
    ) as fetcher:
        yield fetcher


def expected(emulator: Emulator, ids: list[str]) -> dict[tuple[str, str], int]:
    answer = emulator.expected("totals", ids, METRICS, QUERY.groupings)
    return {(i, kind): value for i, kinds in answer["by_tweet"].items() for kind, value in kinds.items()}


def values_of(table: pa.Table) -> dict[tuple[str, str], int]:
    rows = table.to_pylist()
    found = {(row["tweet_id"], row["engagement_type"]): row["value"] for row in rows if row["value"] is not None}
    assert len(found) == sum(row["value"] is not None for row in rows)
    return found


def ids_in(table: pa.Table) -> list[str]:
    return list(dict.fromkeys(table["tweet_id"].to_pylist()))


def test_values_and_outcomes_of_a_table(emulator: Emulator, fetcher: ArrowFetcher) -> None:
    table = fetcher(pa.table({"id": pa.array(map(int, [*IDS, *IDS[:50]]), pa.int64())}))

    assert table.schema == fetcher.schema
    assert values_of(table) == expected(emulator, IDS)
    assert ids_in(table) == IDS
    states = {row["tweet_id"]: row["state"] for row in table.to_pylist()}
    assert states == {**dict.fromkeys(IDS, "answered"), **dict.fromkeys(GONE, "unavailable")}
    assert set(emulator.log.answered.values()) == {1}
    assert table["owner"].null_count == table.num_rows
    assert table["observed_at"].null_count == 0


async def test_coroutines_fetch_without_blocking_their_loop(emulator: Emulator, fetcher: ArrowFetcher) -> None:
    parts = [IDS[at : at + 100] for at in range(0, 1_000, 100)]

    tables = await asyncio.gather(*(fetcher.fetch(pa.table({"id": part})) for part in parts))

    assert [ids_in(table) for table in tables] == parts
    assert values_of(pa.concat_tables(tables)) == expected(emulator, IDS)
    await fetcher.aclose()


def test_threads_and_copies_share_one_client(emulator: Emulator, fetcher: ArrowFetcher) -> None:
    copies = [pickle.loads(pickle.dumps(fetcher)) for _ in range(8)]
    parts = [IDS[at : at + 125] for at in range(0, 1_000, 125)]

    with ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(lambda copy, ids: copy(pa.table({"id": ids})), copies, parts))

    assert values_of(pa.concat_tables(tables)) == expected(emulator, IDS)
    assert sum(thread.name == "engagement-clients" for thread in threading.enumerate()) == 1


def test_no_ids_are_no_request(emulator: Emulator, fetcher: ArrowFetcher) -> None:
    for kind in (pa.int64(), pa.string(), pa.null()):
        table = fetcher(pa.table({"id": pa.array([], kind)}))
        assert table.schema == fetcher.schema
        assert table.num_rows == 0
    assert emulator.log.requests == 0


def test_ids_that_are_all_gone_have_the_same_schema(fetcher: ArrowFetcher) -> None:
    table = fetcher(pa.table({"id": GONE}))

    assert table.schema == fetcher.schema
    assert table.select(["tweet_id", "value", "state"]).to_pydict() == {
        "tweet_id": GONE,
        "value": [None] * 3,
        "state": ["unavailable"] * 3,
    }


def test_closing_is_not_the_end(emulator: Emulator, fetcher: ArrowFetcher) -> None:
    first = fetcher(pa.table({"id": IDS[:5]}))
    fetcher.close()
    fetcher.close()

    assert values_of(fetcher(pa.table({"id": IDS[:5]}))) == values_of(first)


def test_wide_tables_have_one_row_an_id(emulator: Emulator) -> None:
    query = Query(LAST_28_HOURS, engagement_types=METRICS, groupings={"it": ["engagement.type", "tweet.id"]})
    with ArrowFetcher(
        query,
        credentials=EnvironmentCredentials(),
        scheduler=LocalScheduler(RateLimit(100_000)),
        base_url=emulator.base_url,
        wide=True,
    ) as fetcher:
        table = fetcher(pa.table({"tweet_id": IDS[:100]}))

    assert table["tweet_id"].to_pylist() == IDS[:100]
    assert table.schema == fetcher.schema
    assert table["favorites"].null_count == len(GONE)


def test_each_owner_signs_for_its_tweets(tmp_path: Path) -> None:
    with Emulator(None, owners=3, unavailable_fraction=0.0) as emulator:
        query = Query(LAST_28_HOURS, engagement_types=METRICS, groupings={"it": ["tweet.id", "engagement.type"]})
        with ArrowFetcher(
            query,
            credentials=CredentialFile(write_owners(tmp_path / "owners.csv", emulator)),
            scheduler=MachineScheduler(RateLimit(100_000), contract="tests", state_dir=tmp_path),
            base_url=emulator.base_url,
        ) as fetcher:
            table = pa.table({"id": IDS[:90], "owner": [emulator.owner_of(i) for i in IDS[:90]]})
            found = pickle.loads(pickle.dumps(fetcher))(table)
            for without in (pa.table({"id": IDS[:3]}), pa.table({"id": IDS[:3], "owner": pa.nulls(3, pa.string())})):
                with pytest.raises(UsageError, match="in a table, a column `owner`"):
                    fetcher(without)

    assert ids_in(found) == IDS[:90]
    assert {(row["tweet_id"], row["owner"]) for row in found.to_pylist()} == set(
        zip(IDS[:90], table["owner"].to_pylist(), strict=True)
    )
    assert set(found["state"].to_pylist()) == {"answered"}


def test_owners_of_a_table_and_one_owner_s_credentials_say_what_to_do(
    emulator: Emulator, fetcher: ArrowFetcher
) -> None:
    with pytest.raises(
        UsageError, match=r"credentials is one owner's: give a CredentialFile.* or drop .*column `owner`"
    ):
        fetcher(pa.table({"id": IDS[:3], "owner": ["acme"] * 3}))
    assert emulator.log.requests == 0


def test_a_table_that_was_returned_can_be_given_again(emulator: Emulator, fetcher: ArrowFetcher) -> None:
    first = fetcher(pa.table({"id": IDS[:5]}))

    assert values_of(fetcher(first)) == values_of(first) == expected(emulator, IDS[:5])


def test_an_api_that_answers_nobody_leaves_ids_pending(emulator: Emulator) -> None:
    with ArrowFetcher(
        QUERY,
        credentials=EnvironmentCredentials(),
        scheduler=LocalScheduler(RateLimit(100_000)),
        base_url=emulator.base_url,
        outage_timeout_s=0.5,
    ) as fetcher:
        emulator.set_faults({"503": 1})
        table = fetcher(pa.table({"id": IDS[:5]}))

    assert table["state"].to_pylist() == ["pending"] * 5


def test_errors_reach_the_caller_and_cross_processes(emulator: Emulator, fetcher: ArrowFetcher) -> None:
    emulator.revoke()

    with pytest.raises(AuthError) as caught:
        fetcher(pa.table({"id": IDS[:5]}))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is AuthError
    assert str(copy) == str(caught.value)
    with pytest.raises(UsageError, match="no column id"):
        fetcher(pa.table({"x": IDS[:5]}))
    emulator.log.refusals.clear()


async def test_a_fetch_that_is_cancelled_ends(emulator: Emulator, fetcher: ArrowFetcher) -> None:
    emulator.set_faults({"hang-before-headers": 1})
    task = asyncio.create_task(fetcher.fetch(pa.table({"id": IDS[:5]})))
    while not emulator.log.requests:
        await asyncio.sleep(0.01)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    emulator.set_faults(None)
    await fetcher.aclose()  # which waits for calls: there is none


def test_secrets_are_never_pickled(emulator: Emulator) -> None:
    literal = OAuth1Credentials(
        emulator.consumer_key, emulator.consumer_secret, emulator.access_token, emulator.access_token_secret
    )
    with ArrowFetcher(
        QUERY, credentials=literal, scheduler=LocalScheduler(RateLimit(100_000)), base_url=emulator.base_url
    ) as fetcher:
        assert values_of(fetcher(pa.table({"id": IDS[:3]}))) == expected(emulator, IDS[:3])
        with pytest.raises(
            UsageError, match=r"OAuth1Credentials holds secrets.*: give EnvironmentCredentials"
        ) as caught:
            pickle.dumps(fetcher)

    assert emulator.consumer_secret not in str(caught.value) + repr(fetcher)


def test_a_local_scheduler_counts_for_one_process() -> None:
    fetcher = ArrowFetcher(QUERY, credentials=EnvironmentCredentials(), scheduler=LocalScheduler(RateLimit(3)))

    with pytest.raises(UsageError, match=r"scheduler cannot go to another process.*give a RedisScheduler"):
        pickle.dumps(fetcher)


def scheduler_from_a_vault() -> MachineScheduler:
    return MachineScheduler(RateLimit(100_000), contract="vault")


def test_what_functions_return_is_not_pickled(emulator: Emulator) -> None:
    made = ArrowFetcher(
        QUERY,
        credentials=EnvironmentCredentials(),
        scheduler=scheduler_from_a_vault,
        base_url=emulator.base_url,
        tls=no_tls,
    )

    with pickle.loads(pickle.dumps(made)) as fetcher:
        assert values_of(fetcher(pa.table({"id": IDS[:3]}))) == expected(emulator, IDS[:3])


def no_tls() -> None: ...


@pytest.mark.parametrize(
    "proxy", ["http://me:very-secret@proxy.example:3128", Proxy("http://me:very-secret@proxy.example:3128")], ids=repr
)
def test_the_password_of_a_proxy_is_not_pickled(proxy: str | Proxy) -> None:
    fetcher = ArrowFetcher(QUERY, credentials=EnvironmentCredentials(), scheduler=scheduler_from_a_vault, proxy=proxy)

    with pytest.raises(
        UsageError, match="proxy cannot go to another process, since Proxy may hold a password"
    ) as caught:
        pickle.dumps(fetcher)
    assert "very-secret" not in str(caught.value)


def test_options_without_secrets_are_pickled() -> None:
    options: dict[str, Any] = {
        "allow_http_to": ["emulator"],
        "timeouts": Timeouts(total_s=5),
        "size_limits": SizeLimits(),
        "concurrency": 4,
        "outage_timeout_s": 1.5,
    }
    fetcher = ArrowFetcher(QUERY, credentials=EnvironmentCredentials(), scheduler=scheduler_from_a_vault, **options)
    behind = ArrowFetcher(
        QUERY, credentials=EnvironmentCredentials(), scheduler=scheduler_from_a_vault, proxy=Proxy("http://proxy:3128")
    )

    for each in (fetcher, behind):
        assert repr(pickle.loads(pickle.dumps(each))) == repr(each)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": "totals"}, "query is a Query"),
        ({"scheduler": RateLimit(300)}, "each process would spend a RateLimit for itself"),
        ({"rate_limit": RateLimit(300)}, "no option 'rate_limit'"),
        ({"colour": 3}, "no option 'colour'"),
        ({"concurrency": 0}, "concurrency is a whole number"),
        ({"base_url": "http://somewhere"}, "https"),
        (
            {"query": Query(TOTALS, engagement_types=METRICS, groupings={"a": ["engagement.type"]})},
            "no grouping by Tweet",
        ),
    ],
)
def test_what_cannot_be_is_an_error_at_once(options: dict[str, Any], message: str) -> None:
    given = {"query": QUERY, "credentials": EnvironmentCredentials(), "scheduler": LocalScheduler(RateLimit(3))}

    with pytest.raises(UsageError, match=message):
        ArrowFetcher(**{**given, **options})
