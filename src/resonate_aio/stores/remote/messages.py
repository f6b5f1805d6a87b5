"""The message sources of a remote store: started, left and stopped without being waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context as ContextVars
from typing import TYPE_CHECKING

from ...protocol.requests import Message

if TYPE_CHECKING:
    from ...transports.base import MessageSource


class RemoteMessages:
    """The sources that a store listens to.

    Args:
        make_source: Makes one.
    """

    def __init__(self, make_source: Callable[[], MessageSource]) -> None:
        self._make_source = make_source
        self._sources: dict[MessageSource, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def listen(
        self,
        group: str,
        pid: str,
        heard: Callable[[Message], None],
        connected: Callable[[], None],
    ) -> Callable[[], None]:
        """Hear messages for this group and pid.

        Returns:
            A function that ends this; calling it twice does no harm.
        """
        loop = asyncio.get_running_loop()
        source = self._make_source()
        start = source.start(group, pid, heard, connected)
        self._sources[source] = loop.create_task(start, context=ContextVars())

        def leave() -> None:
            if source in self._sources and not loop.is_closed():
                left = loop.create_task(self._end(source), context=ContextVars())
                self._leaving.add(left)
                left.add_done_callback(self._leaving.discard)

        return leave

    async def _end(self, source: MessageSource) -> None:
        started = self._sources.get(source)
        if started is None:
            return
        started.cancel()
        await asyncio.gather(started, return_exceptions=True)
        await source.stop()
        self._sources.pop(source, None)  # not before: it may be cut

    async def stop(self) -> None:
        """End every source; everything is closed on return."""
        await asyncio.gather(*self._leaving, return_exceptions=True)
        for source in list(self._sources):
            await self._end(source)
