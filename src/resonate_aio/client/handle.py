"""Handles: how ordinary asyncio code waits for a durable execution (H1 to H6, S12)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any, Generic, TypeVar

from ..errors import ResonateError
from ..protocol.records import Promise
from ..protocol.values import Shape
from ..runtime.options import seconds
from ..runtime.outcomes import outcome_of

R = TypeVar("R")


class Handle(Generic[R]):
    """A durable execution, seen from outside it.

    `await handle` gives its value or raises its error, as often and from as many tasks as
    you like. Cancelling whoever waits never cancels the work; `promises.cancel(id)` does.
    """

    __slots__ = ("_created", "_error", "_id", "_loop", "_record", "_shape", "_waiters")

    def __init__(self, id: str, shape: Shape, loop: asyncio.AbstractEventLoop) -> None:
        self._id = id
        self._shape = shape
        self._loop = loop
        self._record: Promise | None = None
        self._error: BaseException | None = None
        self._created = False
        self._waiters: list[tuple[asyncio.Future[None], Callable[[], bool]]] = []

    @property
    def id(self) -> str:
        """The promise's id."""
        return self._id

    def done(self) -> bool:
        """Whether the outcome is known here."""
        return self._record is not None or self._error is not None

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
            raise TimeoutError(
                f"{self._id!r} did not end within {limit_s:g} s; the work goes on"
            ) from None

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

    def __await__(self) -> Generator[Any, Any, R]:
        yield from self._until(self.done).__await__()
        if self._record is None:
            assert self._error is not None  # done() says so
            raise self._error
        value, failed = outcome_of(self._record, self._shape)
        if failed:
            raise value
        return value  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        state = str(self._record.state) if self._record else "failed" if self._error else "pending"
        return f"<Handle {self._id!r} {state}>"

    # -- for the client ----------------------------------------------------------------

    def stored(self) -> None:
        """The promise is durably stored."""
        self._created = True
        self._wake()

    def settled(self, record: Promise) -> None:
        """The promise is settled."""
        if not self.done():
            self._created = True
            self._record = record
            self._wake()

    def failed(self, error: BaseException) -> None:
        """This process cannot say how it ended, or will not: waiters get the error."""
        if not self.done():
            self._error = error
            self._wake()

    def _is_created(self) -> bool:
        return self._created or self._error is not None

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            if asyncio.get_running_loop() is not self._loop:
                raise ResonateError(
                    f"handle {self._id!r} belongs to another event loop: await it there, or use "
                    "asyncio.run_coroutine_threadsafe"
                )
            waiter: asyncio.Future[None] = self._loop.create_future()
            entry = (waiter, reached)
            self._waiters.append(entry)
            try:
                await waiter
            finally:
                if entry in self._waiters:
                    self._waiters.remove(entry)

    def _wake(self) -> None:
        waiting, self._waiters = self._waiters, []
        for waiter, reached in waiting:
            if not reached():
                self._waiters.append((waiter, reached))
            elif not waiter.done():
                waiter.set_result(None)
