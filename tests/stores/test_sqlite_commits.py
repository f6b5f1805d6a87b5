"""Group commit: nothing leaves before the commit that covers it, and trouble is no outcome."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.stores.drive import (
    RESOLVED,
    TARGET,
    Acks,
    Inbox,
    child,
    create,
    fence_settle,
    fulfill,
    held,
    ok,
    passes,
    settle,
    step,
)

from resonate_aio.errors import ResonateStoreError
from resonate_aio.protocol.records import Promise, PromiseState, Value
from resonate_aio.protocol.requests import (
    Message,
    PromiseGet,
    PromiseRegisterListener,
    PromiseSearch,
    TaskHeartbeat,
    TaskRef,
    Unblock,
)
from resonate_aio.stores.base import LOST, Refusal
from resonate_aio.stores.sqlite import SqliteStore
from resonate_aio.stores.sqlite.jobs import Batch


class Reader:
    """A second connection that can only see what is committed."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    def states(self, prefix: str = "") -> dict[str, str]:
        rows = self._connection.execute("SELECT id, state FROM promises")
        return {id: state for id, state in rows if id.startswith(prefix)}

    def count(self, sql: str) -> int:
        found: int = self._connection.execute(sql).fetchone()[0]
        return found

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def reader(sqlite: SqliteStore, path: Path) -> Iterator[Reader]:
    made = Reader(path)
    yield made
    made.close()


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ids of every batch that was committed, in order."""
    seen: list[list[str]] = []
    commit = Batch.step

    def step(self: Batch, connection: sqlite3.Connection) -> bool:
        done = commit(self, connection)
        seen.append(list(self.changed))
        return done

    monkeypatch.setattr(Batch, "step", step)
    return seen


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the file exclusively."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.rollback()
        other.close()


async def test_what_is_acked_is_committed(sqlite: SqliteStore, reader: Reader) -> None:
    version = await held(sqlite, "a")
    missing: list[str] = []
    done = asyncio.get_running_loop().create_future()

    def acked(context: Any, answer: Promise | Refusal) -> None:
        assert isinstance(answer, Promise)
        if reader.states(answer.id).get(answer.id) != answer.state.value:
            missing.append(answer.id)
        if context == 500:
            done.set_result(None)

    for n in range(1, 501):
        sqlite.fence_create("a", version, child(f"a.{n}", "a"), None, None)
        assert sqlite.fence_settle("a", version, f"a.{n}", RESOLVED, Value(), acked, n) is None
        if n % 50 == 0:
            await asyncio.sleep(0)
    await done
    assert not missing


async def test_replies_and_messages_wait_for_the_commit(
    sqlite: SqliteStore, reader: Reader
) -> None:
    await ok(sqlite, create("a"))
    assert reader.states() == {"a": "pending"}
    seen: list[str] = []

    def deliver(message: Message) -> None:
        if isinstance(message, Unblock):
            seen.append(reader.states()[message.promise.id])

    sqlite.subscribe("default", "p", deliver)
    await ok(sqlite, PromiseRegisterListener("a", "poll://uni@default/p"))
    await ok(sqlite, settle("a"))
    await passes()
    assert seen == ["resolved"]


async def test_a_read_waits_for_what_it_shows(sqlite: SqliteStore, reader: Reader) -> None:
    version = await held(sqlite, "a")
    sqlite.fence_create("a", version, child("a.1", "a"), None, None)
    assert "a.1" not in reader.states()
    assert (await ok(sqlite, PromiseGet("a.1"))).promise is not None
    assert reader.states()["a.1"] == "pending"


async def test_a_leaf_is_one_row_of_one_commit(
    sqlite: SqliteStore, batches: list[list[str]]
) -> None:
    version = await held(sqlite, "a")
    del batches[:]
    for n in range(1, 4):
        sqlite.fence_create("a", version, child(f"a.{n}", "a"), None, None)
        await passes(10)
    assert not batches  # nobody waits for a create
    await fence_settle(sqlite, "a", version, "a.2")
    assert batches == [["a.1", "a.2", "a.3"]]


async def test_no_record_is_durable_before_an_earlier_one(
    sqlite: SqliteStore, batches: list[list[str]]
) -> None:
    version = await held(sqlite, "a")
    del batches[:]
    acks = Acks()
    for n in range(300):
        sqlite.fence_create("a", version, child(f"a.{n}", "a"), None, None)
        if n % 3 == 0:
            sqlite.fence_settle("a", version, f"a.{n}", RESOLVED, Value(), acks, n)
        if n % 7 == 0:
            await asyncio.sleep(0)
    await fulfill(sqlite, "a", version)
    firsts = list(dict.fromkeys(id for ids in batches for id in ids))
    assert firsts == [*(f"a.{n}" for n in range(300)), "a"]
    assert [context for context, _ in acks.seen] == list(range(0, 300, 3))
    assert len(batches) < 60


async def test_what_arrives_meanwhile_goes_into_the_next_batch(
    sqlite: SqliteStore, batches: list[list[str]]
) -> None:
    await asyncio.gather(*(ok(sqlite, create(f"a{n}", target=None)) for n in range(1000)))
    assert sum(map(len, batches)) == 1000
    assert len(batches) <= 3


@pytest.mark.parametrize("make", ["create", "flush", "rpc"])
async def test_what_begins_a_commit(sqlite: SqliteStore, reader: Reader, make: str) -> None:
    version = await held(sqlite, "a")
    acks = Acks()
    if make == "create":
        sqlite.fence_create("a", version, child("a.1", "a"), acks, 1)
        await acks.wait(1)
    elif make == "flush":
        sqlite.fence_create("a", version, child("a.1", "a"), None, None)
        sqlite.flush()
        await ok(sqlite, PromiseGet("a.1"))
    else:
        inbox = Inbox()
        sqlite.subscribe("default", "p", inbox)
        rpc = child("a.1", "a", tags={"resonate:target": TARGET})
        sqlite.fence_create("a", version, rpc, None, None)
        assert (await inbox.until(1))[0].id == "a.1"
    assert reader.states()["a.1"] == "pending"


async def test_heartbeats_write_nothing(sqlite: SqliteStore, batches: list[list[str]]) -> None:
    version = await held(sqlite, "a")
    del batches[:]
    await ok(sqlite, TaskHeartbeat("p", (TaskRef("a", version),)))
    await ok(sqlite, TaskHeartbeat("p", ()))
    await passes(10)
    await sqlite.close()
    await sqlite.open()
    assert not batches


async def test_a_locked_file_only_delays(
    sqlite: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = await held(sqlite, "a")
    acks = Acks()
    ticks = 0
    with locked(path):
        for n in range(1, 4):
            sqlite.fence_create("a", version, child(f"a.{n}", "a"), None, None)
            sqlite.fence_settle("a", version, f"a.{n}", RESOLVED, Value(), acks, n)
            await asyncio.sleep(0)
        create_later = asyncio.ensure_future(ok(sqlite, create("b")))
        started = time.monotonic()
        while time.monotonic() < started + 0.5:  # the loop is never blocked meanwhile
            await asyncio.sleep(0.01)
            ticks += 1
        assert not acks.seen
        assert not create_later.done()
    await create_later
    assert [context for context, _ in acks.seen] == [1, 2, 3]
    assert all(isinstance(answer, Promise) for _, answer in acks.seen)
    assert ticks > 20
    assert "locked" in caplog.text
    await ok(sqlite, PromiseGet("a.3"))


async def test_a_full_disk_only_delays(
    sqlite: SqliteStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resonate_aio.stores.sqlite.commits._CLOSING_PATIENCE_S", 0.3)
    version = await held(sqlite, "a")
    core = sqlite._core
    assert core is not None
    await core.run(lambda connection: connection.execute("PRAGMA max_page_count = 1"))
    acks = Acks()
    big = "x" * 200_000
    sqlite.fence_create("a", version, child("a.1", "a"), None, None)
    sqlite.fence_settle("a", version, "a.1", RESOLVED, Value(data=big), acks, 1)
    make_room = asyncio.ensure_future(
        core.run(lambda connection: connection.execute("PRAGMA max_page_count = 100000"))
    )
    await asyncio.sleep(0.2)
    assert not acks.seen
    assert not make_room.done()  # nothing overtakes a batch, so room comes from elsewhere
    assert "full" in caplog.text
    writer = core._writer
    assert writer is not None
    assert writer.is_busy
    make_room.cancel()
    await asyncio.wait([make_room])
    await sqlite.close()
    assert not acks.seen
    await sqlite.open()
    assert (await sqlite.call(PromiseGet("a.1"))).status == 404


async def test_a_batch_that_fails_and_passes_later(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = await held(sqlite, "a")
    commit = Batch._commit
    failures = iter(
        [
            sqlite3.OperationalError("database or disk is full"),
            sqlite3.OperationalError("disk I/O error"),
            sqlite3.DatabaseError("something rare"),
        ]
    )

    def failing(self: Batch, connection: sqlite3.Connection, *, isolated: bool) -> None:
        commit(self, connection, isolated=isolated) if (e := next(failures, None)) is None else None
        if e is not None:
            connection.execute("BEGIN IMMEDIATE")
            raise e

    monkeypatch.setattr(Batch, "_commit", failing)
    record = await step(sqlite, "a", version, 1)
    assert record.state is RESOLVED
    assert next(failures, None) is None
    assert (await ok(sqlite, PromiseGet("a.1"))).promise == record


async def test_a_row_that_cannot_be_stored_harms_no_other(
    sqlite: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    version = await held(sqlite, "a")
    acks = Acks()
    for n, data in enumerate(("fine", "\ud800", "fine too"), 1):
        sqlite.fence_create("a", version, child(f"a.{n}", "a"), None, None)
        sqlite.fence_settle("a", version, f"a.{n}", RESOLVED, Value(data=data), acks, n)
    await acks.wait(3)
    answers = dict(acks.seen)
    assert answers[2] is LOST
    assert isinstance(answers[1], Promise)
    assert isinstance(answers[3], Promise)
    assert "a.2" in caplog.text
    stored = await ok(sqlite, PromiseSearch(PromiseState.RESOLVED))
    assert [promise.id for promise in stored.promises] == ["a.1", "a.3"]


async def test_a_broken_callback_harms_no_other(
    sqlite: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    version = await held(sqlite, "a")

    def broken(context: Any, answer: Promise | Refusal) -> None:
        raise ValueError("broken callback")

    sqlite.fence_create("a", version, child("a.1", "a"), broken, None)
    await step(sqlite, "a", version, 2)
    assert "broken callback" in caplog.text


async def test_close_is_bounded_when_nothing_can_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("resonate_aio.stores.sqlite.commits._CLOSING_PATIENCE_S", 0.3)
    store = SqliteStore(path)
    await store.open()
    version = await held(store, "a")
    acks = Acks()
    with locked(path):
        store.fence_create("a", version, child("a.1", "a"), None, None)
        store.fence_settle("a", version, "a.1", RESOLVED, Value(), acks, 1)
        waiting = asyncio.ensure_future(store.call(create("b")))
        await asyncio.sleep(0.01)
        started = time.monotonic()
        await store.close()
        assert time.monotonic() < started + 3
        with pytest.raises(ResonateStoreError):
            await waiting
    assert not acks.seen
    assert "none of them was acknowledged" in caplog.text
    await store.open()
    assert (await store.call(PromiseGet("a.1"))).status == 404
    await store.close()


async def test_close_writes_what_nobody_waited_for(sqlite: SqliteStore) -> None:
    version = await held(sqlite, "a")
    sqlite.fence_create("a", version, child("a.1", "a"), None, None)
    await sqlite.close()
    assert not [t for t in threading.enumerate() if "resonate-aio" in t.name]
    await sqlite.open()
    assert (await ok(sqlite, PromiseGet("a.1"))).promise is not None


async def test_a_crash_loses_only_what_was_not_acknowledged(sqlite: SqliteStore) -> None:
    version = await held(sqlite, "a")
    await step(sqlite, "a", version, 1)
    sqlite.fence_create("a", version, child("a.2", "a"), None, None)
    sqlite.crash()
    with pytest.raises(ResonateStoreError):
        sqlite.flush()
    assert not [t for t in threading.enumerate() if "resonate-aio" in t.name]
    await sqlite.open()
    assert (await ok(sqlite, PromiseGet("a.1"))).promise is not None
    assert (await sqlite.call(PromiseGet("a.2"))).status == 404


async def test_settled_promises_leave_memory(sqlite: SqliteStore) -> None:
    core = sqlite._core
    assert core is not None
    version = await held(sqlite, "a")
    for n in range(1, 200):
        await step(sqlite, "a", version, n)
    assert list(core.machine.promises) == ["a"]
    record = (await ok(sqlite, PromiseGet("a.7"))).promise
    assert record is not None
    assert list(core.machine.promises) == ["a"]
    assert await fence_settle(sqlite, "a", version, "a.7", "again") == record
    assert list(core.machine.promises) == ["a"]
    await ok(sqlite, create("a.foreign", target=None))
    await ok(sqlite, settle("a.foreign"))
    assert sorted(core.machine.promises) == ["a", "a.foreign"]  # a fenced create trusts memory
    assert await fulfill(sqlite, "a", version) is not LOST
    assert not core.machine.promises
    assert not core.machine.tasks
    assert not core._holds.by_root
    assert not core._holds.known
    assert not core._holds._keepers
    assert not core._holds._by_tree


async def test_a_scheduled_promise_never_replaces_one_in_the_file(sqlite: SqliteStore) -> None:
    from resonate_aio.protocol.requests import ScheduleCreate

    core = sqlite._core
    assert core is not None
    await ok(sqlite, create("daily", target=None))
    before = (await ok(sqlite, settle("daily", "kept"))).promise
    assert "daily" not in core.machine.promises
    await ok(sqlite, ScheduleCreate("s", "* * * * *", "daily", 1000))
    due_ms = core.machine.next_due_ms()
    assert due_ms is not None
    core._sweep(due_ms)
    await core.run(lambda connection: None)
    await core.run(lambda connection: None)
    schedule = core.machine.schedules["s"]
    assert schedule.last_run_at_ms == due_ms
    assert (await ok(sqlite, PromiseGet("daily"))).promise == before
