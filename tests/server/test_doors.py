"""Law 17: who may speak to the server, and from where (reliability §3.1)."""

from __future__ import annotations

import asyncio
import logging

import orjson
import pytest
from tests.server.wire import FAR_MS, JSON, Wire, envelope, polling, serving

from resonate_aio.errors import UsageError
from resonate_aio.protocol import requests as r
from resonate_aio.server import DebugStore, Limits, Server, host_and_port
from resonate_aio.server.doorkeeper import Doorkeeper, bearer
from resonate_aio.server.reach import is_loopback
from resonate_aio.stores.memory import MemoryStore

TOKEN = "a-secret-of-enough-characters"
ROUTES = ["/health", "/ready", "/metrics", "/poll/g/1", "/tasks/claim", "/promises/x", "/none", ""]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org", "[::1]x"])
def test_off_loopback_a_token_is_needed(host: str) -> None:
    with pytest.raises(UsageError, match="RESONATE_TOKEN"):
        Server(MemoryStore(), host=host)
    with pytest.raises(UsageError, match="loopback"):
        Server(DebugStore(), host=host, token=TOKEN)
    assert Server(MemoryStore(), host=host, token=TOKEN).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST", "::1"])
def test_on_loopback_none_is_needed(host: str) -> None:
    assert is_loopback(host)
    Server(MemoryStore(), host=host)
    Server(DebugStore(), host=host)


@pytest.mark.parametrize("token", ["", " ", "\t"])
def test_an_empty_token_is_refused(token: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        Server(MemoryStore(), token=token)


def test_a_short_token_is_warned_of_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    Server(MemoryStore(), token="hunter2")
    assert "fewer than 16" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    "shown", [None, "", "wrong", TOKEN + "x", TOKEN[:-1], "\u00e9", "a" * 8_000]
)
async def test_every_route_without_or_with_a_wrong_token_is_401(shown: str | None) -> None:
    limits = Limits(failures=1_000)
    async with serving(token=TOKEN, limits=limits) as (server, _):
        wire = Wire(server.port, token=shown)
        for route in ROUTES:
            for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
                answer = await wire.get(route or "/", method=method)
                assert answer.status == 401, (method, route)
                assert answer.headers["www-authenticate"] == "Bearer"
        create = r.PromiseCreate("p", FAR_MS)
        assert (await wire.ask(create)).status == 401
        assert (await wire.ask(create, auth=shown)).status == 401
        for body in (b"", b"{", b"[]", b"x" * 100_000):
            assert (await wire.post(body)).status == 401
        await wire.close()
        right = Wire(server.port, token=TOKEN)
        assert (await right.ask(r.PromiseGet("p"))).status == 404, "a refused request did something"
        assert "resonate_unauthorized_total 0\n" not in (await right.get("/metrics")).body.decode()
        await right.close()


async def test_the_right_token_opens_every_route() -> None:
    async with serving(token=TOKEN) as (server, wire):
        statuses = [
            (await wire.get(route or "/")).status for route in ROUTES if "poll" not in route
        ]
        assert statuses == [200, 200, 200, 410, 410, 404, 405]
        assert (await wire.ask(r.PromiseCreate("p", FAR_MS))).status == 200
        async with polling(server, "g", "1", f"Authorization: bearer  {TOKEN} ") as stream:
            assert stream.status == 200
        await wire.close()
        bare = Wire(server.port)
        assert (await bare.ask(r.PromiseGet("p"), auth=TOKEN)).status == 200, "in the head alone"
        await bare.close()


async def test_odd_credentials_are_401_and_nothing_worse() -> None:
    async with serving(token=TOKEN, limits=Limits(failures=1_000)) as (server, _):
        wire = Wire(server.port)
        for headers in (
            ["Authorization: Basic YTpi"],
            [f"Authorization: Bearer {TOKEN}", f"Authorization: Bearer {TOKEN}"],
            [f"Authorization: {TOKEN}"],
            ["Authorization:"],
            ["Authorization: Bearer \udcff\udcfe"],
        ):
            assert (await wire.get("/health", *headers)).status == 401, headers
        for auth in (1, None, [TOKEN], {"token": TOKEN}, "\u00e9"):
            body = orjson.dumps(envelope("promise.get", {"id": "p"}, auth=auth))
            assert (await wire.post(body)).status == 401
        await wire.close()


