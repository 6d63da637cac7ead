from .create import StartResult as StartResult
from .directory import JobStatus as JobStatus
from .directory import RunReport as RunReport
from .exporter import Exported as Exported
from .inputs import InputReport as InputReport
from .inputs import Reject as Reject
from .inputs import read_ids as read_ids
from .job import BackfillJob as BackfillJob
from .job import JobCorruptError as JobCorruptError
from .job import JobDiskError as JobDiskError
from .job import JobError as JobError
from .job import JobIncompleteError as JobIncompleteError
from .job import JobLockedError as JobLockedError
from .job import OtherJobError as OtherJobError
from .job import Outcomes as Outcomes
from .job import Progress as Progress
from .job import RunOutcome as RunOutcome
from .owners import OwnerStatus as OwnerStatus
from .status import JobState as JobState
from .totals import JobTotals as JobTotals

__all__ = [
    "BackfillJob",
    "Exported",
    "InputReport",
    "JobCorruptError",
    "JobDiskError",
    "JobError",
    "JobIncompleteError",
    "JobLockedError",
    "JobState",
    "JobStatus",
    "JobTotals",
    "OtherJobError",
    "Outcomes",
    "OwnerStatus",
    "Progress",
    "Reject",
    "RunOutcome",
    "RunReport",
    "StartResult",
    "read_ids",
]
