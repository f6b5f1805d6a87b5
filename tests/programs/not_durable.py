"""Programs whose calls with durable=False are cut, outlive a cancel or time out.

What is not durable counts no effects of its own: it runs again in each life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from resonate_aio import Context, Resonate, ResonateTimedoutError

from .base import FOREVER_S, World, program


@program(expected=["timed out", "clean", 3])
async def not_durable_cut(resonate: Resonate, world: World) -> Any:
    """A time limit cuts a call that asks not to be recorded; its steps are (S10, S11)."""

    async def slow(ctx: Context) -> None:
        await ctx.run(world.echo, 1)
        try:
            await ctx.run(world.hang)
        except asyncio.CancelledError:
            await ctx.run(world.echo, "clean")
            raise

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        try:
            async with ctx.timeout(30):
                await ctx.run(slow).options(durable=False)
        except TimeoutError:
            return ["timed out", await ctx.run(world.echo, "clean"), await ctx.run(world.add, 1, 2)]
        return ["in time"]

    return await resonate.run("not_durable_cut", flow)


@program(expected=["value", True, "after"])
async def not_durable_outlives(resonate: Resonate, world: World) -> Any:
    """It returns a value when it is cancelled; the cancel hits the next wait instead (S10)."""

    def stubborn(ctx: Context) -> Generator[Any, Any, str]:
        try:
            yield ctx.run(world.hang)
        except asyncio.CancelledError:
            return str((yield ctx.run(world.echo, "value")))
        return "not cancelled"

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        value = None
        try:
            async with asyncio.timeout(30):
                value = await ctx.run(stubborn).options(durable=False)
                await ctx.run(world.hang)
        except TimeoutError:
            return [value, True, await ctx.run(world.echo, "after")]
        return [value, False]

    return await resonate.run("not_durable_outlives", flow)


@program(expected=["not_durable_limited.1", 5, 3])
async def not_durable_limited(resonate: Resonate, world: World) -> Any:
    """Deadlines of their own: one ends at it, the other long before it (S14)."""

    async def endless(ctx: Context) -> None:
        await ctx.run(world.echo, 1)
        await ctx.sleep(FOREVER_S)

    async def quick(ctx: Context) -> int:
        return await ctx.run(world.add, 2, 3)

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        outcome = "in time"
        try:
            await ctx.run(endless).options(durable=False, timeout=1000)
        except ResonateTimedoutError as error:
            outcome = error.id.replace(":", ".")
        five = await ctx.run(quick).options(durable=False, timeout=1000)
        await ctx.sleep(2000)
        return [outcome, five, await ctx.run(world.add, 1, 2)]

    return await resonate.run("not_durable_limited", flow)
