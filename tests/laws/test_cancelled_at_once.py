"""Tasks that are cancelled before, or in the very pass in which, their calls could end (S10, S22).

What went wrong, each time for the rest of the execution's life:

* A task around a ctx call was cancelled before its first step: an `asyncio.timeout(0)`, a
  `TaskGroup` whose body raises at once, a `cancel()` right after `create_task`. On a replay the
  call's recorded outcome was there by then, and the cancel went past the machine: the body waited
  for an interruption that its log named and nobody told it of.
* A call with durable=False ended in the pass in which its cancel was on its way, so that it gave
  its value. On a replay the cancel reached its function, which then ended in another way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from itertools import chain, combinations
from typing import Any, Literal

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.testing import crash_everywhere

pytestmark = pytest.mark.law

Call = Callable[[Context], Coroutine[Any, Any, Any]]
Shape = Callable[[Context, list[Coroutine[Any, Any, Any]]], Awaitable[Any]]


async def step(ctx: Context, name: str, takes_s: float = 0) -> str:
    await asyncio.sleep(takes_s)
    return name


async def instant(ctx: Context) -> str:
    return "instant"


async def stubborn(ctx: Context) -> str:
    try:
        await asyncio.sleep(50)
    except asyncio.CancelledError:
        return "partial"
    return "full"


async def nested(ctx: Context) -> str:
    await ctx.run(step, "first", 1)
    return await ctx.run(step, "second", 1)


async def remote(ctx: Context) -> str:
    return "remote"


CALLS: dict[str, Call] = {
    "quick": lambda ctx: ctx.run(step, "quick"),
    "slow": lambda ctx: ctx.run(step, "slow", 1),
    "instant": lambda ctx: ctx.run(instant),
    "stubborn": lambda ctx: ctx.run(stubborn),
    "nested": lambda ctx: ctx.run(nested),
    "sleep": lambda ctx: ctx.sleep(3),
    "rpc": lambda ctx: ctx.rpc("remote"),
    "volatile": lambda ctx: ctx.run(step, "volatile").options(durable=False),
    "explicit": lambda ctx: ctx.run(step, "explicit").options(id="explicit"),
}


async def within_no_time(ctx: Context, calls: list[Coroutine[Any, Any, Any]]) -> Any:
    try:
        async with asyncio.timeout(0):
            return await asyncio.gather(*calls)
    except TimeoutError:
        return "late"


async def within_no_durable_time(ctx: Context, calls: list[Coroutine[Any, Any, Any]]) -> Any:
    try:
        async with ctx.timeout(0):
            return await asyncio.gather(*calls)
    except TimeoutError:
        return "late"


async def cancelled_when_made(ctx: Context, calls: list[Coroutine[Any, Any, Any]]) -> Any:
    tasks = [asyncio.create_task(call) for call in calls]
    for task in tasks:
        task.cancel()
    return [shown(outcome) for outcome in await asyncio.gather(*tasks, return_exceptions=True)]


async def cancelled_next(ctx: Context, calls: list[Coroutine[Any, Any, Any]]) -> Any:
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    return [shown(outcome) for outcome in await asyncio.gather(*tasks, return_exceptions=True)]


async def in_a_group_that_fails(ctx: Context, calls: list[Coroutine[Any, Any, Any]]) -> Any:
    try:
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(call)
            raise ValueError("at once")
    except* ValueError:
        pass
    return "failed"


SHAPES: list[Shape] = [
    within_no_time,
    within_no_durable_time,
    cancelled_when_made,
    cancelled_next,
    in_a_group_that_fails,
]


def shown(outcome: object) -> str:
    return type(outcome).__name__ if isinstance(outcome, BaseException) else str(outcome)


def alone_and_in_pairs() -> Iterator[tuple[str, ...]]:
    return chain(combinations(CALLS, 1), combinations(CALLS, 2))


def survives(shape: Shape, names: tuple[str, ...], store: Literal["memory", "sqlite"]) -> None:
    """What ends in the pass of its cancel may end either way in the life that records it."""

    async def main(resonate: Resonate) -> None:
        resonate.register(remote)

        @resonate.register(name="flow")
        async def flow(ctx: Context) -> Any:
            outcome = await shape(ctx, [CALLS[name](ctx) for name in names])
            return [outcome, await ctx.run(step, "after", 1)]

        assert (await resonate.run("x", flow))[1] == "after"

    crash_everywhere(main, store=store, seed=1, values_vary=True)


@pytest.mark.parametrize("names", list(alone_and_in_pairs()), ids=" ".join)
@pytest.mark.parametrize("shape", SHAPES)
def test_cancelled_at_once(shape: Shape, names: tuple[str, ...]) -> None:
    survives(shape, names, "memory")


@pytest.mark.parametrize("name", list(CALLS))
@pytest.mark.parametrize("shape", SHAPES)
def test_cancelled_at_once_on_sqlite(shape: Shape, name: str) -> None:
    survives(shape, (name,), "sqlite")
