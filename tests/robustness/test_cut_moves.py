"""A start or stop that is itself cut, at whatever pass of the loop (laws 6 and 16, S31).

Everything on the loop is cancelled, once or again and again, as `asyncio.run` does at its end and
some frameworks do at theirs. Afterwards a further stop ends the job, and the same object starts
again, on the same loop or on the next one.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.robustness.lives import passes

from resonate_aio import Context, Resonate
from resonate_aio.stores.sqlite.owner_lock import OwnerLock

pytestmark = pytest.mark.law

PASSES = 16
"""A stop takes fewer where no step runs; later passes are times at which one still does."""

AGAIN_AND_AGAIN = 40
RESULTS = ["e0 done", "e1 done", "e2 done"]
UGLY = ("never retrieved", "was destroyed", "never awaited", "this is a bug", "chore failed")


@pytest.fixture(autouse=True)
def nothing_ugly(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nobody is told of errors that nobody made."""
    caplog.set_level(logging.INFO)
    yield
    gc.collect()
    said = [record.getMessage() for record in caplog.records]
    assert not [text for text in said if any(words in text for words in UGLY)]


class Subject:
    """A client whose moves are cut, and what it runs."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.resonate = (
            Resonate() if path is None else Resonate.local(path=path, synchronous="NORMAL")
        )
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

    async def results(self) -> list[str]:
        """What the executions come to, whoever ran them before."""
        async with asyncio.timeout(20):
            handles = [self.resonate.begin_run(f"e{n}", self._flow) for n in range(3)]
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


@pytest.fixture(params=MOVES, ids=lambda move: move.__name__)
def move(request: pytest.FixtureRequest) -> Move:
    """What is cut."""
    found: Move = request.param
    return found


@pytest.fixture(params=["memory", "sqlite"])
def subjects(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, Subject]]:
    """One for each pass in which a move is cut."""
    return (
        (at, Subject(None if request.param == "memory" else tmp_path / f"{at}.db"))
        for at in range(PASSES)
    )


async def begun(move: Move, subject: Subject, at: int) -> asyncio.Task[None]:
    """The move, so many passes after it began."""
    moving = asyncio.create_task(move(subject))
    await subject.is_moving.wait()
    await passes(min(at, 12))
    await asyncio.sleep(0.0005 * max(at - 12, 0))
    return moving


def cancel_all() -> None:
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()


@pytest.mark.parametrize("stops_again", [False, True])
def test_the_end_of_asyncio_run(
    move: Move, subjects: Iterator[tuple[int, Subject]], stops_again: bool
) -> None:
    for at, subject in subjects:

        async def life(at: int = at, subject: Subject = subject) -> None:
            await begun(move, subject, at)

        async def next_life(subject: Subject = subject) -> list[str]:
            results = await subject.results()
            await subject.resonate.stop()
            subject.check_nothing_left()
            return results

        asyncio.run(life())
        if move in (stopped, left) and at:  # asyncio.run waited for it
            subject.check_nothing_held()
        if stops_again:
            asyncio.run(subject.resonate.stop())
            subject.check_nothing_held()
        assert asyncio.run(next_life()) == RESULTS, f"cut at pass {at}"
        assert asyncio.run(next_life()) == RESULTS, f"cut at pass {at}"


@pytest.mark.parametrize("stops_again", [False, True])
@pytest.mark.parametrize("times", [1, AGAIN_AND_AGAIN])
async def test_everything_on_the_loop_is_cancelled(
    move: Move, subjects: Iterator[tuple[int, Subject]], times: int, stops_again: bool
) -> None:
    for at, subject in subjects:
        moving = await begun(move, subject, at)
        for _ in range(times):
            cancel_all()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await moving
        if stops_again:
            await subject.resonate.stop()
            subject.check_nothing_left()
        else:  # a stop may be under way still, which refuses what is asked
            await subject.resonate.start()
        assert await subject.results() == RESULTS, f"cut at pass {at}"
        await subject.resonate.stop()
        subject.check_nothing_left()
