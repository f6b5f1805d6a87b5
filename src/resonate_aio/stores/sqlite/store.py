"""Promises in one SQLite file: they survive restarts, kill -9 and, at FULL, power cuts.

One process owns the file (S44); its clients share one machine and one writer thread per
real path, so they exchange calls and messages. This file is the object users hold; the work
is done by the core behind it, which lives from the first open to the last close.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from ...clock import Clock
from ...errors import ResonateStoreError, UsageError
from ...protocol.records import Promise, PromiseState, Value
from ...protocol.requests import Message, Reply, Request
from ...uncut import uncut
from ..base import Acked, Answered, Refusal
from .core import SqliteCore
from .file import Synchronous, checked_path, checked_synchronous

_DOORS = ("fence_create", "fence_settle", "fulfill")


class _Shared:
    """A core with its users in this process."""

    __slots__ = ("core", "ending", "loop", "opening", "users")

    def __init__(self, core: SqliteCore, loop: asyncio.AbstractEventLoop) -> None:
        self.core = core
        self.loop = loop
        self.users = 0
        self.opening = loop.create_task(core.start())
        self.ending: asyncio.Task[None] | None = None


_shared: dict[str, _Shared] = {}

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shared.clear)  # the thread and the lock stayed behind


class SqliteStore:
    """A store in one SQLite file.

    Args:
        path: The file; it is made (mode 0600) when it does not exist.
        synchronous: "FULL" syncs every commit to the disk; "NORMAL" is faster and survives
            a killed process, but not a power cut. Clients that share a file get the stronger.
        clock: Where the time is read; the system's by default. The first opener's counts.

    Raises:
        TypeError, ValueError: `path` is no path, or SQLite's word for no file at all, or
            `synchronous` is neither word.
    """

    in_process = True
    durable_at_once = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "FULL",
        clock: Clock | None = None,
    ) -> None:
        self.path = checked_path(path)
        self._synchronous = checked_synchronous(synchronous)
        self._clock = clock
        self._opens = 0
        self._shared: _Shared | None = None
        self._core: SqliteCore | None = None  # set by `_attach` only

    # -- life

    async def open(self) -> None:
        """Make the store ready on the running loop; counts its users.

        Raises:
            StoreOwnedError: Another process owns the file.
            StoreSchemaError: The file is not ours, or of a newer version; it is untouched.
            ResonateStoreError: It cannot be opened.
            UsageError: It is open on another running loop.
        """
        loop = asyncio.get_running_loop()
        shared = self._shared
        if shared is None or shared.ending is not None or shared.loop is not loop:
            shared = await self._share(_real(self.path), loop)
            self._opens = 0
        shared.users += 1
        try:
            await asyncio.shield(shared.opening)
            await shared.core.require(self._synchronous)
        except BaseException:
            _leave(shared)
            await _left(shared)
            raise
        self._shared = shared
        self._attach(shared.core)
        self._opens += 1

    async def close(self) -> None:
        """Commit what is outstanding and let go of the file once its last user closes.

        Bounded: what cannot be written within some seconds is given up with an error in the
        log. None of that was acknowledged.
        """
        self.abandon()
        shared = self._shared
        if shared is None:
            return
        if self._opens > 0:
            self._opens -= 1
            _leave(shared)
            if self._opens > 0:
                return
            self._attach(None)
        await _left(shared)  # once more, where a close was cut that waited for it
        if self._shared is shared and self._opens == 0:
            self._shared = None

    def crash(self) -> None:
        """End the file's use here as a kill would: what is not committed is lost."""
        shared, opens = self._shared, self._opens
        self._shared, self._opens = None, 0
        self._attach(None)
        if shared is not None and (opens > 0 or shared.loop.is_closed()):
            _kill(shared)

    def abandon(self) -> None:
        """Let go of the file as a kill would, where the loop it was open on has been closed."""
        if self._shared is not None and self._shared.loop.is_closed():
            self.crash()

    @property
    def place(self) -> SqliteCore:
        """What holds the file while it is open: one object for all its stores in this process."""
        return self._opened()

    @property
    def is_busy(self) -> bool:
        """Whether the writer's thread has work whose end the loop has not heard of."""
        shared = self._shared or _shared.get(_real(self.path))
        return shared is not None and shared.core.is_busy

    async def _share(self, real_path: str, loop: asyncio.AbstractEventLoop) -> _Shared:
        while True:
            shared = _shared.get(real_path)
            if shared is None:
                core = SqliteCore(real_path, self._synchronous, self._clock)
                shared = _shared[real_path] = _Shared(core, loop)
                return shared
            if shared.loop is not loop:
                if not shared.loop.is_closed():
                    raise UsageError(
                        f"{self.path} is open on another event loop of this process: close it "
                        "there first, or use the client that has it open (from a thread: "
                        "resonate.blocking())"
                    )
                _kill(shared)
            elif shared.ending is not None:
                await _left(shared)
            else:
                return shared

    def _opened(self) -> SqliteCore:
        if self._core is None:
            raise self._not_open()
        return self._core

    def _not_open(self) -> ResonateStoreError:
        return ResonateStoreError(f"{self.path} is not open: call open() first")

    # -- the two doors

    async def call(self, request: Request) -> Reply:
        """Carry out one request; everything the reply shows is durable on return.

        Cancelling the caller never cancels the request.
        """
        return await self._opened().call(request)

    def post(self, request: Request, answered: Answered, context: Any) -> Reply | None:
        """Start one request; `answered` is called once everything the reply shows is durable."""
        return self._opened().post(request, answered, context)

    async def load(self, root: str) -> list[Promise]:
        """Every stored promise that replay of this execution may ask for (S9)."""
        return await self._opened().load(root)

    # The doors of every step lead straight to the core while it is open (see `_attach`).

    def fence_create(
        self, task_id: str, version: int, promise: Promise, acked: Acked | None, context: Any
    ) -> Promise | Refusal | None:
        """Create a promise on condition that the task is held at this version.

        Does not begin a commit unless `acked` waits for one, so that a create and its settle
        are one row of one commit.

        Returns:
            The standing record, durable or not; LOST; or None when the id must be looked up
            in the file first, because it does not continue the task's: `acked` follows;
            without one nothing was done.
        """
        raise self._not_open()

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
        """Settle a promise on condition that the task is held; `acked` follows the commit."""
        raise self._not_open()

    def fulfill(
        self,
        task_id: str,
        version: int,
        state: PromiseState,
        value: Value,
        acked: Acked,
        context: Any,
    ) -> Promise | Refusal | None:
        """Settle the task's own promise and end the task; `acked` follows the commit."""
        raise self._not_open()

    def _attach(self, core: SqliteCore | None) -> None:
        """Let the doors lead to this core, or to nobody."""
        self._core = core
        if core is None:
            for door in _DOORS:
                self.__dict__.pop(door, None)
        else:
            for door in _DOORS:
                self.__dict__[door] = getattr(core, door)

    def afterwards(self, callback: Callable[[], None]) -> bool:
        """Call back at the end of what is told now; False: nothing is."""
        return self._core is not None and self._core.afterwards(callback)

    def flush(self) -> None:
        """Begin writing what was created so far, though nobody waits for it."""
        self._opened().flush()

    def subscribe(
        self,
        group: str,
        pid: str,
        deliver: Callable[[Message], None],
        taken: Callable[[Promise], None] | None = None,
        lost: Callable[[str, int], None] | None = None,
    ) -> Callable[[], None]:
        """Receive messages for poll addresses of this group and pid (S53)."""
        return self._opened().subscribe(group, pid, deliver, taken, lost)

    def forward(
        self, takes: Callable[[str], bool], send: Callable[[str, Message], None]
    ) -> Callable[[], None]:
        """Receive, with their addresses, the messages that no subscriber takes."""
        return self._opened().forward(takes, send)

    def watch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """Call settled(promise) once the promise is settled, from the event loop.

        Also when it was settled before; nothing happens for an id that does not exist.
        """
        self._opened().watch(promise_id, settled)

    def unwatch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """Do not call it any more. Unknown pairs are ignored."""
        if self._core is not None:
            self._core.unwatch(promise_id, settled)

    def untaken_target(self, id: str) -> str | None:
        """Where an execution waits for somebody to take it; None if it does not."""
        return None if self._core is None else self._core.untaken_target(id)

    @property
    def scheduled(self) -> int:
        """How many promises schedules created since the file was opened here; 0 while it is not."""
        return 0 if self._core is None else self._core.scheduled

    async def prune(self, settled_before_ms: int) -> int:
        """Delete whole executions whose root settled before the limit (S45).

        Returns:
            How many executions were deleted; their ids may be used again.
        """
        return await self._opened().prune(settled_before_ms)


