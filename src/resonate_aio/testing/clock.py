"""The wall clock of a simulated machine."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Final

LOOK_S: Final = 50e-6
"""What passes from one look at the simulated clock to the next, in seconds."""


class SimClock:
    """The wall clock of a simulated machine: the loop's virtual time after `start_ms`.

    To work takes no time in it, but who works in turns looks how long: so each look counts.
    """

    __slots__ = ("_loop", "_ticks", "start_ms")

    def __init__(self, loop: asyncio.AbstractEventLoop, start_ms: int = 1_700_000_000_000) -> None:
        self._loop = loop
        self._ticks = count(0.0, LOOK_S)
        self.start_ms = start_ms

    def now_ms(self) -> int:
        """Wall-clock time in milliseconds since the epoch; never less than before."""
        return self.start_ms + int(self._loop.time() * 1000 + 1e-3)  # 0.3 s may be 0.299999

    def ticks(self) -> float:
        """Seconds since some moment; only differences mean anything."""
        return next(self._ticks)
