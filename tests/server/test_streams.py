"""`/poll/{group}/{id}`: who gets which message, and what becomes of slow clients (§9.2)."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from tests.server.wire import EXTERNAL, FAR_MS, Wire, polling, serving

from resonate_aio.protocol import requests as r
from resonate_aio.protocol.records import PromiseState, Value
from resonate_aio.server import Limits, Server

RESOLVED = PromiseState.RESOLVED


async def create(wire: Wire, id: str, target: str) -> None:
    answer = await wire.ask(r.PromiseCreate(id, FAR_MS, tags={"resonate:target": target}))
    assert answer.status == 200


async def test_messages_are_events_and_say_where_the_server_is() -> None:
    async with serving() as (server, wire), polling(server, "g", "1") as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-store"
        await create(wire, "a", "poll://any@g")
        assert await stream.message() == {
            "kind": "execute",
            "head": {"serverUrl": server.url},
            "data": {"task": {"id": "a", "version": 0}},
        }
        await wire.ask(r.PromiseCreate("e", FAR_MS, tags=EXTERNAL))
        await wire.ask(r.PromiseRegisterListener("e", "poll://uni@g/1"))
        settled = await wire.ask(r.PromiseSettle("e", RESOLVED, Value(data='"line\\none"')))
        unblock = await stream.message()
        assert unblock == {"kind": "unblock", "head": {}, "data": settled.data}


async def test_unicast_goes_to_one_anycast_to_the_preferred_or_to_any() -> None:
    async with (
        serving() as (server, wire),
        polling(server, "g", "1") as one,
        polling(server, "g", "2") as two,
        polling(server, "other", "1") as other,
    ):
        await create(wire, "a", "poll://uni@g/2")
        assert await two.execute() == ("a", 0)
        await create(wire, "b", "poll://any@g/1")
        assert await one.execute() == ("b", 0)
        await create(wire, "c", "poll://uni@g/3")  # nobody: dropped
        await create(wire, "d", "poll://any@g/3")
        await create(wire, "e", "poll://any@g")
        got = {await one.execute(), await two.execute()}
        assert got == {("d", 0), ("e", 0)}, "anycast goes round"
        await create(wire, "f", "poll://any@other")
        assert await other.execute() == ("f", 0)


async def test_pending_tasks_are_offered_to_who_comes_and_to_who_comes_back() -> None:
    async with serving() as (server, wire):
        await create(wire, "a", "poll://any@g")
        async with polling(server, "g", "1") as stream:
            assert await stream.execute() == ("a", 0)
        async with polling(server, "g", "1") as stream:
            assert await stream.execute() == ("a", 0)
            await wire.ask(r.TaskAcquire("a", 0, "1", 60_000))
            await wire.ask(r.TaskRelease("a", 1))
            assert await stream.execute() == ("a", 1)
        await wire.ask(r.TaskAcquire("a", 1, "1", 60_000))
        async with polling(server, "g", "1") as stream:
            await create(wire, "b", "poll://any@g")
            assert await stream.execute() == ("b", 0), "a held task is offered to nobody"


async def test_the_latest_of_two_streams_of_one_worker_gets_its_messages() -> None:
    """A connection whose peer is gone may look alive for long."""
    async with (
        serving() as (server, wire),
        polling(server, "g", "1"),
        polling(server, "g", "1") as second,
    ):
        await create(wire, "a", "poll://uni@g/1")
        assert await second.execute() == ("a", 0)


async def test_names_are_taken_as_they_are_written() -> None:
    async with serving() as (server, wire), polling(server, "G%20%C3%A9", "a%2Fb%25") as stream:
        await create(wire, "a", "poll://uni@G \u00e9/a/b%")
        assert await stream.execute() == ("a", 0)


async def test_a_client_that_leaves_is_forgotten_at_once() -> None:
    async with serving() as (server, wire):
        async with polling(server, "g", "1"):
            assert "resonate_streams 1\n" in (await wire.get("/metrics")).body.decode()
        await metric(wire, "resonate_streams 0\n")


async def test_a_quiet_stream_is_kept_alive_with_comments() -> None:
    limits = Limits(keep_alive_s=0.02)
    async with serving(limits=limits) as (server, wire), polling(server, "g", "1") as stream:
        for _ in range(3):
            async with asyncio.timeout(5):
                assert await stream.line() == b":"
        await create(wire, "a", "poll://any@g")
        assert await stream.execute() == ("a", 0)


async def test_too_many_streams_are_refused() -> None:
    async with serving(limits=Limits(streams=2)) as (server, _):
        async with (
            polling(server, "g", "1"),
            polling(server, "g", "2"),
            polling(server, "g", "3") as third,
        ):
            assert third.status == 503
        async with asyncio.timeout(5):
            status = 0
            while status != 200:
                async with polling(server, "g", "3") as again:
                    status = again.status


async def test_every_stream_ends_in_order_when_the_server_stops() -> None:
    async with serving() as (server, wire), polling(server, "g", "1") as stream:
        await create(wire, "a", "poll://any@g")
        await server.stop()
        assert await stream.execute() == ("a", 0), "what was handed over is still sent"
        assert await stream.message() is None
        assert await stream.reader.read() == b"\r\n", "the last chunk is there, and the end"


def deaf(server: Server, group: str, pid: str) -> socket.socket:
    """A stream whose client reads nothing and has little room."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect(("127.0.0.1", server.port))
    head = f"GET /poll/{group}/{pid} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    client.sendall(head.encode())
    return client


