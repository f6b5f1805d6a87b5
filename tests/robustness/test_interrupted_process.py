"""Ctrl-C, and an event loop that ends under a running client: real processes, one SQLite file.

The work is interrupted, nothing of that is recorded, nothing ugly is printed, and the next
run finishes (S10, S31, law 16).
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

import resonate_aio

SOURCE = Path(resonate_aio.__file__).parents[1]

PROGRAM = """
import asyncio, logging, os, sys, time
from resonate_aio import Resonate

logging.getLogger("asyncio").setLevel(logging.ERROR)  # that a pass took 0.1 s is no news

path, effects, mode = sys.argv[1:4]
resonate = Resonate.local(path=path)
side = os.open(effects, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def log(text):
    os.write(side, f"{text}\\n".encode())

async def step(ctx, n):
    log(ctx.id)
    await asyncio.sleep(0.03)
    return n

def plain(ctx, n):
    log(ctx.id)
    time.sleep(0.03)
    return n

def generator(ctx):
    total = 0
    for n in range(5):
        total += yield ctx.run(step, n)
    return total

@resonate.register
async def flow(ctx):
    try:
        total = 0
        for n in range(8):
            total += await ctx.run(step if n % 2 else plain, n)
        promises = [await ctx.begin_run(generator) for _ in range(3)]
        async with asyncio.timeout(60):
            values = await asyncio.gather(*promises, ctx.run(plain, 1), ctx.rpc("other", 5))
        await ctx.sleep(0.2)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.run(step, n)) for n in range(4)]
        return total + sum(values) + sum(task.result() for task in tasks)
    finally:
        await ctx.run(step, 1000)

@resonate.register
async def other(ctx, n):
    return await ctx.run(step, n) + 1

async def main():
    print("begun", flush=True)
    if mode == "with":
        async with resonate:
            print(await resonate.run("flow", flow), flush=True)
    elif mode == "bare":
        print(await resonate.run("flow", flow), flush=True)
    elif mode.startswith("end"):
        resonate.begin_run("flow", flow)
        await asyncio.sleep(float(mode[3:]))
    elif mode == "finish":
        async with resonate:
            print(await resonate.run("flow", flow), flush=True)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
"""

RESULT = 28 + 3 * 10 + 1 + 6 + 6


def start(folder: Path, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", PROGRAM, folder / "app.db", folder / "effects", mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )


def effects(folder: Path) -> Counter[str]:
    file = folder / "effects"
    return Counter(file.read_text().split()) if file.exists() else Counter()


def records(folder: Path) -> dict[str, tuple[str, bool]]:
    """State of every record, and whether it is settled."""
    path = folder / "app.db"
    if not path.exists():
        return {}
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    with closing(sqlite3.connect(f"file:{path}?{how}", uri=True)) as connection:
        rows = connection.execute("SELECT id, state, settled_at_ms FROM promises").fetchall()
    return {id: (state, settled is not None) for id, state, settled in rows}


def check_interrupted(folder: Path) -> Counter[str]:
    """Nothing of the interruption was recorded; returns how often each settled step began."""
    found = records(folder)
    bad = {id: state for id, (state, _) in found.items() if state not in {"pending", "resolved"}}
    assert not bad, f"the interruption was recorded: {bad}"
    assert not found.get("flow", ("", False))[1]
    counted = effects(folder)
    return Counter({id: counted[id] for id, (_, settled) in found.items() if settled})


def finish(folder: Path, before: Counter[str]) -> None:
    process = start(folder, "finish")
    out, err = process.communicate(timeout=30)
    assert (out.split(), err, process.returncode) == (["begun", str(RESULT)], "", 0)
    after = effects(folder)
    assert {id: after[id] for id in before} == before, "a recorded step started again (law 2)"
    unsettled = [id for id, (_, settled) in records(folder).items() if not settled]
    assert not unsettled


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["with", "bare"])
@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.5])
def test_ctrl_c(tmp_path: Path, mode: str, after_s: float) -> None:
    process = start(tmp_path, mode)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - begun < 5
    said = [line for line in err.splitlines() if "still runs on its thread" not in line]  # S28
    assert (out, said, process.returncode) == ("", [], 0)
    finish(tmp_path, check_interrupted(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("after_s", ["0", "0.05", "0.35"])
def test_asyncio_run_ends_under_a_running_client(tmp_path: Path, after_s: str) -> None:
    process = start(tmp_path, f"end{after_s}")
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("begun\n", "", 0)
    finish(tmp_path, check_interrupted(tmp_path))


BLOCKING = """
import asyncio, logging, sys, time
from resonate_aio import Resonate

if sys.argv[2] == "finish":
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # as above
path, mode = sys.argv[1:3]
resonate = Resonate.local(path=path)

async def blocks(ctx):
    if mode == "later":
        await asyncio.sleep(0.01)
    if mode != "finish":
        print("blocked", flush=True)
        time.sleep(30)
    return 1

@resonate.register
async def flow(ctx):
    return await ctx.run(blocks)

async def main():
    async with resonate:
        print(await resonate.run("flow", flow), flush=True)

asyncio.run(main())
"""


def start_blocking(folder: Path, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", BLOCKING, folder / "app.db", mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )


@pytest.mark.parametrize("mode", ["at once", "later"])
def test_the_second_ctrl_c_where_a_step_blocks_the_loop(tmp_path: Path, mode: str) -> None:
    """As in plain asyncio the first waits for the loop; the second says one thing, not two."""
    process = start_blocking(tmp_path, mode)
    assert process.stdout is not None
    assert process.stdout.readline() == "blocked\n"
    for _ in range(2):
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (out, process.returncode) == ("", -signal.SIGINT)
    assert "never retrieved" not in err
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith("\nKeyboardInterrupt\n")
    assert check_interrupted(tmp_path) == Counter()
    process = start_blocking(tmp_path, "finish")
    assert process.communicate(timeout=20) == ("1\n", "")
