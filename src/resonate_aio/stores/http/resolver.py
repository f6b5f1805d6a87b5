"""Name look-ups on a thread of our own (laws 15 and 16).

The loop's default executor would do, but its threads outlive whoever asked; this one ends
with the session. This file knows no HTTP.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult


class Resolver(AbstractResolver):
    """Looks names up with `getaddrinfo`, off the loop."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host.

        Raises:
            OSError: It has none, or nobody could tell.
        """
        if self._threads is None:
            self._threads = ThreadPoolExecutor(2, "resonate_aio-names")
        look_up = partial(
            socket.getaddrinfo,
            host,
            port,
            family=family,
            type=socket.SOCK_STREAM,
            flags=socket.AI_ADDRCONFIG,
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(
                hostname=host,
                host=_numeric(address),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """End the threads; a look-up that hangs in the system ends by itself, unheard."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)


def _numeric(address: tuple[object, ...]) -> str:
    """The numeric address; a link-local one of IPv6 names its interface."""
    text = str(address[0])
    scope = address[3] if len(address) > 3 else 0
    return f"{text}%{scope}" if scope and "%" not in text else text
