"""What every store in the process promises, whatever it keeps its records in."""

from __future__ import annotations

import asyncio

import pytest
from tests.stores.drive import (
    RESOLVED,
    Acks,
    Inbox,
    acquire,
    child,
    claim,
    create,
    fence_create,
    fence_settle,
    fulfill,
    held,
    now_ms,
    ok,
    passes,
    settle,
    step,
)

from resonate_aio.errors import ResonateStoreError, UsageError
from resonate_aio.protocol.records import Promise, PromiseState, TaskState, Value
from resonate_aio.protocol.requests import (
    Execute,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSearch,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    ScheduleSearch,
    TaskAcquire,
    TaskFence,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
    TaskSearch,
    TaskSuspend,
    Unblock,
)
from resonate_aio.stores.base import LOST, Store
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore

AnyStore = MemoryStore | SqliteStore


def test_satisfies_the_seam(store: AnyStore) -> None:
    seam: Store = store
    assert seam.in_process


async def test_create_get_and_settle_once(store: AnyStore) -> None:
    assert (await store.call(PromiseGet("a"))).status == 404
    created = (await ok(store, create("a", target=None))).promise
    assert created is not None
    assert (await ok(store, create("a", target=None))).promise == created
    settled = (await ok(store, settle("a", "7"))).promise
    assert settled is not None
    assert (settled.state, settled.value.data) == (RESOLVED, "7")
    assert (await ok(store, settle("a", "8"))).promise == settled
    assert (await ok(store, PromiseGet("a"))).promise == settled
    assert (await ok(store, create("a", target=None))).promise == settled


async def test_every_field_comes_back(store: AnyStore) -> None:
    param = Value({"k": "v", "ü": "€"}, '{"x":1}')
    request = create("a", tags={"t": "1", "ß": "\U0001f600"}, param=param)
    created = (await ok(store, request)).promise
    assert created is not None
    assert created == Promise(
        "a",
        PromiseState.PENDING,
        request.timeout_at_ms,
        created.created_at_ms,
        param,
        tags=request.tags,
    )
    assert (await ok(store, PromiseGet("a"))).promise == created
    await ok(store, settle("a"))
    read = (await ok(store, PromiseGet("a"))).promise
    assert read is not None
    assert (read.param, read.tags, read.created_at_ms) == (
        param,
        request.tags,
        created.created_at_ms,
    )


async def test_a_leaf_is_created_and_settled_under_its_lease(store: AnyStore) -> None:
    version = await held(store, "a")
    record = await step(store, "a", version, 1, "42")
    assert (record.id, record.state, record.value.data) == ("a.1", RESOLVED, "42")
    assert (await ok(store, PromiseGet("a.1"))).promise == record
    assert await fence_settle(store, "a", version, "a.1", "other") == record
    end = await fulfill(store, "a", version, "done")
    assert isinstance(end, Promise)
    assert (await ok(store, PromiseGet("a"))).promise == end
    task = (await ok(store, TaskGet("a"))).task
    assert task is not None
    assert task.state is TaskState.FULFILLED


async def test_a_new_fenced_record_is_the_very_one_that_was_given(store: AnyStore) -> None:
    version = await held(store, "a")
    given = child("a.1", "a")
    standing = store.fence_create("a", version, given, None, None)
    assert isinstance(standing, Promise)
    assert (standing.id, standing.owner, standing.state) == ("a.1", "a", PromiseState.PENDING)
    assert store.fence_create("a", version, child("a.1", "a"), None, None) == standing


async def test_a_lost_lease_records_nothing(store: AnyStore) -> None:
    version = await held(store, "a")
    await step(store, "a", version, 1)
    assert store.fence_create("a", version, child("a.2", "a"), None, None) is not LOST
    for stale in (version - 1, version + 1):
        assert await fence_create(store, "a", stale, child("a.3", "a")) is LOST
        assert await fence_settle(store, "a", stale, "a.2") is LOST
        assert await fulfill(store, "a", stale) is LOST
    await ok(store, TaskRelease("a", version))
    assert await fence_create(store, "a", version, child("a.3", "a")) is LOST
    assert await fence_settle(store, "a", version, "a.2") is LOST
    assert await fence_settle(store, "a", version, "a.1") is LOST
    assert await fulfill(store, "a", version) is LOST
    assert await fence_create(store, "none", 1, child("none.1", "none")) is LOST
    assert (await store.call(PromiseGet("a.3"))).status == 404


