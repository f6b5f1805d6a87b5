"""Start everything: the embedded server, the gateway on port 5000, the services a to i.

    python examples/async_rpc/run_all.py
    curl -X POST http://localhost:5000/await-chain
    curl -X POST http://localhost:5000/detached-chain
    curl -X POST http://localhost:5000/fan-out

Kill any of them with `kill -9` while a request is under way: it is started again, and the
request goes on. Ctrl-C ends all of them. A server that the environment names (RESONATE_URL,
or RESONATE_HOST and ports), of either generation, is used in place of the embedded one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys

from fleet import DiedError, Fleet


async def main(fleet: Fleet) -> None:
    """Run the application until Ctrl-C or SIGTERM."""
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, this.cancel)
    async with fleet:
        await fleet.start_all()
        print(f"\nEverything runs: curl -X POST {fleet.gateway_url}/await-chain\n", flush=True)
        while True:
            name, code = await fleet.until_one_dies()
            if code >= 0:
                raise DiedError(f"{name} ended with {code}")
            print(f"{name} was ended by signal {-code}, and is started again", flush=True)
            await fleet.start(name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=5000, help="of the gateway (%(default)s)")
    parser.add_argument(
        "--server-port", type=int, default=8001, help="of the embedded server (%(default)s)"
    )
    parser.add_argument("--db", help="file of the embedded server; in memory where absent")
    parser.add_argument(
        "--lease",
        type=float,
        default=os.environ.get("ASYNC_RPC_LEASE_S") or 10,
        metavar="SECONDS",
        help="how long after a kill another process may take over (%(default)s)",
    )
    parser.add_argument(
        "--work",
        type=float,
        default=os.environ.get("ASYNC_RPC_WORK_S") or 5,
        metavar="SECONDS",
        help="that `baz` takes (%(default)s)",
    )
    options = parser.parse_args()
    if not 0 <= options.port <= 65_535 or not 0 <= options.server_port <= 65_535:
        parser.error("--port and --server-port must be 0 (any free one) to 65535")
    if not 0 < options.lease <= 86_400 or not 0 <= options.work <= 86_400:
        parser.error("--lease and --work must be seconds, a day's at most, and --lease not 0")
    settings = {
        "ASYNC_RPC_LEASE_S": str(options.lease),
        "ASYNC_RPC_WORK_S": str(options.work),
    }
    try:
        asyncio.run(
            main(
                Fleet(
                    settings,
                    gateway_port=options.port,
                    server_port=options.server_port,
                    db=options.db,
                )
            )
        )
    except asyncio.CancelledError:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except DiedError as died:
        sys.exit(str(died))
