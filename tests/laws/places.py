"""Edits of where a call's outcome is kept: its own number, an explicit id, or nowhere (S4)."""

from __future__ import annotations

from typing import Any

from resonate_aio import Context

from .edits import Body, Edit, Flow, charge, old, reserve, ship

Options = dict[str, Any]


def placed(kind: str, amount: int = 10, **options: Any) -> Flow:
    """A program that says of its second call where its outcome is kept."""

    async def kept(ctx: Context) -> list[Any]:
        first = await ctx.run(reserve, "42")
        call = ctx.rpc if kind == "rpc" else ctx.run
        second = await call(charge, amount).options(**options)
        go = await ctx.promise(id="go")
        return [first, second, await go, await ctx.run(ship, "42")]

    def g_kept(ctx: Context) -> Body:
        first = yield ctx.run(reserve, "42")
        second = yield ctx.run(charge, amount).options(**options)
        go = yield ctx.promise(id="go")
        return [first, second, (yield go), (yield ctx.run(ship, "42"))]

    return g_kept if kind == "generator" else kept


def waits_for(id: str | None) -> Flow:
    """A program whose person answers another promise."""

    async def waiting(ctx: Context) -> list[Any]:
        first = await ctx.run(reserve, "42")
        second = await ctx.run(charge, 10)
        go = await ctx.promise(id=id)
        return [first, second, await go, await ctx.run(ship, "42")]

    return waiting


_UNDER_E = "under the explicit id 'E'"
_UNDER_F = "under the explicit id 'F'"
_NO_ID = "without an explicit id"
_NOT_KEPT = "with durable=False"
_KEPT = "without durable=False"
PLACES: list[tuple[str, Options, Options, str, str]] = [
    ("explicit id removed", {"id": "E"}, {}, _UNDER_E, _NO_ID),
    ("explicit id added", {}, {"id": "E"}, _NO_ID, _UNDER_E),
    ("explicit id changed", {"id": "E"}, {"id": "F"}, _UNDER_E, _UNDER_F),
    ("durable=False removed", {"durable": False}, {}, _NOT_KEPT, _KEPT),
    ("durable=False added", {}, {"durable": False}, _KEPT, _NOT_KEPT),
    ("id for durable=False", {"id": "E"}, {"durable": False}, _UNDER_E, _NOT_KEPT),
]
_ELSEWHERE: list[tuple[str, Options]] = [(_UNDER_E, {"id": "E"}), (_NOT_KEPT, {"durable": False})]
MOVED = (
    [
        Edit(
            f"{kind}: {what}",
            placed(kind, **before),
            placed(kind, **after),
            (
                "'order.2'",
                "of 'charge' version",
                f"was recorded {old_place}",
                f"for it {new_place}",
            ),
        )
        for kind in ("run", "rpc", "generator")
        for what, before, after, old_place, new_place in PLACES
        if kind != "rpc" or "durable" not in what
    ]
    + [
        Edit(
            f"promise: {what}",
            old,
            waits_for(id),
            (
                "'order.3' (promise)",
                "was recorded under the explicit id 'go'",
                f"for it {new_place}",
            ),
        )
        for what, id, new_place in [
            ("explicit id removed", None, _NO_ID),
            ("explicit id changed", "F", _UNDER_F),
        ]
    ]
    + [
        Edit(
            f"{kind}: other arguments {where}",
            placed(kind, **options),
            placed(kind, amount=99, **options),
            ("'order.2' (run of 'charge'", "recorded with arguments [10]", "now passes [99]"),
        )
        for kind in ("run", "generator")
        for where, options in _ELSEWHERE
    ]
)
KEPT_ANYWAY = Edit(
    "async: not durable, but under an explicit id",
    placed("run", id="E"),
    placed("run", id="E", durable=False),
    (),
)
