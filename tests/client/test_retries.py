"""Retry policies as calls use them (mission table 1.8); test_retry_policies has the figures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any

import pytest
from tests.client.lives import Lives, utc

import resonate_aio.retry_policies
from resonate_aio import Context, Resonate
from resonate_aio.errors import ApplicationError
from resonate_aio.retry_policies import Constant, Exponential, Linear, Never, RetryPolicy


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Exponential(max_retries=3), [0, 2, 6, 14]),
        (Constant(delay=3, max_retries=2), [0, 3, 6]),
        (Linear(delay=1, max_retries=3), [0, 1, 3, 6]),
        (Never(), [0]),
    ],
)
def test_when_a_failed_step_is_tried_again(policy: RetryPolicy, expected: list[float]) -> None:
    """Mission T2, T3, T4, T5, T6: on virtual time, from the first attempt on."""
    at: list[float] = []

    async def step(ctx: Context) -> None:
        at.append(asyncio.get_running_loop().time())
        raise ConnectionError

    async def flow(ctx: Context) -> None:
        await ctx.run(step).options(retry_policy=policy)

    async def main(resonate: Resonate) -> None:
        resonate.register(flow)
        with pytest.raises(ConnectionError):
            await resonate.run("a", flow)

    Lives(None, utc("2024-05-01 12:00")).life(main)
    assert [round(instant - at[0], 1) for instant in at] == expected


def test_no_retry_passes_the_deadline() -> None:
    """Mission T7, law 11: retries end where the next delay would pass the promise's deadline."""
    at: list[float] = []

    async def step(ctx: Context) -> None:
        at.append(asyncio.get_running_loop().time())
        raise ConnectionError

    async def main(resonate: Resonate) -> float:
        resonate.register(step)
        limited = resonate.options(timeout=10, retry_policy=Constant(delay=3))
        begun = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionError):
            await limited.run("a", step)
        return asyncio.get_running_loop().time() - begun

    took_s = Lives(None, utc("2024-05-01 12:00")).life(main)
    assert [round(instant - at[0]) for instant in at] == [0, 3, 6, 9]
    assert took_s < 10


def test_the_names() -> None:
    """Mission T1, T6."""
    module: Any = resonate_aio.retry_policies
    assert set(module.__all__) == {"Constant", "Exponential", "Linear", "Never", "RetryPolicy"}


class BusinessError(Exception):
    """Trying again does not help."""


class OutOfStockError(BusinessError):
    """Nor here: subclasses count (law 11)."""


def attempts_of(main: Any, **options: Any) -> int:
    """How often a step that fails for good was tried."""
    tried: list[int] = []

    async def step(ctx: Context) -> None:
        tried.append(ctx.info.attempt)
        if len(tried) > 3:
            return
        raise OutOfStockError("none left")

    async def whole(resonate: Resonate) -> None:
        try:
            await main(resonate, step)
        except OutOfStockError:
            return

    Lives(None, utc("2024-05-01 12:00")).life(whole, **options)
    return len(tried)


@pytest.mark.parametrize("never", [BusinessError, (KeyError, BusinessError), [OutOfStockError]])
def test_errors_after_which_nothing_is_tried_again(never: Any) -> None:
    """Law 11: said for the client, for what is started through a view of it, or at the call."""

    async def from_a_flow(resonate: Resonate, step: Any) -> None:
        async def flow(ctx: Context) -> None:
            await ctx.run(step)

        resonate.register(flow)
        await resonate.run("a", flow)

    async def through_a_view(resonate: Resonate, step: Any) -> None:
        def leaf(ctx: Context) -> None:  # a top-level plain function is a leaf, and retried
            step(ctx).send(None)

        resonate.register(leaf)
        await resonate.options(non_retryable_exceptions=never).run("a", leaf)

    async def at_the_call(resonate: Resonate, step: Any) -> None:
        async def flow(ctx: Context) -> None:
            await ctx.run(step).options(non_retryable_exceptions=never)

        resonate.register(flow)
        await resonate.run("a", flow)

    assert attempts_of(from_a_flow) == 4
    assert attempts_of(from_a_flow, non_retryable_exceptions=never) == 1
    assert attempts_of(through_a_view) == 1
    assert attempts_of(at_the_call) == 1
    assert attempts_of(at_the_call, non_retryable_exceptions=KeyError) == 1, "both count"


