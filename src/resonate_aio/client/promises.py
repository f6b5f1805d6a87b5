"""`resonate.promises`: durable promises by hand (mission table 1.6)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..errors import ResonateStoreError, ValueCodecError
from ..protocol.records import EMPTY, Promise, PromiseState, Value
from ..protocol.requests import PromiseCreate, PromiseGet, PromiseSettle, Reply, Request
from ..protocol.values import decode, encode, shown
from ..runtime.options import promise_id, seconds, user_tags

if TYPE_CHECKING:
    from .core import ClientCore

_TAGS = {"resonate:external": "true", "resonate:scope": "global"}


class Promises:
    """Create, read and settle promises from anywhere in the process.

    `data` is JSON text as it is stored; `value` is any value, encoded for you.
    Everything is durable on return.
    """

    __slots__ = ("_core",)

    def __init__(self, core: ClientCore) -> None:
        self._core = core

    async def create(
        self,
        id: str,
        timeout: int | None = None,
        *,
        timeout_in: float | timedelta | None = None,
        headers: dict[str, str] | None = None,
        data: str | None = None,
        value: Any = None,
        tags: dict[str, str] | None = None,
    ) -> Promise:
        """Create a promise, or get the one that has this id.

        Args:
            timeout: Deadline, milliseconds since the epoch (seed 000).
            timeout_in: Deadline in seconds from now, in place of `timeout`.

        Raises:
            TypeError, ValueError: An argument of the wrong kind; nothing is stored.
            ResonateStoreError: The store refused.
        """
        if (timeout is None) == (timeout_in is None):
            raise TypeError(
                "give either timeout= (milliseconds since the epoch) or timeout_in= (seconds)"
            )
        now_ms = self._core.clock.now_ms()
        if timeout_in is not None:
            timeout = now_ms + int(seconds(timeout_in, "timeout_in") * 1000)
        if isinstance(timeout, bool) or not isinstance(timeout, int):
            raise TypeError(f"timeout is an int, milliseconds since the epoch, got {timeout!r}")
        if timeout < 0:
            raise ValueError(f"timeout must not be negative, got {timeout}")
        stored = {**_TAGS, **(user_tags(tags) if tags is not None else {})}
        request = PromiseCreate(promise_id(id), timeout, _value(headers, data, value), stored)
        return await self._ask(request, id)

    async def get(self, id: str) -> Promise:
        """Read a promise.

        Raises:
            ResonateStoreError: There is none of that id (code 404).
        """
        return await self._ask(PromiseGet(promise_id(id)), id)

    async def resolve(
        self,
        id: str,
        data: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        value: Any = None,
    ) -> Promise:
        """Resolve a promise; a settled one stays as it is (read `state` to know)."""
        return await self._settle(id, PromiseState.RESOLVED, headers, data, value)

    async def reject(
        self,
        id: str,
        data: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        value: Any = None,
    ) -> Promise:
        """Reject a promise; a settled one stays as it is (read `state` to know)."""
        return await self._settle(id, PromiseState.REJECTED, headers, data, value)

    async def cancel(
        self,
        id: str,
        data: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        value: Any = None,
    ) -> Promise:
        """Cancel a promise; a function that is computing it gets `CancelledError` (S13)."""
        return await self._settle(id, PromiseState.CANCELED, headers, data, value)

    async def _settle(
        self,
        id: str,
        state: PromiseState,
        headers: dict[str, str] | None,
        data: str | None,
        value: Any,
    ) -> Promise:
        request = PromiseSettle(promise_id(id), state, _value(headers, data, value))
        return await self._ask(request, id)

    async def _ask(self, request: Request, id: str) -> Promise:
        await self._core.ensure_started()
        reply = await self._core.store.call(request)
        return _promise_of(reply, id)


def _promise_of(reply: Reply, id: str) -> Promise:
    if reply.promise is None or reply.status != 200:
        hint = ": create it first" if reply.status == 404 else ""
        raise ResonateStoreError(f"{reply.error}{hint}", reply.status)
    return reply.promise


def _check_json(data: Any) -> None:
    """What waiters could not decode is refused before it is stored for ever."""
    if not isinstance(data, str):
        raise TypeError(f"data is JSON text, got {type(data).__name__}: use value= for values")
    try:
        decode(data)
    except ValueCodecError:
        raise ValueError(
            f"data is JSON text, and {shown(data)!r} is not: write value={shown(data)!r} to have a "
            "value encoded for you"
        ) from None


def _value(headers: dict[str, str] | None, data: str | None, value: Any) -> Value:
    if value is not None:
        if data is not None:
            raise TypeError("give either data= (JSON text) or value= (encoded for you), not both")
        data = encode(value)
    if data is not None:
        _check_json(data)
    if data is None and headers is None:
        return EMPTY
    return Value(headers, data)
