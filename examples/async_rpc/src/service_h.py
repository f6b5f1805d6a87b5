"""Service h: `rax` has two steps of its own, each of them recorded. A generator."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from process import LEASE_S, note, work

from resonate_aio import Context, Resonate

resonate = Resonate.remote(group="service-h", ttl=LEASE_S)


@resonate.register
def rax(ctx: Context, number: int) -> Generator[Any, Any, int]:
    note(ctx, "rax begins")
    number = yield ctx.run(add, number)
    number = yield ctx.run(add, number)
    note(ctx, "rax ends")
    return number


def add(ctx: Context, number: int) -> int:
    note(ctx, "add")
    return number + 1


if __name__ == "__main__":
    work(resonate, "service-h", __doc__)
