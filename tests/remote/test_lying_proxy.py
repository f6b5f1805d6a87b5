"""Trouble is not an outcome (law 8): executions behind a proxy that lies."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import pytest
from tests.peers.current_server import CurrentServer
from tests.remote.lying_proxy import LIES, LyingProxy

from resonate_aio import Context, Resonate
from resonate_aio.client.servers import current_store
from resonate_aio.protocol.records import Promise, PromiseState, Task, TaskState
from resonate_aio.protocol.requests import PromiseSearch, TaskSearch
from resonate_aio.stores.http.session import HttpSession


async def in_steps(ctx: Context, n: int) -> int:
    """Five steps, an rpc and a sleep."""
    for _ in range(5):
        n = await ctx.run(plus_one, n)
    n = await ctx.rpc("doubled", n).options(target="other")
    await ctx.sleep(0.3)
    return n


async def plus_one(ctx: Context, n: int) -> int:
    return n + 1


async def doubled(ctx: Context, n: int) -> int:
    return 2 * n


async def behind_lies(server: CurrentServer, count: int, seconds: float, lies: float) -> None:
    """Run so many executions, begun evenly over this time, and check what became of them."""
    behind = urlsplit(server.url)
    assert behind.hostname is not None
    assert behind.port is not None
    async with LyingProxy(behind.hostname, behind.port, lies=lies, cut_every_s=3.0) as proxy:
        first = Resonate(url=proxy.url, group="first", ttl=5)
        other = Resonate(url=proxy.url, group="other", ttl=5)
        first.register(in_steps)
        other.register(doubled)
        run = f"lied-to-{time.time_ns()}"
        async with first, other:
            handles = []
            for n in range(count):
                handles.append(first.begin_run(f"{run}-{n}", in_steps, n))
                await asyncio.sleep(seconds / count)
            results = [await handle.result(60) for handle in handles]
            assert results == [2 * (n + 5) for n in range(count)]
            proxy.lies = 0.0
            await asyncio.sleep(1.0)
            await check_rate_is_normal(proxy)
    assert {lie for lie in LIES if proxy.told[lie]} == set(LIES), "a lie that was never told"
    promises, tasks = await left_at(server, run)
    assert len(promises) == 8 * count
    assert {promise.state for promise in promises} == {PromiseState.RESOLVED}, "one was rejected"
    assert sum(task.state is TaskState.FULFILLED for task in tasks) >= 2 * count
    assert {task.state for task in tasks} == {TaskState.FULFILLED}


async def check_rate_is_normal(proxy: LyingProxy) -> None:
    """Nothing is asked for any more but the streams themselves."""
    before, began_s = proxy.requests, time.monotonic()
    await asyncio.sleep(2.0)
    assert (proxy.requests - before) / (time.monotonic() - began_s) < 5


async def left_at(server: CurrentServer, run: str) -> tuple[list[Promise], list[Task]]:
    """The promises and tasks of a run, as the server itself shows them."""
    store = current_store(HttpSession(server.url), ttl_s=5.0)
    await store.open()
    promises: list[Promise] = []
    tasks: list[Task] = []
    cursor: str | None = None
    while True:
        page = await store.call(PromiseSearch(limit=1000, cursor=cursor))
        promises += page.promises
        cursor = page.cursor
        if cursor is None:
            break
    while True:
        page = await store.call(TaskSearch(limit=1000, cursor=cursor))
        tasks += page.tasks
        cursor = page.cursor
        if cursor is None:
            break
    await store.close()
    return (
        [promise for promise in promises if promise.id.startswith(run)],
        [task for task in tasks if task.id.startswith(run)],
    )


@pytest.mark.timeout(120)
async def test_executions_behind_a_lying_proxy_all_end_right(server: CurrentServer) -> None:
    await behind_lies(server, 40, 5.0, 0.12)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_two_hundred_executions_behind_a_lying_proxy_for_a_minute(
    server: CurrentServer,
) -> None:
    await behind_lies(server, 200, 55.0, 0.1)
