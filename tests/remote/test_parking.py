"""Idle executions on a server where leases are dear (S64): no heartbeats, frames that stay."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from tests.remote.rules import LENIENT, NEWEST, SimRules
from tests.remote.world import World, fault_once

from resonate_aio import Context
from resonate_aio.protocol.dialects import Dialect
from resonate_aio.protocol.records import PromiseState, TaskState, Value
from resonate_aio.protocol.requests import PromiseSettle, TaskAcquire, TaskRelease


class Parked(World):
    """A server on which executions are parked, and a client that counts what it runs."""

    def __init__(self, rules: SimRules = NEWEST, dialect: Dialect = Dialect.DOT) -> None:
        super().__init__(rules)
        self.entered: Counter[str] = Counter()
        self.resonate = self.client(dialect=dialect)
        self.resonate.register(self.approval)
        self.resonate.register(self.nap)
        self.resonate.register(self.impatient)
        self.resonate.register(self.busy)

    async def step(self, ctx: Context, what: str) -> str:
        self.entered[ctx.id] += 1
        return what

    async def approval(self, ctx: Context) -> list[str]:
        self.entered[ctx.id] += 1
        promise = await ctx.promise()
        answers = [str(await promise)]
        answers.append(await ctx.run(self.step, "after"))
        return answers

    async def nap(self, ctx: Context, seconds: float) -> str:
        self.entered[ctx.id] += 1
        await ctx.run(self.step, "before")
        await ctx.sleep(seconds)
        return str(await ctx.run(self.step, "after"))

    async def impatient(self, ctx: Context, seconds: float) -> str:
        self.entered[ctx.id] += 1
        try:
            async with asyncio.timeout(seconds):
                await ctx.sleep(100_000)
        except TimeoutError:
            return await ctx.run(self.step, "gave up")
        return "slept"

    async def busy(self, ctx: Context, seconds: float) -> str:
        self.entered[ctx.id] += 1
        promise = await ctx.begin_run(self.hangs, seconds)
        return str(await promise)

    async def hangs(self, ctx: Context, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    def settle(self, id: str, data: str = '"yes"') -> None:
        request = PromiseSettle(id, PromiseState.RESOLVED, Value(data=data))
        assert self.server.machine.handle(request, self.clock.now_ms()).status == 200
        self.server._effects()

    def states(self) -> Counter[str]:
        tasks = self.server.machine.tasks
        return Counter(task.state for id, task in tasks.items() if "." not in id and ":" not in id)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_what_only_waits_costs_nothing_and_goes_on_where_it_was(dialect: Dialect) -> None:
    world = Parked(SimRules(origins=dialect, sweeps_targeted=True), dialect)
    joint = "." if dialect is Dialect.DOT else ":"
    count = 300

    async def main() -> tuple[Any, int]:
        async with world.resonate as client:
            handles = [client.begin_run(f"x{n}", world.approval) for n in range(count)]
            await asyncio.sleep(60)
            assert world.states() == {TaskState.SUSPENDED: count}
            before = len(world.server.requests)
            await asyncio.sleep(300)
            quiet = len(world.server.requests) - before
            for n in range(count):
                world.settle(f"x{n}{joint}1")
            return [await handle for handle in handles], quiet

    results, quiet = world.run(main)
    assert results == [["yes", "after"]] * count
    # Each would have cost 90 heartbeats and 30 reads; now and then somebody looks at a promise.
    assert quiet < 3 * count
    assert set(world.entered.values()) == {1}, "every frame went on where it was"
    assert {world.task(f"x{n}").version for n in range(count)} == {2}


def test_a_long_sleep_wakes_by_its_own_timer() -> None:
    world = Parked()

    async def main() -> tuple[Any, float]:
        async with world.resonate as client:
            handles = [client.begin_run(f"x{n}", world.nap, 3600) for n in range(20)]
            await asyncio.sleep(120)
            assert world.states() == {TaskState.SUSPENDED: 20}
            results = [await handle for handle in handles]
            return results, world.loop.time()

    results, took_s = world.run(main)
    assert results == ["after"] * 20
    assert 3600 <= took_s < 3605
    assert set(world.entered.values()) == {1}


def test_a_frame_that_moves_first_takes_its_task_again() -> None:
    """Asyncio's own timers know nothing of the server: the write waits for the claim."""
    world = Parked()

    async def main() -> Any:
        async with world.resonate as client:
            handle = client.begin_run("x", world.impatient, 100)
            await asyncio.sleep(60)
            assert world.task("x").state is TaskState.SUSPENDED
            return await handle

    assert world.run(main) == "gave up"
    assert world.entered == {"x": 1, "x.2": 1}
    assert world.loop.time() < 103


