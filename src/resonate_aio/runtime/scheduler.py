"""The scheduler: one queue, drained on the event loop, through which every event passes.

User functions run, ask and end inside their own steps; what follows from that goes into
the queue and is carried out from the loop, never inside a step (S26). The scheduler decides
nothing about a program: it feeds the execution machine and does what that answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from random import Random
from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any

import anyio

from ..clock import Clock
from ..errors import InternalError, NonDeterminismError, ResonateStoreError
from ..execution.attempts import retry_delay_s
from ..execution.body import Body, Branch
from ..execution.call import ASKED, DETACHED, ENDED, OVER, RUN, TIMEOUT, Call, CallKind, Wait
from ..execution.execution import ALIVE, is_cut
from ..protocol.failures import shown_error
from ..protocol.records import EMPTY, Promise, PromiseState
from ..protocol.requests import PromiseGet
from ..protocol.values import PLAIN_SHAPE, decode
from ..retry_policies import Exponential, Never
from ..stores.base import Refusal, Store
from . import encoding
from .asking import Asking
from .awaitables import AsyncWait, DurableCall
from .bodies import LiveBody, start, step_generator
from .endings import ends_process
from .functions import COROUTINE, GENERATOR, PLAIN, Callee
from .interrupts import Interrupts
from .options import NO_OPTIONS
from .outcomes import is_encoded, outcome_of, settlement, user_frames
from .quiet import QuietWatch
from .settings import Settings
from .slots import Slots
from .stamps import BranchFactory, current_branch

if TYPE_CHECKING:
    from .worker import Worker

logger = logging.getLogger("resonate_aio.runtime")

_NEVER = Never()
_LEAF_POLICY = Exponential()
_LOOK_AT_CLOCK = 16
_BURST = 32
_FLUSH_AFTER_S = 0.002
_RESOLVED = PromiseState.RESOLVED


class Scheduler:
    """Runs the bodies of a worker's executions.

    Args:
        context_of: Makes the `ctx` a function is given.
        executions: The worker: told when an execution is over, stopped or lost.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        store: Store,
        clock: Clock,
        settings: Settings,
        context_of: Callable[[LiveBody], Any],
        executions: Worker,
    ) -> None:
        self.loop = loop
        self.store = store
        self.clock = clock
        self.settings = settings
        self.context_of = context_of
        self.executions = executions
        self.limiter = anyio.CapacityLimiter(settings.workers or settings.threads)
        self.running_threads: dict[LiveBody, bool] = {}
        self.on_settled = self.settled  # bound once: it is handed out at every step
        self.asking = Asking(self)
        self.interrupts = Interrupts(self)
        self.quiet = QuietWatch(self)
        self.factory = BranchFactory(loop, self._adopt_task, self._prepare_task)
        self._queue: deque[tuple[Callable[..., None], Any, Any]] = deque()
        self._scheduled = False
        self._draining = False
        self.thread = get_ident()
        self.drives = True
        """Whether functions are started; not, while the worker hands its executions over."""
        self._starting: LiveBody | None = None
        self._rng = Random()  # noqa: S311  jitter is no secret
        self._flush_timer: asyncio.TimerHandle | None = None
        self._slots = Slots(settings.workers, self._soon_slot) if settings.workers else None

    # -- the queue ---------------------------------------------------------------------

    def soon(self, action: Callable[..., None], first: Any, second: Any = None) -> None:
        """Put an action into the queue; it is called as action(first, second)."""
        self._queue.append((action, first, second))
        if not self._scheduled and not self._draining:
            self._scheduled = True
            self.loop.call_soon(self._drain)

    def _soon_slot(self, action: Callable[[LiveBody], None], body: LiveBody) -> None:
        self.soon(_with_one, action, body)

    def _drain(self) -> None:
        self._scheduled = False
        self._draining = True
        queue = self._queue
        count = burst = 0
        before = -1
        until = perf_counter() + self.settings.queue_slice_s
        try:
            while queue:
                rest = len(queue) - 1
                # What one action alone led to is done next, while all it needs is at hand; but
                # not for ever, lest one long execution keep the others waiting.
                if rest == before and burst < _BURST:
                    action, first, second = queue.pop()
                    burst += 1
                else:
                    action, first, second = queue.popleft()
                    burst = 0
                before = rest
                try:
                    action(first, second)
                except Exception as error:
                    logger.exception("a scheduler action failed; this is a bug, please report it")
                    self._failed(first, error)
                count += 1
                if count % _LOOK_AT_CLOCK == 0 and perf_counter() > until:
                    break
        finally:
            self._draining = False
            if queue and not self._scheduled:
                self._scheduled = True
                self.loop.call_soon(self._drain)
        if self._flush_timer is None and not self.store.durable_at_once:
            self._flush_timer = self.loop.call_later(_FLUSH_AFTER_S, self._flush)

    def _failed(self, subject: Any, error: Exception) -> None:
        """Nobody waits for ever because of a bug: its execution is put aside, by name (S42)."""
        body = subject if isinstance(subject, LiveBody) else getattr(subject, "home", None)
        if isinstance(body, LiveBody):
            reason = InternalError(f"{body.id!r} came to a state that cannot be: {error!r}")
            self.executions.stopped(body.execution, reason)

    def _flush(self) -> None:
        """What was created meanwhile and still runs becomes visible to others."""
        self._flush_timer = None
        self.store.flush()

    # -- driving -----------------------------------------------------------------------

    def drive(self, call: DurableCall[Any], _: Any = None) -> None:
        """Start a local call's function (its promise is created or may be)."""
        parent = call.home
        execution = parent.execution
        if execution.life is not ALIVE or call.state is not ASKED or not self.drives:
            return
        if call.child is not None or call.cancelled_by is not None:
            return
        variables = call.variables if call.variables is not None else copy_context()
        call.variables = None
        owner = call.promise_id if call.promise_id != call.id else parent.owner
        body = LiveBody(self, execution, call, variables, owner)
        call.child = body
        self.begin(body)
        if call.timeout_at_ms < parent.call.timeout_at_ms and not body.is_over:
            self.executions.at_deadline(call)

    def begin(self, body: LiveBody) -> None:
        """Begin a body, its log remembered, as soon as it has a slot."""
        execution = body.execution
        execution.bodies[body] = body
        if not self.store.in_process:
            body.unordered = True
        if execution.remembers:
            try:
                execution.begin(body)
            except NonDeterminismError as error:
                self.executions.stopped(execution, error)
                return
        body.variables.run(current_branch.set, body)
        if self._slots is not None:
            self._slots.run(start, body)
            return
        self._starting = body
        try:
            start(body)
        finally:  # a signal may have raised in its first step
            ended = self._starting is not body
            self._starting = None
            if ended:
                outcome = body.outcome
                if outcome and outcome[1] is None and not body.open_calls and not body.branch_tasks:
                    self._conclude(body)  # nearly every leaf
                else:
                    self._over(body)

    def arguments(self, body: LiveBody) -> tuple[Any, dict[str, Any]]:
        """The arguments of a body: what its encoded ones decode to (S29)."""
        call = body.call
        callee = call.callee
        assert callee is not None  # every driven call has a function
        if call.data is None or call.takes_live:
            return call.args, call.kwargs
        data = decode(call.data)
        args, kwargs = (data["args"], data["kwargs"]) if isinstance(data, dict) else (data, {})
        live = (call.args, call.kwargs) if call.body is not None else None
        return callee.rebuild(args, kwargs, live)

    # -- waiting -----------------------------------------------------------------------

    def wait_begun(self, body: LiveBody, wait: Wait, owner: Any) -> None:
        """A task of a body (or the generator) is about to suspend on a call."""
        body.wait_begun(wait, owner)
        if wait.call.kind is DETACHED:
            self.executions.watch(wait.call)
        if self._slots is not None:
            self._slots.give_back(body)
        if body.is_plain:
            if body.waiting:
                self.soon(self.consider, body)
            return
        if body.kept_cancel(owner, _cancelling(owner)):
            self.interrupts.interrupt(body, wait, owner, kept=True)
        if body.has_input or body.is_held:
            self.soon(self.consider, body)

    def consider(self, body: LiveBody, _: Any = None) -> None:
        """Something arrived, or the body came to rest: give it its next batch if it is quiet."""
        if body.is_dead or body.is_over:
            return
        if body.frame_over and self._may_conclude(body):
            self._conclude(body)
            return
        if not body.has_input and not body.is_held:
            return
        if body.live_tasks == 1 and len(body.at) == 1:
            self.give(body)
        else:
            self.quiet.watch(body)

    def give(self, body: LiveBody) -> None:
        """The body is quiescent: give it what is next, if anything is."""
        if body.is_held:
            if body.is_at_one_wait:
                self.executions.stopped(body.execution, body.missing_error())
            else:
                self.executions.held(body)
            return
        # A time limit that was reached runs nothing of the body by itself: it needs no slot,
        # and must not wait for the very step it is to end.
        if self._slots is None or body.only_limits_wait:
            self._give_now(body)
        else:
            self._slots.run(self._give_now, body)

    def _give_now(self, body: LiveBody) -> None:
        self._let_kept_through(body)
        batch = body.next_batch()
        if batch is None:
            if body.is_replaying:
                self.executions.held(body)
            if self._slots is not None and body.at:
                self._slots.give_back(body)
            return
        for given in batch:
            if isinstance(given, Wait):
                self.wake(body, given, asyncio.CancelledError())
            elif given.kind is TIMEOUT:
                self._expire(body, given)
            elif given.waits:
                for wait in list(given.waits):
                    if body.is_for_result(wait):
                        self.wake(body, wait, None)
        if body.has_input:
            self.soon(self.consider, body)
        elif body.has_slot and body.at:
            self.quiet.watch(body)  # others of its waits go on: the slot goes back when it rests

    def _let_kept_through(self, body: LiveBody) -> None:
        """The log is used up: a cancel still kept interrupts the wait its task is at (S11)."""
        for owner in body.kept_owners():
            wait = body.at.get(owner)
            if wait is not None and body.kept_cancel(owner, _cancelling(owner)):
                self.interrupts.interrupt(body, wait, owner, kept=True)

    def _expire(self, body: LiveBody, call: Call) -> None:
        assert isinstance(call, DurableCall)
        if call.expired is not None and not call.failed:
            body.variables.run(call.expired)

    def wake(self, body: LiveBody, wait: Wait, error: BaseException | None) -> None:
        """Let a task or generator go on, in place."""
        if type(wait) is AsyncWait:
            if body.at.get(wait.task) is wait:
                body.wait_over(wait, wait.task)
                wait._error = error
                if wait._context is not None:
                    wait._context.run(wait._wakeup, wait)
                else:
                    wait._wakeup(wait)
            return
        if body.at.get(body) is not wait:
            return
        body.wait_over(wait, body)
        body.generator_wait = None
        call = wait.call
        if error is None and call.failed:
            error = call.value
        step_generator(body, call.value if error is None else None, error)

    # -- ending ------------------------------------------------------------------------

    def over(self, body: LiveBody, value: Any, error: BaseException | None) -> None:
        """A driver reports that its function returned or raised; called in any step."""
        body.frame_over = True
        body.live_tasks -= 1
        body.outcome = (value, error)
        if self._starting is body:
            self._starting = None  # it ended in its first step: `begin` goes on from there
        else:
            self.soon(self._over, body)

    def _over(self, body: LiveBody, _: Any = None) -> None:
        if self._slots is not None:
            self._slots.give_back(body)
        if body.is_over or body.outcome is None:
            return
        error = body.outcome[1]
        if error is not None and not isinstance(error, Exception):
            self._ended_by_base_exception(body, error)
        if body.is_dead:
            self.forget(body)
            return
        if not body.branch_tasks:
            if body.open_calls:
                self.consider(body)
            else:
                self._conclude(body)
            return
        strays = [t for t, part in body.branch_tasks.items() if _made_calls(part)]
        if strays:
            self.interrupts.end_strays(body, strays)
        self.consider(body)

    def _ended_by_base_exception(self, body: LiveBody, error: BaseException) -> None:
        """A cancel that nobody of ours sent is the application's shutdown, as a signal is (S10)."""
        cancelled = isinstance(error, asyncio.CancelledError) and (
            body.call.cancelled_by is None and body.task is not None and body.task.cancelling() > 0
        )
        callee = body.call.callee
        on_thread = callee is not None and callee.kind is PLAIN
        if cancelled or (not on_thread and ends_process(error)):
            self.interrupts.drop_from_outside(body.execution)

    def _may_conclude(self, body: LiveBody) -> bool:
        """Whether every call asked has ended and no task of the body runs on (S22)."""
        if body.outcome is None or body.open_calls:
            return False
        return not body.branch_tasks or not any(
            _is_part_of(body, task, part) for task, part in body.branch_tasks.items()
        )

    def _conclude(self, body: LiveBody) -> None:
        """The function and everything it asked have ended: retry, or record the outcome."""
        if body.outcome is None or body.is_over:
            return
        value, error = body.outcome
        body.outcome = None
        call = body.call
        if error is not None and body.call.cancelled_by is None and self._retries(body, error):
            return
        if body.is_owed:
            self.executions.stopped(body.execution, body.missing_error())
            return
        body.is_over = True
        for made in body.never_asked() if body.activity and error is None else ():
            assert isinstance(made, DurableCall)
            made.warn_unasked()
        if body.unawaited_failures:
            for failed in body.unawaited_failures.values():
                logger.warning(
                    "%r failed and nobody awaited it: %s",
                    failed.id,
                    shown_error(failed.value),
                    extra={"id": failed.id},
                )
        del body.execution.bodies[body]
        call.child = OVER  # the frame is gone before the outcome is durable
        if body.held_timer is not None:
            body.stop_timers()
        body.let_go()
        if error is not None and call.cancelled_by is not None:
            self.asking.settle_cut(call)
            return
        if call.options_ is not NO_OPTIONS and call.options_.encoder is not None:
            self.executions.chore(encoding.settle(self, body.execution, call, value, error))
            return
        callee = call.callee
        assert callee is not None
        state, stored, seen = settlement(value, error, callee.result, callee.name)
        if state is _RESOLVED:
            call.value = seen
            call.settled_text = stored.data
        elif error is not None:
            call.value = error
        self.asking.settle(call, state, stored)

    def _retries(self, body: LiveBody, error: BaseException) -> bool:
        call = body.call
        policy: Any = call.options_.retry_policy
        callee = call.callee
        assert callee is not None
        if policy is None:
            leaf = callee.kind is not GENERATOR and not body.made_calls
            top_level = call.body is None and callee.kind is COROUTINE
            policy = _LEAF_POLICY if leaf and not top_level else _NEVER
        elif not hasattr(policy, "next"):
            policy = _policy_for(policy, callee)
        if isinstance(error, TypeError) and _raised_at_call(error):
            return False
        try:
            delay_s = retry_delay_s(
                policy,
                body.attempt,
                error,
                call.options_.non_retryable_exceptions,
                self.clock.now_ms(),
                call.timeout_at_ms,
                self._rng,
            )
        except Exception:
            logger.exception("the retry policy of %r failed: no retry", callee.name)
            return False
        if delay_s is None:
            return False
        if body.made_calls and body.execution.next_is_recorded(body):
            delay_s = 0.0
        logger.warning(
            "%r failed in attempt %d, next attempt in %.3g s: %s",
            call.id,
            body.attempt,
            delay_s,
            shown_error(error),
            extra={"id": call.id},
        )
        body.retry_timer = self.loop.call_later(delay_s, self._again, body)
        return True

    def _again(self, body: LiveBody) -> None:
        body.retry_timer = None
        if body.execution.life is ALIVE and not body.is_over:
            if self._slots is None:
                self.soon(_with_one, start, body)
            else:
                self._slots.run(start, body)

    # -- outcomes ----------------------------------------------------------------------

    def settled(self, call: DurableCall[Any], record: Promise | Refusal) -> None:
        """The store acknowledged a settled promise of this call (or the lease is lost)."""
        if isinstance(record, Refusal):
            self.executions.lost(call.home.execution if call.body is not None else None, call)
            return
        if call.body is None:
            self.executions.fulfilled(call, record)
            return
        body = call.home
        if body.execution.life is not ALIVE or call.state is not ASKED:
            return
        if record.value.data is not None and record.value.data is call.settled_text:
            call.settled_text = None  # what we computed is what was recorded
        elif not self._read_outcome(call, record):
            return
        call.child = None
        if call.timer is not None:
            call.timer.cancel()
        if (
            call.kind is RUN
            and body.is_plain
            and len(body.at) == 1
            and body.live_tasks == 1
            and self._slots is None
            and body.give_directly(call)
        ):
            # The common way: a body at its only wait is given the only thing there is.
            if call.waits:
                self.wake(body, call.waits[0], None)
            return
        body.arrived(call)
        if call.kind is not RUN:
            self.executions.unwatch(call)
        elif call.cancelled_by is not None:
            for wait in call.cancelled_by:
                owner = wait.task if isinstance(wait, AsyncWait) else body
                body.keep(owner, _cancelling(owner), wait)
        self.consider(body)

    def _read_outcome(self, call: DurableCall[Any], record: Promise) -> bool:
        """Set what waits for the call are given; False: nothing, or later."""
        if is_cut(record):
            self._cut(call.home, call)
            return False
        if call.decoded is None and is_encoded(record):
            self.executions.chore(encoding.read(self, call, record))
            return False
        original = call.value
        shape = call.callee.result if call.callee is not None else PLAIN_SHAPE
        call.value, call.failed = call.decoded or outcome_of(record, shape)
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

    def forget(self, body: LiveBody) -> None:
        """A frame of an execution that records no more has come to its end."""
        if body.branch_tasks or not body.frame_over:
            return
        body.is_over = True
        body.execution.end(body)
        self.executions.frame_gone(body.execution)

    def overdue(self, call: DurableCall[Any]) -> None:
        """A running local call has passed its own deadline: end it as from outside (S14)."""
        child = call.child
        if isinstance(child, LiveBody) and not child.is_over:
            self.interrupts.abandon(child)
        self.asking.settle(call, PromiseState.CANCELED, EMPTY)

    def still_held(self, body: LiveBody, position: int) -> None:
        """A body was held a good while ago: if it still is, that is an error (S9a)."""
        body.held_timer = None
        if not self.is_current(body) or body.position != position:
            return
        if body.is_held:
            self.executions.stopped(body.execution, body.missing_error())
        elif body.is_replaying:
            logger.warning(
                "%r waits to be interrupted where it was before the restart: its own timer "
                "(asyncio.timeout, asyncio.sleep) has to run again; ctx.timeout would not wait",
                body.id,
                extra={"id": body.id},
            )

    def stop(self) -> None:
        """Forget the queue; called once every frame has ended or was given up."""
        self._queue.clear()
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None

    async def created(self, promise_id: str) -> None:
        """Return once the promise is durably stored."""
        reply = await self.store.call(PromiseGet(promise_id))
        if reply.status != 200:
            raise ResonateStoreError(f"promise {promise_id!r}: {reply.error}", reply.status)

    def is_current(self, body: LiveBody) -> bool:
        """Whether the body may still be given something."""
        return not body.is_dead and not body.is_over

    # -- tasks a body creates ----------------------------------------------------------

    def _prepare_task(self, coro: Any) -> None:
        """A ctx call wrapped in a task counts as asked when the task is made (S22)."""
        if isinstance(coro, DurableCall) and coro.home.execution.life is ALIVE:
            coro.start()

    def _adopt_task(self, task: asyncio.Task[Any], body: Body, branch: Branch, coro: Any) -> None:
        assert isinstance(body, LiveBody)
        if body.is_over:
            return
        body.live_tasks += 1
        if body.branch_tasks is None:
            body.branch_tasks = {}
        body.branch_tasks[task] = coro if isinstance(coro, DurableCall) else branch
        task.add_done_callback(partial(self._branch_task_done, body))

    def _branch_task_done(self, body: LiveBody, task: asyncio.Task[Any]) -> None:
        if body.branch_tasks is not None:
            body.branch_tasks.pop(task, None)
            if not body.branch_tasks:
                body.branch_tasks = None
        body.live_tasks -= 1
        if body.is_dead:
            self.forget(body)
        elif body.has_input or body.frame_over or body.is_held:
            self.soon(self.consider, body)


