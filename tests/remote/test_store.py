"""The store of a current server: what goes over the wire, trouble, and its life."""

from __future__ import annotations

import asyncio
import logging
import socket
from random import Random
from typing import Any

import pytest
from tests.remote.rules import SimRules
from tests.remote.sim import SimNet, SimServer, remote_store
from tests.remote.world import World
from tests.stores.drive import Inbox, ok

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateStoreError, UsageError
from resonate_aio.protocol.dialects import Dialect
from resonate_aio.protocol.records import PromiseState, Value
from resonate_aio.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    TaskAcquire,
    TaskCreate,
    TaskRelease,
)
from resonate_aio.server.server import Server
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.remote import RemoteStore

# -- what it costs


def test_two_requests_for_a_step_and_four_for_an_rpc() -> None:
    world = World()
    ours, other = world.client("ours"), world.client("other")

    async def step(ctx: Context) -> int:
        return 1

    @ours.register
    async def flow(ctx: Context, steps: int, rpcs: int) -> int:
        for _ in range(steps):
            await ctx.run(step)
        for _ in range(rpcs):
            await ctx.rpc("there").options(target="other")
        return 1

    @other.register
    async def there(ctx: Context) -> int:
        return 1

    async def main() -> list[int]:
        counts = []
        async with ours, other:
            await asyncio.sleep(1)  # each client asks the server once what it allows
            for n, (steps, rpcs) in enumerate([(0, 0), (10, 0), (0, 10)]):
                before = len(world.server.requests)
                await ours.run(f"x{n}", flow, steps, rpcs)
                counts.append(len(world.server.requests) - before)
        return counts

    bare, steps, rpcs = world.run(main)
    assert bare == 2
    assert steps - bare == 2 * 10
    assert rpcs - bare == 4 * 10
    assert "task.heartbeat" not in world.kinds()


def test_a_short_sleep_needs_no_listener_and_is_not_early() -> None:
    world = World()
    client = world.client()

    @client.register
    async def flow(ctx: Context) -> None:
        await ctx.sleep(2)

    async def main() -> float:
        async with client:
            await client.run("x", flow)
            return world.loop.time()

    assert 2.0 <= world.run(main) < 2.3, "it does not wait for the server's sweep"
    assert world.kinds()["promise.register_listener"] == 0
    assert world.kinds()["promise.get"] == 1


@pytest.mark.parametrize("skew_ms", [-5000, -20, 0, 20, 1500])
def test_the_servers_clock_judges_deadlines(skew_ms: int) -> None:
    """S63: our timer only makes us ask; nothing is cancelled because our clock is ahead."""
    world = World()
    world.server.skew_ms = skew_ms
    client = world.client()

    async def hang(ctx: Context) -> None:
        await asyncio.sleep(3600)

    @client.register
    async def flow(ctx: Context) -> list[str]:
        seen = []
        for call in (ctx.run(hang).options(timeout=3), ctx.rpc("nobody").options(timeout=3)):
            try:
                await call
            except Exception as error:  # noqa: BLE001  its name is what the test is about
                seen.append(type(error).__name__)
        await ctx.sleep(3)
        try:
            async with ctx.timeout(3):
                await ctx.run(hang)
        except TimeoutError:
            seen.append("time limit")
        return seen

    async def main() -> Any:
        async with client:
            return await client.run("x", flow)

    expected = ["ResonateTimedoutError", "ResonateTimedoutError", "time limit"]
    assert world.run(main) == expected
    timers = [world.promise(f"x.{n}") for n in (1, 2, 3, 4)]
    assert [promise.state for promise in timers] == [
        *(PromiseState.TIMEDOUT, PromiseState.TIMEDOUT),
        *(PromiseState.RESOLVED, PromiseState.RESOLVED),
    ]
    late_s = max(-skew_ms, 0) / 1000 * 4
    assert world.loop.time() < 12 + late_s + 8


