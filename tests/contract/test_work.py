"""How every store offers work, keeps leases, and shows what was recorded (S66)."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.contract.backends import TTL_S, Able
from tests.contract.conftest import OpenStore
from tests.contract.drive import (
    EXPLICIT,
    EXTERNAL,
    SOON_S,
    TIMER,
    call,
    external,
    heard,
    hold,
    retaken,
    settled,
    taken,
)
from tests.stores.drive import (
    RESOLVED,
    Inbox,
    acquire,
    child,
    create,
    fence_create,
    fence_settle,
    fulfill,
    held,
    now_ms,
    ok,
    settle,
    step,
)

from resonate_aio.errors import ResonateStoreError
from resonate_aio.protocol.records import Promise, PromiseState, TaskState, Value
from resonate_aio.protocol.requests import (
    PromiseGet,
    PromiseRegisterCallback,
    PromiseSearch,
    PromiseSettle,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    TaskHalt,
    TaskRelease,
    TaskSearch,
    TaskSuspend,
)
from resonate_aio.stores.base import LOST, Store


async def test_work_is_offered_and_taken_once(open_store: OpenStore, root: str) -> None:
    store = await open_store()
    inbox = Inbox()
    leave = store.subscribe(f"g{root}", "p1", inbox)
    await asyncio.sleep(0.3)
    await ok(store, taken(f"g{root}", root))
    message = await heard(inbox, root)
    reply = await ok(store, acquire(root, message.version))
    assert reply.task is not None
    assert reply.promise is not None
    assert (reply.task.state, reply.promise.id) == (TaskState.ACQUIRED, root)
    assert (await store.call(acquire(root, message.version))).status == 409
    assert await fulfill(store, root, reply.task.version) is not LOST
    leave()
    leave()


async def test_what_waited_is_offered_to_whoever_comes(open_store: OpenStore, root: str) -> None:
    store = await open_store()
    await ok(store, taken(f"g{root}", root))
    inbox = Inbox()
    store.subscribe(f"g{root}", "p1", inbox)
    try:
        async with asyncio.timeout(40):
            await heard(inbox, root)
    except TimeoutError:
        pytest.fail("a pending task was not offered to a worker that came later")


async def test_a_released_task_is_offered_again(open_store: OpenStore, root: str) -> None:
    store = await open_store()
    inbox = Inbox()
    store.subscribe(f"g{root}", "p1", inbox)
    await asyncio.sleep(0.3)
    await ok(store, taken(f"g{root}", root))
    first = await heard(inbox, root)
    version = (await ok(store, acquire(root, first.version))).task.version  # type: ignore[union-attr]
    await fence_create(store, root, version, call(f"{root}.1", root))
    inbox.seen.clear()
    await ok(store, TaskRelease(root, version))
    again = await heard(inbox, root)
    reply = await ok(store, acquire(root, again.version))
    assert reply.task is not None
    assert reply.task.version > version
    found = {promise.id for promise in await store.load(root)}
    assert f"{root}.1" in found


async def test_a_lease_nobody_extends_ends(open_store: OpenStore, able: Able, root: str) -> None:
    """Law 6: a process that is gone keeps no execution."""
    if not able.leases:
        pytest.skip("leases of a store in this process end with the process")
    gone, other = await open_store(), await open_store()
    await hold(gone, root)
    inbox = Inbox()
    await gone.close()
    began_s = time.monotonic()
    other.subscribe(f"g{root}", "p2", inbox)
    message = await heard(inbox, root)
    reply = await ok(other, acquire(root, message.version, "p2"))
    assert reply.task is not None
    assert time.monotonic() - began_s < TTL_S + SOON_S


async def test_a_lease_is_extended_while_it_is_held(store: Store, able: Able, root: str) -> None:
    if not able.leases:
        pytest.skip("leases of a store in this process end with the process")
    version = await held(store, root)
    await asyncio.sleep(3 * TTL_S)
    assert isinstance(await step(store, root, version, 1), Promise)


async def test_whoever_settles_a_held_promise_ends_it(open_store: OpenStore, root: str) -> None:
    """S13: its holder is told, and writes no more."""
    store = await open_store()
    told = Inbox()
    store.subscribe(f"g{root}", "p1", Inbox(), told)
    version = await held(store, root)
    await asyncio.sleep(0.1)
    other = await open_store()
    await ok(other, PromiseSettle(root, PromiseState.CANCELED))
    async with asyncio.timeout(SOON_S):
        promise = (await told.until(1))[0]
    assert (promise.id, promise.state) == (root, PromiseState.CANCELED)
    assert await fence_create(store, root, version, child(f"{root}.1", root)) is LOST
    assert await fulfill(store, root, version) is LOST


async def test_watchers_hear_of_the_end(open_store: OpenStore, root: str) -> None:
    store, other = await open_store(), await open_store()
    store.subscribe(f"g{root}", "p1", Inbox())
    await ok(store, external(root))
    told, never = Inbox(), Inbox()
    store.watch(root, told)
    store.watch(root, never)
    store.unwatch(root, never)
    await asyncio.sleep(0.2)
    await ok(other, settle(root, "5"))
    async with asyncio.timeout(SOON_S):
        seen = await told.until(1)
        assert (seen[0].id, seen[0].value.data) == (root, "5")
        store.watch(root, told)
        assert (await told.until(2))[1].value.data == "5"
    assert not never.seen


async def test_a_timer_rings(store: Store, root: str) -> None:
    """Law 12: never early."""
    store.subscribe(f"g{root}", "p1", Inbox())
    version = await held(store, root)
    at_ms = now_ms() + 700
    timer = child(f"{root}.1", root, tags=TIMER)
    timer = Promise(timer.id, timer.state, at_ms, timer.created_at_ms, tags=TIMER, owner=root)
    assert isinstance(await fence_create(store, root, version, timer), Promise)
    pending = (await ok(store, PromiseGet(f"{root}.1"))).promise
    assert pending is not None
    assert pending.state is PromiseState.PENDING
    rung = await settled(store, f"{root}.1")
    assert rung.state is RESOLVED
    assert rung.settled_at_ms == rung.timeout_at_ms == at_ms
    assert now_ms() >= at_ms


async def test_load_finds_what_was_recorded(open_store: OpenStore, able: Able, root: str) -> None:
    """S9: local calls at every depth, helpers, log records and what they name."""
    store = await open_store()
    version = await hold(store, root)
    explicit = f"{root}-explicit"
    for id in (f"{root}.1", f"{root}.2", f"{root}.2.1", f"{root}.0-helper-1.1"):
        assert isinstance(await fence_create(store, root, version, call(id, root)), Promise)
    named = call(f"{root}.3", root, {EXPLICIT: explicit})
    assert isinstance(await fence_create(store, root, version, named), Promise)
    assert isinstance(await fence_create(store, root, version, call(explicit, "")), Promise)
    await fence_settle(store, root, version, f"{root}.1")
    remote = call(f"{root}.4", root, tags={"resonate:target": f"poll://any@n{root}"})
    assert isinstance(await fence_create(store, root, version, remote), Promise)
    other = await open_store() if able.shares else store
    await retaken(store, other, root, version)
    found = {promise.id: promise for promise in await other.load(root)}
    expected = {f"{root}.{rest}" for rest in ("1", "2", "2.1", "0-helper-1.1", "3", "4")}
    assert set(found) == {*expected, explicit}
    assert found[f"{root}.1"].state is RESOLVED
    assert found[f"{root}.2"].state is PromiseState.PENDING


async def test_explicit_ids_are_written_whoever_holds(store: Store, root: str) -> None:
    """S62: an id that does not continue the root's; the first write wins."""
    version = await held(store, root)
    explicit = f"elsewhere-{root}"
    made = await fence_create(store, root, version, child(explicit, ""))
    assert isinstance(made, Promise)
    ended = await fence_settle(store, root, version, explicit, "3")
    assert isinstance(ended, Promise)
    assert ended.value.data == "3"