def _policy_for(choose: Callable[[Any], Any], callee: Callee) -> Any:
    """The policy that a function of the function gives; a wrong answer is no retry."""
    try:
        policy = choose(callee.func)
    except Exception:
        logger.exception("the retry policy of %r could not be made: no retry", callee.name)
        return _NEVER
    if not hasattr(policy, "next"):
        logger.error("the retry policy of %r is %r: no retry", callee.name, policy)
        return _NEVER
    return policy


def _with_one(action: Callable[[LiveBody], None], body: LiveBody) -> None:
    if not body.is_over:
        action(body)


def _cancelling(owner: Any) -> int:
    return owner.cancelling() if isinstance(owner, asyncio.Task) else 0


def _made_calls(part: Any) -> bool:
    """Whether a task of a body made a ctx call of its own (wrapping one does not count)."""
    return isinstance(part, Branch) and (part.count > 0 or bool(part.siblings))


def _is_part_of(body: LiveBody, task: asyncio.Task[Any], part: Any) -> bool:
    """Whether a body must wait for this task to end; a library's own tasks are left alone."""
    return isinstance(part, DurableCall) or _made_calls(part) or task in body.at


def _raised_at_call(error: BaseException) -> bool:
    """Whether the error comes from the call itself: wrong arguments, not the function's body."""
    return user_frames(error) is None
