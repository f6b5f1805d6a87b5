"""Several clients and groups in one process exchange calls; a lost lease stops a body (law 7)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest
from tests.robustness.lives import Life

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateCanceledError
from resonate_aio.protocol.records import TaskState
from resonate_aio.protocol.requests import (
    PromiseSearch,
    TaskAcquire,
    TaskContinue,
    TaskGet,
    TaskHalt,
)
from resonate_aio.stores.base import Store
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore

Body = Generator[Any, Any, Any]
Make = Callable[..., Resonate]


@pytest.fixture(params=["one memory store", "one SQLite store", "one file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes clients that share where promises live."""
    path = tmp_path / "app.db"
    if request.param == "one file":
        return lambda **options: Resonate.local(path=path, synchronous="NORMAL", **options)
    store: Store = (
        MemoryStore()
        if request.param == "one memory store"
        else SqliteStore(path, synchronous="NORMAL")
    )
    return lambda **options: Resonate(store=store, **options)


async def all_of(*clients: Resonate) -> None:
    await asyncio.gather(*(client.start() for client in clients))


async def stopped(*clients: Resonate) -> None:
    await asyncio.gather(*(client.stop() for client in clients))


# ------------------------------------------------------------------------------- groups and workers


async def test_three_groups_call_each_other(make: Make) -> None:
    front, stock, bank = make(), make(group="stock"), make(group="bank")
    ran: Counter[str] = Counter()

    @front.register
    async def order(ctx: Context, n: int) -> list[Any]:
        ran["front"] += 1
        reserved = await ctx.begin_rpc("reserve", n).options(target="stock")
        paid = await ctx.rpc("pay", n).options(target="bank")
        return [await reserved, paid]

    @stock.register
    def reserve(ctx: Context, n: int) -> Body:
        ran["stock"] += 1
        checked = yield ctx.rpc("check", n).options(target="bank")
        return checked + 1

    @bank.register
    async def check(ctx: Context, n: int) -> int:
        ran["bank"] += 1
        return n * 10

    @bank.register
    def pay(ctx: Context, n: int) -> str:
        ran["bank"] += 1
        return f"paid {n}"

    await all_of(front, stock, bank)
    handles = [front.begin_run(f"order-{n}", order, n) for n in range(50)]
    async with asyncio.timeout(20):
        results = await asyncio.gather(*handles)
    await stopped(front, stock, bank)
    assert results == [[10 * n + 1, f"paid {n}"] for n in range(50)]
    assert ran == {"front": 50, "stock": 50, "bank": 100}


async def test_work_waits_for_a_client_that_starts_later(make: Make) -> None:
    asking, working = make(group="asking"), make(group="working")

    @working.register
    async def work(ctx: Context, n: int) -> int:
        return n + 1

    await asking.start()
    handles = [asking.options(target="working").rpc(f"w{n}", "work", n) for n in range(20)]
    for handle in handles:
        await handle.created()
    await working.start()
    async with asyncio.timeout(20):
        assert await asyncio.gather(*handles) == [n + 1 for n in range(20)]
    await stopped(asking, working)


async def test_workers_of_one_group_share_the_work_and_none_runs_twice(make: Make) -> None:
    ran: Counter[str] = Counter()
    by: Counter[int] = Counter()
    workers = [make(group="pool") for _ in range(3)]
    asking = make(group="asking")
    for number, worker in enumerate(workers):

        async def work(ctx: Context, n: int, number: int = number) -> int:
            ran[ctx.id] += 1
            by[number] += 1
            await asyncio.sleep(0.002)
            return n

        worker.register(work)
    await all_of(asking, *workers)
    handles = [asking.options(target="pool").rpc(f"w{n}", "work", n) for n in range(60)]
    async with asyncio.timeout(20):
        assert await asyncio.gather(*handles) == list(range(60))
    await stopped(asking, *workers)
    assert set(ran.values()) == {1}
    assert len(by) > 1, "one worker did everything"


