"""Cancels and time limits around steps that never suspend: let through all the same (S10, S11a).

Such a step has ended by the time a cancel that came to its wait is passed on to it. Were its
value what outlived the cancel, and so the next one's, no limit around them would ever end them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.testing import crash_everywhere

pytestmark = pytest.mark.law

MANY = 1_000_000


async def add(ctx: Context, n: int) -> int:
    return n


def generated(ctx: Context, n: int) -> Generator[Any, Any, int]:
    return (yield ctx.run(add, n))  # type: ignore[no-any-return]


async def nested(ctx: Context, n: int) -> int:
    return await ctx.run(add, n)


async def loops(ctx: Context, n: int) -> None:
    for k in range(MANY):
        await ctx.run(add, k)


def generator_loops(ctx: Context, n: int) -> Generator[Any, Any, None]:
    for k in range(MANY):
        yield ctx.run(add, k)


CALLS: dict[str, Callable[[Context, int], Awaitable[Any]]] = {
    "add": lambda ctx, n: ctx.run(add, n),
    "generator": lambda ctx, n: ctx.run(generated, n),
    "nested": lambda ctx, n: ctx.run(nested, n),
    "random": lambda ctx, n: ctx.random.random(),
    "loops": lambda ctx, n: ctx.run(loops, n),
    "generator loops": lambda ctx, n: ctx.run(generator_loops, n),
}


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("limit_s", [0, 0.0004, 0.02])
async def test_a_time_limit_ends_a_loop(
    call: str, store: str, limit_s: float, tmp_path: Path
) -> None:
    """The durable one and asyncio's own, around the loop and around a child that loops."""

    async def flow(ctx: Context, is_durable: bool) -> str:
        try:
            async with ctx.timeout(limit_s) if is_durable else asyncio.timeout(limit_s):
                for k in range(MANY):
                    await CALLS[call](ctx, k)
        except TimeoutError:
            return "limit"
        return "all"

    resonate = Resonate() if store == "memory" else Resonate.local(path=tmp_path / "a.db")
    async with resonate:
        resonate.register(flow)
        for is_durable in (True, False):
            handle = resonate.begin_run(f"x-{is_durable}", flow, is_durable)
            assert await handle.result(timeout=20) == "limit"


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("call", ["add", "generator", "nested", "random"])
@pytest.mark.parametrize("before", [0, 2])
def test_a_function_that_cancels_itself_before_a_loop(call: str, before: int, store: Any) -> None:
    """The step that it waits for next is cut, or the one after it where a crash came between (S10).

    What an earlier life asked for may have begun there: then it gives its value once.
    """

    async def flow(ctx: Context) -> list[Any]:
        task = asyncio.current_task()
        assert task is not None
        for k in range(before):
            await CALLS[call](ctx, k)
        task.cancel()
        k = -1
        try:
            for k in range(20):
                await CALLS[call](ctx, k)
        except asyncio.CancelledError:
            task.uncancel()
        return [k < 2, await ctx.run(add, 7)]

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(flow))

    assert crash_everywhere(main, store=store, values_vary=True).result == [True, 7]
