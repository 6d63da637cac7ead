from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from engagement_async import BearerCredentials, CredentialFile, CredentialStore, OAuth1Credentials, UsageError
from engagement_async.credential_store import as_store, is_private

CANARY = "canary-of-a-secret"
ONE = OAuth1Credentials("key", "secret", "token-1", CANARY)
CSV = f"owner,access_token,access_token_secret\nacme,token-1,{CANARY}\n"


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("o.csv", CSV),
        ("o.csv", "\ufeff" + CSV),
        ("o.csv", f"access_token_secret, owner, note, access_token\n{CANARY}, acme , x, token-1\n"),
        (
            "o.csv",
            f"owner,access_token,access_token_secret,consumer_key,consumer_secret\nacme,token-1,{CANARY},key,secret\n",
        ),
        ("o.jsonl", f'{{"owner":"acme","access_token":"token-1","access_token_secret":"{CANARY}"}}\n\n'),
        ("o.ndjson", f'{{"owner":"acme","access_token":"token-1","access_token_secret":"{CANARY}"}}'),
        ("o.toml", f'[acme]\naccess_token = "token-1"\naccess_token_secret = "{CANARY}"\n'),
    ],
)
async def test_a_file_has_the_credentials_of_owners(tmp_path: Path, name: str, text: str) -> None:
    store = CredentialFile(written(tmp_path / name, text), consumer_key="key", consumer_secret="secret")

    assert await store.get("acme") == ONE
    assert await store.get("nobody") is None
    assert await asyncio.to_thread(store.owners) == ["acme"]
    assert await asyncio.to_thread(store.fingerprint, b"k") == ONE.fingerprint(b"k")
    assert isinstance(store, CredentialStore)
    assert CANARY not in repr(store) + repr(vars(store))


async def test_a_file_is_read_again_when_it_changed(tmp_path: Path) -> None:
    path = written(tmp_path / "o.csv", CSV)
    store = CredentialFile(path, consumer_key="key", consumer_secret="secret")
    assert await store.get("other") is None

    new = written(tmp_path / "new.csv", CSV + "other,token-2,s\n")
    os.replace(new, path)

    assert await store.get("other") == OAuth1Credentials("key", "secret", "token-2", "s")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("o.csv", "owner,access_token\nacme,t\n", "line 1: no `access_token_secret`: the first line names"),
        ("o.csv", CSV + f"acme,token-2,{CANARY}\n", "line 3: owner 'acme' is there twice"),
        ("o.csv", f"owner,access_token,access_token_secret\n,t,{CANARY}\n", "line 2: no owner"),
        ("o.csv", f"name,access_token,access_token_secret\nacme,t,{CANARY}\n", "line 1: no `owner`: the first line"),
        ("o.csv", f"acme,t,{CANARY}\n", "line 1: no `owner` and no `access_token` and no `access_token_secret`"),
        (
            "o.csv",
            "owner;access_token;access_token_secret\nacme;t;s\n",
            "with commas between them: owner,access_token,",
        ),
        ("o.csv", "owner,access_token,access_token_secret\nacme,t,\n", "line 2: no access_token_secret"),
        ("o.csv", f"owner,access_token,access_token_secret\nacme,t,{CANARY},more\n", "line 2: more cells"),
        ("o.csv", f'owner,access_token,access_token_secret\n"acme"x,t,{CANARY}\n', "this is no CSV"),
        ("o.csv", f"owner,access_token,access_token_secret\nacme,t,{CANARY}\x07\n", "line 2: access_token_secret has"),
        ("o.jsonl", f'{{"owner":"acme","access_token":"{CANARY}"\n', "line 1: this is no JSON"),
        ("o.jsonl", f'["{CANARY}"]\n', "line 1: this is no JSON object"),
        ("o.jsonl", f'{{"owner":7,"access_token":"{CANARY}"}}\n', "line 1: no owner"),
        ("o.toml", f'access_token = "{CANARY}"\n', "'access_token' is no table"),
        ("o.toml", f"[acme]\naccess_token = {CANARY}\n", "is no TOML"),
    ],
)
async def test_a_broken_file_is_named_and_its_secrets_are_not(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    store = CredentialFile(written(tmp_path / name, text), consumer_key="key", consumer_secret="secret")

    with pytest.raises(UsageError, match=message) as caught:
        await store.get("acme")

    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None or CANARY not in repr(caught.value.__cause__)


async def test_a_file_without_a_consumer_pair_says_where_to_give_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no consumer_key and no consumer_secret: give them to CredentialFile"):
        await CredentialFile(written(tmp_path / "o.csv", CSV)).get("acme")


async def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        await CredentialFile(tmp_path / "o.csv").get("acme")


@pytest.mark.parametrize(
    ("mode", "owner", "private"),
    [
        (0o600, 1000, True),
        (0o400, 1000, True),
        (0o640, 1000, False),
        (0o604, 1000, False),
        (0o644, 0, True),  # Kubernetes
        (0o444, 0, True),  # Docker
        (0o440, 0, True),  # fsGroup
        (0o664, 0, False),
        (0o646, 0, False),
    ],
)
def test_root_may_give_secrets_out(mode: int, owner: int, private: bool) -> None:
    assert is_private(mode, owner) is private


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
async def test_a_file_that_others_may_read_is_refused_unless_root_gave_it_out(
    tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "o.csv", CSV, mode)
    store = CredentialFile(path, consumer_key="key", consumer_secret="secret")
    stat = os.stat(path)

    for uid in (1_000, 0):
        values = list(stat)
        values[4] = uid
        monkeypatch.setattr(os, "fstat", lambda _, values=values: os.stat_result(values))
        if uid or mode & 0o022:
            with pytest.raises(UsageError, match="others can read or write it: chmod 600"):
                await store.get("acme")
        else:
            assert await store.get("acme") == ONE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({}, "neither .csv, .jsonl nor .toml"), ({"path": "o.csv", "consumer_key": "k"}, "go together")],
)
def test_what_no_file_can_be_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CredentialFile(**{"path": "o.txt", **arguments})


async def test_mappings_and_functions_are_stores() -> None:
    async def look_up(owner: str) -> OAuth1Credentials | None:
        return ONE if owner == "acme" else None

    for given in ({"acme": ONE}, {"acme": ONE}.get, look_up):
        store = as_store(given)
        assert store is not None
        assert await store.get("acme") == ONE
        assert await store.get("nobody") is None


@pytest.mark.parametrize("given", [ONE, BearerCredentials("t"), None, 5, "key", OAuth1Credentials])
def test_one_owner_s_credentials_are_no_store(given: object) -> None:
    assert as_store(given) is None
