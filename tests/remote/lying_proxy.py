"""An HTTP proxy that lies: cut answers, 429, 502, truncated JSON, delays, duplicates, cuts.

It stands between clients and one server, over real sockets. Every request is read whole, and
then something may go wrong with it; streams break every few seconds.
"""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from random import Random
from typing import Self

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

LIES = (
    "refuse",
    "429",
    "502",
    "html",
    "cut the answer",
    "truncate the JSON",
    "answer nothing",
    "delay",
    "twice",
    "lose the answer",
)


class LyingProxy:
    """The proxy.

    Args:
        host, port: Of the server behind it.
        lies: How often, from 0 to 1, it lies.
        cut_every_s: About how often a stream breaks.

    Attributes:
        requests: How many it was sent.
        told: How often it told each lie.
    """

    def __init__(
        self, host: str, port: int, *, lies: float, cut_every_s: float, seed: int = 0
    ) -> None:
        self._behind = (host, port)
        self.lies = lies
        self._cut_every_s = cut_every_s
        self._rng = Random(seed)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests = 0
        self.told: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """Where clients find it."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (head := await _head(reader)) is not None:
                self.requests += 1
                if head.startswith(b"GET /poll/"):
                    await self._stream(head, writer)
                    return
                if not await self._exchange(head, await _body(head, reader), writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, head: bytes, body: bytes, writer: Writer) -> bool:
        """Answer one request; whether the connection may be used again."""
        lie = self._rng.choice(LIES) if self._rng.random() < self.lies else ""
        self.told[lie] += bool(lie)
        if lie == "refuse":
            _reset(writer)
            return False
        if lie in {"429", "502", "html"}:
            await _send(writer, _OF_ITS_OWN[lie])
            return True
        if lie == "answer nothing":
            await asyncio.sleep(30)
            return False
        answer = await self._ask(head, body)
        if lie == "twice":
            answer = await self._ask(head, body)
        if lie == "delay":
            await asyncio.sleep(self._rng.uniform(0.1, 1.5))
        if lie == "lose the answer":
            _reset(writer)
            return False
        if lie == "cut the answer":
            await _send(writer, answer[: self._rng.randrange(1, len(answer))])
            return False
        if lie == "truncate the JSON":
            start = answer.index(b"\r\n\r\n") + 4
            short = answer[start : self._rng.randrange(start, len(answer))]
            await _send(
                writer, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(short) + short
            )
            return True
        await _send(writer, answer)
        return True

    async def _ask(self, head: bytes, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._behind)
        try:
            await _send(writer, head + body)
            answer = await _head(reader)
            assert answer is not None
            return answer + await _body(answer, reader)
        finally:
            writer.close()

    async def _stream(self, head: bytes, writer: Writer) -> None:
        behind, upwards = await asyncio.open_connection(*self._behind)
        try:
            await _send(upwards, head)
            async with asyncio.timeout(self._rng.uniform(0.5, 1.5) * self._cut_every_s):
                while chunk := await behind.read(65_536):
                    await _send(writer, chunk)
        except TimeoutError:
            if self._rng.random() < 0.5:
                _reset(writer)
        finally:
            upwards.close()


_PAGE = b"<html><body>Bad gateway</body></html>"
_OF_ITS_OWN = {
    "429": b"HTTP/1.1 429 Too Many\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: %d\r\n\r\n%s" % (len(_PAGE), _PAGE),
    "html": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_PAGE), _PAGE),
}


async def _head(reader: Reader) -> bytes | None:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None


async def _body(head: bytes, reader: Reader) -> bytes:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return await reader.readexactly(int(value))
        if name.strip().lower() == b"transfer-encoding":
            return await _chunks(reader)
    return b""


async def _chunks(reader: Reader) -> bytes:
    """A chunked body as it is on the wire."""
    body = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        body += line + await reader.readexactly(int(line, 16) + 2)
        if int(line, 16) == 0:
            return body


async def _send(writer: Writer, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def _reset(writer: Writer) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        import socket

        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
