"""The named transitions of promises and tasks: the only place where their state is assigned.

Each transcribes a write rule or an internal step of current-protocol §4.2 and §4.3 and keeps
what hangs together together: settling fulfils the own task and drains callbacks and
listeners in the same step, entering `pending` arms the retry, leaving it withdraws the
execute. Guards are the callers' affair, except those of the internal steps themselves.
"""

from __future__ import annotations

from typing import Final

from ..protocol.records import (
    EMPTY,
    Promise,
    PromiseState,
    Task,
    TaskState,
    Value,
    is_external,
    is_timer,
    target_of,
)
from ..protocol.requests import Execute, Unblock
from .deadlines import LEASE, PROMISE, RETRY
from .state import WATCHED, State

# Bound once: looking a member up on an enum class costs more than the rest of a guard.
PENDING: Final = PromiseState.PENDING
RESOLVED: Final = PromiseState.RESOLVED
TIMEDOUT: Final = PromiseState.TIMEDOUT
TASK_PENDING: Final = TaskState.PENDING
TASK_ACQUIRED: Final = TaskState.ACQUIRED
TASK_SUSPENDED: Final = TaskState.SUSPENDED
TASK_HALTED: Final = TaskState.HALTED
TASK_FULFILLED: Final = TaskState.FULFILLED


NEVER_MS: Final = 2**52
"""A lease beyond this instant ends with its holder's process, not with time."""


def is_live(promise: Promise, now_ms: int) -> bool:
    """Whether the promise is pending and its deadline has not come (inclusive)."""
    return promise.state is PENDING and promise.timeout_at_ms > now_ms


def projected(promise: Promise, now_ms: int) -> Promise:
    """The promise as every reader sees it: the timeout always wins (§4.1)."""
    if promise.state is not PENDING or promise.timeout_at_ms > now_ms:
        return promise
    return _at_deadline(promise, promise.created_at_ms)


def delay_of(promise: Promise) -> int:
    """The instant before which the task is not dispatched; 0 without a usable tag."""
    delay = promise.tags.get("resonate:delay")
    return int(delay) if delay and delay.isascii() and delay.isdigit() and len(delay) < 20 else 0


def _at_deadline(promise: Promise, created_at_ms: int) -> Promise:
    return Promise(
        promise.id,
        RESOLVED if is_timer(promise) else TIMEDOUT,
        promise.timeout_at_ms,
        created_at_ms,
        promise.param,
        EMPTY,
        promise.tags,
        promise.timeout_at_ms,
        promise.owner,
    )


# -- promises


def touch(state: State, id: str, now_ms: int) -> Promise | None:
    """The stored record of a named id, after storing its projection where they differ (R1)."""
    promise = state.promises.get(id)
    if promise is not None and promise.state is PENDING and promise.timeout_at_ms <= now_ms:
        return expire(state, promise, now_ms)
    return promise


def born(promise: Promise, at_ms: int) -> Promise:
    """The record of a promise created at this instant: pending, or settled by its deadline."""
    if promise.timeout_at_ms <= at_ms:
        return _at_deadline(promise, promise.timeout_at_ms)
    if promise.created_at_ms == at_ms and promise.state is PENDING:
        return promise
    return Promise(
        promise.id,
        PENDING,
        promise.timeout_at_ms,
        at_ms,
        promise.param,
        EMPTY,
        promise.tags,
        None,
        promise.owner,
    )


def create(state: State, promise: Promise, at_ms: int, now_ms: int) -> Promise:
    """Store a new promise as created at `at_ms`, with its task if it has a target."""
    promise = born(promise, at_ms)
    state.promises[promise.id] = promise
    state.changed[promise.id] = None
    if promise.tags:
        enlist(state, promise)
        give_task(state, promise, at_ms, now_ms)
    return promise


def create_acquired(
    state: State, promise: Promise, pid: str, ttl_ms: int, now_ms: int
) -> tuple[Promise, Task]:
    """Store a new targeted promise whose task is held from the start; nothing is sent."""
    promise = born(promise, now_ms)
    state.promises[promise.id] = promise
    state.changed[promise.id] = None
    enlist(state, promise)
    task = Task(promise.id, TASK_PENDING, 0)
    if promise.state is PENDING:
        return promise, acquire(state, task, pid, ttl_ms, now_ms)
    return promise, _fulfil(state, task)


