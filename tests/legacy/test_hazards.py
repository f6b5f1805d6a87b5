"""The hazards of legacy-protocol appendix A, 1 to 9, against a server that makes them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from tests.legacy.drive import (
    REJECTED,
    RESOLVED,
    Watcher,
    Worker,
    create,
    fulfill,
    hold,
    in_ms,
    record,
    root,
    settle,
    until,
    value,
)
from tests.legacy.fake_server import FakeServer, refusal
from tests.legacy.opening import MakeStore

from resonate_aio.protocol.records import EMPTY, Promise, PromiseState, TaskState
from resonate_aio.protocol.requests import (
    Execute,
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseSettle,
    TaskAcquire,
    TaskCreate,
    TaskGet,
    TaskSuspend,
)
from resonate_aio.stores.base import LOST


async def connected(server: FakeServer, group: str = "g", pid: str = "p") -> None:
    await until(lambda: (group, pid) in server.streams, "a stream")


# -- hazard 1: a notification is sent once


async def test_hazard_1_a_lost_notification_is_made_good_after_a_reconnect(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    Worker(store)
    await connected(server)
    await store.call(PromiseCreate("a", in_ms()))
    watcher = Watcher(store, "a")
    await until(lambda: server.callbacks, "the subscription")
    server.cut_streams()
    server._complete("a", {"state": "RESOLVED"}, {})  # sent to nobody, and never again
    assert not server.callbacks
    assert (await watcher.outcome()).state is RESOLVED


async def test_hazard_1_what_is_watched_is_asked_for_again_from_time_to_time(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store(again_s=0.1)
    Worker(store)
    await connected(server)
    await store.call(PromiseCreate("a", in_ms()))
    watcher = Watcher(store, "a")
    await until(lambda: server.callbacks, "the subscription")
    server.callbacks.clear()
    server._complete("a", {"state": "RESOLVED"}, {})
    assert (await watcher.outcome()).state is RESOLVED


async def test_hazard_1_a_notification_that_comes_is_heard_without_asking(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    Worker(store)
    await connected(server)
    await store.call(PromiseCreate("a", in_ms()))
    watcher = Watcher(store, "a")
    await until(lambda: server.callbacks, "the subscription")
    asked = len(server.seen)
    server._complete("a", {"state": "REJECTED"}, {})
    assert (await watcher.outcome()).state is REJECTED
    assert len(server.seen) == asked


# -- hazard 2: callback null and pending says nothing


def overtaken(server: FakeServer, kind: str) -> None:
    """The promise ends between the server's look at it and its note of the callback."""

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        if not request.path.startswith(f"/promises/{kind}/"):
            return None
        server.meddle = None
        promise = server.promises["a"]
        stale = promise.json()
        server._complete("a", {"state": "RESOLVED"}, {})
        return web.json_response({"callback": None, "promise": stale})

    server.meddle = meddle


