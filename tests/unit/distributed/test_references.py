"""What goes to other processes by reference, and what does not go."""

from __future__ import annotations

import os
import pickle
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engagement_async import (
    BearerCredentials,
    CredentialFile,
    Credentials,
    EnvironmentCredentials,
    LocalScheduler,
    OAuth1Credentials,
    RateLimit,
    UsageError,
)
from engagement_async.distributed import MachineScheduler, RedisScheduler
from engagement_async.distributed.references import Reference

SECRET = "very-secret"
OAUTH1 = OAuth1Credentials("key", SECRET, "token", SECRET)


def factory() -> str:
    return "made here"


def look_up(owner: str) -> Credentials | None:
    return None


class Plain:
    """A store that holds secrets as any object holds its values."""

    secret = SECRET


class _Holder:
    def method(self) -> None: ...


def again(reference: Reference) -> Any:
    return pickle.loads(pickle.dumps(reference))


def test_a_function_without_parameters_is_called_in_each_process() -> None:
    reference = Reference("thing", factory, "fix")

    assert reference.is_portable
    assert again(again(reference)).resolve() == reference.resolve() == "made here"


def test_a_function_of_an_owner_is_the_value() -> None:
    assert again(Reference("credentials", look_up, "fix")).resolve() is look_up


@pytest.mark.parametrize(
    "value",
    [
        EnvironmentCredentials(),
        CredentialFile("owners.csv"),
        RedisScheduler("redis://localhost", RateLimit(300), contract="reports"),
        MachineScheduler(RateLimit(300), contract="reports"),
        MachineScheduler(RateLimit(300), credentials=EnvironmentCredentials()),
        "https://api.example",
        ("host",),
        None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_says_how_it_is_pickled_is_made_anew(value: object) -> None:
    reference = Reference("thing", value, "fix")

    assert reference.is_portable
    assert type(again(reference).resolve()) is type(value)
    assert reference.resolve() is not value or isinstance(value, (str, tuple, type(None)))


def test_schedulers_are_made_anew_with_all_of_their_options(tmp_path: Path) -> None:
    limits = [RateLimit(300), RateLimit(20, period=1)]
    redis = RedisScheduler("redis://somewhere", limits, contract="a", username="me", allow_plaintext=True)
    machine = MachineScheduler(limits, contract="a", state_dir=tmp_path, quarantine_s=3)

    assert pickle.loads(pickle.dumps(redis)).limits == tuple(limits)
    assert pickle.dumps(pickle.loads(pickle.dumps(redis))) == pickle.dumps(redis)
    assert pickle.dumps(pickle.loads(pickle.dumps(machine))) == pickle.dumps(machine)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (OAUTH1, "OAuth1Credentials holds secrets"),
        (BearerCredentials(SECRET), "BearerCredentials holds secrets"),
        ({"acme": OAUTH1}, "a dict may hold secrets"),
        (
            CredentialFile("o.csv", consumer_key="key", consumer_secret=SECRET),
            "CredentialFile was given a consumer pair",
        ),
        (Plain(), "a Plain may hold secrets"),
        (
            RedisScheduler("redis://localhost", RateLimit(3), contract="a", password=SECRET),
            "RedisScheduler holds a pass",
        ),
        (RedisScheduler(f"redis://:{SECRET}@localhost", RateLimit(3), contract="a"), "RedisScheduler holds a password"),
        (MachineScheduler(RateLimit(3), credentials=OAUTH1), "OAuth1Credentials holds secrets"),
        (LocalScheduler(RateLimit(3)), "counts for its own process alone"),
        (lambda: SECRET, "cannot be imported by its name"),
        (_Holder().method, "cannot be imported by its name"),
        (partial(factory), "arguments of a partial"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_may_be_secret_stays_in_its_process(value: object, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = Reference("thing", value, "give another thing")
    here = reference.resolve()

    with pytest.raises(
        UsageError, match=f"^thing cannot go to another process, since .*{why}.*: give another thing$"
    ) as e:
        pickle.dumps(reference)
    assert SECRET not in str(e.value) + repr(reference)
    assert here is value or here in (SECRET, "made here", None)
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as after a fork
    with pytest.raises(UsageError, match="thing cannot go"):
        reference.resolve()


def test_a_function_of_the_program_that_is_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "factory", factory, raising=False)

    with pytest.raises(UsageError, match="factory is defined in the program that is run"):
        pickle.dumps(Reference("thing", factory, "fix"))
