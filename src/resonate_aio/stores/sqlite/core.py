"""The door for requests, and what an execution recorded: the store of one SQLite file.

All that is pending is in memory; a settled promise is in the file only, so a request that
names one looks it up first. This file knows no SQL and commits nothing itself.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from ...errors import UnreadableRecordError
from ...protocol.records import Promise, PromiseState, Task, TaskState
from ...protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseSearch,
    Reply,
    Request,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    TaskAcquire,
    TaskCreate,
    TaskFence,
    TaskGet,
    TaskHeartbeat,
    TaskSearch,
)
from ...protocol.validation import refusal
from ..answers import resolve, tell
from ..base import Answered
from ..in_process import NEVER_MS
from ..lineage import unstorable
from .commits import Commits
from .fenced import FencedDoor
from .holds import Hold
from .jobs import Lookup, Scan
from .prune import Prune
from .search import search

_ACQUIRED = TaskState.ACQUIRED
_READS = frozenset({PromiseGet, TaskGet})


class SqliteCore(FencedDoor):
    """The store of one file in this process; its clients here share it."""

    __slots__ = ()

    # -- requests

    async def call(self, request: Request) -> Reply:
        """Carry out one request; everything the reply shows is durable on return."""
        if isinstance(request, (PromiseSearch, TaskSearch)):
            return await self._search(request)
        later: asyncio.Future[Reply] = self._check_open().create_future()
        reply = self.post(request, resolve, later)
        return reply if reply is not None else await later

    async def _search(self, request: PromiseSearch | TaskSearch) -> Reply:
        fault = unstorable(request) or refusal(request)
        if fault is not None:
            return Reply(400, error=fault)
        return await search(self, request, self._clock.now_ms())

    def post(self, request: Request, answered: Answered, context: Any) -> Reply | None:
        """Start one request; `answered` is called once everything the reply shows is durable."""
        loop = self._check_open()
        if isinstance(request, (PromiseSearch, TaskSearch)):
            tell(loop.create_task(self._search(request)), answered, context)
            return None
        fault = unstorable(request)
        if fault is not None:
            return Reply(400, error=fault)
        if isinstance(request, TaskHeartbeat):
            return self._heartbeat(request)
        if isinstance(request, (ScheduleCreate, ScheduleDelete, ScheduleGet)):
            unreadable = self._unreadable.get(("schedule", request.id))
            if unreadable is not None:
                raise unreadable
        return self._ask(request, answered, context)

    def _ask(self, request: Request, answered: Answered, context: Any) -> Reply | None:
        """Look up what memory lacks, if anything, and go on to `_answer`."""
        machine = self._machine
        named = machine.ids_named(request)
        hold = scan = new = None
        if isinstance(request, (TaskCreate, TaskAcquire)):
            is_create = isinstance(request, TaskCreate)
            root = request.action.id if isinstance(request, TaskCreate) else request.id
            hold = self._holds.claim(root)
            task = machine.tasks.get(root)
            # Nobody recorded anything below a root that was never held, but others may have.
            if task is not None and task.version == 0 and task.state is TaskState.PENDING:
                scan = Scan(root)
            elif is_create and root not in machine.promises:
                new = root
        if scan is not None or not machine.promises.keys() >= set(named):
            # All of them: what is in memory now may have been forgotten when the answer comes.
            then = partial(self._looked, request, hold, answered, context)
            self._look(Lookup(named, scan, new), then)
            return None
        return self._answer(request, hold, answered, context, None)

    def _looked(
        self,
        request: Request,
        hold: Hold | None,
        answered: Answered,
        context: Any,
        lookup: Lookup,
    ) -> None:
        """The look-up is there: go on, and tell of what is known at once."""
        answer: Reply | BaseException | None
        if lookup.error is not None:
            if hold is not None:
                hold.claims -= 1
                self._end_unless_held(hold)
            answer = self._trouble(lookup.error)
        else:
            try:
                answer = self._answer(request, hold, answered, context, lookup)
            except Exception as error:  # noqa: BLE001  a bug of ours must reach whoever waits
                answer = error
        if answer is not None:
            answered(context, answer)

    def _answer(
        self,
        request: Request,
        hold: Hold | None,
        answered: Answered,
        context: Any,
        lookup: Lookup | None,
    ) -> Reply | None:
        answer = self._machine.handle(request, self._clock.now_ms())
        if hold is not None:
            self._claimed(hold, answer, lookup)
        self._note_created(request)
        self._effects()
        if answer.status == 400 or (
            type(request) in _READS and not self._is_uncommitted(request.id)  # type: ignore[union-attr]
        ):
            return answer
        return None if self._after_commit(answered, context, answer) else answer

    def _note_created(self, request: Request) -> None:
        """What is put below a held root from outside stays in memory while it is held."""
        if isinstance(request, PromiseCreate):
            self._holds.keep_below(request.id)
        elif isinstance(request, TaskCreate):
            self._holds.keep_below(request.action.id)
        elif isinstance(request, TaskFence) and request.id in self._holds.by_root:
            self._holds.by_root[request.id].found = None

    def _claimed(self, hold: Hold, answer: Reply, lookup: Lookup | None) -> None:
        hold.claims -= 1
        task = answer.task
        if answer.status != 200 or task is None or task.state is not _ACQUIRED:
            self._end_unless_held(hold)
            return
        self._holds.doubt(hold.root)
        hold.found = None
        if task.version == 1 and lookup is not None:
            if lookup.scan is not None:
                hold.found = self._learn(hold, lookup.scan)
            elif lookup.new is not None:
                hold.found = []  # there was nothing, under its id or below

    def _heartbeat(self, request: TaskHeartbeat) -> Reply:
        """Leases end with this process, so how long they last is not worth a row."""
        machine = self._machine
        changed, machine.changed = machine.changed, {}
        answer = machine.handle(request, self._clock.now_ms())
        machine.changed = changed
        self._arm()
        return answer

    # -- what an execution recorded

    async def load(self, root: str) -> list[Promise]:
        """Every stored promise that replay of this execution may ask for (S9)."""
        loop = self._check_open()
        hold = self._holds.by_root.get(root)
        if hold is not None and hold.found is not None:
            found = hold.found
            self._holds.trust(hold)
            promises = self._machine.promises
            return [promises.get(promise.id, promise) for promise in found]
        await self.barrier()
        done: asyncio.Future[list[Promise]] = loop.create_future()
        self._look(
            Lookup((), Scan(root), None),
            partial(self._loaded, root, self._machine.tasks.get(root), done),
        )
        return await done

    def _loaded(
        self, root: str, task: Task | None, done: asyncio.Future[list[Promise]], lookup: Lookup
    ) -> None:
        if lookup.error is not None or lookup.scan is None:
            if not done.done():
                done.set_exception(self._trouble(lookup.error))
            return
        hold = self._holds.by_root.get(root)
        if hold is not None and self._is_held(root, task.version if task is not None else -1):
            found = self._learn(hold, lookup.scan)
            self._holds.trust(hold)
        else:
            promises = self._machine.promises
            found = [promises.get(s.promise.id, s.promise) for s in lookup.scan.found.values()]
        if not done.done():
            done.set_result(found)

    def _learn(self, hold: Hold, scan: Scan) -> list[Promise]:
        """Take into memory what others put below the root, and keep it for the hold."""
        promises = self._machine.promises
        for tree in scan.trees:
            self._holds.cover(hold, tree)
        for id, stored in scan.found.items():
            if stored.promise.owner not in scan.trees:
                self._load_kept(hold, id, stored)
        return [promises.get(id, stored.promise) for id, stored in scan.found.items()]

    # -- time and retention

    def _sweep(self, now_ms: int) -> None:
        machine = self._machine
        named = machine.ids_swept(now_ms)
        if machine.promises.keys() >= set(named):
            super()._sweep(now_ms)
            return

        def then(lookup: Lookup) -> None:
            self._armed_ms = NEVER_MS
            if lookup.unreadable:
                self._set_schedules_aside(lookup.unreadable, now_ms)
            elif lookup.error is not None:
                return
            Commits._sweep(self, now_ms)

        self._armed_ms = -1  # no other timer until the look-up is answered
        self._look(Lookup(named, None, None), then)

    def _set_schedules_aside(self, unreadable: list[UnreadableRecordError], now_ms: int) -> None:
        """Schedules whose next promise has a row that cannot be read: they stay where they are."""
        self.report(unreadable)
        bad = {error.id for error in unreadable}
        for id in self._machine.schedules_creating(bad, now_ms):
            self._machine.unload_schedule(id)
            self.report([UnreadableRecordError("schedule", id, f"it is to create one of {bad}")])

    async def prune(self, settled_before_ms: int) -> int:
        """Delete whole executions whose root settled before the limit (S45).

        An execution stays while one of its local children is pending, or while an unsettled
        execution asked for its root. After deletion its ids may be used again.

        Returns:
            How many executions were deleted.
        """
        machine = self._machine
        now_ms = self._clock.now_ms()
        for promise in list(machine.promises.values()):
            if promise.state is PromiseState.PENDING and promise.timeout_at_ms <= now_ms:
                machine.handle(PromiseGet(promise.id), now_ms)
        self._effects()
        await self.barrier()
        prune = Prune(settled_before_ms)
        while not prune.is_done:
            await self.run(prune.some)
        return prune.deleted
