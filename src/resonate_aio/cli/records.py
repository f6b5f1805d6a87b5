"""Records as the commands show them: as text for people, as JSON for scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ..errors import ValueCodecError
from ..protocol.records import Promise, Schedule, Task, Value
from ..protocol.values import decode, encode
from ..protocol.wire_records import RAW
from .output import escaped

_GAP: Final = "  "
_NAME_WIDTH: Final = 9
_WIDEST: Final = 48
_FAR_MS: Final = 253_402_300_800_000
"""The end of the calendar."""


def data_of(value: Value) -> Any:
    """What a value carries, decoded; text that is no JSON is given as it is."""
    if value.data is None or value.data.startswith(RAW):
        return None if value.data is None else value.data[len(RAW) :]
    try:
        return decode(value.data)
    except ValueCodecError:
        return value.data


def shown_value(value: Value) -> str:
    """What a value carries, on one line."""
    if value.data is None:
        return "-"
    return escaped(value.data.removeprefix(RAW))


def instant(ms: int | None) -> str:
    """An instant in UTC, to the second."""
    if ms is None:
        return "-"
    if not 0 <= ms < _FAR_MS:
        return f"{ms} ms"
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def span(ms: float) -> str:
    """A span of time, in the unit that fits."""
    for unit, length_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if ms >= length_ms:
            return f"{ms / length_ms:.3g}{unit}"
    return f"{ms:.0f}ms"


def promise_json(promise: Promise) -> dict[str, Any]:
    """A promise for scripts: the protocol's names, with decoded data."""
    return {
        "id": promise.id,
        "state": promise.state.value,
        "param": _value_json(promise.param),
        "value": _value_json(promise.value),
        "tags": promise.tags,
        "timeoutAt": promise.timeout_at_ms,
        "createdAt": promise.created_at_ms,
        "settledAt": promise.settled_at_ms,
    }


def task_json(task: Task) -> dict[str, Any]:
    """A task for scripts."""
    return {
        "id": task.id,
        "state": task.state.value,
        "version": task.version,
        "resumes": len(task.resumes),
        "ttl": task.ttl_ms,
        "pid": task.pid,
    }


def schedule_json(schedule: Schedule) -> dict[str, Any]:
    """A schedule for scripts."""
    return {
        "id": schedule.id,
        "cron": schedule.cron,
        "promiseId": schedule.promise_id,
        "promiseTimeout": schedule.promise_timeout_ms,
        "promiseParam": _value_json(schedule.promise_param),
        "promiseTags": schedule.promise_tags,
        "createdAt": schedule.created_at_ms,
        "nextRunAt": schedule.next_run_at_ms,
        "lastRunAt": schedule.last_run_at_ms,
    }


def promise_text(promise: Promise) -> str:
    """A promise for people, some lines long."""
    lines = [
        ("state", promise.state.value),
        ("created", instant(promise.created_at_ms)),
        ("deadline", instant(promise.timeout_at_ms)),
        ("settled", instant(promise.settled_at_ms)),
        ("param", shown_value(promise.param)),
        ("value", shown_value(promise.value)),
    ]
    return _described(promise.id, lines, promise.tags)


def schedule_text(schedule: Schedule) -> str:
    """A schedule for people, some lines long."""
    lines = [
        ("cron", escaped(schedule.cron)),
        ("creates", escaped(schedule.promise_id)),
        ("timeout", span(schedule.promise_timeout_ms)),
        ("next run", instant(schedule.next_run_at_ms)),
        ("last run", instant(schedule.last_run_at_ms)),
        ("param", shown_value(schedule.promise_param)),
    ]
    return _described(schedule.id, lines, schedule.promise_tags)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows under their heads, in columns; foreign text is escaped.

    A cell that is wider than a column may be moves what follows on its line, and only there.
    """
    cells = [list(head), *([escaped(cell) for cell in row] for row in rows)]
    widths = [min(_WIDEST, max(len(row[column]) for row in cells)) for column in range(len(head))]
    return "\n".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _described(id: str, lines: list[tuple[str, str]], tags: dict[str, str]) -> str:
    told = [escaped(id)]
    told += [f"{_GAP}{name:<{_NAME_WIDTH}} {text}" for name, text in lines]
    for place, (name, text) in enumerate(sorted(tags.items())):
        title = "" if place else "tags"
        told.append(f"{_GAP}{title:<{_NAME_WIDTH}} {escaped(name)}={escaped(text)}")
    return "\n".join(told)


def _value_json(value: Value) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if value.headers is not None:
        shown["headers"] = value.headers
    if value.data is not None:
        data = data_of(value)
        shown["data"] = data if _fits(data) else value.data
    return shown


def _fits(data: Any) -> bool:
    """Whether the data can be printed as JSON: integers beyond 64 bits cannot."""
    if isinstance(data, int) and not isinstance(data, bool):
        return -(2**63) <= data < 2**64
    if isinstance(data, dict):
        return all(map(_fits, data.values()))
    return not isinstance(data, list) or all(map(_fits, data))


def encoded(value: Any) -> str:
    """A value as it is stored."""
    return encode(value)
