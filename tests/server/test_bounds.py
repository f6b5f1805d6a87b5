"""What the server bears: sizes, slow clients, connections, its own end (reliability E7, E8)."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.server.wire import EXTERNAL, FAR_MS, JSON, Wire, envelope, read_answer, serving

from resonate_aio.errors import ResonateStoreError, StoreOwnedError, UsageError
from resonate_aio.protocol import requests as r
from resonate_aio.protocol.records import Promise, PromiseState, Schedule, Value
from resonate_aio.server import Limits, Server
from resonate_aio.server.pages import kept_to_size
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore

CREATE = orjson.dumps(envelope("promise.create", {"id": "p", "timeoutAt": FAR_MS}))


async def absent(wire: Wire) -> bool:
    """Whether the promise that the refused request would have created is not there."""
    return (await wire.ask(r.PromiseGet("p"))).status == 404


async def end(reader: asyncio.StreamReader) -> bool:
    """Whether the server closes the connection without another word."""
    async with asyncio.timeout(5):
        try:
            return await reader.read() == b""
        except ConnectionResetError:
            return True


async def test_bodies_over_the_limit_are_413() -> None:
    async with serving(limits=Limits(body_bytes=1_000)) as (_, wire):
        padded = CREATE + b" " * (1_000 - len(CREATE))
        over = await wire.post(padded + b" ")
        assert (over.status, over.json["head"]["status"]) == (413, 413)
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunk = b"%x\r\n%s\r\n"
        chunks = chunk % (700, padded[:700]) + chunk % (301, padded[700:] + b" ") + b"0\r\n\r\n"
        assert (await wire.raw(head.encode() + chunks)).status == 413
        assert await absent(wire)
        chunks = chunk % (700, padded[:700]) + chunk % (300, padded[700:]) + b"0\r\n\r\n"
        assert (await wire.raw(head.encode() + chunks)).status == 200


async def test_a_body_may_wait_to_be_asked_for() -> None:
    async with serving() as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nExpect: 100-continue\r\n"
        writer.write(f"{head}Content-Length: {len(CREATE)}\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(CREATE)
        assert (await read_answer(reader)).status == 200
        writer.close()


async def test_packed_bodies_are_not_unpacked() -> None:
    async with serving() as (_, wire):
        packed = gzip.compress(CREATE)
        assert (await wire.post(packed, "Content-Encoding: gzip")).status == 415
        assert await absent(wire)


async def test_all_bodies_together_have_a_bound() -> None:
    limits = Limits(body_bytes=900, bodies_bytes=1_000)
    async with serving(limits=limits) as (server, wire):
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 900\r\n\r\n"
        _, slow = await asyncio.open_connection("127.0.0.1", server.port)
        slow.write(head.encode() + b" " * 890)
        for _ in range(1_000):
            answer = await wire.post(CREATE + b" " * 200)
            if answer.status == 503:
                break
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        slow.close()
        for _ in range(1_000):
            answer = await wire.post(CREATE + b" " * 200)
            if answer.status == 200:
                break
        assert answer.status == 200, "what the slow one held is free again"


@pytest.mark.parametrize(
    "head",
    [
        "GET /" + "x" * 9_000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 9_000 + "\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: localhost\r\n" + "X: 1\r\n" * 200 + "\r\n",
        "GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /health HTTP/1.1\r\nBroken\r\n\r\n",
        "\r\n\r\n\x00\x01",
        "GET http:// HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_malformed_heads_are_400_and_end_the_connection(head: str) -> None:
    async with serving() as (server, wire):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head.encode())
        answer = await reader.read()
        assert answer.startswith((b"HTTP/1.0 4", b"HTTP/1.1 4")), answer[:200]
        assert b"Traceback" not in answer
        writer.close()
        assert (await wire.get("/health")).status == 200


@pytest.mark.parametrize(
    ("sent", "limits", "reason"),
    [
        (b"", Limits(header_s=0.05), "head"),
        (b"POST / HTTP/1.1\r\nHost: lo", Limits(header_s=0.05), "head"),
    ],
)
async def test_half_a_head_is_cut_off(sent: bytes, limits: Limits, reason: str) -> None:
    async with serving(limits=limits) as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        assert await end(reader)
        writer.close()
        assert server.metrics.cut_off.value(reason) == 1


async def test_half_a_head_after_a_whole_request_is_cut_off() -> None:
    async with serving(limits=Limits(header_s=0.05)) as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await read_answer(reader)).status == 200
        await asyncio.sleep(0.1)
        assert not reader.at_eof(), "an idle connection has more time"
        writer.write(b"GET /health HTTP/1.1\r\nHo")
        assert await end(reader)
        writer.close()


async def test_half_a_body_is_cut_off() -> None:
    async with serving(limits=Limits(body_s=0.05)) as (server, wire):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 900\r\n\r\n"
        writer.write(head.encode() + CREATE)
        async with asyncio.timeout(5):
            answer = await read_answer(reader)
            assert (answer.status, answer.json["head"]["status"]) == (408, 408)
            assert await reader.read() == b"", "and the connection is closed"
        writer.close()
        assert await absent(wire)


async def test_idle_connections_are_closed() -> None:
    async with serving(limits=Limits(idle_s=0.05)) as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await read_answer(reader)).status == 200
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


async def test_connections_over_the_limit_are_closed_and_places_come_back() -> None:
    async with serving(limits=Limits(connections=3)) as (server, _):
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        for reader, writer in held:
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await read_answer(reader)).status == 200
        fourth = Wire(server.port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await fourth.get("/health")
        assert server.metrics.connections_refused.value() >= 1
        for _, writer in held:
            writer.close()
        status = 0
        for _ in range(1_000):
            try:
                status = (await fourth.get("/health")).status
                break
            except (ConnectionError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.001)
        assert status == 200
        await fourth.close()


async def test_a_flood_of_half_open_connections_leaves_room_for_the_others() -> None:
    """300 half-open connections: a healthy client's answers stay quick."""
    async with serving() as (server, wire):
        opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(300)]
        for _, writer in opened:
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        took: list[float] = []
        for n in range(100):
            began = time.perf_counter()
            assert (await wire.ask(r.PromiseCreate(f"p{n}", FAR_MS))).status == 200
            took.append(time.perf_counter() - began)
        for _, writer in opened:
            writer.close()
        assert sorted(took)[-2] < 0.25


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has this")
async def test_a_machine_that_lost_its_power_is_noticed() -> None:
    async with serving(limits=Limits(dead_s=7.0)) as (server, wire):
        await wire.get("/health")
        assert server._connections is not None
        [guard] = server._connections.open
        assert guard._transport is not None
        connected = guard._transport.get_extra_info("socket")
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7_000