def test_what_runs_or_waits_elsewhere_keeps_its_lease() -> None:
    world = Parked()

    async def foreign(ctx: Context) -> str:
        return str(await (await ctx.promise(id="somewhere-else")))

    world.resonate.register(foreign)

    async def main() -> Any:
        async with world.resonate as client:
            busy = client.begin_run("busy", world.busy, 100)
            other = client.begin_run("foreign", foreign)
            await asyncio.sleep(60)
            assert world.task("busy").state is TaskState.ACQUIRED
            # S62: a callback between two origins is refused, so it is not suspended.
            assert world.task("foreign").state is TaskState.ACQUIRED
            world.settle("somewhere-else")
            return await busy, await other

    assert world.run(main) == ("done", "yes")
    assert world.kinds()["task.suspend"] == 0


def test_where_leases_are_cheap_nothing_is_parked() -> None:
    world = Parked(LENIENT)

    async def main() -> Any:
        async with world.resonate as client:
            handle = client.begin_run("x", world.approval)
            await asyncio.sleep(100)
            assert world.task("x").state is TaskState.ACQUIRED
            world.settle("x.1")
            return await handle

    assert world.run(main) == ["yes", "after"]


def test_what_somebody_else_took_over_is_dropped_here() -> None:
    """The version tells: another worker held it meanwhile."""
    world = Parked()

    async def main() -> Any:
        async with world.resonate as client:
            handle = client.begin_run("x", world.approval)
            await asyncio.sleep(60)
            assert world.task("x").state is TaskState.SUSPENDED
            machine, now_ms = world.server.machine, world.clock.now_ms
            world.settle("x.1", '"answered"')
            world.server.streams.clear()  # nobody here hears of it
            machine.outbox.clear()
            assert machine.handle(TaskAcquire("x", 1, "other", 10_000), now_ms()).status == 200
            assert machine.handle(TaskRelease("x", 2), now_ms()).status == 200
            return await handle

    assert world.run(main) == ["answered", "after"]
    assert world.entered == {"x": 2, "x.2": 1}, "dropped here, then taken anew and replayed"


def test_a_parked_execution_that_is_cancelled_ends() -> None:
    world = Parked()

    async def main() -> Any:
        async with world.resonate as client:
            handle = client.begin_run("x", world.approval)
            await asyncio.sleep(60)
            assert world.task("x").state is TaskState.SUSPENDED
            await client.promises.cancel("x")
            with pytest.raises(Exception, match="cancel"):
                await handle
            await asyncio.sleep(1)
            worker = client._core.worker
            assert worker is not None
            return len(worker.executions)

    assert world.run(main) == 0


def test_stop_leaves_parked_executions_to_whoever_they_are_offered_to() -> None:
    world = Parked()
    second = world.client("default")
    second.register(world.approval)

    async def main() -> Any:
        async with world.resonate as client:
            client.begin_run("x", world.approval)
            await asyncio.sleep(60)
            assert world.task("x").state is TaskState.SUSPENDED
        await asyncio.sleep(5)
        async with second:
            world.settle("x.1")
            handle: Any = second.get("x")
            return await handle.result()

    assert world.run(main) == ["yes", "after"]


@pytest.mark.parametrize("fault", ["lose", "twice", "502", "refuse"])
@pytest.mark.parametrize("kind", ["task.suspend", "task.acquire", "promise.settle"])
def test_lost_answers_while_parking_and_waking(kind: str, fault: str) -> None:
    world = Parked()

    async def main() -> Any:
        async with world.resonate as client:
            world.net.fault = fault_once((kind, fault))
            handles: list[Any] = [
                client.begin_run("a", world.approval),
                client.begin_run("b", world.impatient, 70),
            ]
            await asyncio.sleep(90)
            world.settle("a.1")
            return [await handle for handle in handles]

    assert world.run(main) == [["yes", "after"], "gave up"]
    assert world.entered["a.2"] == 1
    assert world.entered["b.2"] == 1
