"""Cancels that a crash separates from what they led to (S10, S11, S11a, S22)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.retry_policies import Never
from resonate_aio.testing import crash_everywhere

pytestmark = pytest.mark.law

Body = Callable[..., Awaitable[Any]]


async def step(ctx: Context, seconds: float = 0) -> float:
    await asyncio.sleep(seconds)
    return seconds


async def tidy(ctx: Context) -> str:
    """Returns a value when it is cancelled: the value counts (S10)."""
    try:
        await ctx.run(step, 50)
    except asyncio.CancelledError:
        await ctx.run(step, 1)
        return "tidied"
    return "full"


async def plain_tidy(ctx: Context) -> str:
    try:
        await ctx.run(step, 50)
    except asyncio.CancelledError:
        return "tidied"
    return "full"


async def quiet(ctx: Context) -> str:
    """Has returned when the cancel comes; what it began still runs."""
    await ctx.begin_run(step, 2)
    return "quiet"


async def in_group(ctx: Context, first: Body) -> str:
    value = await ctx.run(first)

    async def helper() -> None:
        await ctx.run(step, 0.1)
        await ctx.run(step, 3)

    async with asyncio.TaskGroup() as group:
        group.create_task(helper())
        group.create_task(helper())
    await ctx.run(step, 0.2)
    return str(value)


async def in_sleep(ctx: Context, first: Body) -> str:
    value = await ctx.run(first)
    await asyncio.sleep(0.5)
    await ctx.run(step, 0.2)
    return str(value)


async def in_lock(ctx: Context, first: Body) -> str:
    lock = asyncio.Lock()
    value = await ctx.run(first)

    async def helper() -> None:
        async with lock:
            await ctx.run(step, 2)

    tasks = [asyncio.create_task(helper()) for _ in range(2)]
    await asyncio.sleep(0)
    async with lock:
        pass
    await asyncio.gather(*tasks)
    await ctx.run(step, 0.2)
    return str(value)


FIRST: dict[str, Body] = {"tidy": tidy, "quiet": quiet}
CHILDREN: dict[str, Body] = {"group": in_group, "sleep": in_sleep, "lock": in_lock}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("child", CHILDREN)
@pytest.mark.parametrize("above", ["limit", "group"])
def test_a_cancel_finds_a_child_that_is_replayed_where_it_was(
    above: str, child: str, first: str
) -> None:
    """The caller's cancel is an input of the child: never ahead of what came before it."""

    async def middle(ctx: Context) -> str:
        return str(await CHILDREN[child](ctx, FIRST[first]))

    async def under_limit(ctx: Context) -> str:
        try:
            async with ctx.timeout(1):
                await ctx.run(middle)
        except TimeoutError:
            pass
        await ctx.run(step, 0.1)
        return "ok"

    async def under_group(ctx: Context) -> str:
        async def bad() -> None:
            await ctx.sleep(1)
            raise ValueError

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(bad())
                group.create_task(ctx.run(middle))
        except* ValueError:
            pass
        await ctx.run(step, 0.1)
        return "ok"

    async def main(resonate: Resonate) -> Any:
        flow = under_limit if above == "limit" else under_group
        return await resonate.run("x", resonate.register(flow, name="flow"))

    assert crash_everywhere(main, values_vary=True).result == "ok"


async def sleeps_after(ctx: Context) -> str:
    value = "?"
    try:
        async with ctx.timeout(1):
            value = await ctx.run(plain_tidy)
    except TimeoutError:
        value = "late"
    await ctx.sleep(1)
    return value


async def waits_for_nothing_durable(ctx: Context) -> str:
    try:
        async with ctx.timeout(2):
            await ctx.run(step)
            await asyncio.sleep(40)
            return "in time"
    except TimeoutError:
        return "late"


@pytest.mark.parametrize(
    ("flow", "result"), [(sleeps_after, "tidied"), (waits_for_nothing_durable, "late")]
)
def test_a_limit_that_passed_while_nobody_ran(flow: Body, result: str) -> None:
    """It ends what it would have ended, and nothing behind its `async with` (S11a)."""

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(flow))

    assert crash_everywhere(main, values_vary=True, random_runs=10).result == result


