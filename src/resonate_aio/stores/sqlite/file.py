"""Opening the file: whose it is, what is in it, and what the last owner left behind.

A file that is not ours, or is newer than this code, is refused before SQLite touches it: its
identity is read from the first hundred bytes. Everything here blocks and runs on the
writer's thread.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from typing import Final, Literal

import msgspec

from ...errors import ResonateStoreError, StoreSchemaError
from ...machine.transitions import NEVER_MS, delay_of
from ...protocol.records import Promise, Task, TaskState
from .damage import damage, never_passes
from .owner_lock import OwnerLock
from .reading import readable, text_of
from .rows import APPLICATION_ID, SCHEMA, SCHEMA_VERSION, SELECT

Synchronous = Literal["FULL", "NORMAL"]

LONGEST_DELAY_S: Final = 300
"""The most that lapsed leases delay the next drive (S41)."""

_LOG_PAGES: Final = 256
"""When the log is begun anew: a commit that extends it has to sync its size too, which on ext4
costs a third of it. A log of 1 MiB soon is as long as it will ever be."""

_OPENING_PATIENCE_MS: Final = 5_000
_RUNNING_PATIENCE_MS: Final = 100
"""SQLite's own wait for a lock; beyond it the writer backs off, where it can be stopped."""


def checked_path(path: str | os.PathLike[str]) -> str:
    """The path of a file, as a string.

    Raises:
        TypeError, ValueError: It is no path, or SQLite's word for no file at all.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise TypeError(f"path is a path, got {path!r}")
    checked = os.fspath(path)
    if not checked or "\0" in checked:
        raise ValueError(f"path is not empty and holds no NUL character, got {path!r}")
    if checked == ":memory:":  # what was meant is no file of that name
        raise ValueError(
            "path=':memory:' would be a file of that name: leave path out, Resonate() is in "
            "memory (as a store: MemoryStore())"
        )
    return checked


def checked_synchronous(synchronous: Synchronous) -> Synchronous:
    """What a commit survives, as it is written.

    Raises:
        ValueError: It is neither word: whoever asked for more must not get less.
    """
    if synchronous not in ("FULL", "NORMAL"):  # what is given may not be hashable
        raise ValueError(f"synchronous is 'FULL' or 'NORMAL', got {synchronous!r}")
    return synchronous


def open_file(path: str, lock: OwnerLock, synchronous: Synchronous) -> sqlite3.Connection:
    """Take the file for this process and make it ready.

    Raises:
        StoreOwnedError: Another process owns it.
        StoreSchemaError: It is not a store of ours, or of a newer version; it is untouched.
        ResonateStoreError: It cannot be opened.
    """
    try:
        lock.check()
        _check_kind(path)
        _check_header(path)
        lock.acquire()
        _check_header(path)  # another process may have made the file in between
        lock.acquire_file()
    except OSError as error:
        named = lock.path if error.filename == lock.path and os.path.lexists(lock.path) else path
        raise ResonateStoreError(f"cannot open {named}: {_trouble(path, error)}") from error
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            path, timeout=_OPENING_PATIENCE_MS / 1000, isolation_level=None, check_same_thread=False
        )
        connection.text_factory = text_of
        _prepare(connection, path, synchronous)
    except BaseException as error:
        if connection is not None:
            connection.close()
        lock.release()
        if isinstance(error, sqlite3.Error):
            trouble = damage("it", error) if never_passes(error) else str(error)
            raise ResonateStoreError(f"cannot open {path}: {trouble}") from error
        raise
    return connection


def _trouble(path: str, error: OSError) -> str:
    """What is wrong with a path, and what to do."""
    folder = os.path.dirname(path) or "."  # the path is a real one
    match error.errno:
        case errno.ENOENT if not os.path.isdir(folder):
            return f"there is no folder {folder}: make it first"
        case errno.EISDIR:
            return "it is a folder: name a file in it"
        case errno.ENOTDIR:
            return f"{folder} is no folder, or below something that is none"
        case errno.EACCES | errno.EPERM:
            return (
                f"permission denied: this user has to read and write the file, and to make files "
                f"beside it in {folder}"
            )
        case errno.EROFS:
            return f"{folder} is on a file system that is read-only: take another place"
        case errno.ENOSPC | errno.EDQUOT:
            return "no space is left for it: make room, or take another place"
        case _:
            return error.strerror or str(error)


def set_synchronous(connection: sqlite3.Connection, synchronous: Synchronous) -> None:
    """Make every commit survive a power cut (FULL) or only a killed process (NORMAL)."""
    full = synchronous == "FULL"
    connection.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
    connection.execute(f"PRAGMA fullfsync = {int(full)}")  # macOS: fsync alone is not enough


def recover(connection: sqlite3.Connection, now_ms: int) -> None:
    """End the leases that the previous owner of the file left, counting lapses (S41).

    A lease that ended without a record made since it was acquired is a lapse: its function
    may have killed the process, so its next drive is put off: two drives are at least the
    delay apart. What was driven longer ago, such as an execution that has slept since, is not
    kept waiting. Leases of workers elsewhere,
    which came through a server, end with time and not with the owner (S44); since heartbeats
    are not written down, they are taken to have been extended just now. A row that cannot be
    read is left as it is.
    """
    # Before the transaction: SQLite refuses to write in one in which it met a damaged page.
    rows = connection.execute(
        f"{SELECT} WHERE settled_at_ms IS NULL AND task_state = ?", (TaskState.ACQUIRED.value,)
    )
    ended, extended = [], []
    for stored in readable(rows)[0]:
        task = stored.task
        if task is None:
            continue
        if task.expires_at_ms is not None and task.expires_at_ms < NEVER_MS:
            until_ms = max(task.expires_at_ms, now_ms + (task.ttl_ms or 0))
            extended.append((until_ms, task.id))
            continue
        since_ms = task.acquired_at_ms
        count = 0 if _progressed(connection, task.id, since_ms) else task.lapses + 1
        retry_at_ms = now_ms
        if count:  # counted from its last drive, where that is known
            driven_at_ms = now_ms if since_ms is None else min(since_ms, now_ms)
            retry_at_ms = max(now_ms, driven_at_ms + delay_ms(count))
        ended.append((retry_at_ms, None if count else since_ms, count, task.id))
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany("UPDATE promises SET expires_at_ms = ? WHERE id = ?", extended)
        connection.executemany(
            "UPDATE promises SET task_state = 'pending', ttl_ms = NULL, pid = NULL,"
            " expires_at_ms = NULL, retry_at_ms = ?, acquired_at_ms = ?, lapses = ? WHERE id = ?",
            ended,
        )
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def delay_ms(lapses: int) -> int:
    """How long the next drive waits after so many lapses in a row."""
    return min(1 << min(lapses, 16), LONGEST_DELAY_S) * 1000


def _progressed(connection: sqlite3.Connection, id: str, since_ms: int | None) -> bool:
    try:
        found = connection.execute(
            "SELECT 1 FROM promises WHERE id >= ? AND id < ?"
            " AND (created_at_ms >= ? OR settled_at_ms >= ?) LIMIT 1",
            (f"{id}.", f"{id}/", since_ms, since_ms),
        ).fetchone()
    except sqlite3.Error as error:
        if not never_passes(error):
            raise
        return False  # on a damaged page: whoever drives it on is told, and nobody else
    return found is not None


def _check_kind(path: str) -> None:
    """Refuse what is no file, which to open may take for ever; a folder's own refusal is clear."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ResonateStoreError(
            f"cannot open {path}: it is no regular file, but a device, a pipe or a socket: name a "
            "file"
        )


