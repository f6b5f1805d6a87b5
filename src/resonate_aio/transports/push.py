"""Messages that a server pushes to a URL: the receiving end, for a route of an aiohttp application.

A worker behind a load balancer has no address that others could name; the balancer has. What
is pushed there reaches any of its workers, and whoever claims a task first has it. Messages are
hints (S50), so this file only judges who may knock and what may be read, and passes on the rest.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

import orjson
from aiohttp import web

from ..errors import ResonateError, UsageError

logger = logging.getLogger("resonate_aio.transports")

_SCHEME: Final = "bearer "
_PASSED_ON: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via", "Origin")
"""What a proxy adds, and a web page: neither is on this host because its connection is."""

_SHORT_TOKEN: Final = 16


class PushDoor:
    """Takes what a server pushes.

    Args:
        push: Follows a message, given as decoded JSON; raises ValueError where it is none.
        token: What the server has to show, as `Authorization: Bearer`. Without one only what
            comes over loopback is taken.

    Raises:
        TypeError: The token is no text.
        ValueError: It is empty.
    """

    def __init__(self, push: Callable[[Any], None], token: str | None) -> None:
        if token is not None and not isinstance(token, str):
            raise TypeError(f"token is text, got {type(token).__name__}")
        if token == "":
            raise ValueError("token is empty: leave it out, or give the server's")
        if token is not None and len(token) < _SHORT_TOKEN:
            logger.warning("the token of a push route has fewer than %d characters", _SHORT_TOKEN)
        self._push = push
        self._token = None if token is None else token.encode()
        self._has_warned = False

    async def receive(self, request: web.Request) -> web.Response:
        """Answer one push: 204 when it was passed on.

        Raises:
            HTTPUnauthorized, HTTPForbidden: Whoever sent it may not.
            HTTPUnsupportedMediaType, HTTPBadRequest: It is no message.
            HTTPServiceUnavailable: The client is not started, or stops.
        """
        self._admit(request)
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="a message is application/json")
        try:
            self._push(orjson.loads(await request.read()))
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"this is no message: {error}") from error
        except UsageError:
            raise
        except ResonateError as error:
            raise web.HTTPServiceUnavailable(headers={"Retry-After": "1"}) from error
        return web.Response(status=204)

    def _admit(self, request: web.Request) -> None:
        if self._token is not None:
            shown = request.headers.get("Authorization", "")
            secret = shown[len(_SCHEME) :].strip().encode("utf-8", "surrogateescape")
            if shown[: len(_SCHEME)].lower() != _SCHEME or not hmac.compare_digest(
                secret, self._token
            ):
                raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})
            return
        if _came_over_loopback(request) and not any(name in request.headers for name in _PASSED_ON):
            return
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "a push to %s was refused: a route that others can reach needs a token "
                "(push_route(..., token=...)), and the server has to send it",
                request.path,
            )
        raise web.HTTPForbidden(text="this route needs a token")


def _came_over_loopback(request: web.Request) -> bool:
    transport = request.transport
    name = None if transport is None else transport.get_extra_info("sockname")
    try:
        return isinstance(name, tuple) and ip_address(str(name[0])).is_loopback
    except ValueError:
        return False
