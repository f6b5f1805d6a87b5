"""The promise machine: what a store does with one request or one due deadline.

One door for every request (`handle`), three narrow ones without request objects for what a
held execution does at every step, and `sweep` for what falls due. Effects are left in
`changed`, `changed_schedules` and `outbox` for the shell to take. The machine may hold a
part of the promises only: see `ids_named`, `load` and `forget`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any, Final

from ..protocol import requests as r
from ..protocol.records import (
    Promise,
    PromiseState,
    Schedule,
    Task,
    Value,
    is_pending,
    target_of,
)
from ..protocol.validation import refusal
from . import promises, schedules, tasks
from . import sweep as steps
from .deadlines import RETRY, SCHEDULE
from .state import State
from .transitions import (
    PENDING,
    TASK_ACQUIRED,
    TASK_FULFILLED,
    TASK_PENDING,
    arm,
    born,
    delay_of,
    dispatch,
    enlist,
    expire,
    give_task,
    is_live,
    postpone,
    release,
    settle,
    settle_by_holder,
)

_HANDLERS: Final[dict[type[Any], Callable[[State, Any, int], r.Reply]]] = {
    r.PromiseGet: promises.promise_get,
    r.PromiseCreate: promises.promise_create,
    r.PromiseSettle: promises.promise_settle,
    r.PromiseRegisterCallback: promises.promise_register_callback,
    r.PromiseRegisterListener: promises.promise_register_listener,
    r.PromiseSearch: promises.promise_search,
    r.TaskGet: tasks.task_get,
    r.TaskCreate: tasks.task_create,
    r.TaskAcquire: tasks.task_acquire,
    r.TaskFence: tasks.task_fence,
    r.TaskHeartbeat: tasks.task_heartbeat,
    r.TaskSuspend: tasks.task_suspend,
    r.TaskFulfill: tasks.task_fulfill,
    r.TaskRelease: tasks.task_release,
    r.TaskHalt: tasks.task_halt,
    r.TaskContinue: tasks.task_continue,
    r.TaskSearch: tasks.task_search,
    r.ScheduleCreate: schedules.schedule_create,
    r.ScheduleGet: schedules.schedule_get,
    r.ScheduleDelete: schedules.schedule_delete,
    r.ScheduleSearch: schedules.schedule_search,
}


class PromiseMachine(State):
    """Promises, tasks and schedules, and every step the protocol allows on them.

    Args:
        retry_timeout_ms: How long after a dispatch a task that is still pending is
            dispatched again.
    """

    __slots__ = ()

    def __init__(self, *, retry_timeout_ms: int = 30_000) -> None:
        """Start empty."""
        super().__init__(retry_timeout_ms=retry_timeout_ms)

    def handle(self, request: r.Request, now_ms: int) -> r.Reply:
        """Carry out one request; a refusal is a reply (current-protocol §5)."""
        fault = refusal(request)
        if fault is not None:
            return r.Reply(400, error=fault)
        return _HANDLERS[type(request)](self, request, now_ms)

    # -- the fenced door: task.fence and task.fulfill without request objects or validation

    def fence_create(
        self, task_id: str, version: int, promise: Promise, now_ms: int
    ) -> Promise | None:
        """Create a promise on condition that the task is held at this version.

        Args:
            promise: A pending record created at `now_ms`.

        Returns:
            The standing record: the given struct itself when it is new and lives. None when
            the task is not held so (409).
        """
        task = self.tasks.get(task_id)
        if (
            task is None
            or task.state is not TASK_ACQUIRED
            or task.version != version
            or self.promises[task_id].timeout_at_ms <= now_ms
        ):
            return None
        id = promise.id
        standing = self.promises.get(id)
        if standing is not None:
            if standing.state is PENDING and standing.timeout_at_ms <= now_ms:
                return expire(self, standing, now_ms)
            return standing
        if promise.timeout_at_ms <= now_ms or promise.created_at_ms != now_ms:
            promise = born(promise, now_ms)
        self.promises[id] = promise
        self.changed[id] = None
        if promise.tags:
            enlist(self, promise)
            give_task(self, promise, now_ms, now_ms)
        return promise

    def fence_settle(
        self,
        task_id: str,
        version: int,
        promise_id: str,
        state: PromiseState,
        value: Value,
        now_ms: int,
    ) -> Promise | None:
        """Settle a promise on condition that the task is held at this version.

        Returns:
            The settled record, whoever settled it. None when the task is not held so (409),
            when the promise is the task's own (400) and when it does not exist (404): a
            caller that may name an absent id has to look before.
        """
        task = self.tasks.get(task_id)
        if (
            task is None
            or task.state is not TASK_ACQUIRED
            or task.version != version
            or task_id == promise_id
            or self.promises[task_id].timeout_at_ms <= now_ms
        ):
            return None
        promise = self.promises.get(promise_id)
        if promise is None or promise.state is not PENDING:
            return promise
        if promise.timeout_at_ms <= now_ms:
            return expire(self, promise, now_ms)
        return settle(self, promise, state, value, now_ms)

    def fulfill(
        self, task_id: str, version: int, state: PromiseState, value: Value, now_ms: int
    ) -> Promise | None:
        """Settle the task's own promise and end the task.

        Returns:
            The settled record, or None when the task is not held at this version (409).
        """
        task = self.tasks.get(task_id)
        if task is None or task.state is not TASK_ACQUIRED or task.version != version:
            return None
        promise = self.promises[task_id]
        if promise.timeout_at_ms <= now_ms:
            return None
        return settle_by_holder(self, promise, state, value, now_ms)

    # -- what falls due

    def sweep(self, now_ms: int, *, limit: int | None = None) -> None:
        """Run the internal steps that are due (R1, R5, R6, R7).

        Args:
            limit: The most steps to run; what remains is due at once (`next_due_ms`).
        """
        steps.sweep(self, now_ms, limit)

    def take_overdue(self, now_ms: int) -> list[tuple[str, int]]:
        """Schedules that caught up, with how many executions came past their deadline; told once.

        A schedule that is still behind is told of when it has caught up.
        """
        return schedules.take_overdue(self, now_ms)

    def next_due_ms(self) -> int | None:
        """The instant at which a sweep has something to do, or None."""
        return steps.next_due_ms(self)

    def redispatch(self, wants: Callable[[str], bool], now_ms: int) -> None:
        """Dispatch every pending task whose target satisfies `wants`: a subscriber arrived.

        Left alone are tasks before their `resonate:delay` and tasks whose next dispatch was
        put into the future because their lease lapsed.
        """
        for id in tuple(self.deadlines.armed[RETRY]):
            task = self.tasks[id]
            promise = self.promises[id]
            target = target_of(promise)
            if target is None or not is_live(promise, now_ms) or delay_of(promise) > now_ms:
                continue
            held_back = (
                task.lapses > 0
                and id not in self.dispatched
                and task.retry_at_ms is not None
                and task.retry_at_ms > now_ms
            )
            if not held_back and wants(target):
                dispatch(self, task, now_ms)

    def end_lease(self, id: str, now_ms: int) -> None:
        """End the lease of an acquired task before its time: its holder is known to be gone."""
        task = self.tasks[id]
        if task.state is TASK_ACQUIRED and is_live(self.promises[id], now_ms):
            release(self, task, now_ms)

    def postpone(self, id: str, retry_at_ms: int, *, lapses: int | None = None) -> None:
        """Put the next dispatch of a pending task at an instant and withdraw its execute.

        Args:
            lapses: The new count of lapses; None leaves it.
        """
        task = self.tasks[id]
        if task.state is not TASK_PENDING:
            raise ValueError(f"task {id!r} is {task.state}, not pending: nothing to postpone")
        postpone(self, task, retry_at_ms, task.lapses if lapses is None else lapses)

    # -- partial state

    def ids_named(self, request: r.Request) -> tuple[str, ...]:
        """The promise ids whose absence from memory the machine would act on.

        A store that keeps settled promises elsewhere loads those first. Searches need every
        record and are not covered; nor are heartbeats, which skip what is not acquired.
        """
        match request:
            case r.PromiseRegisterCallback(awaited=awaited, awaiter=awaiter):
                return (awaited, awaiter)
            case r.PromiseRegisterListener(awaited=awaited):
                return (awaited,)
            case r.TaskCreate(action=action):
                return (action.id,)
            case r.TaskFence(id=id, action=action):
                return (id, action.id)
            case r.TaskSuspend(id=id, actions=actions):
                return (id, *(action.awaited for action in actions))
            case (
                r.PromiseSearch()
                | r.TaskSearch()
                | r.TaskHeartbeat()
                | r.ScheduleCreate()
                | r.ScheduleGet()
                | r.ScheduleDelete()
                | r.ScheduleSearch()
            ):
                return ()
            case _:
                return (request.id,)

    def ids_swept(self, now_ms: int) -> tuple[str, ...]:
        """The promise ids whose absence from memory `sweep(now_ms)` would act on.

        Schedules that are due create them. Empty nearly always.
        """
        return steps.ids_swept(self, now_ms)

    def load(
        self,
        promise: Promise,
        task: Task | None = None,
        awaiters: Iterable[str] = (),
        addresses: Iterable[str] = (),
    ) -> None:
        """Take a stored record into memory without marking it changed.

        A promise that is in memory already is left alone: memory is never older.
        """
        id = promise.id
        if id in self.promises:
            return
        self.promises[id] = promise
        enlist(self, promise)
        if task is not None:
            self.tasks[id] = task
            arm(self, task)
        if is_pending(promise):
            callbacks = dict.fromkeys(awaiters)
            if callbacks:
                self.callbacks[id] = callbacks
            listeners = dict.fromkeys(addresses)
            if listeners:
                self.listeners[id] = listeners

    def load_schedule(self, schedule: Schedule) -> None:
        """Take a stored schedule into memory without marking it changed."""
        self.schedules[schedule.id] = schedule
        self.deadlines.arm(SCHEDULE, schedule.id, schedule.next_run_at_ms)

    def schedules_creating(self, ids: Container[str], now_ms: int) -> list[str]:
        """The schedules that are due to create one of these promises."""
        return steps.schedules_creating(self, ids, now_ms)

    def unload_schedule(self, id: str) -> None:
        """Drop a schedule from memory without marking it changed: it fires no more."""
        del self.schedules[id]
        self.deadlines.disarm(SCHEDULE, id)

    def forget_all(self, settled: Iterable[Promise]) -> None:
        """Drop settled promises and their fulfilled tasks from memory, as `forget` does."""
        promises = self.promises
        self.in_order = []
        for promise in settled:
            if promise.tags:
                self.forget(promise.id)
            else:  # it never had a task or a branch
                promises.pop(promise.id, None)

    def forget(self, id: str) -> None:
        """Drop a settled promise and its fulfilled task from memory; an absent id is fine.

        Raises:
            ValueError: The promise is pending or the task is not fulfilled.
        """
        promise = self.promises.get(id)
        if promise is None:
            return
        task = self.tasks.get(id)
        if promise.state is PENDING or (task is not None and task.state is not TASK_FULFILLED):
            raise ValueError(f"promise {id!r} is {promise.state}: only settled ones are forgotten")
        del self.promises[id]
        self.in_order = []
        self.tasks.pop(id, None)
        branch = promise.tags.get("resonate:branch")
        if branch is not None:
            members = self.branches[branch]
            del members[id]
            if not members:
                del self.branches[branch]
