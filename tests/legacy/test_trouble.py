"""Lost answers, refused credentials, values too large, closing: laws 8, 16, 17; S24, S60."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from tests.legacy.drive import (
    FP,
    REJECTED,
    RESOLVED,
    Answers,
    Watcher,
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
    value,
)
from tests.legacy.fake_server import FakeServer
from tests.legacy.opening import MakeStore, make_store, opened

from resonate_aio.errors import ResonateStoreError, ValueCodecError
from resonate_aio.protocol.failures import outcome_error
from resonate_aio.protocol.records import Promise
from resonate_aio.protocol.requests import (
    Execute,
    PromiseCreate,
    PromiseGet,
    PromiseSettle,
    TaskAcquire,
    TaskCreate,
    TaskRelease,
)
from resonate_aio.stores.base import LOST

# -- S60: the answer to a request was lost


async def test_a_created_task_whose_answer_was_lost_is_ours(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    server.lose.append("/promises/task")
    task = await hold(store, "r")
    assert len(server.asked("POST", "/promises/task")) == 2
    assert server.tasks["__invoke:r"].state == "CLAIMED"
    assert await create(store, task, record("r.1", "r")) is not LOST


async def test_a_task_that_another_created_meanwhile_is_never_taken_for_ours(
    server: FakeServer, open_store: MakeStore
) -> None:
    """The first try never got there; the promise that is found was somebody else's."""
    store, other = await open_store(), await open_store()

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        server.meddle = None
        await hold(other, "r")
        return web.Response(status=500)

    server.meddle = meddle
    assert (await store.call(TaskCreate("q", 1000, root("r")))).status == 409
    task = server.tasks["__invoke:r"]
    assert task.state == "CLAIMED"
    assert task.process is not None
    assert task.process.startswith("p~")
    assert server.asked("POST", "/tasks/drop") == []


async def test_a_claim_whose_answer_was_lost_is_dropped_until_that_is_answered(
    server: FakeServer, open_store: MakeStore
) -> None:
    """Our own heartbeats would keep it alive for ever."""
    store = await open_store()
    worker = Worker(store)
    await until(lambda: server.streams)
    await store.call(root("r"))
    await until(lambda: worker.messages)
    server.lose += ["/tasks/claim", "/tasks/drop"]
    message = worker.messages[0]
    assert isinstance(message, Execute)
    assert (await store.call(TaskAcquire("r", message.version, "p", 1000))).status == 409
    # The drop puts it back into circulation: it is offered again and can be taken.
    await until(lambda: len(worker.messages) == 2)
    again = worker.messages[1]
    assert isinstance(again, Execute)
    assert (await store.call(TaskAcquire("r", again.version, "p", 1000))).status == 200


@pytest.mark.parametrize("has_keys", [True, False])
async def test_a_settle_whose_answer_was_lost_is_ours(
    server: FakeServer, open_store: MakeStore, has_keys: bool
) -> None:
    server.has_keys = has_keys
    store = await open_store()
    task = await hold(store, "r")
    await create(store, task, record("r.1", "r"))
    server.lose.append("/promises/r.1")
    outcome = await settle(store, task, "r.1", RESOLVED, value("ours"))
    assert isinstance(outcome, Promise)
    assert outcome.value.data == '"ours"'


@pytest.mark.parametrize("fences", [True, False])
async def test_a_fulfil_whose_answer_was_lost_is_done(
    server: FakeServer, open_store: MakeStore, fences: bool
) -> None:
    """With a fence the second try is refused: the first one ended the task."""
    server.fences = fences
    store = await open_store()
    worker = Worker(store)
    task = await hold(store, "r")
    server.lose.append("/promises/r")
    outcome = await fulfill(store, task, RESOLVED, value("ours"))
    assert isinstance(outcome, Promise)
    assert outcome.value.data == '"ours"'
    await asyncio.sleep(0)
    assert worker.lost == []
    assert worker.taken == []


