"""A cancel that a call outlived stays with its task, and ends what that waits for next (S10, S11).

What went wrong, each time because a replay saw the call's value before it saw the cancel:

* The value was recorded, the cancel that had led to it was not. On the first run the task was
  cancelled at the call, was given the value, and the cancel stayed with it past all that is no
  durable wait (`asyncio.sleep`, a gather of helpers). On a replay the value was there at once, and
  the timer of `asyncio.timeout` found the task in that sleep: another way through the program.
* A `ctx.timeout` that passed while nobody ran cancelled a nested call, which outlived it because
  all its own calls were recorded. The limit was then kept for a durable wait that never came.
* A limit around a call that others of the body wait for, too: on the first run the call goes on
  for them, and the wait alone is ended. On a replay the call, all of whose steps were recorded, was
  over before the limit's turn came, and its late value was given in place of the limit.

So the record of a call that outlived its cancel says so, and its value is given only once the
cancel has come again; a cancel kept with a task that is at no durable wait is an input of the body,
in the log, and cancels the task where it is; and one that comes when the call is over interrupts
the wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Literal

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.testing import crash_everywhere

pytestmark = pytest.mark.law

Part = Callable[[], Awaitable[str]]
Store = Literal["memory", "sqlite"]
STORES = ["memory", "sqlite"]


async def step(ctx: Context, seconds: float = 0) -> str:
    await asyncio.sleep(seconds)
    return "step"


# ------------------------------------------------------------------ what outlives a cancel


async def stubborn(ctx: Context) -> str:
    try:
        await asyncio.sleep(50)
    except asyncio.CancelledError:
        return "partial"
    return "full"


async def recording(ctx: Context) -> str:
    try:
        await ctx.run(step, 50)
    except asyncio.CancelledError:
        await ctx.run(step, 0.2)
        return "partial"
    return "full"


async def stubborn_twice(ctx: Context) -> str:
    """The cancel it was passed, and that its own call outlived, ends its own sleep."""
    value = await ctx.run(stubborn)
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        return value
    return "full"


def yielding(ctx: Context) -> Generator[Any, Any, str]:
    try:
        yield ctx.run(step, 50)
    except asyncio.CancelledError:
        return "partial"
    return "full"


CHILDREN: dict[str, Callable[..., Any]] = {
    "leaf": stubborn,
    "recording": recording,
    "twice": stubborn_twice,
    "generator": yielding,
}

# ------------------------------------------------------------------ what the task does next


async def sleeps(ctx: Context) -> None:
    await asyncio.sleep(3)
    await ctx.run(step, 0.1)


async def sleeps_shortly(ctx: Context) -> None:
    """Shorter than the limit: a replay must not be past it when the limit's timer fires."""
    await asyncio.sleep(0.01)
    await ctx.run(step, 0.1)


async def waits_for_ever(ctx: Context) -> None:
    await asyncio.Event().wait()


async def gathers(ctx: Context) -> None:
    async def helper() -> None:
        await asyncio.sleep(0.01)
        await ctx.run(step, 2)

    await asyncio.gather(helper(), helper())


async def groups(ctx: Context) -> None:
    async def helper() -> None:
        await ctx.run(step, 2)

    async with asyncio.TaskGroup() as group:
        group.create_task(helper())
        group.create_task(helper())


async def shields(ctx: Context) -> None:
    await asyncio.shield(asyncio.create_task(ctx.run(step, 3)))


async def cleans_up(ctx: Context) -> None:
    try:
        await asyncio.sleep(3)
    finally:
        await ctx.run(step, 0.2)


NEXT: dict[str, Callable[[Context], Awaitable[None]]] = {
    "sleep": sleeps,
    "short sleep": sleeps_shortly,
    "event": waits_for_ever,
    "gather": gathers,
    "group": groups,
    "shield": shields,
    "clean up": cleans_up,
}

# ------------------------------------------------------------------ who cancels


async def by_asyncio(ctx: Context, part: Part) -> str:
    try:
        async with asyncio.timeout(0.5):
            return await part()
    except TimeoutError:
        return "limited"


async def by_durable_limit(ctx: Context, part: Part) -> str:
    try:
        async with ctx.timeout(0.5):
            return await part()
    except TimeoutError:
        return "limited"


async def by_hand(ctx: Context, part: Part) -> str:
    task = asyncio.ensure_future(part())
    await ctx.sleep(0.5)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return "limited"


async def by_group(ctx: Context, part: Part) -> str:
    async def fails() -> None:
        await ctx.sleep(0.5)
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            return await part()
    except* ValueError:
        pass
    return "limited"


CANCELS: dict[str, Callable[[Context, Part], Awaitable[str]]] = {
    "asyncio.timeout": by_asyncio,
    "ctx.timeout": by_durable_limit,
    "task.cancel": by_hand,
    "TaskGroup": by_group,
}


