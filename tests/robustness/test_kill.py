"""Real processes, really killed: SIGKILL at random instants, on one SQLite file each (law 6).

Nothing that was acknowledged is lost or changed, nothing is stuck, and no step that was
recorded starts again (law 2). What is recorded is read from the file right after each kill,
by a connection of our own that can not write.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import resonate_aio

SOURCE = Path(resonate_aio.__file__).parents[1]

FILES = 10
KILLS = 11
"""Kills of the process of one file; the file then runs to its end."""

PROGRAM = """
import asyncio, json, os, sys, time
from resonate_aio import Resonate

path, effects = sys.argv[1:3]
TURNS = 8
resonate = Resonate.local(path=path, synchronous="FULL")
side = os.open(effects, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def effect(ctx):
    os.write(side, f"{ctx.id}\\n".encode())

async def step(ctx, n):
    effect(ctx)
    await asyncio.sleep(0.1)
    return n

async def instant(ctx, n):
    effect(ctx)
    return n

def plain(ctx, n):
    effect(ctx)
    time.sleep(0.005)
    return n

def generator(ctx, n):
    total = 0
    for k in range(n):
        total += yield ctx.run(plain if k % 2 else step, k)
    promise = yield ctx.begin_run(instant, 100)
    return total + (yield promise)

@resonate.register
async def sequential(ctx, n):
    total = 0
    for k in range(n):
        total += await ctx.run(plain if k % 5 == 4 else instant, k)
        if k % 10 == 9:
            await ctx.sleep(0.2)
    return total

@resonate.register
def generators(ctx, n):
    total = 0
    for k in range(n):
        total += yield ctx.run(generator, 4)
        if k % 3 == 2:
            yield ctx.sleep(0.5)
    return total

@resonate.register
async def fan_out(ctx, n):
    async def helper(k):
        await asyncio.sleep(0.001 * (k % 7))
        return await ctx.run(step, k) + await ctx.run(instant, k)
    begun = [await ctx.begin_run(generator, 2) for _ in range(n)]
    helped = await asyncio.gather(*(helper(k) for k in range(n)))
    return sum(helped) + sum([await promise for promise in begun])

@resonate.register
async def remote(ctx, n):
    total = 0
    for k in range(n):
        total += await ctx.rpc("chain", 2)
    return total + sum(await asyncio.gather(*(ctx.rpc("chain", 1) for _ in range(3))))

@resonate.register
async def chain(ctx, n):
    one = await ctx.run(step, 1)
    return one if n == 0 else one + await ctx.rpc("chain", n - 1)

@resonate.register
async def limits(ctx, n):
    seen = 0
    for k in range(n):
        try:
            async with ctx.timeout(0.3):
                await ctx.run(endless)
        except TimeoutError:
            seen += await ctx.run(instant, 1)
    return seen

async def endless(ctx):
    effect(ctx)
    await asyncio.sleep(3600)

@resonate.register
async def drawn(ctx, n):
    values = [await ctx.random.random() for _ in range(n)]
    return [await ctx.run(instant, value) for value in values]

async def main():
    os.write(1, b"begun\\n")
    async with resonate:
        handles = []
        for turn in range(TURNS):
            for function, n in ((sequential, 40), (generators, 6), (fan_out, 6), (remote, 3),
                                (limits, 5), (drawn, 5)):
                handles.append(resonate.begin_run(f"{function.name}-{turn}", function, n))
        async def report(handle):
            value = json.dumps(await handle)
            os.write(1, f"{handle.id} {value}\\n".encode())
        await asyncio.gather(*map(report, handles))
        os.write(1, b"all\\n")

asyncio.run(main())
"""

FOR_SURE: dict[str, Any] = {
    "sequential": 780,
    "generators": 6 * 106,
    "fan_out": 30 + 6 * 101,
    "remote": 3 * 3 + 3 * 2,
    "limits": 5,
}
EXECUTIONS = 48


class Played:
    """What came of one file."""

    def __init__(self) -> None:
        self.kills = 0
        self.midway = 0
        self.checks = 0
        self.acknowledged: dict[str, str] = {}
        self.settled: dict[str, tuple[str, str | None]] = {}
        self.settled_effects: dict[str, int] = {}


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that can not write; without a log there is nothing that could change."""
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    return sqlite3.connect(f"file:{path}?{how}", uri=True)


def settled_in(path: Path) -> dict[str, tuple[str, str | None]]:
    """State and value of what is recorded as settled, as the file has it."""
    if not path.exists():
        return {}
    with closing(read_only(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        if ("promises",) not in tables:
            return {}  # killed before it was made
        rows = connection.execute(
            "SELECT id, state, value_data FROM promises WHERE settled_at_ms IS NOT NULL"
        ).fetchall()
    return {id: (state, value) for id, state, value in rows}


def effects_in(path: Path) -> Counter[str]:
    return Counter(path.read_text().split()) if path.exists() else Counter()


class Child:
    """The program as a process."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
        self.said: list[str] = []
        self.errors = ""
        self.begun = threading.Event()
        self._readers = [threading.Thread(target=self._hear), threading.Thread(target=self._err)]
        for reader in self._readers:
            reader.start()

    def _hear(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                if line.endswith(b"\n"):  # a line that was cut off acknowledges nothing
                    self.said.append(line.decode().rstrip())
                self.begun.set()
        self.begun.set()

    def _err(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            self.errors = stderr.read().decode()

    def end(self, after_s: float) -> bool:
        """Kill it unless it ends in time. Returns whether it was killed."""
        killed = False
        try:
            self.process.wait(timeout=after_s)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            killed = True
        self.process.wait()
        for reader in self._readers:
            reader.join()
        return killed


class Villain:
    """Starts the program on one file, kills it, and looks at what it left."""

    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir()
        self.path = folder / "app.db"
        self.effects = folder / "effects"
        self.rng = random.Random(seed)
        self.played = Played()

    def start(self) -> Child:
        return Child([sys.executable, "-c", PROGRAM, str(self.path), str(self.effects)])

    def hear(self, child: Child) -> bool:
        """Take in what was acknowledged: it never changes. Returns whether all has ended."""
        assert child.process.returncode in (0, -signal.SIGKILL), child.errors
        assert not child.errors, child.errors
        for line in child.said:
            if line not in {"begun", "all"}:
                id, value = line.split(" ", 1)
                assert self.played.acknowledged.setdefault(id, value) == value
        return "all" in child.said

    def look(self) -> None:
        """Compare the file with what it held before, and the effects with what it held."""
        played = self.played
        now = settled_in(self.path)
        lost = {id: value for id, value in played.settled.items() if now.get(id) != value}
        assert not lost, f"records were lost or changed: {lost}"
        for id, value in played.acknowledged.items():
            assert id in now, f"the acknowledged result of {id} was lost"
            state, stored = now[id]
            assert (state, json.loads(stored or "null")) == ("resolved", json.loads(value))
        counted = effects_in(self.effects)
        again = {id: n for id, n in played.settled_effects.items() if counted[id] != n}
        assert not again, f"recorded steps started again: {again}"
        played.settled = now
        # A step that began is in the side file before its record can be in the store.
        played.settled_effects = {id: counted[id] for id in now}

    def check_file(self) -> None:
        with closing(read_only(self.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        self.played.checks += 1

    def kill_once(self) -> bool:
        """One life. Returns whether it came to its end before the kill."""
        child = self.start()
        if self.rng.random() < 0.7:  # else the interpreter may still be starting
            child.begun.wait(30)
        self.played.kills += child.end(after_s=self.rng.uniform(0.03, 0.8))
        ended = self.hear(child)
        before = len(self.played.settled)
        self.look()
        self.played.midway += not ended and len(self.played.settled) > before
        return ended

    def finish(self) -> None:
        """The last life: everything completes."""
        child = self.start()
        killed = child.end(after_s=60)
        ended = self.hear(child)
        assert not killed, f"stuck: {pending_in(self.path)}"
        assert ended
        self.look()


def pending_in(path: Path) -> list[Any]:
    with closing(read_only(path)) as connection:
        return connection.execute(
            "SELECT id, task_state, retry_at_ms, lapses FROM promises WHERE settled_at_ms IS NULL"
        ).fetchall()


def play(folders: Path, seed: int) -> Played:
    villain = Villain(folders / str(seed), seed)
    played = villain.played
    while played.kills < KILLS:
        if villain.kill_once() and played.kills < KILLS:
            # It came to its end: the next kills hit a process on a file of its own.
            villain.check_file()
            before = played
            check_end(villain)
            seed += FILES
            villain = Villain(folders / str(seed), seed)
            played = villain.played
            played.kills, played.midway, played.checks = before.kills, before.midway, before.checks
    villain.check_file()
    villain.finish()
    check_end(villain)
    return played


def check_end(villain: Villain) -> None:
    acknowledged = {id: json.loads(value) for id, value in villain.played.acknowledged.items()}
    assert len(acknowledged) == EXECUTIONS
    for id, value in acknowledged.items():
        name = id.split("-")[0]
        if name == "drawn":
            assert value == [
                json.loads(villain.played.settled[f"{id}.{n}"][1] or "") for n in range(1, 6)
            ]
        else:
            assert value == FOR_SURE[name], id
    with closing(read_only(villain.path)) as connection:
        tasks = connection.execute(
            "SELECT id FROM promises WHERE task_state IS NOT NULL AND task_state != 'fulfilled'"
        ).fetchall()
    assert not tasks, "executions that nobody ended"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_killed_more_than_a_hundred_times(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        files = list(pool.map(lambda n: play(tmp_path, n), range(FILES)))
    kills = sum(played.kills for played in files)
    assert kills >= 100
    assert sum(played.checks for played in files) >= kills // 25
    midway = sum(played.midway for played in files)
    assert midway >= 50, f"{kills} kills, but only {midway} hit the work: this shows little"
