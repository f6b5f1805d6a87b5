"""Every store there is, each with what it can (S66), for one suite of tests.

A backend is a place where promises live. Clients of it are stores; two of them are two
processes as far as the place can tell. Places that are not present are skipped, saying why.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
import pytest
from tests.peers import current_server, legacy_server

from resonate_aio.client.servers import current_store
from resonate_aio.protocol.dialects import Dialect
from resonate_aio.protocol.envelope import message_from_wire
from resonate_aio.stores.base import Store
from resonate_aio.stores.http.session import HttpSession
from resonate_aio.stores.legacy import LegacyStore
from resonate_aio.stores.legacy.messages import poll_endpoints
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.remote import RemoteStore
from resonate_aio.stores.sqlite import SqliteStore
from resonate_aio.transports.sse import SseMessages

TTL_S = 1.0
MakeSession = Callable[[str], HttpSession]
"""Makes the session with a server at a URL."""


class Able(msgspec.Struct, frozen=True):
    """What a place can do.

    Attributes:
        fences: A write without the lease is refused (law 7).
        searches_tasks, halts: As the current protocol has it.
        leases: A lease ends with time, not only with the process.
        shares: Several store objects reach the same promises.
        suspends: A task can be suspended, and is offered again when what it awaits settles.
    """

    fences: bool = True
    searches_tasks: bool = True
    halts: bool = True
    leases: bool = True
    shares: bool = True
    suspends: bool = True


class Backend(Protocol):
    """A place where promises live."""

    able: Able

    def make(self, session: MakeSession = HttpSession) -> Store:
        """A store of it, not yet open; what it holds is its own."""
        ...

    def stop(self) -> None:
        """End it."""
        ...

    def kill(self) -> None:
        """End it without a word: nobody looks at it any more."""
        ...


class InMemory:
    able = Able(leases=False, shares=False)

    def __init__(self, folder: Path) -> None:
        self._store = MemoryStore()

    def make(self, session: MakeSession = HttpSession) -> Store:
        return self._store

    def stop(self) -> None: ...

    def kill(self) -> None: ...


class InFile:
    able = Able(leases=False, shares=False)

    def __init__(self, folder: Path) -> None:
        self._store = SqliteStore(folder / "contract.db", synchronous="NORMAL")

    def make(self, session: MakeSession = HttpSession) -> Store:
        return self._store

    def stop(self) -> None: ...

    def kill(self) -> None: ...


class Current:
    """A server of the current protocol."""

    able = Able()

    def __init__(self, which: str, folder: Path, dialect: Dialect = Dialect.DOT) -> None:
        self._server = current_server.CurrentServer(which, folder)
        self._server.start()
        self._dialect = dialect

    def make(self, session: MakeSession = HttpSession) -> Store:
        http = session(self._server.url)
        if self._dialect is Dialect.DOT:
            return current_store(http, ttl_s=TTL_S)

        def messages() -> SseMessages:
            return SseMessages(poll_endpoints(http, None), message_from_wire)

        return RemoteStore(http, messages, ttl_s=TTL_S, dialect=self._dialect)

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        self._server.kill()


class Legacy:
    """A legacy server."""

    able = Able(fences=False, searches_tasks=False, halts=False, suspends=False)

    def __init__(self, folder: Path) -> None:
        # A message to a process that died is sent again soon, not after a minute.
        soon = ("--aio-poll-ttr", "200ms", "--aio-poll-ttc", "2s")
        self._server = legacy_server.LegacyServer(folder, *soon)
        self._server.start()

    def make(self, session: MakeSession = HttpSession) -> Store:
        http, poll = session(self._server.url), session(self._server.poll_url)
        return LegacyStore(
            http,
            lambda decode: SseMessages(poll_endpoints(http, poll), decode),
            poll=poll,
            ttl_s=TTL_S,
            again_s=5.0,
        )

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        self._server.kill()


def start(name: str, folder: Path) -> Backend:
    """The backend of this name, started; a test that needs an absent one is skipped."""
    if name in _LOCAL:
        return _LOCAL[name](folder)
    if name == "legacy":
        if legacy_server.program() is None:
            pytest.skip(legacy_server.ABSENT)
        return Legacy(folder)
    if name == "current":
        pytest.skip(current_server.ABSENT)
    which, _, dialect = name.rpartition("@")
    return Current(which, folder, Dialect(dialect))


_LOCAL: dict[str, Callable[[Path], Backend]] = {"memory": InMemory, "sqlite": InFile}


def names() -> list[str]:
    """Every backend that tests are run on, or skipped for."""
    embedded = [f"{current_server.EMBEDDED}@{dialect}" for dialect in Dialect]
    others = [f"{which}@{Dialect.DOT}" for which in current_server.peers()[1:]]
    return [*_LOCAL, *embedded, *(others or ["current"]), "legacy"]


def label(name: str) -> str:
    """The name as a test's id shows it."""
    which, at, dialect = name.rpartition("@")
    return f"{Path(which).name}{at}{dialect}" if at else name
