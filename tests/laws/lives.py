"""Lives of one program whose code may differ from life to life."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from resonate_aio import Resonate
from resonate_aio.runtime.settings import Settings
from resonate_aio.testing.theatre import MemoryStage, Theatre

Main = Callable[[Resonate], Awaitable[Any]]


class Lives:
    """A process that is started again and again on one memory store, in virtual time."""

    def __init__(self, *, settings: Settings | None = None) -> None:
        self._theatre = Theatre(_nothing, MemoryStage(), settings=settings)

    def run(self, main: Main) -> Any:
        """A life that ends in order, and its result."""
        life = self._theatre.life(None, main)
        assert not life.crashed
        return life.result

    def crash(self, main: Main) -> None:
        """A life whose main must end in `die()`."""
        assert self._theatre.life(None, main).crashed


async def _nothing(resonate: Resonate) -> None: ...


async def die(after_s: float = 100.0) -> NoReturn:
    """Let everything run for a while, then end the process as `kill -9` does."""
    await asyncio.sleep(after_s)
    loop: Any = asyncio.get_running_loop()
    loop.kill()
    await asyncio.sleep(0)
    raise AssertionError("a dead loop runs nothing")


def once(main: Main, *, settings: Settings | None = None) -> Any:
    """One orderly life of a program on a store of its own, and its result."""
    return Lives(settings=settings).run(main)
