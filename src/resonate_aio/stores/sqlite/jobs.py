"""The jobs of the writer's thread: commit a batch, look rows up, scan, search, and any other.

Each is a small object that carries its question to the thread and its answer back. Long
reads go in steps, so that commits are not kept waiting. Nothing here is decided: what rows
mean to the machine is the core's affair.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import Any, Final

from ...errors import ResonateStoreError, UnreadableRecordError
from ...protocol.records import PromiseState
from ..lineage import explicit_id, is_targeted, prefixes
from .changes import Changes
from .damage import damage, never_passes, path_of
from .reading import readable, stored_of
from .rows import (
    DELETE_SCHEDULE,
    MOST_ROWS,
    REPLACE_SCHEDULE,
    SELECT,
    Stored,
    row_of,
    schedule_row,
    select_taken,
)
from .upserts import UPSERT, leaf_upserts, row_upserts

_log = logging.getLogger("resonate_aio.stores")

_ROWS_PER_STEP: Final = 1_000

_UNSTORABLE: Final = (
    UnicodeEncodeError,
    OverflowError,
    TypeError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""What a row itself is to blame for; requests are checked before, so it is our bug."""

Done = Callable[[Any, Exception | None], None]

RunJob = Callable[[sqlite3.Connection], Any]


class Batch(Changes):
    """The job that commits what changed since the last hand-over.

    The thread gives the interpreter away at every statement and may wait long to get it back
    while the loop is busy, so rows go in many at a time.
    """

    __slots__ = ("done",)

    def __init__(self, done: Done) -> None:
        super().__init__()
        self.done = done

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
        if not isolated:
            statements = [*leaf_upserts(list(self.leaves.values()))]
            statements += row_upserts(list(self.rows.values()))
            if len(statements) == 1 and not self.schedules:
                connection.execute(*statements[0])  # a transaction by itself
                return
        connection.execute("BEGIN IMMEDIATE")
        if isolated:
            self._write_one_by_one(connection)
        else:
            for sql, values in statements:
                connection.execute(sql, values)
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


class Scan:
    """The records under a root that replay of its execution may ask for (S9).

    The id ranges of the root, and of the explicit ids that its log records name, in id order.
    Below a record that is a root of its own, or was put there by others, the walk goes on
    behind that record's subtree, so an execution never reads its rpc children's trees.
    """

    __slots__ = ("_closed", "_from", "_tree", "_waiting", "found", "root", "trees")

    def __init__(self, root: str) -> None:
        self.root = root
        self.found: dict[str, Stored] = {}
        self.trees: dict[str, None] = {root: None}
        self._waiting = [root]
        self._tree = ""
        self._from = ""
        self._closed: set[str] = set()

    def advance(self, connection: sqlite3.Connection) -> bool:
        """Read some more rows; True at the end."""
        budget = _ROWS_PER_STEP
        while budget > 0:
            if not self._tree:
                if not self._waiting:
                    return True
                self._tree = self._waiting.pop(0)
                self._from = f"{self._tree}."
            budget -= self._read(connection, budget)
        return False

    def _read(self, connection: sqlite3.Connection, limit: int) -> int:
        tree = self._tree
        cursor = connection.execute(
            f"{SELECT} WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (self._from, f"{tree}/", limit),
        )
        count = 0
        for row in cursor:
            count += 1
            above = self._closed_above(row[0])
            if above is not None:
                cursor.close()
                self._from = f"{above}/"
                return count
            self._take(connection, stored_of(row))
            self._from = f"{row[0]}\0"  # the next id there can be
        if count < limit:
            self._tree = ""
        return max(count, 1)

    def _closed_above(self, id: str) -> str | None:
        if id.find(".", len(self._tree) + 1) == -1:
            return None
        return next((prefix for prefix in prefixes(id) if prefix in self._closed), None)

    def _take(self, connection: sqlite3.Connection, stored: Stored) -> None:
        promise = stored.promise
        self.found[promise.id] = stored
        if promise.owner not in self.trees:
            self._closed.add(promise.id)
            return
        if is_targeted(promise):
            self._closed.add(promise.id)
        named = explicit_id(promise)
        if named is None or named in self.trees or named in self.found:
            return
        row = connection.execute(f"{SELECT} WHERE id = ?", (named,)).fetchone()
        if row is None:
            return
        explicit = stored_of(row)
        self.found[named] = explicit
        if not is_targeted(explicit.promise):
            self.trees[named] = None
            self._waiting.append(named)


