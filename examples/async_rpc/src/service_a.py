"""Service a: `foo` asks service b and adds one. A generator, as with SDK 0.6.7."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from process import LEASE_S, note, work

from resonate_aio import Context, Resonate

resonate = Resonate.remote(group="service-a", ttl=LEASE_S)


@resonate.register
def foo(ctx: Context) -> Generator[Any, Any, int]:
    note(ctx, "foo begins")
    result: int = yield ctx.rfc("bar").options(target="poll://service-b")
    note(ctx, "foo ends")
    return result + 1


if __name__ == "__main__":
    work(resonate, "service-a", __doc__)
