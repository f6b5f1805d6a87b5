"""The internal steps that are due: what a store does on its own initiative (§4.3).

Every entry of the heap is compared with the record it speaks of and every guard is checked
again, so a late, early or repeated sweep is safe. R3 and R4 have no entry: they run inside
the step that settles.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from .deadlines import LEASE, PROMISE, RETRY, SCHEDULE, Entry
from .schedules import due_ids, fire
from .state import State
from .transitions import (
    PENDING,
    TASK_ACQUIRED,
    TASK_PENDING,
    dispatch,
    expire,
    is_live,
    release,
)

FIRES_PER_SWEEP: Final = 1_000
"""Occurrences of schedules fired in one sweep; the others are due in the next, at once."""


def sweep(state: State, now_ms: int, limit: int | None) -> None:
    """Run the due steps R1, R5, R6 and R7, at most `limit` of them."""
    deadlines = state.deadlines
    fires = FIRES_PER_SWEEP
    unfinished: list[str] = []
    while (entry := _first(state)) is not None and entry[0] <= now_ms:
        if limit is not None:
            if limit <= 0:
                break
            limit -= 1
        deadlines.take(entry)
        if entry[1] != SCHEDULE:
            _step(state, entry, now_ms)
            continue
        schedule = state.schedules[entry[2]]
        if fires > 0:
            fires -= fire(state, schedule, now_ms, fires)
            schedule = state.schedules[entry[2]]
        if schedule.next_run_at_ms <= now_ms:
            deadlines.disarm(SCHEDULE, schedule.id)
            unfinished.append(schedule.id)
    for id in unfinished:
        deadlines.arm(SCHEDULE, id, state.schedules[id].next_run_at_ms)


def next_due_ms(state: State) -> int | None:
    """The instant of the next internal step, or None."""
    entry = _first(state)
    return None if entry is None else entry[0]


def ids_swept(state: State, now_ms: int) -> tuple[str, ...]:
    """The ids that schedules due by now would create in the next sweep."""
    ids: dict[str, None] = {}
    for id, due_ms in state.deadlines.armed[SCHEDULE].items():
        if due_ms <= now_ms:
            ids.update(dict.fromkeys(due_ids(state.schedules[id], now_ms, FIRES_PER_SWEEP)))
    return tuple(ids)


def schedules_creating(state: State, ids: Container[str], now_ms: int) -> list[str]:
    """The schedules due by now that would create one of these ids in the next sweep."""
    return [
        id
        for id, due_ms in state.deadlines.armed[SCHEDULE].items()
        if due_ms <= now_ms
        and any(due in ids for due in due_ids(state.schedules[id], now_ms, FIRES_PER_SWEEP))
    ]


def _step(state: State, entry: Entry, now_ms: int) -> None:
    """One step on a promise or a task; its entry is taken from the heap."""
    _, kind, id = entry
    promise = state.promises[id]
    if kind == PROMISE or not is_live(promise, now_ms):
        expire(state, promise, now_ms)  # The deadline comes before lease and retry (C5).
        return
    task = state.tasks[id]
    if kind == LEASE:
        release(state, task, now_ms)
    else:
        dispatch(state, task, now_ms)


def _first(state: State) -> Entry | None:
    """The earliest entry whose record says so; the ones met before it are put right."""
    deadlines = state.deadlines
    while (entry := deadlines.first()) is not None:
        due_ms = _due_ms(state, entry[1], entry[2])
        if due_ms == entry[0]:
            return entry
        if due_ms is None:
            deadlines.take(entry)
        else:
            deadlines.move(entry, due_ms)
    return None


def _due_ms(state: State, kind: int, id: str) -> int | None:
    """When the record itself says that it is due; None if it is not at all."""
    if kind == PROMISE:
        promise = state.promises.get(id)
        due = promise is not None and promise.state is PENDING
        return promise.timeout_at_ms if promise is not None and due else None
    if kind == SCHEDULE:
        schedule = state.schedules.get(id)
        return None if schedule is None else schedule.next_run_at_ms
    task = state.tasks.get(id)
    if task is None:
        return None
    if kind == LEASE:
        return task.expires_at_ms if task.state is TASK_ACQUIRED else None
    assert kind == RETRY
    return task.retry_at_ms if task.state is TASK_PENDING else None
