"""The file itself: whose it is, what it may be, what is found in it at open."""

# ruff: noqa: ASYNC240  the paths are local and small, and nothing else runs meanwhile

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.stores.drive import (
    Inbox,
    acquire,
    child,
    create,
    fence_create,
    fulfill,
    held,
    now_ms,
    ok,
    passes,
    settle,
    step,
)

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateStoreError, StoreOwnedError, StoreSchemaError
from resonate_aio.protocol.records import Promise, PromiseState, Task, TaskState
from resonate_aio.protocol.requests import Execute, PromiseGet, TaskGet, TaskRelease
from resonate_aio.stores.base import LOST
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore, presence
from resonate_aio.stores.sqlite.file import LONGEST_DELAY_S, delay_ms, recover
from resonate_aio.stores.sqlite.owner_lock import OwnerLock
from resonate_aio.stores.sqlite.reading import stored_of
from resonate_aio.stores.sqlite.rows import SCHEMA, SELECT, Stored
from resonate_aio.stores.sqlite.upserts import Statement, leaf_upserts, row_upserts


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def task_of(store: SqliteStore | MemoryStore, id: str) -> Task:
    task = (await ok(store, TaskGet(id))).task
    assert task is not None
    return task


async def killed(store: SqliteStore) -> None:
    """Everything of the store's process is gone, and the next one opens the file."""
    store.crash()
    await store.open()


async def test_every_file_is_the_owners_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(path)
        await store.open()
        await ok(store, create("a"))
        names = sorted(p.name for p in path.parent.iterdir())
        assert names == ["app.db", "app.db-shm", "app.db-wal", "app.db.lock"]
        assert {mode_of(p) for p in path.parent.iterdir()} == {0o600}
        await store.close()
        assert {mode_of(p) for p in path.parent.iterdir()} == {0o600}
    finally:
        os.umask(before)


async def test_constructing_touches_nothing(path: Path) -> None:
    store = SqliteStore(path)
    assert not path.exists()
    await store.close()
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("kind", ["text", "other database", "short", 2, 0, -5])
async def test_a_file_that_is_not_ours_is_left_as_it_is(path: Path, kind: str | int) -> None:
    if kind == "text":
        path.write_text("just my notes\n" * 100)
    elif kind == "short":
        path.write_bytes(b"x")
    else:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE mine (id TEXT)")
            if isinstance(kind, int):  # a version that this library never wrote
                for statement in SCHEMA:
                    other.execute(statement)
                other.execute(f"PRAGMA user_version = {kind}")
        other.close()
    before = path.read_bytes()
    store = SqliteStore(path)
    with pytest.raises(StoreSchemaError, match=r"left as it is"):
        await store.open()
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["app.db"]
    path.unlink()
    await store.open()
    await ok(store, create("a"))
    await store.close()


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    store = SqliteStore(path)
    await store.open()
    await ok(store, create("a"))
    await store.close()


async def test_a_path_that_cannot_be_opened(tmp_path: Path) -> None:
    """One line that names the path, what is wrong with it, and what to do."""
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    troubles = {
        tmp_path / "pipe": "it is no regular file",
        Path(os.devnull): "it is no regular file",
        tmp_path / "none" / "app.db": "there is no folder .*none: make it first",
        tmp_path: "it is a folder: name a file in it",
        tmp_path / "file" / "app.db": ".*file is no folder",
        tmp_path / ("x" * 300): ".* too long",
    }
    for path, trouble in troubles.items():
        with pytest.raises(ResonateStoreError, match=f"cannot open .*: {trouble}") as raised:
            await SqliteStore(path).open()
        assert "\n" not in str(raised.value)
        assert "Errno" not in str(raised.value)
    assert not list(tmp_path.glob("*.lock"))
    assert not Path(f"{os.devnull}.lock").exists()


