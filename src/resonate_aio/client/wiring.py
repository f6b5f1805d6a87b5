"""The only place that chooses concrete classes, with `servers.py` for what needs a network.

That one is loaded where a server is named: a program without one need not wait for it.
"""

from __future__ import annotations

import os
import uuid
from contextvars import copy_context
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from ..clock import Clock, SystemClock
from ..runtime.options import ExceptionClasses, exception_classes
from ..runtime.settings import Settings
from ..stores.base import Store
from ..stores.memory import MemoryStore
from ..stores.sqlite import SqliteStore
from ..transports.base import MessageSource
from .arguments import ServerArguments, checked_port, host_and_port
from .core import ClientCore, StoreServer
from .dependencies import Dependencies
from .registry import Registry

_PORT: Final = "8001"
_PROMISE_VERBS: Final = (
    "get",
    "create",
    "create_with_task",
    "resolve",
    "reject",
    "cancel",
    "callback",
    "subscribe",
)
_TASK_VERBS: Final = ("claim", "complete", "heartbeat")
Synchronous = Literal["FULL", "NORMAL"]


def local_store(path: str | os.PathLike[str] | None, synchronous: Synchronous) -> Store:
    """A store inside this process: memory, or one SQLite file."""
    return MemoryStore() if path is None else SqliteStore(path, synchronous=synchronous)


def local_server(store: Store, serve: str, token: str | None) -> StoreServer:
    """A server for workers elsewhere, over a store inside this process.

    Args:
        serve: Where it listens: `host:port`.
        token: The secret that every request must show; needed off loopback (law 17).

    Raises:
        TypeError, ValueError: It is no address.
        UsageError: No token off loopback.
    """
    from ..server.server import Server  # noqa: PLC0415  few need it, and it is long to load

    host, port = host_and_port(serve)
    embeddable: Any = store  # what `local_store` makes is
    return Server(embeddable, host=host, port=port, token=token)


def given_store(
    store: Any, source: Any, *, group: str, ttl_s: float
) -> tuple[Store | None, MessageSource | None]:
    """A store of somebody's own, and the message source that is left beside it (C16, C17).

    One of SDK release 0.6.7, with blocking methods, comes with its message source, and the two
    make one store.

    Raises:
        TypeError, ValueError: They do not go together.
    """
    is_blocking = callable(getattr(source, "next", None))
    if not is_store_of_release_067(store):
        if is_blocking:
            raise TypeError(
                "message_source has a blocking next(), as in release 0.6.7: it goes with a store= "
                f"of that release, got {type(store).__name__}"
            )
        return store, source
    if not is_blocking or not hasattr(source, "unicast") or not hasattr(source, "anycast"):
        raise ValueError(
            f"store {type(store).__name__} is one of release 0.6.7: give its message_source= "
            "(start, stop, next, unicast, anycast) too, or it hears of no work"
        )
    receives_for = str(source.unicast).partition("@")[2].partition("/")[0]
    if receives_for != group:
        raise ValueError(
            f"message_source receives for {source.unicast!r}, and the client is of the group "
            f"{group!r}: both must be of one group"
        )
    from .servers import blocking_store  # noqa: PLC0415  as for a server

    return blocking_store(store, source, ttl_s=ttl_s), None


def is_store_of_release_067(store: Any) -> bool:
    """Whether it has the blocking methods that SDK release 0.6.7 asks of a store."""
    if isinstance(store, type) or hasattr(store, "fence_create"):
        return False
    promises, tasks = getattr(store, "promises", None), getattr(store, "tasks", None)
    return all(
        callable(getattr(part, verb, None))
        for part, verbs in ((promises, _PROMISE_VERBS), (tasks, _TASK_VERBS))
        for verb in verbs
    )


def place_of(store: Store) -> str:
    """Where a store keeps things, for people; it shows no secret (law 17)."""
    if isinstance(store, MemoryStore):
        return "in memory"
    if isinstance(store, SqliteStore):
        return f"in {store.path}"
    url = getattr(store, "url", None)  # its class is not loaded for those who need none
    return f"at {url}" if isinstance(url, str) else f"in {store!r}"


def server_store(arguments: ServerArguments) -> Store | None:
    """The store of the server that was named, by argument or environment; None for none.

    Nothing is opened yet, and which generation of server it is, is found out later.

    Raises:
        ValueError: What was named is no URL of a server.
    """
    url = server_url(arguments)
    if url is None:
        return None
    from .servers import store_at  # noqa: PLC0415  its HTTP library takes longer than all of ours

    return store_at(url, arguments)


