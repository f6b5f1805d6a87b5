"""A server of the current protocol as a store: one `POST /`, one stream of messages.

What a worker asks of a store is spread over the parts beside this file: requests and lost
answers (`remote_calls`), claims and the names in them (`remote_claims`), fenced writes
(`remote_fences`), watched promises (`remote_watches`), records for a replay (`remote_load`).
This file joins them and knows the address it listens at. Nothing is durable before the server
has answered, so every fenced call answers later, through `acked`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable
from contextvars import Context as ContextVars
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ...clock import Clock, SystemClock
from ...errors import ResonateStoreError, UsageError
from ...protocol.dialects import SEPARATORS, TARGET, Dialect
from ...protocol.envelope import message_from_wire
from ...protocol.records import Promise, PromiseState, TaskState, Value
from ...protocol.requests import (
    Message,
    PromiseCreate,
    PromiseSettle,
    Reply,
    Request,
    TaskAcquire,
    TaskCreate,
    TaskHeartbeat,
    TaskRelease,
    TaskSuspend,
    Unblock,
)
from ..answers import tell
from ..base import Acked, Answered, Refusal
from ..http.session import HttpSession
from ..lineage import unstorable
from .calls import RemoteCalls
from .claims import RemoteClaims
from .fences import RemoteFences
from .leases import RemoteLeases
from .load import RemoteLoad
from .messages import RemoteMessages
from .parking import RemoteParking
from .server import RemoteServer
from .watches import RemoteWatches

if TYPE_CHECKING:
    from ...transports.base import MessageSource

logger = logging.getLogger("resonate_aio.stores.remote")

TTL_S: Final = 10.0
"""How long a lease lasts without a heartbeat (C11)."""

_DONE: Final = 200
_BAD: Final = 400


class RemoteStore:
    """Promises on a server of the current protocol.

    Constructing opens nothing and needs no loop.

    Args:
        http: The session with the server; the store opens and closes it.
        messages: Makes the source of this client's messages.
        ttl_s: How long a lease lasts without a heartbeat, in seconds.
        dialect: Of the ids below the roots that this client begins (S61).
        clock: Where the time is read; the system's by default.

    Raises:
        ValueError: The ttl is shorter than a tenth of a second.
    """

    in_process = False
    durable_at_once = False

    def __init__(
        self,
        http: HttpSession,
        messages: Callable[[], MessageSource],
        *,
        ttl_s: float = TTL_S,
        dialect: Dialect = Dialect.DOT,
        clock: Clock | None = None,
    ) -> None:
        if not ttl_s >= 0.1:
            raise ValueError(f"ttl must be at least 0.1 s, got {ttl_s!r}")
        self.http = http
        self.ttl_ms = int(ttl_s * 1000)
        self._dialect = dialect
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._make_source = messages
        self._incarnation = ""
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.AbstractEventLoop | None = None  # where a close is not over
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Nothing is held or on the way: at first, and when a loop was closed under us."""
        http = self.http
        self._calls = RemoteCalls(http)
        self._server = RemoteServer(self._calls, self._dialect)
        self._claims = RemoteClaims(self._ask, self._dialect, ttl_ms=self.ttl_ms)
        self._fences = RemoteFences(self._ask, self._server.sweeps_all, self._gone, http.rng)
        self._watches = RemoteWatches(self._ask, http.rng, url=http.url, clock=self._clock)
        self._leases = RemoteLeases(
            self._ask,
            self._server.beat,
            self._watches.watch,
            self._watches.unwatch,
            self._gone,
            ttl_s=self.ttl_ms / 1000,
            rng=http.rng,
        )
        self._calls.is_held = self._leases.is_held
        self._parking = RemoteParking(
            self._ask,
            self._fences,
            self._leases,
            self._watches,
            self._taken_over,
            ttl_ms=self.ttl_ms,
        )
        self._preloads: dict[str, tuple[Promise, ...]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._messages = RemoteMessages(self._make_source)
        self._offer: Callable[[Message], None] | None = None

    def __repr__(self) -> str:
        return f"<RemoteStore {self.http.url}>"

    # -- life

    async def open(self) -> None:
        """Make the store ready on the running loop; counts its users. Asks nothing yet.

        Raises:
            UsageError: It is open on another loop that still runs.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            if not self._loop.is_closed():
                raise UsageError(
                    "the store is open on another event loop: close it there, or make one store "
                    "for each loop"
                )
            self._users = 0
            self._begin_anew()
        await self._finish_closing()
        self._users += 1
        if self._users > 1:
            return
        self._loop = loop
        self._incarnation = uuid.uuid4().hex[:12]
        self._server.open(self._incarnation)
        self._claims.open(self._incarnation)
        await self.http.open()
        self._watches.open()

    async def close(self) -> None:
        """Let go of everything once the last user closes; what is on the way is given up."""
        if self._users > 0:
            self._users -= 1
            if self._users:
                return
            self._closing, self._loop = self._loop, None
        await self._finish_closing()

    async def _finish_closing(self) -> None:
        """Do what is left of a close, also of one that was cut before."""
        closing = self._closing
        if closing is not asyncio.get_running_loop():
            if closing is not None:  # the loop was closed under it
                self._closing = None
                self._begin_anew()
            return
        await self._fences.stop()
        await self._parking.stop()
        await self._leases.stop()
        await self._watches.stop()
        await self._server.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._messages.stop()
        self._preloads.clear()
        await self.http.close()
        self._closing = None

    # -- any request

    async def call(self, request: Request) -> Reply:
        """Carry out one request; what the reply shows is durable on return.

        Cancelling the caller never cancels the request.

        Raises:
            ResonateStoreError: The credentials are refused, or the store was closed.
        """
        task = self._start(request)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._loop is None:
                raise ResonateStoreError("the store was closed before it was answered") from None
            raise

    def post(self, request: Request, answered: Answered, context: Any) -> None:
        """Start one request, as `call`; `answered` is called once it is answered."""
        tell(self._start(request), answered, context)

    def _start(self, request: Request) -> asyncio.Future[Reply]:
        loop = self._open_loop()
        fault = unstorable(request)
        if fault is not None:
            refused: asyncio.Future[Reply] = loop.create_future()
            refused.set_result(Reply(_BAD, error=fault))
            return refused
        # A context of its own: the caller may be a durable function's step.
        task = loop.create_task(self._call(request), context=ContextVars())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _call(self, request: Request) -> Reply:
        match request:
            case TaskCreate() | TaskAcquire():
                return await self._claim(request)
            case TaskHeartbeat(pid=pid, tasks=tasks):
                return await self._server.beat(self._claims.holder(pid), tasks)
            case TaskRelease(id=id, version=version):
                await self._fences.quiet(id, version)
                if self._parking.forget(id):  # it is suspended: what it waits for will wake it
                    self._gone(id, version)
                    return Reply(_DONE)
                reply = await self._ask(request)
                self._gone(id, version)
                return reply
            case TaskSuspend(id=id, version=version):
                reply = await self._ask(request)
                if reply.status == _DONE:
                    self._gone(id, version)
                return reply
            case PromiseCreate() if TARGET in request.tags:
                return await self._ask(self._claims.with_lineage(request))
            case _:
                return await self._ask(request)

    async def _ask(self, request: Request) -> Reply:
        return await self._calls.ask(request)

    async def _claim(self, request: TaskCreate | TaskAcquire) -> Reply:
        """Claim a task; what is held from now on is remembered."""
        claim = self._claims.as_holder(request)
        reply = await self._ask(claim)
        task = reply.task
        if reply.status != _DONE or task is None or reply.promise is None:
            return reply
        if task.state is not TaskState.ACQUIRED:
            return reply
        self._leases.hold(task.id, task.version, claim.pid)
        promise, dialect = await self._claims.with_dialect(task, reply.promise, reply.preload)
        self._fences.hold(promise, task.version, dialect)
        if task.version > 1:
            self._preloads[task.id] = reply.preload
        return msgspec.structs.replace(reply, promise=promise)

    def _gone(self, id: str, version: int) -> None:
        self._leases.let_go(id, version)
        self._fences.let_go(id, version)
        self._parking.forget(id)
        self._preloads.pop(id, None)

    def _taken_over(self, id: str, version: int) -> None:
        """A parked execution goes on elsewhere."""
        self._gone(id, version)
        if self._leases.lost is not None:
            self._leases.lost(id, version)

    async def parks(self) -> bool:
        """Whether executions that only wait are worth parking (S64): see `ParkingStore`."""
        return not await self._server.mixes_origins()

    async def park(self, id: str, version: int, awaited: Iterable[str]) -> bool:
        """Suspend the task of an execution whose frame stays: see `ParkingStore`."""
        return await self._parking.park(id, version, awaited)

    # -- the fenced door

    def fence_create(
        self, task_id: str, version: int, promise: Promise, acked: Acked | None, context: Any
    ) -> Promise | Refusal | None:
        """Create a promise on condition that the task is held; the answer comes later."""
        return self._fences.create(task_id, version, promise, acked, context)

    def fence_settle(
        self,
        task_id: str,
        version: int,
        promise_id: str,
        state: PromiseState,
        value: Value,
        acked: Acked,
        context: Any,
    ) -> Promise | Refusal | None:
        """Settle a promise on condition that the task is held; the answer comes later."""
        settle = PromiseSettle(promise_id, state, value)
        return self._fences.settle(task_id, version, settle, acked, context)

    def fulfill(
        self,
        task_id: str,
        version: int,
        state: PromiseState,
        value: Value,
        acked: Acked,
        context: Any,
    ) -> Promise | Refusal | None:
        """Settle the task's own promise and end the task; the answer comes later."""
        self._leases.ending(task_id, version)
        return self._fences.fulfill(task_id, version, state, value, acked, context)

    def flush(self) -> None:
        """Nothing to do: every write is on its way."""

    async def load(self, root: str) -> list[Promise]:
        """Every stored promise that replay of this execution may ask for (S9).

        Raises:
            ResonateStoreError: The credentials are refused, or the server will not tell.
        """
        start = self._fences.start_of(root) or f"{root}{SEPARATORS[self._dialect]}"
        return await RemoteLoad(self._ask, root, start).records(self._preloads.pop(root, ()))

    # -- hearing of things

    def watch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """Call settled(promise) once the promise is settled, from the event loop.

        For an id that does not exist, `settled` is called with a record that says so.
        """
        self._open_loop()
        self._watches.watch(promise_id, settled)

    def unwatch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """Do not call it any more. Unknown pairs are ignored."""
        self._watches.unwatch(promise_id, settled)

    def subscribe(
        self,
        group: str,
        pid: str,
        deliver: Callable[[Message], None],
        taken: Callable[[Promise], None] | None = None,
        lost: Callable[[str, int], None] | None = None,
    ) -> Callable[[], None]:
        """Receive messages for poll addresses of this group and pid (S53).

        One worker at a time: the latest subscriber is told of what is taken and lost. A group
        that no address can name is private: nobody else's messages come to it.

        Returns:
            A function that ends the subscription; calling it twice does no harm.
        """
        self._open_loop()
        is_public = "\0" not in group
        group = group.lower() if is_public else f"resonate-aio-{self._incarnation}"
        self._leases.taken, self._leases.lost = taken, lost
        # Registered before the stream stands, and once more when it does.
        self._watches.listen_at(f"poll://uni@{group}/{pid}")

        def heard(message: Message) -> None:
            if isinstance(message, Unblock):
                self._watches.settled(message.promise)
            elif not self._parking.offered(message.id):
                deliver(message)

        self._offer = heard if is_public else None
        return self._messages.listen(group, pid, heard, self._watches.register_all)

    def hint(self, data: Any) -> None:
        """Follow a message that was pushed to a URL: see `HintedStore`."""
        message = message_from_wire(data)
        if isinstance(message, Unblock):
            self._watches.look_again(message.promise.id)
        elif self._offer is not None:
            self._offer(message)

    def _open_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise ResonateStoreError("the store is not open: call open() first")
        return self._loop