async def test_a_request_that_waits_for_a_look_up_sees_what_ended_meanwhile(
    store: AnyStore,
) -> None:
    version = await held(store, "a")
    store.fulfill("a", version, RESOLVED, Value(), Acks(), None)
    reply = await store.call(TaskFence("a", version, create("a.never-made")))
    assert reply.status == 409


async def test_the_next_holder_does_not_trust_what_the_last_one_knew(store: AnyStore) -> None:
    version = await held(store, "a")
    record = await step(store, "a", version, 1)
    released, acquired = await asyncio.gather(
        store.call(TaskRelease("a", version)), store.call(acquire("a", version))
    )
    assert (released.status, acquired.status) == (200, 200)
    assert await fence_create(store, "a", version + 1, child("a.1", "a")) == record


async def test_a_settled_root_ends_the_lease(store: AnyStore) -> None:
    version = await held(store, "a")
    await ok(store, settle("a"))
    assert await fence_create(store, "a", version, child("a.1", "a")) is LOST
    assert await fulfill(store, "a", version) is LOST


async def test_refusals_are_replies(store: AnyStore) -> None:
    await held(store, "a")
    assert (await store.call(claim("a"))).status == 409
    assert (await store.call(acquire("a", 0))).status == 409
    assert (await store.call(acquire("none", 0))).status == 404
    assert (await store.call(TaskRelease("a", 9))).status == 409
    assert (await store.call(create(""))).status == 400
    assert (await store.call(PromiseSearch(limit=0))).status == 400
    assert (await store.call(TaskSearch(limit=0))).status == 400


async def test_numbers_that_are_too_large_are_refused(store: AnyStore) -> None:
    for request in (
        create("a", timeout_at_ms=2**63),
        create("a", timeout_at_ms=2**70),
        TaskAcquire("a", 2**70, "p", 1),
        TaskAcquire("a", 0, "p", 2**60),
    ):
        assert (await store.call(request)).status == 400
    await ok(store, create("a", timeout_at_ms=2**63 - 1))
    await ok(store, TaskAcquire("a", 0, "p", 2**53 - 1))


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
async def test_text_that_is_not_unicode_is_refused(store: AnyStore, text: str) -> None:
    for request in (
        create(text),
        create("a", tags={"k": text}),
        create("a", param=Value(data=text)),
        create("a", param=Value(headers={text: "v"})),
        TaskFence("a", 1, create(text)),
        PromiseGet(text),
    ):
        reply = await store.call(request)
        assert reply.status == 400
        assert reply.error is not None
    await ok(store, create("a"))


async def test_cancelling_a_caller_never_cancels_the_request(store: AnyStore) -> None:
    caller = asyncio.create_task(store.call(create("a")))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    assert isinstance(store, MemoryStore) or caller.cancelled()
    assert (await store.call(PromiseGet("a"))).status == 200


async def test_suspend_and_resume(store: AnyStore) -> None:
    version = await held(store, "a")
    await ok(store, create("b"))
    awaits = (PromiseRegisterCallback("b", "a"),)
    await ok(store, TaskSuspend("a", version, awaits))
    await ok(store, settle("b"))
    task = (await ok(store, TaskGet("a"))).task
    assert task is not None
    assert (task.state, task.resumes) == (TaskState.PENDING, ("b",))
    version = (await ok(store, acquire("a", version))).task.version  # type: ignore[union-attr]
    assert (await store.call(TaskSuspend("a", version, awaits))).status == 300


async def test_halted_tasks_and_heartbeats(store: AnyStore) -> None:
    version = await held(store, "a")
    before = (await ok(store, TaskGet("a"))).task
    await asyncio.sleep(0.003)
    await ok(store, TaskHeartbeat("p", (TaskRef("a", version),)))
    after = (await ok(store, TaskGet("a"))).task
    assert before is not None
    assert after is not None
    assert after.expires_at_ms is not None
    assert before.expires_at_ms is not None
    assert after.expires_at_ms > before.expires_at_ms
    await ok(store, TaskHalt("a"))
    assert await fulfill(store, "a", version) is LOST


