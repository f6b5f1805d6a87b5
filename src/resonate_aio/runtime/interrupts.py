"""Cancels and dropped frames (S10 to S14, S30, S31).

A cancel that arrives at a wait is an input of the body where it comes from inside it;
anything else ends the frame without a trace. Frames cannot be ended inertly: they are
cancelled once, given a bounded time, and whatever will not die is named and kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from ..errors import ResonateCanceledError
from ..execution.call import OVER, KeptCancel, Wait
from ..execution.execution import ALIVE, Execution, Life
from ..execution.interruptions import Interruption, Kept
from .async_wait import AsyncWait
from .awaitables import DurableCall
from .bodies import LiveBody
from .functions import PLAIN
from .stamps import current_branch

if TYPE_CHECKING:
    from .scheduler import Scheduler

logger = logging.getLogger("resonate_aio.runtime")

_AT_A_TIME: Final = 16
_NAMED: Final = 20
_REMEMBERED: Final = 10_000

_IMMORTAL: list[Any] = []
"""Frames that would not die: dropping the last reference would print "was destroyed"."""


class Interrupts:
    """The scheduler's part that cancels."""

    __slots__ = ("_dropped", "_passing", "_scheduler", "leaving")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._dropped: dict[str, bool] = {}  # cancelled from outside -> whether that was said
        self.leaving: dict[asyncio.Task[Any], LiveBody] = {}
        """The tasks of bodies that were ended before their execution, and have not ended yet."""
        self._passing: LiveBody | None = None

    def task_cancelled(self, body: LiveBody) -> None:
        """`Task.cancel` was called on the task of a body, wherever that is (S10)."""
        if not body.is_dead and not self._is_inside(body):
            self.drop_from_outside(body.execution)

    def cancel_arrived(self, wait: AsyncWait, message: object) -> None:
        """`Task.cancel` reached a wait: from inside its body, or from anywhere else (S10)."""
        body = wait.body
        if not body.is_dead and not self._is_inside(body):
            self.drop_from_outside(body.execution)
        if body.is_dead:
            self._end(wait)
            return
        if message is not None and message == wait.message:
            return  # anyio says it again in every pass of the loop, until its scope is left
        wait.message = message
        self.interrupt(body, wait, wait.task, wait)
        self._scheduler.soon(self._scheduler.consider, body)

    def _is_inside(self, body: LiveBody) -> bool:
        """Whether who cancels now runs in the body's own context."""
        branch = current_branch.get()
        return self._passing is body or (branch is not None and branch.body is body)

    def let_through(self, body: LiveBody, wait: Wait, owner: Any, kept: Kept) -> None:
        """A kept cancel is let through at this wait: as often as it came to it."""
        if kept.arrived_at is not None:
            wait.message = kept.arrived_at.message
        for _ in range(kept.times if kept.came_at is wait else 1):
            self.interrupt(body, wait, owner, kept.came_at)

    def interrupt(self, body: LiveBody, wait: Wait, owner: Any, came_at: Wait | None) -> None:
        """Feed an inside cancel at this wait to the body, and do what it answers.

        Args:
            came_at: The wait it arrived at. A cancel that another one did not let through this
                one does, whatever its call would do about it (else a time limit around a loop
                of steps that return a value when cancelled would never end).
        """
        cancelling = owner.cancelling() if isinstance(owner, asyncio.Task) else 0
        if body.interrupted(wait, owner, cancelling, came_at) is Interruption.CANCEL_CHILD:
            self._scheduler.soon(self._cancel_child, wait, came_at is not wait)

    def _cancel_child(self, wait: Wait, kept: bool) -> None:
        """The local call a cancelled wait is for gets the cancel itself (S10)."""
        call = wait.call
        assert isinstance(call, DurableCall)
        body = call.home
        if body.execution.life is not ALIVE:
            return
        if call.is_ended or call.cut:
            return  # meanwhile: what came of the cancel was settled when its outcome arrived
        child: LiveBody | None = call.child  # type: ignore[assignment]  # our bodies are live ones
        if child is OVER:
            return  # it ended before the cancel came: its outcome is on its way
        others_run_it = self._scheduler.sharing.others_run(call)
        if body.gives_away(wait, others_run_it=others_run_it):
            if child is not None:
                self.abandon(child)
            call.child = None
            if not others_run_it:
                self._scheduler.sharing.given_away(call)
            self._scheduler.consider(body)
            return
        if call.cancelled_by is None:
            call.cancelled_by = []
        call.cancelled_by.append(wait)
        if child is None:
            self._scheduler.asking.settle_cut(call)
            return
        if kept:
            self.abandon(child)
            self._scheduler.asking.settle_cut(call)
            return
        callee = call.callee
        assert callee is not None
        if not child.started or child.frame_over or callee.kind is PLAIN:
            if child.outcome is None:
                self._cut_now(child)
            return
        self.pass_cancel(child)

    def pass_cancel(self, child: LiveBody) -> None:
        """Cancel a running body as its parent would: an input, which waits for its turn (S10)."""
        if child.cancel_from_caller():
            self._scheduler.consider(child)
        else:
            self.cancel_given(child)

    def cancel_given(self, child: LiveBody) -> None:
        """It is the turn of a cancel from the body's caller."""
        if child.frame_over:
            return
        child.call.reached = True
        if child.generator is not None:
            wait = child.generator_wait
            if wait is not None:
                self.interrupt(child, wait, child, wait)
                self._scheduler.consider(child)
            else:
                child.keep(child, 0)
            return
        if child.task is None:
            return
        before, self._passing = self._passing, child
        try:
            child.task.cancel()
        finally:
            self._passing = before

    def kept_given(self, body: LiveBody, cancel: KeptCancel) -> None:
        """It is the turn of a cancel kept with a task that is at no durable wait."""
        task = cancel.owner
        kept = body.kept_cancel(task, task.cancelling())
        if kept is None or task.done():
            return
        message = kept.arrived_at.message if kept.arrived_at is not None else None
        before, self._passing = self._passing, body
        try:
            if task.cancelling():
                task.uncancel()  # it was counted when it came
            task.cancel(message)
        finally:
            self._passing = before

    def _cut_now(self, child: LiveBody) -> None:
        """End a call whose function cannot be asked to end: a thread, or one not running."""
        child.is_over = child.is_dead = child.abandoned = True
        child.execution.end(child)
        if child.task is not None and child.started:
            child.task.cancel()
        self._scheduler.asking.settle_cut(child.call)

    def end_strays(
        self, body: LiveBody, strays: list[asyncio.Task[Any]], cut: list[asyncio.Task[Any]]
    ) -> None:
        """The function returned while tasks of it still ran (S22).

        Args:
            strays: Those that make ctx calls; a warning names them.
            cut: Those at calls that were cut: nothing else would ever end them.
        """
        if strays:
            logger.warning(
                "%r ended while tasks it created were still running; they are cancelled: %s",
                body.id,
                ", ".join(task.get_name() for task in strays),
                extra={"id": body.id},
            )
        before, self._passing = self._passing, body
        try:
            for task in (*strays, *cut):
                task.cancel()
        finally:
            self._passing = before

    # -- dropping frames ---------------------------------------------------------------

    def drop(self, execution: Execution, life: Life = Life.DROPPED) -> None:
        """From now on no frame of the execution records anything; each is cancelled once."""
        if execution.life is not ALIVE:
            return
        execution.life = life
        bodies = list(execution.bodies.values())
        for body in bodies:
            assert isinstance(body, LiveBody)
            body.is_dead = True
            body.stop_timers()
        if bodies:
            self._scheduler.soon(self._cancel_each, deque(bodies))
        self._scheduler.executions.dropped(execution)
        self._scheduler.sharing.dropped(execution)

    def _cancel_each(self, bodies: deque[Any], _: Any = None) -> None:
        """Cancel what is dropped, some at a time: there may be a great many (law 15)."""
        for _turn in range(min(_AT_A_TIME, len(bodies))):
            self._cancel_frames(bodies.popleft())
        if bodies:
            self._scheduler.soon(self._cancel_each, bodies)

    def drop_from_outside(self, execution: Execution) -> None:
        """Somebody else cancelled a frame: end the others too, and give the lease back."""
        if execution.life is ALIVE:
            self._warn_of_cancel(execution.id)
            self.drop(execution)
            self._scheduler.executions.cancelled_from_outside(execution)

    def _warn_of_cancel(self, id: str) -> None:
        """A process shuts down once: the second time, something else cancels what runs.

        That is said once for each id (law 14), however often it is tried again.
        """
        said = self._dropped.get(id)
        if said is False:
            logger.warning(
                "%r was cancelled again by others than its function, which records nothing; it "
                "will be tried again: end it with promises.cancel(%r)",
                id,
                id,
                extra={"id": id},
            )
        self._dropped[id] = said is not None
        if len(self._dropped) > _REMEMBERED:
            del self._dropped[next(iter(self._dropped))]

    def _cancel_frames(self, body: LiveBody) -> None:
        if body.is_over:
            return
        if body.generator is not None and not body.frame_over:
            wait = body.generator_wait
            if wait is not None:
                self._scheduler.wake(body, wait, asyncio.CancelledError())
        elif body.task is not None and body.started and not body.task.done():
            body.task.cancel()
        elif body.frame_over or not body.started:
            body.frame_over = True  # one that did not begin has no frame to wait for
            self._scheduler.concluding.forget(body)
        for task in list(body.branch_tasks or ()):
            task.cancel()

    def cancel_again(self, body: LiveBody) -> None:
        """A frame that caught its cancel and went on is cancelled once more."""
        if body.task is not None and not body.task.done():
            body.task.cancel()
        for task in list(body.branch_tasks or ()):
            task.cancel()

    def abandon(self, child: LiveBody) -> None:
        """End a local call's frames whatever they do; what they return is dropped (S14)."""
        child.is_over = child.is_dead = child.abandoned = True
        child.execution.end(child)
        child.stop_timers()
        for wait in child.at.values():
            self._scheduler.executions.unwatch(wait.call)
        for other in _running_below(child):
            self.abandon(other)
            call = other.call
            if isinstance(call, DurableCall) and call.promise_id is not call.id:
                self._scheduler.sharing.let_go(call)
        if child.generator is not None and child.generator_wait is not None:
            self._scheduler.soon(self._close_generator, child)
        elif child.task is not None and child.started:
            self._send_away(child, child.task)
        for task in list(child.branch_tasks or ()):
            self._send_away(child, task)

    def _send_away(self, child: LiveBody, task: asyncio.Task[Any]) -> None:
        task.cancel()
        if not task.done():
            self.leaving[task] = child
            task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[Any]) -> None:
        self.leaving.pop(task, None)

    def _close_generator(self, body: LiveBody, _: Any = None) -> None:
        wait = body.generator_wait
        if wait is not None:
            self._scheduler.wake(body, wait, asyncio.CancelledError())

    def immortal(self, bodies: list[LiveBody]) -> None:
        """Frames did not end though they were cancelled twice: they are named, and kept (S31)."""
        for body in bodies[:_NAMED]:
            logger.warning(
                "the function of %r did not end within the time stop() gives it; it records "
                "nothing any more: let CancelledError pass through it",
                body.id,
                extra={"id": body.id},
            )
        if len(bodies) > _NAMED:
            logger.warning("%d more functions did not end either", len(bodies) - _NAMED)
        for body in bodies:
            self._keep(body)

    @staticmethod
    def _keep(body: LiveBody) -> None:
        _IMMORTAL.append(body)
        for task in (body.task, *(body.branch_tasks or ())):
            if task is not None and not task.done():
                # asyncio.run cancels and awaits what it knows of: it would never return.
                asyncio._unregister_task(task)
                vars_of: Any = task
                vars_of._log_destroy_pending = False
                if vars_of._fut_waiter is None:
                    # A signal handler raised while it was about to wait: nothing will ever wake
                    # it, and asyncio.run may await it already.
                    asyncio.Future.cancel(task)

    def _end(self, wait: AsyncWait) -> None:
        """Once for each wait, however often its task is cancelled."""
        if wait.dies():
            self._scheduler.soon(self._let_die, wait)

    def _let_die(self, wait: AsyncWait, _: Any = None) -> None:
        self._scheduler.wake(wait.body, wait, asyncio.CancelledError())
        if wait.is_waited_for:  # a signal handler raised when it was over and its task not told
            wait.fails(asyncio.CancelledError())
            wait.go_on()
        wait.let_go()

    def farewell(self, body: LiveBody) -> BaseException:
        """What ctx calls of a dying frame raise: which kind of end it is, the flag tells."""
        if body.execution.life is Life.CANCELED:
            return ResonateCanceledError(body.execution.id)
        return asyncio.CancelledError()


def _running_below(body: LiveBody) -> list[LiveBody]:
    """The running bodies of the calls that this body asked for."""
    return [
        other
        for other in body.execution.bodies.values()
        if isinstance(other, LiveBody) and other.call.body is body
    ]
