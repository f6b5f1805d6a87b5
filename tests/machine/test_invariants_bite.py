"""Every invariant refuses a machine, or a step, corrupted by hand in just that way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.machine.checked import ADDRESS, EXTERNAL, FAR, HERE, ONE, TARGET, CheckedMachine

from resonate_aio.machine.deadlines import PROMISE
from resonate_aio.machine.invariants import (
    STATE_INVARIANTS,
    TRANSITION_INVARIANTS,
    Step,
    check,
    check_step,
    snapshot,
)
from resonate_aio.protocol.records import PromiseState, TaskState, Value
from resonate_aio.protocol.requests import Execute, ScheduleCreate, Unblock

NOW = 20


def scene() -> CheckedMachine:
    """One of everything, at instant 20, and sound."""
    m = CheckedMachine()
    m.create("internal", {"resonate:branch": "b"}, now=5)
    m.create("awaited", EXTERNAL, now=5)
    m.create("done", EXTERNAL, now=5)
    m.resolve("done", now=10, value=ONE)
    m.create("late", EXTERNAL, now=5, until=15)
    m.create("pending", TARGET, now=5)
    for id in ("acquired", "suspended", "halted", "fulfilled"):
        m.held(id, now=5)
    m.halt("halted", now=6)
    m.complete("fulfilled", now=6)
    m.suspend("awaited", id="suspended", now=6)
    m.listen("awaited", now=6)
    m.ask(ScheduleCreate("s", "* * * * *", "x{{.timestamp}}", FAR), 5)
    m.swept(NOW)
    m.changed.clear()
    m.changed_schedules.clear()
    check(m, NOW)
    return m


def promise(m: CheckedMachine, id: str, **fields: Any) -> None:
    m.promises[id] = msgspec.structs.replace(m.promises[id], **fields)
    m.changed[id] = None


def task(m: CheckedMachine, id: str, **fields: Any) -> None:
    m.tasks[id] = msgspec.structs.replace(m.tasks[id], **fields)
    m.changed[id] = None


def callback(m: CheckedMachine, awaited: str, awaiter: str) -> None:
    m.callbacks.setdefault(awaited, {})[awaiter] = None
    m.changed[awaited] = None


Corruption = Callable[[CheckedMachine], object]

STATE: dict[str, list[Corruption]] = {
    "keys_are_ids": [lambda m: m.promises.update(done=m.promises["late"])],
    "pending_iff_no_settled_at": [
        lambda m: promise(m, "internal", settled_at_ms=6),
        lambda m: promise(m, "done", settled_at_ms=None),
    ],
    "pending_is_empty_and_young": [
        lambda m: promise(m, "internal", value=ONE),
        lambda m: promise(m, "internal", created_at_ms=FAR),
    ],
    "settled_between_birth_and_deadline": [
        lambda m: promise(m, "done", settled_at_ms=4),
        lambda m: promise(m, "done", settled_at_ms=FAR + 1),
    ],
    "settled_at_deadline_is_its_verdict": [
        lambda m: promise(m, "late", value=ONE),
        lambda m: promise(m, "late", state=PromiseState.RESOLVED),
    ],
    "timedout_settles_at_deadline": [lambda m: promise(m, "late", settled_at_ms=14)],
    "waited_for_is_pending": [
        lambda m: callback(m, "done", "pending"),
        lambda m: m.listeners.update(done={HERE: None}),
    ],
    "waited_for_is_external": [lambda m: callback(m, "internal", "pending")],
    "no_self_callback": [lambda m: callback(m, "pending", "pending")],
    "awaiters_are_targeted": [lambda m: callback(m, "awaited", "internal")],
    "task_iff_target": [
        lambda m: m.tasks.pop("fulfilled"),
        lambda m: m.promises.pop("fulfilled"),
        lambda m: promise(m, "fulfilled", tags={}),
    ],
    "settled_iff_fulfilled": [
        lambda m: task(m, "halted", state=TaskState.FULFILLED),
        lambda m: task(m, "fulfilled", state=TaskState.HALTED),
    ],
    "acquired_iff_leased": [
        lambda m: task(m, "acquired", pid=None),
        lambda m: task(m, "acquired", ttl_ms=None),
        lambda m: task(m, "halted", pid="p"),
    ],
    "pending_iff_retried": [
        lambda m: task(m, "pending", retry_at_ms=None),
        lambda m: task(m, "halted", retry_at_ms=5),
    ],
    "resumes_are_a_set": [lambda m: task(m, "acquired", resumes=("x", "x"))],
    "idle_was_told_nothing": [lambda m: task(m, "suspended", resumes=("x",))],
    "suspended_waits_for_something": [lambda m: m.callbacks.clear()],
    "acquired_was_versioned": [lambda m: task(m, "acquired", version=0)],
    "executes_fit_their_task": [
        lambda m: m.outbox.update({("execute", "pending"): (ADDRESS, Execute("pending", 1))}),
        lambda m: m.outbox.update({("execute", "pending"): (HERE, Execute("pending", 0))}),
        lambda m: m.outbox.update({("execute", "halted"): (ADDRESS, Execute("halted", 1))}),
        lambda m: m.outbox.update({("execute", "absent"): (ADDRESS, Execute("absent", 0))}),
    ],
    "unblocks_are_settled": [
        lambda m: m.outbox.update(
            {("unblock", "awaited", HERE): (HERE, Unblock(m.promises["awaited"]))}
        ),
        lambda m: m.outbox.update({("unblock", "done", HERE): ("x", Unblock(m.promises["done"]))}),
    ],
    "schedules_move_forward": [
        lambda m: m.schedules.update(
            s=msgspec.structs.replace(m.schedules["s"], last_run_at_ms=60_000)
        ),
    ],
    "deadlines_are_armed": [
        lambda m: m.deadlines.disarm(PROMISE, "awaited"),
        lambda m: m.deadlines.arm(PROMISE, "internal", FAR),
        lambda m: task(m, "acquired", expires_at_ms=NOW),
    ],
    "heap_is_bounded": [lambda m: m.deadlines._heap.extend([(0, 0, "x")] * 500)],
    "branches_are_indexed": [
        lambda m: m.branches.clear(),
        lambda m: m.branches["b"].update(done=None),
    ],
}


@pytest.mark.parametrize("name", STATE_INVARIANTS)
def test_a_corrupt_machine_is_refused(name: str) -> None:
    assert STATE[name]
    for corrupt in STATE[name]:
        m = scene()
        assert not list(STATE_INVARIANTS[name](m, NOW))
        corrupt(m)
        assert list(STATE_INVARIANTS[name](m, NOW))
        with pytest.raises(AssertionError):
            check(m, NOW)


def acquire(m: CheckedMachine, id: str) -> None:
    """What an acquisition writes, whatever the task was."""
    task(
        m,
        id,
        state=TaskState.ACQUIRED,
        version=m.tasks[id].version + 1,
        pid="p",
        ttl_ms=1,
        expires_at_ms=NOW + 1,
        retry_at_ms=None,
    )


BACKGROUND = {"background_takes_no_task", "background_settles_by_deadline"}

STEPS: dict[str, list[Corruption]] = {
    "birth_is_immutable": [
        lambda m: promise(m, "internal", param=Value(data="2")),
        lambda m: promise(m, "internal", tags={}),
        lambda m: promise(m, "internal", timeout_at_ms=FAR + 1),
        lambda m: promise(m, "internal", created_at_ms=6),
        lambda m: promise(m, "internal", owner="x"),
    ],
    "settled_is_frozen": [
        lambda m: promise(m, "done", value=Value(data="2")),
        lambda m: promise(m, "done", state=PromiseState.PENDING, settled_at_ms=None),
    ],
    "pending_stays_loaded": [lambda m: m.promises.pop("internal")],
    "waiters_grow_while_pending": [
        lambda m: m.callbacks.clear(),
        lambda m: m.listeners.clear(),
        lambda m: callback(m, "done", "pending"),
    ],
    "version_grows_on_acquisition": [
        lambda m: task(m, "pending", version=1),
        lambda m: task(m, "acquired", version=2),
        lambda m: task(m, "acquired", version=0),
        lambda m: task(m, "pending", state=TaskState.ACQUIRED),
    ],
    "acquired_from_pending": [lambda m: acquire(m, "suspended"), lambda m: acquire(m, "halted")],
    "suspended_from_acquired": [lambda m: task(m, "halted", state=TaskState.SUSPENDED)],
    "halted_leaves_via_pending": [lambda m: acquire(m, "halted")],
    "fulfilled_is_final": [lambda m: task(m, "fulfilled", version=2)],
    "lease_is_one_ttl": [lambda m: task(m, "acquired", expires_at_ms=NOW + 1)],
    "dispatched_is_live": [
        lambda m: m.outbox.update({("execute", "fulfilled"): (ADDRESS, Execute("fulfilled", 1))}),
    ],
    "background_takes_no_task": [
        lambda m: acquire(m, "pending"),
        lambda m: task(m, "acquired", state=TaskState.HALTED),
        lambda m: task(m, "halted", state=TaskState.PENDING),
    ],
    "background_settles_by_deadline": [
        lambda m: promise(m, "awaited", state=PromiseState.RESOLVED, settled_at_ms=NOW),
    ],
    "changes_are_named": [
        lambda m: m.promises.update(internal=m.promises["done"]),
        lambda m: m.tasks.update(halted=m.tasks["acquired"]),
        lambda m: m.callbacks.update(awaited={"suspended": None, "pending": None}),
        lambda m: m.listeners.clear(),
        lambda m: m.schedules.clear(),
    ],
}


@pytest.mark.parametrize("name", TRANSITION_INVARIANTS)
def test_a_corrupt_step_is_refused(name: str) -> None:
    assert STEPS[name]
    for corrupt in STEPS[name]:
        m = scene()
        before = snapshot(m)
        check_step(before, before, now_ms=NOW, background=True)
        corrupt(m)
        after = snapshot(m)
        background = name in BACKGROUND
        assert list(TRANSITION_INVARIANTS[name](Step(before, after, NOW, background)))
        with pytest.raises(AssertionError):
            check_step(before, after, now_ms=NOW, background=background)


def test_the_refusal_names_the_invariant_and_the_id() -> None:
    m = scene()
    promise(m, "done", settled_at_ms=None)
    with pytest.raises(AssertionError, match="pending_iff_no_settled_at: 'done'"):
        check(m)
