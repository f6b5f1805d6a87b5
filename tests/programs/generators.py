"""Generator programs: the dialect of the Resonate Python SDK 0.6.7."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateTimedoutError
from resonate_aio.retry_policies import Constant, Never

from .base import World, program
from .outside import resolve_until_done

Body = Generator[Any, Any, Any]


@program(expected=[3, 13, 26], dialect="generator")
async def generator_sequence(resonate: Resonate, world: World) -> Any:
    """Three steps, each fed by the one before."""

    @resonate.register
    def flow(ctx: Context, start: int) -> Body:
        first = yield ctx.run(world.add, start, 2)
        second = yield ctx.run(world.add, first, 10)
        third = yield ctx.run(world.add, second, second)
        return [first, second, third]

    return await resonate.run("generator_sequence", flow, 1)


@program(expected=[5, 4, 3, 2, 1], dialect="generator")
async def generator_fan_out(resonate: Resonate, world: World) -> Any:
    """Children begun in one order and awaited in the other."""

    @resonate.register
    def flow(ctx: Context, count: int) -> Body:
        promises = []
        for n in range(count):
            promises.append((yield ctx.begin_run(world.add, n, 1)))
        results = []
        for promise in reversed(promises):
            results.append((yield promise))
        return results

    return await resonate.run("generator_fan_out", flow, 5)


@program(expected=["returned", 3], dialect="generator")
async def generator_children_nobody_awaits(resonate: Resonate, world: World) -> Any:
    """The generator ends only when every call it asked has ended (law 9)."""

    @resonate.register
    def flow(ctx: Context) -> Body:
        for n in range(3):
            yield ctx.begin_run(world.echo, n)
        return "returned"

    result = await resonate.run("generator_children_nobody_awaits", flow)
    prefix = "generator_children_nobody_awaits."
    return [result, len([id for id in world.effects if id.startswith(prefix)])]


@program(expected=[[3, 5], [7, 9], 12], dialect="generator")
async def generator_yield_from(resonate: Resonate, world: World) -> Any:
    """Helpers under `yield from`, several levels deep: calls of the same body."""

    def pair(ctx: Context, n: int) -> Body:
        first = yield ctx.run(world.add, n, n + 1)
        second = yield ctx.run(world.add, n + 1, n + 2)
        return [first, second]

    def pairs(ctx: Context) -> Body:
        low = yield from pair(ctx, 1)
        high = yield from pair(ctx, 3)
        return [low, high]

    @resonate.register
    def flow(ctx: Context) -> Body:
        both = yield from pairs(ctx)
        total = yield ctx.run(world.add, both[0][1], both[1][0])
        return [*both, total]

    return await resonate.run("generator_yield_from", flow)


@program(expected=[4, 104], dialect="generator")
async def generator_nested(resonate: Resonate, world: World) -> Any:
    """Generators that call generators."""

    def inner(ctx: Context, n: int) -> Body:
        one = yield ctx.run(world.add, n, 1)
        return (yield ctx.run(world.add, one, 1))

    def middle(ctx: Context, n: int) -> Body:
        promise = yield ctx.begin_run(inner, n)
        return (yield promise) + 1

    @resonate.register
    def flow(ctx: Context) -> Body:
        low = yield ctx.run(middle, 1)
        high = yield ctx.run(middle, 101)
        return [low, high]

    return await resonate.run("generator_nested", flow)


@program(expected=["sorry", "cleaned up", "went on"], dialect="generator")
async def generator_try_except(resonate: Resonate, world: World) -> Any:
    """A failing step inside `try`, `except` and `finally`."""

    @resonate.register
    def flow(ctx: Context) -> Body:
        seen = []
        try:
            yield ctx.run(world.fail, "sorry").options(retry_policy=Never())
        except ValueError as error:
            seen.append(str(error))
        finally:
            seen.append((yield ctx.run(world.echo, "cleaned up")))
        seen.append((yield ctx.run(world.echo, "went on")))
        return seen

    return await resonate.run("generator_try_except", flow)


@program(expected=["late error", "went on"], dialect="generator")
async def generator_promise_that_fails(resonate: Resonate, world: World) -> Any:
    """The error of a begun child comes where its promise is yielded."""

    @resonate.register
    def flow(ctx: Context) -> Body:
        promise = yield ctx.begin_run(world.fail, "late error").options(retry_policy=Never())
        went_on = yield ctx.run(world.echo, "went on")
        try:
            yield promise
        except ValueError as error:
            return [str(error), went_on]
        return ["no error"]

    return await resonate.run("generator_promise_that_fails", flow)


@program(expected=3, dialect="generator")
async def generator_flaky_step(resonate: Resonate, world: World) -> Any:
    """A step that fails twice in each life."""

    async def flaky(ctx: Context) -> int:
        await world.work(ctx)
        attempt = world.attempt(ctx.id)
        if attempt < 3:
            raise ConnectionError(f"attempt {attempt}")
        return attempt

    @resonate.register
    def flow(ctx: Context) -> Body:
        return (yield ctx.run(flaky).options(retry_policy=Constant(delay=0.5)))

    return await resonate.run("generator_flaky_step", flow)


@program(expected=["before", "after"], dialect="generator")
async def generator_sleep(resonate: Resonate, world: World) -> Any:
    """A durable timer between two steps."""

    @resonate.register
    def flow(ctx: Context) -> Body:
        before = yield ctx.run(world.echo, "before")
        yield ctx.sleep(3600.0)
        after = yield ctx.run(world.echo, "after")
        return [before, after]

    return await resonate.run("generator_sleep", flow)


@program(expected=["lfc", "lfi", "rfc", "rfi"], dialect="generator")
async def generator_aliases(resonate: Resonate, world: World) -> Any:
    """The short names: local and remote, call and invocation (seed 003, mission table X5 to X7)."""

    @resonate.register
    async def remote(ctx: Context, text: str) -> str:
        await world.work(ctx)
        return text

    @resonate.register
    def flow(ctx: Context) -> Body:
        local_call = yield ctx.lfc(world.echo, "lfc")
        local_promise = yield ctx.lfi(world.echo, "lfi")
        remote_call = yield ctx.rfc("remote", "rfc")
        remote_promise = yield ctx.rfi("remote", "rfi")
        return [local_call, (yield local_promise), remote_call, (yield remote_promise)]

    return await resonate.run("generator_aliases", flow)


@program(expected=["asked", 42], dialect="generator")
async def generator_promise(resonate: Resonate, world: World) -> Any:
    """A promise that somebody outside settles."""

    @resonate.register
    def flow(ctx: Context) -> Body:
        promise = yield ctx.promise(id="generator-approval")
        asked = yield ctx.run(world.echo, "asked")
        return [asked, (yield promise)]

    handle = resonate.begin_run("generator_promise", flow)
    await resolve_until_done(resonate, handle, "generator-approval", 42)
    return await handle


@program(expected=5, dialect="generator")
async def generator_recursion(resonate: Resonate, world: World) -> Any:
    """A generator that calls itself, here and through rpc."""

    @resonate.register
    def fibonacci(ctx: Context, n: int) -> Body:
        if n < 2:
            return (yield ctx.run(world.echo, n))
        first = yield ctx.begin_rpc("fibonacci", n - 1)
        second = yield ctx.run(fibonacci, n - 2)
        return (yield first) + second

    return await resonate.run("generator_recursion", fibonacci, 5)


@program(expected=["timed out", 3], dialect="generator")
async def generator_deadline(resonate: Resonate, world: World) -> Any:
    """A child that does not end in time (law 10)."""

    @resonate.register
    def flow(ctx: Context) -> Body:
        try:
            yield ctx.run(world.hang).options(timeout=5)
        except ResonateTimedoutError:
            return ["timed out", (yield ctx.run(world.add, 1, 2))]
        return ["in time"]

    return await resonate.run("generator_deadline", flow)


@program(expected=[True, True], dialect="generator", values_vary=True)
async def generator_random_and_time(resonate: Resonate, world: World) -> Any:
    """Recorded luck and recorded time."""

    @resonate.register
    def flow(ctx: Context) -> Body:
        begin = yield ctx.time.time()
        drawn = yield ctx.random.random()
        recorded = yield ctx.run(world.echo, [begin, drawn])
        chosen = yield ctx.random.choice(["a", "b"])
        number = yield ctx.random.randint(1, 6)
        return [recorded == [begin, drawn], chosen in "ab" and 1 <= number <= 6]

    return await resonate.run("generator_random_and_time", flow)


@program(expected=["flow ended", "noted"], dialect="generator")
async def generator_detached(resonate: Resonate, world: World) -> Any:
    """A call that is not awaited at its caller's end."""

    @resonate.register
    def note(ctx: Context) -> Body:
        yield ctx.sleep(100)
        return (yield ctx.run(world.echo, "noted"))

    @resonate.register
    def flow(ctx: Context) -> Body:
        yield ctx.detached("note")
        return "flow ended"

    first = await resonate.run("generator_detached", flow)
    return [first, await resonate.get("generator_detached.1")]


@program(expected=["timed out", "after"], dialect="generator")
async def generator_child_cut(resonate: Resonate, world: World) -> Any:
    """A generator child under `asyncio.timeout`: it is interrupted at its yield and cleans up."""

    def child(ctx: Context) -> Body:
        try:
            yield ctx.run(world.hang)
        finally:
            yield ctx.run(world.echo, "cleaning up")

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        try:
            async with asyncio.timeout(5):
                await ctx.run(child)
        except TimeoutError:
            return ["timed out", await ctx.run(world.echo, "after")]
        return ["in time"]

    return await resonate.run("generator_child_cut", flow)
