"""What asyncio asks of every event loop and a simulation has no opinion about.

Futures, tasks, functions on threads, asynchronous generators, and errors that reach the
loop. `SimLoop` builds on it and decides what runs when, what time it is and how a life ends.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from .endings import Killed
from .graveyard import bury
from .outside import without_outside

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

if TYPE_CHECKING:  # which has sockets, signals and subprocesses: ours refuses them
    _AbstractEventLoop = asyncio.BaseEventLoop
else:
    _AbstractEventLoop = asyncio.AbstractEventLoop


@without_outside
class LoopSurface(_AbstractEventLoop):
    """An event loop without the running.

    Attributes:
        exceptions: What reached the loop, as asyncio describes it.
    """

    def __init__(self) -> None:
        self.exceptions: list[dict[str, Any]] = []
        self._closed = False
        self._dead = False
        self._killed_by: Killed | None = None
        self._debug = False
        self._task_factory: Any = None
        self._exception_handler: Any = None
        self._asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()

    def kill(self) -> None:
        """End this life."""
        raise NotImplementedError

    def thread_started(self) -> None:
        """Count one more real thread at work."""
        raise NotImplementedError

    def thread_finished(self) -> None:
        """Count one thread less."""
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("Event loop is closed")

    # Futures, tasks and functions on threads

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override, unused-ignore]  # differs between versions
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **kwargs: Any,
    ) -> asyncio.Task[T]:
        """A task of this loop; on a dead loop one that never starts."""
        self._check_open()
        if self._dead or self._task_factory is None:
            if self._dead:
                kwargs.pop("eager_start", None)
            task = asyncio.Task(coro, loop=self, name=name, context=context, **kwargs)
            if self._dead:
                bury(self, {task})
            return task
        if context is not None:
            kwargs["context"] = context
        made: asyncio.Task[T] = self._task_factory(self, coro, **kwargs)
        if name is not None and hasattr(made, "set_name"):
            made.set_name(name)
        return made

    def set_task_factory(self, factory: Any) -> None:
        """Use the factory for every task made from now on; None for plain tasks."""
        if factory is not None and not callable(factory):
            raise TypeError("task factory must be a callable or None")
        self._task_factory = factory

    def get_task_factory(self) -> Any:
        """The factory in use, or None."""
        return self._task_factory

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """Run a function as one step of the loop, or on the given executor's thread."""
        self._check_open()
        if executor is None or self._dead:
            future = self.create_future()
            self.call_soon(self._run_inline, future, func, args)
            return future
        self.thread_started()
        try:
            submitted = executor.submit(func, *args)
        except BaseException:
            self.thread_finished()
            raise
        wrapped = asyncio.wrap_future(submitted, loop=self)
        submitted.add_done_callback(lambda _: self.thread_finished())
        return wrapped

    def _run_inline(
        self, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        if future.cancelled():
            return
        asyncio._set_running_loop(None)  # as on a thread of its own
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001  it is the future's outcome
            asyncio._set_running_loop(self)
            future.set_exception(error)
        else:
            asyncio._set_running_loop(self)
            future.set_result(result)
        finally:
            asyncio._set_running_loop(self)

    # Asynchronous generators

    async def shutdown_asyncgens(self) -> None:
        """Close the asynchronous generators that were left unfinished."""
        unfinished = list(self._asyncgens)
        self._asyncgens.clear()
        results = await asyncio.gather(*(g.aclose() for g in unfinished), return_exceptions=True)
        for generator, result in zip(unfinished, results, strict=True):
            if isinstance(result, Exception):
                message = "an error occurred during closing of asynchronous generator"
                self.call_exception_handler(
                    {"message": message, "exception": result, "asyncgen": generator}
                )

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to do: the default executor runs functions inline."""

    def _asyncgen_begins(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.add(generator)

    def _asyncgen_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.discard(generator)
        if self._dead:
            bury(generator)
        elif not self._closed:
            self.call_soon_threadsafe(self.create_task, generator.aclose())

    # Trouble

    def set_exception_handler(self, handler: Any) -> None:
        """Also give what reaches the loop to this handler."""
        self._exception_handler = handler

    def get_exception_handler(self) -> Any:
        """The handler that was set, or None."""
        return self._exception_handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what reached the loop in `exceptions`."""
        self.exceptions.append(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what reached the loop in `exceptions`; a dead loop stays silent."""
        error = context.get("exception")
        if isinstance(error, Killed):  # raised by a callback: let it through
            self._killed_by = error
            self.kill()
        if self._dead:
            return
        self.default_exception_handler(context)
        if self._exception_handler is not None:
            self._exception_handler(self, context)

    def get_debug(self) -> bool:
        """Whether asyncio's debug mode is on."""
        return self._debug

    def set_debug(self, enabled: bool) -> None:
        """Turn asyncio's debug mode (where tasks were made) on or off."""
        self._debug = enabled
