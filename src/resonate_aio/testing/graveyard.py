"""Where the victims of a killed loop lie, so that none of their code ever runs again.

Dropping the last reference to a coroutine that has started throws `GeneratorExit` into it
and runs its `finally` clauses (semantics S31), at the end of the interpreter too. What is
buried here is therefore referenced for ever, on purpose. This file knows no loop.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Iterable
from typing import Any, cast

GRAVEYARD: list[object] = []
"""Everything that must outlive the interpreter's own tidying up."""

ctypes.pythonapi.Py_IncRef(ctypes.py_object(GRAVEYARD))  # else module teardown empties it


def bury(victim: object, tasks: Iterable[asyncio.Task[Any]] = ()) -> None:
    """Keep the victim and its tasks for ever, silent and unknown to `asyncio.all_tasks`."""
    GRAVEYARD.append(victim)
    for task in tasks:
        cast(Any, task)._log_destroy_pending = False
        asyncio._unregister_task(task)
        GRAVEYARD.append(task)


def waiting_at(task: asyncio.Task[Any]) -> str:
    """The chain of calls from the task's coroutine to the place where it waits."""
    places: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        for prefix, inner in (("cr", "await"), ("gi", "yieldfrom"), ("ag", "await")):
            if hasattr(awaited, f"{prefix}_frame"):
                frame = getattr(awaited, f"{prefix}_frame")
                name = getattr(awaited, "__qualname__", "?")
                places.append(f"{name} ({_place(frame)})")
                awaited = getattr(awaited, f"{prefix}_{inner}")
                break
        else:
            awaited = None
    waiter = getattr(task, "_fut_waiter", None)
    return " > ".join(places) + f" on {waiter!r}"


def _place(frame: Any) -> str:
    return "ended" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
