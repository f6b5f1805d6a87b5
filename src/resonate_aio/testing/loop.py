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
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar, TypeVarTuple, cast

from .arrivals import Arrivals
from .clock import SimClock
from .endings import Killed, SimDeadlock, ThreadsStuck
from .graveyard import bury, waiting_at
from .surface import LoopSurface
from .timers import Timers

__all__ = ["Killed", "SimClock", "SimDeadlock", "SimLoop", "ThreadsStuck"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Not an own function: anyio finds the root task of a loop by this very callback.
_stop_when_done = cast(Any, asyncio.base_events)._run_until_complete_cb

_PASSES_BEFORE_THREADS = 100

_PASSES_AT_ONE_TIME = 10_000
_PASS_S = 1e-5
"""What a pass of a loop takes that does not come to rest, as when anyio cancels again and again."""
"""A program that spins on the loop gets what its threads hand over after this many passes."""


class SimLoop(LoopSurface):
    """An asyncio event loop on virtual time, without a selector, that can be killed.

    Args:
        start_s: What `time()` says at first; give a new life its predecessor's time.
        threads_limit_s: Real seconds to wait for real threads before `ThreadsStuck`.
    """

    slow_callback_duration = 0.1

    def __init__(self, *, start_s: float = 0.0, threads_limit_s: float = 30.0) -> None:
        super().__init__()
        self.steps = 0
        self._now = start_s
        self._ready: deque[asyncio.Handle] = deque()
        self._timers = Timers()
        self._arrivals = Arrivals(self, threads_limit_s)
        self._passes_without_threads = 0
        self._passes_at_one_time = 0
        self._waiting_for_quiet: list[asyncio.Future[None]] = []
        self._stuck_check: Callable[[list[asyncio.TimerHandle]], str] | None = None
        self._thread_id: int | None = None
        self._stopping = False
        self._kill_at: int | None = None

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
            self._arrivals.clear()

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
        with self._arrivals.condition:
            self._dead = True
            self._arrivals.condition.notify_all()
        bury(self, asyncio.all_tasks(self))
        for worker in self._arrivals.anyio_workers():
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
        self._timers.add(timer)
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
        with self._arrivals.condition:
            self._check_open()
            handle = asyncio.Handle(callback, args, self, context)
            if self._dead:
                bury(handle)
            else:
                self._arrivals.add(handle)
            return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if cast(Any, handle)._scheduled and not self._dead:
            self._timers.cancelled()

    # Real threads

    def thread_started(self) -> None:
        """Count one more real thread at work: the clock stands still. From any thread."""
        self._arrivals.thread_started()

    def thread_finished(self) -> None:
        """Count one thread less; call it after the thread's last `call_soon_threadsafe`."""
        self._arrivals.thread_finished()

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
        self._arrivals.add_busy_check(check)

    def set_stuck_check(self, check: Callable[[list[asyncio.TimerHandle]], str] | None) -> None:
        """Ask this, with the timers that are set, before the clock moves; None: nothing.

        What it says, if anything, is why nothing that anybody waits for will ever come, though
        timers are set: `SimDeadlock`.
        """
        self._stuck_check = check

    # One pass

    def _run_once(self) -> None:
        self._passes_at_one_time += 1
        if self._passes_at_one_time > _PASSES_AT_ONE_TIME:
            self._now += _PASS_S
        self._ready.extend(self._timers.take_due(self._now))
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
        if self._arrivals.wait(lambda: self._dead, self._pending_tasks):
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
        if self._stuck_check is not None:
            timers = [timer for _, _, timer in self._timers if not timer.cancelled()]
            why = self._stuck_check(timers)
            if why:
                raise SimDeadlock(f"{why}\n{self._pending_tasks()}")
        self._now = max(self._now, self._timers.first_at())
        self._passes_at_one_time = 0
        self._ready.extend(self._timers.take_due(self._now))

    def _take_from_threads(self) -> None:
        self._passes_without_threads = 0
        self._arrivals.take_into(self._ready)

    def _pending_tasks(self) -> str:
        lines = sorted(
            f"  {task.get_name()}: {waiting_at(task)}" for task in asyncio.all_tasks(self)
        )
        return "\n".join(lines) or "  (no task is pending)"

    def _check_thread(self) -> None:
        if self._thread_id is not None and self._thread_id != threading.get_ident():
            raise RuntimeError("called from another thread: use call_soon_threadsafe")
