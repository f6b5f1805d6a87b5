"""One pooled HTTP session with a server: tries again until there is an answer (law 8).

An exchange ends with an answer that its reader could use, or not at all: connections that
fail, time-outs, statuses of 5xx and 429, and whatever the reader calls `TroubleError` (a page
of HTML where JSON was due, half an answer) are tried again, each exchange with its own jittered,
bounded back-off and all of them together with a bounded rate. Only refused credentials (401,
403) are raised, at once. A lane of its own keeps heartbeats from waiting behind other work.
With `stream`, the same session opens responses without an end.

What an answer says by itself is `answers`' affair, what is shown to the server that of
`credentials`. This file knows no promise and no task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from io import BytesIO
from random import Random
from typing import Final, TypeVar

import aiohttp
import msgspec
from yarl import URL

from ...backoff import Backoff
from ...errors import ResonateStoreError
from ...outage import Outage, UnreachableError
from .answers import (
    REFUSED,
    TOO_LARGE,
    Answer,
    NoServerError,
    TroubleError,
    check,
    checked_url,
    in_words,
    refusal,
)
from .credentials import Credentials, NoTokenError, Token
from .resolver import Resolver
from .sockets import lasting_socket

logger = logging.getLogger("resonate_aio.stores.http")

T = TypeVar("T")

_OK: Final = 200
_LONG_BYTES: Final = 1024 * 1024
_ANSWER_LIMIT_BYTES: Final = 256 * 1024 * 1024


class Lane(Enum):
    """Which requests an exchange may have to wait behind."""

    WORK = auto()  # at most `connections` at a time
    BEAT = auto()  # its own: never waits for work


class Patience(msgspec.Struct, frozen=True):
    """How long what may take, in seconds, and how many requests may be under way.

    Attributes:
        connect_s: Until a connection stands, name lookup and TLS included.
        answer_s, answer_most_s: From the request to the end of its answer; doubled after each
            time-out up to the second figure, for a slow server is not a dead one.
        first_s, most_s: Delays between tries of one exchange.
        pace_s: Shortest time between two repeated requests of the whole session.
        connections: Requests under way at a time, heartbeats not counted.
    """

    connect_s: float = 5.0
    answer_s: float = 10.0
    answer_most_s: float = 60.0
    first_s: float = 0.05
    most_s: float = 10.0
    pace_s: float = 0.005
    connections: int = 64


class OpenStream:
    """A response whose body comes bit by bit."""

    __slots__ = ("_response",)

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, until the other side ends it.

        Raises:
            ConnectionError: The connection broke.
        """
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error)) from error


