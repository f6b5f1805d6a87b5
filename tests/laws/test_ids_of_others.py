"""An id that looks like a call of another execution, and is one of its own (law 1, S29a, S43)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from resonate_aio import Context, NonDeterminismError, Resonate
from resonate_aio.testing import simulate

pytestmark = pytest.mark.law


async def refund(ctx: Context, who: str) -> str:
    return f"refunded {who}"


async def charge(ctx: Context, who: str) -> str:
    return f"charged {who}"


async def runs(ctx: Context) -> str:
    return await ctx.run(charge, "Bob")


async def calls(ctx: Context) -> str:
    return str(await ctx.rpc("charge", "Bob"))


async def sleeps(ctx: Context) -> str:
    await ctx.sleep(3600)
    return "slept"


async def draws(ctx: Context) -> float:
    return await ctx.random.random()


async def limits(ctx: Context) -> str:
    async with ctx.timeout(1):
        return "in time"


def named(resonate: Resonate) -> None:
    for function in (refund, charge, runs, calls, sleeps, draws, limits):
        resonate.register(function)


@pytest.mark.parametrize("body", [runs, calls, sleeps, draws, limits])
@pytest.mark.parametrize("ended", [True, False])
def test_it_is_no_call_of_the_other(body: Callable[..., Awaitable[Any]], ended: bool) -> None:
    """Its outcome would be taken for that of a step which never ran."""

    async def main(resonate: Resonate) -> None:
        named(resonate)
        first = resonate.begin_run("order.1", refund, "Ada")
        if ended:
            await first
        else:
            await first.created()
        with pytest.raises(
            NonDeterminismError, match=r"id of an execution of 'refund'.*another id"
        ):
            await resonate.run("order", body)
        assert await first == "refunded Ada"
        assert await resonate.run("order-2", runs) == "charged Bob"

    simulate(main)


def test_nor_on_a_replay() -> None:
    """The other one was begun while the execution slept, and nothing ran meanwhile."""

    async def main(resonate: Resonate) -> None:
        named(resonate)

        @resonate.register
        async def later(ctx: Context) -> str:
            await ctx.sleep(60)
            return await ctx.run(charge, "Bob")

        handle = resonate.begin_run("order", later)
        await handle.created()
        assert await resonate.run("order.2", refund, "Ada") == "refunded Ada"
        with pytest.raises(NonDeterminismError, match="id of an execution of 'refund'"):
            await handle

    simulate(main)


def test_the_same_function_begun_early_is_joined() -> None:
    """Law 1: who names the id of an rpc and its function means that call."""

    async def main(resonate: Resonate) -> None:
        named(resonate)
        assert await resonate.run("order.1", charge, "Bob") == "charged Bob"
        assert await resonate.run("order", calls) == "charged Bob"

    simulate(main)


@pytest.mark.parametrize("how", ["run", "rpc"])
def test_an_explicit_id_of_another_function_is_joined_with_a_warning(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S29a: one warning that names both."""

    async def main(resonate: Resonate) -> Any:
        named(resonate)

        @resonate.register
        async def joins(ctx: Context) -> str:
            call: Any = ctx.run(charge, "Bob") if how == "run" else ctx.rpc("charge", "Bob")
            return str(await call.options(id="mine"))

        await resonate.run("mine", refund, "Ada")
        await asyncio.sleep(0)
        return await resonate.run("order", joins)

    with caplog.at_level(logging.WARNING, "resonate_aio"):
        assert simulate(main) == "refunded Ada"
    said = [r.getMessage() for r in caplog.records if "is joined" in r.getMessage()]
    assert len(said) == 1
    assert "an execution of 'refund'" in said[0]
    assert "charge" in said[0]
