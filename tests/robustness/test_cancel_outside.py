"""`promises.cancel` and deadlines end an execution from outside (S13, S14, law 10).

The body gets a cancel; from then on its ctx calls raise `ResonateCanceledError` and record
nothing, whatever it catches or returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest
from tests.robustness.lives import Client, Life

from resonate_aio import Context
from resonate_aio.errors import ResonateCanceledError, ResonateTimedoutError

pytestmark = pytest.mark.law

Body = Generator[Any, Any, Any]


class Stage:
    """Bodies that are somewhere when the cancel comes, and what each of them saw."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.started = threading.Event()
        self.release = threading.Event()

    def saw(self, what: str) -> None:
        self.seen.append(what)

    # steps

    async def quick(self, ctx: Context) -> int:
        return 1

    async def hang(self, ctx: Context) -> str:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            self.saw("step: CancelledError")
            raise
        finally:
            self.saw("step: finally")
        return "late"

    def block(self, ctx: Context) -> str:
        self.started.set()
        self.release.wait(20)
        self.saw("thread: went on")
        return "late"

    # what a body does once it was cancelled

    async def after(self, ctx: Context) -> None:
        for call in (
            lambda: ctx.run(self.quick),
            lambda: ctx.rpc("elsewhere"),
            lambda: ctx.sleep(1),
            ctx.promise,
            lambda: ctx.begin_run(self.quick),
            ctx.time.time,
            lambda: ctx.detached("elsewhere"),
        ):
            try:
                await call()
            except Exception as error:  # noqa: BLE001  whatever it is, it is looked at
                self.saw(f"call: {type(error).__name__}")
            else:
                self.saw("call: went through")

    async def watching(self, ctx: Context, work: Callable[[], Any]) -> str:
        try:
            await work()
        except BaseException as error:
            self.saw(f"body: {type(error).__name__}")
            with contextlib.suppress(asyncio.CancelledError):
                await self.after(ctx)
            raise
        finally:
            self.saw("body: finally")
        return "late"

    # bodies

    async def at_a_step(self, ctx: Context) -> str:
        return await self.watching(ctx, lambda: ctx.run(self.hang))

    async def at_a_thread(self, ctx: Context) -> str:
        return await self.watching(ctx, lambda: ctx.run(self.block))

    async def at_a_child_body(self, ctx: Context) -> str:
        return await self.watching(ctx, lambda: ctx.run(self.at_a_step))

    async def at_a_generator(self, ctx: Context) -> str:
        return await self.watching(ctx, lambda: ctx.run(self.generator))

    async def at_a_sleep(self, ctx: Context) -> str:
        return await self.watching(ctx, lambda: ctx.sleep(1e6))

    async def at_a_promise(self, ctx: Context) -> str:
        answer = await ctx.promise()
        return await self.watching(ctx, lambda: _await(answer))

    async def at_an_rpc(self, ctx: Context) -> str:
        return await self.watching(ctx, lambda: ctx.rpc("nobody").options(target="nowhere"))

    async def at_a_begun_child(self, ctx: Context) -> str:
        child = await ctx.begin_run(self.hang)
        return await self.watching(ctx, lambda: _await(child))

    async def at_a_gather(self, ctx: Context) -> str:
        return await self.watching(
            ctx, lambda: asyncio.gather(ctx.run(self.hang), ctx.sleep(1e6), ctx.promise())
        )

    async def in_a_task_group(self, ctx: Context) -> str:
        async def work() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.run(self.hang))
                group.create_task(ctx.sleep(1e6))

        return await self.watching(ctx, work)

    async def in_plain_asyncio(self, ctx: Context) -> str:
        return await self.watching(ctx, lambda: asyncio.sleep(1e6))

    async def in_a_durable_limit(self, ctx: Context) -> str:
        async def work() -> None:
            async with ctx.timeout(1e5):
                await ctx.sleep(1e6)

        return await self.watching(ctx, work)

    def generator(self, ctx: Context) -> Body:
        try:
            yield ctx.sleep(1e6)
        except BaseException as error:
            self.saw(f"body: {type(error).__name__}")
            try:
                yield ctx.run(self.quick)
            except BaseException as second:  # noqa: BLE001  whatever it is, it is looked at
                self.saw(f"call: {type(second).__name__}")
            else:
                self.saw("call: went through")
            raise
        finally:
            self.saw("body: finally")
        return "late"


async def _await(awaitable: Any) -> Any:
    return await awaitable


PARKED = [
    "at_a_step",
    "at_a_thread",
    "at_a_child_body",
    "at_a_generator",
    "at_a_sleep",
    "at_a_promise",
    "at_an_rpc",
    "at_a_begun_child",
    "at_a_gather",
    "in_a_task_group",
    "in_plain_asyncio",
    "in_a_durable_limit",
    "generator",
    "hang",
]


