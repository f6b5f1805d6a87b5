"""What lives in a SQLite file when it is opened: read, judged, taken into memory.

A row that means nothing any more is no reason to refuse the others: it is set aside, which
is to say left as it is in the file, and kept out of memory (law 14).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Final

from ...errors import UnreadableRecordError
from ...machine.machine import PromiseMachine
from ...protocol.records import Schedule
from .file import due_task
from .jobs import Done
from .reading import readable, schedule_of
from .rows import SELECT, SELECT_SCHEDULES, Stored

_LOADS_PER_PASS: Final = 500

_PENDING: Final = f"{SELECT} WHERE settled_at_ms IS NULL ORDER BY id"

# Text sorts behind every number: an instant that is none would hide an execution for ever.
_NEITHER: Final = (
    f"{SELECT} WHERE settled_at_ms >= ''"
    " AND settled_at_ms IS NOT NULL AND (owner = '' OR task_state IS NOT NULL)"
)


class ReadLive:
    """The job that reads what the machine must know: pending promises and every schedule.

    Args:
        before: What to do first.
    """

    __slots__ = ("before", "done", "live", "schedules", "unreadable")

    def __init__(self, before: Callable[[sqlite3.Connection], object], done: Done) -> None:
        self.before = before
        self.done = done
        self.live: list[Stored] = []
        self.schedules: list[Schedule] = []
        self.unreadable: list[UnreadableRecordError] = []

    def step(self, connection: sqlite3.Connection) -> bool:
        """Run `before`, then read."""
        self.before(connection)
        self.schedules = []
        self.live, self.unreadable = readable(connection.execute(_PENDING))
        self.unreadable += readable(connection.execute(_NEITHER))[1]
        for row in connection.execute(SELECT_SCHEDULES):
            try:
                self.schedules.append(schedule_of(row))
            except UnreadableRecordError as fault:
                self.unreadable.append(fault)
        return True

    def finished(self, error: Exception | None) -> None:
        """Tell the core."""
        self.done(self, error)

    async def load(self, machine: PromiseMachine, now_ms: int) -> None:
        """Take it into memory, and let the loop go round meanwhile."""
        for count, (promise, task, awaiters, addresses) in enumerate(self.live):
            machine.load(promise, due_task(promise, task, now_ms), awaiters, addresses)
            if count % _LOADS_PER_PASS == _LOADS_PER_PASS - 1:
                await asyncio.sleep(0)
        for schedule in self.schedules:
            machine.load_schedule(schedule)
