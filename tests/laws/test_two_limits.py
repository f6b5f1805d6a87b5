"""Time limits that run out at the same moment mean the same after a crash (S11, S11a)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from resonate_aio import Context, Resonate
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
