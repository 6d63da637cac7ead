from .faults import FAULTS as FAULTS
from .faults import Fault as Fault
from .faults import FaultKind as FaultKind
from .faults import FaultSettings as FaultSettings
from .faults import Reaction as Reaction
from .faults import Requires as Requires
from .faults import random_faults as random_faults
from .interpretation import INTERPRETATIONS as INTERPRETATIONS
from .interpretation import Interpretation as Interpretation
from .interpretation import Leniency as Leniency
from .log import Entry as Entry
from .log import RequestLog as RequestLog
from .owners import EmulatorCredentials as EmulatorCredentials
from .owners import Owner as Owner
from .request_rules import Refusal as Refusal
from .server import Emulator as Emulator
from .snowflake import tweet_ids as tweet_ids
from .world import World as World

__all__ = [
    "FAULTS",
    "INTERPRETATIONS",
    "Emulator",
    "EmulatorCredentials",
    "Entry",
    "Fault",
    "FaultKind",
    "FaultSettings",
    "Interpretation",
    "Leniency",
    "Owner",
    "Reaction",
    "Refusal",
    "RequestLog",
    "Requires",
    "World",
    "random_faults",
    "tweet_ids",
]
