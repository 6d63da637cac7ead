from .machine import MachineScheduler as MachineScheduler
from .redis_scheduler import RedisScheduler as RedisScheduler

__all__ = ["MachineScheduler", "RedisScheduler"]
