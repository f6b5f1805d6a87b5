"""One client after another on one store, on virtual time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from resonate_aio import Resonate
from resonate_aio.stores.base import Store
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore
from resonate_aio.testing import SimClock, SimLoop

T = TypeVar("T")


class Lives:
    """Processes that own a store one after the other.

    Args:
        path: The SQLite file; memory where absent.
        start: The wall clock's first instant.
    """

    def __init__(self, path: Path | None, start: datetime) -> None:
        self._path = path
        self._start_ms = int(start.timestamp() * 1000)
        self._now_s = 0.0
        self._memory: MemoryStore | None = None

    def sleep_until(self, instant: datetime) -> None:
        """No process is there until then."""
        now_s = instant.timestamp() - self._start_ms / 1000
        assert now_s >= self._now_s, "time went back"
        self._now_s = now_s

    def life(
        self, main: Callable[[Resonate], Awaitable[T]], *, killed: bool = False, **options: Any
    ) -> T:
        """One client from its start to its stop, or to the kill that ends its process."""
        loop = SimLoop(start_s=self._now_s)
        clock = SimClock(loop, self._start_ms)
        store = self._store(clock, loop)
        resonate = Resonate(store=store, clock=clock, **options)

        async def whole() -> T:
            try:
                return await main(resonate)
            finally:
                if not killed:
                    await resonate.stop()

        try:
            result = loop.run_until_complete(whole())
        finally:
            self._now_s = loop.time()
        if killed:
            if isinstance(store, SqliteStore):
                store.crash()
            loop.keep(resonate)
            loop.kill()
        else:
            left = [task for task in asyncio.all_tasks(loop) if not task.done()]
            assert not left, left
            assert not loop.exceptions
            loop.close()
        return result

    def _store(self, clock: SimClock, loop: SimLoop) -> Store:
        if self._path is None:
            memory = self._memory
            self._memory = (
                MemoryStore(clock=clock) if memory is None else memory.crash_copy(clock=clock)
            )
            return self._memory
        store = SqliteStore(self._path, synchronous="NORMAL", clock=clock)
        loop.add_busy_check(lambda: store.is_busy)
        return store


def utc(text: str) -> datetime:
    """An instant in UTC: `2024-03-31 00:59`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ticks(ids: Any) -> list[str]:
    """The instants in the ids of scheduled executions, in order, as `31 00:59:00`."""
    found = sorted(int(id.rpartition("-")[2]) for id in ids)
    return [datetime.fromtimestamp(at / 1000, UTC).strftime("%d %H:%M:%S") for at in found]


def where(kind: str, folder: Path) -> Path | None:
    """The file of a store of this kind; None for memory."""
    return None if kind == "memory" else Path(os.fspath(folder)) / "app.db"
