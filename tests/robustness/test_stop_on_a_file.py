"""Stopping a client whose file others use, too, or that cannot be written (laws 6, 8, 16)."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.runtime.settings import Settings
from resonate_aio.stores.sqlite import SqliteStore, commits
from resonate_aio.stores.sqlite.jobs import Batch

pytestmark = pytest.mark.law


async def test_what_is_being_taken_when_a_client_stops_is_given_back(tmp_path: Path) -> None:
    """Law 6: another client keeps the file open, so no lease ends by itself."""
    path = tmp_path / "app.db"
    caller, worker = (Resonate.local(path=path, group=group) for group in ("caller", "worker"))

    @worker.register
    async def double(ctx: Context, n: int) -> int:
        return 2 * n

    @caller.register
    async def flow(ctx: Context, n: int) -> int:
        return int(await ctx.rpc("double", n).options(target="worker"))

    async with caller:
        for n in range(40):
            await worker.start()
            called = await caller.begin_run(f"flow-{n}", flow, n).created()
            await asyncio.sleep(n / 10_000)  # from before the message comes until it has run
            await worker.stop(timeout=0)
            await worker.start()
            assert await called.result(timeout=5) == 2 * n
            await worker.stop()


async def test_stopping_is_bounded_where_the_file_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 16: executions are held, and giving them back cannot be written."""
    monkeypatch.setattr(commits, "_CLOSING_PATIENCE_S", 0.3)
    path = tmp_path / "app.db"
    resonate = Resonate(store=SqliteStore(path), settings=Settings(stop_s=0.3))

    @resonate.register
    async def waits(ctx: Context) -> None:
        await ctx.sleep(3600)

    for n in range(3):
        await resonate.begin_run(f"waits-{n}", waits).created()
    await asyncio.sleep(0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        await resonate.stop(timeout=0)
        took_s = time.monotonic() - begun
        other.execute("ROLLBACK")
    assert took_s < 3

    async with resonate:
        assert {one.id async for one in resonate.promises.search()} >= {"waits-0", "waits-2"}


async def test_many_are_given_back_with_few_commits(tmp_path: Path) -> None:
    """A stop is no commit for each execution."""
    resonate = Resonate.local(path=tmp_path / "app.db")

    @resonate.register
    async def waits(ctx: Context) -> None:
        await ctx.sleep(3600)

    handles = [resonate.begin_run(f"waits-{n}", waits) for n in range(300)]
    for handle in handles:
        await handle.created()
    count = 0
    commit = Batch.step

    def counted(self: Batch, connection: sqlite3.Connection) -> bool:
        nonlocal count
        count += 1
        return commit(self, connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batch, "step", counted)
        await resonate.stop()
    assert count < 30
