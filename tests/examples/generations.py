"""Servers that the async rpc example runs on unchanged: only its environment tells which."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from tests.peers import current_server, legacy_server
from tests.peers.current_server import EMBEDDED, CurrentServer
from tests.peers.legacy_server import LegacyServer

from resonate_aio import Resonate

LEGACY: Final = "legacy"
NO_OTHER: Final = "another current server"
Server = CurrentServer | LegacyServer


def servers() -> list[Any]:
    """Parameters of tests: the embedded server, the others, and why one of them is not there."""
    no_other = pytest.mark.skip(reason=current_server.ABSENT)
    no_legacy = pytest.mark.skipif(legacy_server.program() is None, reason=legacy_server.ABSENT)
    others = current_server.peers()[1:]
    return [
        EMBEDDED,
        pytest.param(LEGACY, marks=no_legacy),
        *others,
        *([] if others else [pytest.param(NO_OTHER, marks=no_other)]),
    ]


@contextmanager
def running(which: str, folder: Path) -> Iterator[Server | None]:
    """This server, started; None for the embedded one, which the example itself starts."""
    if which == EMBEDDED:
        yield None
        return
    server: Server
    if which == LEGACY:
        server = LegacyServer(folder, "--aio-poll-ttr", "200ms", "--aio-poll-ttc", "1s")
    else:
        server = CurrentServer(which, folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def environment_of(server: Server | None) -> dict[str, str]:
    """What tells the application where its server is."""
    match server:
        case None:
            return {}
        case CurrentServer():
            return {"RESONATE_URL": server.url}
        case LegacyServer():
            return {
                "RESONATE_HOST": "http://127.0.0.1",
                "RESONATE_PORT_STORE": str(server.port),
                "RESONATE_PORT_MESSAGE_SOURCE": str(server.poll_port),
            }


def client_of(server: Server, group: str) -> Resonate:
    """A client of this server."""
    if isinstance(server, CurrentServer):
        return Resonate(url=server.url, group=group)
    return Resonate.remote(
        host="http://127.0.0.1",
        store_port=server.port,
        message_source_port=server.poll_port,
        group=group,
    )
