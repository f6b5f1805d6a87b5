"""Crash everywhere: run a program once, then again with a crash at every store operation.

A crash drops every object of a life inertly (S32): its loop never runs again, its frames
stay referenced, only what the store had recorded is kept. The next life starts on that with
a fresh client and calls the program again. Whatever instant the crash fell on, the result
and the recorded values must be those of the run without a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from functools import partial
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

import msgspec

from ..client.resonate import Resonate
from ..protocol.records import Promise, PromiseState, Value
from ..protocol.requests import Message, PromiseSearch, Reply, Request
from ..runtime.settings import Settings
from ..stores.base import Acked, Refusal, Store
from ..stores.memory import MemoryStore
from ..stores.sqlite import SqliteStore
from .loop import Killed, SimClock, SimLoop

Main = Callable[[Resonate], Awaitable[Any]]

_LIVES = 60
_START_MS = 1_700_000_000_000


class CrashError(AssertionError):
    """A law did not hold; the message says after which crash, and how to run it again."""


class Outcome(msgspec.Struct, frozen=True):
    """What one run left: its result, the settled records, and how many operations it took."""

    result: Any
    records: dict[str, tuple[str, str | None]]
    operations: int
    crashes: int


class Stage(Protocol):
    """A kind of store that can be crashed."""

    def open(self, loop: SimLoop, clock: SimClock) -> Store:
        """The store of the next life."""
        ...

    def crash(self) -> None:
        """End the life now: keep what is recorded, nothing else."""
        ...

    def settled(self) -> dict[str, tuple[str, str | None]]:
        """State and value of every settled record, after a crash or an orderly end."""
        ...

    def close(self) -> None:
        """Remove what is left."""
        ...


class MemoryStage:
    """Memory: everything applied is recorded."""

    def __init__(self) -> None:
        self._store: MemoryStore | None = None

    def open(self, loop: SimLoop, clock: SimClock) -> Store:
        """The store of the next life."""
        self._store = (
            MemoryStore(clock=clock) if self._store is None else self._store.crash_copy(clock=clock)
        )
        return self._store

    def crash(self) -> None:
        """End the life now."""
        assert self._store is not None
        self._store = self._store.crash_copy()

    def settled(self) -> dict[str, tuple[str, str | None]]:
        """State and value of every settled record."""
        assert self._store is not None
        return {
            promise.id: (str(promise.state), promise.value.data)
            for promise in self._store.machine.promises.values()
            if promise.state is not PromiseState.PENDING
        }

    def close(self) -> None:
        """Nothing is left."""


class SqliteStage:
    """A SQLite file: what was not committed is lost."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="resonate-aio-crash-")
        self._path = os.path.join(self._folder.name, "app.db")
        self._store: SqliteStore | None = None

    def open(self, loop: SimLoop, clock: SimClock) -> Store:
        """The store of the next life."""
        store = self._store = SqliteStore(self._path, synchronous="NORMAL", clock=clock)
        loop.add_busy_check(lambda: store.is_busy)
        return store

    def crash(self) -> None:
        """End the life now."""
        assert self._store is not None
        self._store.crash()

    def settled(self) -> dict[str, tuple[str, str | None]]:
        """State and value of every settled record."""
        loop = SimLoop(start_s=0.0)
        store = SqliteStore(self._path, synchronous="NORMAL", clock=SimClock(loop, _START_MS))
        loop.add_busy_check(lambda: store.is_busy)

        async def read() -> dict[str, tuple[str, str | None]]:
            await store.open()
            try:
                return {
                    promise.id: (str(promise.state), promise.value.data)
                    for promise in await _everything(store)
                    if promise.settled_at_ms is not None
                }
            finally:
                await store.close()

        try:
            return loop.run_until_complete(read())
        finally:
            loop.close()

    def close(self) -> None:
        """Remove the file."""
        self._folder.cleanup()


async def _everything(store: Store) -> list[Promise]:
    found: list[Promise] = []
    cursor: str | None = None
    while True:
        reply = await store.call(PromiseSearch(limit=1000, cursor=cursor))
        found.extend(reply.promises)
        cursor = reply.cursor
        if cursor is None:
            return found


