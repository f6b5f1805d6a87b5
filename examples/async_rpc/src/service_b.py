"""Service b: `bar` asks service c and adds one. An `async def`."""

from __future__ import annotations

from process import LEASE_S, note, work

from resonate_aio import Context, Resonate

resonate = Resonate.remote(group="service-b", ttl=LEASE_S)


@resonate.register
async def bar(ctx: Context) -> int:
    note(ctx, "bar begins")
    result: int = await ctx.rpc("baz").options(target="poll://service-c")
    note(ctx, "bar ends")
    return result + 1


if __name__ == "__main__":
    work(resonate, "service-b", __doc__)
