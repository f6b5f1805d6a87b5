"""Retention as an API: `retention=` and `prune` (S45)."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.client.lives import Lives, utc, where

from resonate_aio import Context, Resonate
from resonate_aio.errors import UsageError
from resonate_aio.stores.memory import MemoryStore

runs: Counter[str] = Counter()


async def step(ctx: Context) -> int:
    return 1


async def work(ctx: Context) -> int:
    runs[ctx.id] += 1
    return await ctx.run(step)


async def waits(ctx: Context) -> int:
    first = await ctx.run(step)
    await ctx.sleep(timedelta(days=30))
    return first


async def everything(resonate: Resonate) -> list[str]:
    return [p.id async for p in resonate.promises.search()]


@pytest.fixture(params=["memory", "sqlite"])
def lives(request: pytest.FixtureRequest, tmp_path: Path) -> Lives:
    return Lives(where(request.param, tmp_path), utc("2024-05-01 12:00"))


def test_pruning_by_hand(lives: Lives) -> None:
    """Whole executions that ended long enough ago; after that the id may run again."""
    runs.clear()

    async def main(resonate: Resonate) -> None:
        for function in (work, waits):
            resonate.register(function)
        await resonate.run("old", work)
        long = await resonate.begin_run("long", waits).created()
        await asyncio.sleep(3600)
        await resonate.run("new", work)
        assert await resonate.prune(older_than=timedelta(minutes=30)) == 1
        assert await everything(resonate) == ["long", "long.1", "long.2", "new", "new.1"]
        assert await resonate.prune(1) == 0
        assert await resonate.run("old", work) == 1
        assert runs["old"] == 2
        assert await long == 1, "a long sleep outlives no step of its own"

    lives.life(main)


def test_pruning_while_the_client_runs(lives: Lives, caplog: pytest.LogCaptureFixture) -> None:
    """`retention=`: kept at least so long, and not much longer; in every life of the client."""
    caplog.set_level(logging.INFO, "resonate_aio.client")

    async def main(resonate: Resonate) -> None:
        resonate.register(work)
        await resonate.run("a", work)
        await asyncio.sleep(3_590)
        assert await everything(resonate) == ["a", "a.1"]
        await asyncio.sleep(400)
        assert await everything(resonate) == []
        assert "deleted 1 executions" in caplog.text
        await resonate.run("b", work)

    async def later(resonate: Resonate) -> None:
        await resonate.start()
        await asyncio.sleep(0.01)
        assert await everything(resonate) == []

    lives.life(main, retention=timedelta(hours=1))
    lives.sleep_until(utc("2024-05-02 12:00"))
    lives.life(later, retention=3600)


def test_without_retention_everything_stays(lives: Lives) -> None:
    async def main(resonate: Resonate) -> None:
        resonate.register(work)
        await resonate.run("a", work)
        await asyncio.sleep(10 * 365 * 86_400)
        assert await everything(resonate) == ["a", "a.1"]

    lives.life(main)


async def test_trouble_while_pruning_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """Law 8: it is logged, and neither the client nor its work minds."""
    calls: list[int] = []

    class Stumbling(MemoryStore):
        async def prune(self, settled_before_ms: int) -> int:
            calls.append(settled_before_ms)
            if len(calls) == 1:
                raise OSError("disk full")
            return await super().prune(settled_before_ms)

    async with Resonate(store=Stumbling(), retention=0.001) as resonate:
        resonate.register(work)
        await resonate.run("a", work)
        async with asyncio.timeout(10):
            while await everything(resonate):  # noqa: ASYNC110  deleting tells nobody
                await asyncio.sleep(0.05)
    assert len(calls) >= 2
    assert "disk full" in caplog.text


async def test_a_store_without_retention_says_so() -> None:
    class Elsewhere:
        """What a server's store looks like from here."""

        def __init__(self) -> None:
            self._store = MemoryStore()

        def __getattr__(self, name: str) -> Any:
            if name == "prune":
                raise AttributeError(name)
            return getattr(self._store, name)

    store: Any = Elsewhere()
    async with Resonate(store=store) as resonate:
        with pytest.raises(UsageError, match="a server has its own"):
            await resonate.prune(1)
    for options in ({"store": store}, {"url": "http://localhost:8001"}):
        given: Any = options
        with pytest.raises(UsageError, match="retention="):
            Resonate(**given, retention=60)


@pytest.mark.parametrize("wrong", [-1, "30d", None, True, float("nan")])
async def test_wrong_spans(wrong: Any) -> None:
    """It must show 5."""
    with pytest.raises((TypeError, ValueError), match="older_than"):
        await Resonate().prune(wrong)
