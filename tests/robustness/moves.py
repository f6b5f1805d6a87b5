"""Clients whose starts and stops are cut, and ways to move them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.robustness.lives import passes

from resonate_aio import Context, Resonate
from resonate_aio.stores.sqlite.owner_lock import OwnerLock

RESULTS = ["e0 done", "e1 done", "e2 done"]


class Subject:
    """A client whose moves are cut, and what it runs.

    Args:
        path: Its file, if it has one.
    """

    def __init__(self, resonate: Resonate, path: Path | None = None) -> None:
        self.resonate = resonate
        self.path = path
        self.is_moving = asyncio.Event()

        @self.resonate.register
        async def flow(ctx: Context) -> str:
            await ctx.run(step)
            await ctx.sleep(0.005)
            return f"{ctx.id} done"

        async def step(ctx: Context) -> None:
            await asyncio.sleep(0.002)

        self._flow = flow

    async def work(self) -> None:
        """Have three executions under way: a step runs when the move begins."""
        self.handles = [self.resonate.begin_run(f"e{n}", self._flow) for n in range(3)]
        for handle in self.handles:
            await handle.created()
        self.is_moving.set()

    async def results(self, name: str = "e") -> list[str]:
        """What three executions come to: those of `work`, whoever ran them before, or others."""
        async with asyncio.timeout(20):
            handles = [self.resonate.begin_run(f"{name}{n}", self._flow) for n in range(3)]
            return [await handle for handle in handles]

    def check_nothing_held(self) -> None:
        """No thread of ours, and the file is free."""
        assert not [one for one in threading.enumerate() if one.name.startswith("resonate")]
        if self.path is not None:
            lock = OwnerLock(str(self.path))
            lock.acquire()
            lock.release()

    def check_nothing_left(self) -> None:
        """The same, and no task: for who asks from the loop."""
        self.check_nothing_held()
        assert asyncio.get_running_loop().get_task_factory() is None
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, left


async def stopped(subject: Subject) -> None:
    await subject.work()
    await subject.resonate.stop()


async def left(subject: Subject) -> None:
    async with subject.resonate:
        await subject.work()


async def started(subject: Subject) -> None:
    subject.is_moving.set()
    await subject.resonate.start()


async def stopped_at_the_start(subject: Subject) -> None:
    starting = asyncio.create_task(subject.resonate.start())
    await asyncio.sleep(0)
    subject.is_moving.set()
    await subject.resonate.stop()
    await starting


Move = Callable[[Subject], Coroutine[Any, Any, None]]
MOVES: list[Move] = [stopped, left, started, stopped_at_the_start]


async def begun(move: Move, subject: Subject, at: int) -> asyncio.Task[None]:
    """The move, so many passes after it began."""
    subject.is_moving = asyncio.Event()
    moving = asyncio.create_task(move(subject))
    await subject.is_moving.wait()
    await passes(min(at, 12))
    await asyncio.sleep(0.0005 * max(at - 12, 0))
    return moving


def cancel_all() -> None:
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()
