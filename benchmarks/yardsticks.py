"""What the same shapes cost without durability, and what durability costs without a runtime.

Each function runs one shape and returns how many seconds it took. A raw row holds what any
durable step has to remember: id, state, deadline, when it was made and settled, the call's
fingerprint, its arguments and its value.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter, time

TABLE = """CREATE TABLE steps (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    timeout_at_ms INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    settled_at_ms INTEGER,
    headers TEXT,
    arguments TEXT,
    value TEXT
) WITHOUT ROWID"""
INSERT = "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
Row = tuple[str, str, int, int, int, str, str, str]


def row(execution: int, n: int) -> Row:
    now_ms = int(time() * 1000)
    return (
        f"execution-{execution}.{n + 1}",
        "resolved",
        now_ms + 31_536_000_000,
        now_ms,
        now_ms,
        '{"resonate-aio:fingerprint":"run step 1 a1b2c3d4e5f60718"}',
        f"[[{n}],{{}}]",
        str(n),
    )


async def step(n: int) -> int:
    return n


async def sequence(count: int) -> None:
    for n in range(count):
        await asyncio.create_task(step(n))


async def plain_tasks(tasks: int, steps: int) -> float:
    """Plain asyncio: `tasks` tasks, each awaiting one new task per step."""
    began = perf_counter()
    await asyncio.gather(*(asyncio.create_task(sequence(steps)) for _ in range(tasks)))
    return perf_counter() - began


async def plain_children(count: int) -> float:
    """Plain asyncio: one task that gathers `count` children."""
    began = perf_counter()
    await asyncio.gather(*(asyncio.create_task(step(n)) for n in range(count)))
    return perf_counter() - began


async def plain_sleeps(count: int) -> float:
    """Plain asyncio: `count` tasks that sleep for one second."""
    began = perf_counter()
    await asyncio.gather(*(asyncio.create_task(asyncio.sleep(1)) for _ in range(count)))
    return perf_counter() - began


def open_raw(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(TABLE)
    return connection


async def raw_commits(count: int, folder: Path) -> float:
    """Raw SQLite (WAL, FULL): one row, one commit, one after the other."""
    connection = open_raw(folder / "raw.db")
    try:
        began = perf_counter()
        for n in range(count):
            connection.execute(INSERT, row(0, n))
        return perf_counter() - began
    finally:
        connection.close()


class RawWriter:
    """The smallest group commit there is: what arrived during one commit is the next one."""

    def __init__(self, path: Path) -> None:
        self._connection = open_raw(path)
        self._loop = asyncio.get_running_loop()
        self._batches: SimpleQueue[list[Row] | None] = SimpleQueue()
        self._rows: list[Row] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._committing: list[asyncio.Future[None]] = []
        self._thread = threading.Thread(target=self._write, name="raw-writer")
        self._thread.start()

    def write(self, written: Row) -> asyncio.Future[None]:
        """A future that is done once the row is committed."""
        future = self._loop.create_future()
        self._rows.append(written)
        self._waiting.append(future)
        if not self._committing:
            self._committing, self._waiting = self._waiting, []
            self._loop.call_soon(self._hand_over)
        return future

    def _hand_over(self) -> None:
        self._committing += self._waiting
        self._waiting = []
        rows, self._rows = self._rows, []
        self._batches.put(rows)

    def _write(self) -> None:
        while (rows := self._batches.get()) is not None:
            self._connection.execute("BEGIN")
            self._connection.executemany(INSERT, rows)
            self._connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(self._committed)

    def _committed(self) -> None:
        done, self._committing = self._committing, []
        for future in done:
            future.set_result(None)
        if self._waiting:
            self._committing, self._waiting = self._waiting, []
            self._loop.call_soon(self._hand_over)

    def close(self) -> None:
        self._batches.put(None)
        self._thread.join()
        self._connection.close()


async def raw_writer(tasks: int, steps: int, folder: Path) -> float:
    """Plain tasks, one row and one future per step, one writer thread with group commit."""
    writer = RawWriter(folder / "raw.db")

    async def flow(task: int) -> None:
        for n in range(steps):
            await writer.write(row(task, n))

    try:
        began = perf_counter()
        await asyncio.gather(*(asyncio.create_task(flow(task)) for task in range(tasks)))
        return perf_counter() - began
    finally:
        writer.close()
