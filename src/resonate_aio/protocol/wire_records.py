"""Records and messages as JSON objects, and back (current-protocol §3).

Both directions live here, so that what one side writes the other side reads. Absent parts are
left out on writing; null counts as absent on reading. A promise's owner and a task's lease and
retry instants never travel.

**Values.** The clients of every language put `base64(JSON)` into `data` (§11); the stores of
this project keep the JSON text itself. The two forms are mapped here, without loss: text that
is no canonical base64 of UTF-8 is kept as `raw:` plus the text, and goes out again as it came.
"""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum
from typing import Any, Final, TypeVar

from .fields import (
    FieldError,
    integer,
    mapping,
    optional_integer,
    optional_text,
    shown,
    strings,
    text,
)
from .records import EMPTY, Promise, PromiseState, Schedule, Task, TaskState, Value
from .requests import Execute, Message, Unblock

RAW: Final = "raw:"
"""Marks stored data that came over a wire and is not base64; JSON text never begins so."""

_UNKNOWN_RESUMES: Final = 1_000

_State = TypeVar("_State", bound=StrEnum)


def value_to_wire(value: Value) -> dict[str, Any]:
    """The value as a JSON object; an empty one is `{}`."""
    wire: dict[str, Any] = {}
    if value.headers is not None:
        wire["headers"] = value.headers
    if value.data is not None:
        wire["data"] = data_to_wire(value.data)
    return wire


def value_from_wire(data: Any, where: str) -> Value:
    """The value that a JSON object, or nothing, stands for.

    Raises:
        FieldError: It is something else.
    """
    if data is None:
        return EMPTY
    found = mapping(data, where)
    headers = strings(found, "headers", where)
    content = optional_text(found, "data", where)
    if content is None:
        return EMPTY if headers is None else Value(headers)
    return Value(headers, data_from_wire(content))


def data_to_wire(data: str) -> str:
    """Stored text as the wire carries it: base64, or what was marked as raw."""
    if data.startswith(RAW):
        return data[len(RAW) :]
    return base64.b64encode(data.encode()).decode()


def data_from_wire(data: str) -> str:
    """Wire text as the stores keep it; `data_to_wire` gives back exactly what came."""
    try:
        content = base64.b64decode(data, validate=True)
        if base64.b64encode(content).decode() == data:
            decoded = content.decode()
            if not decoded.startswith(RAW):
                return decoded
    except (binascii.Error, ValueError):
        pass
    return RAW + data


def promise_to_wire(promise: Promise) -> dict[str, Any]:
    """The promise as a JSON object."""
    wire: dict[str, Any] = {
        "id": promise.id,
        "state": promise.state.value,
        "param": value_to_wire(promise.param),
        "value": value_to_wire(promise.value),
        "tags": promise.tags,
        "timeoutAt": promise.timeout_at_ms,
        "createdAt": promise.created_at_ms,
    }
    if promise.settled_at_ms is not None:
        wire["settledAt"] = promise.settled_at_ms
    return wire


def promise_from_wire(data: Any, where: str = "promise") -> Promise:
    """The promise a JSON object stands for; its owner is unknown.

    Raises:
        FieldError: A field is missing or of another kind.
    """
    found = mapping(data, where)
    return Promise(
        id=text(found, "id", where),
        state=state_from_wire(PromiseState, found, "state", where),
        timeout_at_ms=integer(found, "timeoutAt", where),
        created_at_ms=optional_integer(found, "createdAt", where) or 0,
        param=value_from_wire(found.get("param"), f"{where}.param"),
        value=value_from_wire(found.get("value"), f"{where}.value"),
        tags=strings(found, "tags", where) or {},
        settled_at_ms=optional_integer(found, "settledAt", where),
    )


def task_to_wire(task: Task) -> dict[str, Any]:
    """The task as a JSON object; of its resumes the number."""
    wire: dict[str, Any] = {
        "id": task.id,
        "state": task.state.value,
        "version": task.version,
        "resumes": len(task.resumes),
    }
    if task.ttl_ms is not None:
        wire["ttl"] = task.ttl_ms
    if task.pid is not None:
        wire["pid"] = task.pid
    return wire


