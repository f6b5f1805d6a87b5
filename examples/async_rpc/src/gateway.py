"""The gateway: HTTP requests, which are ephemeral, become durable calls.

    curl -X POST http://localhost:5000/await-chain
    curl -X POST http://localhost:5000/detached-chain
    curl -X POST http://localhost:5000/fan-out

Each route has a fixed promise id: the same request again joins the call that runs, or gets
its recorded result, also after the gateway was killed. `?id=another` makes another call.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Awaitable
from typing import Any, TypeVar

from aiohttp import web
from process import LEASE_S

from resonate_aio import Handle, Resonate
from resonate_aio.aiohttp import RESONATE, setup
from resonate_aio.errors import ResonateShutdownError

T = TypeVar("T")


def ask(request: web.Request, id: str, target: str, func: str, *args: Any) -> Handle[Any]:
    """Start a function of a service, or find the call that has this id already."""
    id = request.query.get("id", id)
    if not id or not id.isprintable():
        raise web.HTTPBadRequest(text="an id is printable text")
    print(f"{id}: asking {target} for {func}", flush=True)
    client = request.config_dict[RESONATE]
    return client.options(target=target).rpc(id, func, *args)


async def ended(waiting: Awaitable[T]) -> T:
    """What the caller waits for, unless the gateway ends before: ask again, it goes on."""
    try:
        return await waiting
    except ResonateShutdownError:
        raise web.HTTPServiceUnavailable(headers={"Retry-After": "1"}) from None


async def await_chain(request: web.Request) -> web.Response:
    handle = ask(request, "await-chain", "poll://service-a", "foo")
    message = await ended(handle.result())
    print(f"{handle.id}: answering {message}", flush=True)
    return web.json_response({"message": message})


async def detached_chain(request: web.Request) -> web.Response:
    handle = ask(request, "detached-chain", "poll://service-d", "qux", 1)
    await ended(handle.created())  # it is stored: from here on it runs to its end, whatever happens
    return web.json_response({"message": f"{handle.id} started"})


async def fan_out(request: web.Request) -> web.Response:
    handle = ask(request, "fan-out", "poll://any@service-g", "zim", 1)
    message = await ended(handle)
    print(f"{handle.id}: answering {message}", flush=True)
    return web.json_response({"message": message})


def make_app(resonate: Resonate) -> web.Application:
    app = web.Application()
    app.router.add_post("/await-chain", await_chain)
    app.router.add_post("/detached-chain", detached_chain)
    app.router.add_post("/fan-out", fan_out)
    setup(app, resonate)
    return app


def serve(app: web.Application, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM, for this machine only."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        web.run_app(
            app,
            sock=listener,
            shutdown_timeout=1,  # who waits longer asks again: the id is the same
            print=lambda _: print(f"gateway is running on {url}", flush=True),
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=5000, help="0: any (default: %(default)s)")
    options = parser.parse_args()
    if not 0 <= options.port <= 65_535:
        parser.error("--port must be 0 (any free one) to 65535")
    try:
        serve(make_app(Resonate.remote(group="gateway", ttl=LEASE_S)), options.port)
    except OSError as error:
        sys.exit(str(error))
