"""A worker that lost a lease takes the work up again where nobody else has (laws 6 and 7)."""

from __future__ import annotations

import asyncio
from random import Random

from tests.remote.sim import SimNet, SimServer, remote_store

from resonate_aio import Context, Resonate
from resonate_aio.protocol.requests import TaskRelease
from resonate_aio.testing import SimClock, SimLoop

RETRY_S = 600
TTL_S = 10.0


def test_a_message_that_came_while_the_lost_lease_seemed_held_is_made_up_for() -> None:
    """A server that was down let the lease lapse, and offers the task to its old holder first.

    The holder does not yet know that it holds nothing, so the offer tells it nothing; the next
    one is a long way off.
    """
    loop = SimLoop()
    clock = SimClock(loop)
    server = SimServer()
    server.machine.retry_timeout_ms = RETRY_S * 1000
    server.attach(loop, clock)
    resonate = Resonate(
        store=remote_store(SimNet(server, Random(5)), ttl_s=TTL_S), group="g", clock=clock
    )
    starts: list[float] = []

    @resonate.register
    async def waits(ctx: Context) -> str:
        starts.append(loop.time())
        await ctx.run(patient)
        return "done"

    async def patient(ctx: Context) -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        async with resonate:
            handle = await resonate.options(target="g").rpc("x", waits).created()
            await asyncio.sleep(5)
            lapsed_at_s = loop.time()
            server.machine.handle(
                TaskRelease("x", server.machine.tasks["x"].version), clock.now_ms()
            )
            server._effects()
            assert await handle == "done"
            assert len(starts) == 2
            assert starts[1] - lapsed_at_s < 2 * TTL_S

    loop.run_until_complete(main())
    server.pause()
    assert not loop.exceptions
    loop.close()
