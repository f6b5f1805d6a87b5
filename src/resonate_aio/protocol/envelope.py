"""The envelope of the current protocol: what `POST /` carries, both ways (§2, §5).

A client writes `request_to_wire` and reads `reply_from_wire`; a server reads `opened` and
`request_from_wire` and writes `reply_to_wire`; messages are `message_to_wire` and
`message_from_wire`. Everything is decoded JSON: bytes, sockets and statuses of HTTP belong to
the shells. A fault in what was read is a `FieldError`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from . import requests as r
from .fields import (
    FieldError,
    integer,
    items,
    mapping,
    optional_integer,
    optional_text,
    shown,
    text,
)
from .records import Promise
from .wire_records import (
    message_from_wire,
    message_to_wire,
    promise_from_wire,
    promise_to_wire,
    schedule_from_wire,
    schedule_to_wire,
    task_from_wire,
    task_to_wire,
)
from .wire_requests import KINDS, Data, kind_of, request_data, request_from_wire

__all__ = [
    "KINDS",
    "VERSION",
    "Data",
    "Envelope",
    "FieldError",
    "auth_of",
    "kind_of",
    "message_from_wire",
    "message_to_wire",
    "opened",
    "refusal_to_wire",
    "reply_from_wire",
    "reply_to_wire",
    "request_from_wire",
    "request_to_wire",
    "salvaged",
]

VERSION: Final = "2026-04-01"
"""The one protocol version; both id dialects call themselves so."""

UNKNOWN_KIND: Final = "unknown"
UNKNOWN_CORRELATION: Final = "0"
"""What an answer echoes when the request could not be read so far."""


class Envelope(msgspec.Struct, frozen=True):
    """An opened request: the head's parts, and data that nobody has looked at yet."""

    kind: str
    corr_id: str
    data: Data
    auth: str | None = None
    debug_time_ms: int | None = None
    origin: str | None = None


# -- requests


def request_to_wire(
    request: r.Request, corr_id: str, *, auth: str | None = None, origin: str | None = None
) -> Data:
    """The request as an envelope.

    Args:
        corr_id: Echoed by the answer.
        auth: Bearer token for the head; None leaves it out.
        origin: Routing hint for the head (`resonate:origin`); None leaves it out.

    Raises:
        UnicodeEncodeError: The data of a value holds a lone surrogate.
    """
    head: Data = {"corrId": corr_id, "version": VERSION}
    if auth is not None:
        head["auth"] = auth
    if origin is not None:
        head["resonate:origin"] = origin
    return {"kind": kind_of(request), "head": head, "data": request_data(request)}


def salvaged(envelope: Any) -> tuple[str, str]:
    """The kind and the correlation id to echo for a request that may be malformed."""
    if not isinstance(envelope, dict):
        return UNKNOWN_KIND, UNKNOWN_CORRELATION
    kind, head = envelope.get("kind"), envelope.get("head")
    corr_id = head.get("corrId") if isinstance(head, dict) else None
    return (
        kind if isinstance(kind, str) and kind else UNKNOWN_KIND,
        corr_id if isinstance(corr_id, str) else UNKNOWN_CORRELATION,
    )


def auth_of(envelope: Any) -> str | None:
    """The token in the head of a request that may be malformed, or None."""
    head = envelope.get("head") if isinstance(envelope, dict) else None
    auth = head.get("auth") if isinstance(head, dict) else None
    return auth if isinstance(auth, str) else None


def opened(envelope: Any) -> Envelope:
    """The request's outer shape, checked in the protocol's order (§2).

    Raises:
        FieldError: It is no envelope of this version.
    """
    found = mapping(envelope, "request")
    kind = text(found, "kind", "request")
    head = mapping(found.get("head"), "head")
    corr_id, version = text(head, "corrId", "head"), text(head, "version", "head")
    if not kind:
        raise FieldError("request.kind must not be empty")
    data = mapping(found.get("data"), "data")
    if version != VERSION:
        raise FieldError(f"head.version must be {VERSION}, is {shown(version)}")
    return Envelope(
        kind,
        corr_id,
        data,
        optional_text(head, "auth", "head"),
        optional_integer(head, "resonate:debug_time", "head"),
        optional_text(head, "resonate:origin", "head"),
    )


# -- replies


def reply_to_wire(request: r.Request, corr_id: str, reply: r.Reply) -> Data:
    """The reply to this request as an envelope; an error's data is its text (§2)."""
    kind = kind_of(request)
    if reply.status >= 400:
        return refusal_to_wire(kind, corr_id, reply.status, reply.error or "refused")
    data: Data
    if reply.status == 300:
        data = {"preload": [promise_to_wire(promise) for promise in reply.preload]}
    elif isinstance(request, r.TaskFence) and reply.inner is not None:
        inner = reply_to_wire(request.action, corr_id, reply.inner)
        data = {"action": inner, "preload": [promise_to_wire(one) for one in reply.preload]}
    else:
        write = _WRITERS.get(kind)
        data = {} if write is None else write(reply)
    return _answer(kind, corr_id, reply.status, data)


def refusal_to_wire(kind: str, corr_id: str, status: int, error: str) -> Data:
    """An envelope that says no, to a request that may not even have been read."""
    return _answer(kind, corr_id, status, error)


