"""Sharing: local calls under one explicit id, which several bodies may make (law 1).

Of the calls of such an id in this process one runs the function, and the others have joined
it. Where that one is dropped, or gives up while others wait, the next takes it over, with what
was recorded of it so far. Between processes the first write wins (S66).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..errors import ResonateError, ResonateStoreError
from ..execution.call import ASKED
from ..execution.execution import DRIVE, WATCH, Decision, Execution
from ..protocol.failures import failure_value
from ..protocol.idempotency import key_for, refuse_other_creator
from ..protocol.records import Promise, PromiseState, is_pending
from ..stores.base import FileStore, Refusal
from .awaitables import DurableCall
from .held import Held
from .outcomes import volatile

if TYPE_CHECKING:
    from .scheduler import Scheduler


class Runners:
    """Which call runs the function of each explicit id, for all clients of one store or file.

    Attributes:
        given_up: How often one was let go before its end.
    """

    def __init__(self) -> None:
        # Weak: its execution holds a call, and a call that runs leads to the store it is kept by.
        self.by_id: WeakValueDictionary[str, DurableCall[Any]] = WeakValueDictionary()
        self.given_up = 0


_RUNNERS: WeakKeyDictionary[object, Runners] = WeakKeyDictionary()


class Sharing:
    """The scheduler's part that knows of explicit ids."""

    __slots__ = ("_runners", "_scheduler")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        store = scheduler.store
        place = store.place if isinstance(store, FileStore) else store
        self._runners = _RUNNERS.setdefault(place, Runners())

    @property
    def given_up(self) -> int:
        """Grows whenever an explicit id is let go, to be run by another call or later."""
        return self._runners.given_up

    def knows(self, execution: Execution) -> bool:
        """Whether what it remembers of explicit ids is all there is."""
        assert isinstance(execution, Held)
        return execution.knows == self._runners.given_up

    def decide(self, call: DurableCall[Any], decision: Decision, *, is_known: bool) -> Decision:
        """Of the calls of one explicit id, one is driven and the others join it.

        Args:
            is_known: All that is recorded below its promise is remembered.
        """
        if call.record is not None and call.record.id == call.promise_id:
            try:
                refuse_other_creator(
                    call.record, key_for(call.options_.idempotency_key, call.promise_id)
                )
            except ResonateStoreError as error:  # the call's outcome, on every replay (S52)
                call.record = volatile(call, PromiseState.REJECTED, failure_value(error))
                return Decision.RECORDED
        if decision is not DRIVE:
            return decision
        if call.home.has_left(call):
            return Decision.NOTHING
        runner = self._runners.by_id.get(call.promise_id)
        if runner is not None and _is_run(runner):
            call.join(runner)
            return WATCH
        self._run(call)
        return DRIVE if is_known else Decision.LOAD

    def _run(self, call: DurableCall[Any]) -> None:
        self._runners.by_id[call.promise_id] = call
        held = _held(call)
        if held.shared is None:
            held.shared = {}
        held.shared[call] = None

    # -- going on with what others began

    def take_up(self, call: DurableCall[Any]) -> None:
        """Run the call once it is known what others recorded of it."""
        self._scheduler.executions.chore(self._take_up(call))

    async def _take_up(self, call: DurableCall[Any]) -> None:
        execution = call.home.execution
        try:
            records = await self._scheduler.store.load(execution.id)
        except ResonateError as error:
            self._scheduler.executions.stopped(execution, error)
            return
        if self._runners.by_id.get(call.promise_id) is not call or not _is_run(call):
            return
        execution.remember_below(call.promise_id, records)
        found = [record for record in records if record.id == call.promise_id]
        if not found or is_pending(found[0]):  # else it hears of it
            self._scheduler.executions.unwatch(call)
            self._scheduler.soon(self._scheduler.drive, call)

    # -- ending

    def settled(self, call: DurableCall[Any], record: Promise | Refusal) -> None:
        """The promise of an explicit id is settled; who joined the call will hear of it, too."""
        if isinstance(record, Promise):
            self._ended(call)
        self._scheduler.settled(call, record)

    def _ended(self, call: DurableCall[Any]) -> None:
        if self._runners.by_id.get(call.promise_id) is call:
            del self._runners.by_id[call.promise_id]
        held = _held(call)
        if held.shared is not None:
            held.shared.pop(call, None)
        call.leave()

    def dropped(self, execution: Execution) -> None:
        """An execution records nothing any more: what it ran for others is taken over."""
        assert isinstance(execution, Held)
        calls: list[Any] = list(execution.shared or ())
        for call in calls:
            self.let_go(call)

    def others_run(self, call: DurableCall[Any]) -> bool:
        """Whether another call runs its explicit id; its own create may be on its way still."""
        runner = self._runners.by_id.get(call.promise_id)
        return runner is not None and runner is not call and _is_run(runner)

    def runner_of(self, id: str) -> Execution | None:
        """The execution of this client that runs the function of an explicit id."""
        call = self._runners.by_id.get(id)
        is_ours = call is not None and call.home.scheduler is self._scheduler
        return call.home.execution if call is not None and is_ours else None

    def given_away(self, call: DurableCall[Any]) -> None:
        """Its wait was interrupted while others wait, too: it hears of the end, like them."""
        heir = self.let_go(call)
        if heir is not None:
            call.join(heir)
        self._scheduler.executions.watch(call)

    def let_go(self, call: DurableCall[Any]) -> DurableCall[Any] | None:
        """The call does not run its function any more, which has not ended: another one does."""
        joiners: list[Any] = list(call.joiners or ())
        self._ended(call)
        self._runners.given_up += 1
        heir: DurableCall[Any] | None = None
        for other in joiners:
            other.leave()
            if not other.is_wanted or not _may_run(other):
                continue
            if heir is None:
                heir = other
                heir.home.scheduler.sharing._run(heir)
            else:
                other.join(heir)
        if heir is not None:
            heir.home.scheduler.sharing.take_up(heir)
        return heir


def _held(call: DurableCall[Any]) -> Held:
    held = call.home.execution
    assert isinstance(held, Held)
    return held


def _is_run(call: DurableCall[Any]) -> bool:
    """Whether the call runs its function, or will; while its client stops, until it is let go."""
    if call.home.scheduler.loop.is_closed():
        return False
    return call.state is ASKED and not call.cut and not call.home.is_dead


def _may_run(call: DurableCall[Any]) -> bool:
    scheduler = call.home.scheduler
    return scheduler.stopping is None and not scheduler.loop.is_closed()
