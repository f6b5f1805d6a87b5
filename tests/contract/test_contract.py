"""What every store promises, wherever it keeps its promises (S66): one suite for all of them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.contract.backends import TTL_S, Able
from tests.contract.conftest import OpenStore
from tests.stores.drive import (
    RESOLVED,
    TTL_MS,
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
from resonate_aio.protocol.records import Promise, PromiseState, TaskState, Value, is_pending
from resonate_aio.protocol.requests import (
    Execute,
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseSearch,
    PromiseSettle,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    TaskCreate,
    TaskHalt,
    TaskRelease,
    TaskSearch,
    TaskSuspend,
)
from resonate_aio.stores.base import LOST, Store

EXTERNAL = {"resonate:external": "true", "resonate:scope": "global"}
TIMER = {"resonate:timer": "true", "resonate:scope": "global"}
FINGERPRINT = "resonate-aio:fp"
EXPLICIT = "resonate-aio:explicit"
SOON_S = 15.0
"""What a server may take to tell (S66)."""


def external(id: str, **more: Any) -> PromiseCreate:
    return create(id, target=None, tags=EXTERNAL, **more)


def call(id: str, root: str, headers: dict[str, str] | None = None, **more: Any) -> Promise:
    """A call of an execution, as the runtime records it: with a fingerprint (S43)."""
    return child(id, root, param=Value({FINGERPRINT: "run|f|1|", **(headers or {})}), **more)


def taken(group: str, id: str) -> PromiseCreate:
    """A top-level promise for a group of its own."""
    return create(id, target=f"poll://any@{group}")


async def heard(inbox: Inbox, id: str) -> Execute:
    """The message that offers this task, once it comes."""
    async with asyncio.timeout(SOON_S):
        while True:
            for message in inbox.seen:
                if isinstance(message, Execute) and message.id == id:
                    return message
            await inbox.until(len(inbox.seen) + 1)


async def retaken(before: Store, after: Store, root: str, version: int) -> int:
    """Give a task back and take it again, as one worker after another does; its new version."""
    inbox = Inbox()
    leave = after.subscribe(f"g{root}", "next", inbox)
    await asyncio.sleep(0.3)
    await ok(before, TaskRelease(root, version))
    message = await heard(inbox, root)
    task = (await ok(after, acquire(root, message.version, "next"))).task
    assert task is not None
    leave()
    return task.version


async def hold(store: Store, root: str) -> int:
    """Create an execution of a group of its own, and hold it; its version."""
    task = (await ok(store, TaskCreate("p", TTL_MS, taken(f"g{root}", root)))).task
    assert task is not None
    return task.version


async def settled(store: Store, id: str) -> Promise:
    """Read until the promise is settled."""
    async with asyncio.timeout(SOON_S):
        while True:
            promise = (await ok(store, PromiseGet(id))).promise
            assert promise is not None
            if not is_pending(promise):
                return promise
            await asyncio.sleep(0.05)


async def test_create_get_and_settle_once(store: Store, root: str) -> None:
    """Law 1."""
    assert (await store.call(PromiseGet(root))).status == 404
    created = (await ok(store, external(root))).promise
    assert created is not None
    assert (await ok(store, external(root))).promise == created
    ended = (await ok(store, settle(root, "7"))).promise
    assert ended is not None
    assert (ended.state, ended.value.data) == (RESOLVED, "7")
    assert (await ok(store, settle(root, "8"))).promise == ended
    assert (await ok(store, PromiseGet(root))).promise == ended
    assert (await ok(store, external(root))).promise == ended


@pytest.mark.parametrize("state", [RESOLVED, PromiseState.REJECTED, PromiseState.CANCELED])
async def test_every_way_to_settle(store: Store, root: str, state: PromiseState) -> None:
    await ok(store, external(root))
    value = Value({"k": "v"}, '{"a":[1,null,"\u00fc"]}')
    ended = (await ok(store, PromiseSettle(root, state, value))).promise
    assert ended is not None
    assert (ended.state, ended.value) == (state, value)
    assert ended.settled_at_ms is not None


@pytest.mark.parametrize(
    "suffix", ["/a/b", "%2F", " x", "\u00fc\u20ac", "?a=b#c", "+", "..", "\U0001f600"]
)
async def test_ids_are_kept_as_they_are(store: Store, root: str, suffix: str) -> None:
    """N1 to N6: slashes, percent signs and letters of every kind are legal."""
    id = root + suffix
    made = (await ok(store, external(id))).promise
    assert made is not None
    assert made.id == id
    assert (await ok(store, settle(id, '"x"'))).promise is not None
    found = (await ok(store, PromiseGet(id))).promise
    assert found is not None
    assert (found.id, found.value.data) == (id, '"x"')


async def test_every_field_comes_back(store: Store, root: str) -> None:
    param = Value({"k": "v"}, '{"x":1.5,"y":"\U0001f600"}')
    request = create(root, target=None, tags={**EXTERNAL, "t": "1"}, param=param)
    created = (await ok(store, request)).promise
    assert created is not None
    assert (created.id, created.state, created.param) == (root, PromiseState.PENDING, param)
    assert created.timeout_at_ms == request.timeout_at_ms
    assert created.tags["t"] == "1"
    assert abs(created.created_at_ms - now_ms()) < 10_000


async def test_a_deadline_in_the_past_is_born_settled(store: Store, root: str) -> None:
    late = (await ok(store, external(root, timeout_at_ms=now_ms() - 1000))).promise
    assert late is not None
    assert late.state is PromiseState.TIMEDOUT


async def test_a_leaf_is_created_and_settled_under_its_lease(store: Store, root: str) -> None:
    version = await held(store, root)
    record = await step(store, root, version, 1, "42")
    assert (record.id, record.state, record.value.data) == (f"{root}.1", RESOLVED, "42")
    read = (await ok(store, PromiseGet(f"{root}.1"))).promise
    assert read is not None
    assert (read.state, read.value) == (record.state, record.value)
    again = await fence_settle(store, root, version, f"{root}.1", "other")
    assert isinstance(again, Promise)
    assert again.value.data == "42"
    end = await fulfill(store, root, version, "9")
    assert isinstance(end, Promise)
    assert end.value.data == "9"
    assert (await store.call(TaskRelease(root, version))).status in {200, 404, 409}
    assert (await settled(store, root)).value.data == "9"


async def test_a_create_meets_the_record_that_stands(store: Store, root: str) -> None:
    """S20: the store answers with the record, not with what was asked."""
    version = await hold(store, root)
    first = await step(store, root, version, 1, "1")
    version = await retaken(store, store, root, version)
    standing = await fence_create(store, root, version, child(f"{root}.1", root))
    assert isinstance(standing, Promise)
    assert (standing.state, standing.value) == (first.state, first.value)


async def test_what_is_not_held_is_not_written(store: Store, root: str) -> None:
    """Law 7: this store never held it, or holds it at another version."""
    version = await held(store, root)
    for stale in (version - 1, version + 1):
        assert await fence_create(store, root, stale, child(f"{root}.3", root)) is LOST
        assert await fence_settle(store, root, stale, f"{root}.2") is LOST
        assert await fulfill(store, root, stale) is LOST
    await ok(store, TaskRelease(root, version))
    assert await fence_create(store, root, version, child(f"{root}.3", root)) is LOST
    assert await fulfill(store, root, version) is LOST
    assert await fence_create(store, "none", 1, child("none.1", "none")) is LOST
    assert (await store.call(PromiseGet(f"{root}.3"))).status == 404


async def test_one_holder(open_store: OpenStore, able: Able, root: str) -> None:
    """Law 7: what another process took over is lost to the one that held it before."""
    if not (able.shares and able.fences and able.leases):
        pytest.skip("this store cannot be reached by two, or does not fence (S66)")
    first, second = await open_store(), await open_store()
    version = await held(first, root)
    assert (await second.call(acquire(root, version))).status == 409
    thief = TaskRelease(root, version)
    await ok(second, thief)  # as a lapsed lease leaves it
    task = (await ok(second, acquire(root, version, "q"))).task
    assert task is not None
    assert task.version == version + 1
    assert await fence_create(first, root, version, child(f"{root}.1", root)) is LOST
    assert await fulfill(first, root, version) is LOST
    assert await fulfill(second, root, version + 1, "2") is not LOST
    assert (await settled(first, root)).value.data == "2"


async def test_claims_and_refusals(store: Store, root: str) -> None:
    await held(store, root)
    assert (await store.call(TaskCreate("p", 1000, create(root)))).status == 409
    assert (await store.call(acquire(f"{root}-none", 1))).status in {404, 409}
    assert (await store.call(create(""))).status == 400


async def test_text_that_is_not_unicode_is_refused(store: Store, root: str) -> None:
    for request in (create("\ud800"), create(root, tags={"k": "a\udfffb"}), PromiseGet("\ud800")):
        reply = await store.call(request)
        assert reply.status == 400
        assert reply.error


async def test_cancelling_a_caller_never_cancels_the_request(store: Store, root: str) -> None:
    caller = asyncio.create_task(store.call(external(root)))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    async with asyncio.timeout(SOON_S):
        while (await store.call(PromiseGet(root))).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


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
