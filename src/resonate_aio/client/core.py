"""What all views of one client share: its store, its worker, its handles, its life.

`Resonate.options(...)` makes views; they all lead here. Starting and stopping are
serialised and each runs in a task of its own, so that cancelling whoever asked for it, or
asking from inside a durable function, leaves nothing half done.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextvars import Context as ContextVars
from functools import partial
from typing import Any

from ..clock import Clock, SystemClock
from ..errors import ResonateShutdownError, ResonateStoreError, ValueCodecError
from ..protocol.addresses import normalise_target
from ..protocol.records import Promise, Value, is_pending
from ..protocol.requests import PromiseCreate, PromiseGet, Reply, Request, TaskCreate
from ..protocol.values import PLAIN_SHAPE, are_plain
from ..runtime.functions import INLINE, Callee, invocation
from ..runtime.options import CallOptions
from ..runtime.settings import Settings
from ..runtime.worker import FOREVER_MS, Worker
from ..stores.base import Store
from .context import Context
from .dependencies import Dependencies
from .handle import Handle
from .registry import Registry

logger = logging.getLogger("resonate_aio.client")

DEFAULT_TARGET = "default"


class ClientCore:
    """The shared part of a client."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        settings: Settings,
        group: str,
        pid: str,
        registry: Registry,
        dependencies: Dependencies,
        variables: ContextVars,
    ) -> None:
        self.store = store
        self.clock = clock
        self.settings = settings
        self.group = group
        self.pid = pid
        self.registry = registry
        self.dependencies = dependencies
        self._variables = variables
        self._worker: Worker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._moving: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._handles: dict[str, list[Handle[Any]]] = {}
        self._is_stopping = False
        now = time.time if isinstance(clock, SystemClock) else partial(_seconds_of, clock)
        self.time_callee = Callee(now, "time.time", kind=INLINE)
        self._own_target = f"poll://any@{group}/{pid}"
        registry.on_change(self._function_registered)

    # -- life --------------------------------------------------------------------------

    @property
    def is_started(self) -> bool:
        """Whether the client takes work on a loop."""
        return self._worker is not None

    async def start(self) -> None:
        """Start unless started, after a stop that is under way."""
        self._is_stopping = False
        await self.ensure_started()

    async def ensure_started(self) -> None:
        """Start unless started; on another loop than before, start there.

        Raises:
            ResonateShutdownError: A stop is under way.
        """
        if self._is_stopping and self._loop is asyncio.get_running_loop():
            raise ResonateShutdownError(
                "the client is being stopped: nothing was asked of it; start it again first"
            )
        if self._worker is not None and self._moving is None:
            if self._loop is asyncio.get_running_loop():
                return
            self._check_loop()
        await self._move(self._start)

    async def stop(self) -> None:
        """Stop unless stopped."""
        if self._worker is None and self._moving is None:
            return
        self._check_loop()
        self._is_stopping = True
        await self._move(self._stop)

    def _check_loop(self) -> None:
        loop = self._loop
        if loop is None or loop is asyncio.get_running_loop():
            return
        if loop.is_closed():
            # asyncio.run ended without stop(): nothing of that loop can be used any more.
            self._worker = None
            self._moving = None
            self._is_stopping = False
            self._calls.clear()
            self._fail_handles("its event loop was closed")
            return
        raise ResonateStoreError(
            "this client runs on another event loop: use it there, or make one client per loop"
        )

    async def _move(self, move: Any) -> None:
        """Run a start or stop after the one under way; the caller may be cancelled safely."""
        before = self._moving
        if before is not None and self._loop is not asyncio.get_running_loop():
            self._check_loop()
            before = None
        self._loop = asyncio.get_running_loop()
        task = _outside(self._loop, self._after(before, move))
        self._moving = task
        await asyncio.shield(task)

    async def _after(self, before: asyncio.Task[None] | None, move: Any) -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            await move()
        finally:
            if self._moving is asyncio.current_task():
                self._moving = None

    async def _start(self) -> None:
        if self._worker is not None:
            return
        await self.store.open()
        worker = Worker(
            self.store,
            self.clock,
            self.settings,
            group=self.group,
            pid=self.pid,
            resolve=self.registry.find,
            context_of=partial(Context, self),
            variables=self._variables,
            target=self.target,
            failed=self._stopped,
        )
        worker.start()
        self._worker = worker
        logger.info("started: group %s, pid %s", self.group, self.pid)

    async def _stop(self) -> None:
        worker = self._worker
        if worker is None:
            return
        self._worker = None
        for task in self._calls:
            task.cancel()
        running = await worker.stop()
        for id in running:
            logger.warning(
                "%r still runs on its thread (a thread cannot be stopped); its result is dropped",
                id,
                extra={"id": id},
            )
        await asyncio.gather(*self._calls, return_exceptions=True)
        self._fail_handles("the client was stopped")
        await self.store.close()
        self._is_stopping = False
        logger.info("stopped: group %s, pid %s", self.group, self.pid)

    def _function_registered(self) -> None:
        if self._worker is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._worker.function_registered)

    def target(self, given: str | None) -> str:
        """The address of an rpc's target; without one, any worker of group `default` (S65)."""
        return normalise_target(given if given is not None else DEFAULT_TARGET)

    # -- calls -------------------------------------------------------------------------

    def begin(
        self, id: str, callee: Callee, args: Any, kwargs: Any, options: CallOptions, *, here: bool
    ) -> Handle[Any]:
        """Begin an execution: here (`run`) or at the target (`rpc`)."""
        loop = asyncio.get_running_loop()
        callee.check(args, kwargs)
        handle: Handle[Any] = Handle(id, callee.result, loop)
        version = options.version or callee.version
        try:
            data = invocation(callee.name, args, kwargs, version)
        except ValueCodecError as error:
            raise ValueCodecError(f"the arguments of {callee.name!r} ({id!r}): {error}") from None
        begin = _Begin(self, handle, callee, options, data, here=here)
        if callee.takes_plain and not kwargs and are_plain(args):
            begin.args = args
        if self._worker is not None and self._moving is None and loop is self._loop:
            begin.send()
        else:
            self._soon(self._start_and(begin), handle)
        return handle

    async def _start_and(self, begin: _Begin) -> None:
        await self.ensure_started()
        begin.send()

    @property
    def worker(self) -> Worker | None:
        """The running worker, if the client is started."""
        return self._worker

    def create_request(
        self, id: str, data: str, options: CallOptions, *, here: bool
    ) -> PromiseCreate:
        """The create of a top-level promise."""
        limit_s = options.timeout_s
        if limit_s is None:
            limit_s = self.settings.default_timeout_s
        target = self._own_target if here else self.target(options.target)
        tags = {"resonate:scope": "global", "resonate:target": target}
        if options.tags:
            tags = {**options.tags, **tags}
        timeout_at_ms = self.clock.now_ms() + int(limit_s * 1000)
        return PromiseCreate(id, timeout_at_ms, Value(None, data), tags)

    def attach(self, id: str) -> Handle[Any]:
        """A handle for a promise that exists already."""
        handle: Handle[Any] = Handle(id, PLAIN_SHAPE, asyncio.get_running_loop())
        self._soon(self._attach(handle), handle)
        return handle

    async def _attach(self, handle: Handle[Any]) -> None:
        await self.ensure_started()
        reply = await self.store.call(PromiseGet(handle.id))
        self.stored(handle, reply)

    def stored(self, handle: Handle[Any], reply: Reply) -> None:
        """The store answered for the promise of this handle."""
        promise = reply.promise
        if promise is None or reply.status != 200:
            hint = ": nothing was started under it" if reply.status == 404 else ""
            handle.failed(ResonateStoreError(f"{reply.error}{hint}", reply.status))
        elif not is_pending(promise):
            handle.settled(promise)
        else:
            handle.stored()
            self._listen(handle)

    def _listen(self, handle: Handle[Any]) -> None:
        waiting = self._handles.setdefault(handle.id, [])
        waiting.append(handle)
        if len(waiting) == 1:
            self.store.watch(handle.id, self._settled)

    def held_here(self, handle: Handle[Any]) -> None:
        """The execution runs in this client: its worker tells the handle, no watch is needed."""
        handle.stored()
        self._handles.setdefault(handle.id, []).append(handle)

    def _settled(self, promise: Promise) -> None:
        for handle in self._handles.pop(promise.id, ()):
            handle.settled(promise)

    def _stopped(self, id: str, error: BaseException) -> None:
        """An execution held here cannot go on: those who wait here get the error (S42)."""
        for handle in self._handles.pop(id, ()):
            handle.failed(error)
        self.store.unwatch(id, self._settled)

    def ended_here(self, id: str, promise: Promise | None) -> None:
        """An execution held here ended, or is held elsewhere from now on (None)."""
        if promise is None:
            if id in self._handles:
                self.store.watch(id, self._settled)
            return
        handles = self._handles.pop(id, None)
        if handles is not None:
            for handle in handles:
                handle.settled(promise)
            self.store.unwatch(id, self._settled)

    def warn_if_other(self, id: str, promise: Promise | None, asked: PromiseCreate) -> None:
        """The id was used before for something else: its outcome counts (S29a, law 1)."""
        if promise is not None and promise.param.data != asked.param.data:
            logger.warning(
                "promise %r exists already and is joined: it was started as %s, now asked for as "
                "%s",
                id,
                _cut(promise.param.data),
                _cut(asked.param.data),
                extra={"id": id},
            )

    def _fail_handles(self, why: str) -> None:
        handles, self._handles = self._handles, {}
        for waiting in handles.values():
            for handle in waiting:
                handle.failed(
                    ResonateShutdownError(
                        f"{handle.id!r} was awaited when {why}; the work itself goes on when a "
                        "client that knows its function starts again"
                    )
                )

    def _soon(self, work: Coroutine[Any, Any, None], handle: Handle[Any]) -> None:
        task = _outside(asyncio.get_running_loop(), work)
        self._calls.add(task)
        task.add_done_callback(partial(self._call_done, handle))

    def _call_done(self, handle: Handle[Any], task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if task.cancelled():
            handle.failed(
                ResonateShutdownError(f"the client was stopped while {handle.id!r} was starting")
            )
        elif (error := task.exception()) is not None:
            # Whatever it is, it belongs to those who await the handle.
            if isinstance(error, ResonateShutdownError):
                error = ResonateShutdownError(f"{handle.id!r} was not started: {error}")
            handle.failed(error)


class _Begin:
    """One `begin_run` or `begin_rpc` on its way through the store, without a task of its own."""

    __slots__ = ("_callee", "_core", "_create", "_data", "_handle", "_here", "_options", "args")

    def __init__(
        self,
        core: ClientCore,
        handle: Handle[Any],
        callee: Callee,
        options: CallOptions,
        data: str,
        *,
        here: bool,
    ) -> None:
        self._core = core
        self._handle = handle
        self._callee = callee
        self._options = options
        self._data = data
        self._here = here
        self.args: tuple[Any, ...] | None = None

    def send(self) -> None:
        """Create the promise; here, with its task held by this process."""
        core, handle = self._core, self._handle
        create = core.create_request(handle.id, self._data, self._options, here=self._here)
        self._create = create
        if self._here:
            self._post(TaskCreate(core.pid, FOREVER_MS, create), self._task_created)
        else:
            self._post(create, self._joined)

    def _post(self, request: Request, then: Callable[[Reply], None]) -> None:
        try:
            answer = self._core.store.post(request)
        except Exception as error:  # noqa: BLE001  it belongs to those who await the handle
            self._handle.failed(error)
            return
        if isinstance(answer, Reply):
            then(answer)
        else:
            answer.add_done_callback(partial(self._answered, then), context=ContextVars())

    def _answered(self, then: Callable[[Reply], None], answer: asyncio.Future[Reply]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            error = None if answer.cancelled() else answer.exception()
            self._handle.failed(error or ResonateShutdownError(f"{self._handle.id!r}: stopped"))
        else:
            then(answer.result())

    def _task_created(self, reply: Reply) -> None:
        core, handle = self._core, self._handle
        if reply.status == 409:
            self._post(PromiseGet(handle.id), self._joined)
            return
        promise, worker = reply.promise, core.worker
        core.warn_if_other(handle.id, promise, self._create)
        if promise is not None and is_pending(promise) and worker is not None:
            core.held_here(handle)
            worker.begin(reply, self._callee, self._options, self.args, core.ended_here)
        else:
            core.stored(handle, reply)

    def _joined(self, reply: Reply) -> None:
        self._core.stored(self._handle, reply)
        self._core.warn_if_other(self._handle.id, reply.promise, self._create)


def _seconds_of(clock: Clock) -> float:
    return clock.now_ms() / 1000


def _outside(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]
) -> asyncio.Task[None]:
    """A task of ours, in a context of its own: no durable function's stamp, no branch."""
    return loop.create_task(work, context=ContextVars())


def _cut(text: str | None) -> str:
    text = text or "no invocation"
    return text if len(text) <= 200 else text[:200] + "…"
