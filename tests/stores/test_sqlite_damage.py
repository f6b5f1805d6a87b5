"""A damaged page hurts who needs it, and nobody else (law 14); a commit that meets it stops.

What never passes is not tried again (law 8 speaks of trouble that does), so that the only
thread that writes serves the others; a batch that cannot be recorded stops the store (S21).
"""

# ruff: noqa: ASYNC240  the paths are local and small, and nothing else runs meanwhile

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.stores.drive import (
    acquire,
    child,
    create,
    fence_settle,
    fulfill,
    held,
    now_ms,
    ok,
    settle,
    step,
)

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateShutdownError, ResonateStoreError, UnreadableRecordError
from resonate_aio.protocol.records import PromiseState
from resonate_aio.protocol.requests import PromiseGet, PromiseSearch, ScheduleCreate, ScheduleGet
from resonate_aio.stores.base import LOST
from resonate_aio.stores.sqlite import SqliteStore
from resonate_aio.stores.sqlite.damage import is_passing, never_passes
from resonate_aio.stores.sqlite.jobs import Batch

TABLE_LEAF, INDEX_LEAF = 0x0D, 0x0A
LONG = "v" * 500
HIT = "old.150"
SAYS = r"app\.db is damaged \(SQLITE_CORRUPT.*PRAGMA integrity_check.*restore a backup"


