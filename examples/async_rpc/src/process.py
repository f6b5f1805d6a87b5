"""What the ten processes have in common: settings, a line for each step, a life until Ctrl-C.

Where the server is, the environment says (`RESONATE_URL`, or `RESONATE_HOST` and ports); the
library finds out which generation of server answers there. Three settings of the example, which
`run_all.py` and `recovery.py` pass on:

    ASYNC_RPC_LEASE_S   how long after a `kill -9` another process may take over (default: 10)
    ASYNC_RPC_WORK_S    how long `baz` works, so that there is time to kill something (default: 5)
    ASYNC_RPC_LOG       a file that gets every line of `note`, besides the terminal
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys

from resonate_aio import Context, Resonate

LEASE_S = float(os.environ.get("ASYNC_RPC_LEASE_S", "10"))
WORK_S = float(os.environ.get("ASYNC_RPC_WORK_S", "5"))
LOG = os.environ.get("ASYNC_RPC_LOG")


def note(ctx: Context, text: str) -> None:
    """Say what happens. Outside ctx calls, so a body that is replayed says it again."""
    print(f"{ctx.id}: {text}", flush=True)
    if LOG is None:
        return
    file = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, f"{ctx.id}: {text}\n".encode())  # one write: the ten share the file
    finally:
        os.close(file)


def work(resonate: Resonate, name: str, about: str | None) -> None:
    """Work until Ctrl-C or SIGTERM; then what is under way is handed over."""
    argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    try:
        asyncio.run(_work(resonate, name))
    except KeyboardInterrupt:  # a second Ctrl-C
        sys.exit(130)


async def _work(resonate: Resonate, name: str) -> None:
    loop = asyncio.get_running_loop()
    enough = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, enough.set)
    async with resonate:
        print(f"{name} is running", flush=True)
        await enough.wait()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
