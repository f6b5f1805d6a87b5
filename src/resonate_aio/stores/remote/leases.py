"""Leases kept on a server: heartbeats, and noticing that one has ended (S13, S60).

A heartbeat answers nothing: it extends what is ours and skips what is not. So each task that
is held for a while is read again once per ttl, and its promise is watched from the first beat
on, because somebody else may settle it. Tasks that end sooner cost none of this. This file
asks and judges; what becomes of an execution is the worker's affair.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context as ContextVars
from random import Random
from typing import Any, Final

from ...errors import ResonateStoreError
from ...protocol.records import Promise, TaskState, is_pending
from ...protocol.requests import PromiseGet, Reply, Request, TaskGet, TaskRef

logger = logging.getLogger("resonate_aio.stores.remote")

_BEATS: Final = 3
"""Heartbeats per ttl: two may be lost."""

_READS_AT_ONCE: Final = 8
_ABSENT: Final = 404


class Lease:
    """One task that this client holds.

    Attributes:
        version, fence: At which it was claimed, and at which it is held now (S64).
        since_s, read_s: Loop time at which it was taken, and was last known to be held.
        is_ending: Its end is on the way: nothing about it is to be asked.
        is_parked: The task is suspended: there is no lease to keep, but it is ours to take.
    """

    __slots__ = (
        "fence",
        "id",
        "is_ending",
        "is_parked",
        "is_watched",
        "pid",
        "read_s",
        "since_s",
        "version",
    )

    def __init__(self, id: str, version: int, pid: str, now_s: float) -> None:
        self.id = id
        self.version = self.fence = version
        self.pid = pid
        self.since_s = self.read_s = now_s
        self.is_ending = False
        self.is_parked = False
        self.is_watched = False


class RemoteLeases:
    """The leases of one client.

    Args:
        ask: Carries out one request.
        beat: Extends the leases of one holder.
        watch, unwatch: Hear when a promise is settled.
        gone: Told (id, version) of a lease that was found to have ended.
        ttl_s: How long a lease lasts without a heartbeat.
    """

    def __init__(
        self,
        ask: Callable[[Request], Awaitable[Reply]],
        beat: Callable[[str, tuple[TaskRef, ...]], Coroutine[Any, Any, Reply]],
        watch: Callable[[str, Callable[[Promise], None]], None],
        unwatch: Callable[[str, Callable[[Promise], None]], None],
        gone: Callable[[str, int], None],
        *,
        ttl_s: float,
        rng: Random,
    ) -> None:
        self._ask = ask
        self._beat = beat
        self._watch = watch
        self._unwatch = unwatch
        self._gone = gone
        self._ttl_s = ttl_s
        self._rng = rng
        self._held: dict[str, Lease] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self.taken: Callable[[Promise], None] | None = None
        """Told of a held promise that somebody else settled."""
        self.lost: Callable[[str, int], None] | None = None
        """Told of a lease that has ended."""

    @property
    def count(self) -> int:
        """How many leases are held."""
        return len(self._held)

    def is_held(self, id: str, version: int) -> bool:
        """Whether this client holds the task at this version, as far as it knows."""
        lease = self._held.get(id)
        return lease is not None and lease.fence == version and not lease.is_parked

    def _of(self, id: str, version: int) -> Lease | None:
        lease = self._held.get(id)
        return lease if lease is not None and lease.version == version else None

    def hold(self, id: str, version: int, pid: str) -> None:
        """A lease was given to this holder just now."""
        loop = asyncio.get_running_loop()
        self._held[id] = Lease(id, version, pid, loop.time())
        if self._timer is None:
            self._arm(loop)

    def ending(self, id: str, version: int) -> None:
        """The end of the task is on the way."""
        lease = self._of(id, version)
        if lease is not None:
            lease.is_ending = True

    def park(self, id: str, version: int) -> str | None:
        """The task is suspended, its execution stays here (S64).

        Returns:
            The name it was held under; None if it is not held any more.
        """
        lease = self._of(id, version)
        if lease is None:
            return None
        lease.is_parked = True
        self._watch_root(lease)
        return lease.pid

    def unpark(self, id: str, version: int, fence: int) -> None:
        """The task was taken again, at this version."""
        lease = self._of(id, version)
        if lease is not None:
            lease.is_parked = False
            lease.fence = fence
            lease.since_s = lease.read_s = asyncio.get_running_loop().time()

    def let_go(self, id: str, version: int) -> None:
        """The lease is not held any more. Unknown ones are ignored."""
        lease = self._of(id, version)
        if lease is not None:
            del self._held[id]
            if lease.is_watched:
                self._unwatch(id, self._settled)

    async def stop(self) -> None:
        """Beat no more; the leases end by themselves unless they were given back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)

    # -- beating

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        # Jittered downwards: workers that started together do not beat together.
        delay_s = self._ttl_s / _BEATS * (1 - self._rng.random() / 4)
        self._timer = loop.call_later(delay_s, self._tick, loop, context=ContextVars())

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if not self._held:
            return
        self._arm(loop)
        now_s = loop.time()
        due: dict[str, list[TaskRef]] = {}
        for lease in list(self._held.values()):
            if (
                lease.is_ending
                or lease.is_parked
                or now_s - lease.since_s < self._ttl_s / (2 * _BEATS)
            ):
                continue
            due.setdefault(lease.pid, []).append(TaskRef(lease.id, lease.fence))
            self._watch_root(lease)
            if now_s - lease.read_s >= self._ttl_s:
                lease.read_s = now_s
                self._spawn(self._read(lease))
        for pid, refs in due.items():
            self._spawn(self._beat(pid, tuple(refs)))

    def _watch_root(self, lease: Lease) -> None:
        if not lease.is_watched:
            lease.is_watched = True
            self._watch(lease.id, self._settled)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=ContextVars())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("keeping leases failed: %r", error, exc_info=error)

    # -- noticing

    async def _read(self, lease: Lease) -> None:
        """Whether the lease still stands."""
        async with self._reads:
            try:
                reply = await self._ask(TaskGet(lease.id))
                task = reply.task
                if task is not None and task.state is TaskState.FULFILLED:
                    found = await self._ask(PromiseGet(lease.id))
                    if found.promise is not None:
                        self._settled(found.promise)
                        return
            except ResonateStoreError as error:
                logger.error("whether %r is still held cannot be told: %s", lease.id, error)
                return
        if self._held.get(lease.id) is not lease or lease.is_ending or lease.is_parked:
            return
        is_ours = (
            task is not None
            and task.state is TaskState.ACQUIRED
            and task.version == lease.fence
            and task.pid in {None, lease.pid}
        )
        if is_ours or (task is None and reply.status != _ABSENT):
            return
        self._gone(lease.id, lease.version)
        if self.lost is not None:
            self.lost(lease.id, lease.version)

    def _settled(self, promise: Promise) -> None:
        """A held promise was settled, and not by the end of its execution here (S13)."""
        lease = self._held.get(promise.id)
        if lease is None or lease.is_ending or is_pending(promise):
            return
        lease.is_watched = False
        self._gone(lease.id, lease.version)
        if promise.settled_at_ms is None:  # it vanished
            if self.lost is not None:
                self.lost(lease.id, lease.version)
        elif self.taken is not None:
            self.taken(promise)
