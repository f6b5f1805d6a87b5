"""Whole executions are deleted, and nothing that an unsettled one asked for (S45)."""

from __future__ import annotations

import asyncio

from tests.stores.drive import (
    TARGET,
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

from resonate_aio.protocol.records import Promise, Value
from resonate_aio.protocol.requests import PromiseGet, PromiseSearch
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore

AnyStore = MemoryStore | SqliteStore


async def left(store: AnyStore) -> list[str]:
    return [p.id for p in (await ok(store, PromiseSearch(limit=1000))).promises]


async def execution(store: AnyStore, root: str, steps: int = 2) -> None:
    version = await held(store, root)
    for n in range(1, steps + 1):
        await step(store, root, version, n)
    await fulfill(store, root, version)


async def test_goes_by_the_time_of_settling(store: AnyStore) -> None:
    await execution(store, "old")
    await asyncio.sleep(0.01)
    limit_ms = now_ms()
    await asyncio.sleep(0.01)
    await execution(store, "new")
    await held(store, "live")
    assert await store.prune(limit_ms) == 1
    assert await left(store) == ["live", "new", "new.1", "new.2"]
    assert (await store.call(PromiseGet("old.1"))).status == 404
    await execution(store, "old", 1)  # the id may be used again
    assert await store.prune(now_ms() + 1000) == 2
    assert await left(store) == ["live"]


async def test_membership_goes_by_the_stored_owner(store: AnyStore) -> None:
    await execution(store, "order")
    await held(store, "order.9")
    await ok(store, create("order.8", target=None))
    assert await store.prune(now_ms() + 1000) == 1
    assert await left(store) == ["order.8", "order.9"]


async def test_a_root_below_an_unsettled_one_stays(store: AnyStore) -> None:
    await held(store, "order")
    await execution(store, "order.9")
    assert await store.prune(now_ms() + 1000) == 0


async def test_what_an_unsettled_execution_asked_for_stays(store: AnyStore) -> None:
    version = await held(store, "a")
    await step(store, "a", version, 1)
    await fence_create(store, "a", version, child("a.2", "a", tags={"resonate:target": TARGET}))
    task = (await ok(store, acquire("a.2", 0))).task
    assert task is not None
    await step(store, "a.2", task.version, 1)
    await fulfill(store, "a.2", task.version)
    log = child("a.3", "a", param=Value({"resonate-aio:explicit": "x"}))
    await fence_create(store, "a", version, log)
    await fence_settle(store, "a", version, "a.3")
    await fence_create(store, "a", version, child("x", ""))
    await fence_settle(store, "a", version, "x")
    before = await left(store)
    assert await store.prune(now_ms() + 1000) == 0
    assert await left(store) == before
    assert isinstance(await fulfill(store, "a", version), Promise)
    assert await store.prune(now_ms() + 1000) == 3
    assert await left(store) == []


async def test_waits_for_pending_local_children(store: AnyStore) -> None:
    version = await held(store, "a")
    await fence_create(store, "a", version, child("a.1", "a", tags={"resonate:timer": "true"}))
    await fulfill(store, "a", version)
    assert await store.prune(now_ms() + 1000) == 0
    await ok(store, settle("a.1"))
    assert await store.prune(now_ms() + 1000) == 1


async def test_counts_promises_whose_deadline_nobody_enforced(store: AnyStore) -> None:
    await ok(store, create("a", target=None, timeout_at_ms=now_ms() + 5))
    await asyncio.sleep(0.02)
    assert await store.prune(now_ms()) == 1
    assert await left(store) == []


async def test_many_executions(store: AnyStore) -> None:
    await asyncio.gather(*(execution(store, f"e{n}") for n in range(170)))
    await held(store, "live")
    assert await store.prune(now_ms() + 1000) == 170
    assert await left(store) == ["live"]
