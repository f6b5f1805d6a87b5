"""What a restart of the server means for workers elsewhere (S44, S45, law 7)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.server.wire import EXTERNAL, FAR_MS, TARGET, Wire, polling, serving

from resonate_aio.protocol import requests as r
from resonate_aio.protocol.records import PromiseState, TaskState, Value
from resonate_aio.stores.sqlite import SqliteStore

RESOLVED = PromiseState.RESOLVED
FOREVER_MS = 2**52


async def task_of(wire: Wire, id: str) -> tuple[str, int]:
    task = (await wire.ask(r.TaskGet(id))).data["task"]
    return task["state"], task["version"]


async def test_leases_of_workers_elsewhere_outlive_the_server(tmp_path: Path) -> None:
    """The holder goes on as if nothing had happened: fence, beat, wait, fulfil."""
    path = tmp_path / "app.db"
    async with serving(SqliteStore(path)) as (_, wire):
        await wire.ask(r.PromiseCreate("e", FAR_MS, tags=EXTERNAL))
        create = r.PromiseCreate("t", FAR_MS, tags=TARGET)
        await wire.ask(r.TaskCreate("elsewhere", 60_000, create))
        await wire.ask(r.TaskFence("t", 1, r.PromiseCreate("t.1", FAR_MS)))
    async with serving(SqliteStore(path)) as (_, wire):
        assert await task_of(wire, "t") == (TaskState.ACQUIRED, 1)
        assert (await wire.ask(r.TaskAcquire("t", 1, "thief", 60_000))).status == 409
        await wire.ask(r.TaskHeartbeat("elsewhere", (r.TaskRef("t", 1),)))
        settle = r.PromiseSettle("t.1", RESOLVED, Value(data="1"))
        inner = (await wire.ask(r.TaskFence("t", 1, settle))).data["action"]
        assert inner["data"]["promise"]["state"] == "resolved"
        wait = r.TaskSuspend("t", 1, (r.PromiseRegisterCallback("e", "t"),))
        assert (await wire.ask(wait)).status == 200
    async with serving(SqliteStore(path)) as (server, wire), polling(server, "g", "1") as stream:
        assert await task_of(wire, "t") == (TaskState.SUSPENDED, 1)
        await wire.ask(r.PromiseSettle("e", RESOLVED))
        assert await stream.execute() == ("t", 1)
        assert (await wire.ask(r.TaskAcquire("t", 1, "elsewhere", 60_000))).status == 200
        fulfill = r.TaskFulfill("t", 2, r.PromiseSettle("t", RESOLVED, Value(data="2")))
        assert (await wire.ask(fulfill)).status == 200
        children = (await wire.ask(r.PromiseSearch(RESOLVED))).data["promises"]
        assert [child["id"] for child in children] == ["e", "t", "t.1"]


async def test_they_get_one_lease_from_the_restart_on_and_no_more(tmp_path: Path) -> None:
    """Heartbeats are not written down, so the stored expiry may be long past."""
    path = tmp_path / "app.db"
    async with serving(SqliteStore(path)) as (_, wire):
        create = r.PromiseCreate("t", FAR_MS, tags=TARGET)
        await wire.ask(r.TaskCreate("elsewhere", 50, create))
    async with serving(SqliteStore(path)) as (server, wire), polling(server, "g", "1") as stream:
        assert await task_of(wire, "t") == (TaskState.ACQUIRED, 1)
        assert await stream.execute() == ("t", 1), "offered to others once the lease has ended"
        assert await task_of(wire, "t") == (TaskState.PENDING, 1)
        late = r.TaskFulfill("t", 1, r.PromiseSettle("t", RESOLVED))
        assert (await wire.ask(late)).status == 409


async def test_leases_of_the_servers_own_process_end_with_it(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    store = SqliteStore(path)
    await store.open()
    create = r.PromiseCreate("t", FAR_MS, tags=TARGET)
    assert (await store.call(r.TaskCreate("here", FOREVER_MS, create))).status == 200
    store.crash()
    async with serving(SqliteStore(path)) as (_, wire):
        assert await task_of(wire, "t") == (TaskState.PENDING, 1)


@pytest.mark.parametrize("separator", [".", ":"])
async def test_retention_takes_a_remote_executions_children_with_it(
    tmp_path: Path, separator: str
) -> None:
    store = SqliteStore(tmp_path / "app.db")
    async with serving(store) as (_, wire):
        await wire.ask(r.TaskCreate("p", 9_000, r.PromiseCreate("t", FAR_MS, tags=TARGET)))
        child = f"t{separator}1"
        await wire.ask(r.TaskFence("t", 1, r.PromiseCreate(child, FAR_MS)))
        await wire.ask(r.TaskFence("t", 1, r.PromiseSettle(child, RESOLVED)))
        assert await store.prune(FAR_MS) == 0, "its execution is not settled"
        await wire.ask(r.TaskFulfill("t", 1, r.PromiseSettle("t", RESOLVED)))
        assert await store.prune(FAR_MS) == 1
        for id in ("t", child):
            assert (await wire.ask(r.PromiseGet(id))).status == 404
