"""What holds of a machine between any two steps (current-protocol §4.4, first half).

Each predicate is a plain function of the machine and an instant (None: unknown) that yields
the ids that break it; `STATE_INVARIANTS` names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from ..protocol.records import (
    EMPTY,
    PromiseState,
    TaskState,
    is_external,
    is_pending,
    is_timer,
    target_of,
)
from ..protocol.requests import Execute, Unblock
from .deadlines import LEASE, PROMISE, RETRY, SCHEDULE
from .state import State
from .transitions import NEVER_MS, is_live

Ids = Iterator[str]


# -- promises


def keys_are_ids(machine: State, _: int | None) -> Ids:
    """Every record is stored under its own id."""
    tables: tuple[dict[str, Any], ...] = (machine.promises, machine.tasks, machine.schedules)
    return (key for table in tables for key, record in table.items() if record.id != key)


def pending_iff_no_settled_at(machine: State, _: int | None) -> Ids:
    """A promise is pending exactly while it has no settledAt."""
    return (p.id for p in machine.promises.values() if is_pending(p) != (p.settled_at_ms is None))


def pending_is_empty_and_young(machine: State, _: int | None) -> Ids:
    """A pending promise has no value and was created before its deadline."""
    return (
        p.id
        for p in machine.promises.values()
        if is_pending(p) and (p.value != EMPTY or p.created_at_ms >= p.timeout_at_ms)
    )


def settled_between_birth_and_deadline(machine: State, _: int | None) -> Ids:
    """A promise settles between its birth and its deadline, both included."""
    return (
        p.id
        for p in machine.promises.values()
        if p.settled_at_ms is not None and not p.created_at_ms <= p.settled_at_ms <= p.timeout_at_ms
    )


def settled_at_deadline_is_its_verdict(machine: State, _: int | None) -> Ids:
    """What settled at its deadline carries the deadline's verdict and no value."""
    for p in machine.promises.values():
        verdict = PromiseState.RESOLVED if is_timer(p) else PromiseState.TIMEDOUT
        if p.settled_at_ms == p.timeout_at_ms and (p.state is not verdict or p.value != EMPTY):
            yield p.id


def timedout_settles_at_deadline(machine: State, _: int | None) -> Ids:
    """rejected_timedout is said at the deadline only."""
    return (
        p.id
        for p in machine.promises.values()
        if p.state is PromiseState.TIMEDOUT and p.settled_at_ms != p.timeout_at_ms
    )


# -- waiters


def waited_for_is_pending(machine: State, _: int | None) -> Ids:
    """Callbacks and listeners are drained in the step that settles (C11)."""
    for id in (*machine.callbacks, *machine.listeners):
        promise = machine.promises.get(id)
        if promise is None or not is_pending(promise):
            yield id


def waited_for_is_external(machine: State, _: int | None) -> Ids:
    """Nobody waits for an internal promise (C2, C3)."""
    for id in (*machine.callbacks, *machine.listeners):
        promise = machine.promises.get(id)
        if promise is not None and not is_external(promise):
            yield id


def no_self_callback(machine: State, _: int | None) -> Ids:
    """No promise waits for itself."""
    return (id for id, awaiters in machine.callbacks.items() if id in awaiters)


def awaiters_are_targeted(machine: State, _: int | None) -> Ids:
    """Every awaiter has a task; one that was forgotten had one."""
    for awaiters in machine.callbacks.values():
        for awaiter in awaiters:
            if awaiter in machine.promises and awaiter not in machine.tasks:
                yield awaiter


# -- tasks


def task_iff_target(machine: State, _: int | None) -> Ids:
    """A task exists exactly for the promises that have a target."""
    for id, promise in machine.promises.items():
        if (target_of(promise) is not None) != (id in machine.tasks):
            yield id
    yield from (id for id in machine.tasks if id not in machine.promises)


def settled_iff_fulfilled(machine: State, _: int | None) -> Ids:
    """A task is fulfilled exactly when its promise is settled."""
    for task in machine.tasks.values():
        promise = machine.promises.get(task.id)
        if promise is not None and is_pending(promise) == (task.state is TaskState.FULFILLED):
            yield task.id


def acquired_iff_leased(machine: State, _: int | None) -> Ids:
    """pid, ttl and lease are there exactly while the task is acquired."""
    for task in machine.tasks.values():
        for part in (task.pid, task.ttl_ms, task.expires_at_ms):
            if (part is not None) != (task.state is TaskState.ACQUIRED):
                yield task.id


def pending_iff_retried(machine: State, _: int | None) -> Ids:
    """A task has a retry exactly while it is pending."""
    return (
        t.id
        for t in machine.tasks.values()
        if (t.retry_at_ms is not None) != (t.state is TaskState.PENDING)
    )


def resumes_are_a_set(machine: State, _: int | None) -> Ids:
    """No task is told twice of the same promise."""
    return (t.id for t in machine.tasks.values() if len(set(t.resumes)) != len(t.resumes))


