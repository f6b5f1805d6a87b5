"""The HTTP session against servers that do what servers do (law 8), over real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import Any

import pytest
from aiohttp import web
from tests.stores.faulty import (
    MISTAKES,
    Faults,
    Reader,
    Writer,
    cut_in_a_chunk,
    cut_in_the_body,
    listening,
    only_ok,
    reset_at_once,
    serving,
    session,
    status,
    text_of,
)

from resonate_aio.errors import ResonateStoreError
from resonate_aio.protocol.wire_records import message_from_wire
from resonate_aio.stores.http.answers import NoServerError
from resonate_aio.stores.http.session import HttpSession, Lane, Patience
from resonate_aio.transports.sse import SseMessages, SsePatience


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
async def test_trouble_is_tried_again(mistake: Any) -> None:
    faults = Faults(mistake, mistake)
    async with listening(faults.handle) as url, session(url) as http:
        result, maybe_done = await http.exchange("POST", "/", only_ok, body=b"{}")
    assert result == "ok"
    assert faults.requests == 1
    # A server that surely did nothing leaves no doubt (S60).
    assert maybe_done is (mistake.__name__ != "status_429")


async def test_a_refused_connection_is_tried_until_the_server_is_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with session(f"http://127.0.0.1:{port}") as http:
        asking = asyncio.create_task(http.exchange("GET", "/", text_of))
        await asyncio.sleep(0.2)
        assert not asking.done()
        server = await asyncio.start_server(Faults().handle, "127.0.0.1", port)
        assert await asking == ("ok", False)
        server.close()


@pytest.mark.parametrize("url", ["http://no-such-host.invalid:1", "https://127.0.0.1:{port}"])
async def test_names_and_certificates_are_trouble_too(url: str) -> None:
    async def speaks_no_tls(reader: Reader, writer: Writer) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with listening(speaks_no_tls) as plain:
        url = url.format(port=plain.rpartition(":")[2])
        async with session(url) as http:
            with pytest.raises(
                ResonateStoreError, match=r"no server at|no connection|connection failed"
            ):
                await http.exchange("GET", "/", text_of, tries=2)


async def test_retry_after_is_obeyed() -> None:
    faults = Faults(status(429, b"Retry-After: 1"))
    patience = Patience(first_s=0.01)
    async with listening(faults.handle) as url, session(url, patience=patience) as http:
        began_s = time.monotonic()
        await http.exchange("POST", "/", only_ok, body=b"{}")
        assert 1.0 <= time.monotonic() - began_s < 3


@pytest.mark.parametrize("code", [401, 403])
async def test_refused_credentials_are_said_at_once(code: int) -> None:
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({"data": "who are you?"}, status=code)

    async with serving(answer) as url, session(url, token="hidden-token-1") as http:
        with pytest.raises(ResonateStoreError) as caught:
            await http.exchange("POST", "/", text_of, body=b"{}")
    assert (asked, caught.value.code) == (1, code)
    assert "who are you?" in str(caught.value)
    assert "hidden-token-1" not in repr(caught.value) + str(caught.value)


@pytest.mark.parametrize("code", [200, 300, 400, 404, 405, 409, 410, 422, 501])
async def test_other_statuses_are_for_the_reader(code: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="it", status=code)

    async with serving(answer) as url, session(url) as http:
        result, _ = await http.exchange("GET", "/x", lambda answer: answer.status)
    assert result == code


@pytest.mark.parametrize("code", [301, 302, 307, 308])
async def test_a_redirect_does_not_carry_the_token_away(code: int) -> None:
    elsewhere = 0

    async def thief(request: web.Request) -> web.Response:
        nonlocal elsewhere
        elsewhere += 1
        return web.Response(text="ok")

    async with serving(thief) as there:

        async def answer(request: web.Request) -> web.Response:
            return web.Response(status=code, headers={"Location": f"{there}/"})

        async with serving(answer) as url, session(url, token="hidden") as http:
            with pytest.raises(ResonateStoreError):
                await http.exchange("GET", "/", only_ok, tries=3)
    assert elsewhere == 0


async def test_credentials_go_out_as_they_must() -> None:
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(text="ok")

    tokens = iter(["first", "second"])

    async def rotating() -> str:
        return next(tokens)

    bodies: list[str | None] = []

    def body(token: str | None) -> bytes:
        bodies.append(token)
        return b"{}"

    async with serving(answer) as url:
        for options in ({}, {"auth": ("me", "pass")}, {"token": "t", "auth": ("me", "pass")}):
            async with session(url, **options) as http:
                await http.exchange("GET", "/", only_ok)
        async with session(url, token=rotating) as http:
            await http.exchange("POST", "/", only_ok, body=body)
            await http.exchange("POST", "/", only_ok, body=body)
    assert seen == [None, "Basic bWU6cGFzcw==", "Bearer t", "Bearer first", "Bearer second"]
    assert bodies == ["first", "second"]


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8001", "ftp://host", "http://", "http://user:secret1@host", "http://h/?a=1"],
)
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url must") as caught:
        HttpSession(url)
    assert "secret1" not in str(caught.value)


def test_no_credential_is_shown() -> None:
    http = HttpSession("http://127.0.0.1:1", token="secret1", auth=("me", "secret2"))
    assert "secret" not in repr(http) + http.url


async def test_a_path_in_the_url_comes_first_and_ids_are_sent_as_they_are() -> None:
    paths: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        paths.append(request.raw_path)
        return web.Response(text="ok")

    async with serving(answer) as url, session(f"{url}/resonate/") as http:
        await http.exchange("GET", "/promises/a%2Fb%25", only_ok)
    assert paths == ["/resonate/promises/a%2Fb%25"]


async def test_a_heartbeat_does_not_wait_behind_work() -> None:
    release = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/work":
            await release.wait()
        return web.Response(text="ok")

    patience = Patience(connections=4, answer_s=20)
    async with serving(answer) as url, session(url, patience=patience) as http:
        work = [asyncio.create_task(http.exchange("GET", "/work", only_ok)) for _ in range(9)]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            await http.exchange("GET", "/beat", only_ok, lane=Lane.BEAT)
        assert not any(task.done() for task in work)
        release.set()
        await asyncio.gather(*work)


async def test_at_most_so_many_requests_are_under_way() -> None:
    now = most = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return web.Response(text="ok")

    patience = Patience(connections=5)
    async with serving(answer) as url, session(url, patience=patience) as http:
        await asyncio.gather(*(http.exchange("GET", "/", only_ok) for _ in range(40)))
    assert most == 5


async def test_many_repeats_are_paced_and_one_warning_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Law 8: a bound on the rate of repeats over the whole session, however many wait."""
    times: list[float] = []

    async def answer(request: web.Request) -> web.Response:
        times.append(time.monotonic())
        return web.Response(status=503)

    patience = Patience(first_s=0.01, most_s=0.05, pace_s=0.02)
    with caplog.at_level(logging.WARNING, "resonate_aio.stores.http"):
        async with serving(answer) as url, session(url, patience=patience) as http:
            asking = [asyncio.create_task(http.exchange("GET", "/", only_ok)) for _ in range(50)]
            await asyncio.sleep(1.0)
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
    repeats = len(times) - 50
    assert 10 < repeats <= 1.0 / 0.02 + 5
    assert len(caplog.records) == 1


