"""Messages that come while an execution is being taken are not lost (S53, law 6's pace)."""

from __future__ import annotations

import asyncio

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.protocol.requests import PromiseGet, Reply, Request
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.testing import SimClock, SimLoop

pytestmark = pytest.mark.law

LOOK_S = 0.01


class SlowToLook(MemoryStore):
    """A store whose reads take a while, as those of a file do."""

    async def call(self, request: Request) -> Reply:
        if isinstance(request, PromiseGet):
            await asyncio.sleep(LOOK_S)
        return await super().call(request)


async def step(ctx: Context) -> None: ...


async def flow(ctx: Context, number: int) -> int:
    await ctx.run(step)
    await asyncio.sleep(2)
    await ctx.run(step)
    return number


def test_begin_run_with_other_arguments_does_not_delay_a_recovery() -> None:
    """S29a: it claims the execution that is being taken, sees another call, and gives it back.

    That release sends the only message there will be for half a minute.
    """
    loop = SimLoop()
    clock = SimClock(loop)

    async def main() -> tuple[int, float]:
        resonate = Resonate(store=SlowToLook(clock=clock), clock=clock)
        resonate.register(flow)
        await resonate.start()
        resonate.begin_run("order", flow, 1)
        await asyncio.sleep(1)
        await resonate.stop()
        await resonate.start()
        await asyncio.sleep(LOOK_S / 2)
        worker = resonate._core._worker
        assert worker is not None
        assert worker._taking.tasks, "it is being taken just now"
        began_s = loop.time()
        try:
            result = await resonate.begin_run("order", flow, 2)
            return result, loop.time() - began_s
        finally:
            await resonate.stop()

    result, took_s = loop.run_until_complete(main())
    loop.close()
    assert result == 1, "it joined the running one (law 1)"
    assert took_s < 3, "no message was waited for"