class Lookup:
    """Rows by id, read in one step after the scan that may go with it.

    Args:
        ids: What to look up.
        scan: The scan to make first, if any.
        new: The execution that would be new: what is below it is scanned, unless it has a row.
    """

    __slots__ = ("_unseen", "error", "found", "ids", "new", "scan", "unreadable")

    def __init__(self, ids: tuple[str, ...], scan: Scan | None, new: str | None) -> None:
        self.ids = ids
        self.scan = scan
        self.new = self._unseen = new
        self.found: list[Stored] = []
        self.unreadable: list[UnreadableRecordError] = []
        self.error: Exception | None = None

    def look_around(self, connection: sqlite3.Connection) -> bool:
        """Make some of the scan; True at its end."""
        try:
            return self._look_around(connection)
        except UnreadableRecordError as error:
            self.error = error
        except sqlite3.Error as error:
            root = self.new if self.scan is None else self.scan.root
            self.error = _damaged(connection, root or "", error)
        return True

    def _look_around(self, connection: sqlite3.Connection) -> bool:
        if self._unseen is not None:
            if _row(connection, self._unseen) is None:
                self.scan = Scan(self._unseen)
            self._unseen = None
        return self.scan is None or self.scan.advance(connection)

    def look_up(self, connection: sqlite3.Connection) -> None:
        """Read the rows by id."""
        rows: list[tuple[Any, ...]] = []
        damaged: list[UnreadableRecordError] = []
        for id in self.ids:
            try:
                row = _row(connection, id)
            except sqlite3.Error as error:
                damaged.append(_damaged(connection, id, error))
            else:
                if row is not None:
                    rows.append(row)
        self.found, self.unreadable = readable(rows)
        self.unreadable += damaged
        if self.unreadable:
            self.error = self.unreadable[0]


def _damaged(
    connection: sqlite3.Connection, id: str, error: sqlite3.Error
) -> UnreadableRecordError:
    """What is said of a record that cannot be read, however often that is tried.

    Raises:
        sqlite3.Error: The error itself, which may pass.
    """
    if not never_passes(error):
        raise error
    return UnreadableRecordError("promise", id, damage(path_of(connection), error))


def _row(connection: sqlite3.Connection, id: str) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = connection.execute(f"{SELECT} WHERE id = ?", (id,)).fetchone()
    return row


def _blank(connection: sqlite3.Connection, roots: list[str]) -> set[str | None]:
    """Those of the roots that have no row themselves and none below them.

    None of those that are looked for together with a damaged one: each is looked at then.
    """
    taken: set[str] = set()
    for at in range(0, len(roots), MOST_ROWS):
        some = roots[at : at + MOST_ROWS]
        try:
            for row in connection.execute(*select_taken(some)):
                taken.add(row[0])
        except sqlite3.Error as error:
            if not never_passes(error):
                raise
            taken.update(some)
    return {root for root in roots if root not in taken}


class Lookups:
    """The look-ups that one loop pass asked for: one hand-over for all of them.

    Scans may take several steps, with commits in between. The ids are read in the last one:
    what is in neither that answer nor memory when the answer arrives does not exist.
    """

    __slots__ = ("_at", "done", "lookups")

    def __init__(self, lookups: list[Lookup], done: Done) -> None:
        self.lookups = lookups
        self.done = done
        self._at = 0

    def step(self, connection: sqlite3.Connection) -> bool:
        """Go on where the last step ended."""
        lookups = self.lookups
        blank = _blank(connection, [lookup.new for lookup in lookups if lookup.new is not None])
        while self._at < len(lookups):
            lookup = lookups[self._at]
            if lookup.new not in blank and not lookup.look_around(connection):
                return False
            self._at += 1
        for lookup in lookups:
            lookup.found = []
            if lookup.new not in blank:
                lookup.look_up(connection)
        return True

    def finished(self, error: Exception | None) -> None:
        """Tell the core."""
        self.done(self, error)


class ReadPage:
    """Rows in id order after a cursor: what a search filters."""

    __slots__ = ("_sql", "_values", "is_last", "last_id", "rows", "unreadable")

    def __init__(self, after: str, states: tuple[str, ...], tasks: bool) -> None:
        conditions = ["id > ?"]
        if states:
            conditions.append(f"state IN ({', '.join('?' * len(states))})")
        if tasks:
            conditions.append("task_state IS NOT NULL")
        self._sql = f"{SELECT} WHERE {' AND '.join(conditions)} ORDER BY id LIMIT {_ROWS_PER_STEP}"
        self._values = (after, *states)
        self.rows: list[Stored] = []
        self.unreadable: list[UnreadableRecordError] = []
        self.last_id = after
        self.is_last = False

    def read(self, connection: sqlite3.Connection) -> None:
        """Read the page: its rows, its last id, and whether no rows come after these."""
        rows = connection.execute(self._sql, self._values).fetchall()
        self.rows, self.unreadable = readable(rows)
        self.is_last = len(rows) < _ROWS_PER_STEP
        if rows:
            self.last_id = rows[-1][0]


class Run:
    """Any other single step."""

    __slots__ = ("done", "result", "work")

    def __init__(self, work: RunJob, done: Done) -> None:
        self.work = work
        self.done = done
        self.result: Any = None

    def step(self, connection: sqlite3.Connection) -> bool:
        """Do it."""
        self.result = self.work(connection)
        return True

    def finished(self, error: Exception | None) -> None:
        """Tell the core."""
        self.done(self, error)


def searched_states(state: PromiseState | None) -> tuple[str, ...]:
    """The stored states that may show as this one: a pending row's deadline may have passed."""
    if state is None:
        return ()
    if state in {PromiseState.RESOLVED, PromiseState.TIMEDOUT}:
        return (state.value, PromiseState.PENDING.value)
    return (state.value,)


def end(future: asyncio.Future[None], error: Exception | None) -> None:
    """Tell whoever waits for a job how it ended."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    elif isinstance(error, ResonateStoreError):
        future.set_exception(error)
    else:
        fault = ResonateStoreError(f"the store failed: {error}")
        fault.__cause__ = error
        future.set_exception(fault)
