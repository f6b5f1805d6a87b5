"""Promises on a legacy Resonate server: the current verbs, spoken as its REST requests.

What the server has no single request for is put together here: to suspend is to register
callbacks and complete the task, to fulfil is to settle the promise and complete the task, to
release is to drop it. Every write of an execution names its task, so that a server that can
fence does (S62); where it cannot, and the newest public one does not, the first write wins and
the lease's own clock keeps a worker from writing under a lease that ran out (S66).

Trouble of the network is never an answer: requests go on until they are answered or the store
is closed (law 8). The parts: `legacy_codec` (the wire, pure), `legacy_rest` (one coroutine per
REST verb), `legacy_requests` (the current verbs), `legacy_writes` (the fenced door),
`legacy_holding` (leases), `legacy_messages` (what is heard), `legacy_load` (what replay needs).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context as ContextVars
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ...clock import Clock, SystemClock
from ...errors import ResonateStoreError, UsageError
from ...protocol.records import Promise, PromiseState, Value
from ...protocol.requests import (
    Message,
    Reply,
    Request,
    TaskAcquire,
    TaskCreate,
)
from ..answers import tell
from ..base import LOST, Acked, Answered, Refusal
from ..remote.watches import AGAIN_S, RemoteWatches
from .answers import NOT_HERE, Refused
from .holding import Holding
from .leases import Leases
from .load import load
from .messages import Decode, Member, Messages
from .requests import Requests
from .rest import LegacyRest, Session
from .writes import Writes

if TYPE_CHECKING:
    from ...transports.base import MessageSource

logger = logging.getLogger("resonate_aio.stores.legacy")

TTL_S: Final = 10.0
"""How long a lease lasts without a heartbeat (C11)."""


class LegacyStore:
    """A legacy Resonate server.

    Constructing opens nothing and needs no loop.

    Args:
        http: The session with the server's API; the store opens and closes it.
        messages: Makes the source of this client's messages, given what reads an event.
        poll: A session with the server's poll port; opened and closed with the other.
        ttl_s: How long a lease lasts without a heartbeat, in seconds.
        clock: Where the time is read; the system's by default.
        again_s: Seconds after which what is waited for is asked for again (hazard 1).

    Raises:
        ValueError: The ttl is shorter than a tenth of a second.
    """

    in_process = False
    durable_at_once = False

    def __init__(
        self,
        http: Session,
        messages: Callable[[Decode], MessageSource],
        *,
        poll: Session | None = None,
        ttl_s: float = TTL_S,
        clock: Clock | None = None,
        again_s: float = AGAIN_S,
    ) -> None:
        if not ttl_s >= 0.1:
            raise ValueError(f"ttl must be at least 0.1 s, got {ttl_s!r}")
        self.http = http
        self.ttl_ms = int(ttl_s * 1000)
        self._poll = poll
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._rest = LegacyRest(http)
        self._leases = Leases()
        self._holding = Holding(
            self._rest, self._leases, self._clock, http.rng, self._spawn, ttl_s=ttl_s
        )
        self._watches = RemoteWatches(
            self._ask_for_watch, http.rng, url=http.url, clock=self._clock, again_s=again_s
        )
        self._messages = Messages(messages, self._leases, self._holding, self._watches, self._spawn)
        self._requests = Requests(
            self._rest,
            self._holding,
            self._watches,
            holder_of=self._holder_of,
            own_address=lambda: self._messages.anycast,
            farewell=self._messages.farewell,
        )
        self._writes = Writes(self._rest, self._holding, self._watches, self._spawn)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closing = False
        """A close is under way, or was cut."""
        self._users = 0
        self._incarnation = ""
        self._holding.listen = self._listen

    def __repr__(self) -> str:
        return f"<LegacyStore {self.http.url}>"

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
            await self._abandon()
        await self._finish_closing()
        self._users += 1
        if self._users > 1:
            return
        self._loop = loop
        # Never used twice: leases of an earlier life must run out, whatever we beat for (S60).
        self._incarnation = secrets.token_hex(4)
        self._messages.start()
        await self.http.open()
        if self._poll is not None:
            await self._poll.open()
        self._watches.open()

    async def _abandon(self) -> None:
        """The loop was closed under everybody who used the store: its sockets are dead too."""
        self._users = 0
        self._loop = None
        self._is_closing = False
        self._tasks.clear()
        self._holding.stop()
        for session in (self.http, self._poll):
            if session is not None:
                with suppress(RuntimeError):
                    await session.close()

    async def close(self) -> None:
        """Give up what is outstanding and close every connection once the last user closes."""
        if self._users > 0:
            self._users -= 1
            if self._users:
                return
            self._is_closing = True
        await self._finish_closing()

    async def _finish_closing(self) -> None:
        """Do what is left of a close, also of one that was cut before."""
        if not self._is_closing:
            return
        await self._messages.stop()
        self._holding.stop()
        await self._watches.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.http.close()
        if self._poll is not None:
            await self._poll.close()
        self._loop = None
        self._is_closing = False

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine in a task the store owns, in a context of its own."""
        if self._loop is None:
            work.close()
            raise ResonateStoreError("the store is not open: call open() first")
        task = self._loop.create_task(work, name=f"resonate_aio {name}", context=ContextVars())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Those who wait for a request get it; of the others this is the last word.
            logger.debug("%s: %r", task.get_name(), error)

    # -- requests

    async def call(self, request: Request) -> Reply:
        """Carry out one request; everything the reply shows is durable on return.

        Cancelling the caller never cancels the request.

        Raises:
            ResonateStoreError: The server refuses the credentials (code 401 or 403), or the
                store was closed meanwhile.
        """
        task = self._start(request)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._users == 0:
                raise ResonateStoreError("the store was closed before it was answered") from None
            raise

    def post(self, request: Request, answered: Answered, context: Any) -> None:
        """Start one request, as `call`; `answered` is called once it is answered."""
        tell(self._start(request), answered, context)

    def _start(self, request: Request) -> asyncio.Task[Reply]:
        return self._spawn(self._carry_out(request), type(request).__name__)

    async def _carry_out(self, request: Request) -> Reply:
        if isinstance(request, TaskCreate | TaskAcquire):
            ttl_ms = min(request.ttl_ms, self.ttl_ms)
            request = msgspec.structs.replace(request, ttl_ms=ttl_ms)
        if isinstance(request, TaskCreate):
            await self._messages.first_connect()
        return await self._requests.carry_out(request)

    async def load(self, root: str) -> list[Promise]:
        """Every stored promise that replay of this execution may ask for (S9).

        Raises:
            ResonateStoreError: The server refuses the credentials.
        """
        return await load(root, self._rest.get, self._rest.search)

    # -- the fenced door

    def fence_create(
        self, task_id: str, version: int, promise: Promise, acked: Acked | None, context: Any
    ) -> Promise | Refusal | None:
        """Create a promise on condition that the task is held; `acked` follows."""
        lease = self._leases.find(task_id, version)
        if lease is None:
            return LOST
        self._writes.create(lease, promise, acked, context)
        return None

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
        """Settle a promise on condition that the task is held; `acked` follows."""
        lease = self._leases.find(task_id, version)
        if lease is None:
            return LOST
        self._writes.settle(lease, promise_id, state, value, acked, context)
        return None

    def fulfill(
        self,
        task_id: str,
        version: int,
        state: PromiseState,
        value: Value,
        acked: Acked,
        context: Any,
    ) -> Promise | Refusal | None:
        """Settle the task's own promise and end the task; `acked` follows."""
        lease = self._leases.find(task_id, version)
        if lease is None:
            return LOST
        self._writes.fulfill(lease, state, value, acked, context)
        return None

    def flush(self) -> None:
        """Nothing to do: what was created is on its way."""

    # -- waiting

    def watch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """Call settled(promise) once the promise is settled, from the event loop.

        Also when it was settled before. For an id that does not exist, `settled` is called
        with a record that says so.
        """
        if self._loop is None:
            raise ResonateStoreError("the store is not open: call open() first")
        self._watches.watch(promise_id, settled)

    def unwatch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """Do not call it any more. Unknown pairs are ignored."""
        self._watches.unwatch(promise_id, settled)

    async def _ask_for_watch(self, request: Request) -> Reply:
        return await self._requests.carry_out(request)

    async def _listen(self, id: str) -> Promise | None:
        """Subscribe to a promise and read it; None where there is none."""
        address = self._messages.unicast
        if address is None:
            return await self._rest.get(id)
        told = await self._requests.listen(id, address)
        if not isinstance(told, Refused):
            return told
        if told.status == NOT_HERE:
            return None
        return await self._rest.get(id)

    def subscribe(
        self,
        group: str,
        pid: str,
        deliver: Callable[[Message], None],
        taken: Callable[[Promise], None] | None = None,
        lost: Callable[[str, int], None] | None = None,
    ) -> Callable[[], None]:
        """Receive messages for poll addresses of this group and pid (S53).

        `deliver` is called from the event loop. Connecting takes its time and is not waited
        for; it goes on, and begins anew, until the returned function is called.

        Args:
            taken: Called with a promise whose task was held and that somebody else than its
                holder settled, or its deadline (S13, S14).
            lost: Called as lost(id, version) when a task is not held here any more.
        """
        if self._loop is None:
            raise ResonateStoreError("the store is not open: call open() first")
        return self._messages.join(Member(group, pid, deliver, taken, lost))

    def hint(self, data: Any) -> None:
        """Follow a message that was pushed to a URL: see `HintedStore`."""
        if self._loop is not None:
            self._messages.hint(data)

    # -- names

    def _holder_of(self, pid: str) -> str:
        return f"{pid}~{self._incarnation}"
