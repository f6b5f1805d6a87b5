"""Ctx calls where none may be made: in a frame that dies (S31), or from the wrong place (S23)."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from ..execution.branch import Branch
from .functions import PLAIN

if TYPE_CHECKING:
    from .bodies import LiveBody


def dying(home: LiveBody) -> Generator[Any, Any, None]:
    """A ctx call in a frame that dies: it records nothing and raises, after one pass (S31)."""
    home.dying_calls += 1
    if home.dying_calls > home.scheduler.settings.dying_calls:
        yield from asyncio.get_running_loop().create_future()
    yield
    raise home.scheduler.interrupts.farewell(home)


class Dying:
    """The same, to be awaited."""

    __slots__ = ("_home",)

    def __init__(self, home: LiveBody) -> None:
        self._home = home

    def __await__(self) -> Generator[Any, Any, None]:
        yield from dying(self._home)


def unstamped(home: LiveBody) -> str:
    """What to say where the task that makes a call was made past the loop's task factory (S3)."""
    return (
        f"a ctx call of {home.id!r} was made in a task without a place among its calls: it was "
        "made by asyncio.Task(...) itself, or by a task factory that was set after the client "
        "started. Make tasks with asyncio.create_task, and set the factory before start()"
    )


def by_hand(call_id: str) -> str:
    """What to say where a ctx call began to wait and no task is suspended on it (S23)."""
    return (
        f"the ctx call {call_id!r} was stepped by hand (send, __await__) and left: await it, or "
        "make it a task with asyncio.create_task"
    )


def misuse(home: LiveBody, branch: Branch | None) -> str:
    """What to say to somebody who makes a ctx call from where none may be made (S23)."""
    callee = home.call.callee
    if callee is not None and callee.kind is PLAIN:
        return (
            f"{callee.name!r} ({home.id!r}) is a plain def: it runs on a thread and makes no ctx "
            "calls: make it an `async def` that awaits them, or a generator that yields them"
        )
    if home.is_over:
        return (
            f"a ctx call was made with the context of {home.id!r} after that function had ended: "
            "await everything before it returns"
        )
    if branch is None:
        return (
            f"a ctx call of {home.id!r} was made outside its function (from a thread, or from a "
            "task the function did not create): make it in the function itself or in a task "
            "created inside it"
        )
    if branch.is_unordered:
        return (
            f"a helper coroutine of {home.id!r} under asyncio.as_completed made a ctx call: "
            "as_completed starts bare coroutines in no particular order, so their calls would get "
            "other ids after a restart. Wrap each in asyncio.create_task(...) first, in a list"
        )
    return (
        f"a ctx call of {home.id!r} was made inside {branch.body.id!r}: use the ctx that the "
        "function was given"
    )
