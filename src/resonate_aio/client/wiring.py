"""The only place that chooses concrete classes."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any, Literal

from ..clock import Clock, SystemClock
from ..errors import UsageError
from ..protocol.requests import Reply, Request
from ..runtime.settings import Settings
from ..stores.base import Store
from ..stores.http_session import HttpSession
from ..stores.memory import MemoryStore
from ..stores.remote_calls import RemoteCalls
from ..stores.sqlite import SqliteStore
from .arguments import ServerArguments
from .core import ClientCore
from .dependencies import Dependencies
from .registry import Registry

Ask = Callable[[Request], Awaitable[Reply]]
Synchronous = Literal["FULL", "NORMAL"]


def local_store(path: str | os.PathLike[str] | None, synchronous: Synchronous) -> Store:
    """A store inside this process: memory, or one SQLite file."""
    return MemoryStore() if path is None else SqliteStore(path, synchronous=synchronous)


def server_store(arguments: ServerArguments) -> Store | None:
    """The store of the server that was named, by argument or environment; None for none.

    Raises:
        UsageError: There is one: servers are not spoken to by this version, which says so
            instead of running in memory.
    """
    named = (
        arguments.url
        or arguments.host
        or os.environ.get("RESONATE_URL")
        or os.environ.get("RESONATE_HOST")
    )
    if named or arguments.is_meant:
        raise UsageError(
            f"a Resonate server was named ({named!r}, by url= or by RESONATE_URL or "
            "RESONATE_HOST), but this version runs on memory and SQLite only: use "
            "Resonate.local() or Resonate.local(path=...)"
        )
    return None


@asynccontextmanager
async def asking(url: str, token: str | None) -> AsyncIterator[Ask]:
    """Carry out single requests at a server without being a worker of it.

    Raises:
        ValueError: It is no URL of a server.
    """
    http = HttpSession(url, token=token)
    await http.open()
    try:
        yield RemoteCalls(http).ask
    finally:
        await http.close()


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
    if not hasattr(store, "fence_create"):
        raise TypeError(f"store is a Store, got {type(store).__name__}")
    return ClientCore(
        store=store,
        clock=clock if clock is not None else SystemClock(),
        settings=settings
        if settings is not None
        else Settings(workers=workers, check_arguments=check_arguments),
        group=group,
        pid=pid if pid is not None else uuid.uuid4().hex,
        registry=registry if registry is not None else Registry(),
        dependencies=dependencies if dependencies is not None else Dependencies(),
        variables=copy_context(),
    )