def enlist(state: State, promise: Promise) -> None:
    """Index a stored promise and arm its deadline if others may wait for it (C1)."""
    branch = promise.tags.get("resonate:branch")
    if branch is not None:
        state.branches.setdefault(branch, {})[promise.id] = None
    if promise.state is PENDING and is_external(promise):
        state.deadlines.arm(PROMISE, promise.id, promise.timeout_at_ms)


def give_task(state: State, promise: Promise, at_ms: int, now_ms: int) -> None:
    """Give a new promise its task if it has a target, dispatched unless it is delayed."""
    if "resonate:target" not in promise.tags:
        return
    task = Task(promise.id, TASK_PENDING, 0)
    if promise.state is not PENDING:
        _fulfil(state, task)
    else:
        _enter_pending(state, task, (), max(delay_of(promise), at_ms), now_ms)


def settle(
    state: State, promise: Promise, verdict: PromiseState, value: Value, now_ms: int
) -> Promise:
    """Settle a live promise; its task, callbacks and listeners follow in the same step."""
    settled = Promise(
        promise.id,
        verdict,
        promise.timeout_at_ms,
        promise.created_at_ms,
        promise.param,
        value,
        promise.tags,
        now_ms,
        promise.owner,
    )
    state.promises[promise.id] = settled
    state.changed[promise.id] = None
    if promise.tags or promise.id in state.watched:
        _conclude(state, settled, now_ms)
    return settled


def settle_by_holder(
    state: State, promise: Promise, verdict: PromiseState, value: Value, now_ms: int
) -> Promise:
    """Settle a promise whose task the caller holds: it need not be told (S13)."""
    settled = settle(state, promise, verdict, value, now_ms)
    state.outbox.pop(("held", promise.id), None)
    return settled


def expire(state: State, promise: Promise, now_ms: int) -> Promise:
    """Store the deadline's verdict on a pending promise that is past it (R1)."""
    settled = _at_deadline(promise, promise.created_at_ms)
    state.promises[promise.id] = settled
    state.changed[promise.id] = None
    if promise.tags or promise.id in state.watched:
        _conclude(state, settled, now_ms)
    return settled


def _conclude(state: State, promise: Promise, now_ms: int) -> None:
    """Fulfil the own task and drain listeners (R3) and callbacks (R4)."""
    id = promise.id
    state.deadlines.disarm(PROMISE, id)
    task = state.tasks.get(id)
    if task is not None and task.state is not TASK_FULFILLED:
        if task.state is TASK_ACQUIRED:
            state.outbox["held", id] = (WATCHED, Unblock(promise))
        _fulfil(state, task)
    addresses = state.listeners.pop(id, None)
    if addresses is not None:
        message = Unblock(promise)
        for address in addresses:
            state.outbox["unblock", id, address] = (address, message)
    if state.watched.pop(id, 0) is None:
        state.outbox["watched", id] = (WATCHED, Unblock(promise))
    awaiters = state.callbacks.pop(id, None)
    if awaiters is not None:
        for awaiter in awaiters:
            _resume(state, awaiter, id, now_ms)


# -- tasks


def acquire(state: State, task: Task, pid: str, ttl_ms: int, now_ms: int) -> Task:
    """Give the lease of a pending task to a holder; the version grows here and nowhere else."""
    return _put(
        state,
        Task(
            id=task.id,
            state=TASK_ACQUIRED,
            version=task.version + 1,
            ttl_ms=ttl_ms,
            pid=pid,
            expires_at_ms=now_ms + ttl_ms,
            acquired_at_ms=now_ms,
            lapses=task.lapses,
        ),
    )


def extend(state: State, task: Task, now_ms: int) -> Task:
    """Let the lease of an acquired task end one ttl from now."""
    return _put(
        state,
        Task(
            id=task.id,
            state=TASK_ACQUIRED,
            version=task.version,
            resumes=task.resumes,
            ttl_ms=task.ttl_ms,
            pid=task.pid,
            expires_at_ms=now_ms + (task.ttl_ms or 0),
            acquired_at_ms=task.acquired_at_ms,
            lapses=task.lapses,
        ),
    )


def release(state: State, task: Task, now_ms: int) -> Task:
    """Make an acquired or halted task pending and dispatch it: release, continue, R5."""
    return _enter_pending(state, task, task.resumes, now_ms, now_ms)


def suspend(state: State, task: Task) -> Task:
    """Give the lease back until something awaited settles."""
    return _put(state, _idle(task, TASK_SUSPENDED, ()))


