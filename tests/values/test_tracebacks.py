"""Where an error comes from: tracebacks lead through the user's code to the line that raised."""

import asyncio
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import resonate_aio
from resonate_aio import Context, Resonate
from resonate_aio.retry_policies import Never

HERE = Path(__file__).name
OURS = Path(resonate_aio.__file__).parent


def raise_it() -> None:
    raise ValueError("from deep inside")


async def ok(ctx: Context) -> int:
    return 1


async def leaf(ctx: Context) -> None:
    raise_it()


async def late(ctx: Context) -> None:
    await ctx.run(ok)
    raise_it()


def plain(ctx: Context) -> None:
    raise_it()


def generator(ctx: Context) -> Generator[Any, Any, None]:
    yield ctx.run(ok)
    raise_it()


async def helper(ctx: Context) -> None:
    await ctx.run(ok)
    raise_it()


async def gathers(ctx: Context) -> None:
    await asyncio.gather(helper(ctx), ctx.run(ok))


KINDS: list[Callable[..., Any]] = [leaf, late, plain, generator, gathers]


def user_frames(trace: TracebackType | None) -> list[str]:
    """The functions of this file that a traceback names, outermost first."""
    return [
        frame.name for frame in traceback.extract_tb(trace) if Path(frame.filename).name == HERE
    ]


def our_frames(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)
    return [f"{f.filename}:{f.name}" for f in frames if OURS in Path(f.filename).parents]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_traceback_of_a_step_begins_in_its_caller(kind: Callable[..., Any]) -> None:
    found: list[TracebackType | None] = []

    async def parent(ctx: Context) -> None:
        try:
            await ctx.run(kind).options(retry_policy=Never())
        except ValueError as error:
            found.append(error.__traceback__)

    async with Resonate() as resonate:
        resonate.register(parent)
        await resonate.run("parent", parent)
    names = user_frames(found[0])
    assert names[:2] == ["parent", kind.__name__]
    assert names[-1] == "raise_it"
    assert len(our_frames(found[0])) <= (1 if kind is not gathers else 3), "a line of ours or two"


@pytest.mark.parametrize("kind", KINDS)
async def test_the_traceback_of_an_execution_leads_to_the_line_that_raised(
    kind: Callable[..., Any],
) -> None:
    async def parent(ctx: Context) -> None:
        await ctx.run(kind).options(retry_policy=Never())

    async with Resonate() as resonate:
        resonate.register(parent)
        with pytest.raises(ValueError, match="deep inside") as raised:
            await resonate.run("parent", parent)
        test, *names = user_frames(raised.tb)
    assert test.startswith("test_")
    assert names[:2] == ["parent", kind.__name__]
    assert names[-1] == "raise_it"


async def test_every_wait_for_a_handle_has_a_traceback_of_its_own() -> None:
    async def waits(handle: Any) -> list[str]:
        with pytest.raises(ValueError, match="deep inside") as raised:
            await handle
        return user_frames(raised.tb)

    async with Resonate() as resonate:
        resonate.register(leaf)
        handle = resonate.options(retry_policy=Never()).begin_run("leaf", leaf)
        first, second = await waits(handle), await waits(handle)
    assert first == second == ["waits", "leaf", "raise_it"]


async def test_an_error_that_was_recorded_before_begins_where_it_is_awaited(
    tmp_path: Path,
) -> None:
    """Nothing of a traceback is stored: after a restart it is the waiter's own."""
    store = tmp_path / "app.db"
    for _ in range(2):
        async with Resonate.local(path=store) as resonate:
            resonate.register(leaf)
            with pytest.raises(ValueError, match="deep inside") as raised:
                await resonate.options(retry_policy=Never()).run("leaf", leaf)
    assert user_frames(raised.tb) == [
        "test_an_error_that_was_recorded_before_begins_where_it_is_awaited"
    ]
    assert len(our_frames(raised.tb)) == 1


async def test_a_wrong_call_points_at_the_call() -> None:
    async with Resonate() as resonate:

        async def parent(ctx: Context) -> None:
            wrong: Any = ok
            await ctx.run(wrong, 1, 2)

        resonate.register(parent)
        with pytest.raises(TypeError, match="ok") as raised:
            await resonate.run("parent", parent)
    assert user_frames(raised.tb)[-1] == "parent"
