"""The records a store keeps: promises, tasks, schedules.

Frozen structs: a change is a new record, so a reference to one is a snapshot that may be
handed to a writer thread, put into a reply or compared in a test without a copy.
Field names and states are the specification's (current-protocol §3); units come last.
This file knows nothing of requests, guards or time.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class PromiseState(StrEnum):
    """The state of a promise (current-protocol §3)."""

    PENDING = "pending"
    RESOLVED = "resolved"
    REJECTED = "rejected"
    CANCELED = "rejected_canceled"
    TIMEDOUT = "rejected_timedout"


class TaskState(StrEnum):
    """The state of a task (current-protocol §3)."""

    PENDING = "pending"
    ACQUIRED = "acquired"
    SUSPENDED = "suspended"
    HALTED = "halted"
    FULFILLED = "fulfilled"


SETTLEABLE = frozenset({PromiseState.RESOLVED, PromiseState.REJECTED, PromiseState.CANCELED})
"""The states a client may settle a promise into; the deadline alone times one out."""


class Value(msgspec.Struct, frozen=True, gc=False):
    """What a promise carries: text data (JSON) with string headers. Both may be absent."""

    headers: dict[str, str] | None = None
    data: str | None = None


EMPTY = Value()


class Promise(msgspec.Struct, frozen=True, gc=False):
    """A durable promise: write-once, identified by its id.

    `owner` is the stored parent link: the id of the execution that asked for this promise
    under a derived id, or "" for a promise that is a root of its own. It never travels on
    the wire.
    """

    id: str
    state: PromiseState
    timeout_at_ms: int
    created_at_ms: int
    param: Value = EMPTY
    value: Value = EMPTY
    tags: dict[str, str] = {}
    settled_at_ms: int | None = None
    owner: str = ""


class Task(msgspec.Struct, frozen=True, gc=False):
    """The right to execute a promise's function; it has a version and, while acquired, a lease.

    `resumes` holds the ids of the awaited promises that settled (its length is what the
    wire shows). `expires_at_ms`, `retry_at_ms` and `lapses` are the store's own.
    """

    id: str
    state: TaskState
    version: int
    resumes: tuple[str, ...] = ()
    ttl_ms: int | None = None
    pid: str | None = None
    expires_at_ms: int | None = None
    retry_at_ms: int | None = None
    acquired_at_ms: int | None = None
    lapses: int = 0


class Schedule(msgspec.Struct, frozen=True, gc=False):
    """A cron rule that creates one promise per occurrence."""

    id: str
    cron: str
    promise_id: str
    promise_timeout_ms: int
    created_at_ms: int
    next_run_at_ms: int
    promise_param: Value = EMPTY
    promise_tags: dict[str, str] = {}
    last_run_at_ms: int | None = None


def is_pending(promise: Promise) -> bool:
    """Whether the stored record is pending (its deadline may have passed all the same)."""
    return promise.state is PromiseState.PENDING


def is_timer(promise: Promise) -> bool:
    """Whether the deadline resolves the promise instead of rejecting it."""
    return promise.tags.get("resonate:timer") == "true"


def target_of(promise: Promise) -> str | None:
    """The address execute messages go to, or None for a promise without a task."""
    return promise.tags.get("resonate:target")


def is_external(promise: Promise) -> bool:
    """Whether others may wait for the promise and its deadline is enforced.

    The specification's rule plus `resonate:scope` = `global` (current-protocol §1).
    """
    tags = promise.tags
    return bool(tags) and (
        "resonate:target" in tags
        or tags.get("resonate:timer") == "true"
        or tags.get("resonate:external") == "true"
        or tags.get("resonate:scope") == "global"
    )
