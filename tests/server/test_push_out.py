"""Messages to http(s):// addresses go where the operator said, and nowhere else (§9.3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.server.wire import EXTERNAL, FAR_MS, Wire, serving

from resonate_aio.errors import UsageError
from resonate_aio.protocol import requests as r
from resonate_aio.protocol.records import PromiseState, Value
from resonate_aio.server import PushRules, Server
from resonate_aio.server import push_out as push_room
from resonate_aio.server.push_out import origin_of
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore


class Receiver:
    """A web service that messages are pushed to."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: asyncio.Queue[tuple[str, dict[str, str], Any]] = asyncio.Queue()
        self.open = asyncio.Event()
        self.open.set()
        self.inside = self.most = 0
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.got.put_nowait((request.path, dict(request.headers), await request.json()))
        await self.open.wait()
        self.inside -= 1
        status = self.statuses.pop(0) if self.statuses else 200
        headers = {"Location": f"{self.url}/elsewhere"} if status == 302 else {}
        return web.Response(status=status, headers=headers)

    async def next(self) -> tuple[str, dict[str, str], Any]:
        async with asyncio.timeout(10):
            return await self.got.get()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    runner = web.ServerRunner(web.Server(receiver.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def create(wire: Wire, id: str, target: str) -> None:
    answer = await wire.ask(r.PromiseCreate(id, FAR_MS, tags={"resonate:target": target}))
    assert answer.status == 200


async def settle(wire: Wire, id: str, address: str) -> None:
    await wire.ask(r.PromiseCreate(id, FAR_MS, tags=EXTERNAL))
    await wire.ask(r.PromiseRegisterListener(id, address))
    await wire.ask(r.PromiseSettle(id, PromiseState.RESOLVED, Value(data="1")))


@pytest.fixture
def _no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_room, "_DELAYS_S", (0.001, 0.001, 0.001))


async def test_messages_are_posted_with_the_token() -> None:
    async with receiving() as receiver:
        rules = PushRules(origins=(receiver.url,), token="secret-of-the-receiver")
        async with serving(push=rules) as (server, wire):
            await create(wire, "a", f"{receiver.url}/hook?x=1")
            path, headers, message = await receiver.next()
            assert path == "/hook"
            assert headers["Authorization"] == "Bearer secret-of-the-receiver"
            assert headers["Content-Type"] == "application/json"
            task = {"task": {"id": "a", "version": 0}}
            assert message == {"kind": "execute", "head": {"serverUrl": server.url}, "data": task}
            await settle(wire, "e", f"{receiver.url}/unblock")
            path, _, message = await receiver.next()
            assert (path, message["kind"]) == ("/unblock", "unblock")
            assert message["data"]["promise"]["state"] == "resolved"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_pending_tasks_are_pushed_when_the_server_starts(kind: str, tmp_path: Path) -> None:
    store = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "app.db")
    async with receiving() as receiver:
        async with serving(store) as (_, wire):
            await create(wire, "a", receiver.url)
        async with serving(store, push=PushRules(origins=(receiver.url,))):
            _, _, message = await receiver.next()
            assert message["data"]["task"]["id"] == "a"


async def test_nothing_is_sent_to_origins_that_are_not_listed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with receiving() as listed, receiving() as other:
        rules = PushRules(origins=(listed.url,))
        async with serving(push=rules) as (server, wire):
            port = other.url.rpartition(":")[2]
            for n, host in enumerate(
                ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]", "0"]
            ):
                await create(wire, f"a{n}", f"http://{host}:{port}/")
            at = listed.url.removeprefix("http://")
            await create(wire, "b", f"http://{at}@127.0.0.1:{port}/")
            await create(wire, "c", f"http://127.0.0.1:{port}#{listed.url}")
            await create(wire, "d", f"http://127.0.0.1:{port}\\@{at}/")
            await create(wire, "ok", f"{listed.url}/")
            assert (await listed.next())[2]["data"]["task"]["id"] == "ok"
            assert server.metrics.deliveries.value("dropped") == 9
        assert other.got.empty()
        assert listed.got.empty()
    assert "is not allowed" in caplog.text


