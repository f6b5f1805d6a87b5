"""The client for code without an event loop: scripts, threads (P11, H1).

Where the client runs on an event loop of another thread already, calls are handed over to
that one; else `with` starts a loop in a thread of its own for as long as the block lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack, overload

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ..errors import UsageError
from ..runtime.options import ClientOptions
from .context import Context, S, Y
from .function import Function
from .handle import Handle, refuse_loop, wait_in_thread

if TYPE_CHECKING:
    from .resonate import Resonate

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Blocking:
    """A client whose calls wait: `with resonate.blocking() as client: client.run(...)`.

    `run` and `rpc` give the result; `begin_run`, `begin_rpc` and `get` give a handle whose
    `result_sync()` does. Everything else of the client goes through `wait`:
    `client.wait(resonate.promises.resolve("p", value=1))`.

    No call may be made where an event loop runs, which it would block: every one raises
    UsageError there.
    """

    def __init__(self, resonate: Resonate) -> None:
        self._resonate = resonate
        self._threads: AbstractContextManager[BlockingPortal] | None = None
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        refuse_loop("`with resonate.blocking()`", "`async with resonate`")
        if self._portal is not None:
            raise UsageError("this blocking client is in use: make one for each `with`")
        if self._resonate._core.running_loop is None:
            threads = start_blocking_portal("asyncio")
            self._portal = threads.__enter__()
            self._threads = threads
            try:
                self._portal.call(self._resonate.start)
            except BaseException:
                self.__exit__(None, None, None)
                raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        portal, threads = self._portal, self._threads
        self._portal = self._threads = None
        if portal is None or threads is None:
            return
        try:
            portal.call(self._resonate.stop)
        finally:
            threads.__exit__(None, None, None)

    def wait(self, awaitable: Awaitable[T], timeout: float | timedelta | None = None) -> T:
        """What an awaitable of the client gives, awaited on its event loop.

        Args:
            timeout: Seconds to wait for a handle at most; the work goes on after that too.

        Raises:
            UsageError: An event loop runs here, or the client runs nowhere.
            Exception: What awaiting it raises.
        """
        if isinstance(awaitable, Handle):
            refuse_loop("wait()", "`await`")
            result: T = awaitable.result_sync(timeout)
            return result
        if timeout is not None:
            _close(awaitable)
            raise TypeError("timeout= is for handles")
        try:
            return self._on_loop(lambda: _awaited(awaitable))
        except UsageError:
            _close(awaitable)
            raise

    @overload
    def run(self, id: str, func: Function[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def run(
        self,
        id: str,
        func: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    @overload
    def run(
        self,
        id: str,
        func: Callable[Concatenate[Context, P], Generator[Y, S, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    @overload
    def run(
        self, id: str, func: Callable[Concatenate[Context, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    def run(self, id: str, func: str, *args: Any, **kwargs: Any) -> Any: ...
    def run(self, id: str, func: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a registered function here and wait for its result: see `Resonate.run`."""
        return self._outcome(id, lambda: self._resonate.begin_run(id, func, *args, **kwargs))

    @overload
    def rpc(self, id: str, func: Function[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def rpc(
        self,
        id: str,
        func: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    @overload
    def rpc(
        self,
        id: str,
        func: Callable[Concatenate[Context, P], Generator[Y, S, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    @overload
    def rpc(
        self, id: str, func: Callable[Concatenate[Context, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    def rpc(self, id: str, func: str, *args: Any, **kwargs: Any) -> Any: ...
    def rpc(self, id: str, func: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a function elsewhere and wait for its result: see `Resonate.rpc`."""
        return self._outcome(id, lambda: self._resonate.begin_rpc(id, func, *args, **kwargs))

    def begin_run(self, id: str, func: Any, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Start a registered function here: see `Resonate.begin_run`."""
        return self._handle(lambda: self._resonate.begin_run(id, func, *args, **kwargs))

    def begin_rpc(self, id: str, func: Any, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Start a function elsewhere: see `Resonate.begin_rpc`."""
        return self._handle(lambda: self._resonate.begin_rpc(id, func, *args, **kwargs))

    def get(self, id: str) -> Handle[Any]:
        """A handle for what exists already: see `Resonate.get`."""
        return self._handle(lambda: self._resonate.get(id))

    def options(self, **options: Unpack[ClientOptions]) -> Blocking:
        """A copy with these options for the calls started through it: see `Resonate.options`."""
        copy = Blocking(self._resonate.options(**options))
        copy._portal = self._portal
        return copy

    def _outcome(self, id: str, begin: Callable[[], Handle[Any]]) -> Any:
        async def outcome() -> Any:
            return await begin()  # awaited in the same step: its failure finds somebody (law 9)

        return self._on_loop(outcome, repr(id))

    def _handle(self, begin: Callable[[], Handle[Any]]) -> Handle[Any]:
        async def begun() -> Handle[Any]:
            handle = begin()
            handle._goes_to_a_thread()
            return handle

        return self._on_loop(begun)

    def _on_loop(self, call: Callable[[], Coroutine[Any, Any, T]], what: str = "the client") -> T:
        refuse_loop("a call of a blocking client", "`await` and the client itself")
        loop = self._resonate._core.running_loop
        if loop is None:
            raise UsageError(
                "the client runs nowhere: use `with resonate.blocking() as client`, or start it on "
                "the event loop of another thread"
            )
        return wait_in_thread(call(), loop, what)


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _close(awaitable: Any) -> None:
    """Nobody will await it: let it not complain."""
    if asyncio.iscoroutine(awaitable):
        awaitable.close()
