"""Promises in memory: the store object is the storage.

What a call did is recorded the moment it returns, so nothing is ever acknowledged later.
The machine's list of changed ids is of no use here: who has to know what belongs together
asks `belonging.py`. This file knows no file and no thread.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from ..clock import Clock
from ..machine.transitions import delay_of
from ..protocol.records import Promise, PromiseState, TaskState, Value
from ..protocol.requests import PromiseGet, Reply, Request
from .base import LOST, Acked, Answered, Refusal
from .belonging import Belonging
from .in_process import InProcessStore
from .lineage import explicit_id, is_root, is_targeted, prefixes, unstorable

_FORGOTTEN_AT: Final = 1024
"""Changed ids that are worth the emptying of their list."""

_READ_AT_ONCE: Final = 8192
"""Promises that are read for a `load` before others have their turn (law 15)."""


class MemoryStore(InProcessStore):
    """Promises in this object's memory; they outlive `close` but not the process.

    Clients that are given the same object exchange calls. Constructing needs no loop.

    Args:
        clock: Where the time is read; the system's by default.
    """

    __slots__ = ("__weakref__", "_belonging")

    durable_at_once = True

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self._belonging = Belonging()

    # -- life

    async def open(self) -> None:
        """Make the store ready on the running loop; counts its users.

        Raises:
            UsageError: It is open on another loop that still runs.
        """
        self._enter(asyncio.get_running_loop())

    async def close(self) -> None:
        """Stop the timer and drop undelivered messages once the last user closes."""
        self.abandon()
        if self._leave():
            self._unbind()

    def crash_copy(self, *, clock: Clock | None = None) -> MemoryStore:
        """A store as the next process would find it had this one been killed now.

        Every record is there (all of it counts as recorded), every lease has ended: acquired
        tasks are pending, and pending tasks are due at once. Nothing is shared but frozen
        records; the original is not touched.
        """
        copy = MemoryStore(clock=clock if clock is not None else self._clock)
        source, target = self._machine, copy._machine
        now_ms = copy._clock.now_ms()
        for promise in source.promises.values():
            task = source.tasks.get(promise.id)
            if task is not None and task.state in {TaskState.ACQUIRED, TaskState.PENDING}:
                task = msgspec.structs.replace(
                    task,
                    state=TaskState.PENDING,
                    ttl_ms=None,
                    pid=None,
                    expires_at_ms=None,
                    retry_at_ms=max(now_ms, delay_of(promise)),
                )
            target.load(
                promise,
                task,
                tuple(source.callbacks.get(promise.id, ())),
                tuple(source.listeners.get(promise.id, ())),
            )
        for schedule in source.schedules.values():
            target.load_schedule(schedule)
        return copy

    # -- the two doors

    async def call(self, request: Request) -> Reply:
        """Carry out one request; everything the reply shows is recorded on return."""
        return self._carry_out(request)

    def post(self, request: Request, answered: Answered, context: Any) -> Reply:
        """Carry out one request at once."""
        return self._carry_out(request)

    def _carry_out(self, request: Request) -> Reply:
        self._check_open()
        fault = unstorable(request)
        if fault is not None:
            return Reply(400, error=fault)
        reply = self._machine.handle(request, self._clock.now_ms())
        self._effects()
        return reply

    def fence_create(
        self, task_id: str, version: int, promise: Promise, acked: Acked | None, context: Any
    ) -> Promise | Refusal | None:
        """Create a promise on condition that the task is held; never calls `acked`."""
        machine = self._machine
        # The caller read the clock for the record a moment ago.
        record = machine.fence_create(task_id, version, promise, promise.created_at_ms)
        if record is None:
            return LOST
        if promise.tags or machine.outbox:
            self._effects()
        return record

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
        """Settle a promise on condition that the task is held; never calls `acked`."""
        machine = self._machine
        record = machine.fence_settle(
            task_id, version, promise_id, state, value, self._clock.now_ms()
        )
        if record is None:
            return LOST
        if machine.outbox:
            self._effects()
        if len(machine.changed) > _FORGOTTEN_AT:
            machine.changed.clear()
        return record

    def fulfill(
        self,
        task_id: str,
        version: int,
        state: PromiseState,
        value: Value,
        acked: Acked,
        context: Any,
    ) -> Promise | Refusal | None:
        """Settle the task's own promise and end the task; never calls `acked`."""
        record = self._machine.fulfill(task_id, version, state, value, self._clock.now_ms())
        if record is None:
            return LOST
        if self._machine.outbox:
            self._effects()
        return record

    def flush(self) -> None:
        """Nothing to do: what was created is recorded."""

    def _effects(self) -> None:
        machine = self._machine
        if machine.outbox:
            messages = list(machine.outbox.values())
            machine.outbox.clear()
            for address, message in messages:
                self._hub.send(address, message)
        machine.changed_schedules.clear()
        if len(machine.changed) > _FORGOTTEN_AT:
            machine.changed.clear()
        self._arm()

    # -- what an execution recorded

    async def load(self, root: str) -> list[Promise]:
        """Every stored promise that replay of this execution may ask for (S9)."""
        promises, belonging = self._machine.promises, self._belonging
        while not belonging.read(promises, _READ_AT_ONCE):  # noqa: ASYNC110  there is no event
            await asyncio.sleep(0)
        found: dict[str, Promise] = {}
        trees = {root: None}
        waiting = [root]
        for tree in waiting:
            for id in belonging.owned.get(tree, ()):
                promise = promises[id]
                found[id] = promise
                named = explicit_id(promise)
                explicit = promises.get(named) if named else None
                if explicit is not None:
                    found[explicit.id] = explicit
                    if explicit.id not in trees and not is_targeted(explicit):
                        trees[explicit.id] = None
                        waiting.append(explicit.id)
        for tree in waiting:
            for id in belonging.foreign.get(tree, ()):
                if not self._is_elsewhere(id, tree, trees):
                    found.setdefault(id, promises[id])
        return list(found.values())

    def _is_elsewhere(self, id: str, tree: str, trees: dict[str, None]) -> bool:
        """Whether the id lies below another root or a record of others within the tree."""
        for prefix in prefixes(id):
            if len(prefix) > len(tree):
                above = self._machine.promises.get(prefix)
                if above is not None and (is_targeted(above) or above.owner not in trees):
                    return True
        return False

    # -- retention

    async def prune(self, settled_before_ms: int) -> int:
        """Delete whole executions whose root settled before the limit (S45).

        An execution stays while one of its local children is pending, or while an unsettled
        execution asked for its root. After deletion its ids may be used again.

        Returns:
            How many executions were deleted.
        """
        self._check_open()
        machine = self._machine
        now_ms = self._clock.now_ms()
        for promise in list(machine.promises.values()):
            if promise.state is PromiseState.PENDING and promise.timeout_at_ms <= now_ms:
                machine.handle(PromiseGet(promise.id), now_ms)
        self._effects()
        self._belonging.read(machine.promises)
        wanted = self._named_by_unsettled()
        roots = [
            promise
            for promise in machine.promises.values()
            if promise.settled_at_ms is not None
            and promise.settled_at_ms < settled_before_ms
            and is_root(promise)
            and promise.id not in wanted
            and not self._is_unsettled(promise.owner)
            and not any(self._is_unsettled(prefix) for prefix in prefixes(promise.id))
        ]
        return sum(self._delete(root) for root in roots)

    def _named_by_unsettled(self) -> set[str]:
        wanted: set[str] = set()
        for promise in self._machine.promises.values():
            named = explicit_id(promise)
            if named and self._is_unsettled(promise.owner):
                wanted.add(named)
        return wanted

    def _is_unsettled(self, id: str) -> bool:
        promise = self._machine.promises.get(id)
        return promise is not None and promise.settled_at_ms is None

    def _delete(self, root: Promise) -> bool:
        promises = self._machine.promises
        local = [
            promises[id]
            for id in self._belonging.owned.get(root.id, ())
            if not is_targeted(promises[id])
        ]
        if any(promise.settled_at_ms is None for promise in local):
            return False
        for promise in (*local, root):
            self._machine.forget(promise.id)
            self._belonging.remove(promise)
        return True
