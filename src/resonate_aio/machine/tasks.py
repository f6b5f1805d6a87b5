"""The task.* requests, guard by guard (current-protocol §5).

Schema faults are answered before these run. Every named promise is touched first, so a task
whose promise is past its deadline is seen as fulfilled (C4).
"""

from __future__ import annotations

from heapq import nsmallest
from typing import Final

from ..protocol.records import Promise, Task, TaskState, is_external
from ..protocol.requests import (
    PromiseCreate,
    Reply,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
    TaskSearch,
    TaskSuspend,
)
from ..protocol.validation import refusal
from .promises import absent, add_callback, asked, internal, promise_create, promise_settle
from .search import after, search_tasks
from .state import State
from .transitions import (
    PENDING,
    TASK_ACQUIRED,
    TASK_FULFILLED,
    TASK_HALTED,
    TASK_PENDING,
    acquire,
    create_acquired,
    extend,
    halt,
    is_live,
    projected,
    release,
    settle_by_holder,
    suspend,
    touch,
    with_resumes,
)

PRELOAD_LIMIT: Final = 1_000
"""Preload is a cache: what it leaves out is asked for (current-protocol §7)."""


def task_get(state: State, request: TaskGet, now_ms: int) -> Reply:
    """Read one task."""
    touch(state, request.id, now_ms)
    task = state.tasks.get(request.id)
    return absent("task", request.id) if task is None else Reply(200, task=task)


def task_create(state: State, request: TaskCreate, now_ms: int) -> Reply:
    """Create a targeted promise held by the caller, or claim the pending task of an old one."""
    id = request.action.id
    promise = touch(state, id, now_ms)
    if promise is None:
        promise, task = create_acquired(
            state, asked(request.action, now_ms), request.pid, request.ttl_ms, now_ms
        )
        return _claimed(state, promise, task, now_ms)
    found = state.tasks.get(id)
    if found is None:
        return Reply(422, error=f"promise {id!r} has no target and so no task")
    match found.state:
        case TaskState.FULFILLED:
            return Reply(200, promise, found)
        case TaskState.PENDING:
            task = acquire(state, found, request.pid, request.ttl_ms, now_ms)
            return _claimed(state, promise, task, now_ms)
        case TaskState.ACQUIRED | TaskState.SUSPENDED | TaskState.HALTED:
            return Reply(409, error=f"task {id!r} is {found.state}")


def task_acquire(state: State, request: TaskAcquire, now_ms: int) -> Reply:
    """Take the lease of a pending task at this version."""
    promise = touch(state, request.id, now_ms)
    task = state.tasks.get(request.id)
    if promise is None or task is None:
        return absent("task", request.id)
    if task.state is not TASK_PENDING:
        return Reply(409, error=f"task {request.id!r} is {task.state}, not pending")
    if task.version != request.version:
        return _other_version(task, request.version)
    task = acquire(state, task, request.pid, request.ttl_ms, now_ms)
    return _claimed(state, promise, task, now_ms)


def task_fence(state: State, request: TaskFence, now_ms: int) -> Reply:
    """Create or settle a promise on condition that the task is held at this version.

    The reply's preload is empty: it would grow with every step that is fenced, and a holder
    that fences knows its own steps.
    """
    lost = refuse_unless_held(state, request.id, request.version, now_ms)
    if lost is not None:
        return lost
    action = request.action
    fault = refusal(action)
    if fault is not None:
        inner = Reply(400, error=fault)
    elif isinstance(action, PromiseCreate):
        inner = promise_create(state, action, now_ms)
    else:
        inner = promise_settle(state, action, now_ms)
    return Reply(200, inner=inner)


def task_heartbeat(state: State, request: TaskHeartbeat, now_ms: int) -> Reply:
    """Extend the listed leases that this pid holds; an empty list means all of them."""
    refs = request.tasks or tuple(
        TaskRef(task.id, task.version)
        for task in state.tasks.values()
        if task.state is TASK_ACQUIRED and task.pid == request.pid
    )
    for ref in refs:
        task = state.tasks.get(ref.id)
        if (
            task is not None
            and task.state is TASK_ACQUIRED
            and task.version == ref.version
            and task.pid == request.pid
            and is_live(state.promises[ref.id], now_ms)
        ):
            extend(state, task, now_ms)
    return Reply(200)


