"""Leases on a legacy server: kept, doubted, lost and given back.

The server extends every lease of a process id with one heartbeat and says how many it found.
Fewer than this process counts means that some were lost, or that their promises were settled
by somebody else (hazard 10, S13): then each promise is read, and each lease asked about with a
fenced request that changes nothing. A server that does not fence cannot say which leases are
gone; then all that are left in doubt are given up, which costs a replay and is always right.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context as ContextVars
from functools import partial
from itertools import islice
from random import Random
from typing import Any, Final

from ...backoff import Backoff
from ...clock import Clock
from ...errors import ResonateStoreError
from ...protocol.records import Promise, is_pending
from ...protocol.requests import PromiseCreate
from .answers import Fence, Refused
from .leases import Lease, Leases
from .rest import LegacyRest

logger = logging.getLogger("resonate_aio.stores.legacy")

Spawn = Callable[[Coroutine[Any, Any, Any], str], "asyncio.Task[Any]"]

_REFUSED_S: Final = 30.0
"""Between two tries while the server refuses the credentials: it is told, not hammered."""

_FENCED: Final = 412

_LISTENS: Final = 200
"""How many roots are listened to anew with one beat: thousands must not be asked for at once."""

_LOOKS: Final = 16
"""How many leases in doubt are asked about at a time."""

_BEATS: Final = 3
"""Heartbeats per ttl: two may be lost."""


class Holding:
    """The leases of one store.

    Args:
        rest: The server.
        ttl_s: How long a lease lasts without a heartbeat.
        spawn: Runs a coroutine in a task that the store owns.

    Attributes:
        taken: Called with the settled promise of a held task that somebody else settled.
        lost: Called as lost(root, version) when a lease is held by nobody here any more.
        listen: Asks for a promise, and to be sent it when it settles.
    """

    def __init__(
        self,
        rest: LegacyRest,
        leases: Leases,
        clock: Clock,
        rng: Random,
        spawn: Spawn,
        *,
        ttl_s: float,
    ) -> None:
        self.leases = leases
        self.taken: Callable[[Promise], None] = lambda _: None
        self.lost: Callable[[str, int], None] = lambda _, __: None
        self.listen: Callable[[str], Awaitable[Promise | None]] = rest.get
        self._rest = rest
        self._clock = clock
        self._rng = rng
        self._spawn = spawn
        self._ttl_s = ttl_s
        self._checks: dict[str, asyncio.Task[None]] = {}
        self._beating: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    # -- holding

    def now(self) -> tuple[int, float]:
        """The two clocks a lease runs on."""
        return self._clock.now_ms(), asyncio.get_running_loop().time()

    def hold(self, lease: Lease, sent: tuple[int, float]) -> None:
        """A claim sent at this time was granted."""
        before = self.leases.of_root(lease.root)
        if before is not None:
            self.lose(before)
        lease.renewed(*sent)
        lease.taken_s = sent[1]
        self.leases.add(lease)
        if self._timer is None:
            self._arm()

    def heard(self, root: str, fence: Fence) -> None:
        """A message offers a task of this promise: whoever holds an older one has lost it."""
        lease = self.leases.of_root(root)
        if lease is None or lease.is_closing:
            return
        if lease.fence.task_id != fence.task_id or fence.counter > lease.fence.counter:
            self.lose(lease)

    def seen(self, promise: Promise) -> None:
        """A settled promise was seen; if its task is held here, its holder is told (S13)."""
        lease = self.leases.of_root(promise.id)
        if lease is None or lease.is_closing:
            return
        lease.is_lost = True
        self.leases.end(lease)
        self.taken(promise)

    def lose(self, lease: Lease) -> None:
        """Nothing is written under this lease any more, and its holder is told (law 7)."""
        if lease.is_lost:
            return
        lease.is_lost = True
        was_closing = lease.is_closing
        self.leases.end(lease)
        if not was_closing:
            self.lost(lease.root, lease.version)

    def stop(self) -> None:
        """Beat no more and hold nothing: what is held still ends by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.leases.clear()

    # -- heartbeats

    def _arm(self) -> None:
        # Jittered downwards: workers that started together do not beat together.
        delay_s = self._ttl_s / _BEATS * (1 - self._rng.random() / 4)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(delay_s, self._tick, context=ContextVars())

    def _tick(self) -> None:
        """Beat for every holder; what was claimed a moment ago may be over before the next."""
        self._timer = None
        now_s = asyncio.get_running_loop().time()
        for holder in self.leases.holders(now_s - self._ttl_s / (2 * _BEATS)):
            if holder not in self._beating:
                beat = self._spawn(self._beat_safely(holder), "beat")
                self._beating[holder] = beat
                beat.add_done_callback(partial(self._has_beaten, holder))
        if not self.leases.is_empty:
            self._arm()

    def _has_beaten(self, holder: str, _: asyncio.Task[None]) -> None:
        self._beating.pop(holder, None)

    async def _beat_safely(self, holder: str) -> None:
        try:
            await self.beat(holder)
        except ResonateStoreError as error:
            logger.warning("a heartbeat was refused: %s", error)

    async def beat(self, holder: str) -> None:
        """Extend the holder's leases; doubts that arise are looked into by themselves.

        What is held for longer than a beat is listened to, so that its holder hears at once
        when somebody settles it (S13). What is over before costs no such request.
        """
        beats = self.leases.beats
        _, missing = await self._count(holder)
        if missing:
            self._check_soon(holder)
        unheard = (one for one in self.leases.counted(holder, beats) if not one.is_watched)
        for lease in islice(unheard, _LISTENS):
            lease.is_watched = True
            self._spawn(self._listen(lease), f"listen {lease.root}")

    async def _listen(self, lease: Lease) -> None:
        promise = await self.patiently(partial(self.listen, lease.root))
        if promise is not None and not is_pending(promise):
            self.seen(promise)

    async def _count(self, holder: str) -> tuple[list[Lease], int]:
        """Send a heartbeat: the leases it must have extended, and how many it did not find."""
        leases = self.leases
        leases.beats += 1
        beat, sent = leases.beats, self.now()
        affected = await self._rest.heartbeat(holder)
        expected = leases.counted(holder, beat)
        missing = max(len(expected) - affected, 0)
        if not missing:
            for lease in expected:
                lease.renewed(*sent)
        return expected, missing

    async def is_sure(self, lease: Lease) -> bool:
        """Whether a write may go out under the lease: it is held, as far as anybody can know."""
        while not lease.is_lost and lease.is_doubtful(*self.now()):
            logger.warning(
                "the lease of %r ran out unnoticed (this process stood still, or the server was "
                "out of reach): asking whether it is still ours",
                lease.root,
                extra={"id": lease.root},
            )
            # A lease whose end was under way is to be counted again: the end may be lost.
            was_closing, lease.is_closing = lease.is_closing, False
            until_s = lease.until_s
            await asyncio.wait([self._check_soon(lease.holder)])
            lease.is_closing |= was_closing
            if lease.until_s == until_s:
                self._give_up(lease)  # what nobody vouches for is not ours
        return not lease.is_lost

    def _check_soon(self, holder: str) -> asyncio.Task[None]:
        check = self._checks.get(holder)
        if check is None:
            check = self._checks[holder] = self._spawn(self._check(holder), "check leases")
            check.add_done_callback(lambda _: self._checks.pop(holder, None))
        return check

    async def _check(self, holder: str) -> None:
        """Find out which leases are gone, and give up what stays in doubt."""
        suspects, missing = await self._count_patiently(holder)
        if not missing:
            return
        all_gone = missing == len(suspects)
        for start in range(0, len(suspects), _LOOKS):
            looks = (self._look(lease, all_gone) for lease in suspects[start : start + _LOOKS])
            await asyncio.gather(*looks)
        suspects, missing = await self._count_patiently(holder)
        if missing:
            for lease in suspects:
                self._give_up(lease)

    async def _look(self, lease: Lease, is_gone: bool) -> None:
        """What became of one lease among which some are missing."""
        promise = await self.patiently(partial(self._rest.get, lease.root))
        if promise is not None and not is_pending(promise):
            self.seen(promise)
        elif is_gone or promise is None:
            self._give_up(lease)
        elif not await self.patiently(partial(self._is_fenced_in, lease, promise)):
            self.lose(lease)

    def _give_up(self, lease: Lease) -> None:
        """Lose a lease that may be ours all the same: then it is free for others at once.

        Dropping it does nothing where somebody else has it: the counter is another.
        """
        if not lease.is_lost:
            self.lose(lease)
            self.drop_soon(lease.fence)

    async def _count_patiently(self, holder: str) -> tuple[list[Lease], int]:
        counted: tuple[list[Lease], int] = await self.patiently(partial(self._count, holder))
        return counted

    async def _is_fenced_in(self, lease: Lease, root: Promise) -> bool:
        """Ask with a fenced create of the promise that exists: it changes nothing."""
        told = await self._rest.create(
            PromiseCreate(lease.root, root.timeout_at_ms), fence=lease.fence
        )
        return not (isinstance(told, Refused) and told.status == _FENCED)

    # -- giving back

    async def fence_failed(self, lease: Lease) -> Promise | None:
        """A write was refused because the task is not held: why; the promise, if settled."""
        promise: Promise | None = await self.patiently(lambda: self._rest.get(lease.root))
        if promise is not None and not is_pending(promise):
            self.seen(promise)
            return promise
        self.lose(lease)
        return None

    def drop_soon(self, fence: Fence) -> None:
        """Give a lease back that is nobody's here, until the server has answered (S60).

        A claim whose answer was lost would else be kept alive by our own heartbeats.
        """
        self._spawn(self.patiently(lambda: self._rest.drop(fence)), f"drop {fence.task_id}")

    def complete_soon(self, fence: Fence) -> None:
        """End a task whose promise is settled: the server did so with it, as a rule."""
        self._spawn(self.patiently(lambda: self._rest.complete(fence)), f"end {fence.task_id}")

    # -- trouble

    async def patiently(self, send: Callable[[], Awaitable[Any]]) -> Any:
        """Send until there is an answer, also while the credentials are refused (law 8)."""
        backoff = Backoff(_REFUSED_S, _REFUSED_S, self._rng)
        while True:
            try:
                return await send()
            except ResonateStoreError as error:
                logger.error("%s", error)
                await asyncio.sleep(backoff.next_s())
