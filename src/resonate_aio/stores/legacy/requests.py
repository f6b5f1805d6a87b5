"""The current verbs outside the fenced door, as requests of a legacy server.

One coroutine per verb: a request in, a reply with the current protocol's status out. This file
keeps nothing but what `Holding` keeps: which tasks are held.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from ...protocol import requests as r
from ...protocol.records import (
    Promise,
    PromiseState,
    Task,
    TaskState,
    Value,
    is_pending,
    target_of,
)
from ...protocol.validation import refusal
from ..lineage import unstorable
from ..remote.watches import RemoteWatches
from . import codec
from .answers import FORBIDDEN, NOT_HERE, Created, Fence, Refused
from .holding import Holding
from .leases import FIRST_VERSION, Lease
from .rest import LegacyRest
from .schedules import Schedules

BY_HEADER: Final = "resonate-aio:by"
"""Header of a root's param: which request created it, so that one whose answer was lost can be
told from one that found the promise there (S60)."""

_FENCED: Final = 412
_NOT_SERVED: Final = 501
_NOT_HAD: Final[dict[type[Any], str]] = {
    r.TaskHalt: "halt tasks",
    r.TaskContinue: "continue tasks",
    r.TaskSearch: "search tasks",
}
_STATES: Final = {
    PromiseState.PENDING: "pending",
    PromiseState.RESOLVED: "resolved",
    PromiseState.REJECTED: "rejected",
    PromiseState.CANCELED: "rejected",
    PromiseState.TIMEDOUT: "rejected",
}


class Requests:
    """Carries requests out.

    Args:
        rest: The server.
        holding: The leases.
        watches: Told of every settled promise that comes by.
        holder_of: The name under which a pid holds tasks in this life of the store (S60).
        own_address: Where this client's execute messages go, if it receives any.
        farewell: Returns when none of this client's streams is being closed.
    """

    def __init__(
        self,
        rest: LegacyRest,
        holding: Holding,
        watches: RemoteWatches,
        *,
        holder_of: Callable[[str], str],
        own_address: Callable[[], str | None],
        farewell: Callable[[], Awaitable[None]],
    ) -> None:
        self._rest = rest
        self._holding = holding
        self._watches = watches
        self._holder_of = holder_of
        self._own_address = own_address
        self._farewell = farewell
        schedules = Schedules(rest)
        self._verbs: dict[type[Any], Callable[[Any], Awaitable[r.Reply]]] = {
            r.PromiseGet: self._promise_get,
            r.PromiseCreate: self._promise_create,
            r.PromiseSettle: self._promise_settle,
            r.PromiseRegisterCallback: self._promise_register_callback,
            r.PromiseRegisterListener: self._promise_register_listener,
            r.PromiseSearch: self._promise_search,
            r.TaskGet: self._task_get,
            r.TaskCreate: self._task_create,
            r.TaskAcquire: self._task_acquire,
            r.TaskFence: self._task_fence,
            r.TaskHeartbeat: self._task_heartbeat,
            r.TaskSuspend: self._task_suspend,
            r.TaskFulfill: self._task_fulfill,
            r.TaskRelease: self._task_release,
            **dict.fromkeys(_NOT_HAD, self._not_served),
            r.ScheduleCreate: schedules.create,
            r.ScheduleGet: schedules.get,
            r.ScheduleDelete: schedules.delete,
            r.ScheduleSearch: schedules.search,
        }

    async def carry_out(self, request: r.Request) -> r.Reply:
        """Carry out one request.

        Raises:
            ResonateStoreError: The server refuses the credentials.
        """
        fault = unstorable(request) or refusal(request)
        if fault is not None:
            return r.Reply(400, error=fault)
        reply = await self._verbs[type(request)](request)
        if reply.promise is not None and not is_pending(reply.promise):
            self._watches.settled(reply.promise)
        return reply

    async def _not_served(self, request: Any) -> r.Reply:
        """What this generation of the server has no request for (S66)."""
        what = _NOT_HAD[type(request)]
        return r.Reply(_NOT_SERVED, error=f"a legacy server cannot {what}")

    # -- promises

    async def _promise_get(self, request: r.PromiseGet) -> r.Reply:
        promise = await self._rest.get(request.id)
        return _absent("promise", request.id) if promise is None else r.Reply(200, promise)

    async def _promise_create(self, request: r.PromiseCreate) -> r.Reply:
        fault = codec.unspeakable(request.tags)
        if fault is not None:
            return r.Reply(400, error=fault)
        told = await self._rest.create(request)
        return _refused(told) if isinstance(told, Refused) else r.Reply(200, told.promise)

    async def _promise_settle(self, request: r.PromiseSettle) -> r.Reply:
        told = await self._rest.settle(request.id, request.state, request.value)
        if isinstance(told, Promise):
            # Somebody here may hold its task: it need not wait for the server's word (S13).
            self._holding.seen(told)
        return _promise_or_refused(told)

    async def _promise_register_listener(self, request: r.PromiseRegisterListener) -> r.Reply:
        return _promise_or_refused(await self.listen(request.awaited, request.address))

    async def listen(self, awaited: str, address: str) -> Promise | Refused:
        """Have the settled promise sent to an address; the promise as it stands.

        A reply that shows no new subscription and a pending promise may be one that was
        overtaken by the promise's end (legacy-protocol §3.6): it is read again (hazard 2).
        """
        told = await self._rest.subscribe(awaited, address, address)
        if isinstance(told, Refused):
            return told
        return await self._as_it_stands(told.promise, is_new=told.is_new)

    async def _promise_register_callback(self, request: r.PromiseRegisterCallback) -> r.Reply:
        told = await self._call_back(request, None)
        return _promise_or_refused(told)

    async def _call_back(
        self, request: r.PromiseRegisterCallback, fence: Fence | None
    ) -> Promise | Refused:
        address = self._own_address()
        if address is None:
            awaiter = await self._rest.get(request.awaiter)
            if awaiter is None:
                return Refused(NOT_HERE, f"there is no promise {request.awaiter!r}")
            address = target_of(awaiter)
            if address is None:
                return Refused(422, f"promise {request.awaiter!r} has no target to wake up")
        told = await self._rest.callback(
            request.awaited, request.awaiter, address, codec.NEVER_MS, fence=fence
        )
        if isinstance(told, Refused):
            return told
        return await self._as_it_stands(told.promise, is_new=told.is_new)

    async def _as_it_stands(self, promise: Promise, *, is_new: bool) -> Promise:
        if is_new or not is_pending(promise):
            return promise
        return await self._rest.get(promise.id) or promise

    async def _promise_search(self, request: r.PromiseSearch) -> r.Reply:
        page, cursor = await self._rest.search(
            "*",
            state=None if request.state is None else _STATES[request.state],
            tags={codec.renamed(name): tag for name, tag in request.tags.items()},
            limit=request.limit,
            cursor=request.cursor,
        )
        found = [
            promise
            for promise in page
            if (request.state is None or promise.state is request.state)
            and all(promise.tags.get(name) == tag for name, tag in request.tags.items())
        ]
        return r.Reply(200, promises=tuple(found), cursor=cursor)

    # -- tasks

    async def _task_get(self, request: r.TaskGet) -> r.Reply:
        """What is known here: the server shows nobody the state of a task."""
        lease = self._holding.leases.of_root(request.id)
        if lease is not None:
            return r.Reply(200, task=_acquired(lease))
        version = self._holding.leases.noticed(request.id)
        if version is None:
            return _absent("task", request.id)
        return r.Reply(200, task=Task(request.id, TaskState.PENDING, version))

    async def _task_create(self, request: r.TaskCreate) -> r.Reply:
        fault = codec.unspeakable(request.action.tags)
        if fault is not None:
            return r.Reply(400, error=fault)
        by = secrets.token_hex(8)
        param = request.action.param
        signed = Value({**(param.headers or {}), BY_HEADER: by}, param.data)
        action = msgspec.structs.replace(request.action, param=signed)
        sent = self._holding.now()
        holder = self._holder_of(request.pid)
        told = await self._rest.create_with_task(action, holder, request.ttl_ms)
        if isinstance(told, Refused):
            return _refused(told)
        promise = told.promise
        if not is_pending(promise):
            return r.Reply(200, promise)
        fence = Fence(codec.invoke_task(promise.id), 1)
        lease = Lease(promise.id, FIRST_VERSION, fence, holder, request.ttl_ms)
        lease.renewed(*sent)
        if not self._is_ours(told, by, lease):
            return r.Reply(409, error=f"task {promise.id!r} is not free to be taken")
        self._holding.hold(lease, sent)
        return r.Reply(200, promise, _acquired(lease))

    def _is_ours(self, told: Created, by: str, lease: Lease) -> bool:
        """Whether the new task is this request's, perhaps by a try whose answer was lost."""
        if told.has_task:
            return True
        if not told.maybe_done or (told.promise.param.headers or {}).get(BY_HEADER) != by:
            return False
        if not lease.is_doubtful(*self._holding.now()):
            return True
        self._holding.drop_soon(lease.fence)
        return False

    async def _task_acquire(self, request: r.TaskAcquire) -> r.Reply:
        leases = self._holding.leases
        version = request.version
        notice = leases.claimable(request.id, version)
        if notice is not None:
            fence = Fence(notice.task_id, notice.counter)
        elif leases.noticed(request.id) is None:
            # Named by somebody who did not hear of it here: by the server's own number.
            fence = Fence(codec.invoke_task(request.id), version)
            version = leases.new_version()
        else:
            return r.Reply(409, error=f"task {request.id!r} is not pending at this version")
        holder, sent = self._holder_of(request.pid), self._holding.now()
        told = await self._rest.claim(fence, holder, request.ttl_ms)
        if isinstance(told, Refused):
            # Claimed by another, completed, or at another counter: the message was old
            # (hazard 3). If our own first try was the claim, nobody would ever end it (S60).
            if told.maybe_done and told.status == FORBIDDEN:
                self._holding.drop_soon(fence)
            return r.Reply(409, error=told.error)
        if not is_pending(told.root):
            self._holding.complete_soon(fence)
            return r.Reply(409, error=f"promise {request.id!r} is {told.root.state}")
        if fence == Fence(codec.invoke_task(request.id), 1):
            version = FIRST_VERSION  # nobody held it before
        lease = Lease(request.id, version, fence, holder, request.ttl_ms)
        self._holding.hold(lease, sent)
        return r.Reply(200, told.root, _acquired(lease))

    async def _task_fence(self, request: r.TaskFence) -> r.Reply:
        lease = self._holding.leases.find(request.id, request.version)
        if lease is None or not await self._holding.is_sure(lease):
            return _lost(request.id)
        action = request.action
        told: Promise | Refused
        if isinstance(action, r.PromiseCreate):
            created = await self._rest.create(action, root=request.id, fence=lease.fence)
            told = created if isinstance(created, Refused) else created.promise
        else:
            told = await self._rest.settle(action.id, action.state, action.value, fence=lease.fence)
        if isinstance(told, Refused) and told.status == _FENCED:
            await self._holding.fence_failed(lease)
            return _lost(request.id)
        return r.Reply(200, inner=_promise_or_refused(told))

    async def _task_heartbeat(self, request: r.TaskHeartbeat) -> r.Reply:
        await self._holding.beat(self._holder_of(request.pid))
        return r.Reply(200)

    async def _task_suspend(self, request: r.TaskSuspend) -> r.Reply:
        """Register the callbacks, then complete the task (DESIGN §5).

        A promise that settles in between makes a task at once, which the server keeps until
        this one is completed: no wake-up is lost.
        """
        lease = self._holding.leases.find(request.id, request.version)
        if lease is None or not await self._holding.is_sure(lease):
            return _lost(request.id)
        settled: list[Promise] = []
        for action in request.actions:
            told = await self._call_back(action, lease.fence)
            if isinstance(told, Refused):
                if told.status == _FENCED:
                    await self._holding.fence_failed(lease)
                    return _lost(request.id)
                return _refused(told)
            if not is_pending(told):
                settled.append(told)
        if settled:
            return r.Reply(300, preload=tuple(settled))
        lease.is_closing = True
        refused = await self._rest.complete(lease.fence)
        self._holding.leases.end(lease)
        return r.Reply(200) if refused is None else r.Reply(409, error=refused.error)

    async def _task_fulfill(self, request: r.TaskFulfill) -> r.Reply:
        lease = self._holding.leases.find(request.id, request.version)
        if lease is None or not await self._holding.is_sure(lease):
            return _lost(request.id)
        action = request.action
        lease.is_closing = True
        told = await self._rest.settle(action.id, action.state, action.value, fence=lease.fence)
        if isinstance(told, Refused):
            lease.is_closing = False
            if told.is_bad_request:
                return _refused(told)
            settled = await self._holding.fence_failed(lease)
            return _lost(request.id) if settled is None else r.Reply(200, settled)
        self._holding.leases.end(lease)
        self._holding.complete_soon(lease.fence)
        return r.Reply(200, told)

    async def _task_release(self, request: r.TaskRelease) -> r.Reply:
        lease = self._holding.leases.find(request.id, request.version)
        if lease is None:
            return _lost(request.id)
        lease.is_closing = lease.is_lost = True  # what is queued is not written any more
        await lease.writes.at_rest()
        await self._farewell()
        refused = await self._rest.drop(lease.fence)
        self._holding.leases.end(lease)
        return r.Reply(200) if refused is None else r.Reply(409, error=refused.error)


def _acquired(lease: Lease) -> Task:
    return Task(
        lease.root,
        TaskState.ACQUIRED,
        lease.version,
        ttl_ms=lease.ttl_ms,
        pid=lease.holder,
        expires_at_ms=lease.until_ms,
    )


def _absent(kind: str, id: str) -> r.Reply:
    return r.Reply(NOT_HERE, error=f"{kind} {id!r} does not exist")


def _lost(id: str) -> r.Reply:
    return r.Reply(409, error=f"task {id!r} is not held at this version")


def _refused(told: Refused) -> r.Reply:
    status = 409 if told.status in (FORBIDDEN, _FENCED) else told.status
    return r.Reply(status, error=told.error)


def _promise_or_refused(told: Promise | Refused) -> r.Reply:
    return r.Reply(200, told) if isinstance(told, Promise) else _refused(told)
