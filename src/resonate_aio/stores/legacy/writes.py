"""The fenced door of a legacy store: what a held execution writes at every step.

Each write is a task that first waits for what must be stored before it (S8), then for the
certainty that its lease may still be ours, then sends one request that names the task. What
the server shows is the outcome, also where it is not what was asked for (hazards 5 and 6).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context as ContextVars
from functools import partial
from typing import Any

from ...errors import ValueCodecError
from ...protocol.failures import failure_value
from ...protocol.records import EMPTY, Promise, PromiseState, Value, is_pending
from ...protocol.requests import PromiseCreate
from ..base import LOST, Acked, Refusal
from ..remote.watches import RemoteWatches
from .answers import Refused
from .holding import Holding, Spawn
from .leases import Lease
from .rest import LegacyRest

logger = logging.getLogger("resonate_aio.stores.legacy")

_Wait = tuple["asyncio.Future[Any]", ...]
_REASON_CHARACTERS = 200
_NOT_HELD = Refused(412, "the lease was lost before it was sent")


class Writes:
    """Creates and settles under leases.

    Args:
        rest: The server.
        holding: The leases.
        watches: Told what was settled, so that nobody asks the server for it.
        spawn: Runs a coroutine in a task that the store owns.
    """

    def __init__(
        self, rest: LegacyRest, holding: Holding, watches: RemoteWatches, spawn: Spawn
    ) -> None:
        self._rest = rest
        self._holding = holding
        self._watches = watches
        self._spawn = spawn

    # -- the door

    def create(self, lease: Lease, promise: Promise, acked: Acked | None, context: Any) -> None:
        """Create a promise; what comes later waits for a log record, which nobody waits for."""
        work = partial(self._create, lease, promise)
        write = self._begin(lease, lease.writes.barrier, work, acked, context)
        lease.writes.sent(write, is_barrier=acked is None, creates=promise.id)

    def settle(
        self, lease: Lease, id: str, state: PromiseState, value: Value, acked: Acked, context: Any
    ) -> None:
        """Settle a promise; where that may be a log record's, what comes later waits for it."""
        barrier = lease.writes.barrier
        before = (*barrier, *lease.writes.create_of(id))
        work = partial(self._settle, lease, id, state, value)
        write = self._begin(lease, before, work, acked, context)
        lease.writes.sent(write, is_barrier=bool(barrier))

    def fulfill(
        self, lease: Lease, state: PromiseState, value: Value, acked: Acked, context: Any
    ) -> None:
        """Settle the task's own promise after everything else, and end the task."""
        work = partial(self._fulfill, lease, state, value)
        write = self._begin(lease, lease.writes.everything, work, acked, context)
        lease.writes.sent(write)

    def _begin(
        self,
        lease: Lease,
        before: _Wait,
        work: Callable[[], Coroutine[Any, Any, Promise | Refusal]],
        acked: Acked | None,
        context: Any,
    ) -> asyncio.Task[Any]:
        return self._spawn(self._write(lease, before, work, acked, context), "write")

    async def _write(
        self,
        lease: Lease,
        before: _Wait,
        work: Callable[[], Coroutine[Any, Any, Promise | Refusal]],
        acked: Acked | None,
        context: Any,
    ) -> None:
        try:
            if before:
                await asyncio.wait(before)
            answer = await work()
        except Exception:
            # Without an answer the execution would hang for ever.
            logger.exception("a write of %r failed; this is a bug, please report it", lease.root)
            answer = LOST
        if acked is not None:
            # From the loop, not from inside a task: it lets bodies go on in place.
            loop = asyncio.get_running_loop()
            loop.call_soon(acked, context, answer, context=ContextVars())

    # -- one write each

    async def _create(self, lease: Lease, promise: Promise) -> Promise | Refusal:
        request = PromiseCreate(promise.id, promise.timeout_at_ms, promise.param, promise.tags)
        told = await self._send(
            lease, lambda: self._rest.create(request, root=lease.root, fence=lease.fence)
        )
        if isinstance(told, Refused):
            if told.is_bad_request:
                return await self._refused_create(lease, request, told)
            return await self._gone(lease, told)
        standing: Promise = told.promise
        return standing

    async def _refused_create(
        self, lease: Lease, request: PromiseCreate, told: Refused
    ) -> Promise | Refusal:
        """The server takes no such promise (too large, as a rule): the call has failed (S24).

        Its promise is created without the arguments and rejected with the reason.
        """
        bare = PromiseCreate(
            request.id, request.timeout_at_ms, Value(request.param.headers, None), {}
        )
        again = await self._send(
            lease, lambda: self._rest.create(bare, root=lease.root, fence=lease.fence)
        )
        if isinstance(again, Refused):
            return await self._gone(lease, again)
        error = ValueCodecError(f"{request.id!r} cannot be created: {_reason(told)}")
        return await self._settle(lease, request.id, PromiseState.REJECTED, failure_value(error))

    async def _settle(
        self, lease: Lease, id: str, state: PromiseState, value: Value
    ) -> Promise | Refusal:
        told = await self._send(
            lease, lambda: self._rest.settle(id, state, value, fence=lease.fence)
        )
        if isinstance(told, Refused) and told.is_bad_request:
            error = ValueCodecError(f"the outcome of {id!r} cannot be recorded: {_reason(told)}")
            small = failure_value(error)
            told = await self._send(
                lease,
                lambda: self._rest.settle(id, PromiseState.REJECTED, small, fence=lease.fence),
            )
        if isinstance(told, Refused):
            return await self._gone(lease, told)
        record: Promise = told
        self._watches.settled(record)
        if record.state is state and record.value.data == value.data:
            # What was asked for: the text that is known already stays the one in memory.
            return _with_text_of(record, value)
        return record

    async def _fulfill(self, lease: Lease, state: PromiseState, value: Value) -> Promise | Refusal:
        lease.is_closing = True
        record = await self._settle(lease, lease.root, state, value)
        if isinstance(record, Refusal):
            # Our own first try may have been the one that ended the task (S60).
            standing = await self._holding.patiently(lambda: self._rest.get(lease.root))
            if standing is None or is_pending(standing):
                return record
            record = standing
            self._watches.settled(standing)
        self._holding.leases.end(lease)
        self._holding.complete_soon(lease.fence)
        return record

    # -- answers that are none

    async def _send(self, lease: Lease, send: Callable[[], Awaitable[Any]]) -> Any:
        """Send while the lease is surely ours; what takes longer is sent again after a look."""
        while await self._holding.is_sure(lease):
            try:
                async with asyncio.timeout_at(lease.until_s):
                    return await self._holding.patiently(send)
            except TimeoutError:
                logger.debug("a write of %r outlasted its lease", lease.root)
        return _NOT_HELD

    async def _gone(self, lease: Lease, told: Refused) -> Refusal:
        """The task is not ours any more, or what it writes to is gone: nothing is recorded."""
        logger.debug("a write of %r was refused: %s", lease.root, told.error)
        await self._holding.fence_failed(lease)
        return LOST


def _reason(told: Refused) -> str:
    return f"the server refused it ({told.status}, {told.error[:_REASON_CHARACTERS]})"


def _with_text_of(record: Promise, value: Value) -> Promise:
    return Promise(
        record.id,
        record.state,
        record.timeout_at_ms,
        record.created_at_ms,
        record.param,
        Value(record.value.headers, value.data) if record.value is not EMPTY else EMPTY,
        record.tags,
        record.settled_at_ms,
        record.owner,
    )
