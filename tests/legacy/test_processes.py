"""Workers and a real legacy server as processes: killed, frozen, stopped (laws 6, 7, 16)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from tests.peers import legacy_server as peer
from tests.peers.legacy_clients import TTL_S, legacy_client
from tests.peers.shared_functions import functions

from resonate_aio import Context, Resonate

ROOT: Final = Path(__file__).parents[2]
WAIT_S: Final = 40.0

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[peer.LegacyServer]:
    if peer.program() is None:
        pytest.skip(peer.ABSENT)
    made = peer.LegacyServer(tmp_path, "--aio-poll-ttr", "200ms", "--aio-poll-ttc", "1s")
    made.start()
    try:
        yield made
    finally:
        made.stop()


class Workers:
    """Worker processes of this library, all ended with the test."""

    def __init__(self, server: peer.LegacyServer, log: Path) -> None:
        self._ports = (str(server.port), str(server.poll_port))
        self.log = log
        self._running: list[asyncio.subprocess.Process] = []

    async def start(self, group: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.peers.our_worker", group, *self._ports, str(self.log)),
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )
        self._running.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            assert await process.stdout.readline() == b"ready\n"
        await asyncio.sleep(0.2)  # connected before anything is called (hazard 12)
        return process

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    async def until(self, line: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while line not in self.lines():  # noqa: ASYNC110  another process writes it
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        for process in self._running:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.wait()
            assert process.stdout is not None
            await process.stdout.read()


@pytest_asyncio.fixture
async def workers(server: peer.LegacyServer, tmp_path: Path) -> AsyncIterator[Workers]:
    made = Workers(server, tmp_path / "log")
    try:
        yield made
    finally:
        await made.stop()


@pytest_asyncio.fixture
async def caller(server: peer.LegacyServer) -> AsyncIterator[Resonate]:
    """A client that only calls."""
    made = legacy_client("callers", str(server.port), str(server.poll_port))
    async with made:
        yield made


def of_group(resonate: Resonate, group: str) -> Resonate:
    return resonate.options(target=f"poll://any@{group}")


async def test_a_killed_worker_is_followed_by_another(workers: Workers, caller: Resonate) -> None:
    """Law 6: what had finished is not run again."""
    first = await workers.start("g")
    handle = of_group(caller, "g").begin_rpc("chain", "link", 1, ["last"])
    await workers.until("g link 1")
    first.kill()
    await workers.start("g")
    await workers.start("last")
    async with asyncio.timeout(WAIT_S):
        assert await handle == 3
    assert sorted(workers.lines()) == ["g back 1", "g link 1", "last link 2"]


async def test_a_frozen_worker_records_nothing_when_it_wakes(
    workers: Workers, caller: Resonate, tmp_path: Path
) -> None:
    """Law 7, on a server that does not fence: it asks before it writes, and takes new work."""
    go = tmp_path / "go"
    frozen = await workers.start("g")
    handle = of_group(caller, "g").begin_rpc("frozen", "waits", str(go))
    await workers.until(f"g waits in {frozen.pid}")
    os.kill(frozen.pid, signal.SIGSTOP)
    other = await workers.start("g")
    await asyncio.sleep(3 * TTL_S)
    await workers.until(f"g waits in {other.pid}")
    go.touch()
    async with asyncio.timeout(WAIT_S):
        assert await handle == other.pid
    os.kill(frozen.pid, signal.SIGCONT)
    assert (await caller.promises.get("frozen.1")).value.data == str(other.pid)
    seen: set[int] = set()
    async with asyncio.timeout(WAIT_S):
        for number in range(1000):
            seen.add(await of_group(caller, "g").rpc(f"where-{number}", "where"))
            if frozen.pid in seen:
                break
    assert frozen.pid in seen


async def test_a_server_that_is_killed_loses_nothing(
    server: peer.LegacyServer, tmp_path: Path
) -> None:
    """Laws 6 and 8: trouble is not an outcome."""
    resonate = legacy_client("g", str(server.port), str(server.poll_port))
    log = tmp_path / "log"

    @resonate.register
    async def steps(ctx: Context, number: int) -> int:
        total = 0
        for step in range(4):
            total += await ctx.run(one, number, step)
            await ctx.sleep(0.05)
        return total

    def one(ctx: Context, number: int, step: int) -> int:
        with log.open("a") as file:
            file.write(f"{number}.{step}\n")
        return 1

    async with resonate:
        handles = [resonate.begin_run(f"s{number}", steps, number) for number in range(20)]
        for _ in range(3):
            await asyncio.sleep(0.2)
            server.kill()
            await asyncio.sleep(0.2)
            server.start()
        async with asyncio.timeout(WAIT_S):
            assert [await handle for handle in handles] == [4] * 20
    assert len(set(log.read_text().splitlines())) == 80


async def test_a_worker_that_stops_hands_over_within_seconds(
    server: peer.LegacyServer, workers: Workers, tmp_path: Path
) -> None:
    """Issue 5: not after a lease, and a leaf that ends in time is recorded."""
    leaving = legacy_client("g", str(server.port), str(server.poll_port))
    for function in functions("g", workers.log):
        leaving.register(function)
    await leaving.start()
    handles = [leaving.begin_run(f"h{n}", "link", 1, ["last"]) for n in range(50)]
    async with asyncio.timeout(WAIT_S):
        while workers.lines().count("g link 1") < 50:  # noqa: ASYNC110  threads write it
            await asyncio.sleep(0.01)
    caller = legacy_client("callers", str(server.port), str(server.poll_port))
    async with caller:
        await workers.start("g")
        async with asyncio.timeout(10):
            await leaving.stop()
        del handles
        await workers.start("last")
        async with asyncio.timeout(WAIT_S):
            assert [await caller.get(f"h{n}") for n in range(50)] == [3] * 50
    assert workers.lines().count("g link 1") == 50


async def test_functions_run_on_every_kind_of_body(server: peer.LegacyServer) -> None:
    """`async def`, generator and plain `def`, in one execution on a legacy server."""
    resonate = legacy_client("g", str(server.port), str(server.poll_port))

    def plain(ctx: Context, number: int) -> int:
        return number + 1

    async def asynchronous(ctx: Context, number: int) -> int:
        parts = await asyncio.gather(*(ctx.run(plain, number + n) for n in range(20)))
        await ctx.sleep(0.05)
        return sum(parts)

    @resonate.register
    def top(ctx: Context, number: int):  # type: ignore[no-untyped-def]  # as in the seeds
        first = yield ctx.begin_run(asynchronous, number)
        second = yield ctx.run(plain, number).options(id="a chosen/id")
        return [(yield first), second]

    async with resonate:
        assert await resonate.run("top", top, 1) == [sum(range(2, 22)), 2]
