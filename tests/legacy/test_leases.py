"""Leases that are lost, run out or are kept, and the order of writes: laws 7, S4, S8, S13."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from tests.legacy.drive import (
    RESOLVED,
    Answers,
    Worker,
    create,
    fulfill,
    hold,
    in_ms,
    record,
    settle,
    until,
    value,
)
from tests.legacy.fake_server import FakeServer
from tests.legacy.opening import MakeStore

from resonate_aio.protocol.records import Promise, PromiseState
from resonate_aio.stores.base import LOST


class ShiftedClock:
    """A wall clock that a test moves on."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return in_ms(0) + self.ahead_ms


# -- law 7: a lease that is lost


async def test_a_fence_that_does_not_hold_loses_the_lease_once(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    worker = Worker(store)
    task = await hold(store, "r")
    server.lapse("__invoke:r")
    both = await asyncio.gather(
        create(store, task, record("r.1", "r")), create(store, task, record("r.2", "r"))
    )
    assert list(both) == [LOST, LOST]
    assert "r.1" not in server.promises
    await until(lambda: worker.lost)
    assert worker.lost == [("r", task.version)]
    asked = len(server.seen)
    assert await settle(store, task, "r.1") is LOST
    assert len(server.seen) == asked


async def test_a_fence_that_fails_because_the_root_was_settled_says_so(
    server: FakeServer, open_store: MakeStore
) -> None:
    """S13: on a write at the latest."""
    store = await open_store()
    worker = Worker(store)
    task = await hold(store, "r")
    server._complete("r", {"state": "REJECTED_CANCELED"}, {})
    assert await create(store, task, record("r.1", "r")) is LOST
    await until(lambda: worker.taken)
    assert worker.taken[0].state is PromiseState.CANCELED
    assert worker.lost == []


async def test_fulfilling_what_others_settled_gives_their_outcome(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    task = await hold(store, "r")
    server._complete("r", {"state": "REJECTED_CANCELED"}, {})
    outcome = await fulfill(store, task)
    assert isinstance(outcome, Promise)
    assert outcome.state is PromiseState.CANCELED


@pytest.mark.parametrize("fences", [True, False])
async def test_nothing_is_written_under_a_lease_that_ran_out(
    server: FakeServer, open_store: MakeStore, fences: bool
) -> None:
    """A process that stood still asks before it writes; a server that cannot fence is no excuse."""
    server.fences = fences
    clock = ShiftedClock()
    store = await open_store(clock=clock)
    worker = Worker(store)
    task = await hold(store, "r")
    clock.ahead_ms = 11_000
    server.lapse("__invoke:r")
    server._claim(server.tasks["__invoke:r"], "another", 10_000)
    assert await settle(store, task, "r") is LOST
    assert server.promises["r"].state == "PENDING"
    assert server.asked("PATCH", "/") == []
    await until(lambda: worker.lost)
    # It takes new work afterwards.
    assert await create(store, await hold(store, "s"), record("s.1", "s")) is not LOST


async def test_a_lease_that_ran_out_here_but_not_there_goes_on(
    server: FakeServer, open_store: MakeStore
) -> None:
    clock = ShiftedClock()
    store = await open_store(clock=clock)
    worker = Worker(store)
    task = await hold(store, "r")
    clock.ahead_ms = 11_000
    made = await asyncio.gather(*(create(store, task, record(f"r.{n}", "r")) for n in range(1, 9)))
    assert LOST not in made
    assert len(server.asked("POST", "/tasks/heartbeat")) == 1
    assert worker.lost == []


async def test_a_write_that_outlasts_its_lease_is_not_sent_under_it(
    server: FakeServer, open_store: MakeStore
) -> None:
    """The server is out of reach for longer than a ttl, and somebody else goes on."""
    server.fences = False
    store = await open_store(ttl_s=0.3)
    worker = Worker(store)
    task = await hold(store, "r", ttl_ms=300)
    down = True

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        return web.Response(status=503) if down else None

    server.meddle = meddle
    answers = Answers()
    assert store.fence_create(task.id, task.version, record("r.1", "r"), answers, 1) is None
    await asyncio.sleep(0.4)
    server.lapse("__invoke:r")
    server._claim(server.tasks["__invoke:r"], "another", 10_000)
    down = False
    assert await answers.of(1) is LOST
    assert "r.1" not in server.promises
    await until(lambda: worker.lost)


@pytest.mark.parametrize("fences", [True, False])
async def test_an_end_whose_answer_outlasts_the_lease_is_found_done(
    server: FakeServer, open_store: MakeStore, fences: bool
) -> None:
    """The server ended the task; its answer hangs somewhere for longer than a ttl."""
    server.fences = fences
    store = await open_store(ttl_s=0.3)
    task = await hold(store, "r", ttl_ms=300)

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        if request.method == "PATCH":
            server.meddle = None
            server.carry_out("PATCH", "/promises/r", {}, body, request.headers)
            await asyncio.sleep(20)
        return None

    server.meddle = meddle
    async with asyncio.timeout(15):
        outcome = await fulfill(store, task, RESOLVED, value("ours"))
    assert isinstance(outcome, Promise)
    assert outcome.value.data == '"ours"'


async def test_leases_beat_by_themselves_while_they_are_held(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store(ttl_s=0.3)
    task = await hold(store, "r", ttl_ms=300)
    await until(lambda: len(server.asked("POST", "/tasks/heartbeat")) >= 4)
    assert await fulfill(store, task) is not LOST
    await asyncio.sleep(0.15)
    beats = len(server.asked("POST", "/tasks/heartbeat"))
    await asyncio.sleep(0.3)
    assert len(server.asked("POST", "/tasks/heartbeat")) == beats


async def test_a_short_execution_costs_no_heartbeat_and_no_listener(
    server: FakeServer, open_store: MakeStore
) -> None:
    """DESIGN §6: two requests a step; the root costs its create, its end and the task's."""
    store = await open_store()
    task = await hold(store, "r")
    for number in range(1, 4):
        await create(store, task, record(f"r.{number}", "r"))
        await settle(store, task, f"r.{number}")
    await fulfill(store, task)
    await until(lambda: server.asked("POST", "/tasks/complete"))
    assert len(server.seen) == 3 + 2 * 3


# -- the order of writes (S4, S8)


async def test_what_follows_a_log_record_waits_for_it_and_the_end_waits_for_all(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    task = await hold(store, "r")
    slow = {"r.1": 0.05, "r.3": 0.02}

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        name = body.get("id") if isinstance(body, dict) else None
        await asyncio.sleep(slow.get(name or "", 0))
        return None

    server.meddle = meddle
    answers = Answers()
    store.fence_create(task.id, task.version, record("r.1", "r"), None, 1)
    store.fence_settle(task.id, task.version, "r.1", RESOLVED, value(1), answers, 2)
    store.fence_create(task.id, task.version, record("chosen", ""), answers, 3)
    store.fence_create(task.id, task.version, record("r.3", "r"), answers, 4)
    store.fulfill(task.id, task.version, RESOLVED, value(1), answers, 5)
    outcomes = [await answers.of(number) for number in (2, 3, 4, 5)]
    assert LOST not in outcomes
    sent = [(verb, path, body) for verb, path, body, _ in server.seen if verb != "GET"]
    writes = [(verb, str(body.get("id", path))) for verb, path, body in sent]
    assert writes[1:3] == [("POST", "r.1"), ("PATCH", "/promises/r.1")]
    assert set(writes[3:5]) == {("POST", "chosen"), ("POST", "r.3")}
    assert writes[5] == ("PATCH", "/promises/r")


async def test_creates_of_one_body_travel_side_by_side(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    task = await hold(store, "r")
    under_way = 0
    gate = asyncio.Event()

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        nonlocal under_way
        under_way += 1
        await gate.wait()
        return None

    server.meddle = meddle
    answers = Answers()
    for number in range(1, 6):
        made = record(f"r.{number}", "r")
        assert store.fence_create(task.id, task.version, made, answers, number) is None
    await until(lambda: under_way == 5)
    gate.set()
    assert LOST not in [await answers.of(number) for number in range(1, 6)]


async def test_every_write_of_an_execution_names_its_task(
    server: FakeServer, open_store: MakeStore
) -> None:
    """S62."""
    store = await open_store()
    task = await hold(store, "r")
    await create(store, task, record("r.1", "r"))
    await settle(store, task, "r.1")
    await fulfill(store, task)
    fenced = server.headers_of("POST", "/promises")[1:] + server.headers_of("PATCH", "/")
    assert [(h["Task-Id"], h["Task-Counter"]) for h in fenced] == [("__invoke:r", "1")] * 3
    keys = [headers["Idempotency-Key"] for headers in fenced]
    assert keys == ["r.1", "r.1", "r"]
