"""What is left of calls that were cut or given up, when a crash follows (S10, S11, S22, law 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Literal

import pytest
from tests.naming import named

from resonate_aio import Context, Resonate
from resonate_aio.testing import crash_everywhere

Store = Literal["memory", "sqlite"]
Flow = Callable[[Context], Awaitable[Any]]

pytestmark = pytest.mark.law


async def step(ctx: Context, value: Any, takes_s: float = 0) -> Any:
    await asyncio.sleep(takes_s)
    return value


async def hang(ctx: Context) -> None:
    await asyncio.Event().wait()


def kinds_of(outcomes: list[Any]) -> list[Any]:
    return [type(each).__name__ if isinstance(each, BaseException) else each for each in outcomes]


# ------------------------------------------------------------------ what was given up


async def sleep_past_its_limit(ctx: Context) -> Any:
    try:
        async with asyncio.timeout(4):
            await ctx.sleep(10_000)
    except TimeoutError:
        pass
    await ctx.run(step, 1)
    return await ctx.run(step, 2)


async def sleep_past_a_durable_limit(ctx: Context) -> Any:
    try:
        async with ctx.timeout(4):
            await ctx.sleep(10_000)
    except TimeoutError:
        pass
    await ctx.run(step, 1)
    return await ctx.run(step, 2)


async def rpc_that_nobody_takes(ctx: Context) -> Any:
    try:
        async with ctx.timeout(4):
            await ctx.rpc("nobody").options(target="poll://any@nowhere")
    except TimeoutError:
        pass
    await ctx.run(step, 1)
    return await ctx.run(step, 2)


async def approval_that_never_comes(ctx: Context) -> Any:
    approval = await ctx.promise()
    try:
        async with ctx.timeout(0.2):
            return await approval
    except TimeoutError:
        return await ctx.run(step, "nobody answered")


async def loser_of_a_race(ctx: Context) -> Any:
    sleeping = asyncio.create_task(ctx.sleep(10_000))
    await asyncio.wait(
        [sleeping, asyncio.create_task(ctx.run(step, 1))], return_when="FIRST_COMPLETED"
    )
    sleeping.cancel()
    await asyncio.wait([sleeping])
    await ctx.run(step, 2)
    return await ctx.run(step, 3)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize(
    "flow",
    [
        sleep_past_its_limit,
        sleep_past_a_durable_limit,
        rpc_that_nobody_takes,
        approval_that_never_comes,
        loser_of_a_race,
    ],
    ids=named,
)
def test_what_was_given_up_is_not_waited_for_after_a_crash(flow: Flow, store: Store) -> None:
    """S10: a cut rpc, sleep or promise is not awaited at the body's end, in no life of it."""
    lasted_s: list[float] = []

    async def main(resonate: Resonate) -> Any:
        resonate.register(flow, name="flow")
        clock = asyncio.get_running_loop()
        begun_s = clock.time()
        result = await resonate.run("f", flow)
        lasted_s.append(clock.time() - begun_s)
        return result

    assert crash_everywhere(main, store=store).crashes >= 8
    assert max(lasted_s) < 1_000  # virtual seconds; what was cut lasts for 10,000 and more


# ------------------------------------------------------------------ children that clean up


async def keeps(ctx: Context) -> str:
    try:
        await ctx.run(hang)
    except asyncio.CancelledError:
        await ctx.run(step, "clean 1")
        await ctx.run(step, "clean 2")
    return "kept"


async def cleans(ctx: Context) -> None:
    try:
        await ctx.run(hang)
    except asyncio.CancelledError:
        await ctx.run(step, "clean 1", 5)
        await ctx.run(step, "clean 2", 5)
        raise


def generator_that_cleans(ctx: Context) -> Generator[Any, Any, None]:
    try:
        yield ctx.run(hang)
    except asyncio.CancelledError:
        yield ctx.run(step, "clean 1")
        yield ctx.run(step, "clean 2")
        raise


async def survives_two(ctx: Context) -> str:
    try:
        await ctx.run(hang)
    except asyncio.CancelledError:
        try:
            await ctx.run(hang)
        except asyncio.CancelledError:
            await ctx.run(step, "deep")
    return "survived both"


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("child", [keeps, cleans, generator_that_cleans, survives_two], ids=named)
def test_the_clean_up_of_a_cancelled_child_goes_on_after_a_crash(
    child: Any, times: int, store: Store
) -> None:
    """S10: it gets the cancel itself, though its parent had recorded more meanwhile."""

    async def flow(ctx: Context) -> Any:
        running = asyncio.create_task(ctx.run(child))
        for _ in range(times):
            await ctx.sleep(3)
            running.cancel()
        first, second = await ctx.run(step, 1), await ctx.run(step, 2)
        if child is survives_two and times == 1:
            running.cancel()
        outcome = kinds_of(list(await asyncio.gather(running, return_exceptions=True)))
        return [first, second, outcome, await ctx.run(step, 3)]

    async def main(resonate: Resonate) -> Any:
        resonate.register(flow, name="flow")
        return await resonate.run("f", flow)

    assert crash_everywhere(main, store=store).crashes >= 20
