"""The kit for aiohttp applications: 202 means stored, reports, the end of an application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from resonate_aio import Context, Handle, Resonate
from resonate_aio.aiohttp import RESONATE, accepted, report, setup
from resonate_aio.errors import ResonateShutdownError, ResonateStoreError


@dataclass
class Receipt:
    order: str
    cents: int


class RefusedError(Exception):
    pass


class SlowHandle(Handle[Any]):
    """A handle that is stored, or fails, when the test says so."""

    def __init__(self, id: str) -> None:
        self._its_id = id
        self._its_error: Exception | None = None
        self._is_stored = asyncio.Event()

    @property
    def id(self) -> str:
        return self._its_id

    def is_stored(self) -> None:
        self._is_stored.set()

    def has_failed(self, error: Exception) -> None:
        self._its_error = error

    def done(self) -> bool:
        return self._its_error is not None

    async def created(self) -> Handle[Any]:
        if self._its_error is not None and not self._is_stored.is_set():
            raise self._its_error
        await self._is_stored.wait()
        return self

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from self.created().__await__()
        assert self._its_error is not None
        raise self._its_error


async def checkout(ctx: Context, order: str) -> Receipt:
    gate = await ctx.promise(id=f"gate-{order}")
    await gate
    return Receipt(order, 100)


async def refused(ctx: Context, order: str) -> None:
    raise RefusedError("the password is swordfish")


async def endless(ctx: Context, order: str) -> None:
    await asyncio.Event().wait()


def application(resonate: Resonate, **options: Any) -> web.Application:
    for function in (checkout, refused, endless):
        resonate.register(function)

    async def create(request: web.Request) -> web.Response:
        order, function = request.match_info["order"], request.match_info["function"]
        handle = request.config_dict[RESONATE].begin_run(f"order/{order}", function, order)
        return await accepted(handle, request.app.router["order"].url_for(order=order))

    async def show(request: web.Request) -> web.Response:
        handle = request.config_dict[RESONATE].get(f"order/{request.match_info['order']}")
        return await report(request, handle, **options)

    app = web.Application()
    app.router.add_post("/{function}/{order}", create)
    app.router.add_get("/orders/{order}", show, name="order")
    setup(app, resonate)
    return app


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """A client of the application, on a real socket on loopback; nothing is left behind."""
    async with TestClient(TestServer(app)) as client:
        yield client
    assert asyncio.all_tasks() == {asyncio.current_task()}  # law 16


async def test_202_has_a_location_and_the_execution_is_stored(tmp_path: Path) -> None:
    """Mission P10, P26: one call of `setup`, and routes of the application's own."""
    path = tmp_path / "app.db"
    async with served(application(Resonate.local(path=path))) as client:
        answer = await client.post("/checkout/1")
        assert answer.status == 202
        assert answer.headers["Location"] == "/orders/1"
        assert await answer.json() == {"id": "order/1", "state": "pending"}
    # Another process of the service: what was accepted goes on there (law 6).
    async with served(application(resonate := Resonate.local(path=path))) as client:
        await resonate.promises.create("gate-1", timeout_in=60)  # whoever of the two is first
        await resonate.promises.resolve("gate-1")
        answer = await client.get("/orders/1?wait=20")
        assert (answer.status, await answer.json()) == (
            200,
            {"id": "order/1", "state": "resolved", "value": {"order": "1", "cents": 100}},
        )


async def test_202_waits_for_the_store() -> None:
    async with served(application(resonate := Resonate())) as client:
        handle = SlowHandle("slow")
        answering = asyncio.create_task(accepted(handle, "/slow"))
        await client.get("/orders/nobody")  # a round trip: time enough to answer too early
        assert not answering.done()
        handle.is_stored()
        assert (await answering).status == 202
        assert resonate is client.server.app[RESONATE]  # type: ignore[attr-defined]


