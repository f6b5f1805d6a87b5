"""Law 1: an id in use is joined, whoever uses it; law 6: nobody waits for another's cut."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateCanceledError, ResonateError
from resonate_aio.protocol.records import Promise
from resonate_aio.retry_policies import Never
from resonate_aio.runtime import sharing
from resonate_aio.runtime.awaitables import DurableCall
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore
from resonate_aio.testing import crash_everywhere, simulated

STORES = ["memory", "sqlite"]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("way", ["begin_run", "begin_rpc"])
def test_a_local_call_of_an_execution_that_runs_joins_it(store: Any, way: str) -> None:
    """Laws 1, 7: only its holder runs and records it; a crash changes nothing of that."""
    effects: Counter[str] = Counter()

    async def main(resonate: Resonate) -> Any:
        begun: Counter[str] = Counter()

        @resonate.register
        async def root(ctx: Context) -> str:
            begun[ctx.id] += 1
            await ctx.run(step)
            await ctx.sleep(1)
            return "its outcome"

        async def step(ctx: Context) -> None:
            effects[ctx.id] += 1
            await asyncio.sleep(0.2)

        @resonate.register
        async def caller(ctx: Context) -> str:
            return await ctx.run(root).options(id="root")

        running = getattr(resonate, way)("root", root)
        await running.created()
        joined = resonate.begin_run("caller", caller)
        outcomes = [await joined, await running]
        assert begun["root"] <= 1, "once in each life"
        return outcomes

    report = crash_everywhere(main, store=store, effects=effects, name=f"joins {way}")

    assert report.result == ["its outcome", "its outcome"]


@pytest.mark.parametrize("store", STORES)
def test_who_gives_up_a_joined_execution_does_not_end_it(store: Any) -> None:
    """S10, as of an rpc: the wait ends; the execution is not its body's to cut."""

    async def main(resonate: Resonate) -> Any:
        @resonate.register
        async def root(ctx: Context) -> str:
            await ctx.sleep(100)
            return "its outcome"

        @resonate.register
        async def impatient(ctx: Context) -> str:
            try:
                async with ctx.timeout(1):
                    return await ctx.run(root).options(id="root")
            except TimeoutError:
                pass
            await ctx.sleep(1)
            return "gave up"

        running = resonate.begin_run("root", root)
        await running.created()
        gave_up = await resonate.begin_run("impatient", impatient)
        return [gave_up, await running]

    report = crash_everywhere(main, store=store, name="impatient")

    assert report.result == ["gave up", "its outcome"]


