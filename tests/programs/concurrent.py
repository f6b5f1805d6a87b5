"""`async def` programs that do several things at a time, with asyncio's own means."""

from __future__ import annotations

import asyncio
from typing import Any

from resonate_aio import Context, Resonate
from resonate_aio.retry_policies import Never

from .base import World, program


@program(expected=[5, 4, 3, 2, 1])
async def fan_out(resonate: Resonate, world: World) -> Any:
    """Children begun in one order and awaited in the other."""

    @resonate.register
    async def flow(ctx: Context, count: int) -> list[int]:
        promises = [await ctx.begin_run(world.add, n, 1) for n in range(count)]
        return [await promise for promise in reversed(promises)]

    return await resonate.run("fan_out", flow, 5)


@program(expected=["returned", 3])
async def children_nobody_awaits(resonate: Resonate, world: World) -> Any:
    """A body ends only when every call it asked has ended (law 9)."""

    @resonate.register
    async def flow(ctx: Context) -> str:
        for n in range(3):
            await ctx.begin_run(world.echo, n)
        return "returned"

    result = await resonate.run("children_nobody_awaits", flow)
    started = [id for id in world.effects if id.startswith("children_nobody_awaits.")]
    return [result, len(started)]


@program(expected=[3, 3])
async def promise_awaited_twice(resonate: Resonate, world: World) -> Any:
    """The promise of a child can be awaited again and by several tasks."""

    @resonate.register
    async def flow(ctx: Context) -> list[int]:
        promise = await ctx.begin_run(world.add, 1, 2)
        first = await promise
        return [first, await promise]

    return await resonate.run("promise_awaited_twice", flow)


@program(expected=[0, 1, 4, 9, 16])
async def gather_of_calls(resonate: Resonate, world: World) -> Any:
    """`asyncio.gather` over ctx calls."""

    async def square(ctx: Context, n: int) -> int:
        await world.work(ctx)
        return n * n

    @resonate.register
    async def flow(ctx: Context) -> list[int]:
        return await asyncio.gather(*(ctx.run(square, n) for n in range(5)))

    return await resonate.run("gather_of_calls", flow)


@program(expected=[1, 1, 1, 1])
async def same_instant(resonate: Resonate, world: World) -> Any:
    """Steps that settle in the same instant."""

    async def punctual(ctx: Context) -> int:
        world.step(ctx.id)
        await asyncio.sleep(0.5)
        return 1

    @resonate.register
    async def flow(ctx: Context) -> list[int]:
        first = await asyncio.gather(ctx.run(punctual), ctx.run(punctual))
        return [*first, *await asyncio.gather(ctx.run(punctual), ctx.run(punctual))]

    return await resonate.run("same_instant", flow)


@program(expected=[[1, 11], [2, 12], [3, 13]])
async def gather_of_helpers(resonate: Resonate, world: World) -> Any:
    """Helpers whose first call comes late, after a wait of their own (S2)."""

    @resonate.register
    async def flow(ctx: Context) -> list[list[int]]:
        async def helper(n: int) -> list[int]:
            await world.delay(f"helper {n}")
            first = await ctx.run(world.echo, n)
            return [first, await ctx.run(world.add, first, 10)]

        return list(await asyncio.gather(helper(1), helper(2), helper(3)))

    return await resonate.run("gather_of_helpers", flow)


@program(expected=[[3, 5], [7, 9], 100])
async def nested_gather(resonate: Resonate, world: World) -> Any:
    """Helpers that gather helpers, beside calls of the body itself."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        async def leaf(a: int, b: int) -> int:
            await world.delay(f"leaf {a}")
            return await ctx.run(world.add, a, b)

        async def pair(a: int) -> list[int]:
            await ctx.run(world.echo, a)
            return list(await asyncio.gather(leaf(a, a + 1), leaf(a + 1, a + 2)))

        return list(await asyncio.gather(pair(1), pair(3), ctx.run(world.echo, 100)))

    return await resonate.run("nested_gather", flow)


@program(expected=[1, "ValueError: two", 3, "went on"])
async def gather_with_errors(resonate: Resonate, world: World) -> Any:
    """`gather(return_exceptions=True)` keeps errors in their places."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        outcomes = await asyncio.gather(
            ctx.run(world.echo, 1),
            ctx.run(world.fail, "two").options(retry_policy=Never()),
            ctx.run(world.echo, 3),
            return_exceptions=True,
        )
        shown = [f"{type(o).__name__}: {o}" if isinstance(o, Exception) else o for o in outcomes]
        return [*shown, await ctx.run(world.echo, "went on")]

    return await resonate.run("gather_with_errors", flow)


