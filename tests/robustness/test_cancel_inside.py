"""A cancel from inside a body does what S10 says, on the first run and again on replay (S11).

Each case is a body in which one wait is cancelled. The first life is killed while the body is
parked behind that, the second one replays it to the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import pytest
from tests.robustness.lives import Client, Life, live, passes

from resonate_aio import Context
from resonate_aio.protocol.records import PromiseState

pytestmark = pytest.mark.law

Body = Generator[Any, Any, Any]
Seen = list[Any]

# ------------------------------------------------------------------- what the cases are made of


class Stage:
    """What the functions of a case share: effects, and a thread's way out."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()
        self.release = threading.Event()

    async def note(self, ctx: Context, value: Any) -> Any:
        self.effects[ctx.id] += 1
        return value

    async def hang(self, ctx: Context) -> str:
        self.effects[ctx.id] += 1
        await asyncio.sleep(1e6)
        return "late"

    async def slow(self, ctx: Context) -> str:
        self.effects[ctx.id] += 1
        await asyncio.sleep(50)
        return "late"

    async def stubborn(self, ctx: Context) -> str:
        self.effects[ctx.id] += 1
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1e6)
        return "stubborn"

    def block(self, ctx: Context) -> str:
        self.effects[ctx.id] += 1
        self.release.wait(20)
        return "late"

    def generator(self, ctx: Context) -> Body:
        try:
            yield ctx.run(self.hang)
        except asyncio.CancelledError:
            yield ctx.run(self.note, "clean-up")
            raise

    def stubborn_generator(self, ctx: Context) -> Body:
        try:
            yield ctx.run(self.hang)
        except asyncio.CancelledError:
            return (yield ctx.run(self.note, "kept on"))

    async def cleaning(self, ctx: Context) -> str:
        try:
            return await ctx.run(self.hang)
        finally:
            await ctx.run(self.note, "clean-up")

    async def stubborn_body(self, ctx: Context) -> str:
        try:
            return await ctx.run(self.hang)
        except asyncio.CancelledError:
            return await ctx.run(self.note, "kept on")

    async def failing_clean_up(self, ctx: Context) -> str:
        try:
            return await ctx.run(self.hang)
        finally:
            raise ValueError("clean-up failed")


Case = Callable[[Context, Stage], Coroutine[Any, Any, Seen]]
CASES: dict[str, tuple[Case, Seen, dict[str, str]]] = {}


def case(expected: Seen, states: dict[str, str]) -> Callable[[Case], Case]:
    """A case, what its body sees, and the states of its records when the body is parked."""

    def add(made: Case) -> Case:
        CASES[made.__name__] = (made, expected, states)
        return made

    return add


async def cancelled(task: asyncio.Task[Any], ctx: Context, stage: Stage) -> Any:
    """Let it start, cancel it from inside, and say what came of it."""
    await ctx.run(stage.note, "go")
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return "interrupted"
    except Exception as error:  # noqa: BLE001  any outcome is worth a look
        return type(error).__name__