class CrashingStore:
    """A store that ends the life before or after its n-th operation.

    Args:
        crash_at: Twice the number of the operation (from 0), plus 1 to crash after it.
        crash: Carries the crash out.
    """

    def __init__(self, inner: Store, crash_at: int | None, crash: Callable[[], None]) -> None:
        self._inner = inner
        self._crash_at = crash_at
        self._crash = crash
        self._is_dead = False
        self.operations = 0
        self.in_process = inner.in_process
        self.durable_at_once = inner.durable_at_once

    @contextlib.contextmanager
    def _operation(self) -> Iterator[None]:
        self._end_if_dead()
        point = 2 * self.operations
        self.operations += 1
        if point == self._crash_at:
            self._end()
        yield
        self._end_if_dead()
        if point + 1 == self._crash_at:
            self._end()

    def _end(self) -> None:
        self._is_dead = True
        self._crash()
        raise Killed

    def _end_if_dead(self) -> None:
        if self._is_dead:
            raise Killed

    async def open(self) -> None:
        """As the store's."""
        await self._inner.open()

    async def close(self) -> None:
        """As the store's."""
        await self._inner.close()

    async def call(self, request: Request) -> Reply:
        """One operation."""
        with self._operation():
            return await self._inner.call(request)

    def post(self, request: Request) -> Reply | asyncio.Future[Reply]:
        """One operation; what comes later comes at its end."""
        with self._operation():
            answer = self._inner.post(request)
        if isinstance(answer, asyncio.Future):
            later: asyncio.Future[Reply] = answer.get_loop().create_future()
            answer.add_done_callback(partial(self._pass_on, later))
            return later
        return answer

    def _pass_on(self, later: asyncio.Future[Reply], answer: asyncio.Future[Reply]) -> None:
        self._end_if_dead()
        if not later.done():
            later.set_result(answer.result())

    async def load(self, root: str) -> list[Promise]:
        """One operation."""
        with self._operation():
            return await self._inner.load(root)

    def fence_create(
        self, task_id: str, version: int, promise: Promise, acked: Acked | None, context: Any
    ) -> Promise | Refusal | None:
        """One operation."""
        with self._operation():
            return self._inner.fence_create(task_id, version, promise, acked, context)

    def fence_settle(
        self,
        task_id: str,
        version: int,
        promise_id: str,
        state: PromiseState,
        value: Value,
        acked: Acked,
        context: Any,
    ) -> Promise | Refusal | None:
        """One operation."""
        with self._operation():
            return self._inner.fence_settle(
                task_id, version, promise_id, state, value, acked, context
            )

    def fulfill(
        self,
        task_id: str,
        version: int,
        state: PromiseState,
        value: Value,
        acked: Acked,
        context: Any,
    ) -> Promise | Refusal | None:
        """One operation."""
        with self._operation():
            return self._inner.fulfill(task_id, version, state, value, acked, context)

    def flush(self) -> None:
        """As the store's."""
        self._end_if_dead()
        self._inner.flush()

    def watch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """As the store's."""
        self._end_if_dead()
        self._inner.watch(promise_id, settled)

    def unwatch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """As the store's."""
        self._end_if_dead()
        self._inner.unwatch(promise_id, settled)

    def subscribe(
        self, group: str, pid: str, deliver: Callable[[Message], None]
    ) -> Callable[[], None]:
        """As the store's."""
        self._end_if_dead()
        return self._inner.subscribe(group, pid, deliver)


class Theatre:
    """Runs lives of one program, one after the other, on one stage.

    Args:
        main: The whole program: called in every life with a fresh client.
        stage: Where it is recorded.
        settings: The worker's settings, for every life.
        crashed: Called at the instant of each crash: what the program itself counts
            (effects) is frozen there.
    """

    def __init__(
        self,
        main: Main,
        stage: Stage,
        *,
        settings: Settings | None = None,
        crashed: Callable[[], None] = lambda: None,
    ) -> None:
        self._main = main
        self._stage = stage
        self._settings = settings
        self._crashed = crashed
        self._clock_s = 0.0

    def life(self, crash_at: int | None) -> tuple[Any, int, bool]:
        """One life.

        Returns:
            Its result, its number of operations, and whether it ended in the crash.
        """
        loop = SimLoop(start_s=self._clock_s)
        clock = SimClock(loop, _START_MS)
        inner = self._stage.open(loop, clock)

        def crash() -> None:
            self._stage.crash()
            self._crashed()
            loop.keep(resonate)
            loop.kill()

        store = CrashingStore(inner, crash_at, crash)
        resonate = Resonate(store=store, pid="crash", clock=clock, settings=self._settings)

        async def whole() -> Any:
            async with resonate:
                return await self._main(resonate)

        try:
            result = loop.run_until_complete(whole())
        except Killed:
            self._clock_s = loop.time()
            return None, store.operations, True
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        if left:
            raise CrashError(f"stop() left tasks behind: {left}")
        if loop.exceptions:
            raise CrashError(f"the event loop caught: {loop.exceptions[0]}")
        self._clock_s = loop.time()
        loop.close()
        return result, store.operations, False

    def play(self, crashes: list[int]) -> Outcome:
        """Lives with these crash points, then lives without until one ends in order."""
        operations = done = 0
        for number in range(_LIVES):
            crash_at = crashes[number] if number < len(crashes) else None
            result, count, crashed = self.life(crash_at)
            operations = operations or count
            if not crashed:
                return Outcome(result, self._stage.settled(), operations, done)
            done += 1
        raise CrashError(f"no orderly end after {_LIVES} lives")
