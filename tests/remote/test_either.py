"""Which generation of server answers, and how a client is told of one (C4 to C8, C23)."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web
from tests.legacy.fake_server import FakeServer

from resonate_aio import Context, Resonate
from resonate_aio.client.arguments import server_arguments
from resonate_aio.client.wiring import server_store
from resonate_aio.errors import ResonateStoreError
from resonate_aio.protocol.requests import PromiseGet
from resonate_aio.runtime.settings import Settings
from resonate_aio.server.server import Server
from resonate_aio.stores.either import EitherStore
from resonate_aio.stores.generations import Generation, generation_at
from resonate_aio.stores.http.session import HttpSession, Patience
from resonate_aio.stores.legacy import LegacyStore
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.remote import RemoteStore

QUICK = Patience(first_s=0.01, most_s=0.02, pace_s=0.001, answer_s=1.0)


@pytest.fixture(autouse=True)
def no_server_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.startswith("RESONATE_"):
            monkeypatch.delenv(name)


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[Any]]) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(cast(Any, answer)))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def generation(url: str, **options: Any) -> Generation:
    http = HttpSession(url, patience=QUICK, **options)
    await http.open()
    try:
        async with asyncio.timeout(5):
            return await generation_at(http)
    finally:
        await http.close()


async def test_the_current_generation_answers_an_envelope() -> None:
    server = Server(MemoryStore(), port=0, token="t" * 32)
    await server.start()
    assert await generation(server.url, token="t" * 32) is Generation.CURRENT
    await server.stop()


async def test_the_legacy_generation_knows_its_routes() -> None:
    async with FakeServer().running() as server:
        assert await generation(server.url) is Generation.LEGACY


@pytest.mark.parametrize("status", [200, 404, 405, 500, 502, 503])
async def test_a_proxys_page_is_no_answer(status: int) -> None:
    """A proxy that answers for a server which is down must not decide for ever."""
    pages = iter([True] * 6)
    server = Server(MemoryStore(), port=0)
    await server.start()

    async def answer(request: web.Request) -> web.Response:
        if next(pages, False):
            return web.Response(text="<html>hello</html>", status=status, content_type="text/html")
        http = HttpSession(server.url, patience=QUICK)
        await http.open()
        body = await request.read()
        found, _ = await http.exchange(request.method, request.path, lambda got: got, body=body)
        await http.close()
        return web.Response(body=found.body, status=found.status)

    async with serving(answer) as url:
        assert await generation(url) is Generation.CURRENT
    assert next(pages, False) is False
    await server.stop()


WEB_SERVERS: list[Callable[[], web.Response]] = [
    lambda: web.json_response({"detail": "Not Found"}, status=404),
    lambda: web.json_response({"error": "not found"}, status=404),
    lambda: web.json_response({"id": 7, "error": {"code": "E404"}}, status=200),
    lambda: web.Response(text="404 page not found", status=404),
    lambda: web.Response(status=301, headers={"Location": "https://other/x?token=secret"}),
]


@pytest.mark.parametrize("made", WEB_SERVERS)
async def test_a_web_server_is_not_taken_for_a_resonate_server(
    made: Callable[[], web.Response], caplog: pytest.LogCaptureFixture
) -> None:
    """Law 8: it may stand before a server that is away. One line says what to look at."""
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return made()

    async with serving(answer) as url:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):
                await generation(f"{url}/api")
    assert asked > 8
    (said,) = caplog.records
    assert said.levelno == logging.ERROR
    message = said.getMessage()
    assert f"no Resonate server answers at {url}/api (POST / is answered with" in message
    assert "check host, port and path" in message
    assert "secret" not in message


@pytest.mark.parametrize("path", ["api", "promises", "poll/default"])
async def test_a_path_that_is_wrong_is_said_at_once(path: str) -> None:
    """A server at the root and none below: asking again would not help."""
    server = Server(MemoryStore(), port=0, token="t" * 32)
    await server.start()
    url = f"{server.url}/{path}"
    with pytest.raises(ResonateStoreError) as caught:
        await generation(url, token="t" * 32)
    assert f"no Resonate server answers at {url}" in str(caught.value)
    assert f"one of the current generation answers at {server.url}: remove '/{path}'" in str(
        caught.value
    )
    await server.stop()


async def test_a_wrong_path_of_a_legacy_server_reaches_who_calls() -> None:
    async with FakeServer().running() as server, Resonate(url=f"{server.url}/v1") as client:
        with pytest.raises(ResonateStoreError, match=r"legacy generation .* remove '/v1'"):
            async with asyncio.timeout(5):
                await client.promises.get("x")


async def test_no_credential_is_shown_to_the_root_of_a_url() -> None:
    """Law 17: who answers there may be somebody else."""
    seen: list[tuple[str, bool]] = []

    async def answer(request: web.Request) -> web.Response:
        shown = "Authorization" in request.headers or "hush" in await request.text()
        seen.append((request.path, shown))
        return web.Response(status=404)

    async with serving(answer) as url:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await generation(f"{url}/team/resonate", token="hush")
    assert {path for path, shown in seen if shown} == {
        "/team/resonate/",
        "/team/resonate/promises/resonate-aio.hello",
    }
    assert ("/", False) in seen


async def test_refused_credentials_are_said_at_once() -> None:
    server = Server(MemoryStore(), port=0, token="t" * 32)
    await server.start()
    client = Resonate(url=server.url, token="wrong")
    async with client:
        with pytest.raises(ResonateStoreError) as caught:
            async with asyncio.timeout(5):
                await client.promises.get("x")
        assert caught.value.code == 401
        with pytest.raises(ResonateStoreError):
            await client.get("x").created()
    await server.stop()


async def _double(ctx: Context, n: int) -> int:
    return 2 * n


async def _twice(ctx: Context, n: int) -> int:
    return await ctx.rpc("_double", await ctx.run(_double, n), returns=int)


@asynccontextmanager
async def _server_of(generation: Generation) -> AsyncIterator[str]:
    if generation is Generation.LEGACY:
        async with FakeServer().running() as legacy:
            yield legacy.url
    else:
        async with Server(MemoryStore(), port=0) as current:
            yield current.url


@pytest.mark.parametrize("spoken", Generation)
async def test_a_client_speaks_to_a_server_of_either_generation(spoken: Generation) -> None:
    """Mission P23: nothing says which it is; calls, results and promises are the same."""
    async with _server_of(spoken) as url:
        assert await generation(url) is spoken
        worker, caller = Resonate(url=url), Resonate(url=url, group="caller")
        for function in (_double, _twice):
            worker.register(function)
        async with worker, caller, asyncio.timeout(20):
            assert await caller.options(target="default").rpc("a", "_twice", 10) == 40
            assert await worker.run("a", _twice, 99) == 40
            await caller.promises.create("asked", timeout_in=60)
            await worker.promises.resolve("asked", value="yes")
            assert await caller.get("asked") == "yes"


async def test_a_client_may_be_there_before_its_server() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    client = Resonate(url=f"http://127.0.0.1:{port}")
    client.register(_double)
    async with client:
        run = client.begin_run("a", _double, 21)
        rpc = client.begin_rpc("b", _double, 4)
        await asyncio.sleep(0.3)
        assert not run.done()
        server = Server(MemoryStore(), port=port)
        await server.start()
        async with asyncio.timeout(20):
            assert (await run, await rpc) == (42, 8)
    await server.stop()


async def test_stop_does_not_wait_for_a_server_that_never_came() -> None:
    client = Resonate(url="http://127.0.0.1:9", settings=Settings(stop_s=0.3))
    client.register(_double)
    await client.start()
    handle = client.begin_run("a", _double, 1)
    await asyncio.sleep(0.1)
    async with asyncio.timeout(15):
        await client.stop()
    with pytest.raises(Exception, match="stop"):
        await handle


async def test_the_store_that_fits_is_chosen_and_kept() -> None:
    async with FakeServer().running() as legacy:
        store = server_store(server_arguments(url=legacy.url))
        assert isinstance(store, EitherStore)
        await store.open()
        assert (await store.call(PromiseGet("none"))).status == 404
        assert isinstance(store.inner, LegacyStore)
        await store.close()
    server = Server(MemoryStore(), port=0)
    await server.start()
    current = server_store(server_arguments(url=server.url))
    assert isinstance(current, EitherStore)
    for _ in range(2):
        await current.open()
        assert (await current.call(PromiseGet("none"))).status == 404
        assert isinstance(current.inner, RemoteStore)
        await current.close()
    with pytest.raises(ResonateStoreError, match="not open"):
        await current.call(PromiseGet("none"))
    await server.stop()


async def test_a_client_stopped_as_it_finds_its_server_leaves_nothing_open() -> None:
    server = Server(MemoryStore(), port=0)
    await server.start()
    store = server_store(server_arguments(url=server.url))
    assert isinstance(store, EitherStore)
    await store.open()
    async with asyncio.timeout(5):
        while store.inner is None:  # noqa: ASYNC110  the very pass in which it is found
            await asyncio.sleep(0)
    assert isinstance(store.inner, RemoteStore)
    session = store.inner.http._session
    assert session is not None
    await store.close()
    assert session.closed
    await server.stop()


def url_of(**given: Any) -> str | None:
    store = server_store(server_arguments(**given))
    assert store is None or isinstance(store, EitherStore)
    return None if store is None else store._http.url


ENVIRONMENTS: list[tuple[dict[str, str], dict[str, Any], str | None]] = [
    ({}, {}, None),
    ({}, {"url": "http://h:1"}, "http://h:1"),
    ({}, {"url": "https://h/base/"}, "https://h/base"),
    ({"RESONATE_URL": "http://e:2"}, {}, "http://e:2"),
    ({"RESONATE_URL": "http://e:2"}, {"url": "http://h:1"}, "http://h:1"),
    ({"RESONATE_HOST": "e"}, {}, "http://e:8001"),
    ({"RESONATE_HOST": "e", "RESONATE_PORT": "9"}, {}, "http://e:9"),
    ({"RESONATE_HOST": "e", "RESONATE_SCHEME": "https"}, {}, "https://e:8001"),
    ({"RESONATE_HOST": "http://e"}, {}, "http://e:8001"),
    ({"RESONATE_URL": "http://u:1", "RESONATE_HOST": "e"}, {}, "http://u:1"),
    ({"RESONATE_URL": ""}, {}, None),
    ({}, {"is_meant": True}, "http://localhost:8001"),
    ({}, {"host": "http://h", "store_port": "7", "is_meant": True}, "http://h:7"),
    ({"RESONATE_HOST_STORE": "http://s"}, {"is_meant": True}, "http://s:8001"),
    (
        {"RESONATE_HOST_STORE": "http://s", "RESONATE_PORT_STORE": "5", "RESONATE_HOST": "e"},
        {"is_meant": True},
        "http://s:5",
    ),
    ({"RESONATE_PORT_STORE": "5"}, {"host": "http://h", "is_meant": True}, "http://h:5"),
]


@pytest.mark.parametrize(("environment", "given", "expected"), ENVIRONMENTS)
def test_where_the_server_is(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    given: dict[str, Any],
    expected: str | None,
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    assert url_of(**given) == expected


SECRETS: list[tuple[dict[str, str], dict[str, Any], str | None]] = [
    ({}, {}, None),
    ({}, {"token": "t"}, "Bearer t"),
    ({"RESONATE_TOKEN": "e"}, {}, "Bearer e"),
    ({"RESONATE_TOKEN": "e"}, {"token": "t"}, "Bearer t"),
    ({}, {"auth": ("me", "pass")}, "Basic bWU6cGFzcw=="),
    ({}, {"auth": ("me", "pass"), "token": "t"}, "Bearer t"),
    ({"RESONATE_USERNAME": "me", "RESONATE_PASSWORD": "pass"}, {}, "Basic bWU6cGFzcw=="),
    ({"RESONATE_USERNAME": "me"}, {}, "Basic bWU6"),
    ({"RESONATE_TOKEN": "e", "RESONATE_USERNAME": "me"}, {}, "Bearer e"),
    ({"RESONATE_TOKEN": "e"}, {"auth": ("me", "pass")}, "Basic bWU6cGFzcw=="),
]


@pytest.mark.parametrize(("environment", "given", "expected"), SECRETS)
async def test_which_credentials_go_out(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    given: dict[str, Any],
    expected: str | None,
) -> None:
    """C7, C8: a token wins over a password, what is given over the environment."""
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.json_response({"data": "no"}, status=401)

    async with serving(answer) as url:
        store = server_store(server_arguments(url=url, **given))
        assert store is not None
        await store.open()
        with pytest.raises(ResonateStoreError):
            await store.call(PromiseGet("x"))
        await store.close()
        assert "pass" not in repr(store)
    assert seen[0] == expected
