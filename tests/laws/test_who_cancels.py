"""Who cancels a function: itself, which is an input, or the application: a frame drop (S10)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import pytest

from resonate_aio import ApplicationError, Context, Resonate
from resonate_aio.testing import crash_everywhere

from .lives import once

pytestmark = pytest.mark.law

STORES = ["memory", "sqlite"]


async def step(ctx: Context, n: Any = 1) -> Any:
    await asyncio.sleep(0.01)
    return n


async def slow(ctx: Context) -> None:
    await asyncio.sleep(100)


async def cancels_itself_at_a_call(ctx: Context) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel("enough")
    await ctx.run(step)


async def cancels_itself_elsewhere(ctx: Context) -> None:
    await ctx.run(step)
    task = asyncio.current_task()
    assert task is not None
    task.cancel("enough")
    await asyncio.sleep(1)


async def is_watched(ctx: Context) -> None:
    """A helper of it cancels its main task."""
    task = asyncio.current_task()
    assert task is not None

    async def watchdog() -> None:
        await ctx.sleep(0.3)
        task.cancel("enough")

    watching = asyncio.create_task(watchdog())
    await ctx.run(slow)
    await watching


CANCELLING = [cancels_itself_at_a_call, cancels_itself_elsewhere, is_watched]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("function", CANCELLING)
def test_a_function_that_cancels_itself_has_failed(function: Any, store: Any) -> None:
    """S10, S51: nobody shuts anything down; whoever called it hears of it, after a crash, too."""

    async def flow(ctx: Context) -> list[Any]:
        try:
            await ctx.run(function)
        except ApplicationError as error:
            return [str(error), await ctx.run(step, 2)]
        return []

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(flow))

    said, after = crash_everywhere(main, store=store).result
    assert "CancelledError('enough')" in said
    assert after == 2


@pytest.mark.parametrize("function", CANCELLING)
async def test_a_top_level_function_that_cancels_itself_is_rejected(function: Any) -> None:
    """It is not tried again and again."""
    async with Resonate() as resonate:
        resonate.register(function)
        with pytest.raises(ApplicationError, match="enough"):
            await resonate.begin_run("x", function).result(timeout=10)


@pytest.mark.parametrize("store", STORES)
def test_the_message_of_a_cancel_arrives(store: Any) -> None:
    """As anywhere in asyncio, on the first run and on a replay."""

    async def flow(ctx: Context) -> list[Any]:
        async def promise() -> None:
            await (await ctx.begin_run(slow).options(timeout=1))

        said: list[Any] = []
        for wait in (lambda: ctx.run(slow), lambda: ctx.sleep(50), promise, lambda: step(ctx)):

            async def helper(wait: Any = wait) -> Any:
                try:
                    return await wait()
                except asyncio.CancelledError as error:
                    return list(error.args)

            task = asyncio.create_task(helper())
            await ctx.sleep(0.005)
            task.cancel("why")
            said.append(await task)
            await ctx.run(step)
        return said

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(flow))

    assert crash_everywhere(main, store=store).result == [["why"]] * 4


async def _stub(ctx: Context) -> str:
    try:
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        return "stub"
    return "late"


async def _cleans_up(ctx: Context) -> None:
    try:
        await ctx.run(slow)
    except asyncio.CancelledError:
        await ctx.run(step, 5)
        raise


async def _moves_on(ctx: Context) -> list[Any]:
    with anyio.move_on_after(0.2) as scope:
        await ctx.run(slow)
    return [scope.cancelled_caught, await ctx.run(step)]


async def _fails(ctx: Context) -> int:
    try:
        with anyio.fail_after(0.2):
            await ctx.run(_cleans_up)
    except TimeoutError:
        return await ctx.run(step, 2)
    return 0


async def _groups(ctx: Context) -> list[int]:
    got: list[int] = []

    async def helper(n: int) -> None:
        got.append(await ctx.run(step, n))

    async with anyio.create_task_group() as group:
        for n in range(3):
            group.start_soon(helper, n)
    return sorted(got)


async def _outlives(ctx: Context) -> list[Any]:
    got: list[Any] = []
    with anyio.move_on_after(0.2):
        got.append(await ctx.run(_stub))
        await ctx.run(slow)
    return [*got, await ctx.run(step)]


async def _group_fails(ctx: Context) -> int:
    async def helper() -> None:
        await ctx.sleep(0.1)
        raise ValueError

    async def other() -> None:
        await ctx.run(slow)

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(other)
            group.start_soon(helper)
    except* ValueError:
        pass
    return await ctx.run(step, 7)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (_moves_on, [True, 1]),
        (_fails, 2),
        (_groups, [0, 1, 2]),
        (_outlives, ["stub", 1]),
        (_group_fails, 7),
    ],
)
def test_scopes_and_groups_of_anyio(function: Any, expected: Any, store: Any) -> None:
    """They know their cancel by its message, and send it in every pass until they are left."""

    async def main(resonate: Resonate) -> Any:
        return await resonate.run("x", resonate.register(function))

    assert crash_everywhere(main, store=store, between=4).result == expected


async def _in_a_group(ctx: Context) -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ctx.run(step, n)) for n in range(3)]
    return [task.result() for task in tasks]


async def _gathered(ctx: Context) -> list[Any]:
    return await asyncio.gather(*(ctx.run(step, n) for n in range(3)))


@pytest.mark.parametrize("passes", range(5))
@pytest.mark.parametrize("function", [_in_a_group, _gathered])
def test_a_loop_that_ends_records_nothing(function: Any, passes: int, tmp_path: Path) -> None:
    """Not even of calls in tasks that it cancels before their first step (S10, S31)."""

    async def flow(ctx: Context) -> Any:
        await ctx.run(step)
        begun.set()
        for _ in range(passes):
            await asyncio.sleep(0)
        return await function(ctx)

    async def ends() -> None:
        resonate = Resonate.local(path=tmp_path / "a.db")
        await resonate.start()
        resonate.begin_run("x", resonate.register(flow))
        await begun.wait()

    async def goes_on() -> Any:
        async with Resonate.local(path=tmp_path / "a.db") as resonate:
            return await resonate.begin_run("x", resonate.register(flow)).result(timeout=10)

    begun = asyncio.Event()
    asyncio.run(ends())
    begun, passes = asyncio.Event(), 0
    assert asyncio.run(goes_on()) == [0, 1, 2]


async def _at_the_end(ctx: Context) -> None:
    try:
        await asyncio.sleep(0.2)
    finally:
        await ctx.run(step, 9)


async def _in_a_helper(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_at_the_end(ctx))


async def _when_it_is_cancelled(ctx: Context) -> None:
    try:
        await asyncio.sleep(0.2)
    except asyncio.CancelledError:
        await ctx.run(step, 9)
        raise


async def _instead(ctx: Context) -> None:
    try:
        await asyncio.sleep(0.2)
    except asyncio.CancelledError:
        await ctx.run(step, 9)


async def _gathers_errors(ctx: Context) -> None:
    waits = [asyncio.sleep(0.2, n) for n in range(2)]
    found = await asyncio.gather(*waits, return_exceptions=True)
    await ctx.run(step, [str(n) for n in found])


@pytest.mark.parametrize("way", ["end", "cancel all"])
@pytest.mark.parametrize(
    "wait", [_at_the_end, _in_a_helper, _when_it_is_cancelled, _instead, _gathers_errors]
)
def test_what_cleans_up_after_a_shutdown_records_nothing(
    wait: Any, way: str, tmp_path: Path
) -> None:
    """Also where the function waits for what is not durable: the frames end at once (S10, S31)."""

    async def flow(ctx: Context) -> list[Any]:
        first = await ctx.run(step, 1)
        waits.set()
        await wait(ctx)
        return [first, await ctx.run(step, 2)]

    async def ends() -> None:
        resonate = Resonate.local(path=tmp_path / "a.db")
        await resonate.start()
        resonate.begin_run("x", resonate.register(flow))
        await waits.wait()
        if way == "cancel all":
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.05)
            await resonate.stop()

    async def goes_on() -> Any:
        async with Resonate.local(path=tmp_path / "a.db") as resonate:
            return await resonate.begin_run("x", resonate.register(flow)).result(timeout=10)

    waits = asyncio.Event()
    asyncio.run(ends())
    waits = asyncio.Event()
    assert asyncio.run(goes_on()) == [1, 2]


def test_an_execution_that_others_cancel_again_and_again_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each time looks like a shutdown and records nothing (S10); silence would be a riddle."""

    async def flow(ctx: Context) -> None:
        await asyncio.sleep(1)

    async def main(resonate: Resonate) -> None:
        resonate.begin_run("x", resonate.register(flow))
        for _ in range(100):
            await asyncio.sleep(0.9)
            for task in asyncio.all_tasks():
                if task.get_name() == "x":
                    task.cancel()

    once(main)

    said = [r.message for r in caplog.records if "'x' was cancelled again by others" in r.message]
    assert len(said) == 1  # law 14: once, however often it is tried