def reply_from_wire(request: r.Request, corr_id: str, envelope: Any) -> r.Reply:
    """The reply that an envelope carries for this request.

    A refusal need not echo what it answers: servers write `unknown` where they could not tell.

    Raises:
        FieldError: It answers another request, or a part is missing that this kind of answer
            must have. Whether the request was carried out is then unknown.
    """
    found = mapping(envelope, "response")
    head = mapping(found.get("head"), "response.head")
    status = integer(head, "status", "response.head")
    if not 200 <= status <= 599:
        raise FieldError(f"response.head.status must be 200 to 599, is {status}")
    if status >= 400:
        return r.Reply(status, error=_error(found.get("data")))
    kind = kind_of(request)
    answered, echoed = text(found, "kind", "response"), text(head, "corrId", "response.head")
    if answered != kind or echoed != corr_id:
        raise FieldError(
            f"response answers {shown(answered)} {shown(echoed)}, not {kind!r} {shown(corr_id)}"
        )
    return _reply(request, corr_id, status, mapping(found.get("data"), "response.data"))


def _answer(kind: str, corr_id: str, status: int, data: Any) -> Data:
    head = {"corrId": corr_id, "status": status, "version": VERSION}
    return {"kind": kind, "head": head, "data": data}


def _error(data: Any) -> str:
    if isinstance(data, dict):
        data = data.get("error")
    return data if isinstance(data, str) else "the server gave no reason"


def _reply(request: r.Request, corr_id: str, status: int, data: Data) -> r.Reply:
    if status == 300:
        return r.Reply(status, preload=_preload(data))
    if isinstance(request, r.TaskFence):
        action = data.get("action")
        inner = reply_from_wire(request.action, corr_id, action)
        return r.Reply(status, inner=inner, preload=_preload(data))
    read = _READERS.get(type(request))
    return r.Reply(status) if read is None else read(status, data)


# -- what a 200 shows, kind by kind


def _promise(reply: r.Reply) -> Data:
    assert reply.promise is not None
    return {"promise": promise_to_wire(reply.promise)}


def _task(reply: r.Reply) -> Data:
    assert reply.task is not None
    return {"task": task_to_wire(reply.task)}


def _claim(reply: r.Reply) -> Data:
    preload = [promise_to_wire(promise) for promise in reply.preload]
    return {**_task(reply), **_promise(reply), "preload": preload}


def _schedule(reply: r.Reply) -> Data:
    assert reply.schedule is not None
    return {"schedule": schedule_to_wire(reply.schedule)}


def _page(name: str, write: Callable[[Any], Data]) -> Callable[[r.Reply], Data]:
    def page(reply: r.Reply) -> Data:
        data: Data = {name: [write(record) for record in getattr(reply, name)]}
        if reply.cursor is not None:
            data["cursor"] = reply.cursor
        return data

    return page


_WRITERS: Final[dict[str, Callable[[r.Reply], Data]]] = {
    "promise.get": _promise,
    "promise.create": _promise,
    "promise.settle": _promise,
    "promise.register_callback": _promise,
    "promise.register_listener": _promise,
    "promise.search": _page("promises", promise_to_wire),
    "task.get": _task,
    "task.create": _claim,
    "task.acquire": _claim,
    "task.fulfill": _promise,
    "task.search": _page("tasks", task_to_wire),
    "schedule.create": _schedule,
    "schedule.get": _schedule,
    "schedule.search": _page("schedules", schedule_to_wire),
}
"""Kinds that are not here answer an empty object."""


def _preload(data: Data) -> tuple[Promise, ...]:
    if data.get("preload") is None:
        return ()
    return tuple(
        promise_from_wire(item, f"response.data.preload[{place}]")
        for place, item in enumerate(items(data, "preload", "response.data"))
    )


def _read_promise(status: int, data: Data) -> r.Reply:
    return r.Reply(status, promise_from_wire(data.get("promise"), "response.data.promise"))


def _read_task(status: int, data: Data) -> r.Reply:
    return r.Reply(status, task=task_from_wire(data.get("task"), "response.data.task"))


def _read_claim(status: int, data: Data) -> r.Reply:
    return r.Reply(
        status,
        promise_from_wire(data.get("promise"), "response.data.promise"),
        task_from_wire(data.get("task"), "response.data.task"),
        preload=_preload(data),
    )


def _read_schedule(status: int, data: Data) -> r.Reply:
    schedule = schedule_from_wire(data.get("schedule"), "response.data.schedule")
    return r.Reply(status, schedule=schedule)


def _read_page(name: str, read: Callable[[Any, str], Any]) -> Callable[[int, Data], r.Reply]:
    def page(status: int, data: Data) -> r.Reply:
        where = f"response.data.{name}"
        parts: dict[str, Any] = {"cursor": optional_text(data, "cursor", "response.data")}
        parts[name] = tuple(
            read(item, f"{where}[{place}]")
            for place, item in enumerate(items(data, name, "response.data"))
        )
        return r.Reply(status, **parts)

    return page


_READERS: Final[dict[type[Any], Callable[[int, Data], r.Reply]]] = {
    r.PromiseGet: _read_promise,
    r.PromiseCreate: _read_promise,
    r.PromiseSettle: _read_promise,
    r.PromiseRegisterCallback: _read_promise,
    r.PromiseRegisterListener: _read_promise,
    r.PromiseSearch: _read_page("promises", promise_from_wire),
    r.TaskGet: _read_task,
    r.TaskCreate: _read_claim,
    r.TaskAcquire: _read_claim,
    r.TaskFulfill: _read_promise,
    r.TaskSearch: _read_page("tasks", task_from_wire),
    r.ScheduleCreate: _read_schedule,
    r.ScheduleGet: _read_schedule,
    r.ScheduleSearch: _read_page("schedules", schedule_from_wire),
}
