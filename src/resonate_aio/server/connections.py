"""One guard per connection: what aiohttp does not bound, it bounds.

The guard is the connection's protocol and passes everything on to aiohttp's. It counts
connections, closes those whose request head does not arrive, and those that leave what is
sent to them unread. A handler says when its request begins and ends, and may ask to be
called when the connection is lost. This file knows no request and no store.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web

from .limits import Limits
from .metrics import Metrics

_log = logging.getLogger("resonate_aio.server")


class Connections:
    """The connections of a server: makes guarded protocols and knows those that are open."""

    def __init__(self, server: web.Server, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self.metrics = metrics
        self.open: set[Guard] = set()
        self._changed = asyncio.Event()
        self._server = server

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a connection that was just accepted."""
        return Guard(self, self._server)

    def refuses(self) -> bool:
        """Whether one more connection is one too many."""
        return len(self.open) >= self.limits.connections

    @property
    def busy(self) -> int:
        """How many connections have a request under way."""
        return sum(guard.is_busy for guard in self.open)

    async def quiet(self, wait_s: float) -> None:
        """Wait until no request is under way, no longer than so many seconds."""
        await self._until(lambda: not self.busy, wait_s)

    async def closed(self, wait_s: float) -> None:
        """Wait until every connection is closed, no longer than so many seconds."""
        await self._until(lambda: not self.open, wait_s)

    def note(self) -> None:
        """A request ended or a connection was lost."""
        self._changed.set()

    async def _until(self, is_so: Callable[[], bool], wait_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while not is_so():
                    self._changed.clear()
                    await self._changed.wait()

    def abort(self) -> None:
        """Close everything at once."""
        for guard in list(self.open):
            guard.abort()


class Guard(asyncio.Protocol):
    """Stands between a transport and aiohttp's protocol."""

    __slots__ = (
        "_connections",
        "_head_timer",
        "_inner",
        "_loop",
        "_lost",
        "_transport",
        "_write_timer",
        "is_busy",
    )

    def __init__(self, connections: Connections, server: web.Server) -> None:
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._inner: asyncio.Protocol | None = None if connections.refuses() else server()
        self._transport: asyncio.Transport | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._lost: Callable[[], None] | None = None
        self.is_busy = False

    # -- what the handler says

    def begin(self) -> None:
        """The head of a request is complete."""
        self.is_busy = True
        self._stop_head_timer()

    def end(self) -> None:
        """The request has its answer."""
        self.is_busy = False
        self._lost = None
        self._connections.note()

    def when_lost(self, call: Callable[[], None]) -> None:
        """Call this once if the connection is lost before the request ends."""
        self._lost = call
        if self._transport is None:
            call()

    def abort(self) -> None:
        """Close the connection without sending what is left."""
        if self._transport is not None:
            self._transport.abort()

    # -- what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it if there are too many."""
        assert isinstance(transport, asyncio.Transport)
        if self._inner is None:
            self._connections.metrics.connections_refused.add()
            transport.abort()
            return
        self._transport = transport
        self._connections.open.add(self)
        notice_death(transport, self._connections.limits.dead_s)
        self._start_head_timer()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass on what arrived; the first bytes of a head start its deadline."""
        if self._inner is None:
            return
        if not self.is_busy and self._head_timer is None:
            self._start_head_timer()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on that the client sends no more."""
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        """The client does not read: it has until the write deadline."""
        if self._inner is not None:
            self._inner.pause_writing()
        self._write_timer = self._loop.call_later(
            self._connections.limits.write_s, self._cut_off, "unread"
        )

    def resume_writing(self) -> None:
        """The client read."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody, and stop the timers."""
        self._transport = None
        self._connections.open.discard(self)
        self._connections.note()
        self._stop_head_timer()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        if self._inner is not None:
            self._inner.connection_lost(exc)
        lost, self._lost = self._lost, None
        if lost is not None:
            lost()

    def _start_head_timer(self) -> None:
        self._head_timer = self._loop.call_later(
            self._connections.limits.header_s, self._cut_off, "head"
        )

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cut_off(self, reason: str) -> None:
        self._head_timer = self._write_timer = None
        if self._transport is None:
            return
        _log.info(
            "closed a connection from %r: %s",
            self._transport.get_extra_info("peername"),
            "no request came" if reason == "head" else "it does not read what is sent to it",
        )
        self._connections.metrics.cut_off.add(reason)
        self._transport.abort()


def notice_death(transport: asyncio.Transport, after_s: float) -> None:
    """Let the connection break when the other machine acknowledges nothing any more.

    Else a stream to a machine that lost its power takes messages for a quarter of an hour.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
    connected = transport.get_extra_info("socket")
    if option is not None and connected is not None:
        connected.setsockopt(socket.IPPROTO_TCP, option, int(after_s * 1000))
