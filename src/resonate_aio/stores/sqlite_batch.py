"""What one commit covers: rows, and who hears of it once they are durable.

Filled on the loop, written on the writer's thread, let out on the loop again. The thread
gives the interpreter away at every statement and may wait long to get it back while the
loop is busy, so rows go in many at a time.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable
from itertools import chain
from time import perf_counter
from typing import Any, Final

from ..machine.machine import PromiseMachine
from ..protocol.records import Promise, Schedule
from ..protocol.requests import Message
from .base import LOST, Acked
from .sqlite_rows import (
    DELETE_SCHEDULE,
    MOST_ROWS,
    REPLACE_SCHEDULE,
    UPSERT,
    Stored,
    row_of,
    schedule_row,
    upsert,
    upsert_leaves,
)

_log = logging.getLogger("resonate_aio.stores")

_UNSTORABLE: Final = (
    UnicodeEncodeError,
    OverflowError,
    TypeError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""What a row itself is to blame for; requests are checked before, so it is our bug."""

_LOOK_AT_CLOCK: Final = 8

Done = Callable[[Any, Exception | None], None]


class Batch:
    """Everything that changed since the last hand-over, and who waits for it.

    `changed` has the ids in the order of first change: nothing is durable before what
    preceded it. `leaves` are the promises without a task and without anybody who waits for
    them, nearly all of them; `rows` are the others.
    """

    __slots__ = (
        "_told",
        "acks",
        "bad",
        "changed",
        "done",
        "leaves",
        "messages",
        "replies",
        "rows",
        "schedules",
    )

    def __init__(self, done: Done) -> None:
        self.done = done
        self.changed: dict[str, None] = {}
        self.leaves: dict[str, Promise] = {}
        self.rows: dict[str, Stored] = {}
        self.schedules: list[tuple[str, Schedule | None]] = []
        self.acks: list[tuple[Acked, Any, Promise]] = []
        self.replies: list[tuple[Any, Any]] = []
        self.messages: list[tuple[str, Message]] = []
        self.bad: set[str] = set()
        self._told = 0

    def promises(self) -> Iterable[tuple[str, Promise]]:
        """Every promise it writes, by id."""
        others = ((id, stored[0]) for id, stored in self.rows.items())
        return chain(self.leaves.items(), others)

    def take(self, machine: PromiseMachine) -> bool:
        """Take over the machine's effects; whether there is anything to write."""
        self.changed, machine.changed = machine.changed, self.changed
        promises, tasks = machine.promises, machine.tasks
        callbacks, listeners = machine.callbacks, machine.listeners
        leaves, rows = self.leaves, self.rows
        for id in self.changed:
            if id in tasks or id in callbacks or id in listeners:
                rows[id] = Stored(
                    promises[id],
                    tasks.get(id),
                    tuple(callbacks.get(id, ())),
                    tuple(listeners.get(id, ())),
                )
            else:
                leaves[id] = promises[id]
        if machine.changed_schedules:
            for id in machine.changed_schedules:
                self.schedules.append((id, machine.schedules.get(id)))
            machine.changed_schedules.clear()
        if machine.outbox:
            self.messages.extend(machine.outbox.values())
            machine.outbox.clear()
        return bool(self.changed or self.schedules)

    # -- on the writer's thread

    def step(self, connection: sqlite3.Connection) -> bool:
        """Commit it all in one transaction, so the order of its rows does not matter."""
        try:
            self._commit(connection, isolated=False)
        except _UNSTORABLE:
            if connection.in_transaction:
                connection.rollback()
            self._commit(connection, isolated=True)
        return True

    def finished(self, error: Exception | None) -> None:
        """Tell the core."""
        self.done(self, error)

    def _commit(self, connection: sqlite3.Connection, *, isolated: bool) -> None:
        leaves, others = list(self.leaves.values()), list(self.rows.values())
        is_one_statement = not others and not self.schedules and len(leaves) <= MOST_ROWS
        if is_one_statement and not isolated:
            connection.execute(*upsert_leaves(leaves))  # a transaction by itself
            return
        connection.execute("BEGIN IMMEDIATE")
        if isolated:
            self._write_one_by_one(connection)
        else:
            for at in range(0, len(leaves), MOST_ROWS):
                connection.execute(*upsert_leaves(leaves[at : at + MOST_ROWS]))
            for at in range(0, len(others), MOST_ROWS):
                connection.execute(*upsert(others[at : at + MOST_ROWS]))
        self._write_schedules(connection)
        connection.execute("COMMIT")

    def _write_one_by_one(self, connection: sqlite3.Connection) -> None:
        leaves = {id: Stored(promise) for id, promise in self.leaves.items()}
        for id, stored in (leaves | self.rows).items():
            connection.execute("SAVEPOINT one")
            try:
                connection.execute(UPSERT, row_of(stored))
            except _UNSTORABLE as error:
                connection.execute("ROLLBACK TO one")
                self.bad.add(id)
                _log.error("promise %r cannot be stored and is given up: %s", id, error)
            connection.execute("RELEASE one")

    def _write_schedules(self, connection: sqlite3.Connection) -> None:
        for id, schedule in self.schedules:
            if schedule is None:
                connection.execute(DELETE_SCHEDULE, (id,))
            else:
                connection.execute(REPLACE_SCHEDULE, schedule_row(schedule))

    # -- once it is durable

    def tell(self, slice_s: float) -> bool:
        """Call the acknowledgements, in order; False when time was up before the last.

        Each may drive a function on, so that many of them take long (law 15).
        """
        bad, acks = self.bad, self.acks
        count = len(acks)
        until = perf_counter() + slice_s
        while self._told < count:
            acked, context, record = acks[self._told]
            self._told += 1
            try:
                acked(context, LOST if bad and record.id in bad else record)
            except Exception:  # noqa: BLE001  one listener's fault must not stop the others
                _log.exception("the callback for promise %r failed", record.id)
            if self._told % _LOOK_AT_CLOCK == 0 and perf_counter() > until:
                break
        return self._told >= count
