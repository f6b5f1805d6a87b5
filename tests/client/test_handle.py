"""Handles (mission table 1.5)."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any, NewType

import pytest

from resonate_aio import Context, Handle, Resonate
from resonate_aio.encoders import JsonEncoder
from resonate_aio.errors import (
    ResonateCanceledError,
    ResonateShutdownError,
    ResonateStoreError,
    UsageError,
)
from resonate_aio.protocol.records import PromiseState

Make = Callable[..., Resonate]


async def add(ctx: Context, a: int, b: int) -> int:
    return a + b


async def fails(ctx: Context) -> None:
    raise ValueError("no luck")


async def long(ctx: Context) -> None:
    await ctx.sleep(10_000)


def in_thread(call: Callable[[], Any]) -> asyncio.Future[Any]:
    return asyncio.get_running_loop().run_in_executor(None, call)


async def test_waiting_in_every_way(make: Make) -> None:
    """Mission H1, H2: `await handle`, `await handle.result()`, often and from many tasks."""
    async with make() as resonate:
        resonate.register(add)
        handle = resonate.begin_run("a", add, 1, 2)
        assert await asyncio.gather(*(handle for _ in range(5)), handle.result()) == [3] * 6
        assert await handle == 3
        assert handle.done()


async def test_waiting_from_another_thread(make: Make) -> None:
    """Mission H1: blocking is for other threads, and impossible where a loop runs."""
    async with make() as resonate:
        resonate.register(add)
        resonate.register(fails)
        resonate.register(long)
        handle = resonate.begin_run("a", add, 1, 2)
        assert await in_thread(handle.result_sync) == 3
        assert await in_thread(lambda: handle.result_sync(timeout=5)) == 3
        with pytest.raises(UsageError, match="await handle"):
            handle.result_sync()
        failing = resonate.begin_run("f", fails)
        with pytest.raises(ValueError, match="no luck"):
            await in_thread(failing.result_sync)
        waiting = resonate.begin_run("l", long)
        with pytest.raises(TimeoutError, match="'l'"):
            await in_thread(lambda: waiting.result_sync(timeout=0.01))
        with pytest.raises(ValueError, match="timeout"):
            await in_thread(lambda: waiting.result_sync(timeout=-1))
        late = in_thread(waiting.result_sync)
        await asyncio.sleep(0.05)
        await resonate.stop()
        with pytest.raises(ResonateShutdownError, match="'l'"):
            await late


@pytest.mark.parametrize("is_stopped", [True, False])
def test_waiting_for_a_loop_that_is_gone(is_stopped: bool) -> None:
    """Mission H1: whoever waits in a thread is told, not kept for ever."""
    resonate = Resonate()
    resonate.register(long)
    begun, errors = threading.Event(), []

    async def main() -> Handle[None]:
        handle = await resonate.begin_run("l", long).created()

        def wait() -> None:
            begun.set()
            try:
                handle.result_sync()
            except ResonateShutdownError as error:
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        await in_thread(begun.wait)
        await asyncio.sleep(0.05)
        threads.append(thread)
        if is_stopped:
            await resonate.stop()
        return handle

    threads: list[threading.Thread] = []
    handle = asyncio.run(main())
    threads[0].join(5)
    assert not threads[0].is_alive()
    assert len(errors) == 1
    with pytest.raises(ResonateShutdownError, match="does not run"):
        handle.result_sync()


async def test_waiting_in_a_thread_for_longer_than_a_look(make: Make) -> None:
    """Mission H1: the thread looks now and then whether the loop still runs."""
    async with make() as resonate:

        @resonate.register
        async def slow(ctx: Context) -> str:
            await ctx.sleep(1.2)
            raise TimeoutError("its own")

        with pytest.raises(TimeoutError, match="its own"):
            await in_thread(resonate.begin_run("a", slow).result_sync)


async def test_what_a_handle_knows(make: Make) -> None:
    """Mission H3: id, done and status; cancel and explain."""
    async with make() as resonate:
        resonate.register(add)
        resonate.register(fails)
        handle = resonate.begin_run("a", add, 1, 2)
        assert (handle.id, handle.done(), handle.status) == ("a", False, PromiseState.PENDING)
        assert "pending" in repr(handle)
        await handle
        assert (handle.done(), handle.status) == (True, PromiseState.RESOLVED)
        failed = resonate.begin_run("f", fails)
        with pytest.raises(ValueError, match="no luck"):
            await failed
        assert failed.status is PromiseState.REJECTED
        assert repr(failed) == "<Handle 'f' rejected>"


async def test_cancelling_the_work_through_the_handle(make: Make) -> None:
    """Mission H3: durable on return; the body gets `CancelledError`."""
    told: list[str] = []

    async with make() as resonate:

        @resonate.register
        async def body(ctx: Context) -> None:
            try:
                await ctx.sleep(10_000)
            except asyncio.CancelledError:
                told.append(ctx.id)
                raise

        handle = resonate.begin_run("a", body)
        await handle.cancel()
        with pytest.raises(ResonateCanceledError, match="'a'"):
            await handle
        await asyncio.sleep(0.01)
        assert told == ["a"]
        await handle.cancel()  # nothing happens to what has ended
        assert (await resonate.promises.get("a")).state is PromiseState.CANCELED
        with pytest.raises(ResonateStoreError):
            await resonate.get("nothing").cancel()


async def test_a_limit_for_the_wait_never_cancels_the_work(make: Make) -> None:
    """Mission H4, S12."""
    async with make() as resonate:
        release = asyncio.Event()

        @resonate.register
        async def slow(ctx: Context) -> str:
            await release.wait()
            return "done"

        handle = resonate.begin_run("a", slow)
        with pytest.raises(TimeoutError, match="the work goes on"):
            await handle.result(timeout=0.01)
        waiter = asyncio.create_task(handle.result())
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        release.set()
        assert await handle == "done"


async def test_the_future(make: Make) -> None:
    """Mission H5: an `asyncio.Future` view that anything in asyncio takes."""
    async with make() as resonate:
        resonate.register(add)
        resonate.register(fails)
        resonate.register(long)
        handle = resonate.begin_run("a", add, 1, 2)
        assert isinstance(handle.future, asyncio.Future)
        assert handle.future is handle.future
        done, pending = await asyncio.wait([handle.future])
        assert (done, pending) == ({handle.future}, set())
        assert handle.future.result() == 3
        failed = resonate.begin_run("f", fails)
        with pytest.raises(ValueError, match="no luck"):
            await failed.future
        nobody_looks = resonate.begin_run("g", fails).future
        await asyncio.wait([nobody_looks])
        del nobody_looks
        gc.collect()  # no "exception was never retrieved": warnings are errors here
        waiting = resonate.begin_run("l", long)
        future = waiting.future
        future.cancel()
        await asyncio.sleep(0)
        assert not waiting.done(), "cancelling the future cancels no work"
        await waiting.cancel()
        stopped = resonate.begin_run("m", long)
        stopping = stopped.future
        await stopped.created()
        await resonate.stop()
        with pytest.raises((ResonateShutdownError, asyncio.CancelledError)):
            await stopping


async def test_one_object_for_three_spellings(make: Make) -> None:
    """Mission H6, 1.12 a: what `rpc` returns is awaited itself, or its `result()` is."""
    async with make() as resonate:
        resonate.register(add)
        assert await resonate.rpc("a", add, 1, 2) == 3
        assert await resonate.rpc("b", add, 1, 2).result() == 3
        assert await resonate.run("c", add, 1, 2).result() == 3
        handle = resonate.rpc("d", add, 1, 2)
        assert await handle.result() == 3


def test_public_help_shows_no_inner_methods() -> None:
    """What a person finds with `dir(handle)` is for them."""
    shown = {name for name in dir(Handle) if not name.startswith("_")}
    assert shown == {
        "cancel",
        "created",
        "done",
        "explain",
        "future",
        "id",
        "result",
        "result_sync",
        "status",
    }


async def test_the_state_of_what_does_not_exist(make: Make) -> None:
    """Mission K7, H3: `pending` only until the store has said that there is nothing."""
    async with make() as resonate:
        handle = resonate.get("absent")
        with pytest.raises(ResonateStoreError, match="'absent'"):
            await handle.created()
        with pytest.raises(ResonateStoreError, match="'absent'"):
            _ = handle.status
        assert "failed" in repr(handle)


OrderId = NewType("OrderId", int)


async def test_results_of_a_new_type(make: Make) -> None:
    async with make() as resonate:
        for id, data, returns in (("new", "7", OrderId), ("either", "7", int | str)):
            await resonate.promises.create(id, timeout_in=60)
            await resonate.promises.resolve(id, data=data)
            assert await resonate.get(id, returns=returns) == 7
        with pytest.raises(TypeError, match="returns is a type"):
            resonate.get("new", returns=7)


# -- a failure that nobody hears of (law 9)


def unheard(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in caplog.messages if "nobody here awaits it" in text]


async def ended(resonate: Resonate, id: str) -> None:
    """Wait for the end of an execution without awaiting its handle."""
    while (await resonate.promises.get(id)).state is PromiseState.PENDING:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_failure_that_nobody_awaits_is_one_warning(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Law 9, for executions: started here and only created, taken from a queue, its handle gone."""
    async with make() as resonate:
        resonate.register(fails)

        @resonate.register
        async def spoilt(ctx: Context) -> object:
            return object()

        kept = await resonate.begin_run("kept", fails).created()
        await resonate.begin_run("dropped", "fails").created()
        await resonate.rpc("taken", "fails").created()
        await resonate.options(encoder=JsonEncoder()).run("packed", fails).created()
        await resonate.begin_run("spoilt", spoilt).created()
        for id in ("kept", "dropped", "taken", "packed", "spoilt"):
            await ended(resonate, id)
        assert kept.status is PromiseState.REJECTED
        says = "(fails) failed and nobody here awaits it: ValueError('no luck')"
        told = sorted(unheard(caplog))
        assert told[:3] == [f"'dropped' {says}", f"'kept' {says}", f"'packed' {says}"]
        assert "ValueCodecError" in told[3]
        assert told[4:] == [f"'taken' {says}"]
        with pytest.raises(ValueError, match="no luck"):
            await kept
        assert len(unheard(caplog)) == 5, "once each"


