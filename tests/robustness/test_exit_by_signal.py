"""A signal handler that exits, wherever its exception is raised: the process ends (law 16)."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateTimedoutError
from resonate_aio.runtime.async_wait import AsyncWait
from resonate_aio.runtime.settings import Settings
from resonate_aio.stores.base import Store
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore
from resonate_aio.stores.sqlite.bell import Bell
from resonate_aio.stores.sqlite.commits import Commits
from resonate_aio.stores.sqlite.jobs import Batch, Lookups
from resonate_aio.stores.sqlite.looking import Looking
from resonate_aio.stores.sqlite.writer import Writer

CHILD = """
import asyncio, signal, sys
from resonate_aio import Resonate

signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))

async def step(ctx, n):
    return n

async def flow(ctx, count):
    for n in range(count):
        await ctx.run(step, n)

async def main():
    async with Resonate.local(path=sys.argv[1]) as resonate:
        resonate.register(flow)
        handles = [resonate.begin_run(f"e{n}", flow, 100_000) for n in range(100)]
        print("go", flush=True)
        for handle in handles:
            await handle

asyncio.run(main())
"""

BOUND_S = 30


def test_a_process_that_is_busy_with_commits_exits(tmp_path: Path) -> None:
    """Acknowledgements drive functions on, in the callback that the exception passes through.

    Where the handler happens to run in a callback of the garbage collector, Python drops what it
    raises, and says so: then nobody was told to exit.
    """
    rng = random.Random(7)
    child = tmp_path / "child.py"
    child.write_text(CHILD)
    for number in range(8):
        path = tmp_path / f"{number}.db"
        told = tmp_path / f"{number}.txt"
        with told.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, str(child), str(path)],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=dict(os.environ),
            )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "go\n"
            time.sleep(rng.uniform(0.05, 0.3))
            until = time.monotonic() + BOUND_S
            dropped = -1
            while process.poll() is None and time.monotonic() < until:
                if told.read_text().count("Exception ignored in") > dropped:
                    dropped += 1
                    process.send_signal(signal.SIGTERM)
                time.sleep(0.02)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == 3, told.read_text()


class Exit:
    """Raises in the place of a method, as a signal handler would, the n-th time it is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, times: int) -> None:
        original = getattr(owner, name)
        self.left = times

        def method(self_: object, *args: object, **kwargs: object) -> object:
            self.left -= 1
            if self.left == 0:
                raise SystemExit(3)
            return original(self_, *args, **kwargs)

        monkeypatch.setattr(owner, name, method)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("name", ["add_done_callback", "go_on"])
def test_an_exit_while_a_task_suspends_or_goes_on(
    name: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a task is neither at a wait nor to go on, and nothing of asyncio's ends it."""

    async def step(ctx: Context, n: int) -> int:
        await asyncio.sleep(0)
        return n

    async def flow(ctx: Context) -> None:
        for n in range(20):
            await ctx.run(step, n)

    async def main() -> None:
        places: dict[str, Callable[[], Store]] = {
            "memory": MemoryStore,
            "sqlite": lambda: SqliteStore(tmp_path / "a.db"),
        }
        async with Resonate(store=places[store](), settings=Settings(stop_s=0.5)) as resonate:
            resonate.register(flow)
            Exit(monkeypatch, AsyncWait, name, 10)
            for handle in [resonate.begin_run(f"e{n}", flow) for n in range(3)]:
                await handle

    began = time.monotonic()
    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert time.monotonic() - began < BOUND_S


@pytest.mark.parametrize("times", range(1, 9))
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Bell, "_hear"),
        (Writer, "_hear"),
        (Batch, "finished"),
        (Commits, "_committed"),
        (Lookups, "finished"),
        (Looking, "_looked_up"),
    ],
)
def test_an_exit_before_the_loop_hears_of_a_commit(
    owner: type,
    name: str,
    times: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the writer's thread did is heard of later: stop() waits for nothing, nothing is lost."""
    exits: list[Exit] = []

    async def step(ctx: Context, n: int) -> int:
        return n

    async def flow(ctx: Context) -> int:
        return sum([await ctx.run(step, n) for n in range(5)])

    async def main() -> list[int]:
        async with Resonate(store=SqliteStore(tmp_path / "a.db")) as resonate:
            resonate.register(flow)
            handles = [resonate.begin_run(f"e{n}", flow) for n in range(3)]
            await asyncio.sleep(0)
            handles += [resonate.begin_run(f"e{n}", flow) for n in range(3, 6)]
            return [await handle for handle in handles]

    with monkeypatch.context() as patched:
        exits.append(Exit(patched, owner, name, times))
        began = time.monotonic()
        try:
            assert asyncio.run(main()) == [10] * 6
        except SystemExit:
            assert exits[0].left <= 0
        assert time.monotonic() - began < 4
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert asyncio.run(main()) == [10] * 6


def test_an_exit_while_a_plain_function_goes_to_its_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no failure of the function: the next process runs it (law 8)."""
    to_thread = anyio.to_thread.run_sync
    exits = [True]

    async def run_sync(*args: Any, **kwargs: Any) -> Any:
        if exits:
            exits.clear()
            signal.raise_signal(signal.SIGTERM)
        return await to_thread(*args, **kwargs)

    def plain(ctx: Context) -> int:
        return 7

    async def flow(ctx: Context) -> int:
        return await ctx.run(plain)

    async def main() -> int:
        async with Resonate(store=SqliteStore(tmp_path / "a.db")) as resonate:
            resonate.register(flow)
            return await resonate.begin_run("x", flow).result(timeout=10)

    monkeypatch.setattr(anyio.to_thread, "run_sync", run_sync)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    try:
        with pytest.raises(SystemExit):
            asyncio.run(main())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asyncio.run(main()) == 7


@pytest.mark.parametrize("seconds", [0.3, 30])
async def test_a_stop_waits_for_what_a_time_limit_ended(seconds: float) -> None:
    """The clean-up of a function that its own deadline ended has its time, too (S31, law 16)."""

    async def cleans_up(ctx: Context) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(seconds)

    async def flow(ctx: Context) -> str:
        try:
            await ctx.run(cleans_up).options(timeout=0.1)
        except ResonateTimedoutError:
            return "late"
        return "in time"

    async with Resonate(settings=Settings(stop_s=1)) as resonate:
        resonate.register(flow)
        assert await resonate.begin_run("x", flow).result(timeout=10) == "late"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_exit_while_the_scheduler_asks_for_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever swallows it is at fault, but the others go on (law 14)."""

    async def step(ctx: Context) -> int:
        return 1

    async def flow(ctx: Context, raises: bool) -> int:
        loop: Any = asyncio.get_running_loop()
        call_soon = loop.call_soon

        def exits(*args: Any, **kwargs: Any) -> Any:
            del loop.call_soon
            raise SystemExit(3)

        await asyncio.sleep(0.05)
        if raises:
            loop.call_soon = exits
            with suppress(SystemExit):
                await ctx.run(step)
            assert loop.call_soon == call_soon
        return await ctx.run(step)

    async with Resonate() as resonate:
        resonate.register(flow)
        handles = [resonate.begin_run(f"x{n}", flow, n == 0) for n in range(3)]
        assert [await handle.result(timeout=5) for handle in handles[1:]] == [1, 1]