def begin(call: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(call)


# The call is number 1, "go" number 2: what S10 says of each kind.


@case(["interrupted"], {"1": "cut"})
async def leaf(ctx: Context, stage: Stage) -> Seen:
    return [await cancelled(begin(ctx.run(stage.hang)), ctx, stage)]


@case(["stubborn"], {"1": "resolved"})
async def leaf_that_returns_a_value(ctx: Context, stage: Stage) -> Seen:
    return [await cancelled(begin(ctx.run(stage.stubborn)), ctx, stage)]


@case(["interrupted"], {"1": "cut"})
async def plain_function(ctx: Context, stage: Stage) -> Seen:
    result = await cancelled(begin(ctx.run(stage.block)), ctx, stage)
    stage.release.set()
    return [result]


@case(["interrupted"], {"1": "cut", "1.1": "cut", "1.2": "resolved"})
async def generator_child(ctx: Context, stage: Stage) -> Seen:
    return [await cancelled(begin(ctx.run(stage.generator)), ctx, stage)]


@case(["kept on"], {"1": "resolved", "1.1": "cut", "1.2": "resolved"})
async def generator_that_returns_a_value(ctx: Context, stage: Stage) -> Seen:
    return [await cancelled(begin(ctx.run(stage.stubborn_generator)), ctx, stage)]


@case(["interrupted"], {"1": "cut", "1.1": "cut", "1.2": "resolved"})
async def body_with_a_clean_up_step(ctx: Context, stage: Stage) -> Seen:
    return [await cancelled(begin(ctx.run(stage.cleaning)), ctx, stage)]


@case(["kept on"], {"1": "resolved", "1.1": "cut", "1.2": "resolved"})
async def body_that_returns_a_value(ctx: Context, stage: Stage) -> Seen:
    return [await cancelled(begin(ctx.run(stage.stubborn_body)), ctx, stage)]


@case(["interrupted"], {"1": "cut", "1.1": "cut"})
async def body_whose_clean_up_fails(ctx: Context, stage: Stage) -> Seen:
    return [await cancelled(begin(ctx.run(stage.failing_clean_up)), ctx, stage)]


@case(["interrupted"], {"1": "pending"})
async def remote_call(ctx: Context, stage: Stage) -> Seen:
    return [await cancelled(begin(ctx.rpc("slow")), ctx, stage)]


@case(["interrupted"], {"1": "pending"})
async def sleep(ctx: Context, stage: Stage) -> Seen:
    return [await cancelled(begin(ctx.sleep(50)), ctx, stage)]


@case(["interrupted"], {"1": "pending"})
async def promise(ctx: Context, stage: Stage) -> Seen:
    answer = await ctx.promise(timeout=50)
    return [await cancelled(asyncio.ensure_future(answer), ctx, stage)]


@case(["interrupted", "late"], {"1": "resolved"})
async def promise_of_a_local_child(ctx: Context, stage: Stage) -> Seen:
    child = await ctx.begin_run(stage.slow)
    return [await cancelled(asyncio.ensure_future(child), ctx, stage), await child]


@case(["interrupted", "late"], {"1": "resolved"})
async def promise_of_a_remote_call(ctx: Context, stage: Stage) -> Seen:
    child = await ctx.begin_rpc("slow")
    return [await cancelled(asyncio.ensure_future(child), ctx, stage), await child]


@case(["interrupted"], {"1": "resolved"})
async def child_that_has_already_ended(ctx: Context, stage: Stage) -> Seen:
    task = begin(ctx.run(stage.note, "value"))
    await passes(4)  # it has ended; the body is not quiescent yet, so nothing is given
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        return [await task]
    return ["interrupted"]


@case(["interrupted", "slept"], {"1": "cut"})
async def cancelled_twice(ctx: Context, stage: Stage) -> Seen:
    task = begin(ctx.run(stage.cleaning))
    await ctx.run(stage.note, "go")
    task.cancel()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        return [await task]
    await ctx.sleep(1)
    return ["interrupted", "slept"]


@case(["stubborn", "interrupted", 3], {"1": "resolved", "2": "cut", "3": "resolved"})
async def the_cancel_stays_with_its_task(ctx: Context, stage: Stage) -> Seen:
    seen: Seen = []
    try:
        async with asyncio.timeout(5):
            seen.append(await ctx.run(stage.stubborn))
            seen.append(await ctx.run(stage.hang))
    except TimeoutError:
        seen.append("interrupted")
    return [*seen, await ctx.run(stage.note, 3)]


@case(["stubborn", 2], {"1": "resolved", "2": "resolved"})
async def the_cancel_is_dropped_with_its_timeout(ctx: Context, stage: Stage) -> Seen:
    seen: Seen = []
    try:
        async with asyncio.timeout(5):
            seen.append(await ctx.run(stage.stubborn))
    except TimeoutError:  # asyncio raises it only where a cancel comes through
        seen.append("too late")
    return [*seen, await ctx.run(stage.note, 2)]


@case(["TimeoutError", "TimeoutError"], {"1": "cut", "2": "pending"})
async def timeouts_one_after_the_other(ctx: Context, stage: Stage) -> Seen:
    seen: Seen = []
    for call in (ctx.run(stage.hang), ctx.rpc("slow")):
        try:
            async with asyncio.timeout(5):
                await call
        except TimeoutError as error:
            seen.append(type(error).__name__)
    return seen


@case([["cut", "cut", 3]], {"1": "cut", "2": "cut", "3": "resolved"})
async def failing_task_group(ctx: Context, stage: Stage) -> Seen:
    tasks: list[asyncio.Task[Any]] = []

    async def fail() -> None:
        await ctx.run(stage.note, "go")
        raise ValueError

    with contextlib.suppress(BaseExceptionGroup):
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(ctx.run(stage.hang)) for _ in range(2)]
            group.create_task(fail())
    marks = ["cut" if task.cancelled() else "not cut" for task in tasks]
    return [[*marks, await ctx.run(stage.note, 3)]]


