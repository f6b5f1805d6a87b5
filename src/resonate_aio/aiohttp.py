"""The kit for embedding in an aiohttp application: start, answer 202, report, drain.

    from resonate_aio.aiohttp import accepted, report, setup

    async def create(request):
        number = (await request.json())["number"]
        handle = resonate.begin_run(f"order-{number}", checkout, number)
        return await accepted(handle, f"/orders/{number}")

    async def show(request):
        number = request.match_info["number"]
        return await report(request, resonate.get(f"order-{number}"))

    app = web.Application()
    app.add_routes([web.post("/orders", create), web.get("/orders/{number}", show)])
    setup(app, resonate)

The kit adds no route by itself: which executions can be seen, under which path and by whom, is
the application's to say (law 17). It is made of public things only, so that what it does not
offer can be written next to it; this file knows nothing of stores, workers and bodies.

On SIGTERM and SIGINT `aiohttp.web.run_app` stops listening; then requests that wait in
`report` are answered with what is known, the others end by themselves, and the client is
stopped: what runs is recorded and goes on when a process starts that knows its functions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from .client.handle import Handle
from .client.resonate import Resonate
from .errors import ResonateShutdownError, ResonateStoreError
from .protocol.records import PromiseState
from .protocol.values import encode
from .runtime.options import seconds
from .transports.push import PushDoor

if TYPE_CHECKING:
    from yarl import URL

__all__ = ["RESONATE", "accepted", "push_route", "report", "setup"]

RESONATE: Final = web.AppKey("RESONATE", Resonate)
"""Where `setup` puts the client: `request.config_dict[RESONATE]`, in sub-applications too."""

_SHUTTING_DOWN: Final = web.AppKey("_SHUTTING_DOWN", asyncio.Event)
_RETRY_AFTER_S: Final = "1"
_NOT_FOUND: Final = 404


def setup(
    app: web.Application, resonate: Resonate, *, stop_timeout: float | timedelta | None = None
) -> None:
    """Start the client when the application starts, stop it when that has served its requests.

    Call it after adding what durable functions use (`cleanup_ctx` runs back to front), so that
    a database pool, say, is still open while the client stops.

    Args:
        app: The application; of nested ones, the outermost.
        resonate: The client. Functions may be registered before and after.
        stop_timeout: Seconds or a timedelta that running steps have to end in when the client is
            stopped; else what the client was given (`Resonate(stop_timeout=...)`).

    Raises:
        TypeError: The arguments are not an application, a client and a time.
        ValueError: It is negative, or the application has a client already.
    """
    if not isinstance(app, web.Application):
        raise TypeError(f"setup(app, resonate) takes an aiohttp web.Application, got {app!r}")
    if not isinstance(resonate, Resonate):
        raise TypeError(
            f"setup(app, resonate) takes the client as its second argument, got {resonate!r}"
        )
    if RESONATE in app:
        raise ValueError("setup() was called before: an application has one client")
    stop_s = None if stop_timeout is None else seconds(stop_timeout, "stop_timeout")
    app[RESONATE] = resonate
    app[_SHUTTING_DOWN] = asyncio.Event()
    app.on_startup.append(_starting)
    app.on_shutdown.append(_shutting_down)
    app.cleanup_ctx.append(partial(_client_runs, stop_s))


async def _starting(app: web.Application) -> None:
    app[_SHUTTING_DOWN].clear()


async def _shutting_down(app: web.Application) -> None:
    app[_SHUTTING_DOWN].set()


async def _client_runs(stop_s: float | None, app: web.Application) -> AsyncIterator[None]:
    await app[RESONATE].start()
    try:
        yield
    finally:
        await app[RESONATE].stop(stop_s)


def push_route(path: str, resonate: Resonate, *, token: str | None = None) -> web.RouteDef:
    """A route that takes what a Resonate server pushes, for workers behind a load balancer.

        app.add_routes([push_route("/resonate", resonate, token=os.environ["PUSH_TOKEN"])])

    Functions of this application are then called with `target="https://shop.example/resonate"`,
    from anywhere; any of its processes takes the task. A message is a hint (S50): the task is
    claimed at the server this client was given, and nothing else that the body says counts.

    The route answers 204 when a message was taken, 400 and 415 when it is none, 401 and 403 when
    its sender may not, 413 beyond the application's `client_max_size`, 503 while the client does
    not run; the server offers a task again until somebody takes it.

    Args:
        path: Of the route.
        resonate: The client, which has a server (`url=...`).
        token: What the server shows as `Authorization: Bearer ...`. Without one, only what comes
            over loopback and through no proxy is taken.

    Raises:
        TypeError, ValueError: The token is no text, or empty.
    """
    return web.post(path, PushDoor(resonate.push, token).receive)


async def accepted(handle: Handle[Any], location: str | URL) -> web.Response:
    """The answer 202 to a request that started an execution, once that is durably stored.

    On return the execution exists: it runs to its end, here or after a restart. Asking again
    under the same id joins it and gives the same answer, so a client that heard nothing may
    safely repeat its request. Cancelling is safe, the execution may then exist or not.

    Args:
        handle: What `begin_run` or `begin_rpc` gave.
        location: Where the client can ask for it, for example
            `request.app.router["order"].url_for(number=number)`.

    Returns:
        202 with `Location` and `{"id": ..., "state": "pending"}`.

    Raises:
        HTTPServiceUnavailable: It could not be stored, because the store cannot be used or
            the client stops; nothing was promised and the client may try again.
        HTTPConflict: The id is taken by a call with another idempotency key.
        ResonateError: Another refusal of the create, such as arguments out of bounds.
    """
    try:
        await handle.created()
    except ResonateShutdownError as error:
        raise _unavailable() from error
    except ResonateStoreError as error:
        raise (web.HTTPConflict() if error.code in {403, 409} else _unavailable()) from error
    answer = _answer(handle.id, PromiseState.PENDING, status=202)
    answer.headers["Location"] = str(location)
    return answer


async def report(
    request: web.Request,
    handle: Handle[Any],
    *,
    longest_wait: float | timedelta = 30,
    show_errors: bool = False,
) -> web.Response:
    """The answer to a request that asks what became of an execution.

    The request may wait for the end with `?wait=<seconds>`. Waiting costs no thread, and ends
    when the application shuts down.

    Args:
        request: The request.
        handle: `resonate.get(id)`, or what starting the execution gave.
        longest_wait: The most that `wait` may ask for: seconds or a timedelta.
        show_errors: Whether the message of the function's error is shown, too. An error may
            say more than a client should know, so by default only the name of its class is.

    Returns:
        200 with `{"id": ..., "state": ...}`, where `state` is the promise's: `pending` (with
        `Retry-After`), `resolved` (and `value`), `rejected` (and `error`), `rejected_canceled`
        or `rejected_timedout`. A pending one may have an `error`, too: it cannot go on in this
        process, because the code differs from what it recorded or is not there.

    Raises:
        HTTPBadRequest: `wait` is not a number of seconds, zero or more.
        HTTPNotFound: There is no such execution.
        HTTPServiceUnavailable: The store cannot be used, or the client stops.
    """
    wait_s = _wait_s(request, seconds(longest_wait, "longest_wait"))
    resonate = request.config_dict[RESONATE]
    try:
        await handle.created()
        await _until_done(handle, wait_s, request.config_dict[_SHUTTING_DOWN])
        state = (await resonate.promises.get(handle.id)).state
    except ResonateShutdownError as error:
        raise _unavailable() from error
    except ResonateStoreError as error:
        raise (web.HTTPNotFound() if error.code == _NOT_FOUND else _unavailable()) from error
    if state is PromiseState.PENDING and not handle.done():
        return _answer(handle.id, state)
    try:
        value = await handle
    except Exception as error:  # the outcome of the user's function, whatever it is
        if state is PromiseState.PENDING and isinstance(error, ResonateShutdownError):
            raise _unavailable() from error
        failure = {"type": type(error).__name__}
        if show_errors:
            failure["message"] = str(error)
        return _answer(handle.id, state, error=failure)
    return _answer(handle.id, state, value=value)


def _wait_s(request: web.Request, longest_s: float) -> float:
    """How long the request asks to wait, and may."""
    try:
        return min(seconds(float(request.query.get("wait", 0)), "wait"), longest_s)
    except ValueError as error:
        raise web.HTTPBadRequest(text="wait is a number of seconds, zero or more") from error


async def _until_done(handle: Handle[Any], wait_s: float, enough: asyncio.Event) -> None:
    """Wait for the end, the time to be over, or the application to shut down."""
    if handle.done() or not wait_s or enough.is_set():
        return
    waiting = {
        asyncio.ensure_future(_ended(handle)),
        asyncio.ensure_future(enough.wait()),
    }
    try:
        await asyncio.wait(waiting, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def _ended(handle: Handle[Any]) -> None:
    with contextlib.suppress(Exception):  # how it ended is read later
        await handle


def _answer(id: str, state: PromiseState, *, status: int = 200, **more: Any) -> web.Response:
    headers = {"Retry-After": _RETRY_AFTER_S} if state is PromiseState.PENDING else {}
    body = encode({"id": id, "state": str(state), **more})
    return web.Response(status=status, text=body, content_type="application/json", headers=headers)


def _unavailable() -> web.HTTPServiceUnavailable:
    return web.HTTPServiceUnavailable(headers={"Retry-After": _RETRY_AFTER_S})
