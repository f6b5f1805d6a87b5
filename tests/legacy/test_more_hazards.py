"""Hazards 10 to 16 of legacy-protocol appendix A: leases, streams, targets, ids."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web
from tests.legacy.drive import (
    RESOLVED,
    Worker,
    create,
    fulfill,
    hold,
    in_ms,
    record,
    root,
    settle,
    target,
    until,
)
from tests.legacy.fake_server import FakeServer
from tests.legacy.opening import MakeStore, make_store

from resonate_aio import Context, Resonate
from resonate_aio.protocol.records import EMPTY, Promise, PromiseState, Value
from resonate_aio.protocol.requests import (
    Execute,
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    ScheduleCreate,
    TaskAcquire,
    TaskCreate,
    TaskGet,
    TaskHeartbeat,
    TaskRef,
)
from resonate_aio.stores.base import LOST


async def connected(server: FakeServer, group: str = "g", pid: str = "p") -> None:
    await until(lambda: (group, pid) in server.streams, "a stream")


def root_of(id: str) -> PromiseCreate:
    return root(id)


# -- hazard 10: heartbeats tell of lost leases


async def beat(store: Any) -> None:
    assert (await store.call(TaskHeartbeat("p", (TaskRef("r", 1),)))).status == 200


async def test_hazard_10_one_heartbeat_extends_every_lease_of_the_holder(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    worker = Worker(store)
    for number in range(3):
        await hold(store, f"r{number}")
    before = {id: task.expires for id, task in server.tasks.items()}
    await asyncio.sleep(0.01)
    await beat(store)
    assert all(task.expires > before[id] for id, task in server.tasks.items())
    assert len(server.asked("POST", "/tasks/heartbeat")) == 1
    assert worker.lost == []


async def test_hazard_10_a_lease_that_is_missing_is_found_and_told(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    worker = Worker(store)
    task = await hold(store, "r")
    kept = await hold(store, "kept")
    server.lapse("__invoke:r")
    server._claim(server.tasks["__invoke:r"], "another", 10_000)
    await beat(store)
    await until(lambda: worker.lost, "the loss")
    assert worker.lost == [("r", task.version)]
    assert await create(store, task, record("r.1", "r")) is LOST
    assert await create(store, kept, record("kept.1", "kept")) is not LOST
    assert server.tasks["__invoke:r"].process == "another"


async def test_hazard_10_where_nobody_can_tell_which_all_are_given_up(
    server: FakeServer, open_store: MakeStore
) -> None:
    """S66: a server that does not fence."""
    server.fences = False
    store = await open_store()
    worker = Worker(store)
    await hold(store, "r")
    kept = await hold(store, "kept")
    server.lapse("__invoke:r")
    server._claim(server.tasks["__invoke:r"], "another", 10_000)
    await beat(store)
    await until(lambda: len(worker.lost) == 2, "both losses")
    assert await create(store, kept, record("kept.1", "kept")) is LOST
    # What was ours all the same goes on at once, what is another's stays with it.
    await until(lambda: server.tasks["__invoke:kept"].counter == 2, "the drop")
    assert server.tasks["__invoke:r"].process == "another"


async def test_hazard_10_what_is_claimed_while_doubts_are_looked_into_is_not_in_doubt(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    worker = Worker(store)
    task = await hold(store, "r")
    server.lapse("__invoke:r")

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        if (request.method, request.path) == ("GET", "/promises/r"):
            server.meddle = None
            await hold(store, "new")
        return None

    server.meddle = meddle
    await beat(store)
    await until(lambda: worker.lost)
    assert worker.lost == [("r", task.version)]
    assert server.tasks["__invoke:new"].state == "CLAIMED"
    lease = await store.call(TaskGet("new"))
    assert lease.task is not None
    assert await create(store, lease.task, record("new.1", "new")) is not LOST


async def test_hazard_10_a_root_settled_by_others_is_taken_not_lost(
    server: FakeServer, open_store: MakeStore
) -> None:
    """S13: at the latest with the next heartbeat, also when no message comes."""
    store = await open_store()
    worker = Worker(store)
    task = await hold(store, "r")
    server._complete("r", {"state": "REJECTED_CANCELED"}, {})
    await beat(store)
    await until(lambda: worker.taken, "the end")
    assert [(promise.id, promise.state) for promise in worker.taken] == [
        ("r", PromiseState.CANCELED)
    ]
    assert worker.lost == []
    assert await create(store, task, record("r.1", "r")) is LOST


async def test_a_root_held_for_longer_than_a_beat_is_listened_to(
    server: FakeServer, open_store: MakeStore
) -> None:
    """S13: then its holder hears at once when somebody settles it."""
    store = await open_store()
    worker = Worker(store)
    await connected(server)
    await hold(store, "r")
    await beat(store)
    await beat(store)
    await until(lambda: server.callbacks, "the subscription")
    server._complete("r", {"state": "REJECTED_CANCELED"}, {})
    await until(lambda: worker.taken, "the end")


async def test_a_task_offered_again_is_lost_before_it_is_delivered(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    worker = Worker(store)
    await connected(server)
    task = await hold(store, "r")
    server.lapse("__invoke:r")
    server.send_tasks()
    await until(lambda: worker.messages, "the message")
    assert worker.lost == [("r", task.version)]
    message = worker.messages[0]
    assert isinstance(message, Execute)
    assert message.version > task.version
    reply = await store.call(TaskAcquire("r", message.version, "p", 1000))
    assert reply.status == 200


# -- hazard 11: streams


async def test_hazard_11_a_stream_that_ends_is_opened_again(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    worker = Worker(store)
    for number in range(3):
        await connected(server)
        await store.call(root_of(f"r{number}"))
        await until(lambda: worker.messages, "the message")
        worker.messages.clear()
        server.cut_streams()


async def test_hazard_11_a_server_without_room_is_not_hammered(
    server: FakeServer, open_store: MakeStore
) -> None:
    """At its most connections it answers 200 and ends the stream at once."""
    server.has_room = False
    store = await open_store()
    began_s = time.monotonic()
    Worker(store)
    await until(lambda: server.connects >= 10)
    # Delays of 5 to 50 ms here, of 0.1 to 10 s as a rule.
    assert time.monotonic() - began_s > 0.1
    server.has_room = True
    worker = Worker(store, "g", "q")
    await connected(server, "g", "q")
    await store.call(root_of("r"))
    await until(lambda: server.tasks["__invoke:r"].state == "ENQUEUED")
    assert worker.lost == []


async def test_the_poll_port_is_used_where_the_api_port_has_no_stream(
    server: FakeServer, open_store: MakeStore
) -> None:
    """Servers before v0.7.15 (legacy-protocol §4.1)."""
    server.has_poll = False
    store = await open_store()
    worker = Worker(store)
    await connected(server)
    await store.call(root_of("r"))
    await until(lambda: worker.messages, "the message")


async def test_ids_of_groups_and_processes_are_percent_encoded(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    Worker(store, "g", "a/b c?d")
    await connected(server, "g", "a/b c?d")


# -- hazard 12: workers are connected before there is work


async def test_hazard_12_the_first_task_waits_for_the_stream(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    Worker(store)
    streams_then: list[int] = []

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        if request.path == "/promises/task":
            streams_then.append(len(server.streams))
        return None

    server.meddle = meddle
    await hold(store, "r")
    assert streams_then == [1]


async def test_hazard_12_but_not_for_long(open_store: MakeStore, server: FakeServer) -> None:
    server.has_poll = False
    store = await open_store()
    store._messages._make_source = _deaf
    Worker(store)
    async with asyncio.timeout(5):
        await hold(store, "r")


class _Deaf:
    async def start(self, *_: Any) -> None: ...

    async def stop(self) -> None: ...


def _deaf(_: Any) -> _Deaf:
    return _Deaf()


# -- hazard 13: where calls go when nobody says where


async def test_hazard_13_run_goes_to_the_own_group_and_rpc_to_the_default_one(
    server: FakeServer,
) -> None:
    """S65, on purpose: SDK 0.6.7 sends both to group `default`."""
    resonate = Resonate(store=make_store(server.url), group="mine", pid="me")

    @resonate.register
    async def caller(ctx: Context) -> str:
        await ctx.detached("somewhere")
        await ctx.detached("elsewhere").options(target="there")
        return "done"

    async with resonate:
        assert await resonate.run("ran", caller) == "done"
        await resonate.begin_rpc("called", "somewhere").created()
    targets = {id: p.tags.get("resonate:invoke") for id, p in server.promises.items()}
    assert targets == {
        "ran": "poll://any@mine/me",
        "ran.1": "poll://any@default",
        "ran.2": "poll://any@there",
        "called": "poll://any@default",
    }


# -- hazard 14: what stops a server is never sent


async def test_hazard_14_nothing_is_sent_that_stops_the_server(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    tags = {"resonate:target": '{"type":"poll","data":{"group":"g"}}'}
    assert (await store.call(PromiseCreate("a", in_ms(), EMPTY, tags))).status == 400
    create = PromiseCreate("a", in_ms(), EMPTY, tags)
    assert (await store.call(TaskCreate("p", 1000, create))).status == 400
    schedule = ScheduleCreate("s", "* * * * *", "{{.x", 1000, EMPTY, target())
    assert (await store.call(schedule)).status == 400
    itself = PromiseRegisterCallback("a", "a")
    assert (await store.call(itself)).status == 400
    assert server.seen == []


# -- hazard 16: any id


@pytest.mark.parametrize("id", ["a/b", "a?b#c%2Fd", "käse & 日本", "..", "/", "a\nb", " a ", "a+b"])
async def test_hazard_16_any_id_can_be_used(
    server: FakeServer, open_store: MakeStore, id: str
) -> None:
    store = await open_store()
    task = await hold(store, id)
    made = await create(store, task, record(f"{id}.1", id))
    assert isinstance(made, Promise)
    assert made.id == f"{id}.1"
    assert await settle(store, task, f"{id}.1") is not LOST
    outcome = await fulfill(store, task, RESOLVED, Value({"h": "1"}, '"ä"'))
    assert isinstance(outcome, Promise)
    assert outcome.value == Value({"h": "1"}, '"ä"')
    assert (await store.call(PromiseGet(id))).promise == outcome
    assert [promise.id for promise in await store.load(id)] == [f"{id}.1"]
