"""`workers=N`: how many functions execute at a time (S27).

A function takes a slot before it starts or is given a result, and returns it as soon as it
waits for something durable. `workers=1` is one function at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bodies import LiveBody


class Slots:
    """A counter of free slots and a queue of those who wait for one.

    Args:
        limit: How many functions may execute at a time.
        soon: Runs a function from the scheduler's queue.
    """

    __slots__ = ("_free", "_queue", "_soon")

    def __init__(
        self, limit: int, soon: Callable[[Callable[[LiveBody], None], LiveBody], None]
    ) -> None:
        self._free = limit
        self._queue: deque[tuple[Callable[[LiveBody], None], LiveBody]] = deque()
        self._soon = soon

    def run(self, action: Callable[[LiveBody], None], body: LiveBody) -> None:
        """Run the action for this body as soon as it has a slot (at once if it has)."""
        if not body.has_slot:
            if not self._free:
                if not body.awaits_slot:
                    body.awaits_slot = True
                    self._queue.append((action, body))
                return
            self._free -= 1
            body.has_slot = True
        action(body)

    def give_back(self, body: LiveBody) -> None:
        """The body waits or is over: the next in line runs."""
        if not body.has_slot:
            return
        body.has_slot = False
        while self._queue:
            action, other = self._queue.popleft()
            other.awaits_slot = False
            if not other.is_over:
                other.has_slot = True
                self._soon(action, other)
                return
        self._free += 1
