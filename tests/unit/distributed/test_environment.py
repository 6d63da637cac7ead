"""Credentials that are named, and not given."""

from __future__ import annotations

import pickle

import pytest

from engagement_async import BearerCredentials, EnvironmentCredentials, OAuth1Credentials, UsageError

KEYS = ("CONSUMER_KEY", "CONSUMER_SECRET", "ACCESS_TOKEN", "ACCESS_TOKEN_SECRET")
KEY = b"key"


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*KEYS, "BEARER_TOKEN"):
        monkeypatch.delenv(f"ENGAGEMENT_{name}", raising=False)


def test_four_variables_are_oauth1_whatever_else_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(f"ENGAGEMENT_{name}", f" its-{name} ")
    monkeypatch.setenv("ENGAGEMENT_BEARER_TOKEN", "token")
    credentials = EnvironmentCredentials()

    assert not credentials.is_app_only
    assert credentials.fingerprint(KEY) == OAuth1Credentials("its-CONSUMER_KEY", "b", "c", "d").fingerprint(KEY)
    assert credentials.signer("https://api.example/x").authorization(0).startswith("OAuth ")


def test_a_token_alone_is_a_bearer_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_BEARER_TOKEN", "token")
    credentials = EnvironmentCredentials("OTHER_")

    assert credentials.is_app_only
    assert credentials.fingerprint(KEY) == BearerCredentials("token").fingerprint(KEY)
    assert credentials.signer("https://api.example/x").authorization(0) == "Bearer token"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGAGEMENT_CONSUMER_KEY", "key")
    monkeypatch.setenv("ENGAGEMENT_BEARER_TOKEN", "token")

    with pytest.raises(UsageError, match="no ENGAGEMENT_CONSUMER_SECRET, ENGAGEMENT_ACCESS_TOKEN, "):
        EnvironmentCredentials().signer("https://api.example/x")


def test_nothing_but_names_is_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGAGEMENT_BEARER_TOKEN", "very-secret")
    credentials = EnvironmentCredentials()
    packed = pickle.dumps(credentials)

    assert b"very-secret" not in packed
    assert pickle.loads(packed) == credentials
    assert hash(pickle.loads(packed)) == hash(credentials)
    assert credentials != EnvironmentCredentials("OTHER_")
    assert "very-secret" not in repr(credentials)


@pytest.mark.parametrize("prefix", ["", "a b", "A=", 3])
def test_a_prefix_is_one(prefix: str) -> None:
    with pytest.raises(UsageError, match="prefix"):
        EnvironmentCredentials(prefix)
