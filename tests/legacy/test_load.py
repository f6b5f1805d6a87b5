"""What replay is given: found by search, page by page, and nobody else's (S9)."""

from __future__ import annotations

import asyncio

from tests.legacy.drive import FP, create, hold, in_ms, record, settle, target
from tests.legacy.fake_server import FakeServer
from tests.legacy.opening import MakeStore

from resonate_aio.protocol.records import EMPTY, Promise, Value
from resonate_aio.protocol.requests import PromiseCreate
from resonate_aio.stores.legacy import LegacyStore

PAGE = ("GET", "/promises")


async def loaded(store: LegacyStore, root: str) -> list[str]:
    return sorted(promise.id for promise in await store.load(root))


def log_record(id: str, owner: str, explicit: str) -> Promise:
    headers = {**FP, "resonate-aio:explicit": explicit}
    made = record(id, owner)
    return Promise(
        made.id, made.state, made.timeout_at_ms, made.created_at_ms, Value(headers), owner=owner
    )


async def test_every_page_is_read(server: FakeServer, open_store: MakeStore) -> None:
    store = await open_store()
    task = await hold(store, "r")
    ids = [f"r.{number}" for number in range(1, 251)]
    await asyncio.gather(*(create(store, task, record(id, "r")) for id in ids))
    await settle(store, task, "r.7")
    found = {promise.id: promise for promise in await store.load("r")}
    assert sorted(found) == sorted(ids)
    assert found["r.7"].settled_at_ms is not None
    assert found["r.8"].param == Value(FP, "1")
    assert len([verb for verb, path, _, _ in server.seen if (verb, path) == PAGE]) == 3


async def test_records_of_the_executions_it_called_are_left_out(open_store: MakeStore) -> None:
    store = await open_store()
    task = await hold(store, "r")
    await create(store, task, record("r.1", "r", target()))
    await create(store, task, record("r.2", "r"))
    await create(store, task, record("r.2.1", "r"))
    await create(store, task, record("r.2.1-helper-1.1", "r"))
    child = await hold(store, "r.1x")  # only looks like one of its own
    await create(store, child, record("r.1x.1", "r.1x"))
    await store.call(PromiseCreate("r.1.1", in_ms(), Value(FP), {"resonate:root": "r.1"}))
    assert await loaded(store, "r") == ["r.1", "r.2", "r.2.1", "r.2.1-helper-1.1"]


async def test_the_servers_wildcards_in_an_id_stand_for_themselves(open_store: MakeStore) -> None:
    """The search is SQL LIKE: `_`, `%` and another case match more than was asked for."""
    store = await open_store()
    for id in ("a_b", "axb", "A_B"):
        task = await hold(store, id)
        await create(store, task, record(f"{id}.1", id))
    assert await loaded(store, "a_b") == ["a_b.1"]


async def test_explicit_ids_and_what_is_below_them_are_found(open_store: MakeStore) -> None:
    store = await open_store()
    other = await hold(store, "other")
    await create(store, other, record("chosen", ""))
    await create(store, other, record("chosen.1", "chosen"))  # by whoever asked first
    await create(store, other, log_record("chosen.2", "chosen", "deeper"))
    await create(store, other, record("deeper", ""))
    await create(store, other, record("called", "", target()))
    await store.call(PromiseCreate("called.1", in_ms(), Value(FP), {"resonate:root": "called"}))
    task = await hold(store, "r")
    await create(store, task, log_record("r.1", "r", "chosen"))
    await create(store, task, log_record("r.2", "r", "called"))
    await create(store, task, log_record("r.3", "r", "not there yet"))
    assert await loaded(store, "r") == [
        "called",
        "chosen",
        "chosen.1",
        "chosen.2",
        "deeper",
        "r.1",
        "r.2",
        "r.3",
    ]


async def test_records_of_other_clients_are_met_not_replayed(open_store: MakeStore) -> None:
    """S43, S66: they carry no log, so a replay must not wait for the inputs one would name."""
    store = await open_store()
    task = await hold(store, "r")
    foreign = {"resonate:root": "r", "resonate:scope": "local"}
    await store.call(PromiseCreate("r.1", in_ms(), EMPTY, foreign))
    assert await loaded(store, "r") == []
    made = await create(store, task, record("r.1", "r"))
    assert isinstance(made, Promise)
    assert made.param == EMPTY


async def test_a_log_that_names_itself_is_read_once(open_store: MakeStore) -> None:
    store = await open_store()
    task = await hold(store, "r")
    await create(store, task, log_record("r.1", "r", "x"))
    await create(store, task, record("x", ""))
    await create(store, task, log_record("x.1", "x", "x"))
    assert await loaded(store, "r") == ["r.1", "x", "x.1"]
