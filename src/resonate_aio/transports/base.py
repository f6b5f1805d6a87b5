"""The seam between a worker and where its messages come from (S53).

An in-process store is its own message source. Remote stores are given one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

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


class BlockingMessageSource(Protocol):
    """A message source of SDK release 0.6.7: it comes with a store of that release (C16)."""

    @property
    def unicast(self) -> str:
        """The address of this process alone."""
        ...

    @property
    def anycast(self) -> str:
        """The address of this process, or of another of its group where it is gone."""
        ...

    def start(self) -> None:
        """Begin to receive."""
        ...

    def stop(self) -> None:
        """End: a `next` that waits returns None."""
        ...

    def next(self) -> Any:
        """Wait for a message; None once it was stopped."""
        ...
