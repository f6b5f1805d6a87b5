"""The seam between a worker and where its messages come from (S53).

An in-process store is its own message source. Remote stores are given one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..protocol.requests import Message


class MessageSource(Protocol):
    """Delivers execute and unblock messages for one group and pid."""

    async def start(
        self,
        group: str,
        pid: str,
        deliver: Callable[[Message], None],
        connected: Callable[[], None] | None = None,
    ) -> None:
        """Begin to deliver, from the event loop.

        Args:
            connected: Called each time messages begin to come (again): whatever was sent
                before that is lost, so listeners are to be registered anew.
        """
        ...

    async def stop(self) -> None:
        """Deliver nothing any more; everything of ours is closed on return."""
        ...
