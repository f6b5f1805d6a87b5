"""Law 5: changed code is noticed (S9a, S42, S43).

The process dies while an execution waits for a person; the next one has other code. What
was recorded and what is asked now are named, the promise stays pending, everything else
goes on, and the old code can still finish the execution.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import NonDeterminismError
from resonate_aio.runtime.settings import Settings

from .edits import (
    HARMLESS,
    NOTICED,
    RESULT,
    Edit,
    Flow,
    added,
    charge,
    check,
    old,
    other_arguments,
    reserve,
)
from .lives import Lives, die
from .places import KEPT_ANYWAY, MOVED

pytestmark = pytest.mark.law


async def bystander(ctx: Context) -> str:
    await ctx.run(check)
    await ctx.sleep(200)
    return await ctx.run(check)


def register(resonate: Resonate, flow: Flow, *, version: int = 1) -> Flow:
    """The process's functions: the flow under its one name, steps, and somebody else's work."""
    resonate.register(flow, name="flow")
    resonate.register(charge, version=version)
    resonate.register(bystander)
    return flow


def first_life(lives: Lives, flow: Flow) -> None:
    async def main(resonate: Resonate) -> None:
        register(resonate, flow)
        resonate.begin_run("order", flow)
        resonate.begin_run("bystander", bystander)
        await die()

    lives.crash(main)


def finish(lives: Lives, flow: Flow, *, version: int = 1) -> Any:
    """A life in which the person answers."""

    async def main(resonate: Resonate) -> Any:
        register(resonate, flow, version=version)
        handle = resonate.begin_run("order", flow)
        await asyncio.sleep(1)
        await resonate.promises.resolve(id="go", data=json.dumps("go"))
        return await handle

    return lives.run(main)


@pytest.mark.parametrize("edit", [*NOTICED, *MOVED], ids=str)
def test_edit_is_named_and_harms_nobody_else(edit: Edit, caplog: pytest.LogCaptureFixture) -> None:
    lives = Lives()
    first_life(lives, edit.before)

    async def second(resonate: Resonate) -> tuple[str, str, str]:
        register(resonate, edit.after, version=edit.version)
        handle = resonate.begin_run("order", edit.after)
        joined = resonate.get("order")
        with pytest.raises(NonDeterminismError) as caught:
            await handle
        with pytest.raises(NonDeterminismError):
            await joined
        found = await resonate.promises.get(id="order")
        others = await resonate.get("bystander")
        return str(caught.value), found.state, others

    with caplog.at_level(logging.CRITICAL, "resonate_aio"):
        message, state, others = lives.run(second)

    for part in edit.says:
        assert part in message
    assert "old code" in message or "check_arguments" in message, "it says what to do"
    assert state.upper() == "PENDING", "trouble is not an outcome (law 8)"
    assert others == "checked", "the worker goes on (law 14)"
    assert finish(lives, edit.before) == list(edit.result), "the old code finishes it"


@pytest.mark.parametrize(
    "edit",
    [
        edit
        for edit in [*NOTICED, *MOVED]
        if "removed at" not in edit.name  # nothing is asked there
    ],
    ids=str,
)
def test_message_names_the_asking_line(edit: Edit) -> None:
    lives = Lives()
    first_life(lives, edit.before)

    async def second(resonate: Resonate) -> str:
        register(resonate, edit.after, version=edit.version)
        with pytest.raises(NonDeterminismError) as caught:
            await resonate.run("order", edit.after)
        return str(caught.value)

    assert f" at {inspect.getsourcefile(edit.after)}:" in lives.run(second)


@pytest.mark.parametrize("edit", [*HARMLESS, KEPT_ANYWAY], ids=str)
def test_harmless_edit_goes_on(edit: Edit) -> None:
    lives = Lives()
    first_life(lives, edit.before)

    assert finish(lives, edit.after) == list(edit.result)


def test_arguments_need_not_match_where_the_client_says_so() -> None:
    lives = Lives(settings=Settings(check_arguments=False))
    first_life(lives, old)

    assert finish(lives, other_arguments) == RESULT


def test_nothing_new_runs_before_the_difference_is_noticed() -> None:
    """A difference is raised before anything is run or given (S43)."""
    ran: list[str] = []

    async def spy(ctx: Context) -> str:
        ran.append(ctx.id)
        return "ran"

    async def spying(ctx: Context) -> list[Any]:
        return [await ctx.run(spy), await old(ctx)]

    lives = Lives()
    first_life(lives, old)

    async def second(resonate: Resonate) -> None:
        register(resonate, spying)
        with pytest.raises(NonDeterminismError):
            await resonate.run("order", spying)

    lives.run(second)
    assert ran == []


def test_another_explicit_id_runs_nothing_again() -> None:
    """The step whose outcome is recorded under E does not run a second time, under F (law 2)."""
    ran: list[str] = []

    async def spy(ctx: Context) -> str:
        ran.append(ctx.id)
        return "ran"

    def under(id: str) -> Flow:
        async def spying(ctx: Context) -> list[Any]:
            spied = await ctx.run(spy).options(id=id)
            return [spied, await (await ctx.promise(id="go"))]

        return spying

    lives = Lives()
    first_life(lives, under("E"))

    async def second(resonate: Resonate) -> None:
        register(resonate, under("F"))
        with pytest.raises(NonDeterminismError):
            await resonate.run("order", "flow")

    lives.run(second)
    assert finish(lives, under("E")) == ["ran", "go"]
    assert ran == ["E"]


def test_program_that_catches_the_error_is_stopped_all_the_same() -> None:
    """The error is the execution's end in this process, not an exception to handle."""

    async def catching(ctx: Context) -> list[Any]:
        try:
            return await added(ctx)
        except NonDeterminismError:
            return ["swallowed"]

    lives = Lives()
    first_life(lives, old)

    async def second(resonate: Resonate) -> str:
        register(resonate, catching)
        with pytest.raises(NonDeterminismError):
            await resonate.run("order", catching)
        return (await resonate.promises.get(id="order")).state

    assert lives.run(second).upper() == "PENDING"
    assert finish(lives, old) == RESULT


