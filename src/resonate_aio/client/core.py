"""What all views of one client share: its store, its worker, its handles, its life.

`Resonate.options(...)` makes views; they all lead here.
"""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from collections.abc import Coroutine
from contextvars import Context as ContextVars
from functools import partial
from typing import Any, Protocol

from ..clock import Clock, SystemClock
from ..encoders import Encoder, name_of
from ..errors import ResonateError, ResonateShutdownError, UsageError, ValueCodecError
from ..execution.body import Branch
from ..protocol.addresses import normalise_target
from ..protocol.idempotency import key_for, tagged
from ..protocol.records import Value
from ..protocol.requests import PromiseCreate, PromiseGet
from ..protocol.values import PLAIN_SHAPE, Shape, are_plain
from ..runtime.describing import global_to
from ..runtime.encoding import seal, sealed_invocation
from ..runtime.functions import INLINE, Callee
from ..runtime.options import NO_OPTIONS, CallOptions
from ..runtime.settings import Settings
from ..runtime.stamps import current_branch
from ..runtime.worker import Worker
from ..stores.base import HintedStore, LoopBound, Store
from ..transports.base import MessageSource
from ..uncut import carried_out
from .begin import Begin
from .context import Context
from .dependencies import Dependencies
from .handle import Handle
from .life import Life, outside
from .registry import Registry
from .retention import Retention
from .tree import explain, in_short, untaken_target
from .waiting import Waiting

logger = logging.getLogger("resonate_aio.client")

DEFAULT_TARGET = "default"


class StoreServer(Protocol):
    """What serves a store to workers elsewhere."""

    @property
    def url(self) -> str:
        """Where they find it."""
        ...

    async def start(self) -> None:
        """Begin to serve. Idempotent."""
        ...

    async def stop(self) -> None:
        """Serve no more. Idempotent."""
        ...


