"""Requests to a store and the reply to one, as the current protocol names them (§5).

One struct per request kind, one struct for every reply: a reply has a status (the
protocol's code) and the parts that kind of answer carries. A refusal is a reply, not an
exception. Nothing here validates: see `validation.py`.
"""

from __future__ import annotations

import msgspec

from .records import EMPTY, Promise, PromiseState, Schedule, Task, TaskState, Value


class PromiseGet(msgspec.Struct, frozen=True, gc=False):
    """Read one promise."""

    id: str


class PromiseCreate(msgspec.Struct, frozen=True, gc=False):
    """Create a promise unless its id exists. `owner`: see `Promise.owner`."""

    id: str
    timeout_at_ms: int
    param: Value = EMPTY
    tags: dict[str, str] = {}
    owner: str = ""


class PromiseSettle(msgspec.Struct, frozen=True, gc=False):
    """Settle a promise into resolved, rejected or rejected_canceled."""

    id: str
    state: PromiseState
    value: Value = EMPTY


class PromiseRegisterCallback(msgspec.Struct, frozen=True, gc=False):
    """Wake the awaiter's task when the awaited promise settles."""

    awaited: str
    awaiter: str


class PromiseRegisterListener(msgspec.Struct, frozen=True, gc=False):
    """Send an unblock message to the address when the awaited promise settles."""

    awaited: str
    address: str


class PromiseSearch(msgspec.Struct, frozen=True, gc=False):
    """List promises by state and tags, in id order, `limit` at a time after `cursor`."""

    state: PromiseState | None = None
    tags: dict[str, str] = {}
    limit: int = 100
    cursor: str | None = None


class TaskGet(msgspec.Struct, frozen=True, gc=False):
    """Read one task."""

    id: str


class TaskCreate(msgspec.Struct, frozen=True, gc=False):
    """Create a targeted promise and acquire its task in one step."""

    pid: str
    ttl_ms: int
    action: PromiseCreate


class TaskAcquire(msgspec.Struct, frozen=True, gc=False):
    """Take the lease of a pending task at the version an execute message named."""

    id: str
    version: int
    pid: str
    ttl_ms: int


class TaskFence(msgspec.Struct, frozen=True, gc=False):
    """Create or settle a promise on condition that the task is held at this version."""

    id: str
    version: int
    action: PromiseCreate | PromiseSettle


class TaskRef(msgspec.Struct, frozen=True, gc=False):
    """One task at one version: what a heartbeat lists."""

    id: str
    version: int


class TaskHeartbeat(msgspec.Struct, frozen=True, gc=False):
    """Extend the leases that this pid holds at these versions."""

    pid: str
    tasks: tuple[TaskRef, ...]


class TaskSuspend(msgspec.Struct, frozen=True, gc=False):
    """Give the lease back until one of the awaited promises settles."""

    id: str
    version: int
    actions: tuple[PromiseRegisterCallback, ...]


class TaskFulfill(msgspec.Struct, frozen=True, gc=False):
    """Settle the task's own promise and end the task."""

    id: str
    version: int
    action: PromiseSettle


class TaskRelease(msgspec.Struct, frozen=True, gc=False):
    """Give the lease back at once; the task is dispatched again."""

    id: str
    version: int


class TaskHalt(msgspec.Struct, frozen=True, gc=False):
    """Take the task out of circulation, whoever holds it."""

    id: str


class TaskContinue(msgspec.Struct, frozen=True, gc=False):
    """Put a halted task back into circulation."""

    id: str


class TaskSearch(msgspec.Struct, frozen=True, gc=False):
    """List tasks by state, in id order, `limit` at a time after `cursor`."""

    state: TaskState | None = None
    limit: int = 100
    cursor: str | None = None


class ScheduleCreate(msgspec.Struct, frozen=True, gc=False):
    """Create a schedule unless its id exists."""

    id: str
    cron: str
    promise_id: str
    promise_timeout_ms: int
    promise_param: Value = EMPTY
    promise_tags: dict[str, str] = {}


class ScheduleGet(msgspec.Struct, frozen=True, gc=False):
    """Read one schedule."""

    id: str


class ScheduleDelete(msgspec.Struct, frozen=True, gc=False):
    """Delete one schedule; promises it created stay."""

    id: str


class ScheduleSearch(msgspec.Struct, frozen=True, gc=False):
    """List schedules whose promise tags include these, in id order."""

    tags: dict[str, str] = {}
    limit: int = 10
    cursor: str | None = None


Request = (
    PromiseGet
    | PromiseCreate
    | PromiseSettle
    | PromiseRegisterCallback
    | PromiseRegisterListener
    | PromiseSearch
    | TaskGet
    | TaskCreate
    | TaskAcquire
    | TaskFence
    | TaskHeartbeat
    | TaskSuspend
    | TaskFulfill
    | TaskRelease
    | TaskHalt
    | TaskContinue
    | TaskSearch
    | ScheduleCreate
    | ScheduleGet
    | ScheduleDelete
    | ScheduleSearch
)


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What a store answers. `status` is the protocol's code; absent parts are None or empty.

    200 done, 300 suspend refused because something awaited has settled, 400 bad request,
    404 no such id, 409 the task is not held so, 422 the promise cannot be waited for.
    `error` is one line of text for a status of 400 and above.
    """

    status: int
    promise: Promise | None = None
    task: Task | None = None
    schedule: Schedule | None = None
    preload: tuple[Promise, ...] = ()
    inner: Reply | None = None
    promises: tuple[Promise, ...] = ()
    tasks: tuple[Task, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    cursor: str | None = None
    error: str | None = None


class Execute(msgspec.Struct, frozen=True, gc=False):
    """Message: this task wants a worker, at this version (current-protocol §3)."""

    id: str
    version: int


class Unblock(msgspec.Struct, frozen=True, gc=False):
    """Message: a promise somebody listened for has settled (current-protocol §3)."""

    promise: Promise


Message = Execute | Unblock
