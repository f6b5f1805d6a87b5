"""The timers of a simulated loop: a heap that gives what is due in the order it was set."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable, Iterator
from typing import Any, cast

_CLOCK_RESOLUTION_S = 1e-9
_WORTH_SWEEPING = 100

Entry = tuple[float, int, asyncio.TimerHandle]


class Timers:
    """Timers by the time they are due; ties in the order in which they were set."""

    __slots__ = ("_cancelled", "_heap", "_set")

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._set = 0
        self._cancelled = 0

    def __bool__(self) -> bool:
        return bool(self._heap)

    def __iter__(self) -> Iterator[Entry]:
        """When each is due, its number, the timer; cancelled ones that still lie here, too."""
        return iter(self._heap)

    def add(self, timer: asyncio.TimerHandle) -> None:
        """Set a timer."""
        self._set += 1
        heapq.heappush(self._heap, (timer.when(), self._set, timer))
        cast(Any, timer)._scheduled = True

    def cancelled(self) -> None:
        """One of them was cancelled; it goes when its time comes, or with many others."""
        self._cancelled += 1

    def first_at(self) -> float:
        """When the first one is due."""
        return self._heap[0][0]

    def take_due(self, now: float) -> Iterable[asyncio.TimerHandle]:
        """Take out those that are due and were not cancelled."""
        heap = self._heap
        if self._cancelled > _WORTH_SWEEPING and self._cancelled * 2 > len(heap):
            heap[:] = [entry for entry in heap if not entry[2].cancelled()]
            heapq.heapify(heap)
            self._cancelled = 0
        taken: list[asyncio.TimerHandle] = []
        due = now + _CLOCK_RESOLUTION_S
        while heap and (heap[0][0] <= due or heap[0][2].cancelled()):
            timer = heapq.heappop(heap)[2]
            cast(Any, timer)._scheduled = False
            if timer.cancelled():
                self._cancelled = max(0, self._cancelled - 1)
            else:
                taken.append(timer)
        return taken

    def clear(self) -> None:
        """Forget all of them."""
        self._heap.clear()
