"""Laws 11 and 12, S40: retries, attempts and sleeps."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Generator
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateTimedoutError
from resonate_aio.retry_policies import Constant, Exponential, Never
from resonate_aio.testing import crash_everywhere

from .lives import Lives, die, once

pytestmark = pytest.mark.law

Body = Generator[Any, Any, Any]


class Failing:
    """Functions of each kind that fail a number of times, and when they were tried."""

    def __init__(self, times: int, error: Exception | None = None) -> None:
        self.times = times
        self.error = error if error is not None else ConnectionError("not yet")
        self.tried_at_s: list[float] = []
        self.attempts: list[int] = []

    def _try(self, ctx: Context, now_s: float) -> str:
        self.tried_at_s.append(now_s)
        self.attempts.append(ctx.info.attempt)
        if len(self.tried_at_s) <= self.times:
            raise self.error
        return "done"

    async def leaf(self, ctx: Context) -> str:
        return self._try(ctx, asyncio.get_running_loop().time())

    def plain(self, ctx: Context) -> str:
        return self._try(ctx, 0.0)

    async def body(self, ctx: Context) -> str:
        await ctx.run(one)
        return self._try(ctx, asyncio.get_running_loop().time())

    def generator(self, ctx: Context) -> Body:
        yield ctx.run(one)
        return self._try(ctx, asyncio.get_running_loop().time())

    def generator_without_calls(self, ctx: Context) -> Body:
        if self.times < 0:
            yield ctx.run(one)
        return self._try(ctx, asyncio.get_running_loop().time())

    @property
    def gaps_s(self) -> list[float]:
        times = self.tried_at_s
        return [round(b - a, 3) for a, b in itertools.pairwise(times)]


async def one(ctx: Context) -> int:
    return 1


def outcome_of(function: Any, **options: Any) -> str:
    """What `ctx.run(function)` gives its caller."""

    async def flow(ctx: Context) -> str:
        try:
            return str(await ctx.run(function).options(**options))
        except Exception as error:  # noqa: BLE001  whatever it gives
            return type(error).__name__

    async def main(resonate: Resonate) -> str:
        resonate.register(flow)
        return await resonate.run("f", flow)

    return str(once(main))


def test_leaf_retries_by_default_as_exponential_says() -> None:
    failing = Failing(4)

    assert outcome_of(failing.leaf) == "done"
    assert failing.attempts == [1, 2, 3, 4, 5]
    policy = Exponential()
    assert failing.gaps_s == [policy.next(n) for n in range(1, 5)] == [2, 4, 8, 16]


def test_plain_function_is_a_leaf() -> None:
    failing = Failing(2)

    assert outcome_of(failing.plain) == "done"
    assert failing.attempts == [1, 2, 3]


@pytest.mark.parametrize("kind", ["body", "generator", "generator_without_calls"])
def test_bodies_with_calls_and_generators_do_not_retry_by_default(kind: str) -> None:
    failing = Failing(1)

    assert outcome_of(getattr(failing, kind)) == "ConnectionError"
    assert failing.attempts == [1]


@pytest.mark.parametrize("kind", ["body", "generator"])
def test_an_explicit_policy_on_a_body_with_calls_is_honoured(kind: str) -> None:
    failing = Failing(2)

    assert outcome_of(getattr(failing, kind), retry_policy=Constant(delay=3)) == "done"
    assert failing.gaps_s == [3, 3]


@pytest.mark.parametrize(("kind", "tried"), [("leaf", 1), ("generator", 1), ("plain", 3)])
def test_top_level_coroutines_and_generators_do_not_retry(kind: str, tried: int) -> None:
    failing = Failing(2)

    async def main(resonate: Resonate) -> str:
        function = resonate.register(getattr(failing, kind), name="top")
        try:
            return str(await resonate.run("f", function))
        except ConnectionError:
            return "failed"

    assert once(main) == ("done" if tried == 3 else "failed")
    assert len(failing.attempts) == tried


def test_top_level_policy_of_the_client_is_honoured() -> None:
    failing = Failing(2)

    async def main(resonate: Resonate) -> str:
        function = resonate.register(failing.leaf, name="top")
        return await resonate.options(retry_policy=Constant(delay=1)).run("f", function)

    assert once(main) == "done"


def test_non_retryable_exceptions_match_subclasses() -> None:
    failing = Failing(9, KeyError("k"))

    assert outcome_of(failing.leaf, non_retryable_exceptions=(LookupError,)) == "KeyError"
    assert failing.attempts == [1]


def test_next_delay_never_passes_the_deadline() -> None:
    """Delays 2, 4, 8: the third would end after 10 s, so the second error is the outcome."""
    failing = Failing(99)

    assert outcome_of(failing.leaf, timeout=10) == "ConnectionError"
    assert failing.gaps_s == [2, 4]


def test_attempts_go_on_until_the_deadline_then_waiters_time_out() -> None:
    """Law 10."""

    async def hang(ctx: Context) -> None:
        await asyncio.sleep(1e6)

    assert outcome_of(hang, timeout=10) == ResonateTimedoutError.__name__


def test_never_is_never() -> None:
    failing = Failing(1)

    assert outcome_of(failing.leaf, retry_policy=Never()) == "ConnectionError"


def test_each_retry_is_logged_with_the_next_delay(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "resonate_aio"):
        outcome_of(Failing(2).leaf)

    assert "'f.1' failed in attempt 1, next attempt in 2 s" in caplog.text
    assert "'f.1' failed in attempt 2, next attempt in 4 s" in caplog.text


def test_a_crash_is_no_attempt() -> None:
    """Attempts count from 1 per holder."""
    attempts: list[int] = []

    async def step(ctx: Context) -> int:
        attempts.append(ctx.info.attempt)
        await asyncio.sleep(1000)
        return len(attempts)

    async def flow(ctx: Context) -> int:
        return await ctx.run(step).options(retry_policy=Constant(delay=1, max_retries=1))

    lives = Lives()

    async def first(resonate: Resonate) -> None:
        resonate.register(flow)
        resonate.begin_run("f", flow)
        await die()

    async def last(resonate: Resonate) -> int:
        resonate.register(flow)
        return await resonate.run("f", flow)

    for _ in range(3):
        lives.crash(first)
    assert lives.run(last) == 4
    assert attempts == [1, 1, 1, 1]


def test_sleep_is_never_early_and_not_reset_by_replay() -> None:
    """Law 12."""
    woke_at_s: list[float] = []

    async def flow(ctx: Context) -> None:
        await ctx.sleep(1000)
        woke_at_s.append(asyncio.get_running_loop().time())

    lives = Lives()

    async def first(resonate: Resonate) -> None:
        resonate.register(flow)
        resonate.begin_run("f", flow)
        await die(300)

    async def last(resonate: Resonate) -> None:
        resonate.register(flow)
        await resonate.run("f", flow)

    for _ in range(3):
        lives.crash(first)
    lives.run(last)
    assert len(woke_at_s) == 1
    assert 1000 <= woke_at_s[0] < 1001


def test_a_year_costs_no_thread_and_hardly_a_step() -> None:
    """Law 12: no poll."""

    async def flow(ctx: Context, seconds: float) -> None:
        await ctx.sleep(seconds)

    async def main(resonate: Resonate) -> list[int]:
        resonate.register(flow)
        loop: Any = asyncio.get_running_loop()
        steps = []
        for seconds in (1.0, 30 * 86_400.0):
            before = loop.steps
            await resonate.run(f"f{seconds}", flow, seconds)
            steps.append(loop.steps - before)
        return steps

    threads = threading.active_count()
    second, month = once(main)
    assert threading.active_count() <= threads  # one of an earlier test may end meanwhile
    assert month - second < 30 * 86_400 / 60, "less than one step a minute"


def test_a_limit_that_was_left_in_time_is_no_failure_on_a_replay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S11a: its promise was canceled, which nobody awaits in either life."""

    async def flow(ctx: Context) -> str:
        async with ctx.timeout(20):
            await ctx.run(step)
        await ctx.sleep(1)
        return "ended"

    async def step(ctx: Context) -> int:
        return 1

    async def main(resonate: Resonate) -> Any:
        resonate.register(flow)
        return await resonate.run("x", flow)

    with caplog.at_level(logging.WARNING, "resonate_aio"):
        assert crash_everywhere(main).result == "ended"
    assert not [r for r in caplog.records if "nobody awaited it" in r.getMessage()]
