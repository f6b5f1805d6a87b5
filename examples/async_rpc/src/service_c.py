"""Service c: `baz` works for a while. A plain `def`, which may block: it runs on a thread."""

from __future__ import annotations

import time

from process import LEASE_S, WORK_S, note, work

from resonate_aio import Context, Resonate

resonate = Resonate.remote(group="service-c", ttl=LEASE_S)


@resonate.register
def baz(ctx: Context) -> int:
    note(ctx, "baz begins")
    time.sleep(WORK_S)
    note(ctx, "baz ends")
    return 1


if __name__ == "__main__":
    work(resonate, "service-c", __doc__)
