"""A second model of the promise machine, written from the protocol's tables alone.

It answers the same requests with the same replies as `resonate_aio.machine`, and shares no
line with it: plain dicts, full scans, no heap, no index, no partial state. Slow and easy to
check by eye against current-protocol §3 to §8 is the whole point. Where the tables leave a
choice, the embedded default is taken: lenient ids, a timer may carry a target, `scope` =
`global` makes a promise external, searches are served and show projected records.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from cronsim import CronSim, CronSimError
from msgspec.structs import replace

from resonate_aio.protocol import requests as rq
from resonate_aio.protocol.records import (
    Promise,
    PromiseState,
    Schedule,
    Task,
    TaskState,
    Value,
    is_external,
    is_timer,
)

from . import schema
from .schema import EPOCH

RETRY_TIMEOUT_MS = 30_000
FOREVER_MS = 2**52
"""A lease from here on ends with its holder's process, not with time."""


def project(promise: Promise, now: int) -> Promise:
    """§4.1: the timeout always wins, inclusively."""
    if promise.state is not PromiseState.PENDING or promise.timeout_at_ms > now:
        return promise
    return replace(
        promise,
        state=PromiseState.RESOLVED if is_timer(promise) else PromiseState.TIMEDOUT,
        settled_at_ms=promise.timeout_at_ms,
    )


def fulfilled(task: Task) -> Task:
    """The task as its settled promise leaves it: version kept, all else cleared."""
    return Task(id=task.id, state=TaskState.FULFILLED, version=task.version)


def next_instant(cron: str, after: int) -> int:
    """The next cron instant strictly after `after`, UTC, in ms."""
    found = next(CronSim(cron, EPOCH + timedelta(milliseconds=after)))
    return (found - EPOCH) // timedelta(milliseconds=1)


