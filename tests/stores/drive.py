"""What the tests of the stores share: short forms of requests, and a store under test."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from resonate_aio.protocol.records import EMPTY, Promise, PromiseState, TaskState, Value
from resonate_aio.protocol.requests import (
    PromiseCreate,
    PromiseSettle,
    Reply,
    Request,
    TaskAcquire,
    TaskCreate,
)
from resonate_aio.stores.base import Refusal, Store

RESOLVED = PromiseState.RESOLVED
TARGET = "poll://any@default"
HOUR_MS = 3_600_000
TTL_MS = 2**52
"""As the holders of this process have it: such a lease ends with the process (S44)."""


def now_ms() -> int:
    return int(time.time() * 1000)


def create(id: str, *, target: str | None = TARGET, owner: str = "", **more: Any) -> PromiseCreate:
    tags = dict(more.pop("tags", {}))
    if target is not None:
        tags["resonate:target"] = target
    return PromiseCreate(
        id, more.pop("timeout_at_ms", now_ms() + HOUR_MS), tags=tags, owner=owner, **more
    )


def settle(id: str, data: str = "1") -> PromiseSettle:
    return PromiseSettle(id, RESOLVED, Value(data=data))


def claim(id: str, pid: str = "p") -> TaskCreate:
    return TaskCreate(pid, TTL_MS, create(id))


def acquire(id: str, version: int, pid: str = "p") -> TaskAcquire:
    return TaskAcquire(id, version, pid, TTL_MS)


def child(id: str, owner: str, *, tags: dict[str, str] | None = None, **more: Any) -> Promise:
    return Promise(
        id,
        PromiseState.PENDING,
        now_ms() + HOUR_MS // 2,
        now_ms(),
        more.pop("param", EMPTY),
        tags=tags or {},
        owner=owner,
    )


async def ok(store: Store, request: Request) -> Reply:
    reply = await store.call(request)
    assert reply.status == 200, reply
    return reply


async def held(store: Store, id: str) -> int:
    """Create an execution and hold it; its version."""
    task = (await ok(store, claim(id))).task
    assert task is not None
    assert task.state is TaskState.ACQUIRED
    return task.version


class Acks:
    """Collects what `acked` is called with."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, Promise | Refusal]] = []
        self._waiting: dict[Any, asyncio.Future[Promise | Refusal]] = {}

    def __call__(self, context: Any, answer: Promise | Refusal) -> None:
        self.seen.append((context, answer))
        waiting = self._waiting.get(context)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def wait(self, context: Any) -> asyncio.Future[Promise | Refusal]:
        future = self._waiting[context] = asyncio.get_running_loop().create_future()
        for seen, answer in self.seen:
            if seen == context and not future.done():
                future.set_result(answer)
        return future


class Inbox:
    """Collects what it is called with; waits for more."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self._came = asyncio.Event()

    def __call__(self, message: Any) -> None:
        self.seen.append(message)
        self._came.set()

    async def until(self, count: int) -> list[Any]:
        """The messages once there are so many of them."""
        async with asyncio.timeout(20):
            while len(self.seen) < count:
                self._came.clear()
                await self._came.wait()
        return self.seen


async def fence_create(
    store: Store, root: str, version: int, promise: Promise
) -> Promise | Refusal:
    acks = Acks()
    answer = store.fence_create(root, version, promise, acks, promise.id)
    return await acks.wait(promise.id) if answer is None else answer


async def fence_settle(
    store: Store, root: str, version: int, id: str, data: str = "1"
) -> Promise | Refusal:
    acks = Acks()
    answer = store.fence_settle(root, version, id, RESOLVED, Value(data=data), acks, id)
    return await acks.wait(id) if answer is None else answer


async def fulfill(store: Store, root: str, version: int, data: str = "1") -> Promise | Refusal:
    acks = Acks()
    answer = store.fulfill(root, version, RESOLVED, Value(data=data), acks, root)
    return await acks.wait(root) if answer is None else answer


async def step(store: Store, root: str, version: int, n: int | str, data: str = "1") -> Promise:
    """One local leaf: created, settled, recorded."""
    id = f"{root}.{n}"
    # None: the store has to look first, because nobody asked it to load the execution.
    if store.fence_create(root, version, child(id, root), None, None) is None:
        await fence_create(store, root, version, child(id, root))
    answer = await fence_settle(store, root, version, id, data)
    assert isinstance(answer, Promise)
    return answer


async def passes(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
