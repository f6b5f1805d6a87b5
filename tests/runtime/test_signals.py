"""Ctrl-C at the very moment a function's task is made (S10, law 16): real processes.

A profile function puts the signal where only chance would: into the calls that asyncio makes
while it builds a task, and into the first instruction of what the task runs.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import resonate_aio

SOURCE = Path(resonate_aio.__file__).parents[1]

PROGRAM = """
import asyncio, logging, signal, sys
from resonate_aio import Resonate
from resonate_aio.runtime import bodies

path, handler, place = sys.argv[1:]
logging.basicConfig()
raised = False

async def leaf(ctx, n):
    return n

async def flow(ctx):
    for n in range(1_000_000):
        await ctx.run(leaf, n)

def profile(frame, event, _):
    global calls, raised
    if event != "call" or raised or frame.f_code.co_name != place:
        return
    if place != "_drive_coroutine" and not is_making(frame):
        return
    calls += 1
    if calls == 20:
        raised = True
        signal.raise_signal(signal.SIGINT)

def is_making(frame):
    caller = frame.f_back
    return caller is not None and caller.f_code in making

making = {bodies._start_task.__code__}
calls = 0

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60
    if handler == "raises":
        signal.signal(signal.SIGINT, signal.default_int_handler)
    async with Resonate.local(path=path) as resonate:
        resonate.register(flow)
        sys.setprofile(profile)
        await resonate.run("x", flow)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.setprofile(None)
    print("interrupted" if raised else "never there")
"""

PLACES = ["get_debug", "_drive_coroutine"]
if sys.version_info < (3, 12):
    PLACES += ["_catch", "add"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("handler", ["cancels", "raises"])
def test_ctrl_c_while_a_task_is_made(tmp_path: Path, handler: str, place: str) -> None:
    """It ends the program at once, says nothing and records nothing."""
    path = tmp_path / "app.db"
    begun = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-X", "dev", "-c", PROGRAM, path, handler, place],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        timeout=20,
        check=False,
    )
    assert (process.stdout, process.stderr) == ("interrupted\n", "")
    assert time.monotonic() - begun < 5
    with closing(sqlite3.connect(path)) as connection:
        found = dict(connection.execute("SELECT id, state FROM promises").fetchall())
    assert found.pop("x") == "pending"
    assert set(found.values()) <= {"pending", "resolved"}
