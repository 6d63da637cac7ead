from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engagement_async import AuthError, OAuth1Credentials, UsageError
from engagement_async._engine.owner_signers import OwnerSigners

URL = "https://api.example/totals"


class Store:
    def __init__(self, **owners: Any) -> None:
        self.owners = owners
        self.calls: list[str] = []

    async def get(self, owner: str) -> Any:
        await asyncio.sleep(0)  # as one that reads a file
        self.calls.append(owner)
        return self.owners.get(owner)


def credentials(token: str) -> OAuth1Credentials:
    return OAuth1Credentials("key", "secret", token, "secret")


async def test_the_store_is_asked_once_for_each_owner() -> None:
    store = Store(a=credentials("a"), b=credentials("b"))
    signers = OwnerSigners(store)

    assert signers.known("a", URL) is None
    signer = await signers.get("a", URL)
    assert 'oauth_token="a"' in signer.authorization(0)
    assert signers.known("a", URL) is signer is await signers.get("a", URL)
    assert await signers.get("a", URL + "/other") is not signer
    await signers.get("b", URL)
    assert store.calls == ["a", "b"]


async def test_an_owner_whom_the_store_does_not_know_is_an_error() -> None:
    with pytest.raises(AuthError, match="has no credentials for it"):
        await OwnerSigners(Store()).get("a", URL)


async def test_after_a_refusal_the_store_is_asked_again() -> None:
    store = Store(a=credentials("old"))
    signers = OwnerSigners(store)
    first = await signers.get("a", URL)

    signers.renew("a", first)
    assert signers.known("a", URL) is None
    with pytest.raises(AuthError, match="no other credentials"):
        await signers.get("a", URL)
    store.owners["a"] = credentials("new")

    newer = await signers.get("a", URL)
    assert 'oauth_token="new"' in newer.authorization(0)
    signers.renew("a", first)  # by a call that heard of the refusal later
    assert signers.known("a", URL) is newer
    signers.renew("nobody", first)


async def test_credentials_that_were_refused_are_tried_again_by_a_later_call() -> None:
    store = Store(a=credentials("a"))
    signers = OwnerSigners(store)
    signers.renew("a", await signers.get("a", URL))
    with pytest.raises(AuthError, match="no other credentials"):
        await signers.get("a", URL)

    assert 'oauth_token="a"' in (await signers.get("a", URL)).authorization(0)
    assert signers.known("a", URL) is not None
    assert store.calls == ["a", "a", "a"]


async def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnerSigners, "KEPT", 2)
    store = Store(**{name: credentials(name) for name in "abc"})
    signers = OwnerSigners(store)

    for name in "abac":
        await signers.get(name, URL)

    assert signers.known("b", URL) is None
    assert signers.known("a", URL) is not None
    assert store.calls == ["a", "b", "c"]


async def test_what_the_store_gives_must_sign() -> None:
    with pytest.raises(UsageError, match="gave a str for owner 'a'"):
        await OwnerSigners(Store(a="token")).get("a", URL)


async def test_requests_that_ask_for_an_owner_at_the_same_time_sign_alike() -> None:
    signers = OwnerSigners(Store(a=credentials("a")))

    first, second = await asyncio.gather(signers.get("a", URL), signers.get("a", URL))

    assert first is second
    signers.renew("a", first)
    assert signers.known("a", URL) is None