async def test_a_release_whose_answer_was_lost_is_done(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    task = await hold(store, "r")
    server.lose.append("/tasks/drop")
    assert (await store.call(TaskRelease("r", task.version))).status == 200
    assert server.tasks["__invoke:r"].counter == 2


# -- S24: what the server will never take


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_an_outcome_the_server_refuses_is_recorded_as_a_small_rejection(
    server: FakeServer, open_store: MakeStore, status: int
) -> None:
    store = await open_store()
    task = await hold(store, "r")
    await create(store, task, record("r.1", "r"))

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        if request.method == "PATCH" and len(str(body)) > 5_000:
            refusal = {"code": 100 * status, "message": "too large"}
            return web.json_response({"error": refusal}, status=status)
        return None

    server.meddle = meddle
    outcome = await settle(store, task, "r.1", RESOLVED, value("x" * 10_000))
    assert isinstance(outcome, Promise)
    assert outcome.state is REJECTED
    error = outcome_error(outcome)
    assert isinstance(error, ValueCodecError)
    assert "r.1" in str(error)
    assert str(status) in str(error)


async def test_arguments_the_server_refuses_are_the_calls_failure(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    task = await hold(store, "r")

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        return web.Response(status=413) if len(str(body)) > 70_000 else None

    server.meddle = meddle
    made = await create(store, task, record("r.1", "r", target(), data='"' + "x" * 90_000 + '"'))
    assert isinstance(made, Promise)
    assert made.state is REJECTED
    assert made.param.headers == FP  # a replay finds the same call
    assert "__invoke:r.1" not in server.tasks
    assert "larger than the server, or a proxy" in str(outcome_error(made))


@pytest.mark.parametrize(("status", "size"), [(400, 90_000), (422, 90_000), (413, 10_000)])
async def test_what_a_proxy_says_of_a_request_is_no_outcome(
    server: FakeServer, open_store: MakeStore, status: int, size: int
) -> None:
    """Law 8: only of a long body is it known that its length is the reason."""
    store = await open_store()
    task = await hold(store, "r")
    await create(store, task, record("r.1", "r"))
    left = [web.Response(status=status, text="<html>no</html>") for _ in range(3)]

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        return left.pop() if left and request.method == "PATCH" else None

    server.meddle = meddle
    outcome = await settle(store, task, "r.1", RESOLVED, value("x" * size))
    assert isinstance(outcome, Promise)
    assert outcome.state is RESOLVED
    assert not left


# -- 401 and 403: at once, and no hammering


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_said_at_once(
    server: FakeServer, open_store: MakeStore, status: int
) -> None:
    store = await open_store()

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        return web.Response(status=status)

    server.meddle = meddle
    for request in (
        PromiseGet("a"),
        PromiseCreate("a", in_ms()),
        PromiseSettle("a", RESOLVED, value(1)),
        TaskCreate("p", 1000, root("r")),
        TaskAcquire("r", 1, "p", 1000),
    ):
        server.seen.clear()
        with pytest.raises(ResonateStoreError) as refused:
            await store.call(request)
        assert refused.value.code == status
        assert len(server.seen) == 1, request


async def test_refused_credentials_are_never_the_outcome_of_a_step(
    server: FakeServer, open_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = await open_store()
    task = await hold(store, "r")

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        return web.Response(status=401)

    server.meddle = meddle
    server.seen.clear()
    answers = Answers()
    assert store.fence_create(task.id, task.version, record("r.1", "r"), answers, 1) is None
    await until(lambda: server.seen)
    await asyncio.sleep(0.1)
    assert answers.given == []
    assert len(server.seen) == 1
    assert [r.levelname for r in caplog.records if "credentials" in r.message] == ["ERROR"]


async def test_credentials_reach_the_server_and_nothing_else(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Law 17."""
    store = make_store(server.url, server.poll_url, auth=("user", "s3cret-pass"))
    async with opened(store):
        Worker(store)
        await store.call(PromiseCreate("a", in_ms()))
        await until(lambda: server.streams)
    assert server.headers_of("POST", "/promises")[0]["Authorization"].startswith("Basic ")
    shown = repr(store) + repr(store.http) + caplog.text
    assert "s3cret" not in shown


# -- law 16: closing


async def test_closing_gives_up_what_is_outstanding(server: FakeServer) -> None:
    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        return web.Response(status=503)

    store = make_store(server.url)
    before = asyncio.all_tasks()
    await store.open()
    task = await hold(store, "r")
    Worker(store)
    server.meddle = meddle
    answers = Answers()
    store.fence_create(task.id, task.version, record("r.1", "r"), answers, 1)
    store.watch("r", lambda _: None)
    waiting = asyncio.ensure_future(store.call(PromiseGet("a")))
    await until(lambda: server.asked("GET", "/promises/a") is not None and len(server.seen) > 3)
    async with asyncio.timeout(5):
        await store.close()
    with pytest.raises(ResonateStoreError, match="closed"):
        await waiting
    await asyncio.sleep(0.05)
    left = {
        task
        for task in asyncio.all_tasks() - before
        if "resonate_aio" in task.get_name() or "stores" in repr(task.get_coro())
    }
    assert left == set()
    assert store.fence_create(task.id, task.version, record("r.2", "r"), answers, 1) is LOST


async def test_cancelling_the_caller_does_not_cancel_the_request(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    gate = asyncio.Event()

    async def meddle(request: web.Request, body: Any) -> web.StreamResponse | None:
        await gate.wait()
        return None

    server.meddle = meddle
    call = asyncio.ensure_future(store.call(PromiseCreate("a", in_ms())))
    await until(lambda: server.seen)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.set()
    await until(lambda: "a" in server.promises)


async def test_a_store_that_is_not_open_says_so(server: FakeServer) -> None:
    store = make_store(server.url)
    for attempt in (
        lambda: store.post(PromiseGet("a"), lambda _, reply: None, None),
        lambda: store.watch("a", print),
        lambda: store.subscribe("g", "p", print),
    ):
        with pytest.raises(ResonateStoreError, match="not open"):
            attempt()


async def test_the_last_user_closes(server: FakeServer) -> None:
    store = make_store(server.url)
    await store.open()
    await store.open()
    await store.close()
    assert (await store.call(PromiseCreate("a", in_ms()))).status == 200
    await store.close()
    await store.close()
    await store.open()
    assert (await store.call(PromiseGet("a"))).status == 200
    await store.close()


def test_a_store_whose_loop_was_closed_under_it_opens_on_another() -> None:
    async def first() -> tuple[Any, str]:
        async with FakeServer().running() as server:
            store = make_store(server.url)
            await store.open()
            await store.call(PromiseCreate("a", in_ms()))
            return store, server.url

    store, _ = asyncio.run(first())

    async def second() -> int:
        async with FakeServer().running() as server:
            store.http._url = server.url
            await store.open()
            reply = await store.call(PromiseCreate("a", in_ms()))
            await store.close()
            return int(reply.status)

    assert asyncio.run(second()) == 200


async def test_a_watcher_of_nothing_hears_that(server: FakeServer, open_store: MakeStore) -> None:
    store = await open_store()
    Worker(store)
    outcome = await Watcher(store, "nothing").outcome()
    assert outcome.settled_at_ms is None
    assert "nothing" in str(outcome_error(outcome))


async def test_a_worker_without_functions_hears_of_promises_but_gets_no_tasks(
    server: FakeServer, open_store: MakeStore
) -> None:
    store = await open_store()
    worker = Worker(store, "\0")
    await until(lambda: server.streams)
    ((group, pid),) = server.streams
    assert group.startswith("resonate-aio-")
    assert pid == "p"
    await store.call(root("r"))
    watcher = Watcher(store, "r")
    await until(lambda: server.callbacks)
    server._complete("r", {"state": "RESOLVED"}, {})
    await watcher.outcome()
    assert worker.messages == []
