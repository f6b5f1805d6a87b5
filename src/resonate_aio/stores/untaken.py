"""Calls that nobody in this process takes, named once each.

In a store that lives in one process an execute message without a taker is dropped, and its
task waits: rightly so, if a client of that group is about to start; for ever, if the name of
the group is a mistake. So it is said after a while, once for each function and target. This
file knows no machine: whether a message still holds, and has a taker now, is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from ..errors import ValueCodecError
from ..protocol.records import Promise
from ..protocol.requests import Execute
from ..protocol.values import decode

_log = logging.getLogger("resonate_aio.stores")

_GRACE_S: Final = 5.0
"""What clients that start one after the other may take."""

_MOST: Final = 1_000


class Untaken:
    """What nobody took so far, and what was said about it.

    Args:
        promise_of: The promise of a message that still holds and still has no taker, if so.
    """

    __slots__ = ("_found", "_promise_of", "_said", "_timer")

    def __init__(self, promise_of: Callable[[str, Execute], Promise | None]) -> None:
        self._promise_of = promise_of
        self._found: dict[str, tuple[str, Execute]] = {}
        self._said: set[tuple[str, str]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, address: str, message: Execute, loop: asyncio.AbstractEventLoop) -> None:
        """Nobody took this message."""
        if len(self._found) < _MOST:
            self._found[message.id] = (address, message)
        if self._timer is None:
            self._timer = loop.call_later(_GRACE_S, self._look_again)

    def clear(self) -> None:
        """Look again at nothing."""
        self._found.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self) -> None:
        found, self._found, self._timer = self._found, {}, None
        for address, message in found.values():
            promise = self._promise_of(address, message)
            if promise is None:
                continue
            name = called_by(promise)
            if (name, address) in self._said or len(self._said) >= _MOST:
                continue
            self._said.add((name, address))
            _log.warning(
                "%r calls %r at %s, where nobody in this process takes calls, and nobody else "
                "can: the store is of this process only. It waits until a client of that group "
                "runs here with functions registered. Is target= right? To let workers in other "
                "processes take it, serve the store (Resonate.local(serve=...)) or use a server",
                promise.id,
                name,
                address,
                extra={"id": promise.id},
            )


def called_by(promise: Promise) -> str:
    """The name of the function that a promise is to be the result of."""
    try:
        data = decode(promise.param.data)
    except ValueCodecError:
        data = None
    name = data.get("func") if isinstance(data, dict) else None
    return name if isinstance(name, str) else "nothing that can be read"