async def gives_up(ctx: Context) -> str:
    async def first() -> str:
        tasks = [asyncio.create_task(ctx.run(step, seconds)) for seconds in (0.1, 60)]
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()  # the loser is cut, and that is recorded
        await asyncio.wait(tasks)
        return "first"

    helper = asyncio.create_task(first())
    await ctx.sleep(3)
    helper.cancel()
    try:
        return await helper
    except asyncio.CancelledError:
        return "gave up"


def test_what_led_to_a_cut_is_recorded_with_it() -> None:
    """A replay in which more has arrived meanwhile goes the way of the life that cut (S4)."""

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(gives_up))

    report = crash_everywhere(main, random_runs=20)

    assert report.result == "first"
    assert report.records["x.0-first-1.2"][0] == "rejected_canceled"


async def patient(ctx: Context) -> str:
    try:
        return str(await ctx.run(step, 50))
    except asyncio.CancelledError:
        await ctx.run(step, 20)
        raise


async def leaves_early(ctx: Context) -> str:
    async with ctx.timeout(5):
        await (await ctx.promise(timeout=1e6))
    return "settled"


@pytest.mark.parametrize("helper", [patient, leaves_early])
@pytest.mark.parametrize("depth", range(3))
def test_what_led_to_a_cancel_is_recorded_with_what_comes_of_it(helper: Body, depth: int) -> None:
    """Also where that is a call of the callee, or a time limit that was left (S4, S10, S11a)."""

    async def nested(ctx: Context, left: int) -> str:
        return str(await (ctx.run(nested, left - 1) if left else ctx.run(helper)))

    async def flow(ctx: Context) -> str:
        inner = helper(ctx) if depth == 0 else ctx.run(nested, depth - 1)
        quick = asyncio.create_task(ctx.run(step, 3))
        task = asyncio.create_task(inner)  # type: ignore[arg-type]  # both are coroutines
        await ctx.sleep(1)
        if not quick.done():  # so it was; not to be known from what is recorded 20 s later
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return "cancelled"

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(flow))

    assert crash_everywhere(main, values_vary=True, random_runs=20).result == "cancelled"


async def cleans_up(ctx: Context) -> str:
    try:
        await asyncio.sleep(50)
    except asyncio.CancelledError:
        await ctx.run(step, 1)
        raise
    return "never"


async def cleans_up_in_as_completed(ctx: Context) -> str:
    try:
        for completed in asyncio.as_completed([ctx.run(step, 1), ctx.run(step, 2)]):
            await completed
    except asyncio.CancelledError:
        await ctx.run(step, 1)
        raise
    return "never"


@pytest.mark.parametrize("child", [cleans_up, cleans_up_in_as_completed])
def test_a_cancel_that_hit_no_durable_wait_comes_again_in_its_turn(child: Body) -> None:
    """The caller's cancel is in the child's own log: what it led to is asked again (S4, S10)."""

    async def flow(ctx: Context) -> str:
        try:
            async with ctx.timeout(0.5):
                return str(await ctx.run(child))
        except TimeoutError:
            return "late"

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(flow))

    assert crash_everywhere(main, random_runs=10).result == "late"


async def failing(ctx: Context) -> None:
    await asyncio.sleep(0.1)
    raise ValueError


def test_a_group_that_failed_before_does_not_spoil_a_durable_limit() -> None:
    """Up to Python 3.12 a failing TaskGroup leaves its own cancel counted on its task (S11a)."""

    async def flow(ctx: Context) -> str:
        try:
            async with ctx.timeout(5):
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(ctx.run(failing).options(retry_policy=Never()))
                        group.create_task(ctx.run(step, 50))
                except* ValueError:
                    pass
                await ctx.run(step, 50)
                return "in time"
        except TimeoutError:
            return "late"

    async def main(resonate: Resonate) -> Any:
        async with asyncio.timeout(1000):
            return await resonate.run("x", resonate.register(flow))

    assert crash_everywhere(main).result == "late"


