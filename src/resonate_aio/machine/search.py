"""Searches, as pure functions over any iterable of records in any order.

The machine feeds them what it has in memory; a store that keeps settled promises elsewhere
may feed them its rows and get the same pages. Filters judge projected records, for every
reply shows those (C8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import nsmallest
from typing import TypeVar

from ..protocol.records import Promise, Schedule, Task, TaskState
from ..protocol.requests import PromiseSearch, Reply, ScheduleSearch, TaskSearch
from .transitions import TASK_FULFILLED, projected

R = TypeVar("R", Promise, Task, Schedule)


def has_tags(tags: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether every wanted tag is there with the wanted value."""
    return wanted.items() <= tags.items()


def page(records: Iterable[R], limit: int) -> tuple[tuple[R, ...], str | None]:
    """The first `limit` records in id order, and the cursor when more remain."""
    found = nsmallest(limit + 1, records, key=lambda record: record.id)
    if len(found) <= limit:
        return tuple(found), None
    return tuple(found[:limit]), found[limit - 1].id


def search_promises(records: Iterable[Promise], request: PromiseSearch, now_ms: int) -> Reply:
    """One page of the promises that the request asks for, projected."""
    after = request.cursor or ""
    found = (
        shown
        for promise in records
        if promise.id > after and has_tags(promise.tags, request.tags)
        for shown in (projected(promise, now_ms),)
        if request.state is None or shown.state is request.state
    )
    promises, cursor = page(found, request.limit)
    return Reply(200, promises=promises, cursor=cursor)


def search_tasks(
    records: Iterable[Task], promises: Mapping[str, Promise], request: TaskSearch, now_ms: int
) -> Reply:
    """One page of the tasks that the request asks for, projected."""
    after = request.cursor or ""
    found = (
        shown
        for task in records
        if task.id > after
        for shown in (view(task, promises.get(task.id), now_ms),)
        if request.state is None or shown.state is request.state
    )
    tasks, cursor = page(found, request.limit)
    return Reply(200, tasks=tasks, cursor=cursor)


def search_schedules(records: Iterable[Schedule], request: ScheduleSearch) -> Reply:
    """One page of the schedules whose promise tags include the wanted ones."""
    after = request.cursor or ""
    found = (
        schedule
        for schedule in records
        if schedule.id > after and has_tags(schedule.promise_tags, request.tags)
    )
    schedules, cursor = page(found, request.limit)
    return Reply(200, schedules=schedules, cursor=cursor)


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
