"""Service d: `qux` hands on to service e and does not wait. A generator."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from process import LEASE_S, note, work

from resonate_aio import Context, Resonate

resonate = Resonate.remote(group="service-d", ttl=LEASE_S)


@resonate.register
def qux(ctx: Context, number: int) -> Generator[Any, Any, int]:
    note(ctx, "qux begins")
    yield ctx.detached("quz", number + 1).options(target="poll://service-e")
    note(ctx, "qux ends")
    return number


if __name__ == "__main__":
    work(resonate, "service-d", __doc__)
