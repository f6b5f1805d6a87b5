"""Which tasks of a legacy server this process holds, and what of them is on its way.

Pure bookkeeping. On that server a task has an id of its own and a counter, and one promise may
have many tasks (one to invoke it, one for each wake-up); the rest of the library knows a task
by its promise's id and a version. The two are matched here: each notice and each claim gets a
version that is never used twice in the life of the store.

A lease counts as doubtful when its time has run out on either of two clocks: the wall clock
notices a machine that slept, the other one a wall clock that was set back.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from .answers import Fence
from .codec import TaskNotice

_NOTICES: Final = 10_000
"""How many notices nobody claimed are kept; the server sends them again."""

FIRST_VERSION: Final = 1
"""Of a task created with its promise: nothing is recorded yet that a replay could ask for."""


class Lease:
    """One task that this process claimed.

    Attributes:
        holder: The process id the server knows.
        since: Number of the heartbeat it was claimed after; see `Leases.beats`.
        taken_s: Loop time at which it was claimed.
        is_closing: Its end is on the way to the server: a heartbeat may not count it any more.
        is_lost: Somebody else may hold the task: nothing more is written.
        writes: What goes out under it, and after what.
    """

    __slots__ = (
        "fence",
        "holder",
        "is_closing",
        "is_lost",
        "is_watched",
        "root",
        "since",
        "taken_s",
        "ttl_ms",
        "until_ms",
        "until_s",
        "version",
        "writes",
    )

    def __init__(self, root: str, version: int, fence: Fence, holder: str, ttl_ms: int) -> None:
        self.root = root
        self.version = version
        self.fence = fence
        self.holder = holder
        self.ttl_ms = ttl_ms
        self.since = 0
        self.until_ms = 0
        self.until_s = 0.0
        self.is_closing = False
        self.is_lost = False
        self.is_watched = False
        self.writes = WriteOrder()
        self.taken_s = 0.0

    def renewed(self, sent_ms: int, sent_s: float) -> None:
        """The server granted another ttl after a request sent at these times."""
        self.until_ms = sent_ms + self.ttl_ms
        self.until_s = sent_s + self.ttl_ms / 1000

    def is_doubtful(self, now_ms: int, now_s: float) -> bool:
        """Whether the server may have given the task to somebody else meanwhile."""
        return now_ms >= self.until_ms or now_s >= self.until_s


class Leases:
    """The leases of a store, by the promise they are for.

    Attributes:
        beats: Number of heartbeats sent so far.
    """

    __slots__ = ("_held", "_notices", "_version", "beats")

    def __init__(self) -> None:
        self._held: dict[str, Lease] = {}
        self._notices: dict[str, tuple[int, TaskNotice]] = {}
        self._version = FIRST_VERSION
        self.beats = 0

    # -- notices

    def notice(self, notice: TaskNotice) -> int:
        """Keep what a message said; the version by which it may be claimed."""
        version = self.new_version()
        self._notices.pop(notice.root, None)
        self._notices[notice.root] = (version, notice)
        while len(self._notices) > _NOTICES:
            del self._notices[next(iter(self._notices))]
        return version

    def new_version(self) -> int:
        """A version that no task was known by."""
        self._version += 1
        return self._version

    def noticed(self, root: str) -> int | None:
        """The version of the newest notice for this promise that nobody here claimed."""
        found = self._notices.get(root)
        return None if found is None else found[0]

    def claimable(self, root: str, version: int) -> TaskNotice | None:
        """Take the notice of this version, if it is still the newest one."""
        found = self._notices.get(root)
        if found is None or found[0] != version:
            return None
        del self._notices[root]
        return found[1]

    # -- leases

    def add(self, lease: Lease) -> None:
        """A claim was granted."""
        lease.since = self.beats
        self._held[lease.root] = lease

    def find(self, root: str, version: int) -> Lease | None:
        """The lease that a write names, unless it is lost or over."""
        lease = self._held.get(root)
        if lease is None or lease.version != version or lease.is_lost:
            return None
        return lease

    def of_root(self, root: str) -> Lease | None:
        """The lease on this promise's task, if there is one."""
        return self._held.get(root)

    def holders(self, taken_until_s: float) -> list[str]:
        """The holders of leases that were claimed so early."""
        found = {
            lease.holder: None for lease in self._held.values() if lease.taken_s <= taken_until_s
        }
        return list(found)

    def counted(self, holder: str, beat: int | None = None) -> list[Lease]:
        """The leases that a heartbeat of this holder must have extended.

        Args:
            beat: Its number: what was claimed while it was under way need not be in it.
        """
        return [
            lease
            for lease in self._held.values()
            if lease.holder == holder
            and not lease.is_closing
            and not lease.is_lost
            and (beat is None or lease.since < beat)
        ]

    def end(self, lease: Lease) -> None:
        """The lease is over: given back, used up or lost."""
        lease.is_closing = True
        if self._held.get(lease.root) is lease:
            del self._held[lease.root]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return not self._held

    def clear(self) -> None:
        """The store closes."""
        for lease in self._held.values():
            lease.is_lost = True
        self._held.clear()
        self._notices.clear()


class WriteOrder:
    """What of one execution is on its way, and what has to wait for it.

    Creates travel side by side: each names those before it that may be lost (S8). What comes
    after a log record goes out when that record stands (S4), and the end of the task when
    nothing is on its way any more.
    """

    __slots__ = ("_barrier", "_creates", "_outstanding")

    def __init__(self) -> None:
        self._barrier: asyncio.Task[Any] | None = None
        self._creates: dict[str, asyncio.Task[Any]] = {}
        self._outstanding: set[asyncio.Task[Any]] = set()

    @property
    def barrier(self) -> tuple[asyncio.Task[Any], ...]:
        """What a write has to wait for."""
        if self._barrier is None or self._barrier.done():
            return ()
        return (self._barrier,)

    @property
    def everything(self) -> tuple[asyncio.Task[Any], ...]:
        """What the end of the task has to wait for."""
        return tuple(self._outstanding)

    def create_of(self, id: str) -> tuple[asyncio.Task[Any], ...]:
        """What a settlement has to wait for, too: a call may be cut before it stands (S10)."""
        create = self._creates.get(id)
        return () if create is None else (create,)

    def sent(
        self, write: asyncio.Task[Any], *, is_barrier: bool = False, creates: str | None = None
    ) -> None:
        """A write is on its way; as a barrier, what comes later waits for it.

        Args:
            creates: The promise that it creates.
        """
        self._outstanding.add(write)
        write.add_done_callback(self._outstanding.discard)
        if creates is not None:
            self._creates[creates] = write
            write.add_done_callback(lambda _: self._creates.pop(creates, None))
        if is_barrier:
            self._barrier = write

    async def at_rest(self) -> None:
        """Return when nothing is on its way any more."""
        if self._outstanding:
            await asyncio.wait(self.everything)