@program(expected=["one failed", "went on"])
async def gather_that_fails(resonate: Resonate, world: World) -> Any:
    """The first error ends the gather; the others go on and are awaited at the end (S22)."""

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        try:
            await asyncio.gather(
                ctx.run(world.echo, 1),
                ctx.run(world.fail, "one failed").options(retry_policy=Never()),
                ctx.run(world.echo, 3),
            )
        except ValueError as error:
            return [str(error), await ctx.run(world.echo, "went on")]
        return ["no error"]

    return await resonate.run("gather_that_fails", flow)


@program(expected={"calls": [3, 7], "helper": 11})
async def task_group(resonate: Resonate, world: World) -> Any:
    """A `TaskGroup` of ctx calls and a helper."""

    @resonate.register
    async def flow(ctx: Context) -> dict[str, Any]:
        async def helper(n: int) -> int:
            await world.delay("helper")
            return await ctx.run(world.add, await ctx.run(world.echo, n), 1)

        async with asyncio.TaskGroup() as group:
            first = group.create_task(ctx.run(world.add, 1, 2))
            second = group.create_task(ctx.run(world.add, 3, 4))
            third = group.create_task(helper(10))
        return {"calls": [first.result(), second.result()], "helper": third.result()}

    return await resonate.run("task_group", flow)


@program(expected={"errors": ["too bad"], "cancelled": ["hang", "helper"], "after": 3})
async def task_group_that_fails(resonate: Resonate, world: World) -> Any:
    """A failing child cancels the others; the body learns which (laws 4 and 9, S10)."""

    @resonate.register
    async def flow(ctx: Context) -> dict[str, Any]:
        async def helper() -> None:
            await ctx.run(world.echo, 1)
            await ctx.run(world.hang)

        tasks: dict[str, asyncio.Task[Any]] = {}
        errors: list[str] = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks["hang"] = group.create_task(ctx.run(world.hang))
                tasks["helper"] = group.create_task(helper())
                failing = ctx.run(world.fail, "too bad").options(retry_policy=Never())
                tasks["fail"] = group.create_task(failing)
        except* ValueError as several:
            errors = [str(error) for error in several.exceptions]
        return {
            "errors": errors,
            "cancelled": sorted(name for name, task in tasks.items() if task.cancelled()),
            "after": await ctx.run(world.add, 1, 2),
        }

    return await resonate.run("task_group_that_fails", flow)


@program(expected={"winner is the quickest": True, "losers": "cancelled", "after": 42})
async def first_completed(resonate: Resonate, world: World) -> Any:
    """`wait(FIRST_COMPLETED)`, the losers cancelled (laws 2 and 4, S10)."""

    async def run(ctx: Context, name: str) -> str:
        world.step(ctx.id)
        await world.delay(name)
        return name

    names = ["red", "green", "blue"]
    quickest = min(names, key=world.duration)

    @resonate.register
    async def flow(ctx: Context) -> dict[str, Any]:
        tasks = [asyncio.create_task(ctx.run(run, name)) for name in names]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winners = [task.result() for task in tasks if task in done]
        losers = [task for task in tasks if task not in done]
        for task in losers:
            task.cancel()
        outcomes = await asyncio.gather(*losers, return_exceptions=True)
        cancelled = all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        return {
            "winner is the quickest": winners == [quickest],
            "losers": "cancelled" if cancelled else "not cancelled",
            "after": await ctx.run(world.echo, 42),
        }

    return await resonate.run("first_completed", flow)


@program(expected={"all": [1, 2, 3], "first was first": True})
async def first_completed_promises(resonate: Resonate, world: World) -> Any:
    """`asyncio.wait` over the promises of children; the losers are awaited later."""

    @resonate.register
    async def flow(ctx: Context) -> dict[str, Any]:
        promises = [await ctx.begin_run(world.echo, n) for n in (1, 2, 3)]
        tasks = [asyncio.ensure_future(promise) for promise in promises]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        early = [task.result() for task in tasks if task in done]
        recorded = await ctx.run(world.echo, early)  # other arguments on replay would be noticed
        return {
            "all": [await promise for promise in promises],
            "first was first": recorded == early,
        }

    return await resonate.run("first_completed_promises", flow)


@program(expected={"sorted": [0, 1, 2, 3], "as recorded": True}, values_vary=True)
async def as_completed_order(resonate: Resonate, world: World) -> Any:
    """The order in which results came is the order in which they come again (law 4, S5)."""

    @resonate.register
    async def flow(ctx: Context) -> dict[str, Any]:
        tasks = [asyncio.create_task(ctx.run(world.echo, n)) for n in range(4)]
        seen: list[int] = []
        noted: list[list[int]] = []
        for completed in asyncio.as_completed(tasks):
            seen.append(await completed)
            noted.append(await ctx.run(world.echo, list(seen)))
        return {
            "sorted": sorted(seen),
            "as recorded": noted == [seen[: n + 1] for n in range(4)],
        }

    return await resonate.run("as_completed_order", flow)


