"""The error tree. It lies at the bottom: this file imports nothing of ours.

    EngagementError
    ├── UsageError (also a ValueError)   the request breaks a documented rule; nothing was sent
    ├── APIError                         the API answered with an error; carries its status and its own texts
    │   ├── AuthError                    the credentials were refused (401); the run stopped
    │   ├── AccessRefusedError           the API refuses this account, whatever the request (402, 403); the run stopped
    │   ├── RequestRefusedError          the API refuses the request itself, whatever the IDs; the run stopped
    │   ├── ServerRefusedError           404, 406, redirect, certificate: address or set-up is wrong; the run stopped
    │   ├── RateLimitedError             429; the contract is held, and the run stops only if that does not end
    │   ├── ServerError                  500, 502, 503, 504, 408, or their text beside a 200 (also an AttemptError)
    │   └── InvalidAnswerError           whole, but not an answer: not JSON, or of a wrong shape (also an AttemptError)
    ├── AttemptError                     one attempt gave no usable answer; the engine tries again
    │   ├── NotSentError                 it provably never left (DNS, connect, TLS): costs nothing of the contract
    │   ├── DisconnectedError            the connection broke; the request may have arrived
    │   ├── AttemptTimeoutError          no answer in time; the request may have arrived
    │   └── BodyError                    cut, corrupt, too large, of an unknown encoding
    └── JobError                         what may be wrong with a job's folder
        ├── JobLockedError               another process runs this job
        ├── OtherJobError                the folder, its query or its IDs are not those of this job
        ├── JobCorruptError              a checksum, or SQLite itself, says that the journal is damaged
        ├── JobDiskError                 full, read-only or failing disk; the job can go on once that is fixed
        └── JobIncompleteError           IDs are still to be asked

Catch them all with::

    try:
        result = await client.totals(...)
    except EngagementError as error:
        ...

No error of this tree holds a header or a secret.
"""

from __future__ import annotations

__all__ = [
    "APIError",
    "AccessRefusedError",
    "AttemptError",
    "AttemptTimeoutError",
    "AuthError",
    "BodyError",
    "DisconnectedError",
    "EngagementError",
    "InvalidAnswerError",
    "JobCorruptError",
    "JobDiskError",
    "JobError",
    "JobIncompleteError",
    "JobLockedError",
    "NotSentError",
    "OtherJobError",
    "RateLimitedError",
    "RequestRefusedError",
    "ServerError",
    "ServerRefusedError",
    "UsageError",
]


class EngagementError(Exception):
    """The base of every error that this package raises on purpose."""


class UsageError(EngagementError, ValueError):
    """A documented rule is broken by what the caller gave. Raised before any request; names the rule and the mend."""


class APIError(EngagementError):
    """The API answered with an error. Carries the evidence: the HTTP `status`, and the API's own `texts`."""

    def __init__(self, message: str, *, status: int | None = None, texts: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.texts = texts


class AuthError(APIError):
    """The credentials were refused (401). Nothing more was sent."""


class AccessRefusedError(APIError):
    """The API refuses this application or account, whatever the request: no access level, credits used up, suspended, or
    a 400 or 403 that is no JSON, as proxies and firewalls write it. The message has the API's own words."""


class RequestRefusedError(APIError):
    """The API refuses the request itself (400, 403), whatever the IDs. Nothing more was sent."""


class ServerRefusedError(APIError):
    """The address or the set-up is wrong (404, 406, 3xx, a bad certificate). Nothing more was sent."""


class RateLimitedError(APIError):
    """429, or "rate limit" in an answer's `errors`. Raised only if it does not end within the outage timeout."""


class AttemptError(EngagementError):
    """One attempt gave no usable answer, and another may. Seen by callers only as the reason of a failed ID."""


class NotSentError(AttemptError):
    """The request provably never left this machine: DNS, connect, or the TLS handshake failed."""


class DisconnectedError(AttemptError):
    """The connection broke after the request may have left."""


class AttemptTimeoutError(AttemptError):
    """No answer in time; the request may have arrived."""


class BodyError(AttemptError):
    """The body was cut, corrupt, too large, or of an encoding that was not asked for."""


class InvalidAnswerError(AttemptError, APIError):
    """The body was whole, but is no answer: not JSON, or JSON of a wrong shape."""


class ServerError(AttemptError, APIError):
    """The API failed: 500, 502, 503, 504, 408, or their text beside a 200."""


class JobError(EngagementError):
    """The base of every error about a job's folder."""


class JobLockedError(JobError):
    """Another process runs this job."""


class OtherJobError(JobError):
    """The folder holds something else, or a job of another query, of other IDs or of another version of the journal."""


class JobCorruptError(JobError):
    """The journal is damaged: nothing in it is to be trusted unseen."""


class JobDiskError(JobError):
    """The disk is full, read-only or failing. What was committed is safe; the job goes on once that is mended."""


class JobIncompleteError(JobError):
    """IDs are still to be asked: run the job again."""
