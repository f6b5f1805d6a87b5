"""The current verbs on a legacy server: the fake one and, where there is one, a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
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
    target,
    until,
    value,
)
from tests.legacy.fake_server import FakeServer
from tests.legacy.opening import make_store, opened
from tests.peers import legacy_server as peer

from resonate_aio.protocol.failures import failure_value, outcome_error
from resonate_aio.protocol.records import EMPTY, Promise, PromiseState, TaskState, Value, is_pending
from resonate_aio.protocol.requests import (
    Execute,
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSearch,
    PromiseSettle,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    ScheduleSearch,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
    TaskSearch,
    TaskSuspend,
)
from resonate_aio.stores.base import LOST
from resonate_aio.stores.legacy import LegacyStore


@pytest.fixture(scope="module")
def real_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if peer.program() is None:
        pytest.skip(peer.ABSENT)
    folder: Path = tmp_path_factory.mktemp("legacy-server")
    server = peer.LegacyServer(folder, "--aio-poll-ttr", "200ms")
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@pytest_asyncio.fixture(params=["fake", "real"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[LegacyStore]:
    if request.param == "real":
        async with opened(make_store(request.getfixturevalue("real_url"))) as made:
            yield made
    else:
        async with FakeServer().running() as server, opened(make_store(server.url)) as made:
            yield made


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """An id that no other test of the module uses."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name)


async def promise(store: LegacyStore, id: str) -> Promise:
    reply = await store.call(PromiseGet(id))
    assert reply.promise is not None, reply
    return reply.promise


# -- promises


async def test_a_promise_lives_its_life(store: LegacyStore, name: str) -> None:
    timeout = in_ms()
    made = await store.call(PromiseCreate(name, timeout, Value({"h": "ü"}, '{"a":1}'), {"t": "x"}))
    assert made.status == 200
    pending = made.promise
    assert pending is not None
    assert (pending.id, pending.state, pending.timeout_at_ms) == (
        name,
        PromiseState.PENDING,
        timeout,
    )
    assert (pending.param, pending.value, pending.tags) == (
        Value({"h": "ü"}, '{"a":1}'),
        EMPTY,
        {"t": "x"},
    )
    assert pending.settled_at_ms is None
    assert await promise(store, name) == pending
    settled = await store.call(PromiseSettle(name, RESOLVED, Value({"k": "v"}, "[1]")))
    assert settled.promise is not None
    assert settled.promise.state is RESOLVED
    assert settled.promise.value == Value({"k": "v"}, "[1]")
    assert settled.promise.settled_at_ms is not None
    again = await store.call(PromiseSettle(name, REJECTED, value("no")))
    assert again.promise == settled.promise  # write once (law 1)
    assert (await store.call(PromiseCreate(name, timeout))).promise == settled.promise


async def test_what_does_not_exist(store: LegacyStore, name: str) -> None:
    for request in (
        PromiseGet(name),
        PromiseSettle(name, RESOLVED),
        PromiseRegisterListener(name, "poll://uni@g/p"),
        TaskGet(name),
    ):
        reply = await store.call(request)
        assert (reply.status, bool(reply.error)) == (404, True), request


@pytest.mark.parametrize("timer", [True, False])
async def test_a_deadline_that_passed(store: LegacyStore, name: str, timer: bool) -> None:
    """Read by the server's clock (S63), which may be a little behind ours."""
    tags = {"resonate:timer": "true"} if timer else {}
    timeout = in_ms(30)
    await store.call(PromiseCreate(name, timeout, EMPTY, tags))
    await until(lambda: in_ms(0) > timeout)
    while is_pending(outcome := await promise(store, name)):
        assert in_ms(0) < timeout + 5_000
    assert outcome.state is (RESOLVED if timer else PromiseState.TIMEDOUT)
    assert outcome.settled_at_ms == timeout


async def test_an_error_comes_back_as_it_was(store: LegacyStore, name: str) -> None:
    await store.call(PromiseCreate(name, in_ms()))
    reply = await store.call(PromiseSettle(name, REJECTED, failure_value(KeyError("k", 1))))
    assert reply.promise is not None
    error = outcome_error(reply.promise)
    assert type(error) is KeyError
    assert error.args == ("k", 1)


async def test_a_search_by_state_and_tags(store: LegacyStore, name: str) -> None:
    tags = {"resonate-aio:x": name, "kind": name, "resonate:timer": "false"}
    for number, state in enumerate([None, RESOLVED, REJECTED, PromiseState.CANCELED]):
        await store.call(PromiseCreate(f"{name}.{number}", in_ms(), EMPTY, tags))
        if state is not None:
            await store.call(PromiseSettle(f"{name}.{number}", state))
    await store.call(PromiseCreate(f"{name}.other", in_ms(), EMPTY, {"kind": "else"}))

    async def found(state: PromiseState | None) -> set[str]:
        reply = await store.call(PromiseSearch(state, tags))
        assert reply.status == 200
        return {one.id[len(name) + 1 :] for one in reply.promises}

    assert await found(None) == {"0", "1", "2", "3"}
    assert await found(PromiseState.PENDING) == {"0"}
    assert await found(RESOLVED) == {"1"}
    assert await found(REJECTED) == {"2"}
    assert await found(PromiseState.CANCELED) == {"3"}


