"""A file that is replaced under a running program: the log it leaves harms no other file.

SQLite keeps what was written last in a log beside the file, by name: left behind, it would be
applied to whatever file is there next, such as a backup (law 8, law 2).
"""

# ruff: noqa: ASYNC240  the paths are local and small, and nothing else runs meanwhile

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.stores.drive import create, fulfill, held, ok, step

from resonate_aio.errors import ResonateStoreError
from resonate_aio.protocol.records import PromiseState
from resonate_aio.protocol.requests import PromiseGet
from resonate_aio.stores.sqlite import SqliteStore, owner_lock, presence

LONG = "v" * 900


async def record(store: SqliteStore, root: str, *, steps: int = 100) -> None:
    version = await held(store, root)
    for n in range(1, steps + 1):
        await step(store, root, version, n, LONG)
    await fulfill(store, root, version)


async def has(path: Path, *roots: str) -> None:
    """The file is whole and holds these executions and no other."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    store = SqliteStore(path)
    await store.open()
    for root in ("first", "second", "third"):
        reply = await store.call(PromiseGet(root))
        assert reply.status == (200 if root in roots else 404), root
        for n in range(1, 101 if root in roots else 1):
            step = (await ok(store, PromiseGet(f"{root}.{n}"))).promise
            assert step is not None
            assert (step.state, step.value.data) == (PromiseState.RESOLVED, LONG)
    await store.close()


@pytest.fixture
async def backup(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the file with `first`; the file itself has `second`, too."""
    monkeypatch.setattr(presence, "LOOK_S", 0.0)
    store = SqliteStore(path, synchronous="NORMAL")
    await store.open()
    await record(store, "first")
    await store.close()
    copy = path.with_name("backup.db")
    shutil.copy(path, copy)
    await store.open()
    await record(store, "second")
    await store.close()
    return copy


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("old", ["gone", "kept"])
async def test_a_backup_put_in_its_place_stays_whole(
    path: Path, backup: Path, end: str, old: str
) -> None:
    """What the message says is done: the program is ended, and started again."""
    kept = path.with_name("kept.db")
    store = SqliteStore(path, synchronous="NORMAL")
    await store.open()
    await record(store, "third")
    if old == "kept":
        path.rename(kept)
    backup.replace(path)
    with pytest.raises(ResonateStoreError, match=r"the file was replaced.*start it again now$"):
        await store.call(create("d"))
    if end == "stop":
        await store.close()
    else:
        store.crash()
    await has(path, "first")
    if old == "kept":  # nothing that was acknowledged is lost with the log
        await has(kept, "first", "second", "third")


async def test_nothing_is_written_to_the_log_after_it_was_noticed(path: Path, backup: Path) -> None:
    store = SqliteStore(path, synchronous="NORMAL")
    await store.open()
    await record(store, "third")
    backup.replace(path)
    core = store._core
    assert core is not None
    change = "UPDATE promises SET owner = owner"
    for _ in range(2):
        with pytest.raises(ResonateStoreError, match="the file was replaced"):
            await core.run(lambda connection: connection.execute(change))
    assert path.with_name("app.db-wal").stat().st_size == 0
    store.crash()
    await has(path, "first")


@pytest.mark.parametrize("happens", ["replaced", "deleted"])
async def test_what_is_noticed_at_the_end_harms_no_backup_either(
    path: Path, backup: Path, happens: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(path, synchronous="NORMAL")
    await store.open()
    await record(store, "third")
    path.unlink()
    if happens == "replaced":
        backup.replace(path)
    await store.close()
    if happens == "deleted":
        backup.replace(path)
    assert "the file was " in caplog.text
    await has(path, "first")


async def test_a_log_that_cannot_be_emptied_is_named(path: Path, backup: Path) -> None:
    store = SqliteStore(path, synchronous="NORMAL")
    await store.open()
    await record(store, "third")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM promises").fetchone()
        await record(store, "fourth", steps=3)
        backup.replace(path)
        with pytest.raises(ResonateStoreError, match=r"first take .*app\.db-wal away.*reads it"):
            await store.call(create("d"))
        await store.close()
    path.with_name("app.db-wal").unlink()
    await has(path, "first")


async def test_without_a_lock_on_the_file_the_lock_file_is_looked_at(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the system has no such locks: who may not be alone any more stops (law 7)."""
    monkeypatch.setattr(presence, "LOOK_S", 0.0)
    monkeypatch.setattr(owner_lock, "_try_lock_itself", lambda fd: False)
    store = SqliteStore(path)
    await store.open()
    await ok(store, create("a"))
    path.with_name("app.db.lock").unlink()
    for _ in range(2):
        with pytest.raises(ResonateStoreError, match=r"app\.db\.lock was deleted or replaced"):
            await store.call(create("b"))
    await store.close()
    await store.open()
    await ok(store, PromiseGet("a"))
    await store.close()
