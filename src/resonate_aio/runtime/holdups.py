"""Naming functions that hold the event loop up (law 15).

The scheduler reads the clock once for each of its actions; what a step takes that began a
function, or gave it a result, is judged here, after the fact and at no cost to quick steps.
Steps that something else of asyncio wakes (a socket, `asyncio.sleep`) do not pass through the
scheduler: asyncio's debug mode names those.
"""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING, Any, Final

from ..protocol.records import Promise
from .awaitables import DurableCall
from .bodies import LiveBody
from .functions import INLINE

if TYPE_CHECKING:
    from .scheduler import Scheduler

logger = logging.getLogger("resonate_aio.runtime")

_REMEMBERED: Final = 1000
_COLLECTION_S: Final = 0.5e-6
"""What a full garbage collection takes for each object, at most; it is nobody's fault."""


class HoldUps:
    """Who holds the loop up, each named once."""

    __slots__ = ("_most_s", "_said", "_scheduler")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._most_s = scheduler.settings.hold_up_s
        self._said: set[str] = set()

    def blame(self, first: Any, second: Any, took_s: float) -> None:
        """An action of the scheduler with these arguments took long.

        It ran a step of the body, or the call's function, it is about; where that ended in it,
        also the next step of the function that waited for it, from the moment of the record on.
        """
        subject = first if isinstance(first, LiveBody | DurableCall) else second
        if not isinstance(subject, LiveBody | DurableCall):
            return
        call: Any = subject if isinstance(subject, DurableCall) else subject.call
        last = self._scheduler.giving.last
        after_s = 0.0
        if isinstance(last, Promise) and last.id == call.promise_id and call.body is not None:
            now_ms = self._scheduler.clock.now_ms()
            after_s = min((now_ms - (last.settled_at_ms or now_ms)) / 1000, took_s)
            self._stepped(call.body.call, after_s)
        self._stepped(call, took_s - after_s)

    def _stepped(self, call: Any, held_s: float) -> None:
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
