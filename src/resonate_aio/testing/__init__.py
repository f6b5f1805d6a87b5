"""What tests of durable functions need: virtual time, simulated crashes.

`@simulated` makes a test that runs on virtual time with a client of its own, `simulate` does
the same for a function at hand, and `crash_everywhere` puts a program through a crash at every
point. `SimLoop` and `SimClock` are the event loop and the wall clock they run on.
"""

from .clock import SimClock
from .crash import CrashError, Report, crash_everywhere
from .endings import Killed, SimDeadlock
from .loop import SimLoop
from .simulation import simulate, simulated
from .theatre import FaultError

__all__ = [
    "CrashError",
    "FaultError",
    "Killed",
    "Report",
    "SimClock",
    "SimDeadlock",
    "SimLoop",
    "crash_everywhere",
    "simulate",
    "simulated",
]
