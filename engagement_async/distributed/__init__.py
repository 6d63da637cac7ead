"""One contract, however many processes spend it: on one machine without any server, on many with Redis.

>>> MachineScheduler(RateLimit(300), credentials=credentials)
>>> RedisScheduler("redis://localhost", RateLimit(300), contract="reports")

docs/scheduler.md says which of them to take.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
