"""A server of either generation: which one it is, is found out when it first answers.

Until then everything that is asked waits, as it would wait for a server that is down. This
file knows the two stores by their seam only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextvars import Context as ContextVars
from typing import Any, Final

from ..errors import ResonateStoreError, UsageError
from ..protocol.records import Promise, PromiseState, Value
from ..protocol.requests import Message, Reply, Request
from .answers import tell
from .base import LOST, Acked, Answered, HintedStore, ParkingStore, Refusal, Store
from .generations import Generation, generation_at
from .http.session import HttpSession

logger = logging.getLogger("resonate_aio.stores.either")

_REFUSED_S: Final = 15.0


class EitherStore:
    """A server of the current or the legacy generation.

    Constructing opens nothing and needs no loop.

    Args:
        http: A session with the server, to find out by; opened and closed here.
        make: Makes the store of a generation.
        ttl_s: How long a lease lasts without a heartbeat, in seconds.
    """

    in_process = False
    durable_at_once = False

    def __init__(
        self, http: HttpSession, make: Callable[[Generation], Store], *, ttl_s: float = 10.0
    ) -> None:
        self._http = http
        self.ttl_ms = int(ttl_s * 1000)
        self._make = make
        self._inner: Store | None = None
        self._finding: asyncio.Task[None] | None = None
        self._refused: ResonateStoreError | None = None
        self._found = asyncio.Event()
        self._waiting: list[Callable[[Store], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.AbstractEventLoop | None = None
        """Where a close is under way, or was cut."""

    def __repr__(self) -> str:
        return repr(self._inner) if self._inner is not None else f"<EitherStore {self._http.url}>"

    @property
    def url(self) -> str:
        """The server it was pointed at."""
        return self._http.url

    @property
    def inner(self) -> Store | None:
        """The store of the generation that answered; None before."""
        return self._inner

    # -- life

    async def open(self) -> None:
        """Begin to look for the server; does not wait for it. Counts its users.

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
            self._finding = None
            self._tasks.clear()
        await self._finish_closing()
        self._users += 1
        if self._users > 1:
            return
        self._loop = loop
        self._found = asyncio.Event()
        self._refused = None
        self._waiting.clear()
        if self._inner is not None:
            await self._inner.open()
            self._found.set()
            return
        await self._http.open()
        self._finding = loop.create_task(self._find(), context=ContextVars())

    async def close(self) -> None:
        """Let go of everything once the last user closes."""
        if self._users > 0:
            self._users -= 1
            if self._users:
                return
            self._closing, self._loop = self._loop, None
        await self._finish_closing()

    async def _finish_closing(self) -> None:
        """Do what is left of a close, also of one that was cut before."""
        closing = self._closing
        if closing is None:
            return
        tasks = [*self._tasks, *([self._finding] if self._finding is not None else [])]
        if closing is asyncio.get_running_loop():  # else it was closed meanwhile
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._finding = None
        self._tasks.clear()
        self._waiting.clear()
        if self._inner is not None:  # also where the search was stopped as it opened it
            await self._inner.close()
        await self._http.close()
        self._closing = None

    async def _find(self) -> None:
        """Find the server, and whatever fails tell those who wait for it: nobody else can."""
        while True:
            try:
                inner = await self._opened()
                break
            except ResonateStoreError as error:
                logger.error("%s", error)
                self._tell_waiting(error)
            except Exception as error:
                logger.exception(
                    "the server at %s cannot be used; this is a bug, please report it",
                    self._http.url,
                )
                self._tell_waiting(
                    ResonateStoreError(f"the server at {self._http.url} cannot be used: {error!r}")
                )
            await asyncio.sleep(_REFUSED_S)
        self._refused = None
        self._found.set()
        waiting, self._waiting = self._waiting, []
        for act in waiting:
            try:
                act(inner)
            except Exception:
                # One that is refused must not stop the others.
                logger.exception("what waited for the server failed; please report it")

    async def _opened(self) -> Store:
        """Find out which generation answers, and open its store."""
        generation = await generation_at(self._http)
        self._inner = inner = self._make(generation)  # `close` closes it, however far this comes
        try:
            await inner.open()
        except Exception:
            self._inner = None
            raise
        await self._http.close()
        logger.info("%s: a server of the %s generation", self._http.url, generation.name.lower())
        return inner

    def _tell_waiting(self, error: ResonateStoreError) -> None:
        self._refused = error
        self._found.set()
        self._found.clear()

    # -- requests

    async def call(self, request: Request) -> Reply:
        """Carry out one request; what the reply shows is durable on return.

        Cancelling the caller never cancels the request.

        Raises:
            ResonateStoreError: The credentials are refused, or the store was closed.
        """
        if self._inner is not None and self._found.is_set():
            return await self._inner.call(request)
        return await asyncio.shield(self._when_found(request))

    def post(self, request: Request, answered: Answered, context: Any) -> Reply | None:
        """Start one request, as `call`; `answered` is called once it is answered."""
        if self._inner is not None and self._found.is_set():
            return self._inner.post(request, answered, context)
        tell(self._when_found(request), answered, context)
        return None

    def _when_found(self, request: Request) -> asyncio.Future[Reply]:
        if self._loop is None:
            raise ResonateStoreError("the store is not open: call open() first")
        task = self._loop.create_task(self._call_later(request), context=ContextVars())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _call_later(self, request: Request) -> Reply:
        if self._refused is None:
            await self._found.wait()
        if self._inner is None:
            assert self._refused is not None  # the only other thing that ends the wait
            raise self._refused
        return await self._inner.call(request)

    def hint(self, data: Any) -> None:
        """Follow a message that was pushed to a URL: see `HintedStore`.

        Raises:
            ResonateStoreError: The server was not found yet.
        """
        inner = self._known()
        if isinstance(inner, HintedStore):
            inner.hint(data)

    async def load(self, root: str) -> list[Promise]:
        """Every stored promise that replay of this execution may ask for (S9)."""
        return await self._known().load(root)

    async def parks(self) -> bool:
        """Whether executions that only wait are worth parking (S64): see `ParkingStore`."""
        while self._inner is None:
            await self._found.wait()
            await asyncio.sleep(0)
        inner: Any = self._inner
        return isinstance(inner, ParkingStore) and await inner.parks()

    async def park(self, id: str, version: int, awaited: Iterable[str]) -> bool:
        """Suspend the task of an execution whose frame stays: see `ParkingStore`."""
        inner: Any = self._inner
        return isinstance(inner, ParkingStore) and await inner.park(id, version, awaited)

    # -- what only the holder of a task asks: the server has answered before

    def fence_create(
        self, task_id: str, version: int, promise: Promise, acked: Acked | None, context: Any
    ) -> Promise | Refusal | None:
        """Create a promise on condition that the task is held; the answer comes later."""
        if self._inner is None:
            return LOST
        return self._inner.fence_create(task_id, version, promise, acked, context)

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
        if self._inner is None:
            return LOST
        return self._inner.fence_settle(task_id, version, promise_id, state, value, acked, context)

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
        if self._inner is None:
            return LOST
        return self._inner.fulfill(task_id, version, state, value, acked, context)

    def flush(self) -> None:
        """Nothing to do: every write is on its way."""

    # -- hearing of things

    def watch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """Call settled(promise) once the promise is settled, from the event loop."""
        self._act(lambda inner: inner.watch(promise_id, settled))

    def unwatch(self, promise_id: str, settled: Callable[[Promise], None]) -> None:
        """Do not call it any more. Unknown pairs are ignored."""
        self._act(lambda inner: inner.unwatch(promise_id, settled))

    def subscribe(
        self,
        group: str,
        pid: str,
        deliver: Callable[[Message], None],
        taken: Callable[[Promise], None] | None = None,
        lost: Callable[[str, int], None] | None = None,
    ) -> Callable[[], None]:
        """Receive messages for poll addresses of this group and pid (S53)."""
        ends: list[Callable[[], None]] = []
        has_left = False

        def join(inner: Store) -> None:
            if not has_left:
                ends.append(inner.subscribe(group, pid, deliver, taken, lost))

        def leave() -> None:
            nonlocal has_left
            has_left = True
            while ends:
                ends.pop()()

        self._act(join)
        return leave

    def _act(self, act: Callable[[Store], None]) -> None:
        """Do it now, or in this order when the server has answered."""
        if self._loop is None:
            raise ResonateStoreError("the store is not open: call open() first")
        if self._inner is not None and self._found.is_set():
            act(self._inner)
        else:
            self._waiting.append(act)

    def _known(self) -> Store:
        if self._inner is None:
            raise ResonateStoreError(f"no server has answered at {self._http.url} yet")
        return self._inner
