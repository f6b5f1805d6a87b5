"""Whom to tell when a promise on a server settles: listeners, and asking again.

An unblock message may be lost, and nothing but the listener's own asking recovers it
(current-protocol §6). So each watch registers its listener at once, again after each
reconnect of the message source, and again from time to time; the answer to a registration
shows the promise and settles the matter where it was missed. This file knows no socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context as ContextVars
from random import Random
from typing import Final

from ...backoff import Backoff
from ...clock import Clock
from ...errors import ResonateStoreError
from ...protocol.failures import failure_value
from ...protocol.records import Promise, PromiseState, is_pending
from ...protocol.requests import PromiseGet, PromiseRegisterListener, Reply, Request

logger = logging.getLogger("resonate_aio.stores.remote")

Settled = Callable[[Promise], None]

AGAIN_S: Final = 60.0
"""How long a lost unblock may stay lost; each watch is spread over a quarter of it."""

_DONE: Final = 200
_ABSENT: Final = 404
_SLOWER: Final = 10
_AFTER_DEADLINE_S: Final = 1.0
"""What lies at least between two looks at a promise whose deadline is near or past (S63)."""

_AT_ONCE: Final = 16
"""Registrations under way at a time: ten thousand watches must not fill the session."""


def missing(id: str, url: str) -> Promise:
    """What those who wait for a promise that the server does not have are told.

    No store writes such a record: it is rejected, but was settled at no time.
    """
    error = ResonateStoreError(f"promise {id!r} does not exist at {url}", _ABSENT)
    return Promise(id, PromiseState.REJECTED, 0, 0, value=failure_value(error))


class RemoteWatches:
    """The watches of one client.

    Args:
        ask: Carries out one request.
        rng: Where the jitter comes from.
        url: Names the server in a message.
        clock: Tells when a deadline has come.
        again_s: Seconds after which a listener is registered again.
    """

    def __init__(
        self,
        ask: Callable[[Request], Awaitable[Reply]],
        rng: Random,
        *,
        url: str,
        clock: Clock,
        again_s: float = AGAIN_S,
    ) -> None:
        self._ask = ask
        self._rng = rng
        self._url = url
        self._again_s = again_s
        self._clock = clock
        self._watchers: dict[str, list[Settled]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._slow: set[str] = set()
        self._due: deque[str] = deque()
        self._queued: set[str] = set()
        self._under_way: set[asyncio.Task[None]] = set()
        self._address: str | None = None
        self._is_open = False

    @property
    def count(self) -> int:
        """How many promises are watched."""
        return len(self._watchers)

    def open(self) -> None:
        """Begin to ask."""
        self._is_open = True
        self._pump()

    def listen_at(self, address: str | None) -> None:
        """Unblock messages are received at this address; None: nowhere, so it is asked only."""
        self._address = address
        self.register_all()

    async def stop(self) -> None:
        """Forget every watch; nobody is told of anything any more."""
        self._is_open = False
        self._watchers.clear()
        self._slow.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._due.clear()
        self._queued.clear()
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def watch(self, id: str, settled: Settled) -> None:
        """Call settled(promise) once the promise is settled; at once if it is already."""
        watchers = self._watchers.setdefault(id, [])
        watchers.append(settled)
        self._register(id)

    def unwatch(self, id: str, settled: Settled) -> None:
        """Do not call it any more. Unknown pairs are ignored."""
        watchers = self._watchers.get(id)
        # Bound methods are made anew at each look: equal, not identical.
        if watchers is not None and settled in watchers:
            watchers.remove(settled)
            if not watchers:
                self._forget(id)

    def register_all(self) -> None:
        """What was sent meanwhile is lost: register every listener anew, now.

        Not what parked executions wait for: their tasks are offered until they are taken (R6).
        """
        for id in list(self._watchers):
            if id not in self._slow:
                self._register(id)

    def look_again(self, id: str) -> None:
        """Somebody says that this promise settled: ask for it now, if anybody waits for it."""
        if id in self._watchers:
            self._register(id)

    def slow_down(self, ids: Iterable[str]) -> None:
        """These are waited for by what may sleep for long (S64): ask for them now and then only."""
        self._slow.update(id for id in ids if id in self._watchers)

    def speed_up(self, ids: Iterable[str]) -> None:
        """These are waited for by what is awake again: look at each of them now."""
        for id in ids:
            self._slow.discard(id)
            if id in self._watchers:
                self._register(id)

    def settled(self, promise: Promise) -> None:
        """A promise was seen settled."""
        watchers = self._watchers.get(promise.id)
        if watchers is None or is_pending(promise):
            return
        self._forget(promise.id)
        for tell in watchers:
            try:
                tell(promise)
            except Exception:
                # One watcher's fault must not stop the others.
                logger.exception("a watcher of %r failed", promise.id)

    # -- asking

    def _forget(self, id: str) -> None:
        self._watchers.pop(id, None)
        self._slow.discard(id)
        timer = self._timers.pop(id, None)
        if timer is not None:
            timer.cancel()

    def _register(self, id: str) -> None:
        if id not in self._queued:
            self._queued.add(id)
            self._due.append(id)
            self._pump()

    def _pump(self) -> None:
        while self._is_open and self._due and len(self._under_way) < _AT_ONCE:
            id = self._due.popleft()
            self._queued.discard(id)
            if id not in self._watchers:
                continue
            task = asyncio.get_running_loop().create_task(
                self._look(id), name=f"resonate_aio watch {id}", context=ContextVars()
            )
            self._under_way.add(task)
            task.add_done_callback(self._looked)

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a watch failed: %r", error, exc_info=error)
        self._pump()

    async def _look(self, id: str) -> None:
        """Register the listener and read the promise, in one request."""
        backoff = Backoff(5.0, self._again_s, self._rng)
        while id in self._watchers:
            try:
                reply = await self._ask(self._request(id))
            except ResonateStoreError as error:
                logger.error("%r is watched, but: %s", id, error)
                await asyncio.sleep(backoff.next_s())
                continue
            break
        else:
            return
        if reply.status != _DONE and self._address is not None:
            # No listener may be had for it (422, an address that is refused): read it then.
            reply = await self._ask(PromiseGet(id))
        if reply.status == _ABSENT:
            self.settled(missing(id, self._url))
        elif reply.promise is not None and not is_pending(reply.promise):
            self.settled(reply.promise)
        elif id in self._watchers:
            self._set_timer(id, reply.promise)

    def _request(self, id: str) -> Request:
        if self._address is None:
            return PromiseGet(id)
        return PromiseRegisterListener(id, self._address)

    def _set_timer(self, id: str, promise: Promise | None) -> None:
        before = self._timers.pop(id, None)
        if before is not None:
            before.cancel()
        delay_s = self._again_s * (0.75 + self._rng.random() / 2)
        if id in self._slow:
            delay_s *= _SLOWER
        if promise is not None:
            # Not every server looks at every deadline by itself: a look of ours shows it (S63).
            left_s = (promise.timeout_at_ms - self._clock.now_ms()) / 1000
            # Overdue by our clock, pending by the server's: ask less often the longer it lasts.
            delay_s = min(delay_s, max(left_s, _AFTER_DEADLINE_S, -left_s / 4))
        loop = asyncio.get_running_loop()
        self._timers[id] = loop.call_later(delay_s, self._register, id, context=ContextVars())