async def until_at_rest(life: Life) -> None:
    """Long enough for the body to be where it waits; virtual time moves only then."""
    await asyncio.sleep(10)


@pytest.mark.parametrize("where", PARKED)
def test_cancel_reaches_the_body(where: str) -> None:
    life, stage = Life(), Stage()

    async def main(resonate: Client) -> None:
        body = getattr(stage, where)
        resonate.register(body)
        handle = resonate.begin_run("root", body)
        if where == "at_a_thread":
            while not stage.started.is_set():  # noqa: ASYNC110  a thread's event
                await asyncio.sleep(0)
        else:
            await until_at_rest(life)
        before, begun_s = life.ids(), life.loop.time()
        await resonate.promises.cancel("root")
        with pytest.raises(ResonateCanceledError):
            await handle
        for _ in range(200):
            await asyncio.sleep(0)
        stage.release.set()
        await asyncio.sleep(1)
        assert life.ids() == before, "a ctx call of a cancelled body recorded something"
        assert life.loop.time() - begun_s < 30
        assert life.state("root") == "rejected_canceled"
        with pytest.raises(ResonateCanceledError):
            await resonate.begin_run("root", body)

    life.run(main)
    assert "call: went through" not in stage.seen
    if where != "hang":
        assert stage.seen.count("body: finally") == (2 if where == "at_a_child_body" else 1) + (
            where == "at_a_generator"
        )
        assert stage.seen[-1] != "call: CancelledError"
    ends = [line for line in stage.seen if line.startswith("body: ") and "finally" not in line]
    assert set(ends) <= {"body: CancelledError", "body: BaseExceptionGroup"}, stage.seen
    calls = {line for line in stage.seen if line.startswith("call: ")}
    assert calls <= {"call: ResonateCanceledError"}, stage.seen
    if where in {"at_a_step", "at_a_begun_child", "at_a_gather", "in_a_task_group", "hang"}:
        assert "step: CancelledError" in stage.seen
    assert stage.seen.count("thread: went on") == (where == "at_a_thread")


@pytest.mark.parametrize("where", PARKED)
def test_the_deadline_reaches_the_body(where: str) -> None:
    life, stage = Life(), Stage()

    async def main(resonate: Client) -> None:
        body = getattr(stage, where)
        resonate.register(body)
        begun_s = life.loop.time()
        if where == "at_a_thread":  # the virtual clock stands still while a thread is at work
            asyncio.get_running_loop().call_later(0, stage.release.set)
        handle = resonate.options(timeout=20).run("root", body)
        if where == "at_a_thread":
            assert await handle == "late"
            return
        with pytest.raises(ResonateTimedoutError):
            await handle
        assert 20 <= life.loop.time() - begun_s < 20.1
        before = life.ids()
        await asyncio.sleep(1)
        assert life.ids() == before
        assert life.state("root") == "rejected_timedout"

    life.run(main)
    assert "call: went through" not in stage.seen


@pytest.mark.parametrize(
    "where",
    [
        "at_a_step",
        "at_a_sleep",
        "at_a_promise",
        "at_an_rpc",
        "at_a_child_body",
        "generator",
        "hang",
    ],
)
def test_the_deadline_of_a_child_reaches_it(where: str) -> None:
    """The child is ended, its caller gets `ResonateTimedoutError` and goes on (law 10)."""
    life, stage = Life(), Stage()

    async def flow(ctx: Context) -> list[Any]:
        try:
            await ctx.run(getattr(stage, where)).options(timeout=20)
        except ResonateTimedoutError as error:
            return [error.id, await ctx.run(stage.quick)]
        return ["in time"]

    async def main(resonate: Client) -> Any:
        resonate.register(flow)
        begun_s = life.loop.time()
        result = await resonate.run("root", flow)
        assert 20 <= life.loop.time() - begun_s < 20.1
        return result

    assert life.run(main) == ["root.1", 1]
    assert "call: went through" not in stage.seen
    assert life.state("root.1") == "rejected_timedout"


def test_the_deadline_of_a_parent_bounds_its_children() -> None:
    life, stage = Life(), Stage()

    async def flow(ctx: Context) -> Any:
        return await ctx.run(stage.at_a_step).options(timeout=1e9)

    async def main(resonate: Client) -> None:
        resonate.register(flow)
        with pytest.raises(ResonateTimedoutError):
            await resonate.options(timeout=20).run("root", flow)
        root = life.promise("root")
        for id in life.ids():
            assert life.promise(id).timeout_at_ms <= root.timeout_at_ms

    life.run(main)


