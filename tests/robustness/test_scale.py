"""Many executions, long ones and deep ones cost what they should, and no more."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.programs import PROGRAMS, World
from tests.robustness.lives import Client, live

import resonate_aio
from resonate_aio import Context, Resonate
from resonate_aio.retry_policies import Never
from resonate_aio.runtime.settings import Settings
from resonate_aio.testing.crash import MemoryStage, SqliteStage, Theatre

SOURCE = Path(resonate_aio.__file__).parents[1]

Body = Generator[Any, Any, Any]


# -------------------------------------------------------------------------------------- parked

PARKED = """
import asyncio, contextlib, ctypes, gc, sys
from resonate_aio import Resonate

COUNT, LIMIT_S = int(sys.argv[1]), 60
PATH = sys.argv[2] if len(sys.argv) > 2 else None

def rss_kib():
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what was freed is not held by anything parked
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

async def main():
    resonate = Resonate() if PATH is None else Resonate.local(path=PATH, synchronous="NORMAL")
    parked = 0

    async def sleeper(ctx, seconds):
        nonlocal parked
        parked += 1
        await ctx.sleep(seconds)
        return "slept"

    async def waiter(ctx, n):
        nonlocal parked
        gate = await ctx.promise(id=f"gate.{n}")
        parked += 1
        return await gate

    for function in (sleeper, waiter):
        resonate.register(function)
    async with resonate:
        warm = [resonate.begin_run(f"warm.{n}", sleeper, 0.01) for n in range(100)]
        await asyncio.gather(*warm)
        del warm
        parked = 0
        before = rss_kib()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        wake_s = COUNT / 800
        handles = []
        for n in range(COUNT):
            if n % 2:
                handles.append(resonate.begin_run(f"waits.{n}", waiter, n))
            else:
                handles.append(resonate.begin_run(f"sleeps.{n}", sleeper, wake_s))
            if n % 100 == 0:
                await asyncio.sleep(0)
        for handle in handles:
            await handle.created()
        while parked < COUNT:
            await asyncio.sleep(0.01)
        # What is still on its way to a busy disk is no cost of being parked: look a few times.
        readings = []
        while not readings or (len(readings) < 12 and loop.time() - begun < wake_s - 1):
            await asyncio.sleep(0.25)
            readings.append(rss_kib())
        assert loop.time() - begun < wake_s, "some have woken: that is not what parked ones cost"
        each = (min(readings) - before) / COUNT
        print("KiB", each, "parked in", loop.time() - begun)
        gates = [resonate.promises.resolve(f"gate.{n}", data="true") for n in range(1, COUNT, 2)]
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*gates)
            results = await asyncio.gather(*handles)
        assert results.count("slept") == COUNT // 2 and results.count(True) == COUNT // 2
        print("finished", loop.time() - begun)

