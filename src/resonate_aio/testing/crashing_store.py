"""A store that ends the life of its process before or after a chosen operation.

Wraps any store. An operation is one entry into the store that may change or read what is
recorded; `watch`, `subscribe` and `flush` are none. Once the life has ended every further
entry raises `Killed`, so that nothing of a dead life reaches the records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from ..protocol.records import Promise, PromiseState, Value
from ..protocol.requests import Message, Reply, Request
from ..stores.base import Acked, Answered, Refusal, Store, TellingStore
from .loop import Killed


class CrashingStore:
    """A store that ends the life before or after its n-th operation.

    Args:
        crash_at: Twice the number of the operation (from 0), plus 1 to crash after it.
        crash: Carries the crash out.

    Attributes:
        operations: How many operations there were.
        last: What the last one was, for a message.
        is_dead: Whether the life has ended.
    """

    def __init__(self, inner: Store, crash_at: int | None, crash: Callable[[], None]) -> None:
        self._inner = inner
        self._crash_at = crash_at
        self._crash = crash
        self.is_dead = False
        self.operations = 0
        self.last: tuple[str, object] = ("nothing", "")
        self.in_process = inner.in_process
        self.durable_at_once = inner.durable_at_once
        if isinstance(inner, TellingStore):
            self.afterwards = inner.afterwards

    @contextlib.contextmanager
    def _operation(self, verb: str, subject: object) -> Iterator[None]:
        self._end_if_dead()
        point = 2 * self.operations
        self.operations += 1
        self.last = (verb, subject)
        if point == self._crash_at:
            self._end()
        yield
        self._end_if_dead()
        if point + 1 == self._crash_at:
            self.last = (verb, subject)
            self._end()

    def _end(self) -> None:
        self.is_dead = True
        self._crash()
        raise Killed

    def _end_if_dead(self) -> None:
        if self.is_dead:
            raise Killed

    def kill(self) -> None:
        """The life ended between two operations: no further one gets through."""
        self.is_dead = True

    async def open(self) -> None:
        """As the store's."""
        await self._inner.open()

    async def close(self) -> None:
        """As the store's."""
        await self._inner.close()

    async def call(self, request: Request) -> Reply:
        """One operation."""
        with self._operation("call", request):
            return await self._inner.call(request)

    def post(self, request: Request, answered: Answered, context: Any) -> Reply | None:
        """One operation."""
        with self._operation("post", request):
            return self._inner.post(request, answered, context)

    async def load(self, root: str) -> list[Promise]:
        """One operation."""
        with self._operation("load", root):
            return await self._inner.load(root)

    async def prune(self, settled_before_ms: int) -> int:
        """One operation."""
        inner: Any = self._inner  # the stores of a stage are of this process: they can
        with self._operation("prune", settled_before_ms):
            pruned: int = await inner.prune(settled_before_ms)
            return pruned

    def fence_create(
        self, task_id: str, version: int, promise: Promise, acked: Acked | None, context: Any
    ) -> Promise | Refusal | None:
        """One operation."""
        with self._operation("create", promise.id):
            return self._inner.fence_create(task_id, version, promise, acked, context)

    def fence_settle(
        self,
        task_id: str,
        version: int,
        promise_id: str,
        state: PromiseState,
        value: Value,
        acked: Acked,
        context: Any,
    ) -> Promise | Refusal | None:
        """One operation."""
        with self._operation("settle", promise_id):
            return self._inner.fence_settle(
                task_id, version, promise_id, state, value, acked, context
            )

    def fulfill(
        self,
        task_id: str,
        version: int,
        state: PromiseState,
        value: Value,
        acked: Acked,
        context: Any,
    ) -> Promise | Refusal | None:
        """One operation."""
        with self._operation("fulfill", task_id):
            return self._inner.fulfill(task_id, version, state, value, acked, context)

    def flush(self) -> None:
        """As the store's."""
        self._end_if_dead()
        self._inner.flush()

    def watch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """As the store's."""
        self._end_if_dead()
        self._inner.watch(promise_id, settled)

    def unwatch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """As the store's."""
        self._end_if_dead()
        self._inner.unwatch(promise_id, settled)

    def untaken_target(self, id: str) -> str | None:
        """As the store's."""
        inner: Any = self._inner
        target: str | None = inner.untaken_target(id)
        return target

    def subscribe(
        self,
        group: str,
        pid: str,
        deliver: Callable[[Message], None],
        taken: Callable[[Promise], None] | None = None,
        lost: Callable[[str, int], None] | None = None,
    ) -> Callable[[], None]:
        """As the store's."""
        self._end_if_dead()
        return self._inner.subscribe(group, pid, deliver, taken, lost)
