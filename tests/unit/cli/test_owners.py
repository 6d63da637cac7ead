"""Tweets of many owners on the command line: what the flags mean, whose IDs are whose, and who is listed first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from engagement_async import CredentialFile, Failure, FailureKind, UsageError
from engagement_async._core.outcomes import Outcomes, OwnerResult
from engagement_async.cli.config import Settings
from engagement_async.cli.owners import (
    OwnerFlags,
    owner_fields,
    owner_weight_option,
    read_by_owner,
    report_owners,
    worst_first,
)
from engagement_async.cli.report import Mode, Reporter

REFUSED = Failure("owner c: refused", kind=FailureKind.CREDENTIALS)
OWNERS = {
    "a": OwnerResult(Outcomes(answered=5), 1, None),
    "b": OwnerResult(Outcomes(answered=5, forbidden=2), 1, None),
    "c": OwnerResult(Outcomes(failed=3), 2, REFUSED),
    "d": OwnerResult(Outcomes(failed=9), 1, None),
}


@pytest.mark.parametrize(
    ("flags", "given", "message"),
    [
        (OwnerFlags(None, "owners.csv"), (), "--owner-column"),
        (OwnerFlags(None, first_owner=True), (), "--owner-column"),
        (OwnerFlags(None, weights={"acme": 3}), (), "--owner-column"),
        (OwnerFlags("handle"), ("20",), "Give --ids FILE"),
    ],
)
def test_flags_that_do_not_go_together(flags: OwnerFlags, given: Sequence[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        flags.check(given)


def test_a_weight_is_of_an_owner_with_tweets() -> None:
    flags = OwnerFlags("handle", weights={"acme": 3, "acem": 2})

    flags.check_weights(["acme", "acem", "globex"])
    with pytest.raises(UsageError, match="no Tweets of an owner 'acem'"):
        flags.check_weights(["acme", "globex"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["acme"], "as handle=3"),
        (["=3"], "as handle=3"),
        (["acme=0"], "as handle=3"),
        (["acme=1.5"], "as handle=3"),
        (["acme=-1"], "as handle=3"),
        (["acme=²"], "as handle=3"),
        (["acme=2", "acme=3"], "two weights"),
    ],
)
def test_weights_that_are_none(given: list[str], message: str) -> None:
    with pytest.raises(click.BadParameter, match=message):
        weights_of(given)


def test_weights_by_name() -> None:
    assert weights_of([]) == {}
    assert weights_of(["acme=3", "a=b=2", "acme=3", "50% = off=1"]) == {"acme": 3, "a=b": 2, "50% = off": 1}


def weights_of(given: list[str]) -> Any:
    command = click.Command("fetch", params=[], callback=lambda **_: None)
    parameter = owner_weight_option(command).params[0]
    return parameter.process_value(click.Context(command), given)


def test_a_bearer_token_is_nobodys() -> None:
    with pytest.raises(UsageError, match="a Bearer token is nobody"):
        OwnerFlags("handle", "owners.csv").check(auth="bearer")


def test_the_consumer_pair_comes_from_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "owners.csv"
    path.write_text("owner,access_token,access_token_secret\nacme,token,secret\n")
    path.chmod(0o600)
    environ = {"ENGAGEMENT_CREDENTIALS_FILE": str(path), "ENGAGEMENT_CONFIG": ""}
    with pytest.raises(UsageError, match="no consumer_key and no consumer_secret"):
        OwnerFlags("handle").credentials(Settings.load(environ), None)
    with pytest.raises(UsageError, match="lacks ENGAGEMENT_CONSUMER_SECRET"):
        OwnerFlags("handle").credentials(Settings.load({**environ, "ENGAGEMENT_CONSUMER_KEY": "k"}), None)
    pair = {"ENGAGEMENT_CONSUMER_KEY": "k", "ENGAGEMENT_CONSUMER_SECRET": "s"}
    store = OwnerFlags("handle").credentials(Settings.load({**environ, **pair}), None)

    assert isinstance(store, CredentialFile)
    assert store.owners() == ["acme"]
    with pytest.raises(UsageError, match="Name a file with --credentials FILE or ENGAGEMENT_CREDENTIALS_FILE"):
        OwnerFlags("handle").credentials(Settings.load(pair), None)


def test_ids_are_gathered_by_owner() -> None:
    chunks = [(["a", "b", "a"], ["1", "2", "3"]), (["a", "a"], ["1", "4"])]

    assert read_by_owner(chunks, ["f"], first_owner=False) == {"a": ["1", "3", "4"], "b": ["2"]}
    twice = [*chunks, (["b", "c"], ["4", "4"])]
    with pytest.raises(UsageError, match=r"Tweet 4 is given for two owners, 'a' and 'b'.*--first-owner"):
        read_by_owner(twice, ["f"], first_owner=False)
    assert read_by_owner(twice, ["f"], first_owner=True) == {"a": ["1", "3", "4"], "b": ["2"]}
    with pytest.raises(UsageError, match="no Tweet ID with an owner in f"):
        read_by_owner([], ["f"], first_owner=False)


def test_the_worst_owner_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(worst_first(OWNERS)) == ["c", "d", "b", "a"]
    assert list(owner_fields(OWNERS)["owners"]) == ["c", "d", "b", "a"]
    assert owner_fields({}) == {}
    report_owners(OWNERS, Reporter(Mode.LINES))

    assert capsys.readouterr().err.splitlines() == [
        "  4 owners, 1 of them with unusable credentials",
        "owners with failed or forbidden Tweets, the worst first:",
        "  owner c: refused (3 failed)",
        "  owner d: 9 failed",
        "  owner b: 5 answered, 2 forbidden",
    ]


def test_a_long_name_of_an_owner_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "acme" * 2_500
    report_owners(
        {
            long: OwnerResult(Outcomes(failed=1), 0, f"owner {long}: refused"),
            "b": OwnerResult(Outcomes(failed=1), 1, None),
        },
        Reporter(Mode.LINES),
    )

    assert f"  owner {'acme' * 14}acm…: refused (1 failed)" in capsys.readouterr().err.splitlines()
