"""The worker: which executions this process holds, and what becomes of them.

Takes leases (by `task.create` and by execute messages), starts executions on the scheduler,
hears when their promises are settled from outside, fulfils, releases, and stops. What it
cannot run it puts aside with a growing delay (S42), so that one bad promise never hurts the
others (law 14).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextvars import Context as ContextVars
from typing import Any

from ..clock import Clock
from ..encoders import Encoder
from ..errors import ResonateError, ValueCodecError
from ..execution.call import Call
from ..execution.execution import ALIVE, Execution, Life
from ..protocol.records import Promise, Task, TaskState, is_pending
from ..protocol.requests import (
    Execute,
    Message,
    PromiseGet,
    Reply,
    TaskAcquire,
    TaskGet,
    TaskRelease,
)
from ..protocol.values import decode, encode
from ..stores.base import Store
from .awaitables import DurableCall, RootCall
from .bodies import LiveBody
from .encoding import open_arguments
from .functions import Callee
from .options import NO_OPTIONS, CallOptions
from .poison import Poison
from .scheduler import Scheduler
from .settings import Settings

logger = logging.getLogger("resonate_aio.worker")

FOREVER_MS = 2**52
"""The lease of an in-process holder: it ends with the process, not with time."""


Ended = Callable[[str, Promise | None], None]
"""Called as ended(id, settled record), or ended(id, None): it does not end here any more."""


class Held(Execution):
    """An execution with what its holder knows of it."""

    __slots__ = ("body", "callee", "ended", "stopping", "watched")

    def __init__(self, task: Task, root: RootCall, callee: Callee) -> None:
        super().__init__(task.id, task.version, root)
        self.callee = callee
        self.ended: Ended | None = None
        self.body: LiveBody | None = None
        self.stopping: asyncio.Future[None] | None = None
        self.watched: dict[Call, Callable[[Promise], None]] = {}


class Worker:
    """One client's worker on one event loop.

    Args:
        resolve: Finds a registered function by name and version (0: the newest).
        context_of: Makes the `ctx` a function is given.
        variables: The context variables executions start in (S25).
        target: Completes the target of an rpc.
        failed: Told (id, error) when an execution this process holds is stopped (S42).
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
        encoders: Mapping[str, Encoder] | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.store = store
        self.target = target
        self.encoders: Mapping[str, Encoder] = encoders if encoders is not None else {}
        self._clock = clock
        self._settings = settings
        self._group = group
        self._pid = pid
        self._resolve = resolve
        self._variables = variables
        self._failed = failed
        self._held: dict[str, Held] = {}
        self._dying: dict[Held, None] = {}
        self._taking: dict[str, asyncio.Task[None]] = {}
        self._chores: set[asyncio.Task[Any]] = set()
        self._poison = Poison(self.loop, settings)
        self._unsubscribe: Callable[[], None] | None = None
        self._accepting = False
        self._unwaited: object = None
        self.scheduler = Scheduler(self.loop, store, clock, settings, context_of, self)

    # -- life --------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to take work."""
        self.scheduler.factory.install()
        self._accepting = True
        self._unsubscribe = self.store.subscribe(
            self._group, self._pid, self._message, self._taken_away
        )

    async def stop(self) -> list[str]:
        """Drop every frame, release every task; bounded by `Settings.stop_s` (law 16).

        Returns:
            The ids whose functions are still running on worker threads (S28).
        """
        self._accepting = False
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._poison.clear()
        for task in (*self._taking.values(), *self._chores):
            task.cancel()
        held = list(self._held.values())
        for execution in held:
            self.scheduler.interrupts.drop(execution)
        await self._frames_end([*self._dying])
        await asyncio.gather(*self._taking.values(), *self._chores, return_exceptions=True)
        for execution in held:
            await self._release(execution)
        self.scheduler.stop()
        self.scheduler.factory.uninstall()
        return [body.id for body in self.scheduler.running_threads]

    async def _frames_end(self, held: list[Held]) -> None:
        """Wait a bounded time for dropped frames; cancel once more what is left (S31)."""
        for share in (0.5, 0.5):
            pending = []
            for execution in held:
                if execution.bodies and execution.stopping is None:
                    execution.stopping = self.loop.create_future()
                if execution.stopping is not None and not execution.stopping.done():
                    pending.append(execution.stopping)
            if not pending:
                return
            await asyncio.wait(pending, timeout=self._settings.stop_s * share)
            for execution in held:
                for body in list(execution.bodies.values()):
                    self.scheduler.interrupts.cancel_again(body)  # type: ignore[arg-type]
        for execution in held:
            for body in execution.bodies.values():
                self.scheduler.interrupts.immortal(body)  # type: ignore[arg-type]

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
            self.chore(self._give_back(task))
            return
        if task.version > 1 or options.encoder is not None:
            self._taking_soon(task.id, self._resume(task, promise, callee, options, ended))
            return
        if args is None:
            root = self._root(callee, promise, options)
        else:
            root = RootCall(callee, promise, options)
            root.args, root.takes_live = args, True
        self._start(Held(task, root, callee), [], ended)

    def _message(self, message: Message) -> None:
        if not isinstance(message, Execute) or not self._accepting:
            return
        id = message.id
        if id in self._held or id in self._taking or self._poison.is_set_aside(id):
            return
        self._taking_soon(id, self._take(message))

    def _taking_soon(self, id: str, work: Any) -> None:
        task = self.loop.create_task(
            work, name=f"resonate_aio take {id}", context=self._variables.copy()
        )
        self._taking[id] = task
        task.add_done_callback(lambda done: self._taken(id, done))

    def _taken(self, id: str, done: asyncio.Task[None]) -> None:
        self._taking.pop(id, None)
        if not done.cancelled() and (error := done.exception()) is not None:
            logger.error("taking %r failed: %r", id, error, exc_info=error, extra={"id": id})

    async def _take(self, message: Execute) -> None:
        """An execute message: acquire the task, find its function, replay it."""
        found = await self.store.call(PromiseGet(message.id))
        if found.promise is None or not is_pending(found.promise):
            return
        try:
            callee = self._callee_for(found.promise)
        except ResonateError as error:
            self._set_aside(message.id, error)
            return
        reply = await self.store.call(
            TaskAcquire(message.id, message.version, self._pid, FOREVER_MS)
        )
        if reply.status == 200 and reply.task is not None and reply.promise is not None:
            await self._resume(reply.task, reply.promise, callee, NO_OPTIONS)

    async def _resume(
        self,
        task: Task,
        promise: Promise,
        callee: Callee,
        options: CallOptions,
        ended: Ended | None = None,
    ) -> None:
        records = await self.store.load(task.id)
        root = self._root(callee, promise, options)
        try:
            await open_arguments(root, promise, self.encoders)
        except ResonateError as error:
            self._failed(task.id, error)
            self._set_aside(task.id, error)
            await self._give_back(task)
            return
        if not self._accepting:
            await self._give_back(task)
            return
        self._start(Held(task, root, callee), records, ended)

    def _callee_for(self, promise: Promise) -> Callee:
        """The registered function an invocation names.

        Raises:
            FunctionNotFoundError: It is not registered here.
            ValueCodecError: The invocation cannot be read.
        """
        data = decode(promise.param.data)
        name = data.get("func") if isinstance(data, dict) else None
        version = data.get("version", 1) if isinstance(data, dict) else 1
        if not isinstance(name, str) or not isinstance(version, int):
            raise ValueCodecError(f"promise {promise.id!r} holds no invocation (func, args)")
        return self._resolve(name, version)

    def _root(self, callee: Callee, promise: Promise, options: CallOptions) -> RootCall:
        root = RootCall(callee, promise, options)
        data = decode(promise.param.data)
        if isinstance(data, dict):
            args, kwargs = data.get("args"), data.get("kwargs")
            root.args = tuple(args) if isinstance(args, list) else () if args is None else (args,)
            root.kwargs = kwargs if isinstance(kwargs, dict) else {}
            if callee.takes_plain:
                root.takes_live = True
            else:
                root.data = encode({"args": root.args, "kwargs": root.kwargs})
        return root

    def _start(self, execution: Held, records: list[Promise], ended: Ended | None) -> None:
        id = execution.id
        self._held[id] = execution
        execution.ended = ended
        if records:
            execution.remember(records)
        self._drive(execution)

    def _drive(self, execution: Held) -> None:
        root = execution.root
        assert isinstance(root, RootCall)
        body = LiveBody(self.scheduler, execution, root, self._variables.copy(), execution.id)
        execution.body = body
        self.scheduler.soon(_begin, self.scheduler, body)

    # -- what happens to an execution --------------------------------------------------

    def fulfilling(self, root: Call) -> Execution:
        """The execution whose root is about to be fulfilled."""
        return self._held[root.id]

    def fulfilled(self, root: Call, record: Promise) -> None:
        """The store acknowledged the outcome of a root: the execution is over."""
        execution = self._held.pop(root.id, None)
        if execution is None:
            return
        if execution.ended is not None:
            execution.ended(root.id, record)
        execution.life = Life.DROPPED
        execution.body = None
        self._forget_watches(execution)

    def _taken_away(self, promise: Promise) -> None:
        """A promise whose task somebody held was settled, not by its holder."""
        held = self._held.get(promise.id)
        if held is not None:
            self._settled_outside(held, promise)

    def _settled_outside(self, execution: Held, promise: Promise) -> None:
        """The root's promise was settled, by us or by others (S13, S14)."""
        if self._held.get(execution.id) is not execution or execution.life is not ALIVE:
            return
        body = execution.body
        if body is not None and body.is_over:
            return  # our own fulfil is on its way
        logger.info("%r was settled from outside: %s", promise.id, promise.state)
        self.scheduler.interrupts.drop(execution, Life.CANCELED)
        self._held.pop(execution.id, None)
        if execution.ended is not None:
            execution.ended(promise.id, promise)

    def lost(self, execution: Execution | None, call: Call) -> None:
        """The store says the lease is not ours any more: stop, record nothing (law 7)."""
        if execution is None:
            execution = self._held.get(call.id)
        if execution is None or execution.life is not ALIVE:
            return
        logger.warning("the lease of %r was lost; its frames are dropped", execution.id)
        self.scheduler.interrupts.drop(execution)
        self._held.pop(execution.id, None)
        _not_here_any_more(execution)

    def dropped(self, execution: Execution) -> None:
        """An execution records nothing any more: its frames die, what it watched is let go."""
        assert isinstance(execution, Held)
        self._forget_watches(execution)
        if execution.bodies:
            self._dying[execution] = None

    def cancelled_from_outside(self, execution: Execution) -> None:
        """Somebody cancelled a frame: the application shuts down, or means us ill (S10).

        The lease is given back without waiting, and not taken again for a while.
        """
        held = self._held.pop(execution.id, None)
        if held is None or not self._accepting:
            return
        _not_here_any_more(held)
        self._poison.set_aside(held.id, self._try_again)
        self._unwaited = self.store.post(TaskRelease(held.id, held.version))

    def stopped(self, execution: Execution, error: ResonateError) -> None:
        """The program cannot go on (law 5, S42): waiters here get the error, the promise stays."""
        if execution.life is not ALIVE:
            return
        execution.error = error
        logger.error("%r is stopped: %s", execution.id, error, extra={"id": execution.id})
        self.scheduler.interrupts.drop(execution)
        held = self._held.pop(execution.id, None)
        self._failed(execution.id, error)
        if held is not None:
            self._set_aside(execution.id, error, log=False)
            self.chore(self._release(held))

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

    # -- waiting for promises others settle --------------------------------------------

    def watch(self, call: Call) -> None:
        """Hear when this call's promise is settled."""
        assert call.body is not None  # a root is watched by its execution
        execution = call.body.execution
        assert isinstance(execution, Held)
        if call in execution.watched or call.is_ended:
            return

        assert isinstance(call, DurableCall)
        execution.watched[call] = heard = call.settled_elsewhere
        self.store.watch(call.promise_id, heard)

    def call_settled(self, call: DurableCall[Any], promise: Promise) -> None:
        """A promise that a call waits for was settled."""
        execution = call.home.execution
        assert isinstance(execution, Held)
        execution.watched.pop(call, None)
        self.scheduler.soon(self.scheduler.settled, call, promise)

    def unwatch(self, call: Call) -> None:
        """Do not hear of it any more."""
        execution = call.body.execution if call.body is not None else None
        if isinstance(execution, Held) and (heard := execution.watched.pop(call, None)):
            self.store.unwatch(call.promise_id, heard)

    def _forget_watches(self, execution: Held) -> None:
        for call, heard in execution.watched.items():
            self.store.unwatch(call.promise_id, heard)
        execution.watched.clear()

    def at_deadline(self, call: DurableCall[Any]) -> None:
        """A local child with a deadline of its own: end it when that comes (S14, S20)."""
        wait_s = max(call.timeout_at_ms - self._clock.now_ms(), 0) / 1000
        call.timer = self.loop.call_later(wait_s, self._overdue, call)

    def _overdue(self, call: DurableCall[Any]) -> None:
        if call.is_ended or call.cut or call.home.execution.life is not ALIVE:
            return
        if self._clock.now_ms() < call.timeout_at_ms:
            self.at_deadline(call)
            return
        self.scheduler.overdue(call)

    # -- giving back -------------------------------------------------------------------

    async def _give_back(self, task: Task) -> None:
        await self.store.call(TaskRelease(task.id, task.version))

    async def _release(self, execution: Held) -> None:
        self._held.pop(execution.id, None)
        if execution.life is not Life.CANCELED:
            await self.store.call(TaskRelease(execution.id, execution.version))

    def _set_aside(self, id: str, error: BaseException, *, log: bool = True) -> None:
        delay_s = self._poison.set_aside(id, self._try_again)
        if log and self._poison.is_news(id, error):
            logger.error(
                "%r cannot run here, next try in %.0f s: %s", id, delay_s, error, extra={"id": id}
            )

    def _try_again(self, id: str) -> None:
        if self._accepting and id not in self._held and id not in self._taking:
            self._taking_soon(id, self._retake(id))

    async def _retake(self, id: str) -> None:
        found = await self.store.call(TaskGet(id))
        if found.task is not None and found.task.state is TaskState.PENDING:
            await self._take(Execute(id, found.task.version))

    def function_registered(self) -> None:
        """A function was registered: what was put aside may be runnable now (S53)."""
        self._poison.retry_all()

    def chore(self, work: Any) -> None:
        """Do something in a task of the worker; `stop` ends it."""
        task = self.loop.create_task(
            work, name="resonate_aio chore", context=self._variables.copy()
        )
        self._chores.add(task)
        task.add_done_callback(self._chore_done)

    def _chore_done(self, task: asyncio.Task[Any]) -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a background chore failed: %r", error, exc_info=error)


def _not_here_any_more(execution: Execution) -> None:
    if isinstance(execution, Held) and execution.ended is not None:
        execution.ended(execution.id, None)


def _begin(scheduler: Scheduler, body: LiveBody) -> None:
    if body.execution.life is ALIVE:
        scheduler.begin(body)