async def test_a_lease_that_is_not_extended_ends(store: AnyStore) -> None:
    inbox = Inbox()
    store.subscribe("default", "p", inbox)
    await ok(store, create("b"))
    assert await inbox.until(1) == [Execute("b", 0)]
    await ok(store, TaskAcquire("b", 0, "p", 20))
    assert await inbox.until(2) == [Execute("b", 0), Execute("b", 1)]
    assert await fulfill(store, "b", 1) is LOST


async def test_deadlines_of_external_promises_come_by_themselves(store: AnyStore) -> None:
    inbox = Inbox()
    store.subscribe("default", "p", inbox)
    tags = {"resonate:timer": "true"}
    await ok(store, create("t", target=None, tags=tags, timeout_at_ms=now_ms() + 400))
    await ok(store, create("far", target=None, tags=tags))
    await ok(store, PromiseRegisterListener("t", "poll://uni@default/p"))
    message = (await inbox.until(1))[0]
    assert isinstance(message, Unblock)
    assert message.promise.state is RESOLVED
    assert message.promise.settled_at_ms == message.promise.timeout_at_ms
    assert now_ms() >= message.promise.timeout_at_ms


async def test_a_fenced_timer_rings_too(store: AnyStore) -> None:
    version = await held(store, "a")
    inbox = Inbox()
    store.subscribe("default", "p", inbox)
    timer = child("a.1", "a", tags={"resonate:timer": "true"})
    timer = Promise(
        timer.id, timer.state, now_ms() + 400, timer.created_at_ms, tags=timer.tags, owner="a"
    )
    store.fence_create("a", version, timer, None, None)
    await ok(store, PromiseRegisterListener("a.1", "poll://uni@default/p"))
    await inbox.until(1)


async def test_searches_page_in_id_order(store: AnyStore) -> None:
    version = await held(store, "a")
    for n in range(1, 8):
        await step(store, "a", version, n)
    await ok(store, create("b", tags={"k": "v"}))
    ids: list[str] = []
    cursor = None
    while True:
        reply = await ok(store, PromiseSearch(limit=3, cursor=cursor))
        ids += [promise.id for promise in reply.promises]
        cursor = reply.cursor
        if cursor is None:
            break
    assert ids == ["a", *(f"a.{n}" for n in range(1, 8)), "b"]
    pending = await ok(store, PromiseSearch(PromiseState.PENDING))
    assert [promise.id for promise in pending.promises] == ["a", "b"]
    tagged = await ok(store, PromiseSearch(tags={"k": "v"}))
    assert [promise.id for promise in tagged.promises] == ["b"]
    tasks = await ok(store, TaskSearch(TaskState.ACQUIRED))
    assert [task.id for task in tasks.tasks] == ["a"]
    assert [t.id for t in (await ok(store, TaskSearch(limit=1))).tasks] == ["a"]


async def test_searches_show_what_the_deadline_made_of_it(store: AnyStore) -> None:
    await ok(store, create("a", target=None, timeout_at_ms=now_ms() + 5))
    await asyncio.sleep(0.02)
    assert not (await ok(store, PromiseSearch(PromiseState.PENDING))).promises
    late = (await ok(store, PromiseSearch(PromiseState.TIMEDOUT))).promises
    assert [promise.id for promise in late] == ["a"]


async def test_schedules(store: AnyStore) -> None:
    request = ScheduleCreate(
        "s", "* * * * *", "s.{{.timestamp}}", 1000, Value(data="1"), {"k": "v"}
    )
    made = (await ok(store, request)).schedule
    assert made is not None
    assert (await ok(store, request)).schedule == made
    assert (await ok(store, ScheduleGet("s"))).schedule == made
    assert (await ok(store, ScheduleSearch(tags={"k": "v"}))).schedules == (made,)
    await ok(store, ScheduleDelete("s"))
    assert (await store.call(ScheduleGet("s"))).status == 404


