"""The records that rows of a SQLite store hold.

What somebody else wrote into a row so that it means nothing any more is told from what was
stored (`UnreadableRecordError`), and never guessed at: who reads it leaves it as it is. A
payload or headers that are nonsense are no fault of the row: they stop their own execution.
This file knows no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import methodcaller
from typing import Any, Final, TypeVar

import msgspec
import orjson

from ...errors import UnreadableRecordError
from ...machine.cron import is_cron
from ...protocol.records import EMPTY, Promise, PromiseState, Schedule, Task, TaskState, Value
from .rows import Stored

text_of: Final[Callable[[bytes], str]] = methodcaller("decode", "utf-8", "backslashreplace")
"""Stored bytes as text: what is no UTF-8 becomes no JSON either, and hurts no other row."""

_UNREADABLE: Final = {"resonate-aio:log": "unreadable"}  # a log that stops its execution, by name

T = TypeVar("T", bound=msgspec.Struct)


class _Row(msgspec.Struct, array_like=True, gc=False):
    """What the columns of a promise may hold; `Any` where it harms nobody but its reader."""

    id: str
    state: PromiseState
    timeout_at_ms: int
    created_at_ms: int
    settled_at_ms: int | None
    owner: str
    explicit: str | None
    param_headers: str | None
    param_data: Any
    value_headers: str | None
    value_data: Any
    tags: str | None
    callbacks: str | None
    listeners: str | None
    task_state: TaskState | None
    version: int | None
    resumes: str | None
    ttl_ms: int | None
    pid: str | None
    expires_at_ms: int | None
    retry_at_ms: int | None
    acquired_at_ms: int | None
    lapses: int | None


class _ScheduleRow(msgspec.Struct, array_like=True, gc=False):
    """What the columns of a schedule may hold."""

    id: str
    cron: str
    promise_id: str
    promise_timeout_ms: int
    created_at_ms: int
    next_run_at_ms: int
    last_run_at_ms: int | None
    param_headers: str | None
    param_data: Any
    tags: str | None


def stored_of(row: tuple[Any, ...]) -> Stored:
    """What a selected row holds.

    Raises:
        UnreadableRecordError: It holds what no store of ours wrote: it is to be left alone.
    """
    read: _Row = _columns("promise", row, _Row)
    try:
        return _stored(read, row)
    except ValueError as fault:
        raise UnreadableRecordError("promise", read.id, str(fault)) from None


def readable(
    rows: Iterable[tuple[Any, ...]],
) -> tuple[list[Stored], list[UnreadableRecordError]]:
    """What the rows hold, and what is wrong with those that cannot be read."""
    found: list[Stored] = []
    faults: list[UnreadableRecordError] = []
    for row in rows:
        try:
            found.append(stored_of(row))
        except UnreadableRecordError as fault:
            faults.append(fault)
    return found, faults


def _stored(read: _Row, row: tuple[Any, ...]) -> Stored:
    is_pending = read.state is PromiseState.PENDING
    if is_pending != (read.settled_at_ms is None):
        raise ValueError(f"it is {read.state} and settled_at_ms is {read.settled_at_ms}")
    tags = {} if read.tags is None else _tags(read.tags)
    has_task = read.task_state is not None
    if is_pending and has_task != ("resonate:target" in tags):
        raise ValueError(
            "tags name no resonate:target, and it has a task"
            if has_task
            else "tags name a resonate:target, and it has no task"
        )
    promise = Promise(
        read.id,
        read.state,
        read.timeout_at_ms,
        read.created_at_ms,
        _value(row[7], row[8]),
        _value(row[9], row[10]),
        tags,
        read.settled_at_ms,
        read.owner,
    )
    if not has_task and read.callbacks is None and read.listeners is None:
        return Stored(promise)
    task = _task(read) if has_task else None
    return Stored(
        promise, task, _names("callbacks", read.callbacks), _names("listeners", read.listeners)
    )


def _task(read: _Row) -> Task:
    if read.task_state is None or read.version is None or read.lapses is None:
        raise ValueError("its task has no version or no lapses")
    return Task(
        id=read.id,
        state=read.task_state,
        version=read.version,
        resumes=tuple(_names("resumes", read.resumes)),
        ttl_ms=read.ttl_ms,
        pid=read.pid,
        expires_at_ms=read.expires_at_ms,
        retry_at_ms=read.retry_at_ms,
        acquired_at_ms=read.acquired_at_ms,
        lapses=read.lapses,
    )


def schedule_of(row: tuple[Any, ...]) -> Schedule:
    """The schedule that a selected row holds.

    Raises:
        UnreadableRecordError: It holds what no store of ours wrote: it is to be left alone.
    """
    read: _ScheduleRow = _columns("schedule", row, _ScheduleRow)
    try:
        if not is_cron(read.cron):
            raise ValueError(f"cron is no cron expression: {read.cron!r:.100}")
        tags = {} if read.tags is None else _tags(read.tags)
    except ValueError as fault:
        raise UnreadableRecordError("schedule", read.id, str(fault)) from None
    return Schedule(
        id=read.id,
        cron=read.cron,
        promise_id=read.promise_id,
        promise_timeout_ms=read.promise_timeout_ms,
        created_at_ms=read.created_at_ms,
        next_run_at_ms=read.next_run_at_ms,
        last_run_at_ms=read.last_run_at_ms,
        promise_param=_value(row[7], row[8]),
        promise_tags=tags,
    )


def _columns(kind: str, row: tuple[Any, ...], shape: type[T]) -> T:
    """The columns of a row, each of its type.

    Raises:
        UnreadableRecordError: One is not.
    """
    try:
        return msgspec.convert(row, shape)
    except msgspec.ValidationError as fault:
        text, _, at = str(fault).partition(" - at `$[")
        number = at.removesuffix("]`")
        names = shape.__struct_fields__
        where = f"{names[int(number)]}: " if number.isdigit() else ""
        raise UnreadableRecordError(kind, str(row[0]), f"{where}{text}") from None


def _names(column: str, text: str | None) -> list[str]:
    """The ids or addresses of a column.

    Raises:
        ValueError: It holds something else.
    """
    if text is None:
        return []
    names = _parsed(column, text)
    if type(names) is not list or not all(type(name) is str for name in names):
        raise ValueError(f"{column} is no list of texts: {text!r:.100}")
    return names


def _tags(text: str) -> dict[str, str]:
    """The tags of a record.

    Raises:
        ValueError: The column holds something else.
    """
    tags = _parsed("tags", text)
    if type(tags) is not dict or not all(type(tag) is str for tag in tags.values()):
        raise ValueError(f"tags is no object of texts: {text!r:.100}")
    return tags


def _parsed(column: str, text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError as fault:
        raise ValueError(f"{column} is no JSON ({fault}): {text!r:.100}") from None


def _strings(text: str | None) -> dict[str, str] | None:
    """Headers; what somebody wrote there that is none stops its own execution, by name."""
    if text is None:
        return None
    try:
        data = orjson.loads(text)
    except (ValueError, TypeError):
        data = None
    if type(data) is dict and all(type(item) is str for item in data.values()):
        return data
    return dict(_UNREADABLE)


def _value(headers: str | None, data: str | bytes | None) -> Value:
    if headers is None and data is None:
        return EMPTY
    if isinstance(data, bytes):
        data = text_of(data)  # somebody wrote a BLOB
    return Value(_strings(headers), data)