def damage(path: Path, marker: str, kind: int = TABLE_LEAF) -> None:
    """Overwrite the pages of a closed file that hold this text."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size: int = connection.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(path.read_bytes())
    hit = [
        at
        for at in range(size, len(content), size)
        if content[at] == kind and marker.encode() in content[at : at + size]
    ]
    assert hit
    for at in hit:
        content[at : at + size] = b"\xaa" * size
    path.write_bytes(content)


async def fill(store: SqliteStore, root: str, *, steps: int = 300) -> None:
    """An execution that ended, with long steps."""
    version = await held(store, root)
    for n in range(1, steps + 1):
        await step(store, root, version, n, LONG)
    await fulfill(store, root, version)


@pytest.fixture
async def damaged(path: Path) -> Path:
    """A file in which some steps of an execution that ended cannot be read."""
    store = SqliteStore(path, synchronous="NORMAL")
    await store.open()
    await fill(store, "old")
    await fill(store, "fine", steps=3)
    await store.close()
    damage(path, HIT)
    return path


@pytest.fixture
async def store(damaged: Path) -> Any:
    made = SqliteStore(damaged, synchronous="NORMAL")
    await made.open()
    async with asyncio.timeout(20):
        yield made
    await made.close()


async def test_who_reads_it_is_told_and_the_others_go_on(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with pytest.raises(UnreadableRecordError, match=SAYS) as raised:
            await store.call(PromiseGet(HIT))
        assert raised.value.id == HIT
    with pytest.raises(UnreadableRecordError, match=SAYS):
        await store.call(create(HIT, target=None))
    with pytest.raises(UnreadableRecordError, match=SAYS):
        await store.load("old")
    version = await held(store, "new")
    await step(store, "new", version, 1)
    assert (await ok(store, PromiseGet("old.1"))).promise is not None
    assert len(await store.load("fine")) == 3
    said = [record.getMessage() for record in caplog.records]
    assert sum(f"promise {HIT!r}" in text for text in said) == 1
    assert not any("attempt" in text for text in said)


async def test_what_is_looked_up_together_is_told_apart(store: SqliteStore) -> None:
    """One hand-over to the thread: existing ids, ids that are free, and new executions."""
    answers = await asyncio.gather(
        store.call(PromiseGet("old.1")),
        held(store, "new1"),
        store.call(PromiseGet(HIT)),
        store.call(create(HIT)),
        held(store, HIT),
        held(store, "new2"),
        store.load("old"),
        store.load("fine"),
        store.call(PromiseGet("nothing")),
        store.call(create("free", target=None)),
        return_exceptions=True,
    )
    failed = [n for n, answer in enumerate(answers) if isinstance(answer, BaseException)]
    assert failed == [2, 3, 4, 6]
    assert all(isinstance(answers[n], UnreadableRecordError) for n in failed)
    assert answers[1] == answers[5] == 1
    assert [getattr(answers[n], "status", None) for n in (0, 8, 9)] == [200, 404, 200]
    await step(store, "new1", 1, 1)


async def test_searching_and_pruning_say_what_is_wrong(store: SqliteStore) -> None:
    with pytest.raises(ResonateStoreError, match=SAYS):
        await store.call(PromiseSearch(PromiseState.RESOLVED, limit=1000))
    with pytest.raises(ResonateStoreError, match=SAYS):
        await store.prune(now_ms() + 1000)
    await held(store, "new")
    page = await ok(store, PromiseSearch(PromiseState.RESOLVED, cursor="old.98"))
    assert [promise.id for promise in page.promises] == ["old.99"]


async def test_a_schedule_whose_next_promise_is_on_it_is_set_aside(store: SqliteStore) -> None:
    core = store._core
    assert core is not None
    await ok(store, ScheduleCreate("bad", "* * * * *", HIT, 1000))
    await ok(store, ScheduleCreate("good", "* * * * *", "tick", 1000))
    due_ms = core.machine.next_due_ms()
    assert due_ms is not None
    core._sweep(due_ms)
    await core.run(lambda connection: None)
    await core.barrier()
    assert (await ok(store, PromiseGet("tick"))).promise is not None
    with pytest.raises(UnreadableRecordError, match="schedule 'bad'"):
        await store.call(ScheduleGet("bad"))


async def test_an_execution_whose_checkpoints_are_on_it_is_stopped_alone(path: Path) -> None:
    """Its promise stays pending: trouble is no outcome (law 8)."""
    store = SqliteStore(path, synchronous="NORMAL")
    await store.open()
    version = await held(store, "old")
    for n in range(1, 301):
        await step(store, "old", version, n, LONG)
    await store.close()
    damage(path, HIT)

    resonate = Resonate.local(path=path, synchronous="NORMAL")

    async def small(ctx: Context, n: int) -> int:
        return n

    @resonate.register
    async def other(ctx: Context) -> int:
        return sum([await ctx.run(small, n) for n in range(5)])

    await store.open()
    async with asyncio.timeout(20), resonate:
        await ok(store, acquire("old", 1))
        with pytest.raises(UnreadableRecordError, match=SAYS):
            await store.load("old")
        assert await resonate.run("a", other) == 10
        assert (await resonate.promises.get("old")).state is PromiseState.PENDING
    await store.close()


async def test_counting_lapses_goes_past_it(path: Path) -> None:
    """The file opens for all others though the last owner died with this one under way (S41)."""
    store = SqliteStore(path, synchronous="NORMAL")
    await store.open()
    version = await held(store, "old")
    await fill(store, "between", steps=60)  # so that the steps are on pages of their own
    for n in range(1, 20):
        await step(store, "old", version, n, LONG)
    await fill(store, "after", steps=20)
    store.crash()
    damage(path, "old.1")
    await store.open()
    async with asyncio.timeout(20):
        await ok(store, acquire("old", version))
        with pytest.raises(UnreadableRecordError, match=SAYS):
            await store.load("old")
        await step(store, "new", await held(store, "new"), 1)
    await store.close()


async def test_a_commit_that_meets_it_stops_the_store(
    damaged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Law 2: nobody goes on; S21: nothing overtakes the batch, for nothing follows it."""
    damage(damaged, HIT, INDEX_LEAF)
    store = SqliteStore(damaged, synchronous="NORMAL")
    await store.open()
    async with asyncio.timeout(20):
        await ok(store, create("p", target=None))
        version = await held(store, "z")
        core = store._core
        assert core is not None
        began = time.monotonic()
        waiting = [
            asyncio.ensure_future(awaitable)
            for awaitable in (
                core.run(lambda connection: connection.execute("SELECT 1").fetchone()),
                fence_settle_of(store, "z", version),
            )
        ]
        # Looked up by nobody: its place in the index of ids is where the damage is.
        core.machine.handle(create(f"{HIT}0", target=None), now_ms())
        with pytest.raises(ResonateStoreError, match=f"writing was given up: .*{SAYS}"):
            await store.call(create("q", target=None))
        assert await waiting[1] is LOST
        await waiting[0]
        for request in (create("r"), settle("p"), PromiseGet("old.1")):
            with pytest.raises(ResonateStoreError, match=SAYS):
                await store.call(request)
        await store.close()
    assert time.monotonic() < began + 5
    said = [record.getMessage() for record in caplog.records]
    assert sum("writing was given up" in text for text in said) == 1
    assert not any("attempt" in text for text in said)


