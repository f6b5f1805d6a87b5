"""What a legacy server answers: read once, in our words.

An answer is a record, or `Refused`; anything else (a page of HTML, half a text, a redirect, a
404 that is not the server's own) says nothing about the request and is a `TroubleError`, so
that the request is sent again (law 8). This file sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import orjson

from ...protocol.fields import FieldError, integer, items, mapping, text
from ...protocol.records import Promise
from ..http.answers import Answer, TroubleError, too_large
from . import codec

NOT_HERE: Final = 404
FORBIDDEN: Final = 403
_BAD: Final = frozenset({400, 413, 422})
_DONE: Final = frozenset({200, 201, 204})
_REFUSALS: Final = frozenset({400, 403, 404, 409, 412, 413, 422})


class Fence(msgspec.Struct, frozen=True, gc=False):
    """The task on whose being held a write depends."""

    task_id: str
    counter: int


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The server would not.

    Attributes:
        status: 400, 413, 422 a bad request; 403 or 404 the task or promise is not so;
            412 the fence does not hold.
        error: Why, in the server's words.
        maybe_done: An earlier try may have been carried out (S60).
    """

    status: int
    error: str
    maybe_done: bool = False

    @property
    def is_bad_request(self) -> bool:
        """Whether the request itself is at fault, so that it will never be taken (S24)."""
        return self.status in _BAD


class Created(msgspec.Struct, frozen=True, gc=False):
    """A promise that was created or was there.

    Attributes:
        has_task: The promise is new and its task is ours.
        maybe_done: An earlier try may have been carried out (S60).
    """

    promise: Promise
    has_task: bool = False
    maybe_done: bool = False


class Registered(msgspec.Struct, frozen=True, gc=False):
    """A callback or subscription: whether it was made now, and the promise as it stood."""

    is_new: bool
    promise: Promise


class Told(msgspec.Struct, frozen=True, gc=False):
    """One answer: its status, what was read of it, and whether an earlier try may count (S60)."""

    status: int
    data: Any
    maybe_done: bool

    @property
    def is_done(self) -> bool:
        """Whether the server did what it was asked."""
        return self.status in _DONE

    def refused(self) -> Refused:
        """The answer as a refusal."""
        return Refused(self.status, codec.refusal_text(self.data), self.maybe_done)


def understood(answer: Answer, read: Callable[[Any], Any], sent_bytes: int = 0) -> Any:
    """The part of an answer that counts; a refusal's body is kept as it is.

    Args:
        sent_bytes: The length of the request's body.

    Raises:
        TroubleError: It is no answer of this server: a page of somebody between, half a text.
    """
    if 300 <= answer.status < 400:
        raise TroubleError(f"status {answer.status}: the server is elsewhere, or not this one")
    data = _json(answer)
    if answer.status not in _DONE:
        if answer.status not in _REFUSALS:
            raise TroubleError(f"status {answer.status}, which a legacy server does not send")
        if answer.status == NOT_HERE and not is_refusal(data):
            raise _NoSuchRouteError(codec.refusal_text(data))
        if answer.status in _BAD and not is_refusal(data):
            return _too_large(answer, sent_bytes)
        return data
    if isinstance(data, str):
        raise TroubleError(f"an answer that is no JSON: {codec.refusal_text(data)}")
    if read is nothing:
        return None
    try:
        return read(data)
    except FieldError as error:
        raise TroubleError(f"an answer that cannot be read: {error}") from None


class _NoSuchRouteError(TroubleError):
    """Not the server's own 404: a wrong URL, a proxy without its server, an old version."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"404 without the form of a legacy server's refusal: {reason}", after_s=1)


def _too_large(answer: Answer, sent_bytes: int) -> codec.Rest:
    """A refusal that is not of the server's own form, in that form.

    Raises:
        TroubleError: It says nothing about the request.
    """
    fault = too_large(answer, sent_bytes)
    if fault is None:
        raise TroubleError(
            f"status {answer.status} without the form of a legacy server's refusal, for a request "
            f"of {sent_bytes:,} bytes: look at what stands in front of the server"
        )
    return {"error": {"message": fault}}


def _json(answer: Answer) -> Any:
    if not answer.body:
        return None
    try:
        return orjson.loads(answer.body)
    except ValueError:
        return answer.body[:200].decode(errors="replace")


def is_refusal(data: Any) -> bool:
    """Whether a body has the form of the server's own refusals (§1.3)."""
    return isinstance(data, dict) and isinstance(data.get("error"), dict)


def nothing(data: Any) -> None:
    """The status says it all."""


def created(data: Any) -> tuple[Promise, bool]:
    """The promise of a create with task, and whether the task came with it."""
    found = mapping(data, "response")
    promise = codec.promise_from_rest(found.get("promise"), "response.promise")
    return promise, found.get("task") is not None


def affected(data: Any) -> int:
    """How many leases a heartbeat extended."""
    return integer(mapping(data, "response"), "tasksAffected", "response")


def schedule_ids(data: Any) -> tuple[list[str], str | None]:
    """The ids on one page of schedules, and where the next page begins, if there is one."""
    found = mapping(data, "response")
    rows = items(found, "schedules", "response")
    ids = [text(mapping(row, "schedule"), "id", "schedule") for row in rows]
    cursor = found.get("cursor")
    return ids, cursor if isinstance(cursor, str) and cursor else None
