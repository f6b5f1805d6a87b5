"""How a thread gets an event loop to look at what it did: a pipe that the loop watches.

`call_soon_threadsafe` would do as well, and does where a loop watches no pipes (Windows, a
simulated loop), but it makes a handle each time and reads twice, which a lone step waits for.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Final

_log = logging.getLogger("resonate_aio.stores")

_AT_ONCE: Final = 4096


class Bell:
    """Rung by one thread, heard by the loop.

    Several rings may be heard as one. Where a signal handler raised, the loop calls back again.

    Args:
        name: What rings, for messages.
        loop: The loop that is to call back.
        heard: Called from the loop after a ring; what it raises, the loop gets.
    """

    __slots__ = ("_ends", "_heard", "_loop", "_name")

    def __init__(
        self, name: str, loop: asyncio.AbstractEventLoop, heard: Callable[[], None]
    ) -> None:
        self._name = name
        self._loop = loop
        self._heard = heard
        self._ends: tuple[int, int] | None = os.pipe()
        try:
            for end in self._ends:
                os.set_blocking(end, False)
            loop.add_reader(self._ends[0], self._hear)
        except NotImplementedError:
            self._close_pipe()
        except BaseException:
            self._close_pipe()
            raise

    def ring(self) -> None:
        """Have the loop call back soon. From the thread."""
        try:
            if self._ends is not None:
                os.write(self._ends[1], b"\0")
            else:
                self._loop.call_soon_threadsafe(self._hear)
        except BlockingIOError:
            pass  # so many rings that were not heard yet: one more says nothing new
        except RuntimeError:
            _log.debug("%s: the loop was closed, nobody waits for the thread", self._name)

    def close(self) -> None:
        """Give the pipe back. From the loop's thread, once the other one has ended."""
        if self._ends is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._ends[0])
        self._close_pipe()

    def _close_pipe(self) -> None:
        if self._ends is not None:
            ends, self._ends = self._ends, None
            for end in ends:
                os.close(end)

    def _hear(self) -> None:
        try:
            if self._ends is not None:
                os.read(self._ends[0], _AT_ONCE)
            self._heard()
        except BaseException:
            self._loop.call_soon(self._heard)
            raise
