"""`stop()` during everything is bounded and leaves nothing behind; start goes on (law 16, S31)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.programs import PROGRAMS, World
from tests.robustness.lives import Client, Life, live, passes

from resonate_aio import Context, Handle, Resonate
from resonate_aio.errors import ResonateShutdownError
from resonate_aio.runtime.settings import Settings

pytestmark = pytest.mark.law

Body = Generator[Any, Any, Any]

POINTS = 25
"""Runs of each program; each is stopped at another step of its loop."""

RACES = {
    "first_completed",
    "first_completed_promises",
    "rpc_given_up",
    "task_group_that_fails",
    "timeout_around_a_promise",
}
"""What comes first in these is for the clock to say; what ends during a stop is a tie there."""

UGLY = ("never retrieved", "was destroyed", "never awaited", "this is a bug", "chore failed")


@pytest.fixture(autouse=True)
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Everything that was logged; at the end nothing of it was ugly."""
    caplog.set_level(logging.INFO)

    def messages() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    yield messages
    gc.collect()
    ugly = [text for text in messages() if any(words in text for words in UGLY)]
    assert not ugly


def our_threads() -> list[threading.Thread]:
    """Threads that are neither Python's nor anyio's pool."""
    return [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not hasattr(thread, "idle_workers")
    ]


# --------------------------------------------------------------------- at every point, everywhere


def steps_of(name: str) -> tuple[int, bool, dict[str, tuple[str, str | None]]]:
    """An undisturbed run: how many steps it has, and whether it calls the client once only.

    A program that calls it again after stop() would start it again, as it may.
    """
    life = Life()

    async def main(resonate: Client) -> Any:
        return await PROGRAMS[name].main(resonate, World(1))

    assert life.run(main) == PROGRAMS[name].expected
    calls = len(life.resonate.begun) + life.resonate.gets
    one_call = calls == 1 and not life.resonate.settles_from_outside
    return life.loop.steps, one_call, life.settled()


async def _main(program: Awaitable[Any]) -> Any:
    return await program


def stopped_at(name: str, step: int, *, cancel_main: bool, grace_s: float) -> Life:
    program = PROGRAMS[name]
    life, world = Life(), World(1)
    loop, resonate = life.loop, life.resonate
    ends: list[Any] = []
    now: asyncio.Future[None] = loop.create_future()

    async def wait_for(handle: Handle[Any]) -> None:
        """Beside the program: a pending handle ends with the client."""
        try:
            await handle
        except Exception as error:  # noqa: BLE001  how it ended is what the test looks at
            ends.append(error)

    async def whole() -> Any:
        waiters: list[asyncio.Task[None]] = []
        resonate.heard = lambda handle: waiters.append(loop.create_task(wait_for(handle)))
        main: asyncio.Task[Any] = loop.create_task(_main(program.main(resonate, world)))
        loop.before_step(step, lambda: None if now.done() else now.set_result(None))
        await asyncio.wait([main, now], return_when=asyncio.FIRST_COMPLETED)
        if cancel_main:
            main.cancel()
        begun_s = loop.time()
        await resonate.stop(timeout=grace_s)
        assert loop.time() - begun_s <= 0.5 + grace_s, "stop() took too long"
        done, _ = await asyncio.wait([main], timeout=1)
        assert done, "the program was not told that its client stopped"
        if not main.cancelled() and (error := main.exception()) is not None:
            assert isinstance(error, ResonateShutdownError), repr(error)
        if waiters:
            done, pending = await asyncio.wait(waiters, timeout=1)
            assert not pending, "a handle was left pending"
        await passes(3)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, f"tasks left behind: {left}"
        assert not loop.live_timers(), f"timers left behind: {loop.live_timers()}"
        assert loop.get_task_factory() is None
        resonate.heard = None
        done_before = {id: world.effects[id] for id in life.settled()}
        world._attempts.clear()  # what is counted per life of a worker
        again = await program.main(resonate, world)
        await resonate.stop()
        assert {id: world.effects[id] for id in done_before} == done_before, "a step ran again"
        return again

    assert life.run_bare(whole()) == program.expected, f"{name} stopped at step {step}"
    life.check_nothing_left()
    loop.close()
    return life


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_stopped_at_a_random_step_and_started_again(name: str) -> None:
    steps, one_call, settled = steps_of(name)
    rng = random.Random(name)
    for _ in range(POINTS):
        cancel_main = not one_call or rng.random() < 0.5
        grace_s = 0 if name in RACES else rng.choice([0, 0.01, 1, 60])
        step = rng.randrange(steps)
        life = stopped_at(name, step, cancel_main=cancel_main, grace_s=grace_s)
        if not PROGRAMS[name].values_vary:
            after = life.settled()
            assert {id: after.get(id) for id in settled} == settled
    assert not our_threads()