async def test_a_search_page_by_page(store: LegacyStore, name: str) -> None:
    for number in range(5):
        await store.call(PromiseCreate(f"{name}.{number}", in_ms(), EMPTY, {"kind": name}))
    seen: list[str] = []
    cursor: str | None = None
    pages = 0
    while True:
        reply = await store.call(PromiseSearch(None, {"kind": name}, limit=2, cursor=cursor))
        seen += [one.id for one in reply.promises]
        pages += 1
        cursor = reply.cursor
        if cursor is None:
            break
    assert sorted(seen) == [f"{name}.{number}" for number in range(5)]
    assert pages == 3


# -- tasks


async def test_a_task_from_its_create_to_its_end(store: LegacyStore, name: str) -> None:
    task = await hold(store, name)
    assert (task.id, task.state, task.version) == (name, TaskState.ACQUIRED, 1)
    assert (await store.call(TaskCreate("q", 1000, root(name)))).status == 409
    await create(store, task, record(f"{name}.1", name))
    await settle(store, task, f"{name}.1", RESOLVED, value(41))
    assert (await promise(store, f"{name}.1")).value.data == "41"
    assert (await promise(store, f"{name}.1")).tags == {
        "resonate:scope": "local",
        "resonate:root": name,
        "resonate:parent": name,
    }
    outcome = await fulfill(store, task, RESOLVED, value(42))
    assert outcome == await promise(store, name)
    assert await create(store, task, record(f"{name}.2", name)) is LOST
    done = await store.call(TaskCreate("q", 1000, root(name)))
    assert (done.status, done.promise) == (200, outcome)


async def test_a_task_is_offered_claimed_given_back_and_offered_again(
    store: LegacyStore, name: str
) -> None:
    worker = Worker(store, name, "p")
    await store._messages.first_connect()
    await store.call(PromiseCreate(name, in_ms(), value(1), target(name)))
    await until(lambda: worker.messages)
    first = worker.messages[0]
    assert isinstance(first, Execute)
    assert first.id == name
    pending = (await store.call(TaskGet(name))).task
    assert pending is not None
    assert (pending.state, pending.version) == (TaskState.PENDING, first.version)
    claimed = await store.call(TaskAcquire(name, first.version, "p", 5000))
    assert claimed.task is not None
    assert claimed.promise == await promise(store, name)
    release = TaskRelease(name, claimed.task.version)
    assert (await store.call(release)).status == 200
    assert (await store.call(release)).status == 409
    await until(lambda: len(worker.messages) == 2)
    second = worker.messages[1]
    assert isinstance(second, Execute)
    again = await store.call(TaskAcquire(name, second.version, "p", 5000))
    assert again.task is not None
    assert again.task.version > claimed.task.version
    assert await fulfill(store, again.task) is not LOST


async def test_a_suspended_task_wakes_when_what_it_awaits_settles(
    store: LegacyStore, name: str
) -> None:
    """DESIGN §5: suspend = callbacks + complete."""
    worker = Worker(store, name, "p")
    await store._messages.first_connect()
    created = TaskCreate("p", 5000, PromiseCreate(name, in_ms(), value(1), target(name)))
    task = (await store.call(created)).task
    assert task is not None
    for child in ("a", "b"):
        await store.call(PromiseCreate(f"{name}.{child}", in_ms()))
    awaited = tuple(PromiseRegisterCallback(f"{name}.{child}", name) for child in ("a", "b"))
    assert (await store.call(TaskSuspend(name, task.version, awaited))).status == 200
    assert await create(store, task, record(f"{name}.1", name)) is LOST
    assert worker.messages == []
    await store.call(PromiseSettle(f"{name}.b", RESOLVED, value(1)))
    await until(lambda: worker.messages)
    woken = worker.messages[0]
    assert isinstance(woken, Execute)
    assert woken.id == name
    again = await store.call(TaskAcquire(name, woken.version, "p", 5000))
    assert again.task is not None
    assert again.promise is not None
    assert again.promise.id == name
    # What has settled already keeps it from going to sleep again.
    awaited = (PromiseRegisterCallback(f"{name}.b", name),)
    refused = await store.call(TaskSuspend(name, again.task.version, awaited))
    assert refused.status == 300
    assert [one.id for one in refused.preload] == [f"{name}.b"]
    assert await fulfill(store, again.task) is not LOST


