"""The arguments of a client's constructor, checked before anything is made of them (C20)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from ..errors import UsageError
from ..runtime.options import seconds, text
from ..runtime.settings import Settings

_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})


def set_log_level(level: int | str | None) -> None:
    """Set the level of the library's own logger; None leaves logging alone (C12).

    Raises:
        TypeError: It is neither a number nor a name.
        ValueError: There is no level of that name.
    """
    if level is None:
        return
    if isinstance(level, bool) or not isinstance(level, int | str):
        raise TypeError(f"log_level is a level of logging or its name, got {level!r}")
    if isinstance(level, str) and level not in _LEVELS:
        raise ValueError(f"log_level is one of {', '.join(sorted(_LEVELS))}, got {level!r}")
    logging.getLogger("resonate_aio").setLevel(level)


def check_credentials(auth: Any, token: Any) -> None:
    """User and password, or a token or what gives one.

    Raises:
        TypeError, ValueError: Something else; the message shows no secret.
    """
    if auth is not None and not (
        isinstance(auth, tuple) and len(auth) == 2 and all(isinstance(part, str) for part in auth)
    ):
        raise TypeError(f"auth is a pair (user, password) of strings, got {type(auth).__name__}")
    if auth is not None and ":" in auth[0]:
        # By the first colon a server tells the password from the user (RFC 7617).
        raise ValueError(f"auth: a user name holds no colon, got {auth[0]!r}")
    if token is None or callable(token):
        return
    if not isinstance(token, str):
        raise TypeError(f"token is a string or a function, got {type(token).__name__}")
    if not token or not token.isprintable():
        raise ValueError("token is not empty and holds no control characters")


def refuse_credentials_without_server(auth: Any, token: Any) -> None:
    """Credentials say that a server was meant: nothing runs in memory instead.

    Raises:
        UsageError: There are some.
    """
    for name, given in (("auth", auth), ("token", token)):
        if given is not None:
            raise UsageError(
                f"{name}= is for a server, and none was named: give url= or set RESONATE_URL, or "
                f"leave {name}= out"
            )


def refuse_token_without_serve(token: Any) -> None:
    """A token that nobody will be asked for.

    Raises:
        UsageError: There is one.
    """
    if token is not None:
        raise UsageError(
            "token= of Resonate.local() is what workers elsewhere have to show, and nothing is "
            'served to them: give serve="host:port" too, or leave token= out'
        )


def check_ttl(ttl: Any) -> float:
    """The lease time in seconds.

    Raises:
        TypeError, ValueError: It is not a time, or zero.
    """
    ttl_s = seconds(ttl, "ttl")
    if ttl_s == 0:
        raise ValueError("ttl must be more than zero seconds")
    return ttl_s


def check_names(group: Any, pid: Any) -> None:
    """The names of a worker and its group.

    Raises:
        TypeError, ValueError: They cannot be part of an address.
    """
    for what, name in (("group", group), ("pid", pid)):
        if name is None and what == "pid":
            continue
        text(name, what)
        if any(character in "@/\\" or character.isspace() for character in name):
            raise ValueError(f"{what} holds no white space, slash or @, got {name!r}")


def check_message_source(source: Any, store: Any) -> None:
    """A message source of one's own comes with a store of one's own (C17).

    Raises:
        TypeError: It is no message source.
        ValueError: There is no store.
    """
    if source is None:
        return
    if isinstance(source, type) or not all(
        callable(getattr(source, verb, None)) for verb in ("start", "stop")
    ):
        raise TypeError(f"message_source has start and stop, got {type(source).__name__}")
    if store is None:
        raise ValueError("message_source= needs store=: give both or neither")


def keep_s(retention: float | timedelta | None) -> float | None:
    """How long ended executions are kept, in seconds; None for ever.

    Raises:
        TypeError, ValueError: It is not a time.
    """
    return None if retention is None else seconds(retention, "retention")


class ServerArguments(msgspec.Struct, frozen=True, kw_only=True):
    """What a constructor was told about a server, checked; the environment is not looked at.

    Attributes:
        url: Of the server, both for requests and for messages.
        host, store_port, message_source_port: The same, as 0.6.7 takes it: a scheme and a
            host, and a port for each of the two.
        auth: User and password.
        token: A bearer token, or a function that gives the present one; wins over `auth`.
        ttl_s: Seconds of a lease.
        is_meant: A server is wanted even where none is named (`Resonate.remote()`).
    """

    url: str | None = None
    host: str | None = None
    store_port: str | None = None
    message_source_port: str | None = None
    auth: tuple[str, str] | None = None
    token: str | Callable[[], Any] | None = None
    ttl_s: float = 10.0
    is_meant: bool = False

    def __repr__(self) -> str:
        """Without secrets (law 17)."""
        return f"<ServerArguments {self.url or self.host or 'of the environment'}>"


def server_arguments(
    *,
    url: Any = None,
    host: Any = None,
    store_port: Any = None,
    message_source_port: Any = None,
    auth: Any = None,
    token: Any = None,
    ttl: Any = 10,
    is_meant: bool = False,
) -> ServerArguments:
    """The arguments that concern a server, each checked.

    Raises:
        TypeError, ValueError: One of them cannot be meant.
    """
    check_credentials(auth, token)
    for what, given in (("url", url), ("host", host)):
        if given is not None:
            text(given, what)
    return ServerArguments(
        url=url,
        host=host,
        store_port=_port(store_port, "store_port"),
        message_source_port=_port(message_source_port, "message_source_port"),
        auth=auth,
        token=token,
        ttl_s=check_ttl(ttl),
        is_meant=is_meant,
    )


def _port(port: Any, what: str) -> str | None:
    if port is None:
        return None
    if isinstance(port, bool) or not isinstance(port, int | str):
        raise TypeError(f"{what} is a number or a string of digits, got {port!r}")
    return checked_port(str(port), what)


def checked_port(port: str, what: str) -> str:
    """The digits of a port.

    Args:
        what: The argument or variable it comes from, for the message.

    Raises:
        ValueError: They are none.
    """
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f"{what} is a port from 1 to 65535, got {port!r}")
    return port


def host_and_port(serve: Any) -> tuple[str, int]:
    """The two parts of `host:port`; an IPv6 host stands in brackets.

    Raises:
        TypeError, ValueError: It has not got them.
    """
    if not isinstance(serve, str):
        raise TypeError(f"serve is host:port, such as 127.0.0.1:8001, got {serve!r}")
    host, _, port = serve.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not port.isascii() or not port.isdigit() or not int(port) < 65_536:
        raise ValueError(f"serve is host:port, such as 127.0.0.1:8001, got {serve!r}")
    return text(host, "serve"), int(port)


def check_clock(clock: Any) -> None:
    """Where the time is read.

    Raises:
        TypeError: It is no clock.
    """
    if clock is None:
        return
    if isinstance(clock, type) or not callable(getattr(clock, "now_ms", None)):
        raise TypeError(f"clock has now_ms(), got {clock!r}")


def check_settings(settings: Any) -> None:
    """The figures of the runtime.

    Raises:
        TypeError: They are something else.
    """
    if settings is not None and not isinstance(settings, Settings):
        raise TypeError(f"settings is a Settings, got {settings!r}")


def check_flag(value: Any, what: str) -> None:
    """A switch.

    Raises:
        TypeError: It is neither True nor False.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{what} is True or False, got {value!r}")


def check_synchronous(synchronous: Any) -> None:
    """How surely the file of a local store is written.

    Raises:
        ValueError: It is none of the ways.
    """
    if synchronous not in {"FULL", "NORMAL"}:
        raise ValueError(f"synchronous is 'FULL' or 'NORMAL', got {synchronous!r}")
