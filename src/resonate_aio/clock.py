"""Time as an object: what a shell reads and a test replaces.

Only shells hold a clock. The machines are given `now_ms`.
"""

from __future__ import annotations

from time import time_ns
from typing import Protocol


class Clock(Protocol):
    """Where a shell reads the time."""

    def now_ms(self) -> int:
        """Wall-clock time in milliseconds since the epoch; never less than before."""
        ...


class SystemClock:
    """The machine's wall clock, held back where it would jump backwards."""

    __slots__ = ("_last_ms",)

    def __init__(self) -> None:
        self._last_ms = 0

    def now_ms(self) -> int:
        """Wall-clock time in milliseconds since the epoch; never less than before."""
        now = time_ns() // 1_000_000
        last = self._last_ms
        if now <= last:
            return last
        self._last_ms = now
        return now
