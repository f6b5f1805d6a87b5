"""Where a user's asyncio task is suspended: in the shape of a future.

It stands where asyncio expects one, so that the scheduler can wake a task in place and see every
cancel with the context it came from (S10). Nothing else suspends a task of a body.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections.abc import Callable
from contextvars import Context as ContextVars
from typing import TYPE_CHECKING, Any, Final

from ..errors import ContextMisuseError
from ..execution.call import Wait
from .refusals import by_hand

if TYPE_CHECKING:
    from .awaitables import DurableCall
    from .bodies import LiveBody

_DYING: Final = CancelledError()  # a mark, never raised
_NO_ERROR: Final[Callable[[], None]] = {}.clear  # a builtin that does nothing


class AsyncWait(Wait):
    """One asyncio task suspended on a call, in the shape of a future."""

    # asyncio takes `_loop` where there is no `get_loop()`, and calls `result`, whatever it is: two
    # frames less at every wait.
    __slots__ = (
        "_asyncio_future_blocking",
        "_context",
        "_error",
        "_loop",
        "_wakeup",
        "body",
        "result",
        "task",
    )

    def __init__(
        self, call: DurableCall[Any], body: LiveBody, direct: bool, task: asyncio.Task[Any] | None
    ) -> None:
        self.call = call
        self.direct = direct
        self.interrupted = False
        self.passed_on = False
        self.message = None
        call.waited = self.number = call.waited + 1
        self._asyncio_future_blocking = True
        self.result: Callable[[], None] = _NO_ERROR
        self.body = body
        self._loop = body.scheduler.loop
        self.task = task

    def add_done_callback(
        self, wakeup: Callable[[Any], object], *, context: ContextVars | None = None
    ) -> None:
        """Called by the task that suspends."""
        self._wakeup = wakeup
        self._context = context

    def cancel(self, msg: object = None) -> bool:
        """Called by `Task.cancel`: the scheduler decides when the cancel is let through."""
        self.body.scheduler.interrupts.cancel_arrived(self, msg)
        return True

    def fails(self, error: BaseException) -> None:
        """What its task is given when it goes on."""
        self._error: BaseException | None = error
        self.result = self._raise

    def _raise(self) -> None:
        error, self._error, self.result = self._error, None, _NO_ERROR
        assert error is not None  # set by `fails`
        try:
            raise error
        finally:
            del error  # its traceback holds this frame

    def go_on(self) -> None:
        """Let its task go on, in place."""
        try:
            context = self._context
        except AttributeError:
            raise ContextMisuseError(by_hand(self.call.id)) from None
        if context is not None:
            context.run(self._wakeup, self)
        else:
            self._wakeup(self)

    @property
    def is_waited_for(self) -> bool:
        """Whether its task is suspended on it, whatever became of it."""
        task: Any = self.task
        return task is not None and task._fut_waiter is self

    def dies(self) -> bool:
        """Its task is to die: whether that is news."""
        is_news = self.result is _NO_ERROR
        self.fails(_DYING)
        return is_news

    def let_go(self) -> None:
        """Its task has died: nothing is left to wait for the garbage collector."""
        self.task = self._context = None
        self._wakeup = _nothing


def _nothing(_: Any) -> None:
    """A task that went on is not woken again."""
