"""Who waits for which promise of a legacy server, and how they hear of its end.

The server sends a settled promise to a subscriber once, whether it listens or not (hazard 1).
So a watched promise is subscribed to, subscribed to again after every reconnect, and asked for
again from time to time at a bounded rate. A timer has a timer of the loop in front of it: the
worker asks when it is due, and the server's clock judges (S63). This file sends nothing itself
and knows no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context as ContextVars
from random import Random
from typing import Final

import msgspec

from ..clock import Clock
from ..errors import ResonateStoreError
from ..protocol.records import Promise, is_pending, is_timer

logger = logging.getLogger("resonate_aio.stores.legacy")

Settled = Callable[[Promise], None]
Ask = Callable[[str], Awaitable[Promise | None]]
"""Reads a promise that somebody waits for; None where there is none."""

_EXPECTED: Final = 10_000
_LONGEST_TIMER_S: Final = 300.0
"""A loop timer runs on the monotonic clock; deadlines are wall time, so it looks again."""


class WatchPatience(msgspec.Struct, frozen=True):
    """How often is asked again, in seconds.

    Attributes:
        again_s: Between two looks at one promise, as long as there are few.
        share_s: What each watched promise adds to that: the steady rate is at most 1 / share_s.
        hurry_s: Between two promises when all are asked again, after a reconnect.
        early_s: After a timer that the server's clock found pending still.
        deaf_s: Between two looks while there is no address to subscribe.
    """

    again_s: float = 45.0
    share_s: float = 0.05
    hurry_s: float = 0.005
    early_s: float = 1.0
    deaf_s: float = 2.0


class _Watch:
    __slots__ = ("deadline_ms", "timer", "watchers")

    def __init__(self, settled: Settled) -> None:
        self.watchers: tuple[Settled, ...] = (settled,)
        self.timer: asyncio.TimerHandle | None = None
        self.deadline_ms = 0

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Watches:
    """The promises that are waited for.

    Args:
        subscribe: Asks for a promise and to be told of its end; when `hears()` is false, and
            at a timer's deadline, `read` is asked instead.
        hears: Whether there is an address the server can send to.
    """

    def __init__(
        self,
        subscribe: Ask,
        read: Ask,
        hears: Callable[[], bool],
        clock: Clock,
        rng: Random,
        patience: WatchPatience | None = None,
    ) -> None:
        self._subscribe = subscribe
        self._read = read
        self._hears = hears
        self._clock = clock
        self._rng = rng
        self._patience = patience if patience is not None else WatchPatience()
        self._watches: dict[str, _Watch] = {}
        self._due_s: dict[str, float] = {}
        self._expected: dict[str, int] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._again: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._watches)

    # -- life

    def start(self) -> None:
        """Begin to ask, on the running loop; nobody waits yet."""
        self._watches.clear()
        self._due_s.clear()
        self._expected.clear()
        self._asking.clear()
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._again = self._loop.create_task(
            self._ask_again_for_ever(), name="resonate_aio ask again", context=ContextVars()
        )

    async def stop(self) -> None:
        """Forget everybody; nobody is told anything any more."""
        for watch in self._watches.values():
            watch.stop()
        self._watches.clear()
        self._due_s.clear()
        self._expected.clear()
        tasks = [*self._asking.values()]
        if self._again is not None:
            tasks.append(self._again)
        self._again = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loop = None

    # -- who waits

    def watch(self, id: str, settled: Settled) -> None:
        """Call settled(promise) once the promise is settled, from the event loop."""
        watch = self._watches.get(id)
        if watch is not None:
            watch.watchers = (*watch.watchers, settled)
            return
        assert self._loop is not None
        watch = self._watches[id] = _Watch(settled)
        self._due_s[id] = self._loop.time() + self._period_s()
        deadline_ms = self._expected.pop(id, None)
        if deadline_ms is None:
            self._ask_soon(id, self._subscribe if self._hears() else self._read)
        else:
            watch.deadline_ms = deadline_ms
            self._arm(id, watch)
        self._wake.set()

    def unwatch(self, id: str, settled: Settled) -> None:
        """Do not call it any more. Unknown pairs are ignored."""
        watch = self._watches.get(id)
        if watch is None or settled not in watch.watchers:
            return
        left = list(watch.watchers)
        left.remove(settled)
        watch.watchers = tuple(left)
        if not left:
            self._forget(id)

    def expect(self, promise: Promise) -> None:
        """A promise was created that will be watched: its timer need not be asked for."""
        if not is_timer(promise) or not is_pending(promise):
            return
        self._expected[promise.id] = promise.timeout_at_ms
        while len(self._expected) > _EXPECTED:
            del self._expected[next(iter(self._expected))]

    # -- what was heard

    def settled(self, promise: Promise) -> None:
        """Somebody saw the settled record: those who wait for it are told, from the loop."""
        if self._loop is not None and promise.id in self._watches:
            self._loop.call_soon(self._tell, promise, context=ContextVars())

    def _tell(self, promise: Promise) -> None:
        watch = self._forget(promise.id)
        if watch is None:
            return
        for settled in watch.watchers:
            try:
                settled(promise)
            except Exception:
                # One watcher's fault must not stop the others.
                logger.exception("a watcher of %r failed", promise.id)

    def reconnected(self) -> None:
        """Messages were lost meanwhile: ask for everything again, soon."""
        self._due_s = dict.fromkeys(self._due_s, 0.0)
        self._wake.set()

    def _forget(self, id: str) -> _Watch | None:
        self._due_s.pop(id, None)
        watch = self._watches.pop(id, None)
        if watch is not None:
            watch.stop()
        return watch

    # -- asking

    def _ask_soon(self, id: str, ask: Ask) -> None:
        if self._loop is None or id in self._asking:
            return
        task = self._loop.create_task(
            self._ask(id, ask), name=f"resonate_aio ask {id}", context=ContextVars()
        )
        self._asking[id] = task
        task.add_done_callback(lambda _: self._asking.pop(id, None))

    async def _ask(self, id: str, ask: Ask) -> None:
        try:
            promise = await ask(id)
        except ResonateStoreError as error:
            # Refused credentials: the watch stays and is asked again in its turn.
            logger.warning("%r cannot be watched now: %s", id, error, extra={"id": id})
            return
        except Exception:
            logger.exception("%r could not be asked for", id, extra={"id": id})
            return
        watch = self._watches.get(id)
        if watch is None:
            return
        if promise is None:
            logger.debug("nobody can wait for %r: there is no such promise", id)
            self._forget(id)
        elif not is_pending(promise):
            self.settled(promise)
        elif is_timer(promise):
            watch.deadline_ms = promise.timeout_at_ms
            self._arm(id, watch, at_least_s=self._patience.early_s if ask is self._read else 0.0)

    def _arm(self, id: str, watch: _Watch, at_least_s: float = 0.0) -> None:
        if self._loop is None:
            return
        watch.stop()
        wait_s = (watch.deadline_ms - self._clock.now_ms()) / 1000
        watch.timer = self._loop.call_later(
            min(max(wait_s, at_least_s), _LONGEST_TIMER_S), self._timer_due, id, watch
        )

    def _timer_due(self, id: str, watch: _Watch) -> None:
        watch.timer = None
        if self._watches.get(id) is not watch:
            return
        if self._clock.now_ms() < watch.deadline_ms:
            self._arm(id, watch)
        else:
            self._ask_soon(id, self._read)

    # -- asking again

    def _period_s(self) -> float:
        patience = self._patience
        if not self._hears():
            return patience.deaf_s
        steady_s = max(patience.again_s, len(self._watches) * patience.share_s)
        return steady_s * (0.75 + self._rng.random() / 2)

    async def _ask_again_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            id = next(iter(self._due_s), None)
            if id is None:
                await self._wake.wait()
                continue
            wait_s = self._due_s[id] - loop.time()
            if wait_s > 0:
                try:
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                continue
            del self._due_s[id]
            self._due_s[id] = loop.time() + self._period_s()
            self._ask_soon(id, self._subscribe if self._hears() else self._read)
            await asyncio.sleep(self._patience.hurry_s)