async def test_redirects_are_not_followed() -> None:
    async with receiving() as receiver:
        receiver.statuses = [302]
        async with serving(push=PushRules(origins=(receiver.url,))) as (server, wire):
            await create(wire, "a", f"{receiver.url}/hook")
            assert (await receiver.next())[0] == "/hook"
            for _ in range(1_000):
                if server.metrics.deliveries.value("error"):
                    break
                await asyncio.sleep(0.001)
            assert server.metrics.deliveries.value("error") == 1
        assert receiver.got.empty()


@pytest.mark.usefixtures("_no_delays")
async def test_an_unblock_is_tried_again_and_an_execute_is_not() -> None:
    """Nothing else would repeat an unblock; a pending task is offered again by the store."""
    async with receiving() as receiver:
        rules = PushRules(origins=(receiver.url,))
        async with serving(push=rules) as (server, wire):
            receiver.statuses = [500, 503, 200]
            await settle(wire, "e", receiver.url)
            for _ in range(3):
                assert (await receiver.next())[2]["kind"] == "unblock"
            receiver.statuses = [500]
            await create(wire, "a", receiver.url)
            assert (await receiver.next())[2]["kind"] == "execute"
            await create(wire, "b", receiver.url)
            assert (await receiver.next())[2]["data"]["task"]["id"] == "b"
            for _ in range(1_000):
                if server.metrics.deliveries.value("success") == 2:
                    break
                await asyncio.sleep(0.001)
            assert server.metrics.deliveries.value("success") == 2
            assert server.metrics.deliveries.value("error") == 1


async def test_pushes_at_a_time_and_waiting_ones_are_bounded() -> None:
    async with receiving() as receiver:
        receiver.open.clear()
        rules = PushRules(origins=(receiver.url,), concurrency=2, queue=3)
        async with serving(push=rules) as (server, wire):
            for n in range(8):
                await create(wire, f"a{n}", receiver.url)
            await receiver.next()
            await receiver.next()
            assert server.metrics.deliveries.value("dropped") >= 1
            receiver.open.set()
            await receiver.next()
        assert receiver.most == 2


async def test_a_receiver_that_does_not_answer_holds_nobody_for_long() -> None:
    async with receiving() as receiver:
        receiver.open.clear()
        rules = PushRules(origins=(receiver.url, "http://127.0.0.1:1"), total_s=0.05)
        async with serving(push=rules) as (server, wire):
            await create(wire, "a", receiver.url)
            await create(wire, "b", "http://127.0.0.1:1/nobody")
            await receiver.next()
            for _ in range(2_000):
                if server.metrics.deliveries.value("error") == 2:
                    break
                await asyncio.sleep(0.001)
            assert server.metrics.deliveries.value("error") == 2
        receiver.open.set()


async def test_a_stop_waits_for_no_receiver() -> None:
    async with receiving() as receiver:
        receiver.open.clear()
        async with asyncio.timeout(5):
            async with serving(push=PushRules(origins=(receiver.url,))) as (_, wire):
                await create(wire, "a", receiver.url)
                await receiver.next()
        receiver.open.set()


async def test_a_refused_token_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with receiving() as receiver:
        receiver.statuses = [401, 401]
        async with serving(push=PushRules(origins=(receiver.url,), token="t" * 20)) as (_, wire):
            for id in ("a", "b", "c"):
                await create(wire, id, receiver.url)
                await receiver.next()
    assert caplog.text.count("refuses our pushes") == 1
    assert "t" * 20 not in caplog.text


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://H:80/x", "http://h:80"),
        ("HTTP://h", "http://h:80"),
        ("https://h/", "https://h:443"),
        ("http://[::1]:9/x", "http://[::1]:9"),
        ("http://u:p@h/", None),
        ("ftp://h/", None),
        ("http:///x", None),
        ("http://h:99999/", None),
        ("http://[::1", None),
        ("nothing", None),
    ],
)
def test_the_origin_of_a_url(url: str, origin: str | None) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize("origin", ["h", "http://h/path", "ftp://h", "http://u@h", ""])
def test_what_is_no_origin_is_refused_at_construction(origin: str) -> None:
    with pytest.raises(UsageError, match="an origin is"):
        Server(MemoryStore(), push=PushRules(origins=(origin,)))
