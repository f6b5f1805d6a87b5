"""`async def` programs that reach out: other functions, other executions, the world outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from resonate_aio import Context, Handle, Resonate
from resonate_aio.errors import (
    ApplicationError,
    ResonateCanceledError,
    ResonateStoreError,
    ResonateTimedoutError,
)

from .base import FAR_FUTURE_MS, World, program


async def resolve_until_done(resonate: Resonate, handle: Handle[Any], id: str, value: Any) -> None:
    """Resolve a promise from outside as soon as it exists, until its waiter has ended."""
    while not handle.done():
        with contextlib.suppress(ResonateStoreError):  # not there yet, or settled already
            await resonate.promises.resolve(id=id, data=json.dumps(value))
        await asyncio.sleep(0.3)


@program(expected=3)
async def rpc_chain(resonate: Resonate, world: World) -> Any:
    """The chain of the async-RPC seed: each link adds one."""

    @resonate.register
    async def foo(ctx: Context) -> int:
        return int(await ctx.rpc("bar")) + 1

    @resonate.register
    async def bar(ctx: Context) -> int:
        return int(await ctx.rpc("baz")) + 1

    @resonate.register
    async def baz(ctx: Context) -> int:
        await world.work(ctx)
        return 1

    return await resonate.rpc("rpc_chain", "foo")


@program(expected=5)
async def rpc_recursion(resonate: Resonate, world: World) -> Any:
    """A function that calls itself through rpc."""

    @resonate.register
    async def fibonacci(ctx: Context, n: int) -> int:
        if n < 2:
            await world.work(ctx)
            return n
        first = await ctx.begin_rpc("fibonacci", n - 1)
        second = await ctx.begin_rpc("fibonacci", n - 2)
        return int(await first) + int(await second)

    return await resonate.run("rpc_recursion", fibonacci, 5)


@program(expected=[1, 30, 10, 20])
async def rpc_fan_out(resonate: Resonate, world: World) -> Any:
    """Remote calls begun together, awaited after a local step."""

    @resonate.register
    async def tenfold(ctx: Context, n: int) -> int:
        await world.work(ctx)
        return 10 * n

    @resonate.register
    async def flow(ctx: Context) -> list[int]:
        promises = [await ctx.begin_rpc("tenfold", n) for n in (1, 2)]
        local = await ctx.run(world.echo, 1)
        third = await ctx.rpc("tenfold", 3)
        return [local, third, *[await promise for promise in promises]]

    return await resonate.run("rpc_fan_out", flow)


@program(expected=[[1, 4, 9], 14])
async def rpc_gather(resonate: Resonate, world: World) -> Any:
    """`gather` over remote calls to a function that has steps of its own."""

    @resonate.register
    async def square(ctx: Context, n: int) -> int:
        squared = 0
        for _ in range(n):
            squared = await ctx.run(world.add, squared, n)
        return squared

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        squares = await asyncio.gather(*(ctx.rpc("square", n) for n in (1, 2, 3)))
        return [squares, sum(squares)]

    return await resonate.run("rpc_gather", flow)


@program(expected=["ValueError", "no good", 3])
async def rpc_error(resonate: Resonate, world: World) -> Any:
    """The error of a remote call reaches its caller."""

    @resonate.register
    async def refuse(ctx: Context, text: str) -> None:
        await world.work(ctx)
        raise ValueError(text)

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        try:
            await ctx.rpc("refuse", "no good")
        except ValueError as error:
            return [type(error).__name__, str(error), await ctx.run(world.add, 1, 2)]
        return ["no error"]

    return await resonate.run("rpc_error", flow)


@program(expected=["timed out", 3])
async def rpc_to_nobody(resonate: Resonate, world: World) -> Any:
    """A remote call to a group that no process belongs to ends at its deadline (law 10)."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        try:
            await ctx.rpc("anything").options(target="poll://any@nobody", timeout=20)
        except ResonateTimedoutError:
            return ["timed out", await ctx.run(world.add, 1, 2)]
        return ["answered"]

    return await resonate.run("rpc_to_nobody", flow)


@program(expected=["gave up", "the work went on"])
async def rpc_given_up(resonate: Resonate, world: World) -> Any:
    """A time limit ends the wait for a remote call; the call itself goes on (S10)."""

    @resonate.register
    async def slow(ctx: Context) -> str:
        world.step(ctx.id)
        await asyncio.sleep(50)
        return "the work went on"

    @resonate.register
    async def flow(ctx: Context) -> str:
        try:
            async with asyncio.timeout(5):
                return str(await ctx.rpc("slow"))
        except TimeoutError:
            return await ctx.run(world.echo, "gave up")

    first = await resonate.run("rpc_given_up", flow)
    return [first, await resonate.get("rpc_given_up.1")]


