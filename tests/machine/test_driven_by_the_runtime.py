"""The named invariants hold of a machine that the runtime drives, after every operation.

Everything the runtime asks of a machine goes through its methods: each is judged as a step.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from tests.machine.checked import CheckedMachine
from tests.programs import PROGRAMS, World

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateTimedoutError
from resonate_aio.machine import PromiseMachine
from resonate_aio.machine.invariants import check, check_step, snapshot
from resonate_aio.protocol.records import Promise, PromiseState, Value
from resonate_aio.protocol.requests import Reply, Request
from resonate_aio.stores import in_process
from resonate_aio.testing import crash_everywhere

T = TypeVar("T")

_steps: Counter[str] = Counter()

CORPUS = (
    "ctx_timeout_expires",
    "detached",
    "explicit_id",
    "mixed_rpc",
    "promise_rejected_outside",
    "rpc_gather",
    "shared_by_executions",
    "sleep",
    "task_group_that_fails",
)


class JudgedMachine(PromiseMachine):
    """Every way into it is a step, and is judged."""

    def handle(self, request: Request, now_ms: int) -> Reply:
        return self._judged(type(request).__name__, now_ms, super().handle, request, now_ms)

    def fence_create(
        self, task_id: str, version: int, promise: Promise, now_ms: int
    ) -> Promise | None:
        step = super().fence_create
        return self._judged("fence_create", now_ms, step, task_id, version, promise, now_ms)

    def fence_settle(
        self,
        task_id: str,
        version: int,
        promise_id: str,
        state: PromiseState,
        value: Value,
        now_ms: int,
    ) -> Promise | None:
        step = super().fence_settle
        asked = (task_id, version, promise_id, state, value, now_ms)
        return self._judged("fence_settle", now_ms, step, *asked)

    def fulfill(
        self, task_id: str, version: int, state: PromiseState, value: Value, now_ms: int
    ) -> Promise | None:
        step = super().fulfill
        return self._judged("fulfill", now_ms, step, task_id, version, state, value, now_ms)

    def sweep(self, now_ms: int, *, limit: int | None = None) -> None:
        def step() -> None:
            PromiseMachine.sweep(self, now_ms, limit=limit)

        self._judged("sweep", now_ms, step)

    def redispatch(self, wants: Callable[[str], bool], now_ms: int) -> None:
        self._judged("redispatch", now_ms, super().redispatch, wants, now_ms)

    def end_lease(self, id: str, now_ms: int) -> None:
        self._judged("end_lease", now_ms, super().end_lease, id, now_ms)

    def _judged(self, name: str, now_ms: int, step: Callable[..., T], *asked: Any) -> T:
        before = snapshot(self)
        answer = step(*asked)
        _steps[name] += 1
        check(self, now_ms)
        check_step(before, snapshot(self), now_ms=now_ms, background=name == "sweep")
        return answer


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Stores made from now on have judged machines; how often each step was made."""
    monkeypatch.setattr(in_process, "PromiseMachine", JudgedMachine)
    _steps.clear()
    return _steps


@pytest.mark.parametrize("name", CORPUS)
def test_of_programs_and_their_crashes(name: str, steps: Counter[str]) -> None:
    program = PROGRAMS[name]

    async def main(resonate: Resonate) -> Any:
        return await program.main(resonate, World())

    report = crash_everywhere(main, values_vary=program.values_vary)
    assert report.result == program.expected
    assert {"TaskCreate", "fence_create", "fulfill"} <= set(steps)


def test_of_sleeps_children_elsewhere_schedules_and_stops(steps: Counter[str]) -> None:
    """What the corpus has little of: timers, rpc, schedules, a client that stops in between."""

    async def main(resonate: Resonate) -> int:
        @resonate.register
        async def callee(ctx: Context, n: int) -> int:
            await ctx.sleep(40)
            return n + 1

        @resonate.register
        async def flow(ctx: Context, n: int) -> int:
            try:
                await (await ctx.promise(id=f"{ctx.id}-asked", timeout=2))
            except ResonateTimedoutError:
                n += 10
            return int(await ctx.rpc("callee", n)) + await ctx.run(callee, n)

        await resonate.schedule("ticks", "callee", "* * * * *", 1)
        async with asyncio.timeout(1000):
            return int(await resonate.run("a", flow, 1))

    assert crash_everywhere(main).result == 24
    assert {"sweep", "redispatch", "TaskCreate", "TaskAcquire", "ScheduleCreate"} <= set(steps)


def test_a_lease_that_no_time_ends_is_not_armed() -> None:
    """It ends with its holder's process; one that time ends has to be armed."""
    machine = CheckedMachine()
    machine.create("t", {"resonate:target": "poll://any@workers"})
    machine.acquire("t", ttl=2**52)
    assert machine.next_due_ms() is not None  # the promise's own deadline
    check(machine, 0)
    machine.create("u", {"resonate:target": "poll://any@workers"})
    machine.acquire("u", ttl=1000)
    machine.deadlines.disarm(1, "u")
    with pytest.raises(AssertionError, match="deadlines_are_armed: 'u'"):
        check(machine, 0)
