"""What leaves after a commit: acknowledgements, replies and messages, in the order of batches.

Each may drive a function on, so they are let out a slice of the loop's time at a time (law 15).
This file decides nothing and knows no machine.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from ...clock import Clock, ticks_of
from ..hub import Hub
from .changes import Changes

_SLICE_S: Final = 0.001


class Outgoing:
    """The batches whose commits are over and which not everybody was told of.

    Args:
        hub: Where messages go.
        clock: What measures a slice.
    """

    __slots__ = ("_batches", "_following", "_hub", "_loop", "_ticks")

    def __init__(self, hub: Hub, clock: Clock) -> None:
        self._hub = hub
        self._ticks = ticks_of(clock)
        self._batches: deque[Changes] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._following: list[Callable[[], None]] | None = None

    @property
    def last(self) -> Changes | None:
        """The batch that is told of last; None: everybody was told."""
        return self._batches[-1] if self._batches else None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell from callbacks of this loop."""
        self._loop = loop

    def close(self) -> None:
        """Nobody is told any more: at a kill there may be some who were not."""
        self._loop = None
        self._batches.clear()

    def publish(self, batch: Changes) -> None:
        """Let out what the batch covers, after what earlier ones cover."""
        self._batches.append(batch)
        if len(self._batches) == 1:
            self._let_out()

    def afterwards(self, callback: Callable[[], None]) -> bool:
        """Call back at the end of what is told now; False: nothing is."""
        if self._following is None:
            return False
        self._following.append(callback)
        return True

    def _let_out(self) -> None:
        """Let out as much as one pass of the loop may take."""
        batches, loop = self._batches, self._loop
        if loop is None or not batches:
            return
        batch = batches[0]
        following: list[Callable[[], None]] = []
        self._following = following
        try:
            # What it tells may kill: then there is nothing left.
            if batch.tell(_SLICE_S, self._ticks) and batches:
                for address, message in batch.messages:
                    self._hub.send(address, message)
                batches.popleft()
            self._following = None
            while following:
                following.pop(0)()
        finally:  # a signal handler may raise anywhere in it
            self._following = None
            if batches:
                loop.call_soon(self._let_out)
            for callback in following:
                loop.call_soon(callback)
