"""What real threads hand over to a simulated loop, and whether one is still at work.

Virtual time must not pass while a real thread works: its result would come too late. anyio's
worker threads are known by their looks, executors by being counted, others by a check that
the loop's user adds.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .endings import ThreadsStuck

_NOTICE_S = 0.01
"""How long to wait at a time: a busy check can turn false without a notice."""


class Arrivals:
    """Handles that came from other threads, and who may bring more.

    Args:
        loop: The loop they arrive at.
        limit_s: Real seconds to wait for threads at work.
    """

    __slots__ = ("_at_work", "_busy_checks", "_handles", "_limit_s", "_loop", "condition")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_s: float) -> None:
        self.condition = threading.Condition()
        self._loop = loop
        self._limit_s = limit_s
        self._handles: deque[asyncio.Handle] = deque()
        self._at_work = 0
        self._busy_checks: list[Callable[[], bool]] = [self._anyio_is_busy]

    def add(self, handle: asyncio.Handle) -> None:
        """One more; the caller holds the condition."""
        self._handles.append(handle)
        self.condition.notify_all()

    def take_into(self, ready: deque[asyncio.Handle]) -> None:
        """Move what has arrived to the end of `ready`."""
        with self.condition:
            ready.extend(self._handles)
            self._handles.clear()

    def clear(self) -> None:
        """Forget what has arrived."""
        self._handles.clear()

    def thread_started(self) -> None:
        """Count one more thread at work."""
        with self.condition:
            self._at_work += 1

    def thread_finished(self) -> None:
        """Count one thread less."""
        with self.condition:
            self._at_work -= 1
            self.condition.notify_all()

    def add_busy_check(self, check: Callable[[], bool]) -> None:
        """Ask this, too, whether a thread is at work."""
        self._busy_checks.append(check)

    def wait(self, is_dead: Callable[[], bool], pending: Callable[[], str]) -> bool:
        """Wait until a thread hands something over; False if none is at work.

        Args:
            is_dead: Whether the loop was killed meanwhile: then nobody waits.
            pending: Says what the loop's tasks wait for.

        Raises:
            ThreadsStuck: They took longer than the limit.
        """
        give_up = time.monotonic() + self._limit_s
        with self.condition:
            while not self._handles:
                if is_dead() or not (self._at_work or any(busy() for busy in self._busy_checks)):
                    return False
                if time.monotonic() >= give_up:
                    raise ThreadsStuck(
                        f"real threads at work for more than {self._limit_s} s\n" + pending()
                    )
                self.condition.wait(_NOTICE_S)
            return True

    def anyio_workers(self) -> list[Any]:
        """The worker threads of anyio that belong to this loop."""
        return [
            thread
            for thread in threading.enumerate()
            if getattr(thread, "loop", None) is self._loop and hasattr(thread, "idle_workers")
        ]

    def _anyio_is_busy(self) -> bool:
        return any(
            not worker.stopping and worker not in worker.idle_workers
            for worker in self.anyio_workers()
        )
