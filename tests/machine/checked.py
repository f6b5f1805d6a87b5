"""A promise machine whose invariants are checked after every step, and short ways to ask it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from resonate_aio.machine import PromiseMachine
from resonate_aio.machine.invariants import check, check_step, snapshot
from resonate_aio.machine.state import WATCHED
from resonate_aio.protocol.records import EMPTY, Promise, PromiseState, Task, Value
from resonate_aio.protocol.requests import (
    Execute,
    Message,
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSettle,
    Reply,
    Request,
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
    TaskSuspend,
)

T = TypeVar("T")

ADDRESS = "poll://any@workers"
HERE = "poll://uni@workers/here"
TARGET = {"resonate:target": ADDRESS}
EXTERNAL = {"resonate:external": "true"}
TIMER = {"resonate:timer": "true"}
FAR = 1_000_000
TTL = 60_000
ONE = Value(data="1")
RETRY_TIMEOUT = 30_000


class CheckedMachine(PromiseMachine):
    """Every step is followed by every invariant."""

    def __init__(self) -> None:
        super().__init__(retry_timeout_ms=RETRY_TIMEOUT)

    def ask(self, request: Request, now_ms: int) -> Reply:
        return self.checked(lambda: self.handle(request, now_ms), now_ms)

    def swept(self, now_ms: int) -> None:
        self.checked(lambda: self.sweep(now_ms), now_ms, background=True)

    def checked(self, step: Callable[[], T], now_ms: int, *, background: bool = False) -> T:
        before = snapshot(self)
        answer = step()
        check(self, now_ms)
        check_step(before, snapshot(self), now_ms=now_ms, background=background)
        return answer

    def sent(self) -> list[Message]:
        """Take the messages that are to be sent, in order."""
        # What the machine tells its own shell (`WATCHED`) is no message.
        messages = [message for address, message in self.outbox.values() if address != WATCHED]
        self.outbox.clear()
        return messages

    # -- short ways to ask

    def create(
        self, id: str, tags: dict[str, str] | None = None, *, now: int = 0, until: int = FAR
    ) -> Reply:
        return self.ask(PromiseCreate(id, until, tags=tags or {}), now)

    def held(self, id: str = "t", *, now: int = 0, until: int = FAR, pid: str = "p") -> Reply:
        """Create a task that is held at version 1."""
        return self.ask(TaskCreate(pid, TTL, PromiseCreate(id, until, tags=TARGET)), now)

    def get(self, id: str, *, now: int = 0) -> Promise:
        promise = self.ask(PromiseGet(id), now).promise
        assert promise is not None
        return promise

    def task(self, id: str = "t", *, now: int = 0) -> Task:
        task = self.ask(TaskGet(id), now).task
        assert task is not None
        return task

    def resolve(self, id: str, *, now: int = 0, value: Value = EMPTY) -> Reply:
        return self.ask(PromiseSettle(id, PromiseState.RESOLVED, value), now)

    def acquire(
        self, id: str = "t", version: int = 0, *, now: int = 0, pid: str = "p", ttl: int = TTL
    ) -> Reply:
        return self.ask(TaskAcquire(id, version, pid, ttl), now)

    def fence(
        self,
        action: PromiseCreate | PromiseSettle,
        version: int = 1,
        *,
        id: str = "t",
        now: int = 0,
    ) -> Reply:
        return self.ask(TaskFence(id, version, action), now)

    def suspend(self, *awaited: str, id: str = "t", version: int = 1, now: int = 0) -> Reply:
        actions = tuple(PromiseRegisterCallback(each, id) for each in awaited)
        return self.ask(TaskSuspend(id, version, actions), now)

    def complete(self, id: str = "t", version: int = 1, *, now: int = 0) -> Reply:
        action = PromiseSettle(id, PromiseState.RESOLVED, ONE)
        return self.ask(TaskFulfill(id, version, action), now)

    def release(self, id: str = "t", version: int = 1, *, now: int = 0) -> Reply:
        return self.ask(TaskRelease(id, version), now)

    def heartbeat(self, id: str = "t", version: int = 1, *, now: int = 0, pid: str = "p") -> Reply:
        return self.ask(TaskHeartbeat(pid, (TaskRef(id, version),)), now)

    def halt(self, id: str = "t", *, now: int = 0) -> Reply:
        return self.ask(TaskHalt(id), now)

    def resume(self, id: str = "t", *, now: int = 0) -> Reply:
        """Ask for task.continue."""
        return self.ask(TaskContinue(id), now)

    def callback(self, awaited: str, awaiter: str = "t", *, now: int = 0) -> Reply:
        return self.ask(PromiseRegisterCallback(awaited, awaiter), now)

    def listen(self, awaited: str, address: str = HERE, *, now: int = 0) -> Reply:
        return self.ask(PromiseRegisterListener(awaited, address), now)


def execute(id: str = "t", version: int = 0) -> Execute:
    return Execute(id, version)