class Runs:
    """How often a function was begun, and that it never ran twice at a time."""

    def __init__(self) -> None:
        self.begun = 0
        self.running = 0

    def __enter__(self) -> None:
        self.begun += 1
        self.running += 1
        assert self.running == 1, "one call of an id runs it, the others join"

    def __exit__(self, *_: object) -> None:
        self.running -= 1


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("seed", range(3))
def test_one_of_many_executions_runs_the_id(store: Any, seed: int) -> None:
    """Law 1: the others join it; whoever asks first in the next life runs it then."""
    effects: Counter[str] = Counter()
    lives: list[Runs] = []

    async def main(resonate: Resonate) -> Any:
        runs = Runs()
        lives.append(runs)

        async def shared(ctx: Context) -> int:
            with runs:
                both = await asyncio.gather(ctx.run(step, 1), ctx.run(step, 2))
                return sum(both) + int(await ctx.run(step, 3).options(id="its own"))

        async def step(ctx: Context, n: int) -> int:
            effects[ctx.id] += 1
            await asyncio.sleep(0.1 * ((n + seed) % 3))
            return n

        @resonate.register
        async def flow(ctx: Context, n: int) -> int:
            await ctx.sleep(0.05 * ((n * seed) % 4))
            return await ctx.run(shared).options(id="shared")

        handles = [resonate.begin_run(f"flow {n}", flow, n) for n in range(4)]
        return [await handle for handle in handles]

    report = crash_everywhere(main, store=store, effects=effects, name=f"sharing {seed}")

    assert report.result == [6] * 4
    assert lives[0].begun == 1, "no crash: once"


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("delay_s", [0.0, 0.5], ids=["runs it", "joined it"])
@pytest.mark.parametrize("how", ["asyncio.timeout", "ctx.timeout", "child", "generator"])
def test_who_gives_up_a_shared_call_does_not_end_it(store: Any, delay_s: float, how: str) -> None:
    """S10, as of an rpc: while others wait for it, the wait merely ends and the work goes on."""
    effects: Counter[str] = Counter()

    async def main(resonate: Resonate) -> Any:
        runs = Runs()

        async def slow(ctx: Context) -> str:
            with runs:
                return "".join([await ctx.run(step, c) for c in "abcdefghijkl"])

        async def step(ctx: Context, c: str) -> str:
            effects[ctx.id] += 1
            await asyncio.sleep(0.3)
            return c

        async def nested(ctx: Context) -> str:
            return await ctx.run(slow).options(id="shared")

        def yielding(ctx: Context) -> Any:
            return (yield ctx.run(slow).options(id="shared"))

        @resonate.register
        async def impatient(ctx: Context) -> str:
            await ctx.sleep(delay_s)
            limit: Any = ctx.timeout(1) if how == "ctx.timeout" else asyncio.timeout(1)
            try:
                async with limit:
                    match how:
                        case "child":
                            await ctx.run(nested)
                        case "generator":
                            await ctx.run(yielding)
                        case _:
                            await ctx.run(slow).options(id="shared")
            except TimeoutError:
                return await ctx.run(step, "gave up")
            return "had it"

        @resonate.register
        async def patient(ctx: Context) -> str:
            await ctx.sleep(0.25)
            return await ctx.run(slow).options(id="shared")

        handles = [
            resonate.begin_run("impatient", impatient),
            resonate.begin_run("patient", patient),
            resonate.begin_run("patient too", patient),
        ]
        return [await handle for handle in handles]

    report = crash_everywhere(main, store=store, effects=effects, name=f"gives up {how}")

    assert report.result == ["gave up", "abcdefghijkl", "abcdefghijkl"]


@pytest.mark.parametrize("store", STORES)
def test_what_an_execution_ran_for_others_goes_on_without_it(store: Any) -> None:
    """Law 6, S13: its execution is canceled in the middle; the next one takes it over."""

    async def main(resonate: Resonate) -> Any:
        runs = Runs()

        async def slow(ctx: Context) -> str:
            with runs:
                return "".join([await ctx.run(step, c) for c in "abcdef"])

        async def step(ctx: Context, c: str) -> str:
            await asyncio.sleep(0.3)
            return c

        @resonate.register
        async def first(ctx: Context) -> str:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.run(slow).options(id="shared"))
            return "ended"

        @resonate.register
        async def second(ctx: Context) -> str:
            await ctx.sleep(0.2)
            return await ctx.run(slow).options(id="shared")

        one = resonate.begin_run("first", first)
        two = resonate.begin_run("second", second)
        await one.created()
        await asyncio.sleep(0.7)
        await resonate.promises.cancel("first")
        outcomes: list[str] = []
        for handle in (one, two):
            try:
                outcomes.append(await handle)
            except ResonateError as error:
                outcomes.append(type(error).__name__)
        return outcomes

    report = crash_everywhere(main, store=store, name="goes on")

    assert report.result == ["ResonateCanceledError", "abcdef"]


@pytest.mark.parametrize("store", STORES)
def test_calls_of_one_body_share_too(store: Any) -> None:
    """A failing group interrupts both: the last one that waits cuts it (S10)."""

    async def main(resonate: Resonate) -> Any:
        runs = Runs()

        async def slow(ctx: Context) -> str:
            with runs:
                await ctx.run(nap)
                await ctx.run(nap)
                return "never"

        async def nap(ctx: Context) -> None:
            await asyncio.sleep(3)

        async def fails(ctx: Context) -> None:
            await asyncio.sleep(1)
            raise ValueError("enough")

        @resonate.register
        async def flow(ctx: Context) -> str:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(3):
                        group.create_task(ctx.run(slow).options(id="shared"))
                    group.create_task(ctx.run(fails).options(retry_policy=Never()))
            except* ValueError:
                pass
            await ctx.run(nap)
            return "went on"

        return await resonate.begin_run("flow", flow)

    report = crash_everywhere(main, store=store, name="one body")

    assert report.result == "went on"


