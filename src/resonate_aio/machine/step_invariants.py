"""What holds across any step of a machine (current-protocol §4.4, second half).

Each predicate is a plain function of a step that yields the ids that break it;
`TRANSITION_INVARIANTS` names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from ..protocol.records import Promise, Schedule, Task, TaskState, is_pending
from ..protocol.requests import Message
from .state import OutboxKey
from .transitions import is_live

Ids = Iterator[str]


class Snapshot(msgspec.Struct, frozen=True):
    """What a machine held at one moment."""

    promises: dict[str, Promise]
    tasks: dict[str, Task]
    schedules: dict[str, Schedule]
    callbacks: dict[str, frozenset[str]]
    listeners: dict[str, frozenset[str]]
    outbox: dict[OutboxKey, tuple[str, Message]]
    changed: frozenset[str]
    changed_schedules: frozenset[str]


class Step(msgspec.Struct, frozen=True):
    """One step: what was before and after, when (None: unknown), and whether nobody asked."""

    before: Snapshot
    after: Snapshot
    now_ms: int | None
    background: bool

    def kept_promises(self) -> Iterator[tuple[Promise, Promise]]:
        """The promises that were there before and are still, old and new."""
        after = self.after.promises
        return ((old, after[id]) for id, old in self.before.promises.items() if id in after)

    def kept_tasks(self) -> Iterator[tuple[Task, Task]]:
        """The tasks that were there before and are still, old and new."""
        after = self.after.tasks
        return ((old, after[id]) for id, old in self.before.tasks.items() if id in after)

    def entered(self, state: TaskState) -> Iterator[tuple[TaskState, Task]]:
        """The tasks that entered a state, with the state they came from."""
        return (
            (old.state, task)
            for old, task in self.kept_tasks()
            if task.state is state and old.state is not state
        )


def birth_is_immutable(step: Step) -> Ids:
    """What a promise was created with never changes."""
    return (
        old.id
        for old, new in step.kept_promises()
        if (old.param, old.tags, old.timeout_at_ms, old.created_at_ms, old.owner)
        != (new.param, new.tags, new.timeout_at_ms, new.created_at_ms, new.owner)
    )


def settled_is_frozen(step: Step) -> Ids:
    """A settled promise never changes."""
    return (old.id for old, new in step.kept_promises() if not is_pending(old) and old != new)


def pending_stays_loaded(step: Step) -> Ids:
    """Only settled promises leave memory."""
    return (
        old.id
        for old in step.before.promises.values()
        if is_pending(old) and old.id not in step.after.promises
    )


def waiters_grow_while_pending(step: Step) -> Ids:
    """Callbacks and listeners only grow while the promise is pending, only shrink after."""
    for id, promise in step.after.promises.items():
        for old, new in (
            (step.before.callbacks, step.after.callbacks),
            (step.before.listeners, step.after.listeners),
        ):
            before, after = old.get(id, frozenset()), new.get(id, frozenset())
            if not (before <= after if is_pending(promise) else after <= before):
                yield id


def version_grows_on_acquisition(step: Step) -> Ids:
    """The version changes on acquisition only, by exactly one; a new task begins at 0 or 1."""
    for old, new in step.kept_tasks():
        acquired = old.state is TaskState.PENDING and new.state is TaskState.ACQUIRED
        if new.version - old.version != int(acquired):
            yield new.id
    for id, new in step.after.tasks.items():
        new_born = id not in step.before.tasks and id in step.after.changed
        if new_born and new.version != int(new.state is TaskState.ACQUIRED):
            yield id


def acquired_from_pending(step: Step) -> Ids:
    """Only a pending task is acquired (C10)."""
    return (
        task.id for old, task in step.entered(TaskState.ACQUIRED) if old is not TaskState.PENDING
    )


def suspended_from_acquired(step: Step) -> Ids:
    """Only an acquired task is suspended."""
    return (
        task.id for old, task in step.entered(TaskState.SUSPENDED) if old is not TaskState.ACQUIRED
    )


def halted_leaves_via_pending(step: Step) -> Ids:
    """A halted task becomes pending or fulfilled, nothing else."""
    leaves_to = (TaskState.HALTED, TaskState.PENDING, TaskState.FULFILLED)
    return (
        old.id
        for old, new in step.kept_tasks()
        if old.state is TaskState.HALTED and new.state not in leaves_to
    )


def fulfilled_is_final(step: Step) -> Ids:
    """A fulfilled task never changes."""
    return (
        old.id for old, new in step.kept_tasks() if old.state is TaskState.FULFILLED and old != new
    )


def lease_is_one_ttl(step: Step) -> Ids:
    """A lease that is given or extended ends one ttl from now."""
    for id, new in step.after.tasks.items():
        old = step.before.tasks.get(id)
        if new.expires_at_ms is None or id not in step.after.changed:
            continue
        if old is not None and old.expires_at_ms == new.expires_at_ms:
            continue
        now_ms = step.now_ms
        if now_ms is not None and new.expires_at_ms != now_ms + (new.ttl_ms or 0):
            yield id


def dispatched_is_live(step: Step) -> Ids:
    """No execute is sent for a promise that is settled or past its deadline (C5)."""
    for key, sent in step.after.outbox.items():
        if key[0] == "execute" and step.before.outbox.get(key) is not sent:
            promise = step.after.promises[key[1]]
            now_ms = promise.created_at_ms if step.now_ms is None else step.now_ms
            if not is_live(promise, now_ms):
                yield key[1]


def background_takes_no_task(step: Step) -> Ids:
    """A background step never acquires, suspends, halts or continues."""
    if step.background:
        for state in (TaskState.ACQUIRED, TaskState.SUSPENDED, TaskState.HALTED):
            yield from (task.id for _, task in step.entered(state))
        yield from (
            task.id for old, task in step.entered(TaskState.PENDING) if old is TaskState.HALTED
        )


def background_settles_by_deadline(step: Step) -> Ids:
    """A background step settles at a promise's deadline and in no other way."""
    if step.background:
        for old, new in step.kept_promises():
            if is_pending(old) and new.settled_at_ms not in {None, new.timeout_at_ms}:
                yield new.id


def changes_are_named(step: Step) -> Ids:
    """Every id whose record or waiters differ is among the changed ones."""
    before, after = step.before, step.after
    tables: tuple[tuple[dict[str, object], dict[str, object]], ...] = (
        ({**before.promises}, {**after.promises}),
        ({**before.tasks}, {**after.tasks}),
        ({**before.callbacks}, {**after.callbacks}),
        ({**before.listeners}, {**after.listeners}),
    )
    for old, new in tables:
        for id in old.keys() | new.keys():
            forgotten = id in before.promises and id not in after.promises
            if old.get(id) != new.get(id) and id not in after.changed and not forgotten:
                yield id
    for id in before.schedules.keys() | after.schedules.keys():
        differs = before.schedules.get(id) != after.schedules.get(id)
        if differs and id not in after.changed_schedules:
            yield id


TRANSITION_INVARIANTS: Final[dict[str, Callable[[Step], Ids]]] = {
    predicate.__name__: predicate
    for predicate in (
        birth_is_immutable,
        settled_is_frozen,
        pending_stays_loaded,
        waiters_grow_while_pending,
        version_grows_on_acquisition,
        acquired_from_pending,
        suspended_from_acquired,
        halted_leaves_via_pending,
        fulfilled_is_final,
        lease_is_one_ttl,
        dispatched_is_live,
        background_takes_no_task,
        background_settles_by_deadline,
        changes_are_named,
    )
}
"""What holds across a step: name -> ids that break it."""
