"""A seeded stream of operations on a store: every request kind, clock steps, sweeps, reopenings.

Ids come from a small pool so that operations meet; the model's present state is looked at
to name versions that are right (or off by one) and instants at which something is due (or
one millisecond before). The same seed on the same states gives the same operations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from resonate_aio.protocol import requests as rq
from resonate_aio.protocol.records import (
    EMPTY,
    PromiseState,
    TaskState,
    Value,
    is_external,
    is_pending,
)

from .model import ReferenceModel

START_MS = 1_700_000_000_000
LONGEST_STEP_MS = 3_600_000
LISTENER = "poll://uni@group/listener"

IDS = [f"{root}{end}" for root in "abcdef" for end in ("", ".1", ".1.2", ":1")]
SCHEDULES = {"s1": "c", "s2": "d.1", "s.3": "e:1"}
"""Each with one id that clients use too; two schedules never meet: their order is free."""

CRONS = ["* * * * *", "*/10 * * * * *", "*/5 * * * *", "0 0 1 1 *"]
BAD_SETTLES = {PromiseState.PENDING, PromiseState.TIMEDOUT}
BAD_CRONS = ["not cron", "61 * * * *", "* * * *", "", "0 0 31 2 *"]


@dataclass(frozen=True)
class Advance:
    """Let this many milliseconds pass."""

    ms: int


@dataclass(frozen=True)
class Sweep:
    """Run the internal steps that are due."""


@dataclass(frozen=True)
class Reopen:
    """Close the file and open it again; without a file this is nothing."""


Operation = rq.Request | Advance | Sweep | Reopen


class Operations:
    """Draws one operation after another."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.kinds: dict[Callable[[ReferenceModel, int], Operation], int] = {
            self.advance: 18,
            self.sweep: 8,
            self.reopen: 1,
            self.promise_get: 4,
            self.promise_create: 16,
            self.promise_settle: 6,
            self.register_callback: 7,
            self.register_listener: 6,
            self.promise_search: 3,
            self.task_get: 4,
            self.task_create: 10,
            self.task_acquire: 12,
            self.task_fence: 10,
            self.task_heartbeat: 5,
            self.task_suspend: 14,
            self.task_fulfill: 5,
            self.task_release: 4,
            self.task_halt: 4,
            self.task_continue: 4,
            self.task_search: 2,
            self.schedule_create: 3,
            self.schedule_get: 1,
            self.schedule_delete: 1,
            self.schedule_search: 2,
        }

    def next(self, model: ReferenceModel, now: int) -> Operation:
        """The next operation for a store in this state at this instant."""
        [draw] = self.random.choices(list(self.kinds), list(self.kinds.values()))
        return draw(model, now)

    # What operations are made of

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def id(self, model: ReferenceModel, *, among: list[str] | None = None) -> str:
        """An id, mostly one of these, else a known one, else any, seldom an impossible one."""
        if self.chance(0.03):
            return self.random.choice(["", "nobody"])
        if among and self.chance(0.8):
            return self.random.choice(sorted(among))
        if model.promises and self.chance(0.6):
            return self.random.choice(sorted(model.promises))
        return self.random.choice(IDS)

    def task_id(self, model: ReferenceModel, *states: TaskState) -> str:
        """An id, mostly of a task in one of these states."""
        fitting = [task.id for task in model.tasks.values() if task.state in states]
        return self.id(model, among=fitting or sorted(model.tasks))

    def version(self, model: ReferenceModel, id: str) -> int:
        task = model.tasks.get(id)
        version = 0 if task is None else task.version
        return version + self.random.choices([0, 1, -1], [14, 1, 1])[0]

    def value(self) -> Value:
        return self.random.choice(
            [EMPTY, Value(data='"x"'), Value(headers={"h": "1"}, data="null")]
        )

    def pid(self) -> str:
        return self.random.choices(["w1", "w2", ""], [30, 10, 1])[0]

    def ttl(self) -> int:
        return self.random.choices([1, 50, 1_000, 60_000, 0, -1], [2, 4, 6, 6, 0.3, 0.3])[0]

    def limit(self) -> int:
        return self.random.choice([1, 2, 3, 5, 10, 100, 1_000, 0, 1_001, -1])

    def timeout_at(self, now: int) -> int:
        if self.chance(0.03):
            return self.random.choice([0, 1, -1])
        return now + self.random.choice([-5, 0, 1, 20, 300, 5_000, 90_000, 10**7, 10**9])

    def tags(self, now: int, *, targeted: float = 0.55) -> dict[str, str]:
        tags: dict[str, str] = {}
        if self.chance(targeted):
            tags["resonate:target"] = self.random.choices(
                ["poll://any@group", "poll://uni@group/w1", "w1", ""], [8, 4, 2, 0.3]
            )[0]
        for tag, value, share in (
            ("resonate:timer", "true", 0.15),
            ("resonate:timer", "false", 0.03),
            ("resonate:external", "true", 0.2),
            ("resonate:scope", "global", 0.1),
            ("resonate:scope", "local", 0.1),
            ("resonate:branch", "a", 0.2),
            ("resonate:branch", "b", 0.2),
            ("resonate:origin", "else.where", 0.1),
            ("k", "v", 0.1),
        ):
            if self.chance(share):
                tags[tag] = value  # noqa: PERF403  a tag may be listed twice
        if self.chance(0.08):
            delay = [str(now + 10), str(now + 1_000), "0", str(now + 10**10), "-1", "soon", ""]
            tags["resonate:delay"] = self.random.choice(delay)
        return tags

    def create(
        self, model: ReferenceModel, now: int, *, targeted: float = 0.55
    ) -> rq.PromiseCreate:
        id = self.random.choice(IDS) if self.chance(0.7) else self.id(model)
        if self.chance(0.01):
            id = "a\0b"
        return rq.PromiseCreate(
            id=id,
            timeout_at_ms=self.timeout_at(now),
            param=self.value(),
            tags=self.tags(now, targeted=targeted),
            owner=self.random.choice(["", "", "a"]),
        )

    def settle(self, id: str) -> rq.PromiseSettle:
        states = list(PromiseState)
        [state] = self.random.choices(states, [1 if s in BAD_SETTLES else 12 for s in states])
        return rq.PromiseSettle(id=id, state=state, value=self.value())

    def awaitable(self, model: ReferenceModel, now: int) -> str:
        """An id, mostly of a promise that can be waited for."""
        fitting = [p.id for p in model.promises.values() if is_external(p) and is_pending(p)]
        return self.id(model, among=fitting)

    # Time

    def advance(self, model: ReferenceModel, now: int) -> Advance:
        instants = [at for at in model.instants(now) if at <= now + LONGEST_STEP_MS]
        if instants and self.chance(0.6):
            at = instants[0] if self.chance(0.6) else self.random.choice(instants[:6])
            return Advance(max(0, at - now - (1 if self.chance(0.25) else 0)))
        steps = [0, 1, 7, 50, 1_000, 30_000, 120_000, LONGEST_STEP_MS]
        return Advance(self.random.choices(steps, [4, 4, 4, 4, 4, 2, 1, 0.3])[0])

    def sweep(self, model: ReferenceModel, now: int) -> Sweep:
        return Sweep()

    def reopen(self, model: ReferenceModel, now: int) -> Reopen:
        return Reopen()

    # Promises

    def promise_get(self, model: ReferenceModel, now: int) -> rq.PromiseGet:
        return rq.PromiseGet(self.id(model))

    def promise_create(self, model: ReferenceModel, now: int) -> rq.PromiseCreate:
        return self.create(model, now)

    def promise_settle(self, model: ReferenceModel, now: int) -> rq.PromiseSettle:
        return self.settle(self.awaitable(model, now))

    def register_callback(self, model: ReferenceModel, now: int) -> rq.PromiseRegisterCallback:
        awaiter = self.task_id(model, TaskState.ACQUIRED, TaskState.SUSPENDED, TaskState.HALTED)
        return rq.PromiseRegisterCallback(awaited=self.awaitable(model, now), awaiter=awaiter)

    def register_listener(self, model: ReferenceModel, now: int) -> rq.PromiseRegisterListener:
        good = [LISTENER, "http://host/path", "any://x"]
        bad = ["", "not a url", "://x", "http://", "poll:/x"]
        address = self.random.choice(bad if self.chance(0.1) else good)
        return rq.PromiseRegisterListener(awaited=self.awaitable(model, now), address=address)

    def promise_search(self, model: ReferenceModel, now: int) -> rq.PromiseSearch:
        return rq.PromiseSearch(
            state=self.random.choice([None, None, *PromiseState]),
            tags=self.random.choice([{}, {}, {"resonate:branch": "a"}, {"k": "v"}, {"k": "w"}]),
            limit=self.limit(),
            cursor=self.random.choice([None, None, "a.1", "c", self.id(model)]),
        )

    # Tasks

    def task_get(self, model: ReferenceModel, now: int) -> rq.TaskGet:
        return rq.TaskGet(self.task_id(model))

    def task_create(self, model: ReferenceModel, now: int) -> rq.TaskCreate:
        action = self.create(model, now, targeted=0.97)
        return rq.TaskCreate(pid=self.pid(), ttl_ms=self.ttl(), action=action)

    def task_acquire(self, model: ReferenceModel, now: int) -> rq.TaskAcquire:
        id = self.task_id(model, TaskState.PENDING)
        return rq.TaskAcquire(
            id=id, version=self.version(model, id), pid=self.pid(), ttl_ms=self.ttl()
        )

    def task_fence(self, model: ReferenceModel, now: int) -> rq.TaskFence:
        id = self.task_id(model, TaskState.ACQUIRED)
        action: rq.PromiseCreate | rq.PromiseSettle = self.create(model, now, targeted=0.3)
        if self.chance(0.5):
            action = self.settle(self.awaitable(model, now))
        return rq.TaskFence(id=id, version=self.version(model, id), action=action)

    def task_heartbeat(self, model: ReferenceModel, now: int) -> rq.TaskHeartbeat:
        ids = [
            self.task_id(model, TaskState.ACQUIRED) for _ in range(self.random.choice([0, 1, 1, 3]))
        ]
        refs = tuple(rq.TaskRef(id, self.version(model, id)) for id in ids)
        return rq.TaskHeartbeat(pid=self.pid(), tasks=refs)

    def task_suspend(self, model: ReferenceModel, now: int) -> rq.TaskSuspend:
        id = self.task_id(model, TaskState.ACQUIRED)
        many = self.random.choices([0, 1, 2, 3], [0.5, 8, 5, 2])[0]
        awaited = [self.awaitable(model, now) for _ in range(many)]
        if self.chance(0.8):  # mostly without a repetition, which is refused
            awaited = list(dict.fromkeys(awaited))
        return rq.TaskSuspend(
            id=id,
            version=self.version(model, id),
            actions=tuple(rq.PromiseRegisterCallback(one, id) for one in awaited),
        )

    def task_fulfill(self, model: ReferenceModel, now: int) -> rq.TaskFulfill:
        id = self.task_id(model, TaskState.ACQUIRED)
        return rq.TaskFulfill(id=id, version=self.version(model, id), action=self.settle(id))

    def task_release(self, model: ReferenceModel, now: int) -> rq.TaskRelease:
        id = self.task_id(model, TaskState.ACQUIRED)
        return rq.TaskRelease(id=id, version=self.version(model, id))

    def task_halt(self, model: ReferenceModel, now: int) -> rq.TaskHalt:
        return rq.TaskHalt(self.task_id(model, *TaskState))

    def task_continue(self, model: ReferenceModel, now: int) -> rq.TaskContinue:
        return rq.TaskContinue(self.task_id(model, TaskState.HALTED))

    def task_search(self, model: ReferenceModel, now: int) -> rq.TaskSearch:
        return rq.TaskSearch(
            state=self.random.choice([None, *TaskState]),
            limit=self.limit(),
            cursor=self.random.choice([None, None, "b"]),
        )

    # Schedules

    def schedule_create(self, model: ReferenceModel, now: int) -> rq.ScheduleCreate:
        cron = self.random.choice(BAD_CRONS if self.chance(0.2) else CRONS)
        id = self.schedule_id()
        shared = SCHEDULES.get(id, "x")
        template = ["{{.id}}-{{.timestamp}}", "b{{.id}}.{{.timestamp}}", shared, "{{.id}}{{x}}", ""]
        return rq.ScheduleCreate(
            id=id,
            cron=cron,
            promise_id=self.random.choices(template, [8, 4, 4, 1, 0.5])[0],
            promise_timeout_ms=self.random.choices([0, 5_000, 10**6, -1], [1, 4, 4, 0.3])[0],
            promise_param=self.value(),
            promise_tags={
                tag: value
                for tag, value in self.tags(now, targeted=0.9).items()
                if tag != "resonate:delay"
            },
        )

    def schedule_id(self) -> str:
        return self.random.choices([*SCHEDULES, ""], [6, 6, 6, 1])[0]

    def schedule_get(self, model: ReferenceModel, now: int) -> rq.ScheduleGet:
        return rq.ScheduleGet(self.schedule_id())

    def schedule_delete(self, model: ReferenceModel, now: int) -> rq.ScheduleDelete:
        return rq.ScheduleDelete(self.schedule_id())

    def schedule_search(self, model: ReferenceModel, now: int) -> rq.ScheduleSearch:
        return rq.ScheduleSearch(
            tags=self.random.choice([{}, {"resonate:external": "true"}, {"k": "v"}]),
            limit=self.limit(),
            cursor=self.random.choice([None, None, "s1"]),
        )
