"""When a body with several asyncio tasks counts as quiescent (S6).

A body whose only live task is at a wait is quiescent at once. Any other has to go a number
of loop passes without a ctx call or a new wait. Only bodies that have an input waiting are
watched, so the cost is per input, not per pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bodies import LiveBody
    from .scheduler import Scheduler


class QuietWatch:
    """Counts loop passes for the bodies that have an input waiting."""

    __slots__ = ("_bodies", "_give", "_scheduler", "_ticking")

    def __init__(self, scheduler: Scheduler, give: Callable[[LiveBody], None]) -> None:
        self._scheduler = scheduler
        self._give = give
        self._bodies: dict[LiveBody, list[int]] = {}
        self._ticking = False

    def watch(self, body: LiveBody) -> None:
        """Give the body its next batch once it has been quiet for long enough."""
        if body in self._bodies:
            return
        self._bodies[body] = [body.activity, 0]
        if not self._ticking:
            self._ticking = True
            self._scheduler.loop.call_soon(self._tick)

    def _tick(self) -> None:
        limit = self._scheduler.settings.quiet_passes
        quiet: list[LiveBody] = []
        for body, seen in self._bodies.items():
            if body.is_over or body.is_at_one_wait:
                quiet.append(body)
            elif body.activity != seen[0]:
                seen[0], seen[1] = body.activity, 0
            else:
                seen[1] += 1
                if seen[1] >= limit:
                    quiet.append(body)
        for body in quiet:
            del self._bodies[body]
        self._ticking = bool(self._bodies)
        if self._ticking:
            self._scheduler.loop.call_soon(self._tick)
        for body in quiet:
            self._scheduler.soon(self._rested, body, body.activity + body.position)

    def _rested(self, body: LiveBody, seen: int) -> None:
        if not self._scheduler.is_current(body):
            return
        if body.activity + body.position == seen:
            self._give(body)
        else:  # it was given something meanwhile, and has to come to rest again
            self._scheduler.consider(body)
