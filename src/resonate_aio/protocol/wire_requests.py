"""Requests as JSON objects, and back, kind by kind (current-protocol §5).

Both directions live here, so that what a client writes a server reads. Field types are judged
(a fault is a `FieldError`, the protocol's 400); what a well-typed request may say is judged in
`validation.py`. The envelope around these objects is in `envelope.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from . import requests as r
from .fields import (
    FieldError,
    integer,
    items,
    mapping,
    optional_integer,
    optional_text,
    shown,
    strings,
    text,
)
from .records import PromiseState, TaskState
from .wire_records import state_from_wire, value_from_wire, value_to_wire

Data = dict[str, Any]

KINDS: Final[dict[str, type[Any]]] = {
    "promise.get": r.PromiseGet,
    "promise.create": r.PromiseCreate,
    "promise.settle": r.PromiseSettle,
    "promise.register_callback": r.PromiseRegisterCallback,
    "promise.register_listener": r.PromiseRegisterListener,
    "promise.search": r.PromiseSearch,
    "task.get": r.TaskGet,
    "task.create": r.TaskCreate,
    "task.acquire": r.TaskAcquire,
    "task.fence": r.TaskFence,
    "task.heartbeat": r.TaskHeartbeat,
    "task.suspend": r.TaskSuspend,
    "task.fulfill": r.TaskFulfill,
    "task.release": r.TaskRelease,
    "task.halt": r.TaskHalt,
    "task.continue": r.TaskContinue,
    "task.search": r.TaskSearch,
    "schedule.create": r.ScheduleCreate,
    "schedule.get": r.ScheduleGet,
    "schedule.delete": r.ScheduleDelete,
    "schedule.search": r.ScheduleSearch,
}
"""Every request kind of the protocol but the debug ones, which are the server's own."""

_NAMES: Final = {request: kind for kind, request in KINDS.items()}


def kind_of(request: r.Request) -> str:
    """The protocol's name of a request's kind."""
    return _NAMES[type(request)]


def request_from_wire(kind: str, data: Data) -> r.Request:
    """The request that an opened envelope asks for.

    Raises:
        FieldError: The kind is unknown, or a field is missing or of another kind.
    """
    read = _READERS.get(kind)
    if read is None:
        raise FieldError(f"kind {shown(kind)} is not known")
    request: r.Request = read(data, "data")
    return request


def _create_data(request: r.PromiseCreate) -> Data:
    return {
        "id": request.id,
        "timeoutAt": request.timeout_at_ms,
        "param": value_to_wire(request.param),
        "tags": request.tags,
    }


def _settle_data(request: r.PromiseSettle) -> Data:
    return {
        "id": request.id,
        "state": request.state.value,
        "value": value_to_wire(request.value),
    }


def _action(request: r.PromiseCreate | r.PromiseSettle | r.PromiseRegisterCallback) -> Data:
    return {"kind": kind_of(request), "head": {}, "data": request_data(request)}


def _page(limit: int, cursor: str | None, filters: Data) -> Data:
    wanted = {name: value for name, value in filters.items() if value}
    page: Data = {**wanted, "limit": limit}
    if cursor is not None:
        page["cursor"] = cursor
    return page


def request_data(request: r.Request) -> Data:
    """The `data` of the request's envelope."""
    match request:
        case r.PromiseCreate():
            return _create_data(request)
        case r.PromiseSettle():
            return _settle_data(request)
        case r.PromiseRegisterCallback(awaited=awaited, awaiter=awaiter):
            return {"awaited": awaited, "awaiter": awaiter}
        case r.PromiseRegisterListener(awaited=awaited, address=address):
            return {"awaited": awaited, "address": address}
        case r.PromiseSearch(state=state, tags=tags, limit=limit, cursor=cursor):
            return _page(limit, cursor, {"state": state and state.value, "tags": tags})
        case r.TaskSearch(state=task_state, limit=limit, cursor=cursor):
            return _page(limit, cursor, {"state": task_state and task_state.value})
        case r.ScheduleSearch(tags=tags, limit=limit, cursor=cursor):
            return _page(limit, cursor, {"tags": tags})
        case r.ScheduleCreate():
            return {
                "id": request.id,
                "cron": request.cron,
                "promiseId": request.promise_id,
                "promiseTimeout": request.promise_timeout_ms,
                "promiseParam": value_to_wire(request.promise_param),
                "promiseTags": request.promise_tags,
            }
        case _:
            return _task_data(request)


def _task_data(request: Any) -> Data:
    match request:
        case r.TaskCreate(pid=pid, ttl_ms=ttl_ms, action=action):
            return {"pid": pid, "ttl": ttl_ms, "action": _action(action)}
        case r.TaskAcquire(id=id, version=version, pid=pid, ttl_ms=ttl_ms):
            return {"id": id, "version": version, "pid": pid, "ttl": ttl_ms}
        case r.TaskFence(id=id, version=version, action=action):
            return {"id": id, "version": version, "action": _action(action)}
        case r.TaskFulfill(id=id, version=version, action=action):
            return {"id": id, "version": version, "action": _action(action)}
        case r.TaskSuspend(id=id, version=version, actions=actions):
            return {"id": id, "version": version, "actions": [_action(one) for one in actions]}
        case r.TaskHeartbeat(pid=pid, tasks=tasks):
            refs = [{"id": task.id, "version": task.version} for task in tasks]
            return {"pid": pid, "tasks": refs}
        case r.TaskRelease(id=id, version=version):
            return {"id": id, "version": version}
        case _:
            return {"id": request.id}


def _read_id(kind: type[Any]) -> Callable[[Data, str], Any]:
    def read(data: Data, where: str) -> Any:
        return kind(text(data, "id", where))

    return read


