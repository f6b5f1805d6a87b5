"""Law 1: an id in use is joined, whoever uses it; law 6: nobody waits for another's cut."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateCanceledError
from resonate_aio.testing import crash_everywhere

STORES = ["memory", "sqlite"]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("way", ["begin_run", "begin_rpc"])
def test_a_local_call_of_an_execution_that_runs_joins_it(store: Any, way: str) -> None:
    """Laws 1, 7: only its holder runs and records it; a crash changes nothing of that."""
    effects: Counter[str] = Counter()

    async def main(resonate: Resonate) -> Any:
        begun: Counter[str] = Counter()

        @resonate.register
        async def root(ctx: Context) -> str:
            begun[ctx.id] += 1
            await ctx.run(step)
            await ctx.sleep(1)
            return "its outcome"

        async def step(ctx: Context) -> None:
            effects[ctx.id] += 1
            await asyncio.sleep(0.2)

        @resonate.register
        async def caller(ctx: Context) -> str:
            return await ctx.run(root).options(id="root")

        running = getattr(resonate, way)("root", root)
        await running.created()
        joined = resonate.begin_run("caller", caller)
        outcomes = [await joined, await running]
        assert begun["root"] <= 1, "once in each life"
        return outcomes

    report = crash_everywhere(main, store=store, effects=effects, name=f"joins {way}")

    assert report.result == ["its outcome", "its outcome"]


@pytest.mark.parametrize("store", STORES)
def test_who_gives_up_a_joined_execution_does_not_end_it(store: Any) -> None:
    """S10, as of an rpc: the wait ends; the execution is not its body's to cut."""

    async def main(resonate: Resonate) -> Any:
        @resonate.register
        async def root(ctx: Context) -> str:
            await ctx.sleep(100)
            return "its outcome"

        @resonate.register
        async def impatient(ctx: Context) -> str:
            try:
                async with ctx.timeout(1):
                    return await ctx.run(root).options(id="root")
            except TimeoutError:
                pass
            await ctx.sleep(1)
            return "gave up"

        running = resonate.begin_run("root", root)
        await running.created()
        gave_up = await resonate.begin_run("impatient", impatient)
        return [gave_up, await running]

    report = crash_everywhere(main, store=store, name="impatient")

    assert report.result == ["gave up", "its outcome"]


@pytest.mark.parametrize("store", STORES)
def test_who_shares_a_call_hears_that_another_cut_it(store: Any) -> None:
    """Law 6: the cut is nothing that the other's own program did, or would ever do."""

    async def main(resonate: Resonate) -> Any:
        async def slow(ctx: Context) -> str:
            await asyncio.sleep(100)
            return "never"

        @resonate.register
        async def impatient(ctx: Context) -> str:
            try:
                async with ctx.timeout(1):
                    return await ctx.run(slow).options(id="shared")
            except TimeoutError:
                return "gave up"

        @resonate.register
        async def patient(ctx: Context) -> str:
            try:
                return await ctx.run(slow).options(id="shared")
            except ResonateCanceledError:
                return "was told"

        return [
            await h
            for h in (
                resonate.begin_run("impatient", impatient),
                resonate.begin_run("patient", patient),
            )
        ]

    report = crash_everywhere(main, store=store, name="sharing")

    assert report.result == ["gave up", "was told"]
