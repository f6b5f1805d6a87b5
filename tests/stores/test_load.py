"""What an execution is told of its past (S9), on every store."""

from __future__ import annotations

from typing import Any

from tests.stores.drive import (
    RESOLVED,
    TARGET,
    acquire,
    child,
    create,
    fence_create,
    fence_settle,
    fulfill,
    held,
    ok,
    settle,
    step,
)

from resonate_aio.protocol.records import Promise, Value
from resonate_aio.protocol.requests import PromiseGet, TaskRelease
from resonate_aio.stores.base import LOST
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore

AnyStore = MemoryStore | SqliteStore


async def ids(store: AnyStore, root: str) -> list[str]:
    loaded = await store.load(root)
    assert len({promise.id for promise in loaded}) == len(loaded)
    return sorted(promise.id for promise in loaded)


async def again(store: AnyStore, root: str, version: int) -> int:
    """The next hold of the execution, as after a crash of its holder."""
    await ok(store, TaskRelease(root, version))
    task = (await ok(store, acquire(root, version))).task
    assert task is not None
    return task.version


async def log_record(store: AnyStore, root: str, version: int, id: str, explicit: str) -> None:
    param = Value({"resonate-aio:explicit": explicit})
    record = child(id, root, param=param)
    assert isinstance(await fence_create(store, root, version, record), Promise)
    await fence_settle(store, root, version, id)


async def test_a_new_execution_has_no_past(store: AnyStore) -> None:
    await held(store, "a")
    assert await ids(store, "a") == []
    assert await ids(store, "none") == []


async def test_its_own_records_at_any_depth(store: AnyStore) -> None:
    version = await held(store, "a")
    await step(store, "a", version, 1)
    await step(store, "a", version, "1.1")
    await step(store, "a", version, "2.h-1.1")
    await fence_create(store, "a", version, child("a.3", "a"))
    version = await again(store, "a", version)
    loaded = {promise.id: promise for promise in await store.load("a")}
    assert sorted(loaded) == ["a.1", "a.1.1", "a.2.h-1.1", "a.3"]
    assert loaded["a.1"].state is RESOLVED
    assert loaded["a.1"].value.data == "1"
    assert loaded["a.3"].settled_at_ms is None


async def test_neighbours_in_the_order_of_ids_are_not_its_own(store: AnyStore) -> None:
    for id in ("a-1", "a", "a/1", "a.", "ab", "b"):
        version = await held(store, id)
        await step(store, id, version, 1)
    assert await ids(store, "a") == ["a.", "a.1"]  # "a." is foreign, "a..1" lies below it
    assert await ids(store, "a-1") == ["a-1.1"]
    assert await ids(store, "a/1") == ["a/1.1"]


async def test_an_rpc_childs_tree_is_its_own(store: AnyStore) -> None:
    version = await held(store, "a")
    for n in (1, 2, 3):
        await fence_create(
            store, "a", version, child(f"a.{n}", "a", tags={"resonate:target": TARGET})
        )
    for n in (1, 2):
        task = (await ok(store, acquire(f"a.{n}", 0))).task
        assert task is not None
        for s in range(1, 30):
            await step(store, f"a.{n}", task.version, s)
    await step(store, "a", version, "1-x")
    await step(store, "a", version, 4)
    assert await ids(store, "a") == ["a.1", "a.1-x", "a.2", "a.3", "a.4"]
    assert len(await ids(store, "a.1")) == 29


async def test_what_others_put_at_derived_ids(store: AnyStore) -> None:
    await ok(store, create("a.2", target=None))
    await ok(store, settle("a.2", "early"))
    await ok(store, create("a.2.1", target=None))
    await ok(store, create("a.5.1", target=None))
    version = await held(store, "a")
    await ok(store, create("a.3", target=None))
    await ok(store, settle("a.3", "late"))
    await step(store, "a", version, 1)
    early = await fence_create(store, "a", version, child("a.2", "a"))
    late = await fence_create(store, "a", version, child("a.3", "a"))
    assert isinstance(early, Promise)
    assert isinstance(late, Promise)
    assert (early.value.data, early.owner) == ("early", "")
    assert (late.value.data, late.owner) == ("late", "")
    version = await again(store, "a", version)
    assert await ids(store, "a") == ["a.1", "a.2", "a.3", "a.5.1"]
    assert await fence_create(store, "a", version, child("a.3", "a")) == late