async def test_pages_of_large_records_end_early_and_go_on() -> None:
    async with serving() as (_, wire):
        big = Value(data='"' + "x" * 2_000_000 + '"')
        for n in range(7):
            create = r.PromiseCreate(f"p{n}", FAR_MS, big, {"resonate:branch": "b"})
            assert (await wire.ask(create)).status == 200
        found: list[str] = []
        cursor: str | None = None
        pages = 0
        while pages == 0 or cursor is not None:
            page = (await wire.ask(r.PromiseSearch(cursor=cursor))).data
            found += [promise["id"] for promise in page["promises"]]
            cursor = page.get("cursor")
            pages += 1
        assert found == [f"p{n}" for n in range(7)]
        assert pages == 3
        tags = {"resonate:target": "w", "resonate:branch": "b"}
        claim = r.TaskCreate("p", 9_000, r.PromiseCreate("root", FAR_MS, tags=tags))
        assert len((await wire.ask(claim)).data["preload"]) == 3


def test_a_single_record_of_any_size_is_a_page() -> None:
    huge = Promise("p", PromiseState.PENDING, 9, 1, Value(data="x" * 1_000))
    tick = Schedule("s", "* * * * *", "x", 1, 1, 1, Value(data="x" * 1_000))
    for reply in (r.Reply(200, promises=(huge, huge)), r.Reply(200, schedules=(tick, tick))):
        kept = kept_to_size(reply, 10)
        assert (len(kept.promises) + len(kept.schedules), kept.cursor is not None) == (1, True)
        assert kept_to_size(reply) is reply


class SlowStore(MemoryStore):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.asked = asyncio.Event()

    async def call(self, request: r.Request) -> r.Reply:
        self.asked.set()
        await self.go.wait()
        return await super().call(request)


async def test_a_stop_lets_requests_finish_and_takes_no_new_ones() -> None:
    store = SlowStore()
    server = Server(store, port=0)
    await server.start()
    wire, other = Wire(server.port), Wire(server.port)
    assert (await other.get("/health")).status == 200
    pending = asyncio.create_task(wire.ask(r.PromiseCreate("p", FAR_MS)))
    await store.asked.wait()
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0.01)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await Wire(server.port).get("/health")
    late = await other.ask(r.PromiseCreate("q", FAR_MS))
    assert (late.status, late.headers["connection"]) == (503, "close")
    assert not pending.done()
    store.go.set()
    answer = await pending
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    await stopping
    assert set(store.machine.promises) == {"p"}
    await wire.close()
    await other.close()


async def test_a_stop_is_bounded() -> None:
    store = SlowStore()
    server = Server(store, port=0, limits=Limits(drain_s=0.05))
    await server.start()
    wire = Wire(server.port)
    pending = asyncio.create_task(wire.ask(r.PromiseCreate("p", FAR_MS)))
    await store.asked.wait()
    async with asyncio.timeout(5):
        await server.stop()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await pending
    await wire.close()


class FailingStore(MemoryStore):
    """Cannot write any more."""

    error: Exception = ResonateStoreError("disk full")

    async def call(self, request: r.Request) -> r.Reply:
        raise self.error


async def test_trouble_of_the_store_is_503_and_not_an_outcome(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = FailingStore()
    async with serving(store) as (_, wire):
        answer = await wire.ask(r.PromiseCreate("p", FAR_MS))
        assert (answer.status, answer.json["head"]["status"]) == (503, 503)
        assert "disk full" in answer.data
        assert (await wire.get("/ready")).status == 503
        assert (await wire.get("/health")).status == 200
        store.error = RuntimeError("/secret/path")
        broken = await wire.ask(r.PromiseCreate("p", FAR_MS))
        assert broken.status == 500
        assert b"secret" not in broken.body, "a bug of ours is for the log"
        assert "/secret/path" in caplog.text


async def test_a_port_in_use_leaves_the_store_closed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "app.db")
    async with serving() as (first, _):
        taken = Server(store, port=first.port)
        with pytest.raises(UsageError, match=f":{first.port}: the port is already in use"):
            await taken.start()
        await taken.stop()
        with pytest.raises(ResonateStoreError, match="not open"):
            await store.call(r.PromiseGet("p"))


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Law 16: no task, no connection, no timer that keeps the loop."""
    before: set[Any] = asyncio.all_tasks()
    async with serving(SqliteStore(tmp_path / "app.db")) as (server, wire):
        await wire.ask(r.PromiseCreate("p", FAR_MS, tags=EXTERNAL))
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /poll/g/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(0.01)
    writer.close()
    assert asyncio.all_tasks() == before
    assert not issubclass(StoreOwnedError, OSError)
