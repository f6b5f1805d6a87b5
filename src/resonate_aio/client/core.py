"""What all views of one client share: its store, its worker, its handles, its life.

`Resonate.options(...)` makes views; they all lead here. Starting and stopping are
serialised and each runs in a task of its own, so that cancelling whoever asked for it, or
asking from inside a durable function, leaves nothing half done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import Context as ContextVars
from typing import Any

from ..clock import Clock
from ..errors import ResonateShutdownError, ResonateStoreError
from ..protocol.addresses import normalise_target
from ..protocol.records import Promise, Value, is_pending
from ..protocol.requests import PromiseCreate, PromiseGet, TaskCreate
from ..protocol.values import PLAIN_SHAPE, encode
from ..runtime.functions import Callee
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
        self._incarnation = 0
        registry.on_change(self._function_registered)

    # -- life --------------------------------------------------------------------------

    @property
    def is_started(self) -> bool:
        """Whether the client takes work on a loop."""
        return self._worker is not None

    async def ensure_started(self) -> None:
        """Start unless started; on another loop than before, start there."""
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
        await self._move(self._stop)

    def _check_loop(self) -> None:
        loop = self._loop
        if loop is None or loop is asyncio.get_running_loop():
            return
        if loop.is_closed():
            # asyncio.run ended without stop(): nothing of that loop can be used any more.
            self._worker = None
            self._moving = None
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
        self._incarnation += 1
        worker = Worker(
            self.store,
            self.clock,
            self.settings,
            group=self.group,
            pid=self.pid,
            resolve=self.registry.find,
            context_of=self._context_of,
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
        logger.info("stopped: group %s, pid %s", self.group, self.pid)

    def _context_of(self, body: Any) -> Context:
        return Context(body, self)

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
        handle: Handle[Any] = Handle(id, callee.result, loop)
        version = options.version or callee.version
        data = encode({"func": callee.name, "args": args, "kwargs": kwargs, "version": version})
        self._soon(self._begin(handle, callee, data, options, here=here), handle)
        return handle

    async def _begin(
        self, handle: Handle[Any], callee: Callee, data: str, options: CallOptions, *, here: bool
    ) -> None:
        if self._worker is None or self._moving is not None:
            await self.ensure_started()
        limit_s = options.timeout_s
        if limit_s is None:
            limit_s = self.settings.default_timeout_s
        target = f"poll://any@{self.group}/{self.pid}" if here else self.target(options.target)
        tags = {**(options.tags or {}), "resonate:scope": "global", "resonate:target": target}
        timeout_at_ms = self.clock.now_ms() + int(limit_s * 1000)
        create = PromiseCreate(handle.id, timeout_at_ms, Value(None, data), tags)
        if not here:
            reply = await self.store.call(create)
            self._stored(handle, reply.promise, reply.status, reply.error)
            self._warn_if_other(handle.id, reply.promise, create)
            return
        reply = await self.store.call(TaskCreate(self.pid, FOREVER_MS, create))
        if reply.status == 409:
            found = await self.store.call(PromiseGet(handle.id))
            self._stored(handle, found.promise, found.status, found.error)
            self._warn_if_other(handle.id, found.promise, create)
            return
        self._stored(handle, reply.promise, reply.status, reply.error)
        promise, worker = reply.promise, self._worker
        if promise is None or worker is None:
            return
        self._warn_if_other(handle.id, promise, create)
        if is_pending(promise):
            worker.begin(reply, callee, options)

    def attach(self, id: str) -> Handle[Any]:
        """A handle for a promise that exists already."""
        handle: Handle[Any] = Handle(id, PLAIN_SHAPE, asyncio.get_running_loop())
        self._soon(self._attach(handle), handle)
        return handle

    async def _attach(self, handle: Handle[Any]) -> None:
        await self.ensure_started()
        reply = await self.store.call(PromiseGet(handle.id))
        self._stored(handle, reply.promise, reply.status, reply.error)

    def _stored(
        self, handle: Handle[Any], promise: Promise | None, status: int, error: str | None
    ) -> None:
        if promise is None or status != 200:
            hint = ": nothing was started under it" if status == 404 else ""
            handle.failed(ResonateStoreError(f"promise {handle.id!r}: {error}{hint}", status))
            return
        if not is_pending(promise):
            handle.settled(promise)
            return
        handle.stored()
        waiting = self._handles.setdefault(handle.id, [])
        waiting.append(handle)
        if len(waiting) == 1:
            self.store.watch(handle.id, self._settled)

    def _settled(self, promise: Promise) -> None:
        for handle in self._handles.pop(promise.id, ()):
            handle.settled(promise)

    def _stopped(self, id: str, error: BaseException) -> None:
        """An execution held here cannot go on: those who wait here get the error (S42)."""
        for handle in self._handles.pop(id, ()):
            handle.failed(error)
        self.store.unwatch(id, self._settled)

    def _warn_if_other(self, id: str, promise: Promise | None, asked: PromiseCreate) -> None:
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
        task = _outside(asyncio.get_running_loop(), self._guarded(work, handle))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None], handle: Handle[Any]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            handle.failed(
                ResonateShutdownError(f"the client was stopped while {handle.id!r} was starting")
            )
            raise
        except Exception as error:  # whatever it is, it belongs to those who await the handle
            handle.failed(error)


def _outside(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]
) -> asyncio.Task[None]:
    """A task of ours, in a context of its own: no durable function's stamp, no branch."""
    return loop.create_task(work, context=ContextVars())


def _cut(text: str | None) -> str:
    text = text or "no invocation"
    return text if len(text) <= 200 else text[:200] + "…"
