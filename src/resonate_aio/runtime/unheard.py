"""Executions that failed while nobody here awaited them: the log hears of it, or nobody does.

A traceback is not stored, and of what a schedule or another process started there may be no
handle at all. Whose handle is awaited gets the error raised, and it is in no log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..protocol.failures import outcome_error, shown_error
from ..protocol.records import Promise
from .held import Held

logger = logging.getLogger("resonate_aio.runtime")


IsHeard = Callable[[], bool]
"""Whether somebody waits for what a handle tells, or was told."""

Listeners = Callable[[str], list[IsHeard]]


class Unheard:
    """Warns of failed executions.

    Args:
        listeners: The handles of an execution at this moment: who is told of its end.
        is_watched: Whether a function that runs here asked for the execution: that warns itself.
    """

    __slots__ = ("_failing", "_is_watched", "_listeners", "_loop")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listeners: Listeners,
        is_watched: Callable[[str], bool],
    ) -> None:
        self._loop = loop
        self._listeners = listeners
        self._is_watched = is_watched
        self._failing: dict[str, list[IsHeard] | None] = {}

    def told(self, id: str, error: BaseException) -> str:
        """What the log says of an error that stops it: in short where it is raised to somebody."""
        if any(is_heard() for is_heard in self._listeners(id)):
            return f"{type(error).__name__}, as those who await it are told"
        return str(error)

    def failing(self, id: str) -> None:
        """Its failure is about to be recorded; a store may tell the listeners before us."""
        self._failing[id] = None if self._is_watched(id) else self._listeners(id)

    def forget(self, id: str) -> None:
        """It does not end here, whatever its function did."""
        self._failing.pop(id, None)

    def failed(self, execution: Held, record: Promise, error: BaseException | None) -> None:
        """The failure is recorded, and the listeners are told.

        Args:
            error: What the function raised; what is recorded where absent.
        """
        told = self._failing.pop(record.id, None)
        if told is not None:  # who was told gets a pass of the loop to hear it
            error = error if error is not None else outcome_error(record)
            self._loop.call_soon(self._warn, execution, error, told)

    @staticmethod
    def _warn(execution: Held, error: BaseException, told: list[IsHeard]) -> None:
        if any(is_heard() for is_heard in told):
            return
        logger.warning(
            "%r (%s) failed and nobody here awaits it: %s",
            execution.id,
            execution.callee.name,
            shown_error(error),
            extra={"id": execution.id},
        )
