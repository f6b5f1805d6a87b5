"""Time limits that run out at the same moment mean the same after a crash (S11, S11a)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateTimedoutError
from resonate_aio.runtime.settings import Settings
from resonate_aio.testing import crash_everywhere

pytestmark = pytest.mark.law

Flow = Callable[[Context], Awaitable[Any]]


async def step(ctx: Context, n: int) -> int:
    await asyncio.sleep(0.005)
    return n


async def one_in_the_other(ctx: Context) -> list[Any]:
    seen: list[Any] = []
    try:
        async with ctx.timeout(0.3):
            try:
                async with ctx.timeout(0.3):
                    await ctx.sleep(60)
            except TimeoutError:
                seen.append("inner")
            await ctx.sleep(60)
    except TimeoutError:
        seen.append("outer")
    return [*seen, await ctx.run(step, 1), await ctx.run(step, 2)]


async def late_on_a_replay(ctx: Context) -> list[Any]:
    """Both are overdue when a replay comes to them, though one would have come first."""
    await asyncio.sleep(1)
    try:
        async with ctx.timeout(0.6):
            try:
                async with ctx.timeout(0.3):
                    await ctx.sleep(60)
            except TimeoutError:
                pass
            await ctx.sleep(60)
    except TimeoutError:
        pass
    return [await ctx.run(step, 1), await ctx.run(step, 2)]


async def around_a_gather(ctx: Context) -> list[Any]:
    """The outer limit reaches the inner one's task through others."""
    seen: list[Any] = []

    async def limited() -> None:
        try:
            async with ctx.timeout(0.3):
                await ctx.sleep(60)
        except TimeoutError:
            seen.append("inner")
            await ctx.sleep(60)

    try:
        async with ctx.timeout(0.3):
            await asyncio.gather(limited(), limited())
    except TimeoutError:
        seen.append("outer")
    return [*seen, await ctx.run(step, 1), await ctx.run(step, 2)]


async def around_a_group(ctx: Context) -> list[Any]:
    seen: list[Any] = []

    async def limited(n: int) -> None:
        async with ctx.timeout(0.3):
            await ctx.run(step, n)
            await ctx.sleep(60)

    try:
        async with ctx.timeout(0.3), asyncio.TaskGroup() as group:
            group.create_task(limited(1))
            group.create_task(limited(2))
    except (TimeoutError, ExceptionGroup) as error:
        seen.append(type(error).__name__)
    return [*seen, await ctx.run(step, 1), await ctx.run(step, 2)]


async def one_of_asyncio(ctx: Context) -> list[Any]:
    try:
        async with asyncio.timeout(0.3):
            try:
                async with ctx.timeout(0.3):
                    await ctx.sleep(60)
            except TimeoutError:
                pass
            await ctx.sleep(60)
    except TimeoutError:
        pass
    # Which are heard of depends on when a crash was: asyncio's starts from zero then.
    return [await ctx.run(step, 1), await ctx.run(step, 2)]


async def sleeps(ctx: Context, *delays_s: float) -> None:
    for delay_s in delays_s:
        await ctx.sleep(delay_s)


async def work(ctx: Context) -> None:
    await ctx.sleep(60)
    await ctx.run(step, 1)
    await ctx.run(long_step)


async def long_step(ctx: Context) -> None:
    await asyncio.sleep(60)


async def among_others(ctx: Context) -> list[Any]:
    """A limit has its turn alone, before a cancel that waits at the same place already."""

    async def limited() -> None:
        with suppress(TimeoutError):
            async with ctx.timeout(0.3):
                try:
                    with suppress(ResonateTimedoutError):
                        await ctx.run(sleeps, 0.1).options(timeout=0.3)
                finally:
                    await ctx.run(sleeps, 60)

    async def begun() -> None:
        await (await ctx.begin_run(work))
        await ctx.run(step, 1)

    async def long() -> None:
        await ctx.run(long_step)
        await ctx.sleep(60)

    async def second() -> None:
        await ctx.run(step, 1)
        with suppress(TimeoutError):
            async with ctx.timeout(0.3):
                await ctx.sleep(60)
        await ctx.run(step, 2)

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(long())
            tasks.create_task(second())

    with suppress(TimeoutError):
        async with ctx.timeout(0.3):
            tasks = [asyncio.create_task(part()) for part in (limited, begun, group)]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    return [await ctx.run(step, 1), await ctx.run(step, 2)]


@pytest.mark.parametrize("seed", range(3))
def test_they_do_where_functions_take_turns(seed: int) -> None:
    async def main(resonate: Resonate) -> Any:
        resonate.register(among_others)
        return await resonate.run("f", among_others)

    settings = Settings(workers=1)
    report = crash_everywhere(
        main, seed=seed, random_runs=60, between=30, values_vary=True, settings=settings
    )
    assert report.result == [1, 2]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "flow",
    [one_in_the_other, late_on_a_replay, around_a_gather, around_a_group, one_of_asyncio],
)
def test_they_do_after_any_crash(flow: Flow, seed: int) -> None:
    async def main(resonate: Resonate) -> Any:
        resonate.register(flow)
        return await resonate.run("f", flow)

    report = crash_everywhere(main, seed=seed, random_runs=60, between=25, values_vary=True)
    assert report.result[-2:] == [1, 2]
