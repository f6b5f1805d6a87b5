# pyright: strict
"""Uses of the public API: checked by mypy and pyright, never run.

A result's type follows the function through every way of calling it, for all three kinds
(mission R13, K23).
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

from resonate_aio import Context, Function, Handle, Promise, Resonate, Yieldable
from resonate_aio.client.search import Page
from resonate_aio.encoders import Base64Encoder, CombinedEncoder, Encoder, JsonEncoder
from resonate_aio.protocol.records import Promise as StoredPromise
from resonate_aio.protocol.records import PromiseState, Schedule
from resonate_aio.retry_policies import Constant, Exponential, Linear, Never
from resonate_aio.runtime.awaitables import DurableCall
from resonate_aio.testing import Report, crash_everywhere

resonate = Resonate()
local = Resonate.local(path="app.db", synchronous="NORMAL", workers=1)


class Receipt:
    """A result with a type of its own."""


async def coroutine(ctx: Context, order: str, *, count: int = 1) -> Receipt:
    return Receipt()


def generator(ctx: Context, order: str) -> Generator[Any, Any, int]:
    yield ctx.run(plain, 1)
    return 1


def yieldable(ctx: Context, order: str) -> Generator[Yieldable, Any, float]:
    """As annotated for 0.6.7: it yields calls and promises (P1)."""
    promise: Promise[bytes] = yield ctx.begin_run(plain, 1)
    value: bytes = yield promise
    yield ctx.rfi("by name").options(target="elsewhere")
    yield ctx.sleep(1)
    yield ctx.promise(id="p")
    yield ctx.random.random()
    again = yield from ctx.typesafe(ctx.begin_run(yieldable, order))
    assert_type(again, Promise[float])
    whole = yield from helper(ctx)
    assert_type(whole, int)
    return len(value) + whole + (yield from ctx.typesafe(again))


def helper(ctx: Context) -> Generator[Yieldable, Any, int]:
    n: int = yield ctx.run(generator, "42")
    return n


def plain(ctx: Context, n: int) -> bytes:
    return b""


@resonate.register
async def registered(ctx: Context, order: str) -> Receipt:
    return Receipt()


@resonate.register(name="named", version=2)
def registered_generator(ctx: Context, order: str) -> Generator[Any, Any, int]:
    yield ctx.sleep(1)
    return 1


@resonate.register
def registered_yieldable(ctx: Context, order: str) -> Generator[Yieldable, Any, float]:
    yield ctx.options(id="nap").sleep(1)
    return 1.0


@resonate.register()
def registered_plain(ctx: Context, n: int) -> bytes:
    return b""


async def in_a_client() -> None:
    # run and begin_run
    assert_type(resonate.run("id", coroutine, "42"), Handle[Receipt])
    assert_type(await resonate.run("id", coroutine, "42", count=2), Receipt)
    assert_type(await resonate.run("id", generator, "42"), int)
    assert_type(await resonate.run("id", plain, 1), bytes)
    assert_type(await resonate.begin_run("id", coroutine, "42"), Receipt)
    assert_type(await resonate.begin_run("id", generator, "42"), int)
    assert_type(await resonate.begin_run("id", plain, 1), bytes)

    assert_type(await resonate.run("id", yieldable, "42"), float)
    assert_type(await resonate.begin_run("id", yieldable, "42"), float)
    assert_type(await resonate.run("id", registered_yieldable, "42"), float)
    assert_type(await registered_yieldable.run("id", "42"), float)

    # rpc and begin_rpc
    assert_type(await resonate.rpc("id", yieldable, "42"), float)
    assert_type(await resonate.begin_rpc("id", yieldable, "42"), float)
    assert_type(await resonate.rpc("id", coroutine, "42"), Receipt)
    assert_type(await resonate.rpc("id", generator, "42"), int)
    assert_type(await resonate.rpc("id", plain, 1), bytes)
    assert_type(await resonate.begin_rpc("id", plain, 1), bytes)

    # a name with a type
    assert_type(resonate.run("id", "named", "42", returns=Receipt), Handle[Receipt])
    assert_type(await resonate.rpc("id", "named", "42", returns=Receipt), Receipt)
    assert_type(await resonate.begin_rpc("id", "named", returns=list[int]), list[int])
    assert_type(await resonate.get("id", returns=Receipt), Receipt)

    # by name anything goes
    assert_type(await resonate.run("id", "coroutine", "42"), Any)
    assert_type(await resonate.rpc("id", "coroutine", "42"), Any)
    assert_type(resonate.get("id"), Handle[Any])

    # the idiom of a service (S29a)
    h = await resonate.begin_run("id", coroutine, "42").created()
    assert_type(h, Handle[Receipt])
    assert_type(await h, Receipt)
    assert_type(await h.result(), Receipt)
    assert_type(await h.result(timeout=timedelta(seconds=1)), Receipt)
    assert_type(h.done(), bool)
    assert_type(h.id, str)

    # handles with asyncio
    both = await asyncio.gather(resonate.run("a", coroutine, "1"), resonate.run("b", plain, 1))
    assert_type(both, tuple[Receipt, bytes])

    # Function
    functions: list[Function[..., Any]] = [registered, registered_generator, registered_plain]
    assert_type(functions[0].name, str)
    assert_type(await registered.run("id", "42"), Receipt)
    assert_type(await registered.begin_run("id", "42"), Receipt)
    assert_type(await registered_generator.run("id", "42"), int)
    assert_type(await registered_plain.run("id", 1), bytes)
    assert_type(await registered_plain.rpc("id", 1), bytes)
    assert_type(await registered_plain.begin_rpc("id", 1), bytes)
    assert_type(await registered.options(timeout=1).run("id", "42"), Receipt)
    assert_type(await resonate.run("id", registered, "42"), Receipt)
    assert_type(await resonate.begin_run("id", registered_generator, "42"), int)
    assert_type(await resonate.rpc("id", registered_plain, 1), bytes)

    # options keep the types
    client = resonate.options(retry_policy=Exponential(), timeout=timedelta(hours=1), version=1)
    assert_type(client, Resonate)
    assert_type(await client.run("id", coroutine, "42"), Receipt)


async def beside_starting(h: Handle[Receipt]) -> None:
    # what a handle knows
    assert_type(h.status, PromiseState)
    assert_type(h.future, asyncio.Future[Receipt])
    assert_type(h.result_sync(timeout=1), Receipt)
    assert_type(await h.explain(), str)

    # promises and schedules
    page = await resonate.promises.search(state="pending", limit=10)
    assert_type(page, Page[StoredPromise])
    assert_type([stored.id async for stored in resonate.promises.search()], list[str])
    assert_type(await resonate.promises.resolve("id", value=1, ikey="k"), StoredPromise)
    assert_type(await resonate.schedule("s", coroutine, "@daily", "42"), Schedule)
    assert_type(await resonate.schedules.get("s"), Schedule)
    assert_type(await resonate.prune(timedelta(days=30)), int)


def in_a_script() -> None:
    with resonate.blocking() as blocked:
        assert_type(blocked.run("id", coroutine, "42"), Receipt)
        assert_type(blocked.run("id", generator, "42"), int)
        assert_type(blocked.run("id", plain, 1), bytes)
        assert_type(blocked.options(timeout=1).run("id", yieldable, "42"), float)
        assert_type(blocked.rpc("id", registered, "42"), Receipt)
        assert_type(blocked.run("id", "by name"), Any)
        assert_type(blocked.get("id").result_sync(), Any)
        assert_type(blocked.wait(resonate.promises.get("id")), StoredPromise)


async def in_a_body(ctx: Context) -> None:
    # run
    assert_type(ctx.run(coroutine, "42"), DurableCall[Receipt])
    assert_type(await ctx.run(coroutine, "42"), Receipt)
    assert_type(await ctx.run(generator, "42"), int)
    assert_type(await ctx.run(plain, 1), bytes)
    assert_type(await ctx.run(plain, 1).options(retry_policy=Never(), timeout=3), bytes)
    assert_type(await ctx.lfc(plain, 1), bytes)
    assert_type(await ctx.run(registered, "42"), Receipt)
    assert_type(await ctx.begin_run(registered_generator, "42"), Promise[int])
    assert_type(await ctx.rpc(registered_plain, 1), bytes)
    assert_type(await ctx.begin_rpc(registered, "42"), Promise[Receipt])

    # a direct call is the function's own
    assert_type(await registered(ctx, "42"), Receipt)
    assert_type(registered_generator(ctx, "42"), Generator[Any, Any, int])
    assert_type(registered_plain(ctx, 1), bytes)

    # begin_run
    assert_type(await ctx.begin_run(coroutine, "42"), Promise[Receipt])
    assert_type(await ctx.begin_run(generator, "42"), Promise[int])
    assert_type(await ctx.begin_run(plain, 1), Promise[bytes])
    promise = await ctx.lfi(plain, 1)
    assert_type(await promise, bytes)
    assert_type(promise.done(), bool)
    assert_type(await promise.created(), Promise[bytes])


async def also_in_a_body(ctx: Context) -> None:
    # a generator as annotated for 0.6.7
    assert_type(await ctx.run(yieldable, "42"), float)
    assert_type(await ctx.begin_run(yieldable, "42"), Promise[float])
    assert_type(await ctx.rpc(yieldable, "42"), float)
    assert_type(await ctx.begin_rpc(yieldable, "42"), Promise[float])
    assert_type(await ctx.detached(yieldable, "42"), Promise[float])
    assert_type(await ctx.run(registered_yieldable, "42"), float)

    # options before a call
    mine = ctx.options(tags={"kind": "mine"}, timeout=timedelta(minutes=1))
    assert_type(await mine.run(coroutine, "42"), Receipt)
    assert_type(await mine.options(id="a").begin_run(yieldable, "42"), Promise[float])
    assert_type(await ctx.options(target="elsewhere", version=2).rpc(plain, 1), bytes)
    assert_type(await ctx.options(target="elsewhere").rfc("name", returns=Receipt), Receipt)
    assert_type(await ctx.options(retry_policy=Never(), durable=False).lfc(plain, 1), bytes)
    assert_type(await ctx.options(id="p").promise(), Promise[Any])
    assert_type(await ctx.options(id="nap").sleep(1), None)

    # rpc and begin_rpc
    assert_type(await ctx.rpc(coroutine, "42"), Receipt)
    assert_type(await ctx.rpc(generator, "42"), int)
    assert_type(await ctx.rpc(plain, 1).options(target="elsewhere"), bytes)
    assert_type(await ctx.begin_rpc(plain, 1), Promise[bytes])
    assert_type(await ctx.detached(plain, 1), Promise[bytes])
    assert_type(await (await ctx.detached(coroutine, "42")), Receipt)
    assert_type(await ctx.detached("by name"), Promise[Any])
    assert_type(await ctx.rfc(plain, 1), bytes)
    assert_type(await ctx.rfi(plain, 1), Promise[bytes])
    assert_type(await ctx.rpc("by name"), Any)
    assert_type(await ctx.rpc("by name", returns=Receipt), Receipt)
    assert_type(await ctx.begin_rpc("by name", returns=Receipt), Promise[Receipt])

    # the rest
    assert_type(await ctx.sleep(timedelta(days=1)), None)
    assert_type(await ctx.time.time(), float)
    assert_type(await ctx.random.random(), float)
    assert_type(await ctx.random.randint(1, 6), int)
    assert_type(await ctx.random.choice(["a", "b"]), str)
    assert_type(await ctx.random.uuid4(), UUID)
    assert_type(await ctx.sleep(until=datetime.now(UTC)), None)
    assert_type(ctx.info.timeout, float)
    assert_type(await ctx.promise(id="p"), Promise[Any])
    async with ctx.timeout(5) as limit:
        assert_type(limit.expired(), bool)

    # with asyncio
    gathered = await asyncio.gather(ctx.run(coroutine, "42"), ctx.run(plain, 1), ctx.sleep(1))
    assert_type(gathered, tuple[Receipt, bytes, None])
    task = asyncio.create_task(ctx.run(plain, 1))
    assert_type(await task, bytes)
    async with asyncio.TaskGroup() as group:
        assert_type(await group.create_task(ctx.run(coroutine, "42")), Receipt)
    assert_type(await asyncio.shield(ctx.run(plain, 1)), bytes)


def in_a_generator(ctx: Context) -> Generator[Any, Any, str]:
    promise: Promise[bytes] = yield ctx.begin_run(plain, 1)
    value: bytes = yield promise
    waited: None = yield ctx.sleep(1)
    again = yield from ctx.typesafe(ctx.begin_run(plain, 1))
    assert_type(again, Promise[bytes])
    assert_type((yield from ctx.typesafe(again)), bytes)
    assert_type((yield from ctx.typesafe(ctx.run(coroutine, "42"))), Receipt)
    return f"{value!r}{waited}"


def policies() -> tuple[Exponential, Constant, Linear, Never]:
    return Exponential(delay=1, jitter=0.5), Constant(delay=timedelta(seconds=1)), Linear(), Never()


def encoders() -> list[Encoder]:
    class Own:
        async def encode(self, value: Any, /) -> str:
            return str(value)

        async def decode(self, data: str | None, /) -> Any:
            return data

    own = resonate.options(encoder=Own())
    assert_type(own, Resonate)
    return [Own(), JsonEncoder(), Base64Encoder(), CombinedEncoder(JsonEncoder(), Base64Encoder())]


def a_test() -> None:
    async def main(client: Resonate) -> Receipt:
        client.register(coroutine)
        return await client.run("id", coroutine, "42")

    assert_type(crash_everywhere(main, store="sqlite", seed=1), Report)


# Wrong uses: with warn_unused_ignores each must be an error.


async def wrong(ctx: Context) -> None:
    await resonate.run("id", coroutine, 42)  # type: ignore[call-overload]
    await resonate.run("id", plain)  # type: ignore[call-overload]
    await ctx.run(plain, "1")  # type: ignore[call-overload]
    await registered.run("id", 42)  # type: ignore[arg-type]
    await registered.run("id")  # type: ignore[call-arg]
    registered.options(bogus=1)  # type: ignore[call-arg]
    registered.options(timeout="1")  # type: ignore[arg-type]
    resonate.options(bogus=1)  # type: ignore[call-arg]
    resonate.run("id", coroutine, "42").options(timeout=1)  # type: ignore[attr-defined]
    ctx.options(bogus=1)  # type: ignore[call-arg]
    ctx.options(retry_policy="often")  # type: ignore[arg-type]
    ctx.run(plain, 1).options(bogus=1)  # type: ignore[call-arg]
    ctx.run(plain, 1).options(id=1)  # type: ignore[arg-type]
    await ctx.options(timeout=1).run(plain, "1")  # type: ignore[call-overload]


def wrong_yield(ctx: Context) -> Generator[Yieldable, Any, None]:
    yield 1  # type: ignore[misc]
    yield resonate.run("id", plain, 1)  # type: ignore[misc]
