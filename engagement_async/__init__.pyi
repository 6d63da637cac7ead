from ._core.answer import Answer as Answer
from ._core.answer import Window as Window
from ._core.batches import Batch as Batch
from ._core.columnar import ColumnarAnswer as ColumnarAnswer
from ._core.endpoints import HISTORICAL as HISTORICAL
from ._core.endpoints import LAST_28_HOURS as LAST_28_HOURS
from ._core.endpoints import TOTALS as TOTALS
from ._core.endpoints import Endpoint as Endpoint
from ._core.merging import Merger as Merger
from ._core.outcomes import Failure as Failure
from ._core.outcomes import FailureKind as FailureKind
from ._core.outcomes import OwnerResult as OwnerResult
from ._core.owned_batches import TweetsByOwner as TweetsByOwner
from ._core.query import Query as Query
from ._core.rate_limit import RateLimit as RateLimit
from ._core.result import EngagementResult as EngagementResult
from ._engine.scheduler import LocalScheduler as LocalScheduler
from ._engine.scheduler import Scheduler as Scheduler
from ._engine.stream import AnswerStream as AnswerStream
from ._engine.stream import ColumnarStream as ColumnarStream
from ._progress import CallProgress as CallProgress
from ._progress import WaitReason as WaitReason
from .client import ClientStatus as ClientStatus
from .client import EngagementClient as EngagementClient
from .config import SizeLimits as SizeLimits
from .config import Timeouts as Timeouts
from .credential_store import CredentialFile as CredentialFile
from .credential_store import CredentialStore as CredentialStore
from .credentials import BearerCredentials as BearerCredentials
from .credentials import Credentials as Credentials
from .credentials import OAuth1Credentials as OAuth1Credentials
from .distributed.arrow_fetcher import ArrowFetcher as ArrowFetcher
from .distributed.environment import EnvironmentCredentials as EnvironmentCredentials
from .errors import AccessRefusedError as AccessRefusedError
from .errors import APIError as APIError
from .errors import AttemptError as AttemptError
from .errors import AttemptTimeoutError as AttemptTimeoutError
from .errors import AuthError as AuthError
from .errors import BodyError as BodyError
from .errors import DisconnectedError as DisconnectedError
from .errors import EngagementError as EngagementError
from .errors import FailedTweetsError as FailedTweetsError
from .errors import InvalidAnswerError as InvalidAnswerError
from .errors import JobCorruptError as JobCorruptError
from .errors import JobDiskError as JobDiskError
from .errors import JobError as JobError
from .errors import JobIncompleteError as JobIncompleteError
from .errors import JobLockedError as JobLockedError
from .errors import NotSentError as NotSentError
from .errors import OtherJobError as OtherJobError
from .errors import OtherSeriesError as OtherSeriesError
from .errors import ProxyError as ProxyError
from .errors import RateLimitedError as RateLimitedError
from .errors import RequestRefusedError as RequestRefusedError
from .errors import SeriesCorruptError as SeriesCorruptError
from .errors import SeriesError as SeriesError
from .errors import SeriesLockedError as SeriesLockedError
from .errors import ServerError as ServerError
from .errors import ServerRefusedError as ServerRefusedError
from .errors import UsageError as UsageError
from .proxy import Proxy as Proxy

__all__ = [
    "HISTORICAL",
    "LAST_28_HOURS",
    "TOTALS",
    "APIError",
    "AccessRefusedError",
    "Answer",
    "AnswerStream",
    "ArrowFetcher",
    "AttemptError",
    "AttemptTimeoutError",
    "AuthError",
    "Batch",
    "BearerCredentials",
    "BodyError",
    "CallProgress",
    "ClientStatus",
    "ColumnarAnswer",
    "ColumnarStream",
    "CredentialFile",
    "CredentialStore",
    "Credentials",
    "DisconnectedError",
    "Endpoint",
    "EngagementClient",
    "EngagementError",
    "EngagementResult",
    "EnvironmentCredentials",
    "FailedTweetsError",
    "Failure",
    "FailureKind",
    "InvalidAnswerError",
    "JobCorruptError",
    "JobDiskError",
    "JobError",
    "JobIncompleteError",
    "JobLockedError",
    "LocalScheduler",
    "Merger",
    "NotSentError",
    "OAuth1Credentials",
    "OtherJobError",
    "OtherSeriesError",
    "OwnerResult",
    "Proxy",
    "ProxyError",
    "Query",
    "RateLimit",
    "RateLimitedError",
    "RequestRefusedError",
    "Scheduler",
    "SeriesCorruptError",
    "SeriesError",
    "SeriesLockedError",
    "ServerError",
    "ServerRefusedError",
    "SizeLimits",
    "Timeouts",
    "TweetsByOwner",
    "UsageError",
    "WaitReason",
    "Window",
]
__version__: str
