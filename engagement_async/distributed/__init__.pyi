from .machine import MachineScheduler as MachineScheduler

__all__ = ["MachineScheduler"]