async def test_a_client_whose_store_stopped_says_so_and_can_be_stopped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Laws 8 and 16: no execution ends by it, none goes on, and the stop is short."""
    resonate = Resonate.local(path=path, synchronous="NORMAL", stop_timeout=0)
    commit = Batch._commit
    steps: list[int] = []
    damaged = sqlite3.DatabaseError("database disk image is malformed")
    damaged.sqlite_errorcode, damaged.sqlite_errorname = sqlite3.SQLITE_CORRUPT, "SQLITE_CORRUPT"

    def failing(self: Batch, connection: sqlite3.Connection, *, isolated: bool) -> None:
        commit(self, connection, isolated=isolated)
        if len(steps) > 5:
            raise damaged

    async def small(ctx: Context, n: int) -> None:
        steps.append(n)

    @resonate.register
    async def flow(ctx: Context) -> None:
        for n in range(50):
            await ctx.run(small, n)

    @resonate.register
    async def waits(ctx: Context) -> None:
        await ctx.sleep(3600)

    began = time.monotonic()
    async with asyncio.timeout(20), resonate:
        waiting = await resonate.begin_run("w", waits).created()
        monkeypatch.setattr(Batch, "_commit", failing)
        with pytest.raises(ResonateStoreError, match=SAYS):
            await resonate.run("a", flow)
        with pytest.raises(ResonateStoreError, match=SAYS):
            await resonate.begin_run("b", flow).created()
    with pytest.raises(ResonateShutdownError):
        await waiting  # it asked for nothing meanwhile
    assert time.monotonic() < began + 3
    assert len(steps) < 15
    monkeypatch.undo()
    async with asyncio.timeout(20), resonate:
        await resonate.get("a")
        assert (await resonate.promises.get("w")).state is PromiseState.PENDING


async def fence_settle_of(store: SqliteStore, root: str, version: int) -> Any:
    store.fence_create(root, version, child(f"{root}.1", root), None, None)
    return await fence_settle(store, root, version, f"{root}.1")


@pytest.mark.parametrize("what", ["pages", "table", "end"])
async def test_a_damaged_file_is_refused_in_one_line(path: Path, what: str) -> None:
    store = SqliteStore(path)
    await store.open()
    await ok(store, create("a"))
    await store.close()
    if what == "table":
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("ALTER TABLE promises RENAME TO mine")
    else:
        content = bytearray(path.read_bytes())
        if what == "pages":
            content[4096:] = b"\xaa" * (len(content) - 4096)
        path.write_bytes(content if what == "pages" else content[:5000])
    async with asyncio.timeout(10):
        with pytest.raises(ResonateStoreError, match=r"app\.db.*integrity_check") as raised:
            await store.open()
    assert "\n" not in str(raised.value)
    with closing(sqlite3.connect(path)):
        path.unlink()
    await store.open()
    await store.close()


def test_which_errors_pass(path: Path) -> None:
    """By SQLite's own code; an error without one is taken for one that passes."""

    def error_of(sql: str, *before: str) -> sqlite3.Error:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
            for statement in before:
                connection.execute(statement)
            with pytest.raises(sqlite3.Error) as raised:
                connection.execute(sql).fetchall()
            return raised.value

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (a)")
        full = error_of("INSERT INTO t VALUES (zeroblob(100000))", "PRAGMA max_page_count = 2")
        other.execute("BEGIN EXCLUSIVE")
        locked = error_of("INSERT INTO t VALUES (1)")
        other.execute("ROLLBACK")
    for error in (full, locked, sqlite3.OperationalError("disk I/O error")):
        assert is_passing(error)
        assert not never_passes(error)
    assert not never_passes(sqlite3.DatabaseError("of Python's own"))
    missing = error_of("SELECT * FROM missing")
    path.write_bytes(path.read_bytes()[:4096] + b"\xaa" * 4096)
    corrupt = error_of("SELECT * FROM t")
    path.write_bytes(b"x" * 8192)
    no_database = error_of("SELECT * FROM t")
    names = [error.sqlite_errorname for error in (missing, corrupt, no_database)]
    assert names == ["SQLITE_ERROR", "SQLITE_CORRUPT", "SQLITE_NOTADB"]
    for error in (missing, corrupt, no_database):
        assert never_passes(error)
        assert not is_passing(error)
