"""The legacy server in memory behind sockets, and a door through which tests alter answers.

It does what a real one does not do on demand. Time runs as in reality; nothing is swept but
what the next request touches.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from tests.legacy.fake import FakeLegacy, refusal

__all__ = ["FakeServer", "refusal"]

Meddler = Callable[[web.Request, Any], Awaitable[web.StreamResponse | None]]
"""Sees a request and its JSON before it is carried out; what it returns is the answer."""


def now_ms() -> int:
    return int(time.time() * 1000)


class FakeServer(FakeLegacy):
    """The server on loopback ports.

    Attributes:
        has_poll: The API port has `/poll` (from v0.7.15).
        has_room: Streams stay open; else they end at once, as at the most connections.
        connects: How often a stream was asked for.
        seen: Every request: method, path, JSON, headers.
        meddle: Alters answers; see `Meddler`.
        lose: Paths whose next answer is lost after the request was carried out.
    """

    def __init__(self) -> None:
        super().__init__(now_ms)
        self.has_poll = True
        self.has_room = True
        self.connects = 0
        self.seen: list[tuple[str, str, Any, dict[str, str]]] = []
        self.meddle: Meddler | None = None
        self.lose: list[str] = []
        self.url = ""
        self.poll_url = ""
        self._ends: list[Callable[[], None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeServer]:
        runners = []
        for attribute, handler in (("url", self._api), ("poll_url", self._poll_port)):
            app = web.Application(client_max_size=2**26)
            app.router.add_route("*", r"/{path:(?s:.*)}", handler)
            runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            setattr(self, attribute, f"http://127.0.0.1:{port}")
            runners.append(runner)
        try:
            yield self
        finally:
            self.cut_streams()
            for runner in runners:
                await runner.cleanup()

    def cut_streams(self) -> None:
        """End every stream, as a server does now and then."""
        for end in self._ends:
            end()
        self._ends.clear()
        self.streams.clear()

    def asked(self, method: str, start: str) -> list[Any]:
        """The JSON of the requests of this method whose path starts so."""
        return [
            body for verb, path, body, _ in self.seen if verb == method and path.startswith(start)
        ]

    def headers_of(self, method: str, start: str) -> list[dict[str, str]]:
        return [
            headers
            for verb, path, _, headers in self.seen
            if verb == method and path.startswith(start)
        ]

    def send_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.send_tasks)

    async def _api(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        text = await request.text()
        body = json.loads(text) if text else None
        if path.startswith("/poll/"):
            if not self.has_poll:
                return web.Response(status=404, text="404 page not found")
            return await self._stream(request, path.removeprefix("/poll"))
        self.seen.append((request.method, path, body, dict(request.headers)))
        if self.meddle is not None:
            altered = await self.meddle(request, body)
            if altered is not None:
                return altered
        query = request.rel_url.query
        status, answer = self.carry_out(request.method, path, query, body, request.headers)
        for start in self.lose:
            if path.startswith(start):
                self.lose.remove(start)
                assert request.transport is not None
                request.transport.abort()
                raise asyncio.CancelledError
        if answer is None:
            return web.Response(status=status)
        return web.json_response(answer, status=status)

    async def _poll_port(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, request.rel_url.raw_path)

    async def _stream(self, request: web.Request, path: str) -> web.StreamResponse:
        group, _, pid = path[1:].partition("/")
        self.connects += 1
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.streams[group, unquote(pid)] = queue.put_nowait
        self._ends.append(lambda: queue.put_nowait(None))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if not self.has_room:
            return response
        self.send_soon()
        while (data := await queue.get()) is not None:
            await response.write(f"data: {data}\n\n".encode())
        return response
