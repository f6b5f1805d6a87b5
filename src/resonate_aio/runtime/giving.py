"""Giving: what arrives for a body, and when the body is given it.

A body that waits is given its next batch once it is quiescent (S5, S6); the execution machine
says which. Outcomes come from the store, or from encoders that read them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import NonDeterminismError
from ..execution.call import (
    ASKED,
    DETACHED,
    ENDED,
    RUN,
    TIMEOUT,
    Call,
    CallKind,
    KeptCancel,
    Wait,
)
from ..execution.execution import ALIVE, is_cut, outlived_cancel
from ..protocol.records import Promise
from ..protocol.values import PLAIN_SHAPE
from ..stores.base import Refusal
from . import encoding
from .async_wait import AsyncWait
from .awaitables import DurableCall
from .bodies import LiveBody
from .generators import step_generator
from .outcomes import is_encoded, outcome_of, user_frames
from .quiet import QuietWatch

if TYPE_CHECKING:
    from .scheduler import Scheduler
    from .stopping import Stopping


class Giving:
    """The scheduler's part that gives bodies their inputs."""

    __slots__ = (
        "_concluding",
        "_executions",
        "_gives_at_once",
        "_quiet",
        "_scheduler",
        "_slots",
        "_soon",
        "_stopping",
        "last",
    )

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._executions = scheduler.executions
        self._concluding = scheduler.concluding
        self._soon = scheduler.soon
        self._slots = scheduler.slots
        self._quiet = QuietWatch(scheduler, self.give)
        self.last: Promise | Refusal | None = None
        """What arrived last."""
        self._stopping: Stopping | None = None
        self._gives_at_once = self._slots is None

    def rest(self, stopping: Stopping) -> None:
        """Give nothing any more; say who comes to a wait."""
        self._stopping = stopping
        self._gives_at_once = False

    def wait_begun(self, body: LiveBody, wait: Wait, owner: Any) -> None:
        """A task of a body (or the generator) is about to suspend on a call."""
        body.wait_begun(wait, owner)
        if wait.call.kind is DETACHED:
            self._executions.watch(wait.call)
        if self._slots is not None:
            self._slots.give_back(body)
        if self._stopping is not None:
            self._stopping.rested(body)
        if body.is_plain:
            if body.waiting:
                self._soon(self.consider, body)
            return
        kept = body.kept_cancel(owner, _cancelling(owner))
        if kept is not None:
            self._scheduler.interrupts.let_through(body, wait, owner, kept)
        if body.has_input or body.is_held:
            self._soon(self.consider, body)

    def consider(self, body: LiveBody, _: Any = None) -> None:
        """Something arrived, or the body came to rest: give it its next batch if it is quiet."""
        if body.is_dead or body.is_over:
            return
        if body.frame_over:
            is_done = self._concluding.may_conclude(body)
            if self._slots is not None and (is_done or _runs_no_more(body)):
                self._slots.give_back(body)  # a task that outlived its frame may have taken it
            if is_done:
                self._concluding.conclude(body)
                return
        if self._stopping is not None or not (body.has_input or body.is_held):
            return
        if body.live_tasks == 1 and len(body.at) == 1:
            self.give(body)
        else:
            self._quiet.watch(body)

    def give(self, body: LiveBody) -> None:
        """The body is quiescent: give it what is next, if anything is."""
        if self._stopping is not None:
            return
        if body.is_held:
            if body.is_at_one_wait:
                self._executions.stopped(body.execution, body.missing_error())
            else:
                self._executions.held(body)
            return
        # A time limit that was reached runs nothing of the body by itself: it needs no slot,
        # and must not wait for the very step it is to end.
        if self._slots is None or body.only_limits_wait or _runs_no_more(body):
            self._give_now(body)
        else:
            self._slots.run(self._give_now, body)

    def _give_now(self, body: LiveBody) -> None:
        self._let_kept_through(body)
        batch = body.next_batch()
        if batch is None:
            if body.is_replaying:
                self._executions.held(body)
            if self._slots is not None and (body.at or _runs_no_more(body)):
                self._slots.give_back(body)
            return
        for given in batch:
            if isinstance(given, Call):
                self._give_outcome(body, given)
            elif isinstance(given, Wait):
                self.wake(body, given, _cancelled(given))
            elif isinstance(given, KeptCancel):
                self._scheduler.interrupts.kept_given(body, given)
            else:
                self._scheduler.interrupts.cancel_given(body)
        if body.has_input:
            self._soon(self.consider, body)
        elif self._slots is not None and body.has_slot:
            if _runs_no_more(body):
                self._slots.give_back(body)
            elif body.at:
                self._quiet.watch(body)  # others of its waits go on: it goes back when it rests

    def _give_outcome(self, body: LiveBody, call: Call) -> None:
        if call.kind is TIMEOUT:
            self._expire(body, call)
            return
        for wait in call.waits:
            if body.is_for_result(wait):
                self.wake(body, wait, None)

    def _let_kept_through(self, body: LiveBody) -> None:
        """The log is used up: a cancel still kept interrupts the wait its task is at (S11).

        Where that is no durable one, it is an input: see `Body.kept_elsewhere`.
        """
        for owner in body.kept_owners():
            wait = body.at.get(owner)
            if wait is None and _goes_on(owner) and body.is_kept(owner, _cancelling(owner)):
                continue
            kept = body.kept_cancel(owner, _cancelling(owner))
            if wait is not None and kept is not None:
                self._scheduler.interrupts.let_through(body, wait, owner, kept)

    def _expire(self, body: LiveBody, call: Call) -> None:
        assert isinstance(call, DurableCall)
        if call.expired is not None and not call.failed:
            body.variables.run(call.expired)

    def wake(self, body: LiveBody, wait: Wait, error: BaseException | None) -> None:
        """Let a task or generator go on, in place."""
        if type(wait) is AsyncWait:
            if body.at.get(wait.task) is wait:
                body.wait_over(wait, wait.task)
                if error is not None:
                    wait.fails(error)
                    error = None  # the frames it is raised in hold this one
                wait.go_on()
        elif body.at.get(body) is wait:
            body.wait_over(wait, body)
            _step(body, wait, error)

    # -- what arrives ------------------------------------------------------------------

    def recorded(self, call: DurableCall[Any], record: Promise) -> None:
        """An earlier life recorded the outcome of this call."""
        call.home.arriving -= 1
        self.settled(call, record)

    def settled(self, call: DurableCall[Any], record: Promise | Refusal) -> None:
        """The store acknowledged a settled promise of this call (or the lease is lost)."""
        self.last = record
        if type(record) is not Promise:  # to ask an enum whether it is its own takes longer
            self._executions.lost(call.home.execution if call.body is not None else None, call)
            return
        if call.body is None:
            self._executions.fulfilled(call, record)
            return
        body = call.home
        if body.execution.life is not ALIVE or call.state is not ASKED:
            return
        if record.value.data is not None and record.value.data is call.settled_text:
            call.settled_text = None  # what we computed is what was recorded
        elif not self.read_outcome(call, record):
            return
        call.child = None
        if call.timer is not None:
            call.timer.cancel()
        if (
            call.kind is RUN
            and body.is_plain
            and len(body.at) == 1
            and body.live_tasks == 1
            and self._gives_at_once
            and (wait := body.give_directly(call)) is not None
        ):
            # The common way: a body at its only wait is given the only thing there is.
            if type(wait) is AsyncWait:
                wait.go_on()
            else:
                _step(body, wait, None)
            return
        body.arrived(call)
        if call.kind is not RUN:
            call.record = record  # it says when: what a replay is given next may go by that
            self._executions.unwatch(call)
        for wait in call.waits:
            if wait.passed_on:
                self._came_back(body, wait, record)
        self.consider(body)

    def _came_back(self, body: LiveBody, wait: Wait, record: Promise) -> None:
        """The outcome of a call that a cancel of this wait was passed on to."""
        if outlived_cancel(record, wait.call):
            owner = wait.task if isinstance(wait, AsyncWait) else body
            body.outlived(wait, owner, _cancelling(owner))
        else:  # it had ended before the cancel came
            body.cut(wait)

    def read_outcome(self, call: DurableCall[Any], record: Promise) -> bool:
        """Set what waits for the call are given; False: nothing, or later."""
        if is_cut(record, call):
            self._cut(call.home, call)
            return False
        if call.decoded is None and is_encoded(record):
            self._executions.chore(encoding.read(self._scheduler, call, record))
            return False
        original = call.value
        shape = call.callee.result if call.callee is not None else PLAIN_SHAPE
        try:
            call.value, call.failed = call.decoded or outcome_of(record, shape)
        except NonDeterminismError as error:  # it means nothing to what the program passes now
            told = NonDeterminismError(f"call {call.id!r}{call.where()}: {error}")
            self._executions.stopped(call.home.execution, told)
            return False
        if call.failed and isinstance(original, BaseException) and original.__traceback__:
            call.value.__traceback__ = user_frames(original)
        elif call.kind in (CallKind.SLEEP, TIMEOUT) and not call.failed:
            call.value = None
        return True

    def _cut(self, body: LiveBody, call: DurableCall[Any]) -> None:
        call.cut = True
        call.state = ENDED
        body.closed(call)
        call.child = None
        for wait in call.cancelled_by or ():
            body.cut(wait)
        self.consider(body)


def _step(body: LiveBody, wait: Wait, error: BaseException | None) -> None:
    """The generator that waited goes on, in place."""
    body.generator_wait = None
    call = wait.call
    if error is None and call.failed:
        error = call.value
    step_generator(body, call.value if error is None else None, error)


def _runs_no_more(body: LiveBody) -> bool:
    """Whether its frames have ended, and all it may wait for is what it began."""
    return body.frame_over and not body.branch_tasks


def _cancelled(wait: Wait) -> asyncio.CancelledError:
    said = wait.message
    return asyncio.CancelledError() if said is None else asyncio.CancelledError(said)


def _goes_on(owner: Any) -> bool:
    """Whether it is a task that has not ended; a generator is at a durable wait, or has."""
    return isinstance(owner, asyncio.Task) and not owner.done()


def _cancelling(owner: Any) -> int:
    return owner.cancelling() if isinstance(owner, asyncio.Task) else 0
