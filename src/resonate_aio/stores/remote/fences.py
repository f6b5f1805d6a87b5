"""The fenced door to a server: creates and settles on the way, in the order that matters.

Creates of one execution travel side by side; each names those before it that are not yet
acknowledged (S8, `execution.body`). The end of an execution goes out when nothing of it is on
the way any more. What a server refuses is told apart here: a lost
lease, a step's own failure (S24), a tag it does not take (S63), an id it does not fence
(S62). Refused credentials are none of these: the write waits for better ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context as ContextVars
from functools import partial
from random import Random
from typing import Any, Final

from ...backoff import Backoff
from ...errors import ResonateStoreError
from ...protocol.addresses import as_servers_read_it
from ...protocol.dialects import PARKED, TARGET, Dialect, Lineage
from ...protocol.failures import failure_value
from ...protocol.records import Promise, PromiseState, Value, is_external
from ...protocol.requests import (
    PromiseCreate,
    PromiseSettle,
    Reply,
    Request,
    TaskFence,
    TaskFulfill,
)
from ..base import LOST, Acked, Refusal
from ..http.answers import TOO_LARGE

logger = logging.getLogger("resonate_aio.stores.remote")

Ask = Callable[[Request], Awaitable[Reply]]
Write = asyncio.Task[Promise | Refusal]
Work = Callable[[], Coroutine[Any, Any, Promise | Refusal]]

_DONE: Final = 200
_CONFLICT: Final = 409
_ODD: Final = frozenset({400, 422})
"""What is wrong may be how it is asked: written otherwise it may be taken."""

_BAD: Final = frozenset({*_ODD, TOO_LARGE})
_REFUSED_FIRST_S: Final = 5.0
_REFUSED_MOST_S: Final = 60.0


class Held:
    """One task that this client holds, and what of its execution is on the way.

    Attributes:
        version: The version it was claimed at: by it the worker names it.
        fence: The version it is held at now: more than that once it was parked and taken again.
        timeout_at_ms: The deadline of its promise.
        lineage: What its promises carry.
        under_way: Its writes that are not yet answered.
        creating: Those of them that create a promise, by its id.
        wake: Takes the task again before a write goes out, while it is parked (S64); false if
            somebody else has it.
    """

    __slots__ = (
        "creating",
        "fence",
        "lineage",
        "timeout_at_ms",
        "under_way",
        "version",
        "wake",
    )

    def __init__(self, root: Promise, version: int, dialect: Dialect) -> None:
        self.version = self.fence = version
        self.timeout_at_ms = root.timeout_at_ms
        self.lineage = Lineage(root, dialect)
        self.wake: Callable[[], Awaitable[bool]] | None = None
        self.under_way: set[Write] = set()
        self.creating: dict[str, Write] = {}


class RemoteFences:
    """Fenced writes of the executions this client holds.

    Args:
        ask: Carries out one request.
        sweeps_all: Tells whether the server sweeps every overdue promise by itself (S63).
        gone: Told (id, version) of a task that a write showed to be held no more.
        rng: Where the jitter comes from.
    """

    def __init__(
        self,
        ask: Ask,
        sweeps_all: Callable[[], Awaitable[bool]],
        gone: Callable[[str, int], None],
        rng: Random,
    ) -> None:
        self._ask = ask
        self._gone = gone
        self._rng = rng
        self._sweeps_all = sweeps_all
        self._held: dict[str, Held] = {}
        self._tasks: set[Write] = set()
        self._takes_parked = True
        self._fences_foreign = True

    # -- which tasks are held

    def hold(self, root: Promise, version: int, dialect: Dialect) -> None:
        """A task was claimed for this client."""
        self._held[root.id] = Held(root, version, dialect)

    def start_of(self, id: str) -> str | None:
        """How the ids below a held execution begin; None where it is not held."""
        held = self._held.get(id)
        return None if held is None else held.lineage.start

    def let_go(self, id: str, version: int) -> None:
        """The task is not held at this version any more."""
        if self.of(id, version) is not None:
            del self._held[id]

    async def quiet(self, id: str, version: int) -> None:
        """Return when nothing of the execution is on the way any more."""
        held = self.of(id, version)
        if held is not None and held.under_way:
            await asyncio.wait(list(held.under_way))

    async def stop(self) -> None:
        """Give up what is on the way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._held.clear()

    # -- the three writes

    def create(
        self, id: str, version: int, promise: Promise, acked: Acked | None, context: Any
    ) -> Refusal | None:
        """Create a promise; `acked` follows."""
        held = self.of(id, version)
        if held is None:
            return LOST
        work = partial(self._create, id, held, promise)
        held.creating[promise.id] = write = self._begin(id, held, work, acked, context)
        write.add_done_callback(lambda _: held.creating.pop(promise.id, None))
        return None

    def settle(
        self,
        id: str,
        version: int,
        request: PromiseSettle,
        acked: Acked,
        context: Any,
    ) -> Refusal | None:
        """Settle a promise, after its create where that is on the way; `acked` follows."""
        held = self.of(id, version)
        if held is None:
            return LOST
        work = partial(self._settle, id, held, request)
        create = held.creating.get(request.id)  # a call may be cut before it stands (S10)
        before = None if create is None else [create]
        self._begin(id, held, work, acked, context, before=before)
        return None

    def fulfill(
        self, id: str, version: int, state: PromiseState, value: Value, acked: Acked, context: Any
    ) -> Refusal | None:
        """End the task; `acked` follows."""
        held = self.of(id, version)
        if held is None:
            return LOST
        work = partial(self._fulfill, id, held, state, value)
        self._begin(id, held, work, acked, context, before=list(held.under_way))
        return None

    def of(self, id: str, version: int) -> Held | None:
        """What is held under this version, if it is."""
        held = self._held.get(id)
        return held if held is not None and held.version == version else None

    def _begin(
        self,
        id: str,
        held: Held,
        work: Work,
        acked: Acked | None,
        context: Any,
        *,
        before: list[Write] | None = None,
    ) -> Write:
        # A context of its own: the caller may be a durable function's step.
        task = asyncio.get_running_loop().create_task(_run(before, work), context=ContextVars())
        self._tasks.add(task)
        held.under_way.add(task)
        task.add_done_callback(held.under_way.discard)
        # From the loop, not from the task: a body may go on in place.
        task.add_done_callback(
            partial(self._ended, id, held, acked, context), context=ContextVars()
        )
        return task

    def _ended(self, id: str, held: Held, acked: Acked | None, context: Any, task: Write) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            logger.error(
                "a write of %r failed; this is a bug, please report it", id, exc_info=error
            )
            self._gone(id, held.version)  # without an answer it would hang, and keep its lease
        if acked is not None:
            acked(context, LOST if error is not None else task.result())

    # -- creating

    async def _create(self, id: str, held: Held, promise: Promise) -> Promise | Refusal:
        create = await self._dressed(held, promise)
        reply = await self._written(id, held, create)
        if reply.status in _ODD and create.tags.get(TARGET) == PARKED:
            plain = {name: text for name, text in create.tags.items() if name != TARGET}
            create = PromiseCreate(create.id, create.timeout_at_ms, create.param, plain)
            reply = await self._written(id, held, create)
            if reply.status == _DONE:
                self._takes_parked = False
        if reply.status in _BAD:
            reply = await self._record_refusal(id, held, create, reply)
        return self._answer(id, held, reply)

    async def _dressed(self, held: Held, promise: Promise) -> PromiseCreate:
        """The create with its lineage, and with what makes the server see its deadline (S63)."""
        tags = dict(promise.tags)
        begins = TARGET in tags
        if begins:
            tags[TARGET] = as_servers_read_it(tags[TARGET])
        needs_sweep = not begins and is_external(promise) and self._takes_parked
        if needs_sweep and not await self._sweeps_all():
            tags[TARGET] = PARKED
        tags.update(held.lineage.tags(promise.id, own_branch=begins))
        return PromiseCreate(promise.id, promise.timeout_at_ms, promise.param, tags)

    async def _record_refusal(
        self, id: str, held: Held, create: PromiseCreate, refused: Reply
    ) -> Reply:
        """A create that this server will never take is that call's failure (S24).

        It is recorded, so that a replay goes the same way: bare, then rejected.
        """
        bare = PromiseCreate(
            create.id,
            create.timeout_at_ms,
            Value(create.param.headers),
            held.lineage.tags(create.id, own_branch=False),
        )
        reply = await self._written(id, held, bare)
        if reply.status != _DONE:
            return reply
        return await self._written(id, held, _rejected(create.id, "create", refused))

    # -- settling

    async def _settle(self, id: str, held: Held, request: PromiseSettle) -> Promise | Refusal:
        reply = await self._written(id, held, request)
        if reply.status in _BAD:
            reply = await self._written(id, held, _rejected(request.id, "record", reply))
        return self._answer(id, held, reply)

    async def _fulfill(
        self, id: str, held: Held, state: PromiseState, value: Value
    ) -> Promise | Refusal:
        settle = PromiseSettle(id, state, value)
        if held.wake is not None and not await held.wake():
            return LOST
        reply = await self._patiently(TaskFulfill(id, held.fence, settle))
        if reply.status in _BAD:
            settle = _rejected(id, "record", reply)
            reply = await self._patiently(TaskFulfill(id, held.fence, settle))
        self._gone(id, held.version)
        return self._answer(id, held, reply)

    # -- the ways out

    async def _written(self, id: str, held: Held, action: PromiseCreate | PromiseSettle) -> Reply:
        """Write fenced; an id of another origin unfenced where the server wants that (S62)."""
        is_foreign = not held.lineage.covers(action.id)
        if is_foreign and not self._fences_foreign:
            return await self._patiently(action)
        if held.wake is not None and not await held.wake():
            return Reply(_CONFLICT, error="the task was taken over while it was parked")
        reply = await self._patiently(TaskFence(id, held.fence, action))
        if reply.inner is not None:
            reply = reply.inner
        if is_foreign and reply.status in _ODD:
            reply = await self._patiently(action)
            if reply.status == _DONE:
                self._fences_foreign = False
        return reply

    async def _patiently(self, request: Request) -> Reply:
        """Refused credentials are no outcome (S24): said once, then tried again, slowly."""
        backoff = Backoff(_REFUSED_FIRST_S, _REFUSED_MOST_S, self._rng)
        while True:
            try:
                return await self._ask(request)
            except ResonateStoreError as error:
                if not backoff.failures:
                    logger.error("%s; what is to be recorded waits for it", error)
                await asyncio.sleep(backoff.next_s())

    def _answer(self, id: str, held: Held, reply: Reply) -> Promise | Refusal:
        if reply.status == _DONE and reply.promise is not None:
            return reply.promise
        level = logging.DEBUG if reply.status == _CONFLICT else logging.WARNING
        logger.log(level, "a write of %r is refused (%s): %s", id, reply.status, reply.error)
        self._gone(id, held.version)
        return LOST


async def _run(before: list[Write] | None, work: Work) -> Promise | Refusal:
    if before:
        await asyncio.wait(before)
    return await work()


def _rejected(id: str, what: str, refused: Reply) -> PromiseSettle:
    """The small named rejection that stands for what the server does not take."""
    error = ResonateStoreError(
        f"the server refused to {what} {id!r}: {refused.error} ({refused.status})", refused.status
    )
    return PromiseSettle(id, PromiseState.REJECTED, failure_value(error))
