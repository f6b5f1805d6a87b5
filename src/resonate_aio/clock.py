"""Time as an object: what a shell reads and a test replaces.

Only shells hold a clock. The machines are given `now_ms`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns, perf_counter, time_ns
from typing import Protocol, runtime_checkable


class Clock(Protocol):
    """Where a shell reads the time."""

    def now_ms(self) -> int:
        """Wall-clock time in milliseconds since the epoch; never less than before."""
        ...


@runtime_checkable
class TickingClock(Clock, Protocol):
    """A clock that also measures work, so that no simulated run varies with the machine."""

    def ticks(self) -> float:
        """Seconds since some moment; only differences mean anything."""
        ...


def ticks_of(clock: Clock) -> Callable[[], float]:
    """How to measure, in seconds, what work takes where this clock tells the time."""
    return clock.ticks if isinstance(clock, TickingClock) else perf_counter


class _Wall:
    """The wall clock as this process tells it.

    A step backwards is not followed: time goes on from where it was, at the pace of the
    monotonic clock, until the wall clock has caught up.
    """

    __slots__ = ("_ahead_ms", "_from_ms", "_from_ns", "last_ms")

    def __init__(self) -> None:
        self.last_ms = 0
        self._ahead_ms = -1
        self._from_ms = self._from_ns = 0

    def ahead_ms(self) -> int:
        """The time while the wall clock is behind what was told already."""
        ticks = monotonic_ns()
        if self.last_ms != self._ahead_ms:  # it has been followed since: this is another step
            self._from_ms, self._from_ns = self.last_ms, ticks
        self._ahead_ms = self._from_ms + (ticks - self._from_ns) // 1_000_000
        self.last_ms = self._ahead_ms
        return self._ahead_ms


_wall = _Wall()


class SystemClock:
    """The machine's wall clock, which never goes backwards and never stands still.

    All of a process tell the same time: what one of them wrote, another one judges.
    """

    __slots__ = ()

    def now_ms(self) -> int:
        """Wall-clock time in milliseconds since the epoch; never less than before."""
        now = time_ns() // 1_000_000
        wall = _wall
        last = wall.last_ms
        if now == last:
            return last  # the same number: records that hold it share it
        if now < last:
            return wall.ahead_ms()
        wall.last_ms = now
        return now