async def test_a_fenced_request_and_a_fulfil_by_request(store: LegacyStore, name: str) -> None:
    task = await hold(store, name)
    made = await store.call(TaskFence(name, task.version, PromiseCreate(f"{name}.1", in_ms())))
    assert made.inner is not None
    assert made.inner.promise is not None
    assert made.inner.promise.id == f"{name}.1"
    settled = await store.call(
        TaskFence(name, task.version, PromiseSettle(f"{name}.1", RESOLVED, value(1)))
    )
    assert settled.inner is not None
    assert settled.inner.promise is not None
    assert settled.inner.promise.state is RESOLVED
    end = TaskFulfill(name, task.version, PromiseSettle(name, RESOLVED, value(2)))
    done = await store.call(end)
    assert done.promise is not None
    assert done.promise.value.data == "2"
    for late in (
        end,
        TaskFence(name, task.version, PromiseCreate(f"{name}.2", in_ms())),
        TaskSuspend(name, task.version, (PromiseRegisterCallback("x", name),)),
        TaskRelease(name, task.version),
    ):
        assert (await store.call(late)).status == 409, late


async def test_heartbeats(store: LegacyStore, name: str) -> None:
    task = await hold(store, name)
    beat = TaskHeartbeat("p", (TaskRef(name, task.version),))
    assert (await store.call(beat)).status == 200
    assert (await store.call(TaskHeartbeat("nobody", (TaskRef("x", 1),)))).status == 200


async def test_what_this_generation_cannot_do_is_said(store: LegacyStore, name: str) -> None:
    """S66."""
    for request in (TaskHalt(name), TaskContinue(name), TaskSearch()):
        reply = await store.call(request)
        assert reply.status == 501
        assert "legacy" in (reply.error or "")


async def test_a_listener_hears_what_settles(store: LegacyStore, name: str) -> None:
    Worker(store, name, "p")
    await store._messages.first_connect()
    await store.call(PromiseCreate(name, in_ms()))
    watcher = Watcher(store, name)
    second = Watcher(store, name)
    second.stop()
    await store.call(PromiseRegisterListener(name, f"poll://uni@{name}/p"))
    await store.call(PromiseSettle(name, RESOLVED, value(7)))
    assert (await watcher.outcome()).value.data == "7"
    assert second.seen == []
    late = Watcher(store, name)
    assert (await late.outcome()).value.data == "7"
    reply = await store.call(PromiseRegisterListener(name, f"poll://uni@{name}/p"))
    assert reply.promise is not None
    assert reply.promise.state is RESOLVED


# -- schedules (a real server only)


async def test_a_schedule_lives_its_life(real_url: str, name: str) -> None:
    async with opened(make_store(real_url)) as store:
        worker = Worker(store, name, "p")
        await store._messages.first_connect()
        request = ScheduleCreate(
            name,
            "* * * * * *",  # every second: this server takes six fields too
            "{{.id}}.{{.timestamp}}",
            60_000,
            Value({"h": "1"}, '{"func":"f","args":[]}'),
            target(name),
        )
        made = (await store.call(request)).schedule
        assert made is not None
        # SDK 0.6.7 demands a version: where none was given the newest is asked for (§5.1).
        param = Value({"h": "1"}, '{"func":"f","args":[],"version":0}')
        assert (made.promise_tags, made.promise_param) == (target(name), param)
        assert made.next_run_at_ms >= made.created_at_ms
        assert (await store.call(request)).schedule == made  # an existing id is answered
        await until(lambda: worker.messages)
        message = worker.messages[0]
        assert isinstance(message, Execute)
        assert message.id.startswith(f"{name}.")
        started = await promise(store, message.id)
        assert started.param == param
        assert started.tags["resonate:target"] == target(name)["resonate:target"]
        found = await store.call(ScheduleSearch({"resonate:target": f"poll://any@{name}/p"}))
        assert [one.id for one in found.schedules] == [name]
        assert (await store.call(ScheduleSearch({"resonate:target": "else"}))).schedules == ()
        assert (await store.call(ScheduleDelete(name))).status == 200
        assert (await store.call(ScheduleDelete(name))).status == 404
        assert (await store.call(ScheduleGet(name))).status == 404


async def test_a_bad_cron_expression_is_refused(real_url: str, name: str) -> None:
    async with opened(make_store(real_url)) as store:
        reply = await store.call(ScheduleCreate(name, "now", "{{.timestamp}}", 1000))
        assert reply.status == 400


# -- hazard 16 on a real server


@pytest.mark.parametrize(
    "id", ["a/b//c/", "a?b#c%2Fd", "käse & 日本", "..", "/", "a\nb", " a ", "x" * 900, "callback/x"]
)
async def test_hazard_16_any_id_reaches_a_real_server(real_url: str, id: str, name: str) -> None:
    id = id if id == ".." else f"{id}{name[-3:]}"
    async with opened(make_store(real_url)) as store:
        Worker(store, name, "p")
        task = await hold(store, id)
        await create(store, task, record(f"{id}.1", id))
        await settle(store, task, f"{id}.1")
        assert [one.id for one in await store.load(id)] == [f"{id}.1"]
        watcher = Watcher(store, id)
        assert await fulfill(store, task) is not LOST
        assert (await watcher.outcome()).id == id
        assert (await promise(store, id)).state is RESOLVED
