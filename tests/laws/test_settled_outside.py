"""A call whose promise others settle while its function runs or waits: that ends it (S13)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import (
    ContextMisuseError,
    ResonateCanceledError,
    ResonateStoreError,
    ResonateTimedoutError,
)
from resonate_aio.runtime.settings import Settings
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.testing import crash_everywhere, simulate

pytestmark = pytest.mark.law

said: list[str] = []


async def charge(ctx: Context) -> str:
    said.append("charged")
    return "charged"


async def sleeps(ctx: Context) -> str:
    try:
        await ctx.sleep(100)
    except asyncio.CancelledError:
        said.append("cancelled")
        raise
    return await ctx.run(charge)


async def waits(ctx: Context) -> str:
    try:
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        said.append("cancelled")
        raise
    return await ctx.run(charge)


def generator(ctx: Context) -> Generator[Any, Any, str]:
    try:
        yield ctx.sleep(100)
    except asyncio.CancelledError:
        said.append("cancelled")
        raise
    outcome: str = yield ctx.run(charge)
    return outcome


async def stubborn(ctx: Context) -> str:
    try:
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        said.append("cancelled")
    return await ctx.run(charge)


async def nested(ctx: Context) -> str:
    return await ctx.run(sleeps)


FUNCTIONS = {f.__name__: f for f in (sleeps, waits, generator, stubborn, nested)}


@pytest.mark.parametrize("workers", [None, 1])
@pytest.mark.parametrize("how", ["cancel", "resolve"])
@pytest.mark.parametrize("id", [None, "mine"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_it_ends_and_its_caller_goes_on_at_once(
    function: str, id: str | None, how: str, workers: int | None
) -> None:
    said.clear()

    async def flow(ctx: Context) -> tuple[str, float]:
        began = asyncio.get_running_loop().time()
        call = ctx.run(FUNCTIONS[function])
        try:
            outcome = await (call if id is None else call.options(id=id))
        except ResonateCanceledError:
            outcome = "cancel"
        return str(outcome), asyncio.get_running_loop().time() - began

    async def main(resonate: Resonate) -> None:
        resonate.register(flow)
        handle = resonate.begin_run("f", flow)
        await asyncio.sleep(1)
        if how == "cancel":
            await resonate.promises.cancel(id or "f.1")
        else:
            await resonate.promises.resolve(id or "f.1", value="resolve")
        outcome, after_s = await handle
        assert outcome == how
        assert after_s < 2
        await asyncio.sleep(200)

    simulate(main, settings=Settings(workers=workers))
    assert said == ["cancelled"]


def test_who_joined_the_call_hears_of_it_too() -> None:
    """Of the calls of one id one runs the function; none of them waits for it any more."""

    async def flow(ctx: Context) -> str:
        return await ctx.run(waits).options(id="mine")

    async def main(resonate: Resonate) -> list[str]:
        resonate.register(flow)
        handles = [resonate.begin_run(name, flow) for name in "abc"]
        await asyncio.sleep(1)
        await resonate.promises.resolve("mine", value="out")
        return list(await asyncio.wait_for(asyncio.gather(*handles), 1))

    assert simulate(main) == ["out"] * 3


def test_a_call_below_one_with_an_id_of_its_own() -> None:
    """Its owner is that id, which is no execution."""

    async def outer(ctx: Context) -> str:
        return f"{await ctx.run(waits)} of {ctx.id}"

    async def flow(ctx: Context) -> str:
        return await ctx.run(outer).options(id="mine")

    async def main(resonate: Resonate) -> str:
        resonate.register(flow)
        handle = resonate.begin_run("f", flow)
        await asyncio.sleep(1)
        await resonate.promises.resolve("mine.1", value="out")
        return await handle.result(timeout=1)

    assert simulate(main) == "out of mine"


@pytest.mark.parametrize("at_s", [0.0, 0.5])
async def test_before_a_replay_comes_to_it(tmp_path: Path, at_s: float) -> None:
    """What was read of it before is out of date; its function does not run."""

    async def flow(ctx: Context) -> str:
        await asyncio.sleep(0.6)
        return await ctx.run(waits)

    def client() -> Resonate:
        made = Resonate.local(path=tmp_path / "app.db", stop_timeout=0)
        made.register(flow)
        return made

    async with client() as resonate:
        await resonate.begin_run("f", flow).created()
        await asyncio.sleep(0.9)
    async with client() as resonate:
        await asyncio.sleep(at_s)
        await resonate.promises.resolve("f.1", value="out")
        assert await resonate.get("f").result(timeout=5) == "out"


def test_before_its_function_could_begin() -> None:
    """Its promise stands, and its function is in the queue behind others."""

    async def flow(ctx: Context) -> list[str]:
        return list(await asyncio.gather(*(ctx.run(waits) for _ in range(300))))

    async def main(resonate: Resonate) -> list[str]:
        resonate.register(flow)
        handle = resonate.begin_run("f", flow)
        for n in range(300):
            while True:
                try:
                    await resonate.promises.resolve(f"f.{n + 1}", value="out")
                    break
                except ResonateStoreError:
                    await asyncio.sleep(0)
        return list(await handle.result(timeout=1))

    assert simulate(main) == ["out"] * 300


@pytest.mark.parametrize("how", ["settled", "overdue"])
async def test_nobody_hears_of_what_an_ended_call_waited_for(how: str) -> None:
    """What was asked for below it is forgotten with it."""

    async def below(ctx: Context, n: int) -> Any:
        return await ctx.run(waits).options(id=f"mine-{n}")

    async def parked(ctx: Context, n: int) -> Any:
        return await (await ctx.promise(id=f"go-{n}"))

    async def flow(ctx: Context) -> int:
        for n in range(4):
            call = ctx.run(below if n % 2 else parked, n)
            with suppress(ResonateTimedoutError):
                await (call.options(timeout=0.05) if how == "overdue" else call)
        await ctx.sleep(1)
        return 1

    store = MemoryStore()
    async with Resonate(store=store) as resonate:
        resonate.register(flow)
        handle = await resonate.begin_run("f", flow).created()
        for n in range(4):
            await asyncio.sleep(0.1)
            if how == "settled":
                await resonate.promises.resolve(f"f.{n + 1}", value="out")
        await asyncio.sleep(0.1)
        assert set(store._hub._watchers) == {"f.5"}
        assert await handle == 1
        assert not store._hub._watchers


def test_what_fails_in_its_turn_stops_the_execution_by_name() -> None:
    """S42: a call that was stepped by hand and left cannot be given what others settled."""

    async def flow(ctx: Context) -> Any:
        left = ctx.run(waits).__await__()
        left.send(None)
        return await ctx.run(waits)

    async def main(resonate: Resonate) -> None:
        resonate.register(flow)
        handle = resonate.begin_run("f", flow)
        await asyncio.sleep(1)
        await resonate.promises.resolve("f.1", value="out")
        with pytest.raises(ContextMisuseError, match="stepped by hand"):
            await handle.result(timeout=10)

    simulate(main)


async def test_a_thread_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody can stop a plain `def`: its caller goes on without it."""
    went_on = []

    def slow(ctx: Context) -> str:
        time.sleep(0.5)
        went_on.append("slow")
        return "late"

    async def flow(ctx: Context) -> str:
        return await ctx.run(slow)

    async with Resonate.local(path=tmp_path / "app.db") as resonate:
        resonate.register(flow)
        handle = await resonate.begin_run("f", flow).created()
        await asyncio.sleep(0.1)
        await resonate.promises.resolve("f.1", value="out")
        assert await handle.result(timeout=5) == "out"
        assert went_on == []
        await asyncio.sleep(0.6)
    assert went_on == ["slow"]


@pytest.mark.parametrize("kind", ["async", "generator"])
@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_crash_anywhere_gives_the_same(store: Any, kind: str) -> None:
    """Laws 2 to 4: what others settled is the outcome, on the first run and on a replay."""

    async def parks(ctx: Context) -> str:
        await ctx.run(one)
        await ctx.sleep(50)
        return "woken"

    def parks_g(ctx: Context) -> Generator[Any, Any, str]:
        yield ctx.run(one)
        yield ctx.sleep(50)
        return "woken"

    async def one(ctx: Context) -> int:
        return 1

    async def flow(ctx: Context) -> list[Any]:
        promise = await ctx.begin_run(function)
        await ctx.run(one)
        return [await promise, await ctx.run(one)]

    function: Callable[..., Any] = parks if kind == "async" else parks_g

    async def main(resonate: Resonate) -> Any:
        resonate.register(flow)
        handle = resonate.begin_run("f", flow)
        await asyncio.sleep(5)
        await resonate.promises.resolve("f.1", value="out")
        return await handle

    report = crash_everywhere(main, store=store)
    assert report.result == ["out", 1]