async def test_an_outage_and_its_end_are_said_once_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults = Faults(status(503), status(502), status(500), reset_at_once)
    with caplog.at_level(logging.INFO, "resonate_aio.stores.http"):
        async with listening(faults.handle) as url, session(url) as http:
            for _ in range(3):
                await http.exchange("GET", "/", only_ok)
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in said] == ["WARNING", "WARNING"]
    assert "503" in said[0][1]
    assert said[1][1] == f"{url}: connected again"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


async def test_a_server_that_is_not_there_is_one_line_that_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However much is asked of it, with a stream of messages open or not; so is its coming."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != "/poll":
            return web.Response(text="ok")
        response = web.StreamResponse()
        await response.prepare(request)
        await over.wait()
        return response

    over = asyncio.Event()
    messages: list[object] = []
    with caplog.at_level(logging.WARNING, "resonate_aio"):
        async with session(url) as http:
            patience = SsePatience(first_s=0.01, most_s=0.05)
            source = SseMessages(
                [lambda group, pid: http.stream("/poll")], message_from_wire, patience=patience
            )
            await source.start("group", "pid", messages.append)
            asking = [asyncio.create_task(http.exchange("GET", "/", only_ok)) for _ in range(5)]
            await asyncio.sleep(0.3)
            says = (
                f"no server at {url} (connection refused): start one (`resonate-aio serve`), or "
                "check url= and RESONATE_URL; asked again until it answers"
            )
            assert [record.getMessage() for record in caplog.records] == [says]
            away = [http.is_away]
            with pytest.raises(
                ResonateStoreError, match=r"^no server at .* \(connection refused\)"
            ):
                await http.exchange("GET", "/", only_ok, tries=1)
            app = web.Application()
            app.router.add_get("/{path:.*}", answer)
            runner = web.AppRunner(app, shutdown_timeout=0)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            try:
                await asyncio.gather(*asking)
                while not source.is_connected:  # noqa: ASYNC110  real sockets
                    await asyncio.sleep(0.01)
            finally:
                over.set()
                await source.stop()
                await runner.cleanup()
            away.append(http.is_away)
    assert away == [True, False]
    assert [record.getMessage() for record in caplog.records] == [says, f"{url}: connected again"]


