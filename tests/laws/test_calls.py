"""Who may make a ctx call, and what goes in and out of one (S23 to S29)."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import json
import threading
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest
from tests.naming import named

from resonate_aio import Context, Resonate
from resonate_aio.errors import ContextMisuseError, ValueCodecError
from resonate_aio.runtime.settings import Settings

from .lives import once

pytestmark = pytest.mark.law

Body = Generator[Any, Any, Any]


async def echo(ctx: Context, value: Any, after_s: float = 0.0) -> Any:
    await asyncio.sleep(after_s)
    return value


# S23: who may make a ctx call


def test_a_call_that_is_stepped_by_hand_and_left_is_named() -> None:
    """No task is suspended on it, so nobody could be given its result."""

    async def flow(ctx: Context) -> Any:
        left = ctx.run(echo, 1).__await__()
        left.send(None)
        return await ctx.run(echo, 2, 5.0)

    async def main(resonate: Resonate) -> str:
        resonate.register(flow)
        with pytest.raises(ContextMisuseError, match=r"'f\.1' was stepped by hand") as raised:
            await resonate.run("f", flow)
        return type(raised.value).__name__

    assert once(main) == "ContextMisuseError"


@pytest.mark.parametrize("made_by", ["asyncio.Task", "a factory that came later"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("asks", ["calls", "promises"])
def test_a_task_made_past_the_task_factory_is_misuse(made_by: str, count: int, asks: str) -> None:
    """S2, S3: its calls would take the ids of the function's own, in the order of luck."""

    async def flow(ctx: Context) -> Any:
        promise = await ctx.begin_run(echo, 0, 0.1)

        async def helper(n: int) -> Any:
            return await (ctx.run(echo, n, 0.01) if asks == "calls" else promise)

        if made_by == "asyncio.Task":
            tasks = [asyncio.Task(helper(n)) for n in range(count)]
        else:
            loop = asyncio.get_running_loop()
            before: Any = loop.get_task_factory()
            loop.set_task_factory(lambda loop, coro, **more: asyncio.Task(coro, loop=loop, **more))
            tasks = [asyncio.create_task(helper(n)) for n in range(count)]
            loop.set_task_factory(before)
        with pytest.raises(ContextMisuseError, match=r"asyncio\.create_task, and set the factory"):
            await asyncio.gather(*tasks)
        return await promise

    async def main(resonate: Resonate) -> Any:
        resonate.register(flow)
        return await resonate.run("x", flow)

    assert once(main) == 0


def test_ctx_call_from_a_thread_is_misuse() -> None:
    async def flow(ctx: Context) -> Any:
        caught: list[BaseException] = []

        def other() -> None:
            try:
                ctx.run(echo, 1)
            except ContextMisuseError as error:
                caught.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert len(caught) == 1
        return await ctx.run(echo, ctx.id)

    async def main(resonate: Resonate) -> tuple[str, str]:
        resonate.register(flow)
        result = await resonate.run("f", flow)
        return result, (await resonate.promises.get(id="f.1")).id

    assert once(main) == ("f", "f.1"), "no id was taken"


def test_ctx_call_after_the_return_is_misuse() -> None:
    kept: list[Context] = []

    async def flow(ctx: Context) -> None:
        kept.append(ctx)

    async def main(resonate: Resonate) -> None:
        resonate.register(flow)
        await resonate.run("f", flow)
        with pytest.raises(ContextMisuseError, match="after that function had ended"):
            kept[0].run(echo, 1)

    once(main)


def test_parents_ctx_inside_a_child_is_misuse() -> None:
    async def flow(ctx: Context) -> str:
        async def child(inner: Context) -> str:
            with pytest.raises(ContextMisuseError, match=r"made inside 'f\.1'"):
                ctx.run(echo, 1)
            return str(await inner.run(echo, "fine"))

        return await ctx.run(child)

    async def main(resonate: Resonate) -> str:
        resonate.register(flow)
        return await resonate.run("f", flow)

    assert once(main) == "fine"


def test_ctx_call_from_a_task_of_somebody_else_is_misuse() -> None:
    kept: list[Context] = []

    async def flow(ctx: Context) -> None:
        kept.append(ctx)
        await ctx.sleep(10)

    async def main(resonate: Resonate) -> None:
        resonate.register(flow)
        handle = resonate.begin_run("f", flow)
        await asyncio.sleep(1)
        with pytest.raises(ContextMisuseError, match="outside its function"):
            kept[0].run(echo, 1)
        await handle

    once(main)


def test_what_takes_no_id_is_free_anywhere() -> None:
    async def flow(ctx: Context) -> Any:
        found: list[Any] = []

        def other() -> None:
            found.extend((ctx.get_dependency("d"), ctx.info.attempt))
            ctx.logger.debug("from a thread")

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return found

    async def main(resonate: Resonate) -> Any:
        resonate.set_dependency("d", "dependency")
        resonate.register(flow)
        return await resonate.run("f", flow)

    assert once(main) == ["dependency", 1]