def _leave(shared: _Shared) -> None:
    """One user less; the last one sees the end of it, whoever is cancelled meanwhile."""
    shared.users -= 1
    if shared.users == 0 and shared.ending is None:
        shared.ending = uncut(shared.loop, partial(_end, shared))
        shared.ending.add_done_callback(partial(_ended, shared))


async def _left(shared: _Shared) -> None:
    """Return once the file is let go of, if its last user has left: as ordered, or as by a kill."""
    ending = shared.ending
    if ending is not None:
        await asyncio.wait([ending])
        if not ending.cancelled():
            ending.result()


async def _end(shared: _Shared) -> None:
    await asyncio.wait([shared.opening])
    if not shared.opening.cancelled() and shared.opening.exception() is None:
        try:
            await shared.core.shutdown()
        except BaseException:
            shared.core.crash()  # it cannot be begun anew
            raise


def _ended(shared: _Shared, _: asyncio.Task[None]) -> None:
    _kill(shared)  # nothing is left for it to do, unless something was cut


def _real(path: str) -> str:
    return os.path.realpath(path)


def _kill(shared: _Shared) -> None:
    _drop(shared)
    shared.core.crash()


def _drop(shared: _Shared) -> None:
    for path, other in list(_shared.items()):
        if other is shared:
            del _shared[path]
