"""What tests of durable programs need: virtual time, simulated crashes.

`crash_everywhere` puts a program through a crash at every point; `SimLoop` and `SimClock`
are the event loop and the wall clock it runs on, for tests of your own.
"""

from .crash import CrashError, Report, crash_everywhere
from .loop import Killed, SimClock, SimDeadlock, SimLoop

__all__ = [
    "CrashError",
    "Killed",
    "Report",
    "SimClock",
    "SimDeadlock",
    "SimLoop",
    "crash_everywhere",
]
