"""Messages speak of what the user wrote: names, arguments, processes (law 14)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import (
    NonDeterminismError,
    ResonateStoreError,
    ResonateTimedoutError,
    StoreOwnedError,
)
from resonate_aio.stores.sqlite import SqliteStore
from resonate_aio.stores.sqlite.owner_lock import OwnerLock
from resonate_aio.testing import simulate, simulated

SOURCE = Path(__file__).parents[2] / "src"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda client: client.options(foo=1), r"Resonate\.options\(\) got an unexpected .*'foo'"),
        (lambda client: client.register(print, nam="x"), r"Resonate\.register\(\) got .*'nam'"),
        (lambda client: client.run(), r"Resonate\.run\(\) missing 2 required positional"),
        (lambda client: client.rpc(), r"Resonate\.rpc\(\) missing 2 required positional"),
        (lambda client: client.get(), r"Resonate\.get\(\) missing 1 required positional"),
    ],
)
def test_a_method_is_named_as_it_was_called(wrong: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        wrong(Resonate())


async def sleeps(ctx: Context) -> None:
    await asyncio.sleep(1)


async def cancels_what_runs(name: str) -> None:
    """As somebody does who takes a function's task for one of his own."""
    while True:
        for task in asyncio.all_tasks():
            if task.get_name() == name:
                task.cancel()
        await asyncio.sleep(0.5)


def test_what_is_set_aside_here_is_no_question_of_a_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It runs in this very process: no address, no pid; and the log it points to says why."""

    async def main(resonate: Resonate) -> None:
        resonate.register(sleeps)
        handle = resonate.run("x", sleeps)
        cancelling = asyncio.create_task(cancels_what_runs("x"))
        with pytest.raises(TimeoutError, match=r"'x' did not end within 300 s; it is set aside"):
            await handle.result(timeout=300)
        explained = await handle.explain()
        assert "/" not in explained.partition("poll://")[2], "no pid that nobody chose"
        cancelling.cancel()
        await handle.cancel()

    caplog.set_level("WARNING", "resonate_aio")
    simulate(main)
    assert any("'x'" in record.getMessage() for record in caplog.records)


@simulated
async def test_a_promise_that_timed_out_advises_what_can_be_written(resonate: Resonate) -> None:
    """`ctx.promise` takes timeout= itself, the others as an option."""

    @resonate.register
    async def asks(ctx: Context) -> None:
        await (await ctx.promise(timeout=1))

    with pytest.raises(ResonateTimedoutError, match=r"with timeout=seconds where it is asked"):
        await resonate.run("x", asks)


FORKS = """
import asyncio, os, sys
from resonate_aio import Resonate
resonate = Resonate()

@resonate.register
async def one(ctx): return 1

async def ask(): return await resonate.run("x", one)

async def main():
    await ask()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    asyncio._set_running_loop(None)
    try:
        asyncio.run(ask())
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    os._exit(0)

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_client_that_was_forked_says_so() -> None:
    """Another process, not another event loop."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == (
        "ResonateStoreError: this client was started before a fork, in the parent process, and "
        "does not survive it: make one in each process (multiprocessing: the `spawn` method)\n"
    ), done.stderr


async def test_a_file_in_use_is_refused_in_a_few_frames(tmp_path: Path) -> None:
    """The message says all; where in the library it was found out would only hide it."""
    path = tmp_path / "app.db"
    lock = OwnerLock(str(path))
    lock.acquire()
    client = Resonate.local(path=path)
    client.register(sleeps)

    async def enters() -> None:
        async with client:
            pass

    async def runs() -> None:
        await client.run("x", sleeps)

    try:
        for refused in (enters, runs):
            with pytest.raises(StoreOwnedError, match="is in use by process") as caught:
                await refused()
            files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
            assert len([name for name in files if name.startswith(str(SOURCE))]) <= 3
    finally:
        lock.release()


async def first_step(ctx: Context) -> int:
    return 1


async def other_step(ctx: Context) -> int:
    return 2


@pytest.mark.parametrize("is_awaited", [True, False])
async def test_changed_code_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_awaited: bool
) -> None:
    """In full to who awaits the execution; the log has it in full where nobody does."""

    def client(step: Any) -> Resonate:
        resonate = Resonate.local(path=tmp_path / "app.db", synchronous="NORMAL")

        @resonate.register
        async def flow(ctx: Context) -> None:
            await ctx.run(step)
            await (await ctx.promise(id="gate"))

        return resonate

    async with client(first_step) as before:
        before.run("x", "flow")
        while True:
            try:
                await before.promises.get("gate")
                break
            except ResonateStoreError:
                await asyncio.sleep(0)
    async with client(other_step) as after:
        if is_awaited:
            with pytest.raises(NonDeterminismError, match="the code changed"):
                await after.run("x", "flow")
        while not caplog.records:  # noqa: ASYNC110  the log is all there is
            await asyncio.sleep(0)
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith("'x' is stopped: ")
    assert ("the code changed" in said) is not is_awaited
    assert (said == "'x' is stopped: NonDeterminismError, as those who await it are told") is (
        is_awaited
    )


def test_sqlites_word_for_memory_is_refused_with_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"leave path out, Resonate\(\) is in memory"):
        Resonate.local(path=":memory:")
    with pytest.raises(ValueError, match=r"as a store: MemoryStore\(\)"):
        SqliteStore(":memory:")
    Resonate.local(path=tmp_path / ":memory:")  # whoever names a folder means the file
