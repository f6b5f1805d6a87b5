"""A function that holds the event loop up is named, once, and nobody else is (law 15)."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.runtime.settings import Settings

pytestmark = pytest.mark.law

Body = Generator[Any, Any, Any]

LONG_S = 0.25
ALLOWED_S = 0.2


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """What pytest holds takes long to collect, which is allowed for: it is set apart."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def hold_up() -> None:
    time.sleep(LONG_S)


async def instant(ctx: Context) -> int:
    return 1


async def first_step(ctx: Context) -> int:
    hold_up()
    return 1


async def first_step_and_more(ctx: Context) -> int:
    hold_up()
    await asyncio.sleep(0)
    return 1


async def after_a_result(ctx: Context) -> int:
    value = await ctx.run(instant)
    hold_up()
    return value


async def between_two_steps(ctx: Context) -> int:
    value = await ctx.run(instant)
    hold_up()
    return value + await ctx.run(instant)


async def in_a_helper(ctx: Context) -> int:
    async def helper() -> int:
        value = await ctx.run(instant)
        hold_up()
        return value

    return sum(await asyncio.gather(helper(), ctx.run(instant)))


def generator(ctx: Context) -> Body:
    value = yield ctx.run(instant)
    hold_up()
    return value


def generator_at_its_beginning(ctx: Context) -> Body:
    hold_up()
    return (yield ctx.run(instant))


async def innocent_parent(ctx: Context) -> int:
    return await ctx.run(first_step)


async def plain_parent(ctx: Context) -> int:
    return await ctx.run(plain)


def plain(ctx: Context) -> int:
    hold_up()  # on its thread
    return 1


NAMED: list[tuple[Callable[..., Any], str | None, str | None]] = [
    (first_step, "first_step", "root"),
    (first_step_and_more, "first_step_and_more", "root"),
    (after_a_result, "after_a_result", "root"),
    (between_two_steps, "between_two_steps", "root"),
    (in_a_helper, "in_a_helper", "root"),
    (generator, "generator", "root"),
    (generator_at_its_beginning, "generator_at_its_beginning", "root"),
    (innocent_parent, "first_step", "root.1"),
    (plain_parent, None, None),
    (instant, None, None),
]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[tuple[Any, str]]:
    return [
        (getattr(record, "id", None), record.getMessage())
        for record in caplog.records
        if "held the event loop up" in record.getMessage()
    ]


@pytest.mark.parametrize("workers", [None, 2], ids=["unlimited", "slots"])
@pytest.mark.parametrize(
    ("function", "name", "id"), NAMED, ids=[function.__name__ for function, _, _ in NAMED]
)
async def test_the_function_that_blocks_is_named(
    caplog: pytest.LogCaptureFixture,
    function: Any,
    name: str | None,
    id: str | None,
    workers: int | None,
) -> None:
    caplog.set_level(logging.WARNING)
    settings = Settings(hold_up_s=ALLOWED_S, workers=workers)
    async with Resonate(settings=settings) as resonate:
        resonate.register(function)
        await resonate.run("root", function)
    said = warnings_of(caplog)
    assert [found for found, _ in said] == ([] if id is None else [id])
    if name is not None:
        assert f"{name!r} held the event loop up for 0." in said[0][1]


async def test_each_function_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with Resonate(settings=Settings(hold_up_s=ALLOWED_S)) as resonate:
        for function in (first_step, generator):
            resonate.register(function)
        await asyncio.gather(*(resonate.run(f"a-{n}", first_step) for n in range(2)))
        await resonate.run("b", generator)
    assert [id for id, _ in warnings_of(caplog)] == ["a-0", "b"]


async def test_what_is_short_is_not_named(caplog: pytest.LogCaptureFixture) -> None:
    """By default half a second may pass; many short steps in a row are no long one."""
    caplog.set_level(logging.WARNING)

    async def short(ctx: Context) -> None:
        time.sleep(0.01)  # noqa: ASYNC251

    async def flow(ctx: Context) -> None:
        for _ in range(60):
            await ctx.run(short)

    async with Resonate() as resonate:
        resonate.register(flow)
        resonate.register(first_step)
        await asyncio.gather(resonate.run("flow", flow), resonate.run("step", first_step))
    assert not warnings_of(caplog)
