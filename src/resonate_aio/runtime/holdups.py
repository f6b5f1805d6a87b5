"""Naming functions that hold the event loop up (law 15).

The scheduler reads the clock once for each of its actions; what a step takes that began a
function, or gave it a result, is judged here. Steps that something else of asyncio wakes (a
socket, `asyncio.sleep`) do not pass through the scheduler: asyncio's debug mode names those.
"""

from __future__ import annotations

import gc
import logging
from typing import Any, Final

from .functions import INLINE

logger = logging.getLogger("resonate_aio.runtime")

_REMEMBERED: Final = 1000
_COLLECTION_S: Final = 0.5e-6
"""What a full garbage collection takes for each object, at most; it is nobody's fault."""


class HoldUps:
    """Who holds the loop up, each named once.

    Args:
        most_s: Longest a step may take that nothing is said about.
    """

    __slots__ = ("_most_s", "_said")

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._said: set[str] = set()

    def stepped(self, call: Any, held_s: float) -> None:
        """A step of this call's function took so long."""
        callee = call.callee
        if held_s <= self._most_s or callee is None or callee.kind is INLINE:
            return
        if callee.name in self._said or len(self._said) >= _REMEMBERED:
            return
        if held_s <= self._most_s + len(gc.get_objects()) * _COLLECTION_S:
            return  # a collection of garbage may have been all it was
        self._said.add(callee.name)
        logger.warning(
            "%r held the event loop up for %.2f s in one step, as %r: nothing else went on "
            "meanwhile. A plain `def` runs on a thread; in an `async def`, await what takes long "
            "(asyncio.to_thread)",
            callee.name,
            held_s,
            call.promise_id,
            extra={"id": call.promise_id},
        )
