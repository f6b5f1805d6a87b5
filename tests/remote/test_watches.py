"""Who waits for a promise on a current server is told, whatever is lost on the way (S63)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.remote.rules import LENIENT, NEWEST, SimRules
from tests.remote.world import EXTERNAL, World
from tests.stores.drive import Inbox, ok

from resonate_aio.errors import ResonateStoreError
from resonate_aio.protocol.records import PromiseState, Value
from resonate_aio.protocol.requests import (
    PromiseCreate,
    PromiseSettle,
)
from resonate_aio.stores.remote import RemoteStore


def test_a_lost_unblock_is_made_up_for() -> None:
    """§6: nothing but the listener's own asking recovers it."""
    world = World()
    told = Inbox()

    async def wait(store: RemoteStore) -> float:
        store.subscribe("g", "p", Inbox())
        await ok(store, PromiseCreate("x", world.far_ms(), tags=EXTERNAL))
        store.watch("x", told)
        await asyncio.sleep(1)
        world.server.streams.clear()  # the message goes nowhere, and nobody notices
        settle_at_server(world, "x")
        began_s = world.loop.time()
        while not told.seen:  # noqa: ASYNC110  virtual time
            await asyncio.sleep(0.1)
        return world.loop.time() - began_s

    assert world.with_store(wait) < 90
    assert [promise.id for promise in told.seen] == ["x"]


def settle_at_server(world: World, id: str) -> None:
    settle = PromiseSettle(id, PromiseState.RESOLVED, Value(data="1"))
    assert world.server.machine.handle(settle, world.clock.now_ms()).status == 200
    world.server._effects()


def test_after_a_reconnect_every_listener_is_registered_anew() -> None:
    world = World()
    told = Inbox()

    async def wait(store: RemoteStore) -> float:
        store.subscribe("g", "p", Inbox())
        for n in range(5):
            await ok(store, PromiseCreate(f"x{n}", world.far_ms(), tags=EXTERNAL))
            store.watch(f"x{n}", told)
        await asyncio.sleep(1)
        stream = world.server.streams.pop(("g", "p"))
        settle_at_server(world, "x3")
        began_s = world.loop.time()
        stream.cut()
        while not told.seen:  # noqa: ASYNC110  virtual time
            await asyncio.sleep(0.05)
        return world.loop.time() - began_s

    assert world.with_store(wait) < 1
    assert [promise.id for promise in told.seen] == ["x3"]


def test_a_promise_that_is_not_there_is_an_error_for_who_waits() -> None:
    world = World()
    client = world.client()

    async def main() -> Any:
        async with client:
            await client.promises.create("gone", timeout_in=3600)
            handle = await client.get("gone").created()
            await asyncio.sleep(1)
            world.server.machine.promises.pop("gone")
            with pytest.raises(ResonateStoreError, match="does not exist") as caught:
                await handle
            return caught.value.code

    assert world.run(main) == 404


def test_watches_are_bounded_in_number_under_way() -> None:
    world = World()
    most = now = 0

    async def wait(store: RemoteStore) -> int:
        nonlocal most
        carry = world.net.carry

        async def counted(body: bytes, answer_s: float) -> Any:
            nonlocal now, most
            now += 1
            most = max(most, now)
            try:
                return await carry(body, answer_s)
            finally:
                now -= 1

        world.net.carry = counted  # type: ignore[method-assign]
        store.subscribe("g", "p", Inbox())
        for n in range(500):
            store.watch(f"x{n}", Inbox())
        await asyncio.sleep(30)
        return most

    assert world.with_store(wait) <= 16


@pytest.mark.parametrize("rules", [LENIENT, NEWEST], ids=["sweeps all", "sweeps targeted"])
def test_a_deadline_is_looked_at_when_it_comes(rules: SimRules) -> None:
    """S63: nobody may sweep it, and the next ordinary look may be far."""
    world = World(rules)
    told = Inbox()

    async def wait(store: RemoteStore) -> float:
        store.subscribe("g", "p", Inbox())
        await ok(store, PromiseCreate("x", world.clock.now_ms() + 5_000, tags=EXTERNAL))
        store.watch("x", told)
        before = len(world.server.requests)
        while not told.seen:  # noqa: ASYNC110  virtual time
            await asyncio.sleep(0.1)
        assert len(world.server.requests) - before <= 3
        return world.loop.time()

    assert 5 <= world.with_store(wait) < 6.5
    assert [promise.state for promise in told.seen] == [PromiseState.TIMEDOUT]


def test_a_server_whose_clock_is_behind_is_not_asked_every_second() -> None:
    """S63: it judges; how far it is behind nobody knows."""
    world = World(NEWEST)
    world.server.skew_ms = -600_000
    told = Inbox()

    async def wait(store: RemoteStore) -> float:
        store.subscribe("g", "p", Inbox())
        await ok(store, PromiseCreate("x", world.clock.now_ms() + 5_000, tags=EXTERNAL))
        store.watch("x", told)
        before = len(world.server.requests)
        while not told.seen:  # noqa: ASYNC110  virtual time
            await asyncio.sleep(0.1)
        assert len(world.server.requests) - before < 40
        return world.loop.time()

    assert 605 <= world.with_store(wait) < 605 + 90
