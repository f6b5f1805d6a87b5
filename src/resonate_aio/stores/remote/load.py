"""What an execution recorded on a server, found again before its replay (S9).

The preload of an acquire is a cache: a server may send all of it, ten records or nothing, and
an answer that was lost sends none. So the records are searched for, by the tag that every
promise of an execution carries. A server that cannot search is asked for one id after the
other: that finds every call of a function's main task, and those of other tasks which some
record names.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

from ...errors import ResonateStoreError, ValueCodecError
from ...protocol.dialects import EXECUTION_TAG, TARGET, parent_of
from ...protocol.records import Promise, is_external, is_pending
from ...protocol.requests import PromiseGet, PromiseSearch, Reply, Request
from ...protocol.values import decode
from ..lineage import explicit_id

logger = logging.getLogger("resonate_aio.stores.remote")

Ask = Callable[[Request], Awaitable[Reply]]

_LOG: Final = "resonate-aio:log"
"""Header of a body that did more than one thing at a time (S4)."""

_PAGE: Final = 1000
_NOT_SERVED: Final = 501
_ABSENT: Final = 404


class RemoteLoad:
    """Finds the records of one execution.

    Args:
        ask: Carries out one request.
        root: The execution's id.
        start: How every id begins that continues it.
    """

    def __init__(self, ask: Ask, root: str, start: str) -> None:
        self._ask = ask
        self._root = root
        self._start = start
        self._found: dict[str, Promise] = {}
        self._absent: set[str] = set()

    async def records(self, preload: Iterable[Promise]) -> list[Promise]:
        """Every stored promise that replay may ask for, in any order.

        Raises:
            ResonateStoreError: The server refused to tell.
        """
        for promise in preload:
            # What others put there belongs to no log: the replay meets it when it asks (S20).
            if promise.tags.get(EXECUTION_TAG) == self._root:
                self._found[promise.id] = promise
        if not await self._search():
            await self._probe()
        await self._read_explicit()
        return list(self._found.values())

    async def _read(self, id: str) -> Promise | None:
        if id in self._found:
            return self._found[id]
        if id in self._absent:
            return None
        reply = await self._ask(PromiseGet(id))
        if reply.promise is not None:
            self._found[id] = reply.promise
            return reply.promise
        if reply.status != _ABSENT:
            raise ResonateStoreError(f"{self._root!r} cannot be loaded: {reply.error}")
        self._absent.add(id)
        return None

    async def _search(self) -> bool:
        """List what carries the execution's tag; False where the server cannot."""
        cursor: str | None = None
        while True:
            request = PromiseSearch(tags={EXECUTION_TAG: self._root}, limit=_PAGE, cursor=cursor)
            reply = await self._ask(request)
            if reply.status == _NOT_SERVED:
                return False
            if reply.status >= 400:
                raise ResonateStoreError(f"{self._root!r} cannot be loaded: {reply.error}")
            for promise in reply.promises:
                self._found[promise.id] = promise
            cursor = reply.cursor
            if cursor is None:
                return True

    async def _probe(self) -> None:
        """Without a search: one id after the other, in every branch that is heard of."""
        logger.warning(
            "%r is loaded id by id, for the server cannot search: calls made in helper tasks may "
            "be overlooked, and made again",
            self._root,
        )
        seen: set[str] = set()
        waiting = [f"{self._start}1"]
        while waiting:
            id = waiting.pop()
            if id in seen:
                continue
            seen.add(id)
            promise = await self._read(id)
            if promise is None:
                continue
            waiting += self._next_to(promise)

    def _next_to(self, promise: Promise) -> Iterator[str]:
        """The ids that may exist because this one does."""
        branch = promise.id.rstrip("0123456789")
        yield f"{branch}{int(promise.id[len(branch) :] or 0) + 1}"
        if _has_body(promise):
            yield f"{promise.id}.1"
        header = (promise.param.headers or {}).get(_LOG)
        if header is not None:
            parent = parent_of(promise.id, self._root)
            start = self._start if parent == self._root else f"{parent}."
            for name in _named_in(header):
                yield start + name

    async def _read_explicit(self) -> None:
        """The promises under ids of their own that the log records name (S4)."""
        for named in [explicit_id(found) for found in self._found.values()]:
            if named is not None:
                await self._read(named)


def _named_in(header: str) -> list[str]:
    """The calls of the same body that a log header names; nothing of what cannot be read."""
    try:
        _, _, gain, *rest = decode(header)
        names = [name for batch in gain for name in batch]
        for branch, first, last, _ in rest[0] if rest else ():
            names += [f"{branch}{number}" for number in range(first, last + 1)]
        return [name for name in map(str, names) if not name.startswith("!")]
    except (ValueError, TypeError, ValueCodecError):
        return []  # the replay will say so, if it comes to it


def _has_body(promise: Promise) -> bool:
    """Whether a local function ran, or runs, whose calls are not all known to be over."""
    return is_pending(promise) and TARGET not in promise.tags and not is_external(promise)