def task_suspend(state: State, request: TaskSuspend, now_ms: int) -> Reply:
    """Give the lease back until one of the awaited settles; 300 when one has already."""
    lost = refuse_unless_held(state, request.id, request.version, now_ms)
    if lost is not None:
        return lost
    task = state.tasks[request.id]
    ready = False
    for action in request.actions:
        awaited = touch(state, action.awaited, now_ms)
        if awaited is None:
            return Reply(422, error=f"awaited promise {action.awaited!r} does not exist")
        if not is_external(awaited):
            return internal(action.awaited)
        ready = ready or awaited.state is not PENDING
    if ready:
        # Touching an awaited may have added to what the task was told of.
        if state.tasks[request.id].resumes:
            with_resumes(state, state.tasks[request.id], ())
        return Reply(300, preload=preload(state, state.promises[request.id], now_ms))
    for action in request.actions:
        add_callback(state, action.awaited, request.id)
    suspend(state, task)
    return Reply(200)


def task_fulfill(state: State, request: TaskFulfill, now_ms: int) -> Reply:
    """Settle the task's own promise and end the task."""
    lost = refuse_unless_held(state, request.id, request.version, now_ms)
    if lost is not None:
        return lost
    action = request.action
    promise = state.promises[request.id]
    return Reply(200, settle_by_holder(state, promise, action.state, action.value, now_ms))


def task_release(state: State, request: TaskRelease, now_ms: int) -> Reply:
    """Give the lease back at once; the task is dispatched again at the same version."""
    lost = refuse_unless_held(state, request.id, request.version, now_ms)
    if lost is not None:
        return lost
    release(state, state.tasks[request.id], now_ms)
    return Reply(200)


def task_halt(state: State, request: TaskHalt, now_ms: int) -> Reply:
    """Take the task out of circulation, whoever holds it."""
    touch(state, request.id, now_ms)
    task = state.tasks.get(request.id)
    if task is None:
        return absent("task", request.id)
    if task.state is TASK_FULFILLED:
        return Reply(409, error=f"task {request.id!r} is fulfilled")
    if task.state is not TASK_HALTED:
        halt(state, task)
    return Reply(200)


def task_continue(state: State, request: TaskContinue, now_ms: int) -> Reply:
    """Put a halted task back into circulation."""
    touch(state, request.id, now_ms)
    task = state.tasks.get(request.id)
    if task is None:
        return absent("task", request.id)
    if task.state is not TASK_HALTED:
        return Reply(409, error=f"task {request.id!r} is {task.state}, not halted")
    release(state, task, now_ms)
    return Reply(200)


def task_search(state: State, request: TaskSearch, now_ms: int) -> Reply:
    """List the tasks in memory by state."""
    return search_tasks(after(state, request.cursor), state.tasks, request, now_ms)


def refuse_unless_held(state: State, id: str, version: int, now_ms: int) -> Reply | None:
    """404 or 409 unless the task is acquired at this version and its promise is live."""
    touch(state, id, now_ms)
    task = state.tasks.get(id)
    if task is None:
        return absent("task", id)
    if task.state is not TASK_ACQUIRED:
        return Reply(409, error=f"task {id!r} is {task.state}, not acquired")
    if task.version != version:
        return _other_version(task, version)
    return None


def preload(state: State, promise: Promise, now_ms: int) -> tuple[Promise, ...]:
    """The other promises of the promise's branch, in id order, projected (§7)."""
    branch = promise.tags.get("resonate:branch")
    if branch is None:
        return ()
    ids = state.branches.get(branch, {})
    first = nsmallest(PRELOAD_LIMIT, (id for id in ids if id != promise.id))
    return tuple(projected(state.promises[id], now_ms) for id in first)


def _claimed(state: State, promise: Promise, task: Task, now_ms: int) -> Reply:
    return Reply(200, promise, task, preload=preload(state, promise, now_ms))


def _other_version(task: Task, version: int) -> Reply:
    return Reply(409, error=f"task {task.id!r} is at version {task.version}, not {version}")
