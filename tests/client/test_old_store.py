"""A store and message source of SDK release 0.6.7 as a client's own (mission C16, C17)."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from tests.client.old_store import OldSource, OldStore, OldStoreError

from resonate_aio import Context, Resonate
from resonate_aio.client.servers import blocking_store
from resonate_aio.errors import ResonateStoreError
from resonate_aio.protocol.records import PromiseState
from resonate_aio.protocol.requests import PromiseCreate, TaskCreate, TaskHeartbeat, TaskRelease
from resonate_aio.stores.legacy.sync_records import status_of
from resonate_aio.stores.memory import MemoryStore

ran: list[str] = []


async def add(ctx: Context, a: int, b: int) -> int:
    ran.append(ctx.id)
    return a + b


async def fails(ctx: Context) -> None:
    raise LookupError("no luck")


async def helper(ctx: Context, n: int) -> int:
    return await ctx.run(add, await ctx.run(add, n, 1), 1)


async def flow(ctx: Context, n: int) -> Any:
    a = await ctx.run(add, n, 1)
    b = await ctx.rpc("add", a, 1)
    await ctx.sleep(0.05)
    c = await asyncio.gather(*(helper(ctx, n) for n in range(3)))
    answer = await ctx.promise(id=f"{ctx.id}-answer")
    return [a, b, c, await answer]


def make(store: OldStore, pid: str = "one", **options: Any) -> Resonate:
    ran.clear()
    resonate = Resonate(store=store, message_source=OldSource(store, "default", pid), **options)
    for func in (add, fails, flow):
        resonate.register(func)
    return resonate


async def answered(resonate: Resonate, id: str) -> None:
    while True:
        try:
            await resonate.promises.resolve(id, value="yes")
            return
        except ResonateStoreError:
            await asyncio.sleep(0.01)


async def test_everything_runs_on_it() -> None:
    """Mission C16: its calls are made on one thread, which is gone when the client stopped."""
    threads, store = threading.active_count(), OldStore()
    async with make(store) as resonate:
        handle = resonate.begin_run("order/1", flow, 1)
        await answered(resonate, "order/1-answer")
        assert await handle.result(10) == [2, 3, [2, 3, 4], "yes"]
        assert await resonate.run("order/1", flow, 1) == [2, 3, [2, 3, 4], "yes"]
        assert await resonate.rpc("b", "add", 3, 4).result(10) == 7
        with pytest.raises(LookupError, match="no luck"):
            await resonate.run("c", fails)
        assert "x.3-helper-2.1" in (await handle.explain()).replace("order/1", "x")
        limited = resonate.options(timeout=0.05).begin_rpc("d", "nobody")
        with pytest.raises(Exception, match="'d'"):
            await limited.result(10)
        await resonate.promises.create("p", timeout_in=60)
        await resonate.promises.cancel("p")
        assert (await resonate.promises.get("p")).state is PromiseState.CANCELED
        made = await resonate.schedules.create("s", "@daily", "s-{{.timestamp}}", 1_000)
        assert await resonate.schedules.get("s") == made
        await resonate.schedules.delete("s")
        with pytest.raises(ResonateStoreError):
            await resonate.schedules.get("s")
        with pytest.raises(ResonateStoreError, match="cannot list"):
            await resonate.promises.search()
    assert all(name.startswith("resonate_aio ") for name in store.threads)
    assert threading.active_count() == threads
    assert store.server.promises["order/1"].tags["resonate:invoke"] == "post://any@default/one"


async def test_another_client_goes_on() -> None:
    """Mission C16, laws 2, 6: what is recorded is found, though the store cannot list."""
    store = OldStore()
    async with make(store) as resonate:
        handle = resonate.begin_run("x", flow, 1)
        while not any("helper-3.2" in id for id in ran):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert not handle.done()
    async with make(store, "two", ttl=0.5) as resonate:
        await answered(resonate, "x-answer")
        # The other client's lease has to run out: there is no giving back in that release.
        store.server.lapse("__invoke:x")
        assert await resonate.get("x").result(10) == [2, 3, [2, 3, 4], "yes"]
        assert ran == [], "no recorded step starts again"


async def test_trouble_is_no_outcome(caplog: pytest.LogCaptureFixture) -> None:
    """Law 8: what is no answer of the store is asked again, and said once."""
    store = OldStore()
    async with make(store) as resonate:
        await resonate.run("a", add, 1, 1)
        store.fails = 2
        assert await resonate.run("b", add, 1, 2).result(10) == 3
    assert len([text for text in caplog.messages if "the disk is away" in text]) == 1


async def test_a_task_that_is_given_back_is_beaten_for_no_more() -> None:
    """S42: that release has no `drop`, and its heartbeat is for all of a process's tasks."""
    store = OldStore()
    adapted = blocking_store(store, OldSource(store, "default", "one"), ttl_s=10)
    await adapted.open()
    for id in ("kept", "given-back"):
        tags = {"resonate:target": "poll://any@default/one"}
        action = PromiseCreate(id, int(time.time() * 1000) + 60_000, tags=tags)
        assert (await adapted.call(TaskCreate("one", 10_000, action))).status == 200
    held = store.server.tasks
    assert held["__invoke:kept"].process != held["__invoke:given-back"].process
    assert (await adapted.call(TaskRelease("given-back", 1))).status == 200
    await adapted.call(TaskHeartbeat("one", ()))
    assert store.pids == {held["__invoke:kept"].process}
    await adapted.close()