@pytest.mark.parametrize("store", STORES)
def test_who_comes_after_a_cut_hears_of_it(store: Any) -> None:
    """Laws 1, 6: the id had its outcome, and that is nothing which the other's program did."""

    async def main(resonate: Resonate) -> Any:
        async def slow(ctx: Context) -> str:
            await asyncio.sleep(100)
            return "never"

        @resonate.register
        async def impatient(ctx: Context) -> str:
            try:
                async with ctx.timeout(1):
                    return await ctx.run(slow).options(id="shared")
            except TimeoutError:
                return "gave up"

        @resonate.register
        async def late(ctx: Context) -> str:
            try:
                return await ctx.run(slow).options(id="shared")
            except ResonateCanceledError:
                return "was told"

        return [
            await resonate.begin_run("impatient", impatient),
            await resonate.begin_run("late", late),
        ]

    report = crash_everywhere(main, store=store, name="sharing")

    assert report.result == ["gave up", "was told"]


@pytest.mark.parametrize("store", STORES)
async def test_a_client_goes_on_with_what_another_ran(store: str, tmp_path: Path) -> None:
    """Law 6: two clients of one store in one process; the one that runs the id stops."""
    one = MemoryStore()
    path = str(tmp_path / "app.db")
    first, second = (
        Resonate(store=one if store == "memory" else SqliteStore(path), group=group)
        for group in ("first", "second")
    )
    naps: Counter[str] = Counter()

    async def slow(ctx: Context) -> int:
        return sum([await ctx.run(nap, n) for n in range(4)])

    async def nap(ctx: Context, n: int) -> int:
        await asyncio.sleep(0.05)
        naps[ctx.id] += 1
        return n

    async def flow(ctx: Context) -> int:
        return await ctx.run(slow).options(id="shared")

    first.register(flow, name="one")
    second.register(flow, name="two")
    async with second:
        async with first:
            first.begin_run("one", "one")
            await asyncio.sleep(0.02)
            joined = second.begin_run("two", "two")
            await asyncio.sleep(0.1)
        assert await joined.result(timeout=5) == 6

    assert max(naps.values()) == 1


class SlowToLoad(MemoryStore):
    """What is recorded of an execution takes a while to read."""

    async def load(self, root: str) -> list[Promise]:
        await asyncio.sleep(0.2)
        return await super().load(root)


@simulated
async def test_who_gives_up_before_it_has_taken_over_runs_nothing(resonate: Resonate) -> None:
    """Laws 9, 16: the next one takes over at once, and nothing is left of the first."""
    runs = Runs()
    clock = resonate._core.clock
    client = Resonate(store=SlowToLoad(clock=clock), clock=clock)

    async def slow(ctx: Context) -> str:
        with runs:
            return "".join([await ctx.run(step, c) for c in "abc"])

    async def step(ctx: Context, c: str) -> str:
        await asyncio.sleep(1)
        return c

    @client.register
    async def flow(ctx: Context, limit_s: float) -> str:
        try:
            async with ctx.timeout(limit_s):
                return await ctx.run(slow).options(id="shared")
        except TimeoutError:
            await ctx.sleep(0.15)
            return "gave up"

    async with client:
        first = await client.begin_run("first", flow, 0.5).created()
        await asyncio.sleep(0.1)
        second = client.begin_run("second", flow, 0.5)
        third = client.begin_run("third", flow, 100.0)
        outcomes = [await handle for handle in (first, second, third)]

    assert outcomes == ["gave up", "gave up", "abc"]
    assert runs.begun == 2, "by the first, then by the third"


def test_the_account_of_who_runs_an_id_keeps_no_call_alive() -> None:
    """Law 16: a call leads to its store; one that a loop left behind would keep both for ever."""
    runners = sharing.Runners()
    call: DurableCall[Any] = DurableCall.__new__(DurableCall)
    runners.by_id["shared"] = call
    assert len(runners.by_id) == 1

    del call
    gc.collect()

    assert not runners.by_id
