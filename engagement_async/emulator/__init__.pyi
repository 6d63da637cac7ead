from .auth import Credentials as Credentials
from .faults import FAULTS as FAULTS
from .faults import Fault as Fault
from .faults import FaultSettings as FaultSettings
from .faults import random_faults as random_faults
from .log import Entry as Entry
from .log import RequestLog as RequestLog
from .metrics import tweet_ids as tweet_ids
from .replies import Readings as Readings
from .replies import World as World
from .request_rules import Refusal as Refusal
from .server import Emulator as Emulator

__all__ = [
    "FAULTS",
    "Credentials",
    "Emulator",
    "Entry",
    "Fault",
    "FaultSettings",
    "Readings",
    "Refusal",
    "RequestLog",
    "World",
    "random_faults",
    "tweet_ids",
]
