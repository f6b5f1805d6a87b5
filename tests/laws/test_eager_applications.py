"""An application whose loop begins tasks at once, and groups of anyio in it (S2, law 16)."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import anyio
import pytest

from resonate_aio import Context, Resonate

pytestmark = [
    pytest.mark.law,
    pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12"),
]


async def step(ctx: Context, n: int) -> int:
    await asyncio.sleep(0.001)
    return n


async def in_a_group(ctx: Context) -> list[int]:
    found: list[int] = []

    async def helper(n: int) -> None:
        found.append(await ctx.run(step, n))

    async with anyio.create_task_group() as group:
        group.start_soon(helper, 1)
        group.start_soon(helper, 2)
    return sorted(found)


async def in_time(ctx: Context) -> str:
    with anyio.move_on_after(0.02):
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 5)
            await anyio.sleep(5)
    return str(await ctx.run(step, 3))


async def of_the_application() -> str:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0.001)
    return "ended"


@pytest.mark.parametrize("clients", [1, 2])
async def test_groups_of_anyio_go_on_where_a_client_runs(clients: int) -> None:
    """What anyio looks for is the code of the eager factory: it goes round it."""
    loop = asyncio.get_running_loop()
    eager: Any = getattr(asyncio, "eager_task_factory")  # noqa: B009  absent in 3.11
    loop.set_task_factory(eager)
    assert await of_the_application() == "ended"
    resonates = [Resonate.local() for _ in range(clients)]
    for resonate in resonates:
        resonate.register(in_a_group)
        resonate.register(in_time)
        await resonate.start()
    for resonate in resonates:
        assert await of_the_application() == "ended"
        assert await resonate.run("group", in_a_group) == [1, 2]
        assert await resonate.run("time", in_time) == "3"
    for resonate in reversed(resonates):
        await resonate.stop()
    assert loop.get_task_factory() is eager
    assert await of_the_application() == "ended"
    loop.set_task_factory(None)


async def test_an_eager_task_of_a_body_has_a_branch_of_its_own() -> None:
    """S2: it makes its calls while it is being made."""

    async def flow(ctx: Context) -> list[int]:
        async def helper(n: int) -> int:
            return int(await ctx.run(step, n))

        tasks = [asyncio.create_task(helper(n)) for n in range(2)]
        return list(await asyncio.gather(*tasks))

    loop = asyncio.get_running_loop()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009  as above
    async with Resonate.local() as resonate:
        resonate.register(flow)
        assert await resonate.run("x", flow) == [0, 1]
        assert (await resonate.promises.get("x.0-helper-2.1")).id
    loop.set_task_factory(None)
