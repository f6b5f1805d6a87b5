"""Handles: how ordinary asyncio code waits for a durable execution (H1 to H6, S12)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import timedelta
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..encoders import Encoder
from ..errors import ResonateError, ResonateShutdownError, UsageError
from ..protocol.failures import outcome_error, shown_error
from ..protocol.records import Promise, PromiseState
from ..protocol.requests import PromiseSettle
from ..protocol.values import Shape
from ..runtime.encoding import encoded_outcome
from ..runtime.options import seconds
from ..runtime.outcomes import ENCODER_HEADER, outcome_of

if TYPE_CHECKING:
    from .core import ClientCore

R = TypeVar("R")
T = TypeVar("T")

logger = logging.getLogger("resonate_aio.client")

_LOOK_AT_LOOP_S = 1.0

_counting = Lock()
"""Held while a thread counts itself among those who wait for a handle."""


class Handle(Generic[R]):
    """A durable execution, seen from outside it.

    `await handle` gives its value or raises its error, as often and from as many tasks as
    you like. Cancelling whoever waits never cancels the work; `cancel()` does.
    """

    __slots__ = (
        "_core",
        "_created",
        "_encoder",
        "_error",
        "_future",
        "_given",
        "_id",
        "_in_threads",
        "_loop",
        "_owed",
        "_record",
        "_shape",
        "_trace",
        "_waiters",
    )

    def __init__(
        self,
        id: str,
        shape: Shape,
        loop: asyncio.AbstractEventLoop,
        core: ClientCore | None = None,
    ) -> None:
        self._id = id
        self._shape = shape
        self._loop = loop
        self._core = core
        self._encoder: Encoder | None = None
        self._record: Promise | None = None
        self._error: BaseException | None = None
        self._trace: TracebackType | None = None
        self._future: asyncio.Future[R] | None = None
        self._created = self._given = False
        self._in_threads = 0
        self._owed: _Owed | None = None
        # There may be many thousand handles: few are awaited at any time.
        self._waiters: list[tuple[asyncio.Future[None], Callable[[], bool]]] | None = None

    if not TYPE_CHECKING:  # a type checker knows that there are none

        def __getattr__(self, name: str) -> Any:
            """Say where options go: after a ctx call they may follow, here it has begun (S29a)."""
            if name == "options":
                raise AttributeError(
                    f"a handle has no options: {self._id!r} was begun by the call; they go before "
                    "it: resonate.options(...).run(id, f)"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def id(self) -> str:
        """The promise's id."""
        return self._id

    def done(self) -> bool:
        """Whether the outcome is known here."""
        return self._record is not None or self._error is not None

    @property
    def status(self) -> PromiseState:
        """The promise's state, as far as it is known here: `pending` until it is done.

        `await handle.created()` first, to know that there is a promise at all.

        Raises:
            ResonateError: It was found that there is none (`get`), or it could not be created.
        """
        if self._record is not None:
            return self._record.state
        if self._error is not None and not self._created:
            raise self._error
        return PromiseState.PENDING

    async def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the outcome.

        Cancelling is safe: the work goes on.

        Args:
            timeout: Seconds to wait at most; the work goes on after that too.

        Raises:
            TimeoutError: It took longer than `timeout`.
            ResonateTimedoutError, ResonateCanceledError: What the promise ended as.
            ResonateShutdownError: The client stopped meanwhile.
            Exception: What the function raised.
        """
        if timeout is None:
            return await self
        limit_s = seconds(timeout, "timeout")
        try:
            async with asyncio.timeout(limit_s) as scope:
                return await self
        except TimeoutError:
            if not scope.expired():
                raise  # the function's own
            assert self._core is not None  # every handle of a client has its core
            fate = self._core.fate_of(self._id)
            raise TimeoutError(f"{self._id!r} did not end within {limit_s:g} s; {fate}") from None

    def result_sync(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the outcome from another thread than the event loop's.

        Args:
            timeout: Seconds to wait at most; the work goes on after that too.

        Raises:
            UsageError: It is called where an event loop runs, which it would block.
            ResonateShutdownError: The handle's event loop does not run (any more).
            Exception: As `result`.
        """
        refuse_loop(f"handle.result_sync() of {self._id!r}", "`await handle.result()`")
        if timeout is not None:
            seconds(timeout, "timeout")
        self._count_thread(1)  # now: the outcome may be there before the loop hears of us
        try:
            return wait_in_thread(self.result(timeout), self._loop, repr(self._id))
        finally:
            self._count_thread(-1)

    def _count_thread(self, more: int) -> None:
        with _counting:
            self._in_threads += more

    async def created(self) -> Handle[R]:
        """Wait until the promise is durably stored; returns the handle itself.

        This is what an HTTP handler needs before it answers 202. Cancelling is safe.

        Raises:
            ResonateError: The promise could not be created, or does not exist (`get`).
        """
        await self._until(self._is_created)
        if self._error is not None and not self._created:
            raise self._error
        return self

    async def cancel(self) -> None:
        """Cancel the work: its promise is cancelled, a body that runs gets `CancelledError`.

        Nothing happens to work that has ended. Durable on return.

        Raises:
            ResonateError: The promise does not exist, or the store cannot be used.
        """
        await self.created()
        assert self._core is not None  # every handle of a client has its core
        await self._core.ensure_started()
        await self._core.store.call(PromiseSettle(self._id, PromiseState.CANCELED))

    async def explain(self) -> str:
        """What is recorded of the execution: its calls as a tree of text, one line each."""
        await self.created()
        assert self._core is not None  # every handle of a client has its core
        return await self._core.explain(self._id)

    @property
    def future(self) -> asyncio.Future[R]:
        """The outcome as one `asyncio.Future`; cancelling that never cancels the work."""
        if self._future is None:
            assert self._core is not None  # every handle of a client has its core
            self._future = self._loop.create_future()
            self._core.own(self._feed(self._future))
        return self._future

    async def _feed(self, future: asyncio.Future[R]) -> None:
        try:
            value = await self
        except asyncio.CancelledError:
            future.cancel()
            raise
        except BaseException as error:  # noqa: BLE001  it belongs to those who await the future
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody has to look at it
        else:
            if not future.done():
                future.set_result(value)

    def __await__(self) -> Generator[Any, Any, R]:
        if self._record is None and self._error is None:
            yield from self._until(self.done).__await__()
        self._given = True
        if self._owed is not None:
            self._owed.record = None
        record = self._record
        if record is None:
            assert self._error is not None  # done() says so
            raise self._error
        if record.value.headers is None:
            value, failed = outcome_of(record, self._shape)
        else:
            value, failed = yield from self._decoded(record).__await__()
        if failed:
            raise value.with_traceback(self._trace)
        return value  # type: ignore[no-any-return]

    async def _decoded(self, record: Promise) -> tuple[Any, bool]:
        encoder = self._encoder
        if encoder is None and self._core is not None and record.value.headers is not None:
            encoder = self._core.encoders.get(record.value.headers.get(ENCODER_HEADER, ""))
        return await encoded_outcome(record, self._shape, encoder)

    def __repr__(self) -> str:
        state = "failed" if self._error is not None else str(self.status)
        return f"<Handle {self._id!r} {state}>"

    # -- for the client ----------------------------------------------------------------

    def _stored(self) -> None:
        """The promise is durably stored."""
        self._created = True
        self._wake()

    def _settled(self, record: Promise, trace: TracebackType | None = None) -> None:
        """The promise is settled; `trace` is where its function raised, if it did so here."""
        if not self.done():
            self._created = True
            self._trace = trace
            self._record = record
            self._wake()

    def _failed(self, error: BaseException) -> None:
        """This process cannot say how it ended, or will not: waiters get the error."""
        if not self.done():
            self._error = error
            self._wake()

    def _is_heard(self) -> bool:
        """Whether somebody waits for the outcome here, or got it, or may still come for it."""
        if (
            self._given
            or self._in_threads
            or any(reached == self.done for _, reached in self._waiters or ())
        ):
            return True
        if self._owed is None:
            return False
        self._owed.record = self._record
        return True

    def _goes_to_a_thread(self) -> None:
        """A thread gets this handle and has had no time to await it yet, however soon it ends."""
        self._owed = _Owed()

    def _is_created(self) -> bool:
        return self._created or self._error is not None

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            if asyncio.get_running_loop() is not self._loop:
                raise ResonateError(
                    f"handle {self._id!r} belongs to another event loop: await it there, or use "
                    "handle.result_sync() in a thread"
                )
            waiter: asyncio.Future[None] = self._loop.create_future()
            entry = (waiter, reached)
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(entry)
            try:
                await waiter
            finally:
                if self._waiters and entry in self._waiters:
                    self._waiters.remove(entry)

    def _wake(self) -> None:
        if self._waiters is None:
            return
        waiting, self._waiters = self._waiters, None
        for waiter, reached in waiting:
            if not reached():
                if self._waiters is None:
                    self._waiters = []
                self._waiters.append((waiter, reached))
            elif not waiter.done():
                waiter.set_result(None)
                self._given = self._given or reached == self.done