async def test_a_stream_that_comes_back_alone_is_said_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async with serving(answer) as url, session(url) as http:
        http._say_trouble(NoServerError("connection refused"), "GET /")
        async with http.stream("/") as stream:
            assert stream.status == 200
        assert not http.is_away
    assert caplog.messages[-1] == f"{url}: connected again"


async def test_a_slow_server_is_given_more_time_with_each_try() -> None:
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.45)
        return web.Response(text="ok")

    async with serving(answer) as url, session(url) as http:
        result, maybe_done = await http.exchange("GET", "/", only_ok)
    assert (result, maybe_done) == ("ok", True)
    assert asked == 2


async def test_a_stream_goes_on_for_as_long_as_it_likes() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in (b"one", b"two", b"three"):
            await asyncio.sleep(0.4)
            await response.write(part)
        return response

    async with serving(answer) as url, session(url) as http, http.stream("/poll/g/p") as stream:
        assert stream.status == 200
        assert b"".join([chunk async for chunk in stream.chunks()]) == b"onetwothree"


async def _whole(http: HttpSession) -> bytes:
    async with http.stream("/") as stream:
        return b"".join([chunk async for chunk in stream.chunks()])


@pytest.mark.parametrize("mistake", [cut_in_a_chunk, cut_in_the_body], ids=["chunk", "body"])
async def test_a_stream_that_breaks_says_so(mistake: Any) -> None:
    async with listening(Faults(mistake).handle) as url, session(url) as http:
        with pytest.raises(ConnectionError):
            await _whole(http)


async def test_nothing_is_left_after_close() -> None:
    import threading

    before = set(threading.enumerate())

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async with serving(answer) as url:
        http = HttpSession(url.replace("127.0.0.1", "localhost"))
        await http.open()
        await http.open()
        await asyncio.gather(*(http.exchange("GET", "/", only_ok) for _ in range(8)))
        await http.close()
        await http.close()
        with pytest.raises(ResonateStoreError, match="not open"):
            await http.exchange("GET", "/", only_ok)
        await asyncio.sleep(0.05)
    assert not [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]
