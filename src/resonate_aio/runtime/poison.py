"""Executions that cannot run here for now: put aside with a growing delay (S42)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

from .settings import Settings

_REMEMBERED = 10_000


class Poison:
    """Which ids are put aside, until when, and what was already said about them."""

    __slots__ = ("_delays", "_loop", "_said", "_settings", "_timers")

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
        self._loop = loop
        self._settings = settings
        self._delays: dict[str, float] = {}
        self._timers: dict[str, tuple[asyncio.TimerHandle, Callable[[str], None]]] = {}
        self._said: dict[Hashable, None] = {}

    def is_set_aside(self, id: str) -> bool:
        """Whether messages for this id are ignored for now."""
        return id in self._timers

    def set_aside(self, id: str, again: Callable[[str], None]) -> float:
        """Ignore the id for a while (1 s, doubling to 5 min), then call `again`."""
        before = self._delays.pop(id, 0.0)
        delay_s = min(before * 2 or self._settings.poison_first_s, self._settings.poison_most_s)
        self._delays[id] = delay_s
        while len(self._delays) > _REMEMBERED:
            del self._delays[next(iter(self._delays))]
        if id in self._timers:
            self._timers[id][0].cancel()
        timer = self._loop.call_later(delay_s, self._due, id)
        self._timers[id] = (timer, again)
        return delay_s

    def is_news(self, reason: Hashable) -> bool:
        """Whether this reason was not logged yet: once is enough, however often it is met."""
        if reason in self._said:
            return False
        self._said[reason] = None
        while len(self._said) > _REMEMBERED:
            del self._said[next(iter(self._said))]
        return True

    def retry_all(self) -> None:
        """Something changed (a function was registered): try everything again now."""
        self._delays.clear()
        for id, (timer, again) in list(self._timers.items()):
            timer.cancel()
            del self._timers[id]
            self._loop.call_soon(again, id)

    def clear(self) -> None:
        """Forget all timers."""
        for timer, _ in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _due(self, id: str) -> None:
        _, again = self._timers.pop(id)
        again(id)
