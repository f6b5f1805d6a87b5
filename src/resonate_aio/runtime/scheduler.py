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
from threading import get_ident
from typing import TYPE_CHECKING, Any

import anyio

from ..clock import Clock, ticks_of
from ..errors import (
    ContextMisuseError,
    InternalError,
    NonDeterminismError,
    ResonateStoreError,
)
from ..execution.body import Branch
from ..execution.call import ASKED
from ..execution.execution import ALIVE
from ..protocol.requests import PromiseGet
from ..protocol.values import decode
from ..stores.base import Store, TellingStore
from .asking import Asking
from .awaitables import DurableCall
from .bodies import FirstSteps, LiveBody, start
from .concluding import Concluding
from .giving import Giving
from .holdups import HoldUps
from .interrupts import Interrupts
from .settings import Settings
from .sharing import Sharing
from .slots import Slots
from .stamps import BranchFactory, current_branch

if TYPE_CHECKING:
    from .stopping import Stopping
    from .worker import Worker

logger = logging.getLogger("resonate_aio.runtime")

_BURST = 32
_FLUSH_AFTER_S = 0.002


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
        self.is_unordered = not store.in_process
        self.clock = clock
        self.settings = settings
        self.context_of = context_of
        self.executions = executions
        self.limiter = anyio.CapacityLimiter(settings.workers or settings.threads)
        self.first_steps = FirstSteps(loop)
        self.running_threads: dict[LiveBody, bool] = {}
        self.slots = Slots(settings.workers, self._soon_slot) if settings.workers else None
        self.sharing = Sharing(self)
        self.asking = Asking(self)
        self.interrupts = Interrupts(self)
        self.concluding = Concluding(self)
        self.giving = Giving(self)
        # Bound once: these are called at every step.
        self.wait_begun = self.giving.wait_begun
        self.consider = self.giving.consider
        self.wake = self.giving.wake
        self.settled = self.giving.settled
        self.recorded = self.giving.recorded
        self._over = self.concluding.over
        self._conclude = self.concluding.conclude
        self.factory = BranchFactory(loop)
        self._afterwards = store.afterwards if isinstance(store, TellingStore) else None
        self._queue: deque[tuple[Callable[..., None], Any, Any]] = deque()
        self._scheduled = False
        self._draining = False
        self.thread = get_ident()
        self.stopping: Stopping | None = None
        """While the worker stops: nothing is started or given any more."""
        self._starting: LiveBody | None = None
        self._hold_ups = HoldUps(self)
        self._most_s = settings.hold_up_s
        self._ticks = ticks_of(clock)
        self._flush_timer: asyncio.TimerHandle | None = None

    # -- the queue ---------------------------------------------------------------------

    def soon(self, action: Callable[..., None], first: Any, second: Any = None) -> None:
        """Put an action into the queue; it is called as action(first, second)."""
        self._queue.append((action, first, second))
        if not self._scheduled and not self._draining:
            if self._afterwards is None or not self._afterwards(self._drain):
                self.loop.call_soon(self._drain)
            self._scheduled = True  # not before: a signal handler may raise there

    @property
    def has_work(self) -> bool:
        """Whether anything is to be carried out in the loop's next passes."""
        return bool(self._queue)

    def _soon_slot(self, action: Callable[[LiveBody], None], body: LiveBody) -> None:
        self.soon(self._with_slot, action, body)

    def _with_slot(self, action: Callable[[LiveBody], None], body: LiveBody) -> None:
        if body.is_over:  # it was cut before it came to use it
            assert self.slots is not None  # who else gave it one
            self.slots.give_back(body)
        elif self.stopping is None:
            action(body)

    def _drain(self) -> None:
        self._scheduled = False
        self._draining = True
        queue = self._queue
        burst = 0
        before = -1
        ticks = self._ticks
        now = ticks()
        until = now + self.settings.queue_slice_s
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
                except Exception as error:  # noqa: BLE001  it is told of there
                    self._failed(first, error)
                begun, now = now, ticks()
                if now > until:
                    if now - begun > self._most_s:
                        self._hold_ups.blame(first, second, now - begun)
                    break
        finally:
            self._draining = False
            if queue and not self._scheduled:
                self.loop.call_soon(self._drain)
                self._scheduled = True
        if self._flush_timer is None and not self.store.durable_at_once:
            self._flush_timer = self.loop.call_later(_FLUSH_AFTER_S, self._flush)

    def _failed(self, subject: Any, error: Exception) -> None:
        """Nobody waits for ever because of a bug: its execution is put aside, by name (S42)."""
        body = subject if isinstance(subject, LiveBody) else getattr(subject, "home", None)
        if not isinstance(error, ContextMisuseError):
            what = "a scheduler action failed; this is a bug, please report it"
            logger.error(what, exc_info=error)
        if isinstance(body, LiveBody):
            if not isinstance(error, ContextMisuseError):
                error = InternalError(f"{body.id!r} came to a state that cannot be: {error!r}")
            self.executions.stopped(body.execution, error)

    def _flush(self) -> None:
        """What was created meanwhile and still runs becomes visible to others."""
        self._flush_timer = None
        self.store.flush()

    # -- driving -----------------------------------------------------------------------

    def drive(self, call: DurableCall[Any], _: Any = None) -> None:
        """Start a local call's function (its promise is created or may be)."""
        parent = call.home
        execution = parent.execution
        if execution.life is not ALIVE or call.state is not ASKED:
            return
        if self.stopping is not None:
            return
        if call.child is not None or call.cancelled_by is not None:
            return  # it runs, or is being cancelled
        if call.passed_on and call.is_cut_before_it_begins:
            return
        if call.closed or parent.is_dead:
            return  # it was given up, or who asked for it was ended meanwhile
        gone = execution.settled_outside
        if gone is not None and call.promise_id in gone:
            self.concluding.ended_outside(call)
            return
        variables = call.variables if call.variables is not None else copy_context()
        call.variables = None
        owner = call.promise_id if call.promise_id != call.id else parent.owner
        body = LiveBody(self, execution, call, variables, owner)
        call.child = body
        self.begin(body)
        if body.is_over:
            return  # nearly every leaf
        if call.promise_id != call.id and self.store.in_process:
            self.executions.watch(call)  # anybody may settle it (S13)
        if call.timeout_at_ms < parent.call.timeout_at_ms:
            self.executions.at_deadline(call)

    def begin(self, body: LiveBody) -> None:
        """Begin a body, its log remembered, as soon as it has a slot."""
        execution = body.execution
        execution.bodies[body] = body
        if execution.remembers:
            try:
                execution.begin(body)
            except NonDeterminismError as error:
                self.executions.stopped(execution, error)
                return
        body.variables.run(current_branch.set, body)
        if self.slots is not None:
            self.slots.run(start, body)
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

    # -- ending ------------------------------------------------------------------------

    def over(self, body: LiveBody, value: Any, error: BaseException | None) -> None:
        """A driver reports that its function returned or raised; called in any step."""
        body.frame_over = True
        body.live_tasks -= 1
        if not body.is_dead:  # else its frames would hang on its error, and it on them
            body.outcome = (value, error)
        if self._starting is body:
            self._starting = None  # it ended in its first step: `begin` goes on from there
        else:
            self.soon(self._over, body)

    def still_held(self, body: LiveBody, position: int) -> None:
        """A body was held a good while ago: if it still is, that is an error (S9a).

        One that went on meanwhile may be held further on by now: it gets as long again, from now
        on, since nobody armed a second timer for it.
        """
        body.held_timer = None
        if not self.is_current(body):
            return
        if body.position != position:
            if body.is_held or body.is_replaying:
                self.executions.held(body)
        elif body.is_held:
            self.executions.stopped(body.execution, body.missing_error())
        elif body.is_replaying:
            logger.warning(
                "%r waits to be interrupted where it was before the restart: its own timer "
                "(asyncio.timeout, asyncio.sleep) has to run again; ctx.timeout would not wait",
                body.id,
                extra={"id": body.id},
            )

    def rest(self, stopping: Stopping) -> None:
        """From now on nothing is started or given; who stops hears which bodies came to rest."""
        self.stopping = stopping
        self.giving.rest(stopping)

    def start(self) -> None:
        """Stamp what bodies create, from now on."""
        self.factory.install()

    def stop(self) -> None:
        """Forget the queue; called once every frame has ended or was given up."""
        self.factory.uninstall()
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

    def adopt_task(
        self, task: asyncio.Task[Any], body: LiveBody, branch: Branch, coro: Any
    ) -> None:
        """A body created a task: it is held, and counted among the body's own.

        Args:
            coro: What it was made of; a ctx call that it wraps is the task's part in the body.
        """
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
            self.concluding.forget(body)
        elif body.has_input or body.frame_over or body.is_held:
            self.soon(self.consider, body)
