"""`async def` programs that do one thing after the other."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateTimedoutError
from resonate_aio.retry_policies import Constant, Never

from .base import World, program


@program(expected=[3, 13, 26])
async def sequence(resonate: Resonate, world: World) -> Any:
    """Three steps, each fed by the one before."""

    @resonate.register
    async def flow(ctx: Context, start: int) -> list[int]:
        first = await ctx.run(world.add, start, 2)
        second = await ctx.run(world.add, first, 10)
        third = await ctx.run(world.add, second, second)
        return [first, second, third]

    return await resonate.run("sequence", flow, 1)


@program(expected=15)
async def loop(resonate: Resonate, world: World) -> Any:
    """The same call again and again."""

    @resonate.register
    async def flow(ctx: Context, times: int) -> int:
        total = 0
        for n in range(times):
            total = await ctx.run(world.add, total, n)
        return total

    return await resonate.run("loop", flow, 6)


@program(expected=[6, 3, 10, 5, 16, 8, 4, 2, 1])
async def steered_loop(resonate: Resonate, world: World) -> Any:
    """Recorded values decide which step comes next and when the loop ends."""

    async def halve(ctx: Context, n: int) -> int:
        await world.work(ctx)
        return n // 2

    async def triple(ctx: Context, n: int) -> int:
        await world.work(ctx)
        return 3 * n + 1

    @resonate.register
    async def flow(ctx: Context, n: int) -> list[int]:
        seen = [n]
        while seen[-1] != 1:
            step = triple if seen[-1] % 2 else halve
            seen.append(await ctx.run(step, seen[-1]))
        return seen

    return await resonate.run("steered_loop", flow, 6)


@program(expected={"sum": 10, "deep": 103})
async def nested(resonate: Resonate, world: World) -> Any:
    """Bodies that call bodies that call steps."""

    async def inner(ctx: Context, n: int) -> int:
        one = await ctx.run(world.add, n, 1)
        return await ctx.run(world.add, one, 1)

    async def middle(ctx: Context, n: int) -> int:
        low = await ctx.run(inner, n)
        high = await ctx.run(inner, n + 1)
        return low + high

    @resonate.register
    async def flow(ctx: Context) -> dict[str, int]:
        total = await ctx.run(middle, 2) + await ctx.run(world.add, 0, 1)
        return {"sum": total, "deep": await ctx.run(inner, 101)}

    return await resonate.run("nested", flow)


@program(expected=5)
async def recursion(resonate: Resonate, world: World) -> Any:
    """A function that calls itself."""

    @resonate.register
    async def fibonacci(ctx: Context, n: int) -> int:
        if n < 2:
            return await ctx.run(world.add, n, 0)
        first: int = await ctx.run(fibonacci, n - 1)
        second: int = await ctx.run(fibonacci, n - 2)
        return first + second

    return await resonate.run("recursion", fibonacci, 5)


@program(expected=[3, 8])
async def flaky_step(resonate: Resonate, world: World) -> Any:
    """A step that fails twice in each life and is tried again as its policy says."""

    async def flaky(ctx: Context) -> int:
        await world.work(ctx)
        attempt = world.attempt(ctx.id)
        if attempt < 3:
            raise ConnectionError(f"attempt {attempt}")
        return attempt

    @resonate.register
    async def flow(ctx: Context) -> list[int]:
        attempts = await ctx.run(flaky).options(retry_policy=Constant(delay=0.5))
        return [attempts, await ctx.run(world.add, attempts, 5)]

    return await resonate.run("flaky_step", flow)


@program(expected=3)
async def flaky_step_by_default(resonate: Resonate, world: World) -> Any:
    """A leaf is tried again without being told to (law 11)."""

    async def flaky(ctx: Context) -> int:
        await world.work(ctx)
        attempt = world.attempt(ctx.id)
        if attempt < 3:
            raise ConnectionError(f"attempt {attempt}")
        return attempt

    @resonate.register
    async def flow(ctx: Context) -> int:
        return await ctx.run(flaky)

    return await resonate.run("flaky_step_by_default", flow)


@program(expected=["attempt 3", 7])
async def retries_used_up(resonate: Resonate, world: World) -> Any:
    """The last attempt's error is the outcome."""

    async def hopeless(ctx: Context) -> None:
        await world.work(ctx)
        raise ValueError(f"attempt {world.attempt(ctx.id)}")

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        try:
            await ctx.run(hopeless).options(retry_policy=Constant(delay=0.2, max_retries=2))
        except ValueError as error:
            return [str(error), await ctx.run(world.add, 3, 4)]
        return ["no error"]

    return await resonate.run("retries_used_up", flow)


