"""Instants at which something falls due: one heap, checked lazily.

Per kind and id there is at most one entry that counts. Arming an id again for a later
instant leaves its entry where it is: whoever meets that entry compares it with the record
and moves it on, so a heartbeat costs one look-up and no push. Disarming leaves a stale
entry behind; when stale entries outnumber the others the heap is built anew, so it never
holds more than twice what is armed. This file knows no records: the caller compares.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

PROMISE: Final = 0
"""The deadline of an external promise (R1)."""
LEASE: Final = 1
"""The lease of an acquired task (R5)."""
RETRY: Final = 2
"""The next dispatch of a pending task (R6)."""
SCHEDULE: Final = 3
"""The next occurrence of a schedule (R7)."""

_SLACK: Final = 64
"""Stale entries that are not worth a rebuild."""

Entry = tuple[int, int, str]


class Deadlines:
    """The armed instants of a machine."""

    __slots__ = ("_heap", "_stale", "armed")

    def __init__(self) -> None:
        """Start with nothing armed."""
        self.armed: tuple[dict[str, int], ...] = ({}, {}, {}, {})
        self._heap: list[Entry] = []
        self._stale = 0

    def __len__(self) -> int:
        """How many entries the heap holds, stale ones included."""
        return len(self._heap)

    def arm(self, kind: int, id: str, due_ms: int) -> None:
        """See to it that an entry is met at `due_ms` or before."""
        armed = self.armed[kind]
        before_ms = armed.get(id)
        if before_ms is not None:
            if before_ms <= due_ms:
                return
            self._stale += 1
        armed[id] = due_ms
        heappush(self._heap, (due_ms, kind, id))
        if self._stale > _SLACK:
            self._compact()

    def disarm(self, kind: int, id: str) -> None:
        """Forget the entry of this kind and id, if there is one."""
        if self.armed[kind].pop(id, None) is not None:
            self._stale += 1
            if self._stale > _SLACK:
                self._compact()

    def first(self) -> Entry | None:
        """The earliest entry that counts: (due_ms, kind, id)."""
        heap = self._heap
        while heap:
            entry = heap[0]
            if self.armed[entry[1]].get(entry[2]) == entry[0]:
                return entry
            heappop(heap)
            self._stale -= 1
        return None

    def is_anything_before(self, due_ms: int) -> bool:
        """Whether an entry, perhaps a stale one, is for an instant before this one."""
        heap = self._heap
        return bool(heap) and heap[0][0] < due_ms

    def take(self, entry: Entry) -> None:
        """Remove the entry that `first` gave."""
        heappop(self._heap)
        del self.armed[entry[1]][entry[2]]

    def move(self, entry: Entry, due_ms: int) -> None:
        """Put the entry that `first` gave at a later instant."""
        heapreplace(self._heap, (due_ms, entry[1], entry[2]))
        self.armed[entry[1]][entry[2]] = due_ms

    def _compact(self) -> None:
        if self._stale * 2 <= len(self._heap):
            return
        self._heap = [
            (due_ms, kind, id) for kind, ids in enumerate(self.armed) for id, due_ms in ids.items()
        ]
        heapify(self._heap)
        self._stale = 0
