"""What the server needs of a store beyond the seam that workers use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..protocol.requests import Message
from ..stores.base import Store


class EmbeddableStore(Store, Protocol):
    """A store inside this process: memory, or one SQLite file."""

    @property
    def scheduled(self) -> int:
        """How many promises schedules created since it was opened; never stored."""
        ...

    def forward(
        self, takes: Callable[[str], bool], send: Callable[[str, Message], None]
    ) -> Callable[[], None]:
        """Receive, with their addresses, the messages that no subscriber takes.

        Pending tasks whose target satisfies `takes` are delivered at once.

        Returns:
            A function that ends this; calling it twice does no harm.
        """
        ...
