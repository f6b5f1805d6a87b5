"""Cancels that reach a body: inputs like any other, and when they are let through (S10, S11)."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Final, NamedTuple

from .call import ENDED, TIMEOUT, Call, CallersCancel, CallKind, KeptCancel, Wait
from .carrying import Carrying
from .log import INTERRUPTION, Batch
from .volatile import Ending, member_of

Input = Call | Wait | CallersCancel | KeptCancel
"""What a body is given: a call's outcome, the interruption of a wait, a cancel elsewhere."""

NOTHING: Final[dict[Any, Any]] = {}
"""What a leaf waits for and holds; never written to: `_open` comes first."""


class Interruption(Enum):
    """What becomes of a cancel that arrived at a wait (S10, S11)."""

    QUEUED = auto()  # it waits for its turn among the body's inputs
    KEPT = auto()  # it stays with its asyncio task until a later wait
    CANCEL_CHILD = auto()  # the call itself gets the cancel first


class Kept(NamedTuple):
    """A cancel that stays with its asyncio task, to be let through at a later wait.

    Attributes:
        cancelling: The task's count of cancel requests, by which it is dropped.
        past: The wait that is given its result all the same (S10): not at this one.
        came_at: The wait that it arrived at, where it has not been anywhere yet (S11).
        times: How often it came there.
    """

    cancelling: int
    past: Wait | None
    came_at: Wait | None
    times: int = 1

    @property
    def arrived_at(self) -> Wait | None:
        """The wait that it came to, if any."""
        return self.past or self.came_at


