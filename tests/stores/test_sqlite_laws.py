"""Laws 1, 2 and 6 under concurrency and crashes: what was shown once stays so for ever."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from tests.stores.drive import (
    Acks,
    acquire,
    child,
    claim,
    create,
    fence_settle,
    fulfill,
    now_ms,
    settle,
)

from resonate_aio.protocol.records import Promise, Value
from resonate_aio.protocol.requests import (
    PromiseGet,
    PromiseRegisterListener,
    PromiseSearch,
    Request,
    TaskGet,
    TaskRelease,
)
from resonate_aio.stores.base import LOST
from resonate_aio.stores.sqlite import SqliteStore

ROOTS = ("a", "b", "c.d", "e")
FOREIGN = ("a.f1", "a.f2", "b.f1", "x", "y", "x.f1")


class Witness:
    """Remembers every record it was shown and objects when one changes."""

    def __init__(self) -> None:
        self.births: dict[str, tuple[str | None, int]] = {}
        self.ends: dict[str, Promise] = {}
        self.ended_at: dict[str, int] = {}
        self.now = 0

    def saw(self, promise: Promise | None, asked_at: int = 0) -> None:
        """Take note of a record that was shown to a question asked at that instant."""
        self.now += 1
        if promise is None:
            return
        birth = (promise.param.data, promise.created_at_ms)
        assert self.births.setdefault(promise.id, birth) == birth
        if promise.settled_at_ms is not None:
            assert self.ends.setdefault(promise.id, promise) == promise
            self.ended_at.setdefault(promise.id, self.now)
        else:
            assert self.ended_at.get(promise.id, self.now) > asked_at


class Life:
    """One life of the process: concurrent holders and outsiders on one store."""

    def __init__(self, store: SqliteStore, witness: Witness, chance: random.Random) -> None:
        self.store = store
        self.witness = witness
        self.chance = chance
        self.recorded = 0

    async def outsider(self) -> None:
        while True:
            id = self.chance.choice(FOREIGN)
            target = self.chance.choice((None, None, "poll://any@default"))
            data = Value(data=str(self.chance.random()))
            request: Request = self.chance.choice(
                (
                    create(id, target=target, param=data),
                    create(f"new{self.chance.randrange(10**6)}", target=target, param=data),
                    settle(id, str(self.chance.random())),
                    PromiseGet(id),
                    PromiseGet(f"{self.chance.choice(ROOTS)}.{self.chance.randrange(1, 40)}"),
                    PromiseRegisterListener(id, "poll://any@default"),
                    TaskGet(id),
                    PromiseSearch(limit=self.chance.choice((1, 7, 1000))),
                )
            )
            asked_at = self.witness.now
            reply = await self.store.call(request)
            self.witness.saw(reply.promise, asked_at)
            for promise in reply.promises:
                self.witness.saw(promise, asked_at)
            if self.chance.random() < 0.3:
                await asyncio.sleep(self.chance.random() * 0.002)

    async def holder(self, root: str) -> None:
        while True:
            asked_at = self.witness.now
            reply = await self.store.call(claim(root))
            if reply.status == 409:
                task = (await self.store.call(TaskGet(root))).task
                assert task is not None
                reply = await self.store.call(acquire(root, task.version))
            self.witness.saw(reply.promise, asked_at)
            if reply.status == 200 and reply.task is not None and reply.task.state == "acquired":
                await self.execution(root, reply.task.version)
            root = self.chance.choice((*ROOTS, root, f"r{self.chance.randrange(50)}"))
            await asyncio.sleep(0)

    async def execution(self, root: str, version: int) -> None:
        asked_at = self.witness.now
        known = {promise.id: promise for promise in await self.store.load(root)}
        for promise in known.values():
            self.witness.saw(promise, asked_at)
        for n in range(1, self.chance.randrange(2, 40)):
            ids = [f"{root}.{n}"]
            if self.chance.random() < 0.2:
                ids.append(self.chance.choice(FOREIGN))
            if not all([await self.step(root, version, id, known) for id in ids]):
                return
        if self.chance.random() < 0.2:
            end = await fulfill(self.store, root, version)
            self.witness.saw(end if isinstance(end, Promise) else None)
        else:
            await self.store.call(TaskRelease(root, version))

    async def step(self, root: str, version: int, id: str, known: dict[str, Promise]) -> bool:
        standing = known.get(id)
        if standing is None:
            owner = root if id.startswith(f"{root}.") and "f" not in id else ""
            data = str(self.chance.random())
            given = child(id, owner, param=Value(data=data))
            acks = Acks()
            answer = self.store.fence_create(root, version, given, acks, 0)
            if answer is None or owner != root:
                answer = await acks.wait(0)
                self.witness.saw(answer if isinstance(answer, Promise) else None)
            if answer is LOST:
                return False
            assert isinstance(answer, Promise)
            standing = answer
        if standing.settled_at_ms is None and self.chance.random() < 0.9:
            answer = await fence_settle(self.store, root, version, id, str(self.chance.random()))
            if not isinstance(answer, Promise):
                return False
            assert answer.param.data == standing.param.data
            self.witness.saw(answer)
            self.recorded += 1
        return True

    async def run(self, length_s: float) -> None:
        tasks = [asyncio.ensure_future(self.holder(root)) for root in ROOTS]
        tasks += [asyncio.ensure_future(self.holder(f"r{n}")) for n in range(8)]
        tasks += [asyncio.ensure_future(self.outsider()) for _ in range(6)]
        done, _ = await asyncio.wait(tasks, timeout=length_s, return_when=asyncio.FIRST_COMPLETED)
        self.store.crash()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in done:
            task.result()


@pytest.mark.parametrize("seed", range(4))
async def test_what_was_shown_survives_concurrency_and_crashes(path: Path, seed: int) -> None:
    witness = Witness()
    chance = random.Random(seed)
    store = SqliteStore(path, synchronous=chance.choice(("FULL", "NORMAL")))
    recorded = 0
    for _ in range(5):
        await store.open()
        for id in list(witness.births):
            asked_at = witness.now
            witness.saw((await store.call(PromiseGet(id))).promise, asked_at)
            assert (await store.call(PromiseGet(id))).status == 200
        core = store._core
        assert core is not None
        for id, task in list(core.machine.tasks.items()):  # no pause after lapses in this test
            if task.state == "pending" and task.retry_at_ms is not None:
                core.machine.postpone(id, now_ms(), lapses=0)
        life = Life(store, witness, chance)
        await life.run(chance.uniform(0.02, 0.3))
        recorded += life.recorded
    assert recorded > 50
