"""An event loop with virtual time whose life can end like a killed process.

`SimLoop` is what the crash harness runs programs on (semantics S32): one loop per life. It
has no selector, sockets or signals; timers cost no real time; a kill runs nothing at all,
neither `finally` nor a destructor's message. It is not a `BaseEventLoop`, because that one
is tied to a selector and cannot be abandoned quietly.

Order is asyncio's: one pass runs, first in first out, the handles that were ready when it
began. Two things are stricter, so that a run repeats itself. What a real thread hands over
is taken only when nothing else is ready, and the clock moves only when no real thread is at
work. This file knows nothing of promises, stores or workers.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, cast

from .graveyard import bury, waiting_at

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Not an own function: anyio finds the root task of a loop by this very callback.
_stop_when_done = cast(Any, asyncio.base_events)._run_until_complete_cb

_CLOCK_RESOLUTION_S = 1e-9
_PASSES_BEFORE_THREADS = 100
"""A program that spins on the loop gets what its threads hand over after this many passes."""


if TYPE_CHECKING:  # sockets, signals and subprocesses stay abstract: they raise
    _AbstractEventLoop = asyncio.BaseEventLoop
else:
    _AbstractEventLoop = asyncio.AbstractEventLoop


class Killed(BaseException):
    """The life of this loop has ended; nothing of it will ever run again."""


class SimDeadlock(RuntimeError):  # noqa: N818  the name says what happened
    """Nothing is ready, no timer is set and no thread is at work: nobody can go on."""


class ThreadsStuck(RuntimeError):  # noqa: N818  the name says what happened
    """Real threads stayed at work for longer than the loop was told to wait for them."""


class SimLoop(_AbstractEventLoop):
    """An asyncio event loop on virtual time, without a selector, that can be killed.

    Args:
        start_s: What `time()` says at first; give a new life its predecessor's time.
        threads_limit_s: Real seconds to wait for real threads before `ThreadsStuck`.
    """

    slow_callback_duration = 0.1

    def __init__(self, *, start_s: float = 0.0, threads_limit_s: float = 30.0) -> None:
        self.exceptions: list[dict[str, Any]] = []
        self.steps = 0
        self._now = start_s
        self._threads_limit_s = threads_limit_s
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_set = 0
        self._timers_cancelled = 0
        self._arrived = threading.Condition()
        self._from_threads: deque[asyncio.Handle] = deque()
        self._passes_without_threads = 0
        self._threads = 0
        self._waiting_for_quiet: list[asyncio.Future[None]] = []
        self._busy_checks: list[Callable[[], bool]] = [self._anyio_is_busy]
        self._thread_id: int | None = None
        self._stopping = False
        self._closed = False
        self._dead = False
        self._kill_at: int | None = None
        self._killed_by: Killed | None = None
        self._debug = False
        self._task_factory: Any = None
        self._exception_handler: Any = None
        self._asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()

    def __repr__(self) -> str:
        """The loop's state in one line."""
        state = "dead" if self._dead else "closed" if self._closed else "live"
        return f"<SimLoop {state} t={self._now:.6f} steps={self.steps}>"

    # Running and stopping

    def run_forever(self) -> None:
        """Run until `stop`.

        Raises:
            Killed: The life ended, before or now.
            SimDeadlock: Nothing can ever go on.
            ThreadsStuck: Real threads took longer than the limit.
        """
        self._check_open()
        if self._dead:
            raise Killed("this loop was killed before")
        if self._thread_id is not None:
            raise RuntimeError("This event loop is already running")
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._asyncgen_begins, finalizer=self._asyncgen_dropped)
        self._thread_id = threading.get_ident()
        asyncio._set_running_loop(self)
        try:
            while not self._stopping:
                self._run_once()
        finally:
            self._stopping = False
            self._thread_id = None
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """Run until the future is done and return its result. Raises as `run_forever`."""
        self._check_open()
        is_new = not asyncio.isfuture(future)
        waited: asyncio.Future[T] = asyncio.ensure_future(cast(Awaitable[T], future), loop=self)
        if is_new:
            cast(Any, waited)._log_destroy_pending = False
        waited.add_done_callback(_stop_when_done)
        try:
            self.run_forever()
        except BaseException:
            if is_new and waited.done() and not waited.cancelled():
                waited.exception()
            raise
        finally:
            waited.remove_done_callback(_stop_when_done)
        if not waited.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return waited.result()

    def stop(self) -> None:
        """End `run_forever` after the present pass."""
        self._stopping = True

    def is_running(self) -> bool:
        """Whether `run_forever` is on the stack."""
        return self._thread_id is not None

    def is_closed(self) -> bool:
        """Whether `close` was called. A killed loop is not closed."""
        return self._closed

    def close(self) -> None:
        """End the loop in the orderly way: no callback runs or may be added any more."""
        if self._thread_id is not None:
            raise RuntimeError("Cannot close a running event loop")
        if not self._dead:
            self._closed = True
            self._ready.clear()
            self._timers.clear()
            self._from_threads.clear()

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

    # The end of a life

    @property
    def is_dead(self) -> bool:
        """Whether the loop was killed."""
        return self._dead

    def kill(self) -> None:
        """End this life: no handle of the loop ever runs again.

        Nothing is cancelled, closed or destroyed: tasks, frames and handles stay referenced
        until the process ends, and calls to the loop do nothing. Called from inside a
        handle, the present step still runs to its end, and `run_forever` raises `Killed`
        right after it. Use `kill_after` to end a life between two steps.
        """
        if self._dead or self._closed:
            return
        with self._arrived:
            self._dead = True
            self._arrived.notify_all()
        bury(self, asyncio.all_tasks(self))
        for worker in self._anyio_workers():
            worker.stop()  # an idle one would keep the interpreter from ending

    def keep(self, victim: object) -> None:
        """Never drop this object, which no task or handle may hold: bodies that are no tasks."""
        bury(victim)

    def kill_after(self, steps: int) -> None:
        """Kill the loop once it has run this many more handles: a crash at a chosen point."""
        self._kill_at = self.steps + steps

    # Time and callbacks

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Run the callback in the next pass."""
        self._check_open()
        handle = asyncio.Handle(callback, args, self, context)
        if self._dead:
            bury(handle)
            return handle
        self._check_thread()
        self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run the callback after this many virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run the callback when `time()` reaches `when`; ties run in the order of the calls."""
        self._check_open()
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if self._dead:
            bury(timer)
            return timer
        self._check_thread()
        self._timers_set += 1
        heapq.heappush(self._timers, (when, self._timers_set, timer))
        cast(Any, timer)._scheduled = True
        return timer

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Run the callback on the loop's thread; may be called from any thread."""
        if self._thread_id == threading.get_ident():
            return self.call_soon(callback, *args, context=context)
        with self._arrived:
            self._check_open()
            handle = asyncio.Handle(callback, args, self, context)
            if self._dead:
                bury(handle)
            else:
                self._from_threads.append(handle)
                self._arrived.notify_all()
            return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if cast(Any, handle)._scheduled and not self._dead:
            self._timers_cancelled += 1

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

    # Real threads

    def thread_started(self) -> None:
        """Count one more real thread at work: the clock stands still. From any thread."""
        with self._arrived:
            self._threads += 1

    def thread_finished(self) -> None:
        """Count one thread less; call it after the thread's last `call_soon_threadsafe`."""
        with self._arrived:
            self._threads -= 1
            self._arrived.notify_all()

    def when_quiet(self) -> asyncio.Future[None]:
        """A future that is done when nothing is ready, no thread at work, before time moves."""
        future: asyncio.Future[None] = self.create_future()
        self._waiting_for_quiet.append(future)
        return future

    def add_busy_check(self, check: Callable[[], bool]) -> None:
        """Ask this before the clock moves: true means that a real thread is still at work.

        The answer may turn false only after the thread's last `call_soon_threadsafe`.
        anyio's worker threads and executors are known without a check.
        """
        self._busy_checks.append(check)

    def _anyio_workers(self) -> list[Any]:
        return [
            thread
            for thread in threading.enumerate()
            if getattr(thread, "loop", None) is self and hasattr(thread, "idle_workers")
        ]

    def _anyio_is_busy(self) -> bool:
        return any(
            not worker.stopping and worker not in worker.idle_workers
            for worker in self._anyio_workers()
        )

    def _wait_for_threads(self) -> bool:
        """Wait until a thread hands something over; False if none is at work."""
        give_up = time.monotonic() + self._threads_limit_s
        with self._arrived:
            while not self._from_threads:
                if self._dead or not (self._threads or any(check() for check in self._busy_checks)):
                    return False
                if time.monotonic() >= give_up:
                    raise ThreadsStuck(
                        f"real threads at work for more than {self._threads_limit_s} s\n"
                        + self._pending_tasks()
                    )
                self._arrived.wait(0.01)  # a busy check can turn false without a notice
            return True

    # One pass

    def _run_once(self) -> None:
        self._take_due_timers()
        self._passes_without_threads += 1
        if not self._ready or self._passes_without_threads > _PASSES_BEFORE_THREADS:
            self._take_from_threads()
        if not self._ready:
            self._wait()
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if handle.cancelled():
                continue
            if self.steps == self._kill_at:
                self._ready.appendleft(handle)
                self.kill()
            if not self._dead:
                self.steps += 1
                handle._run()
            if self._dead:
                raise self._killed_by or Killed(f"killed after {self.steps} steps")

    def _wait(self) -> None:
        if self._wait_for_threads():
            self._take_from_threads()
            return
        if self._dead:
            raise Killed(f"killed after {self.steps} steps")
        if self._waiting_for_quiet:
            waiting, self._waiting_for_quiet = self._waiting_for_quiet, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)
            return
        if not self._timers:
            raise SimDeadlock(
                "nothing is ready, no timer is set, no thread is at work\n" + self._pending_tasks()
            )
        self._now = max(self._now, self._timers[0][0])
        self._take_due_timers()

    def _take_due_timers(self) -> None:
        timers = self._timers
        if self._timers_cancelled > 100 and self._timers_cancelled * 2 > len(timers):
            timers[:] = [entry for entry in timers if not entry[2].cancelled()]
            heapq.heapify(timers)
            self._timers_cancelled = 0
        due = self._now + _CLOCK_RESOLUTION_S
        while timers and (timers[0][0] <= due or timers[0][2].cancelled()):
            timer = heapq.heappop(timers)[2]
            cast(Any, timer)._scheduled = False
            if timer.cancelled():
                self._timers_cancelled = max(0, self._timers_cancelled - 1)
            else:
                self._ready.append(timer)

    def _take_from_threads(self) -> None:
        self._passes_without_threads = 0
        with self._arrived:
            self._ready.extend(self._from_threads)
            self._from_threads.clear()

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

    def _pending_tasks(self) -> str:
        lines = sorted(
            f"  {task.get_name()}: {waiting_at(task)}" for task in asyncio.all_tasks(self)
        )
        return "\n".join(lines) or "  (no task is pending)"

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("Event loop is closed")

    def _check_thread(self) -> None:
        if self._thread_id is not None and self._thread_id != threading.get_ident():
            raise RuntimeError("called from another thread: use call_soon_threadsafe")

    def _asyncgen_begins(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.add(generator)

    def _asyncgen_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.discard(generator)
        if self._dead:
            bury(generator)
        elif not self._closed:
            self.call_soon_threadsafe(self.create_task, generator.aclose())


class SimClock:
    """The wall clock of a simulated machine: the loop's virtual time after `start_ms`."""

    __slots__ = ("_loop", "start_ms")

    def __init__(self, loop: asyncio.AbstractEventLoop, start_ms: int = 1_700_000_000_000) -> None:
        self._loop = loop
        self.start_ms = start_ms

    def now_ms(self) -> int:
        """Wall-clock time in milliseconds since the epoch; never less than before."""
        return self.start_ms + int(self._loop.time() * 1000 + 1e-3)  # 0.3 s may be 0.299999