async def test_suspend_and_resume(open_store: OpenStore, able: Able, root: str) -> None:
    if not able.suspends:
        pytest.skip("suspending is several requests there (S66)")
    store = await open_store()
    inbox = Inbox()
    store.subscribe(f"g{root}", "p1", inbox)
    await asyncio.sleep(0.3)
    await ok(store, taken(f"g{root}", root))
    message = await heard(inbox, root)
    version = (await ok(store, acquire(root, message.version))).task.version  # type: ignore[union-attr]
    awaited = child(f"{root}.1", root, tags=EXTERNAL)
    assert isinstance(await fence_create(store, root, version, awaited), Promise)
    inbox.seen.clear()
    awaits = (PromiseRegisterCallback(f"{root}.1", root),)
    await ok(store, TaskSuspend(root, version, awaits))
    assert await fence_create(store, root, version, child(f"{root}.2", root)) is LOST
    await ok(store, settle(f"{root}.1"))
    again = await heard(inbox, root)
    version = (await ok(store, acquire(root, again.version))).task.version  # type: ignore[union-attr]
    assert (await store.call(TaskSuspend(root, version, awaits))).status == 300


async def test_halt(store: Store, able: Able, root: str) -> None:
    if not able.halts:
        pytest.skip("tasks cannot be halted there (S66)")
    version = await held(store, root)
    await ok(store, TaskHalt(root))
    assert await fulfill(store, root, version) is LOST


