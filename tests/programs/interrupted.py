"""`async def` programs whose waits are interrupted: time limits, races, cancels."""

from __future__ import annotations

import asyncio
from typing import Any

from resonate_aio import Context, Resonate

from .base import FOREVER_S, World, program


@program(expected=["timed out", 3])
async def timeout_expires(resonate: Resonate, world: World) -> Any:
    """`asyncio.timeout` around a step that is too slow (S10, S11)."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        try:
            async with asyncio.timeout(5):
                await ctx.run(world.hang)
        except TimeoutError:
            return ["timed out", await ctx.run(world.add, 1, 2)]
        return ["in time"]

    return await resonate.run("timeout_expires", flow)


@program(expected=["in time", 3])
async def timeout_in_time(resonate: Resonate, world: World) -> Any:
    """`asyncio.timeout` around a step that is quick enough."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        async with asyncio.timeout(1000):
            value = await ctx.run(world.echo, "in time")
        return [value, await ctx.run(world.add, 1, 2)]

    return await resonate.run("timeout_in_time", flow)


@program(expected=[[0, 1, 2], "timed out", "after"])
async def timeout_around_a_loop(resonate: Resonate, world: World) -> Any:
    """The limit hits the one slow step of a loop; the steps before it keep their values."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        seen = []
        try:
            async with asyncio.timeout(30):
                for n in range(3):
                    seen.append(await ctx.run(world.echo, n))
                await ctx.run(world.hang)
                seen.append(-1)
        except TimeoutError:
            pass
        return [seen, "timed out", await ctx.run(world.echo, "after")]

    return await resonate.run("timeout_around_a_loop", flow)


@program(expected=["inner", "outer"])
async def nested_timeouts(resonate: Resonate, world: World) -> Any:
    """Limits inside limits, each around a step that is too slow."""

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        seen = []
        try:
            async with asyncio.timeout(60):
                try:
                    async with asyncio.timeout(5):
                        await ctx.run(world.hang)
                except TimeoutError:
                    seen.append(await ctx.run(world.echo, "inner"))
                await ctx.run(world.hang)
        except TimeoutError:
            seen.append(await ctx.run(world.echo, "outer"))
        return seen

    return await resonate.run("nested_timeouts", flow)


@program(expected=["timed out", 1, "after"])
async def timeout_around_gather(resonate: Resonate, world: World) -> Any:
    """The limit cancels what of a gather still runs."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        quick = asyncio.create_task(ctx.run(world.echo, 1))
        try:
            async with asyncio.timeout(20):
                await asyncio.gather(quick, ctx.run(world.hang), ctx.run(world.hang))
        except TimeoutError:
            return ["timed out", quick.result(), await ctx.run(world.echo, "after")]
        return ["in time"]

    return await resonate.run("timeout_around_gather", flow)


@program(expected=["timed out", "late"])
async def timeout_around_a_promise(resonate: Resonate, world: World) -> Any:
    """The limit ends the wait for a begun child, not the child (S10)."""

    async def slow(ctx: Context) -> str:
        world.step(ctx.id)
        await asyncio.sleep(50)
        return "late"

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        promise = await ctx.begin_run(slow)
        try:
            async with asyncio.timeout(5):
                await promise
        except TimeoutError:
            noted = await ctx.run(world.echo, "timed out")
            return [noted, await promise]
        return ["in time"]

    return await resonate.run("timeout_around_a_promise", flow)


@program(expected=["timed out", 3])
async def ctx_timeout_expires(resonate: Resonate, world: World) -> Any:
    """The durable time limit around a step that is too slow (S11a)."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        try:
            async with ctx.timeout(5):
                await ctx.run(world.hang)
        except TimeoutError:
            return ["timed out", await ctx.run(world.add, 1, 2)]
        return ["in time"]

    return await resonate.run("ctx_timeout_expires", flow)


@program(expected=["in time", 3])
async def ctx_timeout_in_time(resonate: Resonate, world: World) -> Any:
    """The durable time limit around steps that are quick enough."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        async with ctx.timeout(1000):
            first = await ctx.run(world.echo, "in time")
            second = await ctx.run(world.echo, 3)
        return [first, second]

    return await resonate.run("ctx_timeout_in_time", flow)