def test_ask_that_a_waiting_helper_no_longer_makes_is_named_after_a_while() -> None:
    """A body held only by a missing ask, but not at a single wait (S9a: 30 s)."""

    async def two(ctx: Context) -> list[Any]:
        async def first() -> str:
            return await ctx.run(reserve, "42")

        async def second() -> Any:
            go = await ctx.promise(id="go")
            return await go

        return list(await asyncio.gather(first(), second()))

    async def fewer(ctx: Context) -> list[Any]:
        async def first() -> str:
            await asyncio.sleep(10_000)
            return "never asked"

        async def second() -> Any:
            go = await ctx.promise(id="go")
            return await go

        return list(await asyncio.gather(first(), second()))

    lives = Lives()
    first_life(lives, two)

    async def later(resonate: Resonate) -> tuple[str, float]:
        register(resonate, fewer)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        handle = resonate.begin_run("order", fewer)
        await asyncio.sleep(1)
        await resonate.promises.resolve(id="go", data=json.dumps("go"))
        with pytest.raises(NonDeterminismError) as caught:
            await handle
        return str(caught.value), loop.time() - began_s

    message, took_s = lives.run(later)
    assert "no longer makes call 'order.0-first-1.1'" in message
    assert 29 < took_s < 40


def test_ask_is_missed_where_a_body_is_held_again_further_on() -> None:
    """S9a: held for a moment at one position, then for good at a later one."""

    def helpers(count: int) -> Flow:
        async def flow(ctx: Context) -> list[Any]:
            async def later(number: int) -> str:
                await asyncio.sleep(0.1 * number)
                return await ctx.run(reserve, str(number))

            first = await asyncio.gather(*(later(number) for number in range(count)))
            go = await ctx.promise(id="go")
            return [*first, await go]

        return flow

    lives = Lives()
    first_life(lives, helpers(2))

    async def second(resonate: Resonate) -> tuple[str, float]:
        register(resonate, helpers(3))
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with pytest.raises(NonDeterminismError) as caught:
            await resonate.begin_run("order", "flow").result(timeout=1000)
        return str(caught.value), loop.time() - began_s

    message, took_s = lives.run(second)
    assert "no longer makes call 'order.1'" in message
    assert 29 < took_s < 70


async def echo(ctx: Context, text: str) -> str:
    return text


def test_long_arguments_are_not_kept_for_the_sake_of_a_message() -> None:
    """S43: changed ones are noticed all the same, and the message does not show nothing."""
    lives = Lives()

    def flow(text: str) -> Any:
        async def flow(ctx: Context) -> None:
            await ctx.run(echo, text).options(durable=False)
            await ctx.sleep(500)

        return flow

    async def first(resonate: Resonate) -> None:
        resonate.register(flow("a" * 1000), name="flow")
        resonate.run("f", "flow")
        await die(100)

    async def second(resonate: Resonate) -> Any:
        resonate.register(flow("b" * 1000), name="flow")
        with pytest.raises(NonDeterminismError, match=r"other arguments, too long .* passes .*bbb"):
            await resonate.run("f", "flow")

    lives.crash(first)
    lives.run(second)
