"""The tables of a SQLite store, and records as rows of them.

One row holds a promise, its task and who waits for it, so a step is one row in one commit.
Everything else is derived from that table by partial indexes that cost a settled local step
nothing. `reading.py` is the way back. This file knows no connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from ...protocol.records import Promise, Schedule, Task
from ..lineage import explicit_id

APPLICATION_ID: Final = 0x52534E54
"""Written into the file's header: "RSNT"."""

SCHEMA_VERSION: Final = 1

SCHEMA: Final = (
    """CREATE TABLE promises (
        id TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL,
        timeout_at_ms INTEGER NOT NULL,
        created_at_ms INTEGER NOT NULL,
        settled_at_ms INTEGER,
        owner TEXT NOT NULL,
        explicit TEXT,
        param_headers TEXT,
        param_data TEXT,
        value_headers TEXT,
        value_data TEXT,
        tags TEXT,
        callbacks TEXT,
        listeners TEXT,
        task_state TEXT,
        version INTEGER,
        resumes TEXT,
        ttl_ms INTEGER,
        pid TEXT,
        expires_at_ms INTEGER,
        retry_at_ms INTEGER,
        acquired_at_ms INTEGER,
        lapses INTEGER
    )""",
    "CREATE INDEX promises_pending ON promises (id) WHERE settled_at_ms IS NULL",
    """CREATE INDEX promises_ended ON promises (settled_at_ms, id)
        WHERE settled_at_ms IS NOT NULL AND (owner = '' OR task_state IS NOT NULL)""",
    "CREATE INDEX promises_named ON promises (explicit) WHERE explicit IS NOT NULL",
    """CREATE TABLE schedules (
        id TEXT PRIMARY KEY,
        cron TEXT NOT NULL,
        promise_id TEXT NOT NULL,
        promise_timeout_ms INTEGER NOT NULL,
        created_at_ms INTEGER NOT NULL,
        next_run_at_ms INTEGER NOT NULL,
        last_run_at_ms INTEGER,
        param_headers TEXT,
        param_data TEXT,
        tags TEXT
    ) WITHOUT ROWID""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

COLUMNS: Final = (
    "id, state, timeout_at_ms, created_at_ms, settled_at_ms, owner, explicit, param_headers,"
    " param_data, value_headers, value_data, tags, callbacks, listeners, task_state, version,"
    " resumes, ttl_ms, pid, expires_at_ms, retry_at_ms, acquired_at_ms, lapses"
)
MOST_ROWS: Final = 128
"""How many rows go into one statement at most."""

SELECT: Final = f"SELECT {COLUMNS} FROM promises"  # noqa: S608  constants only

SELECT_SCHEDULES: Final = (
    "SELECT id, cron, promise_id, promise_timeout_ms, created_at_ms, next_run_at_ms,"
    " last_run_at_ms, param_headers, param_data, tags FROM schedules"
)
REPLACE_SCHEDULE: Final = f"INSERT OR REPLACE INTO schedules VALUES ({', '.join('?' * 10)})"  # noqa: S608
DELETE_SCHEDULE: Final = "DELETE FROM schedules WHERE id = ?"


class Stored(NamedTuple):
    """What one row holds: a promise, its task, who waits for it."""

    promise: Promise
    task: Task | None = None
    awaiters: Iterable[str] = ()
    addresses: Iterable[str] = ()


_NO_TASK: Final = (None,) * 9


def row_of(stored: Stored) -> tuple[Any, ...]:
    """The row to write, in the order of the columns."""
    promise, task, awaiters, addresses = stored
    param, value = promise.param, promise.value
    columns = (
        promise.id,
        promise.state._value_,
        promise.timeout_at_ms,
        promise.created_at_ms,
        promise.settled_at_ms,
        promise.owner,
        explicit_id(promise),
        text(param.headers),
        param.data,
        text(value.headers),
        value.data,
        text(promise.tags) if promise.tags else None,
        text(list(awaiters)) if awaiters else None,
        text(list(addresses)) if addresses else None,
    )
    if task is None:
        return columns + _NO_TASK
    return (
        *columns,
        task.state._value_,
        task.version,
        text(task.resumes) if task.resumes else None,
        task.ttl_ms,
        task.pid,
        task.expires_at_ms,
        task.retry_at_ms,
        task.acquired_at_ms,
        task.lapses,
    )


def select_taken(roots: Sequence[str]) -> tuple[str, list[Any]]:
    """The statement that tells which of the ids, or of those after and below them, have rows."""
    padded = 1 << (len(roots) - 1).bit_length()
    values: list[Any] = []
    for root in roots:
        values += (root, f"{root}/")
    values += (None,) * (2 * (padded - len(roots)))
    return _select_taken(padded), values


@lru_cache(maxsize=64)
def _select_taken(count: int) -> str:
    return (
        f"SELECT column1 FROM (VALUES {', '.join(['(?, ?)'] * count)})"  # noqa: S608
        " WHERE EXISTS (SELECT 1 FROM promises WHERE id >= column1 AND id < column2)"
    )


def schedule_row(schedule: Schedule) -> tuple[Any, ...]:
    """The row of a schedule, in the order of its columns."""
    return (
        schedule.id,
        schedule.cron,
        schedule.promise_id,
        schedule.promise_timeout_ms,
        schedule.created_at_ms,
        schedule.next_run_at_ms,
        schedule.last_run_at_ms,
        text(schedule.promise_param.headers),
        schedule.promise_param.data,
        text(schedule.promise_tags) if schedule.promise_tags else None,
    )


def text(data: Any) -> str | None:
    """Data as JSON text; None stays None."""
    # Decoded at once: what orjson.dumps returns keeps a block of 4 KiB alive.
    return None if data is None else orjson.dumps(data).decode()