# -------------------------------------------------------------------------------- when, and by whom


async def hang(ctx: Context) -> str:
    await asyncio.sleep(1e6)
    return "late"


async def short(ctx: Context) -> str:
    await ctx.sleep(5)
    return "done"


async def test_stop_before_start_and_twice() -> None:
    resonate = Resonate()
    await resonate.stop()
    await resonate.start()
    await resonate.stop()
    await resonate.stop()
    await resonate.start()
    await resonate.start()
    await resonate.stop()


def test_stop_during_start() -> None:
    for step in range(12):
        life = Life()

        async def whole(life: Life = life, step: int = step) -> Any:
            resonate = life.resonate
            resonate.register(short)
            starting = asyncio.create_task(resonate.start())
            await passes(step)
            await resonate.stop()
            await starting
            result = await resonate.run("short", short)
            await resonate.stop()
            return result

        assert life.run_bare(whole()) == "done"
        life.check_nothing_left()


def test_twenty_stops_and_starts_at_a_time() -> None:
    for seed in range(20):
        life = Life()
        rng = random.Random(seed)

        async def whole(life: Life = life, rng: random.Random = rng) -> Any:
            resonate = life.resonate
            resonate.register(short)
            first = resonate.begin_run("short", short)
            await passes(rng.randrange(10))
            moves: list[Any] = [resonate.stop() for _ in range(20)]
            moves += [resonate.start() for _ in range(rng.randrange(20))]
            rng.shuffle(moves)
            await asyncio.gather(*moves)
            outcome = await asyncio.gather(first, return_exceptions=True)
            assert outcome[0] == "done" or isinstance(outcome[0], ResonateShutdownError)
            result = await resonate.run("short", short)
            await asyncio.gather(*(resonate.stop() for _ in range(20)))
            return result

        assert life.run_bare(whole()) == "done"
        life.check_nothing_left()


def test_stop_from_a_task_that_is_cancelled() -> None:
    """Cancelling whoever asked leaves nothing half done."""
    for step in range(15):
        life = Life()

        async def whole(life: Life = life, step: int = step) -> Any:
            resonate = life.resonate
            resonate.register(hang)
            resonate.register(short)
            handle = resonate.begin_run("hang", hang)
            await passes(5)
            stopping = asyncio.create_task(resonate.stop())
            await passes(step)
            stopping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await stopping
            await passes(1)
            if step:
                with pytest.raises(ResonateShutdownError):
                    await handle
            result = await resonate.run("short", short)
            await resonate.stop()
            return result

        assert life.run_bare(whole()) == "done"
        life.check_nothing_left()


@pytest.mark.parametrize("kind", ["leaf", "body", "generator", "concurrent"])
def test_stop_from_inside_a_function(kind: str) -> None:
    """The function that asked is ended by its own stop; nothing blocks."""
    life = Life()
    resonate = life.resonate
    runs: list[str] = []

    async def stopping(ctx: Context) -> str:
        runs.append(ctx.id)
        if len(runs) == 1:
            await resonate.stop()
            raise AssertionError("the frame that stops its client ends there")
        return "second run"

    async def body(ctx: Context) -> str:
        return await ctx.run(stopping)

    def generator(ctx: Context) -> Body:
        return (yield ctx.run(stopping))

    async def concurrent(ctx: Context) -> str:
        return (await asyncio.gather(ctx.run(stopping), ctx.sleep(10)))[0]

    async def whole() -> Any:
        function = {"leaf": stopping}.get(kind) or locals_[kind]
        resonate.register(function)
        with pytest.raises(ResonateShutdownError):
            await resonate.run("root", function)
        async with asyncio.timeout(60):
            result = await resonate.run("root", function)
        await resonate.stop()
        return result

    locals_: dict[str, Any] = {"body": body, "generator": generator, "concurrent": concurrent}
    assert life.run_bare(whole()) == "second run"
    life.check_nothing_left()
    assert len(runs) == 2