# -- what goes over the wire (S61, S62)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_lineage_of_every_kind_of_call(dialect: Dialect) -> None:
    world = World(SimRules(origins=dialect))
    client = world.client(dialect=dialect)

    async def leaf(ctx: Context) -> int:
        return 1

    async def inner(ctx: Context) -> int:
        return int(await ctx.run(leaf))

    @client.register
    async def there(ctx: Context) -> int:
        return int(await ctx.run(leaf))

    @client.register
    async def flow(ctx: Context) -> int:
        await ctx.run(inner)
        await ctx.rpc("there")
        await ctx.sleep(1)
        await ctx.run(leaf).options(id="other-root")
        await ctx.detached("there")
        return 1

    async def main() -> None:
        async with client:
            await client.run("root", flow)
            await asyncio.sleep(5)

    world.run(main)
    joint = "." if dialect is Dialect.DOT else ":"
    lineage = {
        id: tuple(promise.tags.get(f"resonate:{name}") for name in ("origin", "branch", "parent"))
        for id, promise in world.server.machine.promises.items()
    }
    root = f"root{joint}"
    assert lineage == {
        "root": ("root", "root", "root"),
        f"{root}1": ("root", "root", "root"),
        f"{root}1.1": ("root", "root", f"{root}1"),
        f"{root}2": ("root", f"{root}2", "root"),
        f"{root}2.1": ("root", f"{root}2", f"{root}2"),
        f"{root}3": ("root", "root", "root"),
        f"{root}4": ("root", "root", "root"),
        "other-root": (None, None, None),
        f"{root}5": ("root", f"{root}5", "root"),
        f"{root}5.1": ("root", f"{root}5", f"{root}5"),
    }
    assert world.promise("root").tags["resonate-aio:ids"] == dialect
    states = {promise.state for promise in world.server.machine.promises.values()}
    assert states == {PromiseState.RESOLVED}


def test_a_root_that_does_not_tell_its_dialect_is_asked_for_its_children() -> None:
    """S61: a default that changed must not hide what an execution recorded."""
    world = World()
    for id, joint in (("colon", ":"), ("dot", ".")):
        tags = {"resonate:target": "poll://any@default"}
        param = Value(data='{"func":"flow","args":[],"kwargs":{},"version":1}')
        for request in (
            TaskCreate("gone", 60_000, PromiseCreate(id, world.far_ms(), param, tags)),
            PromiseCreate(f"{id}{joint}1", world.far_ms()),
            TaskRelease(id, 1),
        ):
            assert world.server.machine.handle(request, world.clock.now_ms()).status == 200

    async def take(store: RemoteStore) -> list[str | None]:
        starts = []
        for id in ("colon", "dot"):
            await ok(store, TaskAcquire(id, 1, "p", 1000))
            starts.append(store._fences.start_of(id))
        return starts

    assert world.with_store(take, dialect=Dialect.DOT) == ["colon:", "dot."]


def test_groups_go_out_in_lower_case_for_servers_read_addresses_as_urls() -> None:
    world = World()
    client = world.client("Upper")

    @client.register
    async def flow(ctx: Context) -> int:
        return 7

    async def main() -> Any:
        async with client:
            return await client.options(target="UPPER").rpc("x", "flow")

    assert world.run(main) == 7
    assert world.promise("x").tags["resonate:target"] == "poll://any@upper"


# -- trouble (law 8)


def test_a_server_that_is_away_for_a_minute_changes_nothing() -> None:
    world = World()
    client = world.client(ttl_s=120.0)

    async def leaf(ctx: Context, n: int) -> int:
        await asyncio.sleep(1)
        return n

    @client.register
    async def flow(ctx: Context) -> list[int]:
        return [await ctx.run(leaf, n) for n in range(5)]

    async def main() -> tuple[Any, int]:
        async with client:
            handles = [client.begin_run(f"x{n}", flow) for n in range(20)]
            await asyncio.sleep(2.5)
            world.net.is_down = True
            before = len(world.net.sent)
            await asyncio.sleep(60)
            sent = len(world.net.sent) - before
            world.net.is_down = False
            return [await handle for handle in handles], sent

    results, sent = world.run(main)
    assert results == [[0, 1, 2, 3, 4]] * 20
    assert sent < 60 * 20, "about one try in five seconds for each of what waits"


