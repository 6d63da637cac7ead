"""Async engine for X's enterprise Engagement API.

IDs of any number go in, one accounted-for grouped result comes out, and the contract is never exceeded::

    from engagement_async import EngagementClient, OAuth1Credentials, RateLimit

    async with EngagementClient(OAuth1Credentials(...), rate_limit=RateLimit(300, period=60)) as client:
        result = await client.totals(
            tweet_ids,
            engagement_types=["favorites", "replies"],
            groupings={"by_tweet": ["tweet.id", "engagement.type"]},
        )
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engagement_async.answers import Answer as Answer
    from engagement_async.answers import Window as Window
    from engagement_async.chunker import Batch as Batch
    from engagement_async.client import EngagementClient as EngagementClient
    from engagement_async.client import Status as Status
    from engagement_async.credentials import BearerCredentials as BearerCredentials
    from engagement_async.credentials import Credentials as Credentials
    from engagement_async.credentials import OAuth1Credentials as OAuth1Credentials
    from engagement_async.endpoints import HISTORICAL as HISTORICAL
    from engagement_async.endpoints import LAST_28_HOURS as LAST_28_HOURS
    from engagement_async.endpoints import TOTALS as TOTALS
    from engagement_async.endpoints import Endpoint as Endpoint
    from engagement_async.engine import AnswerStream as AnswerStream
    from engagement_async.errors import AnswerError as AnswerError
    from engagement_async.errors import AttemptError as AttemptError
    from engagement_async.errors import AttemptTimeoutError as AttemptTimeoutError
    from engagement_async.errors import AuthError as AuthError
    from engagement_async.errors import BodyError as BodyError
    from engagement_async.errors import DisconnectedError as DisconnectedError
    from engagement_async.errors import EngagementError as EngagementError
    from engagement_async.errors import NotSentError as NotSentError
    from engagement_async.errors import RateLimitedError as RateLimitedError
    from engagement_async.errors import RequestRefusedError as RequestRefusedError
    from engagement_async.errors import ServerError as ServerError
    from engagement_async.errors import ServerRefusedError as ServerRefusedError
    from engagement_async.errors import StatusError as StatusError
    from engagement_async.errors import UsageError as UsageError
    from engagement_async.ledger import RateLimit as RateLimit
    from engagement_async.merger import Merger as Merger
    from engagement_async.query import Query as Query
    from engagement_async.result import EngagementResult as EngagementResult
    from engagement_async.scheduler import LocalScheduler as LocalScheduler
    from engagement_async.scheduler import Scheduler as Scheduler
    from engagement_async.transport import Caps as Caps
    from engagement_async.transport import Timeouts as Timeouts

__version__ = "0.1.0"

# Loaded when first used: pytest imports this package for its plugin, and the command line for one of its commands.
_HOMES = {
    "HISTORICAL": "endpoints",
    "LAST_28_HOURS": "endpoints",
    "TOTALS": "endpoints",
    "Answer": "answers",
    "AnswerError": "errors",
    "AnswerStream": "engine",
    "AttemptError": "errors",
    "AttemptTimeoutError": "errors",
    "AuthError": "errors",
    "Batch": "chunker",
    "BearerCredentials": "credentials",
    "BodyError": "errors",
    "Caps": "transport",
    "Credentials": "credentials",
    "DisconnectedError": "errors",
    "Endpoint": "endpoints",
    "EngagementClient": "client",
    "EngagementError": "errors",
    "EngagementResult": "result",
    "LocalScheduler": "scheduler",
    "Merger": "merger",
    "NotSentError": "errors",
    "OAuth1Credentials": "credentials",
    "Query": "query",
    "RateLimit": "ledger",
    "RateLimitedError": "errors",
    "RequestRefusedError": "errors",
    "Scheduler": "scheduler",
    "ServerError": "errors",
    "ServerRefusedError": "errors",
    "Status": "client",
    "StatusError": "errors",
    "Timeouts": "transport",
    "UsageError": "errors",
    "Window": "answers",
}

__all__ = [
    "HISTORICAL",
    "LAST_28_HOURS",
    "TOTALS",
    "Answer",
    "AnswerError",
    "AnswerStream",
    "AttemptError",
    "AttemptTimeoutError",
    "AuthError",
    "Batch",
    "BearerCredentials",
    "BodyError",
    "Caps",
    "Credentials",
    "DisconnectedError",
    "Endpoint",
    "EngagementClient",
    "EngagementError",
    "EngagementResult",
    "LocalScheduler",
    "Merger",
    "NotSentError",
    "OAuth1Credentials",
    "Query",
    "RateLimit",
    "RateLimitedError",
    "RequestRefusedError",
    "Scheduler",
    "ServerError",
    "ServerRefusedError",
    "Status",
    "StatusError",
    "Timeouts",
    "UsageError",
    "Window",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
