"""Waiting for promises that others settle, and for deadlines.

A store tells when a promise is settled. Where it is a server, a loop timer stands in front of
each sleep, because the server looks at its deadlines only now and then; the timer only makes
us ask, the server's clock judges (S63).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from ..clock import Clock
from ..errors import ResonateStoreError
from ..execution.call import TIMEOUT, Call, CallKind
from ..execution.execution import ALIVE
from ..execution.fingerprint import is_local
from ..protocol.records import Promise, is_pending
from ..protocol.requests import PromiseGet
from .awaitables import DurableCall
from .bodies import LiveBody
from .held import Held

if TYPE_CHECKING:
    from .taking import Taking
    from .worker import Worker

_LONGEST_TIMER_S: Final = 300.0
"""Loop timers run on the monotonic clock; deadlines are wall time, so it is looked again."""

_AGAIN_S: Final = 1.0
"""A promise that the server still calls pending after its deadline is asked for again so late."""

_REFUSED_S: Final = 30.0
_NEAR_MS: Final = 20_000
"""A sleep that ends so soon needs no listener beside its timer."""

_TIMED: Final = (CallKind.SLEEP, TIMEOUT)


class Waits:
    """The worker's part that waits."""

    __slots__ = ("_clock", "_is_remote", "_loop", "_store", "_taking", "_watched", "_worker")

    def __init__(self, worker: Worker, taking: Taking, clock: Clock) -> None:
        self._worker = worker
        self._taking = taking
        self._store = worker.store
        self._loop = worker.loop
        self._clock = clock
        self._is_remote = not worker.store.in_process
        self._watched: dict[str, int] = {}  # promise id -> how many calls

    def watch(self, call: Call) -> None:
        """Hear when this call's promise is settled."""
        assert call.body is not None  # a root is watched by its execution
        execution = call.body.execution
        assert isinstance(execution, Held)
        if call in execution.watched or call.is_ended:
            return
        assert isinstance(call, DurableCall)
        execution.watched[call] = heard = call.settled_elsewhere
        self._watched[call.promise_id] = self._watched.get(call.promise_id, 0) + 1
        if self._is_remote and self._at_its_deadline(call):
            return
        self._store.watch(call.promise_id, heard)

    def _at_its_deadline(self, call: DurableCall[Any]) -> bool:
        """Set a timer in front of a deadline; whether that is all there is to wait for."""
        now_ms = self._clock.now_ms()
        if call.kind in _TIMED:
            self._set_timer(call, now_ms)
            return call.timeout_at_ms - now_ms < _NEAR_MS
        is_overdue = call.timeout_at_ms <= now_ms  # a local call: there is nothing else to hear of
        if is_overdue or call.timeout_at_ms < call.home.call.timeout_at_ms:
            self._set_timer(call, now_ms)
        return is_overdue

    def _set_timer(self, call: DurableCall[Any], now_ms: int, at_least_s: float = 0.0) -> None:
        wait_s = max((call.timeout_at_ms - now_ms) / 1000, at_least_s)
        call.timer = self._loop.call_later(min(wait_s, _LONGEST_TIMER_S), self._due, call)

    def _due(self, call: DurableCall[Any]) -> None:
        call.timer = None
        if not self._is_waited_for(call):
            return
        now_ms = self._clock.now_ms()
        if now_ms < call.timeout_at_ms:
            self._set_timer(call, now_ms)
        else:
            self._worker.chore(self._ask(call))

    async def _ask(self, call: DurableCall[Any]) -> None:
        """The deadline has come by our clock: what does the server say?"""
        try:
            reply = await self._store.call(PromiseGet(call.promise_id))
            promise, again_s = reply.promise, _AGAIN_S
        except ResonateStoreError:  # refused credentials: the store says so, we do not hammer
            promise, again_s = None, _REFUSED_S
        if not self._is_waited_for(call):
            return
        if promise is not None and not is_pending(promise):
            self._store.unwatch(call.promise_id, call.settled_elsewhere)
            self.settled(call, promise)
        else:
            self._set_timer(call, self._clock.now_ms(), again_s)

    @staticmethod
    def _is_waited_for(call: DurableCall[Any]) -> bool:
        execution = call.home.execution
        return isinstance(execution, Held) and call in execution.watched

    def settled(self, call: DurableCall[Any], promise: Promise) -> None:
        """A promise that a call waits for was settled."""
        execution = call.home.execution
        assert isinstance(execution, Held)
        if execution.watched.pop(call, None) is None:
            return
        self._let_go(call)
        if promise.settled_at_ms is None:
            # The server does not have it any more: what it has is for a new life to find out.
            self._worker.lost(execution, call)
            return
        scheduler = self._worker.scheduler
        if isinstance(call.child, LiveBody) and not call.child.is_over:
            scheduler.soon(scheduler.concluding.ended_outside, call)
        elif call.promise_id == call.id:
            scheduler.soon(scheduler.settled, call, promise)
        else:
            scheduler.soon(scheduler.sharing.settled, call, promise)

    def settled_outside(self, promise: Promise, owner: Held | None) -> None:
        """The promise of a local call was settled, not by its function: that ends it (S13)."""
        if not is_local(promise):
            return  # its call watches it
        if (meanwhile := self._taking.settled_outside.get(promise.owner)) is not None:
            meanwhile.add(promise.id)
        scheduler = self._worker.scheduler
        execution = owner or scheduler.sharing.runner_of(promise.owner)
        if execution is None:
            return
        call = next((body.call for body in execution.bodies if body.id == promise.id), None)
        if isinstance(call, DurableCall):
            scheduler.soon(scheduler.concluding.ended_outside, call)
        elif execution.settled_outside is None:
            execution.settled_outside = {promise.id}
        else:
            execution.settled_outside.add(promise.id)

    def unwatch(self, call: Call) -> None:
        """Do not hear of it any more."""
        execution = call.body.execution if call.body is not None else None
        if isinstance(execution, Held) and (heard := execution.watched.pop(call, None)):
            self._let_go(call)
            self._store.unwatch(call.promise_id, heard)

    def forget(self, execution: Held) -> None:
        """Do not hear of anything that this execution waits for."""
        for call, heard in execution.watched.items():
            self._let_go(call)
            self._store.unwatch(call.promise_id, heard)
        execution.watched.clear()

    def is_watched(self, id: str) -> bool:
        """Whether a call that runs here waits for this promise."""
        return id in self._watched

    def _let_go(self, call: Call) -> None:
        timer: asyncio.TimerHandle | None = getattr(call, "timer", None)
        if timer is not None:
            timer.cancel()
        left = self._watched[call.promise_id] - 1
        if left:
            self._watched[call.promise_id] = left
        else:
            del self._watched[call.promise_id]

    # -- deadlines of what runs here

    def at_deadline(self, call: DurableCall[Any]) -> None:
        """A local child with a deadline of its own: end it when that comes (S14, S20)."""
        wait_s = max(call.timeout_at_ms - self._clock.now_ms(), 0) / 1000
        call.timer = self._loop.call_later(wait_s, self._overdue, call)

    def _overdue(self, call: DurableCall[Any]) -> None:
        if call.is_ended or call.cut or call.home.execution.life is not ALIVE:
            return
        if self._clock.now_ms() < call.timeout_at_ms:
            self.at_deadline(call)
        elif not self._is_remote or call.is_volatile:
            scheduler = self._worker.scheduler
            scheduler.soon(scheduler.concluding.ended_outside, call)
        else:
            child = call.child
            if isinstance(child, LiveBody) and not child.is_over:
                self._worker.scheduler.interrupts.abandon(child)
            self.watch(call)
