"""Executions that only wait: their leases are given up, their frames stay (S64).

On some servers a lease costs a request every few seconds, whatever the execution does. One in
which nothing has moved for a whole ttl, and which waits for promises of its own on the server
and for nothing else, is parked there. The store takes it again when that is due.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from ..execution.call import RUN
from ..execution.execution import ALIVE
from ..stores.base import ParkingStore
from .awaitables import DurableCall
from .bodies import LiveBody
from .held import Held

if TYPE_CHECKING:
    from .worker import Worker

logger = logging.getLogger("resonate_aio.worker")

_LOOKS: Final = 2
"""Looks per ttl: an execution is parked after one to one and a half of it."""

_AT_ONCE: Final = 8
_PARKED_S: Final = -1.0
"""Since when an execution is idle that is parked: until it moves it is not looked at."""


class Idling:
    """The worker's part that parks.

    Args:
        ttl_s: How long nothing may move before an execution counts as idle.
    """

    __slots__ = ("_marks", "_store", "_task", "_ttl_s", "_worker")

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._store = worker.store
        self._ttl_s = getattr(worker.store, "ttl_ms", 0) / 1000
        self._marks: dict[Held, tuple[int, float]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look, where that is worth it."""
        if isinstance(self._store, ParkingStore) and self._task is None:
            work = self._run(self._store)
            context = self._worker.variables.copy()
            self._task = self._worker.loop.create_task(
                work, name="resonate_aio idle executions", context=context
            )

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        self._marks.clear()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, store: ParkingStore) -> None:
        try:
            if not await store.parks():
                return
            slots = asyncio.Semaphore(_AT_ONCE)
            while True:
                await asyncio.sleep(self._ttl_s / _LOOKS)
                idle = self._idle()
                await asyncio.gather(*(self._park(store, held, slots) for held in idle))
        except Exception:
            # Nothing is lost by it: what is idle keeps its lease.
            logger.exception("idle executions are not parked any more; please report it")

    def _idle(self) -> list[Held]:
        """The executions in which nothing has moved for a ttl."""
        now_s = self._worker.loop.time()
        before, self._marks = self._marks, {}
        idle = []
        for held in self._worker.executions:
            mark = _mark(held)
            known = before.get(held)
            since_s = known[1] if known is not None and known[0] == mark else now_s
            self._marks[held] = (mark, since_s)
            if since_s != _PARKED_S and now_s - since_s >= self._ttl_s and _awaited(held):
                idle.append(held)
        return idle

    async def _park(self, store: ParkingStore, held: Held, slots: asyncio.Semaphore) -> None:
        async with slots:
            awaited = _awaited(held)
            mark = _mark(held)
            if awaited and await store.park(held.id, held.version, awaited):
                self._marks[held] = (mark, _PARKED_S)
            elif held in self._marks:
                self._marks[held] = (mark, self._worker.loop.time())


def _mark(held: Held) -> int:
    """A number that is another one when something has moved."""
    moved = sum(body.activity + body.position for body in held.bodies)
    return moved * 31 + len(held.watched) * 7 + len(held.bodies)


def _awaited(held: Held) -> list[str]:
    """The promises on the server that the execution waits for, if it waits for nothing else."""
    if held.life is not ALIVE or not held.bodies:
        return []
    for body in held.bodies:
        if not isinstance(body, LiveBody) or not _rests(body):
            return []
    awaited = []
    for call in held.watched:
        if call.promise_id != call.id or call.kind is RUN:
            return []  # of another origin, or nothing a task can wait for (S62)
        awaited.append(call.promise_id)
    return awaited


def _rests(body: LiveBody) -> bool:
    """Whether each asyncio task of the body is at a durable wait that something will end."""
    if not body.started or body.frame_over or body.is_over or body.is_dead or body.retry_timer:
        return False
    if body.live_tasks != len(body.at) or body.has_input or body.is_held:
        return False
    return all(_has_an_end(wait.call) for wait in body.at.values())


def _has_an_end(call: Any) -> bool:
    """Whether the call is watched on the server, or runs here and rests itself."""
    if not isinstance(call, DurableCall):
        return False
    execution = call.home.execution
    if isinstance(execution, Held) and call in execution.watched:
        return True
    return call.kind is RUN and isinstance(call.child, LiveBody)
