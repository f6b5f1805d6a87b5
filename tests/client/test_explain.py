"""An execution as a tree of text (mission H3, P12)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateStoreError

Make = Callable[..., Resonate]


async def leaf(ctx: Context, n: int) -> int:
    return n


async def branch(ctx: Context, n: int) -> int:
    return await ctx.run(leaf, n) + await ctx.run(leaf, n)


async def shown(resonate: Resonate, id: str) -> list[str]:
    text = await resonate.get(id).explain()
    return [re.sub(r" (for|after) [\d.e-]+ s$", "", line) for line in text.split("\n")]


async def test_the_calls_of_an_execution(make: Make) -> None:
    """Mission P12: the call graph, across rpcs, explicit ids and branches."""
    async with make() as resonate:
        resonate.register(branch)

        @resonate.register
        async def flow(ctx: Context) -> str:
            async def helper(n: int) -> int:
                return await ctx.run(leaf, n)

            await ctx.run(branch, 1)
            await ctx.rpc("branch", 2)
            await ctx.run(branch, 3).options(id="explicit")
            await asyncio.gather(helper(1), helper(2))
            await ctx.run(leaf, 1).options(durable=False)
            await ctx.sleep(0.001)
            await (await ctx.promise(id="gate"))
            return "ended"

        handle = resonate.begin_run("a", flow)
        async with asyncio.timeout(5):
            while "  a.6 -> gate" not in await shown(resonate, "a"):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        expected = [
            "a pending flow",
            "  a.1 resolved run branch",
            "    a.1.1 resolved run leaf",
            "    a.1.2 resolved run leaf",
            "  a.2 resolved rpc branch",
            "    a.2.1 resolved run leaf",
            "    a.2.2 resolved run leaf",
            "  a.3 -> explicit",
            "    explicit resolved run branch",
            "      explicit.1 resolved run leaf",
            "      explicit.2 resolved run leaf",
            "  a.3-helper-1.1 resolved run leaf",
            "  a.3-helper-2.1 resolved run leaf",
            "  a.4 resolved run leaf (not durable)",
            "  a.5 resolved sleep",
            "  a.6 -> gate",
            "    gate pending promise",
        ]
        assert await shown(resonate, "a") == expected
        await resonate.promises.resolve("gate")
        assert await handle == "ended"
        after = await shown(resonate, "a")
        assert after == ["a resolved flow", *expected[1:-1], "    gate resolved promise"]
        assert await handle.explain() == await resonate.get("a").explain()


async def test_a_promise_and_nothing() -> None:
    async with Resonate() as resonate:
        await resonate.promises.create("p", timeout_in=60)
        assert await shown(resonate, "p") == ["p pending promise"]
        with pytest.raises(ResonateStoreError) as raised:
            await resonate.get("nothing").explain()
        assert raised.value.code == 404


async def test_a_big_tree_is_cut() -> None:
    async with Resonate() as resonate:

        @resonate.register
        async def wide(ctx: Context) -> None:
            promises: list[Any] = [await ctx.begin_run(leaf, n) for n in range(1_200)]
            for promise in promises:
                await promise

        await resonate.run("a", wide)
        lines = await shown(resonate, "a")
        assert len(lines) == 1_001
        assert lines[-1] == "… and more"
