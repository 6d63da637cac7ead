"""`engagement check`: are the credentials right, and the way to the API? One request, and what it says."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import click

from engagement_async import __version__
from engagement_async._core.endpoints import ENDPOINTS, Endpoint
from engagement_async._core.outcomes import BatchOutcomes
from engagement_async._core.parsing import ResponseParser
from engagement_async._core.query import Query
from engagement_async._core.rate_headers import RateHeaders
from engagement_async._core.refusals import RefusedIdsError
from engagement_async._engine.scheduler import LocalScheduler, Scheduler
from engagement_async._engine.transport import AiohttpTransport, Response
from engagement_async._ids.reading import why_not_an_id
from engagement_async.cli import options
from engagement_async.cli.app import Session
from engagement_async.cli.config import Auth, Settings
from engagement_async.cli.connection import Connection, connection_options
from engagement_async.cli.contract import Contract, scheduler_options
from engagement_async.cli.exit_codes import CREDENTIALS, INCOMPLETE, OK, exit_code_of
from engagement_async.cli.logs import log_options, logging_as
from engagement_async.cli.parameters import NAMED
from engagement_async.cli.report import Reporter
from engagement_async.cli.signals import run_async
from engagement_async.cli.streams import json_line, printable
from engagement_async.client import check_query
from engagement_async.config import SizeLimits, Timeouts, checked_base_url
from engagement_async.credentials import Credentials, OAuth1Credentials
from engagement_async.errors import (
    AccessRefusedError,
    AttemptError,
    EngagementError,
    NotSentError,
    ProxyError,
    RateLimitedError,
    UsageError,
)

__all__ = ["check"]

ANY_TWEET: Final = "1070059276213702656"
"""A public Tweet, that of the API's own examples. Which one is asked does not matter: a refusal of it says enough."""
SKEW_S = 30.0
_TIMEOUTS = Timeouts(connect_s=10.0, read_s=20.0, total_s=30.0)


@dataclass(slots=True)
class _Finding:
    """What one request came to."""

    error: EngagementError | None = None
    credentials: str = "unknown: no answer says"
    exit_code: int = OK
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    received_at: float = 0.0


@click.command()
@click.argument("endpoint", type=click.Choice(list(ENDPOINTS)), default="totals")
@click.option(
    "--id", "tweet_id", type=NAMED, default=ANY_TWEET, metavar="ID", help="Tweet to request. Default: a public one."
)
@options.contract_options
@scheduler_options
@connection_options
@click.option("--auth", type=click.Choice(["oauth1", "bearer"]), help="Which credentials to use if both are set.")
@log_options
@click.option("--json", "as_json", is_flag=True, help="Write what was found as one JSON object to stdout.")
@click.pass_obj
def check(
    session: Session,
    endpoint: str,
    tweet_id: str,
    requests_per_minute: int | None,
    period: float,
    limits: tuple[str, ...],
    scheduler: str | None,
    contract: str | None,
    allow_plaintext_redis: bool,
    base_url: str | None,
    auth: Auth | None,
    as_json: bool,
) -> int:
    """Check credentials, proxy, certificates and clock with one request to ENDPOINT (default: totals).

    \b
    engagement check
    engagement check 28hr --profile brand-a --json

    It counts as one request of the rate limit. Exit codes: 0 the API accepts the credentials, 2 configuration, proxy or
    certificate, 4 it refuses the credentials, 5 it does not answer.
    """
    reporter = Reporter.of(session, as_json=as_json, quiet=False)
    settings = Settings.load(os.environ, session.flags.get("profile"))
    credentials = settings.credentials(auth)
    connection = Connection.of(settings, session.flags, os.environ, base_url)
    if reason := why_not_an_id(tweet_id):
        raise UsageError(f"{tweet_id[:80]!r} {reason}")
    query = _query(ENDPOINTS[endpoint], credentials)
    known = bool(requests_per_minute or limits or settings.get("requests_per_minute") or settings.get("limits"))
    shared = None
    if known:
        shared = Contract.of(
            settings,
            settings.rate_limits(requests_per_minute, period, limits),
            credentials,
            connection.base_url,
            scheduler=scheduler,
            contract=contract,
            allow_plaintext_redis=allow_plaintext_redis,
        )
        shared.limits_of(endpoint)

    async def ask() -> _Finding:
        async with AsyncExitStack() as stack:
            given = {} if shared is None else await stack.enter_async_context(shared.opened())
            found = given.get("scheduler") or (LocalScheduler(given["rate_limit"]) if given else None)
            return await _ask(query, tweet_id, credentials, connection, found)

    with logging_as(session):
        found = run_async(ask)
    rows = _rows(settings, credentials, connection, found, None if shared is None else shared)
    if as_json:
        texts = {name.replace(" ", "_"): text for name, text in rows}
        numbers = {"seconds": round(found.seconds, 3), "clock_off_s": _clock_off_s(found), "exit_code": found.exit_code}
        click.echo(json_line({**texts, **numbers}))
    else:
        for name, text in rows:
            click.echo(printable(f"{name:<13}{text}"))
    if found.error is not None:
        reporter.warn(str(found.error)) if found.exit_code == OK else click.echo(
            printable(f"engagement: {found.error}"), err=True
        )
    return found.exit_code


