"""Names that users give as strings of classes of their own, `promise.id` among them (S29, X28)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.legacy.fake_server import FakeServer
from tests.legacy.opening import make_store

from resonate_aio import Context, Resonate
from resonate_aio.encoders import JsonEncoder
from resonate_aio.protocol.records import Promise
from resonate_aio.runtime.options import PromiseId
from resonate_aio.server import Server
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore


class Markup(str):
    """As a template engine's: it shows itself in another way."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"<{super().__str__()}>"


class Plain(str):
    """With a `__dict__`, and nothing of its own."""


def member(text: str) -> str:
    """A string that is the member of an Enum."""
    enum: Any = Enum
    name: str = enum("Names", {"NAME": text}, type=str).NAME
    return name


Make = Callable[[str], str]
CLASSES: list[Make] = [PromiseId, Markup, Plain, member]
named = pytest.mark.parametrize("a", CLASSES, ids=["PromiseId", "Markup", "Plain", "Enum"])


@pytest.fixture(params=["memory", "sqlite", "server", "legacy server"])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Resonate]:
    """A client of each kind of store."""
    async with AsyncExitStack() as stack:
        match request.param:
            case "memory":
                resonate = Resonate()
            case "sqlite":
                resonate = Resonate.local(path=tmp_path / "app.db")
            case "server":
                server = await stack.enter_async_context(Server(MemoryStore(), port=0))
                resonate = Resonate(url=server.url)
            case _:
                fake = await stack.enter_async_context(FakeServer().running())
                resonate = Resonate(store=make_store(fake.url, fake.poll_url))
        yield await stack.enter_async_context(resonate)
        check_plain(resonate)


def check_plain(resonate: Resonate) -> None:
    """Whatever the store holds in memory is text and no more."""
    store = resonate._core.store
    if isinstance(store, MemoryStore):
        machine = store.machine
    elif isinstance(store, SqliteStore):
        machine = store.place.machine
    else:
        return
    for table in (machine.promises, machine.tasks, machine.schedules):
        for id, record in table.items():
            assert type(id) is str
            check_record(record)


def check_record(record: Any) -> None:
    if isinstance(record, Enum):  # a state
        return
    if isinstance(record, msgspec.Struct):
        for name in record.__struct_fields__:
            check_record(getattr(record, name))
    elif isinstance(record, dict):
        check_record([*record, *record.values()])
    elif isinstance(record, list | tuple):
        for part in record:
            check_record(part)
    elif isinstance(record, str):
        assert type(record) is str, repr(record)


async def test_the_id_of_a_promise_is_how_others_are_told_of_it(client: Resonate) -> None:
    """S29: as it is, through a step too, whatever the step says it takes."""

    async def settle(ctx: Context, id: Any, value: str) -> None:
        await client.promises.resolve(id, value=value)

    async def settle_one(ctx: Context, id: PromiseId, value: str) -> None:
        assert type(id) is PromiseId
        await client.promises.resolve(await id(), value=value)

    async def as_text(ctx: Context, id: str) -> str:
        return id

    ids: list[str] = []

    @client.register
    async def flow(ctx: Context) -> list[Any]:
        promises = [await ctx.promise() for _ in range(3)]
        for promise in promises:
            await promise.created()
        ids.append(promises[0].id)
        await ctx.run(settle, promises[1].id, "a step")
        await ctx.run(settle_one, promises[2].id, "another")
        text = await ctx.run(as_text, promises[0].id)
        assert type(text) is str
        return [await promise for promise in promises]

    handle = client.begin_run("flow", flow)
    async with asyncio.timeout(20):
        while not ids:  # noqa: ASYNC110  until the body has come so far
            await asyncio.sleep(0.005)
        assert (await client.promises.get(ids[0])).id == "flow.1"
        await client.promises.resolve(ids[0], value="outside")
        assert await handle == ["outside", "a step", "another"]