asyncio.run(main())
"""


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_ten_thousand_parked_executions(tmp_path: Path, kind: str) -> None:
    arguments = ["10000"] + ([str(tmp_path / "app.db")] if kind == "sqlite" else [])
    done = subprocess.run(
        [sys.executable, "-c", PARKED, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    words = done.stdout.split()
    assert float(words[1]) <= 8, f"{words[1]} KiB of memory for each parked execution"
    assert "finished" in words


# ---------------------------------------------------------------------------------------- long


async def nothing(ctx: Context, n: int) -> int:
    return n


async def sequence(ctx: Context, count: int) -> int:
    total = 0
    for n in range(count):
        total += await ctx.run(nothing, n)
    return total


def generator_sequence(ctx: Context, count: int) -> Body:
    total = 0
    for n in range(count):
        total += yield ctx.run(nothing, n)
    return total


async def children(ctx: Context, count: int) -> int:
    begun = [await ctx.begin_run(nothing, n) for n in range(count)]
    return sum([await child for child in begun])


async def gathered(ctx: Context, count: int) -> int:
    return sum(await asyncio.gather(*(ctx.run(nothing, n) for n in range(count))))


def best_of(runs: int, body: Callable[..., Any], count: int, *, collects: bool) -> float:
    """Seconds per step, of the quickest of several runs."""

    async def main() -> float:
        async with Resonate() as resonate:
            resonate.register(body)
            begun = time.perf_counter()
            assert await resonate.run("one", body, count) == count * (count - 1) // 2
            return (time.perf_counter() - begun) / count

    times = []
    for _ in range(runs):
        gc.collect()
        if not collects:
            gc.disable()
        try:
            times.append(asyncio.run(main()))
        finally:
            gc.enable()
    return min(times)


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("body", [sequence, generator_sequence, children, gathered])
def test_the_ten_thousandth_costs_what_the_first_did(body: Callable[..., Any]) -> None:
    # 10,000 tasks at a time: what CPython's collector takes for looking at them is left out.
    collects = body is not gathered
    small = best_of(3, body, 1_000, collects=collects)
    large = best_of(2, body, 10_000, collects=collects)
    assert large <= 2 * small, f"{large * 1e6:.0f} us a step of 10,000, {small * 1e6:.0f} of 1,000"


MEMORY = """
import asyncio, gc, os, sys, tracemalloc
from resonate_aio import Resonate
from tests.robustness import test_scale

async def main(body, count):
    async with Resonate() as resonate:
        resonate.register(body)
        await resonate.run("warm", body, 50)
        gc.collect()
        tracemalloc.start()
        await resonate.run("one", body, count)
        print(tracemalloc.get_traced_memory()[1] / count)

