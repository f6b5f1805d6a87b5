"""Searches, as pure functions over records.

The machine feeds them what it has in memory, in the order of the ids where there may be many.
Filters judge projected records, for every reply shows those (C8).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from heapq import nsmallest
from itertools import islice

from ..protocol.records import Promise, Schedule, Task, TaskState
from ..protocol.requests import PromiseSearch, Reply, ScheduleSearch, TaskSearch
from .state import State
from .transitions import TASK_FULFILLED, projected


def has_tags(tags: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether every wanted tag is there with the wanted value."""
    return wanted.items() <= tags.items()


def after(state: State, cursor: str | None) -> Iterator[Promise]:
    """The promises with a greater id than the cursor's, in order (law 15: not all of them)."""
    if len(state.in_order) != len(state.promises):
        state.in_order = sorted(state.promises)
    in_order, promises = state.in_order, state.promises
    for at in range(bisect_right(in_order, cursor or ""), len(in_order)):
        yield promises[in_order[at]]


def search_promises(records: Iterable[Promise], request: PromiseSearch, now_ms: int) -> Reply:
    """One page of the promises that the request asks for, projected.

    Args:
        records: Those after its cursor, in order of their ids.
    """
    found = (
        shown
        for promise in records
        if has_tags(promise.tags, request.tags)
        for shown in (projected(promise, now_ms),)
        if request.state is None or shown.state is request.state
    )
    page = tuple(islice(found, request.limit + 1))
    if len(page) <= request.limit:
        return Reply(200, promises=page)
    return Reply(200, promises=page[:-1], cursor=page[-2].id)


def search_tasks(
    promises: Iterable[Promise], tasks: Mapping[str, Task], request: TaskSearch, now_ms: int
) -> Reply:
    """One page of the tasks that the request asks for, projected.

    Args:
        promises: Those after its cursor, in order of their ids.
    """
    found = (
        shown
        for promise in promises
        if (task := tasks.get(promise.id)) is not None
        for shown in (view(task, promise, now_ms),)
        if request.state is None or shown.state is request.state
    )
    page = tuple(islice(found, request.limit + 1))
    if len(page) <= request.limit:
        return Reply(200, tasks=page)
    return Reply(200, tasks=page[:-1], cursor=page[-2].id)


def search_schedules(records: Iterable[Schedule], request: ScheduleSearch) -> Reply:
    """One page of the schedules whose promise tags include the wanted ones."""
    after_id = request.cursor or ""
    found = (
        schedule
        for schedule in records
        if schedule.id > after_id and has_tags(schedule.promise_tags, request.tags)
    )
    page = tuple(nsmallest(request.limit + 1, found, key=lambda schedule: schedule.id))
    if len(page) <= request.limit:
        return Reply(200, schedules=page)
    return Reply(200, schedules=page[:-1], cursor=page[-2].id)


def view(task: Task, promise: Promise | None, now_ms: int) -> Task:
    """The task as every reader sees it: fulfilled once its promise is not live (§4.1)."""
    if task.state is TaskState.FULFILLED or promise is None:
        return task
    if projected(promise, now_ms) is promise:
        return task
    return Task(
        id=task.id,
        state=TASK_FULFILLED,
        version=task.version,
        acquired_at_ms=task.acquired_at_ms,
    )
