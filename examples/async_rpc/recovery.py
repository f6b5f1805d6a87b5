"""The recovery story: `kill -9` of service b while service c works, and nothing runs twice.

Starts what the await chain needs, asks the gateway for it, kills service b in the middle, starts
it again, and shows what came of it. The chain goes on where it was: `baz` of service c does
not run again, because its result is recorded; the HTTP caller, who waited all the time and
never knew, gets the right answer.

An embedded server is started, unless the environment names a server of either generation
(RESONATE_URL, or RESONATE_HOST and ports).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
import uuid
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout
from fleet import DiedError, Fleet

RIGHT = {"message": 3}  # baz gives 1, bar and foo add 1 each


async def tell(fleet: Fleet, log: Path) -> bool:
    """Tell the story; False if it did not end as it should."""
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, this.cancel)
    id = f"await-chain-{uuid.uuid4().hex[:6]}"  # a new chain also on a server that knows old ones
    async with fleet:
        say("A server, the gateway and three services, each a process of its own:")
        await fleet.start_all(["service-a", "service-b", "service-c"])
        say(f"curl -X POST {fleet.gateway_url}/await-chain?id={id}")
        request = asyncio.create_task(post(f"{fleet.gateway_url}/await-chain", id))
        try:
            await fleet.until("service-c", f"{id}.1.1: baz begins")
            pid = await fleet.kill("service-b")
            say(f"kill -9 {pid}: that was service b. Service c works on.")
            await fleet.until("service-c", f"{id}.1.1: baz ends")
            say("Service b is started again. It may go on once the lease of the dead one is over:")
            await fleet.start("service-b")
            started = time.monotonic()
            answer = await request
            took_s = time.monotonic() - started
        finally:
            request.cancel()
        say(f"The HTTP caller gets {answer}, {took_s:.1f} s later.")
    say("Everything is stopped.")
    return verdict(answer, log, id)


async def post(url: str, id: str) -> object:
    """The answer to a POST request, however long it takes."""
    patient = ClientSession(timeout=ClientTimeout(total=None))
    async with patient as session, session.post(url, params={"id": id}) as response:
        return await response.json()


def verdict(answer: object, log: Path, id: str) -> bool:
    """Show how often which function ran, and judge it."""
    lines = log.read_text().splitlines()
    foo = lines.count(f"{id}: foo begins")
    bar = lines.count(f"{id}.1: bar begins")
    baz = lines.count(f"{id}.1.1: baz begins")
    print(f"  foo of service a began {times(foo)}: nobody killed it, it waited")
    print(f"  bar of service b began {times(bar)}: the second time it found what it had recorded")
    print(f"  baz of service c began {times(baz)}")
    is_right = answer == RIGHT and foo >= 1 and bar >= 2 and baz == 1  # bodies may be replayed
    print("\nNothing was lost and nothing was done twice." if is_right else "\nWRONG")
    return is_right


def times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def say(text: str) -> None:
    print(f"\n{text}\n", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="of the gateway (default: any)")
    parser.add_argument(
        "--lease",
        type=float,
        default=os.environ.get("ASYNC_RPC_LEASE_S") or 2,
        metavar="SECONDS",
        help="how long after a kill another process may take over (%(default)s)",
    )
    parser.add_argument(
        "--work",
        type=float,
        default=os.environ.get("ASYNC_RPC_WORK_S") or 2,
        metavar="SECONDS",
        help="that `baz` takes (%(default)s)",
    )
    options = parser.parse_args()
    if not 0 <= options.port <= 65_535:
        parser.error("--port must be 0 (any free one) to 65535")
    if not 0 < options.lease <= 86_400 or not 0 <= options.work <= 86_400:
        parser.error("--lease and --work must be seconds, a day's at most, and --lease not 0")
    with tempfile.TemporaryDirectory(prefix="async-rpc-") as folder:
        log = Path(folder, "log")
        settings = {
            "ASYNC_RPC_LEASE_S": str(options.lease),
            "ASYNC_RPC_WORK_S": str(options.work),
            "ASYNC_RPC_LOG": str(log),
        }
        db = str(Path(folder, "server.db"))
        try:
            is_right = asyncio.run(tell(Fleet(settings, gateway_port=options.port, db=db), log))
        except asyncio.CancelledError:
            print("\ninterrupted", file=sys.stderr)
            sys.exit(130)
        except DiedError as died:
            sys.exit(str(died))
    sys.exit(0 if is_right else 1)