@program(expected=["flow ended", "noted 7"])
async def detached(resonate: Resonate, world: World) -> Any:
    """A call that is not awaited at its caller's end."""

    @resonate.register
    async def note(ctx: Context, n: int) -> str:
        await ctx.sleep(100)
        await world.work(ctx)
        return f"noted {n}"

    @resonate.register
    async def flow(ctx: Context) -> str:
        await ctx.detached("note", 7)
        return await ctx.run(world.echo, "flow ended")

    first = await resonate.run("detached", flow)
    return [first, await resonate.get("detached.1")]


@program(expected=["asked", {"by": "a person"}])
async def promise_settled_outside(resonate: Resonate, world: World) -> Any:
    """A person's answer, given by the id the program chose."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        promise = await ctx.promise(id="approval")
        return [await ctx.run(world.echo, "asked"), await promise]

    handle = resonate.begin_run("promise_settled_outside", flow)
    await world.delay("person")
    await resolve_until_done(resonate, handle, "approval", {"by": "a person"})
    return await handle


@program(expected=[42, 42])
async def promise_created_outside(resonate: Resonate, world: World) -> Any:
    """A promise that is there before the program asks for it; awaited twice."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        promise = await ctx.promise(id="made-before")
        return [await promise, await promise]

    await resonate.promises.create(id="made-before", timeout=FAR_FUTURE_MS)
    handle = resonate.begin_run("promise_created_outside", flow)
    await resolve_until_done(resonate, handle, "made-before", 42)
    return await handle


@program(expected=["first", "second"])
async def promises_of_its_own(resonate: Resonate, world: World) -> Any:
    """Promises without an id of their own, settled in the other order."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        first = await ctx.promise()
        second = await ctx.promise(data={"question": "which?"})
        return list(await asyncio.gather(first, second))

    handle = resonate.begin_run("promises_of_its_own", flow)
    await asyncio.gather(
        resolve_until_done(resonate, handle, "promises_of_its_own.2", "second"),
        resolve_until_done(resonate, handle, "promises_of_its_own.1", "first"),
    )
    return await handle


@program(expected=["ApplicationError", "went on"])
async def promise_rejected_outside(resonate: Resonate, world: World) -> Any:
    """A rejection from outside is an exception to the program."""

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        promise = await ctx.promise(id="rejected-outside")
        try:
            await promise
        except ApplicationError as error:
            return [type(error).__name__, await ctx.run(world.echo, "went on")]
        return ["no error"]

    handle = resonate.begin_run("promise_rejected_outside", flow)
    while not handle.done():
        with contextlib.suppress(ResonateStoreError):  # not there yet, or settled already
            await resonate.promises.reject(id="rejected-outside", data=json.dumps("no"))
        await asyncio.sleep(0.3)
    return await handle


@program(expected=["ResonateCanceledError", "went on"])
async def promise_canceled_outside(resonate: Resonate, world: World) -> Any:
    """A cancelled promise is an exception to who waits for it."""

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        promise = await ctx.promise(id="canceled-outside")
        try:
            await promise
        except ResonateCanceledError as error:
            return [type(error).__name__, await ctx.run(world.echo, "went on")]
        return ["no error"]

    handle = resonate.begin_run("promise_canceled_outside", flow)
    while not handle.done():
        with contextlib.suppress(ResonateStoreError):  # not there yet, or settled already
            await resonate.promises.cancel(id="canceled-outside")
        await asyncio.sleep(0.3)
    return await handle


@program(expected=["ResonateTimedoutError", "went on"])
async def promise_nobody_settles(resonate: Resonate, world: World) -> Any:
    """A promise that passes its own deadline (law 10)."""

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        promise = await ctx.promise(timeout=30)
        try:
            await promise
        except ResonateTimedoutError as error:
            return [type(error).__name__, await ctx.run(world.echo, "went on")]
        return ["no error"]

    return await resonate.run("promise_nobody_settles", flow)


@program(expected=["approved", "reminded"])
async def answer_or_reminder(resonate: Resonate, world: World) -> Any:
    """Wait for an answer; after a day without one, remind and go on waiting."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        answer = await ctx.promise(id="answer")
        waiting = asyncio.ensure_future(answer)
        day = asyncio.create_task(ctx.sleep(86_400))
        done, _ = await asyncio.wait([waiting, day], return_when=asyncio.FIRST_COMPLETED)
        reminded = await ctx.run(world.echo, "reminded" if day in done else "not needed")
        return [await waiting, reminded]

    handle = resonate.begin_run("answer_or_reminder", flow)
    while not world.effects["answer_or_reminder.3"]:  # the person waits for the reminder
        await asyncio.sleep(1000)
    await resolve_until_done(resonate, handle, "answer", "approved")
    return await handle
