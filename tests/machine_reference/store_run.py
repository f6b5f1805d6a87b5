"""Runs one program of operations on a store and on the model, side by side.

On virtual time: the store's own timer does its sweeps at the instants at which they are
due, and the model is swept at the same instants.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from msgspec.structs import replace

from resonate_aio.protocol import requests as rq
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore
from resonate_aio.testing.loop import SimClock, SimLoop

from .forms import first_difference, reply_form, task_form
from .model import ReferenceModel
from .operations import LISTENER, START_MS, Advance, Operation, Operations, Reopen, Sweep

T = TypeVar("T")
StoreUnderTest = MemoryStore | SqliteStore
Answered = Callable[[rq.Request, rq.Reply], None]

_OPERATIONS_PER_SNAPSHOT = 10


class Difference(AssertionError):  # noqa: N818  it is what was found
    """Two implementations gave different answers; the message reproduces it in one line."""

    def __init__(self, where: str, seed: int, step: int, operation: Operation, what: str) -> None:
        super().__init__(
            f"RESONATE_AIO_DIFFERENTIAL_SEED={seed} python -m pytest"
            f" tests/machine_reference -k {where}\nstep {step}: {operation}\n{what}"
        )


class StoreRun:
    """One program on one store.

    Args:
        make: Constructs the store on this clock; called again to reopen it.
        answered: Told of every request and the model's reply to it.
    """

    def __init__(
        self, where: str, seed: int, make: Callable[[SimClock], StoreUnderTest], answered: Answered
    ) -> None:
        self.where = where
        self.seed = seed
        self.make = make
        self.answered = answered
        self.loop = SimLoop()
        self.clock = SimClock(self.loop, START_MS + seed)
        self.operations = Operations(seed)
        self.model = ReferenceModel()
        self.unblocked: list[str] = []
        self.expected_unblocked: list[str] = []
        self.step = 0
        self.calls = 0
        self.operation: Operation = Sweep()
        self.loop.add_busy_check(lambda: self.calls > 0 or self.is_busy())

    def run(self, operations: int) -> None:
        """Run that many operations; raises `Difference`."""
        try:
            self.loop.run_until_complete(self._run(operations))
            assert self.loop.exceptions == []
        except BaseException:
            self.loop.kill()
            raise
        self.loop.close()

    async def _run(self, operations: int) -> None:
        await self._open()
        for self.step in range(operations):
            self.operation = self.operations.next(self.model, self.clock.now_ms())
            await self._apply(self.operation)
            if self.step % _OPERATIONS_PER_SNAPSHOT == 0:
                await self._compare_snapshots()
        await self._compare_snapshots()
        await self._outstanding(self.store.close())

    async def _open(self) -> None:
        self.store = self.make(self.clock)
        await self._outstanding(self.store.open())
        self.leave = self.store.subscribe("group", "listener", self._deliver)

    async def _apply(self, operation: Operation) -> None:
        match operation:
            case Advance(ms=ms):
                await self._advance(self.clock.now_ms() + ms)
            case Sweep():
                pass
            case Reopen():
                await self._reopen()
            case _:
                expected = self.model.handle(operation, self.clock.now_ms())
                self.answered(operation, expected)
                found = await self._outstanding(self.store.call(operation))
                if isinstance(self.store, SqliteStore):  # §7: a cache; what memory holds
                    assert {p.id for p in found.preload} <= {p.id for p in expected.preload}
                    expected = replace(expected, preload=found.preload)
                self._check(reply_form(expected), reply_form(found))
        await self._swept()

    async def _reopen(self) -> None:
        if isinstance(self.store, MemoryStore):
            return
        if self.operations.chance(0.5):
            self.store.crash()
        else:
            self.leave()
            await self._outstanding(self.store.close())
        self.model.reopen(self.clock.now_ms())
        await self._open()

    async def _advance(self, target: int) -> None:
        while (now := self.clock.now_ms()) < target:
            stop = min([target, *self.model.instants(now)])
            await asyncio.sleep((stop - self.clock.start_ms) / 1000 - self.loop.time())
            await self._swept()

    async def _swept(self) -> None:
        """Let the store finish what is due now, and do the same to the model."""
        self.model.sweep(self.clock.now_ms())
        self.expected_unblocked += [
            message.promise.id
            for address, message in self.model.outbox.values()
            if address == LISTENER and isinstance(message, rq.Unblock)
        ]
        self.model.outbox.clear()
        await self.loop.when_quiet()

    async def _outstanding(self, answer: Coroutine[Any, Any, T]) -> T:
        """Wait for an answer that may need the store's own thread."""
        self.calls += 1
        try:
            return await answer
        finally:
            self.calls -= 1

    async def _compare_snapshots(self) -> None:
        now = self.clock.now_ms()
        promises: dict[str, object] = {}
        tasks: dict[str, object] = {}
        schedules: dict[str, object] = {}
        for kind in (rq.PromiseSearch, rq.TaskSearch, rq.ScheduleSearch):
            cursor, more = None, True
            while more:
                reply = await self._outstanding(self.store.call(kind(limit=1000, cursor=cursor)))
                promises |= {one.id: one for one in reply.promises}
                tasks |= {one.id: task_form(one) for one in reply.tasks}
                schedules |= {one.id: one for one in reply.schedules}
                cursor, more = reply.cursor, reply.cursor is not None
        model = self.model
        self._check({id: model.promise(id, now) for id in model.promises}, promises)
        self._check({id: task_form(model.task(id, now)) for id in model.tasks}, tasks)
        self._check(model.schedules, schedules)
        self._check(sorted(self.expected_unblocked), sorted(self.unblocked))

    def is_busy(self) -> bool:
        """Whether the store's own thread is at work."""
        store = getattr(self, "store", None)
        return isinstance(store, SqliteStore) and store.is_busy

    def _deliver(self, message: rq.Message) -> None:
        if isinstance(message, rq.Unblock):
            self.unblocked.append(message.promise.id)

    def _check(self, expected: object, found: object) -> None:
        if expected != found:
            what = first_difference(expected, found)
            raise Difference(self.where, self.seed, self.step, self.operation, what)
