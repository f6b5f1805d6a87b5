"""The schedule.* requests and the firing of schedules (R7; current-protocol §4.3, §5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from ..protocol.records import EMPTY, Promise, Schedule, is_timer, target_of
from ..protocol.requests import (
    Reply,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    ScheduleSearch,
)
from .cron import fault_of, occurrences
from .deadlines import SCHEDULE
from .promises import absent
from .search import search_schedules
from .state import State
from .transitions import PENDING, create, touch

NEVER_MS: Final = 2**53 - 1
"""The next run of a schedule whose calendar has run out; no clock gets there."""


def schedule_create(state: State, request: ScheduleCreate, now_ms: int) -> Reply:
    """Create a schedule; an existing id is answered as it stands."""
    next_run_at_ms = next(occurrences(request.cron, now_ms), None)
    if next_run_at_ms is None:
        fault = fault_of(request.cron) or "no instant to come"
        return Reply(400, error=f"cron {request.cron!r:.300} names no instant to come: {fault}")
    schedule = state.schedules.get(request.id)
    if schedule is None:
        schedule = Schedule(
            id=request.id,
            cron=request.cron,
            promise_id=request.promise_id,
            promise_timeout_ms=request.promise_timeout_ms,
            created_at_ms=now_ms,
            next_run_at_ms=next_run_at_ms,
            promise_param=request.promise_param,
            promise_tags=request.promise_tags,
        )
        _put(state, schedule)
    return Reply(200, schedule=schedule)


def schedule_get(state: State, request: ScheduleGet, now_ms: int) -> Reply:
    """Read one schedule."""
    schedule = state.schedules.get(request.id)
    if schedule is None:
        return absent("schedule", request.id)
    return Reply(200, schedule=schedule)


def schedule_delete(state: State, request: ScheduleDelete, now_ms: int) -> Reply:
    """Delete one schedule; promises it created stay."""
    if state.schedules.pop(request.id, None) is None:
        return absent("schedule", request.id)
    state.changed_schedules[request.id] = None
    state.deadlines.disarm(SCHEDULE, request.id)
    return Reply(200)


def schedule_search(state: State, request: ScheduleSearch, now_ms: int) -> Reply:
    """List schedules by the tags of their promises."""
    return search_schedules(state.schedules.values(), request)


def fire(state: State, schedule: Schedule, now_ms: int, limit: int) -> int:
    """Create the promises of at most `limit` occurrences that are due; returns how many (R7)."""
    fired = 0
    next_run_at_ms = schedule.next_run_at_ms
    last_run_at_ms = schedule.last_run_at_ms
    instants = occurrences(schedule.cron, next_run_at_ms)
    while next_run_at_ms <= now_ms and fired < limit:
        _fire_once(state, schedule, next_run_at_ms, now_ms)
        fired += 1
        last_run_at_ms = next_run_at_ms
        next_run_at_ms = next(instants, NEVER_MS)
    if fired:
        _put(
            state,
            msgspec.structs.replace(
                schedule, next_run_at_ms=next_run_at_ms, last_run_at_ms=last_run_at_ms
            ),
        )
    return fired


def due_ids(schedule: Schedule, now_ms: int, limit: int) -> Iterator[str]:
    """The ids of the promises that `fire` would create."""
    at_ms = schedule.next_run_at_ms
    instants = occurrences(schedule.cron, at_ms)
    while at_ms <= now_ms and limit > 0:
        yield expand(schedule.promise_id, schedule.id, at_ms)
        limit -= 1
        at_ms = next(instants, NEVER_MS)


def take_overdue(state: State, now_ms: int) -> list[tuple[str, int]]:
    """The schedules that have caught up, and how many executions of theirs came too late to run.

    They are told once: what is returned is counted no more.
    """
    told = []
    for id, count in list(state.overdue.items()):
        schedule = state.schedules.get(id)
        if schedule is None or schedule.next_run_at_ms > now_ms:
            told.append((id, count))
            del state.overdue[id]
    return told


def expand(template: str, schedule_id: str, at_ms: int) -> str:
    """The promise id of one occurrence."""
    return template.replace("{{.id}}", schedule_id).replace("{{.timestamp}}", str(at_ms))


def _fire_once(state: State, schedule: Schedule, at_ms: int, now_ms: int) -> None:
    id = expand(schedule.promise_id, schedule.id, at_ms)
    if touch(state, id, now_ms) is not None:
        return
    # A root of its own: what a worker's client would have tagged it with. Nobody who made the
    # schedule can say otherwise (§8).
    lineage = {"resonate:origin": id, "resonate:branch": id, "resonate:parent": id}
    promise = Promise(
        id=id,
        state=PENDING,
        timeout_at_ms=at_ms + schedule.promise_timeout_ms,
        created_at_ms=at_ms,
        param=schedule.promise_param,
        value=EMPTY,
        tags={**schedule.promise_tags, **lineage, "resonate:schedule": schedule.id},
    )
    create(state, promise, at_ms, now_ms)
    state.scheduled += 1
    if promise.timeout_at_ms <= now_ms and target_of(promise) and not is_timer(promise):
        state.overdue[schedule.id] = state.overdue.get(schedule.id, 0) + 1


def _put(state: State, schedule: Schedule) -> None:
    state.schedules[schedule.id] = schedule
    state.changed_schedules[schedule.id] = None
    state.deadlines.arm(SCHEDULE, schedule.id, schedule.next_run_at_ms)
