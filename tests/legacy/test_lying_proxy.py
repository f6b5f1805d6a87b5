"""Trouble is not an outcome (law 8): executions on a legacy server behind a proxy that lies."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.legacy.opening import make_store, opened
from tests.peers import legacy_server as peer
from tests.remote.lying_proxy import LIES, LyingProxy

from resonate_aio import Context, Resonate
from resonate_aio.protocol.records import PromiseState
from resonate_aio.protocol.requests import PromiseSearch


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


async def check_rate_is_normal(proxy: LyingProxy) -> None:
    """Nothing is asked for any more but the streams themselves."""
    before, began_s = proxy.requests, time.monotonic()
    await asyncio.sleep(2.0)
    assert (proxy.requests - before) / (time.monotonic() - began_s) < 5


async def behind_lies(folder: Path, count: int, seconds: float, lies: float) -> None:
    """Run so many executions, begun evenly over this time, and check what became of them."""
    if peer.program() is None:
        pytest.skip(peer.ABSENT)
    server = peer.LegacyServer(folder, "--aio-poll-ttr", "200ms", "--aio-poll-ttc", "1s")
    server.start()
    try:
        async with LyingProxy("127.0.0.1", server.port, lies=lies, cut_every_s=3.0) as proxy:
            first = Resonate(url=proxy.url, group="first", ttl=5)
            other = Resonate(url=proxy.url, group="other", ttl=5)
            first.register(in_steps)
            other.register(doubled)
            async with first, other:
                handles = []
                for n in range(count):
                    handles.append(first.begin_run(f"lied-to-{n}", in_steps, n))
                    await asyncio.sleep(seconds / count)
                results = [await handle.result(60) for handle in handles]
                assert results == [2 * (n + 5) for n in range(count)]
                proxy.lies = 0.0
                await asyncio.sleep(1.0)
                await check_rate_is_normal(proxy)
        assert {lie for lie in LIES if proxy.told[lie]} == set(LIES), "a lie that was never told"
        async with opened(make_store(server.url)) as store:
            for state in PromiseState:
                if state is not PromiseState.RESOLVED:
                    assert (await store.call(PromiseSearch(state))).promises == ()
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_executions_behind_a_lying_proxy_all_end_right(tmp_path: Path) -> None:
    await behind_lies(tmp_path, 40, 5.0, 0.12)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_two_hundred_executions_behind_a_lying_proxy_for_a_minute(tmp_path: Path) -> None:
    await behind_lies(tmp_path, 200, 55.0, 0.1)