def test_a_limit_that_passes_while_another_cancel_is_cleaned_up_after_swallows_nothing() -> None:
    """It ends the cleaning up; the cancel that came first goes on (S10, S11a)."""

    async def flow(ctx: Context) -> str:
        async def limited() -> str:
            try:
                async with ctx.timeout(1):
                    try:
                        await ctx.run(step, 50)
                    except asyncio.CancelledError:
                        await ctx.run(step, 20)
                        raise
            except TimeoutError:
                return "late"
            return "in time"

        helper = asyncio.create_task(limited())
        await ctx.sleep(0.5)
        helper.cancel()
        try:
            return await helper
        except asyncio.CancelledError:
            return "cancelled"

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(flow))

    assert crash_everywhere(main, values_vary=True).result == "cancelled"


def test_two_limits_that_passed_while_nobody_ran_end_what_they_did() -> None:
    """The earlier one first, whatever the order of their records (S5, S11a)."""

    async def flow(ctx: Context) -> list[str]:
        shielded = asyncio.create_task(ctx.run(step, 2))
        seen = []
        try:
            async with ctx.timeout(0.5):
                try:
                    async with ctx.timeout(0.1):
                        await asyncio.shield(shielded)
                except TimeoutError:
                    seen.append("inner")
                await shielded
        except TimeoutError:
            seen.append("outer")
        return seen

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(flow))

    assert crash_everywhere(main, values_vary=True).result == ["inner", "outer"]


def test_a_promise_and_a_limit_that_passed_while_nobody_ran() -> None:
    """All that earlier lives recorded is there before a limit among it is given (S5)."""

    async def flow(ctx: Context) -> str:
        promise = await ctx.promise(timeout=1)
        try:
            async with ctx.timeout(0.4):
                await promise
        except TimeoutError as error:
            return type(error).__name__
        return "settled"

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(flow))

    assert crash_everywhere(main).result == "TimeoutError"


def test_a_call_in_a_task_that_never_began_dies_with_its_frame() -> None:
    """Cancelled in the very step in which its function is ended from outside (S13, S31)."""

    async def child(ctx: Context) -> None:
        tasks = [asyncio.create_task(ctx.run(step, 9)) for _ in range(2)]
        await asyncio.gather(*tasks)

    async def flow(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0):
                await ctx.run(child)
        except TimeoutError:
            await ctx.run(step)
        return "late"

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(flow))

    assert crash_everywhere(main, values_vary=True, between=20).result == "late"


@pytest.mark.parametrize("by", ["sleep", "step", "created"])
@pytest.mark.parametrize("waits_for", ["promise", "call"])
def test_a_cancel_comes_before_what_was_asked_after_it(by: str, waits_for: str) -> None:
    """S5, law 4: all of it is behind the log when the process is killed before the next create."""

    async def flow(ctx: Context) -> list[Any]:
        cancels = []

        async def helper() -> Any:
            promise = await ctx.begin_run(step, 3)
            try:
                return await (promise if waits_for == "promise" else ctx.sleep(3))
            except asyncio.CancelledError:
                cancels.append("once")
                return ("late", await promise)

        async def a_moment() -> None:
            if by == "sleep":
                await ctx.sleep(0.001)
            elif by == "step":
                await ctx.run(step, 0.01)
            else:
                await (await ctx.begin_run(step, 0.01))

        task = asyncio.create_task(helper())
        await ctx.sleep(0.3)
        for _ in range(2):
            task.cancel()
            await a_moment()
        try:
            came: Any = await task
        except asyncio.CancelledError:
            came = "cancelled"
        return [came, cancels, await ctx.run(step)]

    async def main(resonate: Resonate) -> Any:
        resonate.register(flow)
        return await resonate.run("x", flow)

    assert crash_everywhere(main).result == ["cancelled", ["once"], 0]
