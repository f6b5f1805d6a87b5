"""Several clients on one event loop: an execution does not tell how many there are (S2, S30).

What went wrong: every client stamped the tasks of every body, one layer for each, so that the ids
of calls made in helpers depended on how many clients ran in the process, and a task was in the
care of the client that had started last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.stores.memory import MemoryStore

pytestmark = pytest.mark.law


async def leaf(ctx: Context) -> str:
    return ctx.id


async def helper(ctx: Context) -> str:
    await asyncio.sleep(0.1)
    return await ctx.run(leaf)


async def flow(ctx: Context) -> list[str]:
    return [*await asyncio.gather(helper(ctx), helper(ctx), ctx.run(leaf)), await helper(ctx)]


IDS = ["x.1-helper-1.1", "x.1-helper-2.1", "x.1", "x.2"]


async def clients(count: int) -> list[Resonate]:
    made = [Resonate(store=MemoryStore()) for _ in range(count)]
    for client in made:
        client.register(flow)
        await client.start()
    return made


async def stop(made: list[Resonate]) -> None:
    for client in made:
        await client.stop()


async def test_ids_do_not_tell_how_many_clients_there_are() -> None:
    for count in (1, 2, 4):
        made = await clients(count)
        assert await made[0].run("x", flow) == IDS
        assert count == 1 or await made[-1].run("x", flow) == IDS
        await stop(made)


async def test_clients_that_come_and_go_meanwhile_change_nothing() -> None:
    (first,) = await clients(1)
    running = first.begin_run("x", flow)
    await asyncio.sleep(0.03)
    others = await clients(2)
    await asyncio.sleep(0.1)  # the helpers went on, a new one has not
    await stop(others)
    assert await running == IDS
    await stop([first])


async def test_a_body_s_tasks_are_its_own_client_s() -> None:
    """The one that started last stops while they run."""
    first, last = await clients(2)
    running = first.begin_run("x", flow)
    await asyncio.sleep(0.03)
    await last.stop()
    assert await running == IDS
    await first.stop()


async def test_a_factory_of_somebody_else_may_lie_between() -> None:
    seen: list[str] = []

    def between(
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **more: Any,
    ) -> asyncio.Future[Any]:
        seen.append(type(coro).__name__)
        made: asyncio.Future[Any] = below(loop, coro, **more)
        return made

    (first,) = await clients(1)
    loop = asyncio.get_running_loop()
    below: Any = loop.get_task_factory()
    loop.set_task_factory(between)
    (last,) = await clients(1)

    assert await first.run("x", flow) == IDS
    assert await last.run("x", flow) == IDS

    assert seen
    await last.stop()
    loop.set_task_factory(below)
    await first.stop()
