"""`resonate.promises`: durable promises by hand (mission table 1.6)."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..errors import ResonateStoreError
from ..protocol.addresses import is_address
from ..protocol.idempotency import (
    SETTLE_KEY,
    key_for,
    refuse_other_creator,
    refuse_other_settler,
    tagged,
)
from ..protocol.records import Promise, PromiseState, Task, Value
from ..protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSearch,
    PromiseSettle,
    Reply,
    Request,
    TaskCreate,
)
from ..runtime.options import promise_id, seconds, string_map, text
from .search import Page, Search, check_page
from .stored import check_deadline, check_instant, check_span, failure_of, low_level_tags, value_of

if TYPE_CHECKING:
    from .core import ClientCore

_TAGS = {"resonate:external": "true", "resonate:scope": "global"}


class Promises:
    """Create, read, settle and find promises from anywhere in the process.

    `data` is JSON text as it is stored; `value` is any value, encoded for you. An `ikey` is an
    idempotency key: of a create, the id itself where absent (S52). Everything is durable on
    return. Every method raises TypeError or ValueError for an argument that cannot be meant,
    before anything is stored, and ResonateStoreError for what the store refuses.
    """

    __slots__ = ("_core",)

    def __init__(self, core: ClientCore) -> None:
        self._core = core

    async def create(
        self,
        id: str,
        timeout: int | timedelta | None = None,
        *,
        timeout_in: float | timedelta | None = None,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
        value: Any = None,
        tags: dict[str, str] | None = None,
    ) -> Promise:
        """Create a promise, or get the one that has this id.

        Args:
            timeout: Deadline, milliseconds since the epoch (seed 000), or a timedelta from now.
                What can only be seconds is refused.
            timeout_in: Deadline in seconds from now, in place of `timeout`.
            ikey: The key of the create.
            strict: Whether a promise that is settled already is an error.
            tags: Of these the reserved `resonate:target`, `resonate:delay` and `resonate:timer`
                may be set, too: a promise with a target is an execution.

        Raises:
            ResonateStoreError: The id was created with another key, or is settled and
                `strict` was asked for (code 409).
        """
        request = self._create(id, timeout, timeout_in, ikey, headers, data, value, tags)
        promise = _promise_of(await self._ask(request))
        _refuse_creator(promise, ikey, strict)
        return promise

    async def create_with_task(
        self,
        id: str,
        timeout: int | timedelta,
        pid: str,
        ttl: int,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
        value: Any = None,
        tags: dict[str, str] | None = None,
    ) -> tuple[Promise, Task | None]:
        """Create a promise with a target, and take the lease of its task in the same step.

        For workers written by hand. The task is None where it could not be had: the promise
        is settled, or its task is held by another.

        Args:
            timeout: Deadline, milliseconds since the epoch, or a timedelta from now.
            pid: Who is to hold the lease.
            ttl: Milliseconds of the lease.
            tags: They must name a `resonate:target`.
        """
        create = self._create(id, timeout, None, ikey, headers, data, value, tags)
        pid = text(pid, "pid")
        if "resonate:target" not in create.tags:
            raise ValueError(f"{id!r} needs the tag resonate:target: who is to execute it")
        reply = await self._ask(TaskCreate(pid, check_span(ttl, "ttl"), create))
        if reply.status == 409:  # its task is held
            reply = await self._ask(PromiseGet(create.id))
        promise = _promise_of(reply)
        _refuse_creator(promise, ikey, strict)
        task = reply.task
        return promise, task if task is not None and task.pid == pid else None

    async def get(self, id: str) -> Promise:
        """Read a promise.

        Raises:
            ResonateStoreError: There is none of that id (code 404).
        """
        return _promise_of(await self._ask(PromiseGet(promise_id(id))))

    async def resolve(
        self,
        id: str,
        data: str | None = None,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        value: Any = None,
    ) -> Promise:
        """Resolve a promise; a settled one stays as it is (read `state` to know).

        Args:
            ikey: The key of the settle: the same again is no error, another one is.
            strict: Whether it is an error that the promise was settled before, unless it was
                so with this key and into this state.

        Raises:
            ResonateStoreError: There is none of that id (code 404), or it was settled in
                another way (code 403).
        """
        return await self._settle(id, PromiseState.RESOLVED, ikey, strict, headers, data, value)

    async def reject(
        self,
        id: str,
        data: str | None = None,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        value: Any = None,
    ) -> Promise:
        """Reject a promise; otherwise as `resolve`.

        Args:
            value: An exception, which whoever waits is given as if a function had raised it
                (S51): `reject(id, value=ValueError("too late"))`. Any other value is what an
                `ApplicationError` shows.
        """
        if isinstance(value, BaseException):
            if data is not None:
                raise TypeError("give either data= (JSON text) or value= (an error), not both")
            stored = failure_of(headers, value)
            return await self._settle_with(id, PromiseState.REJECTED, ikey, strict, stored)
        return await self._settle(id, PromiseState.REJECTED, ikey, strict, headers, data, value)

    async def cancel(
        self,
        id: str,
        data: str | None = None,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        value: Any = None,
    ) -> Promise:
        """Cancel a promise; a function that is computing it gets `CancelledError` (S13).

        Otherwise as `resolve`.
        """
        return await self._settle(id, PromiseState.CANCELED, ikey, strict, headers, data, value)

    def search(
        self,
        *,
        state: PromiseState | str | None = None,
        tags: dict[str, str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Search[Promise]:
        """Find promises, in the order of their ids.

        `await` gives one page, `async for` all: `async for promise in promises.search(...)`.

        Args:
            state: Only promises in this state (`pending`, `resolved`, `rejected`,
                `rejected_canceled`, `rejected_timedout`).
            tags: Only promises that have all of these.
            limit: Size of a page, at most 1000.
            cursor: Where the page begins: what the page before gave.
        """
        cursor = check_page(limit, cursor)
        wanted = None if state is None else _state(state)
        having = {} if tags is None else string_map(tags, "tags")

        async def read(cursor: str | None) -> Page[Promise]:
            reply = await self._ask(PromiseSearch(wanted, having, limit, cursor))
            _check(reply)
            return Page(reply.promises, reply.cursor)

        return Search(read, cursor)

    async def callback(
        self, promise_id: str, root_promise_id: str, recv: str | None = None, timeout: int = 0
    ) -> Promise:
        """Wake the task of one promise when another promise settles.

        For workers written by hand: a task that is suspended on it becomes pending.

        Args:
            promise_id: The promise to wait for.
            root_promise_id: The promise whose task waits.
            recv, timeout: Taken as 0.6.7 has them, and not needed: the task is sent to its own
                target, until its own deadline.

        Returns:
            The promise to wait for, as it stands.
        """
        awaited, awaiter = _id(promise_id), _id(root_promise_id)
        return _promise_of(await self._ask(PromiseRegisterCallback(awaited, awaiter)))

    async def subscribe(self, id: str, promise_id: str, recv: str, timeout: int = 0) -> Promise:
        """Send an unblock message to an address when a promise settles.

        Args:
            id, timeout: Taken as 0.6.7 has them, and not needed.
            promise_id: The promise to listen for.
            recv: The address, such as `poll://uni@group/pid`.

        Returns:
            The promise, as it stands.
        """
        recv = text(recv, "recv")
        if not is_address(recv):
            raise ValueError(f"recv is an address such as poll://uni@group/pid, got {recv!r}")
        return _promise_of(await self._ask(PromiseRegisterListener(_id(promise_id), recv)))

    def _create(
        self,
        id: str,
        timeout: int | timedelta | None,
        timeout_in: float | timedelta | None,
        ikey: str | None,
        headers: dict[str, str] | None,
        data: str | None,
        value: Any,
        tags: dict[str, str] | None,
    ) -> PromiseCreate:
        id = promise_id(id)
        if (timeout is None) == (timeout_in is None):
            raise TypeError(
                "give either timeout= (milliseconds since the epoch) or timeout_in= (seconds)"
            )
        now_ms = self._core.clock.now_ms()
        if timeout_in is None:
            at_ms = check_deadline(timeout, "timeout", now_ms)
        else:
            at_ms = check_instant(
                now_ms + int(seconds(timeout_in, "timeout_in") * 1000), "timeout_in"
            )
        stored = {**_TAGS, **low_level_tags(tags)}
        if ikey is not None:
            stored = tagged(stored, text(ikey, "ikey"), id)
        return PromiseCreate(id, at_ms, value_of(headers, data, value), stored)

    async def _settle(
        self,
        id: str,
        state: PromiseState,
        ikey: str | None,
        strict: bool,
        headers: dict[str, str] | None,
        data: str | None,
        value: Any,
    ) -> Promise:
        stored = value_of(headers, data, value)
        return await self._settle_with(id, state, ikey, strict, stored)

    async def _settle_with(
        self, id: str, state: PromiseState, ikey: str | None, strict: bool, stored: Value
    ) -> Promise:
        id = promise_id(id)
        if ikey is not None:
            ikey = text(ikey, "ikey")
        elif strict:
            ikey = uuid.uuid4().hex  # nobody else has it: whoever settled is told apart from us
        if ikey is not None:
            stored = Value({**(stored.headers or {}), SETTLE_KEY: ikey}, stored.data)
        promise = _promise_of(await self._ask(PromiseSettle(id, state, stored)))
        if strict and promise.state is not state:
            raise ResonateStoreError(
                f"promise {id!r} is {promise.state} already, not {state}: its outcome stays", 403
            )
        if ikey is not None and promise.state is not PromiseState.TIMEDOUT:
            refuse_other_settler(promise, ikey)
        return promise

    async def _ask(self, request: Request) -> Reply:
        await self._core.ensure_started()
        return await self._core.store.call(request)


def _refuse_creator(promise: Promise, ikey: str | None, strict: bool) -> None:
    refuse_other_creator(promise, key_for(ikey, promise.id))
    if strict and promise.state is not PromiseState.PENDING:
        raise ResonateStoreError(
            f"promise {promise.id!r} is {promise.state} already, and strict=True asks for one "
            "that is pending",
            409,
        )


def _promise_of(reply: Reply) -> Promise:
    _check(reply)
    if reply.promise is None:
        raise ResonateStoreError("the store answered without a promise", reply.status)
    return reply.promise


def _check(reply: Reply) -> None:
    if reply.status != 200:
        hint = ": create it first" if reply.status == 404 else ""
        raise ResonateStoreError(f"{reply.error}{hint}", reply.status)


def _id(id: str) -> str:
    return promise_id(id)


def _state(state: Any) -> PromiseState:
    try:
        return PromiseState(state)
    except ValueError:
        states = ", ".join(PromiseState)
        raise ValueError(f"state is one of {states}, got {state!r}") from None
