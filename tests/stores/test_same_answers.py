"""Random programs: a SQLite store answers what memory answers, whatever left its memory.

The memory store never forgets anything, so it is the model. Both are driven by the same
requests and fenced calls on the same hand-moved clock. A holder keeps to the holders' rule:
it loads what it takes up again, and asks for an id once per hold.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.stores.drive import RESOLVED, TARGET, Acks

from resonate_aio.protocol.records import Promise, PromiseState, Value
from resonate_aio.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSearch,
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
    TaskRelease,
    TaskSearch,
    TaskSuspend,
)
from resonate_aio.stores.base import Refusal
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore

ROOTS = ("a", "b", "a.1", "c.d")
OTHERS = ("x", "y", "a.2", "a.x", "b.1", "x.1", "a.1.1", "c")
START_MS = 1_000_000
FAR_MS = START_MS + 10**9
SETTLED = tuple(state for state in PromiseState if state.value in {"resolved", "rejected"})


class HandClock:
    def __init__(self) -> None:
        self.at_ms = START_MS

    def now_ms(self) -> int:
        return self.at_ms


class Both:
    """Two stores given the same things to do."""

    def __init__(self, path: Path) -> None:
        self.clock = HandClock()
        self.memory = MemoryStore(clock=self.clock)
        self.sqlite = SqliteStore(path, clock=self.clock)

    async def call(self, request: Request) -> Reply:
        expected = await self.memory.call(request)
        answer = await self.sqlite.call(request)
        assert plain(answer) == plain(expected), request
        return expected

    async def fenced(self, name: str, *args: Any) -> Promise | Refusal:
        answers = []
        for store in (self.memory, self.sqlite):
            acks = Acks()
            answer = getattr(store, name)(*args, acks, 0)
            answers.append(await acks.wait(0) if answer is None else answer)
        assert answers[0] == answers[1], (name, args)
        found: Promise | Refusal = answers[0]
        return found

    async def load(self, root: str) -> dict[str, Promise]:
        expected = {promise.id: promise for promise in await self.memory.load(root)}
        answer = {promise.id: promise for promise in await self.sqlite.load(root)}
        assert answer == expected, root
        return expected

    async def sweep(self) -> None:
        for store in (self.memory, self.sqlite._core):
            assert store is not None
            store._sweep(self.clock.at_ms)


def plain(reply: Reply) -> Reply:
    """Without hints (error text, preload) and without what a search may show late.

    Heartbeats are not written, so a search shows the lease as it was acquired.
    """
    tasks = tuple(msgspec.structs.replace(task, expires_at_ms=None) for task in reply.tasks)
    return msgspec.structs.replace(reply, error=None, preload=(), tasks=tasks)


class Program:
    """One random program."""

    def __init__(self, both: Both, seed: int) -> None:
        self.both = both
        self.chance = random.Random(seed)
        self.versions: dict[str, int] = {}
        self.asked: dict[str, set[str]] = {}
        self.number = 0

    def value(self) -> Value:
        self.number += 1
        return Value(data=str(self.number))

    def create(self, id: str) -> PromiseCreate:
        tags = self.chance.choice(
            ({}, {"resonate:target": TARGET}, {"resonate:external": "true"}, {"k": "v"})
        )
        if id in ROOTS:
            tags = {"resonate:target": TARGET}
        due_ms = self.chance.choice((FAR_MS, FAR_MS, FAR_MS, self.both.clock.at_ms + 50))
        return PromiseCreate(id, due_ms, self.value(), tags)

    def any_id(self) -> str:
        return self.chance.choice((*ROOTS, *OTHERS, "a.5", "a.6", "b.5", "x.5"))

    async def hold(self, root: str) -> None:
        if self.chance.random() < 0.5:
            action = PromiseCreate(root, FAR_MS, self.value(), {"resonate:target": TARGET})
            request: Request = TaskCreate("p", 10**6, action)
        else:
            request = TaskAcquire(root, self.versions.get(root, 0), "p", 10**6)
        reply = await self.both.call(request)
        if reply.status == 200 and reply.task is not None and reply.task.state == "acquired":
            self.versions[root] = reply.task.version
            known: dict[str, Promise] = {}
            if reply.task.version > 1 or self.chance.random() < 0.5:
                known = await self.both.load(root)
            self.asked[root] = {id for id, p in known.items() if p.owner == root}

    async def step(self, root: str) -> None:
        n = self.chance.randrange(3, 9)
        id = f"{root}.{n}" if self.chance.random() < 0.8 else self.chance.choice(OTHERS)
        owner = root if id.startswith(f"{root}.") else ""
        asked = self.asked.setdefault(root, set())
        # Nobody asks for an id below a record that is the root of another execution.
        below = [other for other in ROOTS if other.startswith(f"{root}.")]
        if id in asked or any(id.startswith(f"{other}.") for other in below):
            return
        tags = self.chance.choice(({}, {}, {"resonate:timer": "true"}))
        due_ms = self.chance.choice((FAR_MS, FAR_MS, self.both.clock.at_ms + 30))
        promise = Promise(
            id,
            PromiseState.PENDING,
            due_ms,
            self.both.clock.at_ms,
            self.value(),
            tags=tags,
            owner=owner,
        )
        version = self.versions.get(root, 1)
        answer = await self.both.fenced("fence_create", root, version, promise)
        if isinstance(answer, Promise):
            asked.add(id)
            if self.chance.random() < 0.7:
                await self.both.fenced(
                    "fence_settle", root, version, id, self.chance.choice(SETTLED), self.value()
                )

    async def settle_something(self, root: str) -> None:
        version = self.versions.get(root, 1)
        id = self.chance.choice((f"{root}.{self.chance.randrange(3, 9)}", self.any_id()))
        if id == root or (await self.both.call(PromiseGet(id))).status == 404:
            return
        await self.both.fenced("fence_settle", root, version, id, RESOLVED, self.value())

    async def request(self) -> None:
        root = self.chance.choice(ROOTS)
        version = self.versions.get(root, 0) + self.chance.choice((0, 0, 0, 1))
        id = self.any_id()
        suspend = TaskSuspend(root, version, (PromiseRegisterCallback(id, root),))
        make = self.chance.choice(
            (
                PromiseGet(id),
                PromiseGet(f"{root}.{self.chance.randrange(3, 9)}"),
                self.create(id),
                self.create(id),
                PromiseSettle(id, RESOLVED, self.value()),
                PromiseRegisterCallback(id, root),
                PromiseRegisterListener(id, "poll://uni@g/1"),
                TaskGet(id),
                TaskFence(root, version, self.create(f"{root}.{self.chance.randrange(20, 30)}")),
                TaskFence(root, version, PromiseSettle(id, RESOLVED, self.value())),
                TaskHeartbeat("p", ()),
                suspend if id != root else TaskGet(root),
                TaskRelease(root, version),
                TaskHalt(root) if self.chance.random() < 0.3 else TaskGet(root),
                TaskContinue(root),
                TaskFulfill(root, version, PromiseSettle(root, RESOLVED, self.value()))
                if self.chance.random() < 0.2
                else TaskGet(root),
                PromiseSearch(self.chance.choice((None, *PromiseState)), limit=5),
                TaskSearch(limit=3),
            )
        )
        await self.both.call(make)

    async def run(self, length: int) -> None:
        for _ in range(length):
            roll = self.chance.random()
            root = self.chance.choice(ROOTS)
            if roll < 0.12:
                await self.hold(root)
            elif roll < 0.45:
                await self.step(root)
            elif roll < 0.55:
                await self.settle_something(root)
            elif roll < 0.60:
                self.both.clock.at_ms += self.chance.choice((1, 10, 40, 40_000))
                await self.both.sweep()
            else:
                await self.request()


async def everything(store: MemoryStore | SqliteStore) -> tuple[Any, ...]:
    promises = (await store.call(PromiseSearch(limit=1000))).promises
    tasks = (await store.call(TaskSearch(limit=1000))).tasks
    return promises, plain(Reply(200, tasks=tasks)).tasks


@pytest.mark.parametrize("seed", range(60))
async def test_sqlite_answers_as_memory_does(path: Path, seed: int) -> None:
    both = Both(path)
    await both.memory.open()
    await both.sqlite.open()
    await Program(both, seed).run(250)
    expected = await everything(both.memory)
    assert await everything(both.sqlite) == expected
    core = both.sqlite._core
    assert core is not None
    held = set(core._holds.by_root)
    live = {p.id for p in core.machine.promises.values() if p.settled_at_ms is None}
    kept = set(core.machine.promises) - live
    assert kept <= set(core._holds._keepers)
    assert held == {t.id for t in core.machine.tasks.values() if t.state == "acquired"}
    await both.sqlite.close()
    await both.sqlite.open()
    answer = await everything(both.sqlite)
    assert answer[0] == expected[0]
    await both.sqlite.close()
    await both.memory.close()
