"""Servers and workers in processes of their own, all ended with the test."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.peers.current_server import ABSENT, CurrentServer, peers

from resonate_aio import Resonate

ROOT = Path(__file__).parents[2]
WAIT_S = 40.0


def servers() -> list[Any]:
    """Every server that is present, and why another one is not."""
    present = peers()
    if len(present) > 1:
        return list(present)
    return [*present, pytest.param("current", marks=pytest.mark.skip(reason=ABSENT))]


@pytest.fixture(params=servers(), ids=lambda which: Path(which).name)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CurrentServer]:
    """Each server of the current protocol that is present, started."""
    made = CurrentServer(request.param, tmp_path)
    made.start()
    try:
        yield made
    finally:
        made.stop()


class Workers:
    """Worker processes of one test, and what they wrote into their log."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.log = log
        self._running: list[asyncio.subprocess.Process] = []

    async def start(self, group: str, ttl_s: float = 10.0) -> asyncio.subprocess.Process:
        """One more worker; it takes work when this returns."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.remote.worker"),
            *(self.url, group, str(self.log), str(ttl_s)),
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )
        self._running.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            assert await process.stdout.readline() == b"ready\n"
        return process

    def lines(self) -> list[list[str]]:
        """What was noted: process, promise id, key."""
        text = self.log.read_text() if self.log.exists() else ""
        return [line.split() for line in text.splitlines()]

    def starts(self) -> Counter[str]:
        """How often each step was started, by its promise's id."""
        return Counter(id for _, id, _ in self.lines())

    async def until(self, id: str) -> None:
        """Wait until a step was started."""
        async with asyncio.timeout(WAIT_S):
            while id not in self.starts():  # noqa: ASYNC110  another process writes it
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """End every worker."""
        for process in self._running:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.wait()
            assert process.stdout is not None
            await process.stdout.read()


@pytest_asyncio.fixture
async def workers(server: CurrentServer, tmp_path: Path) -> AsyncIterator[Workers]:
    """The workers of a test."""
    made = Workers(server.url, tmp_path / "log")
    try:
        yield made
    finally:
        await made.stop()


@pytest_asyncio.fixture
async def caller(server: CurrentServer) -> AsyncIterator[Resonate]:
    """A client that only asks."""
    made = Resonate(url=server.url, group="callers")
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
