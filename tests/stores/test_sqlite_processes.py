"""Real processes: one owner per file, and kill -9 at any instant loses nothing acknowledged."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from tests.stores.drive import RESOLVED, ok

import resonate_aio
from resonate_aio.errors import StoreOwnedError
from resonate_aio.protocol.records import PromiseState
from resonate_aio.protocol.requests import PromiseGet, PromiseSearch
from resonate_aio.stores.sqlite import SqliteStore

SOURCE = Path(resonate_aio.__file__).parents[1]

WORKER = """
import asyncio, os, sys, time
from resonate_aio.protocol.records import Promise, PromiseState, Value
from resonate_aio.protocol.requests import PromiseCreate, TaskAcquire, TaskCreate, TaskGet
from resonate_aio.stores.sqlite import SqliteStore

async def execution(store, root, later):
    reply = await store.call(TaskCreate("p", 2**52, PromiseCreate(
        root, later, tags={"resonate:target": "poll://any@default"})))
    version = reply.task.version
    known = {promise.id for promise in await store.load(root)}
    n = 0
    while True:
        n += 1
        id = f"{root}.{n}"
        if id in known:
            continue
        done = asyncio.get_running_loop().create_future()
        now = int(time.time() * 1000)
        store.fence_create(root, version, Promise(
            id, PromiseState.PENDING, later, now, owner=root), None, None)
        store.fence_settle(root, version, id, PromiseState.RESOLVED, Value(data=id),
            lambda future, answer: future.set_result(answer), done)
        answer = await done
        os.write(1, f"{answer.id}\\n".encode())

async def main():
    store = SqliteStore(sys.argv[1], synchronous=sys.argv[2])
    await store.open()
    os.write(1, b"open\\n")
    later = int(time.time() * 1000) + 3_600_000
    await asyncio.gather(*(execution(store, f"r{n}", later) for n in range(int(sys.argv[3]))))

asyncio.run(main())
"""


def start(path: Path, *, executions: int, synchronous: str = "FULL") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path), synchronous, str(executions)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()


def acked_by(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(count)]
    if "" in lines:
        assert process.stderr is not None
        raise AssertionError(process.stderr.read())
    return lines


async def test_a_second_process_is_refused_and_told_who_owns_the_file(path: Path) -> None:
    owner = start(path, executions=0)
    try:
        # The worker ends by itself with nothing to do: hold it by its own store instead.
        owner.wait()
        store = SqliteStore(path)
        await store.open()
        second = start(path, executions=1)
        _, error = second.communicate(timeout=30)
        last = error.strip().splitlines()[-1]
        assert "StoreOwnedError" in last
        assert f"process {os.getpid()}" in last
        await store.close()
    finally:
        kill(owner)


async def test_we_are_refused_while_another_process_owns_it(path: Path) -> None:
    owner = start(path, executions=1)
    try:
        acked_by(owner, 2)
        store = SqliteStore(path)
        with pytest.raises(StoreOwnedError, match=f"process {owner.pid}"):
            await store.open()
    finally:
        kill(owner)
    await store.open()  # the lock ended with its process
    await store.close()


@pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="locks of Linux are what it tests")
@pytest.mark.parametrize("how", ["no lock file", "another name"])
async def test_the_lock_is_on_the_file_and_not_on_a_name(path: Path, how: str) -> None:
    """Law 7: what a person does who was refused lets nobody in."""
    owner = start(path, executions=1)
    try:
        acked_by(owner, 2)
        other = path
        if how == "no lock file":
            path.with_name("app.db.lock").unlink()
        else:
            other = path.with_name("other.db")
            other.hardlink_to(path)
        for _ in range(2):
            with pytest.raises(StoreOwnedError, match=f"{other} is in use by process {owner.pid}"):
                await SqliteStore(other).open()
        acked_by(owner, 50)
    finally:
        kill(owner)
    store = SqliteStore(path)
    await store.open()
    await store.close()


WHO_HAS_IT = """
import os, sys
from resonate_aio.stores.sqlite.owner_lock import _pid_at
print(_pid_at(os.open(sys.argv[1], os.O_RDWR)))
"""


async def test_our_own_other_name_of_the_file_is_refused_unopened(path: Path) -> None:
    """A process that closes a file anywhere drops the locks SQLite has on it."""
    store = SqliteStore(path)
    await store.open()
    other = path.with_name("other.db")
    other.hardlink_to(path)
    with pytest.raises(StoreOwnedError, match=f"in use by process {os.getpid()}"):
        await SqliteStore(other).open()
    found = subprocess.run(  # noqa: ASYNC221  nothing else runs
        [sys.executable, "-c", WHO_HAS_IT, str(path)],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        timeout=30,
    )
    assert int(found.stdout) == os.getpid()
    await store.close()
    moved = SqliteStore(other)
    await moved.open()
    await moved.close()


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
async def test_kill_9_loses_nothing_acknowledged(path: Path, synchronous: str) -> None:
    chance = random.Random(7)
    acked: list[str] = []
    for _ in range(4):
        worker = start(path, executions=20, synchronous=synchronous)
        try:
            acked += acked_by(worker, 1 + chance.randrange(100, 400))
        finally:
            kill(worker)
    done = [id for id in acked if id != "open"]
    assert len(set(done)) == len(done)  # nothing recorded was ever done again

    store = SqliteStore(path)
    await store.open()
    for id in done:
        promise = (await ok(store, PromiseGet(id))).promise
        assert promise is not None
        assert (promise.state, promise.value.data) == (RESOLVED, id)
    # Whatever else is there is whole: steps in order, without a gap.
    for n in range(20):
        records = await store.load(f"r{n}")
        numbers = sorted(int(promise.id.partition(".")[2]) for promise in records)
        assert numbers == list(range(1, len(numbers) + 1))
    roots = await ok(store, PromiseSearch(PromiseState.PENDING, limit=1000))
    assert {promise.id for promise in roots.promises if "." not in promise.id} == {
        f"r{n}" for n in range(20)
    }
    await store.close()


async def test_a_forked_child_does_not_keep_the_file(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads do not survive: the point
        pid = os.fork()
    if pid == 0:  # the child only sits there with what it inherited
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        await store.close()
        await store.open()
        await store.close()
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(pid, 0)  # noqa: ASYNC222  it has nothing left to wait for
