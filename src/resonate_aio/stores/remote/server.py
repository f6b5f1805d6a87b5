"""What one server of the current protocol allows, and heartbeats as it takes them.

Servers share a version string and differ in two rules that go together (current-protocol §1,
§4): some check that the ids of one request have one origin, and those sweep only promises
with a target. Which kind this is, one harmless request tells.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextvars import Context as ContextVars
from typing import Final

from ...errors import ResonateStoreError
from ...protocol.dialects import Dialect, origin_of
from ...protocol.requests import PromiseRegisterCallback, Reply, TaskHeartbeat, TaskRef
from .calls import RemoteCalls

logger = logging.getLogger("resonate_aio.stores.remote")

_DONE: Final = 200
_BAD: Final = 400
_TOO_LARGE: Final = 413
_ABSENT: Final = 404
_NO_ANSWER: Final = 503
_AGAIN_S: Final = 15.0


class RemoteServer:
    """One server.

    Args:
        dialect: Of the ids this client begins: by it origins are read out of ids.
    """

    def __init__(self, calls: RemoteCalls, dialect: Dialect) -> None:
        self._calls = calls
        self._dialect = dialect
        self._name = ""
        self._probe: asyncio.Task[bool] | None = None

    def open(self, name: str) -> None:
        """Nothing is known yet. `name` is part of ids that nobody uses."""
        self._name = name
        self._probe = None

    async def stop(self) -> None:
        """Give up what is on the way."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)
            self._probe = None

    async def mixes_origins(self) -> bool:
        """Whether one request may name tasks of several origins."""
        if self._probe is None:
            loop = asyncio.get_running_loop()
            self._probe = loop.create_task(self._ask_which(), context=ContextVars())
        return await asyncio.shield(self._probe)

    async def sweeps_all(self) -> bool:
        """Whether every overdue promise is swept, also one without a target (S63)."""
        return await self.mixes_origins()

    async def _ask_which(self) -> bool:
        """A callback between two origins is refused before its promises are looked for."""
        request = PromiseRegisterCallback(
            f"resonate-aio-{self._name}-a", f"resonate-aio-{self._name}-b"
        )
        while True:
            try:
                reply = await self._calls.ask(request)
            except ResonateStoreError as error:
                logger.error("what the server allows cannot be told: %s", error)
                await asyncio.sleep(_AGAIN_S)
                continue
            return reply.status == _ABSENT

    async def beat(self, holder: str, tasks: tuple[TaskRef, ...]) -> Reply:
        """Extend leases: one request for each origin, unless the server takes them mixed.

        Never an empty one. A beat that is lost is not repeated for long: the next is due soon.
        """
        groups: dict[str, list[TaskRef]] = {}
        is_mixed = len(tasks) < 2 or await self.mixes_origins()
        for task in tasks:
            origin = "" if is_mixed else origin_of(task.id, self._dialect)
            groups.setdefault(origin, []).append(task)
        return await self._all(TaskHeartbeat(holder, tuple(group)) for group in groups.values())

    async def _all(self, requests: Iterable[TaskHeartbeat]) -> Reply:
        replies = await asyncio.gather(*map(self._beat_once, requests))
        return next((reply for reply in replies if reply.status != _DONE), Reply(_DONE))

    async def _beat_once(self, request: TaskHeartbeat) -> Reply:
        try:
            reply = await self._calls.ask(request, tries=2)
        except ResonateStoreError as error:
            level = logging.DEBUG if self._calls.is_away else logging.WARNING  # it is said already
            logger.log(level, "a heartbeat was lost: %s", error)
            return Reply(int(error.code) or _NO_ANSWER, error=str(error))
        if reply.status == _BAD and len(request.tasks) > 1:
            # By the server's reading of the ids these are several origins: one by one, then.
            return await self._all(TaskHeartbeat(request.pid, (task,)) for task in request.tasks)
        if reply.status == _TOO_LARGE and len(request.tasks) > 1:
            half = len(request.tasks) // 2
            parts = request.tasks[:half], request.tasks[half:]
            return await self._all(TaskHeartbeat(request.pid, part) for part in parts)
        return reply