async def test_one_worker_stops_and_another_goes_on(make: Make) -> None:
    """What the first recorded is not run again by the second (law 2)."""
    ran: list[tuple[str, int]] = []
    begun = asyncio.Event()
    clients = [make(group="pool", pid=f"p{number}") for number in range(2)]
    asking = make(group="asking")

    for number, client in enumerate(clients):

        async def step(ctx: Context, n: int, number: int = number) -> int:
            ran.append((ctx.id, number))
            return n

        async def flow(ctx: Context, step: Any = step) -> list[int]:
            first = await ctx.run(step, 1)
            begun.set()
            await ctx.sleep(0.3)
            return [first, await ctx.run(step, 2)]

        client.register(flow)

    await all_of(asking, clients[0])
    handle = asking.options(target="pool").rpc("flow", "flow")
    await begun.wait()
    await clients[1].start()
    await clients[0].stop()
    async with asyncio.timeout(20):
        assert await handle == [1, 2]
    await stopped(asking, clients[1])
    assert ran == [("flow.1", 0), ("flow.3", 1)]


async def test_the_same_id_from_two_clients_is_one_execution(make: Make) -> None:
    ran: Counter[str] = Counter()
    clients = [make(group=f"g{number}") for number in range(2)]

    async def flow(ctx: Context, n: int) -> int:
        ran[ctx.id] += 1
        await ctx.sleep(0.05)
        return n

    for client in clients:
        client.register(flow)
    await all_of(*clients)
    handles = [client.begin_run(f"x{n}", flow, n) for n in range(20) for client in clients]
    async with asyncio.timeout(20):
        results = await asyncio.gather(*handles)
    assert results == [n for n in range(20) for _ in clients]
    assert set(ran.values()) == {1}
    await stopped(*clients)


