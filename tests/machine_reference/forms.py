"""What of a reply and of a state must be equal between two implementations.

Left out: error texts, a store's own fields (leases of tasks that are not held, lapses),
and callbacks of awaiters that have ended, which a store may drop early or late.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from resonate_aio.machine.state import WATCHED
from resonate_aio.protocol import requests as rq
from resonate_aio.protocol.records import Promise, Schedule, Task, TaskState, is_pending

from .model import fulfilled, project

Form = Any


def task_form(task: Task | None) -> Form:
    """A task as the wire shows it, with the ids behind `resumes`."""
    if task is None:
        return None
    resumes = sorted(task.resumes)
    return (task.id, task.state, task.version, resumes, task.ttl_ms, task.pid)


def reply_form(reply: rq.Reply) -> Form:
    """A reply, with preload as ids; the preload of a fence is a store's own affair (§7)."""
    return {
        "status": reply.status,
        "promise": reply.promise,
        "task": task_form(reply.task),
        "schedule": reply.schedule,
        "preload": None if reply.inner else sorted(promise.id for promise in reply.preload),
        "inner": None if reply.inner is None else reply_form(reply.inner),
        "promises": reply.promises,
        "tasks": [task_form(task) for task in reply.tasks],
        "schedules": reply.schedules,
        "cursor": reply.cursor,
    }


def state_form(
    promises: Mapping[str, Promise],
    tasks: Mapping[str, Task],
    schedules: Mapping[str, Schedule],
    callbacks: Iterable[tuple[str, str]],
    listeners: Iterable[tuple[str, str]],
    now: int,
) -> Form:
    """A whole state, projected to this instant."""
    shown = {id: project(promise, now) for id, promise in promises.items()}
    live = {id for id, promise in shown.items() if is_pending(promise)}
    return {
        "promises": shown,
        "tasks": {
            id: (
                task_form(task if id in live else fulfilled(task)),
                task.expires_at_ms if id in live else None,
            )
            for id, task in tasks.items()
        },
        "schedules": dict(schedules),
        "callbacks": sorted(pair for pair in callbacks if live.issuperset(pair)),
        "listeners": sorted(pair for pair in listeners if pair[0] in live),
    }


def outbox_form(outbox: Mapping[Any, tuple[str, rq.Message]], tasks: Mapping[str, Task]) -> Form:
    """The messages of an outbox in any order, without execute messages nobody can act on."""
    return sorted(
        (address, message.id, message.version)
        if isinstance(message, rq.Execute)
        else (address, message.promise.id, -1)
        for address, message in outbox.values()
        if address != WATCHED  # what a machine tells its own shell is no message
        and (
            isinstance(message, rq.Unblock)
            or (
                tasks[message.id].state is TaskState.PENDING
                and tasks[message.id].version == message.version
            )
        )
    )


def first_difference(expected: Form, found: Form, path: str = "") -> str:
    """Where two forms differ first, in one line."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted({*expected, *found}, key=str):
            if expected.get(key) != found.get(key):
                return first_difference(expected.get(key), found.get(key), f"{path}/{key}")
    if isinstance(expected, list) and isinstance(found, list) and len(expected) + len(found) > 6:
        missing = [one for one in expected if one not in found]
        surplus = [one for one in found if one not in expected]
        return f"{path}: missing {missing!r}, surplus {surplus!r}"
    return f"{path}: expected {expected!r}, found {found!r}"