def _read_promise_create(data: Data, where: str) -> r.PromiseCreate:
    return r.PromiseCreate(
        text(data, "id", where),
        integer(data, "timeoutAt", where),
        value_from_wire(data.get("param"), f"{where}.param"),
        strings(data, "tags", where) or {},
    )


def _read_promise_settle(data: Data, where: str) -> r.PromiseSettle:
    return r.PromiseSettle(
        text(data, "id", where),
        state_from_wire(PromiseState, data, "state", where),
        value_from_wire(data.get("value"), f"{where}.value"),
    )


def _read_register_callback(data: Data, where: str) -> r.PromiseRegisterCallback:
    return r.PromiseRegisterCallback(text(data, "awaited", where), text(data, "awaiter", where))


def _read_register_listener(data: Data, where: str) -> r.PromiseRegisterListener:
    return r.PromiseRegisterListener(text(data, "awaited", where), text(data, "address", where))


def _limit(data: Data, where: str, default: int) -> int:
    limit = optional_integer(data, "limit", where)
    return default if limit is None else limit


def _read_promise_search(data: Data, where: str) -> r.PromiseSearch:
    has_state = data.get("state") is not None
    return r.PromiseSearch(
        state_from_wire(PromiseState, data, "state", where) if has_state else None,
        strings(data, "tags", where) or {},
        _limit(data, where, 100),
        optional_text(data, "cursor", where),
    )


def _read_task_search(data: Data, where: str) -> r.TaskSearch:
    has_state = data.get("state") is not None
    return r.TaskSearch(
        state_from_wire(TaskState, data, "state", where) if has_state else None,
        _limit(data, where, 100),
        optional_text(data, "cursor", where),
    )


def _read_schedule_search(data: Data, where: str) -> r.ScheduleSearch:
    return r.ScheduleSearch(
        strings(data, "tags", where) or {},
        _limit(data, where, 10),
        optional_text(data, "cursor", where),
    )


def _read_action(value: Any, where: str, kinds: tuple[str, ...]) -> Any:
    action = mapping(value, where)
    kind = text(action, "kind", where)
    if kind not in kinds:
        raise FieldError(f"{where}.kind must be {' or '.join(kinds)}, is {shown(kind)}")
    return _READERS[kind](mapping(action.get("data"), f"{where}.data"), f"{where}.data")


def _read_task_create(data: Data, where: str) -> r.TaskCreate:
    return r.TaskCreate(
        text(data, "pid", where),
        integer(data, "ttl", where),
        _read_action(data.get("action"), f"{where}.action", ("promise.create",)),
    )


def _read_task_acquire(data: Data, where: str) -> r.TaskAcquire:
    return r.TaskAcquire(
        text(data, "id", where),
        integer(data, "version", where),
        text(data, "pid", where),
        integer(data, "ttl", where),
    )


def _read_task_fence(data: Data, where: str) -> r.TaskFence:
    kinds = ("promise.create", "promise.settle")
    return r.TaskFence(
        text(data, "id", where),
        integer(data, "version", where),
        _read_action(data.get("action"), f"{where}.action", kinds),
    )


def _read_task_heartbeat(data: Data, where: str) -> r.TaskHeartbeat:
    refs = []
    for place, item in enumerate(items(data, "tasks", where)):
        inner = f"{where}.tasks[{place}]"
        ref = mapping(item, inner)
        refs.append(r.TaskRef(text(ref, "id", inner), integer(ref, "version", inner)))
    return r.TaskHeartbeat(text(data, "pid", where), tuple(refs))


def _read_task_suspend(data: Data, where: str) -> r.TaskSuspend:
    actions = tuple(
        _read_action(item, f"{where}.actions[{place}]", ("promise.register_callback",))
        for place, item in enumerate(items(data, "actions", where))
    )
    return r.TaskSuspend(text(data, "id", where), integer(data, "version", where), actions)


def _read_task_fulfill(data: Data, where: str) -> r.TaskFulfill:
    return r.TaskFulfill(
        text(data, "id", where),
        integer(data, "version", where),
        _read_action(data.get("action"), f"{where}.action", ("promise.settle",)),
    )


def _read_task_release(data: Data, where: str) -> r.TaskRelease:
    return r.TaskRelease(text(data, "id", where), integer(data, "version", where))


def _read_schedule_create(data: Data, where: str) -> r.ScheduleCreate:
    return r.ScheduleCreate(
        text(data, "id", where),
        text(data, "cron", where),
        text(data, "promiseId", where),
        integer(data, "promiseTimeout", where),
        value_from_wire(data.get("promiseParam"), f"{where}.promiseParam"),
        strings(data, "promiseTags", where) or {},
    )


_READERS: Final[dict[str, Callable[[Data, str], Any]]] = {
    "promise.get": _read_id(r.PromiseGet),
    "promise.create": _read_promise_create,
    "promise.settle": _read_promise_settle,
    "promise.register_callback": _read_register_callback,
    "promise.register_listener": _read_register_listener,
    "promise.search": _read_promise_search,
    "task.get": _read_id(r.TaskGet),
    "task.create": _read_task_create,
    "task.acquire": _read_task_acquire,
    "task.fence": _read_task_fence,
    "task.heartbeat": _read_task_heartbeat,
    "task.suspend": _read_task_suspend,
    "task.fulfill": _read_task_fulfill,
    "task.release": _read_task_release,
    "task.halt": _read_id(r.TaskHalt),
    "task.continue": _read_id(r.TaskContinue),
    "task.search": _read_task_search,
    "schedule.create": _read_schedule_create,
    "schedule.get": _read_id(r.ScheduleGet),
    "schedule.delete": _read_id(r.ScheduleDelete),
    "schedule.search": _read_schedule_search,
}
