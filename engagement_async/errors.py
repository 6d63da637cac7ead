"""The error tree. It is at the bottom of the package: this file imports nothing else of it.

    EngagementError
    ├── UsageError (also a ValueError)      the request breaks a documented rule; nothing was sent
    ├── APIError                            the API answered with an error; carries its status and its own texts
    │   ├── AuthError                       the credentials were refused (401); the run stopped
    │   ├── AccessRefusedError              the API refuses this account, whatever the request (402, 403)
    │   ├── RequestRefusedError             the API refuses the request itself, whatever the IDs; the run stopped
    │   ├── ServerRefusedError              404, 406, redirect, certificate: address or set-up is wrong; the run stopped
    │   └── RateLimitedError                429; the contract is held, and the run stops only if that does not end
    ├── ProxyError                          the proxy refuses (407, 403, ...); nothing was sent, and the run stopped
    ├── FailedTweetsError                   what `raise_for_failed` raises: some IDs of a result failed
    ├── AttemptError                        one attempt gave no usable answer; the engine tries again
    │   ├── NotSentError                    it provably never left (DNS, connect, TLS): costs nothing of the contract
    │   ├── DisconnectedError               the connection broke; the request may have arrived
    │   ├── AttemptTimeoutError             no answer in time; the request may have arrived
    │   ├── BodyError                       cut, corrupt, too large, of an unknown encoding
    │   ├── InvalidAnswerError (also an APIError)  whole, but not an answer: not JSON, or of a wrong shape
    │   └── ServerError (also an APIError)  500, 502, 503, 504, 408, or their text beside a 200
    ├── JobError                            what may be wrong with a job's folder
    │   ├── JobLockedError                  another process runs this job
    │   ├── OtherJobError                   the folder, its query or its IDs are not those of this job
    │   ├── JobCorruptError                 a checksum, or SQLite itself, says that the journal is damaged
    │   ├── JobDiskError                    full, read-only or failing disk; the job can go on once that is fixed
    │   └── JobIncompleteError              IDs are still to be asked
    └── SeriesError                         what may be wrong with the store of a series
        ├── SeriesLockedError               another pull is at work on it, or another program has it open
        ├── OtherSeriesError                the file is no such store, or its metrics are others
        └── SeriesCorruptError              DuckDB cannot read it

Catch them all with::

    try:
        result = await client.totals(...)
    except EngagementError as error:
        ...

No error of this tree holds a header or a secret.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "APIError",
    "AccessRefusedError",
    "AttemptError",
    "AttemptTimeoutError",
    "AuthError",
    "BodyError",
    "DisconnectedError",
    "EngagementError",
    "FailedTweetsError",
    "InvalidAnswerError",
    "JobCorruptError",
    "JobDiskError",
    "JobError",
    "JobIncompleteError",
    "JobLockedError",
    "NotSentError",
    "OtherJobError",
    "OtherSeriesError",
    "ProxyError",
    "RateLimitedError",
    "RequestRefusedError",
    "SeriesCorruptError",
    "SeriesError",
    "SeriesLockedError",
    "ServerError",
    "ServerRefusedError",
    "UsageError",
]


class EngagementError(Exception):
    """Base of every error that this package raises on purpose."""


class UsageError(EngagementError, ValueError):
    """The call breaks a documented rule. Raised before any request; states the rule, the value and the fix."""


class APIError(EngagementError):
    """Base of errors that carry what the API responded.

    Args:
        message: What went wrong, for people.
        status: The HTTP status, or None if there was no response.
        texts: The messages in the response's `errors` array.
    """

    def __init__(self, message: str, *, status: int | None = None, texts: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.texts = texts


class AuthError(APIError):
    """The credentials were refused (401). The run stopped."""


class AccessRefusedError(APIError):
    """The API refuses this application or account, whatever the request: the access level does not allow it, credits are
    used up, it is suspended, or a proxy or firewall refuses (a 400 or 403 that is not JSON). Carries the API's message.
    """


class RequestRefusedError(APIError):
    """The API refuses the request itself (400, 403), whatever its IDs. The run stopped."""


class ServerRefusedError(APIError):
    """The address or the set-up is wrong (404, 406, 3xx, a bad certificate). The run stopped."""


class RateLimitedError(APIError):
    """429, or "rate limit" in a response's `errors`. Raised only if it does not end within the outage timeout."""


class ProxyError(EngagementError):
    """The proxy refuses to connect to the API, whatever the request: other credentials are wanted (407), or its rules forbid
    the address (403). It never reached the API. The run stopped.

    Args:
        message: What went wrong, for people.
        status: The proxy's HTTP status.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class FailedTweetsError(EngagementError):
    """Some IDs of a result failed. Raised by `EngagementResult.raise_for_failed` alone.

    Args:
        message: How many failed, and why, for people.
        failed_tweet_ids: ID to the reason, a `Failure` with its kind.
    """

    def __init__(self, message: str, failed_tweet_ids: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.failed_tweet_ids = dict(failed_tweet_ids or {})


class AttemptError(EngagementError):
    """One attempt gave no usable answer, and another one may. Callers see it only as the reason of a failed ID."""


class NotSentError(AttemptError):
    """The request provably never left this machine: DNS, connecting, or the TLS handshake failed."""


class DisconnectedError(AttemptError):
    """The connection broke after the request may have left."""


class AttemptTimeoutError(AttemptError):
    """No answer in time; the request may have arrived."""


class BodyError(AttemptError):
    """The body was cut, corrupt, too large, or in an encoding that was not requested."""


class InvalidAnswerError(AttemptError, APIError):
    """The body was complete, but is not an answer: not JSON, or JSON of the wrong structure."""


class ServerError(AttemptError, APIError):
    """The API failed: 500, 502, 503, 504, 408, or their text beside a 200."""


class JobError(EngagementError):
    """Base of every error about a job directory."""


class JobLockedError(JobError):
    """Another process runs this job."""


class OtherJobError(JobError):
    """The directory holds something else, or a job of another query, other IDs, or another version of the journal."""


class JobCorruptError(JobError):
    """The journal is damaged: a checksum differs, or SQLite cannot read it."""


class JobDiskError(JobError):
    """The disk is full, read-only or failing. What was committed is safe; the job can be resumed once that is fixed."""


class JobIncompleteError(JobError):
    """IDs are still pending: run the job again."""


class SeriesError(EngagementError):
    """Base of every error about the store of a series."""


class SeriesLockedError(SeriesError):
    """Another pull or fill is at work on the store, or another program has it open."""


class OtherSeriesError(SeriesError):
    """The file is something else, a store of a later version, or of a series with other metrics, or with owners where these
    Tweets have none.
    """


class SeriesCorruptError(SeriesError):
    """DuckDB cannot read the store."""
