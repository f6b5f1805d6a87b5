"""The wall clock of a simulated machine."""

from __future__ import annotations

import asyncio


class SimClock:
    """The wall clock of a simulated machine: the loop's virtual time after `start_ms`."""

    __slots__ = ("_loop", "start_ms")

    def __init__(self, loop: asyncio.AbstractEventLoop, start_ms: int = 1_700_000_000_000) -> None:
        self._loop = loop
        self.start_ms = start_ms

    def now_ms(self) -> int:
        """Wall-clock time in milliseconds since the epoch; never less than before."""
        return self.start_ms + int(self._loop.time() * 1000 + 1e-3)  # 0.3 s may be 0.299999