def task_from_wire(data: Any, where: str = "task") -> Task:
    """The task a JSON object stands for.

    Its `resumes` are as many empty strings as the object says (at most 1,000): the wire
    carries the number and not the ids. Servers write a number, a list or a boolean there.

    Raises:
        FieldError: A field is missing or of another kind.
    """
    found = mapping(data, where)
    resumes = found.get("resumes")
    count = len(resumes) if isinstance(resumes, list) else resumes
    count = int(count) if isinstance(count, int) else 0
    return Task(
        id=text(found, "id", where),
        state=state_from_wire(TaskState, found, "state", where),
        version=integer(found, "version", where),
        resumes=("",) * min(max(count, 0), _UNKNOWN_RESUMES),
        ttl_ms=optional_integer(found, "ttl", where),
        pid=optional_text(found, "pid", where),
    )


def schedule_to_wire(schedule: Schedule) -> dict[str, Any]:
    """The schedule as a JSON object."""
    wire: dict[str, Any] = {
        "id": schedule.id,
        "cron": schedule.cron,
        "promiseId": schedule.promise_id,
        "promiseTimeout": schedule.promise_timeout_ms,
        "promiseParam": value_to_wire(schedule.promise_param),
        "promiseTags": schedule.promise_tags,
        "createdAt": schedule.created_at_ms,
        "nextRunAt": schedule.next_run_at_ms,
    }
    if schedule.last_run_at_ms is not None:
        wire["lastRunAt"] = schedule.last_run_at_ms
    return wire


def schedule_from_wire(data: Any, where: str = "schedule") -> Schedule:
    """The schedule a JSON object stands for.

    Raises:
        FieldError: A field is missing or of another kind.
    """
    found = mapping(data, where)
    return Schedule(
        id=text(found, "id", where),
        cron=text(found, "cron", where),
        promise_id=text(found, "promiseId", where),
        promise_timeout_ms=integer(found, "promiseTimeout", where),
        created_at_ms=integer(found, "createdAt", where),
        next_run_at_ms=integer(found, "nextRunAt", where),
        promise_param=value_from_wire(found.get("promiseParam"), f"{where}.promiseParam"),
        promise_tags=strings(found, "promiseTags", where) or {},
        last_run_at_ms=optional_integer(found, "lastRunAt", where),
    )


def message_to_wire(message: Message, server_url: str | None = None) -> dict[str, Any]:
    """The message as a JSON object.

    Args:
        server_url: Told to workers with an execute message; None leaves the head empty.
    """
    if isinstance(message, Execute):
        return {
            "kind": "execute",
            "head": {} if server_url is None else {"serverUrl": server_url},
            "data": {"task": {"id": message.id, "version": message.version}},
        }
    return {"kind": "unblock", "head": {}, "data": {"promise": promise_to_wire(message.promise)}}


def message_from_wire(data: Any) -> Message:
    """The message a JSON object stands for; its head is ignored (S50).

    Raises:
        FieldError: It is not a message of this protocol.
    """
    found = mapping(data, "message")
    kind = text(found, "kind", "message")
    content = mapping(found.get("data"), "message.data")
    if kind == "execute":
        task = mapping(content.get("task"), "message.data.task")
        where = "message.data.task"
        return Execute(text(task, "id", where), integer(task, "version", where))
    if kind == "unblock":
        return Unblock(promise_from_wire(content.get("promise"), "message.data.promise"))
    raise FieldError(f"message.kind must be execute or unblock, is {shown(kind)}")


def state_from_wire(kind: type[_State], data: dict[str, Any], name: str, where: str) -> _State:
    """A required state.

    Raises:
        FieldError: It is missing or no state of this kind of record.
    """
    found = text(data, name, where)
    try:
        return kind(found)
    except ValueError:
        states = ", ".join(kind)
        raise FieldError(f"{where}.{name} must be one of {states}, is {shown(found)}") from None