async def test_who_guesses_waits_and_the_others_do_not() -> None:
    async with serving(token=TOKEN, limits=Limits(failures=3)) as (server, wire):
        guesser = Wire(server.port, token="guess")
        for _ in range(3):
            assert (await guesser.get("/health")).status == 401
        guess = asyncio.create_task(guesser.get("/health"))
        for _ in range(20):
            assert (await wire.get("/health")).status == 200
        assert not guess.done(), "the fourth guess is answered after a pause"
        guess.cancel()
        await asyncio.gather(guess, return_exceptions=True)
        await guesser.close()


def test_the_pause_follows_the_failures_of_one_peer_in_a_minute() -> None:
    keeper = Doorkeeper(TOKEN, free_failures=2)
    assert [keeper.pause_s("a", n) for n in range(4)] == [0, 0, 1, 1]
    assert keeper.pause_s("b", 4) == 0
    assert keeper.pause_s("a", 100) == 0, "a minute later it starts anew"
    for n in range(5_000):
        keeper.pause_s(f"peer{n}", 200)
    assert len(keeper._failures) <= 1_024


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([], None),
        (["Bearer x"], "x"),
        (["bearer x"], "x"),
        (["Bearer "], None),
        (["Bearer"], None),
        (["Basic x"], None),
        (["Bearer x", "Bearer x"], None),
    ],
)
def test_the_bearer_of_a_request(headers: list[str], token: str | None) -> None:
    assert bearer(headers) == token


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Host: evil.example"], 403),
        (["Host: 127.0.0.1.evil.example:80"], 403),
        (["Host: localhost:9"], 200),
        (["Host: [::1]:9"], 200),
        (["Host: 127.0.0.1", "Origin: https://evil.example"], 403),
        (["Host: 127.0.0.1", "Origin: null"], 403),
        (["Host: 127.0.0.1:8001", "Origin: http://127.0.0.1:8001"], 200),
        (["Host: 127.0.0.1", "Sec-Fetch-Site: cross-site"], 403),
        (["Host: 127.0.0.1", "Sec-Fetch-Site: same-origin"], 200),
    ],
)
async def test_web_pages_of_others_are_refused(headers: list[str], status: int) -> None:
    async with serving() as (_, wire):
        body = orjson.dumps(envelope("promise.create", {"id": "p", "timeoutAt": FAR_MS}))
        lines = ["POST / HTTP/1.1", *headers, JSON, f"Content-Length: {len(body)}", "", ""]
        assert (await wire.raw("\r\n".join(lines).encode() + body)).status == status
        for path in ("/health", "/metrics"):
            lines = [f"GET {path} HTTP/1.1", *headers, "", ""]
            assert (await wire.raw("\r\n".join(lines).encode())).status == status
        created = (await wire.ask(r.PromiseGet("p"))).status
        assert created == (404 if status == 403 else 200)


async def test_what_a_form_can_send_is_no_envelope() -> None:
    async with serving() as (_, wire):
        body = orjson.dumps(envelope("promise.create", {"id": "p", "timeoutAt": FAR_MS}))
        for kind in ("text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"):
            assert (await wire.post(body, f"Content-Type: {kind}")).status == 415
        assert (await wire.ask(r.PromiseGet("p"))).status == 404
        assert (
            await wire.post(body, "Content-Type: Application/JSON; charset=utf-8")
        ).status == 200


async def test_a_token_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(token=TOKEN) as (server, wire):
        await wire.ask(r.PromiseGet("p"), auth=TOKEN)
        wrong = Wire(server.port, token="another-wrong-secret")
        await wrong.get("/health")
        await wrong.raw(b"GET / HTTP/9.9\r\nAuthorization: Bearer another-wrong-secret\r\n\r\n")
        await wrong.close()
        shown = (await wire.get("/metrics")).body.decode() + repr(server) + caplog.text
    assert TOKEN not in shown
    assert "another-wrong-secret" not in shown


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:8001", ("127.0.0.1", 8001)),
        ("localhost", ("localhost", 8001)),
        (":9", ("127.0.0.1", 9)),
        ("[::1]:9", ("::1", 9)),
        ("[::1]", ("::1", 8001)),
        ("::1", ("::1", 8001)),
    ],
)
def test_an_address_to_listen_on(text: str, parts: tuple[str, int]) -> None:
    assert host_and_port(text) == parts


@pytest.mark.parametrize("text", ["h:x", "h:99999", "h:-1", "[::1", "[::1]9"])
def test_no_address_to_listen_on(text: str) -> None:
    with pytest.raises(UsageError):
        host_and_port(text)
