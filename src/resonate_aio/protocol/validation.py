"""Schema checks: what answers 400 before any state is read.

`refusal(request)` names the first fault of a well-typed request. The rules are those of
current-protocol §5 in the embedded default of §13: id separators and lineage tags are not
judged at all, a timer may carry a target, heartbeats may mix origins. Cron expressions are
judged by the machine, which owns the calendar. This file knows no state and no time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .addresses import is_address
from .records import SETTLEABLE
from .requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSearch,
    PromiseSettle,
    Request,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    ScheduleSearch,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRelease,
    TaskSearch,
    TaskSuspend,
)

MAX_INSTANT_MS: Final = 2**63 - 1
"""The greatest instant and version: what a 64-bit integer column holds."""

MAX_SPAN_MS: Final = 2**53 - 1
"""The greatest ttl and promise timeout: an instant plus a span stays an instant."""

MAX_SEARCH_LIMIT: Final = 1_000


def refusal(request: Request) -> str | None:
    """The reason to answer 400, or None for a request that state may judge.

    The action inside a task.fence is not looked at: it is judged after the fence held, and
    its fault is the inner reply's (current-protocol §5, task.fence).
    """
    return _CHECKS[type(request)](request)


def _id(name: str, text: str) -> str | None:
    if not text:
        return f"{name} must not be empty"
    if "\x00" in text:
        return f"{name} must not hold a NUL character: {text!r}"
    return None


def _number(name: str, number: int, least: int, most: int) -> str | None:
    if least <= number <= most:
        return None
    return f"{name} must be between {least} and {most}, is {number}"


def _tags(tags: dict[str, str], timeout_at_ms: int) -> str | None:
    target = tags.get("resonate:target")
    if target == "":
        return "tag resonate:target must not be empty"
    if target is not None and "\x00" in target:
        return "tag resonate:target must not hold a NUL character"
    delay = tags.get("resonate:delay")
    if delay is None:
        return None
    if target is None:
        return "tag resonate:delay needs tag resonate:target"
    if not (delay.isascii() and delay.isdigit() and len(delay) <= 19):
        return f"tag resonate:delay must be an integer of milliseconds, is {delay!r}"
    if int(delay) >= timeout_at_ms:
        return f"tag resonate:delay must be before timeoutAt {timeout_at_ms}, is {delay}"
    return None


def _by_id(request: Any) -> str | None:
    return _id("id", request.id)


def _versioned(request: Any) -> str | None:
    return _id("id", request.id) or _number("version", request.version, 0, MAX_INSTANT_MS)


def _lease(pid: str, ttl_ms: int) -> str | None:
    return _id("pid", pid) or _number("ttl", ttl_ms, 1, MAX_SPAN_MS)


def _promise_create(request: PromiseCreate) -> str | None:
    return (
        _id("id", request.id)
        or _number("timeoutAt", request.timeout_at_ms, 0, MAX_INSTANT_MS)
        or _tags(request.tags, request.timeout_at_ms)
    )


def _promise_settle(request: PromiseSettle) -> str | None:
    if request.state not in SETTLEABLE:
        states = ", ".join(sorted(SETTLEABLE))
        return f"state must be one of {states}, is {request.state}"
    return _id("id", request.id)


def _promise_register_callback(request: PromiseRegisterCallback) -> str | None:
    if request.awaited == request.awaiter:
        return f"promise {request.awaited!r} cannot wait for itself"
    return _id("awaited", request.awaited) or _id("awaiter", request.awaiter)


def _promise_register_listener(request: PromiseRegisterListener) -> str | None:
    if not is_address(request.address):
        return f"address must be scheme://rest, is {request.address!r}"
    return _id("awaited", request.awaited)


def _search(request: PromiseSearch | TaskSearch | ScheduleSearch) -> str | None:
    return _number("limit", request.limit, 1, MAX_SEARCH_LIMIT)


def _task_create(request: TaskCreate) -> str | None:
    tags = request.action.tags
    if "resonate:target" not in tags:
        return "task.create needs tag resonate:target"
    if "resonate:delay" in tags:
        return "task.create refuses tag resonate:delay"
    return _lease(request.pid, request.ttl_ms) or _promise_create(request.action)


def _task_acquire(request: TaskAcquire) -> str | None:
    return _versioned(request) or _lease(request.pid, request.ttl_ms)


def _task_fence(request: TaskFence) -> str | None:
    if request.action.id == request.id:
        return f"task {request.id!r} cannot fence its own promise"
    return _versioned(request)


def _task_heartbeat(request: TaskHeartbeat) -> str | None:
    return _id("pid", request.pid)


def _task_suspend(request: TaskSuspend) -> str | None:
    if not request.actions:
        return f"task {request.id!r} must wait for at least one promise"
    seen: set[str] = set()
    for action in request.actions:
        if action.awaiter != request.id:
            return f"awaiter must be the task {request.id!r}, is {action.awaiter!r}"
        if action.awaited in seen:
            return f"promise {action.awaited!r} is awaited twice"
        seen.add(action.awaited)
        fault = _promise_register_callback(action)
        if fault is not None:
            return fault
    return _versioned(request)


def _task_fulfill(request: TaskFulfill) -> str | None:
    if request.action.id != request.id:
        return f"task {request.id!r} cannot fulfil promise {request.action.id!r}"
    return _promise_settle(request.action) or _versioned(request)


def _schedule_create(request: ScheduleCreate) -> str | None:
    return (
        _id("id", request.id)
        or _id("cron", request.cron)
        or _id("promiseId", request.promise_id)
        or _number("promiseTimeout", request.promise_timeout_ms, 0, MAX_SPAN_MS)
        or _tags(request.promise_tags, MAX_INSTANT_MS)
    )


_CHECKS: Final[dict[type[Any], Callable[[Any], str | None]]] = {
    PromiseGet: _by_id,
    PromiseCreate: _promise_create,
    PromiseSettle: _promise_settle,
    PromiseRegisterCallback: _promise_register_callback,
    PromiseRegisterListener: _promise_register_listener,
    PromiseSearch: _search,
    TaskGet: _by_id,
    TaskCreate: _task_create,
    TaskAcquire: _task_acquire,
    TaskFence: _task_fence,
    TaskHeartbeat: _task_heartbeat,
    TaskSuspend: _task_suspend,
    TaskFulfill: _task_fulfill,
    TaskRelease: _versioned,
    TaskHalt: _by_id,
    TaskContinue: _by_id,
    TaskSearch: _search,
    ScheduleCreate: _schedule_create,
    ScheduleGet: _by_id,
    ScheduleDelete: _by_id,
    ScheduleSearch: _search,
}
