"""Messages over a stream of server-sent events: one connection, kept for ever.

Reconnects with jittered back-off whatever ends the stream, and says so, because a message
that was sent meanwhile is lost (current-protocol §9.2: nothing is replayed). A stream has no
total time limit; it is given up after a time of silence, which follows from what the server
does: one that sends keep-alive comments is missed soon, one that never says anything is
asked again every few minutes. This file knows no HTTP library: streams are opened by a
function it is given.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context as ContextVars
from random import Random
from typing import Any, Final, Protocol

import msgspec
import orjson

from ..backoff import Backoff
from ..errors import ResonateStoreError
from ..outage import Outage, UnreachableError
from ..protocol.requests import Message
from ..protocol.sse import SseParser

logger = logging.getLogger("resonate_aio.transports")

_OK: Final = 200
_NOT_HERE: Final = frozenset({404, 405, 410})
"""Answers of a server that has no such route: the next endpoint is tried."""

_REFUSED: Final = frozenset({401, 403})
_BEATS_MISSED: Final = 3
_SHORTEST_SILENCE_S: Final = 15.0
_FAILURES_AFTER_A_MESSAGE: Final = 3
"""As many count after a stream that was short but worked: about a second until the next try."""


class Stream(Protocol):
    """An open response whose body comes bit by bit."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, until the other side ends it."""
        ...


Endpoint = Callable[[str, str], AbstractAsyncContextManager[Stream]]
"""Called as endpoint(group, pid); entering opens the stream."""

Decode = Callable[[Any], Message | None]
"""Reads one decoded JSON event; None for one that is of no use. Raises ValueError."""


class SsePatience(msgspec.Struct, frozen=True):
    """How long what may take, in seconds.

    Attributes:
        open_s: From the request to the response's head.
        silence_s: Without a byte, on a server that was never heard to send keep-alives.
        first_s, most_s: Delays between tries to connect.
        refused_s: Delay after the server refused the credentials.
        steady_s: A stream that lasted as long counts as a success: the next delay is short.
    """

    open_s: float = 10.0
    silence_s: float = 150.0
    first_s: float = 0.1
    most_s: float = 10.0
    refused_s: float = 30.0
    steady_s: float = 5.0


