"""The embedded server: the promise machine over HTTP (current-protocol §2, §9.2, §10).

For development and for one host: the same store as in-process clients use, behind one port.
This file is the shell: it listens, knows the routes, reads bodies within bounds, asks the
doorkeeper, and stops in order. What a request means is `endpoint.py`'s affair.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import unquote

import orjson
from aiohttp import web

from ..errors import ResonateStoreError
from ..protocol.envelope import Data, auth_of, refusal_to_wire, salvaged
from ..protocol.requests import PromiseGet
from ..uncut import uncut
from .bodies import JSON, Bodies
from .connections import Connections, Guard
from .debug import DebugDesk, DebugStore
from .doorkeeper import SHORT_TOKEN, Doorkeeper, bearer
from .endpoint import Endpoint, label
from .limits import Limits
from .metrics import CONTENT_TYPE, Gauge, Metrics, Total
from .push_out import PushOut, PushRules
from .reach import cannot_listen, check_reach, port_number
from .rules import Rules
from .seam import EmbeddableStore
from .streams import Streams

_log = logging.getLogger("resonate_aio.server")

_LEGACY: Final = ("promises", "schedules", "tasks")
_PROBE: Final = PromiseGet("resonate-aio.ready")
_PROBE_S: Final = 5.0
_BACKLOG: Final = 512
_LAST_WORDS_S: Final = 1.0
_AT_ONCE_S: Final = 0.01
_LINGER_S: Final = 0.5
"""How long what is left of a refused body is read, so that the client sees the refusal."""


class Server:
    """A Resonate server inside this process, of the current protocol.

    It opens the store when it starts and closes it when it stops; clients in this process may
    use the same store object meanwhile. Constructing starts nothing and needs no loop.

    Args:
        store: Where promises live: memory or one SQLite file. With `debug`, a `DebugStore`.
        host: The address to listen on; anything but loopback needs a token.
        port: 0 lets the system choose.
        token: The secret that every request must show, as `Authorization: Bearer` or in the
            envelope's head.
        url: What workers are told about this server's address; made from host and port by
            default.
        rules: How strict it is; the default serves every client.
        limits: What it bears.
        push: Where messages to `http(s)://` addresses may go; nowhere by default.

    Raises:
        UsageError: No token off loopback, an empty token, debugging off loopback.
    """

    def __init__(
        self,
        store: EmbeddableStore,
        *,
        host: str = "127.0.0.1",
        port: int | str = 8001,
        token: str | None = None,
        url: str | None = None,
        rules: Rules | None = None,
        limits: Limits | None = None,
        push: PushRules | None = None,
    ) -> None:
        is_debug = isinstance(store, DebugStore)
        check_reach(host, token, debug=is_debug)
        self.host = host
        self._asked_port = port_number(port)
        self._told_url = url
        self._store = store
        self._limits = limits if limits is not None else Limits()
        self._doorkeeper = Doorkeeper(token, free_failures=self._limits.failures)
        if token is not None and len(token) < SHORT_TOKEN:
            _log.warning("the server's token has fewer than %s characters", SHORT_TOKEN)
        desk = DebugDesk(store) if isinstance(store, DebugStore) else None
        if desk is not None:
            _log.warning("debugging is on: clients set the clock and may erase everything")
        self._endpoint = Endpoint(store, rules if rules is not None else Rules(), desk)
        self._metrics = Metrics(
            Gauge("resonate_connections", "Open connections.", self._count_connections),
            Gauge("resonate_streams", "Open /poll streams.", lambda: self._streams.count),
            Total(
                "resonate_schedule_promises_total",
                "Promises that schedules created.",
                lambda: self._store.scheduled,
            ),
        )
        self._streams = Streams(store, self._limits, self._metrics)
        self._push = PushOut(store, push if push is not None else PushRules(), self._metrics)
        self._bodies = Bodies(self._limits, self._metrics)
        self._http: web.Server | None = None
        self._connections: Connections | None = None
        self._listener: asyncio.Server | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- life

    @property
    def port(self) -> int:
        """The port it listens on; before the start, the one it was given."""
        if self._listener is None or not self._listener.sockets:
            return self._asked_port
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where clients find it."""
        if self._told_url is not None:
            return self._told_url
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Open the store and listen. Idempotent.

        Raises:
            UsageError: The address is in use or not this machine's; the store is closed again.
            ResonateStoreError: The store cannot be opened.
        """
        self.abandon()
        if self._listener is not None:
            return
        await self._store.open()
        self._ending = asyncio.Event()
        try:
            self._loop = loop = asyncio.get_running_loop()
            self._http = web.Server(
                cast("Any", self._handle),
                access_log=None,
                logger=_HttpLog(_log, {}),
                keepalive_timeout=self._limits.idle_s,
                lingering_time=_LINGER_S,
                max_line_size=self._limits.header_bytes,
                max_field_size=self._limits.header_bytes,
                max_headers=self._limits.header_count,
                auto_decompress=False,
            )
            self._connections = Connections(self._http, self._limits, self._metrics)
            self._listener = await loop.create_server(
                self._connections, self.host, self._asked_port, backlog=_BACKLOG
            )
        except BaseException as error:
            self._http = self._connections = None
            await self._store.close()
            if isinstance(error, OSError):
                raise cannot_listen(self.host, self._asked_port, error) from error
            raise
        self._streams.url = self.url
        self._push.start(self.url)
        _log.info("serving on %s", self.url)

    def abandon(self) -> None:
        """Give the port back, where the loop it was served on has been closed."""
        loop, listener = self._loop, self._listener
        if listener is None or loop is None or not loop.is_closed():
            return
        with suppress(RuntimeError):
            listener.close()
        self._push.abandon()
        self._listener = self._http = self._connections = self._stopping = None

    async def stop(self) -> None:
        """Stop in order: no new connections, streams ended, what is under way finished.

        Bounded by `Limits.drain_s` and idempotent. What was acknowledged is durable.
        """
        self.abandon()
        if self._stopping is None:
            if self._listener is None:
                return
            self._stopping = uncut(asyncio.get_running_loop(), self._stop)
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        assert self._listener is not None
        assert self._http is not None
        assert self._connections is not None
        listener, http, connections = self._listener, self._http, self._connections
        listener.close()
        self._ending.set()
        self._streams.end()
        await connections.quiet(self._limits.drain_s)
        cut_off = connections.busy
        if cut_off:
            _log.warning("%s requests were cut off by the stop", cut_off)
            connections.abort()
        http.pre_shutdown()  # or `shutdown` waits for the next request of idle connections
        await http.shutdown(_AT_ONCE_S if cut_off else _LAST_WORDS_S)
        await connections.closed(_LAST_WORDS_S)  # answers are still being sent
        connections.abort()
        await listener.wait_closed()
        await self._push.stop()
        await self._store.close()
        self._listener = self._http = self._connections = self._stopping = None
        _log.info("stopped")

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()

    @property
    def metrics(self) -> Metrics:
        """What it counts."""
        return self._metrics

    def _count_connections(self) -> int:
        return len(self._connections.open) if self._connections is not None else 0

    # -- requests

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        guard = transport.get_protocol() if transport is not None else None
        if not isinstance(guard, Guard):
            raise ConnectionResetError("the client is gone")
        guard.begin()
        try:
            response = await self._route(request, guard)
            if self._stopping is not None and not response.prepared:
                response.force_close()
            return response
        except ConnectionError:
            raise ConnectionResetError("the client is gone") from None
        except Exception:  # noqa: BLE001  a bug of ours must not show the client a traceback
            _log.exception("a request to %r failed", request.rel_url.raw_path[:200])
            return _json({"error": "internal error"}, 500, close=True)
        finally:
            guard.end()

    async def _route(self, request: web.BaseRequest, guard: Guard) -> web.StreamResponse:
        parts = [unquote(part) for part in request.rel_url.raw_path.split("/")[1:]]
        if parts == [""] and request.method == "POST":
            return await self._envelope(request)
        refused = await self._refused(request)
        if refused is not None:
            return refused
        if parts == [""] or parts[0] in _LEGACY:
            return self._other(parts[0])
        if request.method not in {"GET", "HEAD"}:
            return _json({"error": f"{request.method} is not served here"}, 405)
        match parts:
            case ["health"]:
                return _json({"status": "ok"}, 200)
            case ["ready"]:
                return await self._ready()
            case ["metrics"]:
                return web.Response(
                    body=self._metrics.render().encode(), headers={"Content-Type": CONTENT_TYPE}
                )
            case ["poll", group, pid] if group and pid and request.method == "GET":
                return await self._poll(request, guard, group, pid)
            case _:
                return _json({"error": "there is nothing here"}, 404)

    @staticmethod
    def _other(first: str) -> web.Response:
        if first:
            told = "this server speaks the envelope protocol on POST / and not the legacy one"
            return _json({"error": told}, 410)
        return _json({"error": "send envelopes with POST"}, 405, {"Allow": "POST"})

    async def _ready(self) -> web.Response:
        try:
            async with asyncio.timeout(_PROBE_S):
                await self._store.call(_PROBE)
        except (ResonateStoreError, TimeoutError):
            return _json({"status": "the store does not answer"}, 503)
        return _json({"status": "ready"}, 200)

    async def _poll(
        self, request: web.BaseRequest, guard: Guard, group: str, pid: str
    ) -> web.StreamResponse:
        if self._stopping is not None:
            return _json({"error": "the server is stopping"}, 503, close=True)
        if self._streams.is_full():
            return _json({"error": "too many streams"}, 503, close=True)
        return await self._streams.serve(request, guard, group, pid)

    # -- who asks

    async def _refused(self, request: web.BaseRequest) -> web.Response | None:
        """401 or 403 for a request without an envelope, or None."""
        if self._knows(request):
            told = self._foreign(request)
            return None if told is None else _json({"error": told}, 403)
        await self._count_failure(request)
        return _unauthorized({"error": "unauthorized"})

    def _knows(self, request: web.BaseRequest) -> bool:
        return self._doorkeeper.knows(bearer(request.headers.getall("Authorization", [])))

    def _foreign(self, request: web.BaseRequest) -> str | None:
        if self._doorkeeper.asks:
            return None
        return self._doorkeeper.refuses_browser(request.headers, self.host)

    async def _count_failure(self, request: web.BaseRequest) -> None:
        self._metrics.unauthorized.add()
        pause_s = self._doorkeeper.pause_s(request.remote or "", asyncio.get_running_loop().time())
        if pause_s:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._ending.wait()

    # -- envelopes

    async def _envelope(self, request: web.BaseRequest) -> web.Response:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        known = self._knows(request)
        envelope: Any = None
        status, told = self._unwelcome(request)
        if not status:
            status, told, envelope = await self._bodies.read(request)
        kind, corr_id = salvaged(envelope)
        if not known and not self._doorkeeper.knows(auth_of(envelope)):
            await self._count_failure(request)
            return _unauthorized(refusal_to_wire(kind, corr_id, 401, "unauthorized"))
        if status:
            response = refusal_to_wire(kind, corr_id, status, told)
        else:
            response = await self._endpoint.answer(envelope)
        status = response["head"]["status"]
        self._metrics.requests.add(label(kind), str(status))
        self._metrics.durations.observe(label(kind), loop.time() - began_s)
        return _json(response, status)

    def _unwelcome(self, request: web.BaseRequest) -> tuple[int, str]:
        """A status and why, for a request whose body is not worth reading; 0 for others."""
        foreign = self._foreign(request)
        if foreign is not None:
            return 403, foreign
        if self._stopping is not None:
            return 503, "the server is stopping"
        return 0, ""


class _HttpLog(logging.LoggerAdapter[logging.Logger]):
    """aiohttp logs what clients send as errors; here it is not worth more than a debug line."""

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        error = kwargs.get("exc_info")
        if isinstance(error, Exception) and type(error).__module__.startswith("aiohttp."):
            self.debug("malformed HTTP: %r", error)
        else:
            self.error(msg, *args, **kwargs)


def _json(
    data: Data, status: int, headers: dict[str, str] | None = None, *, close: bool = False
) -> web.Response:
    response = web.Response(
        body=orjson.dumps(data),
        status=status,
        headers={
            "Server": "resonate-aio",
            "Content-Type": JSON,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **(headers or {}),
        },
    )
    if status == 503:
        response.headers["Retry-After"] = "1"
    if close:
        response.force_close()
    return response


def _unauthorized(data: Data) -> web.Response:
    return _json(data, 401, {"WWW-Authenticate": "Bearer"})
