"""Work that must not end half-way: to stop, to close.

Cancelling whoever waits for it is one thing: it waits for a task of its own. But where every
task of the loop is cancelled (`asyncio.run` does so at its end, after Ctrl-C too), that task is
among them. Then the work is begun anew, which it has to allow; since `asyncio.run` waits for
what it cancelled, it comes to its end there as well. This file knows nothing of the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, Final

_CUTS: Final = 3
"""How often work is begun anew: who cancels everything in every pass wins in the end."""

Work = Callable[[], Coroutine[Any, Any, None]]


def uncut(loop: asyncio.AbstractEventLoop, work: Work) -> asyncio.Task[None]:
    """A task that carries the work to its end, though it may be cancelled.

    Args:
        work: Makes a coroutine that does it, or what is left of it when it was cut. It runs in
            a context of its own: no durable function's stamp, no branch.

    Returns:
        The task, for `asyncio.shield`: it ends as the work does, or cancelled if the work was
        cut too often.
    """
    carrying = _handed_over(loop, work)
    carrying.send(None)  # a task that is cancelled before its first step would do nothing
    return loop.create_task(carrying, context=Context())


async def carried_out(loop: asyncio.AbstractEventLoop, work: Work) -> None:
    """Return when the work is done, however often the caller is cancelled meanwhile.

    Raises:
        asyncio.CancelledError: The work itself was cut too often.
    """
    for _ in range(_CUTS):
        task = loop.create_task(work(), context=Context())
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not _is_cut(task):
            break
    task.result()


async def _handed_over(loop: asyncio.AbstractEventLoop, work: Work) -> None:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)  # so far without a task
    await carried_out(loop, work)


def _is_cut(task: asyncio.Task[None]) -> bool:
    """Whether it ended by a cancel, or by a signal that arrived in one of its steps."""
    return task.cancelled() or not isinstance(task.exception(), Exception | None)