async def test_a_watcher_hears_of_the_end(store: AnyStore) -> None:
    version = await held(store, "a")
    heard, never = Inbox(), Inbox()
    store.watch("a", heard)
    store.watch("a", never)
    store.unwatch("a", never)
    store.watch("none", never)
    await fulfill(store, "a", version)
    seen = await heard.until(1)
    assert [(promise.id, promise.state) for promise in seen] == [("a", RESOLVED)]
    store.watch("a", heard)
    seen = await heard.until(2)
    assert seen[1] == seen[0]
    assert not never.seen


async def test_records_outlive_close_and_open(store: AnyStore) -> None:
    version = await held(store, "a")
    await step(store, "a", version, 1)
    await ok(store, create("b"))
    await ok(store, PromiseRegisterListener("b", "poll://uni@default/p"))
    await ok(store, ScheduleCreate("s", "* * * * *", "s.{{.timestamp}}", 1000))
    await ok(store, TaskRelease("a", version))
    await store.close()
    with pytest.raises(ResonateStoreError):
        await store.call(PromiseGet("a"))
    await store.open()
    assert (await ok(store, PromiseGet("a.1"))).promise is not None
    assert (await ok(store, ScheduleGet("s"))).schedule is not None
    inbox = Inbox()
    store.subscribe("default", "p", inbox)
    await ok(store, settle("b"))
    seen = await inbox.until(2)
    assert seen[0] == Execute("a", version)
    assert [message.promise.id for message in seen if isinstance(message, Unblock)] == ["b"]
    assert (await ok(store, acquire("a", version))).task is not None


async def test_users_are_counted(store: AnyStore) -> None:
    await store.open()
    await store.open()
    await store.close()
    await store.close()
    await ok(store, create("a"))
    await store.close()
    await store.close()
    await store.close()
    with pytest.raises(ResonateStoreError):
        await store.call(PromiseGet("a"))
    with pytest.raises(ResonateStoreError):
        store.subscribe("default", "p", print)
    await store.open()
    await ok(store, PromiseGet("a"))


async def test_flush_and_an_ack_for_a_create(store: AnyStore) -> None:
    version = await held(store, "a")
    acks = Acks()
    record = store.fence_create("a", version, child("a.1", "a"), acks, "c")
    assert isinstance(record, Promise)
    store.flush()
    if isinstance(store, SqliteStore):
        assert await acks.wait("c") == record
    else:
        await passes()
        assert not acks.seen
    assert store.fence_create("a", version, child("a.2", "a"), None, None) is not None
    store.flush()
    assert await fulfill(store, "a", version) is not LOST


async def test_many_executions_at_once(store: AnyStore) -> None:
    async def execution(n: int) -> None:
        version = await held(store, f"x{n}")
        for s in range(1, 6):
            await step(store, f"x{n}", version, s)
        assert await fulfill(store, f"x{n}", version) is not LOST

    await asyncio.gather(*(execution(n) for n in range(200)))
    assert len((await ok(store, PromiseSearch(RESOLVED, limit=1000))).promises) == 1000
    left = await ok(store, PromiseSearch(PromiseState.PENDING))
    assert not left.promises


def test_reopens_on_another_loop(path: object) -> None:
    for made in (MemoryStore(), SqliteStore(str(path))):

        async def use(store: AnyStore, n: int) -> int:
            await store.open()
            await ok(store, create(f"a{n}"))
            found = len((await ok(store, PromiseSearch())).promises)
            await store.close()
            return found

        assert asyncio.run(use(made, 1)) == 1
        assert asyncio.run(use(made, 2)) == 2


def test_a_loop_that_was_closed_under_the_store_is_left_behind(path: object) -> None:
    for made in (MemoryStore(), SqliteStore(str(path))):

        async def leave_open(store: AnyStore) -> None:
            await store.open()
            await ok(store, create("a"))

        async def use(store: AnyStore) -> None:
            await store.open()
            await ok(store, PromiseGet("a"))
            await store.close()

        asyncio.run(leave_open(made))
        asyncio.run(use(made))


async def test_is_refused_on_a_second_running_loop(store: AnyStore) -> None:
    def elsewhere() -> None:
        with pytest.raises(UsageError, match="another event loop"):
            asyncio.run(store.open())

    await asyncio.to_thread(elsewhere)