@program(expected=[0, 1, 2])
async def as_completed_of_calls(resonate: Resonate, world: World) -> Any:
    """`as_completed` over bare ctx calls: their ids are taken at the call (S3)."""

    @resonate.register
    async def flow(ctx: Context) -> list[int]:
        calls = [ctx.run(world.echo, n) for n in range(3)]
        return sorted([await completed for completed in asyncio.as_completed(calls)])

    return await resonate.run("as_completed_of_calls", flow)


@program(expected=["shielded", 1])
async def shield(resonate: Resonate, world: World) -> Any:
    """Cancelling who waits behind a shield does not cancel the step."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        step = asyncio.create_task(ctx.run(world.echo, "shielded"))

        async def wait() -> None:
            await asyncio.shield(step)

        waiter = asyncio.create_task(wait())
        one = await ctx.run(world.echo, 1)
        waiter.cancel()
        return [await step, one]

    return await resonate.run("shield", flow)


@program(expected=[0, 10, 20, 30, 40])
async def semaphore(resonate: Resonate, world: World) -> Any:
    """At most two at a time: who may go next depends on who was first (law 4)."""

    async def tenfold(ctx: Context, n: int) -> int:
        await world.work(ctx)
        return 10 * n

    @resonate.register
    async def flow(ctx: Context) -> list[int]:
        slots = asyncio.Semaphore(2)

        async def limited(n: int) -> int:
            async with slots:
                return await ctx.run(tenfold, n)

        return await asyncio.gather(*(limited(n) for n in range(5)))

    return await resonate.run("semaphore", flow)


@program(expected={"done": [0, 1, 2, 3, 4, 5], "as recorded": True}, values_vary=True)
async def pool_of_workers(resonate: Resonate, world: World) -> Any:
    """Two workers take jobs from a queue; who took which is decided once (law 4)."""

    async def job(ctx: Context, worker: str, n: int) -> list[Any]:
        await world.work(ctx)
        return [worker, n]

    @resonate.register
    async def flow(ctx: Context) -> dict[str, Any]:
        jobs: asyncio.Queue[int] = asyncio.Queue()
        for n in range(6):
            jobs.put_nowait(n)
        taken: list[list[Any]] = []
        recorded: list[list[Any]] = []

        async def worker(name: str) -> None:
            while not jobs.empty():
                n = jobs.get_nowait()
                taken.append([name, n])
                recorded.append(await ctx.run(job, name, n))

        await asyncio.gather(worker("a"), worker("b"))
        return {
            "done": sorted(n for _, n in recorded),
            "as recorded": sorted(recorded) == sorted(taken),
        }

    return await resonate.run("pool_of_workers", flow)


@program(expected=["first", "second"])
async def event_between_helpers(resonate: Resonate, world: World) -> Any:
    """One helper waits for what another one has done."""

    @resonate.register
    async def flow(ctx: Context) -> list[str]:
        ready = asyncio.Event()

        async def second() -> str:
            await ready.wait()
            return await ctx.run(world.echo, "second")

        async def first() -> str:
            value = str(await ctx.run(world.echo, "first"))
            ready.set()
            return value

        late, early = await asyncio.gather(second(), first())
        return [early, late]

    return await resonate.run("event_between_helpers", flow)


@program(expected=[6, True])
async def task_without_calls(resonate: Resonate, world: World) -> Any:
    """A task of the body that makes no ctx call, such as a library's, is left alone."""

    @resonate.register
    async def flow(ctx: Context) -> list[Any]:
        async def beat() -> None:
            while True:
                await asyncio.sleep(0.05)

        beating = asyncio.create_task(beat())
        total = 0
        for n in range(4):
            total = await ctx.run(world.add, total, n)
        beating.cancel()
        await asyncio.wait([beating])
        return [total, beating.cancelled()]

    return await resonate.run("task_without_calls", flow)


@program(expected=[1, 2, 3, 4])
async def several_executions(resonate: Resonate, world: World) -> Any:
    """Executions side by side in one process."""

    @resonate.register
    async def flow(ctx: Context, n: int) -> int:
        return await ctx.run(world.add, await ctx.run(world.echo, n), 1)

    handles = [resonate.begin_run(f"several_executions/{n}", flow, n) for n in range(4)]
    return [await handle for handle in handles]


@program(expected=[3, 3, 3])
async def same_id_again(resonate: Resonate, world: World) -> Any:
    """One id, one outcome: the second call joins, the third gets what is recorded (law 1)."""

    @resonate.register
    async def flow(ctx: Context) -> int:
        return await ctx.run(world.add, 1, 2)

    first = await resonate.begin_run("same_id_again", flow).created()
    second = resonate.begin_run("same_id_again", flow)
    return [await first, await second, await resonate.run("same_id_again", flow)]
