"""`workers=N` and cancels: a slot that was given to a function which is cut comes back (S27)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.retry_policies import Never
from resonate_aio.runtime.settings import Settings
from resonate_aio.testing import simulate
from resonate_aio.testing.clock import SimClock

pytestmark = pytest.mark.law


async def step(ctx: Context) -> int:
    return 1


async def cleans_up(ctx: Context) -> None:
    try:
        await asyncio.sleep(1)
    finally:
        await ctx.run(step)


def in_a_group(ctx: Context) -> Any:
    async def fails() -> None:
        await ctx.sleep(0.3)
        raise KeyError

    async def goes() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            await ctx.run(cleans_up)

    return goes()


def in_time(ctx: Context) -> Any:
    async def goes() -> None:
        async with asyncio.timeout(0.3):
            await ctx.run(cleans_up)

    return goes()


@pytest.mark.parametrize("body", [in_a_group, in_time])
@pytest.mark.parametrize("workers", [1, 2])
def test_every_slot_comes_back(
    body: Callable[[Context], Any], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the loop lets others go on between any two actions of the scheduler."""

    async def flow(ctx: Context) -> int:
        for _ in range(5):
            with suppress(TimeoutError, ExceptionGroup):
                await body(ctx)
        return await ctx.run(step)

    async def main(resonate: Resonate) -> Any:
        resonate.register(flow)
        handles = [resonate.begin_run(f"x{n}", flow) for n in range(4)]
        return [await handle for handle in handles]

    rng = random.Random()
    seconds = 0.0

    def ticks(_: SimClock) -> float:
        """An action now and then takes longer than the scheduler's slice."""
        nonlocal seconds
        seconds += 0.01 if rng.random() < 0.2 else 0.00001
        return seconds

    monkeypatch.setattr(SimClock, "ticks", ticks)
    for seed in range(12):
        rng.seed(seed)
        assert simulate(main, settings=Settings(workers=workers)) == [1] * 4


@pytest.mark.parametrize("ends", ["returns", "raises", "leaves_a_call"])
@pytest.mark.parametrize("waits", ["steps", "promise", "cleans_up"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_outlives_its_function_keeps_no_slot(
    workers: int, waits: str, ends: str
) -> None:
    """S22: its cancel is an input, for which the function takes a slot again."""

    async def left(ctx: Context) -> int:
        async def helper() -> None:
            if waits == "promise":
                await (await ctx.promise())
            while waits == "steps":
                await ctx.run(step)
                await ctx.sleep(0.03)
            try:
                await ctx.sleep(100)
            finally:
                await asyncio.sleep(0.1)

        async def slow(ctx: Context) -> int:
            await ctx.sleep(0.2)
            return await ctx.run(step)

        task = asyncio.create_task(helper())
        await ctx.sleep(0.1)
        if ends == "raises":
            raise KeyError
        if ends == "leaves_a_call":
            await ctx.begin_run(slow)
        return 1 if not task.done() else 2

    async def flow(ctx: Context) -> int:
        try:
            return await ctx.run(left).options(retry_policy=Never())
        except KeyError:
            return 1

    async def main(resonate: Resonate) -> list[int]:
        resonate.register(flow)
        handles = [resonate.begin_run(f"x{n}", flow) for n in range(3)]
        return [await handle for handle in handles]

    assert simulate(main, settings=Settings(workers=workers)) == [1, 1, 1]
