"""What the log says while a command waits for a server, in the words of the command line.

What is said is held back until the command knows whether it waits or ends: who waits is told
at once what for, who does not gets the error alone.
"""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Final, Self

from .output import escaped, in_options, note

_OURS: Final = "resonate_aio"
_OF_CONNECTIONS: Final = f"{_OURS}.stores.http"


class Trouble(logging.Handler):
    """What is wrong with the server, while the `with` lasts.

    Attributes:
        begun: Set once there is trouble.
        is_shown: Whether somebody was told of it.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.begun = asyncio.Event()
        self.is_shown = False
        self._held: list[str] = []
        self._before = (True, logging.NOTSET)

    def __enter__(self) -> Self:
        logger = logging.getLogger(_OURS)
        self._before = logger.propagate, logger.level
        logger.propagate = False
        logger.setLevel(logging.WARNING)
        logger.addHandler(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        logger = logging.getLogger(_OURS)
        logger.removeHandler(self)
        logger.propagate, level = self._before
        logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Show it, or hold it back."""
        if record.levelno < logging.ERROR and record.name != _OF_CONNECTIONS:
            return
        told = f"Note: {escaped(in_options(record.getMessage()))}"
        if self.is_shown:
            note(told)
        else:
            self._held.append(told)
        self.begun.set()

    def show(self, limit: str) -> None:
        """Show what is held back, and everything from now on at once.

        Args:
            limit: How long it is waited for, if that is known: ends the first line.
        """
        self.is_shown = True
        for place, told in enumerate(self._held):
            note(told if place else told + limit)
        self._held.clear()