@pytest.mark.parametrize("ending", ["returns", "raises", "goes on"])
def test_what_a_cancelled_body_does_is_dropped(
    ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    life, stage = Life(), Stage()
    loops = 0

    async def flow(ctx: Context) -> str:
        nonlocal loops
        try:
            await ctx.sleep(1e6)
        except asyncio.CancelledError:
            if ending == "raises":
                raise ValueError("no") from None
            while ending == "goes on":
                loops += 1
                assert loops < 100_000, "its ctx calls never park"
                with contextlib.suppress(ResonateCanceledError, asyncio.CancelledError):
                    await ctx.run(stage.quick)
        return "a result"

    async def main(resonate: Client) -> None:
        resonate.register(flow)
        handle = resonate.begin_run("root", flow)
        await until_at_rest(life)
        before = life.ids()
        await resonate.promises.cancel("root")
        with pytest.raises(ResonateCanceledError):
            await handle
        await asyncio.sleep(100)
        assert life.ids() == before
        assert life.state("root") == "rejected_canceled"

    if ending != "goes on":
        life.run(main)
        return

    async def whole() -> None:
        async with life.resonate:
            await main(life.resonate)

    with caplog.at_level("WARNING", "resonate_aio"):
        life.run_bare(whole())
    assert loops < 200
    named = [record.getMessage() for record in caplog.records if "did not end" in record.msg]
    assert named, "a frame that will not die is named (S31)"


def test_resolving_a_running_execution_ends_it_too() -> None:
    """Whoever settles the promise of a held execution ends it (S13)."""
    life, stage = Life(), Stage()

    async def main(resonate: Client) -> Any:
        resonate.register(stage.at_a_step)
        handle = resonate.begin_run("root", stage.at_a_step)
        await until_at_rest(life)
        await resonate.promises.resolve("root", data='"by hand"')
        return await handle

    assert life.run(main) == "by hand"
    assert "step: CancelledError" in stage.seen


def test_a_hundred_executions_are_cancelled_and_a_hundred_go_on() -> None:
    life, stage = Life(), Stage()

    async def flow(ctx: Context) -> int:
        await ctx.sleep(100)
        return await ctx.run(stage.quick)

    async def main(resonate: Client) -> tuple[int, int]:
        resonate.register(flow)
        handles = [resonate.begin_run(f"r{n}", flow) for n in range(200)]
        await until_at_rest(life)
        await asyncio.gather(*(resonate.promises.cancel(f"r{n}") for n in range(0, 200, 2)))
        results = await asyncio.gather(*handles, return_exceptions=True)
        ended = [isinstance(result, ResonateCanceledError) for result in results]
        assert ended == [n % 2 == 0 for n in range(200)]
        return sum(ended), results.count(1)

    assert life.run(main) == (100, 100)


def test_cancelling_what_a_body_waits_for_is_an_error_it_can_catch() -> None:
    life, stage = Life(), Stage()

    async def flow(ctx: Context) -> list[Any]:
        seen: list[Any] = []
        for call in (ctx.sleep(1e6), ctx.rpc("x").options(target="nowhere")):
            try:
                await call
            except ResonateCanceledError as error:
                seen.append(error.id)
        return [*seen, await ctx.run(stage.quick)]

    async def main(resonate: Client) -> Any:
        resonate.register(flow)
        handle = resonate.begin_run("root", flow)
        for n in (1, 2):
            await until_at_rest(life)
            await resonate.promises.cancel(f"root.{n}")
        async with asyncio.timeout(1000):
            return await handle

    assert life.run(main) == ["root.1", "root.2", 1]


def test_a_local_call_settled_by_others_keeps_that_outcome() -> None:
    """Write once (law 1): what the step returns afterwards is dropped."""
    life, stage = Life(), Stage()

    async def slow(ctx: Context) -> str:
        await asyncio.sleep(100)
        return "computed"

    async def flow(ctx: Context) -> list[Any]:
        seen: list[Any] = []
        for _ in range(2):
            try:
                seen.append(await ctx.run(slow))
            except ResonateCanceledError as error:
                seen.append(error.id)
        return [*seen, await ctx.run(stage.quick)]

    async def main(resonate: Client) -> Any:
        resonate.register(flow)
        handle = resonate.begin_run("root", flow)
        await until_at_rest(life)
        await resonate.promises.cancel("root.1")
        await asyncio.sleep(100)
        await resonate.promises.resolve("root.2", data='"by hand"')
        async with asyncio.timeout(1000):
            return await handle

    assert life.run(main) == ["root.1", "by hand", 1]
