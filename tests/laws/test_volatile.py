"""Calls with durable=False: cut, outliving a cancel, timed out, and a crash (S4, S10, S14)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any, Literal

import pytest
from tests.naming import named

from resonate_aio import Context, Resonate, ResonateTimedoutError
from resonate_aio.testing import crash_everywhere

from .lives import Lives, die

Store = Literal["memory", "sqlite"]
Child = Callable[..., Any]
Flow = Callable[[Context, Child], Awaitable[Any]]

pytestmark = pytest.mark.law

LONG_S = 10_000.0


class LostError(Exception):
    pass


async def step(ctx: Context, value: Any, takes_s: float = 0) -> Any:
    await asyncio.sleep(takes_s)
    return value


# ------------------------------------------------------------------ children


async def leaf(ctx: Context) -> str:
    await asyncio.sleep(LONG_S)
    return "leaf"


async def body(ctx: Context) -> str:
    await ctx.run(step, 1, 0.1)
    await ctx.run(step, 2, LONG_S)
    return "body"


def generator(ctx: Context) -> Generator[Any, Any, str]:
    yield ctx.run(step, 1, 0.1)
    yield ctx.run(step, 2, LONG_S)
    return "generator"


async def nested(ctx: Context) -> str:
    await ctx.run(step, 1)
    return str(await ctx.run(body).options(durable=False))


async def cleans(ctx: Context) -> str:
    try:
        await ctx.run(leaf).options(durable=False)
    except asyncio.CancelledError:
        await ctx.run(step, "clean 1", 1)
        await ctx.run(step, "clean 2", 1)
        raise
    return "not cancelled"


async def tidies(ctx: Context) -> str:
    """It returns a value when it is cancelled: that is given, and the cancel kept (S10)."""
    try:
        await ctx.run(leaf)
    except asyncio.CancelledError:
        return str(await ctx.run(step, "tidied", 1))
    return "not cancelled"


async def tidy_leaf(ctx: Context) -> str:
    try:
        await asyncio.sleep(LONG_S)
    except asyncio.CancelledError:
        return "tidied"
    return "not cancelled"


def tidy_generator(ctx: Context) -> Generator[Any, Any, str]:
    try:
        yield ctx.run(leaf).options(durable=False)
    except asyncio.CancelledError:
        return "tidied"
    return "not cancelled"


CUT: list[Child] = [leaf, body, generator, nested, cleans]
OUTLIVING: list[Child] = [tidies, tidy_leaf, tidy_generator]


# ------------------------------------------------------------------ how they are cancelled


async def durable_limit(ctx: Context, child: Child) -> Any:
    outcome: Any = "none"
    try:
        async with ctx.timeout(2):
            outcome = await ctx.run(child).options(durable=False)
            await ctx.run(step, "after it", LONG_S)
    except TimeoutError:
        pass
    return [outcome, await ctx.run(step, 1, 1), await ctx.run(step, 2)]


async def asyncio_limit(ctx: Context, child: Child) -> Any:
    outcome: Any = "none"
    try:
        async with asyncio.timeout(2):
            outcome = await ctx.run(child).options(durable=False)
            await ctx.run(step, "after it", LONG_S)
    except TimeoutError:
        pass
    return [outcome, await ctx.run(step, 1, 1), await ctx.run(step, 2)]


async def task_cancel(ctx: Context, child: Child) -> Any:
    task = asyncio.create_task(ctx.run(child).options(durable=False))
    await ctx.sleep(2)
    task.cancel()
    outcome = await asyncio.gather(task, return_exceptions=True)
    return [_shown(outcome), await ctx.run(step, 1, 1), await ctx.run(step, 2)]


async def failing_group(ctx: Context, child: Child) -> Any:
    async def fails() -> None:
        await ctx.sleep(2)
        raise LostError

    task: Any = None
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(ctx.run(child).options(durable=False))
            group.create_task(fails())
    except* LostError:
        pass
    outcome = "cancelled" if task.cancelled() else task.result()
    return [outcome, await ctx.run(step, 1, 1), await ctx.run(step, 2)]


async def loser(ctx: Context, child: Child) -> Any:
    tasks = [
        asyncio.create_task(ctx.run(child).options(durable=False)),
        asyncio.create_task(ctx.run(step, "first", 2).options(durable=False)),
    ]
    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    return [_shown(outcomes), await ctx.run(step, 1, 1), await ctx.run(step, 2)]


def _shown(outcomes: Iterable[Any]) -> list[Any]:
    return [type(each).__name__ if isinstance(each, BaseException) else each for each in outcomes]


WAYS: list[Flow] = [durable_limit, asyncio_limit, task_cancel, failing_group, loser]


def comes_through(way: Flow, child: Child, store: Store) -> Any:
    """The result, which a crash at any point leaves alone, and nothing lasts long."""
    lasted_s: list[float] = []

    async def flow(ctx: Context) -> Any:
        return await way(ctx, child)

    async def main(resonate: Resonate) -> Any:
        resonate.register(flow, name="flow")
        clock = asyncio.get_running_loop()
        begun_s = clock.time()
        result = await resonate.run("f", flow)
        lasted_s.append(clock.time() - begun_s)
        return result

    report = crash_everywhere(main, store=store, between=10)
    assert report.crashes >= 15
    assert max(lasted_s) < 100  # virtual seconds: what was cut lasts for ten thousand
    return report.result


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("child", [*CUT, *OUTLIVING], ids=named)
@pytest.mark.parametrize("way", WAYS, ids=named)
def test_a_cancelled_call_that_is_not_durable_survives_a_crash(
    way: Flow, child: Child, store: Store
) -> None:
    """S10, S11: what was cut is not run again, what outlived its cancel outlives it again."""
    result = comes_through(way, child, store)
    assert ("tidied" in str(result)) is (child in OUTLIVING)
    assert result[1:] == [1, 2]


async def loser_of_two(ctx: Context, child: Child) -> Any:
    """The child is durable, and calls one that is not; another cancels it."""

    async def calls_it(ctx: Context) -> Any:
        outcome = await ctx.run(child).options(durable=False)
        return [outcome, await ctx.run(step, "went on")]

    return await task_cancel(ctx, calls_it)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("child", [*CUT, *OUTLIVING], ids=named)
def test_a_cancel_reaches_it_through_a_call_that_is_not_durable(child: Child, store: Store) -> None:
    """S10: the cancel goes down from call to call, whatever of them is recorded."""
    result = comes_through(loser_of_two, child, store)
    assert result == [["CancelledError"], 1, 2]


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("child", [generator, tidies, leaf], ids=named)
def test_a_generator_cancelled_at_a_call_that_is_not_durable(child: Child, store: Store) -> None:
    """S10: as a coroutine is."""
    lasted = []

    def parent(ctx: Context) -> Generator[Any, Any, Any]:
        outcome: Any = "none"
        try:
            outcome = yield ctx.run(child).options(durable=False)
            yield ctx.run(step, "after it", LONG_S)
        except asyncio.CancelledError:
            yield ctx.run(step, "cleaned", 1)
        return outcome

    async def main(resonate: Resonate) -> Any:
        async def flow(ctx: Context) -> Any:
            running = asyncio.create_task(ctx.run(parent))
            await ctx.sleep(2)
            running.cancel()
            lasted.append(await running)
            return [lasted[-1], await ctx.run(step, 1, 1), await ctx.run(step, 2)]

        resonate.register(flow, name="flow")
        return await resonate.run("f", flow)

    report = crash_everywhere(main, store=store, between=10)
    assert report.result == ["tidied" if child is tidies else "none", 1, 2]


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_what_was_begun_goes_on_when_a_wait_for_it_is_cancelled(store: Store) -> None:
    """S10: an interrupted wait for the Promise of a begin_run ends nothing but the wait."""

    async def five(ctx: Context) -> str:
        await ctx.run(step, 1, 3)
        return str(await ctx.run(step, "all of it", 2))

    async def flow(ctx: Context) -> Any:
        begun = await ctx.begin_run(five).options(durable=False)
        outcome = "in time"
        try:
            async with ctx.timeout(1):
                await begun
        except TimeoutError:
            outcome = "late"
        return [outcome, await ctx.run(step, 1), await begun, await ctx.run(step, 2)]

    async def main(resonate: Resonate) -> Any:
        resonate.register(flow, name="flow")
        return await resonate.run("f", flow)

    report = crash_everywhere(main, store=store, between=10)
    assert report.result == ["late", 1, "all of it", 2]


# ------------------------------------------------------------------ deadlines


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("child", CUT, ids=named)
def test_its_own_deadline_ends_it_as_timed_out(child: Child, store: Store) -> None:
    """S14, law 10: ResonateTimedoutError, on the first run and on a replay alike."""

    async def limited(ctx: Context, child: Child) -> Any:
        try:
            outcome: Any = await ctx.run(child).options(durable=False, timeout=2)
        except ResonateTimedoutError as error:
            outcome = [str(error.id)]
        return [outcome, await ctx.run(step, 1, 1), await ctx.run(step, 2)]

    assert comes_through(limited, child, store) == [["f.1"], 1, 2]


def in_a_third_life(flow: Callable[[Context], Awaitable[Any]]) -> Any:
    """What it returns after two crashes, each a hundred seconds after its start."""
    lives = Lives()

    async def first(resonate: Resonate) -> None:
        resonate.register(flow, name="flow")
        resonate.run("f", flow)
        await die(100)

    async def third(resonate: Resonate) -> Any:
        resonate.register(flow, name="flow")
        return await resonate.run("f", flow)

    lives.crash(first)
    lives.crash(first)
    return lives.run(third)


def test_what_timed_out_is_not_run_again_by_a_replay() -> None:
    """S14: the log says that it timed out; it is not driven to time out once more."""
    started = []

    async def counted(ctx: Context) -> None:
        started.append(ctx.id)
        await ctx.run(step, 1)
        await asyncio.sleep(LONG_S)

    async def flow(ctx: Context) -> Any:
        try:
            await ctx.run(counted).options(durable=False, timeout=2)
        except ResonateTimedoutError:
            await ctx.sleep(500)
            return "timed out"

    assert in_a_third_life(flow) == "timed out"
    assert started == ["f.1"]


async def returns(ctx: Context) -> str:
    return str(await ctx.run(step, "value", 0.5))


async def returns_leaf(ctx: Context) -> str:
    await asyncio.sleep(0.5)
    return "value"


async def calls_limited(ctx: Context) -> str:
    """Its last call has a deadline of its own, and no create follows that would tell of it."""
    return str(await ctx.run(returns_leaf).options(durable=False, timeout=2))


async def calls_caller(ctx: Context) -> str:
    return str(await ctx.run(calls_limited).options(durable=False))


@pytest.mark.parametrize("child", [returns, returns_leaf, calls_limited, calls_caller], ids=named)
def test_what_ended_in_time_ends_in_time_on_a_replay_long_after_its_deadline(child: Child) -> None:
    """S14: it kept its deadline; that the replay comes after it changes nothing."""

    async def flow(ctx: Context) -> Any:
        outcome = await ctx.run(child).options(durable=False, timeout=2)
        await ctx.sleep(500)
        return outcome

    assert in_a_third_life(flow) == "value"


@pytest.mark.parametrize("depth", [1, 2])
def test_the_order_in_which_it_saw_its_results_is_kept_with_its_callers_log(depth: int) -> None:
    """S4, S5: driven anew it goes the way it went, though all its results are there at once."""

    async def race(ctx: Context) -> str:
        calls = [asyncio.create_task(ctx.run(step, name, s)) for name, s in [("b", 2), ("a", 1)]]
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        winners = [call.result() for call in calls if call in done]
        await asyncio.wait(calls)
        return "".join(winners)

    async def around(ctx: Context) -> str:
        return str(await ctx.run(race).options(durable=False))

    async def flow(ctx: Context) -> Any:
        winner = await ctx.run(race if depth == 1 else around).options(durable=False)
        said = await ctx.run(step, f"{winner} won")
        await ctx.sleep(500)
        return [winner, said]

    assert in_a_third_life(flow) == ["a", "a won"]
