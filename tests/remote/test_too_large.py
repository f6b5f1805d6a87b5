"""Requests that are too long for a server: S24 of a step, an error of a call, law 8 of the rest.

Servers refuse a long body before they read it: with 413 and a line of text, no envelope.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from tests.peers.current_server import CurrentServer
from tests.remote.rules import LENIENT, NEWEST, SimRules
from tests.remote.world import World

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateStoreError
from resonate_aio.protocol.records import PromiseState
from resonate_aio.protocol.requests import TaskHeartbeat, TaskRef
from resonate_aio.stores.remote import RemoteStore

LIMIT = 100_000
LARGE = "x" * 150_000
WAIT_S = 20.0


def limited(seen: Counter[str], limit: int = LIMIT) -> Callable[[str, Any], str]:
    """A server that reads no body which is longer; what it refused is counted."""

    def fault(kind: str, data: Any) -> str:
        if len(orjson.dumps(data)) <= limit:
            return ""
        seen[f"{kind} {data.get('action', {}).get('kind', '')}".strip()] += 1
        return "413"

    return fault


async def failure(work: Any) -> ResonateStoreError:
    with pytest.raises(ResonateStoreError) as caught:
        await work
    assert caught.value.code == 413
    assert "bytes is larger than the server" in str(caught.value)
    assert "keep what is large elsewhere" in str(caught.value)
    return caught.value


@pytest.mark.parametrize("rules", [LENIENT, NEWEST])
def test_what_is_too_long_is_refused_once_where_it_was_asked(rules: SimRules) -> None:
    """S24: a step's result or argument is its failure, in the body; nothing is sent twice."""
    world = World(rules)
    refused: Counter[str] = Counter()
    starts: Counter[str] = Counter()
    client = world.client()

    async def large(ctx: Context) -> str:
        starts[ctx.id] += 1
        return LARGE

    @client.register
    async def there(ctx: Context, text: str) -> int:
        return len(text)

    @client.register
    async def flow(ctx: Context) -> list[str]:
        steps = (lambda: ctx.run(large), lambda: ctx.rpc("there", LARGE))
        return [str(await failure(step())) for step in steps]

    @client.register
    async def too_large(ctx: Context) -> str:
        return LARGE

    async def main() -> list[str]:
        async with client:
            world.net.fault = limited(refused)
            seen: list[str] = await client.run("x", flow)
            await failure(client.run("y", too_large))
            await failure(client.run("z", there, LARGE))
            await failure(client.rpc("w", "there", LARGE))
            await client.promises.create("p", timeout_in=60)
            await failure(client.promises.resolve("p", value=LARGE))
            await failure(client.promises.create("q", timeout_in=60, value=LARGE))
            return seen

    recorded, created = world.run(main)
    assert "refused to record 'x.1'" in recorded
    assert "refused to create 'x.2'" in created
    assert refused == {
        "task.fence promise.settle": 1,
        "task.fence promise.create": 1,
        "task.fulfill promise.settle": 1,
        "task.create promise.create": 1,
        "promise.create": 2,
        "promise.settle": 1,
    }
    assert starts == {"x.1": 1}
    states = {id: world.promise(id).state for id in ("x", "x.1", "x.2", "y", "p")}
    rejected, pending = PromiseState.REJECTED, PromiseState.PENDING
    assert states == {
        "x": PromiseState.RESOLVED,
        "x.1": rejected,
        "x.2": rejected,
        "y": rejected,
        "p": pending,
    }
    assert not {"z", "w", "q"} & world.server.machine.promises.keys()


@pytest.mark.parametrize(("status", "size"), [("413", 1000), ("400", 150_000), ("422", 150_000)])
def test_what_may_be_a_proxys_fault_is_no_outcome(
    status: str, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Law 8. A bare 400 is what a server says of a body that was cut on its way."""
    world = World()
    client = world.client()
    left = [status] * 5

    @client.register
    async def flow(ctx: Context) -> int:
        return len(await ctx.run(step))

    async def step(ctx: Context) -> str:
        return "x" * size

    def fault(kind: str, data: Any) -> str:
        return left.pop() if left and kind == "task.fence" else ""

    async def main() -> int:
        async with client:
            world.net.fault = fault
            return int(await client.run("x", flow))

    assert world.run(main) == size
    assert not left
    (warning, *_) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert f"status {status} for " in warning.getMessage()
    assert "is it a Resonate server?" in warning.getMessage()


def test_a_heartbeat_that_is_too_long_is_sent_in_parts() -> None:
    """Law 7: tasks are many, leases must not end for it."""
    world = World()
    ids = [f"{n:02}".ljust(8_000, "i") for n in range(20)]
    refused: Counter[str] = Counter()

    async def beat(store: RemoteStore) -> int:
        refs = tuple([TaskRef(id, await world.held(store, id)) for id in ids])
        world.net.fault = limited(refused, 70_000)
        began_ms = world.clock.now_ms()
        assert (await store.call(TaskHeartbeat("p", refs))).status == 200
        return began_ms

    began_ms = world.with_store(beat)
    assert refused == {"task.heartbeat": 3}, "halves of halves pass"
    assert world.kinds()["task.heartbeat"] == 4
    expiries = [world.task(id).expires_at_ms for id in ids]
    assert min(expiries) >= began_ms + 10_000


def test_a_short_heartbeat_that_is_refused_is_a_lost_one(caplog: pytest.LogCaptureFixture) -> None:
    """Law 8: it is no outcome, and the next is due soon."""
    world = World()

    async def beat(store: RemoteStore) -> int:
        ref = TaskRef("x", await world.held(store, "x"))
        world.net.fault = lambda kind, data: "413" if kind == "task.heartbeat" else ""
        reply = await store.call(TaskHeartbeat("p", (ref,)))
        world.net.fault = None
        assert (await store.call(TaskHeartbeat("p", (ref,)))).status == 200
        return reply.status

    assert world.with_store(beat) == 503
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_stop_does_not_wait_for_what_a_server_will_not_read() -> None:
    world = World()
    client = world.client()

    @client.register
    async def flow(ctx: Context) -> str:
        return LARGE

    async def main() -> float:
        await client.start()
        world.net.fault = limited(Counter())
        await failure(client.run("x", flow))
        began_s = world.loop.time()
        await client.stop()
        return world.loop.time() - began_s

    assert world.run(main) < 2


async def test_every_server_says_what_is_too_long(server: CurrentServer) -> None:
    """S24, on real servers: 2 MiB is the limit of some, 4 MiB that of ours."""
    large = "x" * 3_500_000
    client = Resonate(url=server.url, group="large")
    starts: Counter[str] = Counter()

    async def step(ctx: Context) -> str:
        starts[ctx.id] += 1
        return large

    @client.register
    async def flow(ctx: Context, text: str = "") -> float:
        with pytest.raises(ResonateStoreError) as caught:
            await ctx.run(step)
        assert "refused to record" in str(caught.value)
        return caught.value.code

    async with client:
        assert await client.run("kept", flow).result(WAIT_S) == 413
        for call in (
            lambda: client.run("long", flow, large).result(WAIT_S),
            lambda: client.rpc("longer", "flow", large).result(WAIT_S),
            lambda: client.promises.create("longest", timeout_in=60, value=large),
        ):
            with pytest.raises(ResonateStoreError) as refused:
                await call()
            assert refused.value.code == 413
    assert starts == {"kept.1": 1}
