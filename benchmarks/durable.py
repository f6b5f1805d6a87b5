"""The durable shapes that are measured.

Each takes a started client and returns how many seconds the work took.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

from resonate_aio import Context, Resonate

Shape = Callable[[Resonate], Awaitable[float]]
STORES = ("memory", "SQLite FULL", "SQLite NORMAL")


def client_on(store: str, folder: Path) -> Resonate:
    """A client on a fresh store of its own."""
    if store == "memory":
        return Resonate.local()
    if store == "SQLite NORMAL":
        return Resonate.local(path=folder / "bench.db", synchronous="NORMAL")
    return Resonate.local(path=folder / "bench.db")


async def step(ctx: Context, n: int) -> int:
    return n


async def sequence(ctx: Context, count: int) -> None:
    for n in range(count):
        await ctx.run(step, n)


async def begun_children(ctx: Context, count: int) -> None:
    promises = [await ctx.begin_run(step, n) for n in range(count)]
    for promise in promises:
        await promise


async def gathered_children(ctx: Context, count: int) -> None:
    await asyncio.gather(*(ctx.run(step, n) for n in range(count)))


async def nap(ctx: Context) -> None:
    await ctx.sleep(1)


def sequential(steps: int) -> Shape:
    async def run(client: Resonate) -> float:
        began = perf_counter()
        await client.run("sequence", sequence, steps)
        return perf_counter() - began

    return run


def executions(count: int, steps: int) -> Shape:
    async def run(client: Resonate) -> float:
        began = perf_counter()
        handles = [client.begin_run(f"execution-{n}", sequence, steps) for n in range(count)]
        for handle in handles:
            await handle
        return perf_counter() - began

    return run


def children(count: int, *, gathered: bool) -> Shape:
    body = gathered_children if gathered else begun_children

    async def run(client: Resonate) -> float:
        began = perf_counter()
        await client.run("children", body, count)
        return perf_counter() - began

    return run


def sleeps(count: int) -> Shape:
    async def run(client: Resonate) -> float:
        began = perf_counter()
        handles = [client.begin_run(f"sleep-{n}", nap) for n in range(count)]
        for handle in handles:
            await handle
        return perf_counter() - began

    return run


async def measure(store: str, shape: Shape, folder: Path) -> float:
    """Run one shape on a fresh client; its start and stop are not counted."""
    client = client_on(store, folder)
    for function in (sequence, begun_children, gathered_children, nap):
        client.register(function)
    async with client:
        await client.run("warm-up", sequence, 5)
        return await shape(client)