async def test_one_client_cancels_what_the_other_runs(make: Make) -> None:
    holding, cancelling = make(group="a"), make(group="b")
    seen: list[str] = []
    begun = asyncio.Event()

    @holding.register
    async def flow(ctx: Context) -> None:
        try:
            begun.set()
            await ctx.sleep(3600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    await all_of(holding, cancelling)
    handle = holding.begin_run("flow", flow)
    await begun.wait()
    await cancelling.promises.cancel("flow")
    async with asyncio.timeout(5):
        with pytest.raises(ResonateCanceledError):
            await handle
        with pytest.raises(ResonateCanceledError):
            await cancelling.get("flow")
    await asyncio.sleep(0.05)
    assert seen == ["cancelled"]
    await stopped(holding, cancelling)


async def test_stopping_one_client_leaves_the_others_running(make: Make) -> None:
    first, second = make(group="a"), make(group="b")

    @second.register
    async def flow(ctx: Context) -> str:
        await ctx.sleep(0.1)
        return "went on"

    await all_of(first, second)
    handle = second.begin_run("flow", flow)
    await handle.created()
    await first.stop()
    async with asyncio.timeout(5):
        assert await handle == "went on"
    await first.start()
    assert await first.get("flow") == "went on"
    await stopped(first, second)


# ------------------------------------------------------------------------------------- a lost lease


class Stage:
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.effects: Counter[str] = Counter()

    async def step(self, ctx: Context, n: int) -> int:
        self.effects[ctx.id] += 1
        await asyncio.sleep(1)
        return n

    async def stubborn(self, ctx: Context) -> str:
        """Whatever happens, it tries to go on and to record."""
        for _ in range(3):
            try:
                await ctx.run(self.step, 1)
            except BaseException as error:  # noqa: BLE001  a stubborn body
                self.seen.append(type(error).__name__)
        return "recorded by a loser"


@pytest.mark.law
@pytest.mark.parametrize("kind", ["a step", "a sleep", "a promise", "a generator", "asyncio"])
def test_a_body_that_lost_its_lease_records_nothing(kind: str) -> None:  # noqa: C901  cases
    life, stage = Life(), Stage()

    async def work(ctx: Context) -> None:
        match kind:
            case "a step":
                await ctx.run(stage.step, 1)
            case "a sleep":
                await ctx.sleep(20)
            case "a promise":
                await (await ctx.promise(timeout=20))
            case "asyncio":
                await asyncio.sleep(20)

    async def flow(ctx: Context) -> str:
        try:
            await work(ctx)
        except BaseException as error:  # noqa: BLE001  a stubborn body
            stage.seen.append(type(error).__name__)
        return await stage.stubborn(ctx)

    def generator(ctx: Context) -> Body:
        try:
            yield ctx.sleep(20)
        except BaseException as error:  # noqa: BLE001  a stubborn body
            stage.seen.append(type(error).__name__)
        for _ in range(3):
            try:
                yield ctx.run(stage.step, 1)
            except BaseException as error:  # noqa: BLE001  a stubborn body
                stage.seen.append(type(error).__name__)
        return "recorded by a loser"

    async def main(resonate: Resonate) -> None:
        body: Any = generator if kind == "a generator" else flow
        resonate.register(body)
        resonate.begin_run("root", body)
        await asyncio.sleep(0.5)
        halted = await life.store.call(TaskHalt("root"))
        assert halted.status == 200
        before = life.settled()
        await asyncio.sleep(100)
        assert life.settled().keys() - before.keys() <= {"root.1"}, "recorded after its lease"
        assert life.state("root") == "pending"
        task = (await life.store.call(TaskGet("root"))).task
        assert task is not None
        assert task.state is TaskState.HALTED

    life.run(main)
    assert sum(stage.effects.values()) <= 2


@pytest.mark.law
def test_the_new_holders_result_is_the_one_everybody_sees() -> None:
    """A halted execution that is continued is taken up from what was recorded (laws 2 and 7)."""
    life, stage = Life(), Stage()

    async def flow(ctx: Context) -> list[int]:
        return [await ctx.run(stage.step, n) for n in range(5)]

    async def main(resonate: Resonate) -> Any:
        resonate.register(flow)
        handle = resonate.begin_run("root", flow)
        await asyncio.sleep(2.5)
        await life.store.call(TaskHalt("root"))
        await asyncio.sleep(50)
        settled = [id for id in life.settled() if id != "root"]
        counted = {id: stage.effects[id] for id in settled}
        reply = await life.store.call(TaskContinue("root"))
        assert reply.status == 200
        async with asyncio.timeout(100):
            result = await handle
        assert {id: stage.effects[id] for id in settled} == counted
        return result

    assert life.run(main) == [0, 1, 2, 3, 4]


@pytest.mark.law
def test_a_lease_taken_by_somebody_else() -> None:
    """Halted, continued and acquired by another process: the first holder records nothing."""
    life, stage = Life(), Stage()

    async def flow(ctx: Context) -> list[int]:
        return [await ctx.run(stage.step, n) for n in range(5)]

    async def main(resonate: Resonate) -> None:
        resonate.register(flow)
        resonate.begin_run("root", flow)
        await asyncio.sleep(1.5)
        store = life.store
        await store.call(TaskHalt("root"))
        await store.call(TaskContinue("root"))
        task = (await store.call(TaskGet("root"))).task
        assert task is not None
        taken = await store.call(TaskAcquire("root", task.version, "somebody", 60_000))
        assert taken.status == 200
        before = life.settled()
        await asyncio.sleep(30)
        assert life.settled() == before
        assert life.state("root") == "pending"

    life.run(main)


@pytest.mark.law
def test_random_halts_among_many() -> None:
    """Halts and continues at any time; every execution ends with its result."""
    life, stage = Life(), Stage()

    async def flow(ctx: Context, n: int) -> int:
        total = 0
        for k in range(4):
            total += await ctx.run(stage.step, n + k)
            await ctx.sleep(0.3)
        return total

    async def main(resonate: Resonate) -> Any:
        resonate.register(flow)
        handles = [resonate.begin_run(f"r{n}", flow, n) for n in range(40)]
        for turn in range(60):
            id = f"r{(turn * 7) % 40}"
            await asyncio.sleep(0.05)
            if (await life.store.call(TaskHalt(id))).status == 200:
                await asyncio.sleep(0.05)
                await life.store.call(TaskContinue(id))
        async with asyncio.timeout(1000):
            return await asyncio.gather(*handles)

    assert life.run(main) == [4 * n + 6 for n in range(40)]


async def test_nothing_is_left_pending_after_all_this(make: Make) -> None:
    """Twenty executions over two clients; at the end nobody waits for anything."""
    first, second = make(group="a"), make(group="b")

    async def pong(ctx: Context, n: int) -> int:
        return n

    async def ping(ctx: Context, n: int) -> int:
        values: list[Coroutine[Any, Any, Any]] = [
            ctx.rpc("pong", n + k).options(target="b") for k in range(3)
        ]
        return sum(await asyncio.gather(*values))

    first.register(ping)
    second.register(pong)
    await all_of(first, second)
    async with asyncio.timeout(20):
        results = await asyncio.gather(*(first.run(f"p{n}", ping, n) for n in range(20)))
    assert results == [3 * n + 3 for n in range(20)]
    reply = await first._core.store.call(PromiseSearch(limit=1000))
    assert [promise.id for promise in reply.promises if promise.settled_at_ms is None] == []
    await stopped(first, second)