def test_refused_credentials_are_said_at_once_and_writes_wait_for_better_ones(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    client = world.client(ttl_s=3600.0)

    async def leaf(ctx: Context) -> int:
        await asyncio.sleep(10)
        return 1

    @client.register
    async def flow(ctx: Context) -> int:
        return int(await ctx.run(leaf)) + 1

    async def main() -> tuple[Any, Any, int]:
        async with client:
            handle = client.begin_run("x", flow)
            await asyncio.sleep(5)
            world.net.fault = lambda *_: "401"
            with pytest.raises(ResonateStoreError) as caught:
                await client.promises.get("x")
            before = len(world.net.sent)
            await asyncio.sleep(600)
            sent = len(world.net.sent) - before
            world.net.fault = None
            return caught.value.code, await handle, sent

    with caplog.at_level(logging.ERROR, "resonate_aio.stores"):
        code, result, sent = world.run(main)
    assert (code, result) == (401, 2)
    assert sent < 60
    assert any("what is to be recorded waits" in record.getMessage() for record in caplog.records)


def test_stop_is_bounded_though_the_server_is_gone() -> None:
    world = World()
    client = world.client()

    async def leaf(ctx: Context) -> None:
        await asyncio.sleep(3600)

    @client.register
    async def flow(ctx: Context) -> None:
        await ctx.run(leaf)

    async def main() -> float:
        await client.start()
        client.begin_run("x", flow)
        await asyncio.sleep(5)
        world.net.is_down = True
        began_s = world.loop.time()
        await client.stop()
        return world.loop.time() - began_s

    assert world.run(main) < 30


# -- life


async def test_another_loop_is_refused_until_the_first_is_closed() -> None:
    net = SimNet(SimServer(), Random(1))
    store = remote_store(net)
    await store.open()
    other = asyncio.new_event_loop()

    async def elsewhere() -> None:
        await store.open()

    with pytest.raises(UsageError, match="another event loop"):
        await asyncio.to_thread(other.run_until_complete, elsewhere())
    other.close()
    await store.close()


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, 0.01, float("nan")])
def test_a_lease_that_cannot_be_kept_is_refused(ttl_s: float) -> None:
    with pytest.raises(ValueError, match="ttl"):
        remote_store(SimNet(SimServer(), Random(1)), ttl_s=ttl_s)


def test_a_loop_that_was_closed_under_the_client_is_left_behind() -> None:
    """asyncio.run ended without stop(): the same client works on the next loop."""
    store = MemoryStore()

    async def first_life(client: Resonate) -> Any:
        await client.start()
        return await client.run("a", _double, 1)

    async def second_life(client: Resonate) -> Any:
        async with client:
            return await client.run("b", _double, 2)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    client = Resonate(url=f"http://127.0.0.1:{port}")
    client.register(_double)

    async def with_server(life: Any) -> Any:
        server = Server(store, port=port)
        await server.start()
        try:
            return await life(client)
        finally:
            await server.stop()

    assert asyncio.run(with_server(first_life)) == 2
    assert asyncio.run(with_server(second_life)) == 4


async def _double(ctx: Context, n: int) -> int:
    return 2 * n


def test_what_is_asked_of_a_closed_store_says_so() -> None:
    world = World()

    async def main() -> None:
        store = world.store()
        with pytest.raises(ResonateStoreError, match="not open"):
            await store.call(PromiseGet("x"))
        await store.open()
        await store.close()
        with pytest.raises(ResonateStoreError, match="not open"):
            store.watch("x", Inbox())

    world.run(main)
