"""What a log is told of a connection that fails: that it began, that it lasts, that it is over.

Each of them once: an outage that lasts is named again each minute, the end of one is said if
and only if the outage was. Trouble that passes at once, again and again, is worth one line a
minute, not one each time. Pure: time comes in, the log is the caller's.
"""

from __future__ import annotations

from typing import Final

AGAIN_S: Final = 60.0
"""What lies at least between two lines about trouble, unless it lasts."""

_IN_A_ROW: Final = 3
"""So many failures without a success between them are more than trouble that passes."""


class UnreachableError(ConnectionError):
    """No server answers, and the log was told by whoever keeps the connection: not once more."""


class Outage:
    """One connection, or one pool of them, as the log sees it."""

    __slots__ = ("_failures", "_is_said", "_said_s")

    def __init__(self) -> None:
        self._failures = 0
        self._is_said = False
        self._said_s: float | None = None

    @property
    def is_said(self) -> bool:
        """Whether the log says that it lasts."""
        return self._is_said

    def failed(self, now_s: float) -> bool:
        """One more failure; whether it is worth a line.

        Args:
            now_s: The time, in seconds from whenever.
        """
        self._failures += 1
        is_due = self._said_s is None or now_s - self._said_s >= AGAIN_S
        lasts = not self._is_said and self._failures >= _IN_A_ROW
        if not (is_due or lasts):
            return False
        self._is_said, self._said_s = True, now_s
        return True

    def worked(self) -> bool:
        """It works; whether that is worth a line, because the log said that it did not."""
        self._failures = 0
        was_said, self._is_said = self._is_said, False
        return was_said
