"""The client without an event loop: from scripts and threads (mission P11, H1)."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateStoreError, UsageError
from resonate_aio.protocol.records import PromiseState

SOURCE = Path(__file__).parents[2] / "src"


async def add(ctx: Context, a: int, b: int) -> int:
    return a + b


async def fails(ctx: Context) -> None:
    raise LookupError("no luck")


def test_in_a_script(tmp_path: Path) -> None:
    """Mission P11: `with` starts the client on a loop of its own, and stops it at the end."""
    threads = threading.active_count()
    resonate = Resonate.local(path=tmp_path / "app.db")
    resonate.register(add)
    resonate.register(fails)
    for _ in range(2):
        with resonate.blocking() as client:
            assert client.run("a", add, 1, 2) == 3
            assert client.run("b", "add", 1, b=3) == 4
            assert client.rpc("c", add, 2, 2) == 4
            handle = client.begin_run("d", add, 3, 3)
            assert handle.result_sync(5) == 6
            assert client.begin_rpc("e", "add", 4, 4).result_sync() == 8
            assert client.get("a").result_sync() == 3
            assert client.wait(client.get("a"), timeout=5) == 3
            assert client.options(tags={"t": "x"}, timeout=60).run("f", add, 1, 1) == 2
            with pytest.raises(LookupError, match="no luck"):
                client.run("g", fails)
            client.wait(resonate.promises.create("p", timeout_in=60))
            client.wait(resonate.promises.resolve("p", value="yes"))
            assert client.get("p").result_sync() == "yes"
            found = client.wait(resonate.promises.search(tags={"t": "x"}))
            assert [promise.id for promise in found] == ["f"]
            assert client.wait(resonate.schedule("s", add, "@daily", 1, 2)).id == "s"
            with pytest.raises(ResonateStoreError):
                client.wait(resonate.promises.get("absent"))
    assert threading.active_count() == threads, "nothing is left behind"


async def test_beside_a_running_loop() -> None:
    """Mission P11, H1: a thread of the application hands its calls over to the client's loop."""
    async with Resonate() as resonate:
        resonate.register(add)

        def in_a_thread() -> list[int]:
            client = resonate.blocking()
            with resonate.blocking() as other:
                return [client.run("a", add, 1, 2), other.run("b", add, 3, 4)]

        assert await asyncio.to_thread(in_a_thread) == [3, 7]
        assert await resonate.get("a") == 3, "leaving `with` does not stop the application's client"


async def test_never_inside_a_running_loop() -> None:
    """Mission H1; it must show 5: it would block the loop it waits for."""
    async with Resonate() as resonate:
        resonate.register(add)
        client = resonate.blocking()
        calls: list[Any] = [
            lambda: client.run("a", add, 1, 2),
            lambda: client.rpc("a", add, 1, 2),
            lambda: client.begin_run("a", add, 1, 2),
            lambda: client.get("a"),
            lambda: client.wait(resonate.promises.get("a")),
            lambda: client.wait(resonate.get("a")),
            client.__enter__,
        ]
        for call in calls[:5] + calls[6:]:
            with pytest.raises(UsageError, match="would block"):
                call()
        assert [p.id async for p in resonate.promises.search()] == []


def test_a_client_that_runs_nowhere() -> None:
    """It must show 5: the message says what to write."""
    resonate = Resonate()
    resonate.register(add)
    client = resonate.blocking()
    with pytest.raises(UsageError, match=r"with resonate\.blocking\(\)"):
        client.run("a", add, 1, 2)
    with pytest.raises(UsageError, match="runs nowhere"):
        client.wait(resonate.promises.get("a"))
    with client:
        assert client.run("a", add, 1, 2) == 3
        with pytest.raises(UsageError, match="in use"):
            client.__enter__()
        with pytest.raises(TypeError, match="handles"):
            client.wait(resonate.promises.get("a"), timeout=1)


def test_a_client_that_cannot_start(tmp_path: Path) -> None:
    """Its error is the script's, and nothing is left running."""
    threads = threading.active_count()
    (tmp_path / "app.db").write_text("not a database, at any rate not one of ours" * 100)
    with pytest.raises(ResonateStoreError), Resonate.local(path=tmp_path / "app.db").blocking():
        raise AssertionError("not reached")
    assert threading.active_count() == threads


def test_a_client_without_functions_takes_no_work(tmp_path: Path) -> None:
    """Mission P11: a script that only resolves a promise leaves executions to their workers."""
    resonate = Resonate.local(path=tmp_path / "app.db")

    @resonate.register
    async def flow(ctx: Context) -> Any:
        return await (await ctx.promise(id="approve"))

    with resonate.blocking() as client:
        client.wait(client.begin_run("a", flow).created())
        while "approve" not in {p.id for p in client.wait(resonate.promises.search())}:
            pass

    program = """
import logging, sys
logging.basicConfig(level=logging.WARNING)
from resonate_aio import Resonate
resonate = Resonate.local(path="app.db")
with resonate.blocking() as client:
    client.wait(resonate.promises.resolve("approve", value="yes"))
    print(client.get("approve").result_sync())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(SOURCE)},
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("yes\n", "")
    with resonate.blocking() as client:
        assert client.get("a").result_sync(5) == "yes"


def unheard(caplog: pytest.LogCaptureFixture) -> list[str]:
    gc.collect()
    return [text for text in caplog.messages if "nobody here await" in text]


def test_only_failures_that_nobody_awaited_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Law 9: a thread that awaits a failure is told of it, and that a moment later than a task."""
    resonate = Resonate()
    resonate.register(fails)
    with resonate.blocking() as client:

        def begun(id: str) -> Any:
            handle = client.begin_run(id, fails)
            while client.wait(resonate.promises.get(id)).state is PromiseState.PENDING:
                pass
            return handle

        calls: list[Any] = [
            lambda: client.run("run", fails),
            lambda: client.rpc("rpc", "fails"),
            lambda: client.begin_run("begun", fails).result_sync(5),
            lambda: client.wait(client.begin_rpc("rpc-begun", fails)),
            begun("late").result_sync,
            client.get("late").result_sync,
        ]
        for call in calls:
            with pytest.raises(LookupError, match="no luck"):
                call()
        del calls, call
        assert unheard(caplog) == []
        begun("dropped")
        assert unheard(caplog) == [
            "'dropped' failed and nobody here awaited it: LookupError('no luck')"
        ]


async def test_a_thread_that_waits_hears_of_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Law 9: from the moment it asks, and no longer than it waits."""
    async with Resonate() as resonate:
        go = asyncio.Event()

        @resonate.register
        async def fails_later(ctx: Context) -> None:
            await go.wait()
            raise LookupError("no luck")

        heard = await resonate.begin_run("heard", fails_later).created()
        given_up = await resonate.begin_run("given-up", fails_later).created()
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(given_up.result_sync, 0.01)
        told = asyncio.create_task(asyncio.to_thread(heard.result_sync))
        await asyncio.sleep(0)
        while not heard._in_threads:  # noqa: ASYNC110  it only just counts itself
            await asyncio.sleep(0)
        go.set()
        with pytest.raises(LookupError):
            await told
        for _ in range(5):
            await asyncio.sleep(0)
        assert [text.partition(" ")[0] for text in unheard(caplog)] == ["'given-up'"]
