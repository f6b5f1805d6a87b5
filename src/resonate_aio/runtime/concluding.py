"""Concluding: a function returned or raised; it is tried again, or its outcome recorded.

A body ends only when every call it asked has ended and no task of it that makes ctx calls
runs on (S22). What is recorded then is for `outcomes` and the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from ..errors import ResonateShutdownError
from ..execution.attempts import retry_delay_s
from ..execution.body import Branch
from ..execution.call import OVER
from ..execution.execution import ALIVE
from ..protocol.failures import shown_error
from ..protocol.records import EMPTY, PromiseState
from ..retry_policies import Exponential, Never
from . import encoding
from .awaitables import DurableCall
from .bodies import LiveBody, start
from .endings import ends_process, is_led_to_by
from .functions import COROUTINE, GENERATOR, INLINE, PLAIN, Callee
from .options import NO_OPTIONS
from .outcomes import settlement, user_frames

if TYPE_CHECKING:
    from .scheduler import Scheduler

logger = logging.getLogger("resonate_aio.runtime")

_NEVER = Never()
_LEAF_POLICY = Exponential()
_RESOLVED = PromiseState.RESOLVED


class Concluding:
    """The scheduler's part that ends bodies."""

    __slots__ = ("_asking", "_rng", "_scheduler", "_slots")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._asking = scheduler.asking
        self._slots = scheduler.slots
        self._rng = Random()  # noqa: S311  jitter is no secret

    def over(self, body: LiveBody, _: Any = None) -> None:
        """Its function returned or raised: conclude, or wait for what it asked and left running."""
        self._over(body)
        if (stopping := self._scheduler.stopping) is not None:
            stopping.rested(body)

    def _over(self, body: LiveBody) -> None:
        if self._slots is not None:
            self._slots.give_back(body)
        if body.is_over:
            return
        if body.outcome is not None:
            error = body.outcome[1]
            if error is not None and not isinstance(error, Exception):
                self._ended_by_base_exception(body, error)
        if body.is_dead:
            self.forget(body)
            return
        if body.outcome is None:
            return
        if not body.branch_tasks:
            if body.open_calls:
                self._scheduler.consider(body)
            else:
                self.conclude(body)
            return
        strays = [t for t, part in body.branch_tasks.items() if made_calls(part)]
        cut = [t for t, part in body.branch_tasks.items() if _is_cut_call(part)]
        if strays or cut:
            self._scheduler.interrupts.end_strays(body, strays, cut)
        self._scheduler.consider(body)

    def _ended_by_base_exception(self, body: LiveBody, error: BaseException) -> None:
        """What ends the process ends the frames; any other is a failure, as on a thread (S10)."""
        callee = body.call.callee
        on_thread = callee is not None and callee.kind is PLAIN
        if not on_thread and ends_process(error):
            self._scheduler.interrupts.drop_from_outside(body.execution)

    def may_conclude(self, body: LiveBody) -> bool:
        """Whether every call asked has ended and no task of the body runs on (S22)."""
        if body.outcome is None or body.open_calls:
            return False
        return not body.branch_tasks or not any(
            _is_part_of(body, task, part) for task, part in body.branch_tasks.items()
        )

    def conclude(self, body: LiveBody) -> None:
        """The function and everything it asked have ended: retry, or record the outcome."""
        if body.outcome is None or body.is_over:
            return
        value, error = body.outcome
        body.outcome = None
        call = body.call
        if error is not None and body.call.cancelled_by is None and self._goes_on(body, error):
            return
        if body.is_owed:
            self._scheduler.executions.stopped(body.execution, body.missing_error())
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
            self._asking.settle_cut(call)
            return
        if call.options_ is not NO_OPTIONS and self._settles_by_options(body, value, error):
            return
        callee = call.callee
        assert callee is not None
        state, stored, seen = settlement(value, error, callee.result, callee.name, call.id)
        if state is _RESOLVED:
            call.value = seen
            call.settled_text = stored.data
        elif error is not None:
            call.value = error
        self._asking.settle(call, state, stored)

    def _settles_by_options(self, body: LiveBody, value: Any, error: BaseException | None) -> bool:
        if body.call.is_volatile:
            body.pass_log_up()
        if body.call.options_.encoder is None:
            return False
        scheduler = self._scheduler
        if error is not None and body.call.body is None:
            body.call.value = error  # what is stored of it only the encoder can read
        settling = encoding.settle(scheduler, body.execution, body.call, value, error)
        chore = scheduler.executions.chore(settling)
        if scheduler.stopping is not None:
            scheduler.stopping.also(body.execution, chore)
        return True

    def _goes_on(self, body: LiveBody, error: BaseException) -> bool:
        """Whether the error is no outcome: it is tried again, or we are to blame (law 8)."""
        if self._scheduler.stopping is not None and is_led_to_by(error, ResonateShutdownError):
            return True
        return self._retries(body, error)

    def _retries(self, body: LiveBody, error: BaseException) -> bool:
        call = body.call
        policy: Any = call.options_.retry_policy
        callee = call.callee
        assert callee is not None
        if callee.kind is INLINE:
            return False  # ours, and instant: only what it was given can be wrong
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
                call.options_.non_retryable_exceptions
                + self._scheduler.settings.non_retryable_exceptions,
                self._scheduler.clock.now_ms(),
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
        body.retry_timer = self._scheduler.loop.call_later(delay_s, self._again, body)
        return True

    def _again(self, body: LiveBody) -> None:
        body.retry_timer = None
        if self._scheduler.stopping is not None:
            return
        if body.execution.life is ALIVE and not body.is_over:
            if self._slots is None:
                self._scheduler.soon(_start, body)
            else:
                self._slots.run(start, body)

    def forget(self, body: LiveBody) -> None:
        """A frame of an execution that records no more has come to its end."""
        if body.branch_tasks or not body.frame_over:
            return
        body.is_over = True
        body.execution.end(body)
        body.call.child = None
        body.let_go()
        body.body = body  # a ctx call made in it even now dies, it is no misuse (S31)
        self._scheduler.executions.frame_gone(body.execution)

    def ended_outside(self, call: DurableCall[Any], _: Any = None) -> None:
        """A local call was settled by others (S13), or has passed its deadline (S14): end it."""
        if call.is_ended or call.cut or call.home.execution.life is not ALIVE:
            return
        child = call.child
        if isinstance(child, LiveBody) and not child.is_over:
            self._scheduler.interrupts.abandon(child)
        self._asking.settle(call, PromiseState.CANCELED, EMPTY)


def _start(body: LiveBody, _: Any = None) -> None:
    if not body.is_over:
        start(body)


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


def made_calls(part: Any) -> bool:
    """Whether a task of a body made a ctx call of its own (wrapping one does not count)."""
    return isinstance(part, Branch) and (part.count > 0 or bool(part.siblings))


def _is_part_of(body: LiveBody, task: asyncio.Task[Any], part: Any) -> bool:
    """Whether a body must wait for this task to end; a library's own tasks are left alone."""
    return isinstance(part, DurableCall) or made_calls(part) or task in body.at


def _is_cut_call(part: Any) -> bool:
    """Whether a task wraps a call that was cut: on a replay nothing ends its wait (S11)."""
    return isinstance(part, DurableCall) and part.cut


def _raised_at_call(error: BaseException) -> bool:
    """Whether the error comes from the call itself: wrong arguments, not the function's body."""
    return user_frames(error) is None
