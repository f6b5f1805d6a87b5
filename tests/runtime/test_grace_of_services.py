"""A service that is stopped gives its steps time: as a process, and inside aiohttp (K18)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiohttp import web

import resonate_aio
from resonate_aio import Context, Resonate
from resonate_aio.aiohttp import setup
from resonate_aio.errors import ResonateShutdownError

pytestmark = pytest.mark.law

SOURCE = Path(resonate_aio.__file__).parents[1]

PROGRAM = """
import asyncio, signal, sys, time
from resonate_aio import Resonate

resonate = Resonate.local(path=sys.argv[1])

def plain(ctx, seconds):
    print(ctx.id, flush=True)
    time.sleep(seconds)
    return ctx.id

async def step(ctx, seconds):
    print(ctx.id, flush=True)
    await asyncio.sleep(seconds)
    return ctx.id

@resonate.register
async def flow(ctx, patience):
    calls = [ctx.run(step, 0.2), ctx.run(plain, 0.2), ctx.run(step, patience)]
    return await asyncio.gather(*calls)

async def main():
    enough = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, enough.set)
    async with resonate:
        handle = resonate.begin_run("flow", flow, 3600)
        await enough.wait()

asyncio.run(main())
"""


def test_sigterm(tmp_path: Path) -> None:
    """A deploy: what could end is recorded, what could not is the next process's to do."""

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "app.db")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )

    process = begin()
    assert process.stdout is not None
    begun = {process.stdout.readline().strip() for _ in range(3)}
    assert begun == {"flow.1", "flow.2", "flow.3"}
    begun_s = time.monotonic()
    process.send_signal(signal.SIGTERM)
    rest, errors = process.communicate(timeout=20)
    assert time.monotonic() - begun_s < 5
    assert (process.returncode, rest, errors) == (0, "", "")
    process = begin()
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "flow.3"
    process.kill()
    assert process.communicate(timeout=20) == ("", "")  # nothing else ran again


async def test_an_application_passes_it_on() -> None:
    """K18: what `setup` was given counts, whatever the client was given."""
    resonate = Resonate(stop_timeout=60)

    @resonate.register
    async def lasting(ctx: Context, duration_s: float) -> float:
        await asyncio.sleep(duration_s)
        return duration_s

    app = web.Application()
    setup(app, resonate, stop_timeout=0.2)
    runner = web.AppRunner(app)
    await runner.setup()
    handles = [resonate.begin_run(f"{n}", lasting, n) for n in (0.05, 3600)]
    await handles[0].created()
    begun_s = time.monotonic()
    await runner.cleanup()
    assert 0.2 <= time.monotonic() - begun_s < 20
    assert await handles[0] == 0.05
    with pytest.raises(ResonateShutdownError):
        await handles[1]
    with pytest.raises(ValueError, match="stop_timeout"):
        setup(web.Application(), resonate, stop_timeout=-1)
