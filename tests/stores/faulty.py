"""Servers on loopback sockets that make mistakes, one after the other, and sessions with them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from aiohttp import web

from resonate_aio.stores.http.answers import Answer, TroubleError
from resonate_aio.stores.http.session import HttpSession, Patience

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
QUICK = Patience(
    connect_s=1.0, answer_s=0.3, answer_most_s=1.0, first_s=0.01, most_s=0.05, pace_s=0.001
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def text_of(answer: Answer) -> str:
    return answer.body.decode()


def only_ok(answer: Answer) -> str:
    if answer.body != b"ok":
        raise TroubleError(f"not ok: {answer.body[:20]!r}")
    return "ok"


@asynccontextmanager
async def listening(handle: Callable[[Reader, Writer], Awaitable[None]]) -> AsyncIterator[str]:
    """A server on a loopback port that does with each connection what `handle` does."""
    tasks: set[asyncio.Task[Any]] = set()

    async def guarded(reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def serving(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """An aiohttp server that answers every request so."""
    runner = web.ServerRunner(web.Server(cast(Any, answer)))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def session(url: str, **options: Any) -> AsyncIterator[HttpSession]:
    made = HttpSession(url, patience=options.pop("patience", QUICK), **options)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def request_line(reader: Reader) -> bytes:
    """Read one whole request; its first line."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            await reader.readexactly(int(value))
    return head.split(b"\r\n")[0]


class Faults:
    """A server that makes one mistake after the other, then answers."""

    def __init__(self, *mistakes: Callable[[Reader, Writer], Awaitable[bool]]) -> None:
        self.left = list(mistakes)
        self.requests = 0

    async def handle(self, reader: Reader, writer: Writer) -> None:
        while True:
            if self.left:
                goes_on = await self.left.pop(0)(reader, writer)
                if not goes_on:
                    return
                continue
            await request_line(reader)
            self.requests += 1
            writer.write(OK)
            await writer.drain()


async def reset_at_once(reader: Reader, writer: Writer) -> bool:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    return False


async def close_after_request(reader: Reader, writer: Writer) -> bool:
    await request_line(reader)
    return False


async def cut_in_the_head(reader: Reader, writer: Writer) -> bool:
    await request_line(reader)
    writer.write(b"HTTP/1.1 200 O")
    await writer.drain()
    return False


async def cut_in_the_body(reader: Reader, writer: Writer) -> bool:
    await request_line(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it")
    await writer.drain()
    return False


async def cut_in_a_chunk(reader: Reader, writer: Writer) -> bool:
    await request_line(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nhalf")
    await writer.drain()
    return False


async def not_http(reader: Reader, writer: Writer) -> bool:
    await request_line(reader)
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    await writer.drain()
    return False


async def page_of_html(reader: Reader, writer: Writer) -> bool:
    await request_line(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>Hi</html>")
    await writer.drain()
    return True


async def says_nothing(reader: Reader, writer: Writer) -> bool:
    await request_line(reader)
    await asyncio.sleep(30)
    return False


def status(code: int, *headers: bytes) -> Callable[[Reader, Writer], Awaitable[bool]]:
    async def answer(reader: Reader, writer: Writer) -> bool:
        await request_line(reader)
        lines = b"".join(header + b"\r\n" for header in headers)
        writer.write(b"HTTP/1.1 %d X\r\n%sContent-Length: 3\r\n\r\n<p>" % (code, lines))
        await writer.drain()
        return True

    answer.__name__ = f"status_{code}"
    return answer


MISTAKES = [
    reset_at_once,
    close_after_request,
    cut_in_the_head,
    cut_in_the_body,
    cut_in_a_chunk,
    not_http,
    page_of_html,
    says_nothing,
    status(500),
    status(502),
    status(503),
    status(504),
    status(429),
]
