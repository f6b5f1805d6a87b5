"""The stores of Resonate servers: the part of the wiring that needs a network.

Loaded only where a server is named, for it brings the HTTP library with it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from ..outage import UnreachableError
from ..protocol.envelope import message_from_wire
from ..protocol.requests import Reply, Request
from ..stores.base import Store
from ..stores.either import EitherStore
from ..stores.generations import Generation, generation_at
from ..stores.http.answers import checked_url
from ..stores.http.credentials import Credentials, is_token
from ..stores.http.session import HttpSession
from ..stores.legacy import LegacyStore
from ..stores.legacy.messages import poll_endpoints
from ..stores.legacy.sync_messages import Addresses, SyncMessages
from ..stores.legacy.sync_session import SyncSession
from ..stores.remote import RemoteStore
from ..stores.remote.calls import RemoteCalls
from ..transports.sse import SseMessages
from .arguments import ServerArguments
from .wiring import at_port, port_of

_POLL_PORT: Final = "8002"

Ask = Callable[[Request], Awaitable[Reply]]


def store_at(url: str, arguments: ServerArguments) -> Store:
    """The store of the server at this URL, of whichever generation it turns out to be.

    Raises:
        ValueError: It is no URL of a server, or credentials of the environment are unusable.
    """
    credentials = _credentials(arguments)
    _refuse_half_a_pair(arguments)

    def session(url: str) -> HttpSession:
        return HttpSession(url, credentials=credentials)

    ttl_s = arguments.ttl_s
    poll_url = checked_url(_poll_url(checked_url(url), arguments))

    def make(generation: Generation) -> Store:
        http = session(url)
        if generation is Generation.CURRENT:
            return current_store(http, ttl_s=ttl_s)
        poll = session(poll_url)
        return LegacyStore(
            http,
            lambda decode: SseMessages(poll_endpoints(http, poll), decode, rng=http.rng),
            poll=poll,
            ttl_s=ttl_s,
        )

    return EitherStore(session(url), make, ttl_s=ttl_s)


def current_store(http: HttpSession, *, ttl_s: float) -> RemoteStore:
    """The store of a server that is known to be of the current generation."""
    return RemoteStore(
        http,
        lambda: SseMessages(poll_endpoints(http, None), message_from_wire, rng=http.rng),
        ttl_s=ttl_s,
    )


def _credentials(arguments: ServerArguments) -> Credentials:
    """What was given, then what the environment says (C7, C8).

    Raises:
        ValueError: The environment says what cannot be meant.
    """
    environment, token, auth = os.environ, arguments.token, arguments.auth
    if token is None and auth is None:
        token = environment.get("RESONATE_TOKEN") or None
        if token is not None and not is_token(token):
            raise ValueError("RESONATE_TOKEN holds control characters: a line break at its end?")
    if token is None and auth is None:
        auth = _environment_auth()
    return Credentials(token, auth)


def _environment_auth() -> tuple[str, str] | None:
    user = os.environ.get("RESONATE_USERNAME")
    if user is None:
        return None
    if ":" in user:
        raise ValueError(f"RESONATE_USERNAME holds no colon, got {user!r}")
    return user, os.environ.get("RESONATE_PASSWORD", "")


def _refuse_half_a_pair(arguments: ServerArguments) -> None:
    """A password of the environment that nobody would be shown.

    Raises:
        ValueError: There is one.
    """
    environment = os.environ
    is_shown = arguments.token is not None or arguments.auth is not None
    if is_shown or environment.get("RESONATE_TOKEN") or "RESONATE_USERNAME" in environment:
        return
    if environment.get("RESONATE_PASSWORD"):
        raise ValueError("RESONATE_PASSWORD is set and RESONATE_USERNAME is not: set both")


def _poll_url(url: str, arguments: ServerArguments) -> str:
    """Where a legacy server that has no `/poll` route sends its messages from."""
    environment = os.environ
    port = arguments.message_source_port or port_of("RESONATE_PORT_MESSAGE_SOURCE")
    host = environment.get("RESONATE_HOST_MESSAGE_SOURCE")
    if host is not None and arguments.host is None and arguments.url is None:
        return at_port(host, port or _POLL_PORT, "RESONATE_HOST_MESSAGE_SOURCE")
    parts = urlsplit(url)
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{name}:{port or _POLL_PORT}"


def blocking_store(store: Any, source: Any, *, ttl_s: float) -> Store:
    """The store that a pair of objects of SDK release 0.6.7 makes: calls run on threads (C16)."""
    addresses = Addresses(source)
    session = SyncSession(store, addresses)
    return LegacyStore(
        session,
        lambda decode: SyncMessages(source, store, session, addresses, decode),
        ttl_s=ttl_s,
    )


class Visitor:
    """Asks a server of either generation without being its worker."""

    __slots__ = ("_ask", "_http", "_legacy")

    def __init__(self, http: HttpSession, legacy: LegacyStore) -> None:
        self._http = http
        self._legacy = legacy
        self._ask: Ask | None = None

    async def ask(self, request: Request) -> Reply:
        """The answer to one request; the first one finds out which generation answers.

        Raises:
            ResonateStoreError: The credentials are refused.
        """
        if self._ask is None:
            is_current = await generation_at(self._http) is Generation.CURRENT
            self._ask = RemoteCalls(self._http).ask if is_current else self._legacy.call
        return await self._ask(request)

    async def absence(self) -> str | None:
        """Why nobody takes a connection there, in the system's words; None if somebody does."""
        try:
            async with self._http.stream("/"):
                return None
        except UnreachableError as error:
            return str(error)
        except (ConnectionError, TimeoutError):  # somebody is there, whatever they say
            return None


@asynccontextmanager
async def visiting(url: str, arguments: ServerArguments) -> AsyncIterator[Visitor]:
    """Ask a server single requests, with the credentials that a client would use.

    Raises:
        ValueError: It is no URL of a server, or a request cannot carry these credentials.
    """
    http = HttpSession(url, credentials=_credentials(arguments))
    legacy = LegacyStore(http, lambda decode: SseMessages([], decode))
    await legacy.open()
    try:
        yield Visitor(http, legacy)
    finally:
        await legacy.close()
