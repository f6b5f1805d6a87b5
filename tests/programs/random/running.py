"""Running a random program: its nodes as durable functions in both dialects.

Every call gets the trace of what its function saw so far as an argument. A replay that went
another way than what was recorded would therefore ask with other arguments, and be noticed
(law 5): a `NonDeterminismError` here is a replay that went wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateStoreError, ResonateTimedoutError
from resonate_aio.retry_policies import Constant, Never

from .nodes import (
    Attempt,
    Begin,
    Calls,
    Cancelled,
    Deadline,
    Detached,
    Fails,
    First,
    Flaky,
    Function,
    Gather,
    Group,
    Guarded,
    Limit,
    Node,
    Outside,
    Part,
    Passes,
    Shielded,
    Sleep,
    Step,
    nodes_of,
)

Trace = list[Any]
_ATTEMPTS = 3


class BoomError(Exception):
    """What parts and steps raise; its text says which."""


class Runner:
    """One life of a program.

    Args:
        effects: Counts the starts of steps by promise id.
    """

    def __init__(self, program: Part, effects: Counter[str]) -> None:
        self._program = program
        self._effects = effects
        self._functions = {n.name: n for n in nodes_of(program) if isinstance(n, Function)}
        self._unsettled = [n.name for n in nodes_of(program) if isinstance(n, Outside)]

    async def main(self, resonate: Resonate) -> list[Any]:
        """The whole program, as `crash_everywhere` takes it; what its parts gave."""
        flow = resonate.register(self.flow, name="flow")
        resonate.register(self.step, name="step")
        resonate.register(self.function, name="async")
        resonate.register(self.generator, name="generator")
        handle = resonate.begin_run("x", flow)
        settling = asyncio.ensure_future(self._settle_from_outside(resonate))
        try:
            return list(await handle)
        finally:
            settling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await settling

    async def _settle_from_outside(self, resonate: Resonate) -> None:
        left = list(self._unsettled)
        while left:
            await asyncio.sleep(0.8)
            for name in list(left):
                with contextlib.suppress(ResonateStoreError):  # not there yet, or settled before
                    await resonate.promises.resolve(id=f"outside {name}", data=f'"{name}"')
                    left.remove(name)

    # -- functions

    async def flow(self, ctx: Context) -> list[Any]:
        """The root."""
        return await self._part(ctx, self._program, [])

    async def function(self, ctx: Context, name: str, _: Trace) -> list[Any] | str:
        """A part in an async function."""
        node = self._functions[name]
        try:
            return await self._part(ctx, node.body, [])
        except asyncio.CancelledError:
            if node.on_cancel != "passes":
                await ctx.run(self.step, f"{name} cleanup", 0.4, [])
            if node.on_cancel == "returns":
                return "cancelled"
            raise

    def generator(self, ctx: Context, name: str, _: Trace) -> Generator[Any, Any, list[Any] | str]:
        """A part in a generator."""
        node = self._functions[name]
        try:
            return (yield from self._steps(ctx, node.body, []))
        except asyncio.CancelledError:
            if node.on_cancel != "passes":
                yield ctx.run(self.step, f"{name} cleanup", 0.4, [])
            if node.on_cancel == "returns":
                return "cancelled"
            raise

    async def step(self, ctx: Context, name: str, takes_s: float, _: Trace) -> str:
        """A step that gives its name."""
        self._effects[ctx.id] += 1
        await asyncio.sleep(takes_s)
        return name

    async def fails(self, ctx: Context, name: str, takes_s: float, _: Trace) -> str:
        """A step that raises its name."""
        self._effects[ctx.id] += 1
        await asyncio.sleep(takes_s)
        raise BoomError(name)

    async def flaky(self, ctx: Context, name: str, takes_s: float, _: Trace) -> str:
        """A step whose last attempt gives its name."""
        self._effects[ctx.id] += ctx.info.attempt == 1
        await asyncio.sleep(takes_s)
        if ctx.info.attempt < _ATTEMPTS:
            raise BoomError(name)
        return name

    async def volatile(self, ctx: Context, name: str, takes_s: float, _: Trace) -> str:
        """A step that is not recorded: it starts in every life."""
        await asyncio.sleep(takes_s)
        return name

    # -- parts

    async def _part(self, ctx: Context, part: Part, trace: Trace) -> list[Any]:
        if part.nap_s:
            await asyncio.sleep(part.nap_s)
        outcomes: list[Any] = []
        begun: list[tuple[str, Awaitable[Any]]] = []
        for node in part.nodes:
            if isinstance(node, Begin):
                promise = await ctx.begin_run(self.step, node.name, node.takes_s, list(trace))
                if node.is_awaited:
                    begun.append((node.name, promise))
                outcome: Any = "begun"
            else:
                outcome = await _RUN[type(node)](self, ctx, node, trace)
            outcomes.append(outcome)
            trace.append([node.name, outcome])
        for name, awaited in begun:
            outcomes.append(await awaited)
            trace.append([name, "awaited"])
        if part.raises:
            raise BoomError(part.name)
        return outcomes

    def _steps(self, ctx: Context, part: Part, trace: Trace) -> Generator[Any, Any, list[Any]]:
        """The same in the generator dialect."""
        outcomes: list[Any] = []
        begun: list[tuple[str, Any]] = []
        for node in part.nodes:
            outcome: Any = "begun"
            if isinstance(node, Begin):
                promise = yield ctx.begin_run(self.step, node.name, node.takes_s, list(trace))
                if node.is_awaited:
                    begun.append((node.name, promise))
            elif isinstance(node, Attempt):
                try:
                    outcome = yield from self._steps(ctx, node.body, trace)
                except BoomError as error:
                    outcome = f"caught {error}"
            else:
                outcome = yield from self._yielded(ctx, node, trace)
            outcomes.append(outcome)
            trace.append([node.name, outcome])
        for name, awaited in begun:
            outcomes.append((yield awaited))
            trace.append([name, "awaited"])
        if part.raises:
            raise BoomError(part.name)
        return outcomes

    def _yielded(self, ctx: Context, node: Node, trace: Trace) -> Generator[Any, Any, Any]:
        outcome: Any = "done"
        try:
            if isinstance(node, Outside):
                promise = yield ctx.promise(id=f"outside {node.name}")
                outcome = yield promise
            elif isinstance(node, Detached):
                yield ctx.detached("step", node.name, node.takes_s, list(trace))
            elif isinstance(node, Sleep):
                yield ctx.sleep(node.for_s)
            else:
                outcome = yield self._call(ctx, node, trace)
        except BoomError as error:
            outcome = f"caught {error}"
        return outcome

    def _call(self, ctx: Context, node: Node, trace: Trace) -> Any:
        """The ctx call of a node that is one."""
        seen = list(trace)
        if isinstance(node, Fails):
            call = ctx.run(self.fails, node.name, node.takes_s, seen)
            return call.options(retry_policy=Never())
        if isinstance(node, Flaky):
            call = ctx.run(self.flaky, node.name, node.takes_s, seen)
            return call.options(retry_policy=Constant(delay=0.1))
        if isinstance(node, Function):
            if node.how == "rpc":
                return ctx.rpc(node.dialect, node.name, seen)
            function: Any = self.function if node.dialect == "async" else self.generator
            # One that makes no ctx call is a leaf: it would be tried again for a year.
            return ctx.run(function, node.name, seen).options(retry_policy=Never())
        assert isinstance(node, Step)
        if node.how == "volatile":
            return ctx.run(self.volatile, node.name, node.takes_s, seen).options(durable=False)
        call = ctx.run(self.step, node.name, node.takes_s, seen)
        return call.options(id=f"step {node.name}") if node.how == "id" else call

    # -- nodes

    async def _one_call(self, ctx: Context, node: Node, trace: Trace) -> Any:
        try:
            return await self._call(ctx, node, trace)
        except BoomError as error:
            return f"caught {error}"

    async def _sleep(self, ctx: Context, node: Sleep, trace: Trace) -> Any:
        await ctx.sleep(node.for_s)
        return "done"

    async def _passes(self, ctx: Context, node: Passes, trace: Trace) -> Any:
        for _ in range(node.count):
            await asyncio.sleep(0)
        return "done"

    async def _detached(self, ctx: Context, node: Detached, trace: Trace) -> Any:
        await ctx.detached("step", node.name, node.takes_s, list(trace))
        return "done"

    async def _outside(self, ctx: Context, node: Outside, trace: Trace) -> Any:
        return await (await ctx.promise(id=f"outside {node.name}"))

    async def _attempt(self, ctx: Context, node: Attempt, trace: Trace) -> Any:
        try:
            return await self._part(ctx, node.body, trace)
        except BoomError as error:
            return f"caught {error}"

    async def _gather(self, ctx: Context, node: Gather, trace: Trace) -> Any:
        try:
            return list(await asyncio.gather(*self._helpers(ctx, node, trace)))
        except BoomError as error:
            return f"caught {error}"

    async def _group(self, ctx: Context, node: Group, trace: Trace) -> Any:
        caught = ""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(helper) for helper in self._helpers(ctx, node, trace)]
        except* BoomError as several:
            caught = f"caught {', '.join(sorted(map(str, several.exceptions)))}"
        return caught or [task.result() for task in tasks]

    def _helpers(self, ctx: Context, node: Gather | Group, trace: Trace) -> list[Any]:
        return [self._part(ctx, part, trace if node.shares else list(trace)) for part in node.parts]

    async def _calls(self, ctx: Context, node: Calls, trace: Trace) -> Any:
        calls = [
            ctx.run(self.step, f"{node.name}.{n}", takes_s, list(trace))
            for n, takes_s in enumerate(node.takes_s)
        ]
        if node.how == "gather":
            return list(await asyncio.gather(*calls))
        outcomes = []
        for completed in asyncio.as_completed(calls):
            outcomes.append(await completed)
            trace.append(outcomes[-1])
            await ctx.run(self.step, f"{node.name} saw", 0.1, list(trace))
        return outcomes

    async def _first(self, ctx: Context, node: First, trace: Trace) -> Any:
        tasks = [
            asyncio.create_task(ctx.run(self.step, f"{node.name}.{n}", takes_s, list(trace)))
            for n, takes_s in enumerate(node.takes_s)
        ]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task in pending:
                task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        shown = [o if isinstance(o, str) else type(o).__name__ for o in outcomes]
        return [[task in done for task in tasks], shown]

    async def _limit(self, ctx: Context, node: Limit, trace: Trace) -> Any:
        limit: Any = ctx.timeout if node.is_durable else asyncio.timeout
        try:
            async with limit(node.limit_s):
                return ["in time", await self._part(ctx, node.body, trace)]
        except TimeoutError:
            return "late"

    async def _cancelled(self, ctx: Context, node: Cancelled, trace: Trace) -> Any:
        before = _cancels()
        helper = asyncio.create_task(self._part(ctx, node.body, list(trace)))
        await ctx.sleep(node.after_s)
        helper.cancel()
        try:
            return ["ended", await helper]
        except asyncio.CancelledError:
            if not helper.cancelled() or _cancels() > before:
                raise  # this one was cancelled, too: asyncio shows both as one
            return "cancelled"

    async def _guarded(self, ctx: Context, node: Guarded, trace: Trace) -> Any:
        try:
            return await self._part(ctx, node.body, trace)
        except asyncio.CancelledError:
            await self._part(ctx, node.cleanup, trace)
            raise

    async def _shielded(self, ctx: Context, node: Shielded, trace: Trace) -> Any:
        step = asyncio.create_task(ctx.run(self.step, node.name, node.takes_s, list(trace)))
        try:
            async with ctx.timeout(node.limit_s):
                return ["in time", await asyncio.shield(step)]
        except TimeoutError:
            return ["late", await step]

    async def _deadline(self, ctx: Context, node: Deadline, trace: Trace) -> Any:
        promise = await ctx.promise(timeout=node.promise_s)
        try:
            async with ctx.timeout(node.limit_s):
                await promise
        except ResonateTimedoutError:
            return "promise"
        except TimeoutError:
            return "limit"
        return "resolved"


def _cancels() -> int:
    """How often this task was cancelled; a group that failed may have left some behind."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


_RUN: dict[type[Node], Callable[[Runner, Context, Any, Trace], Awaitable[Any]]] = {
    Step: Runner._one_call,
    Fails: Runner._one_call,
    Flaky: Runner._one_call,
    Function: Runner._one_call,
    Sleep: Runner._sleep,
    Passes: Runner._passes,
    Detached: Runner._detached,
    Outside: Runner._outside,
    Attempt: Runner._attempt,
    Gather: Runner._gather,
    Group: Runner._group,
    Calls: Runner._calls,
    First: Runner._first,
    Limit: Runner._limit,
    Cancelled: Runner._cancelled,
    Guarded: Runner._guarded,
    Shielded: Runner._shielded,
    Deadline: Runner._deadline,
}