def server_url(arguments: ServerArguments) -> str | None:
    """Where the server is: what was given, then what the environment says (C6, C23)."""
    environment = os.environ
    if arguments.url is not None:
        return arguments.url
    if arguments.host is not None:
        port = arguments.store_port or port_of("RESONATE_PORT_STORE", "RESONATE_PORT") or _PORT
        return at_port(arguments.host, port, "host")
    if arguments.is_meant:
        return _meant_url(arguments.store_port)
    if environment.get("RESONATE_URL"):
        return environment["RESONATE_URL"]
    if environment.get("RESONATE_HOST"):
        port = port_of("RESONATE_PORT") or _PORT
        return at_port(environment["RESONATE_HOST"], port, "RESONATE_HOST")
    return None


def _meant_url(port: str | None) -> str:
    """Where a server is that is wanted and not named."""
    environment = os.environ
    port = port or port_of("RESONATE_PORT_STORE")
    if port is None and environment.get("RESONATE_URL"):
        return environment["RESONATE_URL"]
    port = port or port_of("RESONATE_PORT") or _PORT
    for variable in ("RESONATE_HOST_STORE", "RESONATE_HOST"):
        if environment.get(variable):
            return at_port(environment[variable], port, variable)
    return at_port("localhost", port, "host")


def port_of(*variables: str) -> str | None:
    """The port that the first of these variables names which is set; None where none is.

    Raises:
        ValueError: It is none.
    """
    for variable in variables:
        port = os.environ.get(variable)
        if port:
            return checked_port(port, variable)
    return None


def at_port(host: str, port: str, what: str) -> str:
    """A URL from a host, with or without a scheme, and a port.

    Args:
        what: The argument or variable that names the host, for the message.

    Raises:
        ValueError: The host cannot be followed by a port.
    """
    url = host if "://" in host else f"{os.environ.get('RESONATE_SCHEME') or 'http'}://{host}"
    if not _is_host(url):
        shown = "" if "@" in host else f", got {host!r}"  # it may hold a password (law 17)
        raise ValueError(
            f"{what} is a host, with or without http:// before it, and the port is given apart "
            f"from it (or give url=){shown}"
        )
    return f"{url.rstrip('/')}:{port}"


def _is_host(url: str) -> bool:
    """Whether a port may follow: there is a host at the end, and no port, path or query."""
    try:
        parts = urlsplit(url)
        is_whole = parts.port is None and not parts.netloc.endswith(":")
    except ValueError:
        return False
    return is_whole and bool(parts.hostname) and not (parts.path.strip("/") or parts.query)


def make_core(
    *,
    store: Store,
    group: str,
    pid: str | None,
    workers: int | None,
    registry: Registry | None,
    dependencies: Dependencies | None,
    clock: Clock | None = None,
    settings: Settings | None = None,
    check_arguments: bool = True,
    non_retryable_exceptions: ExceptionClasses = (),
) -> ClientCore:
    """A client's shared part, everything checked.

    Raises:
        TypeError, ValueError: An argument of the wrong kind.
    """
    for what, name in (("group", group), ("pid", pid)):
        if name is not None and (not isinstance(name, str) or not name):
            raise TypeError(f"{what} is a non-empty string, got {name!r}")
    if workers is not None:
        if isinstance(workers, bool) or not isinstance(workers, int):
            raise TypeError(f"workers is an int or None, got {workers!r}")
        if workers < 1:
            raise ValueError(f"workers must be 1 or more, got {workers}")
    checked: list[tuple[str, Any, type]] = [
        ("registry", registry, Registry),
        ("dependencies", dependencies, Dependencies),
    ]
    for what, given, kind in checked:
        if given is not None and not isinstance(given, kind):
            raise TypeError(f"{what} is a {kind.__name__}, got {type(given).__name__}")
    never_again = exception_classes(non_retryable_exceptions)
    if not hasattr(store, "fence_create"):
        raise TypeError(f"store is a Store, got {type(store).__name__}")
    return ClientCore(
        store=store,
        clock=clock if clock is not None else SystemClock(),
        settings=settings
        if settings is not None
        else Settings(
            workers=workers,
            check_arguments=check_arguments,
            non_retryable_exceptions=never_again,
        ),
        group=str.__str__(group),
        pid=str.__str__(pid) if pid is not None else uuid.uuid4().hex,
        registry=registry if registry is not None else Registry(),
        dependencies=dependencies if dependencies is not None else Dependencies(),
        variables=copy_context(),
    )
