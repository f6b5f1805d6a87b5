"""`POST /`: one decoded envelope in, one out (current-protocol §2, §5).

Bytes, tokens and HTTP are the server's affair. A request that is refused here has touched no
state: it was malformed, or against the rules of this server.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec

from ..errors import ResonateStoreError, UnreadableRecordError
from ..protocol.envelope import (
    KINDS,
    VERSION,
    Data,
    Envelope,
    FieldError,
    opened,
    refusal_to_wire,
    reply_to_wire,
    request_from_wire,
    salvaged,
)
from ..protocol.requests import (
    PromiseCreate,
    PromiseGet,
    Reply,
    Request,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    TaskAcquire,
    TaskCreate,
    TaskFence,
    TaskGet,
)
from .debug import PREFIX, DebugDesk
from .pages import kept_to_size
from .rules import Rules, awaited_ids, is_awaitable, refusal
from .seam import EmbeddableStore

_log = logging.getLogger("resonate_aio.server")

UNKNOWN: Final = "unknown"

_FINAL: Final = (
    *(PromiseGet, TaskAcquire, TaskCreate, TaskGet),
    *(ScheduleCreate, ScheduleDelete, ScheduleGet),
)
"""What is refused for good where a record cannot be read.

The others are asked again: refused, a step's create or settle would be that step's outcome (S24).
"""


class Endpoint:
    """Answers envelopes over one store.

    Args:
        desk: Answers the debug requests; None refuses them.
    """

    __slots__ = ("_desk", "_rules", "_store")

    def __init__(self, store: EmbeddableStore, rules: Rules, desk: DebugDesk | None) -> None:
        self._store = store
        self._rules = rules
        self._desk = desk

    async def answer(self, envelope: Any) -> Data:
        """The response to whatever was sent; never raises for what a client did."""
        kind, corr_id = salvaged(envelope)
        try:
            asked = opened(envelope)
            if asked.kind.startswith(PREFIX):
                return self._debug(asked)
            request = request_from_wire(asked.kind, asked.data)
        except FieldError as fault:
            return refusal_to_wire(kind, corr_id, 400, str(fault))
        try:
            return await self._carry_out(_owned(request), asked)
        except UnreadableRecordError as error:
            return refusal_to_wire(
                kind, corr_id, 422 if isinstance(request, _FINAL) else 503, f"{error}"
            )
        except ResonateStoreError as error:
            _log.warning("%s failed: %s", kind, error)
            return refusal_to_wire(kind, corr_id, 503, f"the store failed: {error}")

    async def _carry_out(self, request: Request, asked: Envelope) -> Data:
        named_ms = asked.debug_time_ms
        reply = refusal(request, self._rules) or await self._unawaitable(request)
        if reply is not None:
            return reply_to_wire(request, asked.corr_id, reply)
        if self._desk is None:
            reply = kept_to_size(await self._store.call(request))
            return reply_to_wire(request, asked.corr_id, reply)
        reply, now_ms = self._desk.store.at(named_ms, request)
        return _stamped(reply_to_wire(request, asked.corr_id, reply), now_ms)

    async def _unawaitable(self, request: Request) -> Reply | None:
        """422 for a promise that may be waited for in general, but not under these rules."""
        if self._rules.scope_is_external:
            return None
        for id in awaited_ids(request):
            if not id:
                continue
            promise = (await self._store.call(PromiseGet(id))).promise
            if promise is not None and not is_awaitable(promise, self._rules):
                return Reply(422, error=f"promise {id!r} is internal and cannot be waited for")
        return None

    def _debug(self, asked: Envelope) -> Data:
        if self._desk is None:
            refused = "debugging is off: start the server with the debug flag"
            return refusal_to_wire(asked.kind, asked.corr_id, 403, refused)
        data, now_ms = self._desk.answer(asked.kind, asked.data, asked.debug_time_ms)
        head = {"corrId": asked.corr_id, "status": 200, "version": VERSION}
        return _stamped({"kind": asked.kind, "head": head, "data": data}, now_ms)


def label(kind: str) -> str:
    """The kind as metrics name it: what clients made up is one kind."""
    return kind if kind in KINDS or kind in _DEBUG_KINDS else UNKNOWN


_DEBUG_KINDS: Final = frozenset(
    PREFIX + name for name in ("start", "stop", "reset", "tick", "snap", "messages")
)


def _owned(request: Request) -> Request:
    """A fenced create below its task belongs to that execution: replay and retention go by it."""
    if not isinstance(request, TaskFence) or not isinstance(request.action, PromiseCreate):
        return request
    id, action = request.id, request.action
    if not action.id.startswith((f"{id}.", f"{id}:")):
        return request
    return msgspec.structs.replace(request, action=msgspec.structs.replace(action, owner=id))


def _stamped(response: Data, now_ms: int) -> Data:
    """The response with the instant that the server really used (§12.1)."""
    response["head"]["resonate:debug_time"] = now_ms
    return response
