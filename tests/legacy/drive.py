"""Small steps that tests of the legacy store are made of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from resonate_aio.protocol.records import Promise, PromiseState, Task, Value, is_pending
from resonate_aio.protocol.requests import Message, PromiseCreate, TaskCreate
from resonate_aio.protocol.values import encode
from resonate_aio.stores.base import Refusal
from resonate_aio.stores.legacy import LegacyStore

RESOLVED, REJECTED = PromiseState.RESOLVED, PromiseState.REJECTED
FP = {"resonate-aio:fp": "run|f|1|"}
WAIT_S = 10.0


def in_ms(delay_ms: int = 3_600_000) -> int:
    return int(time.time() * 1000) + delay_ms


def target(group: str = "g", pid: str = "p") -> dict[str, str]:
    return {"resonate:scope": "global", "resonate:target": f"poll://any@{group}/{pid}"}


def root(id: str, **tags: str) -> PromiseCreate:
    return PromiseCreate(id, in_ms(), Value(None, encode({"func": "f"})), {**target(), **tags})


def record(id: str, owner: str, tags: dict[str, str] | None = None, data: str = "1") -> Promise:
    pending = PromiseState.PENDING
    param = Value(dict(FP), data)
    return Promise(id, pending, in_ms(), in_ms(0), param, tags=tags or {}, owner=owner)


def value(data: Any) -> Value:
    return Value(None, encode(data))


async def until(holds: Callable[[], Any], what: str = "it") -> None:
    """Wait for something the server or the store will do; fails after a while."""
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110  it happens in another program
            await asyncio.sleep(0.002)


async def hold(store: LegacyStore, id: str, pid: str = "p", ttl_ms: int = 10_000) -> Task:
    """Create a promise and hold its task."""
    reply = await store.call(TaskCreate(pid, ttl_ms, root(id)))
    assert reply.status == 200, reply
    assert reply.task is not None
    return reply.task


class Answers:
    """What the fenced door answered, in order."""

    def __init__(self) -> None:
        self.given: list[tuple[Any, Promise | Refusal]] = []

    def __call__(self, context: Any, answer: Promise | Refusal) -> None:
        self.given.append((context, answer))

    async def of(self, context: Any) -> Promise | Refusal:
        await until(lambda: any(one == context for one, _ in self.given), f"answer to {context}")
        return next(answer for one, answer in self.given if one == context)


async def create(store: LegacyStore, task: Task, promise: Promise) -> Promise | Refusal:
    answers = Answers()
    refused = store.fence_create(task.id, task.version, promise, answers, promise.id)
    return refused if refused is not None else await answers.of(promise.id)


async def settle(
    store: LegacyStore,
    task: Task,
    id: str,
    state: PromiseState = RESOLVED,
    outcome: Value | None = None,
) -> Promise | Refusal:
    answers = Answers()
    outcome = value(1) if outcome is None else outcome
    refused = store.fence_settle(task.id, task.version, id, state, outcome, answers, id)
    return refused if refused is not None else await answers.of(id)


async def fulfill(
    store: LegacyStore, task: Task, state: PromiseState = RESOLVED, outcome: Value | None = None
) -> Promise | Refusal:
    answers = Answers()
    outcome = value(1) if outcome is None else outcome
    refused = store.fulfill(task.id, task.version, state, outcome, answers, task.id)
    return refused if refused is not None else await answers.of(task.id)


class Worker:
    """Hears what a store tells a worker."""

    def __init__(self, store: LegacyStore, group: str = "g", pid: str = "p") -> None:
        self.messages: list[Message] = []
        self.taken: list[Promise] = []
        self.lost: list[tuple[str, int]] = []
        self.leave = store.subscribe(
            group,
            pid,
            self.messages.append,
            self.taken.append,
            lambda id, version: self.lost.append((id, version)),
        )


class Watcher:
    """Hears of one promise's end."""

    def __init__(self, store: LegacyStore, id: str) -> None:
        self.seen: list[Promise] = []
        self._store, self._id = store, id
        store.watch(id, self.seen.append)

    async def outcome(self) -> Promise:
        await until(lambda: self.seen, "the end of a promise")
        assert not is_pending(self.seen[0])
        return self.seen[0]

    def stop(self) -> None:
        self._store.unwatch(self._id, self.seen.append)