@program(expected=[[0, 1, 2], "timed out", "after"])
async def ctx_timeout_around_a_loop(resonate: Resonate, world: World) -> Any:
    """The durable limit hits the one slow step of a loop."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        seen = []
        try:
            async with ctx.timeout(30):
                for n in range(3):
                    seen.append(await ctx.run(world.echo, n))
                await ctx.run(world.hang)
        except TimeoutError:
            return [seen, "timed out", await ctx.run(world.echo, "after")]
        return [seen, "in time"]

    return await resonate.run("ctx_timeout_around_a_loop", flow)


@program(expected=["step", "after"])
async def step_beats_sleep(resonate: Resonate, world: World) -> Any:
    """A race that the step wins; the sleep is cancelled and not awaited at the end."""

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        step = asyncio.create_task(ctx.run(world.echo, "step"))
        limit = asyncio.create_task(ctx.sleep(10_000))
        await asyncio.wait([step, limit], return_when=asyncio.FIRST_COMPLETED)
        limit.cancel()
        return [await step, await ctx.run(world.echo, "after")]

    return await resonate.run("step_beats_sleep", flow)


@program(expected=["sleep", "after"])
async def sleep_beats_step(resonate: Resonate, world: World) -> Any:
    """A race that the sleep wins; the step is cancelled."""

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        step = asyncio.create_task(ctx.run(world.hang))
        limit = asyncio.create_task(ctx.sleep(10))
        done, _ = await asyncio.wait([step, limit], return_when=asyncio.FIRST_COMPLETED)
        step.cancel()
        await asyncio.wait([step])
        winner = "sleep" if limit in done and step.cancelled() else "step"
        return [winner, await ctx.run(world.echo, "after")]

    return await resonate.run("sleep_beats_step", flow)


@program(expected=["cancelled", 3])
async def cancel_from_inside(resonate: Resonate, world: World) -> Any:
    """A body cancels a task of its own (S10)."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        task = asyncio.create_task(ctx.run(world.hang))
        await ctx.run(world.echo, 1)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return ["cancelled", await ctx.run(world.add, 1, 2)]
        return ["not cancelled"]

    return await resonate.run("cancel_from_inside", flow)


@program(expected=["nothing began", 3])
async def cancel_before_it_began(resonate: Resonate, world: World) -> Any:
    """A call whose task is cancelled before it could start."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        task = asyncio.create_task(ctx.run(world.hang))
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return ["nothing began", await ctx.run(world.add, 1, 2)]
        return ["not cancelled"]

    return await resonate.run("cancel_before_it_began", flow)


@program(expected=["timed out", "after"])
async def cancelled_child_cleans_up(resonate: Resonate, world: World) -> Any:
    """The child of a cut call may record its clean-up; the parent waits for its end (S10)."""

    async def child(ctx: Context) -> str:
        try:
            return await ctx.run(world.hang)
        except asyncio.CancelledError:
            await ctx.run(world.echo, "cleaning up")
            raise

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        try:
            async with asyncio.timeout(5):
                await ctx.run(child)
        except TimeoutError:
            return ["timed out", await ctx.run(world.echo, "after")]
        return ["in time"]

    return await resonate.run("cancelled_child_cleans_up", flow)


@program(expected=["stubborn", "timed out", "after"])
async def stubborn_child(resonate: Resonate, world: World) -> Any:
    """A child that returns a value when cancelled: the cancel waits for the next wait (S10)."""

    async def child(ctx: Context) -> str:
        try:
            return await ctx.run(world.hang)
        except asyncio.CancelledError:
            return "stubborn"

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        seen = []
        try:
            async with asyncio.timeout(5):
                seen.append(await ctx.run(child))
                seen.append(await ctx.run(world.hang))
        except TimeoutError:
            seen.append("timed out")
        return [*seen, await ctx.run(world.echo, "after")]

    return await resonate.run("stubborn_child", flow)


@program(expected=["first", "again", 3])
async def tried_again_after_timeout(resonate: Resonate, world: World) -> Any:
    """Each round of a hand-written retry has a limit of its own."""

    async def slow_at_first(ctx: Context, turn: int) -> str:
        world.step(ctx.id)
        await (asyncio.sleep(100) if turn < 3 else world.delay(ctx.id))
        return "again"

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        first = await ctx.run(world.echo, "first")
        for turn in range(1, 5):
            try:
                async with asyncio.timeout(5):
                    return [first, await ctx.run(slow_at_first, turn), turn]
            except TimeoutError:
                continue
        return ["gave up"]

    return await resonate.run("tried_again_after_timeout", flow)


@program(expected="first")
async def cut_before_more_arrived(resonate: Resonate, world: World) -> Any:
    """A helper cuts a loser; what arrives later must not look as if it had come before (S4)."""

    async def parked(ctx: Context) -> None:
        await ctx.sleep(FOREVER_S)

    @resonate.register
    async def flow(ctx: Context) -> str:
        async def first() -> str:
            quick = asyncio.create_task(ctx.run(world.echo, 1))
            loser = asyncio.create_task(ctx.run(parked))
            await asyncio.wait([quick, loser], return_when=asyncio.FIRST_COMPLETED)
            loser.cancel()
            await asyncio.wait([loser])
            return "first"

        helper = asyncio.create_task(first())
        await ctx.sleep(3000)  # longer than a restart takes: the loser is cut before it ends
        helper.cancel()
        try:
            return await helper
        except asyncio.CancelledError:
            return "gave up"

    return await resonate.run("cut_before_more_arrived", flow)
