"""Programs on every server of the current protocol that is present, over real sockets."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from typing import Any

import pytest
from tests.peers.current_server import CurrentServer

from resonate_aio import Context, Resonate
from resonate_aio.protocol.records import PromiseState
from resonate_aio.protocol.requests import TaskGet

WAIT_S = 30.0


class Chain:
    """Two clients of one server, and the functions they call each other with."""

    def __init__(self, url: str, ttl_s: float = 10.0) -> None:
        self.run = uuid.uuid4().hex[:8]
        self.starts: Counter[str] = Counter()
        self.first = Resonate(url=url, group=f"First{self.run}", ttl=ttl_s)
        self.second = Resonate(url=url, group=f"second{self.run}", ttl=ttl_s)
        for function in (self.whole, self.approval, self.fan_out, self.nap):
            self.first.register(function)
        self.second.register(self.doubled)
        self.second.register(self.fails)

    async def step(self, ctx: Context, n: int) -> int:
        self.starts[ctx.id] += 1
        return n + 1

    async def whole(self, ctx: Context, n: int) -> dict[str, Any]:
        for _ in range(5):
            n = await ctx.run(self.step, n)
        n = await ctx.rpc("doubled", n).options(target=f"second{self.run}")
        await ctx.sleep(1)
        try:
            await ctx.rpc("fails", n).options(target=f"second{self.run}")
        except ValueError as error:
            return {"n": n, "error": str(error)}
        return {"n": n}

    async def fan_out(self, ctx: Context, count: int) -> int:
        calls = [ctx.run(self.step, n) for n in range(count)]
        remote = [ctx.rpc("doubled", n).options(target=f"second{self.run}") for n in range(count)]
        return sum(await asyncio.gather(*calls, *remote))

    async def approval(self, ctx: Context) -> str:
        self.starts[ctx.id] += 1
        promise = await ctx.promise(timeout=60)
        return str(await promise)

    async def nap(self, ctx: Context, seconds: float) -> str:
        self.starts[ctx.id] += 1
        await ctx.sleep(seconds)
        return "rested"

    def doubled(self, ctx: Context, n: int) -> int:
        self.starts[ctx.id] += 1
        return 2 * n

    async def fails(self, ctx: Context, n: int) -> int:
        raise ValueError(f"no {n}")

    def id(self, name: str) -> str:
        return f"{name}-{self.run}"


@pytest.fixture
def chain(server: CurrentServer) -> Chain:
    return Chain(server.url)


async def test_the_whole_chain(chain: Chain) -> None:
    """Five steps, an rpc to another group, a sleep, an error that crosses over."""
    async with chain.first, chain.second:
        handle = chain.first.begin_run(chain.id("whole"), chain.whole, 1)
        assert await handle.result(WAIT_S) == {"n": 12, "error": "no 12"}
    assert set(chain.starts.values()) == {1}


async def test_hundreds_of_calls_side_by_side(chain: Chain) -> None:
    async with chain.first, chain.second:
        handle = chain.first.begin_run(chain.id("fan"), chain.fan_out, 60)
        assert await handle.result(WAIT_S) == sum(n + 1 + 2 * n for n in range(60))
    assert set(chain.starts.values()) == {1}


async def test_fifty_executions_at_once(chain: Chain) -> None:
    async with chain.first, chain.second:
        ids = [chain.id(f"x{n}") for n in range(50)]
        handles = [chain.first.begin_run(id, chain.whole, 0) for id in ids]
        results = [await handle.result(WAIT_S) for handle in handles]
    assert results == [{"n": 10, "error": "no 10"}] * 50


async def test_a_person_is_waited_for_longer_than_a_lease(server: CurrentServer) -> None:
    """S64: whether the server has the execution parked or not, nobody can tell from outside."""
    chain = Chain(server.url, ttl_s=1.0)
    ids = [chain.id(f"ask{n}") for n in range(20)]
    async with chain.first, chain.second:
        waiting = [chain.first.begin_run(id, chain.approval) for id in ids]
        naps = [chain.first.begin_run(chain.id(f"nap{n}"), chain.nap, 5) for n in range(5)]
        await asyncio.sleep(4)
        for id in ids:
            await chain.second.promises.resolve(f"{id}.1", value="yes")
        assert [await handle.result(WAIT_S) for handle in waiting] == ["yes"] * 20
        assert [await handle.result(WAIT_S) for handle in naps] == ["rested"] * 5
    assert set(chain.starts.values()) == {1}, "no frame was replayed"


async def test_the_same_id_again_is_the_same_outcome(chain: Chain) -> None:
    async with chain.first, chain.second:
        id = chain.id("twice")
        first = await chain.first.begin_run(id, chain.whole, 1).result(WAIT_S)
        again = await chain.first.begin_run(id, chain.whole, 1).result(WAIT_S)
        elsewhere = await chain.second.get(id).result(WAIT_S)
        assert first == again == elsewhere
        joined = [chain.second.get(id), chain.first.get(id)]
        assert [await handle.result(WAIT_S) for handle in joined] == [first, first]


async def test_promises_by_hand(chain: Chain) -> None:
    async with chain.first as client:
        id = chain.id("by/hand %2F")
        made = await client.promises.create(id, timeout_in=60, value={"a": 1})
        assert made.param.data == '{"a":1}'
        handle = client.get(id)
        await client.promises.reject(id, value="no")
        assert (await client.promises.get(id)).state is PromiseState.REJECTED
        with pytest.raises(Exception, match="no"):
            await handle.result(WAIT_S)
        late = await client.promises.create(chain.id("late"), timeout_in=0.5)
        assert late.state is PromiseState.PENDING
        with pytest.raises(Exception, match="timed out"):
            await client.get(late.id).result(WAIT_S)


async def test_tasks_end_with_their_executions(chain: Chain) -> None:
    async with chain.first, chain.second:
        id = chain.id("ended")
        await chain.first.begin_run(id, chain.whole, 1).result(WAIT_S)
        reply = await chain.first._core.store.call(TaskGet(id))
        assert reply.task is not None
        assert (reply.task.state, reply.task.version) == ("fulfilled", 1)
