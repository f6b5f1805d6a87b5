"""Service g: `zim` asks services h and i at the same time, and adds. An `async def`."""

from __future__ import annotations

import asyncio

from process import LEASE_S, note, work

from resonate_aio import Context, Resonate

resonate = Resonate.remote(group="service-g", ttl=LEASE_S)


@resonate.register
async def zim(ctx: Context, number: int) -> int:
    note(ctx, "zim begins")
    parts: list[int] = await asyncio.gather(
        ctx.rpc("rax", number).options(target="poll://any@service-h"),
        ctx.rpc("dop", number).options(target="service-i"),
    )
    note(ctx, "zim ends")
    return sum(parts)


if __name__ == "__main__":
    work(resonate, "service-g", __doc__)
