"""Retention: deleting executions that ended long ago, while the client runs (S45)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context as ContextVars
from typing import Any

from ..clock import Clock
from ..errors import UsageError
from ..stores.base import Store

logger = logging.getLogger("resonate_aio.client")

_SHORTEST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 3_600.0
_SHARE = 0.1


class Retention:
    """Deletes from a store what settled longer ago than it is to be kept.

    Looks again after a tenth of that span (at least a second, at most an hour): so much
    longer than asked for may a record stay.

    Args:
        store: Where the executions are.
        clock: Where the time is read.

    Attributes:
        keep_s: Seconds that an ended execution is kept; None keeps all for ever.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self.keep_s: float | None = None
        self._store = store
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def limit(self, keep_s: float | None) -> None:
        """Keep ended executions for so long from now on; None for ever.

        Raises:
            UsageError: The store does not delete: a server has a retention of its own.
        """
        if keep_s is not None:
            self._pruning()
        self.keep_s = keep_s

    def start(self) -> None:
        """Begin to delete, if there is a limit."""
        if self.keep_s is not None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(
                self._run(self.keep_s), name="resonate_aio retention", context=ContextVars()
            )

    def stop(self) -> list[asyncio.Task[None]]:
        """Delete nothing any more; returns what is about to end."""
        task = self._task
        if task is None or task.done() or task.get_loop().is_closed():
            return []
        task.cancel()
        return [task]

    async def prune(self, older_than_s: float) -> int:
        """Delete whole executions that ended longer ago than this; returns how many.

        Raises:
            UsageError: The store does not delete: a server has a retention of its own.
        """
        return await self._pruning()(self._clock.now_ms() - int(older_than_s * 1000))

    def _pruning(self) -> Callable[[int], Awaitable[int]]:
        store: Any = self._store
        if not hasattr(store, "prune"):
            raise UsageError(
                f"a {type(store).__name__} deletes nothing on request: retention= is for memory "
                "and SQLite, a server has its own"
            )
        prune: Callable[[int], Awaitable[int]] = store.prune
        return prune

    async def _run(self, keep_s: float) -> None:
        pause_s = min(max(keep_s * _SHARE, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
        while True:
            try:
                deleted = await self.prune(keep_s)
            except Exception:
                logger.exception("old executions could not be deleted; trying again")
            else:
                if deleted:
                    logger.info("deleted %d executions that ended %g s ago", deleted, keep_s)
            await asyncio.sleep(pause_s)