def _query(endpoint: Endpoint, credentials: Credentials) -> Query:
    query = Query(endpoint, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id", "engagement.type"]})
    check_query(query, credentials)
    return query


async def _ask(
    query: Query, tweet_id: str, credentials: Credentials, connection: Connection, scheduler: Scheduler | None
) -> _Finding:
    """Send one request, and return what it came to. It is not sent again, whatever happens."""
    url = checked_base_url(connection.base_url, connection.allow_http_to).joinpath(query.endpoint.path.lstrip("/"))
    found = _Finding()
    token = None
    if scheduler is not None:
        token = await scheduler.acquire(scheduler.lane(query.endpoint.name))
    reach = connection.reach
    began_at = time.monotonic()

    def on_headers(status: int, headers: Mapping[str, str]) -> None:
        found.headers = {name.lower(): value for name, value in headers.items()}
        found.received_at = time.time()
        if scheduler is not None:
            scheduler.settle(token)

    headers = {
        "Accept-Encoding": "gzip",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": f"engagement-async/{__version__}",
        "Authorization": credentials.signer(str(url)).authorization(int(time.time())),
    }
    try:
        async with AiohttpTransport(
            timeouts=_TIMEOUTS, size_limits=SizeLimits(), tls=reach["tls"], proxy=reach["proxy"]
        ) as transport:
            response = await transport.post(url, headers, query.body((tweet_id,)), on_headers)
            found.seconds = time.monotonic() - began_at
            _judge(found, response, query, tweet_id)
    except (NotSentError, ProxyError) as error:
        if scheduler is not None:
            scheduler.refund(token)
        _note(found, error)
    except EngagementError as error:
        if scheduler is not None:
            scheduler.abandon(token, within_s=_TIMEOUTS.total_s)
        _note(found, error)
    return found


def _judge(found: _Finding, response: Response, query: Query, tweet_id: str) -> None:
    """Note what a response says of the credentials."""
    try:
        parsed = ResponseParser(query).parse(
            0, (tweet_id,), response.status, response.headers, response.body, may_lack=None
        )
    except RefusedIdsError as error:
        # A refusal of this Tweet: it belongs to somebody else, and the API knows who asks.
        found.credentials = f"accepted (HTTP {response.status}: {error})"
    except RateLimitedError as error:
        found.credentials, found.error = f"accepted, and the rate limit is used up (HTTP {response.status})", error
    except EngagementError as error:
        _note(found, error)
        if isinstance(error, AccessRefusedError):
            found.credentials = f"known, and refused by the API's rules (HTTP {response.status})"
    else:
        outcomes = BatchOutcomes.of(parsed.answer)
        where = "forbidden" if outcomes.forbidden else "unavailable" if outcomes.unavailable else "answered"
        found.credentials = f"accepted (HTTP {response.status}; the Tweet is {where})"


def _note(found: _Finding, error: EngagementError) -> None:
    found.error = error
    found.exit_code = INCOMPLETE if isinstance(error, AttemptError) else exit_code_of(error)
    if found.exit_code == CREDENTIALS:
        found.credentials = "refused"


def _rows(
    settings: Settings,
    credentials: Credentials,
    connection: Connection,
    found: _Finding,
    contract: Contract | None,
) -> list[tuple[str, str]]:
    kind = "OAuth 1.0a of an owner" if isinstance(credentials, OAuth1Credentials) else "Bearer token (public metrics)"
    via = f"{connection.proxy} ({connection.proxy_from})" if connection.proxy is not None else "none"
    authorities = os.environ.get("SSL_CERT_FILE", "").strip() or "the system's"
    rows = [
        ("settings", _source_of(settings)),
        ("address", connection.base_url),
        ("proxy", via),
        ("authorities", f"{authorities}{f' and {connection.ca_file}' if connection.ca_file else ''}"),
        ("signed with", kind),
        ("credentials", found.credentials),
        ("contract", ", ".join(map(_limit_text, contract.limits)) if contract is not None else "not set"),
    ]
    if found.headers:
        rows += [("answered in", f"{found.seconds:.2f} s"), ("clock", _clock_text(found))]
        rate = {name: value for name, value in found.headers.items() if _is_rate(name)}
        rows += [("rate headers", ", ".join(f"{name}: {value}" for name, value in rate.items()) or "none")]
    return rows


def _is_rate(name: str) -> bool:
    return name.startswith(("x-rate-limit", "x-per-minute", "x-per-second", "retry-after"))


def _limit_text(limit: Any) -> str:
    of = f" of {limit.endpoint}" if limit.endpoint else ""
    return f"{limit.requests:,} requests in {limit.period:g} s{of}"


def _clock_off_s(found: _Finding) -> float | None:
    """Return how many seconds this machine is ahead of the API, to a second; None if no answer says."""
    date = RateHeaders.from_headers(found.headers).date
    return None if date is None else round(found.received_at - date.timestamp(), 1)


def _clock_text(found: _Finding) -> str:
    off_s = _clock_off_s(found)
    if off_s is None:
        return "unknown: the answer has no Date"
    if abs(off_s) <= SKEW_S:
        return "right, to half a minute"
    return f"{abs(off_s):,.0f} s {'ahead of' if off_s > 0 else 'behind'} the API's: set this machine's time"


def _source_of(settings: Settings) -> str:
    if not settings.path.exists():
        return f"the environment (there is no {settings.path})"
    return f"{settings.path}{f', profile {settings.profile}' if settings.profile else ''}"
