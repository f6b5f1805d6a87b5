"""Starting and stopping a client, one after the other and never by halves.

Each start and stop runs in a task of its own, so that cancelling whoever asked for it, or
asking from inside a durable function, leaves nothing half done. Where all tasks of the loop are
cancelled, a start is undone and a stop goes on (`uncut`). A loop that was closed took all that
ran on it along: what is left then is dropped as by a crash. This file knows nothing of what is
started.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextvars import Context as ContextVars
from functools import partial
from typing import Any

from ..errors import (
    ResonateShutdownError,
    ResonateStoreError,
    StoreOwnedError,
    StoreSchemaError,
    UsageError,
)
from ..runtime.worker import Worker
from ..uncut import uncut

Move = Callable[[], Coroutine[Any, Any, None]]


class Life:
    """The part of a client that knows whether it runs, and on which event loop."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._ending: Worker | None = None
        """What ran until the stop that is under way, or was cut, began."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._moving: asyncio.Task[None] | None = None
        self._process = 0
        self._is_stopping = False
        self.grace_s: float | None = None
        """How long a stop lets functions that execute go on; None: as the worker is set."""
        self._stop_grace_s: float | None = None

    @property
    def is_started(self) -> bool:
        """Whether the client takes work on a loop."""
        return self._worker is not None

    @property
    def worker(self) -> Worker | None:
        """The running worker, if the client is started."""
        return self._worker

    @property
    def running_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop the client runs on; None unless it does."""
        loop = self._loop
        return loop if self._worker is not None and loop is not None and loop.is_running() else None

    async def start(self) -> None:
        """Start unless started, after a stop that is under way."""
        self._is_stopping = False
        await self.ensure_started()

    async def ensure_started(self) -> None:
        """Start unless started; on another loop than before, start there.

        Raises:
            ResonateShutdownError: A stop is under way.
        """
        if self._is_stopping and self._loop is asyncio.get_running_loop():
            raise ResonateShutdownError(
                "the client is being stopped: nothing was asked of it; start it again first"
            )
        if self._worker is not None and self._moving is None:
            self._check_loop()
            if self._worker is not None:
                return
        try:
            await self._move(self._start)
        except (StoreOwnedError, StoreSchemaError) as error:
            # Refusals whose message says all: a dozen frames of ours would only hide it.
            raise error.with_traceback(None)  # noqa: B904  it is the same error

    async def stop(self, grace_s: float | None = None) -> None:
        """Stop unless stopped; functions that execute may go on for so long."""
        if not self._is_at_rest:
            self._check_loop()
        if self._is_at_rest:
            await self._stop_waiting()
            return
        if not self._is_stopping:
            self._stop_grace_s = self.grace_s if grace_s is None else grace_s
        self._is_stopping = True
        await self._move(self._stop)

    @property
    def _is_at_rest(self) -> bool:
        """Whether nothing runs, nothing is under way, and no stop was given up half-way."""
        return self._worker is None and self._ending is None and self._moving is None

    async def _start(self) -> None:
        """Start what has to run."""
        raise NotImplementedError

    async def _stop(self) -> None:
        """Stop it, or go on stopping where that was cut before."""
        raise NotImplementedError

    async def _stop_waiting(self) -> None:
        """Refuse what was asked of a client that has not begun to start for it."""
        raise NotImplementedError

    def _lost(self, why: str) -> None:
        """The loop was closed without a stop: nothing of it can be used any more."""
        raise NotImplementedError

    def _check_loop(self) -> None:
        """See that we are where the client runs; at rest from now on, if that loop was closed."""
        loop = self._loop
        if loop is None or loop is asyncio.get_running_loop():
            return
        if loop.is_closed():
            # asyncio.run ended without stop().
            self._worker = self._ending = None
            self._moving = None
            self._is_stopping = False
            self._lost("its event loop was closed")
            return
        if self._process != os.getpid():
            raise ResonateStoreError(
                "this client was started before a fork, in the parent process, and does not "
                "survive it: make one in each process (multiprocessing: the `spawn` method)"
            )
        raise UsageError(
            "this client runs on another event loop: use it there, or make one client per loop "
            "(from a thread: resonate.blocking())"
        )

    async def _move(self, move: Move) -> None:
        """Run a start or stop after the one under way; the caller may be cancelled safely."""
        if not self._is_at_rest:
            self._check_loop()
        self._loop = loop = asyncio.get_running_loop()
        self._process = os.getpid()
        work = partial(_after, self._moving, move)
        task = outside(loop, work()) if move == self._start else uncut(loop, work)
        self._moving = task
        task.add_done_callback(self._moved)
        await asyncio.shield(task)

    def _moved(self, task: asyncio.Task[None]) -> None:
        if self._moving is task:
            self._moving = None
            self._is_stopping = False


async def _after(before: asyncio.Task[None] | None, move: Move) -> None:
    if before is not None:
        await asyncio.wait([before])
    await move()


def outside(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task of ours, in a context of its own: no durable function's stamp, no branch."""
    return loop.create_task(work, context=ContextVars())
