"""Edits of one program between a crash and a restart, and what must be said of each (law 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from resonate_aio import Context

Flow = Callable[..., Any]
Body = Generator[Any, Any, Any]
RESULT = ["reserved 42", "charged 10", "go", "shipped 42"]


async def reserve(ctx: Context, order: str) -> str:
    return f"reserved {order}"


async def charge(ctx: Context, amount: int) -> str:
    return f"charged {amount}"


async def charge_card(ctx: Context, amount: int) -> str:
    return f"charged {amount}"


async def check(ctx: Context) -> str:
    return "checked"


async def ship(ctx: Context, order: str) -> str:
    return f"shipped {order}"


# The program as it was, and its edits.


async def old(ctx: Context) -> list[Any]:
    first = await ctx.run(reserve, "42")
    second = await ctx.run(charge, 10)
    go = await ctx.promise(id="go")
    return [first, second, await go, await ctx.run(ship, "42")]


async def added(ctx: Context) -> list[Any]:
    await ctx.run(check)
    return await old(ctx)


async def added_between(ctx: Context) -> list[Any]:
    first = await ctx.run(reserve, "42")
    second = await ctx.run(charge, 10)
    await ctx.run(check)
    go = await ctx.promise(id="go")
    return [first, second, await go, await ctx.run(ship, "42")]


async def limited(ctx: Context) -> list[Any]:
    async with ctx.timeout(60):
        return await old(ctx)


async def added_at_the_end(ctx: Context) -> list[Any]:
    result = await old(ctx)
    await ctx.run(check)
    return result


async def removed(ctx: Context) -> list[Any]:
    first = await ctx.run(reserve, "42")
    go = await ctx.promise(id="go")
    return [first, await go, await ctx.run(ship, "42")]


async def removed_at_the_end(ctx: Context) -> list[Any]:
    return [await ctx.run(reserve, "42"), await ctx.run(charge, 10)]


async def swapped(ctx: Context) -> list[Any]:
    second = await ctx.run(charge, 10)
    first = await ctx.run(reserve, "42")
    go = await ctx.promise(id="go")
    return [first, second, await go, await ctx.run(ship, "42")]


async def renamed(ctx: Context) -> list[Any]:
    first = await ctx.run(reserve, "42")
    second = await ctx.run(charge_card, 10)
    go = await ctx.promise(id="go")
    return [first, second, await go, await ctx.run(ship, "42")]


async def other_kind(ctx: Context) -> list[Any]:
    first = await ctx.run(reserve, "42")
    second = await ctx.rpc(charge, 10)
    go = await ctx.promise(id="go")
    return [first, second, await go, await ctx.run(ship, "42")]


async def other_arguments(ctx: Context) -> list[Any]:
    first = await ctx.run(reserve, "42")
    second = await ctx.run(charge, 99)
    go = await ctx.promise(id="go")
    return [first, second, await go, await ctx.run(ship, "42")]


async def other_arguments_allowed(ctx: Context) -> list[Any]:
    first = await ctx.run(reserve, "42")
    second = await ctx.run(charge, 99).options(check_arguments=False)
    go = await ctx.promise(id="go")
    return [first, second, await go, await ctx.run(ship, "42")]


async def branches(ctx: Context) -> list[Any]:
    return await _branches(ctx, ["42", "43"])


async def branches_reordered(ctx: Context) -> list[Any]:
    return await _branches(ctx, ["43", "42"])


async def _branches(ctx: Context, orders: list[str]) -> list[Any]:
    async def handle(order: str) -> str:
        await asyncio.sleep(0)
        return await ctx.run(reserve, order)

    reserved = await asyncio.gather(*(handle(order) for order in orders))
    go = await ctx.promise(id="go")
    return [*sorted(reserved), await go]


def g_old(ctx: Context) -> Body:
    first = yield ctx.run(reserve, "42")
    second = yield ctx.run(charge, 10)
    go = yield ctx.promise(id="go")
    return [first, second, (yield go), (yield ctx.run(ship, "42"))]


def g_added(ctx: Context) -> Body:
    yield ctx.run(check)
    return (yield from g_old(ctx))


def g_added_between(ctx: Context) -> Body:
    first = yield ctx.run(reserve, "42")
    second = yield ctx.run(charge, 10)
    yield ctx.run(check)
    go = yield ctx.promise(id="go")
    return [first, second, (yield go), (yield ctx.run(ship, "42"))]


def g_added_at_the_end(ctx: Context) -> Body:
    result = yield from g_old(ctx)
    yield ctx.run(check)
    return result


def g_removed(ctx: Context) -> Body:
    first = yield ctx.run(reserve, "42")
    go = yield ctx.promise(id="go")
    return [first, (yield go), (yield ctx.run(ship, "42"))]


def g_removed_at_the_end(ctx: Context) -> Body:
    return [(yield ctx.run(reserve, "42")), (yield ctx.run(charge, 10))]


def g_swapped(ctx: Context) -> Body:
    second = yield ctx.run(charge, 10)
    first = yield ctx.run(reserve, "42")
    go = yield ctx.promise(id="go")
    return [first, second, (yield go), (yield ctx.run(ship, "42"))]


def g_renamed(ctx: Context) -> Body:
    first = yield ctx.run(reserve, "42")
    second = yield ctx.run(charge_card, 10)
    go = yield ctx.promise(id="go")
    return [first, second, (yield go), (yield ctx.run(ship, "42"))]


def g_other_kind(ctx: Context) -> Body:
    first = yield ctx.run(reserve, "42")
    second = yield ctx.rpc(charge, 10)
    go = yield ctx.promise(id="go")
    return [first, second, (yield go), (yield ctx.run(ship, "42"))]


def g_other_arguments(ctx: Context) -> Body:
    first = yield ctx.run(reserve, "42")
    second = yield ctx.run(charge, 99)
    go = yield ctx.promise(id="go")
    return [first, second, (yield go), (yield ctx.run(ship, "42"))]


def g_other_arguments_allowed(ctx: Context) -> Body:
    first = yield ctx.run(reserve, "42")
    second = yield ctx.run(charge, 99).options(check_arguments=False)
    go = yield ctx.promise(id="go")
    return [first, second, (yield go), (yield ctx.run(ship, "42"))]


def _g_branches(ctx: Context, orders: list[str]) -> Body:
    first = yield ctx.begin_run(reserve, orders[0])
    second = yield ctx.begin_run(reserve, orders[1])
    reserved = [(yield first), (yield second)]
    go = yield ctx.promise(id="go")
    return [*sorted(reserved), (yield go)]


def g_branches_1(ctx: Context) -> Body:
    return (yield from _g_branches(ctx, ["42", "43"]))


def g_branches_2(ctx: Context) -> Body:
    return (yield from _g_branches(ctx, ["43", "42"]))


@dataclass(frozen=True)
class Edit:
    """What the code was, what it is, and what the message must name."""

    name: str
    before: Flow
    after: Flow
    says: tuple[str, ...]
    version: int = 1
    result: tuple[Any, ...] = tuple(RESULT)

    def __str__(self) -> str:
        return self.name


RECORDED = "was recorded as run of"
TWO_RESERVED = ("reserved 42", "reserved 43", "go")


def edits_of(dialect: str) -> list[Edit]:
    of = globals()

    def flow(name: str) -> Flow:
        found: Flow = of[name if dialect == "async" else f"g_{name}"]
        return found

    before = flow("old")
    return [
        Edit(
            f"{dialect}: call added",
            before,
            flow("added"),
            ("'order.1'", f"{RECORDED} 'reserve' version 1", "asks for run of 'check' version 1"),
        ),
        Edit(
            f"{dialect}: call added before the wait",
            before,
            flow("added_between"),
            ("'order.3'", "was recorded as promise", "asks for run of 'check' version 1"),
        ),
        Edit(
            f"{dialect}: call removed",
            before,
            flow("removed"),
            ("'order.2'", f"{RECORDED} 'charge' version 1", "asks for promise"),
        ),
        Edit(
            f"{dialect}: call removed at the end",
            before,
            flow("removed_at_the_end"),
            ("'order'", "no longer makes call 'order.3'"),
        ),
        Edit(
            f"{dialect}: calls swapped",
            before,
            flow("swapped"),
            ("'order.1'", f"{RECORDED} 'reserve' version 1", "asks for run of 'charge' version 1"),
        ),
        Edit(
            f"{dialect}: function renamed",
            before,
            flow("renamed"),
            (
                "'order.2'",
                f"{RECORDED} 'charge' version 1",
                "asks for run of 'charge_card' version 1",
            ),
        ),
        Edit(
            f"{dialect}: version changed",
            before,
            before,
            ("'order.2'", f"{RECORDED} 'charge' version 1", "asks for run of 'charge' version 2"),
            version=2,
        ),
        Edit(
            f"{dialect}: other kind",
            before,
            flow("other_kind"),
            ("'order.2'", f"{RECORDED} 'charge' version 1", "asks for rpc of 'charge' version 1"),
        ),
        Edit(
            f"{dialect}: other arguments",
            before,
            flow("other_arguments"),
            (
                "'order.2'",
                "run of 'charge' version 1",
                "recorded with arguments [10]",
                "now passes [99]",
                "check_arguments=False",
            ),
        ),
    ]


REORDERED = [
    Edit(
        "async: put under a time limit",
        old,
        limited,
        ("'order.1'", f"{RECORDED} 'reserve' version 1", "asks for timeout"),
    ),
    Edit(
        "async: branches reordered",
        branches,
        branches_reordered,
        ("'order.0-handle-1.1'", 'recorded with arguments ["42"]', 'now passes ["43"]'),
        result=TWO_RESERVED,
    ),
    Edit(
        "generator: begun calls reordered",
        g_branches_1,
        g_branches_2,
        ("'order.1'", 'recorded with arguments ["42"]', 'now passes ["43"]'),
        result=TWO_RESERVED,
    ),
]
NOTICED = [*edits_of("async"), *edits_of("generator"), *REORDERED]
HARMLESS = [
    Edit(f"{kind}: {what}", before, after, ())
    for kind, before, what, after in [
        ("async", old, "call added at the end", added_at_the_end),
        ("async", old, "arguments need not match", other_arguments_allowed),
        ("generator", g_old, "call added at the end", g_added_at_the_end),
        ("generator", g_old, "arguments need not match", g_other_arguments_allowed),
        ("async to generator", old, "same calls", g_old),
        ("generator to async", g_old, "same calls", old),
    ]
]