@case(["outer", "shielded"], {"1": "resolved"})
async def shielded_call(ctx: Context, stage: Stage) -> Seen:
    call = begin(ctx.run(stage.slow))
    try:
        async with asyncio.timeout(5):
            await asyncio.shield(call)
    except TimeoutError:
        first = await ctx.run(stage.note, "outer")
        return [first, "shielded" if await call == "late" else "lost"]
    return ["no timeout"]


@case(["interrupted", 2], {"1": "cut"})
async def before_the_first_step(ctx: Context, stage: Stage) -> Seen:
    task = begin(ctx.run(stage.hang))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        return [await task]
    return ["interrupted", await ctx.run(stage.note, 2)]


@case(["interrupted", 2], {})
async def helper_before_its_first_call(ctx: Context, stage: Stage) -> Seen:
    async def helper() -> None:
        await asyncio.sleep(1000)
        await ctx.run(stage.hang)

    task = asyncio.create_task(helper())
    await ctx.run(stage.note, "go")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
        return ["not interrupted"]
    return ["interrupted", await ctx.run(stage.note, 2)]


# ------------------------------------------------------------------------------------ the law


def play(made: Case, stage: Stage, seen_by: list[Seen]) -> Callable[[Client], Awaitable[Any]]:
    async def flow(ctx: Context) -> Seen:
        seen = await made(ctx, stage)
        seen_by.append(seen)
        gate = await ctx.promise(id="gate")
        await gate
        return await ctx.run(stage.note, seen)

    async def main(resonate: Client) -> Any:
        resonate.register(flow)
        resonate.register(stage.slow)
        return resonate.begin_run("flow", flow)

    return main


@pytest.mark.parametrize("name", CASES)
def test_first_run_and_replay(name: str) -> None:
    made, expected, states = CASES[name]
    stage, seen_by = Stage(), list[Seen]()
    main = play(made, stage, seen_by)
    first = Life()

    async def until_parked(resonate: Client) -> None:
        await main(resonate)
        async with asyncio.timeout(100_000):
            while not seen_by:  # noqa: ASYNC110  virtual time
                await asyncio.sleep(1)
        await asyncio.sleep(1)

    first.run_killed(until_parked)
    assert seen_by == [expected]
    assert {id: first.state(f"flow.{id}") for id in states} == states
    effects = Counter(stage.effects)
    recorded = first.settled()

    second = Life(first)

    async def to_the_end(resonate: Client) -> Any:
        handle = await main(resonate)
        while len(seen_by) < 2 and not handle.done():  # noqa: ASYNC110  virtual time
            await asyncio.sleep(1)
        await asyncio.sleep(1)
        await resonate.promises.resolve(id="gate", data="true")
        return await handle

    # What was given up ends on its own; a body does not wait for it.
    begun_s = second.loop.time()
    assert second.run(to_the_end) == expected
    assert second.loop.time() - begun_s < 1000
    assert seen_by == [expected, expected], "first run and replay differ (law 3, S11)"
    settled_effects = {id: count for id, count in stage.effects.items() if id in recorded}
    assert settled_effects == {id: count for id, count in effects.items() if id in recorded}
    assert {id: value for id, value in second.settled().items() if id in recorded} == recorded


