"""The worker: which executions this process holds, and what becomes of them.

Starts executions on the scheduler, hears when their promises are settled from outside or their
leases lost, fulfils, releases, and stops. Its parts take work (`taking`) and wait (`waits`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context as ContextVars
from typing import Any, Final

from ..clock import Clock
from ..encoders import Encoder
from ..errors import (
    InternalError,
    NonDeterminismError,
    ResonateError,
    ResonateStoreError,
    UnreadableRecordError,
)
from ..execution.call import Call
from ..execution.execution import ALIVE, Execution, Life
from ..protocol.records import Promise, PromiseState
from ..protocol.requests import Message, Reply, TaskRelease
from ..stores.base import Store
from .awaitables import RootCall
from .bodies import LiveBody
from .functions import Callee
from .held import Ended, Held
from .idling import Idling
from .options import CallOptions
from .outcomes import user_frames
from .poison import Poison
from .scheduler import Scheduler
from .settings import Settings
from .stopping import Stopping
from .taking import FOREVER_MS, Taking
from .unheard import Listeners, Unheard
from .waits import Waits

__all__ = ["FOREVER_MS", "Ended", "Held", "Worker"]

logger = logging.getLogger("resonate_aio.worker")

_REMEMBERED: Final = 10_000
_NO_GROUP = "\0"
"""The group of a worker that only wants to hear of what is taken away: nobody can name it."""


class Worker:
    """One client's worker on one event loop.

    Args:
        resolve: Finds a registered function by name and version (0: the newest).
        context_of: Makes the `ctx` a function is given.
        variables: The context variables executions start in (S25).
        target: Completes the target of an rpc.
        failed: Told (id, error) when an execution this process holds is stopped (S42).
        listeners: Who is told here of the end of an execution.
        encoders: The encoders known here, by name (K9).
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        settings: Settings,
        *,
        group: str,
        pid: str,
        resolve: Callable[[str, int], Callee],
        context_of: Callable[[LiveBody], Any],
        variables: ContextVars,
        target: Callable[[str | None], str],
        failed: Callable[[str, BaseException], None],
        listeners: Listeners,
        encoders: dict[str, Encoder] | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.store = store
        self.target = target
        self.encoders: dict[str, Encoder] = encoders if encoders is not None else {}
        self._settings = settings
        self._group = group
        self._pid = pid
        self.variables = variables
        self._tell = failed
        self._errors: dict[str, BaseException] = {}
        self._held: dict[str, Held] = {}
        self._dying: dict[Held, None] = {}
        self._chores: set[asyncio.Task[Any]] = set()
        self._poison = Poison(self.loop, settings)
        self._taking = Taking(self, pid, resolve, self._failed, self._poison)
        self.deliver: Callable[[Message], None] = self._taking.deliver
        """Hear a message: there is an execution to take."""
        self._unsubscribe: Callable[[], None] | None = None
        self._accepting = False
        self._listens = False
        self._stopping: Stopping | None = None
        self._idling = Idling(self)
        self._waits = Waits(self, self._taking, clock)
        self._unheard = Unheard(self.loop, listeners, self._waits.is_watched)
        self.watch = self._waits.watch
        """Hear when a call's promise is settled."""
        self.unwatch = self._waits.unwatch
        """Do not hear of it any more."""
        self.call_settled = self._waits.settled
        """A promise that a call waits for was settled."""
        self.at_deadline = self._waits.at_deadline
        """End a local child when its own deadline comes."""
        self.scheduler = Scheduler(self.loop, store, clock, settings, context_of, self)

    @property
    def taking(self) -> list[asyncio.Task[None]]:
        """What is being taken now."""
        return self._taking.tasks

    @property
    def executions(self) -> list[Held]:
        """What is held now."""
        return list(self._held.values())

    @property
    def accepts(self) -> bool:
        """Whether new work is taken."""
        return self._accepting

    # -- life --------------------------------------------------------------------------

    def start(self, *, listens: bool = True) -> None:
        """Begin to take work.

        Args:
            listens: Whether the store's messages are for this worker from now on. Not, where
                another source calls `deliver` (S53) or no function is registered: see `listen`.
        """
        self.scheduler.start()
        self._accepting = True
        self._subscribe(listens)
        self._idling.start()

    def listen(self) -> None:
        """Hear the store's messages from now on. Idempotent."""
        if self._accepting and not self._listens:
            self._subscribe(True)

    def _subscribe(self, listens: bool) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
        self._listens = listens
        group = self._group if listens else _NO_GROUP
        self._unsubscribe = self.store.subscribe(
            group, self._pid, self.deliver, self._taken_away, self._lease_ended
        )

    async def stop(self, grace_s: float | None = None) -> list[str]:
        """Drop every frame, release every task; bounded by `Settings` (law 16).

        Args:
            grace_s: How long functions that execute may go on; `Settings.grace_s` if absent.

        Returns:
            The ids whose functions are still running on worker threads (S28).
        """
        self._accepting = False
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._poison.clear()
        await self._idling.stop()
        self._stopping = stopping = Stopping(self, self._held, self._settings.stop_s)
        await stopping.rest(self._settings.grace_s if grace_s is None else grace_s)
        for task in (*self._taking.tasks, *self._chores):
            task.cancel()
        await stopping.frames_end([*self._dying])
        await asyncio.gather(*self._taking.tasks, *self._chores, return_exceptions=True)
        await stopping.release()
        self.scheduler.stop()
        return [body.id for body in self.scheduler.running_threads]

    # -- taking work -------------------------------------------------------------------

    def holds(self, id: str) -> bool:
        """Whether this worker holds the execution."""
        return id in self._held

    def begin(
        self,
        reply: Reply,
        callee: Callee,
        options: CallOptions,
        args: tuple[Any, ...] | None,
        ended: Ended,
    ) -> None:
        """Start an execution whose lease `task.create` just gave us; new or recorded before.

        Args:
            args: The arguments, where they are plain and need not be decoded again.
            ended: Called when the execution ends here, or ceases to be held here.
        """
        task, promise = reply.task, reply.promise
        assert task is not None  # a 200 to task.create has both
        assert promise is not None
        if not self._accepting:
            self.chore(self._taking.give_back(task))
            return
        if task.version > 1 or options.encoder is not None:
            work = self._taking.resume(task, promise, callee, options, ended)
            self._taking.soon(task.id, work)
            return
        if args is None:
            root = self._taking.root(callee, promise, options)
        else:
            root = RootCall(callee, promise, options)
            root.args, root.takes_live = args, True
        self.hold(Held(task, promise, root, callee), [], ended)

    def hold(self, execution: Held, records: list[Promise], ended: Ended | None) -> None:
        """Run an execution whose lease is held."""
        self._held[execution.id] = execution
        self._errors.pop(execution.id, None)
        execution.ended = ended
        if records:
            execution.remember(records)
        root = execution.root
        assert isinstance(root, RootCall)
        body = LiveBody(self.scheduler, execution, root, self.variables.copy(), execution.id)
        body.joint = execution.joint
        execution.body = body
        self.scheduler.soon(_begin, self.scheduler, body)

    # -- what happens to an execution --------------------------------------------------

    def fulfilling(self, root: Call, state: PromiseState) -> Execution:
        """The execution whose root is about to be fulfilled."""
        if state is PromiseState.REJECTED:
            self._unheard.failing(root.id)
        return self._held[root.id]

    def fulfilled(self, root: Call, record: Promise) -> None:
        """The store acknowledged the outcome of a root: the execution is over."""
        execution = self._held.pop(root.id, None)
        if execution is None:
            return
        if self._stopping is not None:
            self._stopping.gone(execution)
        raised = root.value if isinstance(root.value, BaseException) else None
        if execution.ended is not None:
            execution.ended(root.id, record, user_frames(raised))
        self._unheard.failed(execution, record, raised)
        execution.life, execution.body = Life.DROPPED, None
        self._waits.forget(execution)

    def _taken_away(self, promise: Promise) -> None:
        """A promise that somebody held was settled, not by its holder (S13, S14)."""
        execution = self._held.get(promise.id)
        if execution is None:
            self._waits.settled_outside(promise, self._held.get(promise.owner))
        if execution is None or not execution.is_under_way:
            return
        logger.info("%r was settled from outside: %s", promise.id, promise.state)
        self.scheduler.interrupts.drop(execution, Life.CANCELED)
        self._held.pop(execution.id, None)
        if execution.ended is not None:
            execution.ended(promise.id, promise, None)

    def lost(self, execution: Execution | None, call: Call) -> None:
        """The store says the lease is not ours any more: stop, record nothing (law 7)."""
        if execution is None:
            execution = self._held.get(call.id)
        if execution is None or execution.life is not ALIVE:
            return
        assert isinstance(execution, Held)
        level = logging.INFO if self.store.in_process else logging.WARNING  # there S13 is why
        logger.log(level, "the lease of %r was lost; its frames are dropped", execution.id)
        self.scheduler.interrupts.drop(execution)
        if self._held.get(execution.id) is execution:
            del self._held[execution.id]
        execution.not_here_any_more()
        self._taking.look_again(execution.id)

    def _lease_ended(self, id: str, version: int) -> None:
        """The store found that a lease has ended, before a write did."""
        held = self._held.get(id)
        if held is not None and held.version == version:
            self.lost(held, held.root)

    def dropped(self, execution: Execution) -> None:
        """An execution records nothing any more: its frames die, what it watched is let go."""
        assert isinstance(execution, Held)
        self._waits.forget(execution)
        self._unheard.forget(execution.id)
        if self._stopping is not None:
            self._stopping.gone(execution)
        if execution.bodies:
            self._dying[execution] = None

    def cancelled_from_outside(self, execution: Execution) -> None:
        """Somebody cancelled a frame: the application shuts down, or means us ill (S10).

        The lease is given back without waiting (by a stop, if one is under way), and not taken
        again for a while.
        """
        if not self._accepting or (held := self._held.pop(execution.id, None)) is None:
            return
        held.not_here_any_more()
        self._taking.leave_alone(held.id)
        if self.store.in_process:
            self.store.post(TaskRelease(held.id, held.version), _nobody_waits, None)
        else:
            self.chore(self.release(held))

    def _failed(self, id: str, error: BaseException) -> None:
        """It cannot go on here: who waits for it hears why, and so does who asks later (S42).

        Not of what may pass, such as the trouble of an encoder: who asks later hears of the next
        try.
        """
        if isinstance(error, NonDeterminismError | InternalError | UnreadableRecordError):
            self._errors[id] = error
            while len(self._errors) > _REMEMBERED:
                del self._errors[next(iter(self._errors))]
        self._tell(id, error)

    def error_of(self, id: str) -> BaseException | None:
        """Why this execution is set aside here; None if it is not."""
        return self._errors.get(id) if self._poison.is_set_aside(id) else None

    def stopped(self, execution: Execution, error: ResonateError) -> None:
        """The program cannot go on (law 5, S42): waiters here get the error, the promise stays."""
        if execution.life is not ALIVE:
            return
        execution.error = error
        if self._poison.is_news((execution.id, str(error))):
            told = self._unheard.told(execution.id, error)
            logger.error("%r is stopped: %s", execution.id, told, extra={"id": execution.id})
        self.scheduler.interrupts.drop(execution)
        held = self._held.pop(execution.id, None)
        self._failed(execution.id, error)
        if held is not None:
            self._taking.set_aside(execution.id, error, log=False)
            self.chore(self.release(held))

    def held(self, body: LiveBody) -> None:
        """A body is held by a recorded ask it has not made again (S9a): look again later."""
        if body.held_timer is None:
            body.held_timer = self.loop.call_later(
                self._settings.held_s, self.scheduler.still_held, body, body.position
            )

    def frame_gone(self, execution: Execution) -> None:
        """A frame of a dropped execution has ended."""
        assert isinstance(execution, Held)
        if execution.bodies:
            return
        self._dying.pop(execution, None)
        if execution.stopping is not None and not execution.stopping.done():
            execution.stopping.set_result(None)

    # -- giving back -------------------------------------------------------------------

    async def release(self, execution: Held) -> None:
        """Give the lease of an execution back, which is not run here any more."""
        if self._held.get(execution.id) is execution:
            del self._held[execution.id]
        if execution.life is Life.CANCELED:
            return
        try:
            await self.store.call(TaskRelease(execution.id, execution.version))
        except ResonateStoreError as error:  # nobody else could: stopping goes on
            logger.warning("%r could not be given back: %s", execution.id, error)

    def function_registered(self) -> None:
        """A function was registered: what was put aside may be runnable now (S53)."""
        self._errors.clear()
        self._poison.retry_all()

    def chore(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something in a task of the worker; `stop` ends it."""
        task = self.loop.create_task(work, name="resonate_aio chore", context=self.variables.copy())
        self._chores.add(task)
        task.add_done_callback(self._chore_done)
        return task

    def _chore_done(self, task: asyncio.Task[Any]) -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a background chore failed: %r", error, exc_info=error)


def _nobody_waits(_: Any, answer: Reply | BaseException) -> None:
    """What came of it is seen when the task is taken again."""


def _begin(scheduler: Scheduler, body: LiveBody) -> None:
    if body.execution.life is ALIVE and scheduler.stopping is None:
        scheduler.begin(body)
