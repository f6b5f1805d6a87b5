"""The statements that write many rows at a time.

What a statement costs goes by its placeholders, and most columns of most rows are NULL: a
statement names the columns that have a value in one of its rows, and SQLite fills the others.
This file knows no connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from ...protocol.records import Promise
from ..lineage import EXPLICIT
from .rows import COLUMNS, MOST_ROWS, Stored, row_of, text

Statement = tuple[str, Sequence[Any]]
"""SQL, and the values for its placeholders."""

_NAMES: Final = tuple(COLUMNS.split(", "))

_FEW: Final = 8
"""Rows that are not worth a statement of their own columns."""

_MUTABLE: Final = (
    "state",
    "settled_at_ms",
    "value_headers",
    "value_data",
    "callbacks",
    "listeners",
    "task_state",
    "version",
    "resumes",
    "ttl_ms",
    "pid",
    "expires_at_ms",
    "retry_at_ms",
    "acquired_at_ms",
    "lapses",
)

# A settled row never changes again (law 1): the condition holds even against our own bugs.
_ON_CONFLICT: Final = (
    f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _MUTABLE)}"
    " WHERE promises.settled_at_ms IS NULL"
)

_PLAIN_LEAF: Final = (
    "id, state, timeout_at_ms, created_at_ms, settled_at_ms, owner, param_headers, param_data,"
    " value_data"
)
_LEAF: Final = f"{_PLAIN_LEAF}, explicit, value_headers, tags"
_ON_LEAF_CONFLICT: Final = (
    " ON CONFLICT (id) DO UPDATE SET state = excluded.state,"
    " settled_at_ms = excluded.settled_at_ms, value_headers = excluded.value_headers,"
    " value_data = excluded.value_data, callbacks = NULL, listeners = NULL"
    " WHERE promises.settled_at_ms IS NULL"
)


@lru_cache(maxsize=512)
def _insert(columns: str, on_conflict: str, count: int) -> str:
    """The statement for so many rows; those without an id are left out."""
    row = f"({', '.join('?' * (columns.count(',') + 1))})"
    if count == 1:
        rows = f"VALUES {row}"
    else:
        rows = f"SELECT * FROM (VALUES {', '.join([row] * count)}) WHERE column1 IS NOT NULL"  # noqa: S608
    return f"INSERT INTO promises ({columns}) {rows}{on_conflict}"


UPSERT: Final = _insert(COLUMNS, _ON_CONFLICT, 1)
"""The statement for one row of `row_of`."""


def leaf_upserts(promises: Sequence[Promise]) -> Iterator[Statement]:
    """The statements that write promises without tasks, which nobody waits for."""
    for at in range(0, len(promises), MOST_ROWS):
        plain: list[Any] = []
        others: list[Any] = []
        for promise in promises[at : at + MOST_ROWS]:
            param, value, tags = promise.param, promise.value, promise.tags
            headers = param.headers
            columns = (
                promise.id,
                promise.state._value_,
                promise.timeout_at_ms,
                promise.created_at_ms,
                promise.settled_at_ms,
                promise.owner,
                text(headers),
                param.data,
                value.data,
            )
            explicit = headers.get(EXPLICIT) if headers else None
            if explicit is None and value.headers is None and not tags:
                plain += columns
            else:
                others += (*columns, explicit, text(value.headers), text(tags) if tags else None)
        if plain:
            yield _padded(_PLAIN_LEAF, _ON_LEAF_CONFLICT, plain)
        if others:
            yield _padded(_LEAF, _ON_LEAF_CONFLICT, others)


def row_upserts(rows: Sequence[Stored]) -> Iterator[Statement]:
    """The statements that write rows with all they may hold."""
    for at in range(0, len(rows), MOST_ROWS):
        written = [row_of(stored) for stored in rows[at : at + MOST_ROWS]]
        if len(written) < _FEW:
            yield _padded(COLUMNS, _ON_CONFLICT, list(chain.from_iterable(written)))
            continue
        count = len(written)
        columns = {
            name: column
            for name, column in zip(_NAMES, zip(*written, strict=True), strict=True)
            if column.count(None) < count
        }
        values = list(chain.from_iterable(zip(*columns.values(), strict=True)))
        yield _padded(", ".join(columns), _ON_CONFLICT, values)


def _padded(columns: str, on_conflict: str, values: list[Any]) -> Statement:
    """Few statements for any count, so that SQLite need not compile one for each."""
    width = columns.count(",") + 1
    count = len(values) // width
    padded = 1 << (count - 1).bit_length()
    values += (None,) * (width * (padded - count))
    return _insert(columns, on_conflict, padded), values
