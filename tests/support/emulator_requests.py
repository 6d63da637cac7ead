"""How the emulator's tests send requests: plain aiohttp, signatures of oauthlib, a reader that trusts nothing.

No code of the client is used.
"""

from __future__ import annotations

import zlib
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from oauthlib.oauth1 import Client
from oauthlib.oauth1.rfc5849 import signature

from engagement_async.emulator import Emulator, EmulatorCredentials, tweet_ids

NOW = 1_795_300_000.0  # 2026-11-21T22:26:40Z
IDS = tweet_ids(10, seed=1, newest_at=NOW - 3600, oldest_at=NOW - 20 * 3600)
BY_TWEET = {"by_tweet": ["tweet.id", "engagement.type"]}
HOURLY = {"hourly": ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]}


class BrokenError(Exception):
    """The answer must not be believed."""


def make_emulator(requests_per_minute: int | None = 300, **options: Any) -> Emulator:
    """Return an emulator whose world stands still at `NOW`, whatever the day of the machine."""
    return Emulator(requests_per_minute, **{"now": lambda: NOW} | options)


def sign(url: str, credentials: EmulatorCredentials, *, body: str | None = None, **changes: Any) -> str:
    """Return an OAuth 1.0a Authorization header made by oauthlib.

    `body`: a form that is part of the signature; `changes`: other arguments of oauthlib's client.
    """
    arguments: dict[str, Any] = {
        "client_key": credentials.consumer_key,
        "client_secret": credentials.consumer_secret,
        "resource_owner_key": credentials.access_token,
        "resource_owner_secret": credentials.access_token_secret,
    } | changes
    form = None if body is None else {"Content-Type": "application/x-www-form-urlencoded"}
    header: str = Client(**arguments).sign(url, "POST", body, form)[1]["Authorization"]
    return header


def sign_by_hand(url: str, credentials: EmulatorCredentials, *, token_secret: str = "", **parameters: str) -> str:
    """Return a header with exactly these `oauth_` parameters (without the prefix) and what every header needs.

    For what oauthlib's client does not write; the signature is oauthlib's all the same.
    """
    oauth = {
        "oauth_consumer_key": credentials.consumer_key,
        "oauth_signature_method": "HMAC-SHA1",
        **{f"oauth_{name}": value for name, value in parameters.items()},
    }
    normalized = signature.normalize_parameters(list(oauth.items()))  # type: ignore[arg-type]  # it wants the pairs
    base = signature.signature_base_string("POST", url, normalized)
    client = Client(credentials.consumer_key, credentials.consumer_secret, resource_owner_secret=token_secret)
    oauth["oauth_signature"] = signature.sign_hmac_sha1_with_client(base, client)
    return "OAuth " + ", ".join(f'{name}="{quote(value, safe="")}"' for name, value in oauth.items())


def request_body(
    tweet_ids: list[str], types: list[str], groupings: dict[str, list[str]], **more: Any
) -> dict[str, Any]:
    """Return the JSON object of a request."""
    named = {name: {"group_by": values} for name, values in groupings.items()}
    return {"tweet_ids": tweet_ids, "engagement_types": types, "groupings": named, **more}


async def send(
    session: aiohttp.ClientSession,
    emulator: Emulator,
    endpoint: str,
    body: Any,
    *,
    bearer: bool = False,
    headers: dict[str, str] | None = None,
    method: str = "POST",
) -> tuple[int, Any, dict[str, str]]:
    """Send one request; return status, JSON and headers (in lower case) of its answer."""
    url = f"{emulator.base_url}/insights/engagement/{endpoint}"
    authorization = f"Bearer {emulator.bearer_token}" if bearer else sign(url, emulator.credentials)
    sent = {"Authorization": authorization, "Content-Type": "application/json"} | (headers or {})
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    async with session.request(method, url, data=data, headers=sent, allow_redirects=False) as response:
        content = await response.read()
        received = {name.lower(): value for name, value in response.headers.items()}
        return response.status, orjson.loads(content) if content else None, received


async def read_strictly(response: aiohttp.ClientResponse, *, at_most: int = 1 << 20) -> Any:
    """Return the JSON of a 200 whose body is proved whole. Its session must have `auto_decompress=False`."""
    if response.status != 200:
        raise BrokenError(f"status {response.status}")
    data = b""
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > at_most:
            raise BrokenError("too long")
    encoding = response.headers.get("Content-Encoding")
    if encoding == "gzip":
        data = _gunzip(data, at_most)
    elif encoding is not None:
        raise BrokenError(f"encoding {encoding}")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BrokenError("not JSON") from error


def _gunzip(data: bytes, at_most: int) -> bytes:
    whole = b""
    while data:
        member = zlib.decompressobj(31)
        try:
            whole += member.decompress(data, at_most)
        except zlib.error as error:
            raise BrokenError(str(error)) from error
        if member.unconsumed_tail:
            raise BrokenError("a bomb")
        if not member.eof:
            raise BrokenError("cut")
        data = member.unused_data
    return whole
