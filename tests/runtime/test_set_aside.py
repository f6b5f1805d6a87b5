"""Who asks for an execution that cannot go on here hears why, at once (S42; mission K22)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.robustness.lives import Client, Life

from resonate_aio import Context, Handle
from resonate_aio.errors import NonDeterminismError

pytestmark = pytest.mark.law


async def step(ctx: Context) -> str:
    return "step"


async def other_step(ctx: Context) -> str:
    return "other step"


async def before(ctx: Context) -> Any:
    await ctx.run(step)
    return await (await ctx.promise(id="gate"))


async def changed(ctx: Context) -> Any:
    await ctx.run(other_step)
    return await (await ctx.promise(id="gate"))


def stopped_by_changed_code() -> Life:
    """A life that finds an execution which its code does not fit."""
    life = Life()

    async def first(resonate: Client) -> None:
        resonate.register(before, name="flow")
        resonate.begin_run("root", "flow")
        await asyncio.sleep(1)

    life.run_killed(first)
    return Life(before=life)


def attach(resonate: Client, how: str) -> Handle[Any]:
    return {
        "get": lambda: resonate.get("root"),
        "begin_run": lambda: resonate.begin_run("root", "flow"),
        "rpc": lambda: resonate.rpc("root", "flow"),
    }[how]()


@pytest.mark.parametrize("how", ["get", "begin_run", "rpc"])
def test_who_attaches_later_hears_it_at_once(how: str) -> None:
    """F7: not at the next try, which may be five minutes away."""
    life = stopped_by_changed_code()

    async def main(resonate: Client) -> None:
        resonate.register(changed, name="flow")
        for pause_s in (0.5, 2, 40, 700):
            await asyncio.sleep(pause_s)
            begun_s = life.loop.time()
            handle = attach(resonate, how)
            with pytest.raises(NonDeterminismError, match=r"root\.1"):
                await handle
            assert life.loop.time() - begun_s < 0.01
            assert handle.status == "pending", "the promise stays"

    life.run(main)


def test_it_is_forgotten_when_the_execution_goes_on() -> None:
    life = stopped_by_changed_code()

    async def main(resonate: Client) -> str:
        resonate.register(changed, name="flow")
        await asyncio.sleep(0.5)
        with pytest.raises(NonDeterminismError):
            await resonate.get("root")
        await resonate.stop()
        resonate._known.clear()
        life.resonate = Client(store=life.store, clock=life.clock, pid="mended")
        async with life.resonate as mended:
            mended.register(before, name="flow")
            handle = mended.get("root")
            await mended.promises.resolve("gate", data='"open"')
            return str(await handle)

    assert life.run(main) == "open"


def test_a_function_that_comes_later_clears_it() -> None:
    """S53: what could not run may run now; nobody is told of yesterday's reason."""
    life = stopped_by_changed_code()

    async def main(resonate: Client) -> None:
        resonate.register(changed, name="flow")
        await asyncio.sleep(0.5)

        async def unrelated(ctx: Context) -> None:
            pass

        resonate.register(unrelated)
        await asyncio.sleep(0)
        handle = resonate.get("root")
        await handle.created()
        with pytest.raises(NonDeterminismError):  # of the next try, made at once
            await handle

    life.run(main)


def test_a_settled_promise_is_its_outcome() -> None:
    """Law 1: somebody settled it meanwhile."""
    life = stopped_by_changed_code()

    async def main(resonate: Client) -> None:
        resonate.register(changed, name="flow")
        await asyncio.sleep(0.5)
        await resonate.promises.resolve("root", data='"by hand"')
        assert await resonate.get("root") == "by hand"

    life.run(main)