def idle_was_told_nothing(machine: State, _: int | None) -> Ids:
    """A suspended or fulfilled task has no resumes."""
    idle = (TaskState.SUSPENDED, TaskState.FULFILLED)
    return (t.id for t in machine.tasks.values() if t.state in idle and t.resumes)


def suspended_waits_for_something(machine: State, now_ms: int | None) -> Ids:
    """A suspended task with a live promise is in some promise's callbacks."""
    awaiters = {awaiter for ids in machine.callbacks.values() for awaiter in ids}
    for t in machine.tasks.values():
        waits = t.state is not TaskState.SUSPENDED or t.id in awaiters
        if not waits and now_ms is not None and is_live(machine.promises[t.id], now_ms):
            yield t.id


def acquired_was_versioned(machine: State, _: int | None) -> Ids:
    """An acquired task is at version 1 or above."""
    return (t.id for t in machine.tasks.values() if t.state is TaskState.ACQUIRED and t.version < 1)


# -- messages, schedules, deadlines


def executes_fit_their_task(machine: State, _: int | None) -> Ids:
    """An execute names a pending task at its version and goes to its target (C9)."""
    for key, (address, message) in machine.outbox.items():
        if key[0] == "execute":
            task = machine.tasks.get(key[1])
            fits = (
                isinstance(message, Execute)
                and task is not None
                and message.id == task.id == key[1]
                and message.version == task.version
                and task.state is TaskState.PENDING
                and address == target_of(machine.promises[task.id])
            )
            if not fits:
                yield key[1]


def unblocks_are_settled(machine: State, _: int | None) -> Ids:
    """An unblock carries a settled promise to the address it is keyed by."""
    for key, (address, message) in machine.outbox.items():
        if key[0] == "unblock":
            fits = (
                isinstance(message, Unblock)
                and not is_pending(message.promise)
                and key[1:] == (message.promise.id, address)
            )
            if not fits:
                yield key[1]


def schedules_move_forward(machine: State, _: int | None) -> Ids:
    """A schedule was created, then ran, then runs next."""
    for s in machine.schedules.values():
        last_ms = s.created_at_ms if s.last_run_at_ms is None else s.last_run_at_ms
        if not s.created_at_ms <= last_ms < s.next_run_at_ms:
            yield s.id


def deadlines_are_armed(machine: State, _: int | None) -> Ids:
    """Armed no later than due: external promises (C1), leases, retries, schedules; no others.

    A lease that ends with its holder's process, and not with time, is not.
    """
    wanted: tuple[dict[str, int | None], ...] = ({}, {}, {}, {})
    for p in machine.promises.values():
        if is_pending(p) and is_external(p):
            wanted[PROMISE][p.id] = p.timeout_at_ms
    for t in machine.tasks.values():
        is_timed = t.expires_at_ms is not None and t.expires_at_ms < NEVER_MS
        wanted[LEASE][t.id] = t.expires_at_ms if is_timed else None
        wanted[RETRY][t.id] = t.retry_at_ms
    for s in machine.schedules.values():
        wanted[SCHEDULE][s.id] = s.next_run_at_ms
    for armed, due in zip(machine.deadlines.armed, wanted, strict=True):
        for id, due_ms in due.items():
            if due_ms is not None and armed.get(id, due_ms + 1) > due_ms:
                yield id
        yield from (id for id in armed if due.get(id) is None)


def heap_is_bounded(machine: State, _: int | None) -> Ids:
    """Stale entries never outnumber the armed ones by more than the slack."""
    live = sum(map(len, machine.deadlines.armed))
    if len(machine.deadlines) > 2 * live + 128:
        yield f"{len(machine.deadlines)} entries for {live} deadlines"


def branches_are_indexed(machine: State, _: int | None) -> Ids:
    """The preload index holds exactly the promises that carry a branch tag."""
    wanted: dict[str, set[str]] = {}
    for p in machine.promises.values():
        if "resonate:branch" in p.tags:
            wanted.setdefault(p.tags["resonate:branch"], set()).add(p.id)
    for branch in wanted.keys() | machine.branches.keys():
        if wanted.get(branch) != set(machine.branches.get(branch, ())):
            yield branch


STATE_INVARIANTS: Final[dict[str, Callable[[State, int | None], Ids]]] = {
    predicate.__name__: predicate
    for predicate in (
        keys_are_ids,
        pending_iff_no_settled_at,
        pending_is_empty_and_young,
        settled_between_birth_and_deadline,
        settled_at_deadline_is_its_verdict,
        timedout_settles_at_deadline,
        waited_for_is_pending,
        waited_for_is_external,
        no_self_callback,
        awaiters_are_targeted,
        task_iff_target,
        settled_iff_fulfilled,
        acquired_iff_leased,
        pending_iff_retried,
        resumes_are_a_set,
        idle_was_told_nothing,
        suspended_waits_for_something,
        acquired_was_versioned,
        executes_fit_their_task,
        unblocks_are_settled,
        schedules_move_forward,
        deadlines_are_armed,
        heap_is_bounded,
        branches_are_indexed,
    )
}
"""What holds between any two steps: name -> ids that break it, of a machine at an instant."""
