"""Executions that call one explicit id: all of them get its one outcome (law 1, S20, S62)."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from resonate_aio import Context, Resonate

from .base import World, program

SHARED = "the one"


@program(expected=[4])
async def shared_by_executions(resonate: Resonate, world: World) -> Any:
    """Two executions run one id: a body with steps, a log record and a sleep."""

    async def the_one(ctx: Context) -> int:
        return await shared(ctx, world)

    @resonate.register
    async def flow(ctx: Context, n: int) -> int:
        early = asyncio.create_task(ctx.run(the_one).options(id=SHARED))
        await ctx.run(world.echo, n)
        return await early

    handles = [resonate.begin_run(f"shared {n}", flow, n) for n in range(2)]
    return await _agreed(handles)


@program(expected=[4])
async def shared_in_many_ways(resonate: Resonate, world: World) -> Any:
    """The seed chooses who else calls the id, when and how: by run, by rpc, or from outside."""

    @resonate.register
    async def the_one(ctx: Context) -> int:
        return await shared(ctx, world)

    @resonate.register
    async def runs(ctx: Context, n: int) -> int:
        await ctx.run(world.echo, n)
        return await ctx.run(the_one).options(id=SHARED)

    @resonate.register
    async def calls(ctx: Context) -> int:
        return int(await ctx.rpc("the_one").options(id=SHARED))

    chance = Random(f"callers {world.seed}")
    ways = ["run", *chance.sample(("run", "rpc", "begin_run", "begin_rpc"), 2)]
    chance.shuffle(ways)
    handles: list[Any] = []
    for n, way in enumerate(ways):
        match way:
            case "run":
                handles.append(resonate.begin_run(f"runs {n}", runs, n))
            case "rpc":
                handles.append(resonate.begin_run(f"calls {n}", calls))
            case "begin_run":
                handles.append(resonate.begin_run(SHARED, the_one))
            case _:
                handles.append(resonate.begin_rpc(SHARED, the_one))
        await asyncio.sleep(chance.choice((0, 0, 0.5, 1.5)))
    return await _agreed(handles)


async def shared(ctx: Context, world: World) -> int:
    """What they share."""
    one = await ctx.run(world.add, 0, 1)
    two = await ctx.run(world.add, one, 1).options(id=f"{SHARED}, its step")
    await ctx.sleep(1)
    return await ctx.run(world.add, one + two, 1)


async def _agreed(handles: list[Any]) -> list[int]:
    """The outcomes that were seen, each once."""
    return sorted({await handle for handle in handles})