async def test_a_message_that_names_no_root() -> None:
    """`__resume:{root}:{awaited}` with colons in both: whichever of the promises there are."""
    store = OldStore()
    source = OldSource(store, "default", "one")
    far_ms = int(time.time() * 1000) + 60_000
    for id, tags in (("a:b", {"resonate:invoke": "x"}), ("a", {}), ("c:d", {}), ("b:c:d", {})):
        store.promises.create(id, far_ms, tags=tags)
    adapted = blocking_store(store, source, ttl_s=10)
    await adapted.open()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    leave = adapted.subscribe("default", "one", heard.put_nowait)
    source.enqueue({"type": "nonsense"})
    source.enqueue({"type": "resume", "task": {"id": "__resume:x:y", "counter": 1}})
    source.enqueue({"type": "resume", "task": {"id": "__resume:a:b:c:d", "counter": 7}})
    async with asyncio.timeout(5):
        assert (await heard.get()).id == "a:b"
    leave()
    await adapted.close()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OldStoreError("", 40400), 404),
        (OldStoreError("", 40403), 404),
        (OldStoreError("", 40399), 403),
        (OldStoreError("", 40900), 409),
        (ResonateStoreError("", 404), 404),
        (OldStoreError("", 50000), None),
        (OldStoreError("", 0), None),
        (OSError("away"), None),
    ],
)
def test_what_an_error_of_the_store_means(error: Exception, status: int | None) -> None:
    """An answer, or trouble: a code of the server is one, as that release writes it."""
    assert status_of(error) == status


def test_a_pair_that_does_not_go_together() -> None:
    """Mission C16, C17, C20: named, and at once."""
    store = OldStore()
    source = OldSource(store, "default", "one")
    with pytest.raises(ValueError, match="message_source="):
        Resonate(store=store)
    with pytest.raises(TypeError, match=r"goes with a store= of that release, got MemoryStore"):
        Resonate(store=MemoryStore(), message_source=source)
    with pytest.raises(ValueError, match="'shop'"):
        Resonate(store=store, message_source=source, group="shop")
    incomplete: Any = type("Incomplete", (), {"promises": store.promises, "tasks": object()})()
    with pytest.raises(TypeError, match="store is a Store, got Incomplete"):
        Resonate(store=incomplete)
