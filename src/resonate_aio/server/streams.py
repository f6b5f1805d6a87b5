"""`GET /poll/{group}/{id}`: messages as server-sent events (current-protocol §9.2).

A stream is a bounded queue between the store, which never waits, and a connection, which may.
An execute too many is dropped: its task is offered again. An unblock too many ends the stream,
because nothing would repeat it; the client comes back and asks again for what it waits for.
Comments keep a quiet stream alive and show a dead one. This file decides nothing about promises.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import Final

import orjson
from aiohttp import web

from ..protocol.envelope import message_to_wire
from ..protocol.requests import Execute, Message
from .connections import Guard
from .limits import Limits
from .metrics import Metrics
from .seam import EmbeddableStore

_log = logging.getLogger("resonate_aio.server")

_HEADERS: Final = {
    "Server": "resonate-aio",
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep events back
    "X-Content-Type-Options": "nosniff",
}
_HELLO: Final = b": resonate-aio\n\n"
_KEEP_ALIVE: Final = b":\n\n"


class Streams:
    """The open streams of a server.

    Args:
        url: What execute messages say about the server's address; set once it listens.
    """

    def __init__(self, store: EmbeddableStore, limits: Limits, metrics: Metrics) -> None:
        self.url: str | None = None
        self._store = store
        self._limits = limits
        self._metrics = metrics
        self._open: set[_Stream] = set()

    @property
    def count(self) -> int:
        """How many streams are open."""
        return len(self._open)

    def is_full(self) -> bool:
        """Whether one more stream is one too many."""
        return len(self._open) >= self._limits.streams

    def end(self) -> None:
        """End every stream after what waits for it is sent."""
        for stream in list(self._open):
            stream.end()

    async def serve(
        self, request: web.BaseRequest, guard: Guard, group: str, pid: str
    ) -> web.StreamResponse:
        """Send messages for this group and pid until the client or the server ends it."""
        response = web.StreamResponse(headers=_HEADERS)
        response.force_close()  # a stream is the last thing on its connection
        stream = _Stream(self, guard)
        self._open.add(stream)
        try:
            with suppress(ConnectionError):
                await response.prepare(request)
                await response.write(_HELLO)
                guard.when_lost(stream.end)
                leave = self._store.subscribe(group, pid, stream.put)
                try:
                    await self._send(stream, response)
                finally:
                    leave()
                await response.write_eof()
        finally:
            self._open.discard(stream)
            self._metrics.deliveries.add("dropped", count=len(stream.waiting))
        return response

    async def _send(self, stream: _Stream, response: web.StreamResponse) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.keep_alive_s):
                    await stream.wake.wait()
            stream.wake.clear()
            events = stream.take()
            if events:
                await response.write(b"".join(events))
                self._metrics.deliveries.add("success", count=len(events))
            elif stream.is_ended:
                return
            else:
                await response.write(_KEEP_ALIVE)

    def encoded(self, message: Message) -> bytes:
        """The message as one event."""
        return b"data: " + orjson.dumps(message_to_wire(message, self.url)) + b"\n\n"

    @property
    def limits(self) -> Limits:
        """The bounds of each stream."""
        return self._limits

    @property
    def metrics(self) -> Metrics:
        """Where deliveries are counted."""
        return self._metrics


class _Stream:
    """What waits for one connection."""

    __slots__ = ("_executes", "_guard", "_streams", "_weight", "is_ended", "waiting", "wake")

    def __init__(self, streams: Streams, guard: Guard) -> None:
        self._streams = streams
        self._guard = guard
        self._executes = 0
        self._weight = 0
        self.waiting: deque[bytes] = deque()
        self.wake = asyncio.Event()
        self.is_ended = False

    def put(self, message: Message) -> None:
        """Let the message wait for the connection, or drop it, or end the stream."""
        streams = self._streams
        if self.is_ended:
            streams.metrics.deliveries.add("dropped")
            return
        limits = streams.limits
        is_execute = isinstance(message, Execute)
        event = streams.encoded(message)
        count = self._executes if is_execute else len(self.waiting) - self._executes
        if count >= limits.queue_messages or self._weight + len(event) > limits.queue_bytes:
            streams.metrics.deliveries.add("dropped")
            if not is_execute:
                _log.warning("a client leaves its messages unread: its stream is cut off")
                streams.metrics.cut_off.add("queue")
                self._guard.abort()
            return
        streams.metrics.messages.add("execute" if is_execute else "unblock")
        self.waiting.append(event)
        self._executes += is_execute
        self._weight += len(event)
        self.wake.set()

    def take(self) -> list[bytes]:
        """Everything that waits; it waits no longer."""
        events = list(self.waiting)
        self.waiting.clear()
        self._executes = self._weight = 0
        return events

    def end(self) -> None:
        """Take no more messages; what waits is still sent."""
        self.is_ended = True
        self.wake.set()