async def metric(wire: Wire, line: str) -> None:
    """Wait until the metrics hold a line that begins so."""
    for _ in range(10_000):
        if line in (await wire.get("/metrics")).body.decode():
            return
        await asyncio.sleep(0.002)
    raise AssertionError(f"the metrics never said {line!r}")


async def fill(wire: Wire, count: int, address: str) -> None:
    """Settle promises of 100 kB that somebody listens for."""
    big = Value(data='"' + "x" * 100_000 + '"')
    for n in range(count):
        await wire.ask(r.PromiseCreate(f"e{n}", FAR_MS, tags=EXTERNAL))
        await wire.ask(r.PromiseRegisterListener(f"e{n}", address))
        await wire.ask(r.PromiseSettle(f"e{n}", RESOLVED, big))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(write_s=0.1), 'cut_off_total{reason="unread"} 1'),
        (Limits(queue_messages=3), 'cut_off_total{reason="queue"} 1'),
        (Limits(queue_bytes=500_000), 'cut_off_total{reason="queue"} 1'),
    ],
)
async def test_a_deaf_client_is_cut_off_and_the_others_do_not_notice(
    limits: Limits, reason: str
) -> None:
    async with serving(limits=limits) as (server, wire), polling(server, "g", "ok") as healthy:
        client = deaf(server, "g", "deaf")
        try:
            await metric(wire, "resonate_streams 2\n")
            await fill(wire, 60, "poll://uni@g/deaf")
            await metric(wire, reason)
            await metric(wire, "resonate_streams 1\n")
            await create(wire, "a", "poll://uni@g/ok")
            assert await healthy.execute() == ("a", 0)
        finally:
            client.close()


async def test_executes_beyond_the_queue_are_dropped_and_the_stream_goes_on() -> None:
    """They are offered again: to those who take them, and after the retry timeout."""
    limits = Limits(queue_messages=2)
    async with serving(limits=limits) as (server, wire):
        for n in range(5):
            await create(wire, f"t{n}", "poll://any@g")
        async with polling(server, "g", "1") as stream:
            got: list[Any] = [await stream.execute() for _ in range(2)]
            await metric(wire, 'resonate_deliveries_total{status="dropped"} 3')
            await create(wire, "more", "poll://any@g")
            assert await stream.execute() == ("more", 0)
            assert len(set(got)) == 2
