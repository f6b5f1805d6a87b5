"""What the server's tests share: a client that can say anything, and short forms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from resonate_aio.protocol.envelope import VERSION, kind_of, request_to_wire
from resonate_aio.protocol.requests import Reply, Request, TaskFence
from resonate_aio.server import Server
from resonate_aio.stores.memory import MemoryStore

FAR_MS = 4_102_444_800_000
EXTERNAL = {"resonate:external": "true"}
TARGET = {"resonate:target": "poll://any@g"}


class FixedClock:
    """Time that moves when it is told to."""

    def __init__(self, now_ms: int = 1_000) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms


class Answer:
    """One HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def data(self) -> Any:
        return self.json["data"]


class Wire:
    """One connection, opened again whenever the server closed it."""

    def __init__(self, port: int, *, token: str | None = None) -> None:
        self.port = port
        self.token = token
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def raw(self, data: bytes) -> Answer:
        """Send bytes; the answer to them."""
        for again in (True, False):
            fresh = self._streams is None
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self.port)
            reader, writer = self._streams
            try:
                writer.write(data)
                await writer.drain()
                answer = await read_answer(reader)
            except (ConnectionError, asyncio.IncompleteReadError):
                await self.close()
                if fresh or not again:
                    raise
                continue
            if answer.headers.get("connection") == "close":
                await self.close()
            return answer
        raise AssertionError("unreachable")

    async def get(self, path: str, *headers: str, method: str = "GET") -> Answer:
        return await self.raw(self._head(method, path, *headers) + b"\r\n")

    async def post(self, body: bytes, *headers: str, path: str = "/") -> Answer:
        kind = () if any(h.lower().startswith("content-type") for h in headers) else (JSON,)
        length = f"Content-Length: {len(body)}"
        return await self.raw(self._head("POST", path, *kind, length, *headers) + b"\r\n" + body)

    async def send(self, kind: str, data: Any, **head: Any) -> Answer:
        """Post an envelope."""
        return await self.post(orjson.dumps(envelope(kind, data, **head)))

    async def ask(self, request: Request, **head: Any) -> Answer:
        """Post a request of ours."""
        wire = request_to_wire(request, "1")
        wire["head"].update(head)
        return await self.post(orjson.dumps(wire))

    def _head(self, method: str, path: str, *headers: str) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
        if self.token is not None:
            lines.append(f"Authorization: Bearer {self.token}")
        return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape")


JSON = "Content-Type: application/json"


def envelope(kind: Any, data: Any, **head: Any) -> dict[str, Any]:
    return {"kind": kind, "head": {"corrId": "1", "version": VERSION, **head}, "data": data}


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = [line.partition(":") for line in head[1:] if line]
    return int(head[0].split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    status, headers = await read_head(reader)
    if status == 100:
        status, headers = await read_head(reader)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(status, headers, body)


@asynccontextmanager
async def serving(store: Any = None, **options: Any) -> AsyncIterator[tuple[Server, Wire]]:
    """A server on a free port and a client of it."""
    server = Server(store if store is not None else MemoryStore(), port=0, **options)
    async with server:
        wire = Wire(server.port, token=options.get("token"))
        try:
            yield server, wire
        finally:
            await wire.close()


class Stream:
    """One `/poll` connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}

    async def line(self) -> bytes:
        """The next line that is no chunk's length and not empty; empty at the end."""
        while True:
            line = await self.reader.readline()
            if not line or line == b"0\r\n":
                return b""
            if line.strip() and not line.endswith(b"\r\n"):
                return line.rstrip(b"\n")

    async def message(self) -> Any:
        """The next message; None at the end."""
        async with asyncio.timeout(10):
            while line := await self.line():
                if line.startswith(b"data: "):
                    return orjson.loads(line[6:])
        return None

    async def execute(self) -> tuple[str, int]:
        message = await self.message()
        assert message["kind"] == "execute"
        task = message["data"]["task"]
        return task["id"], task["version"]

    def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def polling(server: Server, group: str, pid: str, *headers: str) -> AsyncIterator[Stream]:
    """A stream for a group and a pid, open and heard of by the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    stream = Stream(reader, writer)
    lines = [f"GET /poll/{group}/{pid} HTTP/1.1", "Host: localhost", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    try:
        stream.status, stream.headers = await read_head(reader)
        if stream.status == 200:
            assert await stream.line() == b": resonate-aio"
        yield stream
    finally:
        writer.close()


def unexpected(request: Request, reply: Reply, answer: Answer) -> str:
    """What differs between a machine's reply and the server's answer; empty if nothing does."""
    from resonate_aio.protocol.envelope import reply_to_wire

    wanted = orjson.loads(orjson.dumps(reply_to_wire(request, "1", reply)))
    got = answer.json
    got["head"].pop("resonate:debug_time", None)
    if got == wanted and answer.status == reply.status:
        return ""
    inner = f" of {kind_of(request.action)}" if isinstance(request, TaskFence) else ""
    return f"{kind_of(request)}{inner}: wanted {wanted}, got {answer.status} {got}"