async def test_searches_page_in_order(store: Store, root: str) -> None:
    for n in range(7):
        await ok(store, create(f"{root}-{n}", target=None, tags={**EXTERNAL, "mark": root}))
    await ok(store, settle(f"{root}-3"))
    ids: list[str] = []
    cursor = None
    while True:
        reply = await ok(store, PromiseSearch(tags={"mark": root}, limit=3, cursor=cursor))
        ids += [promise.id for promise in reply.promises]
        cursor = reply.cursor
        if cursor is None:
            break
    assert sorted(ids) == [f"{root}-{n}" for n in range(7)]
    done = await ok(store, PromiseSearch(RESOLVED, tags={"mark": root}))
    assert [promise.id for promise in done.promises] == [f"{root}-3"]


async def test_tasks_are_searched(store: Store, able: Able, root: str) -> None:
    if not able.searches_tasks:
        pytest.skip("tasks cannot be searched there (S66)")
    await held(store, root)
    cursor = None
    found: list[str] = []
    while True:
        reply = await ok(store, TaskSearch(TaskState.ACQUIRED, limit=1000, cursor=cursor))
        found += [task.id for task in reply.tasks]
        cursor = reply.cursor
        if cursor is None:
            break
    assert root in found


async def test_schedules(store: Store, root: str) -> None:
    tags = {"resonate:target": "poll://any@nobody"}
    request = ScheduleCreate(
        root, "0 0 1 1 *", f"{root}-{{{{.timestamp}}}}", 60_000, Value(data='"x"'), tags
    )
    made = (await ok(store, request)).schedule
    assert made is not None
    assert (made.id, made.cron, made.promise_param.data) == (root, "0 0 1 1 *", '"x"')
    assert (await ok(store, ScheduleGet(root))).schedule == made
    await ok(store, ScheduleDelete(root))
    assert (await store.call(ScheduleGet(root))).status == 404


async def test_many_executions_at_once(store: Store, root: str) -> None:
    async def execution(n: int) -> None:
        id = f"{root}-{n}"
        version = await held(store, id)
        for s in range(1, 4):
            await step(store, id, version, s)
        assert await fulfill(store, id, version) is not LOST

    await asyncio.gather(*(execution(n) for n in range(30)))


async def test_users_are_counted_and_a_closed_store_says_so(
    open_store: OpenStore, root: str
) -> None:
    store = await open_store()
    await store.open()
    await store.close()
    await ok(store, external(root))
    await store.close()
    with pytest.raises(ResonateStoreError):
        await store.call(PromiseGet(root))
    with pytest.raises(ResonateStoreError):
        store.subscribe("g", "p", Inbox())
    await store.open()
    assert (await store.call(PromiseGet(root))).status == 200
