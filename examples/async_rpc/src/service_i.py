"""Service i: `dop` multiplies. A plain `def`."""

from __future__ import annotations

from process import LEASE_S, note, work

from resonate_aio import Context, Resonate

resonate = Resonate.remote(group="service-i", ttl=LEASE_S)


@resonate.register
def dop(ctx: Context, number: int) -> int:
    note(ctx, "dop begins")
    note(ctx, "dop ends")
    return number * 10


if __name__ == "__main__":
    work(resonate, "service-i", __doc__)
