"""Random programs: requests and sweeps over few ids, few instants and few versions.

A machine is run along while a program is drawn, so that most requests name ids that exist,
in a state and at a version in which they are not simply refused.
"""

from __future__ import annotations

from typing import TypeVar

from hypothesis import strategies as st
from tests.machine.checked import EXTERNAL, HERE, TARGET, TIMER

from resonate_aio.machine import PromiseMachine
from resonate_aio.protocol.records import PromiseState, TaskState, Value, is_external
from resonate_aio.protocol.requests import (
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
    TaskRef,
    TaskRelease,
    TaskSearch,
    TaskSuspend,
)

T = TypeVar("T")

Program = list[tuple[Request | None, int]]
"""(request, or None for a sweep; the instant)."""

IDS = ["a", "b", "c", "d", "x", "y", "s-60000", "s-120000"]
FAR = 10_000_000
SCHEDULE = ScheduleCreate("s", "* * * * *", "{{.id}}-{{.timestamp}}", 50_000, promise_tags=TARGET)
TAGS = [
    TARGET,
    TARGET | {"resonate:branch": "a"},
    TARGET | TIMER,
    TARGET | {"resonate:delay": "30"},
    EXTERNAL,
    TIMER,
    {"resonate:scope": "global"},
    {"resonate:branch": "a"},
    {},
]
VERDICTS = [PromiseState.RESOLVED, PromiseState.REJECTED, PromiseState.CANCELED]
ANYTHING: list[Request] = [
    PromiseSearch(),
    TaskSearch(TaskState.PENDING),
    ScheduleSearch(),
    SCHEDULE,
    ScheduleGet("s"),
    ScheduleDelete("s"),
    PromiseSettle("a", PromiseState.TIMEDOUT),
    PromiseGet(""),
]
TASK_VERBS = {
    TaskState.PENDING: ["acquire", "acquire", "acquire", "create", "halt", "get"],
    TaskState.ACQUIRED: [
        *("suspend", "suspend", "suspend", "release", "fulfill", "heartbeat", "halt"),
        *("fence", "fence", "create"),
    ],
    TaskState.SUSPENDED: ["halt", "get", "fulfill"],
    TaskState.HALTED: ["continue", "continue", "get"],
    TaskState.FULFILLED: ["create", "fulfill", "get", "acquire"],
}


class Drawing:
    """Draws one request after the other, with an eye on the machine they are for."""

    def __init__(self, draw: st.DrawFn, guide: PromiseMachine) -> None:
        self.draw = draw
        self.guide = guide

    def one(self, choices: list[T]) -> T:
        return self.draw(st.sampled_from(choices))

    def request(self) -> Request:
        kind = self.one(["task"] * 6 + ["promise"] * 4 + ["anything"])
        if kind == "task" and self.guide.tasks:
            return self.of_task(self.one(list(self.guide.tasks)))
        return self.one(ANYTHING) if kind == "anything" else self.of_promise(self.one(IDS))

    def create(self, id: str, tags: list[dict[str, str]]) -> PromiseCreate:
        return PromiseCreate(id, self.one([FAR, FAR, 90_000, 100, 40]), tags=self.one(tags))

    def settle(self, id: str) -> PromiseSettle:
        return PromiseSettle(id, self.one(VERDICTS), self.one([Value(), Value(data="1")]))

    def of_promise(self, id: str) -> Request:
        if id not in self.guide.promises and self.one([True, True, False]):
            return self.create(id, TAGS)
        match self.one(["settle", "settle", "listen", "callback", "get", "create"]):
            case "settle":
                return self.settle(id)
            case "listen":
                return PromiseRegisterListener(id, self.one([HERE, "http://there/"]))
            case "callback":
                return PromiseRegisterCallback(id, self.one(IDS))
            case "get":
                return PromiseGet(id)
            case _:
                return self.create(id, TAGS)

    def of_task(self, id: str) -> Request:
        task = self.guide.tasks[id]
        version = task.version + self.one([0] * 8 + [1])
        pid = task.pid or self.one(["p", "q"])
        verb = self.one(TASK_VERBS[task.state])
        match verb:
            case "acquire":
                return TaskAcquire(id, version, pid, self.one([20, 70_000]))
            case "create":
                return TaskCreate(pid, self.one([20, 70_000]), self.create(id, TAGS[:2]))
            case "suspend":
                promises = self.guide.promises.values()
                others = [p.id for p in promises if p.id != id and is_external(p)]
                choices = st.sampled_from(self.one([others, others, others, IDS]) or IDS)
                awaited = self.draw(st.lists(choices, min_size=1, max_size=2, unique=True))
                return TaskSuspend(
                    id, version, tuple(PromiseRegisterCallback(each, id) for each in awaited)
                )
            case "fence":
                other = self.one(IDS)
                action = self.create(other, TAGS) if self.one([True, False]) else None
                return TaskFence(id, version, action or self.settle(other))
            case "fulfill":
                return TaskFulfill(id, version, self.settle(id))
            case "heartbeat":
                return TaskHeartbeat(pid, self.one([(), (TaskRef(id, version),)]))
            case "release":
                return TaskRelease(id, version)
            case "halt":
                return TaskHalt(id)
            case "continue":
                return TaskContinue(id)
            case _:
                return TaskGet(id)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    guide = PromiseMachine()
    drawing = Drawing(draw, guide)
    program: Program = []
    now_ms = 0
    for _ in range(draw(st.integers(5, 40))):
        now_ms += drawing.one([0, 0, 0, 1, 10, 20, 30_000])
        request = None if drawing.one([True] + [False] * 5) else drawing.request()
        program.append((request, now_ms))
        if request is None:
            guide.sweep(now_ms)
        else:
            guide.handle(request, now_ms)
    return program
