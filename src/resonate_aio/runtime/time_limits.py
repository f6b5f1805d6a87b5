"""`async with ctx.timeout(seconds)`: a time limit that a restart does not reset (S11a).

The limit itself is a promise with a deadline; its being reached is an input of the body, given
in its turn. What is here turns that into a cancel of the task, and the cancel into an error.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from types import FrameType, TracebackType
from typing import Any, Self

from .async_wait import AsyncWait
from .awaitables import DurableCall
from .refusals import Dying


class TimeLimit:
    """`async with ctx.timeout(seconds)`: a durable time limit (S11a)."""

    __slots__ = ("_baseline", "_call", "_counted", "_expired", "_site", "_task")

    def __init__(self, call: DurableCall[Any], site: FrameType) -> None:
        self._call = call
        self._site = site.f_code, site.f_lasti
        self._expired = False
        self._baseline = 0
        self._counted = 0
        self._task: asyncio.Task[Any] | None = None

    @property
    def id(self) -> str:
        """The id of the promise that holds the deadline."""
        return self._call.promise_id

    def expired(self) -> bool:
        """Whether the limit was reached."""
        return self._expired

    async def __aenter__(self) -> Self:
        home = self._call.home
        if home.is_dead:
            await Dying(home)
        self._call._check_caller()
        self._task = asyncio.current_task()
        self._baseline = self._task.cancelling() if self._task is not None else 0
        self._call.expired = self._expire
        self._call._code, self._call._instruction = self._site
        self._call.start()
        return self

    def _expire(self) -> None:
        if self._task is not None and not self._task.done():
            self._expired = True
            under_way = self._call.home.is_being_cancelled(self._task) or _is_woken(self._task)
            self._counted = self._baseline if under_way else self._task.cancelling()
            self._call.home.limit_expires(self._task, self._task.cancelling())
            try:
                self._task.cancel()
            finally:
                self._call.home.is_limiting = False

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool | None:
        self._call.expired = None
        if self._expired and self._task is not None:
            left = self._task.uncancel()
            if exc_type is CancelledError and (
                # Up to Python 3.12 a failing TaskGroup leaves its own cancel counted: that one
                # is over, if what ended the block came into no other cancel.
                left <= self._baseline or (left <= self._counted and not _came_into_another(exc))
            ):
                raise TimeoutError(f"time limit {self._call.id!r} was reached") from exc
            return None
        if not self._call.home.is_dead:
            self._call.home.scheduler.asking.end_time_limit(self._call)
        return None


def _is_woken(task: Any) -> bool:
    """Whether the task is about to go on: a cancel may be why."""
    waiter = task._fut_waiter
    if isinstance(waiter, AsyncWait):
        return False  # of its cancels the body knows
    if waiter is None or task._must_cancel or waiter.done():
        return True
    if isinstance(waiter, asyncio.Task):
        return waiter.cancelling() > 0
    return bool(getattr(waiter, "_cancel_requested", False))


def _came_into_another(error: BaseException | None) -> bool:
    """Whether this cancel interrupted the cleaning up after another one."""
    below = error.__context__ if error is not None else None
    while below is not None:
        if isinstance(below, CancelledError):
            return True
        below = below.__context__
    return False