@named
async def test_what_a_body_names(client: Resonate, a: Make) -> None:
    async def leaf(ctx: Context, n: int) -> int:
        return n

    client.register(leaf, name=a("leaf"))

    @client.register
    async def flow(ctx: Context) -> list[Any]:
        tags = {a("kind"): a("test")}
        promise = await ctx.promise(id=a("open"), idempotency_key=a("open-key"), tags=tags)
        done = [
            await ctx.run(leaf, 1).options(id=a("one"), tags=tags),
            await ctx.run(a("leaf"), 2),
            await ctx.rpc("leaf", 3).options(id=a("three"), target=a("default"), tags=tags),
            await ctx.rpc(a("leaf"), 4).options(idempotency_key=lambda id: a(f"key-{id}")),
            await ctx.options(id=a("five")).rpc(leaf, 5),
        ]
        await promise.created()
        return [*done, await promise]

    handle = client.begin_run(a("flow"), a("flow"))
    async with asyncio.timeout(20):
        while True:
            try:
                await client.promises.resolve(a("open"), value=6)
                break
            except Exception:  # noqa: BLE001  it is not there yet
                await asyncio.sleep(0.01)
        assert await handle == [1, 2, 3, 4, 5, 6]
    assert type(handle.id) is str
    assert handle.id == "flow"
    recorded = await client.promises.get(a("three"))
    assert recorded.tags["kind"] == "test"
    assert recorded.tags["resonate:target"] == "poll://any@default"


@named
async def test_what_a_client_names(client: Resonate, a: Make) -> None:
    @client.register
    async def leaf(ctx: Context, n: int) -> int:
        return n

    promises, tags = client.promises, {a("kind"): a("test")}
    async with asyncio.timeout(20):
        chosen = client.options(tags=tags, idempotency_key=a("key"), target=a("default"))
        assert await chosen.run(a("run"), leaf, 1) == 1
        assert await chosen.rpc(a("rpc"), a("leaf"), 2) == 2
        assert await client.get(a("rpc")) == 2
        sealed = client.options(encoder=Sealing(a))
        assert await sealed.run(a("sealed"), leaf, 3) == 3

        headers = {a("from"): a("here")}
        made = await promises.create(
            a("p"), timeout_in=60, ikey=a("k"), tags=tags, headers=headers, data=a('"in"')
        )
        assert same(made, await promises.create("p", timeout_in=60, ikey="k"))
        settled = await promises.resolve(a("p"), data=a('"out"'), ikey=a("s"), headers=headers)
        assert same(settled, await promises.resolve("p", ikey="s", strict=True))
        await promises.create(a("q"), timeout_in=60)
        await promises.reject(a("q"), value=ValueError(a("why")))
        await promises.create(a("r"), timeout_in=60)
        await promises.cancel(a("r"), ikey=a("c"))
        found = [one.id for one in (await promises.search(tags={a("kind"): a("test")})).items]
        assert {"run", "rpc", "p"} <= set(found)


@pytest.mark.parametrize("client", ["memory", "sqlite", "server"], indirect=True)
@named
async def test_what_a_schedule_is_called(client: Resonate, a: Make) -> None:
    @client.register
    async def leaf(ctx: Context, n: int) -> int:
        return n

    schedules, tags = client.schedules, {a("kind"): a("test")}
    async with asyncio.timeout(20):
        made = await schedules.create(
            a("s"),
            a("0 0 1 1 *"),
            a("s-{{.timestamp}}"),
            60_000,
            timezone=a("Europe/Berlin"),
            ikey=a("k"),
            description=a("for people"),
            tags=tags,
        )
        assert (made.id, made.cron) == ("s", "CRON_TZ=Europe/Berlin 0 0 1 1 *")
        assert (await schedules.get(a("s"))).id == "s"
        by_name = await client.schedule(a("t"), a("leaf"), a("0 0 1 1 *"), 1)
        assert (by_name.id, by_name.cron) == ("t", "0 0 1 1 *")
        check_plain(client)
        await schedules.delete(a("s"))
        await schedules.delete(a("t"))


@named
async def test_what_a_worker_is_called(a: Make) -> None:
    store = MemoryStore()
    async with Resonate(store=store, group=a("group"), pid=a("pid")) as resonate:

        @resonate.register
        async def leaf(ctx: Context, n: int) -> int:
            return n

        assert await resonate.run("here", leaf, 1) == 1
        assert await resonate.options(target=a("poll://any@group/pid")).rpc("there", leaf, 2) == 2
        check_plain(resonate)
        assert type(resonate._core.group) is type(resonate._core.pid) is str


class Sealing:
    """An encoder whose text is of a class of its own."""

    def __init__(self, a: Make) -> None:
        self.name = a("sealing")
        self._a = a
        self._json = JsonEncoder()

    def encode(self, value: Any, /) -> str | None:
        text = self._json.encode(value)
        return None if text is None else self._a(text)

    def decode(self, data: str | None, /) -> Any:
        return self._json.decode(data)


def same(one: Promise, other: Promise) -> bool:
    return (one.id, one.state, one.param, one.value) == (
        other.id,
        other.state,
        other.param,
        other.value,
    )
