"""What `crash_everywhere` says of a program that is not right: shortly, and what to look for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateTimedoutError
from resonate_aio.testing import CrashError, SimDeadlock, crash_everywhere

Program = Callable[[Resonate], Awaitable[Any]]


def program_of(function: Callable[..., Any]) -> Program:
    async def program(resonate: Resonate) -> Any:
        resonate.register(function)
        return await resonate.run("x", function)

    return program


async def waits(ctx: Context) -> Any:
    return await (await ctx.promise(id="never"))


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_promise_that_nobody_settles_is_named(store: Literal["memory", "sqlite"]) -> None:
    """As `@simulated` names it: not a time limit of a year that nobody chose."""
    with pytest.raises(SimDeadlock, match=r"promises that nobody settles.*: 'never'\."):
        crash_everywhere(program_of(waits), store=store)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_promise_that_only_the_first_life_settles_is_named(
    store: Literal["memory", "sqlite"],
) -> None:
    lives = itertools.count()

    async def program(resonate: Resonate) -> Any:
        resonate.register(waits)
        handle = resonate.begin_run("x", waits)
        if next(lives) == 0:
            await asyncio.sleep(1)
            await resonate.promises.resolve("never")
        return await handle

    with pytest.raises(CrashError, match=r"it raised SimDeadlock: everybody waits.*'never'\."):
        crash_everywhere(program, store=store)


async def limited(ctx: Context) -> str:
    try:
        await (await ctx.promise(timeout=60))
    except ResonateTimedoutError:
        return "timed out"
    return "settled"


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_limit_that_somebody_chose_passes(store: Literal["memory", "sqlite"]) -> None:
    report = crash_everywhere(program_of(limited), store=store)
    assert report.result == "timed out"


async def one(ctx: Context) -> int:
    return 1


def new_results() -> Program:
    numbers = itertools.count()

    async def replayed(ctx: Context) -> int:
        await ctx.run(one)
        return next(numbers)

    return program_of(replayed)


def new_records() -> Program:
    numbers = itertools.count()

    async def program(resonate: Resonate) -> int:
        resonate.register(one)
        return await resonate.run(f"x{next(numbers)}", one)

    return program


@pytest.mark.parametrize("program", [new_results(), new_records()], ids=["result", "record"])
def test_a_value_that_is_new_each_time_is_hinted_at(program: Program) -> None:
    with pytest.raises(CrashError) as caught:
        crash_everywhere(program)
    said = str(caught.value)
    assert "hint: a value that is new each time (random, time, uuid)" in said
    assert "ctx.random" in said
    assert "values_vary=True" in said


def test_the_operation_of_a_crash_is_told_shortly() -> None:
    """Its kind and the id: not the whole request."""
    with pytest.raises(CrashError) as caught:
        crash_everywhere(new_results())
    [place] = [line for line in str(caught.value).splitlines() if "life 1: " in line]
    assert place == "  life 1: crash before store operation 0 (post TaskCreate 'x')"