# S24, S25, S26, S27, S29


@pytest.mark.parametrize("value", [object(), lambda: 1, {1: {2: object()}}], ids=named)
def test_result_that_cannot_be_stored_is_the_steps_failure_and_never_retried(value: Any) -> None:
    """S24."""
    started: Counter[str] = Counter()

    async def step(ctx: Context) -> Any:
        started[ctx.id] += 1
        return value

    async def flow(ctx: Context) -> str:
        try:
            await ctx.run(step)
        except ValueCodecError as error:
            return str(error)
        return "stored"

    async def main(resonate: Resonate) -> tuple[str, str]:
        resonate.register(flow)
        message = await resonate.run("f", flow)
        return message, (await resonate.promises.get(id="f.1")).state

    message, state = once(main)
    assert "cannot be recorded" in message
    assert "step" in message
    assert state.upper() == "REJECTED"
    assert started == {"f.1": 1}


tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


def test_context_variables_come_from_the_clients_construction_and_flow_down() -> None:
    """S25: the caller's context never enters; a body's own values reach its calls."""

    async def step(ctx: Context) -> str:
        return tenant.get()

    def plain(ctx: Context) -> str:
        return tenant.get()

    async def flow(ctx: Context) -> list[str]:
        before = await ctx.run(step)
        token = tenant.set("inside")
        below = await asyncio.gather(ctx.run(step), ctx.run(plain))
        tenant.reset(token)
        return [before, *below, await ctx.run(step)]

    async def main(resonate: Resonate) -> list[str]:
        resonate.register(flow)
        tenant.set("the caller")
        return await resonate.run("f", flow)

    assert once(main) == ["nobody", "inside", "inside", "nobody"]


def test_context_variables_of_a_generator_flow_down() -> None:
    """S25."""

    async def step(ctx: Context) -> str:
        return tenant.get()

    def flow(ctx: Context) -> Body:
        tenant.set("inside")
        return (yield ctx.run(step))

    async def main(resonate: Resonate) -> str:
        resonate.register(flow)
        tenant.set("the caller")
        return await resonate.run("f", flow)

    assert once(main) == "inside"


@pytest.mark.parametrize("dialect", ["async", "generator"])
def test_a_thousand_nested_calls(dialect: str) -> None:
    """S26: nothing starts inside another body's step."""

    async def down(ctx: Context, n: int) -> int:
        return n if n == 0 else 1 + await ctx.run(down, n - 1)

    def g_down(ctx: Context, n: int) -> Body:
        return n if n == 0 else 1 + (yield ctx.run(g_down, n - 1))

    function: Any = down if dialect == "async" else g_down

    async def main(resonate: Resonate) -> Any:
        resonate.register(function)
        return await resonate.run("f", function, 1000)

    assert once(main) == 1000


def test_one_worker_finishes_a_gather() -> None:
    """S27: a slot is returned while its function waits for something durable."""

    async def inner(ctx: Context, n: int) -> int:
        values = await asyncio.gather(ctx.run(echo, n, 1.0), ctx.run(echo, n, 2.0))
        return sum(values)

    async def flow(ctx: Context) -> list[int]:
        return list(await asyncio.gather(ctx.run(inner, 1), ctx.run(inner, 2)))

    async def main(resonate: Resonate) -> list[list[int]]:
        resonate.register(flow)
        handles = [resonate.begin_run(f"f{n}", flow) for n in range(3)]
        return [await handle for handle in handles]

    assert once(main, settings=Settings(workers=1)) == [[2, 4]] * 3


def test_one_worker_executes_one_function_at_a_time() -> None:
    """S27."""
    at_work = itertools.count(1)
    running: set[str] = set()
    most = [0]

    async def busy(ctx: Context) -> int:
        running.add(ctx.id)
        most[0] = max(most[0], len(running))
        await asyncio.sleep(1)
        running.discard(ctx.id)
        return next(at_work)

    async def flow(ctx: Context) -> list[int]:
        return sorted(await asyncio.gather(*(ctx.run(busy) for _ in range(5))))

    async def main(resonate: Resonate) -> list[int]:
        resonate.register(flow)
        return await resonate.run("f", flow)

    assert once(main, settings=Settings(workers=1)) == [1, 2, 3, 4, 5]
    assert most == [1]


def test_arguments_are_copies_and_are_encoded_at_the_ask() -> None:
    """S29: neither side sees what the other does to them later."""

    async def extend(ctx: Context, items: list[str]) -> list[str]:
        items.append("callee")
        return items

    async def flow(ctx: Context) -> list[list[str]]:
        items = ["a"]
        promise = await ctx.begin_run(extend, items)
        items.append("caller")
        return [items, await promise]

    async def main(resonate: Resonate) -> tuple[Any, Any]:
        resonate.register(flow)
        result = await resonate.run("f", flow)
        stored = await resonate.promises.get(id="f.1")
        return result, json.loads(str(stored.param.data))

    result, stored = once(main)
    assert result == [["a", "caller"], ["a", "callee"]]
    assert stored == [["a"]]
