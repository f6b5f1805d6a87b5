"""A worker of this library in a process of its own: GROUP STORE_PORT POLL_PORT LOG."""
# ruff: noqa: T201

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.peers.legacy_clients import legacy_client
from tests.peers.shared_functions import functions


async def work(group: str, store_port: str, poll_port: str, log: str) -> None:
    resonate = legacy_client(group, store_port, poll_port)
    for function in functions(group, Path(log)):
        resonate.register(function)
    async with resonate:
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
