"""Claims of tasks: the name a lease bears (S60), and the dialect of an execution's ids (S61).

This file asks and dresses requests; what is held from then on is remembered elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from ...protocol.addresses import as_servers_read_it
from ...protocol.dialects import IDS_TAG, SEPARATORS, TARGET, Dialect, dialect_of, root_tags
from ...protocol.records import Promise, Task
from ...protocol.requests import (
    PromiseCreate,
    PromiseGet,
    Reply,
    Request,
    TaskAcquire,
    TaskCreate,
)


class RemoteClaims:
    """The claims of one client.

    Args:
        ask: Carries out one request.
        dialect: Of the ids below the roots that this client begins.
        ttl_ms: How long a lease lasts at most without a heartbeat.
    """

    def __init__(
        self, ask: Callable[[Request], Awaitable[Reply]], dialect: Dialect, *, ttl_ms: int
    ) -> None:
        self._ask = ask
        self._dialect = dialect
        self._ttl_ms = ttl_ms
        self._incarnation = ""

    def open(self, incarnation: str) -> None:
        """Claim under this name from now on; it was never used before."""
        self._incarnation = incarnation

    def holder(self, pid: str) -> str:
        """The name a lease bears: never used twice, so a task under it is surely this one's."""
        return f"{pid}~{self._incarnation}"

    def as_holder(self, request: TaskCreate | TaskAcquire) -> TaskCreate | TaskAcquire:
        """The claim as it goes out."""
        ttl_ms = min(request.ttl_ms, self._ttl_ms)
        pid = self.holder(request.pid)
        if isinstance(request, TaskCreate):
            return TaskCreate(pid, ttl_ms, self.with_lineage(request.action))
        return TaskAcquire(request.id, request.version, pid, ttl_ms)

    def with_lineage(self, create: PromiseCreate) -> PromiseCreate:
        """A top-level promise: what its own execution, and servers, go by (S61, S62)."""
        tags = {**root_tags(create.id, self._dialect), **create.tags}
        if TARGET in tags:
            tags[TARGET] = as_servers_read_it(tags[TARGET])
        return msgspec.structs.replace(create, tags=tags)

    async def with_dialect(
        self, task: Task, promise: Promise, preload: tuple[Promise, ...]
    ) -> tuple[Promise, Dialect]:
        """The promise of a claimed task, made to tell the dialect of its ids; that dialect."""
        dialect = dialect_of(promise) or await self._dialect_found(task, promise, preload)
        if promise.tags.get(IDS_TAG) != dialect:
            promise = msgspec.structs.replace(promise, tags={**promise.tags, IDS_TAG: dialect})
        return promise, dialect

    async def _dialect_found(
        self, task: Task, promise: Promise, preload: tuple[Promise, ...]
    ) -> Dialect:
        """Where a root does not tell its dialect, its children do, if it has any (S61)."""
        firsts = {f"{promise.id}{SEPARATORS[dialect]}1": dialect for dialect in Dialect}
        if task.version > 1:
            for known in preload:
                if known.id in firsts:
                    return firsts[known.id]
            for first, dialect in firsts.items():
                if (await self._ask(PromiseGet(first))).promise is not None:
                    return dialect
        return self._dialect
