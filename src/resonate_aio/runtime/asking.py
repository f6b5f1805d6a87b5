"""Asking: from a call the program makes to a promise in the store, and settling it.

Carries out what `Execution.recall` decided. A create goes to the store inside the asking
step, in program order (S8); a local call's function starts from the queue, at once where
the store is in this process (S20), else when the create is acknowledged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import (
    InternalError,
    NonDeterminismError,
    UnreadableRecordError,
    ValueCodecError,
)
from ..execution.call import ASKED, DETACHED, RUN
from ..execution.execution import ALIVE, CREATE, DRIVE, WATCH, Decision, Execution
from ..execution.fingerprint import kept_in_mark
from ..execution.log import (
    EXPLICIT_HEADER,
    FINGERPRINT_HEADER,
    MADE_BY_HEADER,
    VOLATILE_HEADER,
)
from ..execution.volatile import judged
from ..protocol.records import EMPTY, Promise, PromiseState, Value, is_pending
from ..stores.base import LOST, UNREADABLE, Refusal
from .describing import NO_TAGS, deadline_ms, describe, tags_of, warn_if_other
from .options import NO_OPTIONS
from .outcomes import cut_by, outlived, volatile, with_logs

if TYPE_CHECKING:
    from .awaitables import DurableCall, RootCall
    from .scheduler import Scheduler

_PENDING = PromiseState.PENDING


class Asking:
    """The scheduler's way to the store."""

    __slots__ = (
        "_arguments_count",
        "_default_s",
        "_drive",
        "_in_process",
        "_now_ms",
        "_scheduler",
        "_sharing",
        "_store",
    )

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._store = scheduler.store
        self._sharing = scheduler.sharing
        self._drive = scheduler.drive  # bound once, as the next one
        self._now_ms = scheduler.clock.now_ms
        self._in_process = scheduler.store.in_process
        self._arguments_count = scheduler.settings.check_arguments
        self._default_s = scheduler.settings.default_timeout_s

    def ask(self, call: DurableCall[Any]) -> None:
        """A body asks for a call; called inside its step.

        Raises:
            ValueCodecError: An argument cannot be stored.
            NonDeterminismError: Something else is recorded under the call's id.
        """
        body = call.home
        execution = body.execution
        try:
            describe(call, self._arguments_count)
        except BaseException as error:
            body.refused(call)
            if isinstance(error, ValueCodecError):
                name = call.callee.name if call.callee is not None else str(call.kind)
                raise ValueCodecError(f"the arguments of {name!r} ({call.id!r}): {error}") from None
            raise
        body.asked(call)
        decision: Decision | None = CREATE
        try:
            if execution.remembers:
                decision = execution.recall(call, call.where, self._now_ms())
            if decision is CREATE:
                decision = self._create(call, execution)
            elif decision is Decision.LOGGED:
                decision = self._settle_log(call, execution)
        except NonDeterminismError as error:
            self._scheduler.executions.stopped(execution, error)
            raise
        if decision is DRIVE:
            self._scheduler.soon(self._drive, call)
        elif decision is not None:
            self._act(call, decision)

    def _create(self, call: DurableCall[Any], execution: Execution) -> Decision | None:
        body = call.home
        now = self._now_ms
        now_ms = now()
        is_plain = call.options_ is NO_OPTIONS and call.kind is RUN
        if is_plain:
            call.timeout_at_ms = body.call.timeout_at_ms
        else:
            call.timeout_at_ms = deadline_ms(call, now_ms, self._default_s)
        headers = body.headers_for(call)
        if headers is None:
            headers = {FINGERPRINT_HEADER: call.fingerprint}
        else:
            headers[FINGERPRINT_HEADER] = call.fingerprint
        if not is_plain and (call.promise_id != call.id or not call.options_.durable):
            return self._create_logged(call, execution, headers, now_ms)
        tags = NO_TAGS if is_plain else tags_of(call, self._scheduler.executions.target)
        promise = Promise(
            call.id,
            _PENDING,
            call.timeout_at_ms,
            now_ms,
            Value(headers, call.data),
            EMPTY,
            tags,
            None,
            body.owner,
        )
        awaited = not self._in_process or (not is_plain and _ends_before_its_body(call))
        return self._send(call, execution, promise, awaited)

    def _send(
        self, call: DurableCall[Any], execution: Execution, promise: Promise, awaited: bool
    ) -> Decision | None:
        """Create the promise; `awaited`: the call goes on once that is acknowledged (S20)."""
        standing = self._store.fence_create(
            execution.id, execution.version, promise, self._created if awaited else None, call
        )
        if awaited and not self._store.durable_at_once and standing is not LOST:
            return None
        if standing is promise:
            if call.kind is not RUN:
                return WATCH
            if call.promise_id == call.id:
                return DRIVE
            return self._sharing.decide(call, DRIVE, is_known=True)
        if standing is None:  # the store looks first, for who will hear of it
            standing = self._store.fence_create(
                execution.id, execution.version, promise, self._created, call
            )
            if standing is not LOST:
                return None
        if isinstance(standing, Refusal):
            self._scheduler.soon(self._scheduler.executions.lost, execution, call)
            return None
        return self._standing(call, execution, standing)

    def _standing(
        self, call: DurableCall[Any], execution: Execution, standing: Promise
    ) -> Decision:
        """The store holds another record under this id than the one asked for (S20)."""
        if call.promise_id != call.id:
            warn_if_other(call, standing)
            decision = execution.by_state(call, standing, self._now_ms())
            made_by = (standing.param.headers or {}).get(MADE_BY_HEADER)
            return self._sharing.decide(call, decision, is_known=made_by == call.id)
        return execution.adopt(call, standing, call.where, self._now_ms())

    def _created(self, call: DurableCall[Any], standing: Promise | Refusal) -> None:
        """The store acknowledged a create somebody waits for."""
        execution = call.home.execution
        if isinstance(standing, Refusal) or execution.life is not ALIVE:
            self._refused(call, call.promise_id, standing)
            return
        call.home.acknowledged(call)
        try:
            self._act(call, self._standing(call, execution, standing))
        except NonDeterminismError as error:
            self._scheduler.executions.stopped(execution, error)

    def _refused(self, call: DurableCall[Any], id: str, answer: Promise | Refusal) -> None:
        """The store did not create what somebody waits for, or nobody does any more."""
        execution = call.home.execution
        if execution.life is not ALIVE:
            return
        if answer is UNREADABLE:
            error = UnreadableRecordError("promise", id, "the store's log says why")
            self._scheduler.executions.stopped(execution, error)
        else:
            self._scheduler.executions.lost(execution, call)

    def _create_logged(
        self, call: DurableCall[Any], execution: Execution, headers: dict[str, str], now_ms: int
    ) -> Decision | None:
        """A call without a create of its own under its derived id leaves a log record (S4)."""
        if call.promise_id != call.id:
            headers[EXPLICIT_HEADER] = call.promise_id
        else:
            headers[VOLATILE_HEADER] = "1"
        record = Promise(
            call.id,
            PromiseState.PENDING,
            max(call.timeout_at_ms, now_ms + 1),
            now_ms,
            Value(headers, kept_in_mark(call.data)),
            EMPTY,
            NO_TAGS,
            None,
            call.home.owner,
        )
        acked = None if self._in_process else self._log_created
        standing = self._store.fence_create(execution.id, execution.version, record, acked, call)
        if standing is None and acked is None:
            acked = self._log_created  # the store looks first
            standing = self._store.fence_create(
                execution.id, execution.version, record, acked, call
            )
        if standing is LOST:
            self._scheduler.soon(self._scheduler.executions.lost, execution, call)
            return None
        if acked is not None:
            return None
        if isinstance(standing, Promise) and standing is not record:
            return self._log_stands(call, execution, standing)
        return self._settle_log(call, execution)

    def _log_stands(
        self, call: DurableCall[Any], execution: Execution, standing: Promise
    ) -> Decision | None:
        """Something is recorded under the id of the log record: it has to be the same."""
        decision = execution.adopt(call, standing, call.where, self._now_ms())
        return self._settle_log(call, execution) if decision is Decision.LOGGED else decision

    def _log_created(self, call: DurableCall[Any], standing: Promise | Refusal) -> None:
        """The log record stands on its server: only now the call goes on (S4, S20)."""
        execution = call.home.execution
        if isinstance(standing, Refusal) or execution.life is not ALIVE:
            self._refused(call, call.id, standing)
            return
        call.home.acknowledged(call)
        try:
            decision = self._log_stands(call, execution, standing)
        except NonDeterminismError as error:
            self._scheduler.executions.stopped(execution, error)
            return
        if decision is not None:
            self._act(call, decision)

    def _settle_log(self, call: DurableCall[Any], execution: Execution) -> Decision | None:
        """A log record is settled, then its call goes on under its own promise, if it has one."""
        if call.record is None or is_pending(call.record):
            self._store.fence_settle(
                execution.id,
                execution.version,
                call.id,
                PromiseState.RESOLVED,
                EMPTY,
                _nobody,
                call,
            )
        call.record = None  # it says nothing of the outcome
        if call.is_volatile:
            return execution.recall_volatile(call, self._now_ms())
        return self._create_explicit(call, execution)

    def _create_explicit(self, call: DurableCall[Any], execution: Execution) -> Decision | None:
        """The promise under the id the user chose, after its log record (S4, S62)."""
        decision = execution.recall_explicit(call, self._now_ms())
        if decision is not CREATE:
            return self._sharing.decide(call, decision, is_known=self._sharing.knows(execution))
        now_ms = self._scheduler.clock.now_ms()
        call.timeout_at_ms = deadline_ms(call, now_ms, self._default_s)
        promise = Promise(
            call.promise_id,
            PromiseState.PENDING,
            call.timeout_at_ms,
            now_ms,
            Value({FINGERPRINT_HEADER: call.fingerprint, MADE_BY_HEADER: call.id}, call.data),
            EMPTY,
            tags_of(call, self._scheduler.executions.target),
        )
        return self._send(call, execution, promise, True)

    def _act(self, call: DurableCall[Any], decision: Decision) -> None:
        scheduler = self._scheduler
        if decision is DRIVE:
            scheduler.soon(self._drive, call)
        elif decision is WATCH:
            if call.kind is DETACHED:
                self._detached(call)
            else:
                scheduler.executions.watch(call)
        elif decision is Decision.LOAD:
            scheduler.executions.watch(call)
            self._sharing.take_up(call)
        elif decision is Decision.RECORDED:
            call.home.arriving += 1
            scheduler.soon(scheduler.recorded, call, call.record)
        elif decision is Decision.OVERDUE:
            # The store's clock judges (S63): what it answers is the outcome.
            if self._in_process or call.is_volatile:
                scheduler.soon(self._settle_overdue, call)
            else:
                scheduler.executions.watch(call)
        elif decision is Decision.NOTHING:
            call.home.closed(call)
        else:
            raise InternalError(f"call {call.id!r}: nothing to do for {decision}")

    def _detached(self, call: DurableCall[Any]) -> None:
        """A detached call stands: its body may end without it."""
        call.home.closed(call)
        if call.home.frame_over:
            self._scheduler.soon(self._scheduler.consider, call.home)

    def settle(self, call: DurableCall[Any] | RootCall, state: PromiseState, value: Value) -> None:
        """Record the outcome of a call's function; `Scheduler.settled` follows."""
        scheduler = self._scheduler
        settled: Any = scheduler.settled  # a root's is handled there
        if call.body is None:
            execution = scheduler.executions.fulfilling(call, state)
            answer = self._store.fulfill(
                execution.id, execution.version, state, value, settled, call
            )
        else:
            execution = call.body.execution
            is_cancelled = call.passed_on or call.cancelled_by is not None
            if is_cancelled and call.is_being_cancelled and state is not PromiseState.CANCELED:
                logs = call.body.logs_at_hand()
                value = outlived(call, with_logs(value, logs) if logs else value)
            if call.promise_id != call.id:
                scheduler.executions.unwatch(call)
                settled = self._sharing.settled
            elif not call.durable:
                state, value = judged(call, state, value, self._now_ms())
                settled(call, volatile(call, state, value))
                return
            answer = self._store.fence_settle(
                execution.id,
                execution.version,
                call.promise_id,
                state,
                value,
                settled,
                call,
            )
        if answer is not None:
            settled(call, answer)

    def _settle_overdue(self, call: DurableCall[Any], _: Any = None) -> None:
        if call.home.execution.life is ALIVE and call.state is ASKED:
            self.settle(call, PromiseState.CANCELED, EMPTY)

    def settle_cut(self, call: DurableCall[Any] | RootCall) -> None:
        """A cancel from inside ended the call: settle it as cut, with what led to it (S4, S10)."""
        logs = call.body.logs_at_hand() if call.body is not None else None
        cut = cut_by(call)
        self.settle(call, PromiseState.CANCELED, with_logs(cut, logs) if logs else cut)

    def end_time_limit(self, call: DurableCall[Any]) -> None:
        """`ctx.timeout` was left in time: its promise is settled, without waiting (S11a)."""
        if call.state is not ASKED:
            return
        self._scheduler.executions.unwatch(call)
        execution = call.home.execution
        logs = call.home.logs_at_hand()
        self._store.fence_settle(
            execution.id,
            execution.version,
            call.promise_id,
            PromiseState.CANCELED,
            with_logs(EMPTY, logs) if logs else EMPTY,
            _nobody,
            call,
        )


def _ends_before_its_body(call: DurableCall[Any]) -> bool:
    """Whether the promise of a local call has a deadline of its own."""
    return call.kind is RUN and call.timeout_at_ms < call.home.call.timeout_at_ms


def _nobody(_: Any, __: Any) -> None:
    """Nobody waits for this acknowledgement."""