class ClientCore(Life, Waiting):
    """The shared part of a client.

    Attributes:
        encoders: Every encoder this client was given, by name: what a worker that takes an
            execution over finds its encoder in (K9).
        message_source: Where messages come from, if not from the store (S53).
        server: What serves the store to workers elsewhere, while the client runs.
        retention: What deletes old executions (S45).
    """

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
        Life.__init__(self)
        Waiting.__init__(self, store)
        self.clock = clock
        self.settings = settings
        self.group = group
        self.pid = pid
        self.registry = registry
        self.dependencies = dependencies
        self.encoders: dict[str, Encoder] = {}
        self.message_source: MessageSource | None = None
        self.server: StoreServer | None = None
        self.retention = Retention(store, clock)
        self._variables = variables
        self._said_default = False
        self._calls: set[asyncio.Task[None]] = set()
        self.asked: set[Begin] = set()
        """The calls that were begun and that the store has not answered yet."""
        self._all_answered: asyncio.Future[None] | None = None
        now = time.time if isinstance(clock, SystemClock) else partial(_seconds_of, clock)
        self.time_callee = Callee(now, "time.time", kind=INLINE)
        self._own_target = f"poll://any@{group}/{pid}"
        self._own_tags = global_to(self._own_target)  # nearly all roots have these, and share them
        registry.on_change(self._function_registered)

    # -- life --------------------------------------------------------------------------

    async def _start(self) -> None:
        if self._worker is not None:
            return
        await self._stop()  # where an earlier one was given up half-way
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
            listeners=self.listeners,
            encoders=self.encoders,
        )
        source, server = self.message_source, self.server
        # Without functions there is nothing to do for others: what comes is for them (P11).
        worker.start(listens=source is None and not self.registry.is_empty)
        self._worker = worker
        try:
            if source is not None:
                await source.start(self.group, self.pid, worker.deliver)
            if server is not None:
                await server.start()
        except BaseException:
            await carried_out(worker.loop, self._stop)
            raise
        self.retention.start()
        logger.info("started: group %s, pid %s", self.group, self.pid)

    async def _stop(self) -> None:
        grace_s: float | None = 0.0  # to go on with one that was cut
        if self._worker is not None:
            self._worker, self._ending = None, self._worker
            grace_s = self._stop_grace_s
        worker = self._ending
        if worker is None:
            return
        ending = self.retention.stop()
        if self.server is not None:
            await self.server.stop()
        if self.message_source is not None:
            await self.message_source.stop()
        for task in self._calls:
            task.cancel()
        running = await worker.stop(grace_s)
        for id in running:
            logger.warning(
                "%r still runs on its thread (a thread cannot be stopped); its result is dropped",
                id,
                extra={"id": id},
            )
        await asyncio.gather(*ending, *self._calls, return_exceptions=True)
        if self.asked:
            self._all_answered = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_answered], timeout=self.settings.stop_s)
        self._fail_handles("the client was stopped")
        await self.store.close()
        self._ending = None
        self._is_stopping = False
        logger.info("stopped: group %s, pid %s", self.group, self.pid)

    async def _stop_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        calls = [call for call in self._calls if call.get_loop() is loop]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    def has_answer(self, begin: Begin) -> None:
        """The store answered what this call asked."""
        self.asked.discard(begin)
        waiting = self._all_answered
        if waiting is not None and not self.asked and not waiting.done():
            waiting.set_result(None)

    def _lost(self, why: str) -> None:
        self._calls.clear()
        self.asked.clear()
        self.retention.stop()
        self._fail_handles(why)
        parts: tuple[object, ...] = (self.server, self.store)
        for part in parts:
            if isinstance(part, LoopBound):
                part.abandon()

    def _error_of(self, id: str) -> BaseException | None:
        return None if self._worker is None else self._worker.error_of(id)

    def _function_registered(self) -> None:
        if self._worker is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._may_take, self._worker)

    def _may_take(self, worker: Worker) -> None:
        if worker is self._worker and self.message_source is None:
            worker.listen()
        worker.function_registered()

    def target(self, given: str | None) -> str:
        """The address of an rpc's target; without one, any worker of group `default` (S65)."""
        if given is not None:
            return normalise_target(given)
        if self.group != DEFAULT_TARGET and not self._said_default:
            self._said_default = True
            logger.info(
                "an rpc without target= goes to the group %r, this client is of the group %r",
                DEFAULT_TARGET,
                self.group,
            )
        return normalise_target(DEFAULT_TARGET)

    def knows(self, encoder: Encoder) -> None:
        """An encoder was given: what it wrote can be read here from now on."""
        self.encoders[name_of(encoder)] = encoder

    # -- calls -------------------------------------------------------------------------

    def begin(
        self, id: str, callee: Callee, args: Any, kwargs: Any, options: CallOptions, *, here: bool
    ) -> Handle[Any]:
        """Begin an execution: here (`run`) or at the target (`rpc`)."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise _no_loop(id) from None
        branch = current_branch.get()
        if branch is not None:
            _warn_inside(branch, id)
        callee.check(args, kwargs)
        handle: Handle[Any] = Handle(id, callee.result, loop, self)
        if options is not NO_OPTIONS and options.encoder is not None:
            self.soon(self._begin_encoded(handle, callee, args, kwargs, options, here=here), handle)
            return handle
        version = options.version or callee.version
        try:
            data = callee.invocation(args, kwargs, version)
        except ValueCodecError as error:
            raise ValueCodecError(f"the arguments of {callee.name!r} ({id!r}): {error}") from None
        begin = Begin(self, handle, callee, options, data, here=here)
        if callee.takes_plain and not kwargs and are_plain(args):
            begin.args = args
        if self._worker is not None and self._moving is None and loop is self._loop:
            begin.send()
        else:
            self.soon(self._start_and(begin), handle)
        return handle

    async def _start_and(self, begin: Begin) -> None:
        await self.ensure_started()
        begin.send()

    async def _begin_encoded(
        self,
        handle: Handle[Any],
        callee: Callee,
        args: Any,
        kwargs: Any,
        options: CallOptions,
        *,
        here: bool,
    ) -> None:
        encoder: Encoder = options.encoder
        handle._encoder = encoder
        try:
            text = await seal(encoder, args, kwargs)
        except ResonateError:
            raise
        except Exception as error:
            raise ValueCodecError(
                f"the arguments of {callee.name!r} ({handle.id!r}): the encoder "
                f"{name_of(encoder)!r} failed: {error!r}"
            ) from error
        version = options.version or callee.version
        data = sealed_invocation(callee.name, text, version, encoder)
        await self._start_and(Begin(self, handle, callee, options, data, here=here))

    def create_request(
        self, id: str, data: str, options: CallOptions, *, here: bool
    ) -> PromiseCreate:
        """The create of a top-level promise."""
        limit_s = options.timeout_s
        if limit_s is None:
            limit_s = self.settings.default_timeout_s
        tags = self._own_tags if here else global_to(self.target(options.target))
        if options.tags:
            tags = {**options.tags, **tags}
        if options.idempotency_key is not None:
            tags = tagged(tags, key_for(options.idempotency_key, id), id)
        timeout_at_ms = self.clock.now_ms() + int(limit_s * 1000)
        return PromiseCreate(id, timeout_at_ms, Value(None, data), tags)

    def attach(self, id: str, encoder: Encoder | None, shape: Shape = PLAIN_SHAPE) -> Handle[Any]:
        """A handle for a promise that exists already."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise _no_loop(id) from None
        handle: Handle[Any] = Handle(id, shape, loop, self)
        handle._encoder = encoder
        self.soon(self._attach(handle), handle)
        return handle

    async def _attach(self, handle: Handle[Any]) -> None:
        await self.ensure_started()
        reply = await self.store.call(PromiseGet(handle.id))
        self.stored(handle, reply)

    def push(self, message: Any) -> None:
        """Follow a message that the server sent to a URL of ours (S50)."""
        store = self.store
        if not isinstance(store, HintedStore):
            raise UsageError(
                "messages are pushed by a Resonate server: this client has none (url=...), its "
                "store is in this process"
            )
        if self._worker is None or self._is_stopping:
            raise ResonateShutdownError("the client is not started, or stops: nothing is taken")
        self._check_loop()
        store.hint(message)

    async def explain(self, id: str) -> str:
        """What is recorded of an execution: its calls as a tree of text, one line each."""
        await self.ensure_started()
        return await explain(self.store, id, self.clock.now_ms())

    def fate_of(self, id: str) -> str:
        """What becomes of an execution that has not ended, for whoever waited long enough."""
        where = untaken_target(self.store, id)
        if where is None:
            return "the work goes on"
        if where == self._own_target:
            return "it is set aside here and tried again: the log says why"
        return f"no worker at {in_short(where)} has taken it: does one run, with its function?"

    def soon(self, work: Coroutine[Any, Any, None], handle: Handle[Any]) -> None:
        """Do this in a task of the client; its failure is the handle's."""
        self.own(work).add_done_callback(partial(self._call_done, handle))

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do this in a task of the client, which a stop ends."""
        task = outside(asyncio.get_running_loop(), work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    def _call_done(self, handle: Handle[Any], task: asyncio.Task[None]) -> None:
        if task.cancelled():
            handle._failed(
                ResonateShutdownError(f"the client was stopped while {handle.id!r} was starting")
            )
        elif (error := task.exception()) is not None:
            # Whatever it is, it belongs to those who await the handle.
            if isinstance(error, ResonateShutdownError):
                error = ResonateShutdownError(f"{handle.id!r} was not started: {error}")
            handle._failed(error)


def _no_loop(id: str) -> UsageError:
    return UsageError(
        f"{id!r} was asked for where no event loop runs: call it from a coroutine, or use "
        "`with resonate.blocking() as client:` in scripts and threads"
    )


def _warn_inside(branch: Branch, id: str) -> None:
    """A client call inside a workflow is not recorded there: that is what ctx is for (P19)."""
    body: Any = branch.body
    if body.call.body is None or body.made_calls:
        warnings.warn(
            f"{id!r} was started through the client inside the durable function {body.id!r}, which "
            "records nothing of it: use ctx.run, ctx.rpc or ctx.detached there",
            RuntimeWarning,
            stacklevel=4,
        )


def _seconds_of(clock: Clock) -> float:
    return clock.now_ms() / 1000
