"""A function that gives tokens and fails is trouble, not an outcome (laws 8, 16, 17; C8)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from tests.remote.world import World
from tests.stores.faulty import OK, Faults, listening, only_ok, serving, session, text_of

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateStoreError
from resonate_aio.outage import UnreachableError
from resonate_aio.protocol.requests import PromiseGet
from resonate_aio.server.server import Server
from resonate_aio.stores.either import EitherStore
from resonate_aio.stores.generations import Generation
from resonate_aio.stores.http.credentials import Credentials
from resonate_aio.stores.http.session import HttpSession
from resonate_aio.stores.memory import MemoryStore

TOKEN = "a token of more than thirty-two characters"
FAILURES = [
    OSError("the identity provider is away"),
    RuntimeError("the identity provider answers 500"),
    TimeoutError(),
    KeyError("access_token"),
    asyncio.CancelledError(),
]


class Provider:
    """Gives a token, except while it is told to fail."""

    def __init__(self, error: BaseException, fails: Callable[[int], bool]) -> None:
        self._error = error
        self._fails = fails
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self._fails(self.calls):
            raise self._error
        return TOKEN


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is in the log, without a traceback and below an error."""
    loud = [record for record in caplog.records if record.levelno > logging.INFO]
    assert not [record for record in loud if record.exc_info or record.levelno > logging.WARNING]
    return [record.getMessage() for record in loud]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_a_request_waits_for_a_token(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    provider = Provider(error, lambda call: call <= 4)
    async with listening(Faults().handle) as url, session(url, token=provider) as http:
        assert await http.exchange("POST", "/", only_ok, body=b"{}") == ("ok", False)
    assert provider.calls == 5
    failed, again = warnings(caplog)
    assert f"no token for {url}: the function given as token= " in failed
    assert "look at that function" in failed
    assert str(error) in failed
    assert again == f"token= gives a token for {url} again"
    assert TOKEN not in caplog.text


async def test_a_token_that_never_comes_is_not_waited_for_for_ever() -> None:
    calls = 0

    async def provider() -> str:
        nonlocal calls
        calls += 1
        await asyncio.sleep(60 if calls == 1 else 0)
        return TOKEN

    async with listening(Faults().handle) as url, session(url, token=provider) as http:
        async with asyncio.timeout(5):
            assert await http.exchange("POST", "/", only_ok, body=b"{}") == ("ok", False)
    assert calls == 2


async def test_who_waits_for_a_token_can_be_cancelled() -> None:
    async def provider() -> str:
        await asyncio.sleep(60)
        return TOKEN

    async with listening(Faults().handle) as url, session(url, token=provider) as http:
        asking = asyncio.create_task(http.exchange("POST", "/", only_ok, body=b"{}"))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize("given", [5, b"bytes", "", "two\nlines"])
async def test_what_is_no_token_is_said_to_who_asks(given: Any) -> None:
    async with listening(Faults().handle) as url, session(url, token=lambda: given) as http:
        with pytest.raises(ResonateStoreError, match="token= gave") as caught:
            await http.exchange("POST", "/", text_of, body=b"{}")
    assert "lines" not in str(caught.value)


async def test_a_stream_without_a_token_is_opened_later() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=OK)

    provider = Provider(OSError("away"), lambda call: call == 1)
    async with serving(answer) as url, session(url, token=provider) as http:
        with pytest.raises(UnreachableError, match="OSError: away"):
            async with http.stream("/poll/g/p"):
                pass
        async with http.stream("/poll/g/p") as stream:
            assert stream.status == 200


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_a_client_starts_before_its_tokens_come(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has found out yet which server it is: what was asked meanwhile is carried out."""
    provider = Provider(error, lambda call: call <= 3)
    async with Server(MemoryStore(), port=0, token=TOKEN) as server:
        client = Resonate(url=server.url, token=provider)

        @client.register
        async def double(ctx: Context, n: int) -> int:
            return 2 * n

        async with client, asyncio.timeout(10):
            assert await client.run("x", double, 21) == 42
    assert len(warnings(caplog)) == 2
    assert "please report" not in caplog.text


def test_no_lease_is_lost_while_tokens_fail_for_less_than_it_lasts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Laws 7 and 8: the leaf of then is the leaf of now; one line says what is wrong."""
    world = World()
    store = world.store()
    provider = Provider(OSError("away"), lambda _: 2 < world.loop.time() < 6)
    store.http._credentials = Credentials(provider)
    client = Resonate(store=store, clock=world.clock)
    starts = 0

    async def leaf(ctx: Context, n: int) -> int:
        nonlocal starts
        starts += 1
        await asyncio.sleep(1)
        return n

    @client.register
    async def flow(ctx: Context) -> int:
        return sum([await ctx.run(leaf, n) for n in range(12)])

    async def main() -> int:
        async with client:
            return int(await client.run("x", flow))

    assert world.run(main) == 66
    assert starts == 12
    failed, again = warnings(caplog)
    assert "OSError: away" in failed
    assert "again" in again


@pytest.mark.parametrize("fault", ["make", "open"])
async def test_whatever_fails_as_the_server_is_found_reaches_who_waits(fault: str) -> None:
    """Law 8: a search that ended without a word would be waited for for ever."""

    class Unopened(MemoryStore):
        async def open(self) -> None:
            raise RuntimeError("cannot be opened")

    def make(generation: Generation) -> MemoryStore:
        if fault == "make":
            raise RuntimeError("cannot be made")
        return Unopened()

    async with Server(MemoryStore(), port=0) as server:
        store = EitherStore(HttpSession(server.url), make)
        await store.open()
        async with asyncio.timeout(5):
            with pytest.raises(
                ResonateStoreError, match=r"cannot be used.*cannot be (made|opened)"
            ):
                await store.call(PromiseGet("x"))
        await store.close()