class HttpSession:
    """One server, seen over pooled connections.

    Constructing opens nothing and needs no loop.

    Args:
        url: Where the server is; a path in it comes before every path asked for.
        token: Bearer token; wins over `auth`. It reaches the server and nothing else.
        auth: User name and password for basic authentication.
        credentials: The two, shared with other sessions of the client.
        rng: Where the jitter comes from.

    Raises:
        ValueError: The URL is none of http or https, or carries credentials; or a request
            cannot carry the token, or the user and password.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | None = None,
        auth: tuple[str, str] | None = None,
        credentials: Credentials | None = None,
        patience: Patience | None = None,
        rng: Random | None = None,
    ) -> None:
        self._url = checked_url(url)
        self._credentials = credentials if credentials is not None else Credentials(token, auth)
        self.patience = patience if patience is not None else Patience()
        self.rng = rng if rng is not None else Random()  # noqa: S311  jitter is no secret
        self._session: aiohttp.ClientSession | None = None
        self._resolver: Resolver | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work = asyncio.Semaphore(self.patience.connections)
        self._next_repeat_s = 0.0
        self._outage = Outage()

    @property
    def url(self) -> str:
        """Where the server is."""
        return str(self._url)

    def __repr__(self) -> str:
        return f"<HttpSession {self._url}>"  # never a credential (law 17)

    # -- life

    async def open(self) -> None:
        """Make the pool on the running loop. Idempotent.

        A pool on a loop that was closed under it is left behind.
        """
        loop = asyncio.get_running_loop()
        if self._session is not None and self._loop is loop and not self._session.closed:
            return
        if self._session is not None:
            with suppress(RuntimeError):  # nothing can be scheduled there any more
                await self._session.close()
        self._loop = loop
        self._work = asyncio.Semaphore(self.patience.connections)
        self._next_repeat_s = 0.0
        self._resolver = Resolver()
        # The semaphore bounds work; a heartbeat or a stream gets a connection whatever is open.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, resolver=self._resolver, socket_factory=lasting_socket
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )

    async def close(self) -> None:
        """Close every connection. Idempotent; exchanges under way must be cancelled before."""
        session, resolver = self._session, self._resolver
        if session is not None and resolver is not None:
            await session.close()
            await resolver.close()
            if self._session is session:  # not before: it may be cut
                self._session = None
            # A TLS connection says good-bye in the loop's next passes.
            await asyncio.sleep(0)

    async def token(self) -> str | None:
        """The bearer token to use now, or None; raises as `Credentials.token`."""
        return await self._credentials.token(self.url, self.patience.answer_s)

    # -- exchanges

    async def exchange(
        self,
        method: str,
        path: str,
        read: Callable[[Answer], T],
        *,
        body: Callable[[str | None], bytes] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        lane: Lane = Lane.WORK,
        tries: int | None = None,
        refusals: frozenset[int] = REFUSED,
    ) -> tuple[T, bool]:
        """Send a request until there is an answer that `read` can use.

        Args:
            path: Below the session's URL; encoded as it must be on the wire.
            read: Makes the result of an answer; raises TroubleError for one that is none.
                Never called for 429, `refusals` and 5xx, but for 501 it is.
            body: The body, or a function of the token in use: called anew for each try.
            tries: How often at most; None: until it succeeds or is cancelled.
            refusals: The statuses by which this server refuses credentials and nothing else.

        Returns:
            The result, and whether an earlier try may have been carried out too (S60).

        Raises:
            ResonateStoreError: The credentials are refused (its code is 401 or 403), the tries
                are used up, or the session is closed.
        """
        patience = self.patience
        backoff = Backoff(patience.first_s, patience.most_s, self.rng)
        answer_s = patience.answer_s
        maybe_done = False
        while True:
            try:
                if backoff.failures:
                    await self._pace()
                if lane is Lane.WORK:
                    async with self._work:
                        answer = await self._send(method, path, body, headers, answer_s)
                else:
                    answer = await self._send(method, path, body, headers, answer_s)
                check(self.url, answer, refusals)
                result = read(answer)
            except TroubleError as found:
                maybe_done |= not found.untouched
                trouble = found
            except TimeoutError:
                maybe_done = True
                trouble = TroubleError(f"no answer within {answer_s:g} s")
                answer_s = min(answer_s * 2, patience.answer_most_s)
            else:
                self._answered()
                return result, maybe_done
            if tries is not None and backoff.failures + 1 >= tries:
                raise ResonateStoreError(trouble.told(self.url, ""))
            delay_s = backoff.next_s(trouble.after_s)
            self._say_trouble(trouble, f"{method} {path}")
            await asyncio.sleep(delay_s)

    async def _send(
        self,
        method: str,
        path: str,
        body: Callable[[str | None], bytes] | bytes | None,
        headers: Mapping[str, str] | None,
        answer_s: float,
    ) -> Answer:
        session = self._open_session()
        token = await self.token()
        data = _piecewise(body(token) if callable(body) else body)
        sent = self._headers(token, headers)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        limit = aiohttp.ClientTimeout(total=answer_s, sock_connect=self.patience.connect_s)
        try:
            async with session.request(
                method,
                self._at(path),
                data=data,
                headers=sent,
                timeout=limit,
                allow_redirects=False,  # a redirect must not carry the token away
            ) as response:
                answer = Answer(response.status, response.headers, await _whole(response))
                if response.status == TOO_LARGE:  # of the body it reads no more, nor what follows
                    response.close()
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            raise self._unconnected(error) from error
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise TroubleError(f"the connection failed: {error!r}") from error
        return answer

    def _unconnected(self, error: aiohttp.ClientConnectionError) -> TroubleError:
        """Why there is no connection, in the words that the system has for it."""
        if isinstance(error, aiohttp.ClientSSLError):  # somebody is there
            return TroubleError(f"no connection: {error}", untouched=True)
        if isinstance(error, aiohttp.ClientConnectorError):
            return NoServerError(in_words(error.os_error))
        return NoServerError(f"no connection within {self.patience.connect_s:g} s")

    def refused(self, answer: Answer) -> ResonateStoreError:
        """The error that says the server refuses the credentials."""
        return refusal(self.url, answer)

    async def _pace(self) -> None:
        """Bound the rate of repeated requests over the whole session."""
        now_s = asyncio.get_running_loop().time()
        at_s = max(self._next_repeat_s, now_s)
        self._next_repeat_s = at_s + self.patience.pace_s
        if at_s > now_s:
            await asyncio.sleep(at_s - now_s)

    @property
    def is_away(self) -> bool:
        """Whether the log says that the server does not answer, or cannot be asked."""
        return self._outage.is_said or self._credentials.outage.is_said

    def _say_trouble(self, trouble: TroubleError, what: str) -> None:
        """A warning when trouble begins, then one a minute: not one a request."""
        if isinstance(trouble, NoTokenError):
            return  # it is said already, once for all sessions of the client
        is_worth_it = self._outage.failed(asyncio.get_running_loop().time())
        level = logging.WARNING if is_worth_it else logging.DEBUG
        logger.log(level, "%s; asked again until it answers", trouble.told(self.url, what))

    def _answered(self) -> None:
        if self._outage.worked():  # as loud as the trouble was: who read that reads this
            logger.warning("%s: connected again", self._url)

    # -- streams

    @asynccontextmanager
    async def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[OpenStream]:
        """Open a response without an end; how long it may be silent is the caller's affair.

        Raises:
            UnreachableError: No server takes the connection, or there is no token to show it;
                the log was told.
            ConnectionError, TimeoutError: It could not be opened, or it broke.
        """
        session = self._open_session()
        try:
            token = await self.token()
        except NoTokenError as error:
            raise UnreachableError(error.reason) from error
        sent = self._headers(token, headers)
        sent.setdefault("Accept", "text/event-stream")
        sent.setdefault("Cache-Control", "no-store")
        limit = aiohttp.ClientTimeout(total=None, sock_connect=self.patience.connect_s)
        try:
            async with session.get(
                self._at(path), headers=sent, timeout=limit, allow_redirects=False
            ) as response:
                if response.status == _OK:
                    self._answered()
                yield OpenStream(response)
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            trouble = self._unconnected(error)
            self._say_trouble(trouble, f"GET {path}")
            raise UnreachableError(trouble.reason) from error
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error)) from error

    # -- small things

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            raise ResonateStoreError("the store is not open: call open() first")
        return self._session

    def _headers(self, token: str | None, given: Mapping[str, str] | None) -> dict[str, str]:
        headers = dict(given) if given is not None else {}
        shown = self._credentials.header(token)
        if shown is not None:
            headers["Authorization"] = shown
        return headers

    def _at(self, path: str) -> URL:
        return URL(f"{self._url}{path}", encoded=True)


def _piecewise(body: bytes | None) -> bytes | BytesIO | None:
    """A body as the HTTP library wants it: a long one is sent bit by bit (law 15)."""
    return body if body is None or len(body) <= _LONG_BYTES else BytesIO(body)


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, as long as it stays within reason."""
    parts: list[bytes] = []
    size_bytes = 0
    async for chunk in response.content.iter_any():
        size_bytes += len(chunk)
        if size_bytes > _ANSWER_LIMIT_BYTES:
            raise TroubleError(f"an answer of more than {_ANSWER_LIMIT_BYTES} bytes")
        parts.append(chunk)
    return b"".join(parts)
