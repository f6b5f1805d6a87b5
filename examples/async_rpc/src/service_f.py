"""Service f: `cog` is the end of the detached chain. A plain `def`."""

from __future__ import annotations

from process import LEASE_S, note, work

from resonate_aio import Context, Resonate

resonate = Resonate.remote(group="service-f", ttl=LEASE_S)


@resonate.register
def cog(ctx: Context, number: int) -> int:
    note(ctx, "cog begins")
    note(ctx, f"cog ends: the chain handed on {number}")
    return number


if __name__ == "__main__":
    work(resonate, "service-f", __doc__)
