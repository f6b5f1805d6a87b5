"""Messages to `http(s)://` addresses: POSTed to URLs the operator has listed (§9.3).

An address is chosen by whoever creates a promise, so the server sends only to origins it was
told, follows no redirect, uses no proxy and never looks at an answer beyond its status. An
execute that does not arrive is offered again by the store; an unblock has nothing behind it
and is tried a few times. This file knows no state: whether a message still holds is the
receiver's affair, for messages are hints (S50).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
import orjson

from ..errors import UsageError
from ..protocol.envelope import message_to_wire
from ..protocol.requests import Execute, Message
from .metrics import Metrics
from .seam import EmbeddableStore

_log = logging.getLogger("resonate_aio.server")

_DELAYS_S: Final = (0.5, 2.0, 5.0)
_ANSWER_BYTES: Final = 64 * 1024
_PORTS: Final = {"http": 80, "https": 443}
_WARNED: Final = 100


class PushRules(msgspec.Struct, frozen=True, kw_only=True):
    """Where messages may be pushed, and how.

    Attributes:
        origins: `http(s)://host[:port]` of the receivers; nothing is sent anywhere else.
        token: Sent to them as `Authorization: Bearer`.
        concurrency: Pushes to one origin at a time.
        queue: Messages that wait for one origin; further ones are dropped.
        connect_s: How long connecting may take.
        total_s: How long a push may take.
    """

    origins: tuple[str, ...] = ()
    token: str | None = None
    concurrency: int = 16
    queue: int = 1_000
    connect_s: float = 5.0
    total_s: float = 10.0


def origin_of(url: str) -> str | None:
    """Scheme, host and port of a URL in one spelling; None for anything a push cannot use."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme, host = parts.scheme.lower(), parts.hostname
    if scheme not in _PORTS or not host or "@" in parts.netloc:
        return None
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{port if port is not None else _PORTS[scheme]}"


class PushOut:
    """Pushes what the store forwards.

    Args:
        store: Open before `start`.

    Raises:
        UsageError: An allowed origin is not `http(s)://host[:port]`.
    """

    def __init__(self, store: EmbeddableStore, rules: PushRules, metrics: Metrics) -> None:
        self.rules = rules
        self.metrics = metrics
        self.session: aiohttp.ClientSession | None = None
        self.url: str | None = None
        self._store = store
        self._lanes: dict[str, _Lane] = {}
        self._warned: set[str] = set()
        for allowed in rules.origins:
            origin = origin_of(allowed)
            if origin is None or urlsplit(allowed).path.strip("/"):
                raise UsageError(f"an origin is http(s)://host[:port], is {allowed!r}")
            self._lanes[origin] = _Lane(self, origin)
        self._leave = _nothing

    def start(self, url: str) -> None:
        """Begin to push; `url` is what execute messages say about this server."""
        self.url = url
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=self.rules.concurrency),
            timeout=aiohttp.ClientTimeout(total=self.rules.total_s, connect=self.rules.connect_s),
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._leave = self._store.forward(_is_http, self._put)

    async def stop(self) -> None:
        """Stop at once; what waits is dropped."""
        self._leave()
        self._leave = _nothing
        for lane in self._lanes.values():
            await lane.stop()
        if self.session is not None:
            await self.session.close()
            self.session = None

    def abandon(self) -> None:
        """Forget it all, where the loop it ran on has been closed."""
        self._leave = _nothing
        if self.session is not None:
            self.session.detach()  # its connections went with the loop
            self.session = None

    def _put(self, address: str, message: Message) -> None:
        origin = origin_of(address)
        lane = self._lanes.get(origin) if origin is not None else None
        if lane is not None:
            lane.put(address, message)
            return
        self.metrics.deliveries.add("dropped")
        shown = origin or address
        if shown not in self._warned and len(self._warned) < _WARNED:
            self._warned.add(shown)
            _log.warning("messages to %.200r are dropped: its origin is not allowed", shown)


class _Lane:
    """The pushes to one origin: a bounded queue and a bounded number of tasks."""

    __slots__ = ("_is_refused", "_origin", "_push", "_tasks", "_waiting")

    def __init__(self, push: PushOut, origin: str) -> None:
        self._push = push
        self._origin = origin
        self._waiting: deque[tuple[str, Message]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_refused = False

    def put(self, url: str, message: Message) -> None:
        """Let a message wait for its push, or drop it when too many do."""
        if len(self._waiting) >= self._push.rules.queue:
            self._push.metrics.deliveries.add("dropped")
            return
        is_execute = isinstance(message, Execute)
        self._push.metrics.messages.add("execute" if is_execute else "unblock")
        self._waiting.append((url, message))
        if len(self._tasks) < self._push.rules.concurrency:
            task = asyncio.create_task(self._work(), name=f"push to {self._origin}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancel what is under way and drop what waits."""
        self._waiting.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        while self._waiting:
            url, message = self._waiting.popleft()
            is_sent = await self._send(url, message)
            for delay_s in () if isinstance(message, Execute) else _DELAYS_S:
                if is_sent:
                    break
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))  # noqa: S311
                is_sent = await self._send(url, message)
            self._push.metrics.deliveries.add("success" if is_sent else "error")

    async def _send(self, url: str, message: Message) -> bool:
        """Whether the receiver took the message."""
        session, token = self._push.session, self._push.rules.token
        if session is None:
            return False
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        body = orjson.dumps(message_to_wire(message, self._push.url))
        try:
            async with session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                await answer.content.read(_ANSWER_BYTES)
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            _log.debug("a push to %s failed: %r", self._origin, error)
            return False
        if status in {401, 403} and not self._is_refused:
            self._is_refused = True
            _log.warning("%s refuses our pushes with %s: check the token", self._origin, status)
        return 200 <= status < 300


def _is_http(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def _nothing() -> None:
    """There is nothing to leave."""
