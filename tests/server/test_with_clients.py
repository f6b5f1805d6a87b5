"""The server in front of a store that a client in this process uses, too (`serve=`).

Values are base64 on the wire and JSON text in the store (current-protocol §11): each side
reads what the other wrote, and text that is no JSON comes back as it went.
"""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.server.wire import FAR_MS, Wire, polling, serving

from resonate_aio import Context, Resonate
from resonate_aio.protocol import requests as r
from resonate_aio.protocol.records import PromiseState
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore

RESOLVED = PromiseState.RESOLVED


def packed(value: Any) -> str:
    return base64.b64encode(orjson.dumps(value)).decode()


async def until_settled(wire: Wire, id: str) -> Any:
    for _ in range(2_000):
        promise = (await wire.ask(r.PromiseGet(id))).data["promise"]
        if promise["state"] != "pending":
            return promise
        await asyncio.sleep(0.002)
    raise AssertionError(f"{id} was never settled")


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryStore | SqliteStore:
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "app.db")


async def test_a_promise_made_over_http_is_executed_by_the_client_here(
    store: MemoryStore | SqliteStore,
) -> None:
    client = Resonate(store=store)

    async def add(ctx: Context, a: int, b: int) -> dict[str, int]:
        return {"sum": await ctx.run(plus, a, b)}

    def plus(ctx: Context, a: int, b: int) -> int:
        return a + b

    client.register(add)
    async with serving(store) as (_, wire), client:
        invocation = {"func": "add", "args": [1, 2], "kwargs": {}, "version": 1}
        create = {
            "id": "sum",
            "timeoutAt": FAR_MS,
            "param": {"data": packed(invocation)},
            "tags": {"resonate:target": "poll://any@default"},
        }
        answer = await wire.send("promise.create", create)
        assert answer.data["promise"]["param"] == {"data": packed(invocation)}
        promise = await until_settled(wire, "sum")
        assert (promise["state"], promise["value"]["data"]) == ("resolved", packed({"sum": 3}))


async def test_a_person_elsewhere_answers_what_an_execution_here_asks(
    store: MemoryStore | SqliteStore,
) -> None:
    client = Resonate(store=store)

    @client.register
    async def approve(ctx: Context) -> Any:
        promise = await ctx.promise()
        return await promise

    async with serving(store) as (_, wire), client:
        handle = await client.begin_run("approval", approve).created()
        for _ in range(2_000):
            found = (await wire.ask(r.PromiseGet("approval.1"))).status
            if found == 200:
                break
            await asyncio.sleep(0.002)
        settle = {"id": "approval.1", "state": "resolved", "value": {"data": packed(["yes", 1])}}
        assert (await wire.send("promise.settle", settle)).status == 200
        assert await handle == ["yes", 1]


async def test_an_execution_here_calls_a_worker_elsewhere(
    store: MemoryStore | SqliteStore,
) -> None:
    client = Resonate(store=store)

    @client.register
    async def order(ctx: Context) -> str:
        return f"got {await ctx.rpc('ship', '42').options(target='warehouse')}"

    async with (
        serving(store) as (server, wire),
        client,
        polling(server, "warehouse", "w") as stream,
    ):
        handle = client.begin_run("order", order)
        id, version = await stream.execute()
        claimed = (await wire.ask(r.TaskAcquire(id, version, "w", 60_000))).data
        param = orjson.loads(base64.b64decode(claimed["promise"]["param"]["data"]))
        assert (param["func"], param["args"]) == ("ship", ["42"])
        settle = {"id": id, "state": "resolved", "value": {"data": packed("shipped")}}
        action = {"kind": "promise.settle", "head": {}, "data": settle}
        fulfil = {"id": id, "version": version + 1, "action": action}
        assert (await wire.send("task.fulfill", fulfil)).status == 200
        assert await handle == "got shipped"


async def test_text_that_is_no_json_comes_back_as_it_went(
    store: MemoryStore | SqliteStore,
) -> None:
    async with serving(store) as (_, wire):
        for n, data in enumerate(["hello", "", "=", "/w==", "raw:x", packed("x"), "é\n"]):
            value = {"headers": {"h": data}, "data": data}
            create = {"id": f"p{n}", "timeoutAt": FAR_MS, "param": value}
            assert (await wire.send("promise.create", create)).data["promise"]["param"] == value
            settle = {"id": f"p{n}", "state": "resolved", "value": value}
            assert (await wire.send("promise.settle", settle)).data["promise"]["value"] == value
            got = (await wire.ask(r.PromiseGet(f"p{n}"))).data["promise"]
            assert (got["param"], got["value"]) == (value, value)


async def test_the_server_stops_and_the_client_goes_on(store: MemoryStore | SqliteStore) -> None:
    client = Resonate(store=store)

    @client.register
    async def double(ctx: Context, n: int) -> int:
        return 2 * n

    async with client:
        async with serving(store) as (_, wire):
            assert await client.run("a", double, 2) == 4
            assert (await wire.ask(r.PromiseGet("a"))).status == 200
        assert await client.run("b", double, 3) == 6