class Interruptible(Carrying):
    """The part of a body that cancels reach.

    Attributes:
        call: The call it computes.
        waiting: The inputs that wait to be given (W), by member, in order of arrival.
        at: Which of its asyncio tasks are at which wait.
        activity: Grows with every call and wait; what quiescence is judged by (S6).
        is_plain: Nothing is replayed and no cancel is kept: inputs are given as they come.
        open_calls: Calls that must end before the body may (S22).
        cancels: How often its caller passed a cancel on to it.
        passing: The wait whose cancel was last passed on to the call it is for.
        is_limiting: A time limit has its turn, and cancels.
    """

    call: Call
    activity: int = 0
    is_plain: bool = True
    open_calls: int = 0
    cancels: int = 0
    passing: Wait | None = None
    _log: list[Batch] | None = None
    _logged_interruptions: set[str] | None = None
    _kept: dict[Any, Kept] | None = None
    is_limiting: bool = False
    _limited: list[Wait] | None = None  # waits that limits ended, in their turns
    _came: dict[str, int] | None = None  # cancel -> how much the body had done when it came
    waiting: dict[str, Input]
    at: dict[Any, Wait]

    def _open(self) -> None:
        """The first call: from now on the body has inputs, and they need room."""
        self.waiting = {}
        self.at = {}

    @property
    def is_replaying(self) -> bool:
        """Whether recorded batches are still to be given."""
        return self._log is not None and self.position < len(self._log)

    def closed(self, call: Call) -> None:
        """The body need not wait for this call to end (any more)."""
        if not call.closed and call.kind is not TIMEOUT:
            call.closed = True
            self.open_calls -= 1

    def interrupted(
        self, wait: Wait, owner: Any, cancelling: int, came_at: Wait | None
    ) -> Interruption:
        """A cancel from inside the body arrived at this wait (S10 first, S11 on replay).

        Args:
            owner: The asyncio task that waits (any hashable).
            cancelling: Its count of cancel requests, by which a kept cancel is dropped.
            came_at: The wait it first arrived at: this one, or one that did not let it through.
        """
        if self.is_limiting:
            at = self.at.values()
            self._limited = [wait, *(other for other in self._limited or () if other in at)]
        if wait.interrupted:
            return Interruption.QUEUED
        call = wait.call
        logged = self._logged_interruptions
        is_logged = logged is not None and wait.member in logged
        # Else the cancel is what it ends by.
        has_value = call.is_ended or not call.is_volatile or call.ending is Ending.UNREACHED
        if call.outlived and wait.direct and has_value and not (wait.passed_on and is_logged):
            self._comes_again(wait)
            self.outlived(wait, owner, cancelling)
            return Interruption.KEPT
        if self.is_replaying:
            if is_logged:
                self._leave(wait)
                self._queue_interruption(wait)
                return Interruption.QUEUED
            if came_at is wait and call.ending is Ending.OUTLIVED and not call.is_ended:
                self.passing = wait
                wait.passed_on = wait.call.passed_on = True
                return Interruption.CANCEL_CHILD  # it ends by that, as it did before
            self.keep(owner, cancelling, came_at=came_at)
            return Interruption.KEPT
        if wait.direct and call.runs_here and not call.is_ended and not call.cut:
            self.passing = wait
            wait.passed_on = call.passed_on = True
            call.is_forced = came_at is not wait
            return Interruption.CANCEL_CHILD
        self._leave(wait)
        self._queue_interruption(wait)
        return Interruption.QUEUED

    def _leave(self, wait: Wait) -> None:
        """An interrupted `rpc`, `sleep` or `promise` is not awaited at the body's end (S10)."""
        call = wait.call
        may_be_left = wait.direct or call.kind is CallKind.PROMISE
        if may_be_left and not call.runs_here and not call.is_ended and not call.cut:
            self.closed(call)

    def has_left(self, call: Call) -> bool:
        """Whether the log says that it gave up a call which went on for others (S10, S11)."""
        logged = self._logged_interruptions
        return call.direct and logged is not None and f"{INTERRUPTION}{call.suffix}" in logged

    def cancel_from_caller(self) -> bool:
        """Its caller passes a cancel on to it: whether that waits for its turn (S5, S10).

        Of a body without other inputs, in this life and before, it is its turn at once.
        """
        self.cancels += 1
        cancel = CallersCancel(self.cancels)
        assert self.call.body is not None  # a root has no caller here
        self.above = {**(self.above or {}), **self.call.body.logs_at_hand()} or None
        if self.waiting is NOTHING:
            if self._log is None:
                self._gained((cancel.member,))
                self.position += 1
                return False
            self._open()
        self._comes(cancel)
        return True

    def outlived(self, wait: Wait, owner: Any, cancelling: int) -> None:
        """The call was cancelled, now or in an earlier life, and returned a value (S10).

        The wait is given that, and the cancel stays with its task.
        """
        self.keep(owner, cancelling, wait)

    def _comes_again(self, wait: Wait) -> None:
        """The cancel that the call outlived in an earlier life: now its value is an input.

        On a replay that is there before the cancel comes. The record says what it outlived, and
        it is given not before: the task would be elsewhere when it is cancelled.
        """
        call = wait.call
        was_due = call.awaits_cancel and call.state is ENDED
        wait.passed_on = wait.call.passed_on = True
        if was_due:
            self.waiting[member_of(call)] = call

    def cut(self, wait: Wait) -> None:
        """The call this wait cancelled is settled as cut: the interruption takes its turn."""
        if not wait.interrupted:
            self._queue_interruption(wait)

    def gives_away(self, wait: Wait, *, others_run_it: bool) -> bool:
        """Whether others wait for the call that this wait cancelled: it goes on without us.

        Args:
            others_run_it: Another call runs its explicit id, which it was about to join.
        """
        if not wait.call.is_shared and not others_run_it:
            return False
        self.closed(wait.call)
        self.cut(wait)
        return True

    def is_being_cancelled(self, owner: Any) -> bool:
        """Whether a cancel is on its way to this task."""
        if self._kept is not None and owner in self._kept:
            return True
        wait = self.at.get(owner)
        if wait is None or self._is_overtaken(wait):
            return False
        return wait.interrupted or wait is self.passing or wait in (wait.call.cancelled_by or ())

    def limit_expires(self, owner: Any, cancelling: int) -> None:
        """It is the turn of a time limit, which is to cancel this task (S11a).

        A cancel that waits for a later turn is kept: the limit ends the wait that it finds the
        task at. Until `is_limiting` is taken back, the cancels that arrive are the limit's.
        """
        self.is_limiting = True
        wait = self.at.get(owner)
        if wait is not None and self._is_overtaken(wait):
            self.keep(owner, cancelling, came_at=wait)

    def _is_overtaken(self, wait: Wait) -> bool:
        """Whether what is given now comes before the interruption that waits for its turn (S11).

        It may have come earlier than on the first run. What a limit's turn led to has not.
        """
        if not wait.interrupted or wait.member not in self.waiting:
            return False
        return self._limited is None or wait not in self._limited

    def keep(
        self,
        owner: Any,
        cancelling: int,
        past: Wait | None = None,
        came_at: Wait | None = None,
    ) -> None:
        """A cancel stays with its asyncio task, to be let through at a later wait: see `Kept`."""
        if self._kept is None:
            self._kept = {}
            self.is_plain = False
        before = self._kept.get(owner)
        times = 1
        if before is not None and came_at is not None and before.came_at is came_at:
            times += before.times
        self._kept[owner] = Kept(cancelling, past, came_at, times)

    def kept_cancel(self, owner: Any, cancelling: int) -> Kept | None:
        """The cancel kept with this task, if it is still wanted; it is taken out."""
        if not self._kept or owner not in self._kept:
            return None
        kept = self._kept.pop(owner)
        if not self._kept:
            self._kept = None
            self.is_plain = self._log is None
        return kept if kept.cancelling <= cancelling else None

    def kept_elsewhere(self) -> list[KeptCancel]:
        """The kept cancels whose tasks are at no durable wait, and whose turn it may be (S10).

        Nothing says when these tasks come to their next one: what they wait for meanwhile is
        cancelled. As it is recorded, a replay does so in its turn.
        """
        logged = self._logged_interruptions or ()
        found = []
        for owner, kept in (self._kept or {}).items():
            if owner not in self.at and kept.arrived_at is not None:
                cancel = KeptCancel(owner, kept.arrived_at)
                if not self.is_replaying or cancel.member in logged:
                    found.append(cancel)
        return found

    def is_kept(self, owner: Any, cancelling: int) -> bool:
        """Whether a cancel kept with this task is still wanted."""
        kept = self._kept.get(owner) if self._kept else None
        return kept is not None and kept.cancelling <= cancelling

    def kept_owners(self) -> list[Any]:
        """The tasks whose kept cancel may now become a new interruption (the log is used up)."""
        if self.is_replaying or not self._kept:
            return []
        return [
            owner
            for owner, kept in self._kept.items()
            if kept.past is None or self.at.get(owner) is not kept.past
        ]

    def _queue_interruption(self, wait: Wait) -> None:
        wait.interrupted = True
        self._comes(wait)

    def _comes(self, cancel: Wait | CallersCancel) -> None:
        """It waits for its turn; on a replay it matters which calls were made before it."""
        self.waiting[cancel.member] = cancel
        if self._log is not None:
            if self._came is None:
                self._came = {}
            self._came[cancel.member] = self.activity


Interruptible.waiting = NOTHING
Interruptible.at = NOTHING