def _check_header(path: str) -> None:
    try:
        with open(path, "rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    if not header:
        return
    application_id = int.from_bytes(header[68:72], "big")
    if not header.startswith(b"SQLite format 3\0") or application_id != APPLICATION_ID:
        raise StoreSchemaError(
            f"{path} is not a resonate-aio store: it was left as it is; choose another path"
        )
    _check_version(path, int.from_bytes(header[60:64], "big", signed=True))


def _check_version(path: str, version: int) -> None:
    if not 1 <= version <= SCHEMA_VERSION:
        raise StoreSchemaError(
            f"{path} has schema version {version}, this resonate-aio knows {SCHEMA_VERSION}: "
            "it was left as it is; open it with the version that wrote it, or a newer one"
        )


def _prepare(connection: sqlite3.Connection, path: str, synchronous: Synchronous) -> None:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:  # an empty file, as `_check_header` saw
        # Before WAL is switched on, so that the main file tells what it is from the start.
        connection.execute("BEGIN EXCLUSIVE")
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute("COMMIT")
    else:
        _check_version(path, version)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    connection.execute(f"PRAGMA busy_timeout = {_RUNNING_PATIENCE_MS}")
    set_synchronous(connection, synchronous)


def due_task(promise: Promise, task: Task | None, now_ms: int) -> Task | None:
    """The task as it starts in this process: due at once, or when its delay is over (S41)."""
    if task is None or task.state is not TaskState.PENDING:
        return task
    due_ms = max(now_ms, delay_of(promise))
    if task.lapses > 0 and task.acquired_at_ms is None and task.retry_at_ms is not None:
        # Not driven since its lease lapsed: a restart does not shorten the pause.
        due_ms = max(due_ms, min(task.retry_at_ms, now_ms + delay_ms(task.lapses)))
    return msgspec.structs.replace(task, retry_at_ms=due_ms)
