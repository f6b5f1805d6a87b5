"""An aiohttp service that starts durable executions, reports them, and drains on SIGTERM.

Without arguments this program plays a customer: it starts the service, orders something,
stops the service with SIGTERM while the order is under way, starts it again, and gets what it
ordered. With `--serve` it is the service alone, on a SQLite file in the current folder:

    python examples/service.py --serve
    curl -i -d '{"number": 42, "item": "kettle"}' http://127.0.0.1:8080/orders
    curl -i 'http://127.0.0.1:8080/orders/42?wait=10'
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, web

from resonate_aio import Context, Resonate
from resonate_aio.aiohttp import accepted, report, setup
from resonate_aio.errors import StoreOwnedError

# ----------------------------------------------------------------- the durable functions

resonate = Resonate.local(path="service.db")


@resonate.register
async def checkout(ctx: Context, number: int, item: str) -> dict[str, str]:
    receipt = await ctx.run(charge, number)
    await ctx.sleep(1.5)  # the warehouse packs
    parcel = await ctx.run(ship, number, item)
    return {"receipt": receipt, "parcel": parcel}


def charge(ctx: Context, number: int) -> str:
    print(f"charging order {number}", flush=True)
    return f"receipt-{number}"


def ship(ctx: Context, number: int, item: str) -> str:
    print(f"shipping order {number}", flush=True)
    return f"parcel of one {item}"


# ---------------------------------------------------------------------------- the service


async def create(request: web.Request) -> web.Response:
    """Start an order. The same number again joins the order there is: nothing runs twice."""
    try:
        order = await request.json()
        number, item = int(order["number"]), str(order["item"])
    except (ValueError, KeyError, TypeError):
        raise web.HTTPBadRequest(text="an order has a number and an item") from None
    handle = resonate.begin_run(f"order/{number}", checkout, number, item)
    return await accepted(handle, request.app.router["order"].url_for(number=str(number)))


async def show(request: web.Request) -> web.Response:
    """What became of it; `?wait=10` waits up to ten seconds for the end."""
    return await report(request, resonate.get(f"order/{request.match_info['number']}"))


def make_app() -> web.Application:
    app = web.Application()
    app.router.add_post("/orders", create)
    app.router.add_get("/orders/{number:[0-9]+}", show, name="order")
    setup(app, resonate)
    return app


def serve(port: int) -> None:
    """Serve until SIGTERM or Ctrl-C. Only this machine is answered: the host says so."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        web.run_app(
            make_app(),
            sock=listener,
            shutdown_timeout=10,
            print=lambda _: print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True),
        )


PROGRAM = os.path.realpath(__file__)

# --------------------------------------------------------------------------- the customer


async def play() -> None:
    with tempfile.TemporaryDirectory(prefix="service-") as folder:
        async with running_service(folder) as (service, url), ClientSession(url) as client:
            await show_answer(client, "POST", "/orders", {"number": 42, "item": "kettle"})
            await show_answer(client, "GET", "/orders/42")
            async with asyncio.TaskGroup() as customers:
                customers.create_task(show_answer(client, "GET", "/orders/42?wait=30"))
                await asyncio.sleep(0.5)
                print(
                    "\nSIGTERM: who waits is answered, what is recorded waits for the next process"
                )
                service.send_signal(signal.SIGTERM)
        print("\nThe service is started again:")
        async with running_service(folder) as (service, url), ClientSession(url) as client:
            await show_answer(client, "GET", "/orders/42?wait=30")
            service.send_signal(signal.SIGTERM)


@asynccontextmanager
async def running_service(folder: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The service as a process of its own, and its URL; what it prints is shown."""
    command = [sys.executable, PROGRAM, "--serve", "--port", "0"]
    service = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        process_group=0,  # Ctrl-C reaches the customer only, who ends the service
    )
    assert service.stdout is not None
    try:
        url = (await service.stdout.readline()).decode().strip()
        if not url:
            sys.exit("the service did not start")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(show_lines(service.stdout))
            yield service, url
            print(f"[service {service.pid}] ended with {await service.wait()}")
    finally:
        if service.returncode is None:
            service.kill()
            await service.wait()


async def show_lines(lines: asyncio.StreamReader) -> None:
    async for line in lines:
        print(f"[service] {line.decode().rstrip()}")


async def show_answer(
    client: ClientSession, method: str, path: str, body: dict[str, Any] | None = None
) -> None:
    async with client.request(method, path, json=body) as answer:
        location = answer.headers.get("Location")
        print(f"{method} {path}")
        print(f"  {answer.status}{f' Location: {location}' if location else ''}")
        print(f"  {await answer.text()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", action="store_true", help="be the service, in this folder")
    parser.add_argument("--port", type=int, default=8080, help="(default: %(default)s)")
    arguments = parser.parse_args()
    if not 0 <= arguments.port <= 65_535:
        parser.error("--port must be 0 (any free one) to 65535")
    try:
        if arguments.serve:
            serve(arguments.port)
        else:
            asyncio.run(play())
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except (StoreOwnedError, OSError) as error:
        sys.exit(str(error))