def program(cancels: str, child: str, then: str, *, busy: bool) -> Any:
    """The body; `busy`: another task of it is given inputs all the while."""

    async def flow(ctx: Context) -> str:
        async def part() -> str:
            value = await ctx.run(CHILDREN[child])
            await NEXT[then](ctx)
            return str(value)

        async def others() -> None:
            for _ in range(4):
                await ctx.run(step, 0.2)

        helper = asyncio.create_task(others()) if busy else None
        outcome = await CANCELS[cancels](ctx, part)
        await ctx.run(step, 0.1)
        if helper is not None:
            await helper
        return outcome

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(flow))

    return main


@pytest.mark.parametrize("then", NEXT)
@pytest.mark.parametrize("cancels", CANCELS)
def test_a_kept_cancel_ends_a_wait_that_is_not_durable(cancels: str, then: str) -> None:
    """On the first run and on every replay (laws 3, 4), memory."""
    for child in CHILDREN:
        main = program(cancels, child, then, busy=child in ("leaf", "twice"))
        report = crash_everywhere(main, values_vary=True, name=f"{cancels} {child} {then}")
        assert report.result == "limited", child


@pytest.mark.parametrize("then", ["sleep", "short sleep", "gather"])
@pytest.mark.parametrize("cancels", ["asyncio.timeout", "ctx.timeout"])
def test_a_kept_cancel_ends_it_on_sqlite(cancels: str, then: str) -> None:
    """Where the child's outcome is on its way for a while (laws 3, 4)."""
    main = program(cancels, "leaf", then, busy=True)
    name = f"{cancels} {then}".replace(" ", "-")
    assert crash_everywhere(main, store="sqlite", values_vary=True, name=name).result == "limited"


@pytest.mark.parametrize("limit", ["asyncio", "ctx"])
def test_what_was_outlived_is_given_where_nothing_is_waited_for_any_more(limit: str) -> None:
    """S10: the value counts, and the cancel is over with the block: as asyncio's own limit."""

    async def flow(ctx: Context) -> str:
        async with asyncio.timeout(0.5) if limit == "asyncio" else ctx.timeout(0.5):
            value = await ctx.run(stubborn)
        await asyncio.sleep(2)
        await ctx.run(step, 1)
        return value

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(flow))

    report = crash_everywhere(main, values_vary=True)

    assert report.result == "partial"


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("depth", [1, 2])
def test_a_limit_that_passed_while_nobody_ran_is_not_lost_to_a_nested_call(
    store: Store, depth: int
) -> None:
    """All the nested call had asked for was recorded: it outlives the limit (S11a, law 6)."""

    async def nested(ctx: Context, left: int) -> str:
        return await (ctx.run(nested, left - 1) if left else ctx.run(step, 1))

    async def flow(ctx: Context) -> str:
        try:
            async with ctx.timeout(5):
                await ctx.run(nested, depth - 1)
                await asyncio.sleep(1000)
                return "not limited"
        except TimeoutError:
            return "limited"

    async def main(resonate: Resonate) -> Any:
        resonate.register(flow)
        await asyncio.sleep(10)  # the next process comes later than the limit
        return await resonate.run("x", flow)

    report = crash_everywhere(main, store=store, values_vary=True, name="nested", random_runs=10)

    assert report.result == "limited"


@pytest.mark.parametrize("store", STORES)
def test_a_limit_around_a_call_that_others_wait_for_ends_that_wait_alone(store: Store) -> None:
    """Its late value is not given in place of the limit, which was reached first (S10, S11a)."""

    async def quick(ctx: Context) -> None:
        await asyncio.sleep(0.2)

    async def shared(ctx: Context) -> str:
        for _ in range(6):
            await ctx.run(quick)
        return "value"

    async def flow(ctx: Context) -> list[str]:
        async def limited() -> str:
            try:
                async with ctx.timeout(0.3):
                    return await ctx.run(shared).options(id="shared")
            except TimeoutError:
                return "late"

        return list(await asyncio.gather(limited(), ctx.run(shared).options(id="shared")))

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(flow))

    report = crash_everywhere(main, store=store, values_vary=True, name="shared")

    assert report.result == ["late", "value"]


# ------------------------------------------------------------------ before its turn


def test_a_cancel_that_comes_before_the_limit_it_came_after() -> None:
    """S11, S11a: by the log the limit ended the wait; the early cancel is kept for the next."""
    cancelled_at_s = iter([5, 5, 0])  # undisturbed; before the crash; after it

    async def main(resonate: Resonate) -> list[str]:
        at_s = next(cancelled_at_s)

        @resonate.register(name="flow")
        async def flow(ctx: Context) -> list[str]:
            seen = []
            task = asyncio.current_task()
            assert task is not None
            if at_s:
                asyncio.get_running_loop().call_later(at_s, task.cancel)
            else:
                task.cancel()
            try:
                try:
                    async with ctx.timeout(1):
                        await ctx.sleep(50)
                except TimeoutError:
                    seen.append("limit")
                await ctx.sleep(60)
            except asyncio.CancelledError:
                task.uncancel()
                seen.append("cancel")
            return seen

        return await resonate.run("x", flow)

    after_the_next_sleep = (7,)
    report = crash_everywhere(main, only=after_the_next_sleep)

    assert report.result == ["limit", "cancel"]
