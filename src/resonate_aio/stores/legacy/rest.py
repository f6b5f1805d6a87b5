"""The legacy server's REST verbs, one coroutine each, over an `HttpSession`.

Each verb sends its request until there is an answer that can be read, and says what became of
it in our words: a record, or `Refused` with the status and the server's text. The numbers
inside refusals are never looked at, for they depend on the server's version (hazard 8). Where a
refusal only means that somebody was faster, the verb reads the promise and gives that
(hazards 5, 6, 7). This file knows no lease, no watcher and no order between requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlencode

import orjson

from ...errors import ResonateStoreError
from ...protocol.idempotency import CREATE_KEY, SETTLE_KEY
from ...protocol.records import Promise, PromiseState, Schedule, Value, is_pending
from ...protocol.requests import PromiseCreate, ScheduleCreate
from ..http.answers import REFUSED, Answer
from ..http.session import Lane
from . import codec
from .answers import (
    FORBIDDEN,
    NOT_HERE,
    Created,
    Fence,
    Refused,
    Registered,
    Told,
    affected,
    created,
    is_refusal,
    nothing,
    schedule_ids,
    understood,
)

T = TypeVar("T")

PAGE: Final = 100
"""The most rows the server gives at a time."""

_CREDENTIALS: Final = frozenset({401})
_CONFLICT: Final = 409
_TAG_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:")


class Session(Protocol):
    """What carries requests to the server: an `HttpSession`, or what stands for one."""

    rng: Random

    @property
    def url(self) -> str:
        """What messages call the server."""
        ...

    async def open(self) -> None:
        """Begin to carry requests."""
        ...

    async def close(self) -> None:
        """Carry no more; everything is closed on return."""
        ...

    async def exchange(
        self,
        method: str,
        path: str,
        read: Callable[[Answer], T],
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        lane: Lane = Lane.WORK,
        refusals: frozenset[int] = REFUSED,
    ) -> tuple[T, bool]:
        """Carry a request until there is an answer: see `HttpSession.exchange`."""
        ...


class LegacyRest:
    """A legacy server.

    Every coroutine lasts until the server answers, or is cancelled; it raises
    `ResonateStoreError` when the server refuses the credentials (code 401 or 403).

    Args:
        http: An open session at the server's URL.
    """

    __slots__ = ("_http",)

    def __init__(self, http: Session) -> None:
        self._http = http

    # -- promises

    async def get(self, id: str) -> Promise | None:
        """Read a promise; one that is overdue is timed out first."""
        told = await self._send("GET", codec.path_of("promises", id), codec.promise_from_rest)
        if told.status == NOT_HERE:
            return None
        promise: Promise = self._certain(told)
        return promise

    async def search(
        self,
        pattern: str,
        *,
        state: str | None = None,
        tags: Mapping[str, str] | None = None,
        limit: int = PAGE,
        cursor: str | None = None,
    ) -> tuple[list[Promise], str | None]:
        """One page of the promises that match, newest first.

        Args:
            pattern: Ids; `*` stands for anything.
            state: pending, resolved or rejected (cancelled and timed out included).
            tags: What their tags must include, as the server calls them. Names that the
                server could misread are left out: the caller filters what comes.
            cursor: Where the page begins; given by the page before.
        """
        query: list[tuple[str, str]]
        if cursor is not None:
            query = [("cursor", cursor)]
        else:
            query = [("id", pattern), ("limit", str(min(limit, PAGE)))]
            if state is not None:
                query.append(("state", state))
            for name, value in (tags or {}).items():
                if _TAG_NAME.issuperset(name):
                    query.append((f"tags[{name}]", value))
        path = f"/promises?{urlencode(query)}"
        told = await self._send("GET", path, codec.promises_from_rest)
        page: tuple[list[Promise], str | None] = self._certain(told)
        return page

    async def create(
        self, request: PromiseCreate, *, root: str | None = None, fence: Fence | None = None
    ) -> Created | Refused:
        """Create a promise, or get the one that has this id, whoever created it."""
        body = codec.create_to_rest(request, root=root)
        headers = _headers(request.tags.get(CREATE_KEY, request.id), fence)
        told = await self._send("POST", "/promises", codec.promise_from_rest, body, headers)
        if told.is_done:
            return Created(told.data, maybe_done=told.maybe_done)
        return await self._standing_or_refusal(request.id, told)

    async def create_with_task(
        self, request: PromiseCreate, holder: str, ttl_ms: int
    ) -> Created | Refused:
        """Create a promise whose task the holder has claimed, or get the one of this id."""
        body = {
            "promise": codec.create_to_rest(request),
            "task": {"processId": holder, "ttl": ttl_ms},
        }
        headers = _headers(request.tags.get(CREATE_KEY, request.id), None)
        told = await self._send("POST", "/promises/task", created, body, headers)
        if told.is_done:
            promise, has_task = told.data
            return Created(promise, has_task, told.maybe_done)
        return await self._standing_or_refusal(request.id, told)

    async def _standing_or_refusal(self, id: str, told: Told) -> Created | Refused:
        """A promise that was created with another key, or with none (hazard 7): the record."""
        if told.status != _CONFLICT:
            return self._refusal(told)
        standing = await self.get(id)
        if standing is None:
            raise _vanished(id)
        return Created(standing, maybe_done=told.maybe_done)

    async def settle(
        self, id: str, state: PromiseState, value: Value, *, fence: Fence | None = None
    ) -> Promise | Refused:
        """Settle a promise; the record that now stands, also where others were faster.

        The record's state may be another than the one asked for (hazards 5 and 6).
        """
        key = (value.headers or {}).get(SETTLE_KEY, id)
        told = await self._send(
            "PATCH",
            codec.path_of("promises", id),
            codec.promise_from_rest,
            codec.settle_to_rest(state, value),
            _headers(key, fence),
        )
        if told.is_done:
            settled: Promise = told.data
            return settled
        if told.status == FORBIDDEN and is_refusal(told.data):
            standing = await self.get(id)
            if standing is None:
                return Refused(NOT_HERE, f"there is no promise {id!r}", told.maybe_done)
            if is_pending(standing):
                raise self._credentials(told)
            return standing
        return self._refusal(told)

    async def callback(
        self, awaited: str, root: str, recv: str, timeout_at_ms: int, *, fence: Fence | None = None
    ) -> Registered | Refused:
        """Have a task of the root made when the awaited promise settles."""
        body = {"rootPromiseId": root, "recv": recv, "timeout": timeout_at_ms}
        return await self._register("promises/callback", awaited, body, _headers(None, fence))

    async def subscribe(self, awaited: str, name: str, recv: str) -> Registered | Refused:
        """Have the settled promise sent to an address, once (hazard 1).

        Args:
            name: Of the subscription: the same one again changes nothing.
        """
        body = {"id": name, "recv": recv, "timeout": codec.NEVER_MS}
        return await self._register("promises/subscribe", awaited, body, {})

    async def _register(
        self, kind: str, awaited: str, body: codec.Rest, headers: dict[str, str]
    ) -> Registered | Refused:
        path = codec.path_of(kind, awaited)
        told = await self._send("POST", path, codec.callback_from_rest, body, headers)
        return Registered(*told.data) if told.is_done else self._refusal(told)

    # -- tasks

    async def claim(self, task: Fence, holder: str, ttl_ms: int) -> codec.Claimed | Refused:
        """Take the lease of a task."""
        body = {**_named(task), "processId": holder, "ttl": ttl_ms}
        told = await self._send("POST", "/tasks/claim", codec.claimed_from_rest, body)
        if told.is_done:
            claimed: codec.Claimed = told.data
            return claimed
        return self._refusal(told, race=True)

    async def complete(self, task: Fence) -> Refused | None:
        """End a task; None when that is done, or was."""
        told = await self._send("POST", "/tasks/complete", nothing, _named(task))
        return None if told.is_done else self._refusal(told, race=True)

    async def drop(self, task: Fence) -> Refused | None:
        """Give the lease back; None when the task is nobody's any more."""
        told = await self._send("POST", "/tasks/drop", nothing, _named(task))
        return None if told.is_done else self._refusal(told, race=True)

    async def heartbeat(self, holder: str) -> int:
        """Extend every lease of the holder; how many there are."""
        told = await self._send(
            "POST", "/tasks/heartbeat", affected, {"processId": holder}, lane=Lane.BEAT
        )
        count: int = self._certain(told)
        return count

    # -- schedules

    async def create_schedule(self, request: ScheduleCreate) -> Schedule | Refused:
        """Create a schedule, or get the one that has this id."""
        body, headers = codec.schedule_to_rest(request), _headers(request.id, None)
        told = await self._send("POST", "/schedules", codec.schedule_from_rest, body, headers)
        if told.is_done:
            made: Schedule = told.data
            return made
        if told.status != _CONFLICT:
            return self._refusal(told)
        standing = await self.get_schedule(request.id)
        if standing is None:
            raise _vanished(request.id)
        return standing

    async def get_schedule(self, id: str) -> Schedule | None:
        """Read a schedule."""
        told = await self._send("GET", codec.path_of("schedules", id), codec.schedule_from_rest)
        if told.status == NOT_HERE:
            return None
        schedule: Schedule = self._certain(told)
        return schedule

    async def delete_schedule(self, id: str) -> Refused | None:
        """Delete a schedule."""
        told = await self._send("DELETE", codec.path_of("schedules", id), nothing)
        if told.is_done:
            return None
        return self._refusal(told)

    async def search_schedules(
        self, tags: Mapping[str, str], *, limit: int, cursor: str | None
    ) -> tuple[list[str], str | None]:
        """One page of the ids of schedules with these tags: the rows show little else."""
        query = [("id", "*"), ("limit", str(min(limit, PAGE)))]
        query += [(f"tags[{name}]", tag) for name, tag in tags.items() if set(name) <= _TAG_NAME]
        if cursor is not None:
            query = [("cursor", cursor)]
        path = f"/schedules?{urlencode(query)}"
        page: tuple[list[str], str | None] = self._certain(
            await self._send("GET", path, schedule_ids)
        )
        return page

    # -- sending

    async def _send(
        self,
        method: str,
        path: str,
        read: Callable[[Any], Any],
        body: codec.Rest | None = None,
        headers: dict[str, str] | None = None,
        *,
        lane: Lane = Lane.WORK,
    ) -> Told:
        sent = None if body is None else orjson.dumps(body)

        def reading(answer: Answer) -> tuple[int, Any]:
            return answer.status, understood(answer, read, len(sent or b""))

        (status, data), maybe_done = await self._http.exchange(
            method,
            path,
            reading,
            body=sent,
            headers=headers,
            lane=lane,
            refusals=_CREDENTIALS,
        )
        return Told(status, data, maybe_done)

    def _refusal(self, told: Told, *, race: bool = False) -> Refused:
        """A refusal as a reply; one that cannot be about promises and tasks is raised.

        Args:
            race: A 403 may also mean that the task is not as we thought (hazards 3 and 4).

        Raises:
            ResonateStoreError: The credentials are not good for this (code 403).
        """
        if told.status == FORBIDDEN and not (race and is_refusal(told.data)):
            raise self._credentials(told)
        return told.refused()

    def _certain(self, told: Told) -> Any:
        """What a request shows that can only be refused for its sender's faults.

        Raises:
            ResonateStoreError: It was refused; its code is the status.
        """
        if told.is_done:
            return told.data
        if told.status == FORBIDDEN:
            raise self._credentials(told)
        raise ResonateStoreError(codec.refusal_text(told.data), told.status)

    def _credentials(self, told: Told) -> ResonateStoreError:
        return ResonateStoreError(
            f"the server at {self._http.url} refuses this client "
            f"({told.status}, {codec.refusal_text(told.data)}): check token= or auth=",
            told.status,
        )


def _vanished(id: str) -> ResonateStoreError:
    return ResonateStoreError(
        f"the server says that {id!r} exists already, and when asked that it does not", _CONFLICT
    )


def _headers(key: str | None, fence: Fence | None) -> dict[str, str]:
    """The headers of a write; what a header cannot carry unchanged is left out."""
    headers: dict[str, str] = {}
    if key is not None and codec.is_header_safe(key):
        headers["Idempotency-Key"] = key
    if fence is not None and codec.is_header_safe(fence.task_id):
        headers["Task-Id"] = fence.task_id
        headers["Task-Counter"] = str(fence.counter)
    return headers


def _named(task: Fence) -> codec.Rest:
    return {"id": task.task_id, "counter": task.counter}
