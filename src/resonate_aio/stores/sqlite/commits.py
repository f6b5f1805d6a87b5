"""Group commit: how the changes of one machine reach one file.

A change is applied to the machine at once and is recorded by the next batch: everything
that changed since the last hand-over, one row per id, in the order of first change. While a
batch is being committed the next one gathers. What leaves the store (replies, acks,
messages) leaves after the commit that covers it (S21). Settled promises leave memory after
their commit; `holds.py` says which ones must stay. This file knows no SQL and no request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from ...clock import Clock
from ...errors import ResonateStoreError, UnreadableRecordError
from ...protocol.records import TaskState
from ..answers import resolve
from ..base import Answered
from ..in_process import InProcessStore
from .changes import Changes
from .file import Synchronous, open_file, recover, set_synchronous
from .holds import Hold, Holds
from .jobs import Batch, Lookup, Lookups, Run, RunJob, end
from .live import ReadLive
from .outgoing import Outgoing
from .owner_lock import OwnerLock
from .presence import Presence
from .writer import Writer

_log = logging.getLogger("resonate_aio.stores")

_CLOSING_PATIENCE_S: Final = 5.0

_ENOUGH: Final = 2_000
"""Changes and acknowledgements that go into one batch while there is more to come."""

_LONGEST_GATHER_S: Final = 0.02
"""What a commit waits at most for a loop that is busy; an idle one it does not wait for."""

_ACQUIRED: Final = TaskState.ACQUIRED

Then = Callable[[Lookup], None]
"""What goes on when a look-up is answered."""


class Commits(InProcessStore):
    """A machine whose changes are committed to a file in batches.

    Args:
        path: The file's real path.
        synchronous: What a commit survives; see `SqliteStore`.
        clock: Where the time is read.
    """

    __slots__ = (
        "__weakref__",
        "_fault",
        "_holds",
        "_inflight",
        "_is_scheduled",
        "_is_wanted",
        "_lock",
        "_lookups",
        "_lookups_out",
        "_next",
        "_outgoing",
        "_path",
        "_synchronous",
        "_unreadable",
        "_writer",
    )

    def __init__(self, path: str, synchronous: Synchronous, clock: Clock | None) -> None:
        super().__init__(clock)
        self._path = path
        self._synchronous: Synchronous = synchronous
        self._lock = OwnerLock(path)
        self._holds = Holds()
        self._next = Batch(self._committed)
        self._inflight: Batch | None = None
        self._outgoing = Outgoing(self._hub, self._clock)
        self._lookups: list[tuple[Lookup, Then]] = []
        self._lookups_out: set[Lookups] = set()
        self._is_wanted = False
        self._is_scheduled = False
        self._fault: Exception | None = None
        self._unreadable: dict[tuple[str, str], UnreadableRecordError] = {}
        self._writer: Writer | None = None

    # -- life

    @property
    def is_busy(self) -> bool:
        """Whether the writer's thread has work whose end the loop has not heard of."""
        return self._writer is not None and self._writer.is_busy

    async def start(self) -> None:
        """Open the file on the running loop and take what lives into memory.

        Raises:
            StoreOwnedError: Another process owns the file.
            StoreSchemaError: The file is not ours, or of a newer version.
            ResonateStoreError: It cannot be opened.
        """
        loop = asyncio.get_running_loop()
        now_ms = self._clock.now_ms()
        self._writer = Writer(
            self._path,
            lambda: open_file(self._path, self._lock, self._synchronous),
            loop,
            Presence(self._path, self._lock),
        )
        opened: asyncio.Future[None] = loop.create_future()
        job = ReadLive(
            lambda connection: recover(connection, now_ms), lambda _, error: end(opened, error)
        )
        self._writer.start(job)
        try:
            await opened
        except BaseException:
            self._writer.abort()
            self._writer = None
            self._lock.release()
            raise
        self.report(job.unreadable)
        await job.load(self._machine, now_ms)
        self._bind(loop)
        self._outgoing.open(loop)

    async def shutdown(self) -> None:
        """Commit what is outstanding, end the thread, give the file back."""
        writer = self._writer
        if writer is None:
            return
        self._pause()
        try:
            async with asyncio.timeout(_CLOSING_PATIENCE_S):
                while self._is_dirty() or self._lookups or self._lookups_out:
                    await self.barrier()
                    await asyncio.sleep(0)
        except (TimeoutError, ResonateStoreError):
            _log.error(
                "%s was closed before all was written; records lost: %d, none of them "
                "was acknowledged",
                self._path,
                len(self._machine.changed) + len(self._inflight.changed if self._inflight else ()),
            )
        stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        writer.stop(0.0, lambda: end(stopped, None))
        await stopped
        self._unlink(writer)

    def crash(self) -> None:
        """End as a kill would: what is not committed is lost, nobody is told; blocks shortly."""
        writer = self._writer
        if writer is not None:
            writer.abort()
            self._unlink(writer)

    def _unlink(self, writer: Writer) -> None:
        writer.join()
        self._writer = None
        self._unbind()
        self._outgoing.close()
        self._lock.release()

    async def require(self, synchronous: Synchronous) -> None:
        """Make commits survive at least as much as this asks for."""
        if synchronous == "FULL" and self._synchronous != "FULL":
            self._synchronous = synchronous
            await self.run(lambda connection: set_synchronous(connection, "FULL"))

    async def run(self, work: RunJob) -> Any:
        """Run one step of other work on the writer's thread.

        Raises:
            ResonateStoreError: It failed for good.
        """
        done: asyncio.Future[None] = self._check_open().create_future()
        job = Run(work, lambda _, error: end(done, error))
        self._connected().submit(job)
        await done
        return job.result

    def _check_open(self) -> asyncio.AbstractEventLoop:
        self._connected()
        return super()._check_open()

    def _connected(self) -> Writer:
        if self._writer is None or self._fault is not None:
            raise ResonateStoreError(f"{self._path} is not open: {self._fault or 'call open()'}")
        return self._writer

    # -- commits

    def flush(self) -> None:
        """Begin writing what was created so far, though nobody waits for it."""
        if self._machine.changed:
            self._want_commit()

    def afterwards(self, callback: Callable[[], None]) -> bool:
        """Call back at the end of what is told now; False: nothing is."""
        return self._outgoing.afterwards(callback)

    async def barrier(self) -> None:
        """Wait until everything that changed so far is recorded."""
        if self._is_dirty():
            done: asyncio.Future[None] = self._check_open().create_future()
            if self._after_commit(resolve, done, None):
                await done

    def _is_dirty(self) -> bool:
        machine = self._machine
        return bool(
            machine.changed
            or machine.changed_schedules
            or self._inflight is not None
            or self._outgoing.last is not None
        )

    def _is_uncommitted(self, id: str) -> bool:
        inflight = self._inflight
        return id in self._machine.changed or (inflight is not None and id in inflight.changed)

    def _after_commit(self, answered: Answered, context: Any, answer: Any) -> bool:
        """Give the answer once everything that changed so far is recorded; False: it is.

        Raises:
            ResonateStoreError: Nothing can be recorded any more.
        """
        machine = self._machine
        if self._fault is not None:
            raise self._given_up(self._fault)
        batch: Changes | None
        if machine.changed or machine.changed_schedules:
            batch = self._next
            self._want_commit()
        elif self._inflight is not None:
            batch = self._inflight
        else:
            batch = self._outgoing.last
        if batch is None:
            return False
        batch.replies.append((answered, context, answer))
        return True

    def _effects(self) -> None:
        machine = self._machine
        if machine.changed or machine.outbox or machine.changed_schedules:
            self._want_commit()
        self._arm()

    def _want_commit(self) -> None:
        self._is_wanted = True
        loop = self._loop
        if self._inflight is None and not self._is_scheduled and loop is not None:
            self._is_scheduled = True
            loop.call_soon(self._gather, self._gathered(), loop.time() + _LONGEST_GATHER_S)

    def _gathered(self) -> int:
        return len(self._machine.changed) + len(self._next.acks)

    def _gather(self, before: int, until: float) -> None:
        """Hand over as soon as a pass of the loop added nothing, or enough has gathered.

        A commit has a price of its own, and the writer can hardly run while the loop is busy.
        """
        count = self._gathered()
        loop = self._loop
        if loop is not None and before < count < _ENOUGH and loop.time() < until:
            loop.call_soon(self._gather, count, until)
        else:
            self._begin()

    def _begin(self) -> None:
        """Hand over everything that changed; never while a batch is on its way."""
        self._is_scheduled = False
        writer = self._writer
        if self._fault is not None:
            self._next.give_up(self._given_up(self._fault))
        if self._inflight is not None or writer is None or self._fault is not None:
            return
        self._is_wanted = False
        batch = self._next
        self._next = Batch(self._committed)
        if batch.take(self._machine):
            self._inflight = batch
            writer.submit(batch)
        else:
            self._outgoing.publish(batch)

    def _committed(self, batch: Batch, error: Exception | None) -> None:
        """The batch is durable, or the writer gave up on it."""
        if self._inflight is not batch:
            return  # a signal handler raised when this was called before
        self._inflight = None
        if error is not None:
            self._fail(batch, error)
            return
        try:
            self._tell(batch)
        finally:
            self._release_recorded(batch)

    def _tell(self, batch: Batch) -> None:
        """Publish it, and hand over at once what that led to, where everybody was told."""
        is_told = False
        self._is_scheduled = True
        try:
            self._outgoing.publish(batch)
            is_told = self._outgoing.last is None
        finally:
            self._is_scheduled = False
            if self._is_wanted and is_told:
                self._begin()
            elif self._is_wanted:
                self._want_commit()

    def _fail(self, batch: Batch, error: Exception) -> None:
        """Nothing can be recorded any more: tell those who wait, and say so from now on."""
        self._fault = error
        _log.error("%s: writing was given up: %s", self._path, error)
        for lost in (batch, self._next):
            if self._writer is not None and self._writer.is_stopping:
                lost.acks.clear()  # the file is being closed: nobody runs on
            lost.give_up(self._given_up(error))

    def _given_up(self, error: Exception) -> ResonateStoreError:
        return ResonateStoreError(f"{self._path}: writing was given up: {error}")

    # -- what leaves memory

    def _release_recorded(self, batch: Batch) -> None:
        """Forget what is settled and recorded, and end the holds of leases that ended."""
        newer = batch.changed.keys() & self._machine.changed.keys()
        if self._inflight is not None:
            newer |= batch.changed.keys() & self._inflight.changed.keys()
        recorded = batch.settled(besides=newer | batch.bad)
        self._machine.forget_all(self._holds.not_needed(recorded))
        by_root = self._holds.by_root
        for id in batch.rows:
            if id in by_root:
                self._end_unless_held(by_root[id])

    def _end_unless_held(self, hold: Hold) -> None:
        task = self._machine.tasks.get(hold.root)
        if hold.claims == 0 and (task is None or task.state is not _ACQUIRED):
            for id in self._holds.end(hold):
                self._release(id)

    def _release(self, id: str) -> None:
        """Forget one promise unless it lives, is not recorded yet, or a hold needs it."""
        promise = self._machine.promises.get(id)
        if (
            promise is not None
            and promise.settled_at_ms is not None
            and not self._is_uncommitted(id)
            and self._holds.may_forget(promise)
        ):
            self._machine.forget(id)

    # -- what cannot be read

    def report(self, unreadable: Iterable[UnreadableRecordError]) -> None:
        """Name what cannot be read, each record once while the file is open."""
        for error in unreadable:
            if self._unreadable.setdefault((error.kind, error.id), error) is error:
                _log.error("%s: %s", self._path, error, extra={"id": error.id})
