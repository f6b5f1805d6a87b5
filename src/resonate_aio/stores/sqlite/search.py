"""Searches over the file: rows a page at a time, filtered as the machine would show them.

Memory holds only what is pending, so a search reads the file, after everything that changed
was written there. Pages are short jobs, so commits are not kept waiting.
"""

from __future__ import annotations

from ...machine.search import has_tags, view
from ...machine.transitions import projected
from ...protocol.records import Promise, Task
from ...protocol.requests import PromiseSearch, Reply, TaskSearch
from .commits import Commits
from .jobs import ReadPage, searched_states
from .rows import Stored


async def search(store: Commits, request: PromiseSearch | TaskSearch, now_ms: int) -> Reply:
    """One page of what the request asks for, in id order."""
    await store.barrier()
    promises: list[Promise] = []
    tasks: list[Task] = []
    after = request.cursor or ""
    cursor = None
    while cursor is None:
        page = _page_after(request, after)
        await store.run(page.read)
        store.report(page.unreadable)
        for stored in page.rows:
            if len(promises) > request.limit:
                break
            _take(request, stored, now_ms, promises, tasks)
        if len(promises) > request.limit:
            cursor = promises[-2].id
            promises.pop()
            tasks = tasks[: request.limit]
        elif page.is_last:
            break
        else:
            after = page.last_id
    if isinstance(request, TaskSearch):
        return Reply(200, tasks=tuple(tasks), cursor=cursor)
    return Reply(200, promises=tuple(promises), cursor=cursor)


def _page_after(request: PromiseSearch | TaskSearch, after: str) -> ReadPage:
    if isinstance(request, TaskSearch):
        return ReadPage(after, (), tasks=True)
    return ReadPage(after, searched_states(request.state), tasks=False)


def _take(
    request: PromiseSearch | TaskSearch,
    stored: Stored,
    now_ms: int,
    promises: list[Promise],
    tasks: list[Task],
) -> None:
    """Add what the row shows if it matches; both lists grow together for tasks."""
    shown = projected(stored.promise, now_ms)
    if isinstance(request, TaskSearch):
        if stored.task is None:
            return
        task = view(stored.task, stored.promise, now_ms)
        if request.state is None or task.state is request.state:
            tasks.append(task)
            promises.append(shown)
    elif has_tags(shown.tags, request.tags) and (
        request.state is None or shown.state is request.state
    ):
        promises.append(shown)
