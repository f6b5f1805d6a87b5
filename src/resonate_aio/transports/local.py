"""Messages from a store in the same process."""

from __future__ import annotations

from collections.abc import Callable

from ..protocol.requests import Message
from ..stores.base import Store


class LocalMessages:
    """The messages of an in-process store, as a message source.

    Args:
        store: An open store.
    """

    __slots__ = ("_leave", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._leave: Callable[[], None] | None = None

    async def start(
        self,
        group: str,
        pid: str,
        deliver: Callable[[Message], None],
        connected: Callable[[], None] | None = None,
    ) -> None:
        """Begin to deliver; pending tasks this address can take are delivered at once."""
        await self.stop()
        self._leave = self._store.subscribe(group, pid, deliver)
        if connected is not None:
            connected()

    async def stop(self) -> None:
        """Deliver nothing any more. Idempotent."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()
