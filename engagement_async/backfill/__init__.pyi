from .codec import Outcomes as Outcomes
from .create import Reject as Reject
from .create import Started as Started
from .create import read_ids as read_ids
from .job import BackfillJob as BackfillJob
from .job import JobCorruptError as JobCorruptError
from .job import JobDiskError as JobDiskError
from .job import JobError as JobError
from .job import JobIncompleteError as JobIncompleteError
from .job import JobLockedError as JobLockedError
from .job import JobStatus as JobStatus
from .job import OtherJobError as OtherJobError
from .job import RunReport as RunReport
from .job_progress import Progress as Progress
from .journal import Tally as Tally

__all__ = [
    "BackfillJob",
    "JobCorruptError",
    "JobDiskError",
    "JobError",
    "JobIncompleteError",
    "JobLockedError",
    "JobStatus",
    "OtherJobError",
    "Outcomes",
    "Progress",
    "Reject",
    "RunReport",
    "Started",
    "Tally",
    "read_ids",
]