@pytest.mark.parametrize(
    ("number", "trouble"),
    [
        (errno.EACCES, "permission denied: this user has to read and write"),
        (errno.EROFS, "on a file system that is read-only: take another place"),
        (errno.ENOSPC, "no space is left for it: make room"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
async def test_what_the_system_refuses(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, trouble: str
) -> None:
    """As the system says it; tests may run as a user who may do everything."""

    def refuse(*_: Any, **__: Any) -> int:
        raise OSError(number, os.strerror(number), str(path))

    store = SqliteStore(path)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ResonateStoreError, match=trouble):
        await store.open()
    monkeypatch.undo()
    await store.open()
    await store.close()


async def test_a_corrupt_file_is_named(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await ok(store, create("a"))
    await store.close()
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)
    with pytest.raises(ResonateStoreError, match=r"app\.db"):
        await store.open()
    await store.close()


async def test_clients_of_one_process_share_a_real_path(path: Path) -> None:
    link = path.parent / "link.db"
    one, two = SqliteStore(path), SqliteStore(os.path.relpath(path), synchronous="NORMAL")
    await asyncio.gather(one.open(), two.open())
    link.symlink_to(path)
    three = SqliteStore(link)
    await three.open()
    inbox = Inbox()
    two.subscribe("default", "p", inbox)
    await ok(one, create("a"))
    assert await inbox.until(1) == [Execute("a", 0)]
    await ok(three, settle("a"))
    await one.close()
    assert (await ok(two, PromiseGet("a"))).promise is not None
    await two.close()
    assert (await ok(three, PromiseGet("a"))).promise is not None
    await three.close()
    with pytest.raises(ResonateStoreError):
        await three.call(PromiseGet("a"))


async def test_sharers_get_the_stronger_promise(path: Path) -> None:
    weak, strong = SqliteStore(path, synchronous="NORMAL"), SqliteStore(path)
    await weak.open()
    core = weak._core
    assert core is not None

    async def level() -> int:
        pragma = "PRAGMA synchronous"
        found: int = await core.run(lambda connection: connection.execute(pragma).fetchone()[0])
        return found

    assert await level() == 1
    await strong.open()
    assert await level() == 2
    await strong.close()
    await weak.close()


@pytest.mark.parametrize("synchronous", ["full", "OFF", "EXTRA", "", None, 0, True, []])
def test_another_word_for_synchronous_is_refused(path: Path, synchronous: Any) -> None:
    with pytest.raises(ValueError, match="synchronous is 'FULL' or 'NORMAL', got"):
        SqliteStore(path, synchronous=synchronous)


async def test_opening_while_the_last_user_closes(path: Path) -> None:
    one, two = SqliteStore(path), SqliteStore(path)
    await one.open()
    await ok(one, create("a"))
    await asyncio.gather(one.close(), two.open())
    assert (await ok(two, PromiseGet("a"))).promise is not None
    await two.close()


async def test_a_cancelled_open_leaves_nothing_behind(path: Path) -> None:
    store = SqliteStore(path)
    opening = asyncio.ensure_future(store.open())
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    lock = OwnerLock(str(path))
    lock.acquire()
    with pytest.raises(StoreOwnedError, match=str(os.getpid())):
        await store.open()
    lock.release()
    await store.open()
    await store.close()


async def test_the_file_can_be_copied_and_opened_elsewhere(sqlite: SqliteStore, path: Path) -> None:
    await ok(sqlite, create("a"))
    await sqlite.close()
    shutil.copy(path, path.parent / "copy.db")
    copy = SqliteStore(path.parent / "copy.db")
    await copy.open()
    assert (await ok(copy, PromiseGet("a"))).promise is not None
    await copy.close()


def test_a_settled_row_is_never_written_again() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(SCHEMA[0])
    pending = child("a.1", "a")
    first = msgspec.structs.replace(pending, state=PromiseState.RESOLVED, settled_at_ms=now_ms())

    def full(*promises: Promise) -> Iterator[Statement]:
        return row_upserts([Stored(promise) for promise in promises])

    def leaves(*promises: Promise) -> Iterator[Statement]:
        return leaf_upserts(promises)

    def execute(statements: Iterator[Statement]) -> None:
        for sql, values in statements:
            connection.execute(sql, values)

    others = [child(f"a.{n}", "a") for n in range(2, 300)]  # in id order below
    others.sort(key=lambda promise: promise.id)
    for write in (full, leaves):
        connection.execute("DELETE FROM promises")
        execute(write(pending))
        execute(write(first))
        execute(write(pending, *others))
        found = [stored_of(row) for row in connection.execute(f"{SELECT} ORDER BY id")]
        assert found == [Stored(promise) for promise in (first, *others)]
    connection.close()


# -- leases of the last owner (S41, S44)


async def test_leases_end_with_their_process(sqlite: SqliteStore) -> None:
    version = await held(sqlite, "a")
    await step(sqlite, "a", version, 1)
    await killed(sqlite)
    task = await task_of(sqlite, "a")
    assert (task.state, task.version, task.lapses) == (TaskState.PENDING, 1, 0)
    assert await fence_create(sqlite, "a", version, child("a.2", "a")) is LOST
    inbox = Inbox()
    sqlite.subscribe("default", "p", inbox)
    assert await inbox.until(1) == [Execute("a", 1)]
    await ok(sqlite, acquire("a", 1))
    assert [promise.id for promise in await sqlite.load("a")] == ["a.1"]


async def test_lapses_without_progress_put_the_next_drive_off(sqlite: SqliteStore) -> None:
    await held(sqlite, "a")
    await ok(sqlite, create("b"))
    for lapses in (1, 2, 3):
        at_ms = now_ms()
        await killed(sqlite)
        task = await task_of(sqlite, "a")
        assert (task.state, task.lapses) == (TaskState.PENDING, lapses)
        assert task.retry_at_ms is not None
        assert abs(task.retry_at_ms - at_ms - delay_ms(lapses)) < 1000
        inbox = Inbox()
        sqlite.subscribe("default", "p", inbox)
        await inbox.until(1)
        await passes(10)
        assert inbox.seen == [Execute("b", 0)]
        await ok(sqlite, acquire("a", task.version))
    # Progress, by a record of its own, clears the account.
    await asyncio.sleep(0.002)
    await step(sqlite, "a", 4, 1)
    await killed(sqlite)
    task = await task_of(sqlite, "a")
    assert task.lapses == 0
    assert task.retry_at_ms is not None
    assert task.retry_at_ms <= now_ms() + 31_000


async def test_a_restart_does_not_shorten_the_pause(sqlite: SqliteStore) -> None:
    await held(sqlite, "a")
    for _ in range(3):
        await killed(sqlite)
        task = await task_of(sqlite, "a")
        assert task.lapses == 1  # it was not driven meanwhile
        assert task.retry_at_ms is not None
        assert now_ms() < task.retry_at_ms <= now_ms() + 2000


async def test_what_was_driven_long_ago_is_not_kept_waiting(sqlite: SqliteStore) -> None:
    """An execution that only sleeps resumes at once, however many processes died over it."""
    await held(sqlite, "a")
    for lapses in (1, 2, 3):
        await sqlite.close()
        with closing(sqlite3.connect(sqlite.path)) as connection, connection:
            connection.execute(
                "UPDATE promises SET task_state = 'acquired', expires_at_ms = NULL, lapses = ?,"
                " acquired_at_ms = ?",
                (lapses + 7, now_ms() - LONGEST_DELAY_S * 1000),
            )
        await sqlite.open()
        task = await task_of(sqlite, "a")
        assert (task.state, task.lapses) == (TaskState.PENDING, lapses + 8)
        inbox = Inbox()
        sqlite.subscribe("default", "p", inbox)
        assert await inbox.until(1) == [Execute("a", 1)]


async def test_a_clean_stop_is_no_lapse(sqlite: SqliteStore) -> None:
    await held(sqlite, "a")
    await killed(sqlite)
    await ok(sqlite, acquire("a", 1))
    await ok(sqlite, TaskRelease("a", 2))
    await sqlite.close()
    await sqlite.open()
    inbox = Inbox()
    sqlite.subscribe("default", "p", inbox)
    assert await inbox.until(1) == [Execute("a", 2)]


async def test_a_delayed_task_keeps_its_delay(sqlite: SqliteStore) -> None:
    at_ms = now_ms() + 60_000
    await ok(sqlite, create("a", tags={"resonate:delay": str(at_ms)}))
    await killed(sqlite)
    assert (await task_of(sqlite, "a")).retry_at_ms == at_ms


def test_delays_are_bounded() -> None:
    assert [delay_ms(n) // 1000 for n in (1, 2, 8, 9, 60)] == [2, 4, 256, 300, 300]


def test_counting_the_lapses_of_ten_thousand_tasks_is_quick(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute("BEGIN")
    insert = (
        "INSERT INTO promises (id, state, timeout_at_ms, created_at_ms, settled_at_ms, owner,"
        " task_state, version, acquired_at_ms, lapses, tags)"
        " VALUES (?, ?, 9999, 1, ?, ?, ?, 1, ?, 0, ?)"
    )
    target = '{"resonate:target":"poll://any@default"}'
    for n in range(10_000):
        root = f"r{n}"
        connection.execute(insert, (root, "pending", None, "", "acquired", 50, target))
        settled_at_ms = 60 if n % 2 else 40
        connection.executemany(
            insert,
            [(f"{root}.{c}", "resolved", settled_at_ms, root, None, None, None) for c in range(10)],
        )
    connection.execute("COMMIT")
    started = time.perf_counter()
    recover(connection, 1000)
    took_s = time.perf_counter() - started
    counts = dict(
        connection.execute(
            "SELECT lapses, count(*) FROM promises WHERE task_state = 'pending' GROUP BY lapses"
        )
    )
    connection.close()
    assert counts == {0: 5000, 1: 5000}
    assert took_s < 2.0


# -- the same in memory


async def test_a_crash_copy_of_memory() -> None:
    store = MemoryStore()
    await store.open()
    version = await held(store, "a")
    await step(store, "a", version, 1)
    await ok(store, create("b"))
    await ok(store, create("b.5", target=None))
    copy = store.crash_copy()
    await fulfill(store, "a", version)
    await store.close()

    await copy.open()
    task = await task_of(copy, "a")
    assert (task.state, task.version, task.pid) == (TaskState.PENDING, 1, None)
    inbox = Inbox()
    copy.subscribe("default", "p", inbox)
    assert sorted(m.id for m in await inbox.until(2)) == ["a", "b"]
    assert [promise.id for promise in await copy.load("a")] == ["a.1"]
    assert [promise.id for promise in await copy.load("b")] == ["b.5"]
    assert await fulfill(copy, "a", version) is LOST
    await copy.close()


# -- a file that is deleted or replaced while it is open (law 8: nothing of that is an outcome)


def _deleted(path: Path) -> None:
    path.unlink()


def _replaced(path: Path) -> None:
    shutil.copyfile(path, other := path.with_name("other.db"))
    other.replace(path)


def _folder_gone(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


@pytest.mark.parametrize(
    ("happens", "says"),
    [(_deleted, "deleted or moved"), (_replaced, "replaced"), (_folder_gone, "deleted or moved")],
)
async def test_a_file_that_is_gone_acknowledges_nothing_any_more(
    happens: Callable[[Path], None],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Law 2: what is acknowledged will be found again; one error in the log says why not."""
    path = tmp_path / "data" / "app.db"
    path.parent.mkdir()
    monkeypatch.setattr(presence, "LOOK_S", 0.0)
    store = SqliteStore(path)
    await store.open()
    await ok(store, create("a"))
    happens(path)
    for request in (create("b"), create("c"), create("c")):
        with pytest.raises(ResonateStoreError, match=f"the file was {says}.*stop the program"):
            await store.call(request)
    await store.close()
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [text for text in errors if says in text] == errors[:1]
    assert str(path) in errors[0]
    if happens is _deleted:
        store = SqliteStore(path)
        await store.open()
        assert (await store.call(PromiseGet("b"))).status == 404
        await store.close()


async def test_a_file_that_goes_within_a_second_of_a_look_is_missed_at_the_close(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(path)
    await store.open()
    await ok(store, create("a"))
    path.unlink()
    await store.close()
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "the file was deleted or moved" in record.getMessage()


async def test_the_file_is_looked_at_once_a_second_and_not_at_each_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    stat_ = os.stat

    def counted(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if threading.current_thread() is not threading.main_thread():
            looks.append(str(path))
        return stat_(path, *args, **kwargs)

    now_s = 100.0
    monkeypatch.setattr(os, "stat", counted)
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    store = SqliteStore(path, synchronous="NORMAL")
    await store.open()
    looks.clear()
    for n in range(20):
        await ok(store, create(f"a{n}"))
    assert not looks, "the opening was one"
    now_s += 1.0
    for n in range(20):
        await ok(store, create(f"b{n}"))
    assert looks.count(str(path)) == 1
    monkeypatch.undo()
    await store.close()


async def test_whoever_may_not_look_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trouble of looking says nothing of the file."""
    monkeypatch.setattr(presence, "LOOK_S", 0.0)
    store = SqliteStore(path)
    await store.open()

    def refused(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, "no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refused)
        await ok(store, create("a"))
    await ok(store, create("b"))
    await store.close()


async def test_a_client_whose_file_is_gone_refuses_what_is_new_and_can_be_stopped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 16: an execution that can neither go on nor be given back does not stop the stop."""
    monkeypatch.setattr(presence, "LOOK_S", 0.0)
    resonate = Resonate.local(path=path, stop_timeout=0)
    stepped = asyncio.Event()

    async def step(ctx: Context) -> None:
        stepped.set()

    @resonate.register
    async def steps(ctx: Context) -> None:
        while True:
            await ctx.run(step)
            await asyncio.sleep(0.001)

    async with resonate:
        running = await resonate.begin_run("a", steps).created()
        await stepped.wait()
        path.unlink()
        with pytest.raises(ResonateStoreError, match="the file was deleted or moved"):
            await running.result(timeout=5)
        with pytest.raises(ResonateStoreError, match="the file was deleted or moved"):
            await resonate.begin_run("b", steps).created()
    assert "resonate-aio writer" not in " ".join(t.name for t in threading.enumerate())


@pytest.mark.parametrize("kind", ["link", "text", "pipe", "folder", "nowhere"])
async def test_what_stands_in_the_place_of_the_lock_file_is_left_alone(
    tmp_path: Path, kind: str
) -> None:
    """S44: the lock file is emptied, and whoever may write in the folder could name any other."""
    precious, lock = tmp_path / "precious.txt", tmp_path / "app.db.lock"
    precious.write_text("precious")
    match kind:
        case "link":
            lock.symlink_to(precious)
        case "nowhere":
            lock.symlink_to(tmp_path / "none")
        case "text":
            lock.write_text("12 eggs")
        case "pipe":
            os.mkfifo(lock)
        case _:
            lock.mkdir()
    with pytest.raises(ResonateStoreError, match=r"app\.db\.lock") as raised:
        await SqliteStore(tmp_path / "app.db").open()
    assert "\n" not in str(raised.value)
    assert precious.read_text() == "precious"
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "app.db").exists()
    assert kind != "text" or lock.read_text() == "12 eggs"


@pytest.mark.parametrize("text", ["", "4711\n", "4711"])
async def test_a_lock_file_of_an_earlier_owner_is_taken(tmp_path: Path, text: str) -> None:
    (tmp_path / "app.db.lock").write_text(text)
    store = SqliteStore(tmp_path / "app.db")
    await store.open()
    assert (tmp_path / "app.db.lock").read_text() == f"{os.getpid()}\n"
    await store.close()


async def test_an_empty_file_made_by_hand_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    path.touch(0o644)
    store = SqliteStore(path)
    await store.open()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await store.close()
