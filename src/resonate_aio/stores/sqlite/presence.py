"""Whether the file that is open is still the one at its path.

A file that is deleted or replaced while it is open stays writable until it is closed, and
nobody ever finds again what is written to it. It is looked at after commits, before those who
wait for them are told, and once a second at most: the look costs a commit's thread its turn.
"""

from __future__ import annotations

import os
import time
from typing import Final

from ...errors import ResonateStoreError

LOOK_S: Final = 1.0
"""Between two looks."""


class Presence:
    """The identity of an open file. Everything here blocks: for the writer's thread."""

    __slots__ = ("_due_s", "_identity", "_path", "is_gone")

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity: tuple[int, int] | None = None
        self._due_s = 0.0
        self.is_gone = False
        """Whether a look found that, which was raised."""

    def opened(self) -> None:
        """The file at the path is the one that is open."""
        self._identity = self._found()
        self._due_s = time.monotonic() + LOOK_S

    def check(self) -> None:
        """Look, if that was not done within the last second.

        Raises:
            ResonateStoreError: Another file, or none, is at the path.
        """
        if time.monotonic() >= self._due_s:
            self.look()

    def look(self) -> None:
        """Look now; an absence is found again by each look that follows.

        Raises:
            ResonateStoreError: Another file, or none, is at the path.
        """
        found = self._found()
        if found != self._identity:
            self._due_s, self.is_gone = 0.0, True
            happened = "deleted or moved" if found is None else "replaced by another"
            raise ResonateStoreError(
                f"the file was {happened} while this program has it open, and what was recorded "
                "since is lost with it: stop the program before you touch its file, and start it "
                "again now"
            )
        self._due_s = time.monotonic() + LOOK_S

    def _found(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # who may not look knows nothing
            return self._identity
        return status.st_dev, status.st_ino
