"""A worker of this library in a process of its own: GROUP URL LOG, current protocol.

Of a legacy server: GROUP STORE_PORT POLL_PORT LOG.
"""
# ruff: noqa: T201

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.peers.current_clients import current_client
from tests.peers.legacy_clients import legacy_client
from tests.peers.shared_functions import functions


async def work(group: str, *server: str, log: str) -> None:
    resonate = legacy_client(group, *server) if len(server) > 1 else current_client(group, *server)
    for function in functions(group, Path(log)):
        resonate.register(function)
    async with resonate:
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:-1], log=sys.argv[-1]))
