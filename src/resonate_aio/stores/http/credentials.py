"""What a client shows a server: a bearer token, or what gives one, or a user and a password.

A function that gives tokens is somebody else's code, and as a rule it asks somebody else's
server: that it fails is trouble (law 8), as a server's silence is. The sessions of one client
share these credentials, so the log is told of it once. No secret is shown here (law 17). This
file sends nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any, Final

from ...errors import ResonateStoreError
from ...outage import Outage
from .answers import TroubleError

logger = logging.getLogger("resonate_aio.stores.http")

Token = str | Callable[[], str | Awaitable[str]]
"""A bearer token, or a function that gives the one that is valid now."""

_SHOWN: Final = 200


class NoTokenError(TroubleError):
    """The function that gives the token did not: nothing was sent.

    Args:
        why: What it did instead.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"the function given as token= {why}", untouched=True)

    def told(self, url: str, what: str) -> str:
        """The same whatever was to be asked: one outage is one thing."""
        return (
            f"no token for {url}: {self.reason}; look at that function and what it asks, nothing "
            "is sent until it gives one"
        )


class Credentials:
    """The credentials of one client; a token wins over a user and a password.

    Args:
        token: A bearer token, or a function that gives the one that is valid now.
        auth: User name and password for basic authentication.

    Raises:
        ValueError: They are none that a request can carry.
    """

    __slots__ = ("_basic", "_token", "outage")

    def __init__(self, token: Token | None = None, auth: tuple[str, str] | None = None) -> None:
        if isinstance(token, str) and not is_token(token):
            raise ValueError("token is not empty and holds no control characters")
        self._token = token
        self._basic = None if auth is None else _basic(*auth)
        self.outage = Outage()

    def __repr__(self) -> str:
        return "<Credentials>"  # never a secret (law 17)

    async def token(self, url: str, within_s: float) -> str | None:
        """The bearer token to use now, or None.

        Args:
            url: Of the server that it is for, for the log.
            within_s: How long the function that gives it may take.

        Raises:
            NoTokenError: That function raised, or took longer; the log was told.
            ResonateStoreError: What it gave is no token.
        """
        if not callable(self._token):
            return self._token
        try:
            given = await self._given(self._token, within_s)
        except NoTokenError as error:
            if self.outage.failed(asyncio.get_running_loop().time()):
                logger.warning("%s", error.told(url, ""))
                logger.debug("where token= failed", exc_info=error.__cause__)
            raise
        if given is not None and not isinstance(given, str):
            raise ResonateStoreError(f"token= gave {type(given).__name__}, not a string")
        if given is not None and not is_token(given):
            raise ResonateStoreError(
                "token= gave what no request can carry: it is empty or holds control characters"
            )
        if self.outage.worked():  # as loud as the trouble was: who read that reads this
            logger.warning("token= gives a token for %s again", url)
        return given

    async def _given(self, provider: Callable[[], Any], within_s: float) -> Any:
        scope = asyncio.timeout(within_s)
        try:
            async with scope:
                given = provider()
                return await given if inspect.isawaitable(given) else given
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise NoTokenError("was cancelled") from error  # by itself: nobody cancelled us
        except Exception as error:
            if scope.expired():
                raise NoTokenError(f"gave none within {within_s:g} s") from error
            raise NoTokenError(f"raised {_in_short(error)}") from error

    def header(self, token: str | None) -> str | None:
        """The value of the Authorization header, with this token if there is one."""
        return self._basic if token is None else f"Bearer {token}"


def is_token(text: str) -> bool:
    """Whether a request can carry it: other characters end a header, or begin another one."""
    return bool(text) and text.isprintable()


def _basic(user: str, password: str) -> str:
    """The header of basic authentication.

    Raises:
        ValueError: The server would read another user, or the text is no Unicode.
    """
    if ":" in user:
        raise ValueError(f"auth: a user name holds no colon, got {user!r}")
    try:
        return "Basic " + b64encode(f"{user}:{password}".encode()).decode()
    except UnicodeEncodeError:
        raise ValueError("auth: user name and password are valid Unicode") from None


def _in_short(error: Exception) -> str:
    text = str(error)[:_SHOWN]
    name = type(error).__name__
    return f"{name}: {text if text.isprintable() else ascii(text)}" if text else name
