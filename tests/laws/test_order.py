"""Laws 2, 3, 4 and 9, rule by rule: what a body is given, in which order, and when it ends."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import ContextMisuseError
from resonate_aio.retry_policies import Never
from resonate_aio.testing import crash_everywhere

from .ablations import Told, Uneven
from .lives import Lives, die, once

pytestmark = pytest.mark.law

Body = Generator[Any, Any, Any]


async def echo(ctx: Context, value: Any, after_s: float = 0.0) -> Any:
    await asyncio.sleep(after_s)
    return value


# Law 2: checkpoint before continue


def test_body_is_never_told_two_values_for_one_call() -> None:
    program = Told()
    crash_everywhere(
        program.main, store="sqlite", effects=program.effects, values_vary=True, name="told"
    )


def test_recorded_step_never_starts_again() -> None:
    started: Counter[str] = Counter()

    async def step(ctx: Context) -> int:
        started[ctx.id] += 1
        return 1

    async def flow(ctx: Context) -> int:
        total = 0
        for _ in range(3):
            total += await ctx.run(step)
        await (await ctx.promise(id="go"))
        return total

    lives = Lives()

    async def first(resonate: Resonate) -> None:
        resonate.register(flow)
        resonate.begin_run("f", flow)
        await die()

    async def last(resonate: Resonate) -> int:
        resonate.register(flow)
        handle = resonate.begin_run("f", flow)
        await asyncio.sleep(1)
        await resonate.promises.resolve(id="go", data="1")
        return await handle

    for _ in range(3):
        lives.crash(first)
    assert lives.run(last) == 3
    assert started == {"f.1": 1, "f.2": 1, "f.3": 1}


# Law 3: first run equals replay, in value and in type


@dataclass
class Order:
    item: str
    placed: datetime


def test_value_has_one_type_on_first_run_and_on_replay() -> None:
    seen: list[tuple[Any, ...]] = []

    async def place(ctx: Context) -> Order:
        return Order("bolt", datetime(2030, 1, 2, tzinfo=UTC))

    async def pair(ctx: Context) -> Any:
        return (1, {2: "two"}, {3})

    async def flow(ctx: Context) -> None:
        order, data = await ctx.run(place), await ctx.run(pair)
        seen.append((type(order).__name__, order.placed.year, repr(data)))
        await ctx.sleep(1000)

    lives = Lives()

    async def first(resonate: Resonate) -> None:
        resonate.register(flow)
        resonate.begin_run("f", flow)
        await die()

    async def last(resonate: Resonate) -> None:
        resonate.register(flow)
        await resonate.run("f", flow)

    lives.crash(first)
    lives.run(last)
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert "(" not in seen[0][2], "without annotation it is plain JSON data from the start"


# Law 4: order is recorded


def test_first_completed_goes_the_same_way_however_late_the_restart() -> None:
    """S5: the batch the body saw, not the order in which things had settled by then."""
    ways: list[list[str]] = []

    async def flow(ctx: Context) -> list[str]:
        tasks = {
            name: asyncio.create_task(ctx.run(echo, name, after_s))
            for name, after_s in (("slow", 20.0), ("quick", 10.0))
        }
        done, _ = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        way = [name for name, task in tasks.items() if task in done]
        ways.append(way)
        await ctx.run(echo, way)
        await asyncio.wait(tasks.values())
        await ctx.sleep(1000)
        return way

    lives = Lives()

    async def first(resonate: Resonate) -> None:
        resonate.register(flow)
        resonate.begin_run("f", flow)
        await die(100)  # both are settled by now

    async def last(resonate: Resonate) -> list[str]:
        resonate.register(flow)
        return await resonate.run("f", flow)

    lives.crash(first)
    assert lives.run(last) == ["quick"]
    assert ways == [["quick"], ["quick"]]


def test_results_that_came_together_come_together_again() -> None:
    """S5: groups are recorded too; `wait` sees both done."""
    counts: list[int] = []

    async def flow(ctx: Context) -> None:
        tasks = [asyncio.create_task(ctx.run(echo, n, 5.0)) for n in range(2)]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        counts.append(len(done))
        await ctx.run(echo, len(done))
        await ctx.sleep(1000)

    lives = Lives()

    async def first(resonate: Resonate) -> None:
        resonate.register(flow)
        resonate.begin_run("f", flow)
        await die()

    async def last(resonate: Resonate) -> None:
        resonate.register(flow)
        await resonate.run("f", flow)

    lives.crash(first)
    lives.run(last)
    assert counts[0] == counts[1]


def test_wait_suspends_on_replay_as_it_did_on_the_first_run() -> None:
    """S7: no result at the ask: other tasks of the body run at each wait, on replay too."""
    traces: list[list[str]] = []

    async def flow(ctx: Context) -> None:
        trace: list[str] = []
        traces.append(trace)

        async def beside() -> None:
            trace.append("beside")

        task = asyncio.create_task(beside())
        trace.append("asks")
        await ctx.run(echo, 1)
        trace.append("given")
        await task
        await ctx.sleep(1000)

    lives = Lives()

    async def first(resonate: Resonate) -> None:
        resonate.register(flow)
        resonate.begin_run("f", flow)
        await die()

    async def last(resonate: Resonate) -> None:
        resonate.register(flow)
        await resonate.run("f", flow)

    lives.crash(first)
    lives.run(last)
    assert traces == [["asks", "beside", "given"]] * 2


def test_begin_run_gives_the_promise_without_suspending_and_done_answers_what_was_given() -> None:
    """S7."""
    answers: list[list[bool]] = []

    async def flow(ctx: Context) -> None:
        promise = await ctx.begin_run(echo, 1)
        before = promise.done()
        await promise
        answers.append([before, promise.done()])
        await ctx.sleep(1000)

    lives = Lives()

    async def first(resonate: Resonate) -> None:
        resonate.register(flow)
        resonate.begin_run("f", flow)
        await die()

    async def last(resonate: Resonate) -> None:
        resonate.register(flow)
        await resonate.run("f", flow)

    lives.crash(first)
    lives.run(last)
    assert answers == [[False, True]] * 2


@pytest.mark.parametrize(
    "delay_s",
    [0.1, 1.0],
)
def test_ids_do_not_depend_on_how_long_a_helper_waits_for_other_things(delay_s: float) -> None:
    """S2: helpers whose first call comes late, later or earlier in each life."""
    program = Uneven(delay_s)
    crash_everywhere(program.main, effects=program.effects, name="uneven", random_runs=10)


def test_as_completed_over_bare_helpers_is_refused_on_the_first_run() -> None:
    """S3: their tasks would be made from a set."""

    async def flow(ctx: Context) -> list[int]:
        async def helper(n: int) -> Any:
            return await ctx.run(echo, n)

        return [await c for c in asyncio.as_completed([helper(n) for n in range(5)])]

    async def main(resonate: Resonate) -> None:
        resonate.register(flow)
        with pytest.raises(ContextMisuseError, match="create_task"):
            await resonate.run("f", flow)

    once(main)


# Law 9, S22: structured


def test_body_ends_when_every_call_it_asked_has_ended() -> None:
    async def flow(ctx: Context) -> str:
        await ctx.begin_run(echo, 1, 50.0)
        task = asyncio.create_task(ctx.run(echo, 2, 60.0))
        await asyncio.sleep(0)
        assert not task.done()
        return "returned"

    async def main(resonate: Resonate) -> tuple[str, float]:
        resonate.register(flow)
        began_s = asyncio.get_running_loop().time()
        result = await resonate.run("f", flow)
        return result, asyncio.get_running_loop().time() - began_s

    result, took_s = once(main)
    assert result == "returned"
    assert 60 <= took_s < 61


def test_detached_is_not_awaited() -> None:
    async def note(ctx: Context) -> None:
        await ctx.sleep(1000)

    async def flow(ctx: Context) -> None:
        await ctx.detached("note")

    async def main(resonate: Resonate) -> float:
        resonate.register(note)
        resonate.register(flow)
        await resonate.run("f", flow)
        return asyncio.get_running_loop().time()

    assert once(main) < 1


def test_stray_task_is_cancelled_with_a_warning_that_names_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[str] = []

    async def flow(ctx: Context) -> str:
        async def stray() -> None:
            try:
                await ctx.run(echo, 1)
                await asyncio.sleep(10_000)
            finally:
                ended.append("stray")

        task = asyncio.create_task(stray(), name="the stray")
        await ctx.run(echo, 2, 5.0)
        assert not task.done()
        return "returned"

    async def main(resonate: Resonate) -> tuple[str, float]:
        resonate.register(flow)
        result = await resonate.run("f", flow)
        return result, asyncio.get_running_loop().time()

    with caplog.at_level(logging.WARNING, "resonate_aio"):
        result, took_s = once(main)
    assert (result, ended) == ("returned", ["stray"])
    assert took_s < 100
    assert "'f' ended while tasks it created were still running" in caplog.text
    assert "the stray" in caplog.text


def test_failure_nobody_awaited_is_logged_and_the_body_still_ends_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails(ctx: Context) -> None:
        raise ValueError("unheard")

    async def flow(ctx: Context) -> str:
        await ctx.begin_run(fails).options(retry_policy=Never())
        return "returned"

    async def main(resonate: Resonate) -> str:
        resonate.register(flow)
        return await resonate.run("f", flow)

    with caplog.at_level(logging.WARNING, "resonate_aio"):
        assert once(main) == "returned"
    assert "'f.1' failed and nobody awaited it: ValueError('unheard')" in caplog.text
