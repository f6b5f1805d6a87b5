"""A time limit around children that return a value when they are cancelled (S10, S11a)."""

from __future__ import annotations

import asyncio

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.testing import crash_everywhere

pytestmark = pytest.mark.law


async def slow(ctx: Context) -> str:
    await asyncio.sleep(100)
    return "slow"


async def rescued(ctx: Context) -> str:
    try:
        return await ctx.run(slow)
    except asyncio.CancelledError:
        return "rescued"


async def flow(ctx: Context) -> list[str]:
    seen = []
    try:
        async with ctx.timeout(0.5):
            seen.append(await ctx.run(rescued))
            seen.append(await ctx.run(rescued))
    except TimeoutError:
        seen.append("timed out")
    return seen


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_the_limit_is_kept_with_the_task_on_replay_too(store: str) -> None:
    async def main(resonate: Resonate) -> list[str]:
        return await resonate.run("root", resonate.register(flow))

    kind = "sqlite" if store == "sqlite" else "memory"
    report = crash_everywhere(main, store=kind, name="stubborn", random_runs=5)  # type: ignore[arg-type, unused-ignore]
    assert report.result == ["rescued", "timed out"]
