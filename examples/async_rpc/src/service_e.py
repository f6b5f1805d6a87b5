"""Service e: `quz` hands on to service f and does not wait. An `async def`."""

from __future__ import annotations

from process import LEASE_S, note, work

from resonate_aio import Context, Resonate

resonate = Resonate.remote(group="service-e", ttl=LEASE_S)


@resonate.register
async def quz(ctx: Context, number: int) -> int:
    note(ctx, "quz begins")
    await ctx.detached("cog", number + 1).options(target="poll://service-f")
    note(ctx, "quz ends")
    return number


if __name__ == "__main__":
    work(resonate, "service-e", __doc__)
