"""The system's clock: never backwards, never still (law 12)."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from resonate_aio import Context, Resonate, clock
from resonate_aio.clock import SystemClock

HOUR_MS = 3_600_000


class Clocks:
    """The machine's clocks, as a test sets them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_ms = 1_000_000_000_000
        self.ticks_ms = 5_000
        monkeypatch.setattr(clock, "_wall", clock._Wall())
        monkeypatch.setattr(clock, "time_ns", lambda: self.wall_ms * 1_000_000)
        monkeypatch.setattr(clock, "monotonic_ns", lambda: self.ticks_ms * 1_000_000)

    def go_on(self, ms: int) -> None:
        self.wall_ms += ms
        self.ticks_ms += ms


def test_a_step_back_is_not_followed_and_time_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the pace of the monotonic clock, until the wall clock has caught up."""
    clocks = Clocks(monkeypatch)
    told = SystemClock()
    began_ms = told.now_ms()
    assert began_ms == clocks.wall_ms

    clocks.wall_ms -= HOUR_MS
    assert told.now_ms() == began_ms
    clocks.go_on(1_500)
    assert told.now_ms() == began_ms + 1_500
    clocks.wall_ms += HOUR_MS - 500  # corrected, nearly
    assert told.now_ms() == began_ms + 1_500
    clocks.go_on(700)
    assert told.now_ms() == clocks.wall_ms == began_ms + 1_700
    clocks.wall_ms += 900
    assert told.now_ms() == clocks.wall_ms == began_ms + 2_600


def test_a_second_step_back_is_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on from the time it comes at, wherever the wall clock was before."""
    clocks = Clocks(monkeypatch)
    told = SystemClock()
    for _ in range(3):
        before_ms = told.now_ms()
        clocks.wall_ms -= 60_000
        clocks.go_on(10)
        assert told.now_ms() == before_ms
        clocks.go_on(10)
        assert told.now_ms() == before_ms + 10
        clocks.wall_ms += 2 * HOUR_MS
        assert told.now_ms() == clocks.wall_ms


def test_all_clocks_of_a_process_tell_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's writes what the store's judges, whichever was read before the step."""
    clocks = Clocks(monkeypatch)
    read, unread = SystemClock(), SystemClock()
    before_ms = read.now_ms()
    clocks.wall_ms -= HOUR_MS
    assert unread.now_ms() == read.now_ms() == before_ms


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_sleeps_and_limits_after_a_step_back(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither early nor an hour late (law 12)."""
    behind_ns = 0
    monkeypatch.setattr(clock, "_wall", clock._Wall())
    monkeypatch.setattr(clock, "time_ns", lambda: time.time_ns() - behind_ns)

    async def sleeps(ctx: Context) -> None:
        await ctx.sleep(0.3)

    async def is_limited(ctx: Context) -> None:
        try:
            async with ctx.timeout(0.3):
                await asyncio.sleep(5)
        except TimeoutError:
            return
        raise AssertionError

    async def works(ctx: Context) -> None:
        await ctx.run(sleeps).options(timeout=5)

    resonate = Resonate() if store == "memory" else Resonate.local(path=tmp_path / "a.db")
    async with resonate:
        await resonate.promises.create("idle", timeout_in=0.1)
        await asyncio.sleep(0.15)
        behind_ns = HOUR_MS * 1_000_000
        for function in (sleeps, is_limited, works):
            resonate.register(function)
            began = time.monotonic()
            await resonate.begin_run(function.__name__, function).result(timeout=5)
            assert 0.29 < time.monotonic() - began < 3
