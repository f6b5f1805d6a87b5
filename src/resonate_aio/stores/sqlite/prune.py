"""Retention in the file: whole executions, oldest first, a few per transaction (S45).

Runs on the writer's thread. Membership goes by the stored owner, never by id prefix; the
prefix only bounds where an execution's local children can be.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from ..lineage import prefixes

_ROOTS_PER_STEP: Final = 50

_ENDED: Final = (
    "SELECT settled_at_ms, id, owner FROM promises"
    " WHERE settled_at_ms IS NOT NULL AND (owner = '' OR task_state IS NOT NULL)"
    " AND settled_at_ms < ? AND (settled_at_ms, id) > (?, ?)"
    " ORDER BY settled_at_ms, id LIMIT ?"
)
_IS_UNSETTLED: Final = "SELECT 1 FROM promises WHERE id = ? AND settled_at_ms IS NULL"
_IS_NAMED: Final = (
    "SELECT 1 FROM promises AS log JOIN promises AS asker ON asker.id = log.owner"
    " WHERE log.explicit = ? AND asker.settled_at_ms IS NULL LIMIT 1"
)
_LOCAL: Final = "id >= ? AND id < ? AND owner = ? AND task_state IS NULL"
_IS_PARTLY_PENDING: Final = f"SELECT 1 FROM promises WHERE {_LOCAL} AND settled_at_ms IS NULL"  # noqa: S608
_DELETE_LOCAL: Final = f"DELETE FROM promises WHERE {_LOCAL}"  # noqa: S608
_DELETE: Final = "DELETE FROM promises WHERE id = ?"


class Prune:
    """The state of one pruning: how far it got.

    Args:
        settled_before_ms: Roots settled at this instant or later stay.
    """

    __slots__ = ("_after", "deleted", "is_done", "settled_before_ms")

    def __init__(self, settled_before_ms: int) -> None:
        self.settled_before_ms = settled_before_ms
        self.deleted = 0
        self.is_done = False
        self._after = (-(2**62), "")

    def some(self, connection: sqlite3.Connection) -> None:
        """Delete some more; sets `is_done` at the end."""
        connection.execute("BEGIN IMMEDIATE")
        roots = connection.execute(
            _ENDED, (self.settled_before_ms, *self._after, _ROOTS_PER_STEP)
        ).fetchall()
        deleted = 0
        for _, id, owner in roots:
            if not _is_wanted(connection, id, owner):
                deleted += _delete(connection, id)
        connection.execute("COMMIT")
        self.deleted += deleted
        self.is_done = len(roots) < _ROOTS_PER_STEP
        if roots:
            self._after = roots[-1][:2]


def _delete(connection: sqlite3.Connection, id: str) -> bool:
    """Delete a root with its local children, unless one of those is pending.

    Workers elsewhere may speak the other dialect: their children continue with a colon (S61).
    """
    ranges = [(f"{id}.", f"{id}/", id), (f"{id}:", f"{id};", id)]
    for local in ranges:
        if connection.execute(_IS_PARTLY_PENDING, local).fetchone() is not None:
            return False
    for local in ranges:
        connection.execute(_DELETE_LOCAL, local)
    connection.execute(_DELETE, (id,))
    return True


def _is_wanted(connection: sqlite3.Connection, id: str, owner: str) -> bool:
    """Whether an unsettled execution asked for the root, or would derive its id."""
    if owner and connection.execute(_IS_UNSETTLED, (owner,)).fetchone() is not None:
        return True
    if connection.execute(_IS_NAMED, (id,)).fetchone() is not None:
        return True
    return any(
        connection.execute(_IS_UNSETTLED, (prefix,)).fetchone() is not None
        for prefix in prefixes(id)
    )