class SseMessages:
    """A message source over server-sent events.

    Args:
        endpoints: Ways to open the stream; where one answers that there is no such route, the
            next is tried.
        decode: Makes a message of one event's decoded JSON.
        rng: Where the jitter comes from.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        decode: Decode,
        *,
        patience: SsePatience | None = None,
        rng: Random | None = None,
    ) -> None:
        self._endpoints = list(endpoints)
        self._decode = decode
        self._patience = patience if patience is not None else SsePatience()
        self._rng = rng if rng is not None else Random()  # noqa: S311  jitter is no secret
        self._task: asyncio.Task[None] | None = None
        self._deliver: Callable[[Message], None] | None = None
        self._connected: Callable[[], None] | None = None
        self._is_up = False
        self._beat_s: float | None = None
        self._asked_s = 0.0
        self._heard = False
        self._outage = Outage()

    @property
    def is_connected(self) -> bool:
        """Whether a stream is open now."""
        return self._is_up

    async def start(
        self,
        group: str,
        pid: str,
        deliver: Callable[[Message], None],
        connected: Callable[[], None] | None = None,
    ) -> None:
        """Begin to connect; does not wait for the connection.

        Args:
            connected: Called after each connect: what was sent before is lost.
        """
        await self.stop()
        self._deliver = deliver
        self._connected = connected
        self._task = asyncio.get_running_loop().create_task(
            self._run(group, pid), name="resonate_aio messages", context=ContextVars()
        )

    async def stop(self) -> None:
        """Close the stream and deliver nothing any more. Idempotent."""
        task, self._task = self._task, None
        self._deliver = self._connected = None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _run(self, group: str, pid: str) -> None:
        patience = self._patience
        loop = asyncio.get_running_loop()
        backoff = Backoff(patience.first_s, patience.most_s, self._rng)
        misses = 0
        while True:
            began_s = loop.time()
            self._heard = is_told = False
            try:
                status = await self._follow(self._endpoints[0], group, pid)
            except (OSError, TimeoutError, ResonateStoreError, ValueError) as error:
                status, why = 0, repr(error)
                is_told = isinstance(error, UnreachableError)
            except Exception as error:
                # Nobody else can: without this task the worker is deaf for ever.
                logger.exception("the message stream failed; this is a bug, please report it")
                status, why = 0, repr(error)
            else:
                why = f"status {status}" if status != _OK else "the server ended it"
            if loop.time() - began_s >= patience.steady_s:
                backoff.succeeded()
            elif self._heard:  # a server that is restarted again and again is no stranger
                backoff.failures = min(backoff.failures, _FAILURES_AFTER_A_MESSAGE)
            if status in _NOT_HERE and len(self._endpoints) > 1:
                self._endpoints.append(self._endpoints.pop(0))
                misses += 1
                if misses % len(self._endpoints):
                    continue
            at_least_s = patience.refused_s if status in _REFUSED else self._asked_s
            delay_s = backoff.next_s(at_least_s)
            if is_told:
                logger.debug("no message stream (%s), next try in %.2g s", why, delay_s)
            else:
                self._say(status, why, delay_s, backoff.failures)
            await asyncio.sleep(delay_s)

    def _say(self, status: int, why: str, delay_s: float, failures: int) -> None:
        now_s = asyncio.get_running_loop().time()
        if status in _REFUSED:
            logger.log(
                logging.ERROR if self._outage.failed(now_s) else logging.DEBUG,
                "the server refuses this client's messages (%s): check token and group; next "
                "try in %.0f s",
                why,
                delay_s,
            )
            return
        level = logging.INFO  # streams end now and then
        if failures > 1:  # one that does not come back is worth a word
            level = logging.WARNING if self._outage.failed(now_s) else logging.DEBUG
        logger.log(level, "no message stream (%s), next try in %.2g s", why, delay_s)

    def _say_connected(self, group: str, pid: str) -> None:
        if self._outage.worked():  # as loud as the outage was: who read that reads this
            logger.warning("connected again: messages for %s/%s are coming", group, pid)
        else:
            logger.info("messages for %s/%s are coming", group, pid)

    async def _follow(self, endpoint: Endpoint, group: str, pid: str) -> int:
        """Read one stream to its end; the status it was answered with."""
        opening = endpoint(group, pid)
        async with asyncio.timeout(self._patience.open_s):
            stream = await opening.__aenter__()
        try:
            if stream.status != _OK:
                return stream.status
            self._is_up = True
            self._say_connected(group, pid)
            if self._connected is not None:
                self._connected()
            await self._read(stream)
            return _OK
        finally:
            self._is_up = False
            await opening.__aexit__(None, None, None)

    async def _read(self, stream: Stream) -> None:
        parser = SseParser()
        loop = asyncio.get_running_loop()
        self._beat_s, self._asked_s = None, 0.0
        comments = skipped = 0
        beat_at_s: float | None = None
        chunks = stream.chunks()
        while True:
            async with asyncio.timeout(self._silence_s()):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            for event in parser.feed(chunk):
                self._event(event.data)
            if parser.comments > comments:
                comments, now_s = parser.comments, loop.time()
                if beat_at_s is not None:
                    self._beat_s = max(self._beat_s or 0.0, now_s - beat_at_s)
                beat_at_s = now_s
            if parser.retry_ms is not None:
                self._asked_s = parser.retry_ms / 1000
            if parser.skipped > skipped:
                skipped = parser.skipped
                logger.warning("a message larger than the limit was left out")

    def _silence_s(self) -> float:
        """How long nothing may come before the stream counts as dead.

        Jittered: workers that lost their server together do not come back together.
        """
        limit_s = self._patience.silence_s
        if self._beat_s is not None:
            limit_s = min(limit_s, max(_BEATS_MISSED * self._beat_s, _SHORTEST_SILENCE_S))
        return limit_s * (1 + self._rng.random() / 10)

    def _event(self, data: str) -> None:
        """Hand one message on; what cannot be read is a hint lost, no more (S50)."""
        try:
            message = self._decode(orjson.loads(data))
        except (ValueError, RecursionError) as error:
            logger.warning("a message could not be read and is left out: %s", error)
            return
        if message is None or self._deliver is None:
            return
        self._heard = True
        try:
            self._deliver(message)
        except Exception:
            # A receiver's fault must not end the stream.
            logger.exception("a message could not be delivered")
