"""Programs in which the three kinds of function call each other."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from resonate_aio import Context, Resonate

from .base import World, program

Body = Generator[Any, Any, Any]


@program(expected=112, dialect="mixed", threads=True)
async def mixed_chain(resonate: Resonate, world: World) -> Any:
    """`async def` calls a generator, which calls a plain function and an `async def`."""

    def plain(ctx: Context, n: int) -> int:
        world.step(ctx.id)
        return n + 100

    async def coroutine(ctx: Context, n: int) -> int:
        return await ctx.run(world.add, n, 10)

    def generator(ctx: Context, n: int) -> Body:
        hundred = yield ctx.run(plain, n)
        return (yield ctx.run(coroutine, hundred))

    @resonate.register
    async def flow(ctx: Context, n: int) -> int:
        return int(await ctx.run(generator, n)) + 1

    return await resonate.run("mixed_chain", flow, 1)


@program(expected=[2, 3, 4], dialect="mixed", threads=True)
async def mixed_fan_out(resonate: Resonate, world: World) -> Any:
    """One `gather` over all three kinds."""

    def plain(ctx: Context, n: int) -> int:
        world.step(ctx.id)
        return n + 1

    def generator(ctx: Context, n: int) -> Body:
        return (yield ctx.run(world.add, n, 1))

    async def coroutine(ctx: Context, n: int) -> int:
        return await ctx.run(world.add, n, 1)

    @resonate.register
    async def flow(ctx: Context) -> list[int]:
        calls = (ctx.run(plain, 1), ctx.run(generator, 2), ctx.run(coroutine, 3))
        return list(await asyncio.gather(*calls))

    return await resonate.run("mixed_fan_out", flow)


@program(expected=["plain", "generator", "coroutine"], dialect="mixed", threads=True)
async def mixed_rpc(resonate: Resonate, world: World) -> Any:
    """Each kind is called by name."""

    @resonate.register
    def plain(ctx: Context) -> str:
        world.step(ctx.id)
        return "plain"

    @resonate.register
    def generator(ctx: Context) -> Body:
        return (yield ctx.run(world.echo, "generator"))

    @resonate.register
    async def coroutine(ctx: Context) -> str:
        return await ctx.run(world.echo, "coroutine")

    @resonate.register
    def flow(ctx: Context) -> Body:
        first = yield ctx.rpc("plain")
        second = yield ctx.begin_rpc("generator")
        third = yield ctx.rpc("coroutine")
        return [first, (yield second), third]

    return await resonate.run("mixed_rpc", flow)


@program(expected=["ValueError", "plain", "after"], dialect="mixed", threads=True)
async def mixed_error(resonate: Resonate, world: World) -> Any:
    """An error passes from a plain function through a generator to an `async def`."""

    def plain(ctx: Context) -> None:
        world.step(ctx.id)
        raise ValueError("plain")

    def generator(ctx: Context) -> Body:
        return (yield ctx.run(plain).options(non_retryable_exceptions=(ValueError,)))

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        try:
            await ctx.run(generator)
        except ValueError as error:
            name = type(error).__name__
            return [name, str(error), await ctx.run(world.echo, "after")]
        return ["no error"]

    return await resonate.run("mixed_error", flow)
