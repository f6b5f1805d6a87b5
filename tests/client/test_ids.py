"""Promise ids people choose (mission table 1.10)."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from resonate_aio import Context, Resonate

Make = Callable[..., Resonate]

NAMES = [
    pytest.param("quarterly report of the northern region", id="N2"),
    pytest.param("news_feed_2025-01-31", id="N3"),
    pytest.param("staging/analytics/monthly-report/2023-05", id="N4"),
    pytest.param("k8s/staging/namespace/analytics/gpu/h100/monthly-report-2023-05", id="N5"),
    pytest.param(f"executions/{uuid.uuid4()}", id="N6"),
    pytest.param("tenant:42:order:7", id="N7"),
    pytest.param("order.1", id="a dot"),
    pytest.param("50% off? #1 & more + ~", id="what an URL would quote"),
    pytest.param("заказ-42 注文 🚚", id="Unicode"),
    pytest.param("x" * 2_000, id="long"),
]


@pytest.mark.parametrize("id", NAMES)
async def test_every_scheme_of_naming(make: Make, id: str) -> None:
    """Mission N2, N3, N4, N5, N6, N7: legal, for executions, promises and schedules."""
    resonate = make()

    @resonate.register
    async def work(ctx: Context, n: int) -> str:
        await ctx.run(leaf, n)
        return ctx.id

    async with resonate:
        assert await resonate.options(tags={"customer": "7"}).run(id, work, 1) == id
        assert await resonate.get(id) == id
        assert [p.id async for p in resonate.promises.search(tags={"customer": "7"})] == [id]
        other = f"{id} promise"
        await resonate.promises.create(other, timeout_in=60)
        await resonate.promises.resolve(other, value=id)
        assert await resonate.get(other) == id
        assert (await resonate.schedule(id, work, "@daily", 1)).id == id
        await resonate.schedules.delete(id)
    async with resonate:
        assert await resonate.get(id) == id


async def leaf(ctx: Context, n: int) -> int:
    return n


async def test_an_id_stands_for_one_execution(make: Make) -> None:
    """Mission N1: used again it gives the stored result of the earlier execution."""
    runs: Counter[str] = Counter()
    resonate = make()

    @resonate.register
    async def count(ctx: Context, n: int) -> int:
        runs[ctx.id] += 1
        return n

    async with resonate:
        assert [await resonate.run("order-42", count, 7) for _ in range(3)] == [7, 7, 7]
    async with resonate:
        assert await resonate.rpc("order-42", count, 7) == 7
        assert await resonate.run("order-43", count, 8) == 8
    assert runs == {"order-42": 1, "order-43": 1}


async def test_a_root_with_a_dot_is_nobodys_child(make: Make) -> None:
    """Mission N7, S45: `order.1` may be a root while `order` runs; neither takes the other's id."""
    resonate = make()

    @resonate.register
    async def parent(ctx: Context) -> list[int]:
        return [await ctx.run(leaf, n) for n in (1, 2)]

    @resonate.register
    async def other(ctx: Context) -> str:
        return "other"

    async with resonate:
        assert await resonate.run("a", parent) == [1, 2]
        assert await resonate.run("a.3", other) == "other"
        assert await resonate.run("b.3", other) == "other"
        assert await resonate.run("b", parent) == [1, 2]


@pytest.mark.parametrize("path", [None, "ids.db"])
async def test_a_local_calls_id_is_joined_from_outside(tmp_path: Path, path: str | None) -> None:
    """Law 1, S29a: it runs inside another execution and has no task of its own."""
    runs: Counter[str] = Counter()
    begun, may_end = asyncio.Event(), asyncio.Event()
    resonate = Resonate() if path is None else Resonate.local(path=tmp_path / path)

    @resonate.register
    async def work(ctx: Context) -> str:
        runs[ctx.id] += 1
        begun.set()
        await may_end.wait()
        return "its one outcome"

    @resonate.register
    async def caller(ctx: Context) -> str:
        return await ctx.run(work).options(id="work")

    async with resonate:
        outer = resonate.begin_run("caller", caller)
        await begun.wait()
        joined = [resonate.begin_run("work", work), resonate.begin_rpc("work", work)]
        for handle in joined:
            await handle.created()
        may_end.set()
        assert [await handle for handle in (outer, *joined)] == ["its one outcome"] * 3
        assert await resonate.run("work", work) == "its one outcome"
    assert runs == {"work": 1}