async def test_a_foreign_record_settled_by_others_while_held(store: AnyStore) -> None:
    version = await held(store, "a")
    await ok(store, create("a.1", target=None))
    standing = await fence_create(store, "a", version, child("a.1", "a"))
    assert isinstance(standing, Promise)
    await ok(store, settle("a.1", "theirs"))
    settled = await fence_settle(store, "a", version, "a.1", "ours")
    assert isinstance(settled, Promise)
    assert settled.value.data == "theirs"


async def test_explicit_ids_and_their_trees(store: AnyStore) -> None:
    version = await held(store, "a")
    await log_record(store, "a", version, "a.1", "x")
    made = await fence_create(store, "a", version, child("x", ""))
    assert isinstance(made, Promise)
    await fence_create(store, "a", version, child("x.1", "x"))
    await fence_settle(store, "a", version, "x.1")
    await log_record(store, "a", version, "x.2", "y")
    await fence_create(store, "a", version, child("y", ""))
    await fence_create(store, "a", version, child("y.1", "y"))
    await fence_settle(store, "a", version, "y.1")
    await log_record(store, "a", version, "a.2", "far")
    await fence_create(store, "a", version, child("far", "", tags={"resonate:target": TARGET}))
    task = (await ok(store, acquire("far", 0))).task
    assert task is not None
    await step(store, "far", task.version, 1)
    await log_record(store, "a", version, "a.3", "never-made")
    expected = ["a.1", "a.2", "a.3", "far", "x", "x.1", "x.2", "y", "y.1"]
    found = await ids(store, "a")
    assert found == [id for id in expected if id != "x.2"] or found == expected
    version = await again(store, "a", version)
    assert await ids(store, "a") == found
    # The settled x.1 is known, wherever it lies: asking for it again changes nothing.
    kept = await fence_create(store, "a", version, child("x.3", "x"))
    assert isinstance(kept, Promise)


async def test_an_explicit_id_that_ended_long_ago_is_adopted(store: AnyStore) -> None:
    await ok(store, create("x", target=None))
    await ok(store, settle("x", "old"))
    await ok(store, create("x.1", target=None))
    await ok(store, settle("x.1", "old too"))
    version = await held(store, "a")
    await log_record(store, "a", version, "a.1", "x")
    standing = await fence_create(store, "a", version, child("x", ""))
    assert isinstance(standing, Promise)
    assert standing.value.data == "old"
    below = await fence_create(store, "a", version, child("x.1", "x"))
    assert isinstance(below, Promise)
    assert below.value.data == "old too"
    assert (await ok(store, PromiseGet("x"))).promise == standing
    assert await fence_create(store, "a", version + 1, child("z", "")) is LOST


async def test_a_fenced_create_without_load_still_respects_what_is_stored(store: AnyStore) -> None:
    version = await held(store, "a")
    first = await step(store, "a", version, 1, "first")
    await ok(store, create("a.2", target=None))
    second = (await ok(store, settle("a.2"))).promise
    version = await again(store, "a", version)
    assert await fence_create(store, "a", version, child("a.1", "a")) == first
    assert await fence_create(store, "a", version, child("a.2", "a")) == second
    third = await fence_create(store, "a", version, child("a.3", "a"))
    assert isinstance(third, Promise)
    await fence_settle(store, "a", version, "a.3")
    assert await fulfill(store, "a", version) is not LOST


async def test_thousands_of_records(store: AnyStore) -> None:
    version = await held(store, "a")
    done: Any = None
    for n in range(1, 3001):
        assert isinstance(
            store.fence_create("a", version, child(f"a.{n}", "a"), None, None), Promise
        )
        if n < 3000:
            store.fence_settle("a", version, f"a.{n}", RESOLVED, Value(), lambda *_: None, None)
    done = await fence_settle(store, "a", version, "a.3000")
    assert isinstance(done, Promise)
    version = await again(store, "a", version)
    assert len(await store.load("a")) == 3000
