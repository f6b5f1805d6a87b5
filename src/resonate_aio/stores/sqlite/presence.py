"""Whether the file that is open is still the one at its path, and ours alone.

A file that is deleted or replaced while it is open stays writable until it is closed, and
nobody ever finds again what is written to it. It is looked at after commits, before those who
wait for them are told, and once a second at most: the look costs a commit's thread its turn.
What is missed ends the use of the file: its log, which SQLite would apply to whatever file is
at the path when that is opened next, is emptied into the file it belongs to.
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Final

from ...errors import ResonateStoreError
from .owner_lock import Identity, OwnerLock

LOOK_S: Final = 1.0
"""Between two looks."""


class Presence:
    """The identity of an open file. Everything here blocks: for the writer's thread.

    Args:
        path: The file's.
        lock: Held on it. Where it is on the lock file alone, that one is looked at, too.
    """

    __slots__ = ("_due_s", "_identity", "_lock", "_lock_identity", "_path", "fault")

    def __init__(self, path: str, lock: OwnerLock) -> None:
        self._path = path
        self._lock = lock
        self._identity: Identity | None = None
        self._lock_identity: Identity | None = None
        self._due_s = 0.0
        self.fault: str | None = None
        """What a look found, once one found something: nothing is written any more."""

    def opened(self) -> None:
        """The file at the path is the one that is open."""
        self._identity = _found(self._path, None)
        self._lock_identity = None if self._lock.is_on_file else self._lock.identity()
        self._due_s = time.monotonic() + LOOK_S

    def refuse(self) -> None:
        """Raise what a look found before, if it did.

        Raises:
            ResonateStoreError: Another file, or none, is at the path, or may be another's, too.
        """
        if self.fault is not None:
            raise ResonateStoreError(self.fault)

    def check(self, connection: sqlite3.Connection) -> None:
        """Look, if that was not done within the last second.

        Raises:
            ResonateStoreError: Another file, or none, is at the path, or may be another's, too.
        """
        if time.monotonic() >= self._due_s:
            self.look(connection)

    def look(self, connection: sqlite3.Connection) -> None:
        """Look now.

        Raises:
            ResonateStoreError: Another file, or none, is at the path, or may be another's, too.
        """
        found = _found(self._path, self._identity)
        if found != self._identity:
            happened = "deleted or moved" if found is None else "replaced by another"
            self.fault = (
                f"the file was {happened} while this program has it open, and what was recorded "
                "since is lost with it: stop the program before you touch its file, and start it "
                "again now"
            )
            trouble = _empty_log(connection)
            if trouble:
                self.fault += (
                    f", but first take {self._path}-wal away: it belongs to the file that was "
                    f"there before, would damage another, and could not be emptied ({trouble})"
                )
        elif self._lock_identity is not None and self._lock_identity != _found(
            self._lock.path, self._lock_identity
        ):
            self.fault = (
                f"{self._lock.path} was deleted or replaced while this program has the file open, "
                "and another process may have opened the file since: leave that file alone, stop "
                "every program that uses the store, and start one again"
            )
        self.refuse()
        self._due_s = time.monotonic() + LOOK_S


def _found(path: str, unknown: Identity | None) -> Identity | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # who may not look knows nothing
        return unknown
    return status.st_dev, status.st_ino


def _empty_log(connection: sqlite3.Connection) -> str:
    """Write the log into the file that is open, wherever that is now; what was in the way."""
    try:
        is_busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.Error as error:
        return str(error)
    return "somebody reads it" if is_busy else ""