@program(expected=["KeyError", 1])
async def not_retryable(resonate: Resonate, world: World) -> Any:
    """Some errors end the retrying, by their base class (law 11)."""

    async def missing(ctx: Context) -> None:
        await world.work(ctx)
        raise KeyError(world.attempt(ctx.id))

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        try:
            await ctx.run(missing).options(non_retryable_exceptions=(LookupError,))
        except KeyError as error:
            return [type(error).__name__, *error.args]
        return ["no error"]

    return await resonate.run("not_retryable", flow)


@program(expected=[1, 2])
async def retried_body(resonate: Resonate, world: World) -> Any:
    """An explicit policy retries a body that makes calls; numbering goes on (S40)."""

    async def body(ctx: Context) -> int:
        attempt = ctx.info.attempt
        seen = await ctx.run(world.add, attempt, 0)
        if attempt == 1:
            raise ConnectionError("once")
        return seen

    @resonate.register
    async def flow(ctx: Context) -> list[int]:
        again = await ctx.run(body).options(retry_policy=Constant(delay=0.5, max_retries=3))
        return [await ctx.run(world.echo, 1), again]

    return await resonate.run("retried_body", flow)


@program(expected=["sorry", "went on"])
async def raise_and_catch(resonate: Resonate, world: World) -> Any:
    """An error of a step is an ordinary exception to its caller."""

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        seen = []
        try:
            await ctx.run(world.fail, "sorry").options(retry_policy=Never())
        except ValueError as error:
            seen.append(str(error))
        seen.append(await ctx.run(world.echo, "went on"))
        return seen

    return await resonate.run("raise_and_catch", flow)


@program(expected="LookupError('order', 7)")
async def error_as_result(resonate: Resonate, world: World) -> Any:
    """The error of the whole execution is its outcome, for ever."""

    @resonate.register
    async def flow(ctx: Context) -> None:
        raise LookupError("order", await ctx.run(world.add, 3, 4))

    try:
        await resonate.run("error_as_result", flow)
    except LookupError as error:
        return repr(error)
    return "no error"


class OutOfStockError(Exception):
    """An error with attributes of its own and a constructor that is not its `args`."""

    def __init__(self, item: str, wanted: int) -> None:
        super().__init__(f"no {item}")
        self.item = item
        self.wanted = wanted


@program(expected=["no bolt", "bolt", 3, "ValueError"])
async def error_with_attributes(resonate: Resonate, world: World) -> Any:
    """An error keeps its class, its attributes and its cause, also on replay (law 3, S51)."""

    async def order(ctx: Context, item: str) -> None:
        await world.work(ctx)
        raise OutOfStockError(item, 3) from ValueError("empty shelf")

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        try:
            await ctx.run(order, "bolt").options(retry_policy=Never())
        except OutOfStockError as error:
            cause = type(error.__cause__).__name__
            return await ctx.run(world.echo, [str(error), error.item, error.wanted, cause])
        return ["no error"]

    return await resonate.run("error_with_attributes", flow)


@program(expected=["cleaned up", "ZeroDivisionError"])
async def step_in_finally(resonate: Resonate, world: World) -> Any:
    """Clean-up that is itself a step."""

    async def risky(ctx: Context) -> None:
        try:
            await ctx.run(world.echo, 1)
            raise ZeroDivisionError
        finally:
            await ctx.run(world.echo, "cleaned up")

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        try:
            await ctx.run(risky)
        except ZeroDivisionError as error:
            return ["cleaned up", type(error).__name__]
        return ["no error"]

    return await resonate.run("step_in_finally", flow)


@dataclass
class Order:
    """A value with a type of its own."""

    item: str
    count: int
    placed: datetime


@program(expected={"step": "Order", "argument": "Order", "plain": "list", "total": 9})
async def typed_values(resonate: Resonate, world: World) -> Any:
    """A value has the type its function announces, on the first run and on replay (law 3)."""

    async def place(ctx: Context, item: str) -> Order:
        await world.work(ctx)
        return Order(item, 3, datetime(2030, 1, 2, tzinfo=UTC))

    async def inspect(ctx: Context, order: Order) -> str:
        await world.work(ctx)
        return type(order).__name__

    @resonate.register
    async def flow(ctx: Context) -> dict[str, Any]:
        order = await ctx.run(place, "bolt")
        pair = await ctx.run(world.echo, (1, 2))  # announces nothing: plain JSON data
        return {
            "step": type(order).__name__,
            "argument": await ctx.run(inspect, order),
            "plain": type(pair).__name__,
            "total": await ctx.run(world.add, order.count, order.placed.day * 3),
        }

    return await resonate.run("typed_values", flow)


