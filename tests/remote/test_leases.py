"""Leases on a current server: kept, lost and given back (S13, S60)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from tests.remote.rules import LENIENT, NEWEST, SimRules
from tests.remote.world import World
from tests.stores.drive import Inbox, fence_create, fulfill, ok

from resonate_aio.protocol.dialects import Dialect, origin_of
from resonate_aio.protocol.records import Promise
from resonate_aio.protocol.requests import (
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
)
from resonate_aio.stores.base import LOST
from resonate_aio.stores.remote import RemoteStore


def beats(world: World) -> list[list[str]]:
    return [
        [task["id"] for task in data["tasks"]]
        for kind, data in world.server.requests
        if kind == "task.heartbeat"
    ]


def test_heartbeats_keep_leases_one_origin_at_a_time_and_are_never_empty() -> None:
    world = World(NEWEST)
    ids = ["a", "b", "c.1", "c.2"]

    async def hold(store: RemoteStore) -> list[int]:
        for id in ids:
            await world.held(store, id)
        await asyncio.sleep(60)
        versions = [world.task(id).version for id in ids]
        await store.call(TaskHeartbeat("p", ()))
        return versions

    assert world.with_store(hold) == [1, 1, 1, 1]
    sent = beats(world)
    assert sent
    assert all(len({origin_of(id, Dialect.DOT) for id in group}) == 1 for group in sent)
    assert all(sent)
    assert ["c.1", "c.2"] in sent


def test_one_heartbeat_for_all_where_the_server_takes_it() -> None:
    world = World(LENIENT)

    async def hold(store: RemoteStore) -> None:
        for n in range(50):
            await world.held(store, f"x{n}")
        await asyncio.sleep(60)

    world.with_store(hold)
    assert max(map(len, beats(world))) == 50
    assert len(beats(world)) <= 60 / (10 / 3) * 1.5
    assert {world.task(f"x{n}").version for n in range(50)} == {1}


def test_origins_that_the_server_reads_otherwise_are_sent_one_by_one() -> None:
    world = World(SimRules(origins=Dialect.COLON))

    async def beat(store: RemoteStore) -> int:
        refs = tuple(TaskRef(f"my.{n}", 1) for n in range(3))
        return (await store.call(TaskHeartbeat("p", refs))).status

    assert world.with_store(beat, dialect=Dialect.DOT) == 200
    assert beats(world)[-3:] == [["my.0"], ["my.1"], ["my.2"]]


def test_a_lost_heartbeat_is_followed_by_the_next() -> None:
    world = World()
    fails = iter([True] * 2)

    async def hold(store: RemoteStore) -> Any:
        version = await world.held(store, "x")
        world.net.fault = lambda kind, _: (
            "502" if kind == "task.heartbeat" and next(fails, False) else ""
        )
        await asyncio.sleep(30)
        return await fulfill(store, "x", version)

    assert isinstance(world.with_store(hold), Promise)
    assert world.task("x").version == 1


def test_heartbeats_do_not_repeat_what_the_log_says_of_an_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()

    async def hold(store: RemoteStore) -> None:
        await world.held(store, "x")
        caplog.clear()
        world.net.is_down = True
        await asyncio.sleep(30)

    with caplog.at_level(logging.DEBUG, "resonate_aio.stores"):
        world.with_store(hold)
    lost = [record for record in caplog.records if "a heartbeat was lost" in record.getMessage()]
    assert len(lost) > 1
    assert {record.levelname for record in lost} == {"DEBUG"}
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert ["connection refused" in text for text in told] == [True]


def test_a_lease_that_ended_is_noticed_within_a_ttl_and_a_bit() -> None:
    """S13, S60: a heartbeat says nothing; the task is read again."""
    world = World()
    lost: list[tuple[str, int]] = []

    async def hold(store: RemoteStore) -> Any:
        store.subscribe("g", "p", Inbox(), None, lambda id, version: lost.append((id, version)))
        version = await world.held(store, "x")
        await asyncio.sleep(20)
        machine = world.server.machine
        assert machine.handle(TaskRelease("x", version), world.clock.now_ms()).status == 200
        began_s = world.loop.time()
        while not lost:  # noqa: ASYNC110  virtual time
            await asyncio.sleep(0.1)
        assert world.loop.time() - began_s < 15
        return await fence_create(store, "x", version, world.child("x.1"))

    assert world.with_store(hold) is LOST
    assert lost == [("x", 1)]


def test_the_holders_name_is_never_used_twice() -> None:
    world = World()
    store = world.store()

    async def main() -> set[str]:
        names = set()
        for n in range(3):
            await store.open()
            await world.held(store, f"x{n}")
            names.add(world.task(f"x{n}").pid)
            await store.close()
        return names

    names = world.run(main)
    assert len(names) == 3
    assert all(name.startswith("p~") for name in names)


def test_what_is_on_the_way_arrives_before_a_task_is_given_back() -> None:
    world = World()

    async def give_back(store: RemoteStore) -> None:
        version = await world.held(store, "x")
        acked: list[Any] = []
        for n in range(20):
            child = world.child(f"x.{n}")
            store.fence_create("x", version, child, lambda _, got: acked.append(got), n)
        await ok(store, TaskRelease("x", version))
        assert len(acked) == 20

    world.with_store(give_back)
    assert all(f"x.{n}" in world.server.machine.promises for n in range(20))