asyncio.run(main(getattr(test_scale, sys.argv[1]), int(sys.argv[2])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("body", ["sequence", "gathered"])
def test_memory_is_linear_too(body: str) -> None:
    peaks = []
    for count in (1_000, 10_000):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, body, str(count)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{Path(__file__).parents[2]}"},
            timeout=60,
            check=True,
        )
        peaks.append(float(done.stdout))
    assert peaks[1] <= 1.5 * peaks[0], f"bytes at the peak, per step, of 1,000 and 10,000: {peaks}"


# ---------------------------------------------------------------------------------------- deep


async def deep(ctx: Context, n: int) -> int:
    return 0 if n == 0 else 1 + await ctx.run(deep, n - 1)


def deep_generator(ctx: Context, n: int) -> Body:
    return 0 if n == 0 else 1 + (yield ctx.run(deep_generator, n - 1))


async def deep_mixed(ctx: Context, n: int) -> int:
    return 0 if n == 0 else 1 + await ctx.run(deep_mixed_generator, n - 1)


def deep_mixed_generator(ctx: Context, n: int) -> Body:
    return 0 if n == 0 else 1 + (yield ctx.run(deep_mixed, n - 1))


async def deep_remote(ctx: Context, n: int) -> int:
    return 0 if n == 0 else 1 + int(await ctx.rpc("deep_remote", n - 1))


async def deep_gather(ctx: Context, n: int) -> int:
    return 0 if n == 0 else 1 + (await asyncio.gather(ctx.run(deep_gather, n - 1)))[0]


@pytest.mark.law
@pytest.mark.parametrize(
    "body", [deep, deep_generator, deep_mixed, deep_remote, deep_gather], ids=lambda f: f.__name__
)
async def test_a_thousand_nested_calls(body: Callable[..., Any]) -> None:
    """Nothing is started inside another body's step (S26)."""
    async with Resonate() as resonate:
        resonate.register(body)
        async with asyncio.timeout(30):
            assert await resonate.run("deep", body, 1_000) == 1_000


async def test_a_thousand_nested_calls_on_sqlite(tmp_path: Path) -> None:
    async with Resonate.local(path=tmp_path / "app.db", synchronous="NORMAL") as resonate:
        resonate.register(deep)
        async with asyncio.timeout(30):
            assert await resonate.run("deep", deep, 1_000) == 1_000


@pytest.mark.law
async def test_a_failure_a_thousand_calls_deep_comes_out() -> None:
    async def failing(ctx: Context, n: int) -> int:
        if n == 0:
            raise LookupError("at the bottom")
        return 1 + await ctx.run(failing, n - 1).options(retry_policy=Never())

    async with Resonate() as resonate:
        resonate.register(failing)
        async with asyncio.timeout(30):
            with pytest.raises(LookupError, match="at the bottom"):
                await resonate.run("deep", failing, 1_000)


@pytest.mark.law
async def test_cancel_goes_down_a_thousand_calls() -> None:
    async def down(ctx: Context, n: int) -> int:
        if n == 0:
            await asyncio.sleep(3600)
        return 1 + await ctx.run(down, n - 1)

    async def flow(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.5):
                await ctx.run(down, 1_000)
        except TimeoutError:
            return "timed out"
        return "in time"

    async with Resonate() as resonate:
        resonate.register(flow)
        async with asyncio.timeout(30):
            assert await resonate.run("flow", flow) == "timed out"


# --------------------------------------------------------------------------------- one at a time


OVERTAKING = {
    "cancel_from_inside",
    "first_completed",
    "sleep_beats_step",
    "task_group_that_fails",
    "timeout_around_gather",
}
"""Programs in which one function goes on while another executes: one worker can not do that."""

TIMED = {"rpc_given_up"}
"""After a crash the only worker may first do what its caller would have given up (S14)."""

ONE_WORKER = sorted(PROGRAMS.keys() - OVERTAKING)


@pytest.mark.law
@pytest.mark.parametrize("name", ONE_WORKER)
def test_one_worker_finishes_everything(name: str) -> None:
    program = PROGRAMS[name]

    async def main(resonate: Resonate) -> Any:
        return await program.main(resonate, World(1))

    outcome = Theatre(main, MemoryStage(), settings=Settings(workers=1)).play([])
    assert outcome.result == program.expected


@pytest.mark.law
@pytest.mark.parametrize("name", [name for name in ONE_WORKER if name not in TIMED][::3])
def test_one_worker_finishes_everything_after_crashes(name: str) -> None:
    program = PROGRAMS[name]
    world = World(1)

    async def main(resonate: Resonate) -> Any:
        nonlocal world
        world = world.next_life()
        return await program.main(resonate, world)

    settings = Settings(workers=1)
    whole = Theatre(main, MemoryStage(), settings=settings).play([])
    for point in range(1, 2 * whole.operations, max(1, whole.operations // 4)):
        world = World(1)
        outcome = Theatre(main, MemoryStage(), settings=settings).play([point])
        assert outcome.result == program.expected, f"crash at {point}"


@pytest.mark.parametrize("name", ["gather_of_calls", "mixed_fan_out", "rpc_recursion", "fan_out"])
def test_one_worker_finishes_on_sqlite(name: str) -> None:
    program = PROGRAMS[name]
    stage = SqliteStage()

    async def main(resonate: Resonate) -> Any:
        return await program.main(resonate, World(1))

    try:
        assert Theatre(main, stage, settings=Settings(workers=1)).play([]).result == (
            program.expected
        )
    finally:
        stage.close()


@pytest.mark.parametrize("workers", [1, 2, 3])
async def test_no_more_functions_execute_than_there_are_workers(workers: int) -> None:
    """Coroutines between their durable waits, generators' steps and threads all count (S27)."""
    inside = most = 0
    lock = threading.Lock()

    def enter(change: int) -> None:
        nonlocal inside, most
        with lock:
            inside += change
            most = max(most, inside)

    async def leaf(ctx: Context) -> int:
        enter(1)
        await asyncio.sleep(0.002)
        enter(-1)
        return 1

    def plain(ctx: Context) -> int:
        enter(1)
        time.sleep(0.002)
        enter(-1)
        return 1

    async def body(ctx: Context) -> int:
        enter(1)
        await asyncio.sleep(0.001)
        enter(-1)
        got = await ctx.run(leaf)
        enter(1)
        await asyncio.sleep(0.001)
        enter(-1)
        return got + int(await ctx.rpc("plain"))

    def generator(ctx: Context) -> Body:
        enter(1)
        enter(-1)
        one = yield ctx.run(plain)
        two = yield ctx.run(leaf)
        return one + two

    async def flow(ctx: Context) -> int:
        calls: list[Any] = [ctx.run(function) for function in (leaf, plain, body, generator) * 4]
        return sum(await asyncio.gather(*calls))

    async with Resonate(workers=workers) as resonate:
        for function in (plain, flow):
            resonate.register(function)
        handles = [resonate.begin_run(f"r{n}", flow) for n in range(4)]
        async with asyncio.timeout(10):
            assert await asyncio.gather(*handles) == [24, 24, 24, 24]
    assert inside == 0
    assert most <= workers
    if workers > 1:
        assert most == workers, "the slots were never full: the test shows nothing"


# ------------------------------------------------------------------------------- the loop is free


async def longest_gap(work: Awaitable[Any]) -> float:
    """The longest time that a task that only yields was kept from running."""
    longest, done = 0.0, False

    async def watch() -> None:
        nonlocal longest
        before = time.perf_counter()
        while not done:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, before = max(longest, now - before), now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        await work
    finally:
        done = True
        await watching
    return longest


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one of 20,000", "20 of 1,000", "2,000 of 5", "20,000 children"])
async def test_the_loop_is_never_blocked(kind: str) -> None:
    """Law 15, in memory, where no step ever waits for anything; the collector is not ours."""
    work: dict[str, tuple[Callable[..., Any], int, int]] = {
        "one of 20,000": (sequence, 1, 20_000),
        "20 of 1,000": (sequence, 20, 1_000),
        "2,000 of 5": (sequence, 2_000, 5),
        "20,000 children": (children, 1, 20_000),
    }
    body, executions, count = work[kind]
    async with Resonate() as resonate:
        resonate.register(body)

        async def everything() -> None:
            handles = []
            for n in range(executions):
                handles.append(resonate.begin_run(f"r{n}", body, count))
                if n % 20 == 0:
                    await asyncio.sleep(0)
            for handle in handles:
                await handle

        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            gap_s = await longest_gap(everything())
        finally:
            gc.enable()
    # A body that asks for 20,000 things without a wait is the user's own hold of the loop.
    limit_s = 0.05 if kind != "20,000 children" else 1.0
    assert gap_s < limit_s, f"the loop was held for {gap_s * 1000:.0f} ms"


async def test_a_client_takes_no_notice_of_a_slow_neighbour() -> None:
    """A function that blocks the loop delays others and loses nothing."""

    async def blocking(ctx: Context, n: int) -> int:
        time.sleep(0.05)  # noqa: ASYNC251  what must not be done, done on purpose
        return n

    async def flow(ctx: Context) -> int:
        return sum([await ctx.run(blocking, n) for n in range(5)])

    async with Resonate() as resonate:
        resonate.register(flow)
        resonate.register(sequence)
        slow = resonate.begin_run("slow", flow)
        quick = resonate.begin_run("quick", sequence, 100)
        async with asyncio.timeout(20):
            assert (await slow, await quick) == (10, 4950)


def test_ten_thousand_sleeps_on_virtual_time() -> None:
    """All that is due in one instant is carried out; none is early (law 12)."""
    woken: list[float] = []

    async def sleeper(ctx: Context, delay_s: float) -> None:
        begun = asyncio.get_running_loop().time()
        await ctx.sleep(delay_s)
        woken.append(asyncio.get_running_loop().time() - begun - delay_s)

    async def main(resonate: Client) -> None:
        resonate.register(sleeper)
        handles = [resonate.begin_run(f"s{n}", sleeper, 60.0) for n in range(10_000)]
        await asyncio.gather(*handles)

    live(main, settings=msgspec.structs.replace(Settings(), queue_slice_s=1.0))
    assert len(woken) == 10_000
    assert min(woken) >= -1e-6
    assert max(woken) < 0.1
