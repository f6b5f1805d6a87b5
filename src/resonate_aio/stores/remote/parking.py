"""Parked executions: the task is suspended, the frame stays (S64).

On a server whose heartbeats may not mix origins every parked execution would cost a request
every few seconds. So the task of one that only waits for promises on the server is suspended
and costs nothing. It is taken again when the server says that something it waits for has
settled, or when its frame moves first: the write that moved it waits here. The claim names the
version at which it was suspended, so it succeeds only if nobody else has held it since.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context as ContextVars
from typing import Final

from ...errors import ResonateStoreError
from ...protocol.dialects import EXECUTION_TAG
from ...protocol.records import PromiseState, TaskState
from ...protocol.requests import (
    PromiseCreate,
    PromiseRegisterCallback,
    PromiseSettle,
    Reply,
    Request,
    TaskAcquire,
    TaskGet,
    TaskSuspend,
)
from .fences import Held, RemoteFences
from .leases import RemoteLeases
from .watches import RemoteWatches

logger = logging.getLogger("resonate_aio.stores.remote")

_DONE: Final = 200
_CONFLICT: Final = 409
_TRIES: Final = 20
_AGAIN_S: Final = 0.25
_REFUSED_S: Final = 15.0
_EXTERNAL: Final = {"resonate:external": "true", "resonate:scope": "global"}


class Parked:
    """One parked execution.

    Attributes:
        awaited: The promises that its frame waits for.
        pid: The name under which it was held.
    """

    __slots__ = ("_parking", "awaited", "held", "id", "outcome", "pid", "suspending")

    def __init__(self, parking: RemoteParking, id: str, held: Held, awaited: list[str]) -> None:
        self._parking = parking
        self.id = id
        self.held = held
        self.awaited = awaited
        self.pid = ""
        self.suspending: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.outcome: asyncio.Task[bool] | None = None

    async def wake(self) -> bool:
        """Hold the task again; false if somebody else has it."""
        return await asyncio.shield(self._parking.woken(self))


class RemoteParking:
    """The parked executions of one client.

    Args:
        ask: Carries out one request.
        gone: Told (id, version) of a task that is not held any more.
        ttl_ms: Of the leases of those that are taken again.
    """

    def __init__(
        self,
        ask: Callable[[Request], Awaitable[Reply]],
        fences: RemoteFences,
        leases: RemoteLeases,
        watches: RemoteWatches,
        gone: Callable[[str, int], None],
        *,
        ttl_ms: int,
    ) -> None:
        self._ask = ask
        self._fences = fences
        self._leases = leases
        self._watches = watches
        self._gone = gone
        self._ttl_ms = ttl_ms
        self._parked: dict[str, Parked] = {}
        self._tasks: set[asyncio.Task[bool]] = set()

    @property
    def count(self) -> int:
        """How many executions are parked."""
        return len(self._parked)

    async def stop(self) -> None:
        """Give up what is on the way; what is parked stays suspended on its server."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._parked.clear()

    async def park(self, id: str, version: int, awaited: Iterable[str]) -> bool:
        """Suspend a held task whose execution waits for these promises and nothing else.

        Returns:
            Whether it is parked now. Not, where one of the promises has settled meanwhile.
        """
        held = self._fences.of(id, version)
        if held is None or held.wake is not None:
            return False
        if any(not held.lineage.covers(one) for one in awaited):
            return False  # a callback between two origins is refused (S62)
        await self._fences.quiet(id, version)
        parked = Parked(self, id, held, list(awaited))
        held.wake = parked.wake
        self._parked[id] = parked
        try:
            actions = tuple(PromiseRegisterCallback(one, id) for one in parked.awaited)
            reply = await self._ask(TaskSuspend(id, held.fence, actions))
        except ResonateStoreError as error:
            reply = Reply(_CONFLICT if not error.code else int(error.code), error=str(error))
        pid = self._leases.park(id, version) if reply.status == _DONE else None
        if pid is not None:
            parked.pid = pid
            self._watches.slow_down([id, *parked.awaited])
        else:
            # Something has settled, or the lease is lost: what is awaited tells, or a write.
            held.wake = None
            self._parked.pop(id, None)
            self._watches.speed_up(parked.awaited)
        parked.suspending.set_result(pid is not None)
        return pid is not None

    def forget(self, id: str) -> bool:
        """Give a parked execution up; whether it was one. Its task stays suspended."""
        return self._parked.pop(id, None) is not None

    def offered(self, id: str) -> bool:
        """The server offers a task; whether it is a parked one, which is then taken again."""
        parked = self._parked.get(id)
        if parked is None:
            return False
        self.woken(parked)
        return True

    def woken(self, parked: Parked) -> asyncio.Task[bool]:
        """Take the task again, once; done when that is decided."""
        if parked.outcome is None:
            loop = asyncio.get_running_loop()
            parked.outcome = loop.create_task(self._take_again(parked), context=ContextVars())
            self._tasks.add(parked.outcome)
            parked.outcome.add_done_callback(self._tasks.discard)
        return parked.outcome

    async def _take_again(self, parked: Parked) -> bool:
        if not await asyncio.shield(parked.suspending):
            return True  # it was never suspended
        held = parked.held
        is_ours = await self._acquired(parked)
        if self._parked.get(parked.id) is parked:
            del self._parked[parked.id]
        if not is_ours:
            logger.info("%r was taken over while it was parked", parked.id)
            self._gone(parked.id, held.version)
            return False
        held.fence += 1
        held.wake = None
        self._leases.unpark(parked.id, held.version, held.fence)
        self._watches.speed_up([parked.id, *parked.awaited])
        return True

    async def _acquired(self, parked: Parked) -> bool:
        """Whether the task was acquired at the very version at which it was suspended."""
        held = parked.held
        claim = TaskAcquire(parked.id, held.fence, parked.pid, self._ttl_ms)
        for _ in range(_TRIES):
            try:
                if (await self._ask(claim)).status == _DONE:
                    return True
                task = (await self._ask(TaskGet(parked.id))).task
                if task is None or task.version != held.fence:
                    return False
                if task.state is TaskState.SUSPENDED:
                    await self._nudge(parked)
                elif task.state is not TaskState.PENDING:
                    return False
            except ResonateStoreError as error:
                logger.error("%r is parked and cannot be taken again: %s", parked.id, error)
                await asyncio.sleep(_REFUSED_S)
            else:
                await asyncio.sleep(_AGAIN_S)
        return False

    async def _nudge(self, parked: Parked) -> None:
        """The frame moved before anything it waits for has settled: settle something for it.

        Each of the three requests may be the last of this process; none leaves the task stuck.
        """
        held = parked.held
        id = f"{held.lineage.start}wake-{held.fence}"
        tags = {**_EXTERNAL, **held.lineage.tags(id, own_branch=True)}
        del tags[EXECUTION_TAG]  # no call of the execution: a replay knows nothing of it
        await self._ask(PromiseCreate(id, held.timeout_at_ms, tags=tags))
        await self._ask(PromiseRegisterCallback(id, parked.id))
        await self._ask(PromiseSettle(id, PromiseState.RESOLVED))