async def test_asking_again_joins_the_execution() -> None:
    async with served(application(resonate := Resonate())) as client:
        for _ in range(3):
            assert (await client.post("/checkout/1")).status == 202
        await resonate.promises.resolve("gate-1")
        assert (await (await client.get("/orders/1?wait=20")).json())["state"] == "resolved"
        assert (await client.post("/checkout/1")).status == 202


async def test_a_pending_one_says_when_to_ask_again() -> None:
    async with served(application(Resonate())) as client:
        await client.post("/checkout/1")
        answer = await client.get("/orders/1")
        assert answer.headers["Retry-After"] == "1"
        assert await answer.json() == {"id": "order/1", "state": "pending"}


async def test_errors_are_reported_without_what_they_say() -> None:
    async with served(application(Resonate())) as client:
        await client.post("/refused/1")
        answer = await client.get("/orders/1?wait=20")
        assert await answer.json() == {
            "id": "order/1",
            "state": "rejected",
            "error": {"type": "RefusedError"},
        }


async def test_errors_are_shown_on_request() -> None:
    async with served(application(Resonate(), show_errors=True)) as client:
        await client.post("/refused/1")
        answer = await client.get("/orders/1?wait=20")
        assert (await answer.json())["error"] == {
            "type": "RefusedError",
            "message": "the password is swordfish",
        }


async def test_cancelled_and_timed_out_are_named() -> None:
    async with served(application(resonate := Resonate())) as client:
        await client.post("/endless/1")
        await resonate.promises.cancel("order/1")
        body = await (await client.get("/orders/1")).json()
        assert (body["state"], body["error"]) == (
            "rejected_canceled",
            {"type": "ResonateCanceledError"},
        )
        await resonate.options(timeout=0.01).begin_run("order/2", endless, "2").created()
        body = await (await client.get("/orders/2?wait=20")).json()
        assert (body["state"], body["error"]) == (
            "rejected_timedout",
            {"type": "ResonateTimedoutError"},
        )


async def test_a_promise_by_hand_is_reported_too() -> None:
    async with served(application(resonate := Resonate())) as client:
        await resonate.promises.create("order/1", timeout_in=60)
        assert (await (await client.get("/orders/1")).json())["state"] == "pending"
        await resonate.promises.resolve("order/1", value=[1, None])
        assert (await (await client.get("/orders/1")).json())["value"] == [1, None]


async def test_what_cannot_go_on_here_is_pending_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    async with served(application(Resonate.local(path=path))) as client:
        await client.post("/checkout/1")

    async def other(ctx: Context, order: str) -> None:
        await ctx.run(refused, order)

    resonate = Resonate.local(path=path)
    app = web.Application()

    async def show(request: web.Request) -> web.Response:
        return await report(request, resonate.get("order/1"))

    app.router.add_get("/", show)
    setup(app, resonate)
    resonate.register(other, name="checkout")
    async with served(app) as client:
        answer = await client.get("/?wait=20")
        assert await answer.json() == {
            "id": "order/1",
            "state": "pending",
            "error": {"type": "NonDeterminismError"},
        }


async def test_unknown_ones_are_404() -> None:
    async with served(application(Resonate())) as client:
        assert (await client.get("/orders/nobody")).status == 404
        assert (await client.get("/orders/nobody?wait=20")).status == 404


@pytest.mark.parametrize("wait", ["soon", "-1", "nan", "1e999", ""])
async def test_wait_is_a_number_of_seconds(wait: str) -> None:
    async with served(application(Resonate())) as client:
        await client.post("/checkout/1")
        answer = await client.get(f"/orders/1?wait={wait}")
        assert answer.status == 400
        assert await answer.text() == "wait is a number of seconds, zero or more"


