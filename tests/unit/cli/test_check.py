"""`engagement check`: what one request says of credentials, clock and rate limit."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from engagement_async.cli.app import Session, engagement
from engagement_async.cli.exit_codes import exit_code_of
from engagement_async.emulator import Emulator

NOW = time.time()


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(requests_per_minute=300, now=lambda: NOW) as running:
        yield running


def check(emulator: Emulator, *args: str, **environ: str) -> Result:
    settings = {"XDG_CONFIG_HOME": "/nowhere", **emulator.environment, **environ}
    return CliRunner().invoke(engagement, ["check", *args], obj=Session(), env=settings, standalone_mode=False)


def code_of(result: Result) -> int:
    if result.exception is not None:
        return exit_code_of(result.exception)
    return int(result.return_value or 0)


def test_right_credentials(emulator: Emulator) -> None:
    done = check(emulator, "--json")

    found = json.loads(done.stdout)
    assert code_of(done) == found["exit_code"] == 0
    assert found["credentials"] == "accepted (HTTP 200; the Tweet is answered)"
    assert found["settings"].startswith("the environment (there is no ")
    assert found["signed_with"] == "OAuth 1.0a of an owner"
    assert found["clock"] == "right, to half a minute"
    assert abs(found["clock_off_s"]) <= 30
    assert found["seconds"] > 0
    assert "x-per-minute-remaining: 299" in found["rate_headers"]
    assert found["contract"] == "300 requests in 60 s"
    assert emulator.log.requests == 1


def test_wrong_credentials(emulator: Emulator) -> None:
    done = check(emulator, ENGAGEMENT_ACCESS_TOKEN_SECRET="canary")

    assert code_of(done) == 4
    assert "credentials  refused" in done.output
    assert "canary" not in done.output
    assert emulator.log.requests == 1


def test_a_bearer_token_asks_totals_alone(emulator: Emulator) -> None:
    assert "Bearer token" in check(emulator, "--auth", "bearer").output
    refused = check(emulator, "28hr", "--auth", "bearer")
    assert code_of(refused) == 2
    assert emulator.log.requests == 1


def test_without_a_contract_it_asks_all_the_same(emulator: Emulator) -> None:
    done = check(emulator, ENGAGEMENT_REQUESTS_PER_MINUTE="")

    assert code_of(done) == 0
    assert "contract     not set" in done.output


@pytest.mark.parametrize(
    ("faults", "code", "said"),
    [
        ({"503": 1}, 5, "credentials  unknown: no answer says"),
        ({"429": 1}, 0, "credentials  accepted, and the rate limit is used up (HTTP 429)"),
        ({"403-application": 1}, 4, "credentials  refused"),
        ({"404": 1}, 2, "credentials  unknown"),
        ({"redirect": 1}, 2, "credentials  unknown"),
        ({"not-json": 1}, 5, "credentials  unknown"),
        ({"close-before-headers": 1}, 5, "credentials  unknown"),
    ],
    ids=str,
)
def test_what_goes_wrong_is_told_and_not_sent_again(
    emulator: Emulator, faults: dict[str, int], code: int, said: str
) -> None:
    with Emulator(requests_per_minute=None, now=lambda: NOW, faults=faults) as broken:
        done = check(broken)

    assert (code_of(done), broken.log.requests) == (code, 1), done.output
    assert said in done.output


def test_a_tweet_of_somebody_else_proves_the_credentials_too() -> None:
    tweet = "1070059276213702656"
    with Emulator(requests_per_minute=None, now=lambda: NOW, forbidden={tweet: "18435372"}) as emulator:
        done = check(emulator)

    assert code_of(done) == 0
    assert "credentials  accepted (HTTP " in done.output


def test_a_clock_that_is_wrong_is_told() -> None:
    with Emulator(requests_per_minute=None, now=lambda: NOW, clock_skew_s=600) as emulator:
        done = check(emulator)

    assert code_of(done) == 4
    assert "behind the API's: set this machine's time" in done.output


def test_a_dead_address_is_told(emulator: Emulator) -> None:
    done = check(emulator, "--base-url", "http://127.0.0.1:1")

    assert code_of(done) == 5
    assert "no connection to 127.0.0.1:1: Connection refused" in done.output


def test_what_is_no_id_is_refused(emulator: Emulator) -> None:
    assert code_of(check(emulator, "--id", "abc")) == 2
    assert emulator.log.requests == 0
