"""A stop lets what executes come to rest and records it (K18, law 16, S30; `stop(timeout=)`)."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections import Counter
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.robustness.lives import Client, Life, live

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateShutdownError
from resonate_aio.retry_policies import Constant, Never
from resonate_aio.runtime.settings import Settings

pytestmark = pytest.mark.law

Body = Generator[Any, Any, Any]


class Steps:
    """Steps that take their time; each start of one is counted."""

    def __init__(self) -> None:
        self.starts: Counter[str] = Counter()

    async def lasting(self, ctx: Context, duration_s: float) -> float:
        self.starts[ctx.id] += 1
        await asyncio.sleep(duration_s)
        return duration_s


def test_steps_that_end_in_time_are_recorded_and_do_not_run_again() -> None:
    """Under every kind of body; what takes longer is cut, and runs again in the next life."""
    life, steps = Life(), Steps()
    resonate = life.resonate

    @resonate.register
    async def sequence(ctx: Context) -> float:
        return await ctx.run(steps.lasting, 3) + await ctx.run(steps.lasting, 1)

    @resonate.register
    def generator(ctx: Context) -> Body:
        return (yield ctx.run(steps.lasting, 2)) + (yield ctx.run(steps.lasting, 1))

    @resonate.register
    async def concurrent(ctx: Context) -> list[float]:
        calls = (ctx.run(steps.lasting, seconds) for seconds in (2, 4, 100))
        return list(await asyncio.gather(*calls))

    async def whole() -> list[Any]:
        functions = [sequence, generator, concurrent]
        handles = [resonate.begin_run(function.__name__, function) for function in functions]
        await asyncio.sleep(1)
        begun_s = life.loop.time()
        await resonate.stop(timeout=10)
        assert life.loop.time() - begun_s == pytest.approx(10, abs=0.01)
        for handle in handles:
            with pytest.raises(ResonateShutdownError):
                await handle
        # The next step of each was asked for by nobody: parked bodies are given nothing.
        assert set(steps.starts) == {
            "sequence.1",
            "generator.1",
            "concurrent.1",
            "concurrent.2",
            "concurrent.3",
        }
        done = {"sequence.1", "generator.1", "concurrent.1", "concurrent.2"}
        assert life.settled().keys() == done
        results = [await resonate.run(function.__name__, function) for function in functions]
        await resonate.stop()
        assert all(steps.starts[id] == 1 for id in done)
        assert steps.starts["concurrent.3"] == 2
        return results

    assert life.run_bare(whole()) == [4, 3, [2, 4, 100]]
    life.check_nothing_left()


def test_the_stop_ends_with_the_last_step() -> None:
    life, steps = Life(), Steps()
    resonate = life.resonate

    async def whole() -> None:
        resonate.register(steps.lasting, name="lasting")
        handles = [resonate.begin_run(f"step-{n}", steps.lasting, n) for n in (2, 3)]
        await asyncio.sleep(1)
        await resonate.stop(timeout=timedelta(minutes=1))
        assert life.loop.time() == pytest.approx(3, abs=0.01)
        assert [await handle for handle in handles] == [2, 3]  # they hear it, as ever

    life.run_bare(whole())
    life.check_nothing_left()


def test_nobody_waits_where_no_step_runs() -> None:
    life = Life()
    resonate = life.resonate

    async def asleep(ctx: Context) -> None:
        await ctx.sleep(1000)

    async def parked(ctx: Context) -> Any:
        async def helper() -> Any:
            return await ctx.promise(id="answer")

        async with asyncio.timeout(1000):
            return await asyncio.gather(helper(), ctx.run(asleep))

    async def whole() -> None:
        resonate.register(parked)
        resonate.begin_run("parked", parked)
        await asyncio.sleep(1)
        await resonate.stop(timeout=60)
        assert life.loop.time() == 1

    life.run_bare(whole())
    life.check_nothing_left()


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_begins_any_more(workers: int) -> None:
    """Not what waits for a slot (S27), not the next attempt (S40), no child, no other execution."""
    life, steps = Life(settings=Settings(workers=workers)), Steps()
    resonate = life.resonate
    attempts = 0

    async def failing(ctx: Context) -> None:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(2)
        raise ValueError("once more")

    async def between(ctx: Context) -> Any:
        await asyncio.sleep(2)
        return await ctx.run(steps.lasting, 1)

    async def whole() -> None:
        for function in (failing, between):
            resonate.register(function)
        resonate.register(steps.lasting, name="lasting")
        resonate.options(retry_policy=Constant(delay=1)).begin_run("failing", failing)
        resonate.begin_run("between", between)
        for n in range(5):
            resonate.begin_run(f"waits-{n}", steps.lasting, 1)
        await asyncio.sleep(1)
        await resonate.stop(timeout=60)
        assert life.loop.time() <= 4
        assert attempts == 1
        assert not steps.starts
        assert not life.settled()

    life.run_bare(whole())
    life.check_nothing_left()


def test_a_body_between_two_waits_comes_to_its_end() -> None:
    life = Life()
    resonate = life.resonate
    ends = 0

    async def instant(ctx: Context) -> int:
        return 1

    async def flow(ctx: Context) -> int:
        nonlocal ends
        value = await ctx.run(instant)
        await asyncio.sleep(5)
        ends += 1
        return value + 1

    async def whole() -> None:
        resonate.register(flow)
        handle = resonate.begin_run("flow", flow)
        await asyncio.sleep(1)
        await resonate.stop(timeout=60)
        assert await handle == 2
        assert await resonate.run("flow", flow) == 2
        await resonate.stop()
        assert ends == 1

    life.run_bare(whole())
    life.check_nothing_left()


@pytest.mark.parametrize("retries", [True, False])
def test_that_the_client_stops_is_no_outcome_of_a_step(retries: bool) -> None:
    """A step that asks the stopping client for something runs again in the next life (law 8)."""
    life = Life()
    resonate = life.resonate
    runs = 0

    async def asking(ctx: Context) -> str:
        nonlocal runs
        runs += 1
        if runs == 1:
            await asyncio.sleep(2)
            await resonate.run("other", other)
        return "asked"

    async def other(ctx: Context) -> None:
        pass

    async def flow(ctx: Context) -> str:
        call = ctx.run(asking)
        return await (call if retries else call.options(retry_policy=Never()))

    async def whole() -> None:
        for function in (flow, other):
            resonate.register(function)
        resonate.begin_run("flow", flow)
        await asyncio.sleep(1)
        await resonate.stop(timeout=60)
        assert life.loop.time() < 3
        assert not life.settled()
        assert await resonate.run("flow", flow) == "asked"
        await resonate.stop()

    life.run_bare(whole())
    life.check_nothing_left()


class Slow:
    """An encoder that takes its time."""

    async def encode(self, data: Any) -> str:
        await asyncio.sleep(1)
        return base64.b64encode(str(data).encode()).decode()

    async def decode(self, text: str | None) -> Any:
        return eval(base64.b64decode(text or ""))


def test_an_outcome_is_encoded_and_recorded() -> None:
    """K9: an encoder is part of the way of an outcome."""
    life, steps = Life(), Steps()
    resonate = life.resonate

    async def flow(ctx: Context) -> float:
        return await ctx.run(steps.lasting, 2).options(encoder=Slow())

    async def whole() -> None:
        resonate.register(flow)
        resonate.begin_run("flow", flow)
        while not steps.starts:  # noqa: ASYNC110  its start is what is counted
            await asyncio.sleep(0.1)
        await resonate.stop(timeout=60)
        assert life.settled().keys() == {"flow.1"}
        assert await resonate.run("flow", flow) == 2
        await resonate.stop()
        assert steps.starts == {"flow.1": 1}

    life.run_bare(whole())
    life.check_nothing_left()


async def test_a_function_on_a_thread_may_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """F2: a plain function needs 50 ms more; it is recorded, nothing is said of it (S28)."""
    begun = threading.Event()
    runs = 0

    def plain(ctx: Context) -> str:
        nonlocal runs
        runs += 1
        begun.set()
        time.sleep(0.05)
        return "mail sent"

    async def flow(ctx: Context) -> str:
        return await ctx.run(plain)

    resonate = Resonate.local(path=tmp_path / "app.db")
    resonate.register(flow)
    async with resonate:
        handle = resonate.begin_run("flow", flow)
        while not begun.is_set():  # noqa: ASYNC110  a thread's event
            await asyncio.sleep(0.001)
    with pytest.raises(ResonateShutdownError):
        await handle
    async with resonate:
        assert await resonate.run("flow", flow) == "mail sent"
    assert runs == 1
    assert not [record for record in caplog.records if "still runs" in record.getMessage()]


@pytest.mark.parametrize("how", ["alone", "in a group", "as a cause", "meanwhile", "awaited"])
async def test_an_error_that_the_stop_led_to_is_no_outcome(how: str) -> None:
    """Law 8: whatever the function makes of what its client told it."""
    resonate = Resonate.local()
    begun = asyncio.Event()

    async def tells() -> None:
        await resonate.promises.resolve("told", value=1)

    async def waits() -> None:
        await resonate.run("below", below)

    async def below(ctx: Context) -> None:
        await asyncio.sleep(0.1)

    async def flow(ctx: Context) -> str:
        begun.set()
        await asyncio.sleep(0.01)
        match how:
            case "in a group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(tells())
            case "as a cause":
                try:
                    await tells()
                except ResonateShutdownError as error:
                    raise RuntimeError("nobody was told") from error
            case "meanwhile":
                try:
                    await tells()
                except ResonateShutdownError:
                    raise RuntimeError("nobody was told")  # noqa: B904  that is what is tried
            case "awaited":
                async with asyncio.TaskGroup() as group:
                    group.create_task(waits())
            case _:
                await tells()
        return "told"

    async def top(ctx: Context) -> str:
        return await ctx.run(flow).options(retry_policy=Never())

    resonate.register(top)
    resonate.register(below)
    async with resonate:
        await resonate.promises.create("told", timeout_in=100)
        handle = resonate.begin_run("top", top)
        await begun.wait()
    with pytest.raises(ResonateShutdownError):
        await handle
    async with resonate:
        assert await resonate.run("top", top) == "told"


# ------------------------------------------------------------------------------------ how long


def test_how_long_by_default_by_the_client_and_by_the_call() -> None:
    for given, asked, waited_s in [
        (None, None, Settings().grace_s),
        (7, None, 7),
        (timedelta(seconds=7), 2, 2),
        (7, 0, 0),
        (0, None, 0),
    ]:
        life = Life()
        life.resonate = Client(store=life.store, clock=life.clock, stop_timeout=given)

        async def whole(life: Life = life, asked: float | None = asked) -> None:
            resonate = life.resonate
            resonate.register(Steps().lasting, name="lasting")
            resonate.begin_run("step", "lasting", 1e6)
            await asyncio.sleep(1)
            await resonate.stop(timeout=asked)

        life.run_bare(whole())
        assert life.loop.time() - 1 == pytest.approx(waited_s, abs=0.01)
        life.check_nothing_left()


@pytest.mark.parametrize(("bad", "error"), [(-1, ValueError), ("3", TypeError), (True, TypeError)])
def test_what_is_no_time_is_refused(bad: Any, error: type[Exception]) -> None:
    async def main(resonate: Client) -> None:
        with pytest.raises(error, match="timeout"):
            await resonate.stop(timeout=bad)

    live(main)
    with pytest.raises(error, match="stop_timeout"):
        Resonate(stop_timeout=bad)