@pytest.mark.parametrize(
    ("app", "client", "told"),
    [
        (5, Resonate(), r"takes an aiohttp web\.Application, got 5"),
        (web.Application(), 5, r"takes the client as its second argument, got 5"),
        (web.Application(), Resonate, r"the client as its second argument, got <class"),
        (Resonate(), web.Application(), r"takes an aiohttp web\.Application, got <"),
    ],
)
def test_setup_looks_at_its_arguments_at_once(app: Any, client: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        setup(app, client)


async def test_nobody_waits_longer_than_allowed() -> None:
    async with served(application(Resonate(), longest_wait=0.05)) as client:
        await client.post("/checkout/1")
        began = time.monotonic()
        assert (await (await client.get("/orders/1?wait=1000")).json())["state"] == "pending"
        assert 0.04 < time.monotonic() - began < 20


async def test_waiting_requests_are_answered_when_the_application_ends() -> None:
    began = time.monotonic()
    async with served(application(Resonate())) as client:
        await client.post("/checkout/1")
        waiting = asyncio.create_task(client.get("/orders/1?wait=25"))
        await client.get("/orders/1")  # the one before it has arrived by now
        await client.server.close()
        answer = await waiting
        assert (answer.status, (await answer.json())["state"]) == (200, "pending")
    assert time.monotonic() - began < 20  # far below its 25 s and aiohttp's 60


async def test_an_application_can_be_started_again() -> None:
    resonate = Resonate()
    for order in ("1", "2"):
        async with served(application(resonate)) as client:
            await client.post(f"/checkout/{order}")
            await resonate.promises.resolve(f"gate-{order}")
            body = await (await client.get(f"/orders/{order}?wait=20")).json()
            assert body["state"] == "resolved"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ResonateShutdownError("stopped"), 503),
        (ResonateStoreError("locked", 0), 503),
        (ResonateStoreError("other key", 409), 409),
        (ResonateStoreError("other key", 403), 409),
    ],
)
async def test_what_was_not_stored_is_not_accepted(error: Exception, status: int) -> None:
    handle = SlowHandle("h")
    handle.has_failed(error)
    with pytest.raises(web.HTTPException) as raised:
        await accepted(handle, "/h")
    assert raised.value.status == status
    assert (raised.value.headers.get("Retry-After") == "1") == (status == 503)


async def test_report_of_a_stopped_client_is_503() -> None:
    handle = SlowHandle("order/1")

    async def show(request: web.Request) -> web.Response:
        return await report(request, handle)

    app = web.Application()
    app.router.add_get("/", show)
    setup(app, resonate := Resonate())
    async with served(app) as client:
        await resonate.promises.create("order/1", timeout_in=60)
        handle.is_stored()
        handle.has_failed(ResonateShutdownError("the client was stopped"))
        assert (await client.get("/")).status == 503


async def test_a_sub_application_finds_the_client() -> None:
    resonate = Resonate()
    outer, inner = web.Application(), web.Application()
    setup(outer, resonate)

    async def show(request: web.Request) -> web.Response:
        return await report(request, request.config_dict[RESONATE].get("p"))

    inner.router.add_get("/p", show)
    outer.add_subapp("/inner", inner)
    async with served(outer) as client:
        await resonate.promises.create("p", timeout_in=60)
        assert (await (await client.get("/inner/p")).json())["state"] == "pending"


async def test_the_client_stops_before_what_was_set_up_earlier() -> None:
    seen: list[str] = []
    resonate = Resonate()

    async def pool(app: web.Application) -> AsyncIterator[None]:
        seen.append("pool opened")
        yield
        seen.append("pool closed")

    async def uses_the_pool(ctx: Context, order: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("function ended")

    resonate.register(uses_the_pool, name="uses_the_pool")
    app = web.Application()
    app.cleanup_ctx.append(pool)
    setup(app, resonate)
    async with served(app):
        await resonate.begin_run("order/1", "uses_the_pool", "1").created()
    assert seen == ["pool opened", "function ended", "pool closed"]


def test_an_application_has_one_client() -> None:
    app = web.Application()
    setup(app, Resonate())
    with pytest.raises(ValueError, match="one client"):
        setup(app, Resonate())
