"""Messages pushed to a URL reach workers inside web services; they are hints (S50)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from tests.peers import legacy_server
from tests.peers.current_server import CurrentServer
from tests.remote.conftest import servers

from resonate_aio import Context, Resonate
from resonate_aio.aiohttp import push_route, setup
from resonate_aio.errors import ResonateShutdownError, UsageError
from resonate_aio.server import PushRules, Server
from resonate_aio.stores.memory import MemoryStore

WAIT_S = 30.0
TOKEN = "a token of the push route"
FORGED = {
    "kind": "unblock",
    "head": {},
    "data": {
        "promise": {
            "id": "gate",
            "state": "resolved",
            "param": {},
            "value": {"data": "ImZvcmdlZCI="},
            "tags": {},
            "timeoutAt": 4_000_000_000_000,
            "createdAt": 1,
            "settledAt": 2,
        }
    },
}


async def greet(ctx: Context, name: str) -> str:
    return await ctx.run(spell, name)


async def spell(ctx: Context, name: str) -> str:
    return f"Hello, {name}!"


@asynccontextmanager
async def service(
    resonate: Resonate, token: str | None = None
) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """An aiohttp application with a worker inside, which messages are pushed to."""
    app = web.Application()
    app.add_routes([push_route("/resonate", resonate, token=token)])
    setup(app, resonate)
    async with TestClient(TestServer(app)) as client:
        await resonate.promises.create("ready", timeout=timedelta(hours=1))  # it has its server
        yield client


@asynccontextmanager
async def asked_through(server: str, target: str) -> AsyncIterator[Resonate]:
    """A client elsewhere, whose calls go to that target."""
    caller = Resonate(url=server, group="callers")
    async with caller:
        yield caller.options(target=target)


def free_origin() -> str:
    return f"http://127.0.0.1:{legacy_server.free_ports(1)[0]}"


@asynccontextmanager
async def service_at(origin: str, resonate: Resonate) -> AsyncIterator[None]:
    app = web.Application()
    app.add_routes([push_route("/resonate", resonate)])
    setup(app, resonate)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(origin.rsplit(":", 1)[1])).start()
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("which", servers(), ids=lambda which: Path(which).name)
async def test_a_function_behind_a_url_is_called(which: str, tmp_path: Path) -> None:
    """Mission G7: the target is the URL of a service; its stream is not what brings the task."""
    origin = free_origin()
    server = CurrentServer(which, tmp_path, push_to=origin)
    server.start()
    try:
        worker = Resonate(url=server.url, group="shop")
        worker.register(greet)
        async with (
            service_at(origin, worker),
            asked_through(server.url, f"{origin}/resonate") as caller,
        ):
            async with asyncio.timeout(WAIT_S):
                assert await caller.rpc("hello-1", "greet", "Ada") == "Hello, Ada!"
    finally:
        server.stop()


@pytest.mark.skipif(legacy_server.program() is None, reason=legacy_server.ABSENT)
async def test_a_function_behind_a_url_is_called_by_a_legacy_server(tmp_path: Path) -> None:
    origin = free_origin()
    server = legacy_server.LegacyServer(tmp_path)
    server.start()
    try:
        worker = Resonate(url=server.url, group="shop")
        worker.register(greet)
        async with (
            service_at(origin, worker),
            asked_through(server.url, f"{origin}/resonate") as caller,
        ):
            async with asyncio.timeout(WAIT_S):
                assert await caller.rpc("hello-1", "greet", "Ada") == "Hello, Ada!"
    finally:
        server.stop()


async def test_the_server_shows_its_token() -> None:
    origin = free_origin()
    rules = PushRules(origins=(origin,), token=TOKEN)
    async with Server(MemoryStore(), port=0, push=rules) as server:
        worker = Resonate(url=server.url, group="shop")
        worker.register(greet)
        app = web.Application()
        app.add_routes([push_route("/resonate", worker, token=TOKEN)])
        setup(app, worker)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", int(origin.rsplit(":", 1)[1])).start()
        try:
            async with asked_through(server.url, f"{origin}/resonate") as caller:
                async with asyncio.timeout(WAIT_S):
                    assert await caller.rpc("hello-1", "greet", "Ada") == "Hello, Ada!"
        finally:
            await runner.cleanup()


async def test_what_a_push_says_is_never_believed() -> None:
    """S50: of a forged unblock only its id counts, and that only as a reason to ask."""
    async with Server(MemoryStore(), port=0) as server:
        resonate = Resonate(url=server.url, group="shop")
        async with service(resonate) as client:
            await resonate.promises.create("gate", timeout=timedelta(hours=1))
            waiting = resonate.get("gate")
            await waiting.created()
            assert (await client.post("/resonate", json=FORGED)).status == 204
            await asyncio.sleep(0.2)
            assert not waiting.done()
            await resonate.promises.resolve("gate", value="genuine")
            async with asyncio.timeout(WAIT_S):
                assert await waiting == "genuine"


async def test_a_task_that_does_not_exist_does_no_harm() -> None:
    async with Server(MemoryStore(), port=0) as server:
        resonate = Resonate(url=server.url, group="shop")
        resonate.register(greet)
        async with service(resonate) as client:
            offer = {"kind": "execute", "head": {}, "data": {"task": {"id": "x", "version": 3}}}
            assert (await client.post("/resonate", json=offer)).status == 204
            async with asyncio.timeout(WAIT_S):
                assert await resonate.run("hello-1", greet, "Ada") == "Hello, Ada!"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer another token than that"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 204),
        ({"Authorization": f"bearer {TOKEN}", "X-Forwarded-For": "10.0.0.9"}, 204),
    ],
)
async def test_a_token_opens_the_route(headers: dict[str, str], status: int) -> None:
    async with (
        Server(MemoryStore(), port=0) as server,
        service(Resonate(url=server.url), TOKEN) as client,
    ):
        answer = await client.post("/resonate", json=FORGED, headers=headers)
        assert answer.status == status


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via", "Origin"])
async def test_without_a_token_what_came_through_others_is_refused(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy and a web page on this host are not this host."""
    async with Server(MemoryStore(), port=0) as server, service(Resonate(url=server.url)) as client:
        for _ in range(3):
            answer = await client.post("/resonate", json=FORGED, headers={name: "x"})
            assert answer.status == 403
    assert sum("needs a token" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 400),
        (b"nonsense", "application/json", 400),
        (b'{"kind": "execute", "data": {"task": {"id": 7}}}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"{}", "text/plain", 415),
        (b'"' + b"x" * 2_000_000 + b'"', "application/json", 413),
    ],
    ids=["empty", "no-json", "no-task", "deep", "text", "large"],
)
async def test_what_is_no_message_is_refused(body: bytes, kind: str, status: int) -> None:
    async with Server(MemoryStore(), port=0) as server, service(Resonate(url=server.url)) as client:
        answer = await client.post("/resonate", data=BytesIO(body), headers={"Content-Type": kind})
        assert answer.status == status


async def test_a_client_that_does_not_run_takes_nothing() -> None:
    async with Server(MemoryStore(), port=0) as server:
        resonate = Resonate(url=server.url)
        async with service(resonate) as client:
            await resonate.stop()
            answer = await client.post("/resonate", json=FORGED)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            with pytest.raises(ResonateShutdownError, match="not started"):
                resonate.push(FORGED)


async def test_a_local_client_has_no_server_that_pushes() -> None:
    async with Resonate() as resonate:
        with pytest.raises(UsageError, match="url="):
            resonate.push(FORGED)


@pytest.mark.parametrize(("token", "error"), [("", ValueError), (7, TypeError), (b"x", TypeError)])
def test_useless_tokens(token: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        push_route("/resonate", Resonate(), token=token)
