"""What the stores inside this process share: a promise machine, a message hub, one timer.

The machine decides; this shell feeds it requests and due instants and hands its messages
to the hub. When what it changed counts as recorded, and when messages may leave, is the
subclass's affair: `_effects` is called after every entry into the machine that may have
had effects beyond the row a fenced call changes. This file knows no file and no thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ..clock import Clock, SystemClock
from ..errors import ResonateStoreError
from ..machine.machine import PromiseMachine
from ..protocol.records import TaskState
from ..protocol.requests import Execute, Message
from .hub import Hub, Member

_NEVER_MS: Final = 2**63
_LONGEST_TIMER_S: Final = 300.0
"""A loop timer runs on the monotonic clock; deadlines are wall time, so it looks again."""

_STEPS_PER_SWEEP: Final = 500
"""Internal steps run in one pass; the others are due in the next one, at once."""


class InProcessStore:
    """Base of the stores whose machine runs on the caller's event loop.

    Args:
        clock: Where the time is read; the system's by default.
    """

    __slots__ = ("_armed_ms", "_clock", "_hub", "_loop", "_machine", "_timer", "_users")

    in_process = True

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._machine = PromiseMachine()
        self._hub = Hub(self._is_current)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ms = _NEVER_MS
        self._users = 0

    @property
    def machine(self) -> PromiseMachine:
        """The machine itself: for tests and harnesses that read its state."""
        return self._machine

    def subscribe(
        self, group: str, pid: str, deliver: Callable[[Message], None]
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
        member = Member(group, pid, deliver)
        self._hub.join(member)
        self._machine.redispatch(
            lambda address: self._hub.takes(member, address), self._clock.now_ms()
        )
        self._effects()

        def leave() -> None:
            self._hub.leave(member)

        return leave

    def _is_current(self, message: Execute) -> bool:
        task = self._machine.tasks.get(message.id)
        return (
            task is not None and task.state is TaskState.PENDING and task.version == message.version
        )

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
            ResonateStoreError: The store is in use on another loop.
        """
        if self._loop is not None and self._loop is not loop:
            if not self._loop.is_closed():
                raise ResonateStoreError("the store is open on another event loop: close it there")
            self._users = 0
            self._unbind()
        self._users += 1
        if self._users == 1:
            self._bind(loop)

    def _leave(self) -> bool:
        """Count one user less; whether that was the last one."""
        if self._users == 0:
            return False
        self._users -= 1
        return self._users == 0

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Live on this loop until `_unbind`."""
        self._loop = loop
        self._hub.bind(loop)
        self._arm()

    def _unbind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_ms = _NEVER_MS
        self._hub.bind(None)
        self._loop = None

    def _arm(self) -> None:
        """Set the timer for the machine's next due instant, if that moved forward."""
        due_ms = self._machine.next_due_ms()
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
        self._armed_ms = _NEVER_MS
        self._machine.sweep(self._clock.now_ms(), limit=_STEPS_PER_SWEEP)
        self._effects()
        self._arm()