def test_pending_handles_of_every_kind_end_with_the_client() -> None:
    async def main(resonate: Client) -> None:
        resonate.register(hang)
        run = resonate.begin_run("hang", hang)
        rpc = resonate.rpc("remote", "unknown")
        await rpc.created()
        promise = await resonate.promises.create("promise", timeout_in=1e6)
        got = resonate.get(promise.id)
        unborn = resonate.begin_run("unborn", hang)
        waits = [asyncio.create_task(handle.result()) for handle in (run, rpc, got, unborn)]
        await resonate.stop()
        for wait in waits:
            with pytest.raises(ResonateShutdownError):
                await wait
        for handle in (run, rpc, got, unborn):
            assert handle.done()
            with pytest.raises(ResonateShutdownError, match=handle.id):
                await handle

    live(main)


# ------------------------------------------------------------------------------- what will not die


def test_a_body_that_catches_every_cancel_does_not_block(said: Callable[[], list[str]]) -> None:
    life = Life()
    turns = 0

    async def immortal(ctx: Context) -> str:
        nonlocal turns
        while True:
            turns += 1
            assert turns < 100_000
            try:
                await ctx.sleep(1e6)
            except asyncio.CancelledError:
                continue

    async def whole() -> None:
        resonate = life.resonate
        resonate.register(immortal)
        resonate.register(short)
        handle = resonate.begin_run("immortal", immortal)
        await asyncio.sleep(1)
        begun_s = life.loop.time()
        await resonate.stop()
        assert life.loop.time() - begun_s <= Settings().stop_s + 0.1
        with pytest.raises(ResonateShutdownError):
            await handle
        assert [text for text in said() if "'immortal'" in text and "did not end" in text]
        assert await resonate.run("short", short) == "done"  # others live on
        await resonate.promises.cancel("immortal")
        await resonate.stop()

    life.run_bare(whole())
    assert turns < 200
    assert not life.loop.exceptions


def test_a_generator_that_catches_every_cancel_does_not_block(
    said: Callable[[], list[str]],
) -> None:
    life = Life()
    turns = 0

    def immortal(ctx: Context) -> Body:
        nonlocal turns
        while True:
            turns += 1
            assert turns < 100_000
            with contextlib.suppress(asyncio.CancelledError):
                yield ctx.sleep(1e6)

    async def whole() -> None:
        resonate = life.resonate
        resonate.register(immortal)
        resonate.begin_run("immortal", immortal)
        await asyncio.sleep(1)
        begun_s = life.loop.time()
        await resonate.stop()
        assert life.loop.time() - begun_s <= Settings().stop_s + 0.1
        assert [text for text in said() if "'immortal'" in text and "did not end" in text]

    life.run_bare(whole())
    assert turns < 200
    life.check_nothing_left()


def test_finally_that_takes_its_time_is_waited_for() -> None:
    life = Life()
    ended: list[float] = []

    async def slow_to_end(ctx: Context) -> str:
        try:
            return await ctx.run(hang)
        finally:
            await asyncio.sleep(3)
            ended.append(life.loop.time())

    async def whole() -> None:
        resonate = life.resonate
        resonate.register(slow_to_end)
        resonate.begin_run("slow", slow_to_end)
        await asyncio.sleep(1)
        await resonate.stop()
        assert ended == [life.loop.time()]

    life.run_bare(whole())
    life.check_nothing_left()


@pytest.mark.slow
async def test_a_function_on_a_thread_is_named_and_left(said: Callable[[], list[str]]) -> None:
    release = threading.Event()
    begun = threading.Event()

    def blocking(ctx: Context) -> str:
        begun.set()
        release.wait(20)
        return "late"

    async def flow(ctx: Context) -> str:
        return await ctx.run(blocking)

    resonate = Resonate()
    resonate.register(flow)
    handle = resonate.begin_run("root", flow)
    while not begun.is_set():  # noqa: ASYNC110  a thread's event
        await asyncio.sleep(0.01)
    begun_s = time.monotonic()
    await resonate.stop(timeout=0.1)
    assert time.monotonic() - begun_s < 1
    with pytest.raises(ResonateShutdownError):
        await handle
    assert [text for text in said() if "'root.1'" in text and "still runs on its thread" in text]
    release.set()
    again = resonate.begin_run("root", flow)
    assert await again == "late"  # computed again, by the new life of the client
    await resonate.stop()