@pytest.mark.parametrize("wrong", [5, "ValueError", (ValueError, 5), ValueError("x")])
def test_what_is_no_class_of_errors_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="exception classes"):
        Resonate(non_retryable_exceptions=wrong)
    with pytest.raises(TypeError, match="exception classes"):
        Resonate().options(non_retryable_exceptions=wrong)


def test_an_error_class_that_cannot_be_found_again_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S51: one defined inside a function is an `ApplicationError` to those who wait."""

    class LocalError(Exception):
        pass

    async def step(ctx: Context) -> None:
        raise LocalError("gone")

    async def flow(ctx: Context) -> str:
        for _ in range(3):
            try:
                await ctx.run(step).options(retry_policy=Never())
            except LocalError:
                return "caught"
            except ApplicationError as error:
                name = error.name
        return f"not caught: {name.rpartition('.')[2]}"

    async def main(resonate: Resonate) -> str:
        resonate.register(flow)
        return await resonate.run("a", flow)

    caplog.set_level("WARNING", "resonate_aio")
    assert Lives(None, utc("2024-05-01 12:00")).life(main) == "not caught: LocalError"
    (said,) = [record.getMessage() for record in caplog.records]
    assert "`except LocalError`" in said
    assert "top level of a module" in said


# -- which functions are retried where no policy is given (S40): the table of docs/guide.md


def flaky(ctx: Context) -> int:
    return _third_time(ctx)


async def flaky_coroutine(ctx: Context) -> int:
    return _third_time(ctx)


async def flaky_with_a_step(ctx: Context) -> int:
    await ctx.run(_nothing)
    return _third_time(ctx)


def flaky_generator(ctx: Context) -> Generator[Any, Any, int]:
    yield ctx.run(_nothing)
    return _third_time(ctx)


def flaky_generator_without_steps(ctx: Context) -> Generator[Any, Any, int]:
    yield from ()
    return _third_time(ctx)


async def _nothing(ctx: Context) -> None: ...


def _third_time(ctx: Context) -> int:
    if ctx.info.attempt < 3:
        raise ConnectionError
    return ctx.info.attempt


@pytest.mark.parametrize(
    ("func", "as_a_step", "from_outside"),
    [
        (flaky, 3, 3),
        (flaky_coroutine, 3, 1),
        (flaky_with_a_step, 1, 1),
        (flaky_generator, 1, 1),
        (flaky_generator_without_steps, 1, 1),
    ],
)
def test_which_functions_are_retried_by_default(
    func: Any, as_a_step: int, from_outside: int
) -> None:
    """S40, law 11: by its kind, by whether it made a ctx call, and by how it was started."""

    async def attempts(begun: Awaitable[int]) -> int:
        try:
            return await begun
        except ConnectionError:
            return 1

    async def step(ctx: Context) -> int:
        return await attempts(ctx.run(func))

    async def remote(ctx: Context) -> int:
        return await attempts(ctx.rpc(func))

    async def main(resonate: Resonate) -> list[int]:
        for each in (func, step, remote):
            resonate.register(each)
        given = resonate.options(retry_policy=Constant(delay=1))
        await resonate.schedule("s", func, "@every 1h")
        await asyncio.sleep(3700)
        ticks = resonate.promises.search(tags={"resonate:schedule": "s"})
        (tick,) = [promise.id async for promise in ticks]
        return [
            await resonate.run("a", step),
            await attempts(resonate.run("b", func)),
            await attempts(resonate.rpc("c", func)),
            await resonate.run("d", remote),
            await attempts(resonate.get(tick)),
            await given.run("e", func),
        ]

    found = Lives(None, utc("2024-05-01 12:00")).life(main)
    assert found == [as_a_step, *[from_outside] * 4, 3]
