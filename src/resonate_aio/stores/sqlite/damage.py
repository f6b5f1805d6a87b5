"""Which of SQLite's errors pass and which never do, and what is said of the latter.

What never passes (a damaged page, a schema that somebody changed) is not worth another
attempt: whoever asked is told at once, and the others are served (law 14).
"""

from __future__ import annotations

import sqlite3
from typing import Final

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NEVER_PASSES: Final = _DAMAGED | {
    sqlite3.SQLITE_ERROR,  # such as a table that is not there
    sqlite3.SQLITE_INTERNAL,
    sqlite3.SQLITE_MISUSE,
}
_CORRUPT_FILE_SYSTEM: Final = 8458
"""SQLITE_IOERR_CORRUPTFS, of the I/O errors the one that does not pass."""


def never_passes(error: sqlite3.Error) -> bool:
    """Whether trying again is in vain."""
    code = _code(error)
    return code & 0xFF in _NEVER_PASSES or code == _CORRUPT_FILE_SYSTEM


def is_passing(error: sqlite3.Error) -> bool:
    """Whether the error comes from outside and is expected to pass (law 8)."""
    return isinstance(error, sqlite3.OperationalError) and not never_passes(error)


def damage(path: str, error: sqlite3.Error) -> str:
    """What is wrong with the file, and what to do about it."""
    code = _code(error)
    is_damaged = code & 0xFF in _DAMAGED or code == _CORRUPT_FILE_SYSTEM
    return (
        f"{path} {'is damaged' if is_damaged else 'is not as it was left'} "
        f"({error.sqlite_errorname}: {error}): stop the program, see what "
        "`PRAGMA integrity_check` says of the file, and restore a backup"
    )


def path_of(connection: sqlite3.Connection) -> str:
    """The file that is open, as its messages name it."""
    path: str = connection.execute("PRAGMA database_list").fetchone()[2]
    return path


def _code(error: sqlite3.Error) -> int:
    """SQLite's code; what Python raises of its own has none."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code