# --------------------------------------------------------------- one client, several loops


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("orderly", [True, False], ids=["stopped", "not stopped"])
def test_one_client_on_two_loops_one_after_the_other(
    tmp_path: Path, kind: str, orderly: bool
) -> None:
    resonate = Resonate() if kind == "memory" else Resonate.local(path=tmp_path / "app.db")
    steps: list[str] = []

    @resonate.register
    async def step(ctx: Context, value: int) -> int:
        steps.append(ctx.id)
        return value

    @resonate.register
    async def flow(ctx: Context) -> Any:
        first = await ctx.run(step, 1)
        gate = await ctx.promise(id="gate")
        return [first, await ctx.run(step, 2), await gate]

    async def first() -> None:
        resonate.begin_run("flow", flow)
        while len(steps) < 2:  # noqa: ASYNC110  it is at its promise a little later
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        if orderly:
            await resonate.stop()

    async def second() -> Any:
        handle = resonate.begin_run("flow", flow)
        await handle.created()
        await resonate.promises.resolve("gate", data=json.dumps("open"))
        async with asyncio.timeout(20):
            result = await handle
        await resonate.stop()
        return result

    asyncio.run(first())
    assert asyncio.run(second()) == [1, 2, "open"]
    assert steps == ["flow.1", "flow.3"]
    assert asyncio.run(second()) == [1, 2, "open"]
    assert not our_threads()


async def test_sqlite_leaves_no_thread_and_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    for turn in range(5):
        resonate = Resonate.local(path=path)
        resonate.register(hang)
        handle = resonate.begin_run(f"hang-{turn}", hang)
        await handle.created()
        assert our_threads()
        await resonate.stop(timeout=0)
        assert not our_threads()
        with pytest.raises(ResonateShutdownError):
            await handle


# ------------------------------------------------------------------------------ a great many


async def test_children_that_have_not_heard_of_the_stop_yet_are_not_to_blame(
    said: Callable[[], list[str]],
) -> None:
    """S31, law 16: the time that frames have begins when the cancel has reached them."""
    children = 4000
    ended = 0

    async def child(ctx: Context) -> None:
        nonlocal ended
        try:
            await asyncio.sleep(1e6)
        finally:
            time.sleep(0.0001)  # noqa: ASYNC251  what each takes is longer than all may take
            ended += 1

    async def country(ctx: Context) -> None:
        await asyncio.gather(*(ctx.run(child) for _ in range(children)))

    resonate = Resonate(settings=Settings(stop_s=0.01))
    resonate.register(country)
    resonate.begin_run("country", country)
    await asyncio.sleep(0.05)
    begun_s = time.monotonic()
    while len(asyncio.all_tasks()) < 2 * children:
        await asyncio.sleep(0.01)
        assert time.monotonic() - begun_s < 20
    await resonate.stop(timeout=0)
    assert ended == children
    assert not [text for text in said() if "did not end" in text]


def dropping_costs(children: int) -> tuple[int, int]:
    """How many loop steps and how many objects for the garbage collector a stop leaves."""
    life = Life()

    async def country(ctx: Context) -> None:
        await asyncio.gather(*(ctx.run(hang) for _ in range(children)))

    async def whole() -> tuple[int, int]:
        resonate = life.resonate
        resonate.register(country)
        resonate.begin_run("country", country)
        await asyncio.sleep(1)
        gc.collect()
        gc.disable()
        try:
            before = life.loop.steps
            await resonate.stop(timeout=0)
            steps = life.loop.steps - before
            return steps, gc.collect()
        finally:
            gc.enable()

    costs = life.run_bare(whole())
    life.check_nothing_left()
    return costs


def test_dropping_many_frames_costs_as_much_for_each() -> None:
    """Cost grows linearly (DESIGN §6), and their errors keep no frames for the collector."""
    few_steps, few_objects = dropping_costs(200)
    many_steps, many_objects = dropping_costs(800)
    assert many_steps <= 4.2 * few_steps
    assert many_objects / 800 <= 12, (few_objects, many_objects)
