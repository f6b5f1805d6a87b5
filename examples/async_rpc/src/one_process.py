"""No server: the gateway and the nine services in one process, on one SQLite file.

    python examples/async_rpc/src/one_process.py
    curl -X POST http://localhost:5000/await-chain

The same functions and routes as with a server, and nothing else has to run. Kill it with
`kill -9` while a request is under way and start it again: the request goes on. The day one
process is not enough there is `run_all.py`, and no function is edited.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web
from gateway import make_app, serve
from service_a import foo
from service_b import bar
from service_c import baz
from service_d import qux
from service_e import quz
from service_f import cog
from service_g import zim
from service_h import rax
from service_i import dop

from resonate_aio import Resonate
from resonate_aio.errors import StoreOwnedError

SERVICES: dict[str, Any] = {
    "service-a": foo,
    "service-b": bar,
    "service-c": baz,
    "service-d": qux,
    "service-e": quz,
    "service-f": cog,
    "service-g": zim,
    "service-h": rax,
    "service-i": dop,
}


def one_process(path: str) -> web.Application:
    """The application, and beside its client one for each service, all of them on one file."""

    async def services(_: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for group, function in SERVICES.items():
                service = Resonate.local(path=path, group=group)
                service.register(function)
                await stack.enter_async_context(service)
            yield

    app = make_app(Resonate.local(path=path, group="gateway"))
    app.cleanup_ctx.append(services)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=5000, help="0: any (default: %(default)s)")
    parser.add_argument("--db", default="async_rpc.db", help="the file (default: %(default)s)")
    options = parser.parse_args()
    if not 0 <= options.port <= 65_535:
        parser.error("--port must be 0 (any free one) to 65535")
    try:
        serve(one_process(options.db), options.port)
    except (OSError, StoreOwnedError) as error:
        sys.exit(str(error))
