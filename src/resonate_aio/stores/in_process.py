"""What the stores inside this process share: a promise machine, a message hub, one timer.

The machine decides; this shell feeds it requests and due instants and hands its messages
to the hub. When what it changed counts as recorded, and when messages may leave, is the
subclass's affair: `_effects` is called after every entry into the machine that may have
had effects beyond the row a fenced call changes. This file knows no file and no thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from typing import Final

from ..clock import Clock, SystemClock
from ..errors import ResonateStoreError, UsageError
from ..machine.machine import PromiseMachine
from ..machine.state import WATCHED
from ..protocol.records import Promise, PromiseState, TaskState, is_timer, target_of
from ..protocol.requests import Execute, Message, PromiseGet, Reply, Request, Unblock
from .hub import Hub, Member
from .untaken import Untaken

_log = logging.getLogger("resonate_aio.stores")

NEVER_MS: Final = 2**63
"""When no timer is set."""

_LONGEST_TIMER_S: Final = 300.0
"""A loop timer runs on the monotonic clock; deadlines are wall time, so it looks again."""

_STEPS_PER_SWEEP: Final = 500
"""Internal steps run in one pass; the others are due in the next one, at once."""


class InProcessStore:
    """Base of the stores whose machine runs on the caller's event loop.

    Args:
        clock: Where the time is read; the system's by default.
    """

    __slots__ = (
        "_armed_ms",
        "_clock",
        "_hub",
        "_late_watches",
        "_loop",
        "_machine",
        "_timer",
        "_untaken",
        "_users",
    )

    in_process = True
    durable_at_once = False

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._machine = PromiseMachine()
        self._hub = Hub(self._is_current, self._nobody_takes)
        self._untaken = Untaken(self._still_untaken)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ms = NEVER_MS
        self._users = 0
        self._late_watches: set[asyncio.Task[None]] = set()

    @property
    def machine(self) -> PromiseMachine:
        """The machine itself: for tests and harnesses that read its state."""
        return self._machine

    @property
    def scheduled(self) -> int:
        """How many promises schedules created since this object began."""
        return self._machine.scheduled

    def subscribe(
        self,
        group: str,
        pid: str,
        deliver: Callable[[Message], None],
        taken: Callable[[Promise], None] | None = None,
        lost: Callable[[str, int], None] | None = None,
    ) -> Callable[[], None]:
        """Receive messages for poll addresses of this group and pid (S53).

        `deliver` is called from the event loop, in order, after what a message shows is
        recorded. Pending tasks that this address can take are delivered at once.

        Returns:
            A function that ends the subscription; calling it twice does no harm.

        Raises:
            ResonateStoreError: The store is not open.
        """
        self._check_open()
        member = Member(group, pid, deliver, taken)
        self._hub.join(member)
        self._machine.redispatch(
            lambda address: self._hub.takes(member, address), self._clock.now_ms()
        )
        self._effects()

        def leave() -> None:
            self._hub.leave(member)

        return leave

    def forward(
        self, takes: Callable[[str], bool], send: Callable[[str, Message], None]
    ) -> Callable[[], None]:
        """Receive, with their addresses, the messages that no subscriber takes.

        `send` is called from the event loop, after what a message shows is recorded. Pending
        tasks whose target satisfies `takes` are delivered at once.

        Returns:
            A function that ends this; calling it twice does no harm.

        Raises:
            ResonateStoreError: The store is not open.
        """
        self._check_open()
        end = self._hub.forward(takes, send)
        self._machine.redispatch(takes, self._clock.now_ms())
        self._effects()
        return end

    def watch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """Call settled(promise) once the promise is settled, from the event loop.

        Also when it was settled before; nothing happens for an id that does not exist.
        """
        loop = self._check_open()
        self._hub.watch(promise_id, settled)
        promise = self._machine.promises.get(promise_id)
        if promise is not None and promise.state is PromiseState.PENDING:
            self._machine.watched[promise_id] = None
            return
        # A context of its own: the caller may be a durable function's step.
        task = loop.create_task(self._tell_settled(promise_id), context=Context())
        self._late_watches.add(task)
        task.add_done_callback(self._late_watches.discard)

    def unwatch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """Do not call it any more. Unknown pairs are ignored."""
        if self._hub.unwatch(promise_id, settled):
            self._machine.watched.pop(promise_id, None)

    async def _tell_settled(self, promise_id: str) -> None:
        """Watchers of a promise that is not pending in memory: read it, then tell them."""
        promise = (await self.call(PromiseGet(promise_id))).promise
        if promise is None:
            return
        if promise.state is PromiseState.PENDING:
            self._machine.watched[promise_id] = None
        else:
            self._hub.send(WATCHED, Unblock(promise))

    async def call(self, request: Request) -> Reply:
        """Carry out one request; see `Store.call`."""
        raise NotImplementedError

    def _is_current(self, message: Execute) -> bool:
        task = self._machine.tasks.get(message.id)
        return (
            task is not None and task.state is TaskState.PENDING and task.version == message.version
        )

    def untaken_target(self, id: str) -> str | None:
        """Where an execution waits for somebody to take it; None if it does not."""
        task, promise = self._machine.tasks.get(id), self._machine.promises.get(id)
        if task is None or promise is None or task.state is not TaskState.PENDING:
            return None
        return target_of(promise)

    def _nobody_takes(self, address: str, message: Execute) -> None:
        promise = self._machine.promises.get(message.id)
        if self._loop is not None and promise is not None and not is_timer(promise):
            self._untaken.add(address, message, self._loop)

    def _still_untaken(self, address: str, message: Execute) -> Promise | None:
        if not self._is_current(message) or self._hub.is_taken(address):
            return None
        return self._machine.promises.get(message.id)

    def _effects(self) -> None:
        """See to messages, rows and the timer after an entry into the machine."""
        raise NotImplementedError

    def _check_open(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise ResonateStoreError("the store is not open: call open() first")
        return self._loop

    def _enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count one more user; the first binds the store to the loop.

        Users whose loop was closed under them no longer count.

        Raises:
            UsageError: The store is in use on another loop.
        """
        if self._loop is not None and self._loop is not loop:
            if not self._loop.is_closed():
                raise UsageError(
                    "the store is open on another event loop: close it there, or make one store "
                    "for each loop"
                )
            self.abandon()
        self._users += 1
        if self._users == 1:
            self._bind(loop)

    def abandon(self) -> None:
        """Where the loop was closed under all who used the store: their leases have ended."""
        if self._loop is None or not self._loop.is_closed():
            return
        self._users = 0
        self._late_watches.clear()  # nothing can be cancelled there any more
        self._unbind()
        self._hub.clear()
        self._machine.watched.clear()
        now_ms = self._clock.now_ms()
        for task in list(self._machine.tasks.values()):
            if task.state is TaskState.ACQUIRED:
                self._machine.end_lease(task.id, now_ms)

    def _leave(self) -> bool:
        """Count one user less; whether that was the last one."""
        if self._users == 0:
            return False
        self._users -= 1
        return self._users == 0

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Live on this loop until `_unbind`."""
        self._loop = loop
        self._armed_ms = NEVER_MS
        self._hub.bind(loop)
        self._arm()

    def _unbind(self) -> None:
        self._pause()
        self._loop = None

    def _pause(self) -> None:
        """No more timers and messages from here on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_ms = -1
        self._hub.bind(None)
        self._untaken.clear()
        for task in self._late_watches:
            task.cancel()

    def _arm(self) -> None:
        """Set the timer for the machine's next due instant, if that moved forward."""
        machine = self._machine
        if not machine.deadlines.is_anything_before(self._armed_ms):
            return  # nearly always, and cheaper than to ask what is due first
        due_ms = machine.next_due_ms()
        if due_ms is None or due_ms >= self._armed_ms or self._loop is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_ms = due_ms
        wait_s = (due_ms - self._clock.now_ms()) / 1000
        self._timer = self._loop.call_later(
            min(max(wait_s, 0.0), _LONGEST_TIMER_S), self._fire, self._loop
        )

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        self._timer = None
        self._armed_ms = NEVER_MS
        self._sweep(self._clock.now_ms())

    def _warn_of_overdue(self, now_ms: int) -> None:
        """Say, once for all of them, that missed ticks were caught up with too late to run."""
        for id, count in self._machine.take_overdue(now_ms):
            _log.warning(
                "schedule %r: %d missed %s timed out before anything ran; the deadline of an "
                "execution counts from its tick: a longer timeout of the schedule lets it run late",
                id,
                count,
                "tick" if count == 1 else "ticks",
                extra={"id": id},
            )

    def _sweep(self, now_ms: int) -> None:
        """Run what is due and set the timer again."""
        self._machine.sweep(now_ms, limit=_STEPS_PER_SWEEP)
        if self._machine.overdue:
            self._warn_of_overdue(now_ms)
        self._effects()
        self._arm()