def halt(state: State, task: Task) -> Task:
    """Take the task out of circulation; what it was told of meanwhile stays."""
    return _put(state, _idle(task, TASK_HALTED, task.resumes))


def with_resumes(state: State, task: Task, resumes: tuple[str, ...]) -> Task:
    """Replace what the task was told of, in whatever state it is."""
    return _put(
        state,
        Task(
            task.id,
            task.state,
            task.version,
            resumes,
            task.ttl_ms,
            task.pid,
            task.expires_at_ms,
            task.retry_at_ms,
            task.acquired_at_ms,
            task.lapses,
        ),
    )


def dispatch(state: State, task: Task, now_ms: int) -> Task:
    """Send the execute of a pending task and arm its redelivery (R6).

    Nothing happens for a promise that is past its deadline (C5).
    """
    return _enter_pending(state, task, task.resumes, now_ms, now_ms)


def postpone(state: State, task: Task, retry_at_ms: int, lapses: int) -> Task:
    """Put the next dispatch of a pending task at an instant and withdraw its execute."""
    if state.dispatched.pop(task.id, 0) is None:
        state.outbox.pop(("execute", task.id), None)
    return _put(
        state,
        Task(
            task.id,
            TASK_PENDING,
            task.version,
            task.resumes,
            retry_at_ms=retry_at_ms,
            acquired_at_ms=task.acquired_at_ms,
            lapses=lapses,
        ),
    )


def _enter_pending(
    state: State, task: Task, resumes: tuple[str, ...], retry_at_ms: int, now_ms: int
) -> Task:
    """Make a task pending; dispatch it if that is due and its promise is live."""
    id = task.id
    promise = state.promises[id]
    target = target_of(promise)
    due = retry_at_ms <= now_ms < promise.timeout_at_ms
    task = _put(
        state,
        Task(
            id,
            TASK_PENDING,
            task.version,
            resumes,
            retry_at_ms=now_ms + state.retry_timeout_ms if due else retry_at_ms,
            acquired_at_ms=task.acquired_at_ms,
            lapses=task.lapses,
        ),
    )
    if due and target is not None:
        state.outbox["execute", id] = (target, Execute(id, task.version))
        state.dispatched[id] = None
    return task


def _resume(state: State, awaiter: str, awaited: str, now_ms: int) -> None:
    """Tell the awaiter's task that something it waited for settled (R4, C6)."""
    task = state.tasks.get(awaiter)
    if task is None or not is_live(state.promises[awaiter], now_ms):
        return
    match task.state:
        case TaskState.SUSPENDED:
            _enter_pending(state, task, (awaited,), now_ms, now_ms)
        case TaskState.PENDING | TaskState.ACQUIRED | TaskState.HALTED:
            # Never a duplicate: a promise settles once, and its callbacks go with it.
            with_resumes(state, task, (*task.resumes, awaited))
        case TaskState.FULFILLED:
            pass


def _fulfil(state: State, task: Task) -> Task:
    return _put(
        state,
        Task(
            id=task.id,
            state=TASK_FULFILLED,
            version=task.version,
            acquired_at_ms=task.acquired_at_ms,
        ),
    )


def _idle(task: Task, to: TaskState, resumes: tuple[str, ...]) -> Task:
    return Task(
        id=task.id,
        state=to,
        version=task.version,
        resumes=resumes,
        acquired_at_ms=task.acquired_at_ms,
        lapses=task.lapses,
    )


def _put(state: State, task: Task) -> Task:
    """Store a task's new record and arm what it says."""
    id = task.id
    state.tasks[id] = task
    state.changed[id] = None
    arm(state, task)
    if task.state is not TASK_PENDING and id in state.dispatched:
        del state.dispatched[id]
        state.outbox.pop(("execute", id), None)
    return task


def arm(state: State, task: Task) -> None:
    """Arm the lease and the retry of a stored task, and nothing else."""
    deadlines, id = state.deadlines, task.id
    if task.expires_at_ms is not None and task.expires_at_ms < NEVER_MS:
        deadlines.arm(LEASE, id, task.expires_at_ms)
    elif id in deadlines.armed[LEASE]:
        deadlines.disarm(LEASE, id)
    if task.retry_at_ms is not None:
        deadlines.arm(RETRY, id, task.retry_at_ms)
    elif id in deadlines.armed[RETRY]:
        deadlines.disarm(RETRY, id)
