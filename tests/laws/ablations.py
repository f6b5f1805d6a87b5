"""One mechanism of the runtime taken away at a time: what crash-everywhere has to find."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.execution import execution as execution_module
from resonate_aio.execution.body import Body, Branch, Input
from resonate_aio.execution.call import GIVEN, RUN, Call
from resonate_aio.execution.execution import CREATE, DRIVE, WATCH, Decision, Execution
from resonate_aio.execution.ids import segment
from resonate_aio.execution.log import INTERRUPTION
from resonate_aio.protocol.records import Promise, PromiseState, Value
from resonate_aio.runtime.asking import Asking
from resonate_aio.runtime.awaitables import DurableCall

Patch = pytest.MonkeyPatch
ABLATIONS: dict[str, Callable[[Patch], None]] = {}


def ablation(take_away: Callable[[Patch], None]) -> Callable[[Patch], None]:
    ABLATIONS[take_away.__name__] = take_away
    return take_away


@ablation
def log_is_forgotten(patch: Patch) -> None:
    """S5: the batches of earlier lives steer nothing."""
    remember = Body.remember

    def without_batches(self: Body, records: Iterable[Promise], logs: Iterable[str] = ()) -> None:
        remember(self, records, logs)
        self._log = []
        self._logged_interruptions = set()

    patch.setattr(Body, "remember", without_batches)


@ablation
def recorded_results_are_given_at_the_ask(patch: Patch) -> None:
    """S7: a wait for a recorded result does not suspend."""
    act = Asking._act

    def at_once(self: Asking, call: DurableCall[Any], decision: Decision) -> None:
        if decision is not Decision.RECORDED or call.record is None:
            act(self, call, decision)
            return
        self._scheduler.giving.read_outcome(call, call.record)
        call.home.arrived(call)
        call.home.waiting.pop(call.suffix, None)
        call.home.position += 1
        call.state = GIVEN

    patch.setattr(Asking, "_act", at_once)


class _LateBranch(Branch):
    """A branch that takes its number when it first makes a call."""

    def __init__(self, parent: Branch, qualname: str) -> None:
        super().__init__(parent, "")
        self._qualname = qualname
        self._taken = ""

    @property
    def prefix(self) -> str:
        if not self._taken:
            parent = self.parent
            assert parent is not None
            siblings = parent.siblings = parent.siblings or {}
            number = siblings[self._qualname] = siblings.get(self._qualname, 0) + 1
            self._taken = f"{parent.prefix}{segment(0, self._qualname, number)}."
        return self._taken

    @prefix.setter
    def prefix(self, value: str) -> None:
        pass


@ablation
def branches_are_numbered_by_first_call(patch: Patch) -> None:
    """S2: by creation, not by who calls first."""

    def fork(self: Branch, qualname: str) -> Branch:
        return _LateBranch(self, qualname)

    patch.setattr(Branch, "fork", fork)


@ablation
def records_are_not_looked_up(patch: Patch) -> None:
    """Law 2, S20: neither the records of earlier lives nor the store's answer count."""

    def drive(self: Asking, call: Call, *_: object) -> Decision:
        return DRIVE if call.kind is RUN else WATCH

    patch.setattr(Execution, "recall", lambda self, call, where, now_ms: CREATE)
    patch.setattr(Asking, "_standing", drive)


@ablation
def cut_mark_is_ignored(patch: Patch) -> None:
    """S10, S11: recorded as cut, it looks like any call that was cancelled."""
    patch.setattr(execution_module, "is_cut", lambda record, call: False)


@ablation
def settlements_carry_no_log(patch: Patch) -> None:
    """S4, S10: what led to a cut, or to a cancel passed on, is not recorded with it."""
    patch.setattr(Body, "logs_at_hand", lambda self: {})


@ablation
def interruptions_are_not_logged(patch: Patch) -> None:
    """S4, S11: the log holds results only."""
    next_batch = Body.next_batch

    def results_only(self: Body) -> list[Input] | None:
        logged = len(self._gain)
        batch = next_batch(self)
        if len(self._gain) > logged:
            members = self._gain[-1]
            self._gain[-1] = tuple(m for m in members if not m.startswith(INTERRUPTION))
        return batch

    patch.setattr(Body, "next_batch", results_only)


@ablation
def creates_overtake_each_other(patch: Patch) -> None:
    """S8: every other create of a body reaches the store late, after those asked for later."""
    send = Asking._send

    def late(
        self: Asking,
        call: DurableCall[Any],
        execution: Execution,
        promise: Promise,
        awaited: bool,
    ) -> Decision | None:
        if call.home.activity % 2:
            return send(self, call, execution, promise, awaited)

        def now() -> None:
            decision = send(self, call, execution, promise, awaited)
            if decision is not None:
                self._act(call, decision)

        asyncio.get_running_loop().call_later(0.4, now)
        return None

    patch.setattr(Asking, "_send", late)


@ablation
def values_are_given_before_they_are_recorded(patch: Patch) -> None:
    """Law 2: the value reaches its caller while its record is still on the way."""
    settle = Asking.settle

    def early(self: Asking, call: DurableCall[Any], state: PromiseState, value: Value) -> None:
        if call.body is None:
            settle(self, call, state, value)
            return
        execution = call.body.execution
        self._store.fence_settle(
            execution.id, execution.version, call.promise_id, state, value, lambda *_: None, call
        )
        record = Promise(call.id, state, call.timeout_at_ms, 0, value, value, {}, 0)
        self._scheduler.settled(call, record)

    patch.setattr(Asking, "settle", early)


# Programs in which lives differ by more than their crash, as real ones do.


class Uneven:
    """Helpers whose own waits take other times after a restart: ids stay what they were.

    Args:
        delay_s: What the waits differ by. Steps take a second and more.
    """

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self.effects: Counter[str] = Counter()
        self._lives = itertools.count()

    async def main(self, resonate: Resonate) -> Any:
        life = next(self._lives)

        async def echo(ctx: Context, n: int) -> int:
            self.effects[ctx.id] += 1
            await asyncio.sleep(1 + n)
            return n

        @resonate.register
        async def flow(ctx: Context) -> list[int]:
            async def helper(n: int) -> int:
                slow = (life + n) % 3  # another connection is slow each time
                await asyncio.sleep(self._delay_s * slow)
                first = await ctx.run(echo, n)
                return first + await ctx.run(echo, 10 * n)

            return list(await asyncio.gather(*(helper(n) for n in range(3))))

        return await resonate.run("uneven", flow)


class Told:
    """A body acts on a value outside: it must never be told another one for the same call."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._told: dict[int, set[int]] = {}

    async def main(self, resonate: Resonate) -> Any:
        if not self.effects:  # a new run
            self._told.clear()

        async def draw(ctx: Context) -> int:
            self.effects[ctx.id] += 1
            return next(self._numbers)

        @resonate.register
        async def flow(ctx: Context) -> None:
            for n in range(4):
                number = await ctx.run(draw)
                self._told.setdefault(n, set()).add(number)

        await resonate.run("told", flow)
        return [len(numbers) for numbers in self._told.values()]