async def test_hazard_2_a_watcher_that_was_overtaken_reads_again(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    Worker(store)
    await connected(server)
    await store.call(PromiseCreate("a", in_ms()))
    overtaken(server, "subscribe")
    assert (await Watcher(store, "a").outcome()).state is RESOLVED


async def test_hazard_2_a_task_whose_callback_was_overtaken_does_not_go_to_sleep(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    task = await hold(store, "r")
    await store.call(PromiseCreate("a", in_ms()))
    overtaken(server, "callback")
    suspend = TaskSuspend("r", task.version, (PromiseRegisterCallback("a", "r"),))
    reply = await store.call(suspend)
    assert reply.status == 300
    assert [promise.id for promise in reply.preload] == ["a"]
    assert server.tasks["__invoke:r"].state == "CLAIMED"


# -- hazard 3: claims fail in normal races


@pytest.mark.parametrize("race", ["claimed", "completed", "counter", "gone"])
async def test_hazard_3_a_message_that_came_too_late_is_skipped(
    server: FakeServer, open_store: MakeStore, race: str
) -> None:
    store = await open_store()
    worker = Worker(store)
    await connected(server)
    await store.call(root_of("r"))
    await until(lambda: worker.messages, "the message")
    task = server.tasks["__invoke:r"]
    if race == "claimed":
        server._claim(task, "another", 1000)
    elif race == "completed":
        server._complete("r", {"state": "RESOLVED"}, {})
    elif race == "counter":
        server.lapse("__invoke:r")
    else:
        server.tasks.clear()
    message = worker.messages[0]
    assert isinstance(message, Execute)
    reply = await store.call(TaskAcquire("r", message.version, "p", 1000))
    assert reply.status == 409
    assert (await store.call(PromiseGet("r"))).status == 200


def root_of(id: str) -> PromiseCreate:
    return root(id)


async def test_a_message_is_claimed_by_the_version_it_was_delivered_with(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    worker = Worker(store)
    await connected(server)
    await store.call(root_of("r"))
    await until(lambda: worker.messages, "the message")
    message = worker.messages[0]
    assert isinstance(message, Execute)
    assert (await store.call(TaskAcquire("r", message.version - 1, "p", 1000))).status == 409
    reply = await store.call(TaskAcquire("r", message.version, "p", 1000))
    assert reply.status == 200
    assert reply.task is not None
    assert reply.promise is not None
    # Nobody held it before: there is nothing recorded that would have to be loaded.
    assert (reply.task.state, reply.task.version) == (TaskState.ACQUIRED, 1)
    assert reply.promise.id == "r"
    assert server.tasks["__invoke:r"].state == "CLAIMED"
    lease = await store.call(TaskGet("r"))
    assert lease.task is not None
    assert lease.task.state is TaskState.ACQUIRED


# -- hazard 4: completing a task fails after a lost lease


async def test_hazard_4_a_task_that_was_lost_cannot_be_suspended(
    server: FakeServer, open_store: MakeStore
) -> None:
    server.fences = False
    store = await open_store()
    task = await hold(store, "r")
    await store.call(PromiseCreate("a", in_ms()))
    server.lapse("__invoke:r")
    suspend = TaskSuspend("r", task.version, (PromiseRegisterCallback("a", "r"),))
    assert (await store.call(suspend)).status == 409
    assert await create(store, task, record("r.1", "r")) is LOST


async def test_hazard_4_a_refused_completion_does_not_take_the_outcome_back(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    task = await hold(store, "r")

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        if request.path != "/tasks/complete":
            return None
        status, answer = refusal(403, 40309)
        return web.json_response(answer, status=status)

    server.meddle = meddle
    outcome = await fulfill(store, task)
    assert isinstance(outcome, Promise)
    await until(lambda: server.asked("POST", "/tasks/complete"), "the completion")
    assert server.promises["r"].state == "RESOLVED"


# -- hazards 5 and 6: the outcome is what stands


async def test_hazard_5_a_promise_that_timed_out_meanwhile_stays_timed_out(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    task = await hold(store, "r")
    await create(store, task, record("r.1", "r"))
    server.promises["r.1"].timeout = 1
    outcome = await settle(store, task, "r.1")
    assert isinstance(outcome, Promise)
    assert outcome.state is PromiseState.TIMEDOUT


async def test_hazard_5_completed_by_another_with_the_same_key(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    task = await hold(store, "r")
    await create(store, task, record("r.1", "r"))
    server._complete("r.1", {"state": "REJECTED"}, {"Idempotency-Key": "r.1"})
    outcome = await settle(store, task, "r.1")
    assert isinstance(outcome, Promise)
    assert outcome.state is REJECTED


@pytest.mark.parametrize("code", [40300, 40301, 40303, 4030])
async def test_hazards_6_and_8_completed_without_our_key_is_read_whatever_the_number(
    server: FakeServer, open_store: MakeStore, code: int
) -> None:
    store = await open_store()
    await store.call(PromiseCreate("a", in_ms()))
    server._complete("a", {"state": "REJECTED_CANCELED"}, {})

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        if request.method != "PATCH":
            return None
        status, answer = refusal(403, code)
        return web.json_response(answer, status=status)

    server.meddle = meddle
    reply = await store.call(PromiseSettle("a", RESOLVED, value(1)))
    assert reply.status == 200
    assert reply.promise is not None
    assert reply.promise.state is PromiseState.CANCELED


# -- hazard 7: another key, or none


@pytest.mark.parametrize("key", ["other", None])
async def test_hazard_7_a_promise_made_by_others_is_taken_as_it_is(
    server: FakeServer, open_store: MakeStore, key: str | None
) -> None:
    store = await open_store()
    headers = {} if key is None else {"Idempotency-Key": key}
    server._create({"id": "a", "timeout": in_ms(), "tags": {"by": "cli"}}, headers)
    reply = await store.call(PromiseCreate("a", in_ms(), EMPTY, {"by": "us"}))
    assert reply.status == 200
    assert reply.promise is not None
    assert reply.promise.tags == {"by": "cli"}
    task = await hold(store, "r")
    assert await create(store, task, record("a", "")) == reply.promise


async def test_hazard_7_run_over_a_promise_made_by_others_joins_it(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    server._create({"id": "r", "timeout": in_ms()}, {})
    assert (await store.call(TaskCreate("p", 1000, root("r")))).status == 409
    server._complete("r", {"state": "RESOLVED"}, {})
    reply = await store.call(TaskCreate("p", 1000, root("r")))
    assert reply.status == 200
    assert reply.promise is not None
    assert reply.promise.state is RESOLVED


# -- hazard 8: versions differ


@pytest.mark.parametrize("fences", [True, False])
@pytest.mark.parametrize("has_keys", [True, False])
async def test_hazard_8_an_execution_goes_the_same_way_on_every_version(
    server: FakeServer, open_store: MakeStore, has_keys: bool, fences: bool
) -> None:
    server.has_keys, server.fences = has_keys, fences
    store = await open_store()
    task = await hold(store, "r")
    for _ in range(2):  # the second time everything is there already
        await create(store, task, record("r.1", "r"))
        outcome = await settle(store, task, "r.1", REJECTED)
        assert isinstance(outcome, Promise)
        assert outcome.state is REJECTED
    outcome = await fulfill(store, task)
    assert isinstance(outcome, Promise)
    assert (outcome.id, outcome.state) == ("r", RESOLVED)


# -- hazard 9: 503 is worth a retry


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_hazard_9_a_server_that_is_busy_is_asked_again(
    server: FakeServer, open_store: MakeStore, status: int
) -> None:
    store = await open_store()
    left = 3

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        nonlocal left
        left -= 1
        _, answer = refusal(503, 50302)
        return web.json_response(answer, status=status) if left >= 0 else None

    server.meddle = meddle
    assert (await store.call(PromiseCreate("a", in_ms()))).status == 200
    assert len(server.asked("POST", "/promises")) == 4


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(text="<html>502</html>", content_type="text/html", status=502),
        lambda: web.Response(text="<html>ok</html>", content_type="text/html"),
        lambda: web.Response(text='{"id": "a", "state": "PEN'),
        lambda: web.json_response({"id": "a"}),
        lambda: web.json_response(["a"]),
        lambda: web.Response(text="404 page not found", status=404),
        lambda: web.Response(status=302, headers={"Location": "/elsewhere"}),
        lambda: web.Response(status=418),
    ],
)
async def test_what_is_no_answer_of_the_server_is_no_outcome(
    server: FakeServer, open_store: MakeStore, answer: Any
) -> None:
    """Law 8."""
    store = await open_store()
    task = await hold(store, "r")
    left = 2

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        nonlocal left
        left -= 1
        return answer() if left >= 0 else None

    server.meddle = meddle
    async with asyncio.timeout(10):
        made = await create(store, task, record("r.1", "r"))
    assert isinstance(made, Promise)
    assert made.id == "r.1"