@pytest.mark.parametrize("name", CASES)
def test_a_run_without_a_crash(name: str) -> None:
    made, expected, _ = CASES[name]
    stage, seen_by = Stage(), list[Seen]()
    main = play(made, stage, seen_by)

    async def whole(resonate: Client) -> Any:
        await resonate.promises.create(id="gate", timeout_in=1e7)
        handle = await main(resonate)
        await asyncio.sleep(200)
        await resonate.promises.resolve(id="gate", data="true")
        return await handle

    assert live(whole) == expected


# ------------------------------------------------------------------- loops under a time limit


def step_kinds(stage: Stage) -> dict[str, Callable[[Context], Any]]:
    async def quick(ctx: Context) -> int:
        await asyncio.sleep(0.3)
        return 1

    async def body(ctx: Context) -> int:
        return int(await ctx.run(quick))

    def generator(ctx: Context) -> Body:
        return (yield ctx.run(quick))

    def plain(ctx: Context) -> int:
        return 1

    async def never_interrupted(ctx: Context) -> int:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.3)
        return 1

    async def plain_and_sleep(ctx: Context) -> None:
        await ctx.run(plain)
        await ctx.sleep(0.1)

    async def begun(ctx: Context) -> None:
        await (await ctx.begin_run(quick))

    async def swallowed(ctx: Context) -> None:
        with contextlib.suppress(ValueError):
            await ctx.run(quick)

    return {
        "leaf": lambda ctx: ctx.run(quick),
        "stubborn leaf": lambda ctx: ctx.run(never_interrupted),
        "body": lambda ctx: ctx.run(body),
        "generator": lambda ctx: ctx.run(generator),
        "plain function": plain_and_sleep,
        "sleep": lambda ctx: ctx.sleep(0.3),
        "begun": begun,
        "swallowed": swallowed,
        "not durable": lambda ctx: ctx.run(quick).options(durable=False),
        "gather": lambda ctx: asyncio.gather(ctx.run(quick), ctx.run(quick)),
        "remote": lambda ctx: ctx.rpc("slow"),
        "explicit limit": lambda ctx: ctx.run(quick).options(timeout=1000),
    }


@pytest.mark.parametrize("durable", [False, True], ids=["asyncio.timeout", "ctx.timeout"])
@pytest.mark.parametrize("kind", step_kinds(Stage()))
def test_a_limit_around_an_endless_loop_ends_it(kind: str, durable: bool) -> None:
    stage = Stage()
    step = step_kinds(stage)[kind]
    turns: list[int] = []

    async def flow(ctx: Context) -> str:
        turns.append(0)
        try:
            async with ctx.timeout(5) if durable else asyncio.timeout(5):
                while True:
                    await step(ctx)
                    turns[-1] += 1
                    assert turns[-1] < 1000
        except TimeoutError:
            await ctx.run(stage.note, "limit")
        gate = await ctx.promise(id="gate")
        return str(await gate)

    first = Life()

    async def until_parked(resonate: Client) -> None:
        resonate.register(flow)
        resonate.register(stage.slow)
        resonate.begin_run("flow", flow)
        async with asyncio.timeout(60):
            while "gate" not in first.ids():  # noqa: ASYNC110  virtual time
                await asyncio.sleep(0.5)

    first.run_killed(until_parked)
    second = Life(first)

    async def to_the_end(resonate: Client) -> Any:
        resonate.register(flow)
        resonate.register(stage.slow)
        handle = resonate.begin_run("flow", flow)
        async with asyncio.timeout(60):
            while len(turns) < 2:  # noqa: ASYNC110  virtual time
                await asyncio.sleep(0.5)
            await asyncio.sleep(20)  # the timer of asyncio.timeout runs again
            await resonate.promises.resolve(id="gate", data=json.dumps("done"))
            return await handle

    assert second.run(to_the_end) == "done"
    assert turns[0] == turns[1]
    assert all(promise.state is not PromiseState.REJECTED for promise in _all(second))


def _all(life: Life) -> list[Any]:
    return list(life.store.machine.promises.values())