@program(expected=[["a"], ["a", "b"]])
async def arguments_are_copies(resonate: Resonate, world: World) -> Any:
    """What a step does to its arguments is not seen by its caller (S29)."""

    async def extend(ctx: Context, items: list[str]) -> list[str]:
        await world.work(ctx)
        items.append("b")
        return items

    @resonate.register
    async def flow(ctx: Context) -> list[list[str]]:
        items = ["a"]
        longer = await ctx.run(extend, items)
        return [items, longer]

    return await resonate.run("arguments_are_copies", flow)


@program(expected=["before", "after"])
async def sleep(resonate: Resonate, world: World) -> Any:
    """A durable timer between two steps (law 12)."""

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        before = await ctx.run(world.echo, "before")
        await ctx.sleep(3600)
        return [before, await ctx.run(world.echo, "after")]

    return await resonate.run("sleep", flow)


@program(expected=True, values_vary=True)
async def sleep_is_never_early(resonate: Resonate, world: World) -> Any:
    """A sleep never ends before its time, whoever was killed meanwhile (law 12)."""

    async def now(ctx: Context) -> float:
        await world.work(ctx)
        return asyncio.get_running_loop().time()

    @resonate.register
    async def flow(ctx: Context) -> bool:
        begin = await ctx.run(now)
        await ctx.sleep(10)
        end = await ctx.run(now)
        return end - begin >= 10

    return await resonate.run("sleep_is_never_early", flow)


@program(expected={"in range": True, "as recorded": True, "time goes on": True}, values_vary=True)
async def random_and_time(resonate: Resonate, world: World) -> Any:
    """Recorded luck steers the body: it takes the same way again (law 4)."""

    async def low(ctx: Context, drawn: float) -> float:
        await world.work(ctx)
        return drawn

    async def high(ctx: Context, drawn: float) -> float:
        await world.work(ctx)
        return drawn

    @resonate.register
    async def flow(ctx: Context) -> dict[str, bool]:
        begin = await ctx.time.time()
        drawn = await ctx.random.random()
        recorded = await ctx.run(low if drawn < 0.5 else high, drawn)
        await ctx.sleep(1)
        end = await ctx.time.time()
        return {
            "in range": 0 <= drawn < 1,
            "as recorded": recorded == drawn,
            "time goes on": end > begin,
        }

    return await resonate.run("random_and_time", flow)


@program(expected=["timed out", 3])
async def deadline(resonate: Resonate, world: World) -> Any:
    """A child that does not end in time (law 10)."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        try:
            await ctx.run(world.hang).options(timeout=5)
        except ResonateTimedoutError:
            return ["timed out", await ctx.run(world.add, 1, 2)]
        return ["in time"]

    return await resonate.run("deadline", flow)


@program(expected=[7, 7, 8])
async def explicit_id(resonate: Resonate, world: World) -> Any:
    """Two calls that name the same id share one outcome (law 1)."""

    @resonate.register
    async def flow(ctx: Context) -> list[int]:
        first = await ctx.run(world.add, 3, 4).options(id="the-one")
        second = await ctx.run(world.add, 3, 4).options(id="the-one")
        return [first, second, await ctx.run(world.add, second, 1)]

    return await resonate.run("explicit_id", flow)


@program(expected=[5, 6])
async def not_durable(resonate: Resonate, world: World) -> Any:
    """A call that asks not to be recorded runs again in each life; its neighbours do not."""

    async def cheap(ctx: Context, n: int) -> int:
        await world.delay(ctx.id)
        return n

    @resonate.register
    async def flow(ctx: Context) -> list[int]:
        n = await ctx.run(cheap, 5).options(durable=False)
        return [n, await ctx.run(world.add, n, 1)]

    return await resonate.run("not_durable", flow)


@program(expected=[12, "thread"], threads=True)
async def plain_functions(resonate: Resonate, world: World) -> Any:
    """Plain `def` leaves, which may block."""

    def multiply(ctx: Context, a: int, b: int) -> int:
        world.step(ctx.id)
        return a * b

    def flaky(ctx: Context) -> str:
        world.step(ctx.id)
        if world.attempt(ctx.id) < 2:
            raise ConnectionError("once")
        return "thread"

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        product = await ctx.run(multiply, 3, 4)
        return [product, await ctx.run(flaky).options(retry_policy=Constant(delay=0.1))]

    return await resonate.run("plain_functions", flow)