class _Owed:
    """A failure that nobody was told of, while a thread has its handle and may yet ask for it.

    Attributes:
        record: The failed promise.
    """

    __slots__ = ("record",)

    def __init__(self) -> None:
        self.record: Promise | None = None

    def __del__(self) -> None:
        record = self.record
        if record is not None:  # the handle is gone, and nobody has awaited it
            logger.warning(
                "%r failed and nobody here awaited it: %s",
                record.id,
                shown_error(outcome_error(record)),
                extra={"id": record.id},
            )


def wait_in_thread(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, what: str) -> T:
    """Do something on an event loop, and wait for it in another thread.

    Args:
        what: What is awaited, for a message.

    Raises:
        ResonateShutdownError: The loop does not run (any more).
        Exception: What the work raised.
    """
    if not loop.is_running():
        work.close()
        raise ResonateShutdownError(
            f"the event loop of {what} does not run: nobody here would hear of its end"
        )
    waiting = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        while loop.is_running():
            try:
                return waiting.result(_LOOK_AT_LOOP_S)
            except FutureTimeoutError:
                if waiting.done():
                    return waiting.result()
    except FutureCancelledError:
        pass  # the loop's end cancels what runs on it
    finally:
        waiting.cancel()
    raise ResonateShutdownError(
        f"the event loop ended while {what} was awaited; the work itself goes on when a client "
        "starts again"
    )


def refuse_loop(what: str, instead: str) -> None:
    """What waits without an event loop would block a running one.

    Raises:
        UsageError: An event loop runs in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError(f"{what} would block the event loop that runs here: write {instead}")
