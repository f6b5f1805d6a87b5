"""Who waits in this client for the end of which execution.

A handle is told once: by the worker where the execution is held here, else by the store's
watch. This file starts nothing and knows no loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ..errors import ResonateShutdownError, ResonateStoreError
from ..protocol.idempotency import Key, key_for, refuse_other_creator
from ..protocol.records import Promise, is_pending
from ..protocol.requests import PromiseCreate, Reply
from ..stores.base import Store
from .handle import Handle

logger = logging.getLogger("resonate_aio.client")

_SHOWN = 200


class Waiting:
    """The handles of a client, by promise id."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._handles: dict[str, list[Handle[Any]]] = {}
        self._watched: set[str] = set()
        self.on_ended = self.ended_here  # bound once: every execution that runs here holds it

    def stored(self, handle: Handle[Any], reply: Reply) -> None:
        """The store answered for the promise of this handle."""
        promise = reply.promise
        if promise is None or reply.status != 200:
            hint = ": nothing was started under it" if reply.status == 404 else ""
            handle._failed(ResonateStoreError(f"{reply.error}{hint}", reply.status))
        elif not is_pending(promise):
            handle._settled(promise)
        else:
            handle._stored()
            error = self._error_of(promise.id)
            if error is None:
                self._listen(handle)
            else:
                handle._failed(error)

    def _error_of(self, id: str) -> BaseException | None:
        """Why an execution cannot go on in this process for now, if that is so (S42)."""
        raise NotImplementedError

    def is_refused(self, handle: Handle[Any], promise: Promise | None, key: Key) -> bool:
        """Whether the promise was created with another idempotency key: the handle is told."""
        if promise is None:
            return False
        try:
            refuse_other_creator(promise, key_for(key, promise.id))
        except ResonateStoreError as error:
            handle._failed(error)
            return True
        return False

    def held_here(self, handle: Handle[Any]) -> None:
        """The execution runs in this client: its worker tells the handle, no watch is needed."""
        handle._stored()
        self._handles.setdefault(handle._id, []).append(handle)

    def listeners(self, id: str) -> list[Callable[[], bool]]:
        """Of each handle that hears of the end of an execution: whether anybody awaits it."""
        return [handle._is_heard for handle in self._handles.get(id, ())]

    def ended_here(
        self, id: str, promise: Promise | None, trace: TracebackType | None = None
    ) -> None:
        """An execution held here ended, or is held elsewhere from now on (None).

        Args:
            trace: Where its function raised.
        """
        if promise is None:
            if id in self._handles:
                try:
                    self._watch(id)
                except ResonateStoreError as error:  # the store cannot be used any more
                    self._stopped(id, error)
            return
        handles = self._handles.pop(id, None)
        if handles is not None:
            for handle in handles:
                handle._settled(promise, trace)
            self._unwatch(id)

    def warn_of_other(self, promise: Promise, asked: PromiseCreate) -> None:
        """The id was used before for something else: its outcome counts (S29a, law 1)."""
        logger.warning(
            "promise %r exists already and is joined: it was started as %s, now asked for as %s",
            promise.id,
            _cut(promise.param.data),
            _cut(asked.param.data),
            extra={"id": promise.id},
        )

    def _listen(self, handle: Handle[Any]) -> None:
        waiting = self._handles.setdefault(handle.id, [])
        waiting.append(handle)
        if len(waiting) == 1:
            self._watch(handle.id)

    def _watch(self, id: str) -> None:
        self._watched.add(id)
        self.store.watch(id, self._settled)

    def _unwatch(self, id: str) -> None:
        if id in self._watched:
            self._watched.remove(id)
            self.store.unwatch(id, self._settled)

    def _settled(self, promise: Promise) -> None:
        self._watched.discard(promise.id)
        for handle in self._handles.pop(promise.id, ()):
            handle._settled(promise)

    def _stopped(self, id: str, error: BaseException) -> None:
        """An execution held here cannot go on: those who wait here get the error (S42)."""
        for handle in self._handles.pop(id, ()):
            handle._failed(error)
        self._unwatch(id)

    def _fail_handles(self, why: str) -> None:
        self._watched.clear()
        handles, self._handles = self._handles, {}
        for waiting in handles.values():
            for handle in waiting:
                handle._failed(
                    ResonateShutdownError(
                        f"{handle.id!r} was awaited when {why}; the work itself goes on when a "
                        "client that knows its function starts again"
                    )
                )


def _cut(text: str | None) -> str:
    text = text or "no invocation"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