async def test_a_failure_that_somebody_awaits_is_in_no_log(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """However it is awaited, and whoever started it; another function's failed call is its own."""
    async with make() as resonate:
        resonate.register(fails)

        @resonate.register
        async def flow(ctx: Context) -> str:
            with pytest.raises(ValueError, match="no luck"):
                await ctx.rpc("fails")
            with pytest.raises(ValueError, match="no luck"):
                await ctx.rpc("fails").options(id="named")
            return "went on"

        assert await resonate.run("a", flow) == "went on"
        started = [resonate.begin_run(f"r{n}", fails) for n in range(3)]
        started += [resonate.rpc(f"p{n}", "fails") for n in range(3)]
        waiting = asyncio.gather(*started, return_exceptions=True)
        assert [str(error) for error in await waiting] == ["no luck"] * 6
        handle = resonate.begin_run("b", fails)
        with pytest.raises(ValueError, match="no luck"):
            await handle.result(timeout=5)
        with pytest.raises(ValueError, match="no luck"):
            await in_thread(resonate.rpc("c", "fails").result_sync)
        with pytest.raises(ValueError, match="no luck"):
            await resonate.begin_run("d", fails).future
        assert unheard(caplog) == []
        assert not resonate._core._worker._unheard._failing  # type: ignore[union-attr]
        assert not resonate._core._worker._waits._watched  # type: ignore[union-attr]


async def test_a_cancelled_execution_did_not_fail(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async with make() as resonate:
        resonate.register(long)
        await (await resonate.begin_run("a", long).created()).cancel()
        await ended(resonate, "a")
        assert unheard(caplog) == []
