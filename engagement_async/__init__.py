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

from engagement_async.answers import Answer, Window
from engagement_async.chunker import Batch
from engagement_async.client import EngagementClient, Status
from engagement_async.credentials import BearerCredentials, Credentials, OAuth1Credentials
from engagement_async.endpoints import HISTORICAL, LAST_28_HOURS, TOTALS, Endpoint
from engagement_async.engine import AnswerStream
from engagement_async.errors import (
    AnswerError,
    AttemptError,
    AttemptTimeoutError,
    AuthError,
    BodyError,
    DisconnectedError,
    EngagementError,
    NotSentError,
    RateLimitedError,
    RequestRefusedError,
    ServerError,
    ServerRefusedError,
    StatusError,
    UsageError,
)
from engagement_async.ledger import RateLimit
from engagement_async.merger import Merger
from engagement_async.query import Query
from engagement_async.result import EngagementResult
from engagement_async.scheduler import LocalScheduler, Scheduler
from engagement_async.transport import Caps, Timeouts

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