class ReferenceModel:
    """The whole state of a store, and what one request or one sweep does to it."""

    def __init__(self) -> None:
        self.promises: dict[str, Promise] = {}
        self.tasks: dict[str, Task] = {}
        self.schedules: dict[str, Schedule] = {}
        self.callbacks: set[tuple[str, str]] = set()  # (awaited, awaiter)
        self.listeners: set[tuple[str, str]] = set()  # (awaited, address)
        self.outbox: dict[tuple[str, ...], tuple[str, rq.Message]] = {}

    def handle(self, request: rq.Request, now: int) -> rq.Reply:
        """Answer one request at this instant."""
        if schema.is_bad(request):
            return rq.Reply(400)
        before = dict(self.tasks)
        for id in schema.named(request):
            self.touch(id, now)
        handler = re.sub("(?=[A-Z])", "_", type(request).__name__).lower()
        reply: rq.Reply = getattr(self, handler)(request, now)  # TaskGet: _task_get
        for id, task in self.tasks.items():
            if id not in before or before[id].retry_at_ms != task.retry_at_ms:
                self._dispatch(id, now)  # §4.3: R6 of a task that this request made pending
        return reply

    # §4.1 The state as it shows now

    def promise(self, id: str, now: int) -> Promise | None:
        """The projected promise."""
        stored = self.promises.get(id)
        return None if stored is None else project(stored, now)

    def is_live(self, id: str, now: int) -> bool:
        """Whether the promise exists and is projected-pending."""
        promise = self.promise(id, now)
        return promise is not None and promise.state is PromiseState.PENDING

    def task(self, id: str, now: int) -> Task | None:
        """The projected task."""
        task = self.tasks.get(id)
        if task is None or self.is_live(id, now):
            return task
        return fulfilled(task)

    def preload(self, id: str, now: int) -> tuple[Promise, ...]:
        """§7: every other promise of the same branch, by id."""
        branch = self.promises[id].tags.get("resonate:branch")
        if branch is None:
            return ()
        return tuple(
            project(other, now)
            for _, other in sorted(self.promises.items())
            if other.id != id and other.tags.get("resonate:branch") == branch
        )

    # §4.2 Write rules

    def create(
        self, id: str, timeout_at: int, param: Value, tags: dict[str, str], owner: str, now: int
    ) -> None:
        """Store a new promise; with a target also its task."""
        promise = Promise(
            id=id,
            state=PromiseState.PENDING,
            timeout_at_ms=timeout_at,
            created_at_ms=now,
            param=param,
            tags=tags,
            owner=owner,
        )
        task = Task(id=id, state=TaskState.FULFILLED, version=0)
        if timeout_at > now:
            delay = int(tags.get("resonate:delay", "0"))
            task = replace(task, state=TaskState.PENDING, retry_at_ms=max(delay, now))
        else:
            promise = project(replace(promise, created_at_ms=timeout_at), now)
        self.promises[id] = promise
        if "resonate:target" in tags:
            self.tasks[id] = task

    def settle(self, id: str, state: PromiseState, value: Value, now: int) -> None:
        """Settle a live promise, fulfil its task, drain who waits."""
        self.promises[id] = replace(self.promises[id], state=state, value=value, settled_at_ms=now)
        self._settled(id, now)

    def touch(self, id: str, now: int) -> None:
        """R1 for one promise, ahead of the sweep: when to store a projection is free (§4.1)."""
        if id in self.promises and project(self.promises[id], now) != self.promises[id]:
            self.promises[id] = project(self.promises[id], now)
            self._settled(id, now)

    def _settled(self, id: str, now: int) -> None:
        if id in self.tasks:
            self.tasks[id] = fulfilled(self.tasks[id])
        for awaited, address in sorted(self.listeners):  # R3
            if awaited == id:
                self.listeners.remove((awaited, address))
                self.outbox["unblock", id, address] = (address, rq.Unblock(self.promises[id]))
        for awaited, awaiter in sorted(self.callbacks):  # R4
            if awaited == id:
                self.callbacks.remove((awaited, awaiter))
                self._resume(awaiter, awaited, now)

    def _resume(self, awaiter: str, awaited: str, now: int) -> None:
        task = self.task(awaiter, now)
        if task is None or task.state is TaskState.FULFILLED:
            return
        if task.state is TaskState.SUSPENDED:
            task = replace(task, state=TaskState.PENDING, resumes=(awaited,), retry_at_ms=now)
        elif awaited not in task.resumes:
            task = replace(task, resumes=(*task.resumes, awaited))
        self.tasks[awaiter] = task

    def _acquire(self, task: Task, pid: str, ttl: int, now: int) -> Task:
        self.tasks[task.id] = Task(
            id=task.id,
            state=TaskState.ACQUIRED,
            version=task.version + 1,
            pid=pid,
            ttl_ms=ttl,
            expires_at_ms=now + ttl,
        )
        return self.tasks[task.id]

    def _to_pending(self, task: Task, retry_at: int) -> None:
        self.tasks[task.id] = Task(
            id=task.id,
            state=TaskState.PENDING,
            version=task.version,
            resumes=task.resumes,
            retry_at_ms=retry_at,
        )

    # §4.3 Internal steps

    def sweep(self, now: int) -> None:
        """Run every internal step that is due, until none is."""
        while self._sweep_once(now):
            pass

    def _sweep_once(self, now: int) -> bool:
        before = (dict(self.promises), dict(self.tasks), dict(self.schedules))
        for id, promise in sorted(self.promises.items()):  # R1, then R3 and R4
            if is_external(promise):
                self.touch(id, now)
        for task in list(self.tasks.values()):  # R5
            if (
                task.expires_at_ms is not None
                and task.expires_at_ms <= now
                and self.is_live(task.id, now)
            ):
                self._to_pending(task, now)
        for id in self.tasks:  # R6
            self._dispatch(id, now)
        due = [s for s in self.schedules.values() if s.next_run_at_ms <= now]  # R7
        if due:
            self._fire(min(due, key=lambda one: (one.next_run_at_ms, one.id)))
        return before != (self.promises, self.tasks, self.schedules)

    def _dispatch(self, id: str, now: int) -> None:
        task = self.tasks[id]
        if task.retry_at_ms is not None and task.retry_at_ms <= now and self.is_live(id, now):
            self.tasks[id] = replace(task, retry_at_ms=now + RETRY_TIMEOUT_MS)
            target = self.promises[id].tags["resonate:target"]
            self.outbox["execute", id] = (target, rq.Execute(id, task.version))

    def _fire(self, schedule: Schedule) -> None:
        instant = schedule.next_run_at_ms
        id = schedule.promise_id.replace("{{.id}}", schedule.id)
        id = id.replace("{{.timestamp}}", str(instant))
        if id not in self.promises:
            stamps = ("resonate:origin", "resonate:branch", "resonate:parent")
            tags = schedule.promise_tags | dict.fromkeys(stamps, id)
            tags["resonate:schedule"] = schedule.id
            timeout_at = instant + schedule.promise_timeout_ms
            self.create(id, timeout_at, schedule.promise_param, tags, "", instant)
        self.schedules[schedule.id] = replace(
            schedule, last_run_at_ms=instant, next_run_at_ms=next_instant(schedule.cron, instant)
        )

    def reopen(self, now: int) -> None:
        """The file is opened by the next process: pending tasks are due (S44).

        Leases of the process that is gone end; others were held elsewhere, through a server, and
        count as extended just now.
        """
        for id, task in list(self.tasks.items()):
            if not self.is_live(id, now):
                continue
            expires = task.expires_at_ms
            if task.state is TaskState.ACQUIRED and expires is not None and expires < FOREVER_MS:
                assert task.ttl_ms is not None
                extended = max(expires, now + task.ttl_ms)
                self.tasks[id] = replace(task, expires_at_ms=extended)
            elif task.state in {TaskState.ACQUIRED, TaskState.PENDING}:
                delay = int(self.promises[id].tags.get("resonate:delay", "0"))
                self._to_pending(task, max(delay, now))

    # What a test wants to know

    def instants(self, now: int) -> list[int]:
        """Every later instant at which something is due or a deadline passes."""
        found = [p.timeout_at_ms for p in self.promises.values() if p.settled_at_ms is None]
        for task in self.tasks.values():
            if self.is_live(task.id, now):
                found += [at for at in (task.expires_at_ms, task.retry_at_ms) if at is not None]
        found += [schedule.next_run_at_ms for schedule in self.schedules.values()]
        return sorted({at for at in found if at > now})

    # §5 Promises

    def _promise_get(self, request: rq.PromiseGet, now: int) -> rq.Reply:
        promise = self.promise(request.id, now)
        return rq.Reply(404) if promise is None else rq.Reply(200, promise=promise)

    def _promise_create(self, request: rq.PromiseCreate, now: int) -> rq.Reply:
        if request.id not in self.promises:
            self.create(
                request.id, request.timeout_at_ms, request.param, request.tags, request.owner, now
            )
        return rq.Reply(200, promise=self.promise(request.id, now))

    def _promise_settle(self, request: rq.PromiseSettle, now: int) -> rq.Reply:
        if request.id not in self.promises:
            return rq.Reply(404)
        if self.is_live(request.id, now):
            self.settle(request.id, request.state, request.value, now)
        return rq.Reply(200, promise=self.promise(request.id, now))

    def _promise_register_callback(self, request: rq.PromiseRegisterCallback, now: int) -> rq.Reply:
        awaited = self.promise(request.awaited, now)
        if awaited is None:
            return rq.Reply(404)
        self.touch(request.awaiter, now)
        if request.awaiter not in self.tasks or not is_external(awaited):
            return rq.Reply(422)
        if self.is_live(awaited.id, now) and self.is_live(request.awaiter, now):
            self.callbacks.add((awaited.id, request.awaiter))
        return rq.Reply(200, promise=awaited)

    def _promise_register_listener(self, request: rq.PromiseRegisterListener, now: int) -> rq.Reply:
        awaited = self.promise(request.awaited, now)
        if awaited is None:
            return rq.Reply(404)
        if not is_external(awaited):
            return rq.Reply(422)
        if self.is_live(awaited.id, now):
            self.listeners.add((awaited.id, request.address))
        return rq.Reply(200, promise=awaited)

    def _promise_search(self, request: rq.PromiseSearch, now: int) -> rq.Reply:
        found = [
            promise
            for promise in (project(stored, now) for stored in self.promises.values())
            if request.state in {None, promise.state}
            and request.tags.items() <= promise.tags.items()
        ]
        page, cursor = self._page(found, request)
        return rq.Reply(200, promises=page, cursor=cursor)

    @staticmethod
    def _page(found: list[Any], request: Any) -> tuple[tuple[Any, ...], str | None]:
        found.sort(key=lambda record: record.id)
        after = [r for r in found if request.cursor is None or r.id > request.cursor]
        page = tuple(after[: request.limit])
        return page, page[-1].id if len(after) > len(page) else None

    # §5 Tasks

    def _task_get(self, request: rq.TaskGet, now: int) -> rq.Reply:
        task = self.task(request.id, now)
        return rq.Reply(404) if task is None else rq.Reply(200, task=task)

    def _task_create(self, request: rq.TaskCreate, now: int) -> rq.Reply:
        id = request.action.id
        task = self.task(id, now)
        if task is not None and task.state is TaskState.FULFILLED:
            return rq.Reply(200, task=task, promise=self.promise(id, now))
        if id not in self.promises:
            self._promise_create(request.action, now)
        elif task is None:
            return rq.Reply(422)
        elif task.state is not TaskState.PENDING:
            return rq.Reply(409)
        task = self.tasks[id]
        if task.state is TaskState.PENDING:
            task = self._acquire(task, request.pid, request.ttl_ms, now)
        preload = self.preload(id, now)
        return rq.Reply(200, task=task, promise=self.promise(id, now), preload=preload)

    def _task_acquire(self, request: rq.TaskAcquire, now: int) -> rq.Reply:
        task = self.task(request.id, now)
        if task is None:
            return rq.Reply(404)
        if task.state is not TaskState.PENDING or task.version != request.version:
            return rq.Reply(409)
        return rq.Reply(
            200,
            task=self._acquire(task, request.pid, request.ttl_ms, now),
            promise=self.promise(request.id, now),
            preload=self.preload(request.id, now),
        )

    def _refused(self, id: str, version: int, now: int) -> rq.Reply | None:
        """404 without the task, 409 unless it is held at this version."""
        task = self.task(id, now)
        if task is None:
            return rq.Reply(404)
        if task.state is not TaskState.ACQUIRED or task.version != version:
            return rq.Reply(409)
        return None

    def _task_fence(self, request: rq.TaskFence, now: int) -> rq.Reply:
        refused = self._refused(request.id, request.version, now)
        if refused is not None:
            return refused
        inner = self.handle(request.action, now)
        return rq.Reply(200, inner=inner, preload=self.preload(request.id, now))

    def _task_heartbeat(self, request: rq.TaskHeartbeat, now: int) -> rq.Reply:
        every = tuple(rq.TaskRef(task.id, task.version) for task in self.tasks.values())
        for ref in request.tasks or every:  # §13.9: an empty list means all of this pid
            task = self.task(ref.id, now)
            if (
                task is not None
                and task.state is TaskState.ACQUIRED
                and task.version == ref.version
                and task.pid == request.pid
            ):
                assert task.ttl_ms is not None
                self.tasks[ref.id] = replace(task, expires_at_ms=now + task.ttl_ms)
        return rq.Reply(200)

    def _task_suspend(self, request: rq.TaskSuspend, now: int) -> rq.Reply:
        refused = self._refused(request.id, request.version, now)
        if refused is not None:
            return refused
        awaited = [action.awaited for action in request.actions]
        for id in awaited:
            self.touch(id, now)
            if id not in self.promises or not is_external(self.promises[id]):
                return rq.Reply(422)
        if not all(self.is_live(id, now) for id in awaited):
            self.tasks[request.id] = replace(self.tasks[request.id], resumes=())
            return rq.Reply(300, preload=self.preload(request.id, now))
        self.callbacks |= {(id, request.id) for id in awaited}
        self.tasks[request.id] = Task(
            id=request.id, state=TaskState.SUSPENDED, version=request.version
        )
        return rq.Reply(200)

    def _task_fulfill(self, request: rq.TaskFulfill, now: int) -> rq.Reply:
        refused = self._refused(request.id, request.version, now)
        if refused is not None:
            return refused
        self.settle(request.id, request.action.state, request.action.value, now)
        return rq.Reply(200, promise=self.promise(request.id, now))

    def _task_release(self, request: rq.TaskRelease, now: int) -> rq.Reply:
        refused = self._refused(request.id, request.version, now)
        if refused is not None:
            return refused
        self._to_pending(self.tasks[request.id], now)
        return rq.Reply(200)

    def _task_halt(self, request: rq.TaskHalt, now: int) -> rq.Reply:
        task = self.task(request.id, now)
        if task is None:
            return rq.Reply(404)
        if task.state is TaskState.FULFILLED:
            return rq.Reply(409)
        self.tasks[request.id] = Task(
            id=task.id, state=TaskState.HALTED, version=task.version, resumes=task.resumes
        )
        return rq.Reply(200)

    def _task_continue(self, request: rq.TaskContinue, now: int) -> rq.Reply:
        task = self.task(request.id, now)
        if task is None:
            return rq.Reply(404)
        if task.state is not TaskState.HALTED:
            return rq.Reply(409)
        self._to_pending(task, now)
        return rq.Reply(200)

    def _task_search(self, request: rq.TaskSearch, now: int) -> rq.Reply:
        tasks = (self.task(id, now) for id in self.tasks)
        found = [t for t in tasks if t is not None and request.state in {None, t.state}]
        page, cursor = self._page(found, request)
        return rq.Reply(200, tasks=page, cursor=cursor)

    # §5 Schedules

    def _schedule_create(self, request: rq.ScheduleCreate, now: int) -> rq.Reply:
        if request.id not in self.schedules:
            try:
                next_run = next_instant(request.cron, now)
            except (CronSimError, StopIteration):
                return rq.Reply(400)
            self.schedules[request.id] = Schedule(
                id=request.id,
                cron=request.cron,
                promise_id=request.promise_id,
                promise_timeout_ms=request.promise_timeout_ms,
                created_at_ms=now,
                next_run_at_ms=next_run,
                promise_param=request.promise_param,
                promise_tags=request.promise_tags,
            )
        return rq.Reply(200, schedule=self.schedules[request.id])

    def _schedule_get(self, request: rq.ScheduleGet, now: int) -> rq.Reply:
        schedule = self.schedules.get(request.id)
        return rq.Reply(404) if schedule is None else rq.Reply(200, schedule=schedule)

    def _schedule_delete(self, request: rq.ScheduleDelete, now: int) -> rq.Reply:
        if self.schedules.pop(request.id, None) is None:
            return rq.Reply(404)
        return rq.Reply(200)

    def _schedule_search(self, request: rq.ScheduleSearch, now: int) -> rq.Reply:
        found = [
            schedule
            for schedule in self.schedules.values()
            if request.tags.items() <= schedule.promise_tags.items()
        ]
        page, cursor = self._page(found, request)
        return rq.Reply(200, schedules=page, cursor=cursor)
